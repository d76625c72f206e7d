"""A simulated machine with NVIDIA GPUs, behind the driver's own table of C functions.

Comes in: how many devices and of what kind, and a seed. Goes out: `Machine.table()`, name -> C address, that `Driver` takes for the real one's. Memory is
there, kernels run (`gpu/ptx`), streams hold operations that run later and in an order that only their dependences fix, differently for each seed. What a
program got away with is found anyway: unordered accesses of one byte, memory used after it was freed, pinned memory changed too early, red zones written.

    with Machine(devices=2, seed=7) as machine:          # findings raise at the end
        driver = machine.driver()
"""
from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import itertools
import os
import sys
import threading
import traceback
from uuid import UUID

from .. import visible
from ..driver import Driver, start
from ..prototypes import CHARS, INPUT, OUTPUT, PROTOTYPES, Prototype
from .devices import uuid
from .machine import CALL, Spec
from .order import Finding
from .tensormap import TensorMapCalls
from .work import Fill, Refuse

# What may be called without anything being initialised, and when a context is broken.
_ALWAYS = frozenset(("Init", "DriverGetVersion", "GetProcAddress", "GetErrorName", "GetErrorString"))
# What finalizers call: the collector may run one in the middle of another call, at whose end it is done.
_ENDINGS = frozenset(("MemFree", "MemFreeAsync", "MemFreeHost", "MemHostUnregister", "MemRelease", "MemUnmap", "MemAddressFree", "MemPoolDestroy", "StreamDestroy",
                      "EventDestroy", "ModuleUnload", "LibraryUnload", "LinkDestroy", "GraphDestroy", "GraphExecDestroy", "DevicePrimaryCtxRelease"))


class Findings(AssertionError):
    """What the simulated machine found wrong with the program."""

    def __init__(self, found: list[Finding]):
        super().__init__("\n".join(map(str, found)))
        self.found = found


class Machine(TensorMapCalls):
    """`devices`: how many, or a `Spec` for each. `peers[i][j]`: can device i reach memory of j. `missing`: functions that this driver lacks. `poisoning`: allocators are to
    fill what they give out with NaN (`poison`), so that values nobody wrote are seen."""

    def __init__(self, devices=1, seed: int = 0, version: int = 12080, peers=None, missing=(), poisoning: bool = False):
        super().__init__([Spec()] * devices if isinstance(devices, int) else list(devices), seed, version, peers)
        self.missing, self.poisoning = frozenset(missing), poisoning
        self.blocking = os.environ.get("CUDA_LAUNCH_BLOCKING") == "1"
        self.texts, self.arrays, self.pinned, self.reserved, self.tables = {}, [], {}, {}, {}
        self.captures, self.capture_count = [], 0
        self.faults: dict[str, list[list]] = {}            # function -> [calls until then, times, code, chance]
        self.later: list = []
        self._table: dict[str, int] = {}
        self._thunks: list = []

    # ---- from outside
    def table(self) -> dict[str, int]:
        """name -> address of a C function."""
        if not self._table:
            for name, prototype in PROTOTYPES.items():
                f = getattr(self, name, None)
                if f is None or name in self.missing or prototype.version > self.version: continue
                thunk = _thunk(self, prototype, f)
                self._thunks.append(thunk)
                self._table[name] = ctypes.cast(thunk, ctypes.c_void_p).value
        return self._table

    def driver(self) -> Driver:
        """An initialised driver of this machine."""
        d = Driver(self.table())
        d.Init(0)
        d.machine = self
        return d

    def symbol(self, name: str) -> int:
        """What the library that this machine pretends to be exports."""
        return self.table().get({"cuGetProcAddress_v2": "GetProcAddress", "cuDriverGetVersion": "DriverGetVersion"}.get(name, ""), 0)

    def findings(self) -> list[Finding]: return list(self.found)

    def drain(self) -> None:
        """Runs all that is still in line."""
        with self.lock, self.working():
            while self.step(): pass

    def divide(self, at: int, parts) -> None:
        """An allocator tells which parts, [start, end) each, of its memory at `at` it has given out: kernels that are launched from now on may touch nothing
        else of it."""
        with self.lock: self.divisions = self.divisions | {self.space.at(at).start: tuple(itertools.chain(*sorted(parts)))}

    def poison(self, at: int, nbytes: int, stream: int = 0) -> None:
        """An allocator gives memory out again for use in this stream: what it held is gone then. Nothing happens where a fill can't be queued: in a capture, on
        a device that is broken."""
        with self.lock, self.working(), contextlib.suppress(Refuse):
            s = self.stream(stream)
            if s.capture is None: self.post(Fill(at, b"\xff", nbytes), s)

    def __enter__(self): return self

    def __exit__(self, kind, value, tb):
        if kind is None:
            self.drain()
            if self.found: raise Findings(self.found)

    # ---- faults on demand
    def fail(self, name: str, code: int, nth: int = 1, times: int = 1, chance: float = 1.0) -> None:
        """The nth call from now of a function, and those after it up to `times`, return this code and do nothing; with a `chance`, by the seed's dice."""
        self.faults.setdefault(name, []).append([nth, times, code, chance])

    def break_context(self, ordinal: int, code: int) -> None:
        """As if a kernel had failed: this code is all that calls return from now on."""
        self.devices[ordinal].context.error = code

    def lose(self, ordinal: int) -> None:
        """The device is gone (fallen off the bus): every call returns CUDA_ERROR_UNKNOWN."""
        self.devices[ordinal].lost = True

    def planned(self, name: str) -> None:
        for rule in self.faults.get(name, ()):
            rule[0] -= 1
            if rule[0] > 0 or rule[1] <= 0 or (rule[3] < 1 and self.random.random() >= rule[3]): continue
            rule[1] -= 1
            raise Refuse(rule[2])

    # ---- C's side
    def array(self, numbers: list[int]) -> int:
        """A C array of words that stays."""
        self.arrays.append((ctypes.c_size_t * max(1, len(numbers)))(*numbers))
        return ctypes.addressof(self.arrays[-1])

    def call(self, prototype: Prototype, f, inputs):
        """One call of the driver's, with the lock held."""
        if self.local.callback and prototype.name not in _ALWAYS: raise Refuse("NOT_PERMITTED")
        if self.local.busy and prototype.name in _ENDINGS: return self.later.append((prototype.name, f, inputs))
        with self.working():
            self.calls += 1
            self.now += CALL
            self.planned(prototype.name)
            if self.ready: self.some()
            return f(*inputs)

    @contextlib.contextmanager
    def working(self):
        """From the outermost call on, endings wait; then they come."""
        outermost, self.local.busy = not self.local.busy, True
        try: yield
        finally:
            while outermost and self.later:
                name, f, inputs = self.later.pop(0)
                try: f(*inputs)
                except Refuse as e: self.find("finalizer", f"{name} in a finalizer, call {self.calls}: error {e.code}")
            self.local.busy = not outermost


