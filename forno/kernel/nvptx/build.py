"""One door to the kernels of GPUs: any kernel noun in, what is launched for it out."""
from __future__ import annotations

import functools
from dataclasses import replace

from ...core.errors import unsupported
from ...core.kernels import Conv, DeviceCall, DeviceLaunch, Gemm, Native, Nest
from ...cpu.isa import Isa
from .. import epilogue
from . import conv, gemm, nest, routines
from .providers import PROVIDERS, Offer, Provider, offers

_BUILDERS = {Nest: nest.build, Gemm: gemm.build, Conv: conv.build, Native: routines.build}


class Own(Provider):
    """The kernels of this folder: for every device, and asked last."""
    name = "forno"

    def offer(self, kernel, isa: Isa) -> Offer | None:
        make, chain = _BUILDERS.get(type(kernel)), getattr(kernel, "epilogue", None)
        return make and Offer(functools.partial(make, kernel, isa), chain is None or epilogue.accepts(chain))


PROVIDERS.append(Own())


def build_all(kernels, isa: Isa) -> list[DeviceLaunch | DeviceCall]: return [build(k, isa) for k in kernels]


def build(kernel, isa: Isa) -> DeviceLaunch | DeviceCall:
    """Of the first provider that computes all of it."""
    alone = getattr(kernel, "epilogue", None) is None
    for provider, offer in offers(kernel, isa):
        if alone or offer.fuses: return replace(offer.make(), by=provider.name)
    raise unsupported(kernel.label or type(kernel).__name__, device="cuda", instead="use device='cpu' for it")


def accepts(kernel: Gemm | Conv, isa: Isa) -> bool:
    """Should a product have this epilogue? Whoever is asked first for it decides."""
    return next((offer.fuses for _, offer in offers(kernel, isa)), False)
