"""Tensors as text, character for character as PyTorch prints them.

Comes in: a tensor. Goes out: its repr. Values are read once, after the summary is cut out, and laid out by the rules of torch/_tensor_str.py
(https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_tensor_str.py): a common width for all elements, an integral, fixed or scientific form
chosen from the smallest and largest magnitude, at most `linewidth` characters a line.
"""
from __future__ import annotations

import contextlib
import dataclasses
import math

import numpy as np

from ..core import dtype as dt
from ..core.state import state
from . import data, gradfn, sparse
from .tensor import Tensor, read


@dataclasses.dataclass
class Options:
    precision: int = 4
    threshold: float = 1000                    # elements from which on a tensor is summarised
    edgeitems: int = 3                         # elements shown at both ends of a summarised axis
    linewidth: int = 80
    sci_mode: bool | None = None               # None: chosen from the values


options = Options()
PROFILES = dict(default=(4, 1000, 3, 80), short=(2, 1000, 2, 80), full=(4, math.inf, 3, 80))


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """Options of printing; `profile` ('default', 'short', 'full') sets all but sci_mode first."""
    if profile in PROFILES: options.precision, options.threshold, options.edgeitems, options.linewidth = PROFILES[profile]
    for name, value in dict(precision=precision, threshold=threshold, edgeitems=edgeitems, linewidth=linewidth).items():
        if value is not None: setattr(options, name, value)
    options.sci_mode = sci_mode


def get_printoptions() -> dict: return dataclasses.asdict(options)


@contextlib.contextmanager
def printoptions(**kw):
    """set_printoptions for the length of a block."""
    old = get_printoptions()
    set_printoptions(**kw)
    try: yield
    finally: set_printoptions(**old)


# ---------------------------------------------------------------- one element
class Form:
    """How the elements of one tensor are written: chosen from all that will be shown."""

    def __init__(self, shown: np.ndarray):
        self.floating = shown.dtype.kind == "f"
        self.integral, self.scientific, self.width = True, False, 1
        if not self.floating:
            if shown.size: self.width = max(len(str(shown.min())), len(str(shown.max())))
            return
        counted = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
        if not counted.size: return
        low, high = np.abs(counted).min(), np.abs(counted).max()
        self.integral = bool((counted == np.ceil(counted)).all())
        with np.errstate(over="ignore"):
            self.scientific = bool(high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4) if options.sci_mode is None else options.sci_mode
        spec, extra = (f".{options.precision}e", 0) if self.scientific else (".0f", 1) if self.integral else (f".{options.precision}f", 0)
        self.width = max(self.width, *(len(format(v, spec)) + extra for v in counted.tolist()))

    def __call__(self, value) -> str:
        if not self.floating: text = str(value)
        elif self.scientific: text = format(value, f"{self.width}.{options.precision}e")
        elif self.integral: text = format(value, ".0f") + ("." if math.isfinite(value) else "")
        else: text = format(value, f".{options.precision}f")
        return text.rjust(self.width)


class ComplexForm:
    """A real and an imaginary part, each in its own form."""

    def __init__(self, shown: np.ndarray):
        self.real, self.imag = Form(shown.real), Form(shown.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, value) -> str:
        imag = (self.imag(value.imag) + "j").lstrip()
        return self.real(value.real) + ("" if imag[0] in "+-" else "+") + imag


# ---------------------------------------------------------------- all elements
def edges(a: np.ndarray) -> np.ndarray:
    """The part of an array that a summary shows."""
    k = options.edgeitems
    for d, n in enumerate(a.shape):
        if n > 2 * k: a = np.concatenate((a.take(range(k), d), a.take(range(n - k, n), d)), d)
    return a


