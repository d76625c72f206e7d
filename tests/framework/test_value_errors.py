"""Errors that depend on values: the same exceptions as PyTorch's, late where values are, and what is left of the state that was being written."""
import math

import forno
import pytest
import torch


def pending(m, *values):
    """A tensor whose values nobody has computed yet."""
    return m.tensor(list(values)) * 1


def shown(y):
    if isinstance(y, (tuple, list)): return [shown(x) for x in y]
    return y.tolist() if hasattr(y, "tolist") else y


def outcome(m, f):
    """What f gives, or its error's kind and the first line of its text."""
    try: return "value", shown(f(m))
    except Exception as e: return type(e).__name__.lstrip("_"), str(e).split("\n")[0].split(", recorded at")[0]


def agree(f):
    """Both raise the same, in grad mode and without; returns the error's text."""
    for grad in (True, False):
        with torch.set_grad_enabled(grad), forno.set_grad_enabled(grad): theirs, mine = outcome(torch, f), outcome(forno, f)
        assert theirs[0] != "value", f"PyTorch raises nothing: {theirs[1]}"
        assert mine == theirs
    return theirs[1]


# ---------------------------------------------------------------- division
DIVISIONS = {
    "//": lambda m, x, y: x // y, "%": lambda m, x, y: x % y, "fmod": lambda m, x, y: m.fmod(x, y), "remainder": lambda m, x, y: m.remainder(x, y),
    "floor_divide": lambda m, x, y: m.floor_divide(x, y), "floor": lambda m, x, y: m.div(x, y, rounding_mode="floor"),
    "trunc": lambda m, x, y: x.div(y, rounding_mode="trunc"),
}


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64"])
def test_division_by_a_tensor(name, kind):
    f = DIVISIONS[name]
    assert agree(lambda m: f(m, m.tensor([1, 2, 3]).to(getattr(m, kind)), pending(m, 1, 0, 2).to(getattr(m, kind)))) == "ZeroDivisionError"


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("zero", [0, False])
def test_division_by_a_number_raises_at_once(name, zero):
    x = forno.tensor([1, 2])
    with pytest.raises(RuntimeError, match="^ZeroDivisionError$"): DIVISIONS[name](forno, x, zero)
    agree(lambda m: DIVISIONS[name](m, m.tensor([1, 2]), zero))


