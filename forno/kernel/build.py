"""One door to the kernel floor: any kernel noun in, a Launch out."""
from __future__ import annotations

import functools

from ..core.kernels import Conv, Gemm, Launch, Native, Nest
from . import conv, epilogue, gemm, nest, routines

_BUILDERS = {Nest: nest.build, Gemm: gemm.build, Conv: conv.build, Native: routines.build}
_SLOWEST = (Conv, Gemm, Native)                # to compile: the first to start when threads share the work
_ready: dict = {}                              # id of a kernel -> (kernel, its Launch): made by compile_all, taken by build


def build(kernel) -> Launch:
    same, launch = _ready.pop(id(kernel), (None, None))
    return launch if same is kernel else _BUILDERS[type(kernel)](kernel)


def accepts(kernel: Gemm | Conv) -> bool:
    """Can a product with this epilogue be built, and is it quicker than a kernel of its own?"""
    return epilogue.accepts(kernel.epilogue) and (isinstance(kernel, Gemm) or conv.gains_by_epilogue(kernel))


def compile_all(kernels):
    """Compile a plan's kernels together, on several threads, before they are built one by one."""
    _ready.clear()                             # a plan that failed left some
    tiles = sorted((k for k in kernels if isinstance(k, _SLOWEST)), key=lambda k: _SLOWEST.index(type(k)))
    nest.compile_all([k for k in kernels if isinstance(k, Nest)], [functools.partial(_build_ahead, k) for k in tiles])


def _build_ahead(kernel): _ready[id(kernel)] = kernel, _BUILDERS[type(kernel)](kernel)
