"""Hangs rows of the op table on Tensor and on the namespace, under the PyTorch names each row lists.

The functions made here are the hot path: on a repeated program an operation checks that the predicted line is the one it would record
(same row, same nodes in its slots), appends a node and returns. Shapes, types, promotion and gradients were settled when the line was made.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.dtype import INT, SCALAR_CATEGORY
from ..core.hot import hot
from ..core.op import Op
from ..core.state import state
from ..dnn.elementwise import TITLES
from ..dnn.movement import cast as CAST, full as FULL
from ..dnn.polynomials import NAMES as POLYNOMIALS
from ..graph.line import LOCAL, Leaf, Node, Ref, enter_again, new, record
from .autocast_lists import FLOAT32_ROWS, Narrow
from .data import from_numpy
from .layouts import OTHERS, elsewhere
from .tensor import Tensor, check_write, leaf_node, owned, outside, permuted, read, root, version, write

NUMBERS = frozenset((int, float, bool, complex))


def number(x):
    """A Python number of exactly these four types, from NumPy scalars and subclasses too; None when x is no number."""
    c = x.__class__
    if c in NUMBERS or c is Ref:
        if c is int and not -1 << 63 <= x < 1 << 64: raise OverflowError("int too big to convert")
        return x
    if isinstance(x, (bool, np.bool_)): return bool(x)
    if isinstance(x, (int, np.integer)): return number(int(x))
    if isinstance(x, (float, np.floating)): return float(x)
    if isinstance(x, (complex, np.complexfloating)): return complex(x)
    return None


_ELEMENT_TYPES = {None: None, bool: dt.bool, int: dt.int64, float: dt.float64, complex: dt.complex128}


def element_type(x):
    """A dtype argument: None, a dtype, or the Python type that stands for one."""
    if x.__class__ is dt.dtype: return x
    try: return _ELEMENT_TYPES[x]
    except (KeyError, TypeError): raise TypeError(f"argument 'dtype' must be torch.dtype, not {type(x).__name__}") from None


_C_TYPES = dict(int32="int", float16="c10::Half", bfloat16="c10::BFloat16", float32="float", float64="double", complex64="c10::complex<float>", complex128="c10::complex<double>")


def held(value, dtype: dt.dtype):
    """A number that is to become an element of this type, if it fits; negative integers wrap around in unsigned types."""
    c = value.__class__
    if c is Ref or dtype is dt.bool: return value
    x = value
    if c is complex and dtype.category < dt.COMPLEX: fits, x = value.imag == 0, value.real
    else: fits = True
    if dtype.category == dt.INT:
        low, high = dt.limits(dtype)
        fits = fits and x == x and (low if dtype.signed or x.__class__ is float else -high) <= x <= high
    else:
        low, high = dt.limits(dtype.real)
        fits = fits and all(not math.isfinite(part) or low <= part <= high for part in ((x.real, x.imag) if x.__class__ is complex else (x,)))
    if not fits: raise RuntimeError(f"value cannot be converted to type {_C_TYPES.get(dtype.name, dtype.name + '_t')} without overflow")
    return value


def typed(x) -> str:
    """The name of a value's type, with its module where that isn't Python."""
    t = type(x)
    return t.__name__ if t.__module__ == "builtins" else f"{t.__module__}.{t.__name__}"


def constant(value, dtype: dt.dtype, shape=()) -> Node:
    """A number as a value of its own. Which number is no part of the program."""
    v = number(value)
    if v is None or isinstance(value, np.floating) and not isinstance(value, float): raise TypeError(f"can't assign a {typed(value)} to a torch.{TITLES[dtype.name]}Tensor")
    if dtype.size != 2 or dtype.category != dt.FLOAT or math.prod(shape) != 1 or v.__class__ is complex: held(v, dtype)      # PyTorch writes a single half without a look at it
    return record(FULL, (v,), (shape, dtype, None))


def operand(x, name: str):
    """A node or a number, or PyTorch's TypeError."""
    if isinstance(x, Tensor): return read(x)
    n = number(x)
    if n is None: raise TypeError(f"{name}(): argument must be Tensor or a number, not {type(x).__name__}")
    return n


