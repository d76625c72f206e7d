"""torch.autograd.functional: values, nesting, history and errors of every function, in both modes, one by one and at once."""
import pytest
import torch

import forno

LIBRARIES = (torch, forno)
FUNCTIONS = {
    "vector": (lambda lib, x: (x ** 3).sin(), [(4,)]),
    "matrix": (lambda lib, x, y: (x @ y).exp(), [(2, 3), (3, 2)]),
    "several": (lambda lib, x, y: (x * y, (x ** 2).sum(), y.cumsum(0)), [(3,), (3,)]),
    "part": (lambda lib, x, y: (x ** 2, x.sum()), [(3,), (2,)]),
    "constant": (lambda lib, x: lib.ones(2), [(3,)]),
    "linear": (lambda lib, x: x * 3, [(3,)]),
    "empty": (lambda lib, x: x[:0] ** 2, [(3,)]),
    "layers": (lambda lib, x: lib.nn.functional.layer_norm(x, (4,)).softmax(-1).logsumexp(0), [(3, 4)]),
    "masked": (lambda lib, x: lib.where(x > 0, x ** 3, x.abs()).sort()[0], [(5,)]),
}
NUMBERS = {
    "cubic": (lambda lib, x: (x ** 3).sum(), [(3,)]),
    "one": (lambda lib, x: (x ** 3).sum(0, keepdim=True), [(3,)]),
    "pair": (lambda lib, x, y: (x * y.sin()).sum(), [(3,), (3,)]),
    "mixed": (lambda lib, x, y: (x ** 2).sum() * y.prod(), [(2, 2), (3,)]),
    "linear": (lambda lib, x: x.sum(), [(3,)]),
    "alone": (lambda lib, x, y: (x ** 4).sum(), [(3,), (2,)]),
    "number": (lambda lib, x: x ** 4, [()]),
    "vector": (lambda lib, x: x ** 2, [(2,)]),
}


def inputs(lib, shapes, grad=False):
    made = []
    for k, shape in enumerate(shapes):
        n = torch.Size(shape).numel()
        made.append((lib.arange(float(n)) / 5 - 0.3 + 0.1 * k).reshape(shape).requires_grad_(grad))
    return made[0] if len(made) == 1 else tuple(made)


def told(x):
    if isinstance(x, (tuple, list)): return ("tuple", *map(told, x))           # PyTorch's forward mode gives lists for its tuples
    return tuple(x.shape), str(x.dtype), x.requires_grad


def leaves(x): return [t for y in x for t in leaves(y)] if isinstance(x, (tuple, list)) else [x]


def same(run):
    """The same result or the same error."""
    found = []
    for lib in LIBRARIES:
        try: found.append(run(lib))
        except (RuntimeError, NotImplementedError, AssertionError, ValueError, TypeError) as e: found.append(e)
    a, b = found
    if isinstance(a, Exception):
        assert type(a) is type(b) and str(a) == str(b), (a, b)
        return
    if isinstance(b, Exception): raise b
    assert told(a) == told(b)
    for s, t in zip(leaves(a), leaves(b)): torch.testing.assert_close(torch.tensor(t.tolist(), dtype=s.dtype), s.detach(), rtol=1e-4, atol=1e-5)


def multiplied(lib, product, f, x, like, create_graph, strict):
    """A product of autograd.functional with vectors shaped like `like`: 2, 3, … everywhere."""
    v = tuple(lib.ones_like(t) * (k + 2) for k, t in enumerate(like)) if isinstance(like, tuple) else lib.ones_like(like) * 2
    return getattr(lib.autograd.functional, product)(lambda *x: f(lib, *x), x, v, create_graph=create_graph, strict=strict)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("product", ["jvp", "vjp"])
def test_products(product, name, strict, create_graph):
    f, shapes = FUNCTIONS[name]

    def run(lib):
        x = inputs(lib, shapes, create_graph)
        out = f(lib, *(x if isinstance(x, tuple) else (x,)))
        like = x if product == "jvp" else out
        return multiplied(lib, product, f, x, like, create_graph, strict)
    same(run)


