"""Rows that users write: a Python function of elements, or of rows of elements, traced once, becomes a row of the op table.

Comes in: a function and what it is given (dtypes, ranks, types of numbers). Goes out: a `Program`, and the row that says it: an Elementwise row, whose `emit`
is the program on the builder, or (`rowwise`) a Composite, whose expansion is the program on values. Both have gradients by the rules of the rows inside.

Tracing calls the function with `Term`s, which know their dtype and nothing else; what it does with them are the program's steps. Types follow PyTorch's rules
step by step. Half types compute in float32 and are rounded once, at the end: so a function of halves is traced twice, for the type of its result as they are
promoted, and for its steps as they are computed.
"""
from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.op import TABLE, Composite, Elementwise, Op
from ..core.shape import broadcast
from . import activation, elementwise, functions, movement as mv, reduce, special
from .oracle import code, convert

CAST = mv.cast
OPERAND, CONSTANT, LENGTH = "operand", "constant", "length"      # where values come from that no row makes
EXACT = (dt.bool, dt.int64, dt.float64, dt.complex128)           # what a Python number is, by category
MOST = 8                                                         # operands of an elementwise row: backward keeps so many
METHODS = {name: op for part in (elementwise, functions, activation, special) for op in vars(part).values() if isinstance(op, Elementwise)
           for name in (*op.names, op.name) if "." not in name}
DEFAULTS = dict(celu=(1.0,), elu=(1.0,), hardshrink=(0.5,), hardtanh=(-1.0, 1.0), leaky_relu=(0.01,), softplus=(1.0, 20.0), softshrink=(0.5,))      # operands that may be left out


class Step(NamedTuple):
    """One value. `types`: what its arguments are converted to first. `attr`: a constant's value, or the type of a number that is an operand."""
    op: Op | str
    args: tuple[int, ...]
    types: tuple[dt.dtype, ...]
    dtype: dt.dtype
    attr: object = None


class Program(NamedTuple):
    """The first `count` steps are the operands. `takes`: the types that these are read as; `outer`: the result is one value per row."""
    name: str
    steps: tuple[Step, ...]
    out: int
    count: int
    takes: tuple[dt.dtype, ...]
    result: dt.dtype
    rowwise: bool
    outer: bool

    @property
    def title(self) -> str:
        """Says it all: machine code is looked up by the names of its rows."""
        said = [(s.op if isinstance(s.op, str) else s.op.name, s.args, s.types, s.dtype, repr(s.attr)) for s in self.steps]
        return f"{self.name}_{hashlib.sha256(repr((said, *self[2:])).encode()).hexdigest()[:12]}"

    def tensors(self) -> list[int]: return [i for i in range(self.count) if self.steps[i].attr is None]


# ---------------------------------------------------------------- tracing
class Like(NamedTuple):
    """What a reduction's rule asks of its operand."""
    dtype: dt.dtype
    shape: tuple[int, ...] = (1,)


