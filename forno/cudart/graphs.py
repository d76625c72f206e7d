"""Graphs: work of streams that is captured once and launched many times.

While a stream captures, what is queued in it (and in streams that wait for it) is written down instead of done; addresses and numbers stay as they are then, but for
random numbers (`random.Draws`). Memory that is given out meanwhile belongs to the graph (`allocator.Graphs`), which several graphs may share that never run at once.
"""
from __future__ import annotations

import ctypes
import threading

from . import allocator, devices, memory, random, streams
from .allocator import Graphs

MODES = {"global": 0, "thread_local": 1, "relaxed": 2}            # whose forbidden calls spoil a capture (CU_STREAM_CAPTURE_MODE_…)
_VERBOSE = 1                                                      # CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE


@devices.remembered
def dropped(driver) -> list[tuple[int, int]]:
    """(executable, graph) of those that nobody has any more."""
    return []


@devices.remembered
def capture_stream(driver, index: int) -> int:
    """Where is captured if nobody says where."""
    return streams.from_pool(index)


class Graph:
    """One captured graph. `memory`: where what it makes lies, in blocks that were `born` later; `states`: generators that it may draw from besides its device's own;
    `draws`: what it drew."""

    def __init__(self):
        self.index, self.stream, self.graph, self.exec, self.underway = -1, 0, 0, 0, False
        self.memory, self.born, self.dropped, self.draws, self.states = None, 0, None, None, []

    # a finalizer may run anywhere, inside a call of the driver's, too: so it calls nothing
    def __del__(self):
        if self.dropped is not None: self.dropped.append((self.exec, self.graph))
        self.leave()

    def begin(self, index: int, stream: int, shared: Graphs | None, mode: str):
        driver = devices.use(index)
        self.dropped = dropped(driver)
        while self.dropped: destroy(driver, *self.dropped.pop())
        self.index, self.stream, self.memory, self.draws = index, stream, shared or Graphs(), random.Draws(index, self.states)
        self.born = memory.expose()
        mine = allocator.of(driver, index)
        mine.begin_capture(self.memory)
        try: driver.StreamBeginCapture(stream, MODES[mode])
        except BaseException:
            mine.end_capture()
            self.leave()
            raise
        self.underway, random.UNDERWAY[threading.get_ident()] = True, self.draws

    def end(self):
        """The capture is over, and the graph can be instantiated, if nothing forbidden was done."""
        driver = devices.use(self.index)
        self.underway = False
        try: self.graph = driver.StreamEndCapture(self.stream)
        except BaseException:
            self.leave()
            raise
        finally:
            random.UNDERWAY.pop(threading.get_ident(), None)
            allocator.of(driver, self.index).end_capture()
            memory.expose()

    def instantiate(self):
        """Makes ready what `launch` launches, anew if there is one."""
        driver = devices.use(self.index)
        if self.exec: driver.GraphExecDestroy(self.exec)
        self.exec = 0
        self.exec = driver.GraphInstantiateWithFlags(self.graph, 0)

    def forget(self):
        """Only what can be launched stays."""
        if self.graph: devices.use(self.index).GraphDestroy(self.graph)
        self.graph = 0

    def count(self) -> int:
        """How many nodes it has."""
        n = ctypes.c_size_t()
        devices.use(self.index).GraphGetNodes(self.graph, None, ctypes.byref(n))
        return n.value

    def launch(self, stream: int):
        driver = devices.use(self.index)
        self.draws.begin_launch(stream)
        driver.GraphLaunch(self.exec, stream)

    def draw(self, path: str):
        """Writes the graph for Graphviz."""
        devices.use(self.index).GraphDebugDotPrint(self.graph, path.encode(), _VERBOSE)

    def leave(self):
        if self.memory is not None: self.memory.users -= 1
        self.memory = None

    def reset(self):
        """The graph ends; its memory is anybody's once nobody has a tensor there."""
        if self.dropped is not None: destroy(devices.use(self.index), self.exec, self.graph)
        self.graph = self.exec = 0
        self.draws = None
        self.leave()


def destroy(driver, executable: int, graph: int):
    if executable: driver.GraphExecDestroy(executable)
    if graph: driver.GraphDestroy(graph)
