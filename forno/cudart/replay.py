"""The launches of a plan that repeats, as one CUDA graph.

Comes in: launches, and the values of a run. Goes out: one cuGraphLaunch in place of them all, from a plan's fourth run on.

It is safe without asking. Native code compares every address and number of a run with those that the graph has, and writes what differs into the nodes that use it
(cuGraphExecKernelNodeSetParams, which leaves launches alone that are queued already): a graph never runs with what another run had, so nobody has to promise that
memory stays where it is. There are two graphs where that helps: training steps write new values beside old ones, and the two change places from step to step. Where
most launches differ from both, memory has moved, and a graph is rewritten, which costs what the launches would; if that keeps happening they are made one by one,
and ever fewer runs try again.

The nodes are made one after another, each behind the one before, and not by capturing a stream: a capture forbids other threads' calls meanwhile, can't be had on
the default stream, and tells no nodes' handles, without which nothing can be changed. A chain is what the stream promises, and drivers since CUDA 12.6 launch one
in a time that hardly depends on its length. What isn't a kernel (copies from and to the host, rows that a library computes there) stays between graphs.
"""
from __future__ import annotations

import array
import ctypes
import functools
import threading

from ..core.hot import free
from ..cpu import code as host_code
from ..cpu import isa
from ..gpu.errors import CudaError, error
from ..gpu.prototypes import KernelNodeParams
from . import code, devices, graphs

LEAST = 3                                      # fewer launches are as quick one by one
WARM = 3                                       # runs before there is a graph
GRAPHS = 2                                     # of one plan
PATIENCE = 8                                   # runs in a row that rewrite a graph
MANY = -1                                      # the native function's answer where one does not fit