def body(a: np.ndarray, indent: int, elided: tuple, form) -> str:
    """Nested brackets. `a` holds only what is shown; `elided[d]`: axis d is cut in its middle."""
    if not a.ndim: return form(a.item())
    if a.ndim == 1:
        texts = [form(v) for v in a.tolist()]
        if elided[0]: texts.insert(len(texts) // 2, " ..." if texts else "...")
        per_line = max(1, (options.linewidth - indent) // (form.width + 2))
        return "[" + (",\n" + " " * (indent + 1)).join(", ".join(texts[i:i + per_line]) for i in range(0, len(texts), per_line)) + "]"
    parts = [body(x, indent + 1, elided[1:], form) for x in a]
    if elided[0]: parts.insert(len(parts) // 2, "...")
    return "[" + ("," + "\n" * (a.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def contents(t: Tensor, indent: int) -> str:
    n = data.realize(t)
    if n.line.dtype is dt.complex32: return contents(t.to(dt.complex64), indent)
    a = data.array_of(n)                       # a look at the values: only what is shown is copied
    summarised = a.size > options.threshold
    elided = tuple(summarised and (k > 2 * options.edgeitems or not options.edgeitems) for k in a.shape)
    if summarised: a = edges(a)
    if n.line.dtype is dt.bfloat16: a = data.bfloat_values(np.ascontiguousarray(a).reshape(a.shape))
    return body(a, indent, elided, (ComplexForm if a.dtype.kind == "c" else Form)(a))


def parts(t, indent: int) -> str:
    """A sparse tensor's index tensors and values."""
    named = {name: getattr(t, name)() for name in sparse.PARTS.get(t.layout, ())} or {"indices": t._indices()}
    lines = []
    for name, x in (*named.items(), ("values", t._values())):
        head = f"{name}=tensor("
        empty = f", size={tuple(x.shape)}" if x.numel() == 0 else ""
        lines.append(head + ("[]" if empty else contents(x, indent + len(head))) + empty + ")")
    return (",\n" + " " * indent).join(lines)


def sparse_suffixes(t) -> list[str]:
    default = state.default_dtype
    understood = default, dt.complex128 if default is dt.float64 else dt.complex64, dt.int64, dt.bool
    out = [f"size={tuple(t.shape)}", f"nnz={t._nnz()}", *([] if t.dtype in understood else [f"dtype={t.dtype!r}"]), f"layout={t.layout!r}"]
    if t.requires_grad: out.append("requires_grad=True" if t.is_leaf else f"grad_fn=<{type(t.grad_fn).__name__}>")
    return out


def suffixes(t: Tensor) -> list[str]:
    dtype, shape, default = t.dtype, tuple(t.shape), state.default_dtype
    understood = default, dt.complex128 if default is dt.float64 else dt.complex64, dt.int64, dt.bool
    empty = 0 in shape
    out = [f"device='{t.device}'"] if t.device.type != "cpu" else []
    if t.is_meta or empty and len(shape) != 1 or not empty and not options.edgeitems: out.append(f"size={shape}")
    if dtype not in (understood[:1] if empty or t.is_meta else understood): out.append(f"dtype={dtype!r}")
    n = read(t)
    if n.line.grad:
        f = gradfn.vertex(n)
        out.append("requires_grad=True" if isinstance(f, gradfn.AccumulateGrad) else f"grad_fn=<{type(f).__name__}>")
    return out


def text(t: Tensor) -> str:
    """Tensor.__repr__."""
    cls = type(t)
    plain = cls is Tensor or cls.__dict__.get("prints_as_tensor", False)
    prefix = "tensor(" if plain else cls.__name__ + "("
    indent = len(prefix)
    apart = isinstance(t, sparse.SparseTensor)
    out = prefix + (parts(t, indent) if apart else "..." if t.is_meta else "[]" if t.numel() == 0 else contents(t, indent))
    last = len(out) - out.rfind("\n") + 1      # PyTorch counts the line like this, newline included
    first = apart and t.is_sparse              # coordinates: the size begins a line
    for suffix in sparse_suffixes(t) if apart else suffixes(t):
        if first or last + len(suffix) + 2 > options.linewidth:
            first = False
            out += ",\n" + " " * indent + suffix
            last = indent + len(suffix)
        else:
            out += ", " + suffix
            last += len(suffix) + 2
    out += ")"
    return out if plain or not getattr(cls, "prints_as_tensor", False) else f"Parameter({out})"


def formatted(t: Tensor, spec: str) -> str:
    """Tensor.__format__: a 0-d tensor as its number, anything else as an object."""
    if type(t) is Tensor and not t.shape: return format(data.item(t), spec)
    return object.__format__(t, spec)


def hang(cls): cls.__repr__, cls.__format__ = text, formatted
