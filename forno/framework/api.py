"""PyTorch's names: everything `forno.<name>` answers to, and every method of Tensor, gathered from the op table and the function files."""
from __future__ import annotations

import inspect as _inspect

from ..core import dtype as _dt
from ..core.op import TABLE as _TABLE
from ..dnn import activation as _activation, contract as _contract, elementwise as _ew, functions as _functions, norm as _norm, pool as _pool, recipes as _recipes, reduce as _reduce, special as _special
from . import (activations as _activations, arrange as _arrange, autograd, bind as _bind, creation as _creation, data as _data, functions as _fn, gathering as _gathering, indexing as _indexing, methods as _methods,
               neural as _neural, printing as _printing, randoms as _randoms, statistics as _statistics, views as _views)
from .autograd import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .engine import flush as _flush
from .printing import set_printoptions
from .size import Size, channels_last, channels_last_3d, contiguous_format, device, layout, memory_format, preserve_format, sparse_coo, sparse_csr, strided
from .tensor import Tensor

for _t in _dt.BY_NAME.values(): globals()[_t.name] = _t
dtype = _dt.dtype
float, double, half, long, int, short, cfloat, cdouble = _dt.float32, _dt.float64, _dt.float16, _dt.int64, _dt.int32, _dt.int16, _dt.complex64, _dt.complex128


def _arity(op) -> int:
    return len(op.grads) or len(_inspect.signature(op.emit).parameters) - 1


def _export(name, f):
    globals()[name] = f
    setattr(Tensor, name, f)


def _with_inplace(name, f):
    _export(name, f)
    setattr(Tensor, name + "_", _bind.inplace(f))


for _op in list(_TABLE.values()):
    if _op.kind != "elementwise" or not _op.names: continue
    _f = (None, _bind.unary, _bind.binary)[_arity(_op)](_op) if _arity(_op) in (1, 2) else _bind.nary(_op)
    for _name in _op.names:
        if _name and "." not in _name: _with_inplace(_name, _f)

for _name in ("add", "sub", "div", "pow", "clamp", "lerp", "addcmul", "addcdiv"): _with_inplace(_name, getattr(_fn, _name))
subtract, multiply, divide, clip = _fn.sub, globals()["mul"], _fn.div, _fn.clamp
for _name, _f in dict(subtract=_fn.sub, divide=_fn.div, true_divide=_fn.div, clip=_fn.clamp).items(): _with_inplace(_name, _f)
for _name in ("sum", "prod", "mean", "amax", "amin", "any", "all", "argmax", "argmin", "matmul", "rsub"): _export(_name, getattr(_fn, _name))
for _name in ("where", "cat", "stack", "broadcast_tensors"): globals()[_name] = getattr(_fn, _name)
Tensor.where = lambda self, condition, other: _fn.where(condition, self, other)
for _name in ("permute", "transpose", "t", "movedim", "unsqueeze", "squeeze", "unflatten", "narrow", "select", "diagonal", "as_strided", "reshape", "flatten", "ravel",
              "split", "chunk", "tensor_split", "unbind", "clone", "broadcast_to"): _export(_name, getattr(_views, _name))
for _name in ("unfold", "expand", "expand_as", "view", "view_as", "reshape_as"): setattr(Tensor, _name, getattr(_views, _name))
for _name in ("tensor", "as_tensor", "zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like", "arange", "eye", "linspace", "logspace",
              "empty_strided", "set_default_dtype", "get_default_dtype"): globals()[_name] = getattr(_creation, _name)
from_numpy = _data.from_numpy
concat = concatenate = _fn.cat
swapaxes = swapdims = _views.transpose
moveaxis = _views.movedim

for _name in ("index_put_",): setattr(Tensor, _name, lambda self, indices, values, accumulate=False: _gathering.index_put_(self, list(indices), values, accumulate))
for _name in ("gather", "take_along_dim", "index_select", "take", "masked_select", "nonzero", "sort", "argsort", "topk", "kthvalue", "median", "nanmedian", "mode", "logcumsumexp",
              "cummax", "cummin", "scatter_reduce", "index_put"): _export(_name, getattr(_gathering, _name))
