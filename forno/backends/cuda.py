"""Switches of CUDA's libraries. Products of float32 are rounded to tf32 as they say; what else they say is kept: forno has kernels of its own."""
import contextlib
import enum
import operator
import warnings

from ..framework.settings import get_float32_matmul_precision, set_float32_matmul_precision
from ..framework.size import place, there

__all__ = ["SDPAParams", "allow_fp16_bf16_reduction_math_sdp", "blas_workspace_size", "can_use_cudnn_attention", "can_use_efficient_attention", "can_use_flash_attention",
           "cuBLASModule", "cuFFTPlanCache", "cuFFTPlanCacheAttrContextProp", "cuFFTPlanCacheManager", "cublas_workspace_size", "cublaslt_workspace_size", "cudnn_sdp_enabled",
           "cufft_plan_cache", "enable_cudnn_sdp", "enable_flash_sdp", "enable_math_sdp", "enable_mem_efficient_sdp", "flash_sdp_enabled",
           "fp16_bf16_reduction_math_sdp_allowed", "is_built", "is_ck_sdpa_available", "is_flash_attention_available", "math_sdp_enabled", "matmul", "mem_efficient_sdp_enabled",
           "preferred_blas_library", "preferred_linalg_library", "preferred_rocm_fa_library", "sdp_kernel"]


def is_built() -> bool: return there("cuda")


# ---------------------------------------------------------------- products
def _reduction(kind: str):
    """A switch that is set by a bool, or by two: for sums in pieces, too."""
    name = f"allow_{kind}_reduced_precision_reduction"

    def put(self, value):
        both = (value, True) if isinstance(value, bool) else value
        if not isinstance(both, (list, tuple)): raise TypeError(f"{name} expects a bool or a tuple/list of bools, but got {type(value)!r}")
        if not 1 <= len(both) <= 2: raise TypeError(f"{name} expects at {'most two boolean arguments' if both else 'least one boolean argument'}")
        for what, b in zip(("allow_reduced_precision", "allow_splitk"), both):
            if not isinstance(b, bool): raise TypeError(f"{name} expects a bool for {what}, but got {type(b)!r}")
        self.reductions[kind] = (*both, True)[:2]
    return property(lambda self: self.reductions[kind][0], put), property(lambda self: self.reductions[kind][1])


class cuBLASModule:
    """torch.backends.cuda.matmul: `allow_tf32` is another name for the precision of products of float32."""
    allow_fp16_accumulation, fp32_precision = False, "none"

    def __init__(self): self.reductions = {"fp16": (True, True), "bf16": (True, True)}

    @property
    def allow_tf32(self) -> bool: return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, on: bool): set_float32_matmul_precision("high" if on else "highest")

    allow_fp16_reduced_precision_reduction, allow_fp16_reduced_precision_reduction_split_k = _reduction("fp16")
    allow_bf16_reduced_precision_reduction, allow_bf16_reduced_precision_reduction_split_k = _reduction("bf16")


LinalgBackend = enum.Enum("_LinalgBackend", "Default Cusolver Magma")
BlasBackend = enum.Enum("_BlasBackend", "Default Cublas Cublaslt Ck")
ROCmFABackend = enum.Enum("_ROCmFABackend", "Default AOTriton Ck")
_LINALG = {"default": LinalgBackend.Default, "cusolver": LinalgBackend.Cusolver, "magma": LinalgBackend.Magma}
_BLAS = {"default": BlasBackend.Default, "cublas": BlasBackend.Cublas, "hipblas": BlasBackend.Cublas, "cublaslt": BlasBackend.Cublaslt, "hipblaslt": BlasBackend.Cublaslt,
         "ck": BlasBackend.Ck}
_FA = {"default": ROCmFABackend.Default, "aotriton": ROCmFABackend.AOTriton, "ck": ROCmFABackend.Ck}
_kept = {"linalg": LinalgBackend.Default, "blas": BlasBackend.Cublas, "fa": ROCmFABackend.Default, "cublas": 0, "cublaslt": 0}


def _preferred(what: str, known: dict, backend):
    """A library is named, or asked for; there is none of them here."""
    if isinstance(backend, str):
        if backend not in known: raise RuntimeError(f"Unknown input value. Choose from: {', '.join(known)}.")
        _kept[what] = known[backend]
    elif backend is not None:
        if backend not in known.values(): raise RuntimeError("Unknown input value type.")
        _kept[what] = backend
    return _kept[what]


def preferred_linalg_library(backend=None) -> LinalgBackend: return _preferred("linalg", _LINALG, backend)
def preferred_blas_library(backend=None) -> BlasBackend: return _preferred("blas", _BLAS, backend)
def preferred_rocm_fa_library(backend=None) -> ROCmFABackend: return _preferred("fa", _FA, backend)


