"""Factors of matrices and what follows from them: determinants, eigenvalues, systems of equations, inverses, powers."""
from __future__ import annotations

import functools
import math

from ..core import dtype as dt
from ..core.errors import LinAlgError
from ..dnn import elementwise as ew
from ..dnn import factor as fa
from ..dnn import functions as fns
from ..dnn import linalg as la
from ..dnn import movement as mv
from . import arrange, complexes, creation, data, functions as fn, gathering, views
from .autocast import matmul
from .modes import no_grad
from .bind import apply, binary
from .results import named
from .tensor import Tensor, device_name, is_meta
from .views import shape_of

multiply = binary(ew.mul)
H = complexes.adjoint


def need(name, A): la.need_matrix(name, A, True)


def unpacked(row, A, *shapes, attr=None): return la.unpack(apply(row, A, attr=attr), *shapes)


def real(t): return complexes.real(t) if t.dtype.is_complex else t


def eye_like(A): return creation.eye(A.shape[-1], dtype=A.dtype, device=device_name(A))


# ---------------------------------------------------------------- determinants
def det(A): return apply(fa.det, A)


def slogdet(A):
    sign, size = unpacked(fa.slogdet, A, (), ())
    return named("linalg_slogdet", sign=sign, logabsdet=real(size))


def logdet(input):
    sign, size = slogdet(input)
    return fn.add(apply(fns.log, sign), size) if input.dtype.is_complex else fn.where(apply(ew.lt, sign, 0), math.nan, size)


# ---------------------------------------------------------------- Cholesky
def mirrored(A, upper): return H(A) if upper else A


def cholesky(A, *, upper=False): return apply(fa.cholesky, A, attr=(None, bool(upper)))
def old_cholesky(input, upper=False): return apply(fa.cholesky, input, attr=("cholesky", bool(upper)))


def cholesky_ex(A, *, upper=False, check_errors=False):
    need("linalg.cholesky", A)
    info = apply(fa.bad_minors, mirrored(A, upper).detach())
    bad = failed(info)
    if check_errors or bad is None: return named("linalg_cholesky_ex", L=apply(fa.cholesky, A, attr=("linalg.cholesky_ex", bool(upper))), info=info)
    part = arrange.triu(A) if upper else arrange.tril(A)
    return named("linalg_cholesky_ex", L=fn.where(bad, part, cholesky(fn.where(bad, eye_like(A), A), upper=upper)), info=info)


def failed(info):
    """Which matrices of a batch failed, as a mask over them, None if none did: this runs the window."""
    if is_meta(info): return None
    bad = apply(ew.ne, info, 0)
    return views.reshape(bad, (*shape_of(info), 1, 1)) if fn.any(bad) else None


def lu_of(A, pivot=True): return unpacked(fa.lu, A, *fa.lu_shapes(A), attr=bool(pivot))


def zero_pivots(f):
    """Of each factorization: the first diagonal element of U that is zero, from 1; 0 if none is."""
    zero = apply(ew.eq, views.diagonal(f.detach(), 0, -2, -1), 0)
    if not shape_of(zero)[-1]: return creation.zeros(shape_of(f)[:-2], dtype=dt.int32, device=device_name(f))
    return fn.to(fn.where(fn.any(zero, -1), fn.add(fn.argmax(fn.to(zero, dt.uint8), -1), 1), 0), dt.int32)


def cholesky_inverse(input, upper=False):
    L = mirrored(input, upper)
    gathering.claimed(fn.to(apply(ew.ne, views.diagonal(L.detach(), 0, -2, -1), 0), dt.int64), 1, 1, LinAlgError, "cholesky_inverse: " +
                      ("The diagonal element {n} is zero, the" if L.ndim == 2 else "The") + " inversion could not be completed because the input matrix is singular.")
    return apply(fa.cholesky_inverse, input, attr=bool(upper))


def cholesky_solve(input, L, upper=False): return apply(fa.cholesky_solve, input, L, attr=bool(upper))


# ---------------------------------------------------------------- eigenvalues, singular values
def eigh(A, UPLO="L"):
    w, v = unpacked(fa.eigh, A, *fa.eigh_shapes(A), attr=triangle(UPLO))
    return named("linalg_eigh", eigenvalues=real(w), eigenvectors=v)


def triangle(UPLO) -> bool:
    if UPLO.upper() not in ("L", "U"): raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return UPLO.upper() == "L"


