"""Ordinary programs on simulated GPUs: random numbers, errors of values, indexing, files, mixed precision, transforms."""
import copy
import io
import pickle

import numpy as np
import pytest

import forno as torch
from forno.core.op import TABLE
from forno.cudart import random as states

pytestmark = pytest.mark.usefixtures("devices")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    yield
    for i in range(2): states.default(i).manual_seed(0)


def close(a, b, tolerance=1e-5): assert torch.allclose(a.detach().cpu(), b.detach().cpu(), tolerance, tolerance), (a, b)


def words(row, *xs) -> list[str]:
    out = np.asarray(TABLE[row].oracle(None, *(np.array([x], np.uint64).view(np.int64) for x in xs))).view(np.uint64)[0]
    return [f"{int(out) >> 32 * k & 0xFFFFFFFF:08x}" for k in (0, 1)]


# ---------------------------------------------------------------- random numbers
@pytest.mark.parametrize("index, low, high, counter, want", [
    (0, 0, 0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((1 << 64) - 1, (1 << 32) - 1, (1 << 32) - 1, (1 << 64) - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (0x85A308D3243F6A88, 0xA4093822, 0x299F31D0, 0x0370734413198A2E, "d16cfe09 94fdcceb 5001e420 24126ea1")])
def test_philox_known_answers(index, low, high, counter, want):
    assert " ".join(words("philox", index, low, high, counter) + words("philox_more", index, low, high, counter)) == want


@pytest.mark.parametrize("make, mean, std, tolerance", [
    (lambda: torch.rand(5000, device="cuda"), 0.5, 12 ** -0.5, 0.02), (lambda: torch.randn(5000, device="cuda"), 0, 1, 0.05),
    (lambda: torch.randn(3000, device="cuda", dtype=torch.float64), 0, 1, 0.06), (lambda: torch.randn(5000, device="cuda", dtype=torch.bfloat16), 0, 1, 0.06),
    (lambda: torch.randn(2500, device="cuda", dtype=torch.complex64).abs() ** 2, 1, 1, 0.1),
    (lambda: torch.empty(5000, device="cuda").exponential_(2.0), 0.5, 0.5, 0.04), (lambda: torch.empty(5000, device="cuda").uniform_(-3, 1), -1, 4 * 12 ** -0.5, 0.06),
    (lambda: torch.empty(5000, device="cuda").bernoulli_(0.3), 0.3, 0.21 ** 0.5, 0.03), (lambda: torch.empty(5000, device="cuda").geometric_(0.5), 2, 2 ** 0.5, 0.1),
    (lambda: torch.empty(5000, device="cuda").log_normal_(0, 0.5).log(), 0, 0.5, 0.04), (lambda: torch.randint(-2, 3, (5000,), device="cuda"), 0, 2 ** 0.5, 0.08),
    (lambda: torch.randint(0, 1 << 50, (4000,), device="cuda") / 2.0 ** 50, 0.5, 12 ** -0.5, 0.03),
    (lambda: torch.bernoulli(torch.full((5000,), 0.7, device="cuda")), 0.7, 0.21 ** 0.5, 0.03), (lambda: torch.poisson(torch.full((2000,), 4.0, device="cuda")), 4, 2, 0.2),
    (lambda: torch.normal(2.0, torch.full((5000,), 3.0, device="cuda")), 2, 3, 0.2)])
def test_moments(make, mean, std, tolerance):
    x = make()
    assert x.device == torch.device("cuda:0")
    x = x.cpu().double()
    assert x.mean().item() == pytest.approx(mean, abs=tolerance) and x.std().item() == pytest.approx(std, abs=tolerance)


def test_ranges():
    assert all(0 <= x < 1 for t in (torch.float32, torch.float16, torch.bfloat16) for x in torch.rand(3000, device="cuda", dtype=t).tolist())
    assert set(torch.randint(5, (300,), device="cuda").tolist()) == set(range(5))
    assert set(torch.empty(200, device="cuda", dtype=torch.uint8).random_(254, 256).tolist()) == {254, 255}
    assert torch.rand(0, device="cuda").shape == (0,) and torch.rand(2, 0, 3, device="cuda").device.type == "cuda"
    with pytest.raises(RuntimeError, match="expects 'from' to be less than 'to'"): torch.randint(3, 3, (2,), device="cuda")


def test_seeds_and_states():
    def draw(**kw): return torch.randn(6, device="cuda", **kw).tolist()
    torch.manual_seed(7)
    a, b = draw(), draw()
    torch.manual_seed(7)
    assert draw() == a != b and draw() == b
    state = torch.cuda.get_rng_state()
    c = draw()
    torch.cuda.set_rng_state(state)
    assert draw() == c and state.numel() == 16
    g = torch.Generator(device="cuda").manual_seed(7)
    assert draw(generator=g) == a and g.get_offset() == 4 and g.device.type == "cuda"
    assert pickle.loads(pickle.dumps(g)).get_state().tolist() == g.get_state().tolist()
    torch.manual_seed(7)
    assert torch.randn(6, device="cuda:1").tolist() == a                       # the same on any GPU
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"): draw(generator=torch.Generator())
    with torch.random.fork_rng(): inside = draw()
    assert draw() == inside


def test_in_place_and_layouts():
    x = torch.zeros(3, 4, device="cuda").t()
    assert x.normal_() is x and x.stride() == (1, 4) and len(set(x.flatten().tolist())) == 12
    y = torch.zeros(4, 4, device="cuda")
    y[1:3].fill_(1).uniform_(5, 6)
    assert y[0].tolist() == [0] * 4 and (y[1:3] >= 5).all()
    w = torch.nn.Linear(30, 20, device="cuda").weight
    assert w.is_cuda and 0 < w.abs().max().item() <= 30 ** -0.5
    torch.nn.init.kaiming_normal_(w)
    assert w.std().item() == pytest.approx((2 / 30) ** 0.5, abs=0.05) and w.requires_grad
    assert torch.rand_like(w).device == w.device == torch.randn_like(w).device


def test_dropout():
    x = torch.ones(4000, device="cuda", requires_grad=True)
    f = torch.nn.Dropout(0.25)
    y, z = f(x), f(x)
    assert y.mean().item() == pytest.approx(1, abs=0.06) and sorted(set(y.tolist())) == pytest.approx([0, 4 / 3]) and y.tolist() != z.tolist()
    y.sum().backward()
    close(x.grad, y)


def test_draws_in_calls_that_are_said_again():
    @torch.compile
    def step(x): return x + torch.rand(5, device="cuda")
    x, seen = torch.zeros(5, device="cuda"), []
    torch.manual_seed(3)
    for _ in range(6): seen.append(tuple(step(x).tolist()))
    assert len(set(seen)) == 6
    torch.manual_seed(3)
    assert [tuple(torch.rand(5, device="cuda").tolist()) for _ in range(6)] == seen


def test_vmap_randomness():
    x = torch.zeros(3, 5, device="cuda")
    def f(row): return row + torch.rand(5, device="cuda")
    with pytest.raises(RuntimeError, match="randomness error mode"): torch.vmap(f)(x)
    same, different = torch.vmap(f, randomness="same")(x), torch.vmap(f, randomness="different")(x)
    assert same[0].tolist() == same[1].tolist() and different[0].tolist() != different[1].tolist() and different.is_cuda


# ---------------------------------------------------------------- errors of values
def test_reports_of_kernels():
    x, i = torch.arange(6.0, device="cuda"), torch.tensor([1, 9, 2, 77], device="cuda")
    with pytest.raises(torch.AcceleratorError, match=r"(?s)device-side assert triggered.*is out of bounds for dimension with size 6.*test_framework.py") as e: x[i].tolist()
    assert "index 9 " in str(e.value) or "index 77 " in str(e.value)
    assert x[i[:1]].tolist() == [1.0]          # the process and the device go on
    with pytest.raises(torch.AcceleratorError, match="ZeroDivisionError"): (torch.tensor([7, 5], device="cuda") // torch.tensor([0, 2], device="cuda")).tolist()
    assert (x * 2).tolist() == [0, 2, 4, 6, 8, 10]


# ---------------------------------------------------------------- indexing
def test_indices_from_the_cpu():
    x = torch.arange(12.0).reshape(3, 4)
    y, i, mask = x.cuda(), torch.tensor([2, 0]), torch.tensor([True, False, True])
    close(y[i], x[i])
    close(y[[0, 2]], x[[0, 2]])
    close(y[i, 1:], x[i, 1:])
    close(y[mask], x[mask])
    close(y[y > 4], x[x > 4])
    y[i] = 0.5
    x[i] = 0.5
    close(y, x)
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"): x[i.cuda()]
    assert y[1, 2].item() == 6 and y.nonzero().is_cuda and y.unique().is_cuda


# ---------------------------------------------------------------- where results are
def test_factories():
    x = torch.ones(2, 3, device="cuda")
    made = [x.new_zeros(2), x.new_tensor([1, 2]), x.new_full((2,), 3), torch.zeros_like(x), torch.full_like(x, 2), torch.empty_like(x), torch.tensor(x), torch.tensor([1.0], device="cuda"),
            torch.as_tensor(np.ones(2), device="cuda"), torch.asarray([1, 2], device="cuda"), torch.eye(3, device="cuda"), torch.linspace(0, 1, 5, device="cuda"),
            torch.arange(1, device="cuda"), torch.from_numpy(np.ones(3)).to("cuda"), torch.fill(x, 3.0), x.type(torch.float64), x.cpu().type("torch.cuda.FloatTensor"),
            torch.full((), 2, device="cuda"), torch.empty_strided((2, 2), (1, 2), device="cuda"), x.clone(), x.to(torch.int32), x.t().contiguous()]
    assert all(t.is_cuda for t in made)
    with torch.device("cuda"): assert torch.zeros(2).is_cuda and torch.randn(2).is_cuda and torch.nn.Linear(2, 2).weight.is_cuda
    assert x.type() == "torch.cuda.FloatTensor"
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError, match="different device"): p.grad = torch.ones(2, device="cuda")


def test_views_travel():
    x, z = torch.arange(24.0).reshape(2, 3, 4), torch.arange(12.0).reshape(4, 3)
    y = x.cuda()
    for f in (lambda t: t.transpose(0, 2), lambda t: t[:, 1:, ::2], lambda t: t.flip(1), lambda t: t[1].expand(2, 3, 4), lambda t: t.permute(2, 0, 1)[1:]):
        assert f(y).cpu().tolist() == f(x).tolist() == f(y).to("cuda:1").tolist() and f(x).cuda().tolist() == f(x).tolist()
    assert [p.cpu().tolist() for p in y.chunk(2, 1)] == [p.tolist() for p in x.chunk(2, 1)]
    there, here = z.cuda().t() + 1, z.t() + 1                # a value of an order of its own goes from one part to another
    assert (there.detach().cpu() - here).abs().max().item() == 0
    assert torch.max(torch.tensor(3.0, device="cuda"), 0).indices.is_cuda
    for n in (0, 1, 4): assert all(t.is_cuda for t in torch.unique(torch.ones(n, device="cuda"), return_inverse=True, return_counts=True))


# ---------------------------------------------------------------- files and copies
def test_pickles_and_files():
    x = torch.arange(6.0, device="cuda:1").reshape(2, 3)
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)): assert y.device == x.device and y.tolist() == x.tolist()
    net = torch.nn.Linear(3, 2).cuda()
    tied = {"a": x, "part": x[1], "net": net.state_dict(), "t": x.t()}
    file = io.BytesIO()
    torch.save(tied, file)
    def load(**kw): file.seek(0); return torch.load(file, **kw)
    back = load()
    assert back["a"].device == x.device and back["net"]["weight"].device == torch.device("cuda:0") and back["t"].tolist() == x.t().tolist()
    back["a"][1, 0] = 50
    assert back["part"][0].item() == 50
    assert load(map_location="cpu")["a"].device.type == "cpu" and load(map_location={"cuda:1": "cuda:0"})["a"].device.index == 0
    net.load_state_dict(load(map_location="cpu")["net"])
    assert net.weight.is_cuda


