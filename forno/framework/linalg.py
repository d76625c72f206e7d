"""torch.linalg: norms, products and decompositions of matrices, batched over leading axes."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.errors import LinAlgError
from ..core.shape import normalize_dim
from ..dnn import elementwise as ew
from ..dnn import linalg as la
from ..dnn import recipes as rc
from ..graph.line import record
from . import autocast, creation, data, functions as fn, products, views
from .bind import apply
from .factors import (cholesky, cholesky_ex, det, diagonal, eig, eigh, eigvals, eigvalsh, failed, householder_product, inv_ex, ldl_factor, ldl_factor_ex, ldl_solve, lstsq, lu, lu_factor, lu_factor_ex, lu_of,
                      lu_solve, matrix_power, matrix_rank, multi_dot, pinv, slogdet, solve_triangular, svd, tensorinv, tensorsolve, vander, vecdot, zero_pivots)
from .out import with_out
from .results import named
from .tensor import device_name, read
from .views import shape_of

matmul = fn.matmul


# ---------------------------------------------------------------- norms
def order_of(p) -> float:
    if isinstance(p, (int, float)): return p
    if p in ("inf", "-inf"): return float(p)
    raise RuntimeError(f"linalg.vector_norm: order {p!r} not supported")


def typed(name, x, dtype):
    """x in the type a norm is asked for: of the same kind, and not a narrower one."""
    if x.dtype.category < dt.FLOAT: raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {ew.TITLES[x.dtype.name]}")
    if dtype is None: return x
    if dtype.category < dt.FLOAT: raise RuntimeError(f"{name}: dtype should be floating point or complex. Got {ew.TITLES[dtype.name]}")
    if dtype.category != x.dtype.category:
        raise RuntimeError(f"{name}: dtype should be {'complex' if x.dtype.is_complex else 'real'} for {'complex' if x.dtype.is_complex else 'real'} inputs, "
                           f"but got {ew.TITLES[dtype.name]}")
    if dt.promote_types(x.dtype, dtype) is not dtype:
        raise RuntimeError(f"{name}: the dtype of the input ({ew.TITLES[x.dtype.name]}) should be convertible without narrowing to the specified dtype ({ew.TITLES[dtype.name]})")
    return fn.to(x, dtype)


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    x, p = typed("linalg.vector_norm", x, dtype), order_of(ord)
    axes = fn.axes_of(dim, len(shape_of(x)))
    if (p < 0 or p == math.inf) and any(shape_of(x)[d] == 0 for d in axes):
        what = "dim(s) specified" if dim is not None else "empty tensor"
        raise RuntimeError(f"linalg.vector_norm cannot compute the {p} norm on an {what} because the operation does not have an identity")
    return fn.drop(record(rc.norm, (read(x),), rc.Norm(p, axes)), axes, keepdim)


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    n = len(shape_of(A))
    if n < 2: raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    A = typed("linalg.matrix_norm", A, dtype)
    if isinstance(dim, int) or len(dim) != 2: raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    a, b = (normalize_dim(d, n) for d in dim)
    if a == b: raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    if ord == "fro": return vector_norm(A, 2, (a, b), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        if abs(ord) == 1: a, b = b, a          # the axis of the extreme, then the axis summed: columns for 1, rows for inf
        sums = vector_norm(A, 1, b, True)
        out = (fn.amax if ord > 0 else fn.amin)(sums, a, True)
    elif ord in (2, -2, "nuc"):
        s = svdvals(views.movedim(A, (a, b), (-2, -1)))
        out = fn.sum(s, -1) if ord == "nuc" else (fn.amax if ord > 0 else fn.amin)(s, -1)
        for d in sorted((a, b)): out = views.unsqueeze(out, d)
    else: raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    return out if keepdim else views.squeeze(out, (a, b))


def norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """Without dim: the 2-norm of all elements, or a matrix norm if `ord` is given for a matrix; with one dim a vector norm, with two a matrix norm."""
    if ord is None: return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    n = len(shape_of(A))
    if isinstance(ord, str) and ord not in ("fro", "nuc"): raise RuntimeError(f"linalg.norm: Order {ord} not supported.")
    if dim is None:
        if n not in (1, 2): raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {n}D.")
        dim = tuple(range(n))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if isinstance(ord, str) or len(dims) == 2:
        if len(dims) != 2: raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {list(dims)}")
        return matrix_norm(A, ord, dims, keepdim, dtype=dtype)
    if len(dims) != 1: raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


# ---------------------------------------------------------------- decompositions
def svdvals(A, *, driver=None): return apply(la.svdvals, A)
def inv(A): return apply(la.inv, A)


def solve(A, B, *, left=True):
    """X with A X = B (or X A = B when not left); B is a vector, a matrix, or batches of either."""
    a, b = shape_of(A), shape_of(B)
    vector = len(b) == 1 or len(a) - 1 == len(b) and b == a[:-1]
    if not left: return views.transpose(solve(views.transpose(A, -2, -1), views.transpose(B, -2, -1)), -2, -1)
    return views.squeeze(apply(la.solve, A, views.unsqueeze(B, -1)), -1) if vector else apply(la.solve, A, B)


def matrix_exp(A):
    """exp of square matrices: a Taylor series where the norm is at most 1/2, squared back up."""
    if A.dtype.opmath is not A.dtype: return fn.to(matrix_exp(fn.to(A, A.dtype.opmath)), A.dtype)
    la.need_matrix("linalg_matrix_exp", read(A).line, True)
    if A.numel() == 0: return views.clone(A)
    if A.is_meta: return fn.matmul(A, A)       # how often the series is squared depends on values; shapes and gradients don't
    size = float(data.item(fn.amax(matrix_norm(views.reshape(A.detach(), (-1, *shape_of(A)[-2:])), 1))))
    squarings = max(0, math.ceil(math.log2(size)) + 1) if 0 < size < math.inf else 0
    x = fn.div(A, 2.0 ** squarings)
    eye = creation.eye(shape_of(A)[-1], dtype=A.dtype)
    out = eye
    for k in range(18, 0, -1): out = fn.add(eye, fn.div(fn.matmul(x, out), k))     # Horner; the 19th term is below 1e-22
    for _ in range(squarings): out = fn.matmul(out, out)
    return out


def qr(A, mode="reduced"):
    """(Q, R) with Q orthonormal and R upper triangular; mode 'r' gives an empty Q."""
    if mode not in ("reduced", "complete", "r"): raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    kind = "reduced" if mode == "r" else mode
    q, r = la.unpack(apply(la.qr, A, attr=kind), *la.qr_shapes(A, kind))
    return named("linalg_qr", Q=views.narrow(views.reshape(q, (-1,)), 0, 0, 0) if mode == "r" else q, R=r)


def solve_ex(A, B, *, left=True, check_errors=False):
    info = zero_pivots(lu_of(A)[0])
    bad = failed(info)
    if check_errors or bad is None: return named("linalg_solve_ex", result=solve(A, B, left=left), info=info)
    result = solve(fn.where(bad, creation.eye(shape_of(A)[-1], dtype=A.dtype), A), B, left=left)
    return named("linalg_solve_ex", result=fn.where(bad if result.ndim == A.ndim else views.squeeze(bad, -1), math.nan, result), info=info)


def cond(A, p=None):
    """How much a relative error grows: the norm of A times the norm of its inverse."""
    if A.ndim < 2: raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p in (None, 2, -2):
        s = svdvals(A)
        if not A.numel(): return creation.zeros(shape_of(A)[:-2], dtype=A.dtype.real, device=device_name(A))
        high, low = views.select(s, -1, 0), views.select(s, -1, shape_of(s)[-1] - 1)
        return fn.div(low, high) if p == -2 else fn.div(high, low)
    if not A.numel(): return creation.zeros(shape_of(A)[:-2], dtype=A.dtype.real, device=device_name(A))
    return apply(ew.mul, matrix_norm(A, p), matrix_norm(inv(A), p))


def cross(input, other, *, dim=-1):
    if input.ndim != other.ndim: raise RuntimeError(f"linalg.cross: inputs must have the same number of dimensions, got {input.ndim} and {other.ndim}.")
    if 1 in (input.shape[dim], other.shape[dim]): raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[dim]} and {other.shape[dim]}")
    return products.cross(input, other, dim)


__all__ = ["matmul", "vector_norm", "matrix_norm", "norm", "svdvals", "inv", "solve", "solve_ex", "qr", "matrix_exp", "cond", "cross", "det", "slogdet", "cholesky", "cholesky_ex",
           "eigh", "eigvalsh", "eig", "eigvals", "svd", "solve_triangular", "lu_factor", "lu_factor_ex", "lu", "lu_solve", "pinv", "matrix_rank", "matrix_power", "lstsq", "multi_dot",
           "vecdot", "tensorinv", "tensorsolve", "vander", "householder_product", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "diagonal", "LinAlgError"]
for _name in __all__:
    if _name not in ("matrix_exp", "vander", "diagonal", "LinAlgError"): globals()[_name] = autocast.apply(with_out(globals()[_name], "linalg_" + _name), _name)
