"""Complex tensors' parts and conjugates. The parts are values of their own: writing into one doesn't reach the complex tensor."""
from __future__ import annotations

from ..core import dtype as dt
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from . import functions as fn, views
from .bind import apply, unary
from .tensor import Tensor
from .views import shape_of

_real, _imag, _conj = unary(fns.real), unary(fns.imag), unary(ew.conj_)


def real(input): return _real(input) if input.dtype.is_complex else input


def imag(input):
    if not input.dtype.is_complex: raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _imag(input)


def set_real(self, value): self.copy_(apply(fns.complex_, spread(self, value), imag(self)) if self.dtype.is_complex else value)


def set_imag(self, value): self.copy_(apply(fns.complex_, real(self), spread(self, value)))


def spread(t: Tensor, value): return fn.to(views.expand(fn.as_tensor(value, t), shape_of(t)), t.dtype.real)


def conj(input): return _conj(input) if input.dtype.is_complex else input
def conj_physical(input): return _conj(input) if input.dtype.is_complex else views.clone(input)
def adjoint(input): return conj(views.transpose(input, -2, -1))
def resolve(input): return input


def view_as_real(input):
    if not input.dtype.is_complex: raise RuntimeError("view_as_real is only supported for complex tensors")
    return fn.stack([_real(input), _imag(input)], -1)


def view_as_complex(input):
    if input.dtype.category != dt.FLOAT: raise RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: " +
                                                            ew.TITLES[input.dtype.name])
    if not shape_of(input): raise RuntimeError("Input tensor must have one or more dimensions")
    if shape_of(input)[-1] != 2: raise RuntimeError("Tensor must have a last dimension of size 2")
    return apply(fns.complex_, views.select(input, -1, 0), views.select(input, -1, 1))


def isreal(input): return apply(ew.eq, _imag(input), 0) if input.dtype.is_complex else apply(ew.logical_or, apply(ew.eq, input, input), True)


def hermitian(input):
    n = len(shape_of(input))
    if n not in (0, 2): raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {n}-D tensor.")
    return adjoint(input) if n else conj(input)


def hang(cls):
    cls.real, cls.imag = property(real, set_real), property(imag, set_imag)
    cls.H, cls.mH = property(hermitian), property(adjoint)
