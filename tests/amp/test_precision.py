"""set_float32_matmul_precision: what it costs in precision, and that programs made under another setting aren't taken for this one's."""
import numpy as np
import pytest

import forno
from forno.kernel.tile import product_tile


@pytest.fixture
def precision():
    yield forno.set_float32_matmul_precision
    forno.set_float32_matmul_precision("highest")


def test_products(precision):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 60, 300)).astype("float32"), rng.standard_normal((2, 300, 70)).astype("float32")
    want, x, y = a.astype("float64") @ b, forno.tensor(a), forno.tensor(b)

    def error():
        out = forno.bmm(x, y)
        assert out.dtype is forno.float32
        return np.abs(out.numpy() - want).max()
    exact = error()
    for _ in range(2):
        for setting in ("medium", "high", "highest"):
            precision(setting)
            rounds = setting == "medium" and product_tile(forno.float32, True).pairs
            assert forno.get_float32_matmul_precision() == setting and (0.01 < error() < 0.3 if rounds else error() == exact)


def test_pending_operations_keep_their_setting(precision):
    x = forno.tensor(np.random.default_rng(0).standard_normal((40, 40)).astype("float32"))
    want = (x @ x).numpy()
    pending = x @ x
    precision("medium")
    assert np.array_equal(pending.numpy(), want)


def test_training_goes_on(precision):
    precision("medium")
    x, w = forno.randn(30, 50), forno.randn(50, 20).requires_grad_()
    for _ in range(3):
        w.grad = None
        (x @ w).square().sum().backward()
    g = 2 * x.numpy().T.astype("float64") @ (x.numpy() @ w.detach().numpy())
    assert w.grad.dtype is forno.float32 and np.abs(w.grad.numpy() - g).max() < 0.02 * np.abs(g).max()
