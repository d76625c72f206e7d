"""Random programs over views, in-place writes, dtypes, hooks, requires_grad, double backward: both libraries must agree on everything visible.

    python -m tests.fuzz.programs FIRST LAST      runs the programs of these seeds (10,000 take about eight minutes) and prints what differs

Compared after every statement: shapes and requires_grad; at the end: values, dtypes, strides, versions, leaf flags, gradients. Where
PyTorch raises, forno must raise too. The exclusions are deliberate differences (docs/differences.md) and marked "differs" below.
"""
from __future__ import annotations

import collections
import random
import sys
import warnings

import numpy as np
import torch

import forno
from forno.core.flags import flags
from forno.core.shape import View, overlaps
from forno.framework.engine import flush

DTYPES = ("float64", "float32", "int64", "bool")
ERRORS = (RuntimeError, IndexError, TypeError, ValueError)
# differs: forno keeps values immutable, so it computes what PyTorch refuses
ALLOWED = ("modified by an inplace operation", "output of a function that returns multiple views")
ALLOWED_IN_BACKWARD = ("unsupported operation",)
ALLOWED_ON_VIEWS = ("a leaf Variable that requires grad is being used",)      # PyTorch says so of a view whose base gained history after it was made


class Mismatch(AssertionError):
    """The two libraries disagree."""


class Stop(Exception):
    """The program ends early: PyTorch refused, or both raised inside backward (gradients are then half accumulated on both sides)."""


def array(t): return t.detach().numpy()


def close(a, b, what):
    if a.shape != b.shape or a.dtype != b.dtype: raise Mismatch(f"{what}: {a.dtype}{a.shape} and {b.dtype}{b.shape}")
    if a.dtype.kind != "f":
        if not np.array_equal(a, b): raise Mismatch(f"{what}: torch {a.tolist()} forno {b.tolist()}")
        return
    tol = 2e-3 if a.dtype == np.float32 else 1e-5
    with np.errstate(all="ignore"):
        wild = (np.abs(a) > 1e6) | (np.abs(b) > 1e6) | ~np.isfinite(a) | ~np.isfinite(b)       # chains of exp: differences of rounding grow without bound
        if not np.allclose(np.where(wild, 0, a), np.where(wild, 0, b), rtol=tol, atol=tol): raise Mismatch(f"{what}:\n torch {a.tolist()}\n forno {b.tolist()}")


