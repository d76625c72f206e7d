"""Datasets: things with `ds[i]` and a length, or things to iterate over, and their combinations."""
from __future__ import annotations

import itertools
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from typing import Generic, TypeVar

from ...framework import api as torch

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Subclasses define `__getitem__`, mostly `__len__`, and `__getitems__(list)` where a batch is cheaper than its samples."""

    def __getitem__(self, index) -> T_co: raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")
    def __add__(self, other): return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """Subclasses define `__iter__`; with workers, each iterates over its own copy and shards by `get_worker_info()`."""

    def __add__(self, other): return ChainDataset([self, other])


class TensorDataset(Dataset):
    """Samples are rows: ds[i] is (tensors[0][i], tensors[1][i], …)."""

    def __init__(self, *tensors):
        if any(t.size(0) != tensors[0].size(0) for t in tensors): raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index): return tuple(t[index] for t in self.tensors)
    def __len__(self): return self.tensors[0].size(0)


class StackDataset(Dataset):
    """Datasets side by side: a sample is the tuple (or dict, from keywords) of their samples."""

    def __init__(self, *args, **kwargs):
        if args and kwargs: raise ValueError("Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like input/output, but both "
                                             "types are given.")
        if not args and not kwargs: raise ValueError("At least one dataset should be passed")
        parts = args or tuple(kwargs.values())
        self._length = len(parts[0])
        if any(len(d) != self._length for d in parts): raise ValueError("Size mismatch between datasets")
        self.datasets = args or kwargs

    def __getitem__(self, index):
        if isinstance(self.datasets, dict): return {k: d[index] for k, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __getitems__(self, indices):
        named = isinstance(self.datasets, dict)
        columns = []
        for d in self.datasets.values() if named else self.datasets:
            column = _items(d, indices)
            if len(column) != len(indices):
                raise ValueError(f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(column)}")
            columns.append(column)
        return [dict(zip(self.datasets, row)) if named else row for row in zip(*columns)]

    def __len__(self): return self._length


class ConcatDataset(Dataset):
    """Datasets end to end."""

    def __init__(self, datasets):
        self.datasets = list(datasets)
        if not self.datasets: raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets): raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __len__(self): return self.cumulative_sizes[-1]

    def __getitem__(self, index):
        if index < 0:
            if -index > len(self): raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        which = bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]


class ChainDataset(IterableDataset):
    """Iterable datasets one after the other."""

    def __init__(self, datasets): self.datasets = datasets

    def _checked(self):
        for d in self.datasets:
            if not isinstance(d, IterableDataset): raise AssertionError("ChainDataset only supports IterableDataset")
            yield d

    def __iter__(self):
        for d in self._checked(): yield from d

    def __len__(self): return sum(map(len, self._checked()))


class Subset(Dataset[T_co]):
    """The samples of a dataset at `indices`."""

    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, indices
        if type(self).__getitem__ is not Subset.__getitem__ and type(self).__getitems__ is Subset.__getitems__:
            raise NotImplementedError(f"{type(self).__name__} overrides __getitem__ but not __getitems__. When subclassing Subset and overriding "
                                      "__getitem__, you must also override __getitems__, for instance:\n\n    def __getitems__(self, indices):\n"
                                      "        return [self.__getitem__(i) for i in indices]")

    def __getitem__(self, index):
        if isinstance(index, list): return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices): return _items(self.dataset, [self.indices[i] for i in indices])
    def __len__(self): return len(self.indices)


def _items(dataset, indices) -> list:
    batch = getattr(dataset, "__getitems__", None)
    return batch(indices) if callable(batch) else [dataset[i] for i in indices]


def rows_at_once(dataset, indices) -> list | None:
    """The collated batch of a plain TensorDataset (or Subsets of one) by one gather per tensor; None for any other dataset.

    The same values as collating len(indices) samples, at one recorded operation instead of len(indices) + 1.
    """
    while type(dataset) is Subset:
        indices, dataset = [dataset.indices[i] for i in indices], dataset.dataset
    if type(dataset) is not TensorDataset: return None
    return [t[torch.tensor(indices, dtype=torch.int64, device=t.device)] for t in dataset.tensors]


def random_split(dataset, lengths, generator=None) -> list[Subset]:
    """Disjoint random subsets of these lengths, or of these fractions when they sum to 1 (rests go to the first subsets, one each)."""
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, share in enumerate(lengths):
            if not 0 <= share <= 1: raise ValueError(f"Fraction at index {i} is not between 0 and 1")
        lengths = [math.floor(len(dataset) * share) for share in lengths]
        for i in range(len(dataset) - sum(lengths)): lengths[i % len(lengths)] += 1
        for i, n in enumerate(lengths):
            if n == 0: warnings.warn(f"Length of split at index {i} is 0. This might result in an empty dataset.", stacklevel=2)
    if sum(lengths) != len(dataset):
        raise ValueError(f"Sum of input lengths does not equal the length of the input dataset! {sum(lengths)} and {len(dataset)}")
    order = torch.randperm(sum(lengths), generator=generator).tolist()
    return [Subset(dataset, order[end - n:end]) for end, n in zip(itertools.accumulate(lengths), lengths)]
