"""Vertices of the graph: hooks before and after them, edges, what views say of their base, hooks on several tensors."""
import gc
import weakref

import pytest
import torch

import forno

LIBRARIES = (torch, forno)


def shapes(x): return tuple(None if g is None else tuple(g.shape) for g in x) if isinstance(x, tuple) else tuple(x.shape)


def logged(lib, make, backward=lambda y: y.sum().backward()):
    """What hooks before and after the vertex of a result see, and what it is called."""
    lib.manual_seed(0)
    x, w, m = (lib.arange(1.0, 1 + n).reshape(shape).requires_grad_() for n, shape in ((3, (3,)), (3, (3,)), (6, (2, 3))))
    y, log = make(lib, x, w, m), []
    y.grad_fn.register_hook(lambda inputs, outputs: log.append(("after", shapes(inputs), shapes(outputs))))
    y.grad_fn.register_prehook(lambda outputs: log.append(("before", shapes(outputs))))
    nexts = [(None if f is None else f.name(), k) for f, k in y.grad_fn.next_functions]
    backward(y)
    return y.grad_fn.name(), nexts, log, [None if t.grad is None else t.grad.tolist() for t in (x, w, m)]


MADE = {name: eval("lambda torch, x, w, m: " + name) for name in (
    "x * w", "x * 2", "2 * x", "x + 3", "x - w", "x / w.detach()", "x.exp()", "m.sum()", "m.sum(1)", "m.mean()", "m.mean(0)", "m.amax(1)", "m.mm(m.t())", "x.softmax(0)",
    "torch.where(x > 0, x, w)", "torch.stack([x, w])", "torch.cat([m, m], 1)", "m.view(3, 2)", "m[0]", "m.t()", "x.relu()", "torch.nn.functional.linear(m, m, w[:2])",
    "torch.nn.functional.linear(m.detach(), m)", "torch.nn.functional.layer_norm(m, (3,), x, w)", "x.clone()", "x * x", "m.var(1)", "m.norm()", "m.double()")}


@pytest.mark.parametrize("name", MADE)
def test_hooks_of_a_vertex(name):
    a, b = (logged(lib, MADE[name]) for lib in LIBRARIES)
    assert a[:3] == b[:3]
    for x, y in zip(a[3], b[3]): assert (x is None) == (y is None) and (x is None or torch.allclose(torch.tensor(x), torch.tensor(y), atol=1e-5))


def test_hooks_take_the_gradients_place():
    for lib in LIBRARIES:
        x, w = lib.tensor([1.0, 2.0], requires_grad=True), lib.tensor([3.0, 4.0], requires_grad=True)
        y = x * w
        h = y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 2, inputs[1] * 3))
        y.grad_fn.register_prehook(lambda outputs: (outputs[0] * 10,))
        y.sum().backward(retain_graph=True)
        assert x.grad.tolist() == [60, 80] and w.grad.tolist() == [30, 60]
        h.remove()
        x.grad = None
        y.sum().backward(retain_graph=True)
        assert x.grad.tolist() == [30, 40]
        y = x * w
        y.grad_fn.register_hook(lambda inputs, outputs: (None, inputs[1]))
        x.grad = None
        y.sum().backward()
        assert x.grad is None or x.grad.tolist() == [0, 0]


@pytest.mark.parametrize("kind, hook, error, text", [
    ("register_hook", lambda i, o: i[0], TypeError, "expected tuple, but hook returned 'Tensor'"),
    ("register_hook", lambda i, o: (i[0],), RuntimeError, r"returned an incorrect number of values \(got 1, but expected 2\)"),
    ("register_hook", lambda i, o: (i[0], i[1].sum()), RuntimeError, "has changed the size of value"),
    ("register_hook", lambda i, o: (i[0], i[1].double()), RuntimeError, "has changed the type of value"),
    ("register_prehook", lambda o: o[0], TypeError, "expected tuple, but hook returned 'Tensor'"),
    ("register_prehook", lambda o: (o[0], o[0]), RuntimeError, r"returned an incorrect number of values \(got 2, but expected 1\)")])
def test_hooks_that_return_something_else(kind, hook, error, text):
    for lib in LIBRARIES:
        y = lib.ones(3, requires_grad=True) * lib.ones(3, requires_grad=True)
        getattr(y.grad_fn, kind)(hook)
        with pytest.raises(error, match=text): y.sum().backward()