class Trace:
    """One call of a user's function. `kinds`: what promotion sees of every value, (dtype, has it axes) or the category of what only numbers made; `wide`: half
    types are float32 here, rounded where the function says so."""

    def __init__(self, name: str, rowwise: bool, default: dt.dtype, wide: bool):
        self.name, self.rowwise, self.default, self.wide = name, rowwise, default, wide
        self.steps: list[Step] = []
        self.kinds: list = []
        self.outer: list[bool] = []            # one value per row

    def add(self, step: Step, kind, outer: bool) -> Term:
        self.steps.append(step)
        self.kinds.append(kind)
        self.outer.append(outer)
        return Term(self, len(self.steps) - 1)

    def operand(self, kind) -> Term:
        """`kind`: (dtype, has it axes), or a number's type."""
        if isinstance(kind, type):
            category = dt.SCALAR_CATEGORY[kind]
            return self.add(Step(OPERAND, (), (), EXACT[category], kind), category, True)
        t = kind[0].opmath if self.wide else kind[0]
        return self.add(Step(OPERAND, (), (), t), (t, kind[1]), False)

    def index(self, x) -> int:
        """The step of a term, or of a number that is written in the function."""
        if isinstance(x, Term):
            if x.trace is not self: raise TypeError(self.at("a value of another call is used here: a function's values end with it"))
            return x.at
        if isinstance(x, np.generic): x = x.item()
        if x.__class__ not in dt.SCALAR_CATEGORY:
            raise TypeError(self.at(f"a {type(x).__name__} is used beside the function's arguments: pass it as one of them (numbers may stand in the function)"))
        category = dt.SCALAR_CATEGORY[x.__class__]
        return self.add(Step(CONSTANT, (), (), EXACT[category], x), category, True).at

    def apply(self, op: Op, *xs) -> Term:
        """One elementwise row."""
        if operands_of(op) not in (0, len(xs)): raise TypeError(self.at(f"{op.name}() takes {operands_of(op)} operands, {len(xs)} were given"))
        at = tuple([self.index(x) for x in xs])
        kinds = [self.kinds[k] for k in at]
        numbers = all([k.__class__ is int for k in kinds])
        try: types = op.compute([(EXACT[k], 0) for k in kinds] if numbers else kinds, dt.float64 if numbers else self.default)
        except (RuntimeError, TypeError) as error: raise type(error)(self.at(str(error))) from None
        types = types if isinstance(types, tuple) else (types,) * len(at)
        result = op.result(types[-1])
        kind = result.category if numbers else (result, max([k[1] for k in kinds if k.__class__ is tuple]))
        return self.add(Step(op, at, types, result), kind, all([self.outer[k] for k in at]))

    def cast(self, x: Term, to: dt.dtype) -> Term:
        if to.__class__ is not dt.dtype: raise TypeError(self.at(f"to() takes a dtype, not {to!r}"))
        kind = self.kinds[x.at]
        out = self.add(Step(CAST, (x.at,), (self.steps[x.at].dtype,), to), (to, kind[1] if kind.__class__ is tuple else 0), self.outer[x.at])
        return self.cast(out, to.opmath) if self.wide and to.opmath is not to else out

    def reduce(self, op: Op, x: Term) -> Term:
        """A row's sum, maximum, …: every element of the row sees it."""
        if not self.rowwise: raise TypeError(self.at(f"{op.name}() goes over a row, and an elementwise kernel sees one element: use kernels.row"))
        if self.outer[x.at]: raise TypeError(self.at(f"{op.name}() of what is one value per row already"))
        t = self.steps[x.at].dtype
        try: result, _ = op.infer((0,), Like(t))
        except (RuntimeError, TypeError) as error: raise type(error)(self.at(str(error))) from None
        return self.add(Step(op, (x.at,), (t,), result), (result, 1), True)

    def length(self) -> Term: return self.add(Step(LENGTH, (), (), dt.int64), dt.INT, True)

    def at(self, said: str) -> str:
        """An error with the user's line."""
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_HOME): frame = frame.f_back
        return f"{said} (kernel '{self.name}', {frame.f_code.co_filename}, line {frame.f_lineno})"

    def place(self, said: str, error: BaseException) -> str:
        """The same for an error of Python's own: the last of the user's lines on the way to it."""
        lines = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__) if not f.f_code.co_filename.startswith(_HOME)]
        return f"{said} (kernel '{self.name}'{', {}, line {}'.format(*lines[-1]) if lines else ''})"


_HOME = os.path.dirname(os.path.dirname(__file__)) + os.sep


@functools.cache
def operands_of(op: Op) -> int:
    """How many a row takes, as its machine code says; 0: it doesn't."""
    kinds = [p.kind for p in inspect.signature(op.emit).parameters.values()]
    return 0 if inspect.Parameter.VAR_POSITIONAL in kinds else len(kinds) - 1


