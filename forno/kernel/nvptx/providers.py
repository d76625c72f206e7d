"""Who computes a kernel on a GPU: forno's own kernels, or those of a library. The first one in order that wants it gets it.

Comes in: a kernel noun, which says what is asked for: row, shapes, dtypes, strides, epilogue, and what a program allows (`rounding`, `alike`); and what the device
is (`Isa`). Goes out: an `Offer`, or None. Providers know nothing of each other, and a plan holds whatever they offer: launches of PTX, or calls of a library.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ...core.kernels import DeviceCall, DeviceLaunch
from ...core.state import state
from ...cpu.isa import Isa


@dataclass(frozen=True, slots=True)
class Offer:
    """How a provider would compute a kernel. `make()`: the launches in their order, with the bytes of scratch that they share. `fuses`: is the kernel's epilogue
    computed, too? If not, the planner leaves it to a kernel of its own, and asks again for what is left."""
    make: Callable[[], DeviceLaunch | DeviceCall]
    fuses: bool = True


class Provider(ABC):
    """`name`: what FORNO_SHOW prints, and what a program switches off by."""
    name: str

    @abstractmethod
    def offer(self, kernel, isa: Isa) -> Offer | None:
        """None: not this kernel, or not on such a device. This is asked while a program is planned, so it compiles nothing."""


PROVIDERS: list[Provider] = []                 # in the order in which they are asked. Whoever adds one does so before it is wanted: plans that exist stay as they are


def offers(kernel, isa: Isa):
    """(provider, its offer) of all that want a kernel and are switched on."""
    for p in PROVIDERS:
        if p.name not in state.without and (offer := p.offer(kernel, isa)) is not None: yield p, offer
