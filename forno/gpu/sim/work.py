"""What streams do: kernels, copies, fills, host functions, allocations. Each knows how to run, what it touches and what it costs in virtual time.

Comes in: addresses and sizes, checked by the call that made it. Goes out: the effect on the simulated machine, when the scheduler says so. A work is never
changed once it is made: a graph runs the same one many times.
"""
from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

from ..errors import CODES
from ..prototypes import NODE
from . import memory
from .memory import DELTA

LAUNCH, HOST_CALL = 2e-6, 5e-6                 # virtual seconds
_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Refuse(Exception):
    """The call returns this code."""

    def __init__(self, code: int | str): self.code = code if isinstance(code, int) else CODES[code]


class Broken(Exception):
    """The operation breaks its context: every later call returns this code."""

    def __init__(self, code: str, text: str, kind: str = "fault"):
        super().__init__(text)
        self.code, self.kind = CODES[code], kind


class Work:
    node = NODE["empty"]
    name = "nothing"
    calls = False                              # does it run code of the host's?

    def run(self, machine, op) -> float: return 0.0
    def blocked(self, machine) -> bool: return False
    def same_form(self, other: Work) -> bool: return type(self) is type(other)        # may an instantiated graph take `other` in its place?


@dataclass(frozen=True)
class Marker(Work):
    """A recorded event, a wait, the start or end of a graph: an instant."""
    name: str
    node: int = NODE["empty"]


@dataclass(frozen=True)
class Kernel(Work):
    function: object                           # code.Function
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    params: bytes
    cooperative: bool = False
    cluster: tuple[int, int, int] = (1, 1, 1)
    divisions: dict | None = field(default_factory=dict)       # as they were at the call: what is freed then is still this kernel's; None: as they are when its graph is launched
    node = NODE["kernel"]

    @property
    def name(self) -> str: return f"kernel {self.function.name}"

    def run(self, machine, op) -> float:
        device = op.context.device
        nbytes = self.function.run(self, machine, op)
        threads = self.grid[0] * self.grid[1] * self.grid[2] * self.block[0] * self.block[1] * self.block[2]
        return LAUNCH + max(nbytes / device.bandwidth, threads * 20 / (device.sms * 128 * device.hertz))        # 20 instructions a thread, 128 at a time per SM


@dataclass(frozen=True)
class Copy(Work):
    """`height` rows of `width` bytes; addresses are the device's or the host's. `staged`: the source as it was at the call."""
    to: int
    source: int
    width: int
    height: int = 1
    to_pitch: int = 0
    source_pitch: int = 0
    staged: bytes | None = None
    seen: tuple | None = None                  # (pinned source, how often it had been written, its ends) at the call
    node = NODE["memcpy"]

    @property
    def name(self) -> str:
        kinds = ["host" if at < DELTA else "device" for at in (self.source, self.to)]
        return f"copy of {self.width * self.height} bytes from {kinds[0]} to {kinds[1]}"

    def run(self, machine, op) -> float:
        nbytes = self.width * self.height
        if self.seen is not None and self.seen[1] == self.seen[0].written and self.seen[2] != ends_of(self.source, self.width):
            machine.find("early reuse", f"the host changed {self.seen[0]} while {op} had still to read it")
        for row in range(self.height):
            to, source = self.to + row * self.to_pitch, self.source + row * self.source_pitch
            if self.staged is None:
                machine.touch_any(op, source, self.width, False, peer=True)
                data = source - DELTA if source >= DELTA else source
            else: data = self.staged[row * self.width:(row + 1) * self.width]
            machine.touch_any(op, to, self.width, True, peer=True)
            ctypes.memmove(to - DELTA if to >= DELTA else to, data, self.width)
        across = any(at < DELTA for at in (self.to, self.source))
        return LAUNCH + machine.slow * (nbytes / 25e9 if across else 2 * nbytes / op.context.device.bandwidth)


def ends_of(at: int, nbytes: int) -> bytes:
    """The first and last bytes of host memory: whether it changed can mostly be told by them."""
    return ctypes.string_at(at, nbytes) if nbytes <= 8192 else ctypes.string_at(at, 4096) + ctypes.string_at(at + nbytes - 4096, 4096)


@dataclass(frozen=True)
class Fill(Work):
    at: int
    value: bytes                               # one item
    width: int                                 # items
    height: int = 1
    pitch: int = 0
    node = NODE["memset"]

    @property
    def name(self) -> str: return f"fill of {self.width * self.height * len(self.value)} bytes"

    def run(self, machine, op) -> float:
        nbytes = self.width * len(self.value)
        for row in range(self.height):
            at = self.at + row * self.pitch
            machine.touch_any(op, at, nbytes, True)
            if len(self.value) == 1: ctypes.memset(at - DELTA, self.value[0], nbytes)
            else: ctypes.memmove(at - DELTA, self.value * self.width, nbytes)
        return LAUNCH + self.height * nbytes / op.context.device.bandwidth


@dataclass(frozen=True)
class HostCall(Work):
    function: int
    data: int
    node = NODE["host"]
    name = "host function"
    calls = True

    def run(self, machine, op) -> float:
        with machine.outside(): _HostFunction(self.function)(self.data)
        return HOST_CALL


@dataclass(frozen=True)
class Allocate(Work):
    allocation: object
    node = NODE["alloc"]

    @property
    def name(self) -> str: return f"making of {self.allocation.name}"

    def run(self, machine, op) -> float:
        a = self.allocation
        a.live = True
        machine.space.changes += 1
        memory.fill(a.host, a.nbytes, memory.POISON)
        memory.mark_zones(a)
        machine.touch(op, a, a.start, a.end, True)
        return 0.0


@dataclass(frozen=True)
class Free(Work):
    allocation: object
    node = NODE["free"]

    @property
    def name(self) -> str: return f"freeing of {self.allocation.name}"

    def run(self, machine, op) -> float:
        machine.touch(op, self.allocation, self.allocation.start, self.allocation.end, True)
        machine.free_now(self.allocation, str(op))
        return 0.0


@dataclass(frozen=True)
class WriteValue(Work):
    at: int
    value: int
    node = NODE["kernel"]
    name = "written value"

    def run(self, machine, op) -> float:
        machine.touch_any(op, self.at, 4, True, strong=True)
        ctypes.c_uint32.from_address(self.at - DELTA).value = self.value
        machine.values[self.at] = op.clock
        return 0.0


@dataclass(frozen=True)
class WaitValue(Work):
    """Goes on when the word fulfils the comparison: 0 at least (in a ring), 1 equal, 2 has a common bit, 3 the NOR has a bit."""
    at: int
    value: int
    compare: int
    node = NODE["kernel"]
    name = "wait for a value"

    def blocked(self, machine) -> bool:
        word = ctypes.c_uint32.from_address(self.at - DELTA).value
        return not ((word - self.value) & 0xFFFFFFFF < 1 << 31, word == self.value, word & self.value != 0, ~(word | self.value) & 0xFFFFFFFF != 0)[self.compare]

    def run(self, machine, op) -> float:
        op.learn(machine.values.get(self.at, {}))                 # whoever wrote the value comes before
        machine.touch_any(op, self.at, 4, False, strong=True)
        return 0.0
