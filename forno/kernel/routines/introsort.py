"""The order in which C++'s std::sort, std::nth_element and std::partial_sort leave equal elements: what PyTorch's unstable sorting and topk show; kthvalue's choice.

Comes in: unsigned keys and, beside them, the positions they came from. Goes out: both, rearranged as libstdc++'s introsort does: a pivot of three, halves
that are swapped from both ends, insertion for short pieces, a heap where halving goes wrong. Every step is a function of the module, made when first
called; pieces of a line are lines whose memory begins later.
"""
from __future__ import annotations

from ...core import dtype as dt
from ..text import PTR, Val
from .code import Code, X

SHORT = 16                                     # pieces up to here are left to insertion, which keeps equal elements in their order


class Items:
    """Keys and positions in memory, element by element."""

    def __init__(self, c: Code, keys: X, places: X, k: dt.dtype): self.c, self.keys, self.places, self.k = c, keys, places, k

    def key(self, i) -> X: return self.c.load(self.keys, self.k, i)
    def get(self, i) -> tuple[X, X]: return self.key(i), self.c.load(self.places, dt.uint32, i)
    def since(self, i) -> Items: return Items(self.c, self.c.at(self.keys, i, self.k), self.c.at(self.places, i, dt.uint32), self.k)

    def put(self, item, i):
        self.c.store(item[0], self.keys, i)
        self.c.store(item[1], self.places, i)

    def swap(self, i, j):
        a, b = self.get(i), self.get(j)
        self.put(b, i)
        self.put(a, j)

    def _call(self, write, *numbers, result=None) -> X | None:
        """Calls `write(items, *numbers)` as a function of the module."""
        c, name = self.c, "std" + write.__name__
        types = [getattr(n, "dtype", dt.int64) for n in numbers]

        def body():
            keys, places, *own = (X(c, Val(f"%p{i}", t)) for i, t in enumerate((PTR, PTR, *types)))
            args = ", ".join(f"{x.v.type} {x.v.text}" for x in (keys, places, *own))
            with c.b.function(name, args, "i64" if result else "void", internal=True):
                out = write(Items(c, keys, places, self.k), *own)
                if result: c.b.put(f"ret i64 {out.v.text}")
        c.b.helper(name, body)
        return c.call(name, result, self.keys, self.places, *map(c.i64, numbers))

    # ---- what lines ask for
    def sort(self, n: X):
        self._call(_halve, n, _depth(self.c, n))
        self._call(_insert, n)

    def nth(self, k: X, n: X):
        """The one that belongs to place k goes there, those before it go before it."""
        self._call(_nth, k, n, _depth(self.c, n))

    def quick(self, k: X, n: X):
        """What belongs to place k goes there, the way PyTorch's kthvalue finds it (Sedgewick's quicksort, 1978)."""
        self._call(_quick, k, n)

    def settle(self, m: X):
        """A heap of m elements in order."""
        self._call(_unheap, m)

    def heap(self, m: X): self._call(_heap, m)

    def replace(self, m: X, item):
        """The top of a heap of m gives way to another element."""
        self._call(_sift, m, 0, *item)


def _depth(c: Code, n: X) -> X:
    """2·log2(n): so often may a line be halved."""
    left, out = c.var(n), c.var(0)
    with c.forever() as leave:
        leave(left.now <= 1)
        left.set(left.now >> 1)
        out.add(2)
    return out.now


def _insert(a: Items, n: X):
    c = a.c
    with c.loop(1, n) as i:
        mine, j = a.get(i), c.var(i)
        with c.forever() as leave:
            leave(j.now <= 0)
            leave(a.key(j.now - 1) <= mine[0])
            a.put(a.get(j.now - 1), j.now)
            j.add(-1)
        a.put(mine, j.now)


def _part(a: Items, n: X) -> X:
    """Where the upper part begins, after the second, the middle and the last element's median went to the front and the others to their sides of it."""
    c, y, z = a.c, n >> 1, n - 1
    p, q, r = a.key(1), a.key(y), a.key(z)
    pq, qr, pr, one = p < q, q < r, p < r, c.const(1)
    a.swap(0, pq.where(qr.where(y, pr.where(z, one)), pr.where(one, qr.where(z, y))))
    pivot, i, j = a.key(0), c.var(1), c.var(n)
    with c.forever() as leave:
        with c.forever() as stop:
            stop(a.key(i.now) >= pivot)
            i.add(1)
        j.add(-1)
        with c.forever() as stop:
            stop(a.key(j.now) <= pivot)
            j.add(-1)
        leave(i.now >= j.now)
        a.swap(i.now, j.now)
        i.add(1)
    return i.now


