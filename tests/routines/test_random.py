"""The engine against torch's CPU generator: the same bits and the same state afterwards."""
import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.framework.random_core import DEFAULT_SEED, Engine

from .native import DTYPES

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
SIZES = [0, 1, 5, 15, 16, 17, 31, 40, 623, 624, 625, 4096, 4097, 10007]


def compare(fill, reference, n, dtype, seed=7):
    """fill(engine, address) and reference(tensor) on tensors of n elements."""
    out, e = torch.ones(max(n, 1), dtype=dtype), Engine(seed)
    torch.manual_seed(seed)
    fill(e, out.data_ptr())
    want = reference(torch.ones(n, dtype=dtype))
    assert torch.equal(out[:n], want), (n, dtype, (out[:n] != want).nonzero()[:3].tolist(), out[:n][out[:n] != want][:3], want[out[:n] != want][:3])
    assert state_of(e) == torch.get_rng_state().numpy().tobytes(), "the states differ afterwards"


def state_of(e): return e.get_state()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_continuous(n, dtype):
    t = DTYPES[dtype]
    compare(lambda e, a: e.uniform(a, n, t), lambda x: x.uniform_(), n, dtype)
    compare(lambda e, a: e.uniform(a, n, t, -2.3, 5.1), lambda x: x.uniform_(-2.3, 5.1), n, dtype)
    compare(lambda e, a: e.normal(a, n, t), lambda x: x.normal_(), n, dtype)
    compare(lambda e, a: e.normal(a, n, t, 1.7, 3.3), lambda x: x.normal_(1.7, 3.3), n, dtype)
    compare(lambda e, a: e.exponential(a, n, t, 1.3), lambda x: x.exponential_(1.3), n, dtype)
    compare(lambda e, a: e.cauchy(a, n, t, .3, 1.3), lambda x: x.cauchy_(.3, 1.3), n, dtype)
    compare(lambda e, a: e.log_normal(a, n, t, .3, 1.3), lambda x: x.log_normal_(.3, 1.3), n, dtype)
    compare(lambda e, a: e.geometric(a, n, t, .3), lambda x: x.geometric_(.3), n, dtype)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex(dtype):
    for n in (1, 7, 8, 50):
        compare(lambda e, a: e.uniform(a, n, DTYPES[dtype]), lambda x: torch.rand(n, dtype=dtype), n, dtype)
        compare(lambda e, a: e.normal(a, n, DTYPES[dtype]), lambda x: torch.randn(n, dtype=dtype), n, dtype)


def test_a_half_that_rounds_to_the_end_becomes_the_start():
    for dtype in (torch.float16, torch.bfloat16): compare(lambda e, a: e.uniform(a, 100000, DTYPES[dtype]), lambda x: x.uniform_(), 100000, dtype)


def test_a_tensor_that_is_not_contiguous_draws_pairs():
    compare(lambda e, a: e.normal(a, 40, dt.float32, contiguous=False), lambda x: torch.empty(8, 5).t().normal_().t().reshape(-1), 40, torch.float32)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTS, torch.bool])
def test_discrete(n, dtype):
    t = DTYPES[dtype]
    compare(lambda e, a: e.bernoulli(a, n, t, .3), lambda x: x.bernoulli_(.3), n, dtype)
    compare(lambda e, a: e.integers_full(a, n, t), lambda x: x.random_(), n, dtype)
    if dtype is not torch.bool:
        compare(lambda e, a: e.integers(a, n, t, 3, 100), lambda x: x.random_(3, 100), n, dtype)
        compare(lambda e, a: e.geometric(a, n, t, .3), lambda x: x.geometric_(.3), n, dtype)
    for p_type in FLOATS:
        p = torch.linspace(0, 1, max(n, 1), dtype=torch.float64)[:n].to(p_type).contiguous()
        if dtype is torch.float16: continue    # torch has no kernel for it
        compare(lambda e, a: e.bernoulli_each(a, n, t, p.data_ptr(), DTYPES[p_type]), lambda x: x.bernoulli_(p), n, dtype)


@pytest.mark.filterwarnings("ignore:.*out of bounds")
@pytest.mark.parametrize("dtype,low,high", [
    (torch.int64, 0, 1 << 28), (torch.int64, 0, (1 << 28) - 1), (torch.int64, -(1 << 40), 1 << 40), (torch.int64, 0, (1 << 63) - 1),
    (torch.int64, -(1 << 63), (1 << 63) - 1), (torch.int32, -(1 << 31), (1 << 31) - 1), (torch.float32, 0, (1 << 28) + 1), (torch.float32, 0, 1 << 30),
    (torch.float32, -(1 << 27) - 3, (1 << 26) + 5), (torch.float64, 0, 1 << 60), (torch.float16, 0, 5000), (torch.bfloat16, -777, 1000),
    (torch.uint8, 0, 256), (torch.int8, -128, 128)])
def test_ranges(dtype, low, high):
    compare(lambda e, a: e.integers(a, 1000, DTYPES[dtype], low, high), lambda x: x.random_(low, high), 1000, dtype)


@pytest.mark.parametrize("dtype,low", [(torch.int64, 5), (torch.int64, -(1 << 63)), (torch.int32, -7), (torch.float32, 3), (torch.float64, 10),
                                       (torch.int8, -128), (torch.float32, -(1 << 63))])
def test_open_ranges(dtype, low):
    compare(lambda e, a: e.integers_from(a, 1000, DTYPES[dtype], low), lambda x: x.random_(low, None), 1000, dtype)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64, torch.int16])
