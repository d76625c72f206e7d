"""Graphs, and streams that are being captured: works as nodes instead of effects, with the driver's rules and error codes.

Comes in: works, in the order in which a program submits them. Goes out: a `Graph` of nodes, which an `Exec` replays through the scheduler: the nodes of a
graph know only the order that their edges say, so a missing edge shows as a race.
"""
from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

from .code import CodeCalls
from .machine import Context, Event, Op, Stream
from .order import lanes_of
from .work import Kernel, Marker, Refuse, Work

GLOBAL, THREAD, RELAXED = 0, 1, 2              # modes of a capture, and of a thread
NONE, ACTIVE, SPOILED = 0, 1, 2                # states of a stream


@dataclass(eq=False, repr=False)
class Node:
    graph: Graph
    work: Work
    before: list[Node]
    handle: int = 0
    kept: tuple = ()                           # C arrays that GraphKernelNodeGetParams pointed into


@dataclass(eq=False, repr=False)
class Graph:
    nodes: list[Node] = field(default_factory=list)
    handle: int = 0

    def sorted(self) -> list[Node]:
        """As they were made, but each node after those before it; edges may have been added in any order."""
        place = {n: k for k, n in enumerate(self.nodes)}
        missing, after, out = [len(n.before) for n in self.nodes], [[] for _ in self.nodes], []
        for k, n in enumerate(self.nodes):
            for b in n.before: after[place[b]].append(k)
        ready = [k for k, m in enumerate(missing) if not m]
        while ready:
            k = heapq.heappop(ready)
            out.append(self.nodes[k])
            for j in after[k]:
                missing[j] -= 1
                if not missing[j]: heapq.heappush(ready, j)
        return out

    def reaches(self, a: Node, b: Node) -> bool:
        """Does b come after a, or is it a?"""
        todo, seen = [b], set()
        while todo:
            n = todo.pop()
            if n is a: return True
            if n not in seen:
                seen.add(n)
                todo += n.before
        return False


@dataclass(eq=False, repr=False)
class Capture:
    graph: Graph
    origin: Stream
    mode: int
    thread: int
    number: int
    tips: dict[Stream, list[Node]]             # by stream: what its next node follows
    spoiled: bool = False
    ended: bool = False


@dataclass(eq=False, repr=False)
class Exec:
    """An instantiated graph: a copy of its works and edges."""
    context: Context
    works: list[Work]
    edges: list[list[int]]
    lanes: list[int]
    nodes: dict[Node, int]                     # the graph's nodes -> positions
    handle: int = 0
    tail: Op | None = None                     # launches of one graph follow each other


