"""The Python array API standard (2024.12) over forno's tensors: what `x.__array_namespace__()` answers.

Libraries written for the standard (SciPy, scikit-learn) find here the standard's names, argument names and rules where they differ from PyTorch's: positional
arrays, `axis` and `keepdims`, sums of integers in int64. The extensions are `linalg` and `fft`. https://data-apis.org/array-api/2024.12/

The standard's names hide Python's own in this file: those are reached as `py.any`.
"""
from __future__ import annotations

import builtins as py
import math
import sys
import types
from typing import NamedTuple

from . import fft as _fft
from . import linalg as _linalg
from .framework import api as _t
from .framework.api import bool, complex64, complex128, float32, float64, from_dlpack, int8, int16, int32, int64, newaxis, uint8, uint16, uint32, uint64  # noqa: F401
from .framework.tensor import Tensor

__array_api_version__ = "2024.12"
e, inf, nan, pi = math.e, math.inf, math.nan, math.pi

_KINDS = {"bool": (bool,), "signed integer": (int8, int16, int32, int64), "unsigned integer": (uint8, uint16, uint32, uint64),
          "real floating": (float32, float64), "complex floating": (complex64, complex128)}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"] + _KINDS["complex floating"]


def _named(call, name, doc):
    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    return call


# ---------------------------------------------------------------- elementwise
def _unary(f, name): return _named(lambda x, /: f(x), name, f"{name} of every element.")


def _binary(f, name):
    return _named(lambda x1, x2, /: f(*_arrays(x1, x2)), name, f"{name} of the elements of two arrays that broadcast together; one may be a Python number.")


def _arrays(x1, x2):
    """A Python number beside an array takes the array's type; two arrays of integers of both signs the type that holds both."""
    if not isinstance(x1, Tensor): return _beside(x1, x2), x2
    if not isinstance(x2, Tensor): return x1, _beside(x2, x1)
    return (x1, x2) if x1.dtype is x2.dtype else _promoted((x1, x2))


def _beside(number, x): return _t.asarray(number, dtype=result_type(x, number))


for _name in ("abs acos acosh asin asinh atan atanh ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log log1p log2 log10 logical_not positive real "
              "reciprocal round sign signbit sin sinh square sqrt tan tanh trunc bitwise_invert=bitwise_not negative=neg").split():
    _name, _, _source = _name.partition("=")
    globals()[_name] = _unary(getattr(_t, _source or _name), _name)
for _name in ("add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal=eq floor_divide greater greater_equal hypot "
              "less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder subtract").split():
    _name, _, _source = _name.partition("=")
    globals()[_name] = _binary(getattr(_t, _source or _name), _name)


def clip(x, /, min=None, max=None):
    """x with values below `min` and above `max` replaced by these."""
    if min is None and max is None: return _t.clone(x)
    low, high = (b if b is None else (b if isinstance(b, Tensor) else _t.asarray(b)).to(x.dtype) for b in (min, max))
    return _t.clamp(x, low, high)


# ---------------------------------------------------------------- types
def astype(x, dtype, /, *, copy=True, device=None):
    """x converted to a type; x itself when it has it and no copy is asked for."""
    if x.dtype.is_complex and dtype in _KINDS["real floating"] + _KINDS["integral"]: raise TypeError(f"astype: {x.dtype} to {dtype} loses the imaginary part; use real(x)")
    return x.to(dtype, copy=copy)


def result_type(*arrays_and_dtypes):
    """The type that values of these types promote to; a Python number only lifts the kind."""
    kinds = [x.dtype if isinstance(x, Tensor) else x for x in arrays_and_dtypes]
    numbers, fixed = [k for k in kinds if isinstance(k, (int, float, complex))], [k for k in kinds if not isinstance(k, (int, float, complex))]
    if not fixed: raise ValueError("result_type: at least one array or dtype is needed")
    out = fixed[0]
    for t in fixed[1:]: out = _promoted_type(out, t)
    for x in numbers:
        if isinstance(x, complex) and not out.is_complex: out = _t.promote_types(out, complex64)
        elif isinstance(x, float) and not (out.is_floating_point or out.is_complex): out = _t.get_default_dtype()
    return out


def _default_complex(): return complex128 if _t.get_default_dtype() is float64 else complex64


