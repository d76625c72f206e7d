"""Graphs in programs: plans that repeat are launched as one, and captured programs draw random numbers as they would have, on simulated GPUs."""
import copy
import struct
import threading
import time

import pytest

import forno as torch
from forno import gpu
from forno.core.flags import flags
from forno.core.kernels import DeviceLaunch
from forno.cudart import launch, liveness, replay
from forno.cudart import random as states
from forno.gpu.sim import Machine, Spec

pytestmark = pytest.mark.usefixtures("devices")
once = pytest.mark.parametrize("devices", [3], indirect=True, ids=["seed 3"])                # what isn't about the order of things
LAUNCHES = ("LaunchKernel", "GraphLaunch", "GraphExecKernelNodeSetParams", "StreamBeginCapture", "GraphInstantiateWithFlags")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    yield
    for i in range(2): states.default(i).manual_seed(0)


@pytest.fixture
def calls(devices, monkeypatch):
    """calls(f): how often f calls the driver's functions for launches."""
    seen, usual = [], devices.planned

    def planned(name):
        seen.append(name)
        usual(name)
    monkeypatch.setattr(devices, "planned", planned)

    def count(f) -> dict:
        torch.cuda.synchronize()
        seen.clear()
        f()
        torch.cuda.synchronize()
        return {name: seen.count(name) for name in LAUNCHES if name in seen}
    return count


def network(*more):
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), *more, torch.nn.LayerNorm(8), torch.nn.Linear(8, 2)).cuda()


def training(net, optimizer):
    """A whole step: forward, backward, update."""
    def step(x, y):
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss
    return step


def batches(n): return [(torch.randn(4, 6), torch.randn(4, 2)) for _ in range(n)]


# ---------------------------------------------------------------- plans that repeat
@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.05)], ids=["SGD", "AdamW"])
def test_a_compiled_step_is_one_launch(calls, monkeypatch, make):
    data, losses, counts = batches(14), {}, None
    for graphs in (0, 1):
        monkeypatch.setattr(flags, "GRAPHS", graphs)
        net = network()
        step = torch.compile(training(net, make(net.parameters())))
        losses[graphs] = []
        for x, y in data[:-1]: losses[graphs].append(step(x.cuda(), y.cuda()).item())
        counts = calls(lambda step=step, graphs=graphs: losses[graphs].append(step(*[t.cuda() for t in data[-1]]).item()))
        assert step.said > 5
        if not graphs:
            assert counts.keys() == {"LaunchKernel"}
            alone = counts["LaunchKernel"]
    assert losses[0] == losses[1]
    assert counts["GraphLaunch"] == 1 and "LaunchKernel" not in counts and "StreamBeginCapture" not in counts
    assert counts.get("GraphExecKernelNodeSetParams", 0) < alone            # the batch, and AdamW's numbers


def test_steps_that_nobody_compiled(calls):
    net = network()
    step, (x, y) = training(net, torch.optim.SGD(net.parameters(), lr=0.1)), [t.cuda() for t in batches(1)[0]]
    for _ in range(8): step(x, y).item()
    counts = calls(lambda: step(x, y).item())
    assert counts["GraphLaunch"] == 1 and "LaunchKernel" not in counts


def test_every_address_and_number_is_compared(calls):
    """Memory that moves, numbers that change and values that are kept: a graph never computes with what another run had."""
    def f(x, n): return ((x * n).softmax(0) + 1).cumsum(0).sort().values
    kept, seen, graphs = {}, [], 0
    for k in range(14):
        x = torch.arange(float(k), k + 7).cuda()

        def run(x=x, k=k):
            y = f(x, k + 0.5)
            seen.append(y.sum().item())
            if k % 4 == 1: kept[k] = y
        counts = calls(run)
        assert seen[-1] == pytest.approx(f(x.cpu(), k + 0.5).sum().item(), rel=1e-5)
        graphs += counts.get("GraphLaunch", 0)
    assert graphs == 14 - replay.WARM
    for k, y in kept.items(): assert torch.allclose(y.cpu(), f(torch.arange(float(k), k + 7), k + 0.5), 1e-5, 1e-5)


