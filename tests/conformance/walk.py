"""PyTorch's own database of samples (OpInfo), run through forno: every entry becomes checks of one kind each.

Kinds: forward, gradient (of a random cotangent, for every input that requires one), method, in-place, out=. PyTorch computes the reference beside.
"""
from __future__ import annotations

import functools
import types

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

import forno

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-7, torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.complex64: 1e-4, torch.complex128: 1e-7}
UNDEFINED = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "resize_as_", "nn.functional.dropout", "multinomial", "randn", "randint", "uniform",
             "normal", "bernoulli", "randn_like", "rand_like", "randint_like", "cauchy", "exponential", "geometric", "log_normal",
             "svd", "linalg.svd", "linalg.eigh", "linalg.eig", "svd_lowrank", "pca_lowrank"}       # the last ones: up to signs and phases
INFOS = {op.name + (f":{op.variant_test_name}" if op.variant_test_name else ""): op for op in op_db}


# ---------------------------------------------------------------- values across
def given(x):
    """PyTorch's argument as forno's."""
    if isinstance(x, torch.Tensor):
        t = x.detach().clone().resolve_conj().contiguous()
        if t.dtype is torch.complex32: return given(t.to(torch.complex64)).to(forno.complex32)
        out = forno.from_numpy(t.float().numpy()).to(forno.bfloat16) if t.dtype is torch.bfloat16 else forno.from_numpy(t.numpy())
        return out.requires_grad_() if x.requires_grad else out
    if isinstance(x, (torch.dtype, torch.layout, torch.memory_format)): return getattr(forno, str(x).split(".")[1])
    if isinstance(x, torch.device): return str(x)
    if isinstance(x, torch.nn.TransformerEncoderLayer): return encoder_layer(x)
    if isinstance(x, torch.nn.Module): return getattr(forno.nn, type(x).__name__)()
    if callable(x) and getattr(torch.nn.functional, getattr(x, "__name__", ""), None) is x: return twin(x, f"nn.functional.{x.__name__}")
    if isinstance(x, (list, tuple)): return type(x)(map(given, x)) if type(x) in (list, tuple) else tuple(map(given, x))
    return {k: given(v) for k, v in x.items()} if isinstance(x, dict) else x


def encoder_layer(x):
    """A layer like it; its weights come later."""
    return forno.nn.TransformerEncoderLayer(x.self_attn.embed_dim, x.self_attn.num_heads, x.linear1.out_features, x.dropout.p, given(x.activation), x.norm1.eps,
                                            x.self_attn.batch_first, x.norm_first, x.linear1.bias is not None)


def array(x):
    x = x.detach().resolve_conj()
    if "complex32" in str(x.dtype): x = x.to((torch if isinstance(x, torch.Tensor) else forno).complex64)
    return (x.float() if "bfloat16" in str(x.dtype) else x).numpy(force=True)


def flat(x, kind) -> list:
    if isinstance(x, kind): return [x]
    return [t for y in x for t in flat(y, kind)] if isinstance(x, (list, tuple)) else []


def plain(x): return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else type(x)(map(plain, x)) if type(x) in (list, tuple) else x.detach() if hasattr(x, "detach") else x


def same(want, got, name, factor=1.0, values=True):
    """One tensor equals its reference: type, shape, numbers."""
    assert str(got.dtype) == str(want.dtype) and tuple(got.shape) == tuple(want.shape), f"{got.dtype} {tuple(got.shape)}, expected {want.dtype} {tuple(want.shape)}"
    if not values: return
    tolerance = TOLERANCE.get(want.dtype, 0) * factor * (5 if "norm" in name or "conv" in name or "prod" in name else 1)
    a, b = array(want), array(got)
    scale = np.sqrt(np.mean(np.abs(a[np.isfinite(a)]) ** 2)) if a.size and a.dtype.kind in "fc" and np.isfinite(a).any() else 1.0
    np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * (0.1 + float(scale)))


def result(want, got, name, values):
    """Everything a call returned."""
    a, b = flat(want, torch.Tensor), flat(got, forno.Tensor)
    assert len(a) == len(b), f"{len(b)} tensors, expected {len(a)}"
    for x, y in zip(a, b): same(x, y, name, 1.0, values)
    if not a and not isinstance(want, (list, tuple)): assert want == got or want != want


# ---------------------------------------------------------------- functions across
def own(x):
    """PyTorch's argument with leaves of its own: gradients get lost on the way to those that are views."""
    if isinstance(x, torch.Tensor): return x.detach().clone().requires_grad_(x.requires_grad) if x.is_leaf and x._base is not None and x.requires_grad else x
    if type(x) in (list, tuple): return type(x)(map(own, x))
    return {k: own(v) for k, v in x.items()} if type(x) is dict else x


def seeded(f, *args, **kw):
    """The database's wrapper_set_seed."""
    forno.manual_seed(42)
    return f(*args, **kw)


def apart(x):
    """Arguments of either library as leaves with memory of their own, that owe nothing to each other."""
    if isinstance(x, (torch.Tensor, forno.Tensor)): return x.detach().clone().requires_grad_(x.requires_grad)
    if type(x) in (list, tuple): return type(x)(map(apart, x))
    return {k: apart(v) for k, v in x.items()} if type(x) is dict else x


