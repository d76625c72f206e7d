"""Resampling of images and volumes: interpolate, grid_sample, affine_grid."""
from __future__ import annotations

import math

from ...core.errors import warn
from ...framework import api as torch, neural, views
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

GRID_SAMPLE_INTERPOLATION_MODES = {"bilinear": 0, "nearest": 1, "bicubic": 2}
GRID_SAMPLE_PADDING_MODES = {"zeros": 0, "border": 1, "reflection": 2}

_LINEAR_DIMS = {"linear": 3, "bilinear": 4, "trilinear": 5, "bicubic": 4, "lanczos": 4}      # mode -> input dimensions
_ADAPTIVE = {3: adaptive_avg_pool1d, 4: adaptive_avg_pool2d, 5: adaptive_avg_pool3d}


# ---- interpolate: every mode is separable and runs one axis at a time -------------------------------------------------------------------

def _index_dtype(x): return torch.float64 if x.dtype == torch.float64 else torch.float32


def _source(x, axis, out, factor, align_corners, cubic=False):
    """Where each output position lies in the input: (out,) real coordinates."""
    i = torch.arange(out, dtype=_index_dtype(x), device=x.device)
    if align_corners:
        return i * ((x.size(axis) - 1) / (out - 1) if out > 1 else 0.0)
    at = torch.add(torch.full_like(i, -0.5), i + 0.5, alpha=1.0 / factor if factor else x.size(axis) / out)          # rounded once, as PyTorch's is
    return at if cubic else at.clamp_min(0)


def _nearest_axis(x, axis, out, factor, exact):
    scale = 1.0 / factor if factor else x.size(axis) / out
    at = (torch.arange(out, dtype=_index_dtype(x), device=x.device) + (0.5 if exact else 0.0)) * scale
    return x.index_select(axis, at.floor().to(torch.long).clamp(0, x.size(axis) - 1))


def _blend(x, axis, taps):
    """Sum of weight · x[index] along an axis; taps are (index, weight) pairs of length out."""
    shape = [1] * x.dim()
    total = None
    for index, weight in taps:
        shape[axis] = index.size(0)
        part = x.index_select(axis, index.clamp(0, x.size(axis) - 1)) * weight.to(x.dtype).reshape(shape)
        total = part if total is None else total + part
    return total


def _linear_axis(x, axis, out, factor, align_corners):
    at = _source(x, axis, out, factor, align_corners)
    low = at.to(torch.long).clamp_max(x.size(axis) - 1)
    t = (at - low).clamp(0, 1)
    return _blend(x, axis, ((low, 1 - t), (low + 1, t)))


def _cubic_weights(t, a=-0.75):
    """Weights of the four neighbours for the fraction t (Keys, 1981)."""
    def near(d): return ((a + 2) * d - (a + 3)) * d * d + 1
    def far(d): return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return far(t + 1), near(t), near(1 - t), far(2 - t)


def _cubic_axis(x, axis, out, factor, align_corners):
    at = _source(x, axis, out, factor, align_corners, cubic=True)
    low = at.floor()
    index = low.to(torch.long)
    return _blend(x, axis, tuple((index + k - 1, w) for k, w in enumerate(_cubic_weights(at - low))))


def _triangle(d): return (1 - d).clamp_min(0)


def _keys(d):
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2              # a = -0.5
    return torch.where(d < 1, near, torch.where(d < 2, far, 0.0))


def _lanczos3(d): return torch.where(d < 3, torch.sinc(d) * torch.sinc(d / 3), 0.0)


_FILTERS = {"bilinear": (_triangle, 1.0), "bicubic": (_keys, 2.0), "lanczos": (_lanczos3, 3.0)}


