"""Sparse tensors: constructors, parts, layouts, text, errors' types, as torch has them."""
import copy
import pickle

import pytest
import torch

import forno

from .compare import both, same

I, V = [[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0]
TWICE, W = [[1, 0, 1, 1], [2, 2, 0, 2]], [1.0, 2.0, 3.0, 4.0]


def x(t, **kw): return t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2, 3), **kw)
def d(t, **kw): return t.sparse_coo_tensor(t.tensor(TWICE), t.tensor(W), (2, 3), **kw)
def h(t): return t.sparse_coo_tensor(t.tensor([[0, 2, 2]]), t.arange(12.0).reshape(3, 4), (3, 4))
def c(t): return x(t).to_sparse_csr()


PROGRAMS = dict(
    size_inferred=lambda t: t.sparse_coo_tensor(t.tensor(I), t.tensor(V)), lists=lambda t: t.sparse_coo_tensor([[0, 1], [1, 0]], [1, 2]),
    of_dtype=lambda t: t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2, 3), dtype=t.int32), of_size=lambda t: t.sparse_coo_tensor((2, 3)),
    of_size_named=lambda t: t.sparse_coo_tensor(size=(2, 3)), float_indices=lambda t: t.sparse_coo_tensor(t.tensor(I).float(), t.tensor(V), (2, 3)),
    said_coalesced=lambda t: x(t, is_coalesced=True), leaf=lambda t: x(t, requires_grad=True), hybrid=h,
    too_small=lambda t: t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2, 2), check_invariants=True),
    negative=lambda t: t.sparse_coo_tensor(-t.tensor(I), t.tensor(V)), wrong_rank=lambda t: t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2,)),
    wrong_nnz=lambda t: t.sparse_coo_tensor(t.tensor(I), t.tensor(V[:2]), (2, 3)), flat_indices=lambda t: t.sparse_coo_tensor(t.tensor(I[0]), t.tensor(V)),
    number=lambda t: t.sparse_coo_tensor(t.tensor(I), 2.0),
    csr=lambda t: t.sparse_csr_tensor(t.tensor([0, 1, 3]), t.tensor([2, 0, 2]), t.tensor(V), (2, 3)),
    csr_inferred=lambda t: t.sparse_csr_tensor([0, 1, 3], [2, 0, 2], V), csr_int32=lambda t: t.sparse_csr_tensor(t.tensor([0, 1, 3]).int(), t.tensor([2, 0, 2]).int(), t.tensor(V), (2, 3)),
    csc=lambda t: t.sparse_csc_tensor(t.tensor([0, 1, 1, 3]), t.tensor([1, 0, 1]), t.tensor(V), (2, 3)),
    compressed=lambda t: t.sparse_compressed_tensor(t.tensor([0, 1, 3]), t.tensor([2, 0, 2]), t.tensor(V), (2, 3), layout=t.sparse_csr),
    csr_checked=lambda t: t.sparse_csr_tensor([0, 1, 2], [2, 0, 2], V, (2, 3), check_invariants=True),
    csr_unsorted=lambda t: t.sparse_csr_tensor([0, 1, 3], [2, 2, 0], V, (2, 3), check_invariants=True),
    csr_float=lambda t: t.sparse_csr_tensor(t.tensor([0.0, 1, 3]), t.tensor([2.0, 0, 2]), t.tensor(V), (2, 3)),
    to_csr=c, to_csc=lambda t: x(t).to_sparse_csc(), twice_to_csr=lambda t: d(t).to_sparse_csr(), csr_to_coo=lambda t: c(t).to_sparse(), csr_to_csc=lambda t: c(t).to_sparse_csc(),
    csc_to_csr=lambda t: x(t).to_sparse_csc().to_sparse_csr(), csc_to_coo=lambda t: x(t).to_sparse_csc().to_sparse_coo(), by_layout=lambda t: t.eye(3).to_sparse(layout=t.sparse_csr),
    from_dense=lambda t: t.tensor([[0.0, 1, 0], [2, 0, 3]]).to_sparse(), from_dense_rows=lambda t: t.tensor([[0.0, 1, 0], [0, 0, 0], [2, 0, 3]]).to_sparse(1),
    from_dense_csr=lambda t: t.tensor([[0.0, 1, 0], [2, 0, 3]]).to_sparse_csr(), from_3d=lambda t: t.arange(8).reshape(2, 2, 2).to_sparse(),
    dense=lambda t: x(t).to_dense(), twice_dense=lambda t: d(t).to_dense(), hybrid_dense=lambda t: h(t).to_dense(), csr_dense=lambda t: c(t).to_dense(), dense_dense=lambda t: t.ones(2).to_dense(),
    coalesced=lambda t: d(t).coalesce(), hybrid_coalesced=lambda t: h(t).coalesce(), csr_coalesce=lambda t: c(t).coalesce(),
    indices=lambda t: d(t).coalesce().indices(), values=lambda t: d(t).coalesce().values(), raw=lambda t: [d(t)._indices(), d(t)._values(), d(t)._nnz()], early=lambda t: d(t).indices(),
    early_values=lambda t: d(t).values(), csr_parts=lambda t: [c(t).crow_indices(), c(t).col_indices(), c(t).values()], csr_indices=lambda t: c(t).indices(), coo_crow=lambda t: x(t).crow_indices(),
    dense_indices=lambda t: t.ones(2).indices(), dense_values=lambda t: t.ones(2).values(), dense_coalesce=lambda t: t.ones(2).coalesce(), axes=lambda t: [h(t).sparse_dim(), h(t).dense_dim(), h(t).dim()],
    dense_axes=lambda t: [t.ones(2, 3).sparse_dim(), t.ones(2, 3).dense_dim()], sizes=lambda t: [tuple(h(t).size()), h(t).size(1), h(t).numel(), len(h(t)), x(t).is_sparse, c(t).is_sparse, c(t).is_sparse_csr],
    is_coalesced=lambda t: [x(t).is_coalesced(), d(t).coalesce().is_coalesced()], csr_is_coalesced=lambda t: c(t).is_coalesced(),
    converted=lambda t: [x(t).double(), x(t).to(t.float64), x(t).int(), x(t).bool(), x(t).to("cpu"), x(t).type(t.float64), c(t).half(), x(t).type()], to_nothing=lambda t: x(t).cuda(),
    cloned=lambda t: d(t).clone(), detached=lambda t: x(t, requires_grad=True).detach(), requires=lambda t: x(t).requires_grad_(), integers=lambda t: x(t).long().requires_grad_(),
    facts=lambda t: [x(t, requires_grad=True).is_leaf, x(t).requires_grad, x(t).is_floating_point(), x(t).device.type, x(t).element_size(), isinstance(x(t), t.Tensor), t.is_tensor(x(t))],
    zeros_like=lambda t: t.zeros_like(x(t)), csr_zeros_like=lambda t: t.zeros_like(c(t)), empty_like=lambda t: t.empty_like(x(t)), made_sparse=lambda t: t.zeros(2, 3, layout=t.sparse_coo),
    zeroed=lambda t: x(t).zero_(), resized=lambda t: x(t).sparse_resize_((4, 5), 2, 0), cleared=lambda t: x(t).sparse_resize_and_clear_((4, 5, 2), 2, 1), resized_down=lambda t: x(t).sparse_resize_((1, 1), 2, 0),
    copied=lambda t: x(t).copy_(d(t)), copied_dense=lambda t: t.ones(2, 3).copy_(x(t)), deepcopied=lambda t: copy.deepcopy(d(t)), shallow=lambda t: copy.copy(x(t)), pickled=lambda t: pickle.loads(pickle.dumps(d(t))),
    pickled_csr=lambda t: pickle.loads(pickle.dumps(c(t))), to_numpy=lambda t: x(t).numpy(), exchanged=lambda t: t.utils.dlpack.to_dlpack(x(t)), storage=lambda t: x(t).untyped_storage(),
    viewed=lambda t: x(t).view(6), exp=lambda t: x(t).exp(), exp_function=lambda t: t.exp(x(t)), compared=lambda t: x(t) == x(t), maximum=lambda t: x(t).max(), item=lambda t: x(t).item(), truth=lambda t: bool(x(t)),
    old=lambda t: [t.sparse.FloatTensor(t.tensor(I), t.tensor(V), t.Size([2, 3])), t.sparse.LongTensor(t.tensor(I), t.tensor([1, 2, 3])), t.sparse.FloatTensor(2, 3)],
    of_type=lambda t: [isinstance(x(t), t.sparse.FloatTensor), isinstance(x(t), t.FloatTensor), isinstance(c(t), t.sparse.FloatTensor)], new=lambda t: [x(t).new_zeros(2), x(t).new(2, 3), x(t).is_inference()],
    parameter=lambda t: t.nn.Parameter(x(t)), parameter_facts=lambda t: [isinstance(t.nn.Parameter(x(t)), t.nn.Parameter), t.nn.Parameter(x(t)).is_sparse, isinstance(t.nn.Parameter(t.ones(2)), t.nn.Parameter)],
    same_size=lambda t: [t.is_same_size(x(t), d(t)), x(t).is_same_size(t.ones(2, 3))],
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_torch_has_it(name): both(PROGRAMS[name])


