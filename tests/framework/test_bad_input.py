"""What users do wrong: PyTorch's exception, nothing lost, and the library usable afterwards."""
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import forno

from .agree import check
from .statements import INPUTS, RULES

HERE = __file__
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("start", range(0, len(INPUTS), 20))
def test_inputs(start):
    for s in INPUTS[start:start + 20]: stated(s)


@pytest.mark.parametrize("start", range(0, len(RULES), 20))
def test_rules(start):
    for s in RULES[start:start + 20]: stated(s)


def stated(s):
    try: check(s)
    except AssertionError as e: raise AssertionError(f"{s}\n{e}") from None


def line() -> int: return sys._getframe(1).f_lineno


# ---------------------------------------------------------------- wrong indices that only the kernel sees
def test_late_index_names_the_users_line():
    i = forno.arange(3) + 1                    # pending: nobody knows its values yet
    x = forno.ones(3)
    y, here = x[i], line()
    z = y * 2
    with pytest.raises(IndexError, match=rf"index 3 is out of bounds for dimension 0 with size 3.*test_bad_input.py:{here}"): z.tolist()
    with pytest.raises(IndexError, match=f":{here}"): y.tolist()            # whoever depends on it hears the same
    assert x.tolist() == [1, 1, 1]


def test_the_right_one_of_several_is_blamed():
    x, good, bad = forno.ones(5), forno.arange(3) + 1, forno.arange(3) + 3
    a = x[good]
    b, here = x[bad], line()
    c = x[good + 1]
    with pytest.raises(IndexError, match=rf"index 5 .*:{here}$"): (a + b + c).tolist()
    assert a.tolist() == [1, 1, 1] and c.tolist() == [1, 1, 1]


@pytest.mark.parametrize("f, error, text", [
    (lambda x, i: x.gather(0, i), RuntimeError, "index 7 is out of bounds for dimension 0 with size 6"),
    (lambda x, i: x.index_select(0, i), IndexError, "index out of range in self"),
    (lambda x, i: x.take(i), IndexError, "tried to access index 7 on a tensor of 6 elements"),
    (lambda x, i: x.scatter(0, i, 1.0), RuntimeError, "index 7 is out of bounds for dimension 0 with size 6"),
    (lambda x, i: x.index_copy(0, i, forno.ones(1)), IndexError, "index 7 is out of bounds for dimension 0 with size 6"),
    (lambda x, i: forno.nn.functional.embedding(i, x.reshape(6, 1)), IndexError, "index out of range in self"),
    (lambda x, i: x.index_put_((i,), forno.tensor(1.0)), IndexError, "index 7 is out of bounds for dimension 0 with size 6"),
])
@pytest.mark.parametrize("known", [True, False])
def test_every_kind_of_index(f, error, text, known):
    i = forno.tensor([7]) if known else forno.full((1,), 6) + 1
    with pytest.raises(error, match=text): f(forno.zeros(6), i).tolist()


def test_what_does_not_depend_on_the_failure_survives():
    p = forno.nn.Parameter(forno.zeros(4))
    optimizer = forno.optim.SGD([p], 0.5)
    other = forno.ones(4)
    other += 1
    with forno.no_grad(): p += 1
    loss = (p * 2).sum() + forno.ones(2)[forno.arange(2) + 1].sum()
    loss.backward()
    with pytest.raises(IndexError):
        optimizer.step()
        p.tolist()
        loss.item()
    assert other.tolist() == [2] * 4 and p.tolist()[0] in (1, 0)           # 0: this gradient doesn't depend on the wrong value
    p.grad = None
    (p * 3).sum().backward()
    assert p.grad.tolist() == [3] * 4


def test_a_parameter_keeps_its_value_when_its_update_fails():
    p = forno.zeros(3, requires_grad=True)
    p.tolist()
    step = forno.ones(3)[forno.arange(3) + 2]
    with forno.no_grad(): p -= step
    for _ in range(2):
        with pytest.raises(IndexError): step.tolist()
        assert p.tolist() == [0, 0, 0] and p.requires_grad and p.is_leaf


# ---------------------------------------------------------------- sizes
def test_sizes_beyond_the_machine():
    x = forno.ones(3) + 1
    for f in (lambda: forno.ones(1 << 45), lambda: forno.empty(1 << 45), lambda: forno.ones(1 << 22, 1) + forno.ones(1, 1 << 22), lambda: forno.zeros(1 << 62, 8)):
        with pytest.raises((RuntimeError, forno.core.errors.OutOfMemoryError), match="memory|overflow"): f()
    assert x.tolist() == [2, 2, 2]