class Term:
    """A value of a kernel's function while it is traced: Python's operators, and methods named as tensors' are."""
    __slots__ = ("trace", "at")
    __array_ufunc__ = None                     # NumPy's scalars leave operators to this class

    def __init__(self, trace: Trace, at: int): self.trace, self.at = trace, at

    @property
    def dtype(self) -> dt.dtype: return self.trace.steps[self.at].dtype

    @property
    def real(self): return self.trace.apply(TABLE["real"], self)

    @property
    def imag(self): return self.trace.apply(TABLE["imag"], self)

    def to(self, dtype: dt.dtype) -> Term: return self.trace.cast(self, dtype)
    def float(self): return self.to(dt.float32)
    def double(self): return self.to(dt.float64)
    def half(self): return self.to(dt.float16)
    def bfloat16(self): return self.to(dt.bfloat16)
    def int(self): return self.to(dt.int32)
    def long(self): return self.to(dt.int64)
    def bool(self): return self.to(dt.bool)

    def where(self, condition, other): return self.trace.apply(TABLE["where"], condition, self, other)

    def clamp(self, min=None, max=None):
        out = self if min is None else self.trace.apply(TABLE["clamp_min"], self, min)
        return out if max is None else self.trace.apply(TABLE["clamp_max"], out, max)

    def __pow__(self, n):
        """Common exponents are products and roots."""
        if n.__class__ in (int, float) and n == 2: return self.square()
        if self.dtype.category >= dt.FLOAT and n.__class__ in (int, float) and n in _POWERS: return _POWERS[n](self)
        return self.trace.apply(TABLE["pow"], self, n)

    def __rpow__(self, x): return self.trace.apply(TABLE["pow"], x, self)
    def __pos__(self): return self
    def __neg__(self): return self.trace.apply(TABLE["neg"], self)
    def __abs__(self): return self.trace.apply(TABLE["abs"], self)
    def __invert__(self): return self.trace.apply(TABLE["bitwise_not"], self)
    def __round__(self, digits=None): return self.round()
    def __floor__(self): return self.floor()
    def __ceil__(self): return self.ceil()
    def __trunc__(self): return self.trunc()

    def __getattr__(self, name):
        op = METHODS.get(name)
        if op is None: raise AttributeError(self.trace.at(f"'{name}' is no function of elements that kernels have"))
        return lambda *others: self.trace.apply(op, self, *others, *DEFAULTS.get(name, ())[len(others):])

    # ---- over a row: its last axis, whichever way that is said
    def sum(self, dim=-1, keepdim=True): return self.over(reduce.sum_, dim)
    def prod(self, dim=-1, keepdim=True): return self.over(reduce.prod, dim)
    def any(self, dim=-1, keepdim=True): return self.over(reduce.any_, dim)
    def all(self, dim=-1, keepdim=True): return self.over(reduce.all_, dim)
    def amax(self, dim=-1, keepdim=True): return self.over(reduce.amax, dim)
    def amin(self, dim=-1, keepdim=True): return self.over(reduce.amin, dim)
    def argmax(self, dim=-1, keepdim=True): return self.over(reduce.argmax, dim)
    def argmin(self, dim=-1, keepdim=True): return self.over(reduce.argmin, dim)
    def mean(self, dim=-1, keepdim=True): return self.sum(dim) / self.trace.length()
    def max(self, other=None): return self.amax() if other is None else self.larger("max", self.maximum, other)
    def min(self, other=None): return self.amin() if other is None else self.larger("min", self.minimum, other)

    def var(self, dim=-1, keepdim=True, *, correction=1):
        d = self - self.mean(dim)
        return d.square().sum() / (self.trace.length() - correction)

    def std(self, dim=-1, keepdim=True, *, correction=1): return self.var(dim, correction=correction).sqrt()
    def norm(self): return self.square().sum().sqrt()

    def over(self, op: Op, dim):
        if dim.__class__ is tuple and len(dim) == 1: dim = dim[0]
        if dim is not None and dim != -1: raise TypeError(self.trace.at(f"{op.name}(dim={dim}): a kernel's operands are rows, and their one axis is -1"))
        return self.trace.reduce(op, self)

    def larger(self, name: str, choose: Callable, other):
        """With tensors a whole number would be an axis."""
        if other.__class__ in (int, bool):
            raise TypeError(self.trace.at(f"x.{name}({other}) is {name}imum(x, {other}) here and along an axis elsewhere: say which by kernels.{name}imum or x.{name}()"))
        return choose(other)

    # ---- what would need a value now
    def refuse(self, *_):
        raise TypeError(self.trace.at("Python asks for a value here, and there is one per element: use where(condition, a, b), maximum(a, b), and x.exp() for math.exp(x); "
                                      "elements have no axes and no neighbours"))

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __len__ = __iter__ = __contains__ = __getitem__ = refuse
    __hash__ = None


_POWERS = {3: lambda x: x * x * x, 0.5: lambda x: x.sqrt(), -0.5: lambda x: x.rsqrt(), -1: lambda x: x.reciprocal()}