def apply(op: Op, *args, attr=None) -> Tensor:
    """Record any row on tensors and numbers."""
    return owned(record(op, [read(x) if isinstance(x, Tensor) else x for x in args], attr))


def lift(args, name):
    """Operands of a row that may all be numbers: then the first becomes a 0-d tensor."""
    return [operand(x, name) for x in args]


def widened(x):
    """An operand as rows of autocast's FLOAT32_ROWS get it: float32 on a GPU, where autocast is on there."""
    if LOCAL.run.autocast.__class__ is not Narrow or x.__class__ is not Node: return x
    line = x.line
    narrow = line.dtype.category == dt.FLOAT and line.dtype not in (dt.float32, dt.float64) and line.device.startswith("cuda")
    return record(CAST, (x,), dt.float32) if narrow else x


def unary(op: Op):
    """A function of one tensor."""
    name, wide = op.name, op.name in FLOAT32_ROWS

    def slow(a):
        if a.__class__ in OTHERS: return elsewhere(name, a)
        if not isinstance(a, Tensor): raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(a).__name__}")
        return owned(record(op, (widened(read(a)) if wide else read(a),)))

    def fast(input):
        try: x = input.node or read(input)     # an aliased tensor asks its storage
        except AttributeError: return slow(input)
        run = LOCAL.run
        e = run.cur.next
        if e.source is not None: e = let_in(run, e, x, None)
        if e.op is op and run.nodes[e.i] is x:
            n = new(Node)
            n.line = e
            n.buf = n.past = None
            run.nodes.append(n)
            run.cur = e
            t = new(Tensor)
            t.node, t.alias = n, None
            if e.strides is not None: permuted(t)
            return t
        return slow(input)
    fast.__name__ = fast.__qualname__ = name
    return hot(fast)


@hot
def let_in(run, e, x, y):
    """The line that comes next when x and y have come into the window as they did last time, if they did."""
    while e.source is not None and run.level is None:
        if e.source is x.line and enter_again(run, x, e): e = run.cur.next
        elif y is not None and e.source is y.line and enter_again(run, y, e): e = run.cur.next
        else: return e
    return e


@hot
def all_in(run, e, args):
    """The same for any number of operands."""
    while e.source is not None and run.level is None:
        here = e
        for x in args:
            if isinstance(x, Tensor):
                n = read(x)
                if e.source is n.line and enter_again(run, n, e):
                    e = run.cur.next
                    break
        if e is here: return e
    return e


NUMBER_FIRST = frozenset(("remainder", "pow", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "xlogy", "xlog1py", "zeta")) | POLYNOMIALS
NUMBERS_ALONE = frozenset(("add", "sub", "mul", "div", "floor_divide"))        # numbers pass for tensors
TENSORS_ONLY = frozenset(("atan2", "igamma", "igammac", "logical_and", "logical_or", "logical_xor", "maximum", "minimum", "fmax", "fmin", "hypot", "heaviside", "nextafter", "logaddexp",
                          "logaddexp2", "gcd", "lcm", "complex", "polar"))


def check_numbers(name, a, b, x, y):
    """PyTorch's TypeErrors: which functions take a number in which place. x and y are None for what is neither tensor nor number."""
    first, second = isinstance(a, Tensor), isinstance(b, Tensor)
    if x is None or not first and name not in NUMBERS_ALONE and (name not in NUMBER_FIRST or y is not None and not second):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(a).__name__}")
    if y is None or not second and name in TENSORS_ONLY:
        raise TypeError(f"{name}(): argument 'other' (position 2) must be Tensor{'' if name in TENSORS_ONLY else ' or Number'}, not {type(b).__name__}")


TURNED = frozenset(("remainder", "floor_divide", "bitwise_left_shift", "bitwise_right_shift"))     # Tensor.__rmod__(2, x) is x % 2
WITH_ARRAYS = {("eq", False), ("div", True)}   # operators that take NumPy's arrays; the others leave the operation to NumPy, which gives a tensor back


