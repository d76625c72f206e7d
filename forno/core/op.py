"""Rows of the op table. A row is everything forno knows about one operation, in one place.

Every row has a name, a shape-and-dtype rule, a gradient per operand written with Tensor operators (so that second derivatives work
unasked), what backward needs to keep (`saves`), how it becomes machine code, and a NumPy oracle that one test walks.

Kinds differ only in how they become kernels:

  Elementwise   `emit(b, *xs)` on the kernel floor's builder: one scalar in, one out; the builder decides the vector width
  Reduce        a combining rule that loops know by name (sum, prod, max, min, argmax, argmin, any, all)
  Movement      views, writes through views, history rows: they move values or nothing at all
  Contract      matrix product, convolution: tile programs
  Routine       native kernels with their own loop (scatter, sort, scan, random fill)
  Composite     expands into other rows when it is planned; one line to record, one gradient rule, one kernel where it fuses
  Opaque        a NumPy function from a well-kept library (LAPACK, pocketfft); the plan stops for it and says so
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from . import dtype as dt

TABLE: dict[str, Op] = {}


class Check(NamedTuple):
    """What a row demands of its operands' values. Kernels test it in passing and go on; the run's next value raises `error(attr, *arrays)`."""
    operand: int                               # which operand it tests; a Python number was looked at when it was recorded
    applies: Callable                          # is there anything to test, if this is the result's dtype?
    violated: Callable                         # (b, *xs) -> lanes that break it, or None where none can
    oracle: Callable                           # (*arrays) -> where it is broken
    error: Callable                            # (attr, *arrays) -> PyTorch's exception; without arrays where they are lost


@dataclass(frozen=True, eq=False, repr=False)
class Op:
    """`infer(attr, *operands) -> (dtype, shape)` runs when a line is made; operands have .dtype and .shape, Python numbers are their type.

    `grads[i](g, o, *operands, attr)` gives the gradient for tensor operand i (None: not differentiable); operands are Tensors, or
    references to this run's numbers. `saves` names what PyTorch keeps for it: 'a', 'b', 'c', … operands by position, 'o' the result.
    """
    name: str
    infer: Callable
    grads: tuple[Callable | None, ...] = ()
    saves: str = ""
    oracle: Callable | None = None
    history: str | None = field(default=None, kw_only=True)   # 'leaf' | 'keep' | 'cut' | 'copy': rows that pass a value on and only change its history
    pointwise: bool = field(default=False, kw_only=True)      # one result per element of the broadcast operands: their order of axes in memory is kept
    layout: Callable | None = field(default=None, kw_only=True)       # (attr, shape, *operands) -> the result's strides, or None for row-major
    check: Check | None = field(default=None, kw_only=True)
    passes: tuple[int, ...] = field(default=(), kw_only=True) # operands whose gradient rule reads no value: if only they move, nothing is saved
    kind: ClassVar[str] = "op"

    def checks(self, dtype, operands, tensor: type) -> bool:
        """Can values break what this row demands of these operands, of which those of class `tensor` are no numbers?"""
        return self.check is not None and self.check.applies(dtype) and operands[self.check.operand].__class__ is tensor

    def rules(self, n: int):
        """Gradient rules for n operands: a row with one rule marked variadic (cat) uses it for each."""
        return self.grads

    def __post_init__(self):
        assert self.name not in TABLE, f"two rows are called {self.name}"
        TABLE[self.name] = self

    def __repr__(self): return self.name
    def __reduce__(self): return TABLE.__getitem__, (self.name,)


@dataclass(frozen=True, eq=False, repr=False)
class Elementwise(Op):
    """Operands broadcast and are converted to one compute dtype; `result` maps that dtype to the result's.

    `domain`: 'any' | 'float' (integers compute in the default float) | 'int' | 'bool-out' … see dnn/elementwise.py for the rules.
    """
    emit: Callable = None                      # (b, *xs) -> x
    compute: Callable = None                   # (operand dtypes/categories, default) -> compute dtype of the operands
    result: Callable = None                    # compute dtype -> result dtype
    names: tuple[str, ...] = ()                # PyTorch functions and methods that are exactly this row
    wraps: int = 0                             # so many operands are 0-d tensors to PyTorch when they are numbers; any further number is a parameter
    rounds: tuple[int, ...] = ()               # operands that take the half type they stand beside when they are numbers; others keep their precision
    pointwise: bool = field(default=True, kw_only=True)
    kind: ClassVar[str] = "elementwise"


@dataclass(frozen=True, eq=False, repr=False)
class Reduce(Op):
    """attr = axes reduced (sorted tuple); the result keeps them with length 1. `combine` is one of kernel's reductions."""
    combine: str = "sum"
    kind: ClassVar[str] = "reduce"


@dataclass(frozen=True, eq=False, repr=False)
class Movement(Op):
    variadic: bool = field(default=False, kw_only=True)
    kind: ClassVar[str] = "movement"

    def rules(self, n: int): return self.grads * n if self.variadic else self.grads


@dataclass(frozen=True, eq=False, repr=False)
class Contract(Op):
    kind: ClassVar[str] = "contract"


@dataclass(frozen=True, eq=False, repr=False)
class Routine(Op):
    """`plan(attr, result, *operands) -> core.kernels.Native` describes the native kernel's operands and numbers.

    `strided`: the kernel reads operands where they lie, and plan is also told how (`views`, one View per operand); others get dense ones.
    `dense`: of a strided row's operands only the start is free.
    """
    plan: Callable = None
    strided: bool = field(default=False, kw_only=True)
    dense: bool = field(default=False, kw_only=True)
    kind: ClassVar[str] = "routine"


@dataclass(frozen=True, eq=False, repr=False)
class Composite(Op):
    """`expand(attr, *values) -> value` on plan-time values, which have operators and methods named after the rows."""
    expand: Callable = None
    kind: ClassVar[str] = "composite"


@dataclass(frozen=True, eq=False, repr=False)
class Opaque(Op):
    """`host(attr, *arrays) -> array` computes on NumPy arrays."""
    host: Callable = None
    library: str = "numpy"
    kind: ClassVar[str] = "opaque"


def keeps(op: Op, i: int) -> bool:
    """Does backward read operand i? Composite rows may read any; a row keeps at most its first eight."""
    return op.kind == "composite" or i < 8 and "abcdefgh"[i] in op.saves


def dtype_of(x):
    """What promotion sees of an operand: (dtype, ndim) of a tensor, the category of a bare number."""
    return dt.SCALAR_CATEGORY[x] if isinstance(x, type) else (x.dtype, len(x.shape))