@once
def test_what_looks_at_values_or_leaves_the_device_is_several_launches(calls):
    a = (torch.eye(5) * 3 + torch.ones(5, 5) * 0.1).cuda()

    def inverse(x): return (torch.linalg.inv((x * 2).softmax(1) + x) @ x).cumsum(0).softmax(0).sum()          # a library's work on the host, between two graphs

    def looks(x):
        y = (x * 2).softmax(1).cumsum(0)
        return (y.softmax(0).cumsum(1) if y.sum().item() > 0 else y).sum()
    for f in (inverse, looks):
        step, want = torch.compile(f), f(a.cpu()).item()
        for _ in range(8): assert step(a).item() == pytest.approx(want, rel=1e-4)
        counts = calls(lambda step=step: step(a).item())
        assert counts.get("GraphLaunch", 0) + counts.get("LaunchKernel", 0) >= 2 and counts.get("GraphLaunch", 0) >= 1


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lift, self.norm, self.out = torch.nn.Linear(1, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)
        self.mix = torch.nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x):
        h = self.lift(x)
        n = self.norm(h)
        return self.out(h + self.mix(n, n, n, need_weights=False)[0]).mean(1)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.out = torch.nn.LSTM(5, 6, batch_first=True), torch.nn.Linear(6, 3)

    def forward(self, x): return self.out(self.cells(x)[0][:, -1])


MODELS = {"convolutions": (lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
                                                       torch.nn.Dropout(0.2), torch.nn.Linear(36, 3)), lambda: torch.randn(2, 1, 8, 8)),
          "LSTM": (Recurrent, lambda: torch.randn(3, 4, 5)), "attention": (Attention, lambda: torch.randn(2, 5, 1))}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_training_has_the_same_bits(monkeypatch, name, compiled):
    """Losses that are kept, evaluations in between, memory that is given back and another stream move everything about."""
    make, draw = MODELS[name]

    def trained(graphs: int):
        monkeypatch.setattr(flags, "GRAPHS", graphs)
        torch.manual_seed(5)
        net = make()
        data = [(draw(), torch.randint(0, 3, (len(draw()),))) for _ in range(24)]
        net.cuda()
        optimizer, kept, seen = torch.optim.Adam(net.parameters(), 1e-2), [], []

        def step(x, y):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss
        f = torch.compile(step) if compiled else step
        for k, (x, y) in enumerate(data):
            loss = f(x.cuda(), y.cuda())
            if k % 3 == 0: kept.append(loss)
            seen.append(loss.item())
            if k % 5 == 4: seen.append(net.eval()(x.cuda()).sum().item())
            net.train()
            if k == 12: torch.cuda.empty_cache()
            if k in (15, 20):
                torch.cuda.synchronize()
                torch.cuda.set_stream(torch.cuda.Stream() if k == 15 else torch.cuda.default_stream())
        return seen, [loss.item() for loss in kept], [p.tolist() for p in net.parameters()]
    assert trained(1) == trained(0)


PTX = """.version 7.8
.target sm_80
.address_size 64
.visible .entry put(.param .u64 p0, .param .u64 p1)
{
 .reg .b64 %a<3>;
 ld.param.u64 %a1, [p0]; ld.param.u64 %a2, [p1]; st.global.u64 [%a1], %a2; ret;
}
"""


def table_of(places):
    """A launch for each place among the values (addresses, then numbers) that are written to one another."""
    kernel = DeviceLaunch("put", PTX, (), (1, 1, 1), (1, 1, 1))
    return launch.Table("cuda:0", [(kernel, p) for p in places], 8, 0, ())


@pytest.fixture
def putting():
    """(a function that writes four numbers by four launches, where they are)"""
    room = torch.zeros(4, dtype=torch.int64, device="cuda")
    torch.cuda.synchronize()

    def made():
        table = table_of([(k, 4 + k) for k in range(4)])
        return lambda *numbers: table.frame(struct.pack("8q", *[room.data_ptr() + 8 * k for k in range(4)], *numbers)).run(0, 4)
    return made, room


