"""scaled_dot_product_attention against PyTorch: one kernel or ordinary rows, derivatives of every kind, layers around it, and the memory it takes."""
import subprocess
import sys

import numpy as np
import pytest
import torch as pt

import forno
from forno.core.trace import trace
from forno.dnn import attention as rows
from forno.framework import native

FUNCTIONS = {m: m.nn.functional.scaled_dot_product_attention for m in (pt, forno)}


@pytest.fixture(params=["kernel", "rows"])
def way(request, monkeypatch):
    """Both ways to plan it, whatever the size. A scale of its own keeps the plans apart."""
    monkeypatch.setattr(rows, "fused", lambda *a: request.param == "kernel")
    return {"kernel": 0.31, "rows": 0.32}[request.param]


def values(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in shapes]


def qkv(heads=4, shared=1, queries=40, keys=50, seed=0): return values(seed, (2, heads, queries, 8), (2, heads // shared, keys, 8), (2, heads // shared, keys, 12))


def tensors(m, arrays, dtype="float64", grad=False): return [m.tensor(x.copy()).to(getattr(m, dtype)).requires_grad_(grad) for x in arrays]


def close(got, want, unit=1e-10):
    for a, b in zip(got, want):
        a, b = a.detach().to(forno.float64).numpy(), b.detach().double().numpy()
        np.testing.assert_allclose(a, b, rtol=unit, atol=unit * max(np.abs(b).max(initial=0), 1))


CASES = [dict(), dict(mask="bool"), dict(mask="float"), dict(mask="keys"), dict(is_causal=True), dict(shared=2, enable_gqa=True), dict(shared=4, enable_gqa=True, is_causal=True)]


def both(case, run, seed=0, **sizes):
    """run(module, attention function of q, k, v) in both libraries."""
    case = dict(case)
    mask, shared = case.pop("mask", None), case.pop("shared", 1)
    arrays = qkv(shared=shared, seed=seed, **sizes)
    n, k = arrays[0].shape[-2], arrays[1].shape[-2]
    rng = np.random.default_rng(9)
    m = {None: None, "bool": rng.random((n, k)) > 0.4, "float": rng.standard_normal((2, 1, n, k)), "keys": rng.random((2, 1, 1, k)) > 0.4}[mask]
    if mask == "bool": m[3] = False

    def attend(module): return lambda *t: FUNCTIONS[module](*t, attn_mask=None if m is None else module.tensor(m), **case)
    return [run(module, attend(module), arrays) for module in (forno, pt)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, way):
    def run(m, f, arrays):
        t = tensors(m, arrays, grad=True)
        o = f(*t)
        return [o, *m.autograd.grad((o * o).sum() + o.sum(), t)]
    close(*both(dict(case, scale=way), run))


@pytest.mark.parametrize("dtype, unit", [("float32", 2e-5), ("bfloat16", 4e-2), ("float16", 5e-3)])
def test_types(dtype, unit, way):
    def run(m, f, arrays):
        t = tensors(m, arrays, dtype, True)
        o = f(*t)
        assert o.dtype == getattr(m, dtype)
        return [o, *m.autograd.grad((o.to(m.float32) ** 2).sum(), t)]
    close(*both(dict(is_causal=True, scale=way), run), unit)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_second_derivatives_forward_mode_and_vmap(case, way):
    def run(m, f, arrays):
        t = tensors(m, arrays, grad=True)
        g = m.autograd.grad((f(*t) ** 3).sum(), t, create_graph=True)
        second = m.autograd.grad(sum((x * x).sum() for x in g), t)
        tangents = tensors(m, qkv(shared=dict(case).get("shared", 1), seed=5))
        pushed = m.func.jvp(f, tuple(tensors(m, arrays)), tuple(tangents))
        return [*second, *pushed]
    with pt.nn.attention.sdpa_kernel(pt.nn.attention.SDPBackend.MATH): close(*both(dict(case, scale=way), run), 1e-9)


@pytest.mark.parametrize("case", [dict(), dict(is_causal=True), dict(shared=2, enable_gqa=True)], ids=str)
def test_vmap(case, way):
    def run(m, f, arrays):
        q, k, v = tensors(m, arrays)
        some = m.func.vmap(f, in_dims=(0, None, 0))(q, k[0], v)
        per_example = m.func.vmap(m.func.grad(lambda *t: (f(*t) ** 2).sum(), argnums=(0, 1, 2)))(q, k, v)
        return [some, *per_example]
    with pt.nn.attention.sdpa_kernel(pt.nn.attention.SDPBackend.MATH): close(*both(dict(case, scale=way), run), 1e-9)


def test_vmap_over_masks(way):
    arrays, mask = qkv(), np.random.default_rng(2).random((3, 4, 40, 50)) > 0.4

    def run(m):
        q, k, v = tensors(m, arrays)
        return [m.func.vmap(lambda x: FUNCTIONS[m](q, k, v, attn_mask=x, scale=way))(m.tensor(mask))]
    close(run(forno), run(pt))


def test_gradient_of_the_mask(way):
    arrays, (mask,) = qkv(), values(3, (4, 1, 50))

    def run(m):
        t = tensors(m, [*arrays, mask], grad=True)
        return m.autograd.grad((FUNCTIONS[m](*t[:3], attn_mask=t[3], scale=way) ** 2).sum(), t)
    close(run(forno), run(pt))


def test_broadcast_batches(way):
    q, k, v = values(4, (3, 1, 20, 8), (4, 21, 8), (1, 4, 21, 8))
    close([FUNCTIONS[forno](*tensors(forno, (q, k, v)), scale=way)], [FUNCTIONS[pt](*tensors(pt, (q, k, v)), scale=way)])
    close([FUNCTIONS[forno](*tensors(forno, (q[0, 0], k[0], v[0, 0])), scale=way)], [FUNCTIONS[pt](*tensors(pt, (q[0, 0], k[0], v[0, 0])), scale=way)])
    close([FUNCTIONS[forno](forno.ones(2, 20, 8), forno.ones(2, 9, 8), forno.arange(144.0).reshape(2, 9, 8), attn_mask=forno.zeros(20, 9), scale=way)],
          [FUNCTIONS[pt](pt.ones(2, 20, 8), pt.ones(2, 9, 8), pt.arange(144.0).reshape(2, 9, 8), attn_mask=pt.zeros(20, 9), scale=way)], 1e-6)


def test_backward_after_the_forward_ran(way):
    def run(m, f, arrays):
        t = tensors(m, arrays, grad=True)
        o = f(*t)
        loss = (o * o).sum()
        loss.item()
        loss.backward()
        return [o, *(x.grad for x in t)]
    close(*both(dict(mask="bool", scale=way), run, seed=7))


def kernels(monkeypatch, run):
    """The labels of all steps that `run` plans."""
    seen, make = [], native.Runner.__init__

    def spy(self, graph, plan, *rest):
        seen.extend([s.kernel.label for s in plan.steps])
        make(self, graph, plan, *rest)
    monkeypatch.setattr(native.Runner, "__init__", spy)
    run()
    return seen


def test_heads_taken_out_of_one_matrix_are_not_copied(monkeypatch):
    def run():
        x = forno.randn(2, 300, 3 * 4 * 16)
        x.data_ptr()
        q, k, v = (y.view(2, 300, 4, 16).transpose(1, 2) for y in x.chunk(3, -1))
        FUNCTIONS[forno](q, k, v, is_causal=True).data_ptr()
    labels = kernels(monkeypatch, run)
    assert labels[-1] == "attention forward" and not [x for x in labels if "copy" in x or "move" in x], labels


def test_training_makes_one_kernel_each_way(monkeypatch):
    def run():
        t = [forno.randn(2, 4, 700, 16).requires_grad_(True) for _ in range(3)]
        (FUNCTIONS[forno](*t) ** 2).sum().backward()
        t[0].grad.data_ptr()
    labels = kernels(monkeypatch, run)
    assert [x for x in labels if x.startswith("attention")] == ["attention forward", "attention backward"], labels
    assert not [x for x in labels if "matmul" in x]


def test_no_matrix_of_scores_in_memory():
    script = """
import forno
from forno.cpu import memory
n = 4096
q, k, v = (forno.randn(1, 1, n, 64).requires_grad_(True) for _ in range(3))
for x in (q, k, v): x.data_ptr()
before = memory.stats()["peak"]
(forno.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True) ** 2).sum().backward()
q.grad.data_ptr(); k.grad.data_ptr(); v.grad.data_ptr()
print(memory.stats()["peak"] - before)
"""
    peak = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert peak < 4096 * 4096 * 4 * 3 // 4, f"{peak} bytes; the scores alone are {4096 * 4096 * 4}"


def test_errors():
    q = forno.ones(1, 2, 3, 4)
    with pytest.raises(RuntimeError, match="same dtype"): FUNCTIONS[forno](q, q.double(), q)
    with pytest.raises(RuntimeError, match="should not be set"): FUNCTIONS[forno](q, q, q, attn_mask=forno.ones(3, 3), is_causal=True)
    with pytest.raises(RuntimeError): FUNCTIONS[forno](q, forno.ones(1, 2, 3, 5), q)
    with pytest.raises(RuntimeError, match="attn_mask dtype"): FUNCTIONS[forno](q, q, q, attn_mask=forno.ones(3, 3, dtype=forno.float64))


@pytest.mark.parametrize("masks", [dict(), dict(key_padding_mask=True), dict(attn_mask=True)], ids=str)
def test_multi_head_layer_without_weights(masks, monkeypatch):
    monkeypatch.setattr(rows, "fused", lambda *a: True)
    ours, theirs = forno.nn.MultiheadAttention(32, 4, batch_first=True), pt.nn.MultiheadAttention(32, 4, batch_first=True)
    ours.load_state_dict({k: forno.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    (x,) = values(6, (3, 21, 32))
    padding = np.arange(21) > np.array([[20], [15], [9]])
    out = []
    for m, layer in ((forno, ours), (pt, theirs)):
        t = m.tensor(x.astype(np.float32), requires_grad=True)
        given = {k: m.tensor(padding if k == "key_padding_mask" else np.triu(np.ones((21, 21), bool), 1)) for k in masks}
        o, w = layer(t, t, t, need_weights=False, **given)
        assert w is None
        (o * o).sum().backward()
        out.append([o, t.grad, layer.in_proj_weight.grad])
    close(*out, 1e-4)


def test_transformer_uses_it(monkeypatch):
    model = forno.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def run():
        with forno.no_grad(): model(forno.randn(2, 61, 32)).data_ptr()
    assert "attention forward" in kernels(monkeypatch, run)


@pytest.mark.parametrize("dtype, limit", [("bfloat16", 2e-3), ("float16", 4e-4)])
def test_half_gradients_round_as_theirs(dtype, limit):
    """Where large scores make weights nearly one-hot, what remains of a gradient is how its parts were rounded."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        arrays = [rng.uniform(-9, 9, (4, 4, n, 8)) for n in (3, 6, 6)] + [rng.standard_normal((4, 4, 3, 8))]

        def run(m):
            *t, g = tensors(m, arrays, dtype)
            t = [x.requires_grad_() for x in t]
            return [np.array(x.detach().to(m.float64).numpy()) for x in m.autograd.grad(FUNCTIONS[m](*t), t, g)]
        for a, b in zip(run(forno), run(pt)): assert np.abs(a - b).mean() <= limit * np.sqrt((b * b).mean())


# ---- texts that are written word by word
def decoded(torch, words):
    """Results for one word after the other, keys and values joined to those before, and how many plans each word took."""
    torch.manual_seed(0)
    layers = [{name: torch.linspace(-1, 1, 8 * width).reshape(width, 8).sin() * (1 + k) for name, width in (("qkv", 24), ("out", 8))} for k in range(3)]
    caches, results, plans = [[] for _ in layers], [], []
    with torch.no_grad():
        for t in range(words):
            before = trace.counts["plans_made"]
            x = torch.arange(t, t + 1).cos().reshape(1, 1, 1) + torch.linspace(0, 1, 8)
            for layer, cache in zip(layers, caches):
                q, k, v = [y.view(1, 1, 2, 4).transpose(1, 2) for y in torch.nn.functional.linear(x, layer["qkv"]).split(8, 2)]          # (B, H, 1, E)
                if cache: k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
                cache[:] = k, v
                y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
                x = x + torch.nn.functional.linear(y.transpose(1, 2).reshape(1, 1, 8), layer["out"]).tanh()
            results.append(x.flatten().tolist())
            plans.append(trace.counts["plans_made"] - before)
    return results, plans


def test_a_longer_cache_makes_one_small_plan():
    want, _ = decoded(pt, 9)
    got, plans = decoded(forno, 9)
    for x, y in zip(got, want): assert x == pytest.approx(y, rel=1e-4, abs=1e-5)
    assert plans[-4:] == [1] * 4