def test_permutation(dtype):
    for n in (0, 1, 2, 10, 5000, 30000): compare(lambda e, a: e.permutation(a, n, DTYPES[dtype]), lambda x: torch.randperm(n, dtype=dtype), n, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_multinomial_with_replacement(dtype):
    torch.manual_seed(1)
    for rows, categories, samples in ((1, 5, 40), (6, 100, 3), (3, 1, 4)):
        w = torch.rand(rows, categories).to(dtype)
        compare(lambda e, a: e.multinomial(a, w.data_ptr(), rows, categories, samples, DTYPES[dtype]),
                lambda x: w.multinomial(samples, True).reshape(-1), rows * samples, torch.int64)
    for bad, what in (([1.0, -1.0], "entry < 0"), ([1.0, float("inf")], "infinity or NaN"), ([0.0, 0.0], "sum of probabilities")):
        w, out = torch.tensor(bad, dtype=dtype), torch.zeros(3, dtype=torch.int64)
        with pytest.raises(RuntimeError, match=what): Engine().multinomial(out.data_ptr(), w.data_ptr(), 1, 2, 3, DTYPES[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson(dtype):
    rates = torch.tensor([0.0, 0.3, 2.0, 9.99, 10.0, 35.5, 400.0, 1e5] * 50, dtype=dtype)
    compare(lambda e, a: e.poisson(a, len(rates), DTYPES[dtype], rates.data_ptr()), lambda x: torch.poisson(rates), len(rates), dtype)


def test_seeds_and_states():
    e = Engine()
    assert e.initial_seed == DEFAULT_SEED == torch.Generator().initial_seed()
    out = torch.zeros(50)
    for seed in (0, 7, -1, (1 << 64) - 1, 1 << 40, -(1 << 63)):
        ours, theirs = Engine(seed), torch.Generator().manual_seed(seed)
        assert ours.initial_seed == theirs.initial_seed()
        assert ours.get_state() == theirs.get_state().numpy().tobytes()
    for drawn in (0, 1, 3, 600, 624, 625, 1000):
        theirs = torch.Generator().manual_seed(9)
        torch.rand(drawn, generator=theirs)
        torch.randn(1, generator=theirs)       # leaves a remembered sample
        ours = Engine(1)
        ours.set_state(theirs.get_state().numpy().tobytes())
        assert ours.get_state() == theirs.get_state().numpy().tobytes()
        ours.normal(out.data_ptr(), 5, dt.float32)
        assert torch.equal(out[:5], torch.randn(5, generator=theirs))
        back = torch.Generator()
        back.set_state(torch.from_numpy(np.frombuffer(ours.get_state(), np.uint8).copy()))
        ours.uniform(out.data_ptr(), 50, dt.float32)
        assert torch.equal(out, torch.rand(50, generator=back))
    with pytest.raises(RuntimeError, match="5056"): e.set_state(b"abc")
    with pytest.raises(RuntimeError, match="Invalid mt19937 state"): e.set_state(bytes(5056))
    with pytest.raises(ValueError, match="Overflow"): e.manual_seed(1 << 64)
    assert e.seed() == e.initial_seed


def test_errors_are_torchs():
    e, out = Engine(), torch.zeros(4)
    at, n, t = out.data_ptr(), 4, dt.float32
    for ours, theirs in ((lambda: e.uniform(at, n, t, 2.0, 1.0), lambda: out.uniform_(2, 1)), (lambda: e.normal(at, n, t, 0.0, -1.0), lambda: out.normal_(0, -1)),
                         (lambda: e.integers(at, n, t, 5, 5), lambda: out.random_(5, 5)), (lambda: e.exponential(at, n, t, 0.0), lambda: out.exponential_(0)),
                         (lambda: e.geometric(at, n, t, 1.0), lambda: out.geometric_(1)), (lambda: e.bernoulli(at, n, t, 1.5), lambda: out.bernoulli_(1.5)),
                         (lambda: e.integers(at, n, dt.uint8, 0, 257), lambda: out.to(torch.uint8).random_(0, 257))):
        with pytest.raises(RuntimeError) as a: ours()
        with pytest.raises(RuntimeError) as b: theirs()
        assert a.value.args[0].split("=")[0][:30] == b.value.args[0].split("=")[0][:30]


@pytest.mark.parametrize("n", [1, 5, 1000, 20000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_and_binomial(n, dtype):
    """Both of the binomial's algorithms, shapes on both sides of 1."""
    g, t = torch.Generator().manual_seed(n), DTYPES[dtype]
    rand = lambda scale: (torch.rand(n, generator=g, dtype=torch.float64) * scale).to(dtype)
    shapes, counts, p = rand(5), rand(60).floor(), rand(1)
    shapes[::7], counts[::3] = shapes[::7] * 100, counts[::3] * 1000
    compare(lambda e, a: e.gamma(a, n, t, shapes.data_ptr()), lambda x: torch._standard_gamma(shapes), n, dtype)
    compare(lambda e, a: e.binomial(a, n, t, counts.data_ptr(), p.data_ptr()), lambda x: torch.binomial(counts, p), n, dtype)


def test_gamma_and_binomial_at_the_edges():
    shapes, counts, p = torch.tensor([0.0, 1e-3, 1.0, 1e-30, 3e8]), torch.tensor([0.0, 10, 10, 10, -1]), torch.tensor([0.5, 0, 1, 2, 0.5])
    compare(lambda e, a: e.gamma(a, 5, dt.float32, shapes.data_ptr()), lambda x: torch._standard_gamma(shapes), 5, torch.float32)
    compare(lambda e, a: e.binomial(a, 5, dt.float32, counts.data_ptr(), p.data_ptr()), lambda x: torch.binomial(counts, p), 5, torch.float32)
