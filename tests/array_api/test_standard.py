"""The array API standard's namespace against NumPy's, which implements the same standard; and libraries that ask for it."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import forno

xp = forno.ones(1).__array_namespace__()
A = np.arange(12.0).reshape(3, 4) - 5
I = np.arange(12).reshape(3, 4) % 5
B = A > 0

SAME = {
    "promotion of numbers": lambda n, a, i, b: n.add(i, 2),
    "number first": lambda n, a, i, b: n.subtract(1, a),
    "clip": lambda n, a, i, b: n.clip(a, -1, 2),
    "sum of integers": lambda n, a, i, b: n.sum(n.astype(i, n.int8), axis=1),
    "sum over all": lambda n, a, i, b: n.sum(a, keepdims=True),
    "sum over nothing": lambda n, a, i, b: n.sum(a, axis=()),
    "product over two axes": lambda n, a, i, b: n.prod(a, axis=(0, 1)),
    "deviation": lambda n, a, i, b: n.std(a, axis=0, correction=1),
    "truth": lambda n, a, i, b: n.all(b, axis=0),
    "any of integers": lambda n, a, i, b: n.any(i, axis=1, keepdims=True),
    "largest": lambda n, a, i, b: n.max(a, axis=(0, 1)),
    "where the largest is": lambda n, a, i, b: n.argmax(a, keepdims=True),
    "running sum": lambda n, a, i, b: n.cumulative_sum(a, axis=1, include_initial=True),
    "concat flat": lambda n, a, i, b: n.concat([a, a[:1]], axis=None),
    "types join": lambda n, a, i, b: n.stack([i, n.astype(i, n.int8)]),
    "permuted": lambda n, a, i, b: n.permute_dims(a, (1, 0)),
    "flip": lambda n, a, i, b: n.flip(a),
    "roll": lambda n, a, i, b: n.roll(a, 3),
    "repeat": lambda n, a, i, b: n.repeat(a, 2, axis=0),
    "take": lambda n, a, i, b: n.take(a, n.asarray([2, 0]), axis=1),
    "take along an axis": lambda n, a, i, b: n.take_along_axis(a, n.argsort(a, axis=1), axis=1),
    "descending": lambda n, a, i, b: n.sort(a, axis=0, descending=True) if n is not np else np.flip(np.sort(a, axis=0), 0),
    "distinct values": lambda n, a, i, b: n.unique_all(i).counts,
    "first of distinct values": lambda n, a, i, b: n.unique_all(i).indices,
    "vecdot": lambda n, a, i, b: n.vecdot(a, a),
    "norm": lambda n, a, i, b: n.linalg.vector_norm(a, axis=1, ord=1),
    "trace": lambda n, a, i, b: n.linalg.trace(i),
    "solve": lambda n, a, i, b: n.linalg.solve(n.eye(3) * 2, a),
    "singular values": lambda n, a, i, b: n.linalg.svdvals(a),
    "transform": lambda n, a, i, b: n.fft.rfft(a, axis=0, norm="ortho"),
    "frequencies": lambda n, a, i, b: n.fft.fftfreq(5, d=0.5) if n is np else n.fft.fftfreq(5, d=0.5, dtype=n.float64),
    "linspace without its end": lambda n, a, i, b: n.linspace(0, 1, 4, endpoint=False, dtype=n.float64),
    "eye": lambda n, a, i, b: n.eye(3, 4, k=1, dtype=n.float64),
    "meshgrid": lambda n, a, i, b: n.meshgrid(a[0], a[:, 0])[1],
    "diff": lambda n, a, i, b: n.diff(a, axis=0),
    "searchsorted": lambda n, a, i, b: n.searchsorted(a[0], a[1], side="right"),
}


@pytest.mark.parametrize("name", SAME)
def test_as_numpy(name):
    want = SAME[name](np, A, I, B)
    got = SAME[name](xp, *(xp.asarray(x) for x in (A, I, B)))
    assert tuple(got.shape) == want.shape and str(got.dtype).removeprefix("torch.") == str(want.dtype)
    np.testing.assert_allclose(got.numpy(), want, 1e-6, 1e-9)


def test_types():
    assert xp.isdtype(xp.float32, "real floating") and not xp.isdtype(xp.int8, ("bool", "unsigned integer")) and xp.isdtype(xp.int8, xp.int8)
    assert xp.result_type(xp.uint16, xp.int16) is xp.int32 and xp.result_type(xp.ones(2, dtype=xp.int8), 1.5) is xp.float32
    assert xp.can_cast(xp.int8, xp.int16) and not xp.can_cast(xp.int16, xp.int8)
    assert xp.finfo(xp.float64).eps == np.finfo(np.float64).eps and xp.iinfo(xp.ones(1, dtype=xp.int8)).max == 127
    with pytest.raises(TypeError): xp.astype(xp.asarray([1j]), xp.float64)
    with pytest.raises(TypeError): xp.result_type(xp.uint64, xp.int64)


def test_info():
    info = xp.__array_namespace_info__()
    assert info.default_dtypes()["integral"] is xp.int64 and set(info.dtypes(kind="bool")) == {"bool"} and info.capabilities()["boolean indexing"]
    assert forno.ones(2).__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(ValueError, match="version"): forno.ones(2).__array_namespace__(api_version="1999.01")


SCIPY = """
import json, numpy as np, forno
from scipy import ndimage, special, stats, cluster, signal
from scipy.stats import zscore
rng = np.random.default_rng(0)
x = rng.standard_normal((20, 3))
out = {}
for name, f in {
    "zscore": lambda a: stats.zscore(a, axis=0),
    "expit": lambda a: special.expit(a),
    "logsumexp": lambda a: special.logsumexp(a, axis=1),
    "skew": lambda a: stats.skew(a, axis=0),
    "whiten": lambda a: cluster.vq.whiten(a),
    "detrend": lambda a: signal.detrend(a, axis=0),
}.items():
    got = f(forno.from_numpy(x))
    out[name] = [type(got).__module__.split('.')[0] == 'forno', float(np.abs(np.asarray(got) - np.asarray(f(x))).max())]