FILL = """
; Those of a run's values that go into a launch's words: (word, value) pairs.
define internal void @fill(ptr %words, ptr %values, ptr %pairs, i64 %n) #0 {
entry:
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k1, %one ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %one, label %done
one:
  %k1 = add i64 %k, 1
  %pair = getelementptr [2 x i64], ptr %pairs, i64 %k
  %word = load i64, ptr %pair
  %which.p = getelementptr i64, ptr %pair, i64 1
  %which = load i64, ptr %which.p
  %from = getelementptr i64, ptr %values, i64 %which
  %to = getelementptr i64, ptr %words, i64 %word
  %value = load i64, ptr %from
  store i64 %value, ptr %to
  br label %next
done:
  ret void
}
"""
# A record: a node, its parameters, where the words lie that they point at, (word, value) pairs of the launch, how many, does one differ now.
_TEXT = """
; call: SetParams, Launch, the executable, records, how many, values as the graph has them, how many, how many launches may differ. vals: first, last, stream, then
; the run's values. Returns 0; -1 where more differ, and nothing was done; or the number of the launch that was refused plus 1 (of the graph: behind the last), times
; 2^32, plus the driver's code.
define i64 @replay(ptr %call, ptr %vals) #0 {
entry:
LOADS
  %stream.p = getelementptr i64, ptr %vals, i64 2
  %stream = load ptr, ptr %stream.p
  %values = getelementptr i64, ptr %vals, i64 3
  br label %count
count:
  %i = phi i64 [ 0, %entry ], [ %i1, %counted ]
  %differ = phi i64 [ 0, %entry ], [ %differ1, %counted ]
  %many = icmp sgt i64 %differ, %c7
  br i1 %many, label %unfit, label %next
unfit:
  ret i64 -1
next:
  %i.more = icmp slt i64 %i, %c4
  br i1 %i.more, label %look, label %change
look:
  %r = getelementptr [6 x i64], ptr %c3, i64 %i
  %r.fills.p = getelementptr i64, ptr %r, i64 3
  %r.fills = load ptr, ptr %r.fills.p
  %r.n.p = getelementptr i64, ptr %r, i64 4
  %r.n = load i64, ptr %r.n.p
  br label %each
each:
  %f = phi i64 [ 0, %look ], [ %f1, %compare ]
  %f.more = icmp slt i64 %f, %r.n
  br i1 %f.more, label %compare, label %counted
compare:
  %f1 = add i64 %f, 1
  %f.pair = getelementptr [2 x i64], ptr %r.fills, i64 %f
  %f.value.p = getelementptr i64, ptr %f.pair, i64 1
  %f.value = load i64, ptr %f.value.p
  %new.p = getelementptr i64, ptr %values, i64 %f.value
  %new = load i64, ptr %new.p
  %old.p = getelementptr i64, ptr %c5, i64 %f.value
  %old = load i64, ptr %old.p
  %same = icmp eq i64 %new, %old
  br i1 %same, label %each, label %counted
counted:
  %other = phi i64 [ 0, %each ], [ 1, %compare ]
  %r.other = getelementptr i64, ptr %r, i64 5
  store i64 %other, ptr %r.other
  %differ1 = add i64 %differ, %other
  %i1 = add i64 %i, 1
  br label %count
change:
  %j = phi i64 [ 0, %next ], [ %j1, %changed ]
  %j.more = icmp slt i64 %j, %c4
  br i1 %j.more, label %ask, label %keep
ask:
  %j1 = add i64 %j, 1
  %q = getelementptr [6 x i64], ptr %c3, i64 %j
  %q.other.p = getelementptr i64, ptr %q, i64 5
  %q.other = load i64, ptr %q.other.p
  %q.same = icmp eq i64 %q.other, 0
  br i1 %q.same, label %changed, label %write
write:
  %q.node = load ptr, ptr %q
  %q.params.p = getelementptr i64, ptr %q, i64 1
  %q.params = load ptr, ptr %q.params.p
  %q.words.p = getelementptr i64, ptr %q, i64 2
  %q.words = load ptr, ptr %q.words.p
  %q.fills.p = getelementptr i64, ptr %q, i64 3
  %q.fills = load ptr, ptr %q.fills.p
  %q.n.p = getelementptr i64, ptr %q, i64 4
  %q.n = load i64, ptr %q.n.p
  call void @fill(ptr %q.words, ptr %values, ptr %q.fills, i64 %q.n)
  %set.code = call i32 %c0(ptr %c2, ptr %q.node, ptr %q.params)
  %set.bad = icmp ne i32 %set.code, 0
  br i1 %set.bad, label %refused, label %changed
changed:
  br label %change
keep:
  %k = phi i64 [ 0, %change ], [ %k1, %kept ]
  %k.more = icmp slt i64 %k, %c6
  br i1 %k.more, label %kept, label %launch
kept:
  %k1 = add i64 %k, 1
  %k.from = getelementptr i64, ptr %values, i64 %k
  %k.to = getelementptr i64, ptr %c5, i64 %k
  %k.new = load i64, ptr %k.from
  store i64 %k.new, ptr %k.to
  br label %keep
launch:
  %launch.code = call i32 %c1(ptr %c2, ptr %stream)
  %launch.bad = icmp ne i32 %launch.code, 0
  %behind = add i64 %c4, 1
  br i1 %launch.bad, label %refused, label %done
refused:
  %code = phi i32 [ %set.code, %write ], [ %launch.code, %launch ]
  %which = phi i64 [ %j1, %write ], [ %behind, %launch ]
  %code.wide = zext i32 %code to i64
  %number = shl i64 %which, 32
  %both = or i64 %number, %code.wide
  ret i64 %both
done:
  ret i64 0
}

attributes #0 = { ATTRIBUTES }
"""
_POINTERS = (0, 1, 2, 3, 5)                    # words of a call that are addresses


@functools.cache
def _replayer() -> int:
    """The native function's address."""
    loads = [f"  %c{k}.p = getelementptr i64, ptr %call, i64 {k}\n  %c{k} = load {'ptr' if k in _POINTERS else 'i64'}, ptr %c{k}.p" for k in range(8)]
    return host_code.load((FILL + _TEXT).replace("LOADS", "\n".join(loads)).replace("ATTRIBUTES", isa.attributes), "replay", 1)


