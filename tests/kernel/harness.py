"""Runs one CPU kernel on NumPy arrays, with Python threads standing in for the pool."""
import ctypes
import threading

import numpy as np

from forno.cpu import balance

_BARRIER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


FENCE, MARK = 1 << 16, 0xA5                    # bytes behind a buffer that must stay as they are


def aligned(nbytes: int) -> np.ndarray:
    """A buffer on a cache line, with a fence behind it. Every float in it starts as NaN: nothing may be read before it is written."""
    raw = np.full(nbytes + FENCE + 64, MARK, np.uint8)
    out = raw[-raw.ctypes.data % 64:][:nbytes + FENCE]
    out[:nbytes] = 0xFF
    return out


def cuts(threads: int) -> list[int]:
    """Where the threads' parts of the work begin and end: they are of different sizes, because no result may depend on them."""
    return [round((t / threads) ** 0.7 * balance.WHOLE) for t in range(threads + 1)]


def run(launch, arrays, threads: int = 1, values=None):
    """Calls launch's kernel on `arrays` (buffers of its operands, in order; `values` replaces some by the bits of numbers)."""
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(launch.program.address)
    vals = np.array([a.ctypes.data for a in arrays], np.int64)
    for i, bits in (values or {}).items(): vals[i] = bits
    words = np.array([*range(len(arrays)), *launch.words], np.int64)
    shared, error, gate = aligned(launch.shared), np.zeros(4, np.int64), threading.Barrier(threads)
    barrier = _BARRIER(lambda ctx: gate.wait() and None)
    private = [aligned(launch.scratch) for _ in range(threads)]
    meet = ctypes.cast(barrier, ctypes.c_void_p).value
    ctxs = [np.array([t, threads, private[t].ctypes.data, shared.ctypes.data, meet, error.ctypes.data, 0,
                      *cuts(threads)[t:t + 2], 0], np.int64) for t in range(threads)]

    def call(ctx): function(ctx.ctypes.data, vals.ctypes.data, words.ctypes.data)
    if threads == 1: call(ctxs[0])
    else:
        pool = [threading.Thread(target=call, args=(c,)) for c in ctxs]
        for p in pool: p.start()
        for p in pool: p.join()
    for buffer, nbytes in [*((p, launch.scratch) for p in private), (shared, launch.shared)]:
        beyond = np.flatnonzero(buffer[nbytes:] != MARK)
        assert not len(beyond), f"wrote {beyond[-1] + 1} bytes behind {nbytes} bytes of scratch"
    return error
