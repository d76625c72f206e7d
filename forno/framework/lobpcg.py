"""torch.lobpcg: the outermost eigenvalues of a large symmetric matrix, or of a pair of them, from products with it alone (Knyazev, 2001).

Comes in: A, dense, sparse or a batch; B, positive definite; maybe where to begin, and what approximates the inverse of A. Goes out: eigenvalues, the outermost first, and
their vectors, which are orthonormal by B. In each step the subspace of the vectors X, of the directions P that they came from, and of their residuals W is searched for
the best new vectors. Method "ortho" makes the three orthonormal part by part (Stathopoulos and Wu, 2002); "basic" all at once, by Cholesky's factor.

Vectors that depend on others are left out (`ortho_use_drop`), none is replaced.

Gradients are those of A's eigenvalues and eigenvectors, wherever these were found: no step is differentiated.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from . import creation, factors, functions as fn, linalg, randoms, statistics
from .complexes import adjoint as H
from .custom import Function, once_differentiable
from .modes import is_grad_enabled, no_grad
from .sparse import SparseTensor
from .views import shape_of

EPS = {dt.float32: 1.2e-07, dt.float64: 2.23e-16}
STEPS = 1000


def lobpcg(A, k=None, B=None, X=None, n=None, iK=None, niter=None, tol=None, largest=None, method=None, tracker=None, ortho_iparams=None, ortho_fparams=None, ortho_bparams=None):
    """(eigenvalues, eigenvectors): (…, m, m) -> (…, k), (…, m, k)"""
    given = dict(k=k, B=B, X=X, n=n, iK=iK, niter=niter, tol=tol, largest=largest, method=method, tracker=tracker, **(ortho_iparams or {}), **(ortho_fparams or {}), **(ortho_bparams or {}))
    if not is_grad_enabled() or not (A.requires_grad or B is not None and B.requires_grad): return solved(A, **given)
    if isinstance(A, SparseTensor) or isinstance(B, SparseTensor): raise ValueError("lobpcg.backward does not support sparse input yet. Note that lobpcg.forward does though.")
    if A.dtype.is_complex: raise ValueError("lobpcg.backward does not support complex input yet. Note that lobpcg.forward does though.")
    if B is not None: raise ValueError("lobpcg.backward does not support backward with B != I yet.")
    return Outermost.apply((A + H(A)) / 2, given)


class Outermost(Function):
    @staticmethod
    def forward(ctx, A, given):
        E, X = solved(A, **given)
        ctx.save_for_backward(A, E, X)
        return E, X

    @staticmethod
    @once_differentiable
    def backward(ctx, at_e, at_x):
        """Σ (gᵢ uᵢ + (λᵢ - A)⁺ hᵢ) uᵢᵀ; the pseudoinverse's vector solves a system that has uᵢ as its border."""
        A, E, X = ctx.saved_tensors
        m, u = A.shape[-1], X.mT.unsqueeze(-1)                                                            # (…, k, m, 1)
        shifted = E[..., None, None] * creation.eye(m, dtype=A.dtype, device=A.device) - A.unsqueeze(-3)  # (…, k, m, m)
        corner = creation.zeros((*shape_of(u)[:-2], 1, 1), dtype=A.dtype, device=A.device)
        bordered = fn.cat([fn.cat([shifted, u], -1), fn.cat([u.mT, corner], -1)], -2)                     # (…, k, m + 1, m + 1)
        moved = linalg.solve(bordered, fn.cat([at_x.mT.unsqueeze(-1), corner], -2))[..., :m, 0].mT        # (…, m, k)
        return (X * at_e.unsqueeze(-2) + moved) @ X.mT, None


@no_grad()
def solved(A, k, B, X, n, iK, niter, tol, largest, method, tracker, **ortho):
    shape = tuple(A.shape)
    if shape[-2] != shape[-1]: raise AssertionError(f"A must be square, got shape {A.shape}")
    if B is not None and tuple(B.shape) != shape: raise AssertionError(f"A and B must have same shape, got {A.shape} vs {B.shape}")
    if method not in (None, "basic", "ortho"): raise ValueError(f"lobpcg: method is 'basic' or 'ortho', not {method!r}")
    m, dtype = shape[-1], A.dtype if A.dtype.category == dt.FLOAT else dt.float32
    if dtype not in EPS: raise KeyError(dtype)
    k = (1 if X is None else X.shape[-1]) if k is None else k
    n = (k if n is None else n) if X is None else X.shape[-1]
    if m < 3 * n:
        raise ValueError(f"LOBPCG algorithm is not applicable when the number of A rows (={m}) is smaller than 3 x the number of requested eigenpairs (={n})")
    iparams = {"m": m, "n": n, "k": k, "niter": STEPS if niter is None else niter, "ortho_i_max": 3, "ortho_j_max": 3}
    fparams = {"tol": EPS[dtype] ** 0.5 if tol is None else tol, "ortho_tol": 4 * EPS[dtype], "ortho_tol_drop": 8 * n * EPS[dtype]}
    bparams = {"largest": largest is None or largest}
    for name, value in ortho.items(): (bparams if isinstance(value, bool) else fparams if "tol" in name else iparams)[name] = value
    found = []
    for i in range(math.prod(shape[:-2])):
        if len(shape) > 2: iparams["batch_index"] = i
        def one(x): return x if x is None or len(shape) == 2 or x.ndim == 2 else x.reshape(-1, *shape_of(x)[-2:])[i]
        start = randoms.randn(m, n, dtype=dtype, device=A.device) if X is None else one(X)
        if shape_of(start) != (m, n): raise AssertionError(f"X shape mismatch: got {start.shape}, expected {(m, n)}")
        worker = LOBPCG(one(A), one(B), start.to(dtype), one(iK), iparams, fparams, bparams, method or "ortho", tracker)
        worker.run()
        found.append((worker.E[:k], worker.X[:, :k]))
    if len(shape) == 2: return found[0]
    if not found: return tuple(creation.empty((*shape[:-2], *rest), dtype=dtype, device=A.device) for rest in ((k,), (m, k)))
    return fn.stack([e for e, _ in found]).reshape(*shape[:-2], k), fn.stack([x for _, x in found]).reshape(*shape[:-2], m, k)