def _operators():
    names = dict(add="add", sub="sub", mul="mul", truediv="div", floordiv="floor_divide", mod="remainder", xor="bitwise_xor", lshift="bitwise_left_shift",
                 rshift="bitwise_right_shift") | {"and": "bitwise_and", "or": "bitwise_or"}
    for name, row in names.items():
        op = TABLE[row]
        setattr(Term, f"__{name}__", lambda self, x, op=op: self.trace.apply(op, self, x))
        setattr(Term, f"__r{name}__", lambda self, x, op=op: self.trace.apply(op, x, self))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Term, f"__{name}__", lambda self, x, op=TABLE[name]: self.trace.apply(op, self, x))


_operators()


def trace(function: Callable, name: str, kinds: tuple, rowwise: bool, default: dt.dtype) -> Program | tuple[Program, ...]:
    """The program of a function for operands of these kinds; of one that returns several values, one for each."""
    t, out = _called(function, name, kinds, rowwise, default, False)
    outs = out if out.__class__ is tuple else (out,)
    results = [dt.default_for(t.kinds[k], default) if t.kinds[k].__class__ is int else t.kinds[k][0] for k in outs]
    if any([s.dtype.opmath is not s.dtype for s in t.steps]):
        t, wide = _called(function, name, kinds, rowwise, default, True)
        outs = wide if out.__class__ is tuple else (wide,)
    made = tuple([_program(name, t, k, kinds, result) for k, result in zip(outs, results)])
    return made if out.__class__ is tuple else made[0]


def _program(name: str, t: Trace, out: int, kinds: tuple, result: dt.dtype) -> Program:
    steps, at = needed(t.steps, len(kinds), out)
    steps = settled(steps, len(kinds))
    takes = tuple([s.dtype if isinstance(k, type) else k[0] for s, k in zip(steps, kinds)])
    return Program(name, steps, at, len(kinds), takes, result, t.rowwise, t.outer[out])


def needed(steps: list[Step], count: int, out: int) -> tuple[list[Step], int]:
    """The operands and the steps that lead to one value, and where it is among them."""
    wanted = {out, *range(count)}
    for k in range(out, -1, -1):
        if k in wanted: wanted.update(steps[k].args)
    place = {k: i for i, k in enumerate(sorted(wanted))}
    return [steps[k]._replace(args=tuple([place[a] for a in steps[k].args])) for k in sorted(wanted)], place[out]


def _called(function, name, kinds, rowwise, default, wide):
    t = Trace(name, rowwise, default, wide)
    try: out = function(*[t.operand(k) for k in kinds])
    except TypeError as error:
        if "Term" not in str(error): raise
        raise TypeError(t.place(f"{error}: a Term is one element of an operand, which kernels.exp(x), x.exp() and Python's operators take", error)) from None
    if isinstance(out, (tuple, list)) and out and not any([x is None or isinstance(x, (tuple, list)) for x in out]): return t, tuple([t.index(x) for x in out])
    if isinstance(out, (tuple, list)) or out is None: raise TypeError(f"kernel '{name}' returned {out!r}: it is to return one value, or a tuple of them")
    return t, t.index(out)


def settled(steps: list[Step], count: int) -> tuple[Step, ...]:
    """Numbers among the operands as the one type that all their readers convert them to, if there is one."""
    wanted: list[set] = [set() for _ in steps]
    for s in steps:
        for a, t in zip(s.args, s.types): wanted[a].add(t)
    return tuple([s._replace(dtype=next(iter(w))) if k < count and s.attr is not None and len(w) == 1 else s for k, (s, w) in enumerate(zip(steps, wanted))])


# ---------------------------------------------------------------- a program as machine code, as arrays, as values
def emitted(p: Program, b, xs):
    values = [b.cast(x, s.dtype) for x, s in zip(xs, p.steps)]
    for s in p.steps[p.count:]:
        args = [b.const(p.steps[a].attr, t) if p.steps[a].op == CONSTANT else b.cast(values[a], t) for a, t in zip(s.args, s.types)]
        if s.op == CONSTANT: values.append(b.const(s.attr, s.dtype))
        else: values.append(b.cast(args[0], s.dtype) if s.op is CAST else s.op.emit(b, *args))
    return b.cast(values[p.out], p.result.opmath)