def eigvalsh(A, UPLO="L"): return apply(fa.eigvalsh, A, attr=triangle(UPLO))


def eig(A):
    w, v = unpacked(fa.eig, A, *fa.eigh_shapes(A))
    return named("linalg_eig", eigenvalues=w, eigenvectors=v)


def eigvals(A): return apply(fa.eigvals, A)


def svd(A, full_matrices=True, *, driver=None):
    u, s, v = unpacked(la.svd, A, *la.svd_shapes(A, full_matrices), attr=bool(full_matrices))
    return named("linalg_svd", U=u, S=real(s), Vh=v)


def old_svd(input, some=True, compute_uv=True):
    """torch.svd: V instead of its adjoint."""
    if not compute_uv:
        m, n = input.shape[-2:]
        batch, where = shape_of(input)[:-2], device_name(input)
        return named("svd", U=creation.zeros(*batch, m, m, dtype=input.dtype, device=where), S=apply(la.svdvals, input),
                     V=creation.zeros(*batch, n, n, dtype=input.dtype, device=where))
    u, s, v = svd(input, full_matrices=not some)
    return named("svd", U=u, S=s, V=H(v))


# ---------------------------------------------------------------- systems of equations
def solve_triangular(A, B, *, upper, left=True, unitriangular=False):
    if A.dtype is not B.dtype: raise RuntimeError(f"linalg.solve_triangular: Expected A and B to have the same dtype, but found A of type {ew.TITLES[A.dtype.name]} and B of type {ew.TITLES[B.dtype.name]} instead")
    if B.ndim < 2: raise RuntimeError("linalg.solve_triangular: The input tensor B must have at least 2 dimensions.")
    if left: return apply(fa.triangular, A, B, attr=(bool(upper), bool(unitriangular)))
    return H(apply(fa.triangular, H(A), H(B), attr=(not upper, bool(unitriangular))))


def triangular_solve(input, A, upper=True, transpose=False, unitriangular=False):
    M = views.transpose(A, -2, -1) if transpose else A
    return named("triangular_solve", solution=solve_triangular(M, input, upper=upper != transpose, unitriangular=unitriangular), cloned_coefficient=views.clone(A))


ZERO_PIVOT = ("U[{x},{x}] is zero and using it on lu_solve would result in a division by zero. If you still want to perform the factorization, consider "
              "calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)")


def lu_checked(A, pivot, name):
    """`name` is for errors; without one there are none."""
    f, pivots, _ = lu_of(A, pivot)
    info = zero_pivots(f)
    if name: info = gathering.claimed(info, 0, 0, RuntimeError, f"torch.linalg.{name}: {'(Batch element {i}): ' if A.ndim > 2 else ''}{ZERO_PIVOT}")
    return f, fn.to(real(pivots.detach()), dt.int32), info


def lu_factor(A, *, pivot=True):
    f, pivots, _ = lu_checked(A, pivot, "lu_factor")
    return named("linalg_lu_factor", LU=f, pivots=pivots)


def lu_factor_ex(A, *, pivot=True, check_errors=False):
    f, pivots, info = lu_checked(A, pivot, check_errors and "lu_factor_ex")
    return named("linalg_lu_factor_ex", LU=f, pivots=pivots, info=info)


def old_lu(A, pivot=True, get_infos=False):
    """torch.lu, which PyTorch keeps for old programs."""
    f, pivots, info = lu_checked(A, pivot, None if get_infos else "lu_factor")
    return named("_lu_with_info", LU=f, pivots=pivots, info=info) if get_infos else (f, pivots)


def split_lu(f):
    m, n = f.shape[-2:]
    k = min(m, n)
    low = fn.add(arrange.tril(views.narrow(f, -1, 0, k), -1), creation.eye(m, k, dtype=f.dtype))
    return low, arrange.triu(views.narrow(f, -2, 0, k))


def lu(A, *, pivot=True):
    f, _, order = lu_of(A, pivot)
    low, up = split_lu(f)
    P = H(fa.permutation(real(order.detach()), low)) if pivot else creation.empty(0, dtype=A.dtype, device=device_name(A))
    return named("linalg_lu", P=P, L=low, U=up)


