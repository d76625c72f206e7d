"""Every optimizer against PyTorch's single-tensor loop: the same numbers, states and state dicts after several steps."""
import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

import forno
import forno.optim as fo
from forno.framework import api as ft
from forno.framework.engine import flush
from forno.graph.line import LOCAL

CASES = [
    ("SGD", {}), ("SGD", dict(momentum=0.9)), ("SGD", dict(momentum=0.9, dampening=0.1, weight_decay=0.1)),
    ("SGD", dict(momentum=0.9, nesterov=True, weight_decay=0.01)), ("SGD", dict(maximize=True, lr=0.2)),
    ("Adam", {}), ("Adam", dict(weight_decay=0.1)), ("Adam", dict(amsgrad=True, maximize=True, betas=(0.8, 0.9))),
    ("Adam", dict(decoupled_weight_decay=True, weight_decay=0.1)), ("AdamW", {}), ("AdamW", dict(amsgrad=True, weight_decay=0.3)),
    ("Adamax", {}), ("Adamax", dict(weight_decay=0.1, maximize=True)),
    ("NAdam", {}), ("NAdam", dict(weight_decay=0.1)), ("NAdam", dict(weight_decay=0.1, decoupled_weight_decay=True, maximize=True)),
    ("RAdam", {}), ("RAdam", dict(weight_decay=0.1)), ("RAdam", dict(weight_decay=0.1, decoupled_weight_decay=True, betas=(0.5, 0.6))),
    ("RMSprop", {}), ("RMSprop", dict(momentum=0.9)), ("RMSprop", dict(centered=True, momentum=0.5, weight_decay=0.1, maximize=True)),
    ("Adagrad", {}), ("Adagrad", dict(lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, maximize=True)),
    ("Adadelta", {}), ("Adadelta", dict(weight_decay=0.1, rho=0.5, maximize=True)),
    ("Rprop", {}), ("Rprop", dict(maximize=True, etas=(0.4, 1.5), step_sizes=(1e-3, 0.1))),
    ("ASGD", {}), ("ASGD", dict(weight_decay=0.1, t0=2, lambd=0.1, maximize=True)),
    ("Adafactor", {}), ("Adafactor", dict(lr=0.5, weight_decay=0.1, maximize=True, d=2.0, eps=(1e-4, 1e-2), beta2_decay=-0.5)),
]
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
IDS = [f"{name}-{'-'.join(options) or 'plain'}" for name, options in CASES]


def twins(dtype="float32", seed=0):
    """The same parameters for forno and for PyTorch, and gradients for ten steps; the last parameter has none in even steps."""
    rng = np.random.default_rng(seed)
    draw = (lambda s: (rng.standard_normal(s) + 1j * rng.standard_normal(s)).astype(dtype)) if "complex" in dtype else (
        lambda s: np.asarray(rng.standard_normal(s)).astype(dtype))
    values = [draw(s) for s in SHAPES]
    grads = [[draw(s) for s in SHAPES] for _ in range(10)]
    ours = [ft.tensor(v).requires_grad_() for v in values]
    theirs = [torch.tensor(v).requires_grad_() for v in values]
    return ours, theirs, grads


def feed(params, tensor, grads, step):
    for i, (p, g) in enumerate(zip(params, grads[step])):
        p.grad = None if i == len(params) - 1 and step % 2 == 0 else tensor(g)


def same(a, b, tol=2e-6):
    a, b = a.detach().numpy(), b.detach().numpy()
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def same_state(ours, theirs, tol=2e-6):
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert list(a["state"]) == list(b["state"])
    for i in a["state"]:
        assert list(a["state"][i]) == list(b["state"][i])
        for key, v in a["state"][i].items():
            w = b["state"][i][key]
            if hasattr(v, "shape"): same(v, w, tol)
            else: assert v == w


