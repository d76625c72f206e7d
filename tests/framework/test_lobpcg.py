"""torch.lobpcg against all eigenvalues, and its gradients against PyTorch's."""
import pytest
import torch

import forno


def symmetric(*shape, dtype=torch.float64, seed=0):
    """Eigenvalues that are apart."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(*shape, shape[-1], generator=generator, dtype=dtype)
    return a @ a.mT + 2 * torch.diag(torch.arange(1.0, shape[-1] + 1, dtype=dtype))


def ours(x): return None if x is None else forno.from_numpy(x.numpy())
def theirs(x): return torch.from_numpy(x.detach().numpy())


def outermost(a, b, k, largest):
    """Of the pair, by the dense way."""
    if b is not None:
        low = torch.linalg.cholesky(b)
        a = torch.linalg.solve_triangular(low, torch.linalg.solve_triangular(low, a, upper=False).mT, upper=False)
    e = torch.linalg.eigvalsh(a)
    return e.flip(-1)[..., :k] if largest else e[..., :k]


@pytest.mark.parametrize(("dtype", "method", "largest", "pair"), [(torch.float32, "ortho", True, False), (torch.float32, "basic", False, True), (torch.float64, "ortho", False, True),
                                                                 (torch.float64, "basic", True, False)])
def test_pairs(dtype, method, largest, pair):
    forno.manual_seed(1)
    a, b, steps = symmetric(12, dtype=dtype), symmetric(12, dtype=dtype, seed=1) / 12 if pair else None, []
    e, x = map(theirs, forno.lobpcg(ours(a), 2, ours(b), n=3, method=method, largest=largest, tracker=lambda worker: steps.append(worker.ivars["istep"])))
    torch.testing.assert_close(e, outermost(a, b, 2, largest), rtol=3e-5 if dtype is torch.float32 else 1e-12, atol=1e-5)
    weighed = x if b is None else b @ x
    torch.testing.assert_close(x.mT @ weighed, torch.eye(2, dtype=dtype), rtol=0, atol=1e-5 if dtype is torch.float32 else 1e-12)
    assert (a @ x - weighed * e).norm() < (1e-3 if dtype is torch.float32 else 1e-6) * a.norm() and steps == list(range(len(steps))) and len(steps) < 100


def test_where_it_begins_and_ends():
    forno.manual_seed(2)
    a, start = symmetric(2, 12), torch.linalg.eigh(symmetric(2, 12))[1][..., -2:]
    f, steps = ours(a), []
    e, x = forno.lobpcg(f, X=ours(start.contiguous()), tracker=lambda worker: steps.append((worker.iparams["batch_index"], worker.ivars["istep"])))
    assert steps == [(0, 0), (1, 0)] and e.shape == (2, 2) and x.shape == (2, 12, 2)               # they are the vectors
    torch.testing.assert_close(theirs(e), outermost(a, None, 2, True))
    alike = ours(torch.ones(12, 2, dtype=torch.float64))                                                  # the second depends on the first
    torch.testing.assert_close(theirs(forno.lobpcg(f[0], X=alike)[0]), outermost(a[0], None, 2, True))
    stops = []
    def stop(worker):
        stops.append(worker)
        worker.bvars["force_stop"] = worker.ivars["istep"] == 2
    forno.lobpcg(f[0], tracker=stop)
    assert len(stops) == 3
    for niter, count in ((0, 1), (4, 5)):
        stops.clear()
        forno.lobpcg(f[0], niter=niter, tol=0.0, tracker=stops.append)
        assert len(stops) == count
    few, many = [], []
    inverse = ours(torch.linalg.inv(a[0]))
    for seen, more in ((many, {}), (few, {"iK": inverse})): forno.lobpcg(f[0], largest=False, tracker=seen.append, **more)
    assert len(few) < len(many)


def test_sparse_matrices():
    forno.manual_seed(3)
    a = symmetric(12)
    a[a.abs() < 4] = 0
    torch.testing.assert_close(theirs(forno.lobpcg(ours(a).to_sparse(), 2)[0]), outermost(a, None, 2, True))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_gradients(batch):
    def run(lib, a, x, w):
        a.requires_grad_()
        e, u = lib.lobpcg(a, X=x)
        (e.square().sum() + ((u * u) * w).sum()).backward()                # signs don't matter
        return a.grad
    a, w = symmetric(*batch, 12), torch.rand(*batch, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    start = torch.randn(*batch, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    got = theirs(run(forno, ours(a), ours(start), ours(w)))
    every = a.clone().requires_grad_()
    e, u = torch.linalg.eigh((every + every.mT) / 2)
    (e[..., -3:].square().sum() + ((u[..., -3:] ** 2).flip(-1) * w).sum()).backward()
    torch.testing.assert_close(got, every.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, run(torch, a.clone(), start, w), rtol=1e-5, atol=1e-5)


def test_refusals():
    a = ours(symmetric(9))
    with pytest.raises(ValueError, match=r"number of A rows \(=9\) is smaller than 3 x the number of requested eigenpairs \(=4\)"): forno.lobpcg(a, 4)
    with pytest.raises(AssertionError, match="square"): forno.lobpcg(a[:8])
    with pytest.raises(AssertionError, match="same shape"): forno.lobpcg(a, B=a[:8, :8])
    with pytest.raises(ValueError, match="'basic' or 'ortho'"): forno.lobpcg(a, method="other")
    for x, b in ((a.to_sparse().requires_grad_(), None), (a.clone().requires_grad_(), a), (a.to(forno.complex128).requires_grad_(), None)):
        with pytest.raises(ValueError, match="lobpcg.backward does not support"): forno.lobpcg(x, B=b)