def _thunk(machine: Machine, prototype: Prototype, f):
    """The C function: reads its arguments, calls the method, writes what it returns."""
    kinds = [(a.out, a.type) for a in prototype.arguments]
    outs = len(prototype.outputs)

    def run(*arguments):
        given, inputs, places = iter(arguments), [], []
        for out, kind in kinds:
            value = next(given)
            if out: places.append((kind, value, next(given) if kind == "chars" else 0))
            elif kind == "text": inputs.append(ctypes.string_at(value) if value else b"")
            else: inputs.append(value)
        with machine.lock:
            try: result = machine.call(prototype, f, inputs)
            except Refuse as e: return e.code
            except KeyboardInterrupt:          # no exception can pass through C: it comes again, when this call is over
                threading.Timer(0.02, _thread.interrupt_main).start()
                return 999
            except Exception:
                machine.find("simulator", f"cu{prototype.name} failed in the simulator: {traceback.format_exc()}")
                return 999
        for (kind, place, room), value in zip(places, (result,) if outs == 1 else result or ()):
            if place: _write(kind, place, room, value)
        return 0
    types = []
    for out, kind in kinds:
        if kind == "chars": types += [ctypes.c_size_t, ctypes.c_int]
        else: types.append(ctypes.c_size_t if out or kind in ("ptr", "handle", "text") else INPUT[kind])
    return ctypes.CFUNCTYPE(ctypes.c_int, *types)(run)


def _write(kind: str, place: int, room: int, value) -> None:
    if kind == "chars": ctypes.memmove(place, value[:room - 1] + b"\0", min(room, len(value) + 1))
    elif kind in ("uuid", "ipc"): ctypes.memmove(place, value, len(value))
    elif kind == "text": ctypes.c_size_t.from_address(place).value = value
    else: OUTPUT[kind].from_address(place).value = value


def install(devices: int) -> Driver:
    """What FORNO_GPU=sim is; CUDA_VISIBLE_DEVICES counts here, too, and memory that nobody wrote is NaN. Findings are printed when the process ends."""
    uuids = [str(UUID(bytes=uuid(0, k))) for k in range(devices)]
    machine = Machine([Spec(serial=k) for k in visible.numbers(os.environ.get("CUDA_VISIBLE_DEVICES"), [f"GPU-{u}" for u in uuids])], poisoning=True)
    driver = start(machine.symbol)
    driver.machine = machine
    atexit.register(_report, machine, os.getpid())
    return driver


def _report(machine: Machine, owner: int) -> None:
    if os.getpid() != owner: return
    machine.drain()
    for found in machine.findings(): print(f"simulated GPU: {found}", file=sys.stderr)


__all__ = ["Finding", "Findings", "Machine", "Spec", "install"]
