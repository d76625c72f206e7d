"""Results don't differ from run to run; under use_deterministic_algorithms they don't depend on the number of threads either."""
import numpy as np
import pytest

import forno as m

F = m.nn.functional
X, Y, IMAGES, KERNELS = (300007,), (2000, 300), (4, 8, 33, 33), (16, 8, 3, 3)


def gradients(f, *shapes):
    xs = [m.randn(*s).requires_grad_() for s in shapes]
    f(*xs).pow(2).sum().backward()
    return [x.grad for x in xs]


def places(): return m.randint(0, 50, (100000,))


CASES = {
    "sum": lambda: m.randn(*X).sum(), "mean": lambda: m.randn(*X).mean(), "norm": lambda: m.randn(*X).norm(), "var": lambda: m.randn(*X).var(), "prod": lambda: (1 + m.randn(*X) * 1e-6).prod(),
    "logsumexp": lambda: m.logsumexp(m.randn(*X), 0), "columns": lambda: m.randn(*Y).sum(0), "rows": lambda: m.randn(*Y).sum(1), "cumsum": lambda: m.randn(*X).cumsum(0),
    "softmax": lambda: m.softmax(m.randn(*Y), 0), "matmul": lambda: gradients(m.matmul, Y, (300, 200)), "mv": lambda: gradients(m.mv, Y, (300,)), "dot": lambda: m.dot(m.randn(*X), m.randn(*X)),
    "scatter_add": lambda: m.zeros(50).scatter_add(0, places(), m.randn(100000)), "index_add": lambda: m.zeros(50).index_add(0, places(), m.randn(100000)),
    "bincount": lambda: m.bincount(places(), m.randn(100000)), "embedding": lambda: gradients(lambda w: F.embedding(places(), w), (50, 64)),
    "conv2d": lambda: gradients(lambda x, w: F.conv2d(x, w, padding=1), IMAGES, KERNELS), "grouped": lambda: gradients(lambda x, w: F.conv2d(x, w, stride=2, groups=4), IMAGES, (8, 2, 3, 3)),
    "conv_transpose2d": lambda: gradients(F.conv_transpose2d, IMAGES, (8, 4, 3, 3)), "conv1d": lambda: gradients(F.conv1d, (2, 3, 4000), (5, 3, 7)),
    "layer_norm": lambda: gradients(lambda x, w, b: F.layer_norm(x, (300,), w, b), Y, (300,), (300,)), "batch_norm": lambda: gradients(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), IMAGES, (8,), (8,)),
    "attention": lambda: gradients(F.scaled_dot_product_attention, *[(2, 4, 300, 32)] * 3), "cross_entropy": lambda: gradients(lambda x: F.cross_entropy(x, places()[:2000]), Y),
    "interpolate": lambda: gradients(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGES), "max_pool2d": lambda: gradients(lambda x: F.max_pool2d(x, 3, 2), IMAGES),
}


@pytest.fixture
def deterministic():
    threads = m.get_num_threads()
    m.use_deterministic_algorithms(True)
    yield
    m.use_deterministic_algorithms(False)
    m.set_num_threads(threads)


def bits(name, threads):
    m.set_num_threads(threads)
    m.manual_seed(0)
    out = CASES[name]()
    return [t.numpy().copy() for t in (out if isinstance(out, list) else [out])]


@pytest.mark.parametrize("name", CASES)
def test_threads_change_no_bit(name, deterministic):
    one = bits(name, 1)
    for threads in (2, 2, 3):
        for a, b in zip(one, bits(name, threads)): np.testing.assert_array_equal(a, b)


def test_the_setting_holds_for_what_is_recorded_under_it():
    """Switched off before anything runs: what was recorded before stays independent of the threads."""
    results = []
    for threads in (1, 2):
        m.set_num_threads(threads)
        m.manual_seed(0)
        x, w = m.randn(*IMAGES), m.randn(*KERNELS).requires_grad_()
        m.use_deterministic_algorithms(True)
        F.conv2d(x, w).sum().backward()
        m.use_deterministic_algorithms(False)
        results.append(w.grad.numpy().copy())
    np.testing.assert_array_equal(*results)
