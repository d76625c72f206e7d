"""One door to the kernels of GPUs: any kernel noun in, a DeviceLaunch out."""
from __future__ import annotations

from ...core.errors import unsupported
from ...core.kernels import DeviceLaunch, Gemm, Nest
from ...cpu.isa import Isa
from . import gemm, nest

_BUILDERS = {Nest: nest.build, Gemm: gemm.build}


def build_all(kernels, isa: Isa) -> list[DeviceLaunch]: return [build(k, isa) for k in kernels]


def build(kernel, isa: Isa) -> DeviceLaunch:
    make = _BUILDERS.get(type(kernel))
    if make is None: raise unsupported(kernel.label or type(kernel).__name__, device="cuda", instead="use device='cpu' for it")
    return make(kernel, isa)


def accepts(kernel) -> bool: return False