def test_the_end_of_a_path():
    """A leaf's vertex: its hooks see the gradient before and after it is accumulated, by backward() alone."""
    found = []
    for lib in LIBRARIES:
        x, log = lib.ones(3, requires_grad=True), []
        end = x.view_as(x).grad_fn.next_functions[0][0]
        assert end.variable is x and end.next_functions == () and x.view_as(x).grad_fn.next_functions[0][0] is end
        end.register_prehook(lambda g, log=log, x=x: log.append(("before", shapes(g), x.grad)) or (g[0] * 10,))
        end.register_hook(lambda i, g, log=log, x=x: log.append(("after", i, shapes(g), x.grad.tolist())))
        x.register_post_accumulate_grad_hook(lambda t, log=log: log.append("accumulated"))
        x.register_hook(lambda g, log=log: log.append("tensor"))
        (x * 2).sum().backward()
        log.append(lib.autograd.grad((x * 2).sum(), [x])[0].tolist())
        x.grad = None
        (x * 2).sum().backward(inputs=[x])
        found.append((log, x.grad.tolist()))
    assert found[0] == found[1]


def test_order_of_hooks_and_what_grad_skips():
    """Hooks on the tensor, then retain_grad, then the vertex's; grad() calls those of a vertex only where it goes on behind it."""
    found = []
    for lib in LIBRARIES:
        x, log = lib.ones(2, requires_grad=True), []
        y = x * 3
        y.grad_fn.register_prehook(lambda g, log=log: log.append("vertex"))
        y.grad_fn.register_prehook(lambda g, log=log: (g[0] * 2,))
        y.retain_grad()
        y.register_hook(lambda g, log=log: log.append("tensor") or g * 5)
        g, = lib.autograd.grad(y.sum(), [y], retain_graph=True)
        log.append(g.tolist())
        log.append([t.tolist() for t in lib.autograd.grad(y.sum(), [x, y])])
        found.append((log, y.grad.tolist()))
    assert found[0] == found[1]


def test_hooks_on_one_of_two_paths_in_a_known_program():
    """The backward of the same program without hooks is remembered; it must not be replayed."""
    x = forno.ones(3, requires_grad=True)
    for i in range(6):
        x.grad, seen = None, []
        a, b = x + 1, x + 2
        c = (a + b).sum()
        if i == 4: (b if i % 2 else a).register_hook(lambda g: seen.append(1) or g * 10)
        if i == 5: b.grad_fn.register_hook(lambda p, g: seen.append(1) or (p[0] * 10, None))
        c.item()
        c.backward()
        assert x.grad.tolist() == [11.0 if i > 3 else 2.0] * 3 and len(seen) == (i > 3), i


def test_metadata_and_identity():
    for lib in LIBRARIES:
        x = lib.ones(2, requires_grad=True)
        y = x * 2
        y.grad_fn.metadata["seen"] = 1
        assert y.grad_fn.metadata == {"seen": 1} and (x * 2).grad_fn.metadata == {} and y.grad_fn is y.grad_fn
        assert isinstance(y.grad_fn, lib.autograd.graph.Node) and y.sum().grad_fn.next_functions[0][0] is y.grad_fn
        with pytest.raises(TypeError): lib.autograd.graph.Node()


def test_custom_functions_have_one_vertex():
    found = []
    for lib in LIBRARIES:
        class Both(lib.autograd.Function):
            @staticmethod
            def forward(ctx, a, k, b):
                ctx.save_for_backward(a, b)
                ctx.kept = k
                return a * b, a + b

            @staticmethod
            def backward(ctx, g, h): return g, None, h
        a, b, log = lib.ones(3, requires_grad=True), lib.ones(1, requires_grad=True), []
        u, v = Both.apply(a, 7, b)
        assert u.grad_fn is v.grad_fn and u.grad_fn.kept == 7 and len(u.grad_fn.saved_tensors) == 2 and (u.output_nr, v.output_nr) == (0, 1)
        log.append([(f.name(), k) for f, k in u.grad_fn.next_functions])
        log.append([(f.name(), k) for f, k in (u + v).grad_fn.next_functions])
        u.grad_fn.register_prehook(lambda g, log=log: log.append(shapes(g)) or (g[0] * 2, g[1]))
        u.grad_fn.register_hook(lambda i, g, log=log: log.append((shapes(i), shapes(g))) or (i[0], i[1] * 5))
        (u + v).sum().backward()
        found.append((log, a.grad.tolist(), b.grad.tolist()))
    assert found[0] == found[1]


