"""Hooks on what backward keeps: torch.autograd.graph.saved_tensors_hooks.

Nothing is kept while operations are recorded, so the hooks are called for all lines of a context together: when it is left, when its window runs, or
when a backward begins inside. From then on a vertex's rules are given what `unpack` makes of what `pack` gave, and the window lets the values go.
"""
from __future__ import annotations

import threading
from collections.abc import Callable

from ..dnn import movement as mv
from ..graph.derive import PACKED
from ..graph.line import INPUT, LOCAL, Leaf, Node, ambient, record
from .autograd import HOOKED
from .modes import no_grad
from .tensor import Tensor, history, read, version, wrap

PRODUCTS = frozenset(("mul", "matmul"))        # an operand is kept for the gradients of the others alone


class Packed:
    """In place of a kept tensor: what `pack` made of it, and the way back."""

    def __init__(self, t: Tensor, pack: Callable, unpack: Callable):
        self.unpack, before = unpack, version(t)
        with no_grad(): self.object = pack(t)
        if version(t) != before:
            raise RuntimeError("A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can not be modified by in-place operations as "
                               "this can lead to unexpected side-effects. Please open an issue if you need to perform in-place operations on the input to a pack hook.")

    def tensor(self) -> Tensor:
        t = self.unpack(self.object)
        if not isinstance(t, Tensor): raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(t).__name__}")
        return t


class PackedValues:
    """Stands among the hooks of a vertex. `values`: position of an operand, or "o" for the result -> Packed."""
    stage = PACKED

    def __init__(self, values: dict): self.values = values

    def value(self, place, n: Node, create: bool, available: Callable) -> Tensor:
        """A kept value; with its node's history where that may be asked for."""
        t = self.values[place].tensor()
        return wrap(record(mv.straight, (available(n), read(t)))) if create and n.line.grad else t


def user_tensor(n: Node) -> Tensor:
    """The tensor that a leaf's owner has, else one of the same value and history."""
    owner = n.past.owner() if n.past.__class__ is Leaf and n.past.owner is not None else None
    return wrap(n) if owner is None or read(owner) is not n else owner


def kept(run, line, n: Node) -> dict:
    """What PyTorch would keep for the backward of a line: place -> node."""
    op, ins = line.op, [run.nodes[c] if c.__class__ is int else None for c in line.ins]
    grads = [i for i, x in enumerate(ins) if x is not None and (x.line.grad or x.past.__class__ is Leaf)]
    if op.passes and all([i in op.passes for i in grads]): return {}
    out = {i: x for i, x in enumerate(ins[:8]) if x is not None and "abcdefgh"[i] in op.saves and (op.name not in PRODUCTS or any([j != i for j in grads]))}
    return {**out, "o": n} if "o" in op.saves else out


class saved_tensors_hooks:
    """Inside, every tensor kept for backward is given to `pack_hook`, and backward reads what `unpack_hook` makes of its result. The innermost context counts."""

    def __init__(self, pack_hook, unpack_hook): self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self):
        refuse()
        run = LOCAL.run
        self.outer, self.busy = run.saving, False
        if self.outer is not None: self.outer.pack(run)
        ambient(("saved tensors hooks", True))                 # plans of these lines keep other values
        self.mark(run)
        run.saving = self

    def __exit__(self, *error):
        run = LOCAL.run
        try:
            if error[0] is None: self.pack(run)
        finally: run.saving = self.outer
        ambient(("saved tensors hooks", self.outer is not None))
        if self.outer is not None: self.outer.mark(run)

    def mark(self, run): self.window, self.start = run.id, len(run.nodes)

    def pack(self, run):
        """Call the hook for every value that lines since the last time will be asked for."""
        if self.busy: return                   # the hook itself asked for a value
        start = self.start if self.window == run.id else 0
        found = []
        for line in run.cur.program():
            if line.slot < start or line.op is INPUT or not line.grad or not line.op.saves and line.op.name != "function": continue
            n = run.nodes[line.slot]
            if n.line is line and not any([line.slot in f for f in run.freed]): found.append((n, kept(run, line, n)))
        self.mark(run)
        self.busy = True
        try:
            for n, places in found: self.packed(n, places)
        finally: self.busy = False
        self.mark(LOCAL.run)                   # the hook's own lines keep nothing

    def packed(self, n: Node, places: dict):
        past = n.past
        if past is not None and past.__class__ is not Leaf and past.ctx is not None:
            if past.ctx.ctx is not None: past.ctx.ctx.pack(lambda t: Packed(t, self.pack_hook, self.unpack_hook))
            return
        if not places: return
        past = history(n)
        if past.hooks is None: past.hooks = []
        past.hooks.append(PackedValues({k: Packed(user_tensor(x), self.pack_hook, self.unpack_hook) for k, x in places.items()}))
        HOOKED.add(n)


class _Disabled(threading.local):
    message: str | None = None


DISABLED = _Disabled()


def refuse():
    if DISABLED.message is not None: raise RuntimeError(DISABLED.message)


class disable_saved_tensors_hooks:
    """Inside, entering `saved_tensors_hooks` raises RuntimeError with this message."""

    def __init__(self, error_message: str): self.message = error_message

    def __enter__(self):
        if LOCAL.run.saving is not None: raise RuntimeError(self.message)
        self.outer, DISABLED.message = DISABLED.message, self.message

    def __exit__(self, *error): DISABLED.message = self.outer


class save_on_cpu:
    """Kept values are in the CPU's memory already."""

    def __init__(self, pin_memory=False, device_type="cuda"): self.pin_memory, self.device_type = pin_memory, device_type
    def __enter__(self): refuse()
    def __exit__(self, *error): return None
