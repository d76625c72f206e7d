"""Linear algebra on the host: LAPACK through NumPy, one opaque row per decomposition, gradients in tensor operators.

A decomposition with several factors is one row whose result packs them, row by row, along one last axis; `unpack` gives them back. Batched
over leading axes. Gradients follow the formulas PyTorch uses; where a factor isn't unique (signs, phases) so is the gradient through it.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.errors import LinAlgError
from ..core.op import Opaque
from ..core.shape import broadcast
from .contract import matmul, sum_to
from .elementwise import TITLES, conjugate
from .movement import cat


# ---------------------------------------------------------------- what rows and rules are written with
def mm(a, b): return a.row(matmul, b)


def H(x): return conjugate(x).transpose(-1, -2)


def pack(*factors):
    return np.concatenate([f.reshape(*f.shape[:f.ndim - k], math.prod(f.shape[f.ndim - k:])) for f, k in factors], -1)


def unpack(packed, *shapes):
    """Factors of `shapes` (without the batch axes) out of a packed result or its gradient."""
    out, at, batch = [], 0, tuple(packed.shape[:-1])
    for s in shapes:
        n = math.prod(s)
        out.append(packed.narrow(-1, at, n).reshape((*batch, *s)))
        at += n
    return out


def row_vector(x): return x.reshape((*x.shape[:-1], 1, x.shape[-1]))
def column(x): return x.reshape((*x.shape, 1))


def need_matrix(name, x, square=False):
    if x.dtype not in (dt.float32, dt.float64, dt.complex64, dt.complex128):
        raise NotImplementedError(f"\"{name}\" not implemented for '{TITLES[x.dtype.name]}'") if x.dtype.size == 2 else \
            RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {TITLES[x.dtype.name]}")
    if len(x.shape) < 2: raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    if square and x.shape[-1] != x.shape[-2]: raise RuntimeError(f"{name}: A must be batches of square matrices, but they are {x.shape[-2]} by {x.shape[-1]} matrices")


def row(name, infer, host, *grads, saves="ao"):
    why = "contained non-finite values" if name.startswith("svd") else "is ill-conditioned or has too many repeated eigenvalues"

    def run(attr, *arrays):
        try:
            with np.errstate(all="ignore"): return host(attr, *arrays)
        except np.linalg.LinAlgError:
            raise LinAlgError(f"linalg.{name.removesuffix('vals')}: The algorithm failed to converge because the input matrix {why}.") from None
    return Opaque(name, infer, grads, saves, run, host=run)


# ---------------------------------------------------------------- singular values
def svd_shapes(x, full=False):
    m, n = x.shape[-2:]
    k = min(m, n)
    return (m, m if full else k), (k,), (n if full else k, n)


def _svd_infer(attr, x):
    need_matrix("linalg.svd", x)
    return x.dtype, (*x.shape[:-2], sum(math.prod(s) for s in svd_shapes(x, attr)))


def _svd_host(full, x):
    u, s, v = np.linalg.svd(x, full_matrices=full)
    return pack((u, 2), (s.astype(x.dtype), 1), (v, 2))


def _svd_grad(g, o, x, attr):
    m, n = x.shape[-2:]
    k = min(m, n)
    (u, s, v), (gu, gs, gv) = unpack(o, *svd_shapes(x, attr)), unpack(g, *svd_shapes(x, attr))
    if attr: u, gu, v, gv = u.narrow(-1, 0, k), gu.narrow(-1, 0, k), v.narrow(-2, 0, k), gv.narrow(-2, 0, k)      # the rest of a full basis is arbitrary

    def skew(y): return y - H(y)
    squares = s * s
    eye = s.ramp(k).reshape((k, 1)) == s.ramp(k)
    gaps = (row_vector(squares) - column(squares)).masked_fill(eye, 1)
    left, right = skew(mm(H(u), gu)), skew(mm(v, H(gv)))
    core = left / gaps * row_vector(s) + column(s) * (right / gaps) + column(gs) * eye
    if x.dtype.is_complex: core = core + left * eye / (2 * row_vector(s))
    out = mm(mm(u, core), v)
    if m > k:
        part = gu / row_vector(s)
        out = out + mm(part - mm(u, mm(H(u), part)), v)
    if n > k:
        part = gv / column(s)
        out = out + mm(u, part - mm(mm(part, H(v)), v))
    return out


svd = row("svd", _svd_infer, _svd_host, _svd_grad)
"""attr = full_matrices; packs U, S, Vh."""


def _values_infer(attr, x):
    need_matrix("linalg.svd", x)
    return x.dtype.real, (*x.shape[:-2], min(x.shape[-2:]))


def _values_grad(g, o, x, attr):
    u, _, v = unpack(x.row(svd, attr=False), *svd_shapes(x))
    return mm(u * row_vector(g), v)


svdvals = row("svdvals", _values_infer, lambda attr, x: np.linalg.svd(x, compute_uv=False), _values_grad)


# ---------------------------------------------------------------- inverse
def _inverse_infer(attr, x):
    need_matrix("linalg.inv", x, True)
    return x.dtype, x.shape


def refused(f, x) -> tuple[str, np.ndarray]:
    """The first matrix of a batch that LAPACK refuses, with PyTorch's name for it."""
    def fails(a):
        try: f(a)
        except np.linalg.LinAlgError: return True
    batch = x.reshape(-1, *x.shape[-2:])
    k = next(k for k, a in enumerate(batch) if fails(a))
    return f"(Batch element {k}): " if x.ndim > 2 else "", batch[k]