TEXTS = dict(coo=x, twice=d, csr=c, csc=lambda t: x(t).to_sparse_csc(), leaf=lambda t: x(t, requires_grad=True), hybrid=h, nothing=lambda t: t.sparse_coo_tensor((2, 3)), double=lambda t: x(t).double(),
             integers=lambda t: x(t).int(), long=lambda t: t.eye(40).to_sparse(), long_csr=lambda t: t.eye(40).to_sparse_csr(), empty_csr=lambda t: t.zeros(2, 2).to_sparse_csr(),
             csr_leaf=lambda t: c(t).requires_grad_(), parameter=lambda t: t.nn.Parameter(x(t)))


@pytest.mark.parametrize("name", TEXTS)
def test_text(name): assert repr(TEXTS[name](forno)) == repr(TEXTS[name](torch))


@pytest.mark.parametrize("ask", [lambda s: s.exp(), lambda s: forno.exp(s), lambda s: s.view(3, 2), lambda s: s.reshape(-1), lambda s: forno.nn.functional.conv2d(s, s), lambda s: forno.cumsum(s, 0), lambda s: s == s])
def test_what_is_missing_names_itself(ask):
    with pytest.raises(NotImplementedError, match=r"'(exp|view|reshape|conv2d|cumsum|eq)' is not implemented for tensors with layout torch.sparse_coo; use it on x.to_dense\(\)"): ask(x(forno))


