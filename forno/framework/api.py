"""PyTorch's names: everything `forno.<name>` answers to, and every method of Tensor, gathered from the op table and the function files."""
from __future__ import annotations

import functools as _functools
import inspect as _inspect

from ..core import dtype as _dt
from ..core.op import TABLE as _TABLE
from ..dnn import (activation as _activation, bessel as _bessel, contract as _contract, descent as _descent, elementwise as _ew, functions as _functions, norm as _norm, pool as _pool, polynomials as _polynomials, recipes as _recipes,
                   reduce as _reduce, special as _special)
from . import (activations as _activations, arrange as _arrange, autocast as _autocast, autograd, bind as _bind, calculus as _calculus, complexes as _complexes, copies as _copies, creation as _creation, data as _data, factors as _factors, fft, functions as _fn, gradfn as _gradfn, gathering as _gathering, indexing as _indexing,
               interchange as _interchange, legacy as _legacy, linalg, lobpcg as _lobpcg, lowrank as _lowrank, mathematics as _mathematics, methods as _methods,
               neural as _neural, out as _out, phrase as _phrase, placing as _placing, printing as _printing, products as _products, randoms as _randoms, runtime as _runtime, settings as _settings, sharing as _sharing, sparse as _sparse, sparse_names as _sparse_names, statistics as _statistics, variates as _variates, views as _views)
from .modes import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from .engine import flush as _flush
from .interchange import asarray, from_dlpack, frombuffer, to_dlpack
from .printing import set_printoptions
from .size import placed as _placed, Size, channels_last, channels_last_3d, contiguous_format, device, layout, memory_format, preserve_format, sparse_bsc, sparse_bsr, sparse_coo, sparse_csc, sparse_csr, strided
from .tensor import Tensor

for _t in _dt.BY_NAME.values(): globals()[_t.name] = _t
dtype = _dt.dtype
float, double, half, long, int, short, chalf, cfloat, cdouble = _dt.float32, _dt.float64, _dt.float16, _dt.int64, _dt.int32, _dt.int16, _dt.complex32, _dt.complex64, _dt.complex128


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def _parameters(f) -> tuple[str, ...]:
    code = getattr(_inspect.unwrap(f), "__code__", None)
    return () if code is None else code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]


def _numpy_named(f):
    """f, where NumPy's names of arguments do, too: x.sum(axis=0, keepdims=True)."""
    def call(*args, **kw):
        if kw and not kw.keys().isdisjoint(_NUMPY_NAMES): kw = {_NUMPY_NAMES.get(k, k): v for k, v in kw.items()}
        return f(*args, **kw)
    return _functools.update_wrapper(call, f)


_named: dict[str, str | None] = {}             # functions that aren't single rows, and the files they come from


def _hang(name, f, how, arity=None):
    """`how`: f function, o that takes out=, m method, i in-place method, u in-place function."""
    if arity is None:
        _named.setdefault(name, getattr(f, "__module__", None))
        if "dim" in _parameters(f): f = _numpy_named(f)
    if "f" in how: globals()[name] = _out.with_out(f, name, arity) if "o" in how else f
    if "m" in how: setattr(Tensor, name, f)
    if "i" in how: setattr(Tensor, name + "_", _bind.inplace(f))
    if "u" in how: globals()[name + "_"] = getattr(Tensor, name + "_")


def _offer(module, **names):
    """Functions of a file by how they are offered; `name=source` gives one another name."""
    for how, text in names.items():
        for entry in text.split():
            name, _, source = entry.partition("=")
            _hang(name, getattr(module, source or name), how)


# ---------------------------------------------------------------- rows that are PyTorch functions as they stand
_NO_INPLACE = frozenset("angle complex polar fmax fmin isfinite isinf isnan isneginf isposinf logaddexp logaddexp2 maximum minimum selu signbit".split())
_NO_METHOD = frozenset(("complex", "polar", "selu"))
special_rows = {}
for _op in list(_TABLE.values()):
    if _op.kind != "elementwise" or not _op.names: continue
    _n = len(_op.grads) or len(_inspect.signature(_op.emit).parameters) - 1
    _f = (None, _bind.unary, _bind.binary)[_n](_op) if _n in (1, 2) else _bind.nary(_op)
    for _name in _op.names:
        if "." in _name: special_rows[_name.split(".")[1]] = _out.with_out(_f, _name, _n)
        elif _name: _hang(_name, _f, "fo" + "m" * (_name not in _NO_METHOD) + "i" * (_name not in _NO_INPLACE) + "u" * (_n == 1 and _name not in _NO_INPLACE), _n)

# ---------------------------------------------------------------- functions of the files
_offer(_fn, fomi="add sub div pow clamp lerp addcmul addcdiv subtract=sub divide=div true_divide=div clip=clamp",
       fom="sum prod mean amax amin any all argmax argmin matmul", fo="cat concat=cat concatenate=cat stack rsub", fmi="masked_fill", f="where broadcast_tensors")