def computed(p: Program, xs):
    values = [convert(np.asarray(x), s.dtype) for x, s in zip(xs, p.steps)]
    for s in p.steps[p.count:]:
        args = [convert(values[a], t).astype(code(t.opmath), copy=False) for a, t in zip(s.args, s.types)]
        if s.op == CONSTANT: out = np.asarray(s.attr)
        else: out = args[0] if s.op is CAST else s.op.oracle(None, *args)
        values.append(convert(np.asarray(out), s.dtype))
    return convert(values[p.out], p.result.opmath)


def is_tensor(x) -> bool: return hasattr(x, "filled")


class Said:
    """A program on values with operators: tensors, or what the planner expands. `values` by step; `args`: what its row was given."""

    def __init__(self, p: Program, operands):
        self.p, self.operands, self.like = p, operands, next(x for x in operands if is_tensor(x))
        self.shape = broadcast(*[tuple(x.shape) for x in operands if is_tensor(x)])
        self.values: list = []
        self.args: list[list] = []
        for k, s in enumerate(p.steps):
            args = [self.converted(a, t) for a, t in zip(s.args, s.types)]
            self.args.append(args)
            self.values.append(self.value(k, s, args))

    def value(self, k: int, s: Step, args):
        if s.op == OPERAND:
            x = self.operands[k]
            if not is_tensor(x): return x
            return x.expand(self.shape).to(s.dtype) if self.p.rowwise else x.to(s.dtype)     # rows are repeated where they are read: what is computed of them could only be copied
        if s.op == CONSTANT: return s.attr
        if s.op == LENGTH: return self.shape[-1]
        if s.op is CAST: return args[0].to(s.dtype)
        if s.op.kind == "reduce":
            args[0] = args[0].expand(self.shape)
            return args[0].row(s.op, attr=self.axis(args[0]))
        return args[0].row(s.op, *args[1:])

    def axis(self, x) -> tuple[int]: return (len(x.shape) - 1,)

    def converted(self, k: int, t: dt.dtype):
        """A value as its reader takes it. Numbers become tensors without axes."""
        x = self.values[k]
        if is_tensor(x): return x.to(t)
        return self.like.filled((), x, t) if self.p.steps[k].op != OPERAND else self.like.filled((), 0, t) + x

    @property
    def out(self):
        """The result: one value per element, or per row."""
        p, shape = self.p, self.shape
        x = self.values[p.out]
        x = x.to(p.result) if is_tensor(x) else self.converted(p.out, p.result)
        if not p.rowwise: return x
        return x.expand((*shape[:-1], 1)).reshape(shape[:-1]) if p.outer else x.expand(shape)


# ---------------------------------------------------------------- gradients
def pulled(p: Program, i: int, g, operands):
    """The gradient of operand i, by the rules of the rows on the way to it. Elementwise ones have g's shape: whoever asked sums them down."""
    said, moving = Said(p, operands), reached(p, i)
    adjoint = {}
    if p.out in moving: adjoint[p.out] = as_type(g.reshape((*said.shape[:-1], 1)) if p.outer and p.rowwise else g, p.steps[p.out].dtype)
    for k in range(len(p.steps) - 1, p.count - 1, -1):
        if k not in adjoint: continue
        s = p.steps[k]
        for j, a in enumerate(s.args):
            if a not in moving: continue
            ga = through(p, s, j, adjoint[k], said.values[k], said.args[k])
            if ga is None: continue
            if p.rowwise: ga = summed(ga, tuple(said.values[a].shape))
            ga = as_type(ga, p.steps[a].dtype)
            adjoint[a] = adjoint[a] + ga if a in adjoint else ga
    x = operands[i]
    if i not in adjoint: return x.filled(tuple(x.shape), 0)
    return summed(adjoint[i], tuple(x.shape)).to(x.dtype) if p.rowwise else adjoint[i]


def reached(p: Program, i: int) -> set[int]:
    """The steps that operand i moves: through numbers with a slope, not through whole numbers and truth values."""
    out = {i}
    for k, s in enumerate(p.steps[p.count:], p.count):
        if s.dtype.category >= dt.FLOAT and any([a in out and p.steps[a].dtype.category >= dt.FLOAT for a in s.args]): out.add(k)
    return out