@pytest.mark.parametrize("how", [{}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}, {"strategy": "forward-mode"}, {"strict": True}, {"strict": True, "vectorize": True},
                                 {"strict": True, "strategy": "forward-mode"}, {"create_graph": True}, {"create_graph": True, "vectorize": True}, {"create_graph": True, "strict": True},
                                 {"create_graph": True, "strategy": "forward-mode"}, {"strategy": "sideways"}], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobians(name, how):
    f, shapes = FUNCTIONS[name]
    if name == "empty" and "vectorize" in how: pytest.skip("PyTorch can't split nothing")
    same(lambda lib: lib.autograd.functional.jacobian(lambda *x: f(lib, *x), inputs(lib, shapes, how.get("create_graph", False)), **how))


@pytest.mark.parametrize("how", [{}, {"vectorize": True}, {"vectorize": True, "outer_jacobian_strategy": "forward-mode"}, {"outer_jacobian_strategy": "forward-mode"}, {"strict": True}, {"create_graph": True},
                                 {"create_graph": True, "vectorize": True}, {"create_graph": True, "strict": True}, {"outer_jacobian_strategy": "sideways"}], ids=str)
@pytest.mark.parametrize("name", NUMBERS)
def test_hessians(name, how):
    f, shapes = NUMBERS[name]

    def run(lib):
        found = lib.autograd.functional.hessian(lambda *x: f(lib, *x), inputs(lib, shapes, how.get("create_graph", False)), **how)
        if how.get("outer_jacobian_strategy") != "forward-mode": return found
        return tuple(t.detach() for t in leaves(found))                  # PyTorch's says requires_grad, though nobody asked for that
    same(run)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("product", ["vhp", "hvp"])
def test_products_with_hessians(product, name, strict, create_graph):
    f, shapes = NUMBERS[name]

    def run(lib):
        x = inputs(lib, shapes, create_graph)
        return multiplied(lib, product, f, x, x, create_graph, strict)
    same(run)


@pytest.mark.parametrize("call", [
    "F.jvp(lambda x: x ** 2, t, torch.ones(2))", "F.jvp(lambda x, y: x, (t, t), t)", "F.jvp(lambda x, y: x, (t, t), (t, torch.ones(2)))", "F.jvp(lambda x: x, t)", "F.vjp(lambda x: x, t)", "F.jvp(lambda x: 3, t, t)",
    "F.vjp(lambda x: (x, x), t, t)", "F.jvp(lambda x: x, 3, t)", "F.vhp(lambda x: (x, x), t, t)", "F.hvp(lambda x: x, t, t)", "F.hessian(lambda x: (x.sum(), x.sum()), t)", "F.jacobian(lambda x: (x, 2), t)",
    "F.vhp(lambda x: x.sum(), t)", "F.jvp(lambda x: x ** 2, torch.tensor(3.0))", "F.vjp(lambda x: x.sum() ** 2, t)", "F.jacobian(lambda x: x.cfloat() * 1j, t)", "F.jvp(lambda x: x * x, t.cfloat() * 1j, t.cfloat())"])
def test_arguments(call): same(lambda lib: eval(call, {"F": lib.autograd.functional, "t": lib.arange(3.0), "torch": lib}))


def test_custom_functions_without_jvp():
    """PyTorch needs no more than a backward; so nothing else may be asked for."""
    def run(lib):
        class Square(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, g): return g * ctx.saved_tensors[0] * 2
        return lib.autograd.functional.jvp(lambda x: Square.apply(x).sin(), lib.arange(3.0), lib.ones(3))
    same(run)


def test_once_is_enough():
    """At once means that the function runs once, and the backward, too."""
    for how in ({"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        calls = []
        J = forno.autograd.functional.jacobian(lambda x, calls=calls: calls.append(1) or x.exp(), forno.zeros(5), **how)
        assert len(calls) == 1 and forno.equal(J, forno.eye(5))
