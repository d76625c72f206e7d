"""The same sparse program run by forno and by torch: how results are compared."""
import numpy as np
import torch

import forno

LAYOUTS = {"sparse_coo": ("_indices",), "sparse_csr": ("crow_indices", "col_indices"), "sparse_csc": ("ccol_indices", "row_indices")}


def same(a, b, tol=1e-5):
    """a is forno's, b torch's."""
    if isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b): same(x, y, tol)
        return
    if not isinstance(b, torch.Tensor):
        assert a == b, (a, b)
        return
    assert isinstance(a, forno.Tensor)
    assert repr(a.layout) == repr(b.layout), (a.layout, b.layout)
    assert tuple(a.shape) == tuple(b.shape) and str(a.dtype) == str(b.dtype), (a.shape, b.shape, a.dtype, b.dtype)
    assert a.requires_grad == b.requires_grad
    if b.layout is torch.strided:
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)
        return
    if b.layout is torch.sparse_coo: assert a.is_coalesced() == b.is_coalesced(), ("is_coalesced", a.is_coalesced(), b.is_coalesced())
    for name in LAYOUTS[repr(b.layout)[6:]]: np.testing.assert_array_equal(getattr(a, name)().numpy(), getattr(b, name)().numpy())
    np.testing.assert_allclose(a.detach()._values().numpy() if b.layout is torch.sparse_coo else a.detach().values().numpy(),
                               b.detach()._values().numpy() if b.layout is torch.sparse_coo else b.detach().values().numpy(), rtol=tol, atol=tol)


def both(program, tol=1e-5):
    """program(torch module, functions that make equal tensors) run twice; equal results, or exceptions of one type."""
    found = []
    for t in (forno, torch):
        try: found.append((None, program(t)))
        except Exception as error: found.append((error, None))
    (ea, a), (eb, b) = found
    if eb is not None or ea is not None:
        assert ea is not None and eb is not None and isinstance(ea, type(eb)), (ea, eb)
        return
    same(a, b, tol)