def order_of(pivots, m):
    """The order of rows that a row of pivots makes."""
    if not pivots.numel(): return views.expand(creation.arange(m, device=device_name(pivots)), (*shape_of(pivots)[:-1], m))
    rows = pivots.reshape(-1, pivots.shape[-1]).tolist()
    out = []
    for row in rows:
        order = list(range(m))
        for i, p in enumerate(row): order[i], order[p - 1] = order[p - 1], order[i]
        out.append(order)
    return views.reshape(creation.tensor(out, dtype=dt.int64, device=device_name(pivots)), (*shape_of(pivots)[:-1], m))


def lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    nothing = creation.empty(0, dtype=LU_data.dtype, device=device_name(LU_data))
    low, up = split_lu(LU_data) if unpack_data else (nothing, nothing)
    P = H(fa.permutation(fn.to(order_of(LU_pivots, LU_data.shape[-2]), LU_data.dtype.real), LU_data.detach())) if unpack_pivots else nothing
    return named("lu_unpack", P=P, L=low, U=up)


def lu_solve(LU, pivots, B, *, left=True, adjoint=False):
    P, low, up = lu_unpack(LU, pivots)
    if not left: return H(lu_solve(LU, pivots, H(B), adjoint=not adjoint))
    if adjoint: return fn.matmul(P, solve_triangular(H(low), solve_triangular(H(up), B, upper=False), upper=True, unitriangular=True))
    return solve_triangular(up, solve_triangular(low, fn.matmul(H(P), B), upper=False, unitriangular=True), upper=True)


def old_lu_solve(b, LU_data, LU_pivots): return lu_solve(LU_data, LU_pivots, b)


# ---------------------------------------------------------------- inverses and powers
def pinv(A, rcond=None, hermitian=False, *, atol=None, rtol=None):
    if not A.numel(): return views.clone(H(A))
    with no_grad(): found = _pinv(A, rcond, hermitian, atol, rtol)
    return apply(la.pseudo_inverse, A, found)


def _pinv(A, rcond, hermitian, atol, rtol):
    rtol = rcond if rtol is None else rtol
    if hermitian:
        w, v = eigh(A)
        size, left, right = apply(ew.abs_, w), v, H(v)
    else:
        left, w, right = svd(A, False)
        size = w
    room = tolerance(fn.amax(size, -1, True), A, atol, rtol)
    keep = apply(ew.gt, size, room)
    back = fn.where(keep, apply(ew.reciprocal, fn.where(keep, w, 1.0)), 0.0)
    return matmul(multiply(H(right), views.unsqueeze(back, -2)), H(left))


def tolerance(top, A, atol, rtol):
    """max(atol, rtol · the largest), with PyTorch's defaults; `top` keeps an axis of length 1."""
    if rtol is None: rtol = 0.0 if atol is not None and not (isinstance(atol, (int, float)) and atol == 0) else max(A.shape[-2:]) * (2.0 ** -52 if A.dtype.real is dt.float64 else 2.0 ** -23)

    def shaped(t): return views.unsqueeze(t, -1) if isinstance(t, Tensor) and t.ndim else t
    room = multiply(top, shaped(rtol))
    atol = 0.0 if atol is None else shaped(atol)
    return apply(ew.maximum, room, atol) if isinstance(atol, Tensor) else apply(ew.clamp_min, room, float(atol))


def matrix_rank(A, tol=None, hermitian=False, *, atol=None, rtol=None):
    size = apply(ew.abs_, eigvalsh(A)) if hermitian else apply(la.svdvals, A)
    if not A.numel(): return creation.zeros(shape_of(A)[:-2], dtype=dt.int64, device=device_name(A))
    if tol is not None: room = views.unsqueeze(tol, -1) if isinstance(tol, Tensor) and tol.ndim else tol
    else: room = tolerance(fn.amax(size, -1, True), A, atol, rtol)
    return fn.sum(apply(ew.gt, size, room), -1)


def matrix_power(A, n):
    need("linalg.matrix_power", A)
    if n == 0: return apply(mv.overwrite, A, views.clone(views.expand(eye_like(A), shape_of(A))))
    if n < 0: A, n = apply(la.inv, A), -n
    out = None
    while n:
        if n & 1: out = A if out is None else matmul(out, A)
        n >>= 1
        if n: A = matmul(A, A)
    return views.clone(out) if out is A and n == 0 else out


