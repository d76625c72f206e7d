"""Complex tensors' parts, which are views of their memory, and conjugates, which are computed."""
from __future__ import annotations

from ..core import dtype as dt
from ..core.shape import View, contiguous, whole
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from . import functions as fn, methods, views
from .bind import apply, binary, inplace, unary
from .tensor import Tensor, memory, recast
from .views import shape_of

_complex, _imag, _conj, _abs = binary(fns.complex_), unary(fns.imag), unary(ew.conj_), inplace(unary(ew.abs_))


def complex_(real, imag):
    out = _complex(real, imag)
    return fn.to(out, dt.complex32) if real.dtype is dt.float16 else out


def real(input): return part(input, 0) if input.dtype.is_complex else input


def imag(input):
    if not input.dtype.is_complex: raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return part(input, 1)


def part(x: Tensor, which: int) -> Tensor:
    """The real (0) or imaginary (1) parts where they lie in x's memory."""
    shape, strides, offset = memory(x)
    def twice(steps): return tuple([2 * s for s in steps])
    return recast(x, x.dtype.real, View(shape, twice(strides), 2 * offset + which), View(shape, twice(contiguous(shape)), which))


def set_real(self, value): methods.copy_(real(self), value)
def set_imag(self, value): methods.copy_(imag(self), value)


def conj(input): return _conj(input) if input.dtype.is_complex else input
def conj_physical(input): return _conj(input) if input.dtype.is_complex else views.clone(input)
def adjoint(input): return conj(views.transpose(input, -2, -1))
def resolve(input): return input


def view_as_real(input):
    if not input.dtype.is_complex: raise RuntimeError("view_as_real is only supported for complex tensors")
    shape, strides, offset = memory(input)
    return recast(input, input.dtype.real, View((*shape, 2), (*[2 * s for s in strides], 1), 2 * offset), whole((*shape, 2)))


def view_as_complex(input):
    dtype, (shape, strides, offset) = input.dtype, memory(input)
    if dtype.category != dt.FLOAT or dtype is dt.bfloat16:
        raise RuntimeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: {ew.TITLES[dtype.name]}")
    if not shape: raise RuntimeError("Input tensor must have one or more dimensions")
    if shape[-1] != 2: raise RuntimeError("Tensor must have a last dimension of size 2")
    if strides[-1] != 1: raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for n, s in zip(shape[:-1], strides) if n != 1): raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if offset % 2: raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return recast(input, dtype.to_complex(), View(shape[:-1], tuple([s // 2 for s in strides[:-1]]), offset // 2), whole(shape[:-1]))


def abs_(self):
    if self.dtype.is_complex: raise RuntimeError("In-place abs is not supported for complex tensors.")
    return _abs(self)


def isreal(input): return apply(ew.eq, _imag(input), 0) if input.dtype.is_complex else apply(ew.logical_or, apply(ew.eq, input, input), True)


def hermitian(input):
    n = len(shape_of(input))
    if n not in (0, 2): raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {n}-D tensor.")
    return adjoint(input) if n else conj(input)


def hang(cls):
    cls.real, cls.imag = property(real, set_real), property(imag, set_imag)
    cls.abs_ = cls.absolute_ = abs_
    cls.H, cls.mH = property(hermitian), property(adjoint)
