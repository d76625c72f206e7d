"""Running sums, products, extremes and log-sums along one axis.

Comes in: Natives with operands x and result, words (outer, n, inner): element (o, i, j) lies at (o·n + i)·inner + j. Goes out: Launches.
spec = (kind, operand's dtype, result's dtype, reverse). Lines along the axis are shared among threads; as many neighbouring lines as fit a vector
register run together. Sums and products are carried as PyTorch carries them: float32 in float64, halves in float32, integers in int64.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import Launch, Native
from ...cpu import isa
from .code import Code, X
from .index import launch, program

CARRIED = {dt.float32: dt.float64, dt.float16: dt.float32, dt.bfloat16: dt.float32, dt.complex64: dt.complex128}


def _sum(c, carry, x, at): return (carry[0] + x,), carry[0] + x
def _product(c, carry, x, at): return (carry[0] * x,), carry[0] * x


def _extreme(better):
    """The position of the extreme so far: of equal ones the last, NaN before anything else."""
    def step(c: Code, carry, x: X, at: X):
        best, where = carry
        take = takes(x, best)
        where = take.where(c.splat(at, x.v.n), where)
        return (take.where(x, best), where), where

    def takes(x, best): return x.isnan() | (~best.isnan() & better(x, best))
    step.takes = takes
    return step


def _extreme_one(c: Code, step, carry, x: X, at: X) -> X:
    """A single line by branches: a new extreme gets rare, and the processor need not wait for the old one."""
    best = carry[0].now
    with c.when(step.takes(x, best)):
        carry[0].set(x)
        carry[1].set(at)
    return carry[1].now


def _log_sum(c: Code, carry, x: X, at):
    """log(exp(total) + exp(x)); equal infinities stay what they are."""
    total = carry[0]
    lo, hi = x.min(total), x.max(total)
    finite = lo.ne(hi) | X(c, c.b.isfinite(lo.v))
    out = finite.where(((lo - hi)._("exp"))._("log1p") + hi, x)
    out = (x.isnan() | total.isnan()).where(x + total, out)
    return (out,), out


def _kind(kind: str, t: dt.dtype, out: dt.dtype):
    """step function, type x is converted to, start of the carry."""
    if kind in ("cummax", "cummin"):
        return _extreme((lambda a, b: a >= b) if kind == "cummax" else (lambda a, b: a <= b)), dt.uint8 if t is dt.bool else t, None
    carried = CARRIED.get(out, out)
    if kind == "logcumsumexp": return _log_sum, t.opmath, (float("-inf"),)
    return (_sum, carried, (0,)) if kind == "cumsum" else (_product, carried, (1,))


def _scan(c: Code, kind: str, t: dt.dtype, out_type: dt.dtype, reverse: bool):
    step, carried, start = _kind(kind, t, out_type)
    x, out = c.operand(0), c.operand(1)
    outer, n, inner = (c.word(2 + k) for k in range(3))
    width = max(isa.vector_bytes // max(carried.size, out_type.size), 1)
    groups = (inner + (width - 1)) // width

    def lines(first: X, w: int):
        def load(at): return c.load(x, t, at, w).to(carried)
        if start is None: carry = [c.var(load(first + ((n - 1) * inner if reverse else 0))), c.var(c.splat(n - 1 if reverse else c.const(0), w))]
        else: carry = [c.var(c.splat(c.const(s, carried), w)) for s in start]
        with c.loop(0, n) as k:
            i = n - 1 - k if reverse else k
            at = first + i * inner
            if start is None and w == 1: result = _extreme_one(c, step, carry, load(at), i)
            else:
                new, result = step(c, [v.now for v in carry], load(at), i)
                for v, value in zip(carry, new): v.set(value)
            c.store(result.to(out_type), out, at)
    lo, hi = c.share(outer * groups)
    with c.when(n > 0), c.loop(lo, hi) as g:
        j = g % groups * width
        first, left = g // groups * n * inner + j, inner - j
        with c.either(left >= width) as otherwise:
            lines(first, width)
            otherwise()
            with c.loop(0, left) as k: lines(first + k, 1)


def scan(n: Native) -> Launch: return launch(n, program("scan", _scan, *n.spec), n.words)


ROUTINES = {"scan": scan}
