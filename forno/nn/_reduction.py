"""The `reduction` argument of losses, and the older size_average/reduce pair that means the same."""
from __future__ import annotations

from ..core.errors import warn

_ENUM = {"none": 0, "mean": 1, "elementwise_mean": 1, "sum": 2}


def get_enum(reduction: str) -> int:
    if reduction not in _ENUM:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if reduction == "elementwise_mean":
        warn("reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.")
    return _ENUM[reduction]


def legacy_get_string(size_average, reduce, emit_warning=True) -> str:
    averaged, reduced = (True if flag is None else flag for flag in (size_average, reduce))
    reduction = "none" if not reduced else "mean" if averaged else "sum"
    if emit_warning:
        warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.")
    return reduction


def legacy_get_enum(size_average, reduce, emit_warning=True) -> int:
    return get_enum(legacy_get_string(size_average, reduce, emit_warning))


def resolve(reduction, size_average=None, reduce=None) -> str:
    """'none', 'mean' or 'sum'; ValueError for anything else."""
    if size_average is not None or reduce is not None:
        return legacy_get_string(size_average, reduce)
    return ("none", "mean", "sum")[get_enum(reduction)]


def apply(loss, reduction: str):
    """Reduce elementwise losses; `reduction` comes from `resolve`."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()