def test_modules_and_optimizers():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters())
    ids = [id(p) for p in net.parameters()]
    net.to("cuda")
    assert [id(p) for p in net.parameters()] == ids and all(b.is_cuda for b in net.buffers())
    net(torch.randn(8, 4, device="cuda")).square().sum().backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    assert norm.is_cuda
    optimizer.step()
    assert all(s["exp_avg"].is_cuda for s in optimizer.state.values())
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(s["exp_avg"].is_cuda for s in optimizer.state.values())
    assert not any(p.is_cuda for p in net.cpu().parameters())


# ---------------------------------------------------------------- mixed precision
def test_autocast_and_scaler():
    net, x = torch.nn.Linear(8, 4).cuda(), torch.randn(3, 8, device="cuda")
    with torch.autocast("cuda"):
        assert net(x).dtype is torch.float16 and (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
        loss = torch.nn.functional.mse_loss(net(x), torch.zeros(3, 4, device="cuda"))
        assert loss.dtype is torch.float32
    with torch.autocast("cuda", dtype=torch.bfloat16): assert net(x).dtype is torch.bfloat16
    with torch.autocast("cpu"): assert net(x).dtype is torch.float32
    scaler, optimizer = torch.amp.GradScaler("cuda"), torch.optim.SGD(net.parameters(), 0.1)
    assert scaler.is_enabled()
    before = net.weight.detach().clone()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert net.weight.grad.dtype is torch.float32 and not torch.equal(before, net.weight)


# ---------------------------------------------------------------- gradients
def test_hooks_functions_and_checkpoints():
    from forno.utils.checkpoint import checkpoint

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g): return g * 2 * (ctx.saved_tensors[0] > 0)
    x, seen = torch.randn(5, device="cuda", requires_grad=True), []
    y = Twice.apply(x)
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.device.type))
    (y * 3).sum().backward()
    assert seen == ["cuda"] and y.grad.is_cuda and x.grad.is_cuda
    close(x.grad, 6.0 * (x > 0))
    x.grad = None
    f = torch.nn.Dropout(0.5)
    out = checkpoint(lambda v: f(v) * v, x, use_reentrant=False)
    out.sum().backward()
    close(x.grad * x / 2, out)                 # the second run drew the same mask


