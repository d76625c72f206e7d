"""Products with an addend, inner products, blocks and chains of matrices."""
from __future__ import annotations

import itertools

from ..core import dtype as dt
from ..core.shape import normalize_dim
from ..dnn import elementwise as ew
from . import creation, functions as fn, neural, views
from .autocast import matmul
from .bind import apply, binary
from .views import shape_of

multiply = binary(ew.mul)


def _scaled(base, product, beta, alpha):
    if alpha != 1: product = multiply(product, alpha)
    if beta == 0: return fn.to(views.clone(views.expand(product, fn.broadcast(shape_of(base), shape_of(product)))), product.dtype)
    return fn.add(base if beta == 1 else multiply(base, beta), product)


def addr(input, vec1, vec2, *, beta=1, alpha=1):
    if vec1.ndim != 1 or vec2.ndim != 1: raise RuntimeError(f"addr: Expected 1-D argument vec1 and vec2, but got {vec1.ndim}-D and {vec2.ndim}-D")
    for name, k in (("beta", beta), ("alpha", alpha)):
        if input.dtype.category <= dt.INT and vec1.dtype.category <= dt.INT and isinstance(k, (float, complex)):
            raise RuntimeError(f"For integral input tensors, argument {name} must not be a floating point number.")
    kind = dt.result_type([(x.dtype, x.ndim) for x in (input, vec1, vec2)], dt.float32)
    if kind is dt.bool: beta, alpha = bool(beta), bool(alpha)
    return _scaled(fn.to(input, kind), fn.to(neural.outer(vec1, vec2), kind), beta, alpha)


def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    return _scaled(input, fn.sum(neural.bmm(batch1, batch2), 0, dtype=batch1.dtype), neural.factor(beta, input), neural.factor(alpha, input))


def conjugate(x): return apply(ew.conj_, x) if x.dtype.is_complex else x
def vdot(input, other): return neural.dot(conjugate(input), other)


def inner(input, other):
    if not input.ndim or not other.ndim: return multiply(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(f"inner() the last dimension must match on both input tensors but got shapes {list(input.shape)} and {list(other.shape)}")
    k = input.shape[-1]
    a, b = views.reshape(input, (input.numel() // k if k else 0, k)), views.reshape(other, (other.numel() // k if k else 0, k))
    product = matmul if a.numel() > k or b.numel() > k else fn.matmul            # as in tensordot
    return views.reshape(product(a, views.t(b)), (*shape_of(input)[:-1], *shape_of(other)[:-1]))


def cross(input, other, dim=None):
    if dim is None: dim = next((d for d, n in enumerate(fn.broadcast(shape_of(input), shape_of(other))) if n == 3), None)
    if dim is None: raise RuntimeError("no dimension of size 3 in input")
    input, other = fn.broadcast_tensors(input, other)
    d = normalize_dim(dim, input.ndim)
    if input.shape[d] != 3: raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[d]} and {other.shape[d]}")
    (a0, a1, a2), (b0, b1, b2) = views.unbind(input, d), views.unbind(other, d)
    return fn.stack([fn.sub(multiply(a1, b2), multiply(a2, b1)), fn.sub(multiply(a2, b0), multiply(a0, b2)), fn.sub(multiply(a0, b1), multiply(a1, b0))], d)


def chain_matmul(*matrices):
    out = matrices[0]
    for m in matrices[1:]: out = matmul(out, m)
    return out


def block_diag(*tensors):
    tensors = [views.reshape(t, (1, -1)) if t.ndim < 2 else t for t in tensors] or [creation.empty((1, 0))]
    for i, t in enumerate(tensors):
        if t.ndim != 2: raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has {t.ndim} dimensions")
    kind = dt.result_type([(t.dtype, t.ndim) for t in tensors], dt.float32)
    columns = sum(t.shape[1] for t in tensors)
    rows, at = [], 0
    for t in tensors:
        rows.append(neural.pad_constant(fn.to(t, kind), [at, columns - at - t.shape[1]]))
        at += t.shape[1]
    return fn.cat(rows, 0)


def combinations(input, r=2, with_replacement=False):
    if input.ndim != 1: raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0: raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0: return creation.empty(0, dtype=input.dtype)
    picks = list((itertools.combinations_with_replacement if with_replacement else itertools.combinations)(range(input.shape[0]), r))
    return views.reshape(fn.to(input, input.dtype)[creation.tensor([k for p in picks for k in p], dtype=dt.int64)], (len(picks), r))


def vander(x, N=None, increasing=False):
    if x.ndim != 1: raise RuntimeError("x must be a one-dimensional tensor.")
    powers = creation.arange(x.shape[0] if N is None else N)
    powers = powers if increasing else fn.sub(powers.shape[0] - 1, powers) if powers.shape[0] else powers
    base = x if x.dtype.category >= dt.FLOAT else fn.to(x, dt.int64)
    return fn.pow(views.unsqueeze(base, 1), powers)
