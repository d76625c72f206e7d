"""Sparse tensors in files: written here and read by torch, the other way round, and files that lie."""
import io

import pytest
import torch

import forno

from .compare import same


def made(t):
    i, v = t.tensor([[0, 1, 1], [2, 0, 2]]), t.tensor([3.0, 4.0, 5.0])
    x = t.sparse_coo_tensor(i, v, (2, 3))
    return dict(coo=x, coalesced=x.coalesce(), csr=x.to_sparse_csr(), csc=x.to_sparse_csc(), hybrid=t.sparse_coo_tensor(t.tensor([[0, 2]]), t.ones(2, 4), (3, 4)), half=x.half(), empty=t.sparse_coo_tensor((2, 3)),
                dense=t.ones(2))


def through(save, load, obj, **kw):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file, **kw)


@pytest.mark.parametrize("name", made(forno))
def test_both_ways(name):
    mine, theirs = made(forno)[name], made(torch)[name]
    same(through(torch.save, forno.load, theirs), theirs)
    same(mine, through(forno.save, torch.load, mine))
    same(through(forno.save, forno.load, mine), theirs)
    same(through(torch.save, forno.load, theirs, weights_only=False), theirs)


def test_in_a_state_dict():
    class Graph(forno.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("adjacency", made(forno)["coo"])
            self.layer = forno.nn.Linear(2, 2)

        def forward(self, x): return self.adjacency @ self.layer(x)

    a, b = Graph(), Graph()
    with forno.no_grad(): b.adjacency.mul_(2)
    b.load_state_dict(through(forno.save, forno.load, a.state_dict()))
    assert b.adjacency.is_sparse and b.adjacency.to_dense().tolist() == a.adjacency.to_dense().tolist()
    assert a.double()(forno.ones(3, 2).double()).dtype is forno.float64 and a.adjacency.dtype is forno.float64
    assert through(torch.save, forno.load, {"x": made(torch)["csr"]})["x"].is_sparse_csr


def test_a_file_with_places_outside():
    wrong = torch.sparse_coo_tensor(torch.tensor([[7], [0]]), torch.ones(1), (2, 3), check_invariants=False)
    with pytest.raises(RuntimeError, match="size is inconsistent"): through(torch.save, forno.load, wrong)
