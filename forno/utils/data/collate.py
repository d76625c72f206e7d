"""From a list of samples to one batch: tensors are stacked, numbers become tensors, containers are collated element by element."""
from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import numpy as np

from ...framework import api as torch
from ...framework import storage as memory

_WANTED = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


def _like(sample, values: dict):
    """A mapping of the sample's own type with other values; a plain dict when that type can't be made so."""
    try:
        if not isinstance(sample, MutableMapping): return type(sample)(values)
        out = copy.copy(sample)
        out.update(values)
        return out
    except TypeError: return values


def _row_like(sample, values: list):
    try:
        if not isinstance(sample, MutableSequence): return type(sample)(values)
        out = copy.copy(sample)
        for i, v in enumerate(values): out[i] = v
        return out
    except TypeError: return values


def _is_text(array) -> bool: return array.dtype.kind in "SUO"


def default_convert(data):
    """NumPy arrays and numbers inside `data` as tensors; everything else as it is (the collate_fn when batching is off)."""
    if isinstance(data, torch.Tensor): return data
    if type(data).__module__ == "numpy" and not isinstance(data, np.str_):
        return data if isinstance(data, np.ndarray) and _is_text(data) else torch.as_tensor(data)
    if isinstance(data, Mapping): return _like(data, {k: default_convert(data[k]) for k in data})
    if isinstance(data, tuple): return _tuple_like(data, [default_convert(x) for x in data])
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)): return _row_like(data, [default_convert(x) for x in data])
    return data


def _tuple_like(sample, values: list):
    """Named tuples stay; plain tuples become lists, as they always have."""
    return type(sample)(*values) if hasattr(sample, "_fields") else values


def collate(batch, *, collate_fn_map=None):
    """Collates by the sample's type: first what the map says, then containers recursively."""
    sample, known = batch[0], collate_fn_map or {}
    collator = known.get(type(sample)) or next((f for kinds, f in known.items() if isinstance(sample, kinds)), None)
    if collator is not None: return collator(batch, collate_fn_map=collate_fn_map)
    if isinstance(sample, Mapping):
        return _like(sample, {k: collate([s[k] for s in batch], collate_fn_map=collate_fn_map) for k in sample})
    if isinstance(sample, Sequence):
        if any(len(s) != len(sample) for s in batch): raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
        return _tuple_like(sample, columns) if isinstance(sample, tuple) else _row_like(sample, columns)
    raise TypeError(_WANTED.format(type(sample)))


def collate_tensor_fn(batch, *, collate_fn_map=None):
    out = memory.stacked(batch)
    return torch.stack(list(batch), 0) if out is None else out


def collate_numpy_array_fn(batch, *, collate_fn_map=None):
    if _is_text(batch[0]): raise TypeError(_WANTED.format(batch[0].dtype))
    if all(a.dtype == batch[0].dtype and a.shape == batch[0].shape for a in batch): return torch.from_numpy(np.stack(batch))
    return collate([torch.as_tensor(a) for a in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch, *, collate_fn_map=None): return torch.as_tensor(np.asarray(batch))
def collate_float_fn(batch, *, collate_fn_map=None): return torch.tensor(batch, dtype=torch.float64)
def collate_int_fn(batch, *, collate_fn_map=None): return torch.tensor(batch)
def collate_str_fn(batch, *, collate_fn_map=None): return batch


default_collate_fn_map = {
    torch.Tensor: collate_tensor_fn, np.ndarray: collate_numpy_array_fn, (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn, int: collate_int_fn, str: collate_str_fn, bytes: collate_str_fn,
}


def default_collate(batch): return collate(batch, collate_fn_map=default_collate_fn_map)