class Program:
    """One random program. `r` decides everything, so that a seed (or hypothesis) reproduces it."""

    def __init__(self, r: random.Random, log=None):
        self.r, self.log = r, log
        self.torch, self.forno = [], []
        self.kept: dict[int, int] = {}         # tensors with retain_grad, and their version then
        self.on_view = False                   # does the present statement write through a view?
        self.foreign: set[int] = set()         # made by autograd: their strides and versions are accidents of PyTorch's formulas
        flush()
        flags.WINDOW = r.choice([4000, 4000, 8, 25])

    # ---- choosing
    def pick(self, ok=lambda t: True):
        found = [i for i, t in enumerate(self.torch) if ok(t)]
        return self.r.choice(found[-6:] if self.r.random() < 0.6 else found) if found else None

    def shape(self): return tuple(self.r.choice([1, 2, 3]) for _ in range(self.r.choice([0, 1, 1, 2, 2, 2, 3])))

    def both(self, text, on_torch, on_forno, new=True):
        """One statement in both libraries: the same outcome, or the same refusal."""
        a = b = first = second = None
        try: a = on_torch()
        except ERRORS as e: first = e
        try: b = on_forno()
        except ERRORS as e: second = e
        if self.log is not None: self.log.append(f"{text}{f' -> {len(self.torch)}' if new and first is None else ''}{f'   torch: {first}' if first else ''}{f'   forno: {second}' if second else ''}")
        differentiates = text.startswith(("backward", "grad"))
        allowed = ALLOWED + (ALLOWED_IN_BACKWARD if differentiates else ()) + (ALLOWED_ON_VIEWS if self.on_view else ())
        if first is not None and second is None and any(m in str(first) for m in allowed): raise Stop
        if (first is None) != (second is None): raise Mismatch(f"{text}: torch {first!r}, forno {second!r}")
        if first is not None:
            if differentiates: raise Stop
        elif new:
            self.torch.append(a)
            self.forno.append(b)

    # ---- statements
    def leaf(self):
        shape = self.shape() if not self.torch or self.r.random() < 0.5 else tuple(self.r.choice(self.torch).shape)
        name = self.r.choice(["float64"] * 5 + ["float32"] * 2 + ["int64", "bool"])
        rng = np.random.default_rng(self.r.randrange(1 << 30))
        a = (rng.uniform(-2, 2, shape) if "float" in name else rng.integers(0, 3, shape))
        a = np.asarray(a).astype(name)
        grad = "float" in name and self.r.random() < 0.6
        self.both(f"leaf {name} {shape} {grad}", lambda: torch.tensor(a, requires_grad=grad), lambda: forno.tensor(a, requires_grad=grad))

    def unary(self):
        i, name = self.pick(), self.r.choice(["neg", "exp", "tanh", "relu", "sigmoid"])
        if self.torch[i].dtype == torch.bool and name in ("neg", "relu"): name = "tanh"
        self.both(f"{name} {i}", lambda: getattr(self.torch[i], name)(), lambda: getattr(self.forno[i], name)())

    def binary(self):
        i = self.pick()
        j = self.pick(lambda t: t.shape == self.torch[i].shape) if self.r.random() < 0.6 else self.pick()
        name = self.r.choice(["add", "sub", "mul", "div", "add", "mul", "lt", "ge", "eq"])
        if torch.bool in (self.torch[i].dtype, self.torch[j].dtype) and name == "sub": name = "mul"
        if name == "div": self.both(f"div {i} {j}", lambda: self.torch[i] / (self.torch[j] * self.torch[j] + 1), lambda: self.forno[i] / (self.forno[j] * self.forno[j] + 1))
        else: self.both(f"{name} {i} {j}", lambda: getattr(self.torch[i], name)(self.torch[j]), lambda: getattr(self.forno[i], name)(self.forno[j]))

    def number(self):
        i, x = self.pick(), self.r.choice([2, 0.5, 1.01, -1, True])
        name = self.r.choice(["__add__", "__mul__", "__truediv__", "__rsub__", "__gt__", "__radd__"])
        if self.torch[i].dtype == torch.bool and name == "__rsub__": name = "__add__"
        if x is True and name == "__rsub__": x = 2
        self.both(f"{name} {i} {x}", lambda: getattr(self.torch[i], name)(x), lambda: getattr(self.forno[i], name)(x))

    def power(self):
        i = self.pick(lambda t: t.dtype.is_floating_point)
        if i is None: return
        x = self.r.choice([2, 3, 2.0, 1])
        self.both(f"pow {i} {x}", lambda: self.torch[i] ** x, lambda: self.forno[i] ** x)

    def view(self):
        r = self.r
        kind = r.choice(["transpose", "narrow", "select", "diagonal", "unfold", "expand", "reshape", "detach", "index", "permute", "grow", "clone"])
        least = 2 if kind in ("transpose", "diagonal", "permute") else 1 if kind in ("narrow", "select", "unfold", "index") else 0
        i = self.pick(lambda t: t.dim() >= least)
        if i is None: return
        t, f = self.torch[i], self.forno[i]
        shape = tuple(t.shape)
        d = r.randrange(len(shape)) if shape else 0
        args = {"transpose": lambda: (0, -1), "permute": lambda: tuple(r.sample(range(len(shape)), len(shape))), "clone": lambda: (), "detach": lambda: (),
                "narrow": lambda: (d, s := r.randrange(shape[d]), r.randint(1, shape[d] - s + (r.random() < 0.1))), "select": lambda: (d, r.randrange(shape[d])),
                "unfold": lambda: (d, r.randint(1, shape[d]), 1), "expand": lambda: ((2,) * r.choice([0, 1]) + tuple(3 if n == 1 else n for n in shape),),
                "reshape": lambda: (r.choice([(-1,), (1, *shape), (*shape, 1), shape[::-1], (-1, 1)]),), "grow": lambda: ((*shape, 1),), "diagonal": lambda: (),
                "index": lambda: (self.index(shape),)}[kind]()
        if kind == "diagonal" and len(shape) != 2: return
        name = {"grow": "reshape", "index": "__getitem__"}.get(kind, kind)
        self.both(f"{name} {i} {args}", lambda: getattr(t, name)(*args), lambda: getattr(f, name)(*args))

    def index(self, shape):
        out = []
        for n in shape[:self.r.randint(1, len(shape))]:
            at = self.r.randrange(n)
            out.append(self.r.choice([at, -1, slice(at, None), slice(None), slice(0, n, 2), slice(None, at + 1)]))
        return tuple(out) if self.r.random() < 0.9 else (Ellipsis, self.r.choice([0, -1]))

    def write(self):
        r = self.r
        kind = r.choice(["add_", "mul_", "sub_", "copy_", "zero_", "set", "number", "number", "set number", "rows", "no_grad", "no_grad"])
        i = self.pick()
        t, f = self.torch[i], self.forno[i]
        j = self.pick(lambda u: u.shape == t.shape) if r.random() < 0.7 else self.pick()
        u, g = self.torch[j], self.forno[j]
        self.on_view = t._is_view()
        if kind == "sub_" and torch.bool in (t.dtype, u.dtype): kind = "mul_"
        same_memory = t.untyped_storage().data_ptr() == u.untyped_storage().data_ptr()
        # differs: writing through overlapping memory, and sources that overlap the destination, are undefined in PyTorch
        if overlaps(View(t.shape, t.stride(), 0)) and not any(s == 0 and n > 1 for s, n in zip(t.stride(), t.shape)): return
        if same_memory and (i != j and kind in ("add_", "mul_", "sub_", "copy_", "set", "no_grad") or i == j and kind in ("set", "copy_", "no_grad")): return
        if u.requires_grad and not t.dtype.is_floating_point: return
        if kind in ("add_", "mul_", "sub_", "copy_"): self.both(f"{kind} {i} {j}", lambda: getattr(t, kind)(u), lambda: getattr(f, kind)(g), False)
        elif kind == "zero_": self.both(f"zero_ {i}", lambda: t.zero_(), lambda: f.zero_(), False)
        elif kind == "number":
            x, name = r.choice([2, 0.5, -1.5]), r.choice(["add_", "mul_"])
            self.both(f"{name} {i} {x}", lambda: getattr(t, name)(x), lambda: getattr(f, name)(x), False)
        elif kind in ("set", "set number") and t.dim():
            at, x = self.index(tuple(t.shape)), r.choice([0, 1.5, -2])
            if kind == "set": self.both(f"{i}[{at}] = {j}", lambda: t.__setitem__(at, u), lambda: f.__setitem__(at, g), False)
            else: self.both(f"{i}[{at}] = {x}", lambda: t.__setitem__(at, x), lambda: f.__setitem__(at, x), False)
        elif kind == "rows" and t.dim() and 0 not in t.stride():
            rows, x = r.sample(range(t.shape[0]), r.randint(1, t.shape[0])), r.choice([0, 1, -2])
            self.both(f"{i}[{rows}] = {x}", lambda: t.__setitem__(torch.tensor(rows), x), lambda: f.__setitem__(forno.tensor(rows), x), False)
        elif kind == "no_grad":
            name, x = r.choice(["add_", "mul_", "zero_", "copy_"]), r.choice([0.5, 2.0])

            def run(library, me, other):
                with library.no_grad(): return me.zero_() if name == "zero_" else getattr(me, name)(other if name == "copy_" else x)
            self.both(f"no_grad {name} {i} {j if name == 'copy_' else x}", lambda: run(torch, t, u), lambda: run(forno, f, g), False)

    def reduction(self):
        i, name = self.pick(), self.r.choice(["sum", "amax", "mean"])
        t, f = self.torch[i], self.forno[i]
        if name == "mean" and not t.dtype.is_floating_point or name == "amax" and t.dtype == torch.bool: name = "sum"
        d, keep = self.r.choice([None, *range(t.dim())]), self.r.random() < 0.4
        if d is None: self.both(f"{name} {i}", lambda: getattr(t, name)(), lambda: getattr(f, name)())
        else: self.both(f"{name} {i} {d} {keep}", lambda: getattr(t, name)(d, keepdim=keep), lambda: getattr(f, name)(d, keepdim=keep))

    def product(self):
        i = self.pick(lambda t: t.dim() == 2 and t.dtype.is_floating_point)
        if i is None: return
        j = self.pick(lambda t: t.dim() == 2 and t.dtype == self.torch[i].dtype)
        self.both(f"matmul {i} {j}", lambda: self.torch[i] @ self.torch[j], lambda: self.forno[i] @ self.forno[j])

    def other(self):
        r = self.r
        kind = r.choice(["gather", "cat", "cast", "where", "requires", "flush", "flush", "hook", "retain"])
        i = self.pick((lambda t: t.dim() >= 1) if kind in ("gather", "cat") else (lambda t: t.dtype.is_floating_point) if kind in ("requires", "hook", "retain") else lambda t: True)
        if i is None: return
        t, f = self.torch[i], self.forno[i]
        if kind == "gather":
            rows = [r.randrange(t.shape[0]) for _ in range(r.randint(1, 3))]
            self.both(f"{i}[{rows}]", lambda: t[torch.tensor(rows)], lambda: f[forno.tensor(rows)])
        elif kind == "cat":
            j, d = self.pick(lambda u: u.shape == t.shape), r.randrange(t.dim())
            self.both(f"cat {i} {j} {d}", lambda: torch.cat([t, self.torch[j]], d), lambda: forno.cat([f, self.forno[j]], d))
        elif kind == "cast":
            name = r.choice(DTYPES)
            if not (t.dtype.is_floating_point and name == "int64"): self.both(f"to {i} {name}", lambda: t.to(getattr(torch, name)), lambda: f.to(getattr(forno, name)))
        elif kind == "where":
            j, c = self.pick(), self.pick(lambda u: u.dtype == torch.bool)
            if c is not None: self.both(f"where {c} {i} {j}", lambda: torch.where(self.torch[c], t, self.torch[j]), lambda: forno.where(self.forno[c], f, self.forno[j]))
        elif kind == "requires":
            # differs: a view taken before requires_grad_ on its base collects its own .grad in PyTorch
            alone = not any(u is not t and u.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() for u in self.torch)
            if alone: self.both(f"requires_grad_ {i}", lambda: t.requires_grad_(), lambda: f.requires_grad_(), False)
        elif kind == "hook":
            if t.requires_grad and (t.grad_fn is not None or not t._is_view()):
                self.both(f"hook {i}", lambda: t.register_hook(lambda g: g * 2) and None, lambda: f.register_hook(lambda g: g * 2) and None, False)
        elif kind == "retain":
            if t.requires_grad and not t.is_leaf and not t.retains_grad:
                self.both(f"retain_grad {i}", lambda: t.retain_grad(), lambda: f.retain_grad(), False)
                self.kept[i] = t._version
        elif kind == "flush":
            if self.log is not None: self.log.append("flush")
            flush()

    def untracked(self):
        i = self.pick(lambda t: t.dtype.is_floating_point)
        if i is None: return

        def run(library, t):
            with library.no_grad(): return t * 2
        self.both(f"no_grad mul {i}", lambda: run(torch, self.torch[i]), lambda: run(forno, self.forno[i]))

    def backward(self):
        i = self.pick(lambda t: t.dtype.is_floating_point and t.requires_grad)
        if i is None: return
        retain = self.r.random() < 0.4
        self.both(f"backward {i} {retain}", lambda: self.torch[i].sum().backward(retain_graph=retain), lambda: self.forno[i].sum().backward(retain_graph=retain), False)

    def double(self):
        i = self.pick(lambda t: t.dtype.is_floating_point and t.requires_grad)
        j = self.pick(lambda t: t.dtype.is_floating_point and t.requires_grad and t.is_leaf)
        if i is None or j is None or self.torch[j].grad is not None: return

        def run(library, y, x):
            g, = library.autograd.grad(y.tanh().sum(), [x], create_graph=True, allow_unused=True)
            return library.zeros(tuple(x.shape), dtype=x.dtype) if g is None else g
        self.foreign.add(len(self.torch))
        self.both(f"grad {i} {j}", lambda: run(torch, self.torch[i], self.torch[j]).contiguous(), lambda: run(forno, self.forno[i], self.forno[j]).contiguous())

    STATEMENTS = {leaf: 8, unary: 8, binary: 14, number: 7, power: 3, view: 22, write: 20, reduction: 6, product: 3, other: 12, untracked: 2, backward: 6, double: 1.5}

    # ---- the whole
    def run(self) -> bool:
        """True: equal to the end. False: ended early."""
        try:
            self.leaf()
            self.leaf()
            for _ in range(self.r.randint(5, 30)):
                self.on_view = False
                self.r.choices(list(self.STATEMENTS), list(self.STATEMENTS.values()))[0](self)
                self.glance()
            self.backward()
        except Stop: return False
        self.compare()
        return True

    def glance(self):
        for i, (t, f) in enumerate(zip(self.torch, self.forno)):
            if tuple(t.shape) != tuple(f.shape): raise Mismatch(f"{i}: shape {tuple(t.shape)} and {tuple(f.shape)}")
            if t.requires_grad != f.requires_grad: raise Mismatch(f"{i}: requires_grad {t.requires_grad} and {f.requires_grad}")

    def compare(self):
        for i, (t, f) in enumerate(zip(self.torch, self.forno)):
            if not self.foreign and t._version != f._version: raise Mismatch(f"{i}: version {t._version} and {f._version}")
            if t.is_leaf != f.is_leaf: raise Mismatch(f"{i}: is_leaf {t.is_leaf} and {f.is_leaf}")
            close(array(t), array(f), f"value {i}")
            if not self.foreign and t.stride() != f.stride(): raise Mismatch(f"{i}: strides {t.stride()} and {f.stride()}, shape {tuple(t.shape)}")
            if t.is_leaf or self.kept.get(i) == t._version:
                if (t.grad is None) != (f.grad is None): raise Mismatch(f"{i}: grad {t.grad} and {f.grad is not None and array(f.grad)}")
                if t.grad is not None: close(array(t.grad), array(f.grad), f"grad {i}")


def main(first: int, last: int):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    count, shown = collections.Counter(), 0
    for seed in range(first, last):
        try: count["equal" if Program(random.Random(seed)).run() else "ended early"] += 1
        except Exception as e:
            count["different"] += 1
            shown += 1
            if shown > 5: continue
            log: list[str] = []
            try: Program(random.Random(seed), log).run()
            except Exception as again: print(f"seed {seed}: {type(again).__name__} {again}", *log, sep="\n    ")
            else: print(f"seed {seed}: {type(e).__name__} {e} (not again)", *log, sep="\n    ")
    print(dict(count))
    return count["different"]


if __name__ == "__main__": sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
