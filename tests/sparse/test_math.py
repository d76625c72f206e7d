"""What is computed with sparse tensors, as torch computes it: values, places, coalesced flags, errors' types."""
import pytest

from .compare import both

I, V = [[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0]


def x(t): return t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2, 3))
def k(t): return x(t).coalesce()
def d(t): return t.sparse_coo_tensor(t.tensor([[1, 0, 1, 1], [2, 2, 0, 2]]), t.tensor([1.0, 2.0, 3.0, 4.0]), (2, 3))
def o(t): return t.sparse_coo_tensor(t.tensor([[0, 0, 1], [0, 2, 1]]), t.tensor([1.0, -2.0, 0.5]), (2, 3)).coalesce()
def c(t): return x(t).to_sparse_csr()
def h(t): return t.sparse_coo_tensor(t.tensor([[0, 2, 2]]), t.arange(12.0).reshape(3, 4), (3, 4))
def m(t): return t.arange(6.0).reshape(3, 2)
def r(t): return t.arange(8.0).reshape(4, 2)
def g(t): return t.arange(6.0).reshape(2, 3) - 2
def b(t): return t.sparse_coo_tensor(t.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [2, 0, 1, 1]]), t.tensor([1.0, 2.0, 3.0, 4.0]), (2, 2, 3)).coalesce()


