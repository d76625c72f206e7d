"""PTX that runs on the processor: modules, entries, programs, and what a run reports.

    module = Module(text)
    program = module.entries["scale"].program(exact=True)
    touched = program.run(grid=(4, 1, 1), block=(256, 1, 1), params=words, memory=memory)

A program is a kernel as machine code with checks. `exact` finds every misaligned or stray access, races and uninitialised reads of shared memory, and
registers read before they are written; without it only bounds and alignment are checked. A fault is an exception that names block, thread and PTX line.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import random
import weakref
from dataclasses import astuple, dataclass, field

import numpy as np

from ...cpu import code
from . import machine
from .layout import *
from .parse import Function, parse
from .translate import Translated, places, translate

SHADOW_BYTES = 1 << 30                         # up to which races on global memory are looked for (address space: pages come with accesses)
BRANCHES = 1 << 31                             # backward branches of one launch, until it counts as endless
_NOWHERE = np.array([(1 << 64) - 1], np.uint64)


class Fault(RuntimeError):
    """A kernel did what it must not do. `kind` is a word ("race", "out of bounds", …), `line` the PTX line, `text` what stands there."""

    def __init__(self, kind: str, why: str, entry: str, block=None, thread=None, line: int = 0, text: str = ""):
        where = f"{entry}: {kind}" + (f" in block {block}, thread {thread}" if block is not None else "") + (f", PTX line {line}" if line else "")
        super().__init__(f"{where}: {why}" + (f"\n    {text}" if text else ""))
        self.kind, self.why, self.entry, self.block, self.thread, self.line, self.text = kind, why, entry, block, thread, line, text


class Memory:
    """Device memory as kernels see it: a device address is a host address + `delta`; `starts` and `ends` are the live allocations' device addresses,
    sorted, as uint64 arrays. Whoever has its own memory offers these three and `allocate`; this one keeps its allocations in NumPy arrays."""

    def __init__(self, delta: int = 1 << 52):
        self.delta, self.held = delta, {}
        self.starts, self.ends = np.empty(0, np.uint64), np.empty(0, np.uint64)

    def allocate(self, nbytes: int) -> int:
        """A device address, aligned to 256 bytes; the bytes are poison."""
        room = np.full(nbytes + 256, 0xCD, np.uint8)
        host = -(-room.ctypes.data // 256) * 256
        self.held[host + self.delta] = room, nbytes
        self._sort()
        return host + self.delta

    def free(self, address: int):
        del self.held[address]
        self._sort()

    def _sort(self):
        found = sorted((a, a + n) for a, (_, n) in self.held.items())
        self.starts, self.ends = (np.array([f[i] for f in found], np.uint64) for i in (0, 1))

    def write(self, address: int, data: np.ndarray):
        data = np.ascontiguousarray(data)
        ctypes.memmove(address - self.delta, data.ctypes.data, data.nbytes)

    def read(self, address: int, shape, dtype) -> np.ndarray:
        out = np.empty(shape, dtype)
        ctypes.memmove(out.ctypes.data, address - self.delta, out.nbytes)
        return out

    def put(self, data: np.ndarray) -> int:
        """An allocation with an array's bytes."""
        address = self.allocate(max(1, data.nbytes))
        self.write(address, data)
        return address


@dataclass(frozen=True)
class Touched:
    """What a launch accessed: (start of the allocation, lowest address, end of the highest) of each allocation read, and of each written."""
    reads: list[tuple[int, int, int]]
    writes: list[tuple[int, int, int]]


@dataclass
class Entry:
    """A kernel of a module. `params`: parse.Parameter with name, size, align and offset; `shared`: bytes of its own shared memory."""
    module: Module
    function: Function
    programs: dict = field(default_factory=dict)

    @property
    def name(self) -> str: return self.function.name

    @property
    def params(self): return self.function.params

    @property
    def param_bytes(self) -> int: return max((p.offset + p.size for p in self.params), default=0)

    @property
    def registers(self) -> dict[str, str]: return self.function.registers

    @property
    def max_threads(self) -> int:
        """The bound of .maxntid or .reqntid, or the silicon's 1024."""
        return min([1024, *(math.prod(v) for k, v in self.function.tuning.items() if k in ("maxntid", "reqntid"))])

    @functools.cached_property
    def shared(self) -> int: return places(self.module.source, self.function)[1]

    def program(self, exact: bool = True) -> Program:
        if exact not in self.programs: self.programs[exact] = Program(self, exact)
        return self.programs[exact]


