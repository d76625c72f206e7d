"""Instructions that mean what PyTorch means on their operands' dtype.

Comes in: calls from op rows' `emit`, from the loop-nest compiler and from tile programs. Goes out: the text of one module (`text.Writer`).

Operations splat the narrower operand and take Python numbers. Arithmetic on float16 and bfloat16 widens to float32 and rounds back.
Only instructions that every processor of the chosen level has are emitted: LLVM would replace others by calls into the C library.
"""
from __future__ import annotations

from math import pi

from ..core import dtype as dt
from ..core.errors import unsupported
from . import circular, cmath, math, special
from .text import PTR, SUFFIX, TYPES, Val, Writer, llvm_type, memory_type, vector_type

_BITS = {dt.float32: dt.int32, dt.float64: dt.int64, dt.float16: dt.int16, dt.bfloat16: dt.int16}
_FLOAT_OF_BITS = {dt.int32: dt.float32, dt.int64: dt.float64, dt.uint32: dt.float32, dt.uint64: dt.float64}
_BOOL_OPS = {"add": "or", "mul": "and", "sub": "xor"}
HALVES = (dt.float16, dt.bfloat16)


class Builder(Writer):
    def __init__(self):
        super().__init__()
        self.fma_native = self.isa.level == "neon" or self.isa.has("fma")
        self.round_native = self.isa.level == "neon" or self.isa.has("sse4.1")
        self.narrowed: set[str] = set()        # float32 values that were float64: LLVM would round them to half in one step, which is a call

    # ---- memory
    def alloca(self, t, n: int = 1, count: int = 1) -> Val:
        """Memory of this call for `count` values, in the entry block so that LLVM can keep it in registers."""
        out = self.name("%a")
        typ = llvm_type(t, n)
        self.entry.append(f"{out} = alloca {f'[{count} x {typ}]' if count > 1 else typ}, align 64")
        return Val(out, PTR)

    def variable(self, init: Val):
        """A place that starts as `init`; `get` and `set` it with b.get(place), b.set(place, x)."""
        if init.parts: return tuple(map(self.variable, init.parts))
        place = self.alloca(init.dtype, init.n)
        self.put(f"store {init}, ptr {place.text}, align 64")
        return place, init.dtype, init.n

    def get(self, place) -> Val:
        if isinstance(place[0], tuple): return self.pair(*map(self.get, place))
        p, t, n = place
        return self.emit(f"load {llvm_type(t, n)}, ptr {p.text}, align 64", t, n)

    def set(self, place, x: Val):
        if isinstance(place[0], tuple):
            for p, v in zip(place, x.parts): self.set(p, v)
            return
        self.put(f"store {self.splat(x, place[2])}, ptr {place[0].text}, align 64")

    def offset(self, p: Val, i, t=dt.int8) -> Val:
        """The address of element i (elements of dtype t; complex counts its parts as one) from p."""
        i = self.index(i)
        if i.const == 0: return p
        if t is not PTR and t.category == dt.COMPLEX: i, t = self.mul(i, 2), t.real
        return self.emit(f"getelementptr {memory_type(t)}, ptr {p.text}, {i}", PTR, i.n)

    def load(self, p: Val, t, n: int = 1, align: int | None = None) -> Val:
        """n consecutive elements of dtype t; bool is a byte in memory and a bit in registers, complex is interleaved."""
        if t is PTR: return self.emit(f"load ptr, ptr {p.text}, align 8", PTR)
        if t.category == dt.COMPLEX:
            both = self.load(p, t.real, 2 * n)
            if n == 1: return self.pair(self.extract(both, 0), self.extract(both, 1))
            return self.pair(self.shuffle(both, None, range(0, 2 * n, 2)), self.shuffle(both, None, range(1, 2 * n, 2)))
        out = self.emit(f"load {vector_type(memory_type(t), n)}, ptr {p.text}, align {align or t.size}", dt.uint8 if t is dt.bool else t, n)
        return self.ne(out, 0) if t is dt.bool else out

    def store(self, x: Val, p: Val, align: int | None = None):
        if x.parts: return self.store(self.interleave(x), p)
        if x.dtype is dt.bool: x = self.emit(f"zext {x} to {vector_type('i8', x.n)}", dt.uint8, x.n)
        self.put(f"store {x}, ptr {p.text}, align {align or (8 if x.dtype is PTR else x.dtype.size)}")

    def interleave(self, x: Val) -> Val:
        """(re, im) as one vector re0 im0 re1 im1 …"""
        if x.n == 1:
            zero = Val("poison", x.re.dtype, 2)
            return self.insert(self.insert(zero, x.re, 0), x.im, 1)
        return self.shuffle(x.re, x.im, [i for k in range(x.n) for i in (k, x.n + k)])

    def mask(self, count: Val, n: int) -> Val:
        """Lanes below count (int64, at most n)."""
        return self.emit(f"icmp ult {self.iota(n, dt.int32)}, {self.splat(self.cast(count, dt.int32), n).text}", dt.bool, n)

    def load_masked(self, p: Val, t, mask: Val) -> Val:
        """Lanes where mask is set; the others are 0 and their memory is not touched."""
        m, n = dt.uint8 if t is dt.bool else t, mask.n
        out = self.call(f"llvm.masked.load.v{n}{SUFFIX.get(TYPES[m], TYPES[m])}.p0", m, p, Val(str(t.size), dt.int32), mask,
                        Val("zeroinitializer", m, n), n=n)
        return self.ne(out, 0) if t is dt.bool else out

    def store_masked(self, x: Val, p: Val, mask: Val):
        t = x.dtype
        if t is dt.bool: x = self.emit(f"zext {x} to {vector_type('i8', x.n)}", dt.uint8, x.n)
        self.call(f"llvm.masked.store.v{x.n}{SUFFIX.get(TYPES[x.dtype], TYPES[x.dtype])}.p0", None, x, p, Val(str(t.size), dt.int32), mask)

    def gather(self, p: Val, index: Val, t) -> Val:
        """Elements p[index] for a vector of indices (every lane must be a valid address)."""
        if index.n == 1: return self.load(self.offset(p, index, t), t)
        if t.category == dt.COMPLEX:
            twice = self.mul(index, 2)
            return self.pair(self.gather(p, twice, t.real), self.gather(p, self.add(twice, 1), t.real))
        n, m = index.n, dt.uint8 if t is dt.bool else t
        if t.size >= 4 and self.isa.has("avx2"):
            at = self.emit(f"getelementptr {memory_type(t)}, ptr {p.text}, {index}", PTR, n)
            s = TYPES[t]
            return self.call(f"llvm.masked.gather.v{n}{SUFFIX.get(s, s)}.v{n}p0", t, at, Val(str(t.size), dt.int32),
                             Val("splat (i1 true)", dt.bool, n), Val("poison", t, n), n=n)
        offsets, out = self.alloca(dt.int64, n), self.alloca(m, n)
        self.store(index, offsets, 64)
        with self.loop(0, n) as k:
            x = self.load(self.offset(p, self.load(self.offset(offsets, k, dt.int64), dt.int64), m), m)
            self.store(x, self.offset(out, k, m))
        x = self.load(out, m, n)
        return self.ne(x, 0) if t is dt.bool else x

    def prefetch(self, p: Val, write: bool = False, locality: int = 3):
        self.declared["llvm.prefetch.p0"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
        self.put(f"call void @llvm.prefetch.p0(ptr {p.text}, i32 {int(write)}, i32 {locality}, i32 1)")

    # ---- arithmetic
    def _widen(self, op, *xs, rounded=False):
        """op in float32 on half operands, rounded back; `rounded`: op itself rounds from float64."""
        half = next(x.dtype for x in xs if isinstance(x, Val))
        out = op(*(self.cast(x, dt.float32) if isinstance(x, Val) and x.dtype in HALVES else x for x in xs))
        return self._to_half(out, half, rounded) if out.dtype is dt.float32 else out

    def _arith(self, op, x, y) -> Val:
        x, y = self._two(x, y)
        t = x.dtype
        if t in HALVES: return self._widen(lambda p, q: self._arith(op, p, q), x, y)
        if t.category == dt.COMPLEX: return getattr(cmath, op)(self, x, y)
        if t is dt.bool: return self.emit(f"{_BOOL_OPS[op]} {x.type} {x.text}, {y.text}", t, x.n)
        if t.category == dt.FLOAT: return self.emit(f"f{op} {x.type} {x.text}, {y.text}", t, x.n)
        if x.const is not None and y.const is not None and x.n == 1:
            return self.const({"add": x.const + y.const, "sub": x.const - y.const, "mul": x.const * y.const}[op], t)
        if y.const == 0 and op != "mul" or y.const == 1 and op == "mul": return x
        if x.const == 0 and op == "add" or x.const == 1 and op == "mul": return y
        if op == "mul" and (x.const == 0 or y.const == 0): return self.const(0, t, x.n)
        return self.emit(f"{op} {x.type} {x.text}, {y.text}", t, x.n)

    def add(self, x, y): return self._arith("add", x, y)
    def sub(self, x, y): return self._arith("sub", x, y)
    def mul(self, x, y): return self._arith("mul", x, y)

    def div(self, x, y) -> Val:
        """True division of floats and complex numbers; of integers, like truncdiv."""
        x, y = self._two(x, y)
        return self._arith("div", x, y) if x.dtype.category >= dt.FLOAT else self.truncdiv(x, y)

    def neg(self, x: Val) -> Val:
        if x.parts: return self.pair(self.neg(x.re), self.neg(x.im))
        if x.dtype in HALVES: return self._as(self.xor(self._as(x, dt.int16), -0x8000), x.dtype)
        if x.dtype.category == dt.FLOAT: return self.emit(f"fneg {x}", x.dtype, x.n)
        return x if x.dtype is dt.bool else self.sub(self.const(0, x), x)

    def fma(self, x, y, z) -> Val:
        """x·y + z rounded once (floats); a plain product and sum for other types."""
        x, y, z = self.align(*(v if isinstance(v, Val) else self.const(v, next(o for o in (x, y, z) if isinstance(o, Val))) for v in (x, y, z)))
        t = x.dtype
        if t in HALVES: return self._widen(self.fma, x, y, z)
        if t.category != dt.FLOAT: return self.add(self.mul(x, y), z)
        if self.fma_native: return self.intrinsic("fma", x, y, z)
        if t is dt.float64: return math.fma_soft(self, x, y, z)
        x, y, z = (self.cast(v, dt.float64) for v in (x, y, z))
        return self.cast(self.add(self.mul(x, y), z), t)

    def mad(self, x, y, z) -> Val:
        """x·y + z by the quickest way: rounded once or twice."""
        return self.fma(x, y, z) if self.fma_native else self.add(self.mul(x, y), z)

    def _divide(self, x: Val, y: Val) -> tuple[Val, Val]:
        """Quotient towards zero and remainder of integers; x / 0 is 0 remainder x, and nothing traps."""
        zero, sign = self.eq(y, 0), "s" if x.dtype.signed else "u"
        minus = self.eq(y, -1) if x.dtype.signed else None
        safe = self.select(self.or_(zero, minus) if minus else zero, self.const(1, x), y)
        q = self.emit(f"{sign}div {x.type} {x.text}, {safe.text}", x.dtype, x.n)
        if minus: q = self.select(minus, self.neg(x), q)
        q = self.select(zero, self.const(0, x), q)
        return q, self.sub(x, self.mul(q, y))

    def truncdiv(self, x, y) -> Val:
        x, y = self._two(x, y)
        return self.trunc(self.div(x, y)) if x.dtype.category == dt.FLOAT else self._divide(x, y)[0]

    def rem(self, x, y) -> Val:
        """The remainder with x's sign (C's fmod)."""
        x, y = self._two(x, y)
        if x.dtype in HALVES: return self._widen(self.rem, x, y, rounded=True)
        return math.fmod(self, x, y) if x.dtype.category == dt.FLOAT else self.select(self.eq(y, 0), self.const(0, x), self._divide(x, y)[1])

    def mod(self, x, y) -> Val:
        """The remainder with y's sign (Python's %)."""
        x, y = self._two(x, y)
        if x.dtype in HALVES: return self._widen(self.mod, x, y, rounded=True)
        r = self.rem(x, y)
        if not x.dtype.signed: return r
        return self.select(self.and_(self.ne(r, 0), self.xor(self.lt(r, 0), self.lt(y, 0))), self.add(r, y), r)

    def floordiv(self, x, y) -> Val:
        x, y = self._two(x, y)
        if x.dtype in HALVES: return self._widen(self.floordiv, x, y, rounded=True)
        if x.dtype.category == dt.FLOAT: return math.floordiv(self, x, y)
        q, r = self._divide(x, y)
        if not x.dtype.signed: return q
        down = self.and_(self.and_(self.ne(r, 0), self.ne(y, 0)), self.xor(self.lt(r, 0), self.lt(y, 0)))
        return self.select(down, self.sub(q, 1), q)

    # ---- comparing and choosing
    def _compare(self, op, x, y) -> Val:
        x, y = self._two(x, y)
        t = x.dtype
        if t in HALVES: x, y = self.cast(x, dt.float32), self.cast(y, dt.float32)
        if t.category == dt.COMPLEX:
            parts = self._compare(op, x.re, y.re), self._compare(op, x.im, y.im)
            return self.and_(*parts) if op == "eq" else self.or_(*parts)
        if t.category == dt.FLOAT: return self.emit(f"fcmp {'une' if op == 'ne' else 'o' + op} {x.type} {x.text}, {y.text}", dt.bool, x.n)
        sign = "" if op in ("eq", "ne") else "s" if t.signed else "u"
        return self.emit(f"icmp {sign}{op} {x.type} {x.text}, {y.text}", dt.bool, x.n)

    def lt(self, x, y): return self._compare("lt", x, y)
    def le(self, x, y): return self._compare("le", x, y)
    def gt(self, x, y): return self._compare("gt", x, y)
    def ge(self, x, y): return self._compare("ge", x, y)
    def eq(self, x, y): return self._compare("eq", x, y)
    def ne(self, x, y): return self._compare("ne", x, y)

    def select(self, cond: Val, x, y) -> Val:
        x, y = self._two(x, y)
        if x.parts: return self.pair(self.select(cond, x.re, y.re), self.select(cond, x.im, y.im))
        if cond.n > x.n: x, y = self.splat(x, cond.n), self.splat(y, cond.n)
        return self.emit(f"select {cond}, {x}, {y}", x.dtype, x.n)      # a scalar condition may choose between vectors

    def _extreme(self, op, x, y) -> Val:
        x, y = self._two(x, y)
        t = x.dtype
        if t is dt.bool: return self.or_(x, y) if op == "max" else self.and_(x, y)
        if t.category == dt.INT: return self.intrinsic(f"{'s' if t.signed else 'u'}{op}", x, y)
        if t in HALVES: return self._widen(lambda p, q: self._extreme(op, p, q), x, y)
        # one max instruction, which gives y when either is NaN, and a blend for x
        best = self.select(self.emit(f"fcmp {'ogt' if op == 'max' else 'olt'} {x.type} {x.text}, {y.text}", dt.bool, x.n), x, y)
        return self.select(self.isnan(x), x, best)

    def max(self, x, y): return self._extreme("max", x, y)
    def min(self, x, y): return self._extreme("min", x, y)

    def isnan(self, x: Val) -> Val:
        if x.parts: return self.or_(self.isnan(x.re), self.isnan(x.im))
        if x.dtype.category != dt.FLOAT: return self.const(False, dt.bool, x.n)
        return self.ne(x, x)

    def isinf(self, x: Val) -> Val:
        if x.parts: return self.or_(self.isinf(x.re), self.isinf(x.im))
        if x.dtype.category != dt.FLOAT: return self.const(False, dt.bool, x.n)
        return self.eq(self.abs(x), float("inf"))

    def isfinite(self, x: Val) -> Val:
        if x.parts: return self.and_(self.isfinite(x.re), self.isfinite(x.im))
        if x.dtype.category != dt.FLOAT: return self.const(True, dt.bool, x.n)
        return self.lt(self.abs(x), float("inf"))

    # ---- bits
    def _bitwise(self, op, x, y) -> Val:
        x, y = self._two(x, y)
        return self.emit(f"{op} {x.type} {x.text}, {y.text}", x.dtype, x.n)

    def and_(self, x, y): return self._bitwise("and", x, y)
    def or_(self, x, y): return self._bitwise("or", x, y)
    def xor(self, x, y): return self._bitwise("xor", x, y)
    def not_(self, x: Val): return self.xor(x, True if x.dtype is dt.bool else -1)

    def shl(self, x, y) -> Val:
        """x << y; 0 when y is negative or at least the width."""
        x, y = self._two(x, y)
        bits = 8 * x.dtype.size
        if y.const is not None and 0 <= y.const < bits: return self._bitwise("shl", x, y)
        ok = self.emit(f"icmp ult {y.type} {y.text}, {self.const(bits, y, y.n).text}", dt.bool, y.n)
        return self.select(ok, self._bitwise("shl", x, self.and_(y, bits - 1)), self.const(0, x))

    def shr(self, x, y) -> Val:
        """x >> y, keeping the sign of signed types; a y that is negative or at least the width shifts every bit out."""
        x, y = self._two(x, y)
        bits, op = 8 * x.dtype.size, "ashr" if x.dtype.signed else "lshr"
        if y.const is not None and 0 <= y.const < bits: return self._bitwise(op, x, y)
        ok = self.emit(f"icmp ult {y.type} {y.text}, {self.const(bits, y, y.n).text}", dt.bool, y.n)
        out = self._bitwise("ashr", x, bits - 1) if x.dtype.signed else self.const(0, x)
        return self.select(ok, self._bitwise(op, x, self.and_(y, bits - 1)), out)

    def bitcast(self, x: Val, t) -> Val:
        """The same bits as another dtype of that size."""
        return self._as(x, t) if llvm_type(t) == TYPES[x.dtype] else self.emit(f"bitcast {x} to {llvm_type(t, x.n)}", t, x.n)

    def bits(self, x: Val) -> Val: return self.bitcast(x, _BITS[x.dtype])
    def from_bits(self, x: Val) -> Val: return self.bitcast(x, _FLOAT_OF_BITS[x.dtype])

    def _as(self, x: Val, t) -> Val: return Val(x.text, t, x.n)

    # ---- parts of numbers
    def abs(self, x: Val) -> Val:
        if x.parts: return cmath.abs(self, x)
        if x.dtype in HALVES: return self._as(self.and_(self._as(x, dt.int16), 0x7FFF), x.dtype)
        if x.dtype.category == dt.FLOAT: return self.intrinsic("fabs", x)
        return self.intrinsic("abs", x, extra=", i1 false") if x.dtype.signed else x

    def copysign(self, x, y) -> Val:
        x, y = self._two(x, y)
        return self._widen(self.copysign, x, y) if x.dtype in HALVES else self.intrinsic("copysign", x, y)

    def signbit(self, x: Val) -> Val:
        if x.dtype in HALVES: return self.lt(self._as(x, dt.int16), 0)
        if x.dtype.category == dt.FLOAT: return self.lt(self.bits(x), 0)
        return self.lt(x, 0) if x.dtype.signed else self.const(False, dt.bool, x.n)

    def sqrt(self, x: Val) -> Val:
        if x.parts: return cmath.sqrt(self, x)
        return self._widen(self.sqrt, x) if x.dtype in HALVES else self.intrinsic("sqrt", x)

    def _round(self, how, x: Val) -> Val:
        if x.dtype.category != dt.FLOAT: return x
        if x.dtype in HALVES: return self._widen(lambda v: self._round(how, v), x)
        return self.intrinsic(how, x) if self.round_native else math.round_soft(self, how, x)

    def floor(self, x): return self._round("floor", x)
    def ceil(self, x): return self._round("ceil", x)
    def trunc(self, x): return self._round("trunc", x)
    def round(self, x): return self._round("roundeven", x)

    def conj(self, x: Val) -> Val: return self.pair(x.re, self.neg(x.im)) if x.parts else x
    def real(self, x: Val) -> Val: return x.re if x.parts else x
    def imag(self, x: Val) -> Val: return x.im if x.parts else self.const(0, x)
    def sgn(self, x: Val) -> Val: return cmath.sgn(self, x)

    def angle(self, x: Val) -> Val:
        if x.parts: return cmath.angle(self, x)
        return self.select(self.isnan(x), x, self.select(self.lt(x, 0), self.const(pi, x), 0))

    # ---- conversions
    def cast(self, x: Val, t) -> Val:
        """PyTorch's `.to(t)`. Floats to integers drop the fraction; numbers that don't fit wrap in small types and are the lowest of int32 and int64."""
        s = x.dtype
        if s is t: return x
        if t not in TYPES and t.category != dt.COMPLEX: raise unsupported("conversion", t)
        if x.const is not None and x.n == 1 and t.category != dt.COMPLEX and (s.category == dt.INT or s is dt.bool) and s in TYPES:
            return self.const(x.const, t)
        if t.category == dt.COMPLEX:
            re, im = x.parts or (x, self.const(0, t.real))
            return self.pair(self.cast(re, t.real), self.cast(im, t.real))
        if x.parts: return self.or_(self.ne(x.re, 0), self.ne(x.im, 0)) if t is dt.bool else self.cast(x.re, t)
        if t is dt.bool: return self.ne(x, 0)
        if s in HALVES: return self.cast(self._from_half(x), t)
        if t in HALVES: return self._to_half(self.cast(x, dt.float32), t, s is dt.float64)
        out = llvm_type(t, x.n)
        if s.category == dt.FLOAT:
            if t.category == dt.FLOAT and t.size > s.size: return self.emit(f"fpext {x} to {out}", t, x.n)
            if t.category == dt.FLOAT:
                narrow = self.emit(f"fptrunc {x} to {out}", t, x.n)
                self.narrowed.add(narrow.text)
                return narrow
            return self._float_to_int(x, t)
        if t.category == dt.FLOAT: return self.emit(f"{'sitofp' if s.signed else 'uitofp'} {x} to {out}", t, x.n)
        if s is not dt.bool and s.size == t.size: return self._as(x, t)
        op = "zext" if s is dt.bool else "trunc" if t.size < s.size else "sext" if s.signed else "zext"
        return self.emit(f"{op} {x} to {out}", t, x.n)

    def _float_to_int(self, x: Val, t) -> Val:
        """What doesn't fit the register becomes its lowest number, as x86 converts; small types are the register's low bits."""
        wide = dt.int32 if t.size < 4 else dt.int64 if t is not dt.int32 else t
        if t is dt.uint8 and x.dtype is dt.float64: wide = dt.int64
        edge = float(1 << 8 * wide.size - 1)
        low = self.emit(f"fptosi {self.select(self.lt(self.abs(x), edge), x, -edge)} to {llvm_type(wide, x.n)}", wide, x.n)
        if t is not dt.uint64: return self.cast(low, t)
        types = f"{f'v{x.n}' if x.n > 1 else ''}i64.{f'v{x.n}' if x.n > 1 else ''}{SUFFIX[TYPES[x.dtype]]}"
        return self.cast(self.select(self.lt(x, 0.0), low, self._as(self.call(f"llvm.fptoui.sat.{types}", wide, x), wide)), t)

    def _from_half(self, x: Val) -> Val:
        """float32 of the 16 bits."""
        if x.dtype is dt.bfloat16: return self.from_bits(self.shl(self.cast(self._as(x, dt.uint16), dt.int32), 16))
        if self.isa.has("f16c") or self.isa.level == "neon":
            half = vector_type("half", x.n)
            h = self.emit(f"bitcast {x} to {half}", x.dtype, x.n)
            return self.emit(f"fpext {half} {h.text} to {llvm_type(dt.float32, x.n)}", dt.float32, x.n)
        return math.from_half_soft(self, self.cast(self._as(x, dt.uint16), dt.int32))

    def _to_half(self, x: Val, t, rounded=False) -> Val:
        """The 16 bits of a float32, rounded to nearest even; NaN stays NaN. `rounded`: it was a float64 just now, and LLVM would make one rounding of the two,
        for which there is no instruction."""
        if t is dt.bfloat16:
            i = self.bitcast(x, dt.uint32)
            up = self.add(i, self.add(self.and_(self.shr(i, 16), 1), 0x7FFF))
            return self._as(self.cast(self.shr(self.select(self.isnan(x), self.const(0x7FC00000, i), up), 16), dt.int16), t)
        if (self.isa.has("f16c") or self.isa.level == "neon") and not rounded and x.text not in self.narrowed:
            h = self.emit(f"fptrunc {x} to {vector_type('half', x.n)}", t, x.n)
            return self.emit(f"bitcast {vector_type('half', x.n)} {h.text} to {vector_type('i16', x.n)}", t, x.n)
        return self._as(self.cast(math.to_half_soft(self, x), dt.int16), t)


def _function(name):
    """A Builder method: the complex version for pairs, float32 for halves, else the function of that name in math, circular or special."""
    real, pair = getattr(next(f for f in (math, circular, special) if name in f.FUNCTIONS), name), getattr(cmath, name, None)

    def method(self, x, *more):
        xs = [x, *more]
        if more:
            like = next(v for v in xs if isinstance(v, Val))
            xs = self.align(*(self.value(v, like) for v in xs))
        if xs[0].parts:
            if pair is None: raise unsupported(name, xs[0].dtype)
            return pair(self, *xs)
        if xs[0].dtype in HALVES: return self._widen(lambda *v: real(self, *v), *xs)
        return real(self, *xs)
    method.__name__ = name
    return method


for _name in math.FUNCTIONS + circular.FUNCTIONS + special.FUNCTIONS: setattr(Builder, _name, _function(_name))