UNARY = "abs neg sgn sign sqrt asin asinh atan atanh ceil floor round trunc frac deg2rad rad2deg erf erfinv expm1 log1p sin sinh tan tanh relu isnan isinf signbit".split()
PROGRAMS = {
    **{f"{name} {kind.__name__}": (lambda t, name=name, kind=kind: getattr(kind(t) * 0.1, name)()) for name in UNARY for kind in (d, o, c)},
    **{f"{name} function": (lambda t, name=name: getattr(t, name)(o(t) * 0.1)) for name in UNARY if name not in ("isnan", "isinf")},
    **{f"{name}_": (lambda t, name=name: getattr(o(t) * 0.1, name + "_")()) for name in ("abs", "neg", "sqrt", "sin", "tanh", "relu", "floor")},
    "times": lambda t: [x(t) * 2, 2 * x(t), x(t) * t.tensor(2.0), t.tensor(2.0) * x(t), t.mul(x(t), 2), x(t).mul(3), c(t) * 2, h(t) * 2, x(t).int() * 2, x(t).int() * 2.5],
    "over": lambda t: [x(t) / 2, x(t).div(2), x(t).int() / 2, d(t).div(2, rounding_mode="floor"), x(t) / t.tensor(2.0), x(t) // 2], "over dense": lambda t: x(t) / g(t), "over sparse": lambda t: x(t) / x(t),
    "powers": lambda t: [d(t).pow(2), d(t) ** 2, d(t) ** 0.5, t.pow(o(t), 3)], "power zero": lambda t: x(t) ** 0, "in place": lambda t: [x(t).mul_(2), x(t).div_(2), k(t).add_(o(t))],
    "plus": lambda t: [k(t) + o(t), k(t) - o(t), t.add(k(t), o(t), alpha=2), k(t).sub(o(t), alpha=3), c(t) + c(t), h(t).coalesce() + h(t).coalesce()], "plus number": lambda t: x(t) + 1,
    "plus dense": lambda t: x(t) + g(t), "minus dense": lambda t: x(t) - g(t), "dense plus": lambda t: [g(t) + x(t), g(t) - d(t), t.add(g(t), x(t), alpha=2), t.ones(3, 4) + h(t)],
    "dense plus csr": lambda t: g(t) + c(t), "dense plus in place": lambda t: [g(t).add_(d(t)), g(t).add_(d(t), alpha=-2), g(t).sub_(x(t))], "plus other size": lambda t: x(t) + h(t), "types": lambda t: k(t).int() + o(t),
    "sparse times sparse": lambda t: [k(t) * o(t), k(t) * k(t)], "sparse times twice": lambda t: (d(t) * k(t)).to_dense(), "times dense": lambda t: [x(t) * g(t), g(t) * x(t), h(t) * t.ones(3, 4)],
    "sum": lambda t: [x(t).sum(), d(t).sum(), c(t).sum(), t.sum(x(t)), x(t).int().sum()], "sum along": lambda t: [d(t).sum(0), d(t).sum(1), d(t).sum((0, 1)), d(t).sum(-1), b(t).sum(0), b(t).sum((0, 2))],
    "sum dense axes": lambda t: [h(t).sum(0), h(t).sum(1), t.sparse.sum(h(t)), t.sparse.sum(h(t), 1)], "sum double": lambda t: t.sparse.sum(x(t), dtype=t.float64), "norm": lambda t: x(t).norm(),
    "torch.sparse.sum": lambda t: [t.sparse.sum(d(t), 0), t.sparse.sum(d(t), [0, 1]), t.sparse.sum(b(t), [1])],
    "softmax": lambda t: [t.sparse.softmax(x(t), 1), t.sparse.softmax(d(t), 0), t.sparse.softmax(b(t), 2), t.sparse.softmax(b(t), 0), t.sparse.softmax(h(t), 0), t.sparse.softmax(h(t), 1)],
    "log_softmax": lambda t: [t.sparse.log_softmax(x(t), 1), t.sparse.log_softmax(d(t), 0), t.sparse.log_softmax(h(t), 0)], "softmax double": lambda t: t.sparse.softmax(x(t), 1, dtype=t.float64),
    "mm": lambda t: [x(t) @ m(t), t.mm(x(t), m(t)), t.sparse.mm(x(t), m(t)), t.spmm(x(t), m(t)), x(t).mm(m(t)), x(t).matmul(m(t)), t.matmul(d(t), m(t)), c(t) @ m(t), t.mm(c(t), m(t))],
    "mm of columns": lambda t: x(t).to_sparse_csc() @ m(t), "mm sparse": lambda t: [k(t) @ k(t).t(), t.sparse.mm(x(t), x(t).t()), t.mm(o(t), k(t).t().coalesce())], "mm csr": lambda t: (c(t) @ k(t).t().to_sparse_csr()).to_dense(),
    "dense mm sparse": lambda t: [r(t) @ k(t), t.mm(r(t), k(t)), r(t).mm(k(t))], "dense mm csr": lambda t: r(t) @ c(t), "mv": lambda t: [x(t) @ t.ones(3), t.mv(x(t), t.ones(3)), x(t).mv(t.ones(3)), t.matmul(c(t), t.ones(3))],
    "mm sizes": lambda t: x(t) @ t.ones(4, 2), "mm types": lambda t: x(t) @ t.ones(3, 2).double(), "mv sizes": lambda t: x(t) @ t.ones(4),
    "addmm": lambda t: [t.addmm(t.ones(2, 2), x(t), m(t)), t.sparse.addmm(t.ones(2, 2), x(t), m(t), beta=2, alpha=3), t.ones(2, 2).addmm(x(t), m(t)), t.addmm(t.ones(2), x(t), m(t))],
    "smm": lambda t: t.smm(x(t), m(t)).to_dense(), "hspmm": lambda t: t.hspmm(k(t), m(t)), "bmm": lambda t: t.bmm(b(t), t.arange(12.0).reshape(2, 3, 2)), "empty mm": lambda t: t.sparse_coo_tensor((2, 3)) @ m(t),
    "sampled": lambda t: t.sparse.sampled_addmm(c(t), t.ones(2, 4), t.arange(12.0).reshape(4, 3), beta=0.5, alpha=2.0), "sampled coo": lambda t: t.sparse.sampled_addmm(x(t), t.ones(2, 4), t.ones(4, 3)),
    "mask": lambda t: [g(t).sparse_mask(k(t)), k(t).sparse_mask(o(t)), g(t).sparse_mask(c(t))], "mask sizes": lambda t: m(t).sparse_mask(k(t)), "mask dense": lambda t: g(t).sparse_mask(g(t)),
    "spdiags": lambda t: [t.sparse.spdiags(t.arange(9.0).reshape(3, 3), t.tensor([0, -1, 2]), (3, 3)), t.sparse.spdiags(t.arange(3.0), t.tensor(1), (3, 4))],
    "spdiags csr": lambda t: t.sparse.spdiags(t.arange(9.0).reshape(3, 3), t.tensor([0, -1, 2]), (3, 3), layout=t.sparse_csr), "spdiags twice": lambda t: t.sparse.spdiags(t.ones(2, 3), t.tensor([1, 1]), (3, 3)),
    "transpose": lambda t: [x(t).t(), k(t).t(), k(t).transpose(0, 1), t.transpose(b(t), 0, 2), b(t).permute(2, 0, 1), c(t).t(), k(t).T, k(t).transpose(0, 0)], "transpose mixed": lambda t: h(t).t(),
    "unsqueeze": lambda t: [k(t).unsqueeze(0), x(t).unsqueeze(1), k(t).unsqueeze(-1), h(t).unsqueeze(0), h(t).unsqueeze(2)], "select": lambda t: [k(t)[0], k(t)[1, 2], k(t).select(1, 2), k(t)[-1], b(t)[1], h(t)[2], h(t).select(1, 1)],
    "new axis": lambda t: [k(t)[None], x(t).sum(axis=1).to_dense()], "linear": lambda t: t.nn.functional.linear(x(t), t.ones(4, 3), t.ones(4)), "select far": lambda t: k(t)[5], "iterate": lambda t: list(k(t)), "unbind": lambda t: t.unbind(k(t).to_dense().to_sparse()), "narrow": lambda t: [t.narrow_copy(k(t), 1, 1, 2), k(t).narrow_copy(0, 1, 1)],
    "index_select": lambda t: [x(t).index_select(0, t.tensor([1, 0])), k(t).index_select(1, t.tensor([2, 2, 0])), h(t).index_select(0, t.tensor([2, 1])), h(t).index_select(1, t.tensor([3, 0]))],
    "index_select far": lambda t: k(t).index_select(0, t.tensor([2])),
    "cat": lambda t: [t.cat([x(t), d(t)]), t.cat([k(t), o(t)], 1), t.cat([h(t), h(t)]), t.cat([h(t), h(t)], 1)], "cat dense": lambda t: t.cat([x(t), g(t)]), "cat sizes": lambda t: t.cat([x(t), h(t)]),
    "stack": lambda t: [t.stack([k(t), o(t)]), t.stack([k(t), o(t)], 1), t.stack([k(t), o(t)], 2)], "any": lambda t: x(t).any(), "allclose": lambda t: t.allclose(x(t).to_dense(), k(t).to_dense()),
    "complex": lambda t: [x(t) * 1j, (x(t) * 1j) @ m(t).to(t.complex64)], "integers": lambda t: x(t).int() @ m(t).int(), "nothing": lambda t: [t.sparse_coo_tensor((2, 3)) + k(t), k(t) * t.sparse_coo_tensor((2, 3))],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_torch_computes_it(name): both(PROGRAMS[name])
