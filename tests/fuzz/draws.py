"""One random operation on random operands: what a seed of tests/fuzz/operations.py stands for.

Goes out: a Draw. `call(m, *tensors)` runs it in the library m; `operands` are PyTorch tensors with the way they lie in memory, so that both libraries
get the same numbers at the same strides. Numbers are ordinary, or sprinkled with those at the ends of their type, NaN, infinities and both zeros.
"""
from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable
from typing import NamedTuple

import torch

from forno.core.op import TABLE
from tests.conformance import walk

FLOATS = (torch.float32, torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COMPLEX = (torch.complex64, torch.complex128)
EVERY = (*FLOATS, *INTEGERS, torch.bool, torch.bool, *COMPLEX)
REAL = (*FLOATS, *INTEGERS)


# ---------------------------------------------------------------- operands
class Laid(NamedTuple):
    """A tensor as something that both libraries can make: `store` is contiguous, `view(store)` is the operand."""
    store: torch.Tensor
    view: Callable
    way: str
    grad: bool = False

    def made(self, m):
        t = self.view(self.store.clone() if m is torch else walk.given(self.store))
        return t.detach().requires_grad_() if self.grad else t


def plain(t, grad=False): return Laid(t.detach().clone().contiguous(), lambda s: s, "row-major", grad)


def permuted(r, t, grad):
    order = list(range(t.dim()))
    r.shuffle(order)
    back = [order.index(d) for d in range(t.dim())]
    return Laid(t.detach().permute(order).clone(memory_format=torch.contiguous_format), lambda s: s.permute(back), f"permuted {order}", grad)


def stepped(r, t, grad):
    """Within larger memory: an offset before it and steps between."""
    steps, starts = [r.choice([1, 1, 2, 3]) for _ in t.shape], [r.choice([0, 0, 1, 2]) for _ in t.shape]
    store = torch.ones([n * k + a for n, k, a in zip(t.shape, steps, starts)], dtype=t.dtype)
    at = tuple(slice(a, a + n * k, k) for n, k, a in zip(t.shape, steps, starts))
    store[at] = t.detach()
    return Laid(store, lambda s: s[at], f"from {starts} by {steps}", grad)


def moved(r, t, grad):
    k = r.randint(1, 5)
    store = torch.cat([torch.ones(k, dtype=t.dtype), t.detach().reshape(-1)])
    return Laid(store, lambda s: s[k:].view(tuple(t.shape)), f"offset {k}", grad)


def images_last(r, t, grad):
    store = t.detach().permute(0, *range(2, t.dim()), 1).clone(memory_format=torch.contiguous_format)
    return Laid(store, lambda s: s.permute(0, t.dim() - 1, *range(1, t.dim() - 1)), "channels_last", grad)


def expanded(r, t, grad):
    """One value for a whole axis: the numbers change, for both."""
    axis, shape = r.randrange(t.dim()), tuple(t.shape)
    store = t.detach().narrow(axis, 0, 1).clone(memory_format=torch.contiguous_format)
    return Laid(store, lambda s: s.expand(shape), f"axis {axis} expanded", grad)


def laid(r, t, repeat=False) -> Laid:
    """t, lying in memory in some way; `repeat`: it may also be one value seen many times."""
    t = t.resolve_conj().resolve_neg() if t.dtype.is_complex else t
    ways = [plain, moved] + [permuted, permuted, stepped, stepped] * (t.dim() > 0) + [images_last] * (t.dim() in (4, 5)) + [expanded] * (repeat and t.dim() > 0 and t.numel() > 0)
    way = r.choice(ways)
    return plain(t, t.requires_grad) if way is plain else way(r, t, t.requires_grad)


def relaid(r, x):
    """The arguments of a sample with every tensor lying some way."""
    if isinstance(x, torch.Tensor): return laid(r, x)
    if isinstance(x, (list, tuple)): return type(x)(relaid(r, y) for y in x) if type(x) in (list, tuple) else tuple(relaid(r, y) for y in x)
    return {k: relaid(r, v) for k, v in x.items()} if isinstance(x, dict) else x


def made(x, m):
    """Arguments in the library m."""
    if isinstance(x, Laid): return x.made(m)
    if isinstance(x, (list, tuple)): return type(x)(made(y, m) for y in x) if type(x) in (list, tuple) else x
    if isinstance(x, dict): return {k: made(v, m) for k, v in x.items()}
    return x if m is torch else walk.given(x)


def shape(r, most=4, least=0) -> tuple[int, ...]:
    """Mostly small, with axes of length 0 and 1; now and then enough for vectors, tiles and two threads."""
    rank, sizes = r.randint(least, most), r.choice([(2, 3, 4, 5), (1, 2, 3, 1), (2, 3, 7, 17), (1, 8, 33), (3, 64, 5), (0, 1, 2, 3)])
    out = [r.choice(sizes) for _ in range(rank)]
    if out and r.random() < 0.04: out[r.randrange(rank)] = r.choice([257, 1000, 4099])
    while math.prod(out) > 200000: out[out.index(max(out))] = 2
    return tuple(out)


def special(dtype) -> list:
    """The numbers at the ends of a type."""
    if dtype is torch.bool: return [True, False]
    if dtype.is_complex: return [0, complex(0, 1), complex(-1, 0), complex(math.inf, 0), complex(0, math.nan)]
    if not dtype.is_floating_point: return [torch.iinfo(dtype).min, torch.iinfo(dtype).max, torch.iinfo(dtype).min + 1, 0, 1, 2, 63, 64]
    f = torch.finfo(dtype)
    return [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, f.max, f.min, f.tiny, 1e4, -1e4, 20.0, -20.0, 88.0, -100.0]


def numbers(r, shape, dtype, extreme=False, scale=None) -> torch.Tensor:
    g = torch.Generator().manual_seed(r.randrange(1 << 40))
    if dtype is torch.bool: return torch.rand(shape, generator=g) < 0.5
    if dtype.is_complex or dtype.is_floating_point:
        t = torch.randn(shape, generator=g, dtype=torch.complex64 if dtype.is_complex else torch.float32).mul(scale or r.choice([1, 1, 1, 3, 0.1])).to(dtype)
    else: t = torch.randint(0 if dtype is torch.uint8 else -9, 10, shape, generator=g).to(dtype)
    if extreme and t.numel():
        flat = t.view(-1)
        for value in special(dtype): flat[r.randrange(len(flat))] = value
    return t


def index(r, shape, size) -> torch.Tensor:
    """Places along an axis of `size`."""
    return torch.randint(0, max(size, 1), shape, generator=torch.Generator().manual_seed(r.randrange(1 << 40)))


class Draw(NamedTuple):
    text: str
    call: Callable                             # (m, *operands) -> anything with tensors in it
    operands: tuple
    exact: str = ""                            # 'zeros': signs of zeros count; 'none': values may not be compared
    absolute: float = 0.0                      # how much errors grow with the other elements of the operands, as a factor of the tolerance
    sampled: bool = False                      # from PyTorch's database


def axis(r, t): return r.randrange(-t.dim(), t.dim()) if t.dim() else r.choice([0, -1])


# ---------------------------------------------------------------- free draws
ROWS = [o for o in TABLE.values() if o.kind == "elementwise" and o.names and o.names[0]]
arity = {o: len(o.grads) or o.emit.__code__.co_argcount - 1 for o in ROWS}
ONE, TWO = ([(n, o) for o in ROWS if arity[o] == k for n in o.names if n] for k in (1, 2))
# differs: of 0.0 and -0.0, PyTorch's vectors give the second and its loops for the rest the first; in bfloat16 fmax and fmin, too
TIED = {"maximum": FLOATS, "minimum": FLOATS, "clamp_min": FLOATS, "clamp_max": FLOATS, "fmax": (torch.bfloat16,), "fmin": (torch.bfloat16,)}
HALVES = (torch.float16, torch.bfloat16)
# differs: drawn without gradients: trigamma's poles, which PyTorch's float32 sine of π·x makes any large number; log_ndtr's from -1e4 on, which PyTorch has wrong (65,758 for 1e4)
POLES = "digamma|psi|log_ndtr"
# differs: (types, why) of samples that aren't drawn
NOT_DRAWN = {
    "nn.functional.triplet_margin_with_distance_loss": (EVERY, "its samples hold PyTorch's own classes"),
    "chalf": (EVERY, "complex32 does not compute"),
    "polygamma": (INTEGERS, "negative integers are poles: PyTorch's float32 sine of π·x makes them any large number"),
    "special.polygamma": (INTEGERS, "as polygamma"),
    "matrix_exp": (HALVES, "PyTorch squares in the half type and gets NaN where the result has room"),
}


def function(m, path):
    for part in path.split("."): m = getattr(m, part)
    return m


def variant(r, name, dtype):
    """As function, as method or in place, where that exists: (how, f(m, x, *more))."""
    if "." not in name and r.random() < 0.3:
        if r.random() < 0.5 and hasattr(torch.Tensor, name + "_"): return name + "_", lambda m, x, *more: getattr(x.clone(), name + "_")(*more)
        if hasattr(torch.Tensor, name): return f"Tensor.{name}", lambda m, x, *more: getattr(x, name)(*more)
    return name, lambda m, x, *more: function(m, name)(x, *more)


def unary(r):
    name, _ = r.choice(ONE)
    t = numbers(r, shape(r), r.choice(EVERY), r.random() < 0.6)
    text, f = variant(r, name, t.dtype)
    return Draw(text, f, (laid(r, t, "_" not in text),), "zeros", 0.05)


def number(r, dtype):
    if r.random() < 0.3: return r.choice([True, 2.5, -1, 0, 3, 0.0, 7])
    return r.choice([2, 3, -1, 1]) if not dtype.is_floating_point else r.choice([2.5, -0.5, 1.0, 2])


def binary(r):
    name, _ = r.choice(TWO)
    name = r.choice([name, name, "add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "true_divide"])
    s, extreme = shape(r), r.random() < 0.5
    other = s if r.random() < 0.5 else tuple(1 if r.random() < 0.4 else n for n in s)[r.randint(0, len(s)):]
    dtype = r.choice(EVERY)
    a = numbers(r, s, dtype, extreme)
    if r.random() < 0.25:
        x = number(r, dtype)
        return Draw(f"{name}(·, {x})", lambda m, a: function(m, name)(a, x), (laid(r, settled(name, a, x)[0], True),), "zeros", 0.05)
    b = numbers(r, other, dtype if r.random() < 0.6 else r.choice(EVERY), extreme and not (name == "pow" and not dtype.is_floating_point))
    text, f = variant(r, name, dtype)
    a, b = settled(name, *((a, b) if text[-1] == "_" or r.random() < 0.6 else (b, a)))
    return Draw(text, f, (laid(r, a, "_" not in text), laid(r, b, True)), "zeros", 0.05)


def settled(name, a, b):
    """Operands for which PyTorch's answer doesn't depend on where in a vector an element stands."""
    t = torch.result_type(a, b)
    if t in TIED.get(name, ()) and isinstance(b, torch.Tensor): a, b = (x + 0.0 if x.is_floating_point() else x for x in (a, b))        # zeros of one sign
    if name in ("remainder", "fmod") and t.is_floating_point:          # differs: of a quotient out of range, its vectors give NaN and its loops the remainder
        q = a.double() / torch.as_tensor(b).double()
        beyond = (q.abs() > torch.finfo(torch.float64 if t is torch.float64 else torch.float32).max) & a.isfinite() & (torch.as_tensor(b) != 0)
        a = a.masked_fill(beyond.sum_to_size(a.shape) > 0, 1)
    return a, b


REDUCTIONS = ("sum prod mean amax amin any all argmax argmin max min var std nansum nanmean logsumexp count_nonzero median nanmedian aminmax norm linalg.vector_norm "
              "var_mean std_mean cumsum cumprod cummax cummin logcumsumexp softmax log_softmax").split()


def reduction(r):
    name, s = r.choice(REDUCTIONS), shape(r)
    scan = name.startswith(("cum", "logcum", "softmax", "log_softmax"))
    t = numbers(r, s, r.choice(EVERY), False, r.choice([1, 0.5]) if name != "prod" else 1)
    if t.dtype.is_floating_point and t.numel() and r.random() < 0.3:
        for x in r.sample([math.nan, math.inf, -math.inf, 0.0, -0.0], r.randint(1, 3)): t.view(-1)[r.randrange(t.numel())] = x
        if name in ("var_mean", "std_mean"): t[t.isinf()] = math.nan           # differs: PyTorch's running mean is infinite if the infinity comes last, else NaN
    kw = {}
    if scan: kw["dim"] = axis(r, t)
    elif r.random() < 0.7:
        several = name in ("sum", "mean", "amax", "amin", "var", "std", "nansum", "nanmean", "logsumexp", "linalg.vector_norm", "norm", "any", "all")
        kw["dim"] = tuple(sorted(r.sample(range(t.dim()), r.randint(1, t.dim())))) if several and t.dim() and r.random() < 0.4 else axis(r, t)
        if name != "count_nonzero" and r.random() < 0.5: kw["keepdim"] = True
    if name in ("var", "std") and r.random() < 0.4: kw["correction"] = r.choice([0, 1, 2])
    if "vector_norm" in name: kw["ord"] = r.choice([2, 1, 0, math.inf, -math.inf, 3])
    if name in ("sum", "prod", "mean", "cumsum") and r.random() < 0.2: kw["dtype"] = torch.float64
    return Draw(f"{name} {kw}", lambda m, x: function(m, name)(x, **made(kw, m)), (laid(r, t, True),), "", 1.0)


def indexing(r):
    t = numbers(r, shape(r, 4, 1), r.choice(EVERY), r.random() < 0.2)
    d = r.randrange(t.dim())
    n = t.shape[d]
    dtype = torch.int64 if r.random() < 0.8 else torch.int32
    i = index(r, (r.choice([0, 1, 3, 8]) if n else 0,), n)
    full = [r.randint(0 if not k else 1, k) if j != d else r.choice([1, 2, 5]) * bool(n) for j, k in enumerate(t.shape)]
    places = index(r, full, n)
    values = numbers(r, full, t.dtype)
    x = laid(r, t, True)
    once = torch.randperm(n, generator=torch.Generator().manual_seed(r.randrange(1 << 40)))[:r.randint(0, n)]
    rows = numbers(r, [*t.shape[:d], len(once), *t.shape[d + 1:]], t.dtype)
    some = [
        ("index_select", lambda m, x, i: m.index_select(x, d, i), (i.to(dtype),)),
        ("gather", lambda m, x, i: m.gather(x, d, i), (places,)),
        ("take", lambda m, x, i: m.take(x, i), (index(r, shape(r, 2) if t.numel() else (0,), t.numel()),)),
        ("x[i]", lambda m, x, i: x[(slice(None),) * d + (i,)], (i.to(dtype),)),
        ("x[mask]", lambda m, x, k: x[k], (numbers(r, t.shape[:r.randint(1, t.dim())], torch.bool),)),
        ("x[..., None, ::k]", lambda m, x: x[..., None, ::2], ()),
        ("masked_select", lambda m, x, k: m.masked_select(x, k), (numbers(r, t.shape, torch.bool),)),
        ("masked_fill", lambda m, x, k: x.masked_fill(k, 1), (numbers(r, t.shape, torch.bool),)),
        ("where", lambda m, x, k, y: m.where(k, x, y), (numbers(r, t.shape, torch.bool), numbers(r, t.shape, r.choice(EVERY)))),
        ("scatter_add", lambda m, x, i, v: x.scatter_add(d, i, v), (places, values)),
        ("scatter_reduce", lambda m, x, i, v, how=r.choice(["sum", "prod", "amax", "amin", "mean"]): x.scatter_reduce(d, i, v, how, include_self=bool(n % 2)), (places, values)),
        ("index_add", lambda m, x, i, v: x.index_add(d, i, v, alpha=2), (once, rows)),
        ("index_copy", lambda m, x, i, v: x.index_copy(d, i, v), (once, rows)),
        ("index_fill", lambda m, x, i: x.index_fill(d, i, 1), (once,)),
        ("index_put", lambda m, x, i, v: x.clone().index_put_((slice(None),) * 0 + (i,), v, accumulate=True), (index(r, (3 * bool(t.shape[0]),), t.shape[0]), numbers(r, (3 * bool(t.shape[0]), *t.shape[1:]), t.dtype))),
        ("x[i] = v", lambda m, x, i, v: assigned(x, (slice(None),) * d + (i,), v), (once, rows)),
        ("x[mask] = 1", lambda m, x, k: assigned(x, k, 1), (numbers(r, t.shape, torch.bool),)),
        ("nonzero", lambda m, x: m.nonzero(x), ()),
        ("embedding", lambda m, w, i: m.nn.functional.embedding(i, w), (index(r, shape(r, 2) if t.shape[0] else (0,), t.shape[0]),)),
        ("roll", lambda m, x, k=r.randint(-5, 5): m.roll(x, k, d), ()),
        ("flip", lambda m, x: m.flip(x, (d,)), ()),
        ("tril", lambda m, x, k=r.randint(-3, 3): m.tril(x, k), ()),
        ("triu", lambda m, x, k=r.randint(-3, 3): m.triu(x, k), ()),
        ("diagonal", lambda m, x, k=r.randint(-2, 2): m.diagonal(x, k), ()),
        ("repeat_interleave", lambda m, x: m.repeat_interleave(x, 2, d), ()),
        ("unfold", lambda m, x: x.unfold(d, min(2, n), 1), ()),
    ]
    name, f, more = r.choice(some)
    if name == "embedding" and t.dim() != 2: x = laid(r, numbers(r, (t.shape[0], 5), t.dtype))
    return Draw(f"{name} dim {d}", f, (x, *(laid(r, u) for u in more)), "zeros", 0.2)


def assigned(x, at, value):
    x = x.clone()
    x[at] = value
    return x


def matmul(r):
    dtype = r.choice((*EVERY, torch.float32, torch.float32, torch.float64))
    if dtype is torch.bool: dtype = torch.float32
    m, k, n = (r.choice([0, 1, 1, 2, 3, 5, 8, 17, 33, 64, 100, 130]) for _ in range(3))
    b = r.choice([(), (), (1,), (2,), (3,), (2, 3)])
    t = lambda *s: numbers(r, s, dtype, False, 1)
    some = [
        ("mm", lambda m, a, b: m.mm(a, b), (t(m, k), t(k, n))),
        ("mv", lambda m, a, b: m.mv(a, b), (t(m, k), t(k))),
        ("dot", lambda m, a, b: m.dot(a, b), (t(k), t(k))),
        ("outer", lambda m, a, b: m.outer(a, b), (t(m), t(n))),
        ("bmm", lambda m, a, b: m.bmm(a, b), (t(3, m, k), t(3, k, n))),
        ("matmul", lambda m, a, b: m.matmul(a, b), (t(*b, m, k), t(*b[r.randint(0, len(b)):], k, n))),
        ("matmul", lambda m, a, b: m.matmul(a, b), (t(k), t(*b, k, n))),
        ("matmul", lambda m, a, b: m.matmul(a, b), (t(*b, m, k), t(k))),
        ("linear", lambda m, x, w, c: m.nn.functional.linear(x, w, c), (t(*b, m, k), t(n, k), t(n))),
        ("addmm", lambda m, c, a, b: m.addmm(c, a, b, beta=2, alpha=3), (t(n), t(m, k), t(k, n))),
        ("baddbmm", lambda m, c, a, b: m.baddbmm(c, a, b), (t(2, m, n), t(2, m, k), t(2, k, n))),
        ("einsum", lambda m, a, b: m.einsum("ij,kj->ik", a, b), (t(m, k), t(n, k))),
        ("tensordot", lambda m, a, b: m.tensordot(a, b, 1), (t(2, m, k), t(k, n))),
    ]
    name, f, xs = r.choice(some)
    return Draw(f"{name} {m}·{k}·{n}", f, tuple(laid(r, x, True) for x in xs), "", 3.0)


def convolution(r):
    axes = r.choice([1, 2, 2, 2, 3])
    dtype = r.choice((*FLOATS, torch.float32, torch.float64))
    groups, transposed = r.choice([1, 1, 1, 2, 4]), r.random() < 0.3
    c, o = groups * r.choice([1, 2, 3, 8]), groups * r.choice([1, 2, 4, 16])
    kernel = [r.choice([1, 2, 3, 3, 5]) for _ in range(axes)]
    kw = {"stride": [r.choice([1, 1, 2, 3]) for _ in kernel], "dilation": [r.choice([1, 1, 1, 2]) for _ in kernel], "groups": groups}
    kw["padding"] = [r.choice([0, 0, 1, 2]) for _ in kernel]
    if not transposed and r.random() < 0.1: kw |= {"padding": "same", "stride": [1] * axes}
    size = [r.choice([1, 3, 7, 9, 12, 16] if axes < 3 else [1, 3, 5, 6]) for _ in kernel]
    x = numbers(r, (r.choice([1, 2, 3]), c, *size)[r.random() < 0.1:], dtype, False, 1)
    w = numbers(r, (c, o // groups, *kernel) if transposed else (o, c // groups, *kernel), dtype, False, 1)
    name = f"conv{'_transpose' if transposed else ''}{axes}d"
    bias = [laid(r, numbers(r, (o,), dtype))] if r.random() < 0.5 else []
    return Draw(f"{name} {kw}", lambda m, x, w, *b: getattr(m.nn.functional, name)(x, w, *b, **kw), (laid(r, x, True), laid(r, w), *bias), "", 4.0)


def normalization(r):
    dtype = r.choice(FLOATS)
    x = numbers(r, (r.choice([1, 2, 5]), r.choice([2, 4, 6]), *shape(r, 2)), dtype, False, 1)
    c, last = x.shape[1], tuple(x.shape[-r.randint(1, x.dim() - 1):])
    t = lambda *s: numbers(r, s, dtype, False, 1)
    some = [
        ("layer_norm", lambda m, x, w, b: m.nn.functional.layer_norm(x, last, w, b), (t(*last), t(*last))),
        ("rms_norm", lambda m, x, w: m.nn.functional.rms_norm(x, last, w), (t(*last),)),
        ("batch_norm", lambda m, x, w, b: m.nn.functional.batch_norm(x, None, None, w, b, training=True), (t(c), t(c))),
        ("batch_norm eval", lambda m, x, u, v, w, b: m.nn.functional.batch_norm(x, u, v, w, b), (t(c), t(c).abs() + 1, t(c), t(c))),
        ("group_norm", lambda m, x, w, b: m.nn.functional.group_norm(x, 2, w, b), (t(c), t(c))),
        ("instance_norm", lambda m, x: m.nn.functional.instance_norm(x), ()),
        ("normalize", lambda m, x: m.nn.functional.normalize(x, dim=1), ()),
        ("local_response_norm", lambda m, x: m.nn.functional.local_response_norm(x, 2), ()),
    ]
    name, f, more = r.choice(some)
    return Draw(name, f, (laid(r, x, name not in ("batch_norm",)), *(laid(r, u) for u in more)), "", 3.0)


def pooling(r):
    axes = r.choice([1, 2, 2, 3])
    x = numbers(r, (r.choice([1, 2]), r.choice([1, 3, 8]), *(r.choice([1, 4, 7, 12]) for _ in range(axes)))[r.random() < 0.15:], r.choice(FLOATS), r.random() < 0.1)
    k = [r.choice([1, 2, 3]) for _ in range(axes)]
    kw = {"stride": [r.choice([1, 2, 3]) for _ in k], "padding": [r.randint(0, j // 2) for j in k], "ceil_mode": r.random() < 0.3}
    size = [r.choice([1, 2, 3, 5]) for _ in k]
    some = [
        (f"max_pool{axes}d", lambda f, x: f(x, k, **kw, return_indices=True)), (f"avg_pool{axes}d", lambda f, x: f(x, k, **kw, count_include_pad=k[0] > 1)),
        (f"adaptive_avg_pool{axes}d", lambda f, x: f(x, size)), (f"adaptive_max_pool{axes}d", lambda f, x: f(x, size)), (f"lp_pool{axes}d", lambda f, x: f(x, 2, k if axes > 1 else k[0])),
        ("interpolate", lambda f, x: f(x, scale_factor=2)),
    ]
    name, f = r.choice(some)
    return Draw(f"{name} {k} {kw} {size}", lambda m, x: f(getattr(m.nn.functional, name), x), (laid(r, x, True),), "", 1.0)


def sorting(r):
    t = numbers(r, shape(r, 3), r.choice((*REAL, torch.bool)), r.random() < 0.4)
    d, down = axis(r, t), r.random() < 0.5
    n = t.shape[d] if t.dim() else 1
    k = r.randint(0, n)
    some = [
        ("sort", lambda m, x: m.sort(x, d, down)), ("sort stable", lambda m, x: m.sort(x, stable=True, dim=d, descending=down)),
        ("argsort stable", lambda m, x: m.argsort(x, dim=d, descending=down, stable=True)), ("topk", lambda m, x: m.topk(x, k, d, down)),
        ("kthvalue", lambda m, x: m.kthvalue(x, max(k, 1), d)), ("unique", lambda m, x: m.unique(x, return_inverse=True, return_counts=True)),
        ("mode", lambda m, x: m.mode(x, d)), ("msort", lambda m, x: m.msort(x)), ("median", lambda m, x: m.median(x, d)),
        ("quantile", lambda m, x: m.quantile(x.float(), 0.3, d)),
        ("searchsorted", lambda m, x: m.searchsorted(m.sort(x.reshape(-1))[0], x.reshape(-1))), ("unique_consecutive", lambda m, x: m.unique_consecutive(x)),
    ]
    name, f = r.choice(some)
    if name in ("unique", "unique_consecutive", "mode", "searchsorted"): t = torch.nan_to_num(t)
    return Draw(f"{name} dim {d} k {k} {down}", f, (laid(r, t, True),), "" if name == "unique" else "zeros")         # differs: which of 0.0 and -0.0 unique shows for both


def joining(r):
    s, dtype = shape(r, 3, 1), r.choice(EVERY)
    d = r.randrange(len(s))
    kinds = [dtype if r.random() < 0.8 else r.choice(EVERY) for _ in range(r.randint(1, 4))]
    free = [numbers(r, tuple(r.choice([0, 1, 2, 5]) if j == d else n for j, n in enumerate(s)), k) for k in kinds]
    alike = [numbers(r, s, k) for k in kinds]
    some = [("cat", lambda m, *xs: m.cat(xs, d), free), ("stack", lambda m, *xs: m.stack(xs, d), alike), ("hstack", lambda m, *xs: m.hstack(xs), alike),
            ("vstack", lambda m, *xs: m.vstack(xs), alike), ("broadcast + stack", lambda m, *xs: m.stack(m.broadcast_tensors(*xs)), alike)]
    name, f, xs = r.choice(some)
    return Draw(f"{name} {d}", f, tuple(laid(r, x, True) for x in xs), "zeros")


def conversion(r):
    t, to = numbers(r, shape(r), r.choice(EVERY)), r.choice(EVERY)
    return Draw(f"to {to}", lambda m, x: x.to(made(to, m)), (laid(r, t, True),), "zeros")


def losses(r):
    s, dtype = shape(r, 3), r.choice(FLOATS)
    how = r.choice(["mean", "sum", "none"])
    a, b = numbers(r, s, dtype, False, 1), numbers(r, s, dtype, False, 1)
    n, c = r.choice([0, 1, 4, 9]), r.choice([1, 3, 10])
    x, y = numbers(r, (n, c), dtype, False, 1), index(r, (n,), c)
    some = [
        *((name, lambda m, a, b, name=name: getattr(m.nn.functional, name)(a, b, reduction=how), (a, b)) for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss")),
        ("binary_cross_entropy_with_logits", lambda m, a, b: m.nn.functional.binary_cross_entropy_with_logits(a, b, reduction=how), (a, torch.sigmoid(b))),
        ("kl_div", lambda m, a, b: m.nn.functional.kl_div(a, b, reduction=how), (a, torch.sigmoid(b))),
        ("cross_entropy", lambda m, x, y: m.nn.functional.cross_entropy(x, y, reduction=how, label_smoothing=0.1 * (c > 3)), (x, y)),
        ("nll_loss", lambda m, x, y: m.nn.functional.nll_loss(x, y, reduction=how), (x, y)),
        ("cosine_similarity", lambda m, a, b: m.nn.functional.cosine_similarity(a, b, -1), (a, b)),
    ]
    name, f, xs = r.choice(some)
    absolute = 30.0 if dtype in HALVES and name in ("nll_loss", "cross_entropy") else 3.0          # differs: PyTorch adds these up in the half type
    return Draw(f"{name} {how}", f, tuple(laid(r, x, True) for x in xs), "", absolute)


FREE = {unary: 6, binary: 8, reduction: 6, indexing: 6, matmul: 4, convolution: 3, normalization: 2, pooling: 2, sorting: 3, joining: 2, conversion: 1, losses: 2}


# ---------------------------------------------------------------- draws from PyTorch's samples
def sample(r, names) -> Draw | None:
    """An operation of PyTorch's database on one of its samples, lying another way. Operands that are given as floats get gradients, too."""
    name = r.choice(names)
    op = walk.INFOS[name]
    dtype = r.choice([t for t in EVERY if t in op.supported_dtypes("cpu")] or sorted(op.supported_dtypes("cpu"), key=str))
    if dtype in NOT_DRAWN.get(op.name, ((), ""))[0]: return None
    graded = op.supports_autograd and dtype in (torch.float32, torch.float64) and r.random() < 0.5
    torch.manual_seed(r.randrange(1 << 30))
    found = list(itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=graded), r.choice([3, 10, 30])))
    if not found: return None
    s = r.choice(found)
    xs = relaid(r, [s.input, list(s.args), s.kwargs])
    f = walk.twin(op.op, op.name)
    values = "none" if op.name in walk.UNDEFINED else ""
    def call(m, x, args, kw): return (op.op if m is torch else f)(x, *args, **kw)
    return Draw(f"{name} {str(dtype)[6:]}", call, tuple(xs), values, 5.0, True)


def draw(seed: int, names) -> Draw | None:
    r = random.Random(seed)
    if r.random() < 0.4: return sample(r, names)
    d = r.choices(list(FREE), list(FREE.values()))[0](r)
    return d._replace(operands=tuple(map(graded, d.operands))) if r.random() < 0.3 and not re.search(POLES, d.text) else d


def graded(x: Laid) -> Laid: return x._replace(grad=x.store.dtype.is_floating_point or x.store.dtype.is_complex)
