"""Capture by the driver's rules, with its error codes; graphs that are replayed, changed and written by hand."""
import ctypes
import threading

import numpy as np
import pytest

from forno.gpu.prototypes import NODE, ChildGraphParams, ExecUpdateResult, HostNodeParams, KernelNodeParams, MemsetNodeParams, NodeParams
from forno.gpu.sim import Machine

from .conftest import seeds
from .simulated import Program, code

SEEDS = seeds(range(12))
N = 64
GLOBAL, THREAD, RELAXED = range(3)


def words(*handles): return (ctypes.c_size_t * max(1, len(handles)))(*handles)


class Captured(Program):
    """A program with arrays a = 1 … and two streams; `graph` captures what a function does."""

    def __init__(self, machine=None, **options):
        super().__init__(machine, **options)
        self.a, self.b, self.c = self.array(np.ones(N)), self.array(np.zeros(N)), self.array(np.zeros(N))
        self.s, self.t = self.stream(), self.stream()

    def capture(self, f, mode=GLOBAL):
        self.d.StreamBeginCapture(self.s, mode)
        f()
        return self.d.StreamEndCapture(self.s)

    def count(self, graph):
        n = ctypes.c_size_t()
        self.d.GraphGetNodes(graph, None, ctypes.byref(n))
        return n.value

    def nodes(self, graph):
        n = ctypes.c_size_t(self.count(graph))
        out = words(*[0] * n.value)
        self.d.GraphGetNodes(graph, out, ctypes.byref(n))
        return list(out)


# ---------------------------------------------------------------- what is captured runs later, as often as is wished
@pytest.mark.parametrize("seed", SEEDS)
def test_captured_work_is_replayed(seed):
    with Machine(seed=seed) as m:
        p = Captured(m)

        def body():
            p.launch("scale", p.a, N, stream=p.s)
            p.d.MemcpyDtoDAsync(p.b, p.a, 4 * N, p.s)
            p.launch("one", p.b, N, stream=p.s)
        graph = p.capture(body)
        assert (p.read(p.a, N, p.s) == 1).all() and p.count(graph) == 3                     # nothing has run
        e = p.d.GraphInstantiateWithFlags(graph, 0)
        p.d.GraphDestroy(graph)
        for k in range(1, 4):
            p.d.GraphLaunch(e, p.s)
            assert (p.read(p.a, N, p.s) == 2**k).all() and (p.read(p.b, N, p.s) == 2**k + 1).all()
        p.d.GraphExecDestroy(e)
        assert code(p.d.GraphLaunch, e, p.s) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_forks_and_joins(seed):
    """Another stream is drawn in by an event and has to come back."""
    with Machine(seed=seed) as m:
        p = Captured(m)

        def body():
            p.launch("scale", p.a, N, stream=p.s)
            p.wait(p.t, p.s)
            p.launch("move", p.b, p.a, N, stream=p.t)
            p.launch("move", p.c, p.a, N, stream=p.s)
            p.wait(p.s, p.t)
            p.launch("sum", p.a, p.b, p.c, N, stream=p.s)
        e = p.d.GraphInstantiateWithFlags(p.capture(body), 0)
        for _ in range(3): p.d.GraphLaunch(e, p.t)
        assert (p.read(p.a, N, p.t) == 64).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_without_an_edge_is_a_race(seed):
    """What the capture's streams did not order, the replay does not."""
    p = Captured(seed=seed)

    def body():
        p.wait(p.t, p.s)
        p.launch("scale", p.a, N, stream=p.s)
        p.launch("move", p.b, p.a, N, stream=p.t)
        p.wait(p.s, p.t)
    p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(p.capture(body), 0), p.s)
    p.d.StreamSynchronize(p.s)
    finding, = p.machine.findings()
    assert finding.kind == "race" and "in a graph" in finding.text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_follows_its_stream_and_itself(seed):
    """One graph's launches in two streams don't overlap; the streams' other work is still ordered by streams alone."""
    with Machine(seed=seed) as m:
        p = Captured(m)
        e = p.d.GraphInstantiateWithFlags(p.capture(lambda: p.launch("scale", p.a, N, stream=p.s)), 0)
        p.launch("one", p.a, N, stream=p.s)
        p.d.GraphLaunch(e, p.s)
        p.d.GraphLaunch(e, p.t)
        p.launch("one", p.a, N, stream=p.t)
        p.d.CtxSynchronize()
        assert (p.read(p.a, N, p.s) == 9).all()