class Module:
    """The PTX text of a module, read once."""

    def __init__(self, text: str):
        self.source, self.digest = parse(text), hashlib.sha256(text.encode()).hexdigest()
        self.entries = {name: Entry(self, f) for name, f in self.source.functions.items() if f.entry}
        self.variables = {v.name: v for v in self.source.variables.values() if v.space in ("global", "const")}
        self.positions = {name: i for i, name in enumerate(self.variables)}
        self.loaded = weakref.WeakKeyDictionary()

    @property
    def target(self) -> str: return self.source.target

    @property
    def version(self) -> str: return self.source.version

    def load(self, memory) -> dict[str, int]:
        """Device addresses of the module's variables; the first time, they are allocated and filled."""
        if memory not in self.loaded:
            out = self.loaded[memory] = {name: memory.allocate(max(1, v.size)) for name, v in self.variables.items()}
            for name, v in self.variables.items():
                host = out[name] - memory.delta
                ctypes.memset(host, 0, v.size)
                ctypes.memmove(host, v.data, len(v.data))
                for offset, other, plus in v.links: ctypes.memmove(host + offset, (out[other] + plus).to_bytes(8, "little"), 8)
        return self.loaded[memory]

    def unload(self, memory):
        """Forgets this memory's variables and returns their addresses, for its owner to free."""
        return list(self.loaded.pop(memory, {}).values())


class Program:
    """A kernel as machine code."""

    def __init__(self, entry: Entry, exact: bool):
        self.entry, self.exact = entry, exact
        text = code.Text(self.write, f"PTX {entry.name} {exact} {entry.module.digest} {machine.sources()}")
        self.step = code.load(text, "kernel", 1)
        self.made = Translated(*text.notes)

    def write(self) -> tuple[str, tuple]:
        """The kernel's IR and what must be known to run it."""
        module = self.entry.module
        text, made = translate(module.source, self.entry.function, module.positions, machine.positions(), self.exact)
        return text, astuple(made)

    def run(self, grid=(1, 1, 1), block=(1, 1, 1), shared: int = 0, params: bytes = b"", memory=None, seed: int = 0, budget: int = BRANCHES,
            uninitialized: bool = True, races: bool = True, approximate: bool = False) -> Touched:
        """Runs a launch; `shared` is the dynamic shared memory in bytes. Where the program is exact: `uninitialized=False` allows reads of shared memory that
        nobody wrote, `races=False` whatever threads do to each other's global memory; `approximate` lets ex2.approx and the like err, at random, as far as
        PTX's documentation allows them."""
        grid, block = ((*v, 1, 1)[:3] for v in (grid, block))
        threads, entry = math.prod(block), self.entry
        if not 0 < threads <= entry.max_threads: raise ValueError(f"{entry.name}: {threads} threads in a block; at most {entry.max_threads}")
        if len(params) < entry.param_bytes: raise ValueError(f"{entry.name}: {len(params)} bytes of parameters, {entry.param_bytes} are declared")
        options = {BUDGET: budget, POISON: int(uninitialized), RACES: int(races), APPROXIMATE: int(approximate)} | _order(math.prod(grid), random.Random(seed))
        memory = memory if memory is not None else Memory()
        entry.module.load(memory)                                    # first: it may allocate
        launch = _Launch(self, grid, block, memory, params, shared, options)
        if math.prod(grid) and machine.run_grid()(launch.words.ctypes.data): raise launch.fault()
        return launch.touched()


def _order(blocks: int, dice: random.Random) -> dict[int, int]:
    """Blocks in the order of a random arithmetic progression."""
    step = dice.randrange(1, blocks + 1) if blocks else 1
    while math.gcd(step, blocks) > 1: step += 1
    return {BLOCKS: blocks, BLOCK_FACTOR: step, BLOCK_START: dice.randrange(blocks) if blocks else 0, RANDOM: dice.randrange(1, 1 << 62)}


