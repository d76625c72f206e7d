"""Every operation that makes memory, on operands that lie in every way: the strides must be PyTorch's, also those of axes of length 1.

    python -m tests.fuzz.layouts          prints what differs
"""
from __future__ import annotations

import sys

import torch

import forno

# How an operand of four axes can lie: (name, what makes it). Shapes are (2, 3, 4, 5) or have axes of length 1.
WAYS = {
    "row-major": lambda m: m.ones(2, 3, 4, 5),
    "channels_last": lambda m: m.ones(2, 3, 4, 5).to(memory_format=m.channels_last),
    "transposed": lambda m: m.ones(5, 4, 3, 2).permute(3, 2, 1, 0),
    "swapped": lambda m: m.ones(2, 5, 4, 3).transpose(1, 3),
    "sliced": lambda m: m.ones(2, 3, 4, 10)[..., ::2],
    "sliced channels_last": lambda m: m.ones(2, 6, 4, 5).to(memory_format=m.channels_last)[:, 1:4],
    "expanded": lambda m: m.ones(2, 1, 4, 5).expand(2, 3, 4, 5),
    "expanded inside": lambda m: m.ones(2, 3, 4, 1).expand(2, 3, 4, 5),
    "expanded permuted": lambda m: m.ones(5, 4, 1, 2).permute(3, 2, 1, 0).expand(2, 3, 4, 5),
    "number": lambda m: m.ones(()).expand(2, 3, 4, 5),
    "unfolded": lambda m: m.ones(2, 3, 8).unfold(2, 5, 1),
    "strided": lambda m: m.ones(200).as_strided((2, 3, 4, 5), (1, 2, 8, 30)),
    "one channel": lambda m: m.ones(2, 1, 4, 5).to(memory_format=m.channels_last),
    "one pixel": lambda m: m.ones(2, 3, 1, 1).to(memory_format=m.channels_last),
    "one sample": lambda m: m.ones(1, 3, 4, 5).to(memory_format=m.channels_last),
    "ones within": lambda m: m.ones(5, 1, 3, 1).permute(3, 2, 1, 0),
    "ones around": lambda m: m.ones(1, 4, 3, 1).transpose(1, 2),
    "ones sliced": lambda m: m.ones(4, 3, 4, 5).transpose(0, 3)[1:2, :, 2:3],
    "rows": lambda m: m.ones(6, 4).t(),
    "a row": lambda m: m.ones(6, 1).t(),
    "column": lambda m: m.ones(6, 4)[:, 1:2],
    "vector": lambda m: m.ones(12)[::2],
    "empty": lambda m: m.ones(0, 3, 4).transpose(0, 2),
}


def long(m, *x): return m.tensor(x if len(x) > 1 else [*x])