def _filtered(n, out, factor, align_corners, mode, like):
    """Each output is a weighted mean under a filter widened by the scale: (out, n) weights."""
    scale = ((n - 1) / (out - 1) if out > 1 else 0.0) if align_corners else 1.0 / factor if factor else n / out
    kernel, support = _FILTERS[mode]
    support, squeeze = (support * scale, 1.0 / scale) if scale >= 1 else (support, 1.0)
    centre = ((torch.arange(out, dtype=like.dtype, device=like.device) + 0.5) * scale).unsqueeze(1)        # (out, 1)
    j = torch.arange(n, dtype=like.dtype, device=like.device)
    first, end = (centre - support + 0.5).to(torch.long), (centre + support + 0.5).to(torch.long)
    weight = torch.where((j >= first) & (j < end), kernel(((j - centre + 0.5) * squeeze).abs()), 0.0)        # (out, n)
    return weight / weight.sum(1, keepdim=True)


def _antialiased_axis(x, axis, out, factor, align_corners, mode):
    weight = _filtered(x.size(axis), out, factor, align_corners, mode, torch.empty(0, dtype=_index_dtype(x))).to(x.dtype)
    return torch.matmul(x.transpose(axis, -1), weight.t()).transpose(axis, -1)


# ---- images of bytes, in fixed point as PyTorch and Pillow have them ---------------------------------------------------------------------

def _byte_rows(n, out, factor, align_corners, mode, antialias):
    """{input position: weight} per output position, in Python's numbers."""
    if antialias:
        weight = _filtered(n, out, factor, align_corners, mode, torch.empty(0, dtype=torch.float64)).tolist()
        return [{j: w for j, w in enumerate(line) if w} for line in weight]
    rows, scale = [], ((n - 1) / (out - 1) if out > 1 else 0.0) if align_corners else 1.0 / factor if factor else n / out
    for i in range(out):
        at = i * scale if align_corners else (i + 0.5) * scale - 0.5
        if mode != "bicubic": at = max(at, 0.0)
        low = math.floor(at)
        taps = enumerate(_cubic_weights(at - low), low - 1) if mode == "bicubic" else ((low, 1 - (at - low)), (low + 1, at - low))
        row = {}
        for j, w in taps:
            j = min(max(j, 0), n - 1)
            row[j] = row.get(j, 0.0) + w
        rows.append(row)
    return rows


def _byte_axis(x, axis, rows):
    """Weights as 16-bit integers with as many binary digits as the largest allows; one rounding per axis."""
    top = max(max(row.values()) for row in rows)
    digits = next((b for b in range(21) if int(0.5 + top * (2 << b)) >= 1 << 15), 21)
    shape, width = [1] * x.dim(), max(map(len, rows))
    shape[axis] = len(rows)
    rows, total = [[*row.items(), *[(0, 0.0)] * (width - len(row))] for row in rows], 1 << digits - 1
    for tap in zip(*rows):
        weight = [int(w * (1 << digits) + math.copysign(0.5, w)) for _, w in tap]
        part = x.index_select(axis, torch.tensor([j for j, _ in tap], device=x.device)).to(torch.int32)
        total = part * torch.tensor(weight, dtype=torch.int32, device=x.device).reshape(shape) + total
    return (total >> digits).clamp(0, 255).to(torch.uint8)


def _is_integer(n): return not n.is_floating_point() if isinstance(n, torch.Tensor) else hasattr(n, "__index__")


