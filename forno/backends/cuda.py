"""Switches of CUDA's libraries. Products of float32 are rounded to tf32 as they say; what else they say is kept."""
import contextlib

from ..framework.settings import get_float32_matmul_precision, set_float32_matmul_precision


class _Products:
    """torch.backends.cuda.matmul: `allow_tf32` is another name for the precision of products of float32."""
    @property
    def allow_tf32(self) -> bool: return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, on: bool): set_float32_matmul_precision("high" if on else "highest")

    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True
    allow_fp16_accumulation = False
    fp32_precision = "none"


class _Plans:
    """torch.backends.cuda.cufft_plan_cache"""
    size, max_size = 0, 0

    def clear(self): return None
    def __getitem__(self, device): return self


matmul, cufft_plan_cache = _Products(), _Plans()
_sdp = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True}


def is_built() -> bool: return False
def flash_sdp_enabled() -> bool: return _sdp["flash"]
def mem_efficient_sdp_enabled() -> bool: return _sdp["mem_efficient"]
def math_sdp_enabled() -> bool: return _sdp["math"]
def cudnn_sdp_enabled() -> bool: return _sdp["cudnn"]
def enable_flash_sdp(enabled: bool): _sdp["flash"] = bool(enabled)
def enable_mem_efficient_sdp(enabled: bool): _sdp["mem_efficient"] = bool(enabled)
def enable_math_sdp(enabled: bool): _sdp["math"] = bool(enabled)
def enable_cudnn_sdp(enabled: bool): _sdp["cudnn"] = bool(enabled)
def is_flash_attention_available() -> bool: return False
def preferred_linalg_library(backend=None) -> str: return "default"
def preferred_blas_library(backend=None) -> str: return "default"


@contextlib.contextmanager
def sdp_kernel(enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True):
    """Which attention kernels may run on a GPU, for the length of a block."""
    before = dict(_sdp)
    _sdp.update(flash=enable_flash, math=enable_math, mem_efficient=enable_mem_efficient, cudnn=enable_cudnn)
    try: yield
    finally: _sdp.update(before)