where = _out.with_out(_gathering.where, "where")
Tensor.where = _fn.where_method
_offer(_views, fm="permute transpose swapaxes=transpose swapdims=transpose t movedim moveaxis=movedim unsqueeze squeeze unflatten narrow select diagonal as_strided reshape flatten ravel "
       "split chunk tensor_split unbind clone broadcast_to", m="unfold expand expand_as view view_as reshape_as")
for _name in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims", "as_strided"): setattr(Tensor, _name + "_", _bind.view_inplace(getattr(Tensor, _name)))
_offer(_creation, fo="zeros ones empty full zeros_like ones_like empty_like full_like arange eye linspace logspace",
       f="tensor as_tensor scalar_tensor empty_strided set_default_dtype get_default_dtype")
from_numpy = _data.from_numpy
_offer(_gathering, fom="gather take_along_dim index_select take masked_select nonzero sort argsort topk kthvalue median nanmedian mode logcumsumexp cummax cummin max=max_ min=min_",
       fomi="scatter scatter_add scatter_reduce index_add index_copy index_fill cumsum cumprod", fm="index_put", m="index_put_", fo="searchsorted bucketize")
_offer(_neural, fom="softmax log_softmax logsumexp mm bmm dot outer ger=outer mv=mv_", fomi="addmm baddbmm addmv",
       f="batch_norm layer_norm group_norm rms_norm dropout embedding constant_pad_nd=pad_constant")
for _k in "123":
    _offer(_neural, f=" ".join(_name.format(_k) for _name in ("conv{}d", "conv_transpose{}d", "max_pool{}d", "max_pool{}d_with_indices", "adaptive_avg_pool{}d", "adaptive_max_pool{}d")),
           fo=f"avg_pool{_k}d")
_offer(_randoms, fo="rand randn rand_like randn_like randint randint_like randperm normal poisson", fom="bernoulli multinomial",
       f="Generator default_generator manual_seed seed initial_seed get_rng_state set_rng_state",
       m="uniform_ normal_ exponential_ geometric_ cauchy_ log_normal_ random_ bernoulli_")
_offer(_variates, f="binomial _standard_gamma=standard_gamma _standard_gamma_grad=standard_gamma_grad _sample_dirichlet=sample_dirichlet _dirichlet_grad=dirichlet_grad")
_offer(_activations, f="silu mish hardsigmoid hardswish relu6 leaky_relu elu celu hardtanh", fo="gelu softplus logsigmoid threshold softshrink", fom="hardshrink", fm="prelu")
_offer(_arrange, fm="tile flip fliplr flipud rot90 diagflat", fom="repeat_interleave roll diag diag_embed trace kron", fomi="tril triu", m="repeat",
       f="meshgrid cartesian_prod atleast_1d atleast_2d atleast_3d einsum", fo="tril_indices triu_indices hstack vstack row_stack=vstack dstack column_stack tensordot")
_offer(_statistics, fom="var std nansum nanmean count_nonzero aminmax norm dist bincount", fm="isclose allclose equal", fomi="round renorm", fo="var_mean std_mean", f="cosine_similarity")

_check_targets, _class_index, _binary_cross_entropy, _claimed = _neural.check_targets, _neural.class_index, _neural.binary_cross_entropy, _gathering.claimed
_offer(_complexes, fm="conj adjoint isreal", f="real imag view_as_real view_as_complex", fo="complex=complex_", fomi="conj_physical")
_offer(_calculus, fom="diff quantile nanquantile histc histogram", fm="cov corrcoef", f="histogramdd gradient trapezoid trapz=trapezoid cumulative_trapezoid cdist")
_offer(_placing, fom="msort select_scatter slice_scatter diagonal_scatter as_strided_scatter", fm="argwhere unique_consecutive unique", f="unravel_index", fo="isin", fmi="masked_scatter put",
       fomi="index_reduce", m="fill_diagonal_")
_offer(_mathematics, fomi="nan_to_num logit mvlgamma ldexp float_power", fom="frexp", fm="positive", fo="polygamma", m="sum_to_size polygamma=polygamma_method")
Tensor._adam_square_, Tensor._adam_step_ = (_bind.inplace(_bind.nary(_op)) for _op in (_descent.adam_square, _descent.adam_step))          # what an optimizer says per weight
Tensor.polygamma_ = _bind.inplace(_mathematics.polygamma_method)
_offer(_products, fom="vdot inner cross", fomi="addr addbmm", fo="chain_matmul block_diag", f="combinations vander")
_offer(fft, fm="stft istft", f="hann_window hamming_window blackman_window bartlett_window kaiser_window")
_offer(_factors, fm="det logdet svd=old_svd", fom="lu=old_lu geqrf ormqr slogdet cholesky=old_cholesky cholesky_inverse cholesky_solve matrix_power triangular_solve lu_solve=old_lu_solve qr=old_qr",
       fo="lu_unpack", f="pinverse orgqr=householder_product", m="pinverse orgqr=householder_product")