def through(p: Program, s: Step, j: int, g, o, args):
    """A step's gradient for its argument j."""
    if s.op is CAST: return g
    if j >= len(s.op.grads): raise RuntimeError(f"derivative for {s.op.name} is not implemented: give kernel '{p.name}' a gradient of its own (grad=)")
    rule = s.op.grads[j]
    return None if rule is None else rule(g, o, *args, attr=(len(args[0].shape) - 1,) if s.op.kind == "reduce" else None)


def as_type(g, t: dt.dtype):
    """A gradient in a value's type; of a real value, its real part."""
    if g.dtype.is_complex and not t.is_complex: g = g.row(TABLE["real"])
    return g.to(t)


def summed(g, shape):
    """A gradient summed over the axes that its value was broadcast along."""
    have = tuple(g.shape)
    if have == shape: return g
    lead = len(have) - len(shape)
    axes = (*range(max(lead, 0)), *[d + lead for d, n in enumerate(shape) if d + lead >= 0 and n == 1 and have[d + lead] != 1])
    if axes: g = g.row(reduce.sum_, attr=tuple(axes))
    if lead > 0 or len(have) < len(shape): g = g.reshape(tuple(g.shape)[max(lead, 0):])
    return g if tuple(g.shape) == shape else g.expand(shape)


def given(p: Program, gradient: Callable, i: int, g, operands):
    """The gradient of operand i as the user's function says; it is given tensors only, and says one gradient per operand, or None."""
    xs = [x if is_tensor(x) else g.filled((), 0, p.steps[k].dtype) + x for k, x in enumerate(operands)]
    found = gradient(g, *xs)
    found = found if isinstance(found, (tuple, list)) else (found,)
    if len(found) != p.count: raise RuntimeError(f"the gradient of kernel '{p.name}' returned {len(found)} values for {p.count} operands: one each, None for what has none")
    x, gi = operands[i], found[i]
    if gi is None: return x.filled(tuple(x.shape), 0)
    return summed(gi, tuple(x.shape)) if p.rowwise else gi


# ---------------------------------------------------------------- rows
_made: dict = {}


def row(p: Program, gradient: Callable | None = None) -> Op:
    """The row of a program; equal programs with equal gradients share one."""
    key = p.title, gradient
    if key not in _made: _made[key] = (_composite if p.rowwise else _elementwise)(p, gradient)
    return _made[key]


def _name(p: Program) -> str:
    """A row's name: the program's title, with a number where another gradient goes with it."""
    k, name = 1, p.title
    while name in TABLE: k, name = k + 1, f"{p.title}_{k + 1}"
    return name


def _rules(p: Program, gradient) -> tuple:
    def of(i):
        if gradient is not None: return lambda g, o, *xs, attr=None: given(p, gradient, i, g, xs)
        return lambda g, o, *xs, attr=None: pulled(p, i, g, xs)
    moved = set(p.tensors()) if p.result.category >= dt.FLOAT else set()
    return tuple([of(i) if i in moved and p.takes[i].category >= dt.FLOAT else None for i in range(p.count)])


def _shapes(xs): return broadcast(*[x.shape for x in xs if not isinstance(x, type)])


def _elementwise(p: Program, gradient) -> Elementwise:
    def emit(b, *xs): return emitted(p, b, xs)
    return Elementwise(_name(p), lambda attr, *xs: (p.result, _shapes(xs)), _rules(p, gradient), "abcdefgh"[:p.count], oracle=lambda attr, *xs: computed(p, xs),
                       emit=emit, compute=lambda kinds, default: p.takes)


def _composite(p: Program, gradient) -> Composite:
    extremes = any([s.op in (reduce.amax, reduce.amin, reduce.argmax, reduce.argmin) for s in p.steps])

    def infer(attr, *xs):
        shape = _shapes(xs)
        if not shape: raise RuntimeError(f"kernel '{p.name}' goes over rows, and its operands have no axis")
        if shape[-1] == 0 and extremes: raise IndexError(f"kernel '{p.name}': the largest of no elements: the last axis of {list(shape)} has length 0")
        return p.result, shape[:-1] if p.outer else shape
    return Composite(_name(p), infer, _rules(p, gradient), "abcdefgh"[:p.count], expand=lambda attr, *xs: Said(p, xs).out)