def zero_pivot(a) -> int:
    """The first step of an elimination with row exchanges that finds nothing to divide by, from 1; 0 if none does."""
    a = np.array(a)
    for i in range(len(a)):
        best = i + int(np.argmax(np.abs(a[i:, i].real) + np.abs(a[i:, i].imag)))
        if a[best, i] == 0: return i + 1
        a[[i, best]] = a[[best, i]]
        a[i + 1:, i:] -= np.outer(a[i + 1:, i] / a[i, i], a[i, i:])
    return 0


def _inverse_host(attr, x):
    try: return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        where, a = refused(np.linalg.inv, x)
        raise LinAlgError(f"{attr or 'linalg.inv'}: {where}The diagonal element {zero_pivot(a) or len(a)} is zero, the inversion could not be completed because the input "
                          "matrix is singular.") from None


inv = row("inv", _inverse_infer, _inverse_host, lambda g, o, x, attr: -mm(mm(H(o), g), H(o)), saves="o")


def _solve_infer(attr, a, b):
    need_matrix("linalg.solve", a, True)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"linalg.solve: Expected A and B to have the same dtype, but found A of type {TITLES[a.dtype.name]} "
                           f"and B of type {TITLES[b.dtype.name]} instead")
    if b.shape[-2] != a.shape[-1]:
        raise RuntimeError(f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({a.shape[-2]}x{a.shape[-1]} "
                           f"and {b.shape[-2]}x{b.shape[-1]})")
    return b.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])


def _solve_host(attr, a, b):
    try: return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        where, _ = refused(np.linalg.inv, np.broadcast_to(a, (*broadcast(a.shape[:-2], b.shape[:-2]), *a.shape[-2:])))
        raise LinAlgError(f"{attr or 'torch.linalg.solve'}: {where}The solver failed because the input matrix is singular.") from None


solve = row("solve", _solve_infer, _solve_host, lambda g, o, a, b, attr: sum_to(-mm(H(a).row(solve, g), H(o)), a.shape),
            lambda g, o, a, b, attr: sum_to(H(a).row(solve, g), b.shape), saves="ao")
"""X with A X = B; B is a matrix."""


def _pseudo_grad(g, o, a, p, attr):
    """Golub and Pereyra's: through the inverse's part, and through the spaces that A doesn't reach."""
    ph, gh = H(p), H(g)
    out = -mm(mm(ph, g), ph)
    out = out + mm(gh - mm(a, mm(p, gh)), mm(p, ph))
    return out + mm(mm(ph, p), gh - mm(mm(gh, p), a))


pseudo_inverse = row("pinv", lambda attr, a, p: (p.dtype, p.shape), lambda attr, a, p: p, _pseudo_grad, None, saves="ab")
"""Its operands are A and the pseudo-inverse already found: the row is there for its gradient."""


# ---------------------------------------------------------------- QR
def qr_shapes(x, mode):
    m, n = x.shape[-2:]
    k = m if mode == "complete" else min(m, n)
    return (m, k), (k, n)


def _qr_infer(mode, x):
    need_matrix("linalg.qr", x)
    return x.dtype, (*x.shape[:-2], sum(math.prod(s) for s in qr_shapes(x, mode)))


def _qr_host(mode, x): return pack(*((f, 2) for f in np.linalg.qr(x, mode)))


def _qr_grad(g, o, x, attr):
    m, n = x.shape[-2:]
    if attr == "complete" and m > n: raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols")
    (q, r), (gq, gr) = unpack(o, *qr_shapes(x, attr)), unpack(g, *qr_shapes(x, attr))
    if m < n:                                  # A = Q [U V]: what V asks of Q is in gR Rᴴ
        rows, columns = o.ramp(m).reshape((m, 1)), o.ramp(m)
        part = mm(H(q), gq) - mm(gr, H(r))
        part = part - H(part)
        low = part * (rows > columns) + (part * (rows == columns) * 0.5 if x.dtype.is_complex else 0)
        head = mm(low, H(r.narrow(-1, 0, m).row(inv)))
        return mm(q, gr + head.row(cat, g.filled((*head.shape[:-1], n - m), 0, g.dtype), attr=len(head.shape) - 1))
    part = mm(r, H(gr)) - mm(H(gq), q)
    rows, columns = o.ramp(n).reshape((n, 1)), o.ramp(n)
    lower = part * (rows > columns) + part * (rows == columns) * 0.5
    return mm(gq + mm(q, lower + H(lower)), H(r.row(inv)))


qr = row("qr", _qr_infer, _qr_host, _qr_grad, saves="ao")
"""attr = 'reduced' | 'complete'; packs Q, R."""