_offer(_lowrank, f="svd_lowrank pca_lowrank")
_offer(_lobpcg, f="lobpcg")
_hang("inverse", linalg.inv, "fm")
_hang("matrix_exp", linalg.matrix_exp, "fm")
_offer(_arrange, fm="hsplit vsplit dsplit")
_offer(_views, fm="split_with_sizes=split unsafe_split=split unsafe_split_with_sizes=split unsafe_chunk=chunk")

_offer(linalg, fm="matrix_exp qr inverse=inv")

_methods.hang(Tensor)
_complexes.hang(Tensor)
fill = _out.with_out(_methods.fill, "fill")
zero_, fill_, detach_ = _methods.zero_, _methods.fill_, _methods.detach_
resize_as_ = _sharing.resize_as_
abs_ = absolute_ = Tensor.abs_
_indexing.hang(Tensor)
for _part in (_printing, _interchange, _sharing, _legacy, _runtime): _part.hang(Tensor)
globals().update(_legacy.NAMES | _settings.NAMES | _runtime.NAMES)
for _name, _f in _copies.COPIES.items(): globals()[_name] = _f if _name in _copies.MANY else _out.with_out(_f, _name)
_offer(_copies, fm="nonzero_static", m="dim_order apply_ map_ map2_ module_load narrow_copy=narrow_copy_method", fo="frobenius_norm nuclear_norm range=range_", f="empty_permuted norm_except_dim segment_reduce")
# in-place methods that are functions, too
for _name in "addmv_ as_strided_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ gcd_ index_put_ lcm_ ldexp_ logit_ nan_to_num_ round_ xlogy_".split(): globals()[_name] = getattr(Tensor, _name)


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
        f = b(rows[row], operator=True)
        setattr(cls, f"__{name}__", f)
        if name.endswith("shift"):
            setattr(cls, f"__i{name}__", _bind.inplace(f))
            setattr(cls, f"__r{name}__", b(rows[row], reflected=True, operator=True))
    cls.__rdiv__ = cls.__rtruediv__ = _bind.reflected_division(_bind.unary(rows["reciprocal"]), cls.__mul__, cls.__rtruediv__)
    cls.__hash__ = object.__hash__
    cls.__neg__ = _bind.unary(rows["neg"])
    cls.__pos__ = lambda self: self
    cls.__abs__ = _bind.unary(rows["abs"])
    cls.__invert__ = _methods.invert
    cls.__pow__ = _bind.giving_way(_fn.pow)
    cls.__rpow__ = _bind.giving_way(_bind.binary(rows["pow"], reflected=True))
    cls.__ipow__ = _bind.inplace(cls.__pow__)
    cls.__matmul__ = _bind.giving_way(_fn.matmul)
    cls.__rmatmul__ = _bind.giving_way(lambda self, other: _fn.matmul(other, self))


def _entitle():
    for name, title in _gradfn.WHOLE.items():
        if name in globals(): globals()[name] = _gradfn.entitled(globals()[name], title)
        if hasattr(Tensor, name): setattr(Tensor, name, _gradfn.entitled(getattr(Tensor, name), title))


for _name in "tensor as_tensor asarray scalar_tensor empty_strided empty_permuted hann_window hamming_window blackman_window bartlett_window kaiser_window".split():
    globals()[_name] = _placed(globals()[_name])
_operators(Tensor)
_entitle()
_offer(_sparse, f="sparse_coo_tensor sparse_csr_tensor sparse_csc_tensor sparse_compressed_tensor",
       m="to_sparse to_sparse_coo to_sparse_csr to_sparse_csc to_dense is_coalesced sparse_dim dense_dim indices values crow_indices col_indices ccol_indices row_indices")
_sparse_names.hang(Tensor, globals())


def _remember():
    """Calls of functions and methods that work on tensors are remembered (framework.phrase), whatever layer was put around them."""
    makers = {m.__name__ for m in (_randoms, _variates, _creation)}
    names = {k for k, m in _named.items() if m not in makers and not k.endswith("_")} | {"where", "fill", "zeros_like", "ones_like", "full_like", "empty_like", *_METHODS}
    for name in sorted(names):
        f, m = globals().get(name), getattr(Tensor, name, None)
        if isinstance(f, _FUNCTION) and name not in _METHODS: globals()[name] = _phrase.remembered(_autocast.apply(f, name))
        if isinstance(m, _FUNCTION): setattr(Tensor, name, _phrase.remembered(_autocast.apply(m, name)))
        elif isinstance(m, property) and m.fset is None: setattr(Tensor, name, property(_phrase.remembered(m.fget)))


    for module in (linalg, fft):
        for name in module.__all__:
            if isinstance(getattr(module, name), _FUNCTION): setattr(module, name, _phrase.remembered(getattr(module, name)))


_FUNCTION = type(_remember)
_METHODS = ("to type_as contiguous float double half bfloat16 long int short char byte bool T mT H mH __getitem__ __pow__ __matmul__ __rmatmul__ new_zeros new_ones new_full").split()
_remember()
polar = _autocast.apply(polar, "polar")
Tensor.__getitem__ = _indexing.with_elements(Tensor.__getitem__)
