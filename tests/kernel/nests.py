"""Runs nests two ways: compiled, on one thread or several, and index by index with NumPy."""
import ctypes
import threading

import numpy as np

from forno.core import dtype as dt
from forno.core.kernels import Apply, Cast, Const, Index, Load, Number, Reduce, Store
from forno.core.op import TABLE, Elementwise
from forno.kernel.nest import build

from .harness import cuts

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
BARRIER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def aligned(nbytes):
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + nbytes]


def run(nest, values, threads=1):
    """values: arrays, or Python numbers where the operand is one. Returns the error record."""
    launch = build(nest)
    table, where = [], []
    for x in values:
        where.append(len(table))
        if isinstance(x, np.ndarray): table.append(x.ctypes.data)
        elif isinstance(x, complex): table += [np.float64(p).view(np.int64) for p in (x.real, x.imag)]
        elif isinstance(x, float): table.append(np.float64(x).view(np.int64))
        else: table.append(int(x))
    vals, words = np.array(table, np.int64), np.array([*where, *launch.words], np.int64)
    error, shared = np.zeros(4, np.int64), aligned(launch.shared)
    meet = threading.Barrier(threads)
    wait = BARRIER(lambda _: meet.wait() and None)
    entry = ENTRY(launch.program.address)

    def thread(tid):
        private = aligned(launch.scratch)
        meeting = ctypes.cast(wait, ctypes.c_void_p).value
        ctx = np.array([tid, threads, private.ctypes.data, shared.ctypes.data, meeting, error.ctypes.data, 7, *cuts(threads)[tid:tid + 2], 0], np.int64)
        entry(ctx.ctypes.data, vals.ctypes.data, words.ctypes.data)
    crew = [threading.Thread(target=thread, args=(t,)) for t in range(1, threads)]
    for t in crew: t.start()
    thread(0)
    for t in crew: t.join()
    return error


# ---- the same by NumPy, a whole grid of indices at once
def widen(x, t):
    """What storage of dtype t means as numbers to compute with."""
    return (x.astype(np.uint32) << 16).view(np.float32) if t is dt.bfloat16 else x


def narrow(x, t):
    if t is not dt.bfloat16: return np.asarray(x).astype(t.code)
    bits = np.asarray(x, np.float32).view(np.uint32)
    return np.where(np.isnan(x), 0x7FC0, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def rounded(x, t): return widen(narrow(x, t), t)


REDUCE = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all}


def reference(nest, values):
    """Writes into the arrays of `values`; float reductions are done in float64."""
    k, shape = len(nest.axes), (*nest.axes, *nest.window)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij") if shape else []
    outer = (*nest.axes, *(1,) * len(nest.window))

    def affine(coeffs, offset): return np.broadcast_to(offset + sum((c * g for c, g in zip(coeffs, grid)), np.int64(0)), shape)
    got, stores = [], []
    with np.errstate(all="ignore"):
        for v in nest.body:
            x = None
            if isinstance(v, Load):
                at = affine(v.strides, v.offset)
                ok = np.ones(shape, bool)
                for b in v.bounds:
                    p = affine(b.coeffs, b.offset)
                    ok &= (p >= 0) & (p < b.size)
                for t in v.at:
                    i = np.broadcast_to(got[t.index], shape)
                    i = np.where(i < 0, i + t.size, i)
                    at = at + np.where((i < 0) | (i >= t.size), 0, i) * t.stride
                memory = widen(values[v.operand], v.dtype)
                x = np.where(ok, memory[np.where(ok, at, 0)], np.asarray(v.other, memory.dtype)) if memory.size else np.zeros(shape, memory.dtype)
            elif isinstance(v, Index): x = affine(v.coeffs, v.offset)
            elif isinstance(v, Const): x = rounded(np.asarray(v.value), v.dtype)
            elif isinstance(v, Number): x = rounded(np.asarray(values[v.operand]), v.dtype)
            elif isinstance(v, Cast): x = rounded(got[v.arg], v.dtype)
            elif isinstance(v, Apply): x = np.asarray(v.op.oracle(None, *(got[a] for a in v.args)))
            elif isinstance(v, Reduce): x = _reduce(v, np.broadcast_to(got[v.arg], shape), k).reshape(outer)
            if isinstance(v, Store): stores.append((v, np.array(np.broadcast_to(got[v.arg], shape))))
            got.append(x)
    for v, x in stores:
        t = v.dtype or nest.operands[v.operand].dtype
        values[v.operand][affine(v.strides, v.offset).ravel()] = narrow(x, t).ravel()


def _reduce(v, x, k):
    axes = tuple(range(k, x.ndim))
    if v.combine.startswith("arg"):
        flat = x.reshape(*x.shape[:k], int(np.prod(x.shape[k:])))
        return (np.argmax if v.combine == "argmax" else np.argmin)(flat, axis=-1) if flat.size else np.zeros(x.shape[:k], np.int64)
    if x.dtype.kind == "f": x = x.astype(np.float64)
    if v.combine in ("sum", "prod") and x.dtype.kind in "biu": x = x.astype(np.int64)
    return narrow(REDUCE[v.combine](x, axis=axes), v.dtype) if v.dtype is not dt.bfloat16 else rounded(REDUCE[v.combine](x, axis=axes), v.dtype)


def op(emit, oracle, name="t"):
    """A row for tests, which stays out of the op table."""
    return TABLE.pop(Elementwise(f"test of {name}", None, oracle=lambda attr, *xs: oracle(*xs), emit=emit).name)
