"""What the distributions share: broadcasting of parameters, probabilities and logits, triangles as vectors, properties computed once."""
from __future__ import annotations

import functools

from ..framework import api as torch
from ..nn.functional import softmax

__all__ = ["broadcast_all", "logits_to_probs", "clamp_probs", "probs_to_logits", "lazy_property", "tril_matrix_to_vec", "vec_to_tril_matrix"]

euler_constant = 0.57721566490153286060
Number = (bool, int, float)


def broadcast_all(*values):
    """Numbers and tensors as tensors of one shape; what has it already stays itself. A number takes the first tensor's dtype and device, or the default ones."""
    if not all(isinstance(v, (torch.Tensor, *Number)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__.")
    first = next((v for v in values if isinstance(v, torch.Tensor)), None)
    like = {"dtype": torch.get_default_dtype()} if first is None else {"dtype": first.dtype, "device": first.device}
    tensors = [v if isinstance(v, torch.Tensor) else torch.tensor(v, **like) for v in values]
    if all(t.shape == tensors[0].shape for t in tensors): return tuple(tensors)
    return tuple(t if t.shape == b.shape else b for t, b in zip(tensors, torch.broadcast_tensors(*tensors)))


def standard_normal(shape, like): return _standard_normal(shape, like.dtype, like.device)
def _standard_normal(shape, dtype, device=None): return torch.empty(shape, dtype=dtype, device=device).normal_()
def uniform(shape, like): return torch.rand(shape, dtype=like.dtype, device=like.device)


def sum_rightmost(value, dim: int):
    """The sum over the last `dim` dimensions."""
    return value if dim == 0 else value.reshape(value.shape[:-dim] + (-1,)).sum(-1)


_sum_rightmost = sum_rightmost                 # PyTorch's names of this and of `_standard_normal`, which libraries above it import


def logits_to_probs(logits, is_binary=False): return torch.sigmoid(logits) if is_binary else softmax(logits, dim=-1)


def clamp_probs(probs):
    """Inside the open interval (0, 1)."""
    eps = torch.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs, is_binary=False):
    p = clamp_probs(probs)
    return p.log() - (-p).log1p() if is_binary else p.log()


class lazy_property:
    """Computed when first asked for, then an attribute."""

    def __init__(self, wrapped):
        self.wrapped = wrapped
        functools.update_wrapper(self, wrapped)

    def __get__(self, instance, owner=None):
        if instance is None: return _OnClass(self.wrapped)
        with torch.enable_grad(): value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


class _OnClass(lazy_property, property):
    """What the class shows: a property to whom asks for one (as documentation does), a lazy_property too."""

    def __init__(self, wrapped): property.__init__(self, wrapped)


def _triangle(n: int, diag: int):
    rows = torch.arange(n)
    return rows < rows.view(-1, 1) + (diag + 1)


def tril_matrix_to_vec(mat, diag=0):
    """(…, n, n) → the entries on and below the given diagonal, row by row."""
    n = mat.shape[-1]
    if not -n <= diag < n: raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    return mat[..., _triangle(n, diag)]


def vec_to_tril_matrix(vec, diag=0):
    """The inverse of `tril_matrix_to_vec`, zeros elsewhere. n solves n(n + 1 + 2·diag)/2 … = length."""
    odd = 1 + 2 * diag
    n = (-odd + (odd ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    if round(n) - n > torch.finfo(vec.dtype).eps:
        raise ValueError(f"The size of last dimension is {vec.shape[-1]} which cannot be expressed as the lower triangular part of a square D x D "
                         "matrix.")
    n = round(n)
    mat = vec.new_zeros(vec.shape[:-1] + (n, n))
    mat[..., _triangle(n, diag)] = vec
    return mat
