"""One door to the kernel floor: any kernel noun in, a Launch out."""
from __future__ import annotations

from ..core.kernels import Conv, Gemm, Launch, Native, Nest
from . import conv, gemm, nest, routines

_BUILDERS = {Nest: nest.build, Gemm: gemm.build, Conv: conv.build, Native: routines.build}


def build(kernel) -> Launch: return _BUILDERS[type(kernel)](kernel)


def compile_all(kernels):
    """Compile a plan's loop nests together before they are built one by one."""
    nest.compile_all([k for k in kernels if isinstance(k, Nest)])