def lstsq(A, B, rcond=None, *, driver=None):
    """Least squares by the pseudo-inverse."""
    if A.ndim < 2: raise RuntimeError("torch.linalg.lstsq: input must have at least 2 dimensions.")
    if B.ndim < 1: raise RuntimeError("torch.linalg.lstsq: other must have at least 1 dimension.")
    vector = B.ndim == A.ndim - 1 and shape_of(A)[:-1] == shape_of(B)
    right = views.unsqueeze(B, -1) if vector else B
    X = fn.matmul(pinv(A, rtol=rcond), right)
    m, n = A.shape[-2:]
    where = device_name(A)
    rank = matrix_rank(A.detach(), rtol=rcond) if driver != "gels" else creation.empty(0, dtype=dt.int64, device=where)
    gap = fn.sub(fn.matmul(A, X), right)
    full = m > n and driver != "gelsy" and bool(fn.all(apply(ew.eq, matrix_rank(A.detach()), n)).item())
    rest = real(fn.sum(multiply(gap, complexes.conj(gap)), -2)) if full else views.clone(views.narrow(views.reshape(real(A), (-1,)), 0, 0, 0))
    values = apply(la.svdvals, A.detach()) if driver in ("gelsd", "gelss") else creation.empty(0, dtype=A.dtype.real, device=where)
    return named("linalg_lstsq", solution=views.squeeze(X, -1) if vector else X, residuals=rest, rank=rank, singular_values=values)


def pinverse(input, rcond=1e-15): return pinv(input, rtol=rcond)


def old_qr(input, some=True):
    kind = "reduced" if some else "complete"
    q, r = unpacked(la.qr, input, *la.qr_shapes(input, kind), attr=kind)
    return named("qr", Q=q, R=r)


# ---------------------------------------------------------------- products and reshaped systems
def multi_dot(tensors):
    tensors = list(tensors)
    if len(tensors) < 2: raise RuntimeError("multi_dot(): expected at least 2 tensors but got " + str(len(tensors)))
    first, last = tensors[0], tensors[-1]
    if first.ndim == 1: tensors[0] = views.unsqueeze(first, 0)
    if last.ndim == 1: tensors[-1] = views.unsqueeze(last, 1)
    for i, t in enumerate(tensors):
        if t.ndim != 2: raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {t.ndim}D")
    size = [tensors[0].shape[0], *(t.shape[1] for t in tensors)]
    for i, t in enumerate(tensors[1:]):
        if t.shape[0] != size[i + 1]: raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(tensors[i].shape)} and {list(t.shape)} cannot be multiplied")

    @functools.lru_cache(None)
    def best(i, j):                            # fewest multiplications for tensors i … j, and where to cut
        if i == j: return 0, i
        return min((best(i, k)[0] + best(k + 1, j)[0] + size[i] * size[k + 1] * size[j + 1], k) for k in range(i, j))

    def product(i, j):
        if i == j: return tensors[i]
        k = best(i, j)[1]
        return matmul(product(i, k), product(k + 1, j))
    out = product(0, len(tensors) - 1)
    if first.ndim == 1: out = views.squeeze(out, 0)
    return views.squeeze(out, -1) if last.ndim == 1 else out


def vecdot(x, y, *, dim=-1): return fn.sum(multiply(complexes.conj(x), y), dim)


def tensorinv(A, ind=2):
    if ind <= 0: raise RuntimeError("Expected a strictly positive integer for 'ind'")
    shape = shape_of(A)
    m = math.prod(shape[:ind])
    if m != math.prod(shape[ind:]): raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got {math.prod(shape[ind:])} != {m}")
    return views.reshape(apply(la.inv, views.reshape(A, (m, m))), (*shape[ind:], *shape[:ind]))


