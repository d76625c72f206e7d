"""PyTorch's functions that are more than one row's name: signatures, axes, dtype arguments, several results.

Everything here is written with rows and views; nothing touches memory.
"""
from __future__ import annotations

import math
from operator import index

from ..core import dtype as dt
from ..core.op import dtype_of
from ..core.shape import broadcast, exactly, normalize_dim, restride, whole
from ..core.state import state
from ..dnn import contract as ct
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from ..dnn import movement as mv
from ..dnn import recipes as rc
from ..dnn import reduce as rd
from ..graph.line import LOCAL, Node, new, record
from . import views
from .bind import NUMBERS, apply, binary, check_divisor, check_numbers, element_type, held, widened, number, operand
from .growing import joined
from .layouts import OTHERS, elsewhere
from .tensor import Tensor, owned, read, wrap
from .views import shape_of


# ---------------------------------------------------------------- arithmetic with PyTorch's extra arguments
_add, _sub = binary(ew.add), binary(ew.sub)
_radd, _rsub = binary(ew.add, reflected=True, operator=True), binary(ew.sub, reflected=True, operator=True)


def add(input, other, *, alpha=1):
    if alpha == 1 and alpha is not True: return _add(input, other)
    if input.__class__ in OTHERS or other.__class__ in OTHERS: return elsewhere("add", input, other, alpha=alpha)
    return scaled(operand(input, "add"), operand(other, "add"), alpha)


def sub(input, other, *, alpha=1):
    if alpha == 1 and alpha is not True: return _sub(input, other)
    if input.__class__ in OTHERS or other.__class__ in OTHERS: return elsewhere("sub", input, other, alpha=alpha)
    return scaled(operand(input, "sub"), operand(other, "sub"), -alpha)


def scaled(x, y, alpha) -> Tensor:
    """x + alpha·y; alpha must be a number of the result's type."""
    n = record(ew.add_scaled, (x, y, alpha))
    held(alpha, n.line.dtype)
    return owned(n)


def rsub(input, other, *, alpha=1):
    if not isinstance(input, Tensor): raise TypeError(f"rsub(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if alpha == 1 and alpha is not True and not isinstance(other, Tensor): return _rsub(input, other)
    return sub(as_tensor(other, input), input, alpha=alpha)


def div(input, other, *, rounding_mode=None):
    if rounding_mode is None: return _div(input, other)
    if rounding_mode == "floor" or rounding_mode == "trunc":
        check_divisor(input, other)
        if rounding_mode == "trunc" and isinstance(other, Tensor) and isinstance(input, Tensor): return ew.truncated(input, other)
        return owned(record(ew.floor_divide if rounding_mode == "floor" else ew.trunc_divide, (operand(input, "div"), operand(other, "div"))))
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


_div = binary(ew.div)


def as_tensor(x, like: Tensor) -> Tensor:
    """A number as a 0-d tensor that promotes like the number."""
    return x if isinstance(x, Tensor) else apply(mv.full, attr=((), dt.result_type([dt.SCALAR_CATEGORY[type(x)]], state.default_dtype), x))


def addcmul(input, tensor1, tensor2, *, value=1):
    return owned(record(ew.addcmul, (read(input), operand(tensor1, "addcmul"), operand(tensor2, "addcmul"), value)))


def addcdiv(input, tensor1, tensor2, *, value=1):
    return owned(record(ew.addcdiv, (read(input), operand(tensor1, "addcdiv"), operand(tensor2, "addcdiv"), value)))


def lerp(input, end, weight):
    return owned(record(fns.lerp if isinstance(weight, Tensor) else fns.lerp_number, (read(input), read(end), operand(weight, "lerp"))))


def pow(input, exponent):
    if exponent.__class__ in NUMBERS and isinstance(input, Tensor) and input.dtype.category >= dt.FLOAT and (exponent in _CONSTANT or not exponent and input.dtype.is_complex):
        return owned(record(rc.power, (widened(read(input)),), exponent))
    x, y = read(input) if isinstance(input, Tensor) else number(input), read(exponent) if isinstance(exponent, Tensor) else number(exponent)
    check_numbers("pow", input, exponent, x, y)
    if y.__class__ is int and y < 0 and x.__class__ is Node and x.line.dtype.category < dt.FLOAT:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if y.__class__ is int and x.__class__ is Node and x.line.dtype.category == dt.INT: held(y, x.line.dtype)
    return owned(record(fns.pow_, (widened(x), widened(y))))


_CONSTANT = frozenset((2, 3, 0.5, -0.5, -1, -2))                # exponents with a shortcut are part of the program, others are run-time numbers


def where(condition, input, other):
    if condition.dtype is not dt.bool:
        if condition.dtype is not dt.uint8: raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype " + ew.TITLES[condition.dtype.name])
        condition = to(condition, dt.bool)
    x, y = operand(input, "where"), operand(other, "where")
    for number_, tensor in ((x, y), (y, x)):
        if tensor.__class__ is Node and number_.__class__ is int: held(number_, tensor.line.dtype)
    out = owned(record(ew.where, (read(condition), x, y)))
    half = out.dtype is dt.complex64 and dt.result_type([dtype_of(n.line if n.__class__ is Node else n.__class__) for n in (x, y)], state.default_dtype) is dt.complex32
    return to(out, dt.complex32) if half else out


def where_method(self, condition, other): return where(condition, self, other)


def masked_fill(input, mask, value):
    if mask.dtype is not dt.bool: raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype!r}")
    if isinstance(value, Tensor):
        if shape_of(value): raise RuntimeError(f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(shape_of(value))} dimension(s).")
        if value.dtype.category > input.dtype.category: raise RuntimeError(f"result type {ew.TITLES[value.dtype.name]} can't be cast to the desired output type {ew.TITLES[input.dtype.name]}")
    elif (v := number(value)) is not None: held(v, input.dtype)
    return owned(record(ew.masked_fill, (read(input), read(mask), operand(value, "masked_fill"))))