class CaptureCalls(CodeCalls):
    # ---- what is allowed while something is captured
    def unsafe(self) -> None:
        """A call that could disturb a capture: refused while this thread captures, or any thread does in global mode."""
        if self.local.mode == RELAXED: return
        hit = [c for c in self.captures if (c.thread == self.thread and c.mode != RELAXED) or (self.local.mode == GLOBAL and c.mode == GLOBAL)]
        for c in hit: c.spoiled = True
        if hit: raise Refuse("STREAM_CAPTURE_UNSUPPORTED")

    def spoil(self, capture: Capture, code: str) -> str:
        capture.spoiled = True
        return code

    def no_capture(self, s: Stream) -> None:
        """Nobody can wait for a stream that only writes down what it is told."""
        if s.capture is not None: raise Refuse(self.spoil(s.capture, "STREAM_CAPTURE_UNSUPPORTED"))
        self.no_implicit(s)

    def no_capture_in(self, context: Context) -> None:
        hit = [c for c in self.captures if c.origin.context is context]
        for c in hit: c.spoiled = True
        if hit: raise Refuse("STREAM_CAPTURE_UNSUPPORTED")

    def no_implicit(self, s: Stream) -> None:
        """The default stream would have to wait for what is being captured."""
        if s is not s.context.legacy: return
        hit = [t.capture for t in s.context.streams if t.blocking and t.capture is not None]
        for c in hit: c.spoiled = True
        if hit: raise Refuse("STREAM_CAPTURE_IMPLICIT")

    # ---- nodes instead of operations
    def captured(self, s: Stream, work: Work) -> None:
        c = s.capture
        if c.spoiled: raise Refuse("STREAM_CAPTURE_INVALIDATED")
        c.tips[s] = [self.node(c.graph, work, c.tips[s])]

    def node(self, graph: Graph, work: Work, before) -> Node:
        n = Node(graph, work, list(dict.fromkeys(before)))
        n.handle = self.put(n)
        graph.nodes.append(n)
        return n

    def record_captured(self, event: Event, s: Stream) -> None:
        if s.capture.spoiled: raise Refuse("STREAM_CAPTURE_INVALIDATED")
        event.op, event.captured = None, (s.capture, tuple(s.capture.tips[s]))

    def wait_captured(self, event: Event, s: Stream) -> None:
        """Where one of the two, the event and the stream, belongs to a capture: the stream joins it, or the dependence would cross its border."""
        c = s.capture
        if c is not None and c.spoiled: raise Refuse("STREAM_CAPTURE_INVALIDATED")
        if event.captured is None:
            if event.op is None: return                                  # never recorded: nothing to wait for
            raise Refuse(self.spoil(c, "STREAM_CAPTURE_ISOLATION"))
        other, tips = event.captured
        if other.ended: raise Refuse("CAPTURED_EVENT")
        if other.spoiled and c is None: raise Refuse("INVALID_VALUE")
        if other.spoiled: raise Refuse("STREAM_CAPTURE_INVALIDATED")
        if c is None:
            if s is s.context.legacy: raise Refuse(self.spoil(other, "STREAM_CAPTURE_IMPLICIT"))
            s.capture, other.tips[s] = other, list(tips)
        elif c is other: c.tips[s] = list(dict.fromkeys([*c.tips[s], *tips]))
        else:
            other.spoiled = True
            raise Refuse(self.spoil(c, "STREAM_CAPTURE_MERGE"))

    # ---- captures
    def StreamBeginCapture(self, handle, mode):
        s = self.stream(handle)
        if mode not in (GLOBAL, THREAD, RELAXED): raise Refuse("INVALID_VALUE")
        if s is s.context.legacy: raise Refuse("STREAM_CAPTURE_UNSUPPORTED")
        if s.capture is not None: raise Refuse("ILLEGAL_STATE")
        self.capture_count += 1
        s.capture = Capture(Graph(), s, mode, self.thread, self.capture_count, {s: []})
        self.captures.append(s.capture)

    def StreamEndCapture(self, handle):
        s = self.stream(handle)
        c = s.capture
        if c is None: raise Refuse("ILLEGAL_STATE")
        if c.origin is not s: raise Refuse(self.spoil(c, "STREAM_CAPTURE_UNMATCHED"))
        if c.mode != RELAXED and c.thread != self.thread: raise Refuse(self.spoil(c, "STREAM_CAPTURE_WRONG_THREAD"))
        self.captures.remove(c)
        c.ended = True
        for t in c.tips: t.capture = None
        joined = all(any(c.graph.reaches(n, end) for end in c.tips[s]) for tips in c.tips.values() for n in tips)
        if c.spoiled or not joined:
            self.forget(c.graph)
            raise Refuse("STREAM_CAPTURE_INVALIDATED" if c.spoiled else "STREAM_CAPTURE_UNJOINED")
        return self.handle_of(c.graph)

    def handle_of(self, graph: Graph) -> int:
        if not graph.handle: graph.handle = self.put(graph)
        return graph.handle

    def forget(self, graph: Graph) -> None:
        for thing in (graph, *graph.nodes): self.handles.pop(thing.handle, None)

    def StreamIsCapturing(self, handle):
        s = self.stream(handle)
        self.no_implicit(s)
        return self.state_of(s)

    @staticmethod
    def state_of(s: Stream) -> int: return NONE if s.capture is None else SPOILED if s.capture.spoiled else ACTIVE

    def StreamGetCaptureInfo(self, handle):
        s = self.stream(handle)
        self.no_implicit(s)
        c = s.capture
        if c is None: return NONE, 0, 0, 0, 0
        return self.state_of(s), c.number, self.handle_of(c.graph), self.array([n.handle for n in c.tips[s]]), len(c.tips[s])

    def exchange(self, mode: int) -> int:
        old = self.local.mode
        if mode not in (GLOBAL, THREAD, RELAXED): raise Refuse("INVALID_VALUE")
        self.local.mode = mode
        return old

    # ---- launches
    def instantiate(self, graph: Graph, context: Context) -> Exec:
        nodes = graph.sorted()
        place = {n: k for k, n in enumerate(nodes)}
        edges = [[place[b] for b in n.before] for n in nodes]
        local = lanes_of(edges)
        numbers = {lane: self.lane() for lane in dict.fromkeys(local)}
        return Exec(context, [n.work for n in nodes], edges, [numbers[k] for k in local], place)

    def launch(self, exec_: Exec, s: Stream) -> None:
        """Its nodes run between two instants of the stream, ordered by their edges alone."""
        if s.capture is not None:
            made = []
            for work, before in zip(exec_.works, exec_.edges):
                self.captured_after(s, work, [made[k] for k in before] or s.capture.tips[s], made)
            inner = {k for before in exec_.edges for k in before}
            if made: s.capture.tips[s] = [n for k, n in enumerate(made) if k not in inner]
            return
        self.no_implicit(s)
        begin = self.post(Marker("start of a graph"), s, [exec_.tail])
        ops = []
        for work, before, lane in zip(exec_.works, exec_.edges, exec_.lanes):
            context = work.function.context if isinstance(work, Kernel) else s.context
            if isinstance(work, Kernel) and work.divisions is None: work = replace(work, divisions=self.divisions)
            ops.append(self.line_up(Op(work, context, None, lane, self.calls, self.host_clock, self.now), [ops[k] for k in before] or [begin]))
        exec_.tail = self.post(Marker("end of a graph"), s, ops)

    def captured_after(self, s: Stream, work: Work, before, made: list) -> None:
        if s.capture.spoiled: raise Refuse("STREAM_CAPTURE_INVALIDATED")
        made.append(self.node(s.capture.graph, work, before))
