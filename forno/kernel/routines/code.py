"""The kernel builder with Python's operators and the ABI's names, for kernels that have their own control flow.

Comes in: a Python function that writes one kernel. Goes out: the text of a module. `X` is a builder's value that knows its builder:
`a + b * 2`, `a < b`, `x >> y` mean what PyTorch means by them on that dtype; sizes and positions are int64.
"""
from __future__ import annotations

from contextlib import contextmanager

from ...core import dtype as dt
from ..abi import share
from ..builder import Builder
from ..text import PTR, Val


class X:
    """A value in the code being written."""
    __slots__ = ("c", "v")

    def __init__(self, c: Code, v: Val): self.c, self.v = c, v

    @property
    def dtype(self): return self.v.dtype

    def _(self, name: str, *others) -> X: return X(self.c, getattr(self.c.b, name)(self.v, *map(bare, others)))

    def _r(self, name: str, other) -> X: return X(self.c, getattr(self.c.b, name)(self.c.b.value(bare(other), self.v), self.v))

    def __add__(self, o): return self._("add", o)
    def __radd__(self, o): return self._("add", o)
    def __sub__(self, o): return self._("sub", o)
    def __rsub__(self, o): return self._r("sub", o)
    def __mul__(self, o): return self._("mul", o)
    def __rmul__(self, o): return self._("mul", o)
    def __truediv__(self, o): return self._("div", o)
    def __rtruediv__(self, o): return self._r("div", o)
    def __neg__(self): return self._("neg")
    def __and__(self, o): return self._("and_", o)
    def __or__(self, o): return self._("or_", o)
    def __xor__(self, o): return self._("xor", o)
    def __invert__(self): return self._("not_")
    def __lshift__(self, o): return self._("shl", o)
    def __rshift__(self, o): return self._("shr", o)
    def __lt__(self, o): return self._("lt", o)
    def __le__(self, o): return self._("le", o)
    def __gt__(self, o): return self._("gt", o)
    def __ge__(self, o): return self._("ge", o)
    def eq(self, o): return self._("eq", o)
    def ne(self, o): return self._("ne", o)

    def __floordiv__(self, o):
        """Of counts and positions, which are never negative, by positive ones."""
        return self._plain("udiv", o)

    def __mod__(self, o): return self._plain("urem", o)

    def _plain(self, op: str, o) -> X:
        x, y = self.c.b._two(self.v, bare(o))
        return X(self.c, self.c.b.emit(f"{op} {x.type} {x.text}, {y.text}", x.dtype, x.n))

    def isnan(self): return self._("isnan")
    def to(self, t): return self._("cast", t)
    def bits(self, t): return self._("bitcast", t)
    def max(self, o): return self._("max", o)
    def min(self, o): return self._("min", o)
    def sqrt(self): return self._("sqrt")
    def fma(self, y, z): return self._("fma", y, z)
    def where(self, a, b):
        """self ? a : b"""
        return X(self.c, self.c.b.select(self.v, bare(a), bare(b)))


def bare(x): return x.v if isinstance(x, X) else x


class Variable:
    """A value that changes."""
    __slots__ = ("c", "place")

    def __init__(self, c, place): self.c, self.place = c, place

    @property
    def now(self) -> X: return X(self.c, self.c.b.get(self.place))

    def set(self, x):
        v = self.place[1] if not isinstance(self.place[0], tuple) else None
        self.c.b.set(self.place, bare(x) if isinstance(x, X) else self.c.b.const(x, v))

    def add(self, x): self.set(self.now + x)