def binary(op: Op, reflected: bool = False, operator: bool = False):
    """A function of two operands, the second a tensor or a number. An operator gives way to other types (NotImplemented)."""
    name, wide = op.name, op.name in FLOAT32_ROWS

    def slow(a, b):
        if a.__class__ in OTHERS or b.__class__ in OTHERS: return elsewhere(name, b, a) if reflected else elsewhere(name, a, b)
        x, y = (read(a) if isinstance(a, Tensor) else number(a)), (read(b) if isinstance(b, Tensor) else number(b))
        if y.__class__ is int and y >= 1 << 63 and x.__class__ is Node and x.line.dtype.category >= dt.FLOAT: y = float(y)
        if operator:
            if not isinstance(a, Tensor) and reflected and name == "sub": return NotImplemented
            if not isinstance(a, Tensor) and not (reflected and name in TURNED): raise TypeError(f"descriptor '__{name}__' for 'Tensor' objects doesn't apply to a '{type(a).__name__}' object")
            if y is None:
                if not isinstance(b, np.ndarray) or (name, reflected) not in WITH_ARRAYS: return NotImplemented
                y = read(from_numpy(b))
        else: check_numbers(name, a, b, x, y)
        if wide: x, y = widened(x), widened(y)
        return owned(record(op, (y, x) if reflected else (x, y)))

    if reflected:
        slow.__name__ = slow.__qualname__ = name
        return slow

    def fast(input, other):
        try: x = input.node or read(input)
        except AttributeError: return slow(input, other)
        number = other.__class__ in NUMBERS
        if number: y = None
        else:
            try: y = other.node or read(other)
            except AttributeError: return slow(input, other)
        run = LOCAL.run
        e = run.cur.next
        if e.source is not None: e = let_in(run, e, x, y)
        if e.op is not op: return slow(input, other)
        if number: fits = e.j is other.__class__ and run.nodes[e.i] is x
        else: fits = e.j.__class__ is int and run.nodes[e.i] is x and run.nodes[e.j] is y
        if not fits: return slow(input, other)
        n = new(Node)
        n.line = e
        n.buf = n.past = None
        if number: run.scalars.append(other)   # its value never enters the line; no interrupt can come between the appends
        run.nodes.append(n)
        run.cur = e
        t = new(Tensor)
        t.node, t.alias = n, None
        if e.strides is not None: permuted(t)
        return t
    fast.__name__ = fast.__qualname__ = name
    return hot(fast) if op.check is None else dividing(hot(fast))


def dividing(f):
    """`f` with a Python zero refused at the user's line; a divisor that is a tensor is tested by the kernel."""
    def checked(input, other):
        if other.__class__ is not Tensor: check_divisor(input, other)
        return f(input, other)
    checked.__name__ = checked.__qualname__ = f.__name__
    checked.divides = True
    return checked


def reflected_division(reciprocal, mul, other_types):
    """number / tensor as PyTorch has it, a product of the reciprocal: rounding and gradients show it."""
    def __rtruediv__(self, other): return mul(reciprocal(self), other) if other.__class__ in NUMBERS or isinstance(other, Tensor) else other_types(self, other)
    return __rtruediv__


def check_divisor(a, b):
    """PyTorch's error for an integer divided by the number 0."""
    x, y = dtype_category(a), dtype_category(b)
    if isinstance(b, Tensor) or x is None or y is None or b != 0 or max(x, y) != INT: return
    if not isinstance(a, Tensor) or a.numel(): raise RuntimeError("ZeroDivisionError")


def dtype_category(x):
    """BOOL, INT, FLOAT or COMPLEX of a tensor or number; None of anything else."""
    if isinstance(x, Tensor): return read(x).line.dtype.category
    n = number(x)
    return None if n is None or n.__class__ is Ref else SCALAR_CATEGORY[n.__class__]


def giving_way(f):
    """An operator made from a function: types it refuses may know what to do (NotImplemented)."""
    def operator(self, other):
        try: return f(self, other)
        except TypeError:
            if isinstance(other, Tensor) or number(other) is not None: raise
            return NotImplemented
    operator.__name__ = operator.__qualname__ = f.__name__
    return operator


