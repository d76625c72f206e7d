"""Random programs over views, in-place writes, dtypes, hooks, requires_grad, double backward: both libraries must agree on everything visible.

    python -m tests.fuzz.programs FIRST LAST [WINDOW]     runs the programs of these seeds and prints what differs

Compared after every statement: shapes, dtypes and requires_grad, and whether both refuse it; at the end: values, strides, versions, leaf flags,
gradients. A third of the seeds runs five times with other numbers, so that cached lines, plans, remembered calls and backwards are walked.
WINDOW: the most operations that forno may hold back (a random choice of 4000, 25, 8 and 1 by default); results may not depend on it.
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
from forno.framework.engine import flush

from .statements import STATEMENTS, backward, inexact, leaf, same_memory

ERRORS = (RuntimeError, IndexError, TypeError, ValueError, AttributeError)
# differs: forno keeps values immutable, so it computes what PyTorch refuses
ALLOWED = ("modified by an inplace operation", "output of a function that returns multiple views", "detached in-place", "A view was created in no_grad mode")
# real gradients of complex numbers that PyTorch's own rules made; a hook after accumulation that finds no gradient of a real leaf of complex results
ALLOWED_IN_BACKWARD = ("unsupported operation", "Expected isFloatingType", "'NoneType' object has no attribute 'mul_'")
ALLOWED_ON_VIEWS = ("a leaf Variable that requires grad is being used",)      # PyTorch says so of a view whose base gained history after it was made
WINDOWS = (4000, 4000, 8, 25, 1)


class Mismatch(AssertionError):
    """The two libraries disagree."""


class Stop(Exception):
    """The program ends early: PyTorch refused, or both raised inside backward (gradients are then half accumulated on both sides)."""


def array(t, m) -> np.ndarray:
    t = t.detach().resolve_conj()
    return (t.to(m.float32) if t.dtype == m.bfloat16 else t).numpy(force=True)


def name_of(dtype) -> str: return str(dtype).rpartition(".")[2]


class Program:
    """One random program. `r` decides everything but the numbers, so that a seed (or hypothesis) reproduces it; `round` chooses the numbers."""
    statements = STATEMENTS

    def __init__(self, r: random.Random, log=None, window: int | None = None, round: int = 0):
        self.r, self.log, self.round = r, log, round
        self.torch, self.forno = [], []
        self.kept: dict[int, int] = {}         # tensors with retain_grad, and their version then
        self.on_view = False                   # does the present statement write through a view?
        self.foreign: set[int] = set()         # made by autograd or from that: their strides and versions are accidents of PyTorch's formulas
        self.unversioned: set[int] = set()     # storages made by deepcopy
        self.rough: set[int] = set()           # storages whose numbers were rounded in another order: comparing them may go either way
        self.hooked: set[int] = set()          # storages with hooks on views
        self.half = r.random() < 0.25          # are there half types? Then tolerances are theirs
        flush()
        flags.WINDOW = r.choice(WINDOWS) if window is None else window

    # ---- choosing
    def pick(self, ok=lambda t: True):
        found = [i for i, t in enumerate(self.torch) if ok(t)]
        return self.r.choice(found[-6:] if self.r.random() < 0.6 else found) if found else None

    def shape(self): return tuple(self.r.choice([1, 2, 3]) for _ in range(self.r.choice([0, 1, 1, 2, 2, 2, 3])))
    def is_rough(self, *ids): return any(storage(self.torch[i]) in self.rough for i in ids)
    def has_views(self, i): return any(u is not self.torch[i] and same_memory(u, self.torch[i]) for u in self.torch)

    def do(self, text, ids, f, new=True, rough=False):
        """One statement in both libraries, f(library, *operands): the same outcome, or the same refusal."""
        a = b = first = second = None
        try: a = f(torch, *[self.torch[i] for i in ids])
        except ERRORS as e: first = e
        if isinstance(a, torch.Tensor) and a.dtype == torch.complex32: raise Stop      # differs: there is no complex32
        try: b = f(forno, *[self.forno[i] for i in ids])
        except ERRORS as e: second = e
        if self.log is not None: self.log.append(f"{text}{f' -> {len(self.torch)}' if new and first is None else ''}{f'   torch: {first}' if first else ''}{f'   forno: {second}' if second else ''}")
        differentiates = text.startswith(("backward", "grad", "train"))
        allowed = ALLOWED + (ALLOWED_IN_BACKWARD if differentiates else ()) + (ALLOWED_ON_VIEWS if self.on_view else ())
        if first is not None and second is None and any(m in str(first) for m in allowed): raise Stop
        if (first is None) != (second is None): raise Mismatch(f"{text}: torch {first!r}, forno {second!r}")
        if first is not None:
            if differentiates: raise Stop
            return
        rough = rough or self.is_rough(*ids)
        if new:
            if self.foreign.intersection(ids): self.foreign.add(len(self.torch))
            self.torch.append(a)
            self.forno.append(b)
        if rough and ids:
            target = self.torch[-1] if new else self.torch[ids[0]]
            if inexact(target): self.rough.add(storage(target))

    # ---- the whole
    def run(self) -> bool:
        """True: equal to the end. False: ended early."""
        try:
            leaf(self)
            leaf(self)
            for _ in range(self.r.randint(5, 30)):
                self.on_view = False
                self.r.choices(list(self.statements), list(self.statements.values()))[0](self)
                self.glance()
            backward(self)
        except Stop: return False
        self.compare()
        return True

    def glance(self):
        for i, (t, f) in enumerate(zip(self.torch, self.forno)):
            if tuple(t.shape) != tuple(f.shape): raise Mismatch(f"{i}: shape {tuple(t.shape)} and {tuple(f.shape)}")
            if name_of(t.dtype) != name_of(f.dtype): raise Mismatch(f"{i}: dtype {t.dtype} and {f.dtype}")
            if t.requires_grad != f.requires_grad: raise Mismatch(f"{i}: requires_grad {t.requires_grad} and {f.requires_grad}")

    def compare(self):
        self.scale = 1 + max([abs(float(np.max(a))) for t in self.torch if t.numel() for a in [np.abs(np.nan_to_num(array(t, torch), posinf=0, neginf=0))] if np.max(a) < 1e6], default=0)
        for i, (t, f) in enumerate(zip(self.torch, self.forno)):
            if i not in self.foreign:
                if storage(t) not in self.unversioned and t._version != f._version: raise Mismatch(f"{i}: version {t._version} and {f._version}")
                if t.stride() != f.stride(): raise Mismatch(f"{i}: strides {t.stride()} and {f.stride()}, shape {tuple(t.shape)}")
            if t.is_leaf != f.is_leaf: raise Mismatch(f"{i}: is_leaf {t.is_leaf} and {f.is_leaf}")
            self.close(t, f, f"value {i}")
            if t.is_leaf or self.kept.get(i) == t._version:
                if (t.grad is None) != (f.grad is None): raise Mismatch(f"{i}: grad {t.grad} and {f.grad is not None and array(f.grad, forno)}")
                if t.grad is not None: self.close(t.grad, f.grad, f"grad {i}")

    def close(self, t, f, what):
        a, b = array(t, torch), array(f, forno)
        if a.shape != b.shape or name_of(t.dtype) != name_of(f.dtype): raise Mismatch(f"{what}: {t.dtype}{a.shape} and {f.dtype}{b.shape}")
        if a.dtype.kind not in "fc":
            if not np.array_equal(a, b): raise Mismatch(f"{what}: torch {a.tolist()} forno {b.tolist()}")
            return
        relative = 5e-2 if self.half else 2e-3 if a.dtype in (np.float32, np.complex64) else 1e-5
        absolute = relative * self.scale if self.half else relative
        with np.errstate(all="ignore"):
            wild = (np.abs(a) > 1e6) | (np.abs(b) > 1e6) | ~np.isfinite(a) | ~np.isfinite(b)       # chains of exp: differences of rounding grow without bound
            if not np.allclose(np.where(wild, 0, a), np.where(wild, 0, b), rtol=relative, atol=absolute): raise Mismatch(f"{what}:\n torch {a.tolist()}\n forno {b.tolist()}")


def storage(t) -> int: return t.untyped_storage().data_ptr()


def run(seed: int, window=None, log=None) -> bool:
    """The program of a seed, several times for one in three."""
    return all([Program(random.Random(seed), log, window, k).run() for k in range(5 if seed % 3 == 0 else 1)])


def main(first: int, last: int, window=None, run=run) -> int:
    """How many of these seeds' programs differ."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    count, shown = collections.Counter(), 0
    for seed in range(first, last):
        try: count["equal" if run(seed, window) else "ended early"] += 1
        except Exception as e:
            count["different"] += 1
            shown += 1
            if shown > 5: continue
            log: list[str] = []
            try: run(seed, window, log)
            except Exception as again: print(f"seed {seed}: {type(again).__name__} {again}", *log, sep="\n    ")
            else: print(f"seed {seed}: {type(e).__name__} {e} (not again)", *log, sep="\n    ")
    print(dict(count))
    return count["different"]


if __name__ == "__main__": sys.exit(bool(main(*map(int, sys.argv[1:]))))
