"""Determinants, triangular and spectral factors on the host: LAPACK through NumPy. Packing and helpers as in dnn/linalg.py."""
from __future__ import annotations

import math

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


def flipped(x, upper): return np.conj(np.swapaxes(x, -1, -2)) if upper else x


def _cholesky_host(attr, x):
    name, upper = attr
    x = flipped(x, upper)
    try: return flipped(_root(x), upper)
    except np.linalg.LinAlgError:
        where, a = refused(_root, x)
        raise LinAlgError(f"{name or 'linalg.cholesky'}: {where}The factorization could not be completed because the input is not positive-definite (the leading minor of "
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


def matrices(x):
    """The matrices of a batch."""
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _minors_host(attr, x): return np.array([bad_minor(a) for a in matrices(x)], np.int32).reshape(x.shape[:-2])


def _cholesky_grad(g, o, x, attr):
    n = x.shape[-1]
    i, j = x.ramp(n).reshape((n, 1)), x.ramp(n)
    if attr[1]: o, g = H(o), H(g)
    turned, back = mm(H(o), g), o.row(inv)
    below = turned * (i > j).to(x.dtype.real)
    return mm(mm(H(back), below + H(below) + turned * (i == j).to(x.dtype.real)), back) * 0.5


cholesky = row("cholesky", _cholesky_infer, _cholesky_host, _cholesky_grad, saves="o")
"""attr = (the name for errors, None for linalg.cholesky; the upper triangle is read and its factor, Lᴴ, given)."""
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


# ---------------------------------------------------------------- systems whose Cholesky factor is known
def _factor_grad(upper, f, t):
    """-(t + tᴴ) L, as PyTorch has it: the factor is all of f here, also what the other triangle holds."""
    t = t + H(t)
    return -mm(f, t) if upper else -mm(t, f)


def _known_infer(attr, b, f):
    need_matrix("cholesky_solve", f, True)
    return b.dtype, (*broadcast(b.shape[:-2], f.shape[:-2]), *b.shape[-2:])


def _known_host(upper, b, f):
    low = np.tril(flipped(f, upper))
    return _triangular_host((True, False), flipped(low, True), _triangular_host((False, False), low, b))


def _known_inverse_infer(attr, f):
    need_matrix("cholesky_inverse", f, True)
    return f.dtype, f.shape


def _known_inverse_grad(g, o, f, attr): return _factor_grad(attr, f, mm(o, mm(g, o)))
def _known_grad(g, o, b, f, attr): return sum_to(_factor_grad(attr, f, mm(g.row(cholesky_solve, f, attr=attr), H(o))), f.shape)


cholesky_inverse = row("cholesky_inverse", _known_inverse_infer, lambda upper, f: _known_host(upper, np.eye(f.shape[-1], dtype=f.dtype), f), _known_inverse_grad)
cholesky_solve = row("cholesky_solve", _known_infer, _known_host, lambda g, o, b, f, attr: sum_to(g.row(cholesky_solve, f, attr=attr), b.shape), _known_grad, saves="bo")
"""X with L Lᴴ X = B from B and L; attr = the factor is Lᴴ."""


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


# ---------------------------------------------------------------- Householder's factors
def geqrf_shapes(x): return tuple(x.shape[-2:]), (min(x.shape[-2:]),)


def _geqrf_infer(attr, x):
    need_matrix("geqrf", x)
    return x.dtype, (*x.shape[:-2], sum(math.prod(s) for s in geqrf_shapes(x)))


def _geqrf_host(attr, x):
    turned, tau = np.linalg.qr(x, "raw")
    return pack((np.swapaxes(turned, -1, -2), 2), (tau, 1))


geqrf = row("geqrf", _geqrf_infer, _geqrf_host)
"""R in the upper triangle, the vectors of the reflections below it; packs that and their factors tau."""


# ---------------------------------------------------------------- symmetric matrices that needn't be positive: L D Lᵀ
BUNCH = (1 + math.sqrt(17)) / 8                # a pivot this much smaller than its column makes way for another one, or for a block of two


def size(x): return np.abs(x.real) + np.abs(x.imag)


def turned(x, hermitian): return np.conj(x) if hermitian else x


def _pivot(a, k):
    """Bunch and Kaufman's choice for step k: (row to exchange, block of two?)."""
    own, below = size(a[k, k]), size(a[k + 1:, k])
    if not len(below) or own >= BUNCH * below.max(): return k, False
    top = k + 1 + int(below.argmax())
    rest = max(size(a[top, k:top]).max(), size(a[top + 1:, top]).max(initial=0))
    if own >= BUNCH * below.max() * (below.max() / rest): return k, False
    return top, bool(size(a[top, top]) < BUNCH * rest)


def _exchange(a, k, p, two, hermitian):
    """Rows and columns k and p of the lower triangle from k on; the first column of a block of two stays, with its own elements exchanged."""
    low = k - two
    a[p + 1:, [k, p]] = a[p + 1:, [p, k]]
    middle = turned(a[k + 1:p, k].copy(), hermitian)
    a[k + 1:p, k] = turned(a[p, k + 1:p], hermitian)
    a[p, k + 1:p] = middle
    a[p, k] = turned(a[p, k], hermitian)
    a[k, k], a[p, p] = a[p, p], a[k, k]
    if two: a[k, low], a[p, low] = a[p, low], a[k, low]


def _ldl(a, hermitian):
    """LAPACK's sytf2 and hetf2 on one matrix, in its place: (pivots, the first zero pivot)."""
    n, k, info = len(a), 0, 0
    pivots = np.zeros(n, np.int64)
    if hermitian: np.fill_diagonal(a, a.diagonal().real)
    while k < n:
        if size(a[k:, k]).max() == 0:
            pivots[k], info, k = k + 1, info or k + 1, k + 1
            continue
        p, two = _pivot(a, k)
        last = k + two
        if p != last: _exchange(a, last, p, two, hermitian)
        block = a[k:last + 1, k:last + 1]
        if two: block = np.array([[block[0, 0], turned(block[1, 0], hermitian)], [block[1, 0], block[1, 1]]])
        left = a[last + 1:, k:last + 1]
        factor = np.linalg.solve(block.T, left.T).T if two else left / block
        a[last + 1:, last + 1:] -= np.tril(factor @ turned(left, hermitian).T)
        a[last + 1:, k:last + 1] = factor
        pivots[k:last + 1] = -(p + 1) if two else p + 1
        k = last + 1
    return pivots, info


def ldl_shapes(x): return tuple(x.shape[-2:]), (x.shape[-1],), (1,)


def _ldl_infer(attr, x):
    need_matrix("linalg.ldl_factor_ex", x, True)
    return x.dtype, (*x.shape[:-2], sum(math.prod(s) for s in ldl_shapes(x)))


def _ldl_host(hermitian, x):
    a = matrices(np.tril(x))
    found = [_ldl(m, hermitian) for m in a]
    parts = [np.array([f[i] for f in found]).reshape(*x.shape[:-2], -1).astype(x.dtype) if found else np.zeros((*x.shape[:-2], n), x.dtype) for i, n in ((0, x.shape[-1]), (1, 1))]
    return pack((a.reshape(x.shape), 2), *((p, 1) for p in parts))


ldl_factor = row("ldl_factor", _ldl_infer, _ldl_host)
"""attr = hermitian; packs L and D in one lower triangle, the pivots as LAPACK counts them (a block of two has both negative), and the first zero pivot."""


def _ldl_solve_one(a, pivots, x, hermitian):
    """sytrs on one matrix, on x in its place: exchanges and eliminations down, the blocks, and back up."""
    steps, k = [], 0
    while k < len(a):
        last = k + bool(pivots[k] < 0)
        steps.append((k, last, abs(int(pivots[k])) - 1))
        k = last + 1
    for k, last, p in steps:
        x[[last, p]] = x[[p, last]]
        x[last + 1:] -= a[last + 1:, k:last + 1] @ x[k:last + 1]
    for k, last, _ in steps:
        block = np.tril(a[k:last + 1, k:last + 1])
        x[k:last + 1] = np.linalg.solve(block + turned(np.tril(block, -1), hermitian).T, x[k:last + 1])
    for k, last, p in reversed(steps):
        x[k:last + 1] -= turned(a[last + 1:, k:last + 1], hermitian).T @ x[last + 1:]
        x[[last, p]] = x[[p, last]]


def _ldl_solve_host(hermitian, a, pivots, b):
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
    full, order = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(pivots, (*batch, pivots.shape[-1]))
    for i in np.ndindex(batch): _ldl_solve_one(full[i], order[i], out[i], hermitian)
    return out


def _ldl_solve_infer(attr, a, pivots, b):
    need_matrix("linalg.ldl_solve", a, True)
    if pivots.dtype.category != dt.INT: raise RuntimeError(f"linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype!r}")
    if b.dtype is not a.dtype: raise RuntimeError(f"linalg.ldl_solve: Expected LD and B to have the same dtype, but found LD of type {a.dtype!r} and B of type {b.dtype!r} instead")
    return b.dtype, (*broadcast(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])


ldl_solve = row("ldl_solve", _ldl_solve_infer, _ldl_solve_host)
"""X with A X = B from A's factors, its pivots, and B; attr = hermitian."""