def test_views_of_more_than_2_to_the_31_elements():
    x = (forno.ones(1) + 1).expand(1 << 33)
    y = forno.zeros(1, 3).expand(1 << 31, 3)
    assert x.numel() == 1 << 33 and x[1 << 32].item() == 2 and x[-1].item() == 2 and x.narrow(0, 1 << 32, 3).tolist() == [2, 2, 2]
    assert y.shape == (1 << 31, 3) and y[(1 << 31) - 1].tolist() == [0, 0, 0] and y[::1 << 30].tolist() == [[0, 0, 0]] * 2
    with pytest.raises(RuntimeError): x.add_(1)


@pytest.mark.slow
def test_memory_of_more_than_2_to_the_31_elements():
    """Two gigabytes of bytes: every kernel that is handed a position beyond 32 bits gets there."""
    n = (1 << 31) + 7
    x = forno.zeros(n, dtype=forno.int8)
    x[-3:] = 5
    x[1 << 31] = 7
    i = forno.tensor([n - 1, 1 << 31, 0])
    assert x[-5:].tolist() == [0, 0, 5, 5, 5] and x[i].tolist() == x.take(i).tolist() == x.index_select(0, i).tolist() == [5, 7, 0]
    assert (x.sum().item(), x.max().item(), x.argmax().item()) == (22, 7, 1 << 31)
    x[i] = forno.tensor([1, 2, 3], dtype=forno.int8)
    x.add_(1)
    assert x[i].tolist() == [2, 3, 4] and x[:n // 2 * 2].view(2, -1)[1, -1].item() == 6 and x.numpy()[-3:].tolist() == [6, 6, 2]


def test_bound_of_memory():
    """FORNO_MEMORY: a plan that doesn't fit raises, and what fits goes on."""
    program = """
        import forno as torch
        keep = torch.ones(1000) + 1
        w = torch.zeros(1000, requires_grad=True)
        with torch.no_grad(): w += 1
        big = torch.ones(1 << 22) * 2
        try: print((big.cumsum(0) + keep.sum()).sum().item())
        except torch.core.errors.OutOfMemoryError as e: print("out of memory", "FORNO_MEMORY" in str(e))
        print(keep.sum().item(), w.sum().item())
        del big
        print((torch.ones(1 << 16) * 3).sum().item())
        try: torch.empty(1 << 25)
        except RuntimeError as e: print("refused")
        print(torch.ones(4).sum().item())
    """
    out = run(program, FORNO_MEMORY="8")
    assert out.split("\n")[:6] == ["out of memory True", "2000.0 1000.0", "196608.0", "refused", "4.0", ""], out


def run(program, **environment):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# ---------------------------------------------------------------- interrupts
def test_interrupts_lose_nothing():
    """Ctrl-C again and again during training steps: parameters stay whole, each step is done once or not at all, and the next one works."""
    program = """
        import os, random, signal, threading, time
        import forno as torch
        w, m = torch.zeros(64, requires_grad=True), torch.zeros(64)

        def step():
            torch.set_grad_enabled(True)       # an interrupt inside no_grad's __exit__ leaves the mode, as in PyTorch
            loss = ((w + 1) * torch.ones(64) * 2.0).sum()
            w.grad = None
            loss.backward()
            with torch.no_grad():
                m.mul_(0.0).add_(w.grad * 0.5)
                w.sub_(m)

        for _ in range(6): step(), w.tolist()
        done = []

        def pester():
            for _ in range(150):
                time.sleep(0.002 + random.random() * 0.006)
                os.kill(os.getpid(), signal.SIGINT)
            done.append(True)
        random.seed(0)
        threading.Thread(target=pester, daemon=True).start()

        def train():
            while not done:
                before = w.tolist()
                step()
                after = w.tolist()
                assert len(set(after)) == 1 and after[0] == before[0] - 1, (before, after)
        while not done:                        # every way into the except leads through here again
            try:
                while not done:
                    try: train()
                    except KeyboardInterrupt: pass
            except KeyboardInterrupt: pass
        try: time.sleep(0.2)
        except KeyboardInterrupt: pass
        before = w.tolist()
        step()
        assert w.tolist() == [before[0] - 1] * 64 and m.tolist() == [1] * 64
        print("whole")
    """
    assert run(program).endswith("whole\n")


# ---------------------------------------------------------------- NaN and infinity
@pytest.mark.parametrize("f", ["sum", "mean", "amax", "amin", "prod", "std", "exp", "sqrt", "sigmoid", "tanh", "relu", "sign", "isfinite", "nan_to_num", "argmax", "logsumexp"])
def test_non_finite(f):
    values = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0]
    for cut in (0, 1, 2, 3):
        stated(f"x=torch.tensor({values[cut:]}".replace("nan", "float('nan')").replace("inf", "float('inf')") + f");getattr(torch,'{f}')(x{',0' if f == 'logsumexp' else ''})")


def test_usable_after_everything():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal((forno.arange(6).reshape(2, 3) @ forno.ones(3, 2, dtype=forno.int64)).numpy(), [[3, 3], [12, 12]])