ONE = {
    "neg": lambda m, x: -x,
    "exp": lambda m, x: x.exp(),
    "add number": lambda m, x: x + 1,
    "lt": lambda m, x: x < 1,
    "double": lambda m, x: x.double(),
    "int": lambda m, x: x.int(),
    "same": lambda m, x: x + x,
    "bool": lambda m, x: x.bool(),
    "half": lambda m, x: x.half(),
    "float": lambda m, x: x.float(),
    "clone": lambda m, x: x.clone(),
    "mixed": lambda m, x: x + x.double(),
    "int mixed": lambda m, x: x.int() + x,
    "contiguous": lambda m, x: x.contiguous(),
    "relu": lambda m, x: m.relu(x),
    "gelu": lambda m, x: m.nn.functional.gelu(x),
    "silu": lambda m, x: m.nn.functional.silu(x),
    "leaky_relu": lambda m, x: m.nn.functional.leaky_relu(x),
    "clamp": lambda m, x: x.clamp(0, 1),
    "pow": lambda m, x: x ** 2,
    "pow3": lambda m, x: x ** 3.5,
    "sigmoid": lambda m, x: x.sigmoid(),
    "softplus": lambda m, x: m.nn.functional.softplus(x),
    "hardtanh": lambda m, x: m.nn.functional.hardtanh(x),
    "elu": lambda m, x: m.nn.functional.elu(x),
    "zeros_like": lambda m, x: m.zeros_like(x),
    "ones_like": lambda m, x: m.ones_like(x),
    "empty_like": lambda m, x: m.empty_like(x),
    "full_like": lambda m, x: m.full_like(x, 2),
    "rand_like": lambda m, x: m.rand_like(x),
    "randn_like": lambda m, x: m.randn_like(x),
    "dropout": lambda m, x: m.nn.functional.dropout(x, 0.5),
    "bernoulli": lambda m, x: m.bernoulli(x),
    "new_zeros": lambda m, x: x.new_zeros(x.shape),
    "masked_fill": lambda m, x: x.masked_fill(x > 0, 1.0),
    "where": lambda m, x: m.where(x > 0, x, 0.0),
    "where2": lambda m, x: m.where(x > 0, x, x * 2),
    "sum": lambda m, x: x.sum(),
    "sum0": lambda m, x: x.sum(0),
    "sum1": lambda m, x: x.sum(-1),
    "sum keep": lambda m, x: x.sum(0, keepdim=True),
    "sum last keep": lambda m, x: x.sum(-1, keepdim=True),
    "sum mid": lambda m, x: x.sum(x.dim() // 2),
    "sum mid keep": lambda m, x: x.sum(x.dim() // 2, keepdim=True),
    "sum ends": lambda m, x: x.sum((0, -1)) if x.dim() > 1 else x,
    "sum int": lambda m, x: x.int().sum(-1),
    "mean": lambda m, x: x.mean(0),
    "mean keep": lambda m, x: x.mean(-1, keepdim=True),
    "amax": lambda m, x: x.amax(-1) if x.numel() else x,
    "prod": lambda m, x: x.prod(-1),
    "var": lambda m, x: x.var(-1),
    "var keep": lambda m, x: x.var(0, keepdim=True),
    "std": lambda m, x: x.std(-1),
    "var_mean": lambda m, x: m.var_mean(x, -1)[1],
    "all": lambda m, x: x.bool().all(-1),
    "any": lambda m, x: x.any(0),
    "norm": lambda m, x: x.norm(dim=-1),
    "max": lambda m, x: x.max(-1)[0] if x.numel() else x,
    "max index": lambda m, x: x.max(-1)[1] if x.numel() else x,
    "max keep": lambda m, x: x.max(0, keepdim=True)[0] if x.numel() else x,
    "argmax": lambda m, x: x.argmax(-1) if x.numel() else x,
    "argmax keep": lambda m, x: x.argmax(-1, keepdim=True) if x.numel() else x,
    "logsumexp": lambda m, x: x.logsumexp(-1),
    "softmax": lambda m, x: x.softmax(-1),
    "softmax0": lambda m, x: x.softmax(0),
    "log_softmax": lambda m, x: x.log_softmax(-1),
    "cumsum": lambda m, x: x.cumsum(-1),
    "cumsum0": lambda m, x: x.cumsum(0),
    "cumprod": lambda m, x: x.cumprod(0),
    "cummax": lambda m, x: x.cummax(0)[0] if x.numel() else x,
    "logcumsumexp": lambda m, x: x.logcumsumexp(0),
    "sort": lambda m, x: x.sort(-1)[0],
    "sort index": lambda m, x: x.sort(-1)[1],
    "sort0": lambda m, x: x.sort(0)[0],
    "argsort": lambda m, x: x.argsort(-1),
    "topk": lambda m, x: x.topk(1, -1)[0] if x.numel() else x,
    "kthvalue": lambda m, x: x.kthvalue(1, -1)[0] if x.numel() else x,
    "median": lambda m, x: x.median(-1)[0] if x.numel() else x,
    "mode": lambda m, x: x.mode(-1)[0] if x.numel() else x,
    "flip": lambda m, x: x.flip(0),
    "flip last": lambda m, x: x.flip(-1),
    "roll": lambda m, x: x.roll(1, 0),
    "roll flat": lambda m, x: x.roll(1),
    "repeat": lambda m, x: x.repeat(*(2,) * x.dim()),
    "repeat_interleave": lambda m, x: x.repeat_interleave(2, 0),
    "tril": lambda m, x: x.tril() if x.dim() > 1 else x,
    "rot90": lambda m, x: m.rot90(x) if x.dim() > 1 else x,
    "pad": lambda m, x: m.nn.functional.pad(x, (1, 1)),
    "pad reflect": lambda m, x: m.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect") if x.dim() == 4 and min(x.shape[2:]) > 1 else x,
    "gather": lambda m, x: x.gather(0, m.zeros(x.shape, dtype=m.int64)),
    "gather like": lambda m, x: x.gather(0, (x * 0).long()),
    "index_select": lambda m, x: x.index_select(0, long(m, 0)) if x.shape[0] else x,
    "index_select last": lambda m, x: x.index_select(-1, long(m, 0)) if x.shape[-1] else x,
    "take": lambda m, x: x.take(long(m, 0)) if x.numel() else x,
    "scatter": lambda m, x: x.scatter(0, m.zeros(x.shape, dtype=m.int64), 1.0),
    "index_add": lambda m, x: x.index_add(0, m.arange(x.shape[0]), x),
    "index_fill": lambda m, x: x.index_fill(0, m.arange(x.shape[0]), 1),
    "masked_select": lambda m, x: x.masked_select(x > 0),
    "index_copy": lambda m, x: x.index_copy(0, m.arange(x.shape[0]), x),
    "masked_scatter": lambda m, x: x.masked_scatter(x > 5, x),
    "index_put": lambda m, x: x.index_put((m.arange(x.shape[0]),), m.tensor(1.0)),
    "scatter_add": lambda m, x: x.scatter_add(0, m.zeros(x.shape, dtype=m.int64), x),
    "lerp": lambda m, x: x.lerp(x * 2, 0.5),
    "addcmul": lambda m, x: m.addcmul(x, x, x),
    "nan_to_num": lambda m, x: x.nan_to_num(),
    "diff": lambda m, x: x.diff(dim=-1),
    "reshape": lambda m, x: x.reshape(-1),
    "flatten": lambda m, x: x.flatten(1) if x.dim() > 1 else x,
    "unsqueeze": lambda m, x: x.unsqueeze(0) + 0,
    "unsqueeze end": lambda m, x: x.unsqueeze(-1) + 0,
    "unsqueeze mid": lambda m, x: x.unsqueeze(1) * 2,
    "movedim": lambda m, x: x.movedim(0, -1) * 2,
    "reshape ones": lambda m, x: x.reshape(1, *x.shape, 1),
    "view ones": lambda m, x: x.unsqueeze(0).unsqueeze(-1).exp().squeeze(0).squeeze(-1),
    "t[None]": lambda m, x: x[None] + x,
    "t[:1]": lambda m, x: x[:1] + x,
    "t[..., :1]": lambda m, x: x[..., :1] * x,
    "t[0] + t": lambda m, x: x[0] + x if x.shape[0] else x,
    "select": lambda m, x: x.select(-1, 0).exp() if x.shape[-1] else x,
    "cat0": lambda m, x: m.cat([x, x]),
    "cat last": lambda m, x: m.cat([x, x], -1),
    "cat mixed": lambda m, x: m.cat([x, x.contiguous()], -1),
    "cat mixed2": lambda m, x: m.cat([x.contiguous(), x], -1),
    "stack": lambda m, x: m.stack([x, x]),
    "stack last": lambda m, x: m.stack([x, x], -1),
    "cat promoted": lambda m, x: m.cat([x, x.double()]),
    "cat one": lambda m, x: m.cat([x]),
    "hstack": lambda m, x: m.hstack([x, x]),
    "chunk": lambda m, x: x.chunk(2, -1)[0] + 1,
    "split exp": lambda m, x: x.split(1, 0)[0].exp() if x.shape[0] else x,
    "x[[0]]": lambda m, x: x[[0]] if x.shape[0] else x,
    "x[:, [0]]": lambda m, x: x[:, [0]] if x.dim() > 1 and x.shape[1] else x,
    "x[[0, 0, 1], :, [0, 1, 0]]": lambda m, x: x[[0, 0, -1], :, [0, -1, 0]] if x.dim() > 2 and x.numel() else x,
    "x[..., [0, 0]]": lambda m, x: x[..., [0, 0]] if x.shape[-1] else x,
    "x[:, [[0], [0]], [0, -1]]": lambda m, x: x[:, [[0], [0]], [0, -1]] if x.dim() > 2 and x.numel() else x,
    "x[mask]": lambda m, x: x[x > 0],
    "x[rows]": lambda m, x: x[m.ones(x.shape[0]) > 0],
    "x[:, mask]": lambda m, x: x[:, x[0] > 0] if x.dim() > 1 and x.shape[0] else x,
    "x[idx2d]": lambda m, x: x[m.zeros(3, 2, dtype=m.int64).t()] if x.shape[0] else x,
    "x[idx, None]": lambda m, x: x[[0, 0], None] if x.shape[0] else x,
    "x[0, [0]]": lambda m, x: x[0, [0, 0]] if x.dim() > 1 and x.numel() else x,
    "x[::2, [0]]": lambda m, x: x[::2, [0, 0]] if x.dim() > 1 and x.numel() else x,
    "x[[0, 0]][:, [0]]": lambda m, x: x[[0, 0]][:, [0, 0]] if x.dim() > 1 and x.numel() else x,
    "x[idx expanded]": lambda m, x: x[m.zeros(1, dtype=m.int64).expand(3)] if x.shape[0] else x,
    "matmul": lambda m, x: x @ x.transpose(-1, -2) if x.dim() > 1 else x,
    "matmul T": lambda m, x: x.transpose(-1, -2) @ x if x.dim() > 1 else x,
    "matmul 2d": lambda m, x: x @ m.ones(x.shape[-1], 3),
    "matmul left": lambda m, x: m.ones(3, x.shape[-2]) @ x if x.dim() > 1 else x,
    "linear": lambda m, x: m.nn.functional.linear(x, m.ones(3, x.shape[-1]), m.ones(3)),
    "linear no bias": lambda m, x: m.nn.functional.linear(x, m.ones(3, x.shape[-1])),
    "matmul vector": lambda m, x: x @ m.ones(x.shape[-1]),
    "bmm": lambda m, x: m.bmm(x.flatten(0, 1), x.flatten(0, 1).mT) if x.dim() == 4 else x,
    "einsum": lambda m, x: m.einsum("ab,cb->ca", x, x) if x.dim() == 2 else x,
    "outer": lambda m, x: m.outer(x.reshape(-1), x.reshape(-1)),
    "einsum4": lambda m, x: m.einsum("abcd,ebcd->bcae", x, x) if x.dim() == 4 else x,
    "tensordot": lambda m, x: m.tensordot(x, x, dims=([0], [0])),
    "addmm": lambda m, x: m.addmm(m.ones(x.shape[0], x.shape[0]), x, x.t()) if x.dim() == 2 else x,
    "mv": lambda m, x: x.mv(m.ones(x.shape[1])) if x.dim() == 2 else x,
    "conv": lambda m, x: m.nn.functional.conv2d(x, m.ones(2, x.shape[1], 1, 1)) if x.dim() == 4 else x,
    "conv 3": lambda m, x: m.nn.functional.conv2d(x, m.ones(2, x.shape[1], 3, 3), padding=1) if x.dim() == 4 else x,
    "conv weight channels_last": lambda m, x: m.nn.functional.conv2d(x, m.ones(2, x.shape[1], 3, 3).to(memory_format=m.channels_last), padding=1) if x.dim() == 4 else x,
    "max_pool": lambda m, x: m.nn.functional.max_pool2d(x, 1) if x.dim() == 4 else x,
    "avg_pool": lambda m, x: m.nn.functional.avg_pool2d(x, 1) if x.dim() == 4 else x,
    "adaptive": lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, 1) if x.dim() == 4 else x,
    "adaptive2": lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, 2) if x.dim() == 4 else x,
    "interpolate": lambda m, x: m.nn.functional.interpolate(x, scale_factor=2) if x.dim() == 4 else x,
    "bilinear": lambda m, x: m.nn.functional.interpolate(x, scale_factor=2, mode="bilinear") if x.dim() == 4 else x,
    "batch_norm": lambda m, x: m.nn.functional.batch_norm(x, m.zeros(x.shape[1]), m.ones(x.shape[1])) if x.dim() == 4 else x,
    "batch_norm training": lambda m, x: m.nn.functional.batch_norm(x, None, None, training=True) if x.dim() == 4 and x.shape[0] > 1 else x,
    "layer_norm": lambda m, x: m.nn.functional.layer_norm(x, x.shape[-1:]),
    "group_norm": lambda m, x: m.nn.functional.group_norm(x, 1) if x.dim() == 4 else x,
    "pixel_shuffle": lambda m, x: m.nn.functional.pixel_unshuffle(x[..., :2, :2], 2) if x.dim() == 4 and min(x.shape[2:]) > 1 else x,
    "grad exp": lambda m, x: gradient(m, x, lambda t: t.exp().sum()),
    "grad sum": lambda m, x: gradient(m, x, lambda t: t.sum()),
    "grad mixed": lambda m, x: gradient(m, x, lambda t: (t.contiguous() * 2).sum()),
    "complex": lambda m, x: x.to(m.complex64),
    "sort stable": lambda m, x: m.sort(x, stable=True, dim=0)[1],
    "nonzero": lambda m, x: x.nonzero(),
    "unique": lambda m, x: x.unique(),
}
TWO = {
    "add": lambda m, x, y: x + y,
    "where": lambda m, x, y: m.where(x > y, x, y),
    "promoted": lambda m, x, y: x + y.double(),
    "int first": lambda m, x, y: x.int() * y,
    "lt": lambda m, x, y: x < y,
    "copy_": lambda m, x, y: m.empty_like(x).copy_(y),
    "addcmul": lambda m, x, y: m.addcmul(x, x, y),
    "lerp": lambda m, x, y: x.lerp(y, 0.5),
    "masked_fill": lambda m, x, y: x.masked_fill(y > 0, 1.0),
    "cat": lambda m, x, y: m.cat([x, y]),
    "maximum": lambda m, x, y: m.maximum(x, y),
    "atan2": lambda m, x, y: m.atan2(x, y),
    "add alpha": lambda m, x, y: m.add(x, y, alpha=2),
    "pow": lambda m, x, y: x ** y,
    "clamp": lambda m, x, y: x.clamp(min=y),
    "mse_loss": lambda m, x, y: m.nn.functional.mse_loss(x, y, reduction="none"),
    "stack": lambda m, x, y: m.stack([x, y], 1),
    "addcdiv": lambda m, x, y: m.addcdiv(x, y, y),
    "sub ones": lambda m, x, y: x[:1] - y[..., :1],
    "mul none": lambda m, x, y: x[:, :, None] * y[:, None, :] if x.dim() > 1 else x,
    "+= ": lambda m, x, y: x.clone().add_(y),
    "remainder": lambda m, x, y: x % y,
}