def test_parameters_are_copied_at_the_capture():
    p = Captured()
    values = p.params(p.a, N)
    f = p.function("scale")
    graph = p.capture(lambda: p.d.LaunchKernel(f, 1, 1, 1, N, 1, 1, 0, p.s, values, None))
    ctypes.memset(values[0], 0, 8)
    p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(graph, 0), p.s)
    assert (p.read(p.a, N, p.s) == 2).all()


def test_a_graph_inside_a_capture():
    with Machine(seed=4) as m:
        p = Captured(m)
        inner = p.d.GraphInstantiateWithFlags(p.capture(lambda: [p.launch("scale", p.a, N, stream=p.s) for _ in range(2)]), 0)

        def body():
            p.launch("one", p.a, N, stream=p.s)
            p.d.GraphLaunch(inner, p.s)
            p.launch("one", p.a, N, stream=p.s)
        graph = p.capture(body)
        assert p.count(graph) == 4
        p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(graph, 0), p.s)
        assert (p.read(p.a, N, p.s) == 9).all()


# ---------------------------------------------------------------- what is forbidden, and what that costs
FORBIDDEN = {
    "stream synchronize": (lambda p: (p.d.StreamSynchronize, p.s), 900), "stream query": (lambda p: (p.d.StreamQuery, p.s), 900),
    "context synchronize": (lambda p: (p.d.CtxSynchronize,), 900), "allocation": (lambda p: (p.d.MemAlloc, 64), 900), "freeing": (lambda p: (p.d.MemFree, p.b), 900),
    "pinned allocation": (lambda p: (p.d.MemHostAlloc, 64, 0), 900), "event query": (lambda p: (p.d.EventQuery, p.done), 900),
    "event synchronize": (lambda p: (p.d.EventSynchronize, p.done), 900), "default stream": (lambda p: (p.d.MemsetD8Async, p.a, 0, 4, 0), 906),
    "default stream synchronize": (lambda p: (p.d.StreamSynchronize, 0), 906), "synchronous copy": (lambda p: (p.d.MemcpyHtoD, p.a, b"abcd", 4), 906),
    "pool attribute": (lambda p: (p.d.MemPoolGetAttribute, p.pool, 4), 900),
    "foreign event": (lambda p: (p.d.StreamWaitEvent, p.s, p.done, 0), 905), "module": (lambda p: (p.d.ModuleUnload, p.module), 900),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_spoils_a_capture(name):
    """The call's own error; from then on 901, also at the end; then the stream is as it was."""
    p = Captured()
    p.s = p.stream(blocking=True)
    p.done, p.pool = p.event(), p.d.DeviceGetDefaultMemPool(0)
    p.d.EventRecord(p.done, p.t)
    make, expected = FORBIDDEN[name]
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.launch("scale", p.a, N, stream=p.s)
    assert p.d.StreamIsCapturing(p.s) == 1
    assert code(*make(p)) == expected
    assert p.d.StreamIsCapturing(p.s) == 2
    assert code(p.d.MemsetD8Async, p.a, 0, 4, p.s) == 901
    assert code(p.d.StreamEndCapture, p.s) == 901
    assert p.d.StreamIsCapturing(p.s) == 0 and code(p.d.StreamSynchronize, p.s) == 0
    assert (p.read(p.a, N) == 1).all() and not p.machine.findings()


def test_a_non_blocking_capture_leaves_the_default_stream_alone():
    p = Captured()
    p.d.StreamBeginCapture(p.s, RELAXED)
    p.d.MemsetD32Async(p.b, 0x3F800000, N, 0)
    assert p.d.StreamIsCapturing(0) == 0
    p.d.StreamEndCapture(p.s)
    assert (p.read(p.b, N) == 1).all()


@pytest.mark.parametrize("mode, other, own", [(GLOBAL, 900, 900), (THREAD, 0, 900), (RELAXED, 0, 0)])
def test_modes_of_captures(mode, other, own):
    """Global: no thread may allocate; thread-local: not this one; relaxed: all may."""
    p = Captured()
    codes = []

    def elsewhere():
        p.use()
        codes.append(code(p.d.MemAlloc, 64))
    p.d.StreamBeginCapture(p.s, mode)
    t = threading.Thread(target=elsewhere)
    t.start()
    t.join()
    assert codes == [other] and code(p.d.MemAlloc, 64) == own
    assert code(p.d.StreamEndCapture, p.s) == (901 if own else 0)


def test_a_thread_may_relax_itself():
    p = Captured()
    mode = ctypes.c_int(RELAXED)
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.d.ThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    assert mode.value == GLOBAL and code(p.d.MemAlloc, 64) == 0
    p.d.ThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    assert mode.value == RELAXED and code(p.d.StreamEndCapture, p.s) == 0
    mode.value = 7
    assert code(p.d.ThreadExchangeStreamCaptureMode, ctypes.byref(mode)) == 1


def test_unjoined_work():
    p = Captured()
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.launch("scale", p.a, N, stream=p.s)
    p.wait(p.t, p.s)
    p.launch("one", p.a, N, stream=p.t)
    assert code(p.d.StreamEndCapture, p.s) == 904
    assert p.d.StreamIsCapturing(p.s) == p.d.StreamIsCapturing(p.t) == 0


def test_a_stream_that_was_drawn_in_and_did_nothing_is_joined():
    p = Captured()
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.launch("scale", p.a, N, stream=p.s)
    p.wait(p.t, p.s)
    p.launch("one", p.a, N, stream=p.s)
    assert code(p.d.StreamEndCapture, p.s) == 0


def test_two_captures_do_not_merge():
    p = Captured()
    u = p.stream()
    for s in (p.s, p.t): p.d.StreamBeginCapture(s, RELAXED)
    for s in (p.s, p.t): p.launch("scale", p.a, N, stream=s)
    e = p.event()
    p.d.EventRecord(e, p.s)
    assert code(p.d.StreamWaitEvent, p.t, e, 0) == 902
    assert [code(p.d.StreamEndCapture, s) for s in (p.s, p.t)] == [901, 901] and p.d.StreamQuery(u)


def test_events_of_a_spoiled_capture():
    """A stream outside can't join any more; one inside is told why."""
    p = Captured()
    e = p.event()
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.d.EventRecord(e, p.s)
    assert code(p.d.MemAlloc, 64) == 900
    assert code(p.d.StreamWaitEvent, p.t, e, 0) == 1 and code(p.d.StreamWaitEvent, p.s, e, 0) == 901 and code(p.d.EventRecord, e, p.s) == 901


def test_captured_events_are_not_for_the_host():
    p = Captured()
    e = p.event()
    p.d.StreamBeginCapture(p.s, RELAXED)
    p.launch("scale", p.a, N, stream=p.s)
    p.d.EventRecord(e, p.s)
    assert [code(f, e) for f in (p.d.EventQuery, p.d.EventSynchronize)] == [907, 907]
    p.d.StreamEndCapture(p.s)
    assert code(p.d.EventQuery, e) == 907 and code(p.d.StreamWaitEvent, p.t, e, 0) == 907
    p.d.EventRecord(e, p.s)
    assert code(p.d.EventSynchronize, e) == 0


def test_the_wrong_stream_or_thread_or_state():
    p = Captured()
    assert code(p.d.StreamBeginCapture, 0, GLOBAL) == 900 and code(p.d.StreamBeginCapture, p.s, 3) == 1 and code(p.d.StreamEndCapture, p.s) == 401
    p.d.StreamBeginCapture(p.s, GLOBAL)
    assert code(p.d.StreamBeginCapture, p.s, GLOBAL) == 401
    p.wait(p.t, p.s)
    assert code(p.d.StreamEndCapture, p.t) == 903 and code(p.d.StreamEndCapture, p.s) == 901
    p.d.StreamBeginCapture(p.s, GLOBAL)
    codes = []

    def elsewhere():
        p.use()
        codes.append(code(p.d.StreamEndCapture, p.s))
    t = threading.Thread(target=elsewhere)
    t.start()
    t.join()
    assert codes == [908]


def test_capture_info():
    p = Captured()
    assert p.d.StreamGetCaptureInfo(p.s) == (0, 0, 0, 0, 0)
    p.d.StreamBeginCapture(p.s, GLOBAL)
    p.launch("scale", p.a, N, stream=p.s)
    p.wait(p.t, p.s)
    status, number, graph, at, count = p.d.StreamGetCaptureInfo(p.t)
    assert status == 1 and number and count == 1 and p.d.GraphNodeGetType(ctypes.c_size_t.from_address(at).value) == NODE["kernel"]
    assert p.d.StreamGetCaptureInfo(p.s)[:3] == (1, number, graph)
    assert p.d.StreamEndCapture(p.s) == graph


def test_errors_of_a_replay_come_at_the_end():
    p = Captured(seed=1)
    p.machine.eager = 0.0
    e = p.d.GraphInstantiateWithFlags(p.capture(lambda: p.launch("beyond", p.a, N, stream=p.s)), 0)
    assert code(p.d.GraphLaunch, e, p.s) == 0 and code(p.d.StreamSynchronize, p.s) == 700


# ---------------------------------------------------------------- graphs by hand
def kernel_params(p, name, *values): return KernelNodeParams(p.function(name), 1, 1, 1, N, 1, 1, 0, ctypes.cast(p.params(*values), ctypes.c_void_p), None, None, None)


@pytest.mark.parametrize("seed", SEEDS)
def test_graphs_by_hand(seed):
    with Machine(seed=seed) as m:
        p = Captured(m)
        g = p.d.GraphCreate(0)
        one = p.d.GraphAddKernelNode(g, None, 0, kernel_params(p, "scale", p.a, N))
        two = p.d.GraphAddKernelNode(g, words(one), 1, kernel_params(p, "move", p.b, p.a, N))
        params = NodeParams(type=NODE["memset"])
        params.memset = MemsetNodeParams(p.c, 0, 0x3F800000, 4, N, 1, None)
        three = p.d.GraphAddNode(g, None, 0, params)
        four = p.d.GraphAddKernelNode(g, None, 0, kernel_params(p, "sum", p.a, p.b, p.c, N))
        p.d.GraphAddDependencies(g, words(two, three), words(four, four), 2)
        assert code(p.d.GraphAddDependencies, g, words(four), words(one), 1) == 1                # a circle
        assert code(p.d.GraphAddDependencies, g, words(two), words(four), 1) == 1                # is there already
        assert p.nodes(g) == [one, two, three, four]
        e = p.d.GraphInstantiateWithFlags(g, 0)
        p.d.GraphUpload(e, p.s)
        p.d.GraphLaunch(e, p.s)
        p.d.GraphLaunch(e, p.s)
        assert (p.read(p.a, N, p.s) == 7).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_other_nodes(seed):
    """Host functions, copies, empty nodes and graphs within graphs."""
    with Machine(seed=seed) as m:
        p = Captured(m)
        calls = []
        f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(calls.append)
        child = p.d.GraphCreate(0)
        p.d.GraphAddKernelNode(child, words(p.d.GraphAddKernelNode(child, None, 0, kernel_params(p, "one", p.a, N))), 1, kernel_params(p, "scale", p.a, N))
        g = p.d.GraphCreate(0)
        host, inner, empty, copy = (NodeParams(type=NODE[k]) for k in ("host", "graph", "empty", "memcpy"))
        host.host = HostNodeParams(ctypes.cast(f, ctypes.c_void_p), 5)
        inner.graph = ChildGraphParams(child, 0)
        c = copy.memcpy.copy
        c.totype, c.to, c.fromtype, c.from_, c.width, c.height, c.depth = 2, p.b, 2, p.a, 4 * N, 1, 1
        first = p.d.GraphAddNode(g, None, 0, host)
        second = p.d.GraphAddNode(g, words(first), 1, inner)
        third = p.d.GraphAddNode(g, words(p.d.GraphAddNode(g, words(second), 1, empty)), 1, copy)
        assert p.d.GraphNodeGetType(third) == NODE["memcpy"] and code(p.d.GraphAddNode, g, None, 0, NodeParams(type=NODE["alloc"])) == 801
        p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(g, 0), p.s)
        assert (p.read(p.b, N, p.s) == 4).all() and calls == [5]