@pytest.mark.parametrize("f", [
    lambda m: 5 // pending(m, 1, 0), lambda m: 5 % pending(m, 1, 0), lambda m: m.remainder(5, pending(m, 0)), lambda m: m.tensor([1, 2]).floor_divide_(0),
    lambda m: m.tensor([1, 2]).__ifloordiv__(pending(m, 0, 1)), lambda m: m.tensor([1, 2]).__imod__(0), lambda m: m.tensor([1, 2]).div_(0, rounding_mode="trunc"),
    lambda m: m.tensor([True]) // 0, lambda m: m.floor_divide(1, 0), lambda m: m.floor_divide(m.tensor([1, 2]), 0, out=m.tensor([0, 0])),
    lambda m: m.tensor(7) // pending(m, 0)[0], lambda m: m.tensor([3], dtype=m.uint8) // m.tensor(256),
    lambda m: m.ones(3, dtype=m.int64) // m.zeros(3, dtype=m.int64)])
def test_division_in_its_other_forms(f): assert agree(f) == "ZeroDivisionError"


@pytest.mark.parametrize("f", [
    lambda m: m.tensor([], dtype=m.int64) // 0, lambda m: m.tensor([1, 2]) // 0.0, lambda m: m.tensor([1.0, 2.0]) // 0, lambda m: m.gcd(pending(m, 4, 0), pending(m, 0, 0)),
    lambda m: pending(m, 1, 2) // pending(m, 1, -1), lambda m: m.tensor([4, 5]) % 3, lambda m: m.fmod(m.tensor([4.0]), 0).isnan()])
def test_division_that_is_none_of_an_integer_by_zero(f): assert str(outcome(forno, f)) == str(outcome(torch, f)) and outcome(torch, f)[0] == "value"


def test_replayed_numbers_are_looked_at_every_time():
    def line(k): return (forno.tensor([6, 7]) // k).tolist()
    assert line(2) == [3, 3] and line(3) == [2, 2]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"): line(0)
    assert line(7) == [0, 1]


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 31, 64, 1001, 40_000, 300_001])
def test_every_lane_is_tested_and_no_lane_out_of_use(n):
    """The lanes past the end of a vector are no elements, wherever the kernel finds zeros there."""
    for at in {0, n // 2, n - 1}:
        divisor = forno.arange(1, n + 1)
        divisor[at] = 0
        with pytest.raises(RuntimeError, match="ZeroDivisionError"): (forno.arange(n) // divisor).sum().item()
    assert (forno.arange(1, n + 1) // forno.arange(1, n + 1)).sum().item() == n


@pytest.mark.parametrize("shape, divisor", [((7, 10), (10,)), ((7, 10), (7, 1)), ((3, 50, 4), (50, 1)), ((33, 65), (1,)), ((2, 1000), (1000,)), ((500, 3), (3,))])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_in_loops_with_reductions(shape, divisor, axis):
    def run(m, zero):
        y = m.arange(1, math.prod(divisor) + 1).reshape(divisor)
        if zero: y.view(-1)[-1] = 0
        z = m.arange(math.prod(shape)).reshape(shape) // (y * 1)
        return z if axis is None else z.sum(axis)
    agree(lambda m: run(m, True))
    assert shown(run(forno, False)) == shown(run(torch, False))


def test_what_happens_to_the_quotient_later_does_not_matter():
    agree(lambda m: m.where(pending(m, 0, 1) != 0, m.tensor([1, 2]) // pending(m, 0, 1), 0))
    agree(lambda m: (m.tensor([1, 2, 3]) // pending(m, 1, 1, 0))[:2])
    agree(lambda m: (m.arange(12).reshape(3, 4) // pending(m, 1, 1, 1, 0)).t()[:2].contiguous())
    agree(lambda m: (m.tensor([1, 2, 3]) // pending(m, 1, 1, 0)) * 0)
    agree(lambda m: m.matmul(m.ones(3, 3, dtype=m.int64), m.ones(3, 3, dtype=m.int64)) // pending(m, 1, 0, 1))


def test_a_result_that_nobody_wants():
    def run(m):
        m.tensor([1, 2]) // pending(m, 0, 1)
        return m.ones(2)
    agree(run)


def test_the_users_line_is_named():
    y = forno.tensor([1, 2]) // (forno.tensor([0, 3]) * 1)
    with pytest.raises(RuntimeError, match=r"recorded at .*test_value_errors\.py:\d+"): y.tolist()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"): (y + 1).tolist()


def test_the_first_error_of_the_program_is_raised():
    def run(m):
        p = pending(m, 0.5, 1.5)
        q = pending(m, 1, 0)
        a = m.nn.functional.binary_cross_entropy(p, m.zeros(2))
        return a, m.tensor([1, 2]) // q
    assert agree(run).startswith("all elements of input")


# ---------------------------------------------------------------- ranges of values
CLASSES = dict(weight=None), dict(weight=True), dict(reduction="none"), dict(label_smoothing=0.1)


@pytest.mark.parametrize("wrong", [-0.5, 1.5, math.nan, math.inf, 1.0001, -1e-30])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy(wrong, reduction):
    agree(lambda m: m.nn.functional.binary_cross_entropy(pending(m, 0.5, wrong), m.tensor([0.0, 1.0]), reduction=reduction))
    agree(lambda m: m.nn.functional.binary_cross_entropy(pending(m, 0.5, 1.0), pending(m, 0.0, wrong), reduction=reduction))


def test_binary_cross_entropy_within_its_range():
    x, y = [0.0, 1.0, 0.25, 0.75], [0.0, 1.0, 1.0, 0.5]
    for kind in ("float32", "float64"):
        mine, theirs = (m.tensor(x, dtype=getattr(m, kind), requires_grad=True) for m in (forno, torch))
        for m, t in ((forno, mine), (torch, theirs)): m.nn.functional.binary_cross_entropy(t, m.tensor(y, dtype=getattr(m, kind))).backward()
        assert mine.grad.tolist() == pytest.approx(theirs.grad.tolist())


def test_binary_cross_entropy_in_backward_alone():
    """The loss is not read, but the gradient follows from the refused value."""
    x = forno.tensor([0.5, 1.5], requires_grad=True)
    forno.nn.functional.binary_cross_entropy(x * 1, forno.tensor([0.0, 1.0])).backward()
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"): x.grad.tolist()


@pytest.mark.parametrize("more", CLASSES)
@pytest.mark.parametrize("wrong", [3, -1, 100])
@pytest.mark.parametrize("known", [True, False])
def test_cross_entropy(more, wrong, known):
    def run(m):
        target = m.tensor([0, wrong]) if known else pending(m, 0, wrong)
        return m.nn.functional.cross_entropy(m.zeros(2, 3), target, **{k: m.ones(3) if v is True else v for k, v in more.items()})
    assert agree(run) == f"Target {wrong} is out of bounds."


LOSSES = {
    "nll": lambda m: m.nn.functional.nll_loss(m.zeros(2, 3), pending(m, 0, 3)),
    "nll of images": lambda m: m.nn.functional.nll_loss(m.zeros(1, 3, 2, 2), pending(m, 0, 3, 1, 1).view(1, 2, 2)),
    "cross entropy of one": lambda m: m.nn.functional.cross_entropy(m.zeros(3), pending(m, 3)[0]),
    "multi margin": lambda m: m.nn.functional.multi_margin_loss(m.zeros(2, 3), pending(m, 0, 3)),
    "multilabel margin": lambda m: m.nn.functional.multilabel_margin_loss(m.zeros(2, 3), pending(m, 0, 3, -1, 0, 5, -1).view(2, 3)),
    "embedding": lambda m: m.nn.functional.embedding(pending(m, 0, 3), m.zeros(3, 2)),
    "embedding from the end": lambda m: m.nn.functional.embedding(pending(m, 0, -1), m.zeros(3, 2)),
    "bag": lambda m: m.nn.functional.embedding_bag(pending(m, 0, 3), m.zeros(3, 2), m.tensor([0])),
    "bag max": lambda m: m.nn.functional.embedding_bag(pending(m, 0, 3), m.zeros(3, 2), m.tensor([0]), mode="max"),
    "bag's first offset": lambda m: m.nn.functional.embedding_bag(pending(m, 0, 2), m.zeros(3, 2), pending(m, 1, 2)),
    "bag's last offset": lambda m: m.nn.functional.embedding_bag(pending(m, 0, 2), m.zeros(3, 2), pending(m, 0, 5)),
    "unpool": lambda m: m.nn.functional.max_unpool1d(m.ones(1, 1, 2), pending(m, 0, 9).view(1, 1, 2), 2),
    "unpool 2d": lambda m: m.nn.functional.max_unpool2d(m.ones(1, 1, 1, 2), pending(m, 0, 99).view(1, 1, 1, 2), 2),
    "one_hot": lambda m: m.nn.functional.one_hot(pending(m, 0, 3), 3),
    "one_hot below zero": lambda m: m.nn.functional.one_hot(pending(m, 0, -1)),
    "ctc input length": lambda m: m.nn.functional.ctc_loss(m.zeros(4, 1, 3).log_softmax(-1), pending(m, 1, 2).view(1, 2), m.tensor([5]), m.tensor([2])),
    "ctc target length": lambda m: m.nn.functional.ctc_loss(m.zeros(4, 1, 3).log_softmax(-1), pending(m, 1, 2).view(1, 2), m.tensor([4]), m.tensor([3])),
}
RANDOM = {
    "bernoulli": lambda m: m.bernoulli(pending(m, 0.5, 1.5)), "bernoulli of NaN": lambda m: m.bernoulli(pending(m, 0.5, math.nan)),
    "bernoulli(p)": lambda m: m.bernoulli(m.zeros(2), 1.5), "bernoulli_": lambda m: m.zeros(2).bernoulli_(-0.5),
    "bernoulli_ of a tensor": lambda m: m.zeros(2).bernoulli_(pending(m, 0.5, 1.5)), "poisson": lambda m: m.poisson(pending(m, 0.5, -1.0)),
    "multinomial": lambda m: m.multinomial(pending(m, 0.5, -1.0), 1), "multinomial of NaN": lambda m: m.multinomial(pending(m, 0.5, math.nan), 1),
    "multinomial of nothing": lambda m: m.multinomial(pending(m, 0.0, 0.0), 1), "multinomial with replacement": lambda m: m.multinomial(pending(m, 0.5, -1.0), 5, True),
    "multinomial of infinity": lambda m: m.multinomial(pending(m, 0.5, math.inf), 5, True), "too many": lambda m: m.multinomial(m.ones(3), 4),
    "none": lambda m: m.multinomial(m.ones(3), 0), "normal": lambda m: m.normal(0.0, -1.0, (2,)), "normal of tensors": lambda m: m.normal(m.zeros(2), pending(m, 1.0, -1.0)),
    "normal of one tensor": lambda m: m.normal(0.0, pending(m, 1.0, -1.0)), "normal_": lambda m: m.zeros(2).normal_(0, -1), "uniform_": lambda m: m.zeros(2).uniform_(1, -1),
    "exponential_": lambda m: m.zeros(2).exponential_(-1), "geometric_": lambda m: m.zeros(2).geometric_(1.5), "cauchy_": lambda m: m.zeros(2).cauchy_(0, -1),
    "log_normal_": lambda m: m.zeros(2).log_normal_(0, -1), "random_": lambda m: m.tensor([0, 0]).random_(3, 1), "randint": lambda m: m.randint(3, 1, (2,)),
    "randperm": lambda m: m.randperm(-1),
}
INDICES = {
    "index": lambda m: m.zeros(3, 2)[pending(m, 0, 3)], "index from the end": lambda m: m.zeros(3, 2)[pending(m, 0, -4)],
    "second index": lambda m: m.zeros(3, 2)[pending(m, 0, 1), pending(m, 0, 2)], "column": lambda m: m.zeros(3, 2)[:, pending(m, 0, 2)],
    "apart": lambda m: m.zeros(3, 4, 5)[pending(m, 0), :, pending(m, 5)], "known column": lambda m: m.zeros(3, 2)[:, m.tensor([0, 2])],
    "index_put": lambda m: m.index_put(m.zeros(3, 2), (pending(m, 0, 3),), m.tensor(1.0)),
    "index_put, added": lambda m: m.index_put(m.zeros(3, 2), (pending(m, 0, 3),), m.tensor(1.0), accumulate=True),
    "gather": lambda m: m.gather(m.zeros(3, 2), 0, pending(m, 0, 3).view(1, 2)), "gather from the end": lambda m: m.gather(m.zeros(3, 2), 0, pending(m, 0, -1).view(1, 2)),
    "scatter": lambda m: m.scatter(m.zeros(3, 2), 0, pending(m, 0, 3).view(1, 2), 1.0),
    "scatter_add": lambda m: m.scatter_add(m.zeros(3, 2), 0, pending(m, 0, 3).view(1, 2), m.ones(1, 2)),
    "scatter_reduce": lambda m: m.scatter_reduce(m.zeros(3, 2), 0, pending(m, 0, 3).view(1, 2), m.ones(1, 2), "amax"),
    "scatter_reduce mean": lambda m: m.scatter_reduce(m.zeros(3, 2), 0, pending(m, 0, 3).view(1, 2), m.ones(1, 2), "mean"),
    "index_select": lambda m: m.index_select(m.zeros(3, 2), 0, pending(m, 0, 3)), "index_select, columns": lambda m: m.index_select(m.zeros(3, 2), 1, pending(m, 0, 3)),
    "index_select, last": lambda m: m.index_select(m.zeros(3, 2, 2), 2, pending(m, 0, -1)), "take": lambda m: m.take(m.zeros(3, 2), pending(m, 0, 6)),
    "take from the end": lambda m: m.take(m.zeros(3, 2), pending(m, 0, -7)), "put": lambda m: m.zeros(3, 2).put_(pending(m, 0, 6), m.ones(2)),
    "index_add": lambda m: m.index_add(m.zeros(3, 2), 0, pending(m, 0, 3), m.ones(2, 2)), "index_add, vector": lambda m: m.index_add(m.zeros(3), 0, pending(m, 0, 3), m.ones(2)),
    "index_copy": lambda m: m.index_copy(m.zeros(3, 2), 0, pending(m, 0, 3), m.ones(2, 2)), "index_fill": lambda m: m.index_fill(m.zeros(3, 2), 0, pending(m, 0, 3), 1.0),
    "index_fill from the end": lambda m: m.index_fill(m.zeros(3, 2), 1, pending(m, 0, -3), 1.0),
    "index_reduce": lambda m: m.zeros(3, 2).index_reduce_(0, pending(m, 0, 3), m.ones(2, 2), "amax"),
    "sorter": lambda m: m.searchsorted(m.tensor([1.0, 3.0]), m.tensor([2.0]), sorter=pending(m, 0, 5)),
    "bincount": lambda m: m.bincount(pending(m, 0, -1)), "minlength": lambda m: m.bincount(pending(m, 0, 1), minlength=-1),
    "repeats": lambda m: m.repeat_interleave(pending(m, 0, 1), pending(m, 1, -1)), "repeats alone": lambda m: m.repeat_interleave(pending(m, 2, -1)),
    "repeats, a number": lambda m: m.repeat_interleave(pending(m, 0, 1), -1), "output_size": lambda m: m.repeat_interleave(pending(m, 0, 1), pending(m, 1, 1), output_size=3),
    "quantile": lambda m: m.quantile(m.tensor([1.0, 2.0]), pending(m, 0.5, 1.5)), "histc": lambda m: m.histc(pending(m, 1.0, math.inf), 3),
}


@pytest.mark.parametrize("name", [*LOSSES, *RANDOM, *INDICES])
@pytest.mark.filterwarnings("ignore")
def test_as_pytorch(name): agree({**LOSSES, **RANDOM, **INDICES}[name])


LINALG = {
    "cholesky": lambda m: m.linalg.cholesky(-m.eye(3)), "second minor": lambda m: m.linalg.cholesky(m.diag(pending(m, 1.0, -1.0, 1.0))),
    "cholesky of a batch": lambda m: m.linalg.cholesky(m.stack([m.eye(3), -m.eye(3)])), "old cholesky": lambda m: m.cholesky(-m.eye(3)),
    "cholesky of NaN": lambda m: m.linalg.cholesky(m.full((2, 2), math.nan)), "inv": lambda m: m.linalg.inv(m.zeros(3, 3)),
    "inverse": lambda m: m.inverse(m.ones(3, 3)), "inv of a batch": lambda m: m.linalg.inv(m.stack([m.eye(3), m.zeros(3, 3)])),
    "solve": lambda m: m.linalg.solve(m.zeros(3, 3), m.ones(3)), "solve a batch": lambda m: m.linalg.solve(m.stack([m.eye(3), m.ones(3, 3)]), m.ones(2, 3, 1)),
    "lu_factor": lambda m: m.linalg.lu_factor(m.zeros(3, 3)), "lu_factor of a batch": lambda m: m.linalg.lu_factor(m.stack([m.eye(2), m.zeros(2, 2)])),
    "lu_factor_ex": lambda m: m.linalg.lu_factor_ex(m.zeros(2, 2), check_errors=True), "inv_ex": lambda m: m.linalg.inv_ex(m.zeros(2, 2), check_errors=True),
    "cholesky_ex": lambda m: m.linalg.cholesky_ex(-m.eye(2), check_errors=True), "cholesky_inverse": lambda m: m.cholesky_inverse(m.zeros(3, 3)),
    "matrix_power": lambda m: m.linalg.matrix_power(m.zeros(2, 2), -1), "svd of NaN": lambda m: m.linalg.svdvals(m.full((2, 2), math.nan)),
}


@pytest.mark.parametrize("name", LINALG)
@pytest.mark.filterwarnings("ignore")
def test_linalg(name): agree(LINALG[name])


@pytest.mark.parametrize("f", [lambda m: m.linalg.inv_ex(m.stack([m.eye(2), m.ones(2, 2)]))[1], lambda m: m.linalg.cholesky_ex(m.stack([m.eye(2), -m.eye(2)])),
                               lambda m: m.linalg.lu_factor_ex(m.stack([m.eye(2), m.zeros(2, 2)])), lambda m: m.linalg.solve_ex(m.zeros(2, 2), m.ones(2))[1],
                               lambda m: m.linalg.cholesky_ex(m.tensor([[4.0, 2, 1], [2, 1, 3], [1, 3, 1]]))[1], lambda m: m.linalg.inv_ex(m.eye(2))])
def test_linalg_that_tells_instead_of_raising(f): assert outcome(forno, f) == outcome(torch, f)


def test_linalg_error_is_a_runtime_error():
    with pytest.raises(forno.linalg.LinAlgError): forno.linalg.inv(forno.zeros(2, 2)).tolist()
    with pytest.raises(RuntimeError): forno.linalg.inv(forno.zeros(2, 2)).tolist()


# ---------------------------------------------------------------- state
BIG = 70_000                                   # more than what is looked at when it is recorded


def wrong_index(n=BIG):
    i = forno.arange(BIG) * 1
    i[5] = n
    return i


WRITES = {
    "add_": lambda p, bad: p.add_(bad), "chain": lambda p, bad: p.mul_(0.5).add_(bad).mul_(3).sub_(1), "copy_": lambda p, bad: p.copy_(bad),
    "element": lambda p, bad: p[3].copy_(bad[3]), "slice": lambda p, bad: p[2:9].add_(bad[2:9]), "view": lambda p, bad: p.view(-1).add_(bad),
    "data": lambda p, bad: p.data.add_(bad), "detached": lambda p, bad: p.detach().copy_(bad), "iadd": lambda p, bad: p.__iadd__(bad),
    "out": lambda p, bad: forno.add(bad, 1, out=p), "setitem": lambda p, bad: p.__setitem__(slice(4, 8), bad[4:8]),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", ["tensor", "parameter", "fresh", "shared"])
def test_a_failed_write_leaves_the_old_value(write, kind):
    """Whatever is written from a value that can't be computed, the tensor is as it was, and usable."""
    p = forno.arange(BIG).float()
    if kind != "fresh": p.sum().item()
    if kind == "parameter": p = forno.nn.Parameter(p)
    other = p.view(-1) if kind == "shared" else None
    with forno.no_grad():
        WRITES[write](p, forno.ones(BIG)[wrong_index()])
        with pytest.raises(IndexError): p.sum().item()
        assert forno.equal(p, forno.arange(BIG).float())
        if other is not None: assert forno.equal(other, p)
        p.add_(1)
        assert p[0].item() == 1


def test_a_scatter_with_a_wrong_index_writes_nothing():
    for n in (BIG, -BIG - 1):
        t = forno.zeros(BIG)
        t.add_(1).sum().item()
        for f in (lambda i: t.index_add_(0, i, forno.ones(BIG)), lambda i: t.index_put_((i,), forno.ones(BIG)), lambda i: t.scatter_(0, i, 5.0),
                  lambda i: t.scatter_reduce_(0, i, forno.ones(BIG), "prod", include_self=False)):
            address = t.detach().sum().item()
            f(wrong_index(n))
            with pytest.raises((IndexError, RuntimeError)): t.sum().item()
            assert t.sum().item() == address == BIG


def test_a_failed_division_in_place():
    for n in (7, 1000, 50_000):
        d = forno.arange(1, n + 1) * 1
        z = forno.arange(n) * 1
        d.sum().item(), z.sum().item()
        d.add_(d // z)
        with pytest.raises(RuntimeError, match="ZeroDivisionError"): d.tolist()
        assert d.tolist() == list(range(1, n + 1))
        d.floor_divide_(2)
        assert d[:3].tolist() == [0, 1, 1]


def test_values_that_do_not_depend_on_the_error_are_computed():
    q = forno.ones(3)
    y = forno.ones(BIG)[wrong_index()]
    q.add_(1)
    z = q * 2
    with pytest.raises(IndexError): y.sum().item()
    assert z.tolist() == [4, 4, 4] and q.tolist() == [2, 2, 2]
    with pytest.raises(IndexError): (y + 1).tolist()


class Net(forno.nn.Module):
    def __init__(self):
        super().__init__()
        nn = forno.nn
        self.front, self.table, self.norm, self.out, self.last = nn.BatchNorm1d(4), nn.Embedding(10, 4), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, x): return self.last(self.out(self.norm(self.table(x))))


@pytest.mark.parametrize("make", [lambda p: forno.optim.SGD(p, 0.1, momentum=0.9), lambda p: forno.optim.Adam(p, 0.1), lambda p: forno.optim.AdamW(p, 0.1),
                                  lambda p: forno.optim.RMSprop(p, 0.01), lambda p: forno.optim.Adagrad(p, 0.1)], ids=["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
@pytest.mark.parametrize("clear", ["none", "zero", "keep"])
def test_a_training_step_with_a_bad_index(make, clear):
    """Parameters, running statistics, optimizer state and accumulated gradients are as they were before; the next steps go well."""
    forno.manual_seed(0)
    net = Net()
    optimizer = make(net.parameters())

    def step(x):
        if clear != "keep": optimizer.zero_grad(set_to_none=clear == "none")
        loss = net(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    def everything():
        states = [s[k] for s in optimizer.state.values() for k in sorted(s) if hasattr(s[k], "shape") and k != "step"]
        grads = [p.grad for p in net.parameters() if p.grad is not None] if clear == "keep" else []
        return [t.detach().clone() for t in (*(v for k, v in net.state_dict().items() if "num_batches" not in k), *states, *grads)]
    good = forno.arange(8) * 1
    for _ in range(3): step(good)
    for _ in range(2):
        before = everything()
        [t.tolist() for t in before]
        with pytest.raises(IndexError, match="index out of range in self"): step(forno.arange(8) * 1 + 5)
        after = everything()
        assert len(after) == len(before) and all(forno.equal(a, b) for a, b in zip(after, before))
        if clear != "keep": assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
        assert math.isfinite(step(good))
    assert any(not forno.equal(a, b) for a, b in zip(everything(), before))


def test_a_gradient_that_failed_was_never_accumulated():
    p = forno.nn.Parameter(forno.ones(BIG))
    p[wrong_index()].sum().backward()
    with pytest.raises(IndexError): p.grad.sum().item()
    assert p.grad is None
    (p * 2).sum().backward()
    assert p.grad[0].item() == 2


def test_a_refused_matrix_leaves_the_state():
    p = forno.ones(2, 2)
    p.sum().item()
    p.mul_(3).add_(forno.linalg.inv(forno.zeros(2, 2)))
    with pytest.raises(forno.linalg.LinAlgError): p.tolist()
    p.add_(1)
    assert p.tolist() == [[4.0, 4.0], [4.0, 4.0]]