for _name in ("scatter", "scatter_add", "index_add", "index_copy", "index_fill", "cumsum", "cumprod"): _with_inplace(_name, getattr(_gathering, _name))
Tensor.scatter_reduce_ = _bind.inplace(_gathering.scatter_reduce)
_export("max", _gathering.extreme("max", _reduce.amax, _reduce.argmax, maximum))
_export("min", _gathering.extreme("min", _reduce.amin, _reduce.argmin, minimum))
searchsorted, bucketize = _gathering.searchsorted, _gathering.bucketize
for _name in ("softmax", "log_softmax", "logsumexp", "mm", "bmm", "dot", "outer", "addmm", "baddbmm", "addmv"): _export(_name, getattr(_neural, _name))
_export("mv", _neural.mv_)
ger = _neural.outer
for _k in (1, 2, 3):
    for _name in ("conv{}d", "conv_transpose{}d", "max_pool{}d", "max_pool{}d_with_indices", "avg_pool{}d", "adaptive_avg_pool{}d", "adaptive_max_pool{}d"):
        globals()[_name.format(_k)] = getattr(_neural, _name.format(_k))
for _name in ("batch_norm", "layer_norm", "group_norm", "rms_norm", "dropout", "embedding"): globals()[_name] = getattr(_neural, _name)
for _name in ("Generator", "default_generator", "manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "rand", "randn", "rand_like", "randn_like", "randint",
              "randint_like", "randperm", "normal", "bernoulli", "poisson", "multinomial"): globals()[_name] = getattr(_randoms, _name)
for _name in ("uniform_", "normal_", "exponential_", "geometric_", "cauchy_", "log_normal_", "random_", "bernoulli_"): setattr(Tensor, _name, getattr(_randoms, _name))
Tensor.multinomial = _randoms.multinomial
Tensor.bernoulli = _randoms.bernoulli

for _name in ("silu", "mish", "logsigmoid", "hardsigmoid", "hardswish", "relu6", "gelu", "leaky_relu", "elu", "celu", "hardtanh", "softplus", "threshold", "hardshrink",
              "softshrink", "prelu"): globals()[_name] = getattr(_activations, _name)
Tensor.hardshrink, Tensor.prelu = _activations.hardshrink, _activations.prelu
for _name in ("tile", "repeat_interleave", "flip", "fliplr", "flipud", "roll", "rot90", "diag", "diag_embed", "diagflat", "trace", "kron"): _export(_name, getattr(_arrange, _name))
for _name in ("tril", "triu"): _with_inplace(_name, getattr(_arrange, _name))
Tensor.repeat = _arrange.repeat
for _name in ("tril_indices", "triu_indices", "meshgrid", "cartesian_prod", "atleast_1d", "atleast_2d", "atleast_3d", "hstack", "vstack", "dstack", "column_stack",
              "tensordot", "einsum"): globals()[_name] = getattr(_arrange, _name)
row_stack = vstack
for _name in ("var", "std", "nansum", "nanmean", "count_nonzero", "aminmax", "norm", "dist", "isclose", "allclose", "equal", "bincount", "unique"): _export(_name, getattr(_statistics, _name))
for _name in ("round", "renorm"): _with_inplace(_name, getattr(_statistics, _name))
for _name in ("var_mean", "std_mean", "cosine_similarity"): globals()[_name] = getattr(_statistics, _name)

_methods.hang(Tensor)
_indexing.hang(Tensor)
_printing.hang(Tensor)


def _operators(cls):
    """Python's operators. Reflected ones record their operands in the order they stand."""
    b, rows = _bind.binary, _TABLE
    for name, row in dict(add="add", sub="sub", mul="mul", truediv="div", floordiv="floor_divide", mod="remainder", **{"and": "bitwise_and", "or": "bitwise_or",
                          "xor": "bitwise_xor"}).items():
        f = b(rows[row], operator=True)
        setattr(cls, f"__{name}__", f)
        setattr(cls, f"__r{name}__", f if row in ("add", "mul") else b(rows[row], reflected=True, operator=True))
        setattr(cls, f"__i{name}__", _bind.inplace(f))
    for name, row in dict(lt="lt", le="le", gt="gt", ge="ge", eq="eq", ne="ne", lshift="bitwise_left_shift", rshift="bitwise_right_shift").items():
        setattr(cls, f"__{name}__", b(rows[row], operator=True))
    cls.__hash__ = object.__hash__
    cls.__neg__ = _bind.unary(rows["neg"])
    cls.__pos__ = lambda self: self
    cls.__abs__ = _bind.unary(rows["abs"])
    cls.__invert__ = _bind.unary(rows["bitwise_not"])
    cls.__pow__ = _fn.pow
    cls.__rpow__ = lambda self, other: _bind.binary(rows["pow"], reflected=True)(self, other)
    cls.__ipow__ = _bind.inplace(_fn.pow)
    cls.__matmul__ = _fn.matmul
    cls.__rmatmul__ = lambda self, other: _fn.matmul(other, self)


_operators(Tensor)