def _halve(a: Items, n: X, depth: X):
    c, end, left = a.c, a.c.var(n), a.c.var(depth)
    with c.forever() as leave:
        leave(end.now <= SHORT)
        with c.either(left.now <= 0) as otherwise:
            a.heap(end.now)
            a.settle(end.now)
            end.set(0)
            otherwise()
            left.add(-1)
            cut = a._call(_part, end.now, result=dt.int64)
            a.since(cut)._call(_halve, end.now - cut, left.now)
            end.set(cut)


def _nth(a: Items, k: X, n: X, depth: X):
    c, lo, hi, left = a.c, a.c.var(0), a.c.var(n), a.c.var(depth)
    with c.forever() as leave:
        leave(hi.now - lo.now <= 3)
        rest, m = a.since(lo.now), k - lo.now
        with c.either(left.now <= 0) as otherwise:
            rest.heap(m + 1)
            with c.loop(m + 1, hi.now - lo.now) as i:
                with c.when(rest.key(i) < rest.key(0)):
                    item = rest.get(i)
                    rest.put(rest.get(0), i)
                    rest.replace(m + 1, item)
            rest.swap(0, m)
            lo.set(hi.now)
            otherwise()
            left.add(-1)
            cut = lo.now + rest._call(_part, hi.now - lo.now, result=dt.int64)
            low, high, before = lo.now, hi.now, cut <= k
            lo.set(before.where(cut, low))
            hi.set(before.where(high, cut))
    a.since(lo.now)._call(_insert, hi.now - lo.now)


def _quick(a: Items, k: X, n: X):
    c, lo, hi = a.c, a.c.var(0), a.c.var(n - 1)

    def order(i, j):
        with c.when(a.key(i) > a.key(j)): a.swap(i, j)
    with c.forever() as leave:
        left, right = lo.now, hi.now
        leave(right <= left)
        with c.either(right.eq(left + 1)) as otherwise:
            order(left, right)
            lo.set(right)
            otherwise()
            a.swap((left + right) >> 1, left + 1)
            order(left + 1, right)
            order(left, right)
            order(left + 1, left)
            pivot, i, j = a.key(left), c.var(left + 1), c.var(right)
            with c.forever() as done:
                for at, step in ((i, 1), (j, -1)):
                    with c.forever() as stop:
                        at.add(step)
                        stop(a.key(at.now) >= pivot if step > 0 else a.key(at.now) <= pivot)
                done(j.now < i.now)
                a.swap(i.now, j.now)
            a.swap(left, j.now)
            lo.set((j.now <= k).where(i.now, left))
            hi.set((j.now >= k).where(j.now - 1, right))


# ---- heaps: the last in order is on top
def _sift(a: Items, n: X, hole: X, key: X, place: X):
    """Fill a hole: larger children rise into it down to the bottom, the new element climbs from there."""
    c, at = a.c, a.c.var(hole)
    with c.forever() as leave:
        child = (at.now + 1) * 2
        leave(at.now >= (n - 1) >> 1)
        child = child - (a.key(child) < a.key(child - 1)).to(dt.int64)
        a.put(a.get(child), at.now)
        at.set(child)
    with c.when((n & 1).eq(0) & at.now.eq((n - 2) >> 1)):
        child = at.now * 2 + 1
        a.put(a.get(child), at.now)
        at.set(child)
    with c.forever() as leave:
        leave(at.now <= hole)
        parent = (at.now - 1) >> 1
        leave(a.key(parent) >= key)
        a.put(a.get(parent), at.now)
        at.set(parent)
    a.put((key, place), at.now)


def _heap(a: Items, n: X):
    c, parent = a.c, a.c.var((n - 2) >> 1)
    with c.forever() as leave:
        leave(parent.now < 0)
        a._call(_sift, n, parent.now, *a.get(parent.now))
        parent.add(-1)


def _unheap(a: Items, n: X):
    c, end = a.c, a.c.var(n)
    with c.forever() as leave:
        leave(end.now <= 1)
        end.add(-1)
        item = a.get(end.now)
        a.put(a.get(0), end.now)
        a.replace(end.now, item)