class LOBPCG:
    """One matrix's search. `tracker(worker)` is called after each step: it may read all of this, and ends the search by `worker.bvars["force_stop"] = True`."""

    def __init__(self, A, B, X, iK, iparams, fparams, bparams, method, tracker):
        self.A, self.B, self.X, self.iK, self.method, self.tracker = A, B, X, iK, method, tracker
        self.iparams, self.fparams, self.bparams = iparams, fparams, bparams
        self.ivars, self.fvars, self.bvars, self.tvars = {"istep": 0, "converged_count": 0}, {}, {"force_stop": False}, {}
        self.E = self.R = self.S = None

    def by_b(self, x): return x if self.B is None else self.B @ x

    def run(self):
        """Until the first k have converged, or steps have run out."""
        size = length(self.X)
        self.fvars.update(X_norm=size, A_norm=length(self.A @ self.X) / size, B_norm=length(self.by_b(self.X)) / size)
        n, P = self.iparams["n"], None
        X = self.basis(self.X)
        while X.shape[-1] < n: X = self.basis(fn.cat([X, randoms.randn(self.iparams["m"], n - X.shape[-1], dtype=X.dtype, device=X.device)], -1))       # some depend on others
        self.choose(X)
        while not self.over():
            W = self.R[:, self.ivars["converged_count"]:]
            if self.iK is not None: W = self.iK @ W
            X = self.X
            if self.method == "ortho": S = fn.cat([X, self.basis(W if P is None else fn.cat([P, W], -1), X)], -1)
            else: S = self.whole(fn.cat([X, W] if P is None else [X, P, W], -1))
            Z = self.choose(S)
            P = S[:, n:] @ Z[n:]               # what is new in them
            self.ivars["istep"] += 1

    def choose(self, S):
        """The best vectors in the subspace of S, which is orthonormal; how they are made of it."""
        self.S = S
        values, vectors = factors.eigh(S.mT @ (self.A @ S))
        if self.bparams["largest"]: values, vectors = values.flip(-1), vectors.flip(-1)
        n = self.iparams["n"]
        self.E, Z = values[:n], vectors[:, :n]
        self.X = S @ Z
        self.R = self.A @ self.X - self.by_b(self.X) * self.E
        return Z

    def over(self) -> bool:
        """Residuals are measured by how large A, B and the vectors are."""
        scale = statistics.norm(self.X, 2, 0) * (self.fvars["A_norm"] + self.E.abs() * self.fvars["B_norm"])
        self.tvars["rerr"] = errors = statistics.norm(self.R, 2, 0) / scale
        good = (errors < self.fparams["tol"]).tolist()
        self.ivars["converged_count"] = good.index(False) if False in good else len(good)
        if self.tracker is not None: self.tracker(self)
        return self.bvars["force_stop"] or self.ivars["converged_count"] >= self.iparams["k"] or self.ivars["istep"] == self.iparams["niter"]

    # ---- orthonormal vectors
    def basis(self, U, V=None):
        """Orthonormal vectors that span what U spans beyond V. What is nearly dependent is left out."""
        tol = self.fparams["ortho_tol"] * self.iparams["m"]
        for _ in range(self.iparams["ortho_i_max"]):
            if V is not None: U = U - V @ (V.mT @ self.by_b(U))
            for _ in range(self.iparams["ortho_j_max"]):
                if not U.shape[-1]: return U
                U, error = self.scaled(U)
                if error < tol: break
            if V is None or length(V.mT @ self.by_b(U)) < tol: break
        return U

    def scaled(self, U):
        """U by the eigenvectors of its products with itself, columns of length one; and how far it was from orthonormal."""
        products = U.mT @ self.by_b(U)
        sizes = products.diagonal().clamp(min=0).sqrt()
        there = sizes > 0
        U, sizes = U[:, there] / sizes[there], sizes[there]
        if not U.shape[-1]: return U, 0.0
        products = U.mT @ self.by_b(U)
        error = length(products - creation.eye(U.shape[-1], dtype=U.dtype, device=U.device)) + length(sizes - 1)
        values, vectors = factors.eigh(products)
        kept = values > self.fparams["ortho_tol_drop"] * values[-1]
        return U @ (vectors[:, kept] / values[kept].sqrt()), error

    def whole(self, S):
        """S by Cholesky's factor of its products with itself."""
        return linalg.solve_triangular(linalg.cholesky(S.mT @ self.by_b(S)), S.mT, upper=False).mT


def length(x) -> float: return float(statistics.norm(x))