class Code:
    """Writes one kernel. After `with c.kernel(name):` its body may ask for operands, words, this thread's share of the work."""

    def __init__(self): self.b = Builder()

    def kernel(self, name: str): return self.b.function(name)

    def text(self) -> str: return self.b.module()

    # ---- values
    def const(self, x, t=dt.int64) -> X: return X(self, self.b.const(x, t))

    def i64(self, x) -> X: return x if isinstance(x, X) else self.const(x)

    def var(self, start, t=dt.int64) -> Variable: return Variable(self, self.b.variable(bare(start) if isinstance(start, X) else self.b.const(start, t)))

    def iota(self, n: int, t=dt.int64) -> X: return X(self, self.b.iota(n, t))

    def splat(self, x: X, n: int) -> X: return X(self, self.b.splat(x.v, n))

    def bits_of(self, x: X) -> X:
        """The lanes that are set, as bits of an int64."""
        mask = self.b.emit(f"bitcast {x.v} to i{x.v.n}", dt.int64)
        return X(self, mask if x.v.n == 64 else self.b.emit(f"zext i{x.v.n} {mask.text} to i64", dt.int64))

    def ones(self, bits: X) -> X: return X(self, self.b.intrinsic("ctpop", bits.v))

    def lowest(self, bits: X) -> X:
        """The number of the lowest bit that is set."""
        return X(self, self.b.intrinsic("cttz", bits.v, extra=", i1 true"))

    def call(self, name: str, t, *args: X):
        out = self.b.call(name, t, *(a.v for a in args), n=1)
        return None if out is None else X(self, out)

    # ---- memory
    def at(self, p: X, index, t=dt.int8) -> X: return X(self, self.b.offset(p.v, bare(index), t))

    def load(self, p: X, t, index=0, n: int = 1) -> X: return X(self, self.b.load(self.b.offset(p.v, bare(index), t), t, n))

    def store(self, x: X, p: X, index=0): self.b.store(x.v, self.b.offset(p.v, bare(index), x.dtype))

    # ---- the ABI
    @property
    def ctx(self): return X(self, Val("%ctx", PTR))

    def word(self, i) -> X: return self.load(X(self, Val("%words", PTR)), dt.int64, i)

    def _slot(self, k) -> X: return self.at(X(self, Val("%vals", PTR)), self.word(k), dt.int64)

    def operand(self, k: int) -> X: return self.load(self._slot(k), PTR)

    def number(self, k: int, t=dt.float64) -> X: return self.load(self._slot(k), t)

    @property
    def tid(self) -> X: return self.load(self.ctx, dt.int64)

    @property
    def nt(self) -> X: return self.load(self.ctx, dt.int64, 1)

    def scratch(self) -> X: return self.load(self.at(self.ctx, 2, dt.int64), PTR)

    def share(self, n: X) -> tuple[X, X]:
        """This thread's part [lo, hi) of n pieces of work."""
        lo, hi = share(self.b, self.ctx.v, n.v)
        return X(self, lo), X(self, hi)

    def barrier(self):
        """All threads have come here and see each other's writes."""
        with self.when(self.nt > 1): self.b.put(f"call void {self.load(self.at(self.ctx, 4, dt.int64), PTR).v.text}(ptr %ctx)")

    def checked(self, index: X, size, low) -> X:
        """index in [low, size), negative ones counted from the end; any other goes into the error record and is read as 0."""
        size, good = self.i64(size), self.var(index)
        with self.when((index < low) | (index >= size)):
            record = self.load(self.at(self.ctx, 5, dt.int64), PTR)
            for k, x in enumerate((self.const(1), index, size, self.load(self.ctx, dt.int64, 6))): self.store(x, record, k)
            good.set(0)
        index = good.now
        return index + (index < 0).where(size, 0)

    # ---- control
    def loop(self, lo, hi, step=1): return self._given(self.b.loop(bare(lo), bare(hi), bare(step)))

    @contextmanager
    def _given(self, manager):
        with manager as i: yield X(self, i)

    def when(self, condition: X): return self.b.if_(condition.v)

    @contextmanager
    def either(self, condition: X):
        """with c.either(x) as otherwise: …; otherwise(); …"""
        k = self.b.name("")
        self.b.put(f"br i1 {condition.v.text}, label %yes{k}, label %no{k}")
        self.b.label(f"yes{k}")

        def otherwise():
            self.b.put(f"br label %both{k}")
            self.b.label(f"no{k}")
        yield otherwise
        self.b.put(f"br label %both{k}")
        self.b.label(f"both{k}")

    @contextmanager
    def forever(self):
        """with c.forever() as leave: …; leave(condition); …"""
        k = self.b.name("")
        self.b.put(f"br label %again{k}")
        self.b.label(f"again{k}")

        def leave(condition: X):
            on = self.b.name("")
            self.b.put(f"br i1 {condition.v.text}, label %left{k}, label %on{on}")
            self.b.label(f"on{on}")
        yield leave
        self.b.put(f"br label %again{k}")
        self.b.label(f"left{k}")