def test_parameters_of_a_node_are_changed():
    p = Captured()
    graph = p.capture(lambda: p.launch("scale", p.a, N, stream=p.s))
    e, (node,) = p.d.GraphInstantiateWithFlags(graph, 0), p.nodes(graph)
    p.d.GraphExecKernelNodeSetParams(e, node, kernel_params(p, "one", p.b, N))
    p.d.GraphLaunch(e, p.s)
    assert (p.read(p.a, N, p.s) == 1).all() and (p.read(p.b, N, p.s) == 1).all()
    got = KernelNodeParams()
    p.d.GraphKernelNodeGetParams(node, ctypes.byref(got))                                   # the graph's own node is as it was
    assert got.function == p.function("scale") and got.blockx == N and ctypes.c_uint64.from_address(ctypes.c_size_t.from_address(got.params).value).value == p.a
    other, = p.nodes(p.capture(lambda: p.launch("scale", p.a, N, stream=p.s)))
    assert code(p.d.GraphExecKernelNodeSetParams, e, other, kernel_params(p, "one", p.b, N)) == 1


def test_a_graph_of_the_same_form_takes_its_place():
    p = Captured()

    def of(first, second, apart=False):
        def body():
            first()
            if apart: p.wait(p.t, p.s)
            second(p.t if apart else p.s)
            if apart: p.wait(p.s, p.t)
        return p.capture(body)
    scale_a = lambda s=p.s: p.launch("scale", p.a, N, stream=s)                     # noqa: E731
    one_b = lambda s=p.s: p.launch("one", p.b, N, stream=s)                         # noqa: E731
    clear_b = lambda s=p.s: p.d.MemsetD8Async(p.b, 0, 4 * N, s)                     # noqa: E731
    e = p.d.GraphInstantiateWithFlags(of(scale_a, one_b), 0)
    result = ExecUpdateResult()
    p.d.GraphExecUpdate(e, of(one_b, scale_a), ctypes.byref(result))
    assert result.result == 0
    for graph, reason in ((of(scale_a, clear_b), 3), (of(scale_a, lambda s: [one_b(s), one_b(s)]), 2)):
        assert code(p.d.GraphExecUpdate, e, graph, ctypes.byref(result)) == 910 and result.result == reason
    fork = p.d.GraphCreate(0)
    for name, at in (("scale", p.a), ("one", p.b)): p.d.GraphAddKernelNode(fork, None, 0, kernel_params(p, name, at, N))
    assert code(p.d.GraphExecUpdate, e, fork, ctypes.byref(result)) == 910 and result.result == 2 and result.node
    p.d.GraphLaunch(e, p.s)
    assert (p.read(p.a, N, p.s) == 2).all() and (p.read(p.b, N, p.s) == 1).all()


