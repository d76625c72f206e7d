"""`out=`: functions of the namespace that can write their result into a tensor the caller gives.

Comes in: a function that returns new tensors. Goes out: the same function with the keyword `out`. Methods and operators have none, so they pay nothing.
"""
from __future__ import annotations

import math
import warnings

from ..core import dtype as dt
from ..core.shape import reach
from ..dnn.elementwise import TITLES
from ..graph.line import LOCAL
from . import views
from .bind import land
from .sharing import resize_
from .size import CPU, DEFAULT, pinned
from .tensor import Tensor, check_write, memory, read, root

MAKERS = frozenset(("arange", "range", "empty", "eye", "full", "linspace", "logspace", "ones", "zeros", "rand", "randn", "randint", "randperm"))
PLACED = MAKERS | {"normal", "tril_indices", "triu_indices", "fftfreq", "rfftfreq"}            # made on the default device
ACCUMULATORS = frozenset(("sum", "prod", "mean", "nansum", "nanmean", "cumsum", "cumprod"))          # compute in the type of `out`
POSITIONS = frozenset(("argmax", "argmin", "argsort", "multinomial", "nonzero", "count_nonzero"))     # `out` must be int64
EXACT = frozenset(("gather", "scatter", "scatter_add", "scatter_reduce", "take", "mm", "bmm", "matmul", "addmm", "baddbmm", "addmv", "tril", "triu", "softmax",
                   "log_softmax", "complex", "polar", "aminmax"))                                # `out` must have the result's type
APART = frozenset(("take", "gather", "masked_select", "cat", "concat", "concatenate", "index_select", "take_along_dim", "kthvalue"))       # `out` must not be read from


def with_out(f, name: str, arity: int | None = None):
    """f and `out=`. `arity` 1 or 2: f is a row on that many operands, which keeps the common call short."""
    if arity == 1:
        def call(input, *, out=None): return f(input) if out is None else written(f, name, (input,), {}, out)
    elif arity == 2:
        def call(input, other, *, out=None): return f(input, other) if out is None else written(f, name, (input, other), {}, out)
    elif name in PLACED or name.endswith("_like"):
        def call(*args, out=None, **kw):
            if out is not None: return written(f, name, args, kw, out)
            if DEFAULT.stack[-1] is not CPU and name in PLACED and kw.get("device") is None: kw["device"] = DEFAULT.stack[-1]
            t = pinned(f, args, kw) if kw and kw.get("pin_memory") else f(*args, **kw)
            if t.node is not None: t.node.line.free = False    # somebody asked for it on this device
            return t
    else:
        def call(*args, out=None, **kw): return f(*args, **kw) if out is None else written(f, name, args, kw, out)
    call.__name__ = call.__qualname__ = name
    call.__doc__ = f.__doc__
    return call


def tensors(x):
    """Every tensor of a call's arguments."""
    if isinstance(x, Tensor): yield x
    elif isinstance(x, (tuple, list)):
        for y in x: yield from tensors(y)


def written(f, name, args, kw, out):
    outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    for o in outs:
        if not isinstance(o, Tensor): raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(o).__name__}")
    if LOCAL.run.grad and any(read(t).line.grad for t in (*tensors(args), *tensors(list(kw.values())), *outs)):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments requires grad.")
    if name in MAKERS or name in ACCUMULATORS:
        kind = kw.get("dtype")
        if kind is None: kw = {**kw, "dtype": outs[0].dtype}
        elif kind is not outs[0].dtype: raise RuntimeError(f"dtype {kind!r} does not match dtype of out parameter ({outs[0].dtype!r})")
    if name in POSITIONS and outs[0].dtype is not dt.int64: raise RuntimeError(f"{name} expects Long tensor out, got: {TITLES[outs[0].dtype.name]}")
    for o in outs:
        for t in (*tensors(args), *tensors(list(kw.values()))): apart(o, t, name in APART)
    result = f(*args, **kw)
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(outs): raise TypeError(f"{name}(): argument 'out' must be {len(results)} tensor{'s' if len(results) > 1 else ''}, not {len(outs)}")
    for o, r in zip(outs, results):
        if name in EXACT and o.dtype is not r.dtype: raise RuntimeError(f"Expected out tensor to have dtype {r.dtype.name}, but got {o.dtype.name} instead")
        put(o, r)
    if not isinstance(result, tuple): return outs[0]
    return type(result)._make(outs) if hasattr(result, "_make") else outs


def apart(out: Tensor, t: Tensor, wholly: bool):
    """Refuse results that would be written over what is still read."""
    a, b = out.alias, t.alias
    if out is not t and (a is None or b is None or root(a.store) is not root(b.store) and root(b.store) not in (a.store.peers or ())): return
    mine, other = memory(out), memory(t)
    if mine == other and out.dtype is t.dtype and not wholly: return
    (low, high), (first, last) = [(lo * x.dtype.size, (hi + 1) * x.dtype.size - 1) for x, (lo, hi) in ((out, reach(mine)), (t, reach(other)))]
    if out is t or low <= last and first <= high and low <= high and first <= last:
        raise RuntimeError("unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. "
                           "Please clone() the tensor before performing the operation.")


def put(out: Tensor, result: Tensor):
    """Write a result, giving `out` the result's shape first."""
    shape = views.shape_of(result)
    if views.shape_of(out) != shape:
        if math.prod(views.shape_of(out)):
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(views.shape_of(out))}, which does not match the required output "
                          f"shape {list(shape)}. This behavior is deprecated, and in a future PyTorch release outputs will not be resized unless they have zero "
                          "elements. You can explicitly reuse an out tensor t by resizing it, inplace, to zero elements with t.resize_(0).", UserWarning, stacklevel=4)
        resize_(out, shape)
    check_write(out)
    land(out, read(result))