def twin(f, path):
    """forno's function for one of PyTorch's: the one at the same path, or a lambda of the database with torch replaced."""
    if isinstance(f, functools.partial): return functools.partial(twin(f.func, f"nn.functional.{f.func.__name__}"), *f.args, **f.keywords)
    if isinstance(f, torch._ops.OpOverload): return getattr(forno.ops.aten, f.overloadpacket.__name__)
    owner = torch
    for part in path.split("."): owner = getattr(owner, part, None)
    if owner is f:
        here = forno
        for part in path.split("."): here = getattr(here, part)
        return here
    if isinstance(f, types.FunctionType) and f.__globals__["__name__"].startswith("torch.testing"):
        cells = tuple(types.CellType(forno if c.cell_contents is torch else c.cell_contents) for c in f.__closure__ or ())
        return types.FunctionType(f.__code__, {**f.__globals__, "torch": forno, "F": forno.nn.functional, "wrapper_set_seed": seeded}, f.__name__, f.__defaults__, cells)
    name = f.__name__
    return lambda x, *args, **kw: getattr(x, name)(*args, **kw)


def called(f, s, source, out=None):
    """f on fresh copies of a sample's arguments: (result, leaves)."""
    copy = given if source is forno else own
    x, args, kw = copy(s.input) if source is forno else s.input, copy(s.args), copy(s.kwargs)
    if out is not None: x, args, kw = plain(x), plain(args), {**plain(kw), "out": out}
    source.manual_seed(0)
    return f(x, *args, **kw), [t for t in flat([x, *args, *kw.values()], source.Tensor) if t.requires_grad]


def spread(samples, limit) -> list:
    """At most `limit` of them (0: all), evenly."""
    return [samples[i * (len(samples) - 1) // (limit - 1)] for i in range(limit)] if limit and len(samples) > limit else samples


def checks(name, dtype, limit):
    """(kind, number of the sample, thunk) of one entry."""
    op = INFOS[name]
    graded = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=graded))
    samples = spread(samples, limit)
    f = twin(op.op, op.name)
    for i, s in enumerate(samples):
        want, leaves = called(op.op, s, torch)
        torch.manual_seed(1)
        again = op.op(s.input, *s.args, **s.kwargs)
        values = op.name not in UNDEFINED and all(np.array_equal(array(a), array(b), equal_nan=True) for a, b in zip(flat(want, torch.Tensor), flat(again, torch.Tensor)))
        yield "forward", i, lambda s=s, want=want, values=values: result(want, called(f, s, forno)[0], name, values)
        ends = [t for t in flat(want, torch.Tensor) if t.requires_grad]
        if graded and leaves and ends:
            cotangents = [torch.randn(t.shape, generator=torch.Generator().manual_seed(7), dtype=t.dtype if t.is_floating_point() or t.is_complex() else None) for t in ends]
            try: grads = torch.autograd.grad(ends, leaves, cotangents, allow_unused=True)
            except RuntimeError: continue      # eigenvectors' phases
            yield "gradient", i, lambda s=s, grads=grads, cot=cotangents, values=values: gradients(f, s, grads, cot, name, values)
        for kind, variant in (("method", op.method_variant), ("in-place", op.inplace_variant)):
            if variant is None or not isinstance(s.input, torch.Tensor) or kind == "in-place" and s.broadcasts_input: continue
            try: ref = variant(s.input.detach().clone(), *plain(s.args), **plain(s.kwargs))
            except (RuntimeError, TypeError, IndexError): continue
            g = twin(variant, "")
            yield kind, i, lambda s=s, ref=ref, g=g, values=values: result(ref, g(plain(given(s.input)).clone(), *plain(given(s.args)), **plain(given(s.kwargs))), name, values)
        tensors = flat(want, torch.Tensor)
        if op.supports_out and i < 2 and tensors and values:
            outs = [torch.zeros_like(t.detach()) for t in tensors]
            try: called(op.op, s, torch, outs[0] if isinstance(want, torch.Tensor) else tuple(outs))
            except (RuntimeError, TypeError): continue
            yield "out=", i, lambda s=s, want=want: into(f, s, want, name)


def gradients(f, s, want, cotangents, name, values):
    got, leaves = called(f, s, forno)
    ends = [t for t in flat(got, forno.Tensor) if t.requires_grad]
    assert len(ends) == len(cotangents), f"{len(ends)} outputs require grad, expected {len(cotangents)}"
    for a, b in zip(want, forno.autograd.grad(ends, leaves, [given(c) for c in cotangents], allow_unused=True)):
        if a is None or b is None: assert (a is None or not a.any()) and (b is None or not array(b).any())
        else: same(a, b, name, 5.0, values)


def into(f, s, want, name):
    outs = [given(torch.zeros_like(t.detach())) for t in flat(want, torch.Tensor)]
    called(f, s, forno, outs[0] if isinstance(want, torch.Tensor) else tuple(outs))
    result(want, outs if not isinstance(want, torch.Tensor) else outs[0], name, True)