class Chain:
    """Launches as a graph, with the values that it was launched with last."""
    __slots__ = ("exec", "graph", "dropped", "call", "records", "seen", "kept")

    def __init__(self, driver, index: int, launches: list, values):
        """`launches`: (launch, its words, (word, value) pairs) each."""
        self.exec = self.graph = 0
        self.dropped, self.seen, self.kept = graphs.dropped(driver), array.array("q", values), []
        while self.dropped: graphs.destroy(driver, *self.dropped.pop())
        with devices.relaxed(driver):
            self.graph = driver.GraphCreate(0)
            self.records = array.array("q", self.nodes(driver, index, launches))
            self.exec = driver.GraphInstantiateWithFlags(self.graph, 0)
        self.call = array.array("q", [driver.address("GraphExecKernelNodeSetParams"), driver.address("GraphLaunch"), self.exec, self.records.buffer_info()[0],
                                      len(launches), self.seen.buffer_info()[0], len(values), 0])

    # a finalizer may run anywhere, inside a call of the driver's, too: so it calls nothing
    def __del__(self): self.dropped.append((self.exec, self.graph))

    def nodes(self, driver, index: int, launches) -> list[int]:
        """A node behind another for each launch; their records."""
        records, before = [], None
        for launch, words, fills in launches:
            mine = array.array("q", words)
            for word, value in zip(fills[::2], fills[1::2]): mine[word] = self.seen[value]
            at = mine.buffer_info()[0]
            places = (ctypes.c_void_p * max(len(mine), 1))(*[at + 8 * k for k in range(len(mine))])
            params = KernelNodeParams(code.function(driver, index, launch.ptx, launch.name), *launch.grid, *launch.block, launch.shared, ctypes.addressof(places))
            node = driver.GraphAddKernelNode(self.graph, before, 0 if before is None else 1, params)
            records += node, ctypes.addressof(params), at, fills.buffer_info()[0], len(fills) // 2, 0
            before = (ctypes.c_size_t * 1)(node)
            self.kept.append((mine, places, params))
        return records

    def launch(self, values: bytes, most: int) -> int:
        """The native function's answer; at most so many launches may differ from last time."""
        self.call[7] = most
        return free(_replayer(), self.call.buffer_info()[0], values)


class Replay:
    """Some launches of a table as graphs of one driver's. `runs`: so far without; `misses`: runs in a row that none fitted; `chains`: the one used last is last."""
    __slots__ = ("index", "launches", "lock", "runs", "misses", "over", "chains")

    def __init__(self, index: int, launches: list):
        self.index, self.launches, self.lock, self.chains = index, launches, threading.Lock(), []
        self.runs, self.misses, self.over = 0, 0, len(launches) < LEAST

    def run(self, driver, values: bytes) -> bool:
        """Launches a graph with these values (first, last, stream, then the run's). False: nothing was done, and the launches are to be made one by one."""
        if self.over or not self.lock.acquire(blocking=False): return False          # another thread runs the same plan
        try:
            self.runs += 1
            return self.runs > WARM and self.launched(driver, values)
        finally: self.lock.release()

    def launched(self, driver, values: bytes) -> bool:
        n = len(self.launches)
        for most in (n // 4, n * 3 // 4):      # a change costs the host less than a launch
            for chain in self.chains:
                refused = chain.launch(values, most)
                if refused == MANY: continue
                self.misses = 0
                return self.settled(chain, refused)
            if len(self.chains) < GRAPHS: return self.another(driver, values)
        self.misses += 1
        if self.misses > PATIENCE and self.misses & self.misses - 1: return False
        return self.settled(self.chains[0], self.chains[0].launch(values, n))

    def another(self, driver, values: bytes) -> bool:
        """A graph with these values; False where the driver has none to give."""
        try: self.chains.append(Chain(driver, self.index, self.launches, memoryview(values).cast("q")[3:]))
        except (CudaError, NotImplementedError):
            self.drop()
            return False
        return self.settled(self.chains[-1], self.chains[-1].launch(values, 0))

    def settled(self, chain: Chain, refused: int) -> bool:
        """Was a graph launched? One that could be changed in part only isn't used again."""
        if not refused:
            if chain is not self.chains[-1]: self.chains.append(self.chains.pop(0))
            return True
        self.drop()
        if refused >> 32 > len(self.launches): raise error("GraphLaunch", refused & 0xFFFFFFFF, f"a plan's {len(self.launches)} kernels")
        return False

    def drop(self):
        """There will be no graphs any more."""
        self.over = True
        self.chains.clear()