def gradient(m, x, f):
    x = x.detach().requires_grad_()
    return m.autograd.grad(f(x), x)[0]


def outcome(f, *args):
    try: r = f(*args)
    except Exception as e: return type(e).__name__
    return tuple(r.shape), tuple(r.stride())


def pairs():
    """(operation, layouts, call) of everything compared."""
    for name, f in ONE.items():
        for way, make in WAYS.items(): yield name, way, lambda m, f=f, make=make: f(m, make(m))
    four = [k for k in WAYS if k not in ("rows", "a row", "column", "vector", "empty")]
    for name, f in TWO.items():
        for a in four:
            for b in four: yield name, f"{a}, {b}", lambda m, f=f, a=a, b=b: f(m, WAYS[a](m), WAYS[b](m))


# differs: einsum permutes what it is given its own way, losses square an intermediate result, and gradients that only repeat a number are PyTorch's views
EXEMPT = ("einsum", "einsum4", "mse_loss", "grad sum")


def differing():
    for name, way, call in pairs():
        if name in EXEMPT: continue
        a, b = outcome(call, torch), outcome(call, forno)
        if a != b: yield name, way, a, b


def main():
    seen: dict[str, list] = {}
    for name, way, a, b in differing(): seen.setdefault(name, []).append((way, a, b))
    for name, found in seen.items():
        print(f"{name}: {len(found)}")
        for way, a, b in found[:int(sys.argv[1]) if len(sys.argv) > 1 else 3]: print(f"    {way}: torch {a} forno {b}")
    print(sum(map(len, seen.values())), "differ")


if __name__ == "__main__": main()
