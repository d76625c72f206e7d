"""Which names sparse tensors answer to: their methods, and the functions that other tensors' functions lead to when an argument is sparse."""
from __future__ import annotations

from multiprocessing import reduction

from ..core import dtype as dt
from ..core.op import TABLE
from . import sparse as sp, sparse_math as sm
from .bind import apply
from .layouts import FUNCTIONS, routed
from .sparse import SparseTensor
from .tensor import Tensor

ZERO_TO_ZERO = ("abs neg sgn sign sqrt asin asinh atan atanh ceil floor round trunc frac deg2rad rad2deg erf erfinv expm1 log1p sin sinh tan tanh relu isnan isinf isposinf isneginf "
                "signbit conj_physical square").split()
OTHER_NAMES = dict(abs="absolute", neg="negative", asin="arcsin", asinh="arcsinh", atan="arctan", atanh="arctanh", trunc="fix")


def in_place(f):
    def method(self, *args, **kw):
        r = f(self, *args, **kw)
        if r is NotImplemented: return r
        if r.dtype.category > self.dtype.category: raise RuntimeError(f"result type {r.dtype.name} can't be cast to the desired output type {self.dtype.name}")
        return sp.replaced(self, r.pattern, r.carrier if r.dtype is self.dtype else r.carrier.to(self.dtype))
    method.__name__ = f.__name__.rstrip("_") + "_"
    return method


def unary_functions() -> dict:
    out = {}
    for name in ZERO_TO_ZERO:
        if name not in TABLE: continue
        out[name] = sm.unary(TABLE[name])
        if name in OTHER_NAMES: out[OTHER_NAMES[name]] = out[name]
    return out


UNARY = unary_functions()
ARITHMETIC = dict(add=sm.add, sub=sm.sub, mul=sm.mul, div=sm.div, floor_divide=sm.floor_divide, pow=sm.pow)
ALIASES = dict(subtract="sub", multiply="mul", divide="div", true_divide="div")
PRODUCTS = dict(mm=sm.mm, bmm=sm.bmm, mv=sm.mv, addmm=sm.addmm, addmv=sm.addmv)
"""The sparse one may be an argument of a dense tensor's method."""
ROUTED = dict(**PRODUCTS, sum=sm.sum, softmax=sm.softmax, log_softmax=sm.log_softmax, transpose=sm.transpose, permute=sm.permute, t=sm.t,
              unsqueeze=sm.unsqueeze, select=sm.select, index_select=sm.index_select, narrow=sm.narrow, unbind=sm.unbind, norm=sm.norm, any=sm.any_, clone=sp.clone, allclose=sm.allclose, equal=sm.equal)
"""Functions of the namespace that sparse tensors have as methods."""
FUNCTIONS_ONLY = dict(pow=sm.pow, round=UNARY["round"], cat=sm.cat, concat=sm.cat, concatenate=sm.cat, stack=sm.stack, zeros_like=sm.zeros_like, empty_like=sm.zeros_like)
OWN = dict(coalesce=sp.coalesce, _coalesced_=sp.mark_coalesced, _indices=sp._indices, _values=sp._values, _nnz=sp._nnz, _dimI=sp.sparse_dim, _dimV=sp.dense_dim, sparse_mask=sm.sparse_mask,
           sparse_resize_=sp.sparse_resize_, sparse_resize_and_clear_=sp.sparse_resize_and_clear_, swapaxes=sm.transpose, swapdims=sm.transpose,
           dim=sp.dim, ndimension=sp.dim, size=sp.size, numel=sp.numel, nelement=sp.numel, stride=sp.stride, element_size=lambda x: x.dtype.size, __len__=sp.length, __iter__=sm.iterate,
           requires_grad_=sp.requires_grad_, detach=sp.detach, detach_=sp.detach_, backward=sp.backward, register_hook=sp.register_hook, retain_grad=sp.retain_grad,
           to=sp.to, type=sp.type_, copy_=sp.copy_, zero_=sp.zero_, cpu=lambda x, memory_format=None: x, is_contiguous=lambda x, memory_format=None: False,
           is_floating_point=lambda x: x.dtype.category == dt.FLOAT, is_complex=lambda x: x.dtype.category == dt.COMPLEX, type_as=lambda x, o: x.to(o.dtype),
           __deepcopy__=sp.copied, __copy__=sp.shallow, __reduce_ex__=sp.reduce_ex, __array__=sp.no_array, numpy=sp.no_array, __dlpack__=sp.no_exchange, data_ptr=sp.no_exchange,
           untyped_storage=sp.no_storage, storage=sp.no_storage, _typed_storage=sp.no_storage, __getitem__=sm.getitem, matmul=sm.matmul, smm=sm.smm, sspaddmm=sm.sspaddmm,
           new=sm.new_zeros, new_zeros=sm.new_zeros, new_empty=sm.new_zeros, is_inference=lambda x: x.carrier.is_inference(), __hash__=object.__hash__)


def hang(cls, names: dict):
    """Methods on SparseTensor, routes from `names` (the namespace) and from the methods of dense tensors (`cls`)."""
    FUNCTIONS.update(UNARY | ARITHMETIC | ROUTED | FUNCTIONS_ONLY | dict(matmul=sm.matmul, zeros=sm.zeros_in, make_subclass=sp.make_subclass))
    for name, f in (ROUTED | FUNCTIONS_ONLY).items():
        names[name] = routed(names[name], name)
        if name in PRODUCTS: setattr(cls, name, routed(getattr(cls, name), name))
    for name, f in (UNARY | ARITHMETIC | {k: ARITHMETIC[v] for k, v in ALIASES.items()} | ROUTED | OWN).items(): setattr(SparseTensor, name, f)
    for name, f in (UNARY | ARITHMETIC).items(): setattr(SparseTensor, name + "_", in_place(f))
    for name, f in dict(add=sm.add, sub=sm.sub, mul=sm.mul, truediv=sm.div, floordiv=sm.floor_divide, pow=sm.pow, matmul=sm.matmul).items():
        setattr(SparseTensor, f"__{name}__", f)
        setattr(SparseTensor, f"__i{name}__", in_place(f))
        setattr(SparseTensor, f"__r{name}__", turned(f))
    SparseTensor.__neg__, SparseTensor.__abs__, SparseTensor.__pos__ = UNARY["neg"], UNARY["abs"], lambda x: x
    SparseTensor.T = SparseTensor.mT = property(sm.t)
    for name, t in dict(float=dt.float32, double=dt.float64, half=dt.float16, bfloat16=dt.bfloat16, long=dt.int64, int=dt.int32, short=dt.int16, char=dt.int8, byte=dt.uint8, bool=dt.bool,
                        cfloat=dt.complex64, cdouble=dt.complex128).items(): setattr(SparseTensor, name, sp.caster(t))
    reduction.ForkingPickler.register(SparseTensor, sp.reduce_ex)
    cls.narrow_copy = sm.narrow_copy
    cls.sparse_mask, cls.is_sparse_csr = sm.sparse_mask, property(lambda x: False)
    for f in (sp.coalesce, sp._indices, sp._values): setattr(cls, f.__name__, sp.only_sparse(f))
    names.update(narrow_copy=sm.narrow_copy, spmm=sm.mm, dsmm=sm.mm, smm=sm.smm, hspmm=sm.hspmm, sspaddmm=sm.sspaddmm)


def turned(f):
    def reflected(self, other): return f(other, self)
    return reflected
