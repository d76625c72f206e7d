"""torch.fft: discrete Fourier transforms along axes; stft and istft; the window functions that go with them."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import View, normalize_dim
from ..core.state import state
from ..dnn import elementwise as ew
from ..dnn import fft as ff
from ..dnn import functions as fns
from ..dnn import movement as mv
from ..dnn import special as sp
from . import arrange, autocast, complexes, creation, functions as fn, neural, views
from .bind import apply
from .out import with_out
from .size import place
from .views import shape_of


# ---------------------------------------------------------------- arguments
def scale(norm, n, forward) -> float:
    if norm not in (None, "backward", "ortho", "forward"): raise RuntimeError(f"Invalid normalization mode: \"{norm}\"")
    if norm == "ortho": return 1 / math.sqrt(n)
    return 1.0 if ((norm or "backward") == "backward") == forward else 1 / n


def number_type(input, complex_):
    t = input.dtype if input.dtype.category >= dt.FLOAT else state.default_dtype
    if t.real not in (dt.float32, dt.float64): raise RuntimeError(f"Unsupported dtype {ew.TITLES[t.name]}")
    return fn.to(input, t.to_complex() if complex_ else t)


def sized(x, axis, n):
    """x with n elements along an axis: cut, or continued by zeros."""
    have = shape_of(x)[axis]
    if n < 1: raise RuntimeError(f"Invalid number of data points ({n}) specified")
    if n < have: return views.narrow(x, axis, 0, n)
    return neural.pad_constant(x, [0, 0] * (x.ndim - 1 - axis) + [0, n - have]) if n > have else x


def axes_of(input, s, dim):
    """Axes and the lengths asked for along them (None: as they are)."""
    n = input.ndim
    if s is not None:
        s = (s,) if isinstance(s, int) else tuple(s)
    if dim is None: axes = tuple(range(n)) if s is None else tuple(range(n - len(s), n))
    else: axes = tuple(normalize_dim(d, n) for d in ((dim,) if isinstance(dim, int) else dim))
    if len(set(axes)) != len(axes): raise RuntimeError("FFT dims must be unique")
    if s is not None and len(s) != len(axes): raise RuntimeError("When given, dim and shape arguments must have the same length" if dim is not None else
                                                                 f"Got shape with {len(s)} values but input tensor only has {n} dimensions.")
    if s is not None and len(s) > n: raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {n} dimensions.")
    return axes, tuple(None if k in (None, -1) else k for k in s) if s is not None else (None,) * len(axes)


def whole(x, axes, s):
    for d, k in zip(axes, s): x = sized(x, d, shape_of(x)[d] if k is None else k)
    return x


def count(x, axes): return math.prod(shape_of(x)[d] for d in axes)


# ---------------------------------------------------------------- transforms over several axes
def c2c(input, s, dim, norm, forward):
    x = number_type(input, True)
    axes, s = axes_of(x, s, dim)
    x = whole(x, axes, s)
    return apply(ff.c2c, x, attr=(axes, forward, scale(norm, count(x, axes), forward))) if axes else x


def r2c(input, s, dim, norm, forward, hermitian):
    if input.dtype.is_complex: raise RuntimeError(f"{'ihfftn' if hermitian else 'rfftn'} expects a real-valued input tensor, but got {ew.TITLES[input.dtype.name]}")
    x = number_type(input, False)
    axes, s = axes_of(x, s, dim)
    if not axes: raise RuntimeError("rfftn must transform at least one axis")
    x = whole(x, axes, s)
    k = scale(norm, count(x, axes), forward)
    if not hermitian: return apply(ff.r2c, x, attr=(axes, k))
    out = complexes.conj(apply(ff.r2c, x, attr=(axes[-1:], k)))
    return apply(ff.c2c, out, attr=(axes[:-1], False, 1.0)) if len(axes) > 1 else out


def c2r(input, s, dim, norm, forward, hermitian):
    x = number_type(input, True)
    axes, s = axes_of(x, s, dim)
    if not axes: raise RuntimeError("irfftn must transform at least one axis")
    last = s[-1] if s[-1] is not None else 2 * (shape_of(x)[axes[-1]] - 1)
    if last < 1: raise RuntimeError(f"Invalid number of data points ({last}) specified")
    x = whole(x, axes, (*s[:-1], last // 2 + 1))
    k = scale(norm, count(x, axes[:-1]) * last, forward)
    if not hermitian: return apply(ff.c2r, x, attr=(axes, last, k))
    if len(axes) > 1: x = apply(ff.c2c, x, attr=(axes[:-1], True, 1.0))
    return apply(ff.c2r, complexes.conj(x), attr=(axes[-1:], last, k))


def fftn(input, s=None, dim=None, norm=None): return c2c(input, s, dim, norm, True)
def ifftn(input, s=None, dim=None, norm=None): return c2c(input, s, dim, norm, False)
def rfftn(input, s=None, dim=None, norm=None): return r2c(input, s, dim, norm, True, False)
def irfftn(input, s=None, dim=None, norm=None): return c2r(input, s, dim, norm, False, False)
def hfftn(input, s=None, dim=None, norm=None): return c2r(input, s, dim, norm, True, True)
def ihfftn(input, s=None, dim=None, norm=None): return r2c(input, s, dim, norm, False, True)


def plane(transform, name):
    def f(input, s=None, dim=(-2, -1), norm=None): return transform(input, s, dim, norm)
    f.__name__ = name
    return f


def line(transform, name):
    def f(input, n=None, dim=-1, norm=None): return transform(input, None if n is None else (n,), (dim,), norm)
    f.__name__ = name
    return f


fft2, ifft2, rfft2, irfft2 = plane(fftn, "fft2"), plane(ifftn, "ifft2"), plane(rfftn, "rfft2"), plane(irfftn, "irfft2")
hfft2, ihfft2 = plane(hfftn, "hfft2"), plane(ihfftn, "ihfft2")
fft, ifft, rfft, irfft = line(fftn, "fft"), line(ifftn, "ifft"), line(rfftn, "rfft"), line(irfftn, "irfft")
hfft, ihfft = line(hfftn, "hfft"), line(ihfftn, "ihfft")


# ---------------------------------------------------------------- frequencies and order
def fftfreq(n, d=1.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    k = creation.arange(n, dtype=dtype or state.default_dtype)
    k = fn.where(apply(ew.lt, k, (n + 1) // 2), k, fn.sub(k, n))
    return creation.finish(apply(ew.mul, k, 1.0 / (n * d)), requires_grad, place(device))


def rfftfreq(n, d=1.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    return creation.finish(apply(ew.mul, creation.arange(n // 2 + 1, dtype=dtype or state.default_dtype), 1.0 / (n * d)), requires_grad, place(device))


def _shifted(sign):
    def f(input, dim=None):
        dims = tuple(range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
        return arrange.roll(input, [(shape_of(input)[d] // 2) if sign > 0 else (shape_of(input)[d] + 1) // 2 for d in dims], dims)
    return f


fftshift, ifftshift = _shifted(1), _shifted(-1)


# ---------------------------------------------------------------- short-time transforms
def stft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode="reflect", normalized=False, onesided=None, return_complex=None,
         align_to_window=None):
    """(…, samples) → (…, frequencies, frames): overlapping frames, each multiplied by the window and transformed."""
    hop, size = hop_length or n_fft // 4, win_length or n_fft
    if return_complex is None and not input.dtype.is_complex and not (window is not None and window.dtype.is_complex):
        raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further require that return_complex=True in a future PyTorch release.")
    if input.dtype.category < dt.FLOAT: raise RuntimeError(f"stft: expected a tensor of floating point or complex values, but got {ew.TITLES[input.dtype.name]}")
    if input.ndim not in (1, 2): raise RuntimeError(f"stft: expected a 1D or 2D tensor, but got {input.ndim}D")
    if hop <= 0: raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < size <= n_fft: raise RuntimeError(f"stft: expected 0 < win_length <= n_fft, but got win_length={size}")
    if window is not None and shape_of(window) != (size,): raise RuntimeError(f"stft: expected a 1D window tensor of size equal to win_length={size}, but got window with size {list(shape_of(window))}")
    x = views.unsqueeze(input, 0) if input.ndim == 1 else input                    # (B, samples)
    if center: x = mirrored(x, n_fft // 2) if pad_mode == "reflect" else neural.pad_constant(x, [n_fft // 2, n_fft // 2])
    if not 0 < n_fft <= shape_of(x)[-1]: raise RuntimeError(f"stft: expected 0 < n_fft < {shape_of(x)[-1]}, but got n_fft={n_fft}")
    frames = views.unfold(x, -1, n_fft, hop)                                       # (B, frames, n_fft)
    if window is not None or size < n_fft:
        w = window if window is not None else creation.ones(size, dtype=x.dtype.real)
        frames = apply(ew.mul, frames, centred(w, n_fft))
    one = not frames.dtype.is_complex if onesided is None else onesided
    if one and frames.dtype.is_complex: raise RuntimeError("Cannot have onesided output if window or input is complex")
    out = rfft(frames) if one else fft(frames)
    if normalized: out = apply(ew.mul, out, 1 / math.sqrt(n_fft))
    out = views.transpose(out, 1, 2)
    if input.ndim == 1: out = views.squeeze(out, 0)
    return out if return_complex or return_complex is None else complexes.view_as_real(out)


def mirrored(x, n):
    """Reflected at both ends, the end itself not repeated."""
    length = shape_of(x)[-1]
    if n >= length: raise RuntimeError(f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({n}, {n}) at dimension 2 of input {list(shape_of(x))}")
    before = arrange.flip(views.narrow(x, -1, 1, n), -1)
    after = arrange.flip(views.narrow(x, -1, length - 1 - n, n), -1)
    return fn.cat([before, x, after], -1)


def centred(w, n):
    left = (n - shape_of(w)[0]) // 2
    return neural.pad_constant(w, [left, n - shape_of(w)[0] - left])


def istft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False, onesided=None, length=None, return_complex=False):
    """The signal whose stft comes closest: frames are added where they overlap and divided by the squared windows' sum."""
    hop, size = hop_length or n_fft // 4, win_length or n_fft
    if not input.dtype.is_complex: raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    x = views.unsqueeze(input, 0) if input.ndim == 2 else input                    # (B, frequencies, frames)
    if input.ndim not in (2, 3) or not input.numel(): raise RuntimeError(f"istft: expected a tensor with 2 or 3 dimensions and elements, but got {list(shape_of(input))}")
    one = shape_of(x)[1] != n_fft if onesided is None else onesided
    if shape_of(x)[1] != (n_fft // 2 + 1 if one else n_fft): raise RuntimeError(f"istft: expected the frequency dimension (3rd to the last) of the input tensor to match n_fft={n_fft}, but got {shape_of(x)[1]}")
    if not 0 < hop <= size <= n_fft: raise RuntimeError(f"istft: expected 0 < hop_length <= win_length <= n_fft, but got {hop}, {size}, {n_fft}")
    if window is not None and shape_of(window) != (size,): raise RuntimeError("istft: Invalid window shape. window has to be 1D and length of `win_length`")
    w = centred(window if window is not None else creation.ones(size, dtype=x.dtype.real), n_fft)
    frames = views.transpose(x, 1, 2)                                              # (B, frames, frequencies)
    if normalized: frames = apply(ew.mul, frames, math.sqrt(n_fft))
    if return_complex: frames = ifft(frames)
    else: frames = irfft(frames if one else views.narrow(frames, -1, 0, n_fft // 2 + 1), n_fft)
    frames = apply(ew.mul, frames, w)
    n = shape_of(frames)[1]
    total = n_fft + hop * (n - 1)

    def overlapped(t):                         # (B, frames, n_fft) → (B, total)
        base = creation.zeros(shape_of(t)[0], total, dtype=t.dtype)
        return apply(mv.addput, base, t, attr=View(shape_of(t), (total, hop, 1), 0))
    signal = overlapped(frames)
    weight = overlapped(views.expand(apply(ew.mul, w, w), (1, n, n_fft)))
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - (n_fft // 2 if center else 0)
    end = min(end, total)
    signal, weight = views.narrow(signal, -1, start, end - start), views.narrow(weight, -1, start, end - start)
    if float(fn.amin(apply(ew.abs_, weight)).item()) < 1e-11: raise RuntimeError("istft: window overlap add min: 1")
    out = apply(ew.div, signal, weight)
    if length is not None and length > end - start: out = neural.pad_constant(out, [0, length - (end - start)])
    return views.squeeze(out, 0) if input.ndim == 2 else out


# ---------------------------------------------------------------- windows
def window(name, terms):
    """Cosine sums: Σ (-1)ᵏ aₖ cos(2πkn / N)."""
    def f(window_length, periodic=True, *args, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **kw):
        kind = dtype or state.default_dtype
        if kind.category != dt.FLOAT: raise RuntimeError(f"{name} expects floating point dtypes, got: {kind!r}")
        if window_length < 0: raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
        if window_length <= 1: return creation.finish(creation.ones(window_length, dtype=kind), requires_grad, place(device))
        coefficients = terms(*args, **kw)
        turn = apply(ew.mul, creation.arange(window_length, dtype=kind.opmath), 2 * math.pi / (window_length if periodic else window_length - 1))
        out = creation.full((window_length,), coefficients[0], dtype=kind.opmath)
        for k, a in enumerate(coefficients[1:], 1): out = fn.add(out, apply(ew.mul, apply(fns.cos, apply(ew.mul, turn, float(k))), (-1) ** k * a))
        return creation.finish(fn.to(out, kind), requires_grad, place(device))
    f.__name__ = name
    return f


hann_window = window("hann_window", lambda: (0.5, 0.5))
hamming_window = window("hamming_window", lambda alpha=0.54, beta=0.46: (alpha, beta))
blackman_window = window("blackman_window", lambda: (0.42, 0.5, 0.08))


def bartlett_window(window_length, periodic=True, *, dtype=None, layout=None, device=None, requires_grad=False):
    kind = dtype or state.default_dtype
    if window_length <= 1: return creation.finish(creation.ones(window_length, dtype=kind), requires_grad, place(device))
    n = window_length if periodic else window_length - 1
    ramp = apply(ew.mul, creation.arange(window_length, dtype=kind), 2.0 / n)
    return creation.finish(fn.where(apply(ew.le, ramp, 1.0), ramp, apply(ew.add, apply(ew.neg, ramp), 2.0)), requires_grad, place(device))


def kaiser_window(window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None, requires_grad=False):
    kind = dtype or state.default_dtype
    if window_length <= 1: return creation.finish(creation.ones(window_length, dtype=kind), requires_grad, place(device))
    n = window_length if periodic else window_length - 1
    x = fn.sub(apply(ew.mul, creation.arange(window_length, dtype=kind), 2.0 / n), 1.0)
    inside = apply(fns.sqrt, apply(ew.clamp_min, apply(ew.add, apply(ew.neg, apply(ew.mul, x, x)), 1.0), 0.0))
    return creation.finish(apply(ew.div, apply(sp.i0, apply(ew.mul, inside, beta)), apply(sp.i0, creation.full((), beta, dtype=kind))), requires_grad, place(device))


for _name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    for _f in (_name, _name + "2", _name + "n"): globals()[_f] = autocast.apply(with_out(globals()[_f], "fft_" + _f), _f)
fftfreq, rfftfreq = with_out(fftfreq, "fftfreq"), with_out(rfftfreq, "rfftfreq")
__all__ = [n + k for n in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft") for k in ("", "2", "n")] + ["fftfreq", "rfftfreq", "fftshift", "ifftshift"]