class _Launch:
    """The words and the memory of one run."""

    def __init__(self, program: Program, grid, block, memory, params: bytes, shared: int, options: dict[int, int]):
        self.program, self.grid, self.block, self.threads = program, grid, block, math.prod(block)
        starts, ends = memory.starts, memory.ends
        self.count = len(starts)
        self.starts, self.ends = (np.ascontiguousarray(a, np.uint64) for a in ((starts, ends) if self.count else (_NOWHERE, _NOWHERE)))
        self.shared_bytes = program.made.shared + shared
        self.stride = -(-(program.made.frame + program.made.local) // 64) * 64 + 64      # the 64 keep frames out of one cache set
        self.seen = np.zeros((len(self.starts), 4), np.uint64)
        self.seen[:, 0::2] = (1 << 64) - 1
        self.buffers = []                                            # what the words point to
        self.words = np.zeros(BLOCK_WORDS, np.int64)
        for at, value in (self.numbers() | self.rooms() | options).items(): self.words[at] = value
        variables = program.entry.module.load(memory)
        self.words[PARAMS] = self.keep(np.frombuffer(bytes(params) + bytes(16), np.uint8))
        self.words[GLOBALS] = self.keep(np.array([*variables.values(), 0], np.uint64))
        self.words.view(np.uint64)[DELTA] = memory.delta % (1 << 64)
        table = machine.addresses()
        self.words[FUNCTIONS:FUNCTIONS + len(table)] = table
        if program.exact and options[RACES]: self.shadow_global()

    def numbers(self) -> dict[int, int]:
        made = self.program.made
        return {
            NTID_X: self.block[0], NTID_Y: self.block[1], NTID_Z: self.block[2], GRID_X: self.grid[0], GRID_Y: self.grid[1], GRID_Z: self.grid[2], COUNT: self.count,
            SHARED_SIZE: self.shared_bytes, GRANULE: made.granule, STRIDE: self.stride, THREADS: self.threads, WARPS: -(-self.threads // 32), STEP: self.program.step,
            WAITS: int(bool(made.waits)), HEADER: made.header, LOCAL: made.frame, LOCAL_SIZE: made.local, GLOBAL_GRANULE: made.global_granule, FENCED: int(made.fenced),
        }

    def rooms(self) -> dict[int, int]:
        made, shadowed = self.program.made, self.program.exact and self.shared_bytes > 0
        frames = self.threads if made.waits else 1
        return {
            FRAMES: self.room(self.stride * frames), SHARED: self.room(self.shared_bytes + 16), CLOCKS: self.room(32 * 256),
            SHADOW: self.room(((self.shared_bytes >> made.granule) + 1) * 12) if shadowed else 0, COPIES: self.room(frames * MAX_COPIES * COPY_WORDS * 8) if made.copies else 0,
            WARP_TABLE: self.room(32 * WARP_WORDS * 8), BARRIERS: self.room(16 * BARRIER_WORDS * 8), SCRATCH: self.room(32 << 10) if made.waits else 0,
            STARTS: self.keep(self.starts), ENDS: self.keep(self.ends), TOUCHED: self.keep(self.seen),
        }

    def shadow_global(self):
        """Three words per granule of every allocation; the system gives pages only to what is touched."""
        granule = np.uint64(self.program.made.global_granule)
        sizes = ((self.ends >> granule) - (self.starts >> granule)).astype(np.int64) * 24 + 48
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        if not self.count or offsets[-1] > SHADOW_BYTES: return
        self.words[GLOBAL_SHADOW], self.words[GLOBAL_OFFSETS] = self.keep(np.zeros(int(offsets[-1]), np.uint8)), self.keep(offsets)

    def room(self, nbytes: int) -> int:
        """Aligned scratch memory; small rooms start as zeros."""
        array = np.zeros(nbytes + 64, np.uint8) if nbytes <= 1 << 16 else np.empty(nbytes + 64, np.uint8)
        self.buffers.append(array)
        return -(-array.ctypes.data // 64) * 64

    def keep(self, array: np.ndarray) -> int:
        self.buffers.append(array)
        return array.ctypes.data

    def touched(self) -> Touched:
        def found(low, high): return [(int(self.starts[i]), int(self.seen[i, low]), int(self.seen[i, high])) for i in np.flatnonzero(self.seen[:, high])]
        return Touched(found(0, 1), found(2, 3))

    # ---- faults
    def fault(self) -> Fault:
        words, entry = self.words, self.program.entry
        kind, info = int(words[FAULT]), int(words[FAULT_INFO])
        line, linear = info >> 16 & 0xFFFFF, int(words[FAULT_THREAD])
        name, sentence = FAULTS[kind]
        access = "an atomic" if info & ATOMIC else "a write" if info & WRITES else "a read"
        address = int(words.view(np.uint64)[FAULT_ADDRESS])
        register = self.program.made.undefined[address] if kind == UNDEFINED else ""
        other = int(words[FAULT_OTHER])
        why = sentence.format(register=register, block=other >> 32, access=access, size=info & 255, address=address, other=other & 1023, shared=self.shared_bytes)
        if kind == OUT_OF_BOUNDS: why += self.nearest(address)
        if kind in (DEADLOCK, DIVERGENT): why += self.waiting()
        text = entry.module.source.lines[line - 1].strip() if line else ""
        block = tuple(int(words[w]) for w in (CTA_X, CTA_Y, CTA_Z))
        thread = linear % self.block[0], linear // self.block[0] % self.block[1], linear // self.block[0] // self.block[1]
        return Fault(name, why, entry.name, block, thread, line, text)

    def nearest(self, address: int) -> str:
        """Where the next allocation is."""
        best = min(((max(int(s) - address, address - int(e) + 1), int(s), int(e)) for s, e in zip(self.starts, self.ends)), default=None)
        if best is None or best[1] == (1 << 64) - 1: return ""
        _, start, end = best
        return f"; the nearest one has {end - start} bytes, and this is " + (f"{start - address} bytes before it" if address < start else f"{address - end} bytes past its end")

    def waiting(self) -> str:
        """The places where the threads of each warp are."""
        if not self.program.made.waits: return ""
        out = []
        for w in range(-(-self.threads // 32)):
            places = {}
            for thread in range(w * 32, min(self.threads, w * 32 + 32)):
                frame = np.ctypeslib.as_array((ctypes.c_int64 * FRAME_WORDS).from_address(int(self.words[FRAMES]) + thread * self.stride))
                places.setdefault((int(frame[WAIT]), int(frame[PLACE]) & 0xFFFFF), []).append(thread)
            lanes = [f"{len(t)} {'ended' if k == EXIT else 'at line ' + str(line) if k else 'ready at line ' + str(line)}" for (k, line), t in places.items()]
            out.append(f"warp {w}: {', '.join(lanes)}")
        return "; " + "; ".join(out[:8])
