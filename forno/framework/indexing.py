"""t[...] and t[...] = v: slices, integers, None, Ellipsis become views; index and mask tensors become the rows `index` and `index_put`."""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from . import data, gathering, views
from .bind import constant
from .methods import copy_
from .tensor import Tensor, element, owned
from .views import shape_of


def parts(index) -> tuple:
    """An index as a tuple; NumPy's arrays are tensors from here on."""
    index = index if isinstance(index, tuple) else (index,)
    return tuple([data.from_data(x) if isinstance(x, np.ndarray) else x for x in index]) if any([isinstance(x, np.ndarray) for x in index]) else index


def is_advanced(x) -> bool: return isinstance(x, (Tensor, list, range, np.ndarray)) and not (isinstance(x, Tensor) and x.dtype.category == dt.INT and not shape_of(x))


def viewed(t: Tensor, index: tuple):
    """Basic parts as views; returns the viewed tensor and the advanced parts, one per axis of it (None: the whole axis)."""
    count = sum(x is not None and x is not Ellipsis and not isinstance(x, (bool, np.bool_)) and (len(shape_of(x)) if gathering.is_mask(x) else 1) for x in index)
    ndim = len(shape_of(t))
    if count > ndim: raise IndexError(f"too many indices for tensor of dimension {ndim}")
    d, picks = 0, []
    for x in index:
        if x is Ellipsis:                      # a second one stands for axes that aren't there
            d += ndim - count
            picks.extend([None] * (ndim - count))
        elif x is None:
            t = views.unsqueeze(t, d)
            picks.append(None)
            d += 1
        elif isinstance(x, slice):
            step = 1 if x.step is None else int(x.step)
            if step <= 0: raise ValueError("step must be greater than zero")
            n = shape_of(t)[d]
            start, stop = (None if v is None else int(v) for v in (x.start, x.stop))
            if slice(start, stop, step).indices(n) != (0, n, 1): t = views.slice_(t, d, start, stop, step)
            picks.append(None)
            d += 1
        elif isinstance(x, (bool, np.bool_)) or (isinstance(x, Tensor) and x.dtype is dt.bool and not shape_of(x)):
            t = views.unsqueeze(t, d)
            on = x if isinstance(x, Tensor) else None
            keep = bool(data.item(on)) if on is not None else bool(x)
            picks.append(data.from_data([0] if keep else [], dt.int64))
            d += 1
        elif is_advanced(x):
            for k in gathering.index_tensors(x, shape_of(t), d):
                picks.append(k)
                d += 1
        else:
            i = integer(x)
            n = shape_of(t)[d]
            if not -n <= i < n: raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
            t = views.select(t, d, i)
    return t, (picks + [None] * (len(shape_of(t)) - len(picks)))[:len(shape_of(t))]


def integer(x) -> int:
    if isinstance(x, str): raise TypeError("new(): invalid data type 'str'")
    try: return x.__index__()
    except (AttributeError, TypeError):
        raise IndexError(f"only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {type(x).__name__})") from None


def getitem(self, index):
    index = parts(index)
    t, picks = viewed(self, index)
    if all(p is None for p in picks): return views.same(t) if t is self else t
    return gathering.index(t, picks)


def with_elements(f):
    """getitem, with a short way to single elements."""
    def getitem(self, index):
        try: r = element(self, index if index.__class__ is tuple else (index,))
        except AttributeError: r = None        # a tensor of another layout
        return f(self, index) if r is None else r
    return getitem


def setitem(self, index, value):
    index = parts(index)
    t, picks = viewed(self, index)
    if not isinstance(value, Tensor): value = owned(constant(value, self.dtype))
    if all(p is None for p in picks):
        shape, have = shape_of(t), shape_of(value)
        k = 0
        while len(have) - k > len(shape) and have[k] == 1: k += 1        # PyTorch strips leading 1s of the value
        if k: value = views.reshape(value, have[k:])
        copy_(t, value)
        return
    if value.dtype is not t.dtype and not (value.numel() == 1 and is_one_mask(index)): raise gathering.unlike(t, value)
    gathering.write_at(t, picks, value)


def is_one_mask(index: tuple) -> bool:
    """A single mask as index: PyTorch fills then, and converts what it fills with."""
    advanced = [x for x in index if is_advanced(x)]
    return len(advanced) == 1 and (gathering.is_mask(advanced[0]) or isinstance(advanced[0], list) and any([isinstance(x, bool) for x in advanced[0]]))


def hang(cls):
    cls.__getitem__, cls.__setitem__ = getitem, setitem