@once
def test_graphs_that_do_not_fit(calls, putting):
    made, room = putting
    run = made()
    for _ in range(replay.WARM): assert calls(lambda: run(1, 2, 3, 4)) == {"LaunchKernel": 4}
    assert calls(lambda: run(1, 2, 3, 4)) == {"GraphLaunch": 1, "GraphInstantiateWithFlags": 1}
    assert calls(lambda: run(1, 2, 3, 4)) == {"GraphLaunch": 1}
    assert calls(lambda: run(1, 2, 3, 9)) == {"GraphLaunch": 1, "GraphExecKernelNodeSetParams": 1} and room.tolist() == [1, 2, 3, 9]
    assert calls(lambda: run(1, 7, 6, 5)) == {"GraphLaunch": 1, "GraphInstantiateWithFlags": 1} and room.tolist() == [1, 7, 6, 5]
    for numbers in ((1, 2, 3, 9), (1, 7, 6, 5)): assert calls(lambda n=numbers: run(*n)) == {"GraphLaunch": 1} and room.tolist() == list(numbers)
    assert calls(lambda: run(5, 8, 6, 4)) == {"GraphLaunch": 1, "GraphExecKernelNodeSetParams": 3} and room.tolist() == [5, 8, 6, 4]
    for k in range(1, 2 * replay.PATIENCE + 2):                             # memory moves: it is followed for a while, and then now and again
        rewritten = k <= replay.PATIENCE or k == 2 * replay.PATIENCE
        want = {"GraphLaunch": 1, "GraphExecKernelNodeSetParams": 4} if rewritten else {"LaunchKernel": 4}
        assert calls(lambda k=k: run(*range(10 * k, 10 * k + 4))) == want and room.tolist() == list(range(10 * k, 10 * k + 4))
    assert calls(lambda: run(160, 161, 162, 163)) == {"GraphLaunch": 1}


@once
def test_drivers_that_refuse(devices, calls, putting):
    """Without a graph, or without the change of a node, launches are made one by one; a graph that can't be launched is an error."""
    made, room = putting

    def runner(refuses):
        run = made()
        for _ in range(replay.WARM + 1): run(1, 2, 3, 4)
        devices.fail(refuses, 2)
        return run
    run = runner("GraphInstantiateWithFlags")
    for _ in range(2): assert calls(lambda: run(5, 6, 7, 8))["LaunchKernel"] == 4 and room.tolist() == [5, 6, 7, 8]
    run = runner("GraphExecKernelNodeSetParams")
    assert calls(lambda: run(1, 2, 3, 5)) == {"LaunchKernel": 4, "GraphExecKernelNodeSetParams": 1} and room.tolist() == [1, 2, 3, 5]
    run = runner("GraphLaunch")
    with pytest.raises(torch.OutOfMemoryError, match="cuGraphLaunch.*4 kernels"): run(1, 2, 3, 4)


def test_threads_that_run_one_plan():
    x = torch.arange(8.0, device="cuda")
    want, wrong = (x * 3).softmax(0).cumsum(0).sort().values.tolist(), []

    def work():
        for _ in range(6):
            got = (x * 3).softmax(0).cumsum(0).sort().values.tolist()
            if got != want: wrong.append(got)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not wrong


