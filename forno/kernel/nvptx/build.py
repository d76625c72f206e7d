"""One door to the kernels of GPUs: any kernel noun in, a DeviceLaunch out."""
from __future__ import annotations

from ...core.errors import unsupported
from ...core.kernels import Conv, DeviceLaunch, Gemm, Native, Nest
from ...cpu.isa import Isa
from .. import epilogue
from . import conv, gemm, nest, routines

_BUILDERS = {Nest: nest.build, Gemm: gemm.build, Conv: conv.build, Native: routines.build}


def build_all(kernels, isa: Isa) -> list[DeviceLaunch]: return [build(k, isa) for k in kernels]


def build(kernel, isa: Isa) -> DeviceLaunch:
    make = _BUILDERS.get(type(kernel))
    if make is None: raise unsupported(kernel.label or type(kernel).__name__, device="cuda", instead="use device='cpu' for it")
    return make(kernel, isa)


def accepts(kernel: Gemm | Conv) -> bool:
    """Can a product with this epilogue be built? It runs on every sum by itself."""
    return epilogue.accepts(kernel.epilogue)