@pytest.mark.parametrize("name,options", CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_steps(name, options, dtype):
    ours, theirs, grads = twins(dtype)
    a, b = getattr(fo, name)(ours, **options), getattr(torch.optim, name)(theirs, foreach=False, **options)
    a.param_groups[0]["foreach"] = a.defaults["foreach"] = False
    for step in range(10):
        feed(ours, ft.tensor, grads, step)
        feed(theirs, torch.tensor, grads, step)
        a.step()
        b.step()
    for p, q in zip(ours, theirs): same(p, q, 2e-6 if dtype == "float32" else 1e-14)
    same_state(a, b, 2e-6 if dtype == "float32" else 1e-14)
    assert repr(a) == repr(b)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD"])
def test_complex_parameters(name):
    ours, theirs, grads = twins("complex64")
    a, b = getattr(fo, name)(ours), getattr(torch.optim, name)(theirs, foreach=False)
    for step in range(4):
        feed(ours, ft.tensor, grads, step)
        feed(theirs, torch.tensor, grads, step)
        a.step()
        b.step()
    for p, q in zip(ours, theirs): same(p, q)


@pytest.mark.parametrize("name,options", CASES, ids=IDS)
def test_resume_from_torch_state_dict(name, options):
    """PyTorch trains five steps, forno loads its state dict and trains on, as PyTorch does."""
    ours, theirs, grads = twins()
    b = getattr(torch.optim, name)(theirs, foreach=False, **options)
    for step in range(5):
        feed(theirs, torch.tensor, grads, step)
        b.step()
    saved = b.state_dict()
    saved = {"param_groups": saved["param_groups"],
             "state": {i: {k: ft.tensor(v.numpy().copy()) if isinstance(v, torch.Tensor) else v for k, v in s.items()}
                       for i, s in saved["state"].items()}}
    for p, q in zip(ours, theirs): p.data = ft.tensor(q.detach().numpy().copy())
    a = getattr(fo, name)(ours, lr=123.0)
    a.load_state_dict(saved)
    for step in range(5, 10):
        feed(ours, ft.tensor, grads, step)
        feed(theirs, torch.tensor, grads, step)
        a.step()
        b.step()
    for p, q in zip(ours, theirs): same(p, q)
    same_state(a, b)


@pytest.mark.parametrize("options", [{}, dict(nesterov=False, adjust_lr_fn="match_rms_adamw"), dict(momentum=0.5, ns_steps=3, weight_decay=0.0)], ids=str)
def test_muon(options):
    """Matrices only. The steps are made in bfloat16, where one rounding is 1/256 of a step."""
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (7, 3))]
    ours, theirs = [ft.tensor(v).requires_grad_() for v in values], [torch.tensor(v).requires_grad_() for v in values]
    a, b = fo.Muon(ours, lr=0.1, **options), torch.optim.Muon(theirs, lr=0.1, **options)
    for _ in range(4):
        for p, q in zip(ours, theirs):
            g = rng.standard_normal(tuple(q.shape)).astype(np.float32)
            p.grad, q.grad = ft.tensor(g), torch.tensor(g)
        a.step()
        b.step()
    for p, q in zip(ours, theirs): same(p, q, 2e-3)
    same_state(a, b)
    with pytest.raises(ValueError, match="2D"): fo.Muon([ft.zeros(3, requires_grad=True)])


@pytest.mark.parametrize("options", [{}, dict(lr=0.1, maximize=True, betas=(0.5, 0.6))], ids=str)
def test_sparse_adam(options):
    """Rows of a matrix, some twice; rows without a gradient stay."""
    def run(lib):
        p = lib.arange(12.0).reshape(4, 3).requires_grad_()
        o = lib.optim.SparseAdam([p], **options)
        for k in range(5):
            p.grad = lib.sparse_coo_tensor(lib.tensor([[0, k % 3, 0]]), lib.ones(3, 3) * (k + 1), (4, 3))
            o.step()
        return p, o
    (p, a), (q, b) = run(forno), run(torch)
    same(p, q)
    same_state(a, b)
    with pytest.raises(RuntimeError, match="dense gradients"):
        p.grad = forno.ones(4, 3)
        a.step()


