"""Running sums, products, extremes and log-sums along one axis.

Comes in: Natives with operands x and result, words (outer, n, inner): element (o, i, j) lies at (o·n + i)·inner + j. Goes out: Launches.
spec = (kind, operand's dtype, result's dtype, reverse). Lines along the axis are shared among threads; as many neighbouring lines as fit a vector
register run together, and of lines that lie one behind the other a few in turns, for each step waits for the one before. Sums, products and log-sums are
carried as PyTorch carries them: float32 in float64, halves in float32, integers in int64.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import Launch, Native
from ...cpu import isa
from .code import Code, X
from .index import launch, program
from .sort import key, key_type

TURNS = 4                                      # lines in turns
CARRIED = {dt.float32: dt.float64, dt.float16: dt.float32, dt.bfloat16: dt.float32, dt.complex64: dt.complex128}


def _sum(c, carry, x, at): return (carry[0] + x,), carry[0] + x
def _product(c, carry, x, at): return (carry[0] * x,), carry[0] * x


def _extreme(c: Code, carry, x: X, at: X):
    """The position of the largest key so far; of equal ones the last."""
    best, where = carry
    where = (x >= best).where(c.splat(at, x.v.n), where)
    return (x.max(best), where), where


def _rank(x: X, t: dt.dtype, smallest: bool) -> X:
    """A key that is larger for what wins: NaN before anything else."""
    k = key(x, t, smallest)
    return x.isnan().where(x.c.splat(x.c.const(-1, k.dtype), x.v.n), k) if smallest and t.is_floating_point else k


def _log_sum(c: Code, carry, x: X, at):
    """log(exp(total) + exp(x)); equal infinities stay what they are."""
    total = carry[0]
    lo, hi = x.min(total), x.max(total)
    finite = lo.ne(hi) | X(c, c.b.isfinite(lo.v))
    out = finite.where(((lo - hi)._("exp"))._("log1p") + hi, x)
    out = (x.isnan() | total.isnan()).where(x + total, out)
    return (out,), out


def _log_sum_complex(c: Code, carry, x: X, at):
    """The same of complex numbers, the larger real part in front; of two -inf the angle can't be told, of two +inf the sum is taken as it stands."""
    total, b = carry[0], c.b
    less = total._("real") <= x._("real")
    lo, hi = less.where(total, x), less.where(x, total)
    top = hi._("real")
    equal = lo._("real").eq(top) & X(c, b.isinf(top.v))
    out = (lo - hi)._("exp")._("log1p") + hi
    out = equal.where((top < 0.0).where(lo, (lo._("exp") + hi._("exp"))._("log")), out)
    nan = c.splat(c.const(float("nan"), x.dtype.real), x.v.n).v
    out = X(c, b.or_(b.isnan(total.v), b.isnan(x.v))).where(X(c, b.pair(nan, nan)), out)
    return (out,), out


def _kind(kind: str, t: dt.dtype, out: dt.dtype):
    """step function, what x is carried as, start of the carry (None: the first element and its position)."""
    if kind in ("cummax", "cummin"): return _extreme, key_type(t), None
    carried = CARRIED.get(out, out)
    if kind == "logcumsumexp": return _log_sum_complex if out.is_complex else _log_sum, carried, (float("-inf"),)
    return (_sum, carried, (0,)) if kind == "cumsum" else (_product, carried, (1,))


def _scan(c: Code, kind: str, t: dt.dtype, out_type: dt.dtype, reverse: bool):
    step, carried, start = _kind(kind, t, out_type)
    x, out = c.operand(0), c.operand(1)
    outer, n, inner = (c.word(2 + k) for k in range(3))
    width = max(isa.vector_bytes // max(carried.size, out_type.size), 1)
    groups = (inner + (width - 1)) // width

    def lines(firsts: list[X], w: int):
        def load(at):
            value = c.load(x, t, at, w)
            return value.to(carried) if start is not None else _rank(value, t, kind == "cummin")

        def begin(first):
            if start is not None: return [c.var(c.splat(c.const(s, carried), w)) for s in start]
            return [c.var(load(first + ((n - 1) * inner if reverse else 0))), c.var(c.splat(n - 1 if reverse else c.const(0), w))]
        carries = [begin(first) for first in firsts]
        with c.loop(0, n) as k:
            i = n - 1 - k if reverse else k
            for first, carry in zip(firsts, carries):
                at = first + i * inner
                new, result = step(c, [v.now for v in carry], load(at), i)
                for v, value in zip(carry, new): v.set(value)
                c.store(result.to(out_type), out, at)

    def in_turns():
        lo, hi = c.share((outer + (TURNS - 1)) // TURNS)
        with c.loop(lo, hi) as g:
            first, left = g * TURNS, outer - g * TURNS
            with c.either(left >= TURNS) as otherwise:
                lines([(first + k) * n for k in range(TURNS)], 1)
                otherwise()
                with c.loop(0, left) as k: lines([(first + k) * n], 1)

    def in_lanes():
        lo, hi = c.share(outer * groups)
        with c.loop(lo, hi) as g:
            j = g % groups * width
            first, left = g // groups * n * inner + j, inner - j
            with c.either(left >= width) as otherwise:
                lines([first], width)
                otherwise()
                with c.loop(0, left) as k: lines([first + k], 1)
    with c.when(n > 0):
        if kind == "logcumsumexp": return in_lanes()                         # long enough to fill a processor, and to compile
        with c.either(inner.eq(1)) as otherwise:
            in_turns()
            otherwise()
            in_lanes()


def scan(n: Native) -> Launch: return launch(n, program("scan", _scan, *n.spec), n.words)


ROUTINES = {"scan": scan}