def test_transforms():
    x, w = torch.randn(4, 3), torch.randn(3)
    def loss(w, row): return (w * row).sum().sin()
    here, there = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x), torch.func.vmap(torch.func.grad(loss), (None, 0))(w.cuda(), x.cuda())
    assert there.is_cuda
    close(there, here)
    j = torch.func.jacrev(lambda v: v.tanh() * v.sum())(w.cuda())
    assert j.is_cuda
    close(j, torch.func.jacrev(lambda v: v.tanh() * v.sum())(w))


# ---------------------------------------------------------------- libraries on the host, printing
def test_opaque_rows_and_printing():
    a = torch.randn(4, 4)
    close(torch.linalg.inv(a.cuda()), torch.linalg.inv(a), 1e-3)
    close(torch.fft.rfft(a.cuda()).abs(), torch.fft.rfft(a).abs(), 1e-4)
    with pytest.raises(torch.linalg.LinAlgError): torch.linalg.cholesky(-torch.eye(3, device="cuda")).tolist()
    assert "device='cuda:1'" in repr(torch.ones(3, device="cuda:1")) and repr(torch.nn.Parameter(torch.ones(1, device="cuda"))).startswith("Parameter containing:")
    assert torch.tensor(3.0, device="cuda").item() == 3 and float(torch.tensor(2, device="cuda")) == 2 and bool(torch.ones(1, device="cuda") == torch.tensor(1.0))
