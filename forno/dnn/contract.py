"""Contractions: the matrix product and a convolution's three products. Tile programs compute them; each one's gradients are the others.

matmul       a (…, m, k), b (…, k, n) → (…, m, n), batch axes broadcast; both operands have at least 2 axes and one dtype
conv         x (n, c, *in), w (k, c/groups, *taps)[, bias (k)] → y (n, k, *out)
conv_input   dy (n, k, *out), w → dx (n, c, *spec.size); a transposed convolution is this row
conv_weight  dy, x → dw (k, c/groups, *spec.taps)
"""
from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.op import Contract
from ..core.shape import broadcast, follows
from .elementwise import TITLES, conjugate

C_NAMES = {"uint8": "unsigned char", "int8": "signed char", "int16": "short", "int32": "int", "int64": "long int", "uint16": "unsigned short",
           "uint32": "unsigned int", "uint64": "unsigned long", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float",
           "float64": "double", "complex64": "c10::complex<float>", "complex128": "c10::complex<double>", "bool": "bool"}


def sum_to(g, shape):
    """Sum a broadcast gradient down to `shape`."""
    lead = len(g.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(d for d, n in enumerate(shape, lead) if n == 1 and g.shape[d] != 1)
    return g.sum(axes, True).reshape(shape) if axes else g


# ---- matrix product
def _matmul_infer(attr, a, b):
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    folds = len(b.shape) == 2                                     # PyTorch folds a's batch into rows then, and says so in errors
    if a.dtype is not b.dtype:
        if folds: raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {C_NAMES[a.dtype.name]} != {C_NAMES[b.dtype.name]}")
        raise RuntimeError(f"expected scalar type {TITLES[a.dtype.name]} but found {TITLES[b.dtype.name]}")
    if a.dtype is dt.bool: raise NotImplementedError(f"\"{'addmm_impl_cpu_' if folds else 'bmm'}\" not implemented for 'Bool'")
    if k != k2 and folds: raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({math.prod(a.shape[:-1])}x{k} and {k2}x{n})")
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    if k != k2:
        count = math.prod(batch)
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{count}, {k}] but got: [{count}, {k2}].")
    return a.dtype, (*batch, m, n)


def _turn(x): return conjugate(x).transpose(-1, -2)


def _matmul_grad_b(g, o, a, b, attr):
    if len(b.shape) == 2 and len(a.shape) > 2:                    # one product over all rows, instead of one per batch and a sum
        rows = math.prod(a.shape[:-1])
        return _turn(a.reshape((rows, a.shape[-1]))).row(matmul, g.reshape((rows, g.shape[-1])))
    return sum_to(_turn(a).row(matmul, g), b.shape)


matmul = Contract("matmul", _matmul_infer, (lambda g, o, a, b, attr: sum_to(g.row(matmul, _turn(b)), a.shape), _matmul_grad_b), "ab",
                  lambda attr, a, b: np.matmul(a, b))