def _promoted_type(a, b):
    """Unsigned integers wider than a byte have no promotion in PyTorch: the standard's table."""
    integers, unsigned = _KINDS["integral"], _KINDS["unsigned integer"]
    if a is b or a not in integers or b not in integers: return _t.promote_types(a, b) if a is not b else a
    if (a in unsigned) == (b in unsigned): return a if a.itemsize >= b.itemsize else b
    u, s = (a, b) if a in unsigned else (b, a)
    if u is uint64: raise TypeError(f"no integer type holds both {a} and {b}")
    return s if s.itemsize > u.itemsize else {1: int16, 2: int32, 4: int64}[u.itemsize]


def can_cast(from_, to, /):
    """Can `from_` (an array or a type) become `to` by type promotion?"""
    return result_type(from_, to) is to


class FloatInfo(NamedTuple):
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: object


class IntegerInfo(NamedTuple):
    bits: int
    max: int
    min: int
    dtype: object


def _type_of(type): return type.dtype if isinstance(type, Tensor) else type


def finfo(type, /):
    """Limits of a floating type (of its parts, for a complex one)."""
    info = _t.finfo(_type_of(type))
    return FloatInfo(info.bits, info.eps, info.max, info.min, info.smallest_normal, getattr(_t, info.dtype))


def iinfo(type, /):
    """Limits of an integer type."""
    info = _t.iinfo(_type_of(type))
    return IntegerInfo(info.bits, info.max, info.min, _type_of(type))


def isdtype(dtype, kind):
    """Is a type of this kind: a name of the standard's, a type, or a tuple of those?"""
    if isinstance(kind, tuple): return py.any(isdtype(dtype, k) for k in kind)
    if not isinstance(kind, str): return dtype is kind
    if kind not in _KINDS: raise ValueError(f"isdtype: unknown kind {kind!r}; known are {', '.join(_KINDS)}")
    return dtype in _KINDS[kind]


# ---------------------------------------------------------------- creation
def asarray(obj, /, *, dtype=None, device=None, copy=None):
    """An array of numbers, nested lists, or whatever speaks DLPack or the buffer protocol."""
    return _t.asarray(obj, dtype=dtype, device=device, copy=copy)


def arange(start, /, stop=None, step=1, *, dtype=None, device=None):
    """start, start + step, … below stop."""
    if stop is None: start, stop = 0, start
    if dtype is None: dtype = int64 if py.all(isinstance(n, int) for n in (start, stop, step)) else _t.get_default_dtype()
    if (stop - start) * step <= 0: return _t.empty(0, dtype=dtype, device=device)
    return _t.arange(start, stop, step, dtype=dtype, device=device)


def empty(shape, *, dtype=None, device=None): return _t.empty(shape, dtype=dtype, device=device)
def zeros(shape, *, dtype=None, device=None): return _t.zeros(shape, dtype=dtype, device=device)
def ones(shape, *, dtype=None, device=None): return _t.ones(shape, dtype=dtype, device=device)
def full(shape, fill_value, *, dtype=None, device=None): return _t.full((shape,) if isinstance(shape, int) else tuple(shape), fill_value, dtype=dtype, device=device)
def empty_like(x, /, *, dtype=None, device=None): return _t.empty_like(x, dtype=dtype, device=device)
def zeros_like(x, /, *, dtype=None, device=None): return _t.zeros_like(x, dtype=dtype, device=device)
def ones_like(x, /, *, dtype=None, device=None): return _t.ones_like(x, dtype=dtype, device=device)
def full_like(x, /, fill_value, *, dtype=None, device=None): return _t.full_like(x, fill_value, dtype=dtype, device=device)
def tril(x, /, *, k=0): return _t.tril(x, k)
def triu(x, /, *, k=0): return _t.triu(x, k)
def meshgrid(*arrays, indexing="xy"): return list(_t.meshgrid(*arrays, indexing=indexing)) if arrays else []


def eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None):
    """Ones on the k-th diagonal of zeros."""
    n_cols = n_rows if n_cols is None else n_cols
    rows, columns = _t.arange(n_rows, device=device), _t.arange(n_cols, device=device)
    return (columns == rows[:, None] + k).to(dtype or _t.get_default_dtype())


def linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True):
    """`num` numbers from start to stop, which is the last one, or the next one with endpoint=False."""
    if dtype is None: dtype = _default_complex() if isinstance(start + stop, complex) else _t.get_default_dtype()
    if endpoint: return _t.linspace(start, stop, num, dtype=dtype, device=device)
    return _t.linspace(start, stop, num + 1, dtype=dtype, device=device)[:-1]


