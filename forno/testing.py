"""torch.testing.assert_close: are two tensors, numbers, or nested lists and dicts of them equal up to rounding? AssertionError says where they differ."""
from __future__ import annotations

import cmath
from collections.abc import Mapping, Sequence

from .framework import api as torch

__all__ = ["assert_close"]

TOLERANCES = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7),
              torch.complex64: (1.3e-6, 1e-5), torch.complex128: (1e-7, 1e-7)}             # (rtol, atol); other types are compared exactly


def tolerances(dtypes, rtol, atol):
    if rtol is not None and atol is not None: return rtol, atol
    if rtol is not None or atol is not None:
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {'rtol' if rtol is None else 'atol'}.")
    return tuple(max(column) for column in zip(*(TOLERANCES.get(d, (0.0, 0.0)) for d in dtypes)))


def _place(path) -> str: return f"\n\nThe failure occurred for item {''.join(f'[{p!r}]' for p in path)}" if path else ""


def _exact(rtol, atol) -> bool: return rtol == atol == 0


def _tensors(a, b, o, path):
    if a.shape != b.shape: return f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}."
    if o["check_dtype"] and a.dtype != b.dtype: return f"The values for attribute 'dtype' do not match: {a.dtype} != {b.dtype}."
    if o["check_stride"] and a.stride() != b.stride(): return f"The values for attribute 'stride()' do not match: {a.stride()} != {b.stride()}."
    rtol, atol = tolerances((a.dtype, b.dtype), o["rtol"], o["atol"])
    a, b = a.detach(), b.detach()
    if a.dtype != b.dtype:
        common = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(common), b.to(common)
    wrong = ~torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=o["equal_nan"])
    count = int(wrong.sum())
    if not count: return None
    title = f"{'Scalars' if not a.shape else 'Tensor-likes'} are not {'equal' if _exact(rtol, atol) else 'close'}!"
    wide = torch.complex128 if a.dtype.is_complex else torch.float64 if a.dtype.is_floating_point else torch.int64
    a, b = a.to(wide), b.to(wide)
    if not a.shape: return _scalar_text(title, a.item(), b.item(), rtol, atol)
    difference = torch.where(wrong, (a - b).abs(), 0)
    relative = torch.where(wrong, difference / b.abs(), 0)
    return (f"{title}\n\nMismatched elements: {count} / {a.numel()} ({count / a.numel():.1%})\n"
            f"Greatest absolute difference: {_greatest(difference)}{_allowed(atol)}\nGreatest relative difference: {_greatest(relative)}{_allowed(rtol)}")


def _greatest(x) -> str:
    flat, at = int(x.reshape(-1).nan_to_num(float("inf")).argmax()), []
    value = x.reshape(-1)[flat].item()
    for n in reversed(x.shape):
        at.insert(0, flat % n)
        flat //= n
    return f"{value} at index {tuple(at)}"


def _allowed(tolerance) -> str: return f" (up to {tolerance} allowed)" if tolerance else ""


def _scalar_text(title, a, b, rtol, atol) -> str:
    difference = abs(a - b)
    relative = difference / abs(b) if b else float("inf")
    return (f"{title}\n\nExpected {b} but got {a}.\nAbsolute difference: {difference}{_allowed(atol)}\n"
            f"Relative difference: {relative}{_allowed(rtol)}")


def _numbers(a, b, o, path):
    if o["check_dtype"] and type(a) is not type(b): return f"The (d)types do not match: {type(a)} != {type(b)}."
    kinds = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}
    rtol, atol = tolerances((kinds[type(a)], kinds[type(b)]), o["rtol"], o["atol"])
    if a == b or (o["equal_nan"] and cmath.isnan(a) and cmath.isnan(b)): return None
    if isinstance(a, bool) or isinstance(b, bool): return f"Booleans mismatch: {a} is not {b}"
    if cmath.isfinite(a) and cmath.isfinite(b) and abs(a - b) <= atol + rtol * abs(b): return None
    return _scalar_text(f"Scalars are not {'equal' if _exact(rtol, atol) else 'close'}!", a, b, rtol, atol)


def _compare(a, b, o, path):
    """None, or what is wrong."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if not o["allow_subclasses"] and type(a) is not type(b): return f"{type(a)} and {type(b)} are not the same class.", path
        wrong = _tensors(a, b, o, path)
    elif isinstance(a, (bool, int, float, complex)) and isinstance(b, (bool, int, float, complex)): wrong = _numbers(a, b, o, path)
    elif isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str) and not isinstance(b, str):
        if len(a) != len(b): return f"The length of the sequences mismatch: {len(a)} != {len(b)}", path
        return next(filter(None, (_compare(x, y, o, (*path, i)) for i, (x, y) in enumerate(zip(a, b)))), None)
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b): return f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {sorted(set(b) - set(a), key=str)}\n" \
                                    f"Missing keys in the expected mapping: {sorted(set(a) - set(b), key=str)}", path
        return next(filter(None, (_compare(a[k], b[k], o, (*path, k)) for k in a)), None)
    elif a is None and b is None: return None
    else: raise TypeError(f"No comparison pair was able to handle inputs of type {type(a)} and {type(b)}.")
    return wrong and (wrong, path)


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True, check_dtype=True, check_layout=True,
                 check_stride=False, msg=None):
    """Raises AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere; the tolerances depend on the dtype."""
    options = dict(allow_subclasses=allow_subclasses, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=check_dtype, check_stride=check_stride)
    wrong = _compare(actual, expected, options, ())
    if wrong is None: return
    text = wrong[0] + _place(wrong[1])
    raise AssertionError(msg(text) if callable(msg) else msg or text)
