"""A plan's kernels, queued in a stream of one device.

Comes in: launches with their operands' positions among a run's values. Goes out: a `Table`, flat native arrays made once; `Frame.run` queues launches in one native
call, which fills their parameters and calls the driver. Every parameter of a kernel is an 8-byte word: operands' addresses and numbers, which each run has anew, then
the kernel's own numbers. A plan that repeats becomes a graph (`replay`).
"""
from __future__ import annotations

import array
import functools
import struct
import threading
import weakref

from ..core.flags import flags
from ..core.hot import free
from ..core.kernels import DeviceLaunch
from ..cpu import code as host_code
from ..cpu import isa
from ..gpu.errors import error
from . import code, devices, faults, memory, streams
from .allocator import CAPTURING
from .replay import FILL, Replay

# The driver copies parameters when it is called, so one room for them does for all launches of a walk, and threads that walk at once have one each.
_TEXT = """
; call: the driver's function, launches, words of the longest. vals: first, last, stream, then the run's values. A launch: function, grid, block, shared memory,
; words, how many, (word, value) pairs to fill in, how many. Returns 0, or the number of the launch that was refused plus 1, times 2^32, plus the driver's code.
define i64 @launch(ptr %call, ptr %vals) #0 {
entry:
  %driver = load ptr, ptr %call
  %launches.p = getelementptr i64, ptr %call, i64 1
  %launches = load ptr, ptr %launches.p
  %most.p = getelementptr i64, ptr %call, i64 2
  %most = load i64, ptr %most.p
  %first = load i64, ptr %vals
  %last.p = getelementptr i64, ptr %vals, i64 1
  %last = load i64, ptr %last.p
  %stream.p = getelementptr i64, ptr %vals, i64 2
  %stream = load ptr, ptr %stream.p
  %values = getelementptr i64, ptr %vals, i64 3
  %room = alloca i64, i64 %most, align 16
  %places = alloca ptr, i64 %most, align 16
  br label %place
place:
  %k = phi i64 [ 0, %entry ], [ %k1, %placed ]
  %k.more = icmp slt i64 %k, %most
  br i1 %k.more, label %placed, label %next
placed:
  %k.word = getelementptr i64, ptr %room, i64 %k
  %k.place = getelementptr ptr, ptr %places, i64 %k
  store ptr %k.word, ptr %k.place
  %k1 = add i64 %k, 1
  br label %place
next:
  %i = phi i64 [ %first, %place ], [ %i1, %queued ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %read, label %done
read:
  %s = getelementptr [12 x i64], ptr %launches, i64 %i
  %function = load ptr, ptr %s
LOADS
  %words = inttoptr i64 %n8 to ptr
  %fills = inttoptr i64 %n10 to ptr
  br label %copy
copy:
  %c = phi i64 [ 0, %read ], [ %c1, %copied ]
  %c.more = icmp slt i64 %c, %n9
  br i1 %c.more, label %copied, label %fill
copied:
  %c.from = getelementptr i64, ptr %words, i64 %c
  %c.to = getelementptr i64, ptr %room, i64 %c
  %c.word = load i64, ptr %c.from
  store i64 %c.word, ptr %c.to
  %c1 = add i64 %c, 1
  br label %copy
fill:
  call void @fill(ptr %room, ptr %values, ptr %fills, i64 %n11)
  %code = call i32 %driver(ptr %function, i32 %t1, i32 %t2, i32 %t3, i32 %t4, i32 %t5, i32 %t6, i32 %t7, ptr %stream, ptr %places, ptr null)
  %i1 = add i64 %i, 1
  %bad = icmp ne i32 %code, 0
  br i1 %bad, label %refused, label %queued
queued:
  br label %next
refused:
  %code.wide = zext i32 %code to i64
  %number = shl i64 %i1, 32
  %both = or i64 %number, %code.wide
  ret i64 %both
done:
  ret i64 0
}

attributes #0 = { ATTRIBUTES }
"""
_RECORD = 12                                   # words of a launch
_HEAD = struct.Struct("3q").pack


@functools.cache
def _launcher() -> int:
    """The native function's address."""
    loads = [f"  %n{k}.p = getelementptr i64, ptr %s, i64 {k}\n  %n{k} = load i64, ptr %n{k}.p" for k in range(1, _RECORD)]
    loads += [f"  %t{k} = trunc i64 %n{k} to i32" for k in range(1, 8)]
    return host_code.load((FILL + _TEXT).replace("LOADS", "\n".join(loads)).replace("ATTRIBUTES", isa.attributes), "launch", 1)