# ---------------------------------------------------------------- manipulation
def broadcast_to(x, /, shape): return _t.broadcast_to(x, tuple(shape))
def broadcast_arrays(*arrays): return list(_t.broadcast_tensors(*arrays))
def expand_dims(x, /, axis): return _t.unsqueeze(x, axis)
def moveaxis(x, source, destination, /): return _t.movedim(x, source, destination)
def permute_dims(x, /, axes): return _t.permute(x, tuple(axes))
def reshape(x, /, shape, *, copy=None): return _t.reshape(_t.clone(x) if copy else x, tuple(shape))
def stack(arrays, /, *, axis=0): return _t.stack(_promoted(arrays), axis)
def tile(x, repetitions, /): return _t.tile(x, tuple(repetitions))
def unstack(x, /, *, axis=0): return _t.unbind(x, axis)
def _promoted(arrays): return [x.to(result_type(*arrays)) for x in arrays]
def _axes(axis, x): return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
def concat(arrays, /, *, axis=0): return _t.cat([a.reshape(-1) for a in _promoted(arrays)] if axis is None else _promoted(arrays), 0 if axis is None else axis)
def flip(x, /, *, axis=None): return _t.flip(x, _axes(axis, x))
def roll(x, /, shift, *, axis=None): return _t.roll(x, shift, axis)
def repeat(x, repeats, /, *, axis=None): return _t.repeat_interleave(x, repeats if isinstance(repeats, int) or repeats.ndim and len(repeats) > 1 else int(repeats), axis)


def squeeze(x, /, axis):
    """x without axes of length 1."""
    for d in _axes(axis, x):
        if x.shape[d] != 1: raise ValueError(f"squeeze: axis {d} has length {x.shape[d]}, not 1")
    return _t.squeeze(x, _axes(axis, x))


# ---------------------------------------------------------------- indexing, searching, sorting
def take(x, indices, /, *, axis=None): return _t.index_select(x, 0 if axis is None else axis, indices)
def take_along_axis(x, indices, /, *, axis=-1): return _t.take_along_dim(x, indices, axis)
def argmax(x, /, *, axis=None, keepdims=False): return _position(_t.argmax, x, axis, keepdims)
def argmin(x, /, *, axis=None, keepdims=False): return _position(_t.argmin, x, axis, keepdims)
def count_nonzero(x, /, *, axis=None, keepdims=False): return sum(x != 0, axis=axis, keepdims=keepdims)
def searchsorted(x1, x2, /, *, side="left", sorter=None): return _t.searchsorted(x1, x2, side=side, sorter=sorter)
def argsort(x, /, *, axis=-1, descending=False, stable=True): return _t.argsort(x, axis, descending, stable=stable)
def sort(x, /, *, axis=-1, descending=False, stable=True): return _t.sort(x, dim=axis, descending=descending, stable=stable)[0]


def nonzero(x, /):
    """Positions of the elements that aren't zero, an array per axis."""
    if x.ndim == 0: raise ValueError("nonzero: an array without axes has no positions")
    return _t.nonzero(x, as_tuple=True)


def _position(f, x, axis, keepdims):
    if x.dtype is bool: x = x.to(uint8)
    if axis is not None or not keepdims: return f(x, axis, keepdims)
    return f(x).reshape((1,) * x.ndim)


def where(condition, x1, x2, /):
    """x1 where the condition holds, else x2."""
    if not (isinstance(x1, Tensor) or isinstance(x2, Tensor)): return _t.where(condition, x1, x2)
    x1, x2 = _arrays(x1, x2)
    return _t.where(condition, x1, x2)


# ---------------------------------------------------------------- sets
class UniqueAll(NamedTuple):
    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    values: Tensor
    inverse_indices: Tensor


def unique_all(x, /):
    """Distinct values, ascending, with where each is first seen, which of them every element is, and how often they occur."""
    values, inverse, counts = _t.unique(x, return_inverse=True, return_counts=True)
    flat = inverse.reshape(-1)
    first = _t.full(values.shape, flat.numel(), dtype=int64).scatter_reduce(0, flat, _t.arange(flat.numel()), "amin")
    return UniqueAll(values, first, inverse, counts)


