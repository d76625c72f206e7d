"""torch.__config__: what this build is, as text for people."""
from __future__ import annotations

from .framework.api import get_num_interop_threads, get_num_threads
from .version import SPEAKS


def show() -> str: return f"forno, which follows PyTorch {SPEAKS}:\n  - kernels are generated through LLVM (llvmlite)\n  - no CUDA\n"
def parallel_info() -> str: return f"forno's own threads:\n\tget_num_threads() : {get_num_threads()}\n\tget_num_interop_threads() : {get_num_interop_threads()}\n"
