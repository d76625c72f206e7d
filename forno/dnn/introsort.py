"""Oracles for orders that aren't stable: where C++'s std::sort, std::nth_element and std::partial_sort (libstdc++) leave equal elements.

Comes in: a line of numbers. Goes out: positions. The kernel floor has the same algorithms in machine code.
"""
from __future__ import annotations

import numpy as np


class Items(list):
    """(rank, position) pairs; only ranks are compared. NaN ranks last, or first when descending."""

    def less(self, i, j): return self[i][0] < self[j][0]
    def swap(self, i, j): self[i], self[j] = self[j], self[i]

    def insert(self, lo, hi):
        self[lo:hi] = sorted(self[lo:hi], key=lambda item: item[0])          # what insertion leaves is stable

    def part(self, lo, hi) -> int:
        y, z = lo + (hi - lo) // 2, hi - 1
        self.swap(lo, self.median(lo + 1, y, z))
        i, j = lo + 1, hi
        while True:
            while self.less(i, lo): i += 1
            j -= 1
            while self.less(lo, j): j -= 1
            if i >= j: return i
            self.swap(i, j)
            i += 1

    def median(self, x, y, z) -> int:
        if self.less(x, y): return y if self.less(y, z) else z if self.less(x, z) else x
        return x if self.less(x, z) else z if self.less(y, z) else y

    def sift(self, lo, n, hole, item):
        at = hole
        while at < (n - 1) // 2:
            child = 2 * (at + 1)
            child -= self.less(lo + child, lo + child - 1)
            self[lo + at], at = self[lo + child], child
        if n % 2 == 0 and at == (n - 2) // 2: self[lo + at], at = self[lo + 2 * at + 1], 2 * at + 1
        while at > hole and self[lo + (at - 1) // 2][0] < item[0]: self[lo + at], at = self[lo + (at - 1) // 2], (at - 1) // 2
        self[lo + at] = item

    def heap(self, lo, m, hi):
        """The m first of [lo, hi) as a heap at its begin."""
        for parent in range((m - 2) // 2, -1, -1): self.sift(lo, m, parent, self[lo + parent])
        for i in range(lo + m, hi):
            if self.less(i, lo):
                item, self[i] = self[i], self[lo]
                self.sift(lo, m, 0, item)

    def settle(self, lo, m):
        for end in range(lo + m - 1, lo, -1):
            item, self[end] = self[end], self[lo]
            self.sift(lo, end - lo, 0, item)

    def sort(self, lo, hi):
        def halve(lo, hi, depth):
            while hi - lo > 16:
                if not depth:
                    self.heap(lo, hi - lo, hi)
                    return self.settle(lo, hi - lo)
                depth -= 1
                cut = self.part(lo, hi)
                halve(cut, hi, depth)
                hi = cut
        if hi > lo:
            halve(lo, hi, 2 * (hi - lo).bit_length() - 2)
            self.insert(lo, hi)

    def nth(self, k, hi):
        lo, depth = 0, 2 * hi.bit_length() - 2
        while hi - lo > 3:
            if not depth:
                self.heap(lo, k + 1 - lo, hi)
                return self.swap(lo, k)
            depth -= 1
            cut = self.part(lo, hi)
            lo, hi = (cut, hi) if cut <= k else (lo, cut)
        self.insert(lo, hi)


    def quick(self, k):
        lo, hi = 0, len(self) - 1

        def order(i, j):
            if self.less(j, i): self.swap(i, j)
        while hi > lo + 1:
            self.swap((lo + hi) // 2, lo + 1)
            order(lo + 1, hi)
            order(lo, hi)
            order(lo + 1, lo)
            i, j, pivot = lo + 1, hi, self[lo][0]
            while True:
                i += 1
                while self[i][0] < pivot: i += 1
                j -= 1
                while self[j][0] > pivot: j -= 1
                if j < i: break
                self.swap(i, j)
            self.swap(lo, j)
            lo, hi = i if j <= k else lo, j - 1 if j >= k else hi
        if hi > lo: order(lo, hi)


def items(line, descending) -> Items:
    ranks = np.unique(line, return_inverse=True)[1].reshape(-1)              # equal numbers share a rank, NaN has the last
    return Items(zip((-ranks if descending else ranks).tolist(), range(len(line))))


def sort(line, descending) -> list[int]:
    out = items(line, descending)
    out.sort(0, len(out))
    return [place for _, place in out]


def kth(line, k) -> int:
    """kthvalue's position, which Sedgewick's quicksort finds."""
    out = items(line, False)
    out.quick(k)
    return out[k][1]


def top(line, largest, k, ordered) -> list[int]:
    """topk's positions: a heap's where 64 elements come on one of them, else those before the k-th, sorted."""
    out = items(line, largest)
    if not k: return []
    if 64 * k <= len(out):
        out.heap(0, k, len(out))
        out.settle(0, k)
    else:
        out.nth(k - 1, len(out))
        if ordered: out.sort(0, k - 1)
    return [place for _, place in out[:k]]