def unique_counts(x, /): return UniqueCounts(*_t.unique(x, return_counts=True))
def unique_inverse(x, /): return UniqueInverse(*_t.unique(x, return_inverse=True))
def unique_values(x, /): return _t.unique(x)


# ---------------------------------------------------------------- sums and their kin
def _summed_type(x, dtype):
    """Integers add up in 64 bits."""
    if dtype is not None: return dtype
    if x.dtype in _KINDS["unsigned integer"]: return uint64
    return int64 if x.dtype in _KINDS["signed integer"] or x.dtype is bool else x.dtype


def _computed(wanted):
    """The type that sums and products for a wanted type are computed in: their bits don't know their sign."""
    return int64 if wanted is uint64 else wanted


def sum(x, /, *, axis=None, dtype=None, keepdims=False):
    """Sum over the axes (all by default)."""
    wanted = _summed_type(x, dtype)
    return _t.sum(x, _axes(axis, x), keepdims, dtype=_computed(wanted)).to(wanted) if _axes(axis, x) else x.to(wanted, copy=True)


def prod(x, /, *, axis=None, dtype=None, keepdims=False):
    """Product over the axes (all by default)."""
    wanted = _summed_type(x, dtype)
    out = x.to(_computed(wanted), copy=True)
    for d in sorted((d % x.ndim for d in _axes(axis, x)), reverse=True): out = _t.prod(out, d, keepdims)
    return out.to(wanted)


def mean(x, /, *, axis=None, keepdims=False): return _t.mean(x, _axes(axis, x), keepdims) if _axes(axis, x) else _t.clone(x)
def var(x, /, *, axis=None, correction=0.0, keepdims=False): return _t.var(x, _axes(axis, x), correction=correction, keepdim=keepdims) if _axes(axis, x) else x * 0
def std(x, /, *, axis=None, correction=0.0, keepdims=False): return _t.std(x, _axes(axis, x), correction=correction, keepdim=keepdims) if _axes(axis, x) else x * 0
def max(x, /, *, axis=None, keepdims=False): return _t.amax(x, _axes(axis, x), keepdims) if _axes(axis, x) else _t.clone(x)
def min(x, /, *, axis=None, keepdims=False): return _t.amin(x, _axes(axis, x), keepdims) if _axes(axis, x) else _t.clone(x)
def all(x, /, *, axis=None, keepdims=False): return _truth(_t.all, x, axis, keepdims)
def any(x, /, *, axis=None, keepdims=False): return _truth(_t.any, x, axis, keepdims)
def diff(x, /, *, axis=-1, n=1, prepend=None, append=None): return _t.diff(x, n, axis, prepend, append)
def _truth(f, x, axis, keepdims): return f((x != 0), _axes(axis, x), keepdims) if _axes(axis, x) else x != 0


def _cumulative(f, first):
    def call(x, /, *, axis=None, dtype=None, include_initial=False):
        if axis is None:
            if x.ndim > 1: raise ValueError("axis must be given for an array of more than one axis")
            axis = 0
        wanted = _summed_type(x, dtype)
        out = f(x.to(_computed(wanted)), axis).to(wanted)
        if not include_initial: return out
        shape = list(x.shape)
        shape[axis] = 1
        return _t.cat([_t.full(tuple(shape), first, dtype=out.dtype), out], axis)
    return call


cumulative_sum = _named(_cumulative(_t.cumsum, 0), "cumulative_sum", "Sums of the elements so far along an axis.")
cumulative_prod = _named(_cumulative(_t.cumprod, 1), "cumulative_prod", "Products of the elements so far along an axis.")


# ---------------------------------------------------------------- linear algebra
def matmul(x1, x2, /): return _t.matmul(*_promoted((x1, x2)))
def matrix_transpose(x, /): return x.mT
def tensordot(x1, x2, /, *, axes=2): return _t.tensordot(*_promoted((x1, x2)), axes)


def vecdot(x1, x2, /, *, axis=-1):
    """Σ conj(x1) · x2 along an axis; the others broadcast."""
    if x1.shape[axis] != x2.shape[axis]: raise ValueError(f"vecdot: the arrays have {x1.shape[axis]} and {x2.shape[axis]} elements along axis {axis}")
    x1, x2 = _promoted((x1, x2))
    return sum(_t.conj(x1) * x2, axis=axis, dtype=x1.dtype)