@once
def test_threads_that_begin_one_plan(putting, monkeypatch):
    """What one thread's launches read isn't made again by another, which would end it under them."""
    made, room = putting
    run, usual, asked = made(), launch.code.function, []

    def slow(*what):
        asked.append(threading.get_ident())
        time.sleep(0.02)
        return usual(*what)
    monkeypatch.setattr(launch.code, "function", slow)
    threads = [threading.Thread(target=run, args=(1, 2, 3, 4)) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(asked) == 4 and len(set(asked)) == 1 and room.tolist() == [1, 2, 3, 4]


# ---------------------------------------------------------------- random numbers in graphs
def captured(f, graph=None):
    """(the graph of a function, what it returned)"""
    g = torch.cuda.CUDAGraph() if graph is None else graph
    torch.cuda.synchronize()
    with torch.cuda.graph(g): out = f()
    return g, out


def draws():
    x = torch.full((300,), 2.0, device="cuda")
    return torch.rand(5, device="cuda"), torch.nn.functional.dropout(x, 0.3), torch.randint(0, 1000, (7,), device="cuda"), torch.randn(4, device="cuda", dtype=torch.float64)


def test_replays_draw_what_the_program_would_have_drawn():
    torch.manual_seed(11)
    want = [[t.tolist() for t in draws()] for _ in range(3)]
    after = torch.rand(3, device="cuda").tolist()
    torch.manual_seed(5)
    g, out = captured(draws)
    assert states.default(0).offset == 0                                     # a capture draws nothing
    torch.manual_seed(11)
    for k in range(3):
        g.replay()
        assert [t.tolist() for t in out] == want[k]
    assert torch.rand(3, device="cuda").tolist() == after                    # replays and other draws go on from one another
    torch.manual_seed(11)
    g.replay()
    assert [t.tolist() for t in out] == want[0]


def test_dropout_in_a_captured_training_step():
    data = batches(5)

    def trained(graphed: bool):
        net = network(torch.nn.Dropout(0.5))
        x, y = (torch.zeros(4, n, device="cuda") for n in (6, 2))
        step = training(net, torch.optim.SGD(net.parameters(), lr=0.1))
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(2): step(x, y)
        torch.cuda.synchronize()
        if graphed:
            for p in net.parameters(): p.grad = None
            g, loss = captured(lambda: step(x, y))
        torch.manual_seed(17)
        losses = []
        for a, b in data:
            x.copy_(a)
            y.copy_(b)
            if graphed: g.replay()
            else: loss = step(x, y)
            losses.append(loss.item())
        return losses, [p.detach().cpu() for p in net.parameters()]
    (losses, weights), (other, others) = trained(True), trained(False)
    assert losses == pytest.approx(other, rel=1e-5) and len(set(losses)) == 5
    assert all(torch.allclose(a, b, 1e-4, 1e-6) for a, b in zip(weights, others))


def test_graphed_modules_draw_and_differentiate():
    """The mask of a replayed forward is that of its backward."""
    f = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5)).cuda()
    graphed = torch.cuda.make_graphed_callables(f, (torch.randn(3, 6, device="cuda", requires_grad=True),))
    torch.manual_seed(23)
    got, x = [], torch.ones(3, 6, device="cuda", requires_grad=True)
    for _ in range(3):
        y = graphed(x)
        for p in f.parameters(): p.grad = None
        y.sum().backward()
        mask = (y != 0).float() * 2
        assert torch.allclose(f[0].bias.grad, mask.sum(0)) and mask.sum().item() not in (0, 36)
        got.append(y.tolist())
    assert len({str(y) for y in got}) == 3
    f.eval()
    assert graphed(x).tolist() == f[0](x).tolist()                           # the other mode runs as it always did
    f.train()
    with pytest.raises(AssertionError, match="must contain only Tensors"): torch.cuda.make_graphed_callables(lambda x: x, (3,))
    bad = torch.nn.Linear(2, 2).cuda()
    bad.register_forward_hook(lambda *a: None)
    with pytest.raises(AssertionError, match="must not have hooks"): torch.cuda.make_graphed_callables(bad, (torch.ones(2, 2, device="cuda"),))


@once
def test_several_graphed_callables():
    """A module and a function, with results in dictionaries; an input that nobody uses."""
    first = torch.nn.Linear(4, 6).cuda()
    other = copy.deepcopy(first)
    def second(h): return {"s": torch.nn.functional.gelu(h) * 2, "t": [h.sum(1)]}
    def loss(out): return out["s"].sum() + out["t"][0].square().sum()
    a, b = torch.cuda.make_graphed_callables((first, second), ((torch.randn(3, 4, device="cuda"),), (torch.randn(3, 6, device="cuda", requires_grad=True),)))
    for _ in range(2):
        x = torch.randn(3, 4, device="cuda")
        got, want = loss(b(a(x))), loss(second(other(x)))
        got.backward()
        want.backward()
        assert torch.allclose(got, want) and torch.allclose(first.weight.grad, other.weight.grad, 1e-5, 1e-6)
        first.weight.grad = other.weight.grad = None
    p, q = (torch.ones(2, device="cuda", requires_grad=True) for _ in range(2))
    g = torch.cuda.make_graphed_callables(lambda x, y: x * 2, (p, q), allow_unused_input=True)
    g(p, q).sum().backward()
    assert p.grad.tolist() == [2, 2] and q.grad is None


