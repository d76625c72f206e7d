"""Samplers: the order in which a dataset is read. With the same generator state they draw what PyTorch's draw."""
from __future__ import annotations

from itertools import islice
from typing import Generic, TypeVar

from ...framework import api as torch

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """Subclasses define `__iter__`, and `__len__` where it is known."""

    def __init__(self, data_source=None): pass
    def __iter__(self): raise NotImplementedError


class SequentialSampler(Sampler[int]):
    def __init__(self, data_source): self.data_source = data_source
    def __iter__(self): return iter(range(len(self.data_source)))
    def __len__(self): return len(self.data_source)


def _positive_int(n): return isinstance(n, int) and not isinstance(n, bool) and n > 0


class RandomSampler(Sampler[int]):
    """Without replacement by default; more samples than there are come in whole permutations."""

    def __init__(self, data_source, replacement=False, num_samples=None, generator=None):
        self.data_source, self.replacement, self._num_samples, self.generator = data_source, replacement, num_samples, generator
        if not isinstance(replacement, bool): raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        if not _positive_int(self.num_samples):
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")

    @property
    def num_samples(self): return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self):
        n, total, generator = len(self.data_source), self.num_samples, self.generator
        if generator is None:
            generator = torch.Generator()
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        if self.replacement:       # in blocks of 32, because the numbers drawn depend on it
            for count in (*[32] * (total // 32), total % 32):
                yield from torch.randint(0, n, (count,), dtype=torch.int64, generator=generator).tolist()
            return
        for count in (*[n] * (total // n), total % n):
            yield from torch.randperm(n, generator=generator).tolist()[:count]

    def __len__(self): return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """These indices, in random order."""

    def __init__(self, indices, generator=None): self.indices, self.generator = indices, generator

    def __iter__(self):
        for i in torch.randperm(len(self.indices), generator=self.generator).tolist(): yield self.indices[i]

    def __len__(self): return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Index i with probability weights[i]."""

    def __init__(self, weights, num_samples, replacement=True, generator=None):
        if not _positive_int(num_samples): raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool): raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        if self.weights.ndim != 1: raise ValueError(f"weights should be a 1d sequence but given weights have shape {tuple(self.weights.shape)}")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self):
        yield from torch.multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self): return self.num_samples


class BatchSampler(Sampler[list]):
    """Lists of batch_size indices from another sampler."""

    def __init__(self, sampler, batch_size, drop_last):
        if not _positive_int(batch_size): raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool): raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self):
        order = iter(self.sampler)
        while batch := list(islice(order, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size: return
            yield batch

    def __len__(self):
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