def _sizes(input, size, scale_factor, recompute):
    """(output size per axis, factor per axis or None)."""
    n = input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    given, name = (size, "output size") if size is not None else (scale_factor, "scale_factor of shape")
    if isinstance(given, (list, tuple)) and len(given) != n:
        raise ValueError("Input and output must have the same number of spatial dimensions, but got input with spatial dimensions of "
                         f"{list(input.shape[2:])} and {name} of {given}. Please provide input tensor in (N, C, d1, d2, ...,dK) format and one "
                         f"number per "
                         "spatial dimension.")
    given = list(given) if isinstance(given, (list, tuple)) else [given] * n
    if size is not None:
        if not all(_is_integer(s) for s in given):
            raise TypeError("expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got size with types "
                            f"{[type(s) for s in given]}")
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        return [int(s) for s in given], [None] * n
    out = [math.floor(input.size(i + 2) * f) for i, f in enumerate(given)]
    return out, [None] * n if recompute else [float(f) for f in given]


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False):
    """Resize (N, C, d1, …) to `size` or by `scale_factor`; modes nearest, nearest-exact, area, (bi/tri)linear, bicubic, lanczos."""
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    dim, given = input.dim(), input
    out, factors = _sizes(input, size, scale_factor, recompute_scale_factor or (mode == "area" and size is None))
    if antialias and not (mode in _FILTERS and dim == 4):
        raise ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input")
    if dim not in (3, 4, 5) or (mode not in _LINEAR_DIMS and mode not in ("nearest", "nearest-exact", "area")):
        raise NotImplementedError("Input Error: Only 3D, 4D and 5D input Tensors supported "
                                  f"(got {dim}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact "
                                  f"(got {mode})")
    if _LINEAR_DIMS.get(mode, dim) != dim:
        raise NotImplementedError(f"Got {dim}D input, but {mode} mode needs {_LINEAR_DIMS[mode]}D input")
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError("Lanczos mode does not support align_corners=True" if align_corners else "Lanczos mode requires antialias=True")
    if min(out) <= 0 or 0 in input.shape[1:]:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input {list(input.shape[2:])} output {out}")
    if mode == "area":
        return _ADAPTIVE[dim](input, out)
    if input.dtype == torch.uint8 and dim == 4 and mode in _FILTERS:
        for axis in (3, 2):
            rows = _byte_rows(input.size(axis), out[axis - 2], factors[axis - 2], bool(align_corners), mode, antialias)
            input = _byte_axis(input, axis, rows)
        return views.channels_like(input, given)
    for axis in range(dim - 1, 1, -1):                                       # the last first, as PyTorch rounds; elements are fetched one by one along it
        n, factor = out[axis - 2], factors[axis - 2]
        if antialias:
            input = _antialiased_axis(input, axis, n, factor, bool(align_corners), mode)
        elif mode in ("nearest", "nearest-exact"):
            input = _nearest_axis(input, axis, n, factor, mode == "nearest-exact")
        else:
            input = (_cubic_axis if mode == "bicubic" else _linear_axis)(input, axis, n, factor, bool(align_corners))
    return views.channels_like(input, given)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    warn("`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    warn("`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# ---- grids (Jaderberg et al., 2015) -----------------------------------------------------------------------------------------------------

def _align(align_corners):
    if align_corners is None:
        warn("Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
             "align_corners=True if "
             "the old behavior is desired.")
    return bool(align_corners)


def _clip(x, size):
    """Into [0, size - 1]; coordinates outside, or on the border, get no gradient."""
    return torch.where((x > 0) & (x < size - 1), x, x.detach().clamp(0, size - 1))


def _reflect(x, size, align_corners):
    """Fold coordinates back at the centres (align_corners) or outer edges of the border pixels."""
    low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
    if span == 0:
        return torch.zeros_like(x)
    x = (x - low).abs()
    extra = torch.fmod(x, span)
    return torch.where(torch.floor(x / span).to(torch.long) % 2 == 0, extra, span - extra) + low


def _placed(x, size, padding_mode, align_corners):
    if padding_mode == "reflection":
        x = _reflect(x, size, align_corners)
    return x if padding_mode == "zeros" else _clip(x, size)


def _pick(flat, sizes, at, weight):
    """Values at integer coordinates, zero outside. flat (N, C, prod sizes), at: one (N, *out) per axis -> (N, C, *out)."""
    inside, index = None, 0
    for x, n in zip(at, sizes):
        ok = (x >= 0) & (x < n)
        inside = ok if inside is None else inside & ok
        index = index * n + x.to(torch.long).clamp(0, n - 1)
    values = flat.gather(2, index.flatten(1).unsqueeze(1).expand(-1, flat.size(1), -1))                # (N, C, prod out)
    values = values.reshape(*flat.shape[:2], *index.shape[1:])
    return torch.where(inside.unsqueeze(1), values * weight.unsqueeze(1), 0.0)


def _check_grid(input, grid, mode, padding_mode):
    if mode not in GRID_SAMPLE_INTERPOLATION_MODES:
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in GRID_SAMPLE_PADDING_MODES:
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    n = input.dim() - 2
    if n not in (2, 3) or grid.dim() != input.dim() or grid.size(0) != input.size(0) or grid.size(-1) != n:
        raise RuntimeError("grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, same batch size and grid.size(-1) == "
                           "spatial "
                           f"dimensions, but got input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}")
    if 0 in input.shape[2:]:
        raise RuntimeError(f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes {list(input.shape)}")
    if mode == "bicubic" and n == 3:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """Sample input (N, C, [D,] H, W) at grid (N, *out, x y [z]) in [-1, 1] -> (N, C, *out)."""
    _check_grid(input, grid, mode, padding_mode)
    align = _align(align_corners)
    sizes, flat = input.shape[2:], input.flatten(2)
    real = []                                                                                          # per axis, slowest first
    for i, n in enumerate(sizes):
        x = grid[..., len(sizes) - 1 - i]
        if align: x = (x + 1) / 2 * (n - 1)
        elif len(sizes) == 2 and x.dtype in (torch.float32, torch.float64): x = torch.add(torch.full_like(x, -0.5), x + 1, alpha=n / 2)          # PyTorch's vector code
        else: x = ((x + 1) * n - 1) / 2
        real.append(x if mode == "bicubic" else _placed(x, n, padding_mode, align))
    if mode == "nearest":
        at = [x.round() for x in real]
        return _pick(flat, sizes, at, torch.ones_like(at[0]))
    low = [x.floor().detach() for x in real]
    if mode == "bicubic":
        weights = [neural.cubic_weights(x - base) for x, base in zip(real, low)]
        taps = [[_placed(base + k - 1, n, padding_mode, align) for k in range(4)] for base, n in zip(low, sizes)]
    else:
        weights = [(1 - (x - base), x - base) for x, base in zip(real, low)]
        taps = [[base, base + 1] for base in low]
    total = None
    for corner in range(len(taps[0]) ** len(sizes)):
        at, weight = [], 1
        for axis in range(len(sizes)):
            corner, k = divmod(corner, len(taps[axis]))
            at.append(taps[axis][k])
            weight = weights[axis][k] * weight
        part = _pick(flat, sizes, at, weight)
        total = part if total is None else total + part
    return total


def affine_grid(theta, size, align_corners=None):
    """The grid of an affine map per sample: theta (N, 2, 3) or (N, 3, 4), size (N, C, [D,] H, W) -> (N, [D,] H, W, 2 or 3)."""
    align = _align(align_corners)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size {size}.")
    if theta.dim() != 3 or tuple(theta.shape[-2:]) != (n, n + 1):
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {size}. Got {theta.shape}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    coordinates = []
    for i in range(n):                                                                                 # x is the last axis
        length = size[-1 - i]
        line = torch.linspace(-1, 1, length, dtype=theta.dtype, device=theta.device) if length > 1 else theta.new_zeros(1)
        shape = [1] * n
        shape[-1 - i] = length
        coordinates.append((line if align else line * ((length - 1) / length)).reshape(shape).expand(*size[2:]))
    coordinates.append(torch.ones(tuple(size[2:]), dtype=theta.dtype, device=theta.device))
    base = torch.stack(coordinates, -1).reshape(1, -1, n + 1).expand(size[0], -1, -1)                  # (N, H W, 3)
    return torch.bmm(base, theta.transpose(1, 2)).reshape(size[0], *size[2:], n)
