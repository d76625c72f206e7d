"""Determinants, triangular and spectral factors on the host: LAPACK through NumPy. Packing and helpers as in dnn/linalg.py."""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from ..core.errors import LinAlgError
from ..core.shape import broadcast
from .contract import sum_to
from .elementwise import conjugate, select
from .functions import complex_, imag, real
from .linalg import H, column, inv, mm, need_matrix, pack, refused, row, row_vector, unpack
from .movement import cat


def over(x): return x.reshape((*x.shape, 1, 1))


def diagonal_of(t, n): return t.ramp(n).reshape((n, 1)) == t.ramp(n)


# ---------------------------------------------------------------- determinants
def _det_infer(attr, x):
    need_matrix("linalg.det", x, True)
    return x.dtype, x.shape[:-2]


def _cofactor_host(attr, x):
    """The derivative of the determinant, conjugated; from singular values, so that singular matrices have theirs."""
    u, s, v = np.linalg.svd(x)
    others = np.stack([np.prod(np.delete(s, i, -1), -1) for i in range(s.shape[-1])], -1) if s.shape[-1] else s
    turn = np.linalg.det(u) * np.linalg.det(v)
    return np.conj(turn)[..., None, None] * ((u * others[..., None, :]) @ v)


def _cofactor_grad(g, o, x, attr):
    """Of det(A) · inv(A)ᴴ, where A has an inverse."""
    turned, d = H(x.row(inv)), x.row(det)
    inner = (turned * conjugate(g)).reshape((*g.shape[:-2], g.shape[-1] * g.shape[-2])).sum((len(g.shape) - 2,), False)
    return over(inner) * o - mm(mm(turned, H(over(d) * g)), turned)


cofactor = row("cofactor", lambda attr, x: (x.dtype, x.shape), _cofactor_host, _cofactor_grad)
det = row("det", _det_infer, lambda attr, x: np.linalg.det(x), lambda g, o, x, attr: over(g) * x.row(cofactor))


def _slogdet_infer(attr, x):
    need_matrix("linalg.slogdet", x, True)
    return x.dtype, (*x.shape[:-2], 2)


def _slogdet_grad(g, o, x, attr):
    (sign, _), (gs, gl) = unpack(o, (), ()), unpack(g, (), ())
    if not x.dtype.is_complex: return over(gl) * H(x.row(inv))
    turn = (conjugate(gs) * sign).row(imag)
    return over(gl.row(real).row(complex_, -turn)) * H(x.row(inv))


slogdet = row("slogdet", _slogdet_infer, lambda attr, x: np.stack([p.astype(x.dtype) for p in np.linalg.slogdet(x)], -1), _slogdet_grad)
"""Packs the sign and the logarithm of the size."""


# ---------------------------------------------------------------- Cholesky
def _cholesky_infer(attr, x):
    need_matrix("linalg.cholesky", x, True)
    return x.dtype, x.shape


def _root(x):
    out = np.linalg.cholesky(x)
    if np.isnan(np.diagonal(out, 0, -2, -1)).any(): raise np.linalg.LinAlgError
    return out


def _cholesky_host(attr, x):
    try: return _root(x)
    except np.linalg.LinAlgError:
        where, a = refused(_root, x)
        raise LinAlgError(f"{attr or 'linalg.cholesky'}: {where}The factorization could not be completed because the input is not positive-definite (the leading minor of "
                          f"order {bad_minor(a)} is not positive-definite).") from None


def bad_minor(a) -> int:
    """The order of the first leading minor that is not positive, 0 if all are."""
    try: _root(a)
    except np.linalg.LinAlgError: pass
    else: return 0
    good, bad = 0, len(a)
    while bad - good > 1:
        middle = (good + bad) // 2
        if bad_minor(a[:middle, :middle]): bad = middle
        else: good = middle
    return bad


def _minors_host(attr, x): return np.array([bad_minor(a) for a in x.reshape(-1, *x.shape[-2:])], np.int32).reshape(x.shape[:-2])


def _cholesky_grad(g, o, x, attr):
    n = x.shape[-1]
    i, j = x.ramp(n).reshape((n, 1)), x.ramp(n)
    phi = mm(H(o), g) * ((i > j).to(x.dtype.real) + (i == j).to(x.dtype.real) * 0.5)
    back = o.row(inv)
    s = mm(mm(H(back), phi), back)
    return (s + H(s)) * 0.5