def test_long_graphs():
    """A thousand nodes, the first made last."""
    p = Captured(seed=1)
    g = p.d.GraphCreate(0)
    nodes = [p.d.GraphAddKernelNode(g, None, 0, kernel_params(p, "one", p.a, N)) for _ in range(1200)]
    p.d.GraphAddDependencies(g, words(*nodes[1:]), words(*nodes[:-1]), len(nodes) - 1)
    e = p.d.GraphInstantiateWithFlags(g, 0)
    assert len(set(p.machine.exec(e).lanes)) == 1
    p.d.GraphLaunch(e, p.s)
    assert (p.read(p.a, N, p.s) == 1201).all() and not p.machine.findings()


def test_pictures(tmp_path):
    p = Captured()
    graph = p.capture(lambda: [p.launch(k, p.a, N, stream=p.s) for k in ("scale", "one")])
    p.d.GraphDebugDotPrint(graph, str(tmp_path / "g.dot").encode(), 0)
    text = (tmp_path / "g.dot").read_text()
    assert 'n0 [label="kernel scale"]' in text and "n0 -> n1;" in text


def test_lanes():
    """Chains share a clock entry; what branches off gets its own."""
    from forno.gpu.sim.order import lanes_of
    assert lanes_of([[], [0], [1]]) == [0, 0, 0]
    assert lanes_of([[], [0], [0], [1, 2]]) == [0, 0, 1, 0]
    assert lanes_of([[], [], [0, 1]]) == [0, 1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_are_ordered_by_their_edges(seed):
    """A random graph of read-modify-write kernels: found to race exactly where two that touch one array are not ordered."""
    rng = np.random.default_rng(seed)
    p = Captured(seed=seed)
    arrays = [p.array(np.ones(N)) for _ in range(3)]
    g, nodes, before, uses = p.d.GraphCreate(0), [], [], []
    for k in range(8):
        deps = [j for j in range(k) if rng.random() < 0.35]
        uses.append(int(rng.integers(3)))
        nodes.append(p.d.GraphAddKernelNode(g, words(*[nodes[j] for j in deps]), len(deps), kernel_params(p, "scale", arrays[uses[-1]], N)))
        before.append(set(deps).union(*[before[j] for j in deps]))
    p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(g, 0), p.s)
    p.d.StreamSynchronize(p.s)
    racing = {uses[k] for k in range(8) for j in range(k) if uses[j] == uses[k] and j not in before[k]}
    found = {i for i, at in enumerate(arrays) for f in p.machine.findings() if f"at {at:#x}" in f.text}
    assert found == racing