def tensorsolve(A, B, dims=None):
    if dims is not None: A = views.movedim(A, list(dims), list(range(A.ndim - len(dims), A.ndim)))
    rest = shape_of(A)[B.ndim:]
    n = math.prod(rest)
    if n != B.numel(): raise RuntimeError(f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but got {n} != {B.numel()}")
    return views.reshape(apply(la.solve, views.reshape(A, (n, n)), views.reshape(B, (n, 1))), rest)


def vander(x, *, N=None):
    if x.ndim < 1 and N is None: raise RuntimeError("Expected dim of x to be at least 1")
    n = x.shape[-1] if N is None else N
    if not x.ndim: x = views.unsqueeze(x, 0)
    if n <= 1: raise RuntimeError(f"N must be greater than 1, but got {n}")
    kind = x if x.dtype.category >= dt.FLOAT else fn.to(x, dt.int64)
    steps = views.expand(views.unsqueeze(kind, -1), (*shape_of(x), n - 1))
    return fn.cat([creation.ones(*shape_of(x), 1, dtype=kind.dtype), gathering.cumprod(steps, -1)], -1)


def householder_product(A, tau):
    """The first columns of H1 H2 …, Hi = 1 - tau_i v_i v_iᴴ, where v_i lies below the diagonal of column i."""
    m, n = A.shape[-2:]
    if m < n: raise RuntimeError("torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if tau.shape[-1] > n: raise RuntimeError("torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    v = fn.add(arrange.tril(A, -1), creation.eye(m, n, dtype=A.dtype))
    out = apply(mv.overwrite, A, views.clone(views.expand(creation.eye(m, n, dtype=A.dtype), shape_of(A))))
    for i in reversed(range(tau.shape[-1])): out = reflected(out, v, tau, i)
    return out


def geqrf(input):
    a, tau = unpacked(fa.geqrf, input, *fa.geqrf_shapes(input))
    return named("geqrf", a=a, tau=tau)


def ormqr(input, tau, other, left=True, transpose=False):
    """Q C, C Q and both with Qᴴ, where Q = H1 H2 … is a square matrix that is never made."""
    for name, t, least in (("input", input, 2), ("other", other, 2)):
        if t.ndim < least: raise RuntimeError(f"torch.ormqr: {name} must have at least {least} dimensions.")
    m, k = input.shape[-2], tau.shape[-1]
    side = -2 if left else -1
    if k > input.shape[-1]: raise RuntimeError(f"torch.ormqr: tau.shape[-1] must be less than or equal to input.shape[-1], but got {k} and {input.shape[-1]}")
    if other.shape[side] < k: raise RuntimeError(f"torch.ormqr: other.shape[{side}] must be greater than or equal to tau.shape[-1]")
    if other.shape[side] != m: raise RuntimeError(f"torch.ormqr: other.shape[{side}] must be equal to input.shape[-2]")
    if input.ndim - tau.ndim != 1: raise RuntimeError(f"torch.ormqr: Expected tau to have one dimension less than input, but got tau.ndim equal to {tau.ndim} and input.ndim is equal to {input.ndim}")
    if not left: return H(ormqr(input, tau, H(other), True, not transpose))
    v = fn.add(arrange.tril(input, -1), creation.eye(m, input.shape[-1], dtype=input.dtype))
    out, factor = views.clone(other), complexes.conj(tau) if transpose else tau
    for i in range(k) if transpose else reversed(range(k)): out = reflected(out, v, factor, i)
    return out


def reflected(x, v, tau, i):
    """(1 - tau_i v_i v_iᴴ) x, v_i column i of v"""
    column = views.narrow(v, -1, i, 1)
    return fn.sub(x, multiply(fn.matmul(column, fn.matmul(H(column), x)), views.unsqueeze(views.narrow(tau, -1, i, 1), -1)))


# ---------------------------------------------------------------- symmetric systems
def ldl_factor_ex(A, *, hermitian=False, check_errors=False):
    f, pivots, info = unpacked(fa.ldl_factor, A, *fa.ldl_shapes(A), attr=bool(hermitian))
    pivots, info = fn.to(real(pivots.detach()), dt.int32), fn.to(real(views.squeeze(info.detach(), -1)), dt.int32)
    if check_errors: info = gathering.claimed(info, 0, 0, LinAlgError, "linalg.ldl_factor_ex: The factorization could not be completed: D[{x},{x}] is zero.")
    return named("linalg_ldl_factor_ex", LD=f, pivots=pivots, info=info)


def ldl_factor(A, *, hermitian=False):
    f, pivots, _ = ldl_factor_ex(A, hermitian=hermitian)
    return named("linalg_ldl_factor", LD=f, pivots=pivots)


def ldl_solve(LD, pivots, B, *, hermitian=False): return apply(fa.ldl_solve, LD, pivots, B, attr=bool(hermitian))


def inv_ex(A, *, check_errors=False):
    need("linalg.inv", A)
    info = zero_pivots(lu_of(A)[0])
    bad = failed(info)
    if check_errors or bad is None: return named("linalg_inv_ex", inverse=apply(la.inv, A, attr="linalg.inv_ex"), info=info)
    return named("linalg_inv_ex", inverse=fn.where(bad, math.inf, apply(la.inv, fn.where(bad, eye_like(A), A))), info=info)


def diagonal(A, *, offset=0, dim1=-2, dim2=-1): return views.diagonal(A, offset, dim1, dim2)