@once
def test_generators_of_graphs():
    mine = torch.Generator(device="cuda").manual_seed(4)
    want = [torch.rand(3, device="cuda", generator=mine).tolist() for _ in range(3)]
    with pytest.raises(RuntimeError, match="not in capture mode"): captured(lambda: torch.rand(3, device="cuda", generator=mine))
    g = torch.cuda.CUDAGraph()
    g.register_generator_state(mine)
    _, out = captured(lambda: torch.rand(3, device="cuda", generator=mine), g)
    mine.manual_seed(4)
    for w in want:
        g.replay()
        assert out.tolist() == w
    assert mine.get_offset() == 12
    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="only if new seed is the same"): captured(lambda: torch.manual_seed(2))
    captured(lambda: (torch.manual_seed(1), torch.rand(2, device="cuda"))[1])
    with pytest.raises(RuntimeError, match="can't be set while a graph is captured"):
        captured(lambda: torch.cuda.set_rng_state(torch.cuda.get_rng_state()))
    with pytest.raises(NotImplementedError, match="that the host draws, in a graph"): captured(lambda: torch.poisson(torch.ones(3, device="cuda")))


@once
def test_states_that_generators_share():
    mine = torch.Generator(device="cuda").manual_seed(4)
    theirs, copied = mine.graphsafe_get_state(), mine.clone_state()
    def drawn(g): return torch.rand(3, device="cuda", generator=g).tolist()
    first, second, again = drawn(mine), drawn(theirs), drawn(copied)
    assert first == again != second and (mine.get_offset(), theirs.get_offset(), copied.get_offset()) == (8, 8, 4)
    other = torch.Generator(device="cuda").manual_seed(5)
    other.graphsafe_set_state(copied)
    assert drawn(other) == second and copied.get_offset() == 8
    default = torch.cuda.default_generators[0]
    before = default.graphsafe_get_state()
    default.graphsafe_set_state(copied)
    try:
        assert torch.rand(3, device="cuda").tolist() == drawn(mine) and torch.cuda.initial_seed() == 4
        torch.cuda.manual_seed(7)
        assert copied.initial_seed() == 7
    finally: default.graphsafe_set_state(before)
    assert torch.cuda.initial_seed() == 0
    for f in (torch.Generator().graphsafe_get_state, lambda: torch.Generator().graphsafe_set_state(mine)):
        with pytest.raises(NotImplementedError, match="not supported in this Generator"): f()
    with pytest.raises(TypeError, match="expected a Generator, but got int"): mine.graphsafe_set_state(3)
    for f in (mine.graphsafe_set_state, torch.cuda.CUDAGraph().register_generator_state):
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"): f(torch.Generator())


@once
def test_states_that_change_in_graphs():
    """As checkpoints in captures do: a part is drawn again from a copy of the state, which replays go on with as the program would."""
    mine, g = torch.Generator(device="cuda").manual_seed(4), torch.cuda.CUDAGraph()
    copied = mine.clone_state()
    for state in (mine, copied): g.register_generator_state(state)
    def draw(): return torch.rand(3, device="cuda", generator=mine)

    def twice():
        usual, first = mine.graphsafe_get_state(), draw()
        mine.graphsafe_set_state(copied)
        try: return first, draw()
        finally: mine.graphsafe_set_state(usual)
    with pytest.raises(RuntimeError, match="not in capture mode"): captured(lambda: torch.rand(3, device="cuda", generator=torch.Generator(device="cuda")))
    _, (first, second) = captured(twice, g)
    twin = torch.Generator(device="cuda").manual_seed(4)
    for _ in range(3):
        g.replay()
        assert first.tolist() == second.tolist() == torch.rand(3, device="cuda", generator=twin).tolist()


