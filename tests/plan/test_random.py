"""Random graphs: what the plan computes is what the rows mean."""

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.graph import Scalar
from forno.core.op import TABLE
from forno.core.shape import View, contiguous, overlaps, reach
from forno.plan.values import Expr, Number, apply

from .interpret import check, graph, source

FLOATS = (dt.float32, dt.float32, dt.float32, dt.float64, dt.bfloat16, dt.float16)
UNARY = ("exp", "tanh", "neg", "abs", "relu", "square", "sigmoid")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


class Maker:
    """Grows one random graph. Values are kept small so that rounding doesn't decide comparisons."""

    def __init__(self, seed, exact=False):
        self.r = np.random.default_rng(seed)
        self.inputs, self.arrays, self.values = [], [], []
        self.exact = exact
        for _ in range(self.r.integers(1, 5)): self.input()

    def pick(self, seq): return seq[self.r.integers(len(seq))]
    def some(self): return self.pick(self.values[-8:] if self.r.random() < 0.7 else self.values)

    def shape(self):
        if self.values and self.r.random() < 0.6: return self.some().shape
        return tuple(int(self.pick((1, 2, 3, 4, 5, 6))) for _ in range(self.r.integers(0, 5)))

    def input(self):
        shape = self.shape()
        if self.r.random() < 0.03 and shape: shape = (0, *shape[1:])
        dtype = self.pick((dt.float32, dt.int64, dt.int32)) if self.exact else self.pick(FLOATS)
        view = None
        if len(shape) > 1 and self.r.random() < 0.3:
            order = self.r.permutation(len(shape))
            dense = contiguous([shape[d] for d in order])
            strides = [0] * len(shape)
            for d, s in zip(order, dense): strides[d] = s
            view = View(shape, tuple(strides), int(self.r.integers(0, 3)))
        array = self.r.integers(-4, 5, shape)
        array = array.astype(dtype.code) if self.exact else (array / 4).astype(np.float32 if dtype is dt.bfloat16 else dtype.code)
        self.values.append(source(len(self.inputs), shape, dtype, view))
        self.inputs.append(self.values[-1])
        self.arrays.append(array)

    def grow(self):
        x = self.some()
        f = self.pick([self.unary, self.binary, self.binary, self.number, self.where, self.reduce, self.reduce, self.back, self.view, self.view,
                       self.view, self.put, self.addput, self.slices, self.cat, self.matmul, self.cast, self.generate, self.input, self.history,
                       *[self.bits] * 3 * self.exact])
        out = f(x) if f != self.input else f()
        if out is not None and out.numel() <= 4000: self.values.append(out)

    def unary(self, x):
        if x.dtype is dt.bool: return None
        return getattr(x, self.pick(("neg", "abs", "relu", "square") if self.exact else UNARY))()

    def meet(self, x):
        """Something that broadcasts with x."""
        for _ in range(6):
            y = self.some()
            try: np.broadcast_shapes(x.shape, y.shape)
            except ValueError: continue
            return y
        return x

    def binary(self, x):
        y = self.meet(x)
        name = self.pick(BINARY)
        if dt.bool in (x.dtype, y.dtype): name = self.pick(("logical_and", "logical_or", "add"))
        out = apply(TABLE[name], x, y)
        return out * 0.5 if name == "mul" and not self.exact else out

    def number(self, x):
        n = Number(Scalar(int(self.r.integers(2)), float)) if self.r.random() < 0.5 and not self.exact else int(self.r.integers(-2, 3))
        return apply(TABLE[self.pick(("add", "mul", "maximum"))], *((x, n) if self.r.random() < 0.6 else (n, x)))

    def where(self, x):
        y = self.meet(x)
        return apply(TABLE["where"], x > 0, x, y) if x.dtype is not dt.bool else None

    def axes(self, x): return tuple(sorted(int(d) for d in self.r.permutation(x.ndim)[:self.r.integers(0, x.ndim + 1)])) if x.ndim else ()

    def reduce(self, x):
        if x.dtype is dt.bool: return apply(TABLE[self.pick(("any", "all", "sum"))], x, attr=self.axes(x))
        name = self.pick(("sum", "sum", "amax", "amin", "any", "argmax"))
        axes = self.axes(x)
        if name in ("amax", "amin", "argmax") and (any(x.shape[a] == 0 for a in axes) or not axes or 0 in x.shape): return None
        out = apply(TABLE[name], x, attr=axes)
        out = out * 0.25 if name == "sum" and not self.exact and out.dtype.category == dt.FLOAT else out
        if self.r.random() < 0.3: out = out.reshape(*(n for d, n in enumerate(x.shape) if d not in axes))
        return out

    def back(self, x):
        """A reduction, used again next to what it reduced."""
        axes = self.axes(x)
        if not axes or 0 in x.shape or x.dtype is dt.bool: return None
        d = x - x.amax(axes, True)
        return d * d.sum(axes, True) * (1 if self.exact else 0.125)

    def view(self, x):
        kind = self.r.integers(6)
        if kind == 0 and x.ndim > 1: return x.permute(*(int(d) for d in self.r.permutation(x.ndim)))
        if kind == 1 and x.ndim and 0 not in x.shape:
            d = int(self.r.integers(x.ndim))
            start = int(self.r.integers(x.shape[d]))
            return x[(*(slice(None),) * d, slice(start, None, int(self.r.integers(1, 3))))]
        if kind == 2: return x.expand(int(self.r.integers(1, 4)), *x.shape)
        if kind == 3 and x.numel():
            n, shape = x.numel(), []
            for p in (2, 3, 2, 5):
                if n % p == 0 and self.r.random() < 0.6: shape.append(p); n //= p
            return x.reshape(*self.r.permutation([*shape, n]).tolist())
        if kind == 4 and x.ndim and x.shape[-1] >= 3:                                    # overlapping windows
            return x.viewed((*x.shape[:-1], x.shape[-1] - 1, 2), (*contiguous(x.shape), 1))
        if kind == 5 and x.ndim > 1 and x.shape[-1] == x.shape[-2]: return x.viewed(x.shape[:-1], (*contiguous(x.shape)[:-2], x.shape[-1] + 1))
        return None

    def window(self, x):
        """A view of x to write through, without overlap."""
        shape, strides, offset = [], [], 0
        for n, s in zip(x.shape, contiguous(x.shape)):
            step = int(self.r.integers(1, 3))
            start = int(self.r.integers(0, n)) if n else 0
            shape.append(len(range(start, n, step))); strides.append(s * step); offset += start * s
        order = self.r.permutation(len(shape))
        return View(tuple(shape[d] for d in order), tuple(strides[d] for d in order), offset)

    def put(self, x):
        w = self.window(x)
        if self.r.random() < 0.5:
            v = x.viewed(*w)
            v = v + v if x.dtype is not dt.bool else v
        else:
            y = self.some()
            if y.numel() < np.prod(w.shape) or y.dtype is not x.dtype: return None
            v = y.reshape(-1)[:int(np.prod(w.shape))].reshape(*w.shape) if w.shape else y.reshape(-1)[0]
        return apply(TABLE["put"], x, v, attr=w)

    def addput(self, x):
        if x.dtype is dt.bool or x.ndim < 1 or x.shape[-1] < 3 or 0 in x.shape: return None
        w = View((*x.shape[:-1], x.shape[-1] - 1, 2), (*contiguous(x.shape), 1), 0)
        if self.r.random() < 0.5: w = self.window(x)
        y = x.filled(w.shape, 1, x.dtype) if self.r.random() < 0.3 else x.viewed(*w)
        assert overlaps(w) or reach(w)[1] < max(x.numel(), 1)
        return apply(TABLE["addput"], x, y, attr=w) if x.dtype not in (dt.bfloat16, dt.float16) else None

    def slices(self, x):
        """Values in zeros, added: what split sends back."""
        if x.dtype is dt.bool or not x.ndim or 0 in x.shape: return None
        out = None
        for _ in range(self.r.integers(2, 4)):
            w = self.window(x)
            part = apply(TABLE["put"], x.filled(x.shape, 0, x.dtype), x.viewed(*w) * 2, attr=w)
            out = part if out is None else out + part
        return out

    def cat(self, x):
        if not x.ndim: return None
        d, xs = int(self.r.integers(x.ndim)), [x]
        for _ in range(self.r.integers(0, 4)):
            y = self.some()
            if y.ndim == x.ndim and y.dtype is x.dtype and all(a == b or i == d for i, (a, b) in enumerate(zip(x.shape, y.shape))): xs.append(y)
            else: xs.append(x.narrow(d, 0, x.shape[d] // 2))
        self.r.shuffle(xs)
        return apply(TABLE["cat"], *xs, attr=d)

    def matmul(self, x):
        if x.ndim < 2 or x.dtype is dt.bool or 0 in x.shape: return None
        y = self.some()
        if y.ndim < 2 or y.dtype is not x.dtype or y.shape[-2] != x.shape[-1]: y = x.transpose(-1, -2)
        try: np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        except ValueError: return None
        out = x @ y
        return out * 0.125 if not self.exact else out

    def cast(self, x): return x.to(self.pick((dt.float32, dt.int64, dt.bool) if self.exact else FLOATS))

    def bits(self, x):
        """The bytes as another type, perhaps changed there, and back: values stay small. (The halves of small integers are small ones.)"""
        if x.dtype is dt.bool: return None
        to = self.pick((dt.int32, dt.int64, dt.float32, dt.float64))
        y = apply(TABLE["bitcast"], x, attr=(x.dtype, to))
        if x.dtype is dt.int64 and to is dt.int32 and self.r.random() < 0.5: return y
        if to.category == dt.INT and self.r.random() < 0.6:
            w = self.window(y) if self.r.random() < 0.7 else View(y.shape, (1,), 0)
            y = apply(TABLE["put"], y, apply(TABLE["bitwise_xor"], y.viewed(*w), 0), attr=w)
            if to is dt.int32 and x.dtype is dt.int64 and self.r.random() < 0.5: self.values.append(y)
        back = apply(TABLE["bitcast"], y, attr=(to, x.dtype))
        return back.reshape(*x.shape) if back.numel() == x.numel() else back

    def history(self, x): return apply(TABLE[self.pick(("copy", "detach", "gradleaf"))], x)

    def generate(self, x):
        if self.r.random() < 0.4: return x.filled(x.shape, int(self.r.integers(-2, 3)))
        n = x.shape[-1] if x.ndim else 3
        i = Expr(apply(TABLE["iota"], attr=(n, dt.int64, int(self.r.integers(3)), int(self.r.integers(1, 3)))).value)
        return i if self.r.random() < 0.5 else (i.reshape(n, 1) >= i).to(x.dtype)


def program(seed, exact=False):
    m = Maker(seed, exact)
    for _ in range(m.r.integers(3, 30)): m.grow()
    outputs = [m.some() for _ in range(m.r.integers(1, 6))]
    donated = {i for i in range(len(m.inputs)) if m.r.random() < 0.4}
    prefer = {i: int(d) for i, d in zip(range(len(outputs)), m.r.permutation(sorted(donated)))} if m.r.random() < 0.5 else {}
    return graph(m.inputs, outputs, donated, prefer), m.arrays


@pytest.mark.parametrize("block", range(10))
def test_exact(block):
    """Integers and exact floats: every bit must agree, whatever was fused."""
    for seed in range(block * 30, block * 30 + 30):
        g, arrays = program(seed, exact=True)
        try: check(g, arrays, (0.5, -0.25), tolerance=0, accepts=(lambda nest: True) if seed % 2 else None)
        except Exception as e: raise AssertionError(f"program {seed}") from e


@pytest.mark.parametrize("block", range(10))
def test_floats(block):
    """All float types; halves round after every row here and there, so only their last digits may differ."""
    for seed in range(block * 30, block * 30 + 30):
        g, arrays = program(seed + 10_000)
        try: check(g, arrays, (0.5, -0.25), tolerance=2e-2, accepts=(lambda nest: True) if seed % 2 else None)
        except Exception as e: raise AssertionError(f"program {seed + 10_000}") from e