def _workspace(what: str, size) -> int:
    if size is not None:
        if operator.index(size) < 0: raise RuntimeError(f"workspace size must be non-negative, got {size}")
        _kept[what] = operator.index(size)
    return _kept[what]


def cublas_workspace_size(size=None) -> int: return _workspace("cublas", size)
def cublaslt_workspace_size(size=None) -> int: return _workspace("cublaslt", size)


def blas_workspace_size(size=None, backend=None) -> int:
    """Of one library, or of the preferred one."""
    if isinstance(backend, str) and backend not in _BLAS: raise RuntimeError(f"Unknown backend string. Choose from: {', '.join(_BLAS)}.")
    chosen = preferred_blas_library() if backend is None else _BLAS.get(backend, backend)
    if chosen is BlasBackend.Ck: raise RuntimeError("CK backend does not use a workspace.")
    return _workspace("cublaslt" if chosen is BlasBackend.Cublaslt else "cublas", size)


# ---------------------------------------------------------------- transforms
class cuFFTPlanCacheAttrContextProp:
    """A number of one device's plans."""

    def __init__(self, getter, setter): self.getter, self.setter = getter, setter
    def __get__(self, obj, objtype): return self.getter(obj)

    def __set__(self, obj, val):
        if isinstance(self.setter, str): raise RuntimeError(self.setter)
        self.setter(obj, val)


class cuFFTPlanCache:
    """One device's plans: there are none, as transforms need none."""

    def __init__(self, device_index): self.device_index, self.most = device_index, 4096
    size = cuFFTPlanCacheAttrContextProp(lambda self: 0, ".size is a read-only property showing the number of plans currently in the cache. To change the cache capacity, "
                                                         "set cufft_plan_cache.max_size.")
    max_size = cuFFTPlanCacheAttrContextProp(lambda self: self.most, lambda self, n: setattr(self, "most", operator.index(n)))
    def clear(self): """There is nothing to forget."""


class cuFFTPlanCacheManager:
    """torch.backends.cuda.cufft_plan_cache: each device's, by index; the current one's without."""

    def __init__(self): self.__dict__["caches"] = {}

    def __getitem__(self, device) -> cuFFTPlanCache:
        index = int(place(f"cuda:{device}" if isinstance(device, int) else device)[5:])
        return self.caches.setdefault(index, cuFFTPlanCache(index))

    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return getattr(self["cuda"], name)

    def __setattr__(self, name, value): setattr(self["cuda"], name, value)


matmul, cufft_plan_cache = cuBLASModule(), cuFFTPlanCacheManager()


# ---------------------------------------------------------------- attention
class SDPAParams:
    """What a call of scaled_dot_product_attention is given."""

    def __init__(self, query, key, value, attn_mask, dropout, is_causal, enable_gqa):
        self.query, self.key, self.value, self.attn_mask, self.dropout, self.is_causal, self.enable_gqa = query, key, value, attn_mask, dropout, is_causal, enable_gqa


_sdp = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True, "math_half": False}


def flash_sdp_enabled() -> bool: return _sdp["flash"]
def mem_efficient_sdp_enabled() -> bool: return _sdp["mem_efficient"]
def math_sdp_enabled() -> bool: return _sdp["math"]
def cudnn_sdp_enabled() -> bool: return _sdp["cudnn"]
def enable_flash_sdp(enabled: bool): _sdp["flash"] = bool(enabled)
def enable_mem_efficient_sdp(enabled: bool): _sdp["mem_efficient"] = bool(enabled)
def enable_math_sdp(enabled: bool): _sdp["math"] = bool(enabled)
def enable_cudnn_sdp(enabled: bool): _sdp["cudnn"] = bool(enabled)
def allow_fp16_bf16_reduction_math_sdp(enabled: bool): _sdp["math_half"] = bool(enabled)
def fp16_bf16_reduction_math_sdp_allowed() -> bool: return _sdp["math_half"]
def is_flash_attention_available() -> bool: return False
def is_ck_sdpa_available() -> bool: return False
def can_use_flash_attention(params, debug: bool = False) -> bool: return False
def can_use_efficient_attention(params, debug: bool = False) -> bool: return False
def can_use_cudnn_attention(params, debug: bool = False) -> bool: return False


@contextlib.contextmanager
def sdp_kernel(enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True):
    """Which attention kernels may run on a GPU, for the length of a block."""
    warnings.warn("`torch.backends.cuda.sdp_kernel()` is deprecated. In the future, this context manager will be removed. Please see `torch.nn.attention.sdpa_kernel()` "
                  "for the new context manager, with updated signature.", FutureWarning, stacklevel=3)
    before = dict(_sdp)
    _sdp.update(flash=enable_flash, math=enable_math, mem_efficient=enable_mem_efficient, cudnn=enable_cudnn)
    try: yield
    finally: _sdp.update(before)
