"""Factors of low rank by random projection (Halko, Martinsson and Tropp): singular vectors and principal components of large matrices."""
from __future__ import annotations

from . import functions as fn, linalg, randoms
from .autocast import matmul
from .complexes import adjoint as H
from .views import shape_of


def basis(A, q, niter):
    """q orthonormal columns that span nearly what A's q largest singular vectors span. (…, m, n) -> (…, m, q)"""
    Q = linalg.qr(matmul(A, randoms.randn(shape_of(A)[-1], q, dtype=A.dtype, device=A.device)))[0]
    for _ in range(niter):                     # a power of A tells large and small singular values further apart
        Q = linalg.qr(matmul(H(A), Q))[0]
        Q = linalg.qr(matmul(A, Q))[0]
    return Q


def svd_lowrank(A, q=6, niter=2, M=None):
    """(U, S, V) with A - M ≈ U diag(S) Vᴴ"""
    if M is not None: A = fn.sub(A, M)
    m, n = shape_of(A)[-2:]
    if m < n: A = H(A)
    Q = basis(A, 6 if q is None else q, 2 if niter is None else niter)
    U, S, Vh = linalg.svd(matmul(H(Q), A), full_matrices=False)
    U, V = matmul(Q, U), H(Vh)
    return (V, S, U) if m < n else (U, S, V)


def pca_lowrank(A, q=None, center=True, niter=2):
    """(U, S, V) of A, whose rows are samples, with every column's mean taken off: V's columns are the principal directions."""
    m, n = shape_of(A)[-2:]
    if q is None: q = min(6, m, n)
    elif not 0 <= q <= min(m, n): raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if not niter >= 0: raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(fn.sub(A, fn.mean(A, -2, True)) if center else A, q, niter)
