"""Fourier transforms on the host: pocketfft through NumPy. Each row's gradient is another one.

c2c   attr = (axes, forward, scale)        complex to complex
r2c   attr = (axes, scale)                 real to the non-negative frequencies along the last of the axes
c2r   attr = (axes, length, scale)         back: `length` is the result's along the last of the axes
"""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from ..core.op import Opaque
from .elementwise import TITLES
from .functions import real
from .movement import cat


def need(name, x, category):
    if x.dtype not in (dt.float32, dt.float64, dt.complex64, dt.complex128) or x.dtype.category != category:
        raise RuntimeError(f"{name} expects {'complex' if category == dt.COMPLEX else 'real'} single or double precision values, but got {TITLES[x.dtype.name]}")


def _resized(shape, axis, n): return (*shape[:axis], n, *shape[axis + 1:])


def row(name, infer, host, grad):
    def run(attr, x): return host(attr, x)
    return Opaque(name, infer, (grad,), "", run, host=run, library="pocketfft")


def _c2c_infer(attr, x):
    need("fft", x, dt.COMPLEX)
    return x.dtype, x.shape


def _c2c(attr, x):
    axes, forward, scale = attr
    out = np.fft.fftn(x, axes=axes, norm="backward") if forward else np.fft.ifftn(x, axes=axes, norm="forward")
    return (out * scale).astype(x.dtype)


c2c = row("fft_c2c", _c2c_infer, _c2c, lambda g, o, x, attr: g.row(c2c, attr=(attr[0], not attr[1], attr[2])))


def _r2c_infer(attr, x):
    need("rfft", x, dt.FLOAT)
    last = attr[0][-1]
    return x.dtype.to_complex(), _resized(x.shape, last, x.shape[last] // 2 + 1)


def _r2c_grad(g, o, x, attr):
    axes, scale = attr
    last, n = axes[-1], x.shape[axes[-1]]
    rest = _resized(g.shape, last, n - g.shape[last])
    whole = g.row(cat, g.filled(rest, 0, g.dtype), attr=last) if rest[last] else g
    return whole.row(c2c, attr=(axes, False, scale)).row(real)


r2c = row("fft_r2c", _r2c_infer, lambda attr, x: (np.fft.rfftn(x, axes=attr[0]) * attr[1]), _r2c_grad)


def _c2r_infer(attr, x):
    need("irfft", x, dt.COMPLEX)
    return x.dtype.real, _resized(x.shape, attr[0][-1], attr[1])


def _c2r(attr, x):
    axes, n, scale = attr
    return np.fft.irfftn(x, s=[*(x.shape[d] for d in axes[:-1]), n], axes=axes, norm="forward") * scale


def _c2r_grad(g, o, x, attr):
    """Frequencies that stand for two (themselves and their negative) count twice."""
    axes, n, scale = attr
    last, m = axes[-1], n // 2 + 1
    out = g.row(r2c, attr=(axes, scale))
    k = g.ramp(m)
    twice = ((k > 0) & (k < n - n // 2)).to(g.dtype) + 1
    return out * twice.reshape((m, *(1,) * (len(g.shape) - 1 - last)))


c2r = row("fft_c2r", _c2r_infer, _c2r, _c2r_grad)