def test_lbfgs_rosenbrock():
    def run(lib, opt, **options):
        x = lib.tensor([-1.5, 2.0], dtype=lib.float64).requires_grad_()
        o, losses = opt([x], **options), []

        def closure():
            o.zero_grad()
            loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
            loss.backward()
            return loss
        for _ in range(5): losses.append(o.step(closure).item())
        s = o.state_dict()["state"][0]
        return losses, x.detach().numpy(), s["func_evals"], s["n_iter"]
    for options in (dict(line_search_fn="strong_wolfe"), dict(lr=0.001, max_iter=5), dict(line_search_fn="strong_wolfe", history_size=2, max_iter=8)):
        a, b = run(ft, fo.LBFGS, **options), run(torch, torch.optim.LBFGS, **options)
        np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-12)      # a hundred line searches amplify the last bit
        np.testing.assert_allclose(a[1], b[1], rtol=1e-4)
        assert a[2:] == b[2:]
    with pytest.raises(ValueError, match="per-parameter"): fo.LBFGS([{"params": [ft.zeros(1)]}, {"params": [ft.ones(1)]}])


def test_step_counter_follows_the_tensor():
    """Whoever changes state['step'], by replacing it or in place, is obeyed."""
    p = ft.zeros(3).requires_grad_()
    opt = fo.Adam([p])
    p.grad = ft.ones(3)
    opt.step()
    assert opt.state[p]["step"].item() == 1.0 and opt.state[p]["step"].dtype == ft.float32 and opt.state[p]["step"].shape == ()
    opt.state[p]["step"].fill_(10.0)
    opt.step()
    assert opt.state[p]["step"].item() == 11.0
    opt.state[p]["step"] = ft.tensor(20.0)
    opt.step()
    opt.step()
    assert opt.state[p]["step"].item() == 22.0
    assert opt._tick(p, opt.state[p]) == 23.0


def test_capturable_agrees():
    ours, theirs, grads = twins()
    for options in ({}, dict(amsgrad=True, weight_decay=0.1)):
        a, b = fo.AdamW(ours, capturable=True, **options), torch.optim.AdamW(theirs, foreach=False, **options)
        for step in range(5):
            feed(ours, ft.tensor, grads, step)
            feed(theirs, torch.tensor, grads, step)
            a.step()
            b.step()
        for p, q in zip(ours, theirs): same(p, q, 1e-5)


def test_groups_and_errors():
    w, b = ft.zeros(2).requires_grad_(), ft.zeros(3).requires_grad_()
    opt = fo.SGD([{"params": w, "lr": 0.5}, {"params": [b]}], lr=0.1, momentum=0.9)
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.1]
    x, y = torch.zeros(2).requires_grad_(), torch.zeros(3).requires_grad_()
    assert repr(opt) == repr(torch.optim.SGD([{"params": x, "lr": 0.5}, {"params": [y]}], lr=0.1, momentum=0.9))
    assert [g["params"] for g in opt.state_dict()["param_groups"]] == [[0], [1]]
    with pytest.raises(ValueError, match="more than one parameter group"): opt.add_param_group({"params": w})
    with pytest.raises(TypeError, match="must be a dict"): opt.add_param_group([w])
    with pytest.raises(TypeError, match="ordered collections"): opt.add_param_group({"params": {w}})
    with pytest.raises(TypeError, match="can only optimize Tensors"): fo.SGD([1.0], lr=0.1)
    with pytest.raises(TypeError, match="iterable of Tensors"): fo.SGD(w, lr=0.1)
    with pytest.raises(ValueError, match="empty parameter list"): fo.SGD([], lr=0.1)
    with pytest.raises(ValueError, match="non-leaf"): fo.SGD([w * 2], lr=0.1)
    with pytest.raises(ValueError, match="Invalid learning rate: -1"): fo.Adam([w], lr=-1)
    with pytest.raises(ValueError, match="Invalid beta parameter at index 1: 1.0"): fo.Adam([w], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="Nesterov"): fo.SGD([w], nesterov=True)
    with pytest.raises(ValueError, match="different number of parameter groups"): opt.load_state_dict(fo.SGD([w]).state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        opt.load_state_dict(fo.SGD([{"params": [w, b]}, {"params": [ft.zeros(1).requires_grad_()]}]).state_dict())
    with pytest.warns(UserWarning, match="duplicate parameters"): fo.SGD([w, w])
    named = fo.SGD([("w", w), ("b", b)], lr=0.1)
    assert named.state_dict()["param_groups"][0]["param_names"] == ["w", "b"]
    with pytest.raises(ValueError, match="with/without names"): named.add_param_group({"params": [ft.zeros(1).requires_grad_()]})


def test_zero_grad():
    p = ft.ones(2).requires_grad_()
    opt = fo.SGD([p], lr=0.1)
    (p * p).sum().backward()
    opt.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    opt.zero_grad()
    assert p.grad is None
    opt.step()
    assert p.tolist() == [1.0, 1.0]


def test_closure_and_hooks():
    p = ft.ones(2).requires_grad_()
    opt, seen = fo.SGD([p], lr=0.1), []

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss
    pre = opt.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", o is opt, len(args))))
    opt.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", o is opt, len(args))))
    assert opt.step(closure).item() == 2.0
    assert seen == [("pre", True, 2), ("post", True, 2)]
    pre.remove()
    opt.step()
    assert seen[2:] == [("post", True, 1)]
    opt.register_state_dict_post_hook(lambda o, d: d | {"extra": 1})
    opt.register_load_state_dict_pre_hook(lambda o, d: {k: v for k, v in d.items() if k != "extra"})
    state = opt.state_dict()
    assert state["extra"] == 1
    opt.load_state_dict(state)
    np.testing.assert_allclose(p.detach().numpy(), [0.6, 0.6], rtol=1e-6)


def test_user_subclass_copy_and_pickle():
    class Plain(fo.Optimizer):
        def __init__(self, params, lr): super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]: p.data.add_(p.grad, alpha=-group["lr"])
    p = ft.ones(2).requires_grad_()
    opt, calls = Plain([p], 0.5), []
    opt.register_step_post_hook(lambda *a: calls.append(1))
    p.grad = ft.ones(2)
    opt.step()
    assert calls == [1] and p.tolist() == [0.5, 0.5]
    with pytest.raises(NotImplementedError): fo.Optimizer([p], {}).step()
    adam = fo.Adam([p])
    adam.step()
    twin = copy.deepcopy(adam)
    (q,) = twin.param_groups[0]["params"]
    q.grad = ft.ones(2)
    twin.step()
    assert twin.state[q]["step"].item() == 2 and adam.state[p]["step"].item() == 1
    assert pickle.loads(pickle.dumps(fo.SGD([p]))).param_groups[0]["lr"] == 1e-3


