"""Resampling of images against PyTorch, where modules' samples don't reach."""
import pytest
import torch

import forno

from .support import from_torch


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_grids(padding, dtype):
    """The gradient of half types, too: weights and slopes round where PyTorch's do."""
    t, scale = getattr(torch, dtype), {"float64": 1e-7, "bfloat16": 0.1, "float16": 0.02}[dtype]
    torch.manual_seed(0)
    image, grid = (torch.rand(2, 3, 5, 5).mul(18).sub(9).to(t), torch.rand(2, 5, 5, 2).mul(3).sub(1.5).to(t))
    for corners in (False, True):
        a, b = image.clone().requires_grad_(), grid.clone().requires_grad_()
        y = torch.nn.functional.grid_sample(a, b, "bicubic", padding, corners)
        cotangent = torch.randn(y.shape).to(t)
        want = torch.autograd.grad(y, (a, b), cotangent)
        c, d = from_torch(image).requires_grad_(), from_torch(grid).requires_grad_()
        z = forno.nn.functional.grid_sample(c, d, "bicubic", padding, corners)
        for mine, theirs in zip((z, *forno.autograd.grad(z, (c, d), from_torch(cotangent))), (y, *want)):
            theirs = theirs.detach().double()
            torch.testing.assert_close(torch.from_numpy(mine.detach().double().numpy()), theirs, rtol=scale, atol=scale * max(1.0, theirs.square().mean().sqrt().item()))
