"""What the tests of forno.nn share: values carried between forno and torch, and comparison."""
import torch

import forno.nn

from .conftest import STAND_IN

if STAND_IN:
    candidate = torch
else:
    import forno as candidate

TOLERANCE = {torch.float32: (1e-4, 1e-5), torch.float64: (1e-7, 1e-9), torch.bfloat16: (2e-2, 2e-2), torch.float16: (2e-3, 2e-3)}


def from_torch(x):
    """The same structure with forno's tensors."""
    if isinstance(x, torch.Tensor):
        if STAND_IN:
            return x.detach().clone().requires_grad_(x.requires_grad)
        made = candidate.tensor(x.detach().float().numpy()).to(getattr(candidate, str(x.dtype)[6:])) if x.dtype == torch.bfloat16 else \
            candidate.from_numpy(x.detach().clone().numpy())
        return made.requires_grad_(x.requires_grad)
    if isinstance(x, torch.dtype):
        return getattr(candidate, str(x)[6:])
    if isinstance(x, torch.device):
        return candidate.device(str(x))
    if isinstance(x, torch.nn.Module):
        return _module_from_torch(x)
    if isinstance(x, dict):
        return type(x)((k, from_torch(v)) for k, v in x.items())
    if type(x) in (tuple, list):
        return type(x)(from_torch(v) for v in x)
    return x


def _module_from_torch(x):
    """A module that torch's samples pass as an argument: the same constructor arguments, the same parameters."""
    ours, args = getattr(forno.nn, type(x).__name__), {}
    if isinstance(x, torch.nn.TransformerEncoderLayer):
        args = dict(d_model=x.norm1.normalized_shape[0], nhead=x.self_attn.num_heads, dim_feedforward=x.linear1.out_features, dropout=x.dropout.p,
                    activation="relu" if x.activation_relu_or_gelu == 1 else "gelu", layer_norm_eps=x.norm1.eps,
                    batch_first=x.self_attn.batch_first, norm_first=x.norm_first, bias=x.linear1.bias is not None)
    made = ours(**args)
    made.load_state_dict(from_torch(x.state_dict()))
    return made


def fresh(x):
    """The same structure with new leaves of torch."""
    if isinstance(x, torch.Tensor):
        return x.detach().clone().requires_grad_(x.requires_grad)
    if isinstance(x, dict):
        return type(x)((k, fresh(v)) for k, v in x.items())
    return type(x)(fresh(v) for v in x) if type(x) in (tuple, list) else x


def to_torch(x):
    if x is None:
        return x
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if str(x.dtype).endswith("bfloat16"):
        return torch.from_numpy(x.detach().float().numpy()).bfloat16()
    return torch.from_numpy(x.detach().numpy().copy())


def close(got, want, where="", loose=1):
    """Equal structure, keys, shapes and dtypes; values within the tolerance of the dtype."""
    if isinstance(want, dict):
        assert list(got) == list(want), f"{where}: {list(got)} != {list(want)}"
        for key in want:
            close(got[key], want[key], f"{where}[{key}]", loose)
    elif isinstance(want, (tuple, list)) and not isinstance(want, torch.Size):
        assert len(got) == len(want), where
        for i, (g, w) in enumerate(zip(got, want)):
            close(g, w, f"{where}[{i}]", loose)
    elif isinstance(want, torch.Tensor):
        got = to_torch(got)
        assert got is not None, f"{where}: None, expected {want}"
        kinds = [(str(t.dtype), tuple(t.shape)) for t in (got, want)]
        assert kinds[0] == kinds[1], f"{where}: {kinds[0]}, not {kinds[1]}"
        if want.is_floating_point() and want.numel():
            finite = want.detach()[torch.isfinite(want.detach())]
            scale = max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
            rtol, atol = TOLERANCE[want.dtype]
            torch.testing.assert_close(got.detach(), want.detach(), rtol=rtol * loose, atol=atol * loose * scale, equal_nan=True,
                                       msg=lambda m: f"{where}\n{m}")
        else:
            assert torch.equal(got, want), where
    elif want is None:
        assert got is None or (isinstance(got, torch.Tensor) and not got.any()), f"{where}: {got}, expected None"
    else:
        assert got == want, f"{where}: {got} != {want}"