def test_tensor_lr():
    p = ft.ones(2).requires_grad_()
    opt = fo.Adam([p], lr=ft.tensor(0.1))
    p.grad = ft.ones(2)
    opt.step()
    np.testing.assert_allclose(p.detach().numpy(), [0.9, 0.9], rtol=1e-5)
    with pytest.raises(ValueError, match="1-element"): fo.SGD([p], lr=ft.ones(2))


def test_averaged_model_and_swalr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p, q = ft.zeros(2).requires_grad_(), torch.zeros(2).requires_grad_()
        a, b = fo.SGD([p], lr=1.0), torch.optim.SGD([q], lr=1.0)
        for strategy in ("cos", "linear"):
            s, t = fo.swa_utils.SWALR(a, 0.05, 4, strategy), torch.optim.swa_utils.SWALR(b, 0.05, 4, strategy)
            for _ in range(7):
                s.step()
                t.step()
                assert s.get_last_lr() == pytest.approx(t.get_last_lr())
    from forno import nn
    model = nn.Linear(2, 1)
    for make in (lambda m: fo.swa_utils.AveragedModel(m), lambda m: fo.swa_utils.AveragedModel(m,
                                                                                               multi_avg_fn=fo.swa_utils.get_ema_multi_avg_fn(0.5))):
        with ft.no_grad(): model.weight.fill_(0.0)
        average = make(model)
        for value in (1.0, 2.0, 3.0):
            with ft.no_grad(): model.weight.fill_(value)
            average.update_parameters(model)
        expected = 2.0 if average.multi_avg_fn is None else 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3
        assert average.module.weight.flatten().tolist() == pytest.approx([expected] * 2) and int(average.n_averaged) == 3


def test_adam_says_three_lines_per_weight():
    """And its step, one more, and what comes in: the weight, its gradient, two moments, the step and what was counted."""
    weights = [ft.ones(4, 4, requires_grad=True) for _ in range(10)]
    optimizer = fo.AdamW(weights, 1e-2)
    for _ in range(2):
        for w in weights: w.grad = ft.ones(4, 4)
        flush()
        before = len(LOCAL.run.nodes)
        optimizer.step()
    assert (len(LOCAL.run.nodes) - before) / 10 <= 10
