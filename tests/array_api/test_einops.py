"""einops on forno: through the array API standard, and as PyTorch (install_as_torch), with its layers and gradients."""
from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import forno

einops = pytest.importorskip("einops", reason="einops is not installed; it is in the extra 'test'")
from einops import array_api as standard  # noqa: E402

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.mark.parametrize("pattern, sizes", [("b c h w -> b (h w) c", {}), ("b c (h h2) w -> (b h2) c h w", {"h2": 2}), ("b ... -> ... b", {})])
def test_rearrange(pattern, sizes):
    np.testing.assert_array_equal(standard.rearrange(forno.from_numpy(X), pattern, **sizes).numpy(), einops.rearrange(X, pattern, **sizes))


@pytest.mark.parametrize("how", ["sum", "mean", "max", "min", "prod"])
def test_reduce(how):
    np.testing.assert_allclose(standard.reduce(forno.from_numpy(X) / 50, "b c (h 2) w -> b h w", how).numpy(), einops.reduce(X / 50, "b c (h 2) w -> b h w", how), 1e-5)


def test_repeat(): np.testing.assert_array_equal(standard.repeat(forno.from_numpy(X), "b c h w -> (b 2) c h w").numpy(), einops.repeat(X, "b c h w -> (b 2) c h w"))


AS_TORCH = """
import json, forno
forno.install_as_torch()
import torch, einops
from einops.layers.torch import EinMix, Rearrange, Reduce
torch.manual_seed(0)
net = torch.nn.Sequential(Rearrange("b c h w -> b (h w) c"), EinMix("b p c -> b p o", weight_shape="c o", bias_shape="o", c=3, o=4), torch.nn.ReLU(), Reduce("b p o -> b o", "mean"))
x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5).div(100).requires_grad_()
y = net(x)
y.sum().backward()
z = einops.einsum(x, x, "b c h w, b c h v -> b w v")
packed, shapes = einops.pack([x, x[:, :, 0]], "b * w")
print(json.dumps([type(y).__module__, list(y.shape), list(x.grad.shape), float(z.sum()), [list(t.shape) for t in einops.unpack(packed, shapes, "b * w")]]))
"""


def test_layers_as_torch():
    done = subprocess.run([sys.executable, "-c", AS_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    module, shape, grad, total, parts = json.loads(done.stdout.splitlines()[-1])
    x = X / 100
    assert module.startswith("forno") and shape == [2, 4] and grad == [2, 3, 4, 5] and parts == [[2, 3, 4, 5], [2, 3, 5]]
    assert abs(total - float(np.einsum("bchw,bchv->", x, x))) < 1e-2