def test_checks_can_be_switched():
    check = forno.sparse.check_sparse_tensor_invariants
    wrong = lambda: forno.sparse_coo_tensor([[5]], [1.0], (2,))
    assert not check.is_enabled()
    wrong()
    with check():
        assert check.is_enabled()
        with pytest.raises(RuntimeError, match="size is inconsistent"): wrong()
    with pytest.raises(RuntimeError): check()(wrong)()
    assert not check.is_enabled()


def test_values_are_shared():
    for t in (forno, torch):
        v = t.tensor(V)
        s = t.sparse_coo_tensor(t.tensor(I), v, (2, 3))
        v.mul_(2)
        s._values().add_(1)
        assert s.to_dense().tolist() == [[0, 0, 7], [9, 0, 11]] and v.tolist() == [7, 9, 11]


def test_same_places_twice(): same(d(forno).coalesce(), d(torch).coalesce())


def test_parameters_are_pickled():
    p = pickle.loads(pickle.dumps(forno.nn.Parameter(x(forno))))
    assert isinstance(p, forno.nn.Parameter) and p.is_sparse and p.requires_grad and p.to_dense().tolist() == [[0, 0, 3], [4, 0, 5]]


def test_parameters_are_copied():
    p = copy.deepcopy(forno.nn.Parameter(x(forno)))
    assert isinstance(p, forno.nn.Parameter) and p.is_sparse and p.is_leaf and p.to_dense().tolist() == [[0, 0, 3], [4, 0, 5]]


def from_worker(k): return x(forno) * k


def test_data_from_workers():
    class Matrices(forno.utils.data.Dataset):
        def __len__(self): return 3
        def __getitem__(self, k): return from_worker(k)
    got = list(forno.utils.data.DataLoader(Matrices(), batch_size=None, num_workers=1))
    assert [s.to_dense().tolist()[0] for s in got] == [[0, 0, 0], [0, 0, 3], [0, 0, 6]] and all(s.is_sparse for s in got)