@once
def test_inputs_that_end_before_a_replay():
    def watched(f):
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g, check_input_liveness=True): out = f()
        return g, out
    have = {"x": torch.ones(100, device="cuda"), "y": torch.ones(50, device="cuda"), "pinned": torch.ones(7).pin_memory()}
    kept = torch.ones(100, device="cuda")
    torch.cuda.synchronize()

    def program():
        between = have["x"] * 2 + kept
        moved = have["pinned"].to("cuda", non_blocking=True)
        return between.sum() + have["y"].add_(1).sum() + moved.sum()
    g, out = watched(program)
    kept.mul_(2)                                                             # where it lies
    g.replay()
    assert out.item() == 200 + 200 + 100 + 7
    have.pop("y")
    with pytest.raises(RuntimeError, match=r"(?s)detected 1 dead tensor\(s\).*Dead tensor #1 \(data_ptr=0x.*add_\(1\).*Deletion Traceback \(Python\):.*have.pop.*Replay Traceback"): g.replay()
    have.clear()
    with pytest.raises(RuntimeError, match="detected 3 dead"): g.replay()
    g.reset()
    have["z"] = torch.ones(4, device="cuda")
    g, _ = watched(lambda: torch.ones(3, device="cuda").cumsum(0))           # all of it is the graph's own
    unwatched, made = captured(lambda: have["z"] * 2)
    have.clear()
    g.replay()
    unwatched.replay()
    h, _ = watched(lambda: made + 1)
    with pytest.raises(RuntimeError, match="capturing"): watched(lambda: made.sum().item())
    assert not liveness.WATCHED
    h.replay()


@once
def test_memory_of_a_shared_pool_is_not_dead_while_somebody_has_it():
    """What one graph left is another's: PyTorch asks who has the memory, not for how long."""
    pool, x = torch.cuda.graph_pool_handle(), torch.ones(64, device="cuda")
    torch.cuda.synchronize()
    a, b, c = (torch.cuda.CUDAGraph() for _ in range(3))
    with torch.cuda.graph(a, pool=pool): left = x * 2
    with torch.cuda.graph(b, pool=pool, check_input_liveness=True): right = left + 1
    place = left.data_ptr()
    del left
    with pytest.raises(RuntimeError, match="1 dead"): b.replay()
    with torch.cuda.graph(c, pool=pool): other = x * 3
    assert other.data_ptr() == place
    c.replay()
    b.replay()
    assert right.tolist() == [4] * 64


@once
def test_annotations_are_refused_by_a_warning():
    x = torch.ones(3, device="cuda")
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with pytest.warns(UserWarning, match="nothing is annotated"):
        with torch.cuda.graph(g, enable_annotations=True): y = x * 2
    g.replay()
    assert y.tolist() == [2, 2, 2]


@once
def test_compiled_functions_in_captures_draw_anew():
    @torch.compile
    def f(x): return x + torch.rand(5, device="cuda")
    x = torch.zeros(5, device="cuda")
    for _ in range(5): f(x).tolist()                                         # said from memory by now
    torch.manual_seed(9)
    want = [f(x).tolist() for _ in range(2)]
    g, y = captured(lambda: f(x))
    torch.manual_seed(9)
    for w in want:
        g.replay()
        assert y.tolist() == w