def _outer(x1, x2, /): return _t.outer(*_promoted((x1, x2)))
def _cross(x1, x2, /, *, axis=-1): return _linalg.cross(*_promoted((x1, x2)), dim=axis)
def _diagonal(x, /, *, offset=0): return _t.diagonal(x, offset, -2, -1)
def _trace(x, /, *, offset=0, dtype=None): return sum(_diagonal(x, offset=offset), axis=-1, dtype=dtype)
def _cholesky(x, /, *, upper=False): return _linalg.cholesky(x, upper=upper)
def _matrix_norm(x, /, *, keepdims=False, ord="fro"): return _linalg.matrix_norm(x, ord, (-2, -1), keepdims)
def _matrix_power(x, n, /): return _linalg.matrix_power(x, n)
def _matrix_rank(x, /, *, rtol=None): return _linalg.matrix_rank(x, rtol=rtol)
def _pinv(x, /, *, rtol=None): return _linalg.pinv(x, rtol=rtol)
def _qr(x, /, *, mode="reduced"): return _linalg.qr(x, mode)
def _svd(x, /, *, full_matrices=True): return _linalg.svd(x, full_matrices)
def _solve(x1, x2, /): return _linalg.solve(*_promoted((x1, x2))) if x2.ndim != 1 else _linalg.solve(*_promoted((x1, x2[:, None])))[..., 0]


def _vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    if axis is None:
        out = _linalg.vector_norm(x.reshape(-1), ord)
        return out.reshape((1,) * x.ndim) if keepdims else out
    return _linalg.vector_norm(x, ord, _axes(axis, x), keepdims)


def _extension(name, **functions):
    """A sub-namespace."""
    return types.SimpleNamespace(__name__=f"{__name__}.{name}", **functions)


linalg = _extension("linalg", cholesky=_cholesky, cross=_cross, diagonal=_diagonal, matmul=matmul, matrix_norm=_matrix_norm, matrix_power=_matrix_power,
                    matrix_rank=_matrix_rank, matrix_transpose=matrix_transpose, outer=_outer, pinv=_pinv, qr=_qr, solve=_solve, svd=_svd, tensordot=tensordot,
                    trace=_trace, vecdot=vecdot, vector_norm=_vector_norm,
                    **{name: _unary(getattr(_linalg, name), name) for name in ("det", "eigh", "eigvalsh", "inv", "slogdet", "svdvals")})


# ---------------------------------------------------------------- Fourier transforms
def _one(f, name): return _named(lambda x, /, *, n=None, axis=-1, norm="backward": f(x, n, axis, norm), name, f"{name} along one axis.")
def _many(f, name): return _named(lambda x, /, *, s=None, axes=None, norm="backward": f(x, s, axes, norm), name, f"{name} along several axes.")


def _frequencies(f):
    def call(n, /, *, d=1.0, dtype=None, device=None): return f(n, d, dtype=dtype, device=device)
    return call


def _shift(f, name): return _named(lambda x, /, *, axes=None: f(x, axes), name, f"{name} of the axes' halves.")


fft = _extension("fft", fftfreq=_frequencies(_fft.fftfreq), rfftfreq=_frequencies(_fft.rfftfreq),
                 **{name: _one(getattr(_fft, name), name) for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
                 **{name: _many(getattr(_fft, name), name) for name in ("fftn", "ifftn", "rfftn", "irfftn")},
                 **{name: _shift(getattr(_fft, name), name) for name in ("fftshift", "ifftshift")})


# ---------------------------------------------------------------- what there is
class _Info:
    """`__array_namespace_info__()`: what this namespace can do."""

    def capabilities(self): return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    def default_device(self): return _t.device("cpu")
    def devices(self): return [_t.device("cpu")]

    def default_dtypes(self, *, device=None):
        real = _t.get_default_dtype()
        return {"real floating": real, "complex floating": _default_complex(), "integral": int64, "indexing": int64}

    def dtypes(self, *, device=None, kind=None):
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else kind
        return {t.name: t for k in kinds for t in _KINDS[k]}


def __array_namespace_info__(): return _Info()


def _namespace(self, /, *, api_version=None):
    """The array API standard's functions for this array."""
    if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"): raise ValueError(f"array API version {api_version!r} is not supported; this is 2024.12")
    return sys.modules[__name__]


def _to_device(self, device, /, *, stream=None):
    """The array on a device (the standard's name for .to)."""
    return self.to(device)


Tensor.__array_namespace__, Tensor.to_device = _namespace, _to_device
