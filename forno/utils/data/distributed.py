"""A sampler that gives each of several processes its own part of a dataset."""
from __future__ import annotations

import math

from ...framework import api as torch
from .sampler import Sampler


class DistributedSampler(Sampler):
    """Process `rank` of `num_replicas` reads every num_replicas-th index; call `set_epoch` so that each epoch shuffles anew.

    All processes get equally many: the first indices are repeated at the end, or the last dropped with drop_last.
    """

    def __init__(self, dataset, num_replicas=None, rank=None, shuffle=True, seed=0, drop_last=False):
        if num_replicas is None or rank is None:
            raise RuntimeError("Requires distributed package to be available: pass num_replicas= and rank= from your launcher "
                               "(for mpiexec: MPI.COMM_WORLD.size and .rank)")
        if not 0 <= rank < num_replicas: raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank, self.shuffle, self.seed, self.drop_last = dataset, num_replicas, rank, shuffle, seed, drop_last
        self.epoch, n = 0, len(dataset)
        self.num_samples = n // num_replicas if drop_last and n % num_replicas else math.ceil(n / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self):
        n = len(self.dataset)
        order = list(range(n))
        if self.shuffle:
            g = torch.Generator()
            g.manual_seed(self.seed + self.epoch)
            order = torch.randperm(n, generator=g).tolist()
        if self.drop_last: order = order[:self.total_size]
        else: order = (order * math.ceil(self.total_size / n))[:self.total_size]
        return iter(order[self.rank::self.num_replicas])

    def __len__(self): return self.num_samples
    def set_epoch(self, epoch): self.epoch = epoch
