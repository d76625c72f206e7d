"""Layers' functions as PyTorch's C++ side offers them: convolutions, pools, normalizations, softmax, losses' primitives, dropout, embedding.

Signatures are aten's; torch.nn.functional (forno.nn.functional) adds defaults and checks on top.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import normalize_dim, whole
from ..dnn import activation as ac
from ..dnn import contract as ct
from ..dnn import ctc as cc
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from ..dnn import gather as ga
from ..dnn import movement as mv
from ..dnn import norm as nm
from ..dnn import pad as pd
from ..dnn import pool as pl
from ..dnn import recipes as rc
from ..dnn.contract import ConvSpec
from ..dnn.pool import Window
from ..graph.line import record
from . import arrange, complexes, data, functions as fn, gathering, randoms, views
from .lookup import lookup
from .modes import no_grad
from .bind import apply, binary, constant
from .tensor import owned, read
from .views import shape_of


multiply = binary(ew.mul)


def several(x, k, name="argument") -> tuple:
    """One number for every axis, or one each."""
    if isinstance(x, int): return (x,) * k
    x = tuple(int(i) for i in x)
    if len(x) == 1: return x * k
    if len(x) != k: raise RuntimeError(f"expected {name} to be a single integer value or a list of {k} values to match the convolution dimensions, but got {name}={list(x)}")
    return x


def batched(k, name):
    """Let a function of (N, C, *k axes) also take one sample (C, *k axes)."""
    def decorate(f):
        def call(input, *args, **kw):
            n = len(shape_of(input))
            if n == k + 2: return f(input, *args, **kw)
            if n == k + 1: return unbatch(f(views.unsqueeze(input, 0), *args, **kw))
            raise RuntimeError(f"Expected {k + 1}D (unbatched) or {k + 2}D (batched) input to {name}, but got input of size: {list(shape_of(input))}")
        call.__name__ = call.__qualname__ = name
        return call
    return decorate


def unbatch(out): return tuple(views.squeeze(t, 0) for t in out) if isinstance(out, tuple) else views.squeeze(out, 0)


# ---------------------------------------------------------------- convolution
def by_parts(f):
    """Convolutions of complex tensors from real ones; they are bilinear."""
    def call(input, weight, bias=None, *args, **kw):
        if not input.dtype.is_complex or not weight.dtype.is_complex: return f(input, weight, bias, *args, **kw)
        (a, b), (c, d) = ((complexes.real(t), complexes.imag(t)) for t in (input, weight))
        re, im = fn.sub(f(a, c, None, *args, **kw), f(b, d, None, *args, **kw)), fn.add(f(a, d, None, *args, **kw), f(b, c, None, *args, **kw))
        out = apply(fns.complex_, re, im)
        return out if bias is None else fn.add(out, views.reshape(bias, (1, -1) + (1,) * (out.ndim - 2)))
    return call


def spaced(x, d, step, before, after):
    """Zeros between the elements of an axis, and around them (negative: cut)."""
    shape = shape_of(x)
    n = (shape[d] - 1) * step + 1
    to = whole((*shape[:d], n, *shape[d + 1:]))
    if step > 1: x = apply(mv.put, apply(mv.full, attr=(to.shape, x.dtype, 0)), x, attr=to._replace(shape=shape, strides=(*to.strides[:d], to.strides[d] * step, *to.strides[d + 1:])))
    return pad_constant(x, [0, 0] * (len(shape) - 1 - d) + [before, after])


def of_integers(input, weight, bias, spec):
    """A convolution as one matrix product over all windows: for types the convolution kernels don't have."""
    k, groups = len(spec.stride), spec.groups
    x, taps = pad_constant(input, [p for q in reversed(spec.padding) for p in (q, q)]), shape_of(weight)[2:]
    for i, (t, s, d) in enumerate(zip(taps, spec.stride, spec.dilation)):
        x = views.slice_(views.unfold(x, 2 + i, d * (t - 1) + 1, s), 2 + k + i, None, None, d)         # (n, c, *out, *taps)
    n, c, *rest = shape_of(x)
    out, inner = rest[:k], c // groups * math.prod(taps)
    x = views.reshape(x, (n, groups, c // groups, *rest))
    x = views.reshape(views.permute(x, (1, 0, *range(3, 3 + k), 2, *range(3 + k, 3 + 2 * k))), (groups, n * math.prod(out), inner))
    w = views.transpose(views.reshape(weight, (groups, weight.shape[0] // groups, inner)), 1, 2)
    y = views.reshape(fn.matmul(x, w), (groups, n, *out, weight.shape[0] // groups))
    y = views.reshape(views.permute(y, (1, 0, 2 + k, *range(2, 2 + k))), (n, weight.shape[0], *out))
    return y if bias is None else fn.add(y, views.reshape(bias, (1, -1) + (1,) * k))


def transposed_of_integers(input, weight, spec):
    """The same for a transposed convolution: one of the spaced-out input with the turned weights."""
    k, groups, taps = len(spec.stride), spec.groups, shape_of(weight)[2:]
    for i, (n, t, s, p, d) in enumerate(zip(spec.size, taps, spec.stride, spec.padding, spec.dilation)):
        before = d * (t - 1) - p
        input = spaced(input, 2 + i, s, before, n + d * (t - 1) - ((shape_of(input)[2 + i] - 1) * s + 1) - before)
    m, c = shape_of(weight)[:2]
    w = views.transpose(views.reshape(arrange.flip(weight, tuple(range(2, 2 + k))), (groups, m // groups, c, *taps)), 1, 2)
    return of_integers(input, views.reshape(w, (groups * c, m // groups, *taps)), None, ConvSpec((1,) * k, (0,) * k, spec.dilation, groups))


def convolution(k):
    @batched(k, f"conv{k}d")
    @by_parts
    def conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        if weight.ndim != k + 2: raise RuntimeError(f"expected weight to be {k + 2}-dimensional for conv{k}d, but got weight of size {list(weight.shape)}")
        stride, dilation = several(stride, k, "stride"), several(dilation, k, "dilation")
        if isinstance(padding, str): input, padding = same_padding(input, shape_of(weight)[2:], stride, padding, dilation)
        spec = ConvSpec(stride, several(padding, k, "padding"), dilation, int(groups))
        if input.dtype.category == dt.INT and weight.dtype is input.dtype:
            ct.conv.infer(spec, *(t for t in (input, weight, bias) if t is not None))
            return of_integers(input, weight, bias, spec)
        operands = (read(input), read(weight)) if bias is None else (read(input), read(weight), read(bias))
        return owned(record(ct.conv, operands, spec))
    return conv


def same_padding(input, taps, stride, padding, dilation):
    """PyTorch's 'valid' and 'same': an odd amount is put at the end, by padding the input first."""
    if padding == "valid": return input, (0,) * len(taps)
    if padding != "same": raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in stride): raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (t - 1) for t, d in zip(taps, dilation)]
    if any(p % 2 for p in total): input = pad_constant(input, [q for p in reversed(total) for q in (0, p % 2)])
    return input, tuple(p // 2 for p in total)


def transposed(k):
    @batched(k, f"conv_transpose{k}d")
    @by_parts
    def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        stride, padding, extra, dilation = (several(v, k) for v in (stride, padding, output_padding, dilation))
        for e, s, d in zip(extra, stride, dilation):
            if e >= s and e >= d:
                raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got output_padding={list(extra)}, stride={list(stride)}, dilation={list(dilation)}")
        size = tuple((n - 1) * s - 2 * p + d * (t - 1) + 1 + e for n, s, p, d, t, e in zip(shape_of(input)[2:], stride, padding, dilation, shape_of(weight)[2:], extra))
        if any(n <= 0 for n in size): raise RuntimeError(f"Calculated output size per channel: {size}. Output size is too small")
        spec = ConvSpec(stride, padding, dilation, int(groups), size=size)
        if input.dtype.category == dt.INT and weight.dtype is input.dtype:
            ct.conv_input.infer(spec, input, weight)
            out = transposed_of_integers(input, weight, spec)
        else: out = apply(ct.conv_input, input, weight, attr=spec)
        return out if bias is None else fn.add(out, views.reshape(bias, (1, -1) + (1,) * k))
    return conv_transpose


conv1d, conv2d, conv3d = convolution(1), convolution(2), convolution(3)
conv_transpose1d, conv_transpose2d, conv_transpose3d = transposed(1), transposed(2), transposed(3)


def pad_constant(input, pad, value=0):
    """Constant padding; `pad` lists (before, after) from the last axis backwards; negative amounts crop."""
    shape = list(shape_of(input))
    n = len(shape)
    if len(pad) % 2 or len(pad) // 2 > n: raise RuntimeError(f"Length of pad should be even and no more than twice the number of dimensions of the input, got {len(pad)}")
    before, after = [0] * n, [0] * n
    for i in range(len(pad) // 2): before[n - 1 - i], after[n - 1 - i] = int(pad[2 * i]), int(pad[2 * i + 1])
    for d in range(n):
        if before[d] < 0 or after[d] < 0: input = views.narrow(input, d, max(-before[d], 0), shape_of(input)[d] + min(before[d], 0) + min(after[d], 0))
    before, after = [max(b, 0) for b in before], [max(a, 0) for a in after]
    inner = shape_of(input)
    out = tuple(k + a + b for k, a, b in zip(inner, before, after))
    if out == inner: return views.clone(input)
    step = whole(out)
    window = step._replace(shape=inner, offset=sum(b * s for b, s in zip(before, step.strides)))
    return apply(mv.put, owned(constant(value, input.dtype, out)), input, attr=window)


# ---------------------------------------------------------------- padding
_PADS = {"reflect": pd.reflection_pad, "replicate": pd.replication_pad, "circular": pd.circular_pad}


def padded(input, mode, amounts):
    """input and its own elements around it; `amounts` (low, high) per axis."""
    return apply(_PADS[mode], input, attr=amounts)


# ---------------------------------------------------------------- pooling
def _window(k, kernel_size, stride, padding, dilation, ceil_mode, **more):
    kernel = several(kernel_size, k, "kernel_size")
    stride = kernel if stride is None or stride == [] or stride == () else several(stride, k, "stride")
    padding = several(padding, k, "padding")
    for p, n in zip(padding, kernel):
        if p < 0: raise RuntimeError(f"pad should be non-negative, but got padding={list(padding)}")
        if p > n // 2: raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={n} and dilation=1")
    return Window(kernel, stride, padding, several(dilation, k, "dilation"), bool(ceil_mode), **more)


def max_pools(k):
    @batched(k, f"max_pool{k}d_with_indices")
    def with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        spec = _window(k, kernel_size, stride, padding, dilation, ceil_mode)
        return apply(pl.max_pool, input, attr=spec), apply(pl.max_pool_indices, input, attr=spec)

    @batched(k, f"max_pool{k}d")
    def plain(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        return apply(pl.max_pool, input, attr=_window(k, kernel_size, stride, padding, dilation, ceil_mode))
    return plain, with_indices


def avg_pools(k):
    @batched(k, f"avg_pool{k}d")
    def avg(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        if divisor_override == 0: raise RuntimeError("divisor must be not zero")
        spec, size = _window(k, kernel_size, stride, padding, 1, ceil_mode, count_pad=bool(count_include_pad), divisor=int(divisor_override or 0)), shape_of(input)[2:]
        if k == 3 and any(m < n for m, n in zip(size, spec.kernel)):               # without its padding; the others look at the padded size
            raise RuntimeError("input image (T: {} H: {} W: {}) smaller than kernel size (kT: {} kH: {} kW: {})".format(*size, *spec.kernel))
        return apply(pl.avg_pool, input, attr=spec)
    return avg


def adaptive(k):
    def sizes(input, output_size):
        out = (output_size,) * k if isinstance(output_size, int) or output_size is None else tuple(output_size)
        if len(out) != k: raise RuntimeError(f"adaptive pool: output_size must be {k} numbers, got {list(out)}")
        if any(m is not None and m < 0 for m in out): raise RuntimeError(f"elements of output_size must be greater than or equal to 0 but received {list(out)}")
        return tuple(n if m is None else int(m) for m, n in zip(out, shape_of(input)[2:]))

    @batched(k, f"adaptive_avg_pool{k}d")
    def avg(input, output_size): return apply(pl.adaptive_avg_pool, input, attr=sizes(input, output_size))

    @batched(k, f"adaptive_max_pool{k}d")
    def most(input, output_size):
        out = sizes(input, output_size)
        return apply(pl.adaptive_max_pool, input, attr=out), apply(pl.adaptive_max_pool_indices, input, attr=out)
    return avg, most


(max_pool1d, max_pool1d_with_indices), (max_pool2d, max_pool2d_with_indices), (max_pool3d, max_pool3d_with_indices) = map(max_pools, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(avg_pools, (1, 2, 3))
(adaptive_avg_pool1d, adaptive_max_pool1d), (adaptive_avg_pool2d, adaptive_max_pool2d), (adaptive_avg_pool3d, adaptive_max_pool3d) = map(adaptive, (1, 2, 3))


# ---------------------------------------------------------------- normalization
def _given(*tensors): return [read(t) for t in tensors if t is not None]


def batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled=False):
    shape = shape_of(input)
    axes = (0, *range(2, len(shape)))
    if 0 in shape:                             # nothing to average: PyTorch passes the (empty) input on and leaves the statistics alone
        out = views.clone(input)
        if weight is not None: out = multiply(out, views.select(weight, 0, 0))
        return out if bias is None else fn.add(out, views.select(bias, 0, 0))
    if len(shape) < 2: raise ValueError(f"expected 2D or more input (got {len(shape)}D input)")
    for name, t in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if t is not None and t.numel() != shape[1]: raise RuntimeError(f"{name} should contain {shape[1]} elements not {t.numel()}")
    spec = nm.NormSpec(axes, float(eps), weight is not None, bias is not None)
    if not training:
        return owned(record(nm.batch_norm_given, _given(input, running_mean, running_var, weight, bias), spec))
    count = math.prod(shape) // max(shape[1], 1)
    if running_mean is not None and count:
        with no_grad():                        # the same sums the normalization makes: the planner shares them
            running_mean.mul_(1 - momentum).add_(views.reshape(apply(rc.mean, input, attr=axes), (-1,)) * momentum)
            spread = views.reshape(apply(rc.var, input, attr=rc.Spread(axes, 0)), (-1,))
            running_var.mul_(1 - momentum).add_(spread * (momentum * count / max(count - 1, 1)))
    return owned(record(nm.batch_norm, _given(input, weight, bias), spec))


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=False):
    shape, last = shape_of(input), tuple(normalized_shape)
    if not last: raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got normalized_shape = []")
    if shape[-len(last):] != last:
        raise RuntimeError(f"Given normalized_shape={list(last)}, expected input with shape [*, {', '.join(map(str, last))}], but got input of size{list(shape)}")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and shape_of(t) != last:
            raise RuntimeError(f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape {list(shape_of(t))} and normalized_shape = {list(last)}")
    axes = tuple(range(len(shape) - len(last), len(shape)))
    return owned(record(nm.layer_norm, _given(input, weight, bias), nm.NormSpec(axes, float(eps), weight is not None, bias is not None)))


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=False):
    shape = shape_of(input)
    if len(shape) < 2: raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {len(shape)}")
    if shape[1] % num_groups: raise RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(shape)} and num_groups={num_groups}")
    return owned(record(nm.group_norm, _given(input, weight, bias), nm.NormSpec((), float(eps), weight is not None, bias is not None, int(num_groups))))


def rms_norm(input, normalized_shape, weight=None, eps=None):
    shape, last = shape_of(input), tuple(normalized_shape)
    if shape[-len(last):] != last: raise RuntimeError(f"Given normalized_shape={list(last)}, expected input with shape [*, {', '.join(map(str, last))}], but got input of size{list(shape)}")
    if eps is None: eps = 2.220446049250313e-16 if input.dtype.real is dt.float64 else 1.1920928955078125e-07
    axes = tuple(range(len(shape) - len(last), len(shape)))
    return owned(record(nm.rms_norm, _given(input, weight), nm.NormSpec(axes, float(eps), weight is not None)))


# ---------------------------------------------------------------- softmax
def softmaxer(row):
    def f(input, dim=None, dtype=None, *, _stacklevel=3):
        shape = shape_of(input)
        if dim is None: dim = 0 if len(shape) in (0, 1, 3) else 1
        if dtype is not None: input = fn.to(input, dtype)
        dim = normalize_dim(dim, len(shape))
        if 0 in shape and input.dtype.category != dt.FLOAT: return views.clone(input)             # nothing to compute, whatever the type
        return apply(row, input, attr=dim)
    f.__name__ = row.name
    return f


softmax, log_softmax = softmaxer(rc.softmax), softmaxer(rc.log_softmax)


def logsumexp(input, dim, keepdim=False):
    axes = fn.axes_of(dim, len(shape_of(input)))
    return fn.drop(record(rc.logsumexp, (read(input),), axes), axes, keepdim)


# ---------------------------------------------------------------- dropout, embedding
def dropout(input, p, train):
    """Elements kept with probability 1-p and scaled by 1/(1-p); the mask is PyTorch's for the same seed."""
    if not 0 <= p <= 1: raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not train or p == 0 or input.numel() == 0: return input
    if p == 1: return multiply(input, apply(mv.full, attr=(shape_of(input), input.dtype, 0)))
    keep = 1.0 - p
    mask = views.made_like(lambda shape: randoms.bernoulli_mask(shape, keep, input), input)
    return multiply(multiply(input, mask), 1.0 / keep)


def embedding(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    if weight.ndim != 2: raise RuntimeError("'weight' must be 2-D")
    if indices.dtype not in (dt.int32, dt.int64):
        raise RuntimeError(f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got torch.{ew.TITLES[indices.dtype.name]}Tensor instead")
    gathering.inside(ga.embedding, indices, 0, shape_of(weight)[0], 0)
    padding = None if padding_idx < 0 else int(padding_idx)
    if sparse and weight.requires_grad: return lookup(weight, indices, padding, scale_grad_by_freq)
    return apply(ga.embedding, weight, indices, attr=(padding, bool(scale_grad_by_freq)))


def check_targets(target, classes: int, ignore: int):
    """Class indices of a loss that are small and known already are checked where the user stands; others by the kernel, at the flush."""
    def check(found):
        if data.below(found, classes): return
        wrong = found[(found != ignore) & ((found < 0) | (found >= classes))]
        if wrong.size: raise IndexError(f"Target {int(wrong.reshape(-1)[0])} is out of bounds.")
    data.look(target, (classes, ignore), check)


def class_index(index, classes: int, error=IndexError, text="Target {x} is out of bounds."):
    """A loss's class indices, without those to be ignored, as PyTorch demands them."""
    return gathering.claimed(index, 0, classes - 1, error, text)


def binary_cross_entropy(x, y): return apply(ac.binary_cross_entropy, x, y)


def ctc(log_probs, labels, input_lengths, target_lengths, blank, zero_infinity):
    """(N,) losses of log_probs (T, N, C), labels (N, S) and lengths (N), int64."""
    return apply(cc.ctc, log_probs, labels, input_lengths, target_lengths, attr=cc.CtcSpec(int(blank), bool(zero_infinity)))


# ---------------------------------------------------------------- matrix products with an addend
def linear(input, weight, bias=None):
    out = fn.matmul(input, views.t(weight) if weight.ndim == 2 else weight)
    return out if bias is None else fn.add(out, bias)


def factor(x, t):
    """alpha or beta next to integers counts as one of them, as PyTorch's kernels convert it."""
    if t.dtype.category == dt.INT and isinstance(x, complex): raise RuntimeError("value cannot be converted to type int64_t without overflow")
    return int(x) if t.dtype.category == dt.INT and isinstance(x, float) else x


def _product_added(name, n, m):
    def f(input, a, b, *, beta=1, alpha=1):
        if a.ndim != n or b.ndim != m: raise RuntimeError(f"{name}: expected {n}D and {m}D tensors, but got {a.ndim}D and {b.ndim}D tensors")
        if alpha == 1 and beta == 1: return fn.add(fn.matmul(a, b), input)
        beta, alpha = factor(beta, input), factor(alpha, input)
        if a.dtype.opmath is not a.dtype and a.dtype is b.dtype is input.dtype:          # rounded once, as PyTorch's
            wide = a.dtype.opmath
            return fn.to(f(fn.to(input, wide), fn.to(a, wide), fn.to(b, wide), beta=beta, alpha=alpha), a.dtype)
        r = fn.matmul(a, b)
        if alpha != 1: r = multiply(r, alpha)
        if beta == 0: return r
        return fn.add(r, input if beta == 1 else multiply(input, beta))
    return f


addmm, baddbmm, addmv = _product_added("addmm", 2, 2), _product_added("baddbmm", 3, 3), _product_added("addmv", 2, 1)


def mm(input, mat2):
    if input.ndim != 2: raise RuntimeError("self must be a matrix")
    if mat2.ndim != 2: raise RuntimeError("mat2 must be a matrix")
    return fn.matmul(input, mat2)


def bmm(input, mat2):
    if input.ndim != 3 or mat2.ndim != 3: raise RuntimeError("batch1 must be a 3D tensor" if input.ndim != 3 else "batch2 must be a 3D tensor")
    if input.shape[0] != mat2.shape[0] or input.shape[2] != mat2.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] but got: [{mat2.shape[0]}, {mat2.shape[1]}].")
    return fn.matmul(input, mat2)


def mv_(input, vec):
    if input.ndim != 2 or vec.ndim != 1: raise RuntimeError("vector + matrix @ vector expected, got " + f"{input.ndim}, {vec.ndim}")
    return fn.matmul(input, vec)


def dot(input, other):
    if input.ndim != 1 or other.ndim != 1: raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {other.ndim}D tensors")
    return fn.matmul(input, other)


def outer(input, vec2): return multiply(views.unsqueeze(input, 1), views.unsqueeze(vec2, 0))


def cubic_weights(t):
    """Weights of the four neighbours of a point that lies t after the second."""
    return [apply(rc.cubic, d, attr=near) for d, near in ((t + 1, False), (t, True), (1 - t, True), (2 - t, False))]
