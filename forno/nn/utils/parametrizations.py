"""Ready parametrizations: weight_norm, spectral_norm, orthogonal."""
from __future__ import annotations

from ...framework import api as torch
from .. import functional as F
from ..modules.conv import _ConvTransposeNd
from ..modules.module import Module
from . import parametrize

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def _tensor_of(module, name):
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return weight


# ---- weight norm ------------------------------------------------------------------------------------------------------------------------

def norm_except_dim(v, dim):
    """The 2-norm over all dimensions but one, kept as length 1; over everything if dim is -1."""
    return torch.norm(v) if dim == -1 else torch.norm(v, 2, [d for d in range(v.dim()) if d != dim % v.dim()], True)


class _WeightNorm(Module):
    """weight = g · v / |v| (Salimans and Kingma, 2016)."""

    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v): return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))
    def right_inverse(self, weight): return norm_except_dim(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """Length and direction as parameters of their own; also reads state dicts of the older utils.weight_norm."""
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict, prefix, *rest):
        if f"{prefix}{name}_g" in state_dict and f"{prefix}{name}_v" in state_dict:
            for i, suffix in enumerate("gv"):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(f"{prefix}{name}_{suffix}")
    module._register_load_state_dict_pre_hook(rename)
    return module


# ---- spectral norm ----------------------------------------------------------------------------------------------------------------------

def spectral_dim(module, dim):
    """The output dimension: 1 for transposed convolutions."""
    return dim if dim is not None else 1 if isinstance(module, _ConvTransposeNd) else 0


def as_matrix(weight, dim):
    """(size of dim, the rest)."""
    if dim != 0:
        weight = weight.permute(dim, *(d for d in range(weight.dim()) if d != dim))
    return weight.flatten(1)


class _SpectralNorm(Module):
    """weight / its largest singular value, estimated by power iteration (Miyato et al., 2018)."""

    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        n = weight.dim()
        if not -n <= dim < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim % n, eps
        if n > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            for name, size in zip(("_u", "_v"), matrix.shape):
                drawn = torch.empty(size, dtype=matrix.dtype, device=matrix.device).normal_(0, 1)
                self.register_buffer(name, F.normalize(drawn, dim=0, eps=eps))
            self._power_method(matrix, 15)

    @torch.no_grad()
    def _power_method(self, matrix, n):
        for _ in range(n):
            self._u = F.normalize(torch.mv(matrix, self._v), dim=0, eps=self.eps)
            self._v = F.normalize(torch.mv(matrix.t(), self._u), dim=0, eps=self.eps)

    def forward(self, weight):
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix.detach(), self.n_power_iterations)
        return weight / torch.dot(self._u, torch.mv(matrix, self._v))

    def right_inverse(self, value): return value


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    weight = _tensor_of(module, name)
    made = _SpectralNorm(weight, n_power_iterations, spectral_dim(module, dim), eps)
    return parametrize.register_parametrization(module, name, made)


# ---- orthogonal -------------------------------------------------------------------------------------------------------------------------

def _make_orthogonal(a):
    """Q of the QR decomposition with the signs of R's diagonal positive."""
    q, r = torch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def _is_orthogonal(q):
    n, k = q.shape[-2:]
    distance = torch.matmul(q.transpose(-2, -1), q) - torch.eye(k, dtype=q.dtype, device=q.device)
    return bool((distance.abs() < 10 * n * torch.finfo(q.dtype).eps).all())


def _householder(a, tau):
    """The first k columns of the product of k reflections I - tau v vᵀ; column j of a holds v_j below its diagonal."""
    n, k = a.shape[-2:]
    q = torch.eye(n, k, dtype=a.dtype, device=a.device)
    unit = torch.eye(n, k, dtype=a.dtype, device=a.device)
    v = a.tril(-1) + unit
    for j in reversed(range(k)):
        column = v[..., j:j + 1]                                             # (*, n, 1)
        q = q - tau[..., j:j + 1].unsqueeze(-1) * column * torch.matmul(column.transpose(-2, -1), q)
    return q


def _reflections(a):
    """The inverse of _householder: vectors below the diagonal, and the signs of the resulting columns on it."""
    a = a.clone()
    for j in range(a.size(-1)):
        x = a[..., j:, j:j + 1].clone()                                      # (*, n - j, 1)
        rest = x[..., 1:, :].norm(2, -2, keepdim=True)
        head, length = x[..., :1, :], x.norm(2, -2, keepdim=True)
        beta = torch.where(head >= 0, -length, length)                       # the new diagonal element; no reflection if the column is zero below
        tau = torch.where(rest == 0, 0.0, (beta - head) / beta)
        v = x / torch.where(rest == 0, 1.0, head - beta)
        v[..., :1, :] = 1.0
        a[..., j:, j:] -= tau * v * torch.matmul(v.transpose(-2, -1), a[..., j:, j:])
        a[..., j + 1:, j:j + 1] = torch.where(rest == 0, 0.0, v[..., 1:, :])
        sign = torch.where(rest == 0, head.sign(), beta.sign())
        a[..., j:j + 1, j:j + 1] = sign
    return a


class _Orthogonal(Module):
    """Orthonormal rows or columns from an unconstrained matrix: matrix exponential, Cayley map or Householder reflections (Lezcano-Casado, 2019)."""

    def __init__(self, weight, orthogonal_map, *, use_trivialization=True):
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X):
        transposed = X.size(-2) < X.size(-1)
        X = X.transpose(-2, -1) if transposed else X
        n, k = X.shape[-2:]
        if self.orthogonal_map == "householder":
            a = X.tril(-1)
            q = _householder(a, 2.0 / (1.0 + (a * a).sum(-2))) * X.diagonal(dim1=-2, dim2=-1).to(torch.int32).unsqueeze(-2)
        else:
            X = X.tril()
            if n != k:
                X = torch.cat([X, torch.zeros(*X.shape[:-1], n - k, dtype=X.dtype, device=X.device)], -1)
            a = X - X.transpose(-2, -1)
            if self.orthogonal_map == "matrix_exp":
                q = torch.matrix_exp(a)
            else:
                one = torch.eye(n, dtype=a.dtype, device=a.device)
                q = torch.linalg.solve(one - 0.5 * a, one + 0.5 * a)
            q = q[..., :k]
        if hasattr(self, "base"):
            q = torch.matmul(self.base, q)
        return q.transpose(-2, -1) if transposed else q

    @torch.no_grad()
    def right_inverse(self, Q):
        if Q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}.")
        given = Q
        if not hasattr(self, "base"):
            if self.orthogonal_map != "householder":
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                                          "use_trivialization=False.")
            transposed = Q.size(-2) < Q.size(-1)
            A = _reflections(Q.transpose(-2, -1) if transposed else Q)
            return A.transpose(-2, -1) if transposed else A
        Q = Q.transpose(-2, -1) if Q.size(-2) < Q.size(-1) else Q
        n, k = Q.shape[-2:]
        if n != k:
            Q = torch.cat([Q, torch.randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype, device=Q.device)], -1)
        self.base = Q.clone() if n == k and _is_orthogonal(Q) else _make_orthogonal(Q)
        return -torch.eye(*given.shape[-2:], dtype=given.dtype, device=given.device).expand(given.shape).clone()


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    weight = _tensor_of(module, name)
    if weight.dim() < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.size(-2) == weight.size(-1) or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}')
    if weight.is_complex():
        raise ValueError(f"The {orthogonal_map} parametrization does not support complex tensors.")
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, made, unsafe=True)