# ---------------------------------------------------------------- CUDAGraph's manners
@once
def test_kept_graphs_and_drawings(tmp_path):
    x = torch.ones(10, device="cuda")
    g, y = captured(lambda: (x * 2).cumsum(0), torch.cuda.CUDAGraph(keep_graph=True))
    assert g.raw_cuda_graph()
    with pytest.raises(RuntimeError, match="until instantiate"): g.raw_cuda_graph_exec()
    g.instantiate()
    first = g.raw_cuda_graph_exec()
    g.instantiate()
    assert g.raw_cuda_graph_exec() != first
    g.replay()
    assert y[9].item() == 20
    g.debug_dump(tmp_path / "kept.dot")
    plain, _ = captured(lambda: x + 1)
    with pytest.raises(RuntimeError, match="keep_graph=true"): plain.raw_cuda_graph()
    with pytest.raises(RuntimeError, match="only when keep_graph=true"): plain.instantiate()
    with pytest.warns(UserWarning, match="debug not enabled"): plain.debug_dump(tmp_path / "not.dot")
    g = torch.cuda.CUDAGraph()
    g.enable_debug_mode()
    captured(lambda: x + 1, g)
    g.debug_dump(tmp_path / "debug.dot")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["debug.dot", "kept.dot"] and "kernel" in (tmp_path / "kept.dot").read_text()
    empty = torch.cuda.CUDAGraph()
    for f in (empty.replay, empty.pool, empty.instantiate):
        with pytest.raises(RuntimeError): f()
    with pytest.warns(UserWarning, match="The CUDA Graph is empty"): captured(lambda: None)
    with pytest.raises(TypeError, match="pool must come from"): empty.capture_begin(pool=3)


@once
def test_errors_of_captures_have_codes():
    x = torch.ones(10, device="cuda")
    with pytest.raises(torch.AcceleratorError, match="operation not permitted when stream is capturing") as e: captured(lambda: x.sum().item())
    assert e.value.error_code == 900
    s = torch.cuda.Stream()

    def never_joined():
        s.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(s): kept.append((x * 2).cumsum(0))
        return x * 3

    def outside():
        torch.cuda.current_stream().wait_event(event)
        return x + 1
    event = torch.cuda.Event()
    event.record()
    with pytest.raises(torch.AcceleratorError) as e: captured(outside)
    assert e.value.error_code == 905
    other = torch.cuda.Event()
    captured(lambda: (x + 1, other.record()))
    with pytest.raises(torch.AcceleratorError) as e: other.synchronize()
    assert e.value.error_code == 907
    kept = []
    with pytest.raises(torch.AcceleratorError) as e: captured(lambda: kept.append(never_joined()))
    assert e.value.error_code == 904 and (x + 1)[0].item() == 2


# ---------------------------------------------------------------- pools
MiB = 1 << 20


def made(nbytes):
    """So many bytes that are there."""
    x = torch.zeros(nbytes // 8, dtype=torch.float64, device="cuda")
    torch.cuda.synchronize()
    return x


@once
def test_pools_of_graphs_and_programs():
    x, pool = torch.ones(10, device="cuda"), torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool):
        y = x * 2
        assert pool.use_count() == 2
    outside = x * 3
    assert pool.use_count() == 1 and [s["segment_pool_id"] for s in pool.snapshot()] == [pool.id] and outside[0].item() == 3
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g, pool=pool.id): z = y + 1
    g.replay()
    assert z.tolist() == [3] * 10 and g.pool() == pool.id and len(pool.snapshot()) == 2             # of the capture's stream, too
    y.zero_()
    g.replay()
    assert z.tolist() == [1] * 10
    with pytest.raises(NotImplementedError, match="allocator=3"): torch.cuda.MemPool(allocator=3)


@once
def test_pools_that_are_a_last_resort_and_pools_that_are_not_cut(monkeypatch):
    machine = Machine([Spec(nbytes=24 * MiB)], seed=3)
    with machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        for lends in (False, True):
            pool = torch.cuda.MemPool(use_on_oom=lends)
            with torch.cuda.use_mem_pool(pool): made(14 * MiB)
            if lends: assert made(12 * MiB)[5].item() == 0 and len(pool.snapshot()) == 1
            else:
                with pytest.raises(torch.OutOfMemoryError): made(12 * MiB)
            del pool
        for whole in (False, True):
            pool = torch.cuda.MemPool(no_split=whole)
            with torch.cuda.use_mem_pool(pool): kept = [made(1000), made(1000)]
            assert len(pool.snapshot()) == len(kept) - 1 + whole
        del pool, kept
