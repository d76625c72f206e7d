"""Attention's two kernels against NumPy: sizes and tails, masks, shared heads, strides, half types, threads; nothing around their results is touched."""
import struct

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Native, Operand
from forno.kernel import attention

from .harness import run

SCALE = 0.3


def softmax(s):
    """(weights, logarithm of the sums of exponentials); rows of -inf give zeros and inf."""
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isinf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"): lse = np.where(total == 0, np.inf, top + np.log(total))
    return e / np.where(total == 0, 1, total), lse[..., 0]


def bits(x): return struct.unpack("<q", struct.pack("<d", x))[0]
def to_bf16(x): return ((x.astype(np.float32).view(np.uint32) + 0x7FFF + (x.astype(np.float32).view(np.uint32) >> 16 & 1)) >> 16).astype(np.uint16)
def widen(x, t): return ((x.astype(np.uint32) << 16).view(np.float32) if t is dt.bfloat16 else x).astype(np.float64)


class Case:
    """q (B, H, L, E), k and v (B, H / group, S, …), of type t, each `turned` (made as (B, L, H, E)) or not; a mask (L, S) or none."""

    def __init__(self, sizes, t=dt.float32, mask=None, causal=False, group=1, turned=False, threads=1, columns=False):
        self.B, self.H, self.L, self.S, self.E, self.V = sizes
        self.t, self.causal, self.group, self.threads = t, causal, group, threads
        rng = np.random.default_rng(sum(sizes))

        def make(heads, rows, cols):
            x = rng.standard_normal((self.B, rows, heads, cols)).swapaxes(1, 2) if turned else rng.standard_normal((self.B, heads, rows, cols))
            x = to_bf16(x) if t is dt.bfloat16 else x.astype(t.code)
            return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if columns else x
        self.q, self.g, self.o = make(self.H, self.L, self.E), make(self.H, self.L, self.V), None
        self.k, self.v = make(self.H // group, self.S, self.E), make(self.H // group, self.S, self.V)
        self.m = None if mask is None else rng.random((self.L, self.S)) > 0.4 if mask is dt.bool else rng.standard_normal((self.L, self.S)).astype(mask.code)
        if self.m is not None and self.L > 2: self.m[1] = False if mask is dt.bool else -np.inf
        self.mask = mask

    def launch(self, which, canonical, operands, out, saved=1):
        """Runs one direction; the result's elements, behind which there is a fence."""
        words = [self.L, self.S, self.E, self.V, self.group, int(self.causal), saved, bits(SCALE), 3]
        lines, named = [[self.B], [self.H // self.group], [self.group]], {**canonical, **({"m": self.m} if self.m is not None else {})}
        for name, x in named.items():
            s = [n // x.itemsize for n in x.strides]
            words += [0, *(s[2:] if name not in "lm" else (s[2], 0) if name == "l" else s)]
            batch = (0, 0, 0) if name == "m" else (s[0], s[1], 0) if name in "kv" else (s[0], s[1] * self.group, s[1])
            for line, step in zip(lines, batch): line.append(step)
        arrays = [*operands, *([self.m] if self.m is not None else [])]
        acc = self.t.opmath
        kinds = tuple(Operand(self.mask if x is self.m else acc if x.ndim == 3 else self.t, "r") for x in arrays) + (Operand(acc, "w"),)
        result = np.full(out + 64, 7, acc.code)
        run(attention.build(Native("attention", (which, self.t, self.mask), (*words, *sum(lines, [])), kinds)), [*arrays, result], self.threads)
        assert (result[out:] == 7).all()
        return result[:out]

    def unit(self): return {dt.float64: 1e-12, dt.float32: 2e-5}.get(self.t, 2e-2)

    def check_result(self):
        """Forward alone, nothing saved."""
        q, k, v = (widen(x, self.t) for x in (self.q, self.k, self.v))
        k, v = (np.repeat(x, self.group, 1) for x in (k, v))
        s = q @ k.swapaxes(-1, -2) * SCALE
        if self.m is not None: s = np.where(self.m, s, -np.inf) if self.mask is dt.bool else s + self.m
        want = softmax(s)[0] @ v
        got = self.launch("forward", dict(q=self.q, k=self.k, v=self.v), [self.q, self.k, self.v], want.size, saved=0)
        near(got.reshape(want.shape), want, self.unit())
        return got

    def check(self, unit=None):
        rows, unit = self.B * self.H * self.L, unit or self.unit()
        q, k, v, g = (widen(x, self.t) for x in (self.q, self.k, self.v, self.g))
        k, v = (np.repeat(x, self.group, 1) for x in (k, v))
        s = q @ k.swapaxes(-1, -2) * SCALE
        if self.m is not None: s = np.where(self.m, s, -np.inf) if self.mask is dt.bool else s + self.m
        if self.causal: s = np.where(np.arange(self.S) <= np.arange(self.L)[:, None], s, -np.inf)
        p, lse = softmax(s)
        packed = self.launch("forward", dict(q=self.q, k=self.k, v=self.v), [self.q, self.k, self.v], rows * (self.V + 1))
        o, got = packed[:rows * self.V].reshape(*self.q.shape[:3], self.V), packed[rows * self.V:].reshape(self.q.shape[:3])
        near(o, p @ v, unit)
        near(got, lse, unit)
        o = to_bf16(o) if self.t is dt.bfloat16 else o.astype(self.t.code)
        canonical = dict(q=self.q, k=self.k, v=self.v, g=self.g, o=o, l=got)
        sizes = [self.q.size, self.k.size, self.v.size]
        grads = np.split(self.launch("backward", canonical, [self.g, o, got, self.q, self.k, self.v], sum(sizes)), np.cumsum(sizes)[:2])
        d = g @ v.swapaxes(-1, -2)
        slopes = p * (d - (p * d).sum(-1, keepdims=True)) * SCALE

        def fold(x): return x.reshape(self.B, self.H // self.group, self.group, *x.shape[2:]).sum(2)
        wants = slopes @ k, fold(slopes.swapaxes(-1, -2) @ q), fold(p.swapaxes(-1, -2) @ g)
        for got, want in zip(grads, wants): near(got.reshape(want.shape), want, 4 * unit)
        return packed, np.concatenate(grads)


def near(got, want, unit): np.testing.assert_allclose(got, want, rtol=unit, atol=unit * max(np.max(np.abs(want), initial=0, where=np.isfinite(want)), 1))


SIZES = [(1, 1, 5, 7, 4, 4), (2, 2, 33, 40, 16, 20), (1, 2, 100, 300, 64, 64), (1, 1, 200, 90, 24, 72), (1, 1, 1, 50, 8, 8), (1, 1, 3, 1, 1, 1), (3, 1, 17, 15, 80, 33)]


@pytest.mark.parametrize("mask", [None, dt.bool, dt.float32], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes_and_masks(sizes, causal, mask): Case(sizes, mask=mask, causal=causal).check()


@pytest.mark.parametrize("t", [dt.float64, dt.bfloat16, dt.float16], ids=str)
def test_types(t):
    Case((2, 2, 70, 150, 24, 32), t, causal=True).check()
    Case((1, 2, 20, 30, 16, 40), t, mask=t if t is dt.float64 else dt.bool, turned=True).check()


@pytest.mark.parametrize("layout", [dict(turned=True), dict(columns=True)], ids=str)
@pytest.mark.parametrize("t", [dt.float32, dt.float16], ids=str)
def test_strides(layout, t):
    Case((2, 4, 70, 150, 24, 32), t, causal=True, **layout).check()
    Case((1, 16, 70, 40, 64, 64), t, group=4, **layout).check()              # rows a power of two apart


@pytest.mark.parametrize("group", [2, 4])
def test_shared_heads(group): Case((2, 4, 50, 160, 16, 24), group=group, mask=dt.bool).check()


@pytest.mark.parametrize("mask", [None, dt.bool, dt.float32], ids=str)
@pytest.mark.parametrize("sizes", [(2, 4, 1, 50, 8, 8), (1, 4, 1, 131, 64, 64), (1, 12, 1, 300, 64, 48), (1, 2, 1, 1, 3, 5), (1, 2, 1, 9, 80, 33), (1, 2, 1, 0, 4, 4)], ids=str)
def test_a_single_query(sizes, mask):
    for layout in (dict(), dict(turned=True), dict(columns=True), dict(threads=3), dict(group=2)):
        case = Case(sizes, mask=mask, **layout)
        case.check_result()
        if mask is not None and sizes[3]:
            case.m[:] = False if mask is dt.bool else -np.inf
            assert not case.check_result().any(), "every key is masked"


@pytest.mark.parametrize("t", [dt.float64, dt.bfloat16, dt.float16], ids=str)
def test_a_single_query_of_other_types(t): Case((2, 4, 1, 77, 24, 32), t, mask=dt.bool, group=2).check_result()


def test_any_number_of_threads_gives_the_same_bits():
    results = [Case((2, 4, 150, 170, 32, 16), causal=True, group=2, threads=n).check() for n in (1, 2, 3)]
    for other in results[1:]:
        for a, b in zip(results[0], other): assert np.array_equal(a, b)


@pytest.mark.parametrize("sizes", [(1, 1, 0, 5, 4, 4), (1, 2, 5, 0, 4, 4), (0, 2, 5, 6, 4, 4), (1, 1, 5, 6, 4, 0), (1, 1, 5, 6, 0, 4)], ids=str)
def test_nothing(sizes): Case(sizes).check()


def test_large_scores_don_t_overflow():
    case = Case((1, 1, 40, 50, 8, 8))
    case.q *= 300
    case.check(1e-3)


def test_scratch_is_linear_in_the_length():
    def scratch(which, n):
        names = 3 if which == "forward" else 6
        words = (n, n, 64, 64, 1, 0, 1, bits(1.0), 1, *(0, 64, 1) * names, 1, *(0,) * names)
        return attention.build(Native("attention", (which, dt.float32, None), words, (Operand(dt.float32, "r"),) * names + (Operand(dt.float32, "w"),))).scratch
    assert scratch("forward", 8192) == scratch("forward", 1024) < 1 << 20
    assert scratch("backward", 8192) < 9 * scratch("backward", 1024) < 9 * (4 << 20)