def clamp(input, min=None, max=None):
    if min is None and max is None: raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    for bound in (min, max):
        if bound.__class__ is int or bound.__class__ is float and input.dtype.category >= dt.FLOAT: held(bound, input.dtype)
    if max is None: return owned(record(ew.clamp_min, (read(input), operand(min, "clamp"))))
    if min is None: return owned(record(ew.clamp_max, (read(input), operand(max, "clamp"))))
    return owned(record(ew.clamp, (read(input), operand(min, "clamp"), operand(max, "clamp"))))


# ---------------------------------------------------------------- dtype
def to(t: Tensor, dtype: dt.dtype, copy=False) -> Tensor:
    n = read(t)
    if n.line.dtype is dtype: return views.clone(t) if copy else t
    return owned(record(mv.cast, (n,), dtype))


# ---------------------------------------------------------------- reductions
def axes_of(dim, ndim) -> tuple:
    """Reduced axes, sorted; None and () mean all."""
    if dim is None: return tuple(range(ndim))
    try: dims = tuple(normalize_dim(index(d), ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    except TypeError: raise TypeError(f"argument 'dim' must be int or tuple of ints, not {type(dim).__name__}") from None
    if not dims: return tuple(range(ndim))
    if len(set(dims)) != len(dims): raise RuntimeError(f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims")
    return tuple(sorted(dims)) if ndim else ()


def drop(n: Node, axes, keepdim) -> Tensor:
    """The reduced value without its axes of length 1."""
    if keepdim or not axes: return owned(n)
    shape = tuple([k for i, k in enumerate(n.line.shape) if i not in axes])
    return owned(record(mv.view, (n,), whole(shape)))


def reduce(op, input, dim=None, keepdim=False, dtype=None):
    x = operand(input, op.name)
    if dtype is not None and x.line.dtype is not dtype: x = record(mv.cast, (x,), dtype)
    axes = axes_of(dim, len(x.line.shape))
    n = record(op, (x,), axes)
    if dtype is not None and n.line.dtype is not dtype: n = record(mv.cast, (n,), dtype)        # small integers are summed as int64
    return drop(n, axes, keepdim)


def sum(input, dim=None, keepdim=False, *, dtype=None): return reduce(rd.sum_, input, dim, keepdim, element_type(dtype))


def prod(input, dim=None, keepdim=False, *, dtype=None): return reduce(rd.prod, input, dim, keepdim, element_type(dtype))


def mean(input, dim=None, keepdim=False, *, dtype=None):
    x = operand(input, "mean")
    if dtype is not None and x.line.dtype is not dtype: x = record(mv.cast, (x,), dtype)
    if x.line.dtype.category < dt.FLOAT:
        raise RuntimeError(f"mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: {ew.TITLES[x.line.dtype.name]}")
    shape = x.line.shape
    axes = axes_of(dim, len(shape))
    count = math.prod([shape[d] for d in axes])
    return drop(record(ew.div_count, (record(rd.sum_, (x,), axes), count)), axes, keepdim)


def extreme(op):
    def f(input, dim=(), keepdim=False):
        if dim == () and isinstance(input, Tensor) and 0 in shape_of(input):
            raise RuntimeError(f"{op.name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.")
        return reduce(op, input, dim, keepdim)
    f.__name__ = op.name
    return f


amax, amin = extreme(rd.amax), extreme(rd.amin)


def any(input, dim=None, keepdim=False): return reduce(rd.any_, input, dim, keepdim)
def all(input, dim=None, keepdim=False): return reduce(rd.all_, input, dim, keepdim)


def arg(op):
    def f(input, dim=None, keepdim=False):
        if dim is None:
            r = reduce(op, views.reshape(input, (-1,)), 0, False)
            return views.reshape(r, (1,) * len(shape_of(input))) if keepdim else r
        return reduce(op, input, dim, keepdim)
    f.__name__ = op.name
    return f


argmax, argmin = arg(rd.argmax), arg(rd.argmin)


# ---------------------------------------------------------------- matrix products
def matmul(input, other):
    try: x, y = input.node or read(input), other.node or read(other)
    except AttributeError:
        if input.__class__ in OTHERS or other.__class__ in OTHERS: return elsewhere("matmul", input, other)
        name, bad = ("input' (position 1)", input) if not isinstance(input, Tensor) else ("other' (position 2)", other)
        raise TypeError(f"matmul(): argument '{name} must be Tensor, not {type(bad).__name__}") from None
    run = LOCAL.run
    e = run.cur.next
    if e.op is ct.matmul and run.nodes[e.i] is x and run.nodes[e.j] is y:
        n = new(Node)
        n.line = e; n.buf = n.past = None
        run.nodes.append(n)
        run.cur = e
        t = new(Tensor)
        t.node = n; t.alias = None
        return t
    a, b = x.line.shape, y.line.shape
    if not a or not b: raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D")
    if len(a) == 1 and len(b) == 1:
        if a != b: raise RuntimeError(f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of elements, but got {a[0]} and {b[0]} elements respectively")
        return drop(read(matmul(views.reshape(input, (1, -1)), views.reshape(other, (-1, 1)))), (0, 1), False)
    if len(a) == 1: return drop(read(matmul(views.unsqueeze(input, 0), other)), (max(len(b) - 2, 0),), False)
    if len(b) == 1: return drop(read(matmul(input, views.unsqueeze(other, 1))), (len(a) - 1,), False)
    return owned(record(ct.matmul, (x, y)))


# ---------------------------------------------------------------- joining
def sequence(name, tensors) -> list:
    if isinstance(tensors, Tensor): raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    tensors = list(tensors)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor): raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(t).__name__}")
    return tensors


def cat(tensors, dim=0):
    tensors = sequence("cat", tensors)
    if not tensors: raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    nodes = [read(t) for t in tensors]
    skip = [n for n in nodes if n.line.shape != (0,)]
    nodes = skip or nodes[:1]
    first = nodes[0].line.shape
    if not first: raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    d = normalize_dim(dim, len(first))
    for i, n in enumerate(nodes):
        s = n.line.shape
        if len(s) != len(first): raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(s)}")
        for k in range(len(first)):
            if k != d and s[k] != first[k]:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected size {first[k]} but got size {s[k]} for tensor number {i} in the list.")
    longer = joined(nodes, d)
    if longer is not None: return wrap(longer)
    kind = dt.result_type([(t.dtype, t.ndim) for t in tensors], state.default_dtype)
    nodes = [n if n.line.dtype is kind else record(mv.cast, (n,), kind) for n in nodes]
    return owned(record(mv.cat, nodes, d))


def stack(tensors, dim=0):
    tensors = sequence("stack", tensors)
    if not tensors: raise RuntimeError("stack expects a non-empty TensorList")
    shape = shape_of(tensors[0])
    for i, t in enumerate(tensors):
        if shape_of(t) != shape: raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(shape_of(t))} at entry {i}")
    d = normalize_dim(dim, len(shape) + 1)
    r = cat([views.unsqueeze(t, d) for t in tensors], d)
    if d == len(shape) or {None} == {read(t).line.memory for t in tensors}: return r
    joined = shape[:d] + (shape[d] * len(tensors),) + shape[d + 1:]        # PyTorch joins along the present axis d and splits it: formats stay what they are
    strides = mv.cat.layout(d, joined, *[read(t).line for t in tensors])
    r = read(r)
    return owned(views.lay(r, strides and exactly(r.line.shape, restride(joined, strides, r.line.shape))))


# ---------------------------------------------------------------- broadcasting
def broadcast_tensors(*tensors):
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)): tensors = tensors[0]
    shape = broadcast(*(shape_of(t) for t in tensors))
    return [views.expand(t, shape) for t in tensors]
