"""Four training steps in JAX, jitted whole, as its users write them: plain jax.numpy, weights from the PyTorch program of the same name.

    python bench/peers_jax.py NAME                 serves blocks as bench/worker.py does; needs jax and torch (for the weights, which are copied once)

Same weights, same data, same sizes, same optimizers: the losses agree with PyTorch's to float32 noise. Images and filters lie channels last, which XLA
prefers on CPUs. Whatever a step replaces is donated to it.
"""
from __future__ import annotations

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from worker import serve
from workloads import WORKLOADS


def taken(name: str):
    """The PyTorch program's weights and what else its step holds."""
    kept = inspect.getclosurevars(WORKLOADS[name](torch)).nonlocals
    def arrays(tensors): return {k: jnp.asarray(v.numpy().copy()) for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    return arrays(kept["model"].state_dict()), arrays(kept)


def linear(p, name, x): return x @ p[name + ".weight"].T + p[name + ".bias"]


def cross_entropy(logits, y): return (jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, y[..., None], -1)[..., 0]).mean()


def adam(p, g, state, rate, decay=0.0):
    """Adam, or AdamW with a decay; state is (step, first moments, second moments)."""
    t, m, v = state
    t = t + 1
    m, v = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g), jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
    c1, c2 = 1 - 0.9 ** t, 1 - 0.999 ** t
    p = jax.tree.map(lambda w, a, b: w * (1 - rate * decay) - rate / c1 * a / (jnp.sqrt(b / c2) + 1e-8), p, m, v)
    return p, (t, m, v)


def zeros(p): return jax.tree.map(jnp.zeros_like, p)


def mlp():
    p, data = taken("mlp")

    def loss(p, x, y):
        x = jax.nn.relu(linear(p, "2", jax.nn.relu(linear(p, "0", x))))
        return cross_entropy(linear(p, "4", x), y)

    def step(state, x, y):
        p, opt = state
        value, g = jax.value_and_grad(loss)(p, x, y)
        return adam(p, g, opt, 1e-3), value
    return step, (p, (jnp.zeros(()), zeros(p), zeros(p))), (data["x"], data["y"])


# ---------------------------------------------------------------- ResNet-18
def conv(p, name, x, stride, padding):
    return lax.conv_general_dilated(x, p[name + ".weight"], (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def batch_norm(p, running, new, name, x):
    mean = x.mean((0, 1, 2))
    var = (x * x).mean((0, 1, 2)) - mean * mean
    n = x.size // x.shape[-1]
    for key, value in (("mean", mean), ("var", var * (n / (n - 1)))): new[f"{name}.running_{key}"] = 0.9 * running[f"{name}.running_{key}"] + 0.1 * value
    return (x - mean) * lax.rsqrt(var + 1e-5) * p[name + ".weight"] + p[name + ".bias"]


def resnet18():
    p, data = taken("resnet18")
    p = {k: v.transpose(2, 3, 1, 0) if v.ndim == 4 else v for k, v in p.items()}            # (out, in, H, W) to (H, W, in, out)
    running = {k: p.pop(k) for k in list(p) if "running" in k}
    for k in [k for k in p if "tracked" in k]: del p[k]

    def loss(p, running, x, y):
        new: dict = {}
        def norm(name, x): return batch_norm(p, running, new, name, x)
        x = jax.nn.relu(norm("bn1", conv(p, "conv1", x, 2, 3)))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        for k in range(8):
            s, stride = f"stages.{k}.", 2 if k in (2, 4, 6) else 1
            h = norm(s + "bn2", conv(p, s + "conv2", jax.nn.relu(norm(s + "bn1", conv(p, s + "conv1", x, stride, 1))), 1, 1))
            if s + "short.0.weight" in p: x = norm(s + "short.1", conv(p, s + "short.0", x, stride, 0))
            x = jax.nn.relu(h + x)
        return cross_entropy(linear(p, "fc", x.mean((1, 2))), y), new

    def step(state, x, y):
        p, running, momentum = state
        (value, running), g = jax.value_and_grad(loss, has_aux=True)(p, running, x, y)
        momentum = jax.tree.map(lambda m, d: 0.9 * m + d, momentum, g)
        return (jax.tree.map(lambda w, m: w - 0.01 * m, p, momentum), running, momentum), value
    return step, (p, running, zeros(p)), (data["x"].transpose(0, 2, 3, 1), data["y"])


# ---------------------------------------------------------------- GPT
def gpt():
    p, data = taken("gpt")

    def layer_norm(p, name, x):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[name + ".weight"] + p[name + ".bias"]

    def loss(p, ids):
        x = p["words.weight"][ids[:, :-1]] + p["places.weight"]                             # (B, T, C)
        B, T, C = x.shape
        for k in range(4):
            s = f"blocks.{k}."
            q, key, v = jnp.split(linear(p, s + "qkv", layer_norm(p, s + "ln1", x)), 3, -1)
            heads = [t.reshape(B, T, 4, C // 4) for t in (q, key, v)]                       # (B, T, heads, size)
            x = x + linear(p, s + "proj", jax.nn.dot_product_attention(*heads, is_causal=True).reshape(B, T, C))
            x = x + linear(p, s + "down", jax.nn.gelu(linear(p, s + "up", layer_norm(p, s + "ln2", x)), approximate=True))
        return cross_entropy(layer_norm(p, "ln", x) @ p["words.weight"].T, ids[:, 1:])

    def step(state, ids):
        p, opt = state
        value, g = jax.value_and_grad(loss)(p, ids)
        return adam(p, g, opt, 1e-3, 0.01), value
    return step, (p, (jnp.zeros(()), zeros(p), zeros(p))), (data["ids"],)


# ---------------------------------------------------------------- LSTM
def lstm_lm():
    p, data = taken("lstm_lm")

    def layer(p, k, x, h, c):
        wh = p[f"lstm.weight_hh_l{k}"].T
        given = x @ p[f"lstm.weight_ih_l{k}"].T + (p[f"lstm.bias_ih_l{k}"] + p[f"lstm.bias_hh_l{k}"])   # (T, B, 4H)

        def cell(state, g):
            h, c = state
            i, f, u, o = jnp.split(g + h @ wh, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h
        (h, c), y = lax.scan(cell, (h, c), given)
        return y, h, c

    def loss(p, ids, h, c):
        y, h0, c0 = layer(p, 0, p["words.weight"][ids[:-1]], h[0], c[0])
        y, h1, c1 = layer(p, 1, y, h[1], c[1])
        return cross_entropy(linear(p, "out", y), ids[1:]), (jnp.stack([h0, h1]), jnp.stack([c0, c1]))

    def step(state, ids):
        p, h, c = state
        (value, (h, c)), g = jax.value_and_grad(loss, has_aux=True)(p, ids, h, c)
        norm = jnp.sqrt(sum((d * d).sum() for d in g.values()))
        scale = jnp.minimum(0.25 / (norm + 1e-6), 1.0)
        return (jax.tree.map(lambda w, d: w - scale * d, p, g), h, c), value
    return step, (p, jnp.zeros((2, 20, 256)), jnp.zeros((2, 20, 256))), (data["ids"],)


PEERS = {f.__name__: f for f in (mlp, resnet18, gpt, lstm_lm)}


def main(name: str):
    step, state, data = PEERS[name]()
    jitted, held = jax.jit(step, donate_argnums=0), [jax.tree.map(np.array, state)]

    def once():
        held[0], value = jitted(held[0], *data)
        return float(value)
    serve(lambda: once)


if __name__ == "__main__": main(sys.argv[1])