class Table:
    """The launches of a plan: `nvals` words of values come with each run, and one more per entry of `arena_offsets`, the address of that byte of the run's arena.

    The word behind them is the address of scratch: launches of one stream take turns with it.
    """

    def __init__(self, device: str, steps: list[tuple[DeviceLaunch, tuple[int, ...]]], nvals: int, arena_bytes: int, arena_offsets: tuple[int, ...]):
        self.device, self.index, self.nvals, self.arena_bytes, self.arena_offsets = device, devices.number_of(device), nvals, arena_bytes, arena_offsets
        self.scratch = max((l.scratch for first, _ in steps for l in (first, *first.then)), default=0)
        self.launches, self.begins = [], [0]               # where in `launches` each step begins, and the last ends
        self.numbers: dict[int, int] = {}                  # of steps that can fail, as they report them -> the step
        self.about = None                                  # whoever knows what steps are about: (step, code, index, size) -> a sentence
        for k, (first, places) in enumerate(steps):
            number = 0
            if any([what == "step" for l in (first, *first.then) for _, what in l.late]):
                number = faults.number(self)
                self.numbers[number] = k
            self.launches += [self.filled(l, places, number) for l in (first, *first.then)]
            self.begins.append(len(self.launches))
        self.most = max((len(words) for _, words, _ in self.launches), default=0)
        self.tail = struct.Struct(f"{len(arena_offsets) + 1}q").pack
        self.driver, self.flat, self.call = None, None, None            # of the driver that it was made for last
        self.lock = threading.RLock()
        self.replays: dict[tuple[int, int], Replay] = {}                # launches [first, end) -> their graphs, of that driver

    def told(self, number: int, code: int, index: int, size: int) -> str:
        """What a report of a step means."""
        return self.about(self.numbers[number], code, index, size)

    def filled(self, launch: DeviceLaunch, places, number: int):
        """(launch, its words, (word, position among a frame's values) of those that each run has anew)."""
        scratch = self.nvals + len(self.arena_offsets)
        fills = [*enumerate(places), *((len(places) + k, scratch) for k, what in launch.late if what == "scratch")]
        words = array.array("q", [*[0] * len(places), *launch.words])
        for k, what in launch.late:
            if what == "step": words[len(places) + k] = number
        return launch, words, array.array("q", [n for pair in fills for n in pair])

    def made_for(self, driver):
        """The native arrays, with the functions as this driver knows them. A capture may be underway: that is not their business.

        Made once: another thread's launches may be reading them, and native code keeps nothing alive."""
        with self.lock:
            if self.driver is not None and self.driver() is driver: return
            with devices.relaxed(driver): self.flat = array.array("q", self.flattened(driver))
            self.call = array.array("q", [driver.address("LaunchKernel"), self.flat.buffer_info()[0], max(self.most, 1)])
            self.driver, self.replays = weakref.ref(driver), {}

    def replay(self, span: tuple[int, int]) -> Replay:
        """Some launches as graphs, if there are to be any."""
        found = self.replays.get(span)
        return self.replays.setdefault(span, Replay(self.index, self.launches[slice(*span)])) if found is None else found

    def flattened(self, driver) -> list[int]:
        """A record for each launch."""
        flat = []
        for launch, words, fills in self.launches:
            function = code.function(driver, self.index, launch.ptx, launch.name)
            if launch.shared: code.allow_shared(driver, function, launch.shared)
            for k, what in launch.late:
                if what == "error": words[len(words) - len(launch.words) + k] = faults.record(driver, self.index)[1]
            flat += function, *launch.grid, *launch.block, launch.shared, words.buffer_info()[0], len(words), fills.buffer_info()[0], len(fills) // 2
        return flat

    def frame(self, vals: bytes) -> Frame: return Frame(self, vals)


class Frame:
    """One run's values; they, the arena and scratch live until its work is queued."""
    __slots__ = ("table", "vals", "arena", "scratch")

    def __init__(self, table: Table, vals: bytes):
        self.table, self.arena = table, memory.empty(table.arena_bytes, table.device) if table.arena_offsets else None
        self.scratch = memory.empty(table.scratch, table.device) if table.scratch else None
        self.vals = vals + table.tail(*[self.arena.address + o for o in table.arena_offsets], self.scratch.address if self.scratch else 0)

    @property
    def values(self):
        """The words, by position."""
        return memoryview(self.vals).cast("q")

    def run(self, first: int, last: int):
        """Queue some of the steps."""
        t = self.table
        driver = devices.use(t.index)
        if t.driver is None or t.driver() is not driver: t.made_for(driver)
        span = t.begins[first], t.begins[last]
        values = _HEAD(*span, streams.current(t.index)) + self.vals
        if flags.GRAPHS and not (CAPTURING and threading.get_ident() in CAPTURING) and t.replay(span).run(driver, values): return
        refused = free(_launcher(), t.call.buffer_info()[0], values)
        if refused: self.refuse(refused)

    def refuse(self, refused: int):
        launch = self.table.launches[(refused >> 32) - 1][0]
        raise error("LaunchKernel", refused & 0xFFFFFFFF, f"kernel {launch.name}, {launch.grid} blocks of {launch.block} threads with {launch.shared} bytes of shared memory")