cholesky = row("cholesky", _cholesky_infer, _cholesky_host, _cholesky_grad, saves="o")
"""attr = the name for errors, None for linalg.cholesky."""
bad_minors = row("bad_minors", lambda attr, x: (dt.int32, x.shape[:-2]), _minors_host)
"""The order of each matrix's first leading minor that keeps it from being factorized, or 0."""


# ---------------------------------------------------------------- eigenvalues
def eigh_shapes(x): return (x.shape[-1],), tuple(x.shape[-2:])


def _eigh_infer(attr, x):
    need_matrix("linalg.eigh", x, True)
    return x.dtype, (*x.shape[:-2], x.shape[-1] * (x.shape[-1] + 1))


def _eigh_host(lower, x):
    w, v = np.linalg.eigh(x, "L" if lower else "U")
    return pack((w.astype(x.dtype), 1), (v, 2))


def _eigh_grad(g, o, x, attr):
    (w, v), (gw, gv) = unpack(o, *eigh_shapes(x)), unpack(g, *eigh_shapes(x))
    eye = diagonal_of(v, x.shape[-1])
    along = mm(H(v), gv)
    core = (along - H(along)) * 0.5 / select(eye, 1, row_vector(w) - column(w))
    return mm(mm(v, select(eye, column(gw), core)), H(v))


eigh = row("eigh", _eigh_infer, _eigh_host, _eigh_grad)
"""attr = read the lower triangle; packs eigenvalues and eigenvectors."""


def _eigvalsh_infer(attr, x):
    need_matrix("linalg.eigvalsh", x, True)
    return x.dtype.real, x.shape[:-1]


def _eigvalsh_grad(g, o, x, attr):
    _, v = unpack(x.row(eigh, attr=attr), *eigh_shapes(x))
    return mm(v * row_vector(g), H(v))


eigvalsh = row("eigvalsh", _eigvalsh_infer, lambda lower, x: np.linalg.eigvalsh(x, "L" if lower else "U"), _eigvalsh_grad)


def _eig_infer(attr, x):
    need_matrix("linalg.eig", x, True)
    return x.dtype.to_complex(), (*x.shape[:-2], x.shape[-1] * (x.shape[-1] + 1))


def _eig_host(attr, x):
    w, v = np.linalg.eig(x)
    return pack((w.astype(np.result_type(x, np.complex64)), 1), (v.astype(np.result_type(x, np.complex64)), 2))


def _real_like(g, x): return g if x.dtype.is_complex else g.row(real)


def _eig_grad(g, o, x, attr):
    """Vectors have length 1: their gradient along themselves doesn't count."""
    (w, v), (gw, gv) = unpack(o, *eigh_shapes(x)), unpack(g, *eigh_shapes(x))
    eye = diagonal_of(v, x.shape[-1])
    along = mm(H(v), gv)
    size = select(eye, along.row(real).row(complex_, along.row(real) * 0), 0)
    core = (along - mm(mm(H(v), v), size)) / select(eye, 1, conjugate(row_vector(w) - column(w)))
    turned = H(v)
    return _real_like(mm(mm(turned.row(inv), select(eye, column(gw), core)), turned), x)


eig = row("eig", _eig_infer, _eig_host, _eig_grad)
"""Packs eigenvalues and eigenvectors, both complex."""


def _eigvals_grad(g, o, x, attr):
    _, v = unpack(x.row(eig), *eigh_shapes(x))
    turned = H(v)
    return _real_like(mm(turned.row(inv) * row_vector(g), turned), x)


eigvals = row("eigvals", lambda attr, x: (_eig_infer(attr, x)[0], x.shape[:-1]), lambda attr, x: np.linalg.eigvals(x), _eigvals_grad)


# ---------------------------------------------------------------- triangular systems
def _triangular_infer(attr, a, b):
    need_matrix("linalg.solve_triangular", a, True)
    return b.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])


def _cleaned(a, upper, unit):
    """The triangle that counts."""
    a = np.triu(a) if upper else np.tril(a)
    if unit: a = np.where(np.eye(a.shape[-1], dtype=bool), 1, a)
    return a


def _triangular_host(attr, a, b):
    upper, unit = attr
    a, n = _cleaned(a, upper, unit), a.shape[-1]
    out = np.array(np.broadcast_to(b, (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])))
    for i in range(n - 1, -1, -1) if upper else range(n):          # substitution, all right sides at once
        rest = slice(i + 1, n) if upper else slice(0, i)
        out[..., i, :] -= (a[..., i:i + 1, rest] @ out[..., rest, :])[..., 0, :]
        out[..., i, :] /= a[..., i, i, None]
    return out


def _triangular_back(g, a, attr): return H(a).row(triangular, g, attr=(not attr[0], attr[1]))