def nary(op: Op):
    """A function of any other number of operands."""
    def slow(args): return owned(record(op, [operand(x, op.name) for x in args]))

    def call(*args):
        run = LOCAL.run
        e = run.cur.next
        if e.source is not None: e = all_in(run, e, args)
        ins = e.ins
        if e.op is not op or len(ins) != len(args): return slow(args)
        nodes, numbers = run.nodes, []
        for i in range(len(args)):
            x, c = args[i], ins[i]
            if c.__class__ is not int:
                if x.__class__ is not c: return slow(args)
                numbers.append(x)
            else:
                try: n = x.node or read(x)
                except AttributeError: return slow(args)
                if nodes[c] is not n: return slow(args)
        n = new(Node)
        n.line = e
        n.buf = n.past = None
        run.scalars.extend(numbers)
        nodes.append(n)
        run.cur = e
        t = new(Tensor)
        t.node, t.alias = n, None
        if e.strides is not None: permuted(t)
        return t
    call.__name__ = call.__qualname__ = op.name
    return hot(call)


def inplace(f):
    """The in-place form of an out-of-place method: same value, written where self lies."""
    def method(self, *args, **kw):
        if self.alias is None:
            m = self.node
            line = m.line
            past = m.past
            update = past.__class__ is Leaf and not LOCAL.run.grad         # what an optimizer does to a parameter
            if (past is None or update) and not outside(m):
                r = f(self, *args, **kw)
                if r is NotImplemented: return r
                n = r.node
                if n is not None and self.alias is None:
                    l = n.line
                    v = version(self)
                    if l.dtype is line.dtype and l.shape == line.shape and l.memory is None and v >= 0 and not l.inference and (update and not l.grad or not line.grad or LOCAL.run.grad):
                        if update: self.node = leaf_node(n, past)
                        else:
                            self.node = n
                            n.over = id(m)     # what the tensor goes back to if the new value can't be computed
                        self.ver = v + 1
                        return self
                check_write(self)
                return land(self, read(r))
        check_write(self)
        r = f(self, *args, **kw)
        return r if r is NotImplemented else land(self, read(r))
    method.__name__ = method.__qualname__ = f.__name__ + "_"
    return fitting(hot(method)) if getattr(f, "divides", False) else hot(method)


def fitting(method):
    """`method`, refused before it is recorded if the result has no place in self: its divisors would be looked at all the same."""
    def checked(self, *args, **kw):
        error = unwritable(self, args)
        if error: raise error
        return method(self, *args, **kw)
    checked.__name__ = checked.__qualname__ = method.__name__
    return checked


def unwritable(self: Tensor, args) -> Exception | None:
    """The error that PyTorch finds before it looks for code: the result has no place in self."""
    kinds = [(x.dtype, x.ndim) if isinstance(x, Tensor) else SCALAR_CATEGORY[x.__class__] for x in (self, *args) if isinstance(x, Tensor) or x.__class__ in SCALAR_CATEGORY]
    t = dt.result_type(kinds, state.default_dtype)
    return RuntimeError(f"result type {titled(t)} can't be cast to the desired output type {titled(self.dtype)}") if t.category > self.dtype.category else None


def view_inplace(f):
    """The in-place form of a view: self sees its own memory another way."""
    def method(self, *args, **kw):
        check_write(self, False)
        base = None if self.alias is None else self.alias.base
        r = f(self, *args, **kw)
        self.node, self.alias = r.node, r.alias
        r.alias.base = base                    # not self, which it was made from
        root(r.alias.store).clock[0] += 1
        return self
    method.__name__ = method.__qualname__ = f.__name__ + "_"
    return method


def land(self: Tensor, n: Node) -> Tensor:
    """Write a computed value into self under PyTorch's rules for in-place results."""
    m, line = read(self).line, n.line
    if line.dtype.category > m.dtype.category:
        raise RuntimeError(f"result type {titled(line.dtype)} can't be cast to the desired output type {titled(m.dtype)}")
    if line.shape != m.shape:
        raise RuntimeError(f"output with shape {list(m.shape)} doesn't match the broadcast shape {list(line.shape)}")
    write(self, n if line.dtype is m.dtype else record(CAST, (n,), m.dtype))
    return self


def titled(dtype) -> str: return TITLES[dtype.name]