# ---- convolution
class ConvSpec(NamedTuple):
    """One entry per spatial axis. `size` (conv_input) and `taps` (conv_weight) are the result's spatial shape, which the operands don't tell."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    size: tuple[int, ...] = ()
    taps: tuple[int, ...] = ()

    def out(self, size, taps):
        return tuple((n + 2 * p - d * (t - 1) - 1) // s + 1 for n, t, s, p, d in zip(size, taps, self.stride, self.padding, self.dilation))


def _check_spec(spec):
    if min(spec.stride) <= 0: raise RuntimeError("non-positive stride is not supported")
    if min(spec.padding) < 0: raise RuntimeError("negative padding is not supported")
    if min(spec.dilation) <= 0: raise RuntimeError(f"dilation should be greater than zero, but got {list(spec.dilation)}")
    if spec.groups <= 0: raise RuntimeError("non-positive groups is not supported")


def _check_types(x, w, bias=None):
    if bias is not None and bias.dtype is not x.dtype:
        raise RuntimeError(f"Input type ({C_NAMES[x.dtype.name]}) and bias type ({C_NAMES[bias.dtype.name]}) should be the same")
    if w.dtype is not x.dtype: raise RuntimeError(f"expected scalar type {TITLES[x.dtype.name]} but found {TITLES[w.dtype.name]}")


def _check_groups(w, groups):
    if w.shape[0] < groups or w.shape[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
                           f"but got weight of size [{list(w.shape)}] instead")


def _conv_infer(spec, x, w, bias=None):
    _check_spec(spec)
    _check_types(x, w, bias)
    _check_groups(w, spec.groups)
    k, c = w.shape[0], w.shape[1] * spec.groups
    if x.shape[1] != c:
        raise RuntimeError(f"Given groups={spec.groups}, weight of size {list(w.shape)}, expected input{list(x.shape)} to have {c} channels, "
                           f"but got {x.shape[1]} channels instead")
    if bias is not None and bias.shape != (k,):
        raise RuntimeError(f"Given weight of size {list(w.shape)}, expected bias to be 1-dimensional with {k} elements, "
                           f"but got bias of size {list(bias.shape)} instead")
    padded, reach = [n + 2 * p for n, p in zip(x.shape[2:], spec.padding)], [d * (t - 1) + 1 for t, d in zip(w.shape[2:], spec.dilation)]
    if any(n < r for n, r in zip(padded, reach)):
        raise RuntimeError(f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). "
                           f"Kernel size: ({' x '.join(map(str, reach))}). "
                           "Kernel size can't be greater than actual input size")
    return x.dtype, (x.shape[0], k, *spec.out(x.shape[2:], w.shape[2:]))


def _conv_input_infer(spec, dy, w):
    _check_types(dy, w)
    _check_groups(w, spec.groups)
    if dy.shape[1] != w.shape[0]:
        raise RuntimeError(f"Given transposed=1, weight of size {list(w.shape)}, expected input{list(dy.shape)} to have {w.shape[0]} channels, "
                           f"but got {dy.shape[1]} channels instead")
    return dy.dtype, (dy.shape[0], w.shape[1] * spec.groups, *spec.size)


def _conv_weight_infer(spec, dy, x):
    _check_types(dy, x)
    return dy.dtype, (dy.shape[1], x.shape[1] // spec.groups, *spec.taps)


def _windows(x, spec, out, taps):
    """x padded, as overlapping windows: (n, groups, c/groups, *out, *taps)."""
    x = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in spec.padding])
    n, c, *_ = x.shape
    outer, inner = [s * t for s, t in zip(x.strides[2:], spec.stride)], [s * d for s, d in zip(x.strides[2:], spec.dilation)]
    return np.lib.stride_tricks.as_strided(x, (n, spec.groups, c // spec.groups, *out, *taps),
                                           (x.strides[0], x.strides[1] * (c // spec.groups), x.strides[1], *outer, *inner))


def _grouped(t, groups, axis): return t.reshape(*t.shape[:axis], groups, t.shape[axis] // groups, *t.shape[axis + 1:])


def _conv_oracle(spec, x, w, bias=None):
    taps = w.shape[2:]
    out = spec.out(x.shape[2:], taps)
    o, t = "pqr"[:len(out)], "uvw"[:len(out)]
    y = np.einsum(f"ngc{o}{t},gkc{t}->ngk{o}", _windows(x, spec, out, taps), _grouped(w, spec.groups, 0)).reshape(x.shape[0], w.shape[0], *out)
    return (y if bias is None else y + bias.reshape(-1, *(1 for _ in out))).astype(x.dtype)


def _conv_input_oracle(spec, dy, w):
    out, taps = dy.shape[2:], w.shape[2:]
    o = "pqr"[:len(out)]
    x = np.zeros((dy.shape[0], w.shape[1] * spec.groups, *(n + 2 * p for n, p in zip(spec.size, spec.padding))), dy.dtype)
    for tap in itertools.product(*map(range, taps)):
        part = np.einsum(f"ngk{o},gkc->ngc{o}", _grouped(dy, spec.groups, 1), _grouped(w[(..., *tap)], spec.groups, 0)).reshape(dy.shape[0], -1, *out)
        x[(..., *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(tap, spec.dilation, spec.stride, out)))] += part
    return x[(..., *(slice(p, p + n) for p, n in zip(spec.padding, spec.size)))]


def _conv_weight_oracle(spec, dy, x):
    out = dy.shape[2:]
    o, t = "pqr"[:len(out)], "uvw"[:len(out)]
    dw = np.einsum(f"ngk{o},ngc{o}{t}->gkc{t}", _grouped(dy, spec.groups, 1), _windows(x, spec, out, spec.taps))
    return dw.reshape(dy.shape[1], x.shape[1] // spec.groups, *spec.taps).astype(x.dtype)


def _bare(spec): return spec._replace(size=(), taps=())


def _cropped(g, shape):
    """An output padding of a whole stride or more (dilation allows it) lets one more window fit than dy has."""
    for d in range(2, len(shape)):
        if g.shape[d] != shape[d]: g = g.narrow(d, 0, shape[d])
    return g


def _follows_either(attr, shape, x, w, *bias): return follows(attr, shape, x) or follows(attr, shape, w)


conv = Contract("conv", _conv_infer, (
    lambda g, o, x, w, bias=None, *, attr: g.row(conv_input, conjugate(w), attr=attr._replace(size=tuple(x.shape[2:]))),
    lambda g, o, x, w, bias=None, *, attr: g.row(conv_weight, conjugate(x), attr=attr._replace(taps=tuple(w.shape[2:]))),
    lambda g, o, x, w, bias, attr: g.sum((0, *range(2, len(g.shape))))), "ab", _conv_oracle, layout=_follows_either)
conv_input = Contract("conv_input", _conv_input_infer, (
    lambda g, o, dy, w, attr: _cropped(g.row(conv, conjugate(w), attr=_bare(attr)), dy.shape),
    lambda g, o, dy, w, attr: conjugate(dy).row(conv_weight, g, attr=_bare(attr)._replace(taps=tuple(w.shape[2:])))), "ab", _conv_input_oracle, layout=_follows_either)
conv_weight = Contract("conv_weight", _conv_weight_infer, (
    lambda g, o, dy, x, attr: _cropped(conjugate(x).row(conv, g, attr=_bare(attr)), dy.shape),
    lambda g, o, dy, x, attr: conjugate(dy).row(conv_input, g, attr=_bare(attr)._replace(size=tuple(x.shape[2:])))), "ab", _conv_weight_oracle)