def _triangle_grad(g, o, a, b, attr):
    n = a.shape[-1]
    i, j = a.ramp(n).reshape((n, 1)), a.ramp(n)
    keep = (j > i) | ((j == i) & (not attr[1])) if attr[0] else (j < i) | ((j == i) & (not attr[1]))
    return sum_to(select(keep, -mm(_triangular_back(g, a, attr), H(o)), 0), a.shape)


triangular = row("solve_triangular", _triangular_infer, _triangular_host, _triangle_grad, lambda g, o, a, b, attr: sum_to(_triangular_back(g, a, attr), b.shape))
"""X with A X = B; attr = (upper, unit diagonal)."""


# ---------------------------------------------------------------- LU
def _lu_infer(attr, x):
    need_matrix("linalg.lu_factor", x)
    return x.dtype, (*x.shape[:-2], x.shape[-2] * x.shape[-1] + min(x.shape[-2:]) + x.shape[-2])


def _lu_host(pivot, x):
    """Row by row, with the largest element of a column as its pivot; pivots count from 1, as LAPACK's."""
    a = np.array(x).reshape(-1, *x.shape[-2:])
    m, n = x.shape[-2:]
    k = min(m, n)
    pivots = np.tile(np.arange(1, k + 1), (len(a), 1))
    order = np.tile(np.arange(m), (len(a), 1))
    every = np.arange(len(a))
    for i in range(k):
        best = np.full(len(a), i)
        if pivot:
            best = i + np.argmax(np.abs(a[:, i:, i].real) + np.abs(a[:, i:, i].imag), -1)
            pivots[:, i] = best + 1
            top = a[every, best].copy()
            a[every, best], a[:, i] = a[:, i].copy(), top
        head = a[:, i, i]
        a[:, i + 1:, i] /= np.where(head == 0, 1, head)[:, None]
        a[:, i + 1:, i + 1:] -= a[:, i + 1:, i, None] * a[:, i, None, i + 1:]
        order[every, best], order[:, i] = order[:, i].copy(), order[every, best].copy()
    return pack((a.reshape(x.shape), 2), (pivots.astype(x.dtype).reshape(*x.shape[:-2], k), 1), (order.astype(x.dtype).reshape(*x.shape[:-2], m), 1))


def permutation(order, like):
    """P with P A = A[order], from the order of rows as numbers."""
    n = order.shape[-1]
    return (column(order) == like.ramp(n, dtype=like.dtype.real)).to(like.dtype)


def _lu_grad(g, o, x, attr):
    """Of P A = L U, P constant. Square, or the part beyond the square follows from it."""
    m, n = x.shape[-2:]
    k = min(m, n)
    (f, _, order), (gf, _, _) = unpack(o, *lu_shapes(x)), unpack(g, *lu_shapes(x))

    def halves(t):
        i, j = t.ramp(k).reshape((k, 1)), t.ramp(k)
        square = t.narrow(-2, 0, k).narrow(-1, 0, k)
        return select(i > j, square, 0), select(i <= j, square, 0)
    (low, up), (glow, gup) = halves(f), halves(gf)
    low = low + diagonal_of(o, k).to(o.dtype)
    lower_inverse, upper_inverse = H(low.row(inv)), H(up.row(inv))
    if m == n: inner = halves(mm(H(low), glow))[0] + halves(mm(gup, H(up)))[1]
    elif n > m:                                # A = P⁻¹ L [U1 U2]
        up2, gup2 = f.narrow(-1, k, n - k), gf.narrow(-1, k, n - k)
        inner = halves(mm(H(low), glow) - mm(gup2, H(up2)))[0] + halves(mm(gup, H(up)))[1]
        back = mm(lower_inverse, gup2)
    else:                                      # A = P⁻¹ [L1; L2] U
        low2, glow2 = f.narrow(-2, k, m - k), gf.narrow(-2, k, m - k)
        inner = halves(mm(H(low), glow))[0] + halves(mm(gup, H(up)) - mm(H(low2), glow2))[1]
        back = mm(glow2, upper_inverse)
    out = mm(mm(lower_inverse, inner), upper_inverse)
    if m != n: out = out.row(cat, back, attr=len(out.shape) - (1 if n > m else 2))
    return mm(H(permutation(order, o)), out)


def lu_shapes(x): return tuple(x.shape[-2:]), (min(x.shape[-2:]),), (x.shape[-2],)


lu = row("lu_factor", _lu_infer, _lu_host, _lu_grad)
"""attr = pivot; packs the factors (one over the other), the pivots and the order of rows."""
