"""The processor."""
from ..cpu import isa


def get_cpu_capability() -> str:
    """The instruction set kernels are generated for, in PyTorch's words."""
    return {"avx512": "AVX512", "avx2": "AVX2", "neon": "DEFAULT", "baseline": "DEFAULT"}[isa.level]
