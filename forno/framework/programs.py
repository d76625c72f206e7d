"""Kernels that users write in Python: decorators that make a function of tensors out of a function of elements, or of rows.

Comes in: the function, and at each call tensors and numbers. Goes out: one line of a row that dnn.program makes of it, one row per combination of dtypes. A row
of rows (`row`) is planned once by itself, small: what would be several kernels is refused at the user's line.
"""
from __future__ import annotations

import functools
import inspect

from ..core.dtype import SCALAR_CATEGORY
from ..core.graph import Graph, Scalar, Value
from ..core.op import Op
from ..core.state import state
from ..dnn import program
from ..plan import make
from .bind import nary, number
from .tensor import Tensor, read

WIDTH, LEAD = 64, 6                            # of the small rows that are planned to see whether they are one kernel, and what their other axes begin with


def elementwise(function=None, *, grad=None):
    """One kernel of a function of elements.

    The function is called once per combination of dtypes with stand-ins for one element of each operand. It may use arithmetic, comparisons, bits, and the
    methods and functions of forno.kernels. Operands broadcast; Python numbers are operands, too. `grad(g, *operands)`, written with tensors, returns a gradient
    for each operand (None for what has none); without it the gradient follows from the function. A tuple is that many results of one kernel.
    """
    return _decorated(function, grad, False)


def row(function=None, *, grad=None):
    """One kernel of a function of rows: the last axis of the operands, which broadcast.

    As `elementwise`, and `x.sum() x.mean() x.max() x.min() x.prod() x.any() x.all() x.argmax() x.argmin() x.var() x.std() x.norm()` are one number of the row that x
    stands for. The result is a row, or, where the function returns one number per row, has one axis less.
    """
    return _decorated(function, grad, True)


def _decorated(function, grad, rowwise: bool):
    if function is None: return lambda f: _kernel(f, grad, rowwise)
    return _kernel(function, grad, rowwise)


def _kernel(function, grad, rowwise: bool):
    if not callable(function): raise TypeError(f"a kernel is made of a function, not of {type(function).__name__}")
    signature = inspect.signature(function)
    title = getattr(function, "__name__", "kernel")
    name, names = title if title.isidentifier() else "kernel", parameters(signature, title, rowwise)
    known: dict = {}                           # (default dtype, kinds of the operands) -> what records its line, its row
    whole: set = set()                         # rows with broadcasts that are known to be one kernel

    @functools.wraps(function)
    def call(*args, **kw):
        if kw or len(args) != len(names): args = bound(signature, args, kw)
        args = [x if isinstance(x, Tensor) else numeric(x, name, names[i]) for i, x in enumerate(args)]
        kinds = tuple([kind(x) for x in args])
        key = state.default_dtype, kinds
        found = known.get(key)
        if found is None: found = known[key] = recorder(function, name, kinds, rowwise, grad)
        record, ops = found
        if rowwise or len(ops) > 1:
            shape = ops, *small(args)
            if shape not in whole:
                refuse_parts(ops, name, shape[1:], args)
                whole.add(shape)
        return record(*args)
    return call


def parameters(signature: inspect.Signature, title: str, rowwise: bool) -> list[str]:
    """The names of a function's operands."""
    for p in signature.parameters.values():
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD): raise TypeError(f"kernel '{title}': '{p}' isn't possible, operands have a fixed number and order")
    names = list(signature.parameters)
    if not names: raise TypeError(f"kernel '{title}' has no operands")
    if not rowwise and len(names) > program.MOST: raise TypeError(f"kernel '{title}' has {len(names)} operands, {program.MOST} are possible")
    return names


def bound(signature: inspect.Signature, args, kw) -> tuple:
    """Operands by name, and defaults."""
    found = signature.bind(*args, **kw)
    found.apply_defaults()
    return found.args


def numeric(x, name: str, operand: str):
    n = number(x)
    if n is None: raise TypeError(f"kernel '{name}': operand '{operand}' must be a Tensor or a number, not {type(x).__name__}")
    return n


def kind(x):
    """What a program is made for: (dtype, has it axes), or a number's type."""
    if x.__class__ in SCALAR_CATEGORY: return x.__class__
    line = read(x).line
    return line.dtype, len(line.shape) > 0


def recorder(function, name: str, kinds: tuple, rowwise: bool, grad):
    """(what records a line for each result, their rows)"""
    if not any([k.__class__ is tuple for k in kinds]): raise TypeError(f"kernel '{name}' was given numbers only: at least one operand is a Tensor")
    made = program.trace(function, name, kinds, rowwise, state.default_dtype)
    if made.__class__ is program.Program: return nary(op := program.row(made, grad)), (op,)
    if grad is not None: raise TypeError(f"kernel '{name}' returns {len(made)} values, and grad= is for one: leave it out, or write a kernel for each")
    ops = tuple([program.row(p) for p in made])
    parts = [nary(op) for op in ops]
    return lambda *args: tuple([record(*args) for record in parts]), ops


# ---------------------------------------------------------------- one kernel
def small(args) -> tuple:
    """The operands' shapes by what broadcasts, with short axes; a number's type."""
    out = []
    for x in args:
        if x.__class__ in SCALAR_CATEGORY: out.append(x.__class__); continue
        shape = read(x).line.shape
        n = len(shape)
        out.append(tuple([1 if m == 1 else WIDTH if k == n - 1 else LEAD + n - k for k, m in enumerate(shape)]))
    return tuple(out)


def refuse_parts(ops: tuple[Op, ...], name: str, shapes: tuple, args):
    """What is planned as several kernels isn't one."""
    inputs, ins = [], []
    for s, x in zip(shapes, args):
        if s.__class__ is not tuple: ins.append(Scalar(len(ins), s)); continue
        ins.append(Value(None, (), None, read(x).line.dtype, s, number=len(inputs)))
        inputs.append(ins[-1])
    given = [x.type if x.__class__ is Scalar else x for x in ins]
    outs = tuple([Value(op, tuple(ins), None, *op.infer(None, *given)) for op in ops])
    steps = make(Graph(tuple(inputs), outs, frozenset(), {})).steps
    if len(steps) > 1:
        raise RuntimeError(f"kernel '{name}' can't be one kernel, it would be {len(steps)} ({', '.join(s.kernel.label for s in steps)}): a kernel holds about 60 values of a row "
                           "and 24 operands. Make two of it, or write it with tensors")


def on_elements(name: str, args):
    """The row of this name on stand-ins, inside of a kernel's function; None: there is none among the arguments."""
    term = next((x for x in args if x.__class__ is program.Term), None)
    if term is None: return None
    return getattr(term, name)(*args[1:]) if term is args[0] and name != "where" else term.trace.apply(program.METHODS[name], *args)