def test_edges_as_inputs_and_outputs():
    for lib in LIBRARIES:
        edge = lib.autograd.graph.get_gradient_edge
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        e, end = edge(y), edge(x)
        assert e.node is y.grad_fn and e.output_nr == 0 and e._fields == ("node", "output_nr", "ownership_token") and end.node.variable is x
        z = (y * 3).sum()
        got = lib.autograd.grad(z, [e, end], retain_graph=True)
        assert [g.tolist() for g in got] == [[3, 3], [6, 12]]
        assert lib.autograd.grad(edge(z), x, grad_outputs=lib.tensor(2.0), retain_graph=True)[0].tolist() == [12, 24]
        z.backward(inputs=[end], retain_graph=True)
        assert x.grad.tolist() == [6, 12]
        lib.autograd.backward(edge(z), lib.tensor(1.0))
        assert x.grad.tolist() == [12, 24]
        with pytest.raises(RuntimeError, match="does not require gradients"): edge(x.detach())


VIEWS = ["t[0]", "t.view(6)", "t.t()", "t[0][1:]", "t.detach()", "t.detach()[0]", "t[0].detach()", "t.clone()", "t", "t.expand(4, 2, 3)", "t.reshape(6)", "t.t().contiguous()", "t.unbind(0)[1]",
         "t.view(torch.int32)", "t.data", "t.data[0]", "t.contiguous()", "t + 1", "t.t() + 1", "(t.t() + 1)[0]", "t.flatten()", "t.squeeze()", "t.as_strided((2,), (1,))", "torch.view_as_complex(t.reshape(3, 2))"]


@pytest.mark.parametrize("leaf", [True, False])
@pytest.mark.parametrize("text", VIEWS)
def test_views_know_their_base(text, leaf):
    found = []
    for lib in LIBRARIES:
        for t in (lib.ones(2, 3, requires_grad=leaf), lib.ones(2, 3, requires_grad=leaf) * 1):
            if "int32" in text: t = t.detach()
            v = eval(text, {"t": t, "torch": lib})
            found.append((v._is_view(), v._base is t, v._base is None))
            with lib.no_grad(): v = eval(text, {"t": t, "torch": lib})
            found.append((v._is_view(), v._base is t, v._base is None))
    assert found[:4] == found[4:]


def test_views_keep_their_base_and_nothing_more():
    x = forno.ones(4)
    v, seen = x[:2], weakref.ref(x)
    x.unsqueeze_(0)
    assert not x._is_view() and v._base is x and not forno.zeros(3, 4).max(1)[0]._is_view()
    del x
    assert v._base is seen() and v._base.shape == (1, 4)
    gc.disable()
    try:
        del v
        assert seen() is None                  # no cycle
    finally: gc.enable()


def test_hooks_on_several_tensors():
    """"all": once per backward, when the last of those that it comes by has its gradient."""
    found = []
    for lib in LIBRARIES:
        log = []
        a, b, c = (lib.full((2,), k, requires_grad=True) for k in (1.0, 2.0, 3.0))
        d = a * b
        h = lib.autograd.graph.register_multi_grad_hook((a, b, c, d), lambda gs, log=log: log.append([None if g is None else g.tolist() for g in gs]))
        any_ = lib.autograd.graph.register_multi_grad_hook((b, d), lambda g, log=log: log.append(g.tolist()), mode="any")
        (d * c).sum().backward(retain_graph=True)
        (d * 2).sum().backward(retain_graph=True)
        c.sum().backward()
        h.remove(), any_.remove()
        (d * c).sum().backward()
        found.append(log)
        with pytest.raises(ValueError, match="Expects mode"): lib.autograd.graph.register_multi_grad_hook((a,), print, mode="some")
    assert found[0] == found[1]


def test_versions_and_mutation():
    for lib in LIBRARIES:
        x, y = lib.ones(3), lib.ones(4)[:2]
        lib.autograd.graph.increment_version(x)
        lib.autograd.graph.increment_version([x, y])
        assert (x._version, y._version) == (2, 1)
        with lib.autograd.graph.allow_mutation_on_saved_tensors() as kept:
            a = lib.ones(2, requires_grad=True)
            b = a.clone()
            c = (b ** 2).sum()
            b.sin_()
            c.backward()
            kept.clear()
        assert a.grad.tolist() == [2, 2]