print(json.dumps(out))
"""

SKLEARN = """
import json, numpy as np, forno, sklearn
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler, MinMaxScaler
rng = np.random.default_rng(0)
x, y = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
t, u = forno.from_numpy(x), forno.from_numpy(y)
out = {}
with sklearn.config_context(array_api_dispatch=True):
    for name, make, rest in (("standard", StandardScaler, ()), ("minmax", MinMaxScaler, ()), ("pca", lambda: PCA(2, svd_solver="full"), ()),
                             ("lda", LinearDiscriminantAnalysis, (y,))):
        got = make().fit(t, *(u for _ in rest)).transform(t)
        want = make().fit(x, *rest).transform(x)
        out[name] = [type(got).__module__.split('.')[0] == 'forno', float(np.abs(np.abs(np.asarray(got)) - np.abs(want)).max())]
    model = Ridge(solver="svd").fit(t, t @ forno.ones(4, dtype=forno.float64))
    out["ridge"] = [True, float(np.abs(np.asarray(model.coef_) - Ridge(solver="svd").fit(x, x @ np.ones(4)).coef_).max())]
print(json.dumps(out))
"""


@pytest.mark.parametrize("library, program", [("scipy", SCIPY), ("sklearn", SKLEARN)])
def test_libraries(library, program):
    """Functions that speak the standard take forno's tensors and give them back, with NumPy's numbers."""
    pytest.importorskip(library, reason=f"{library} is not installed; it is in the extra 'test'")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "SCIPY_ARRAY_API": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, (mine, difference) in json.loads(done.stdout.splitlines()[-1]).items():
        assert mine and difference < 1e-9, (name, mine, difference)
