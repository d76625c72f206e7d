"""Which functions compute in which type inside an autocast block: PyTorch's lists for CPUs and for GPUs, by the names that functions have here.

What is on no list computes in the type it is given, or in what its operands are promoted to. Rows that users call as they stand have no function around them
that could cast: those of FLOAT32_ROWS are cast where their lines are recorded (bind).
"""
from __future__ import annotations

from typing import NamedTuple

from ..core import dtype as dt

# ---------------------------------------------------------------- CPUs
NARROW = frozenset("matmul mm bmm addmm baddbmm addbmm linear vecdot lstm conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu "
                   "scaled_dot_product_attention __matmul__ __rmatmul__".split())
FLOAT32 = frozenset(
    "avg_pool3d adaptive_avg_pool3d max_pool3d adaptive_max_pool3d adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool2d_with_indices "
    "fractional_max_pool3d fractional_max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d grid_sample "
    "binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss hinge_embedding_loss huber_loss kl_div l1_loss "
    "margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss "
    "polar prod quantile nanquantile stft cdist trace view_as_complex cholesky cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse geqrf qr "
    "svd triangular_solve cholesky_ex cond eig eigh eigvals eigvalsh householder_product inv inv_ex lstsq matrix_rank solve svdvals tensorinv tensorsolve "
    "fft fft2 fftn ifft ifft2 ifftn rfft rfft2 rfftn irfft irfft2 irfftn hfft ihfft".split())
WIDEST = frozenset("cat concat concatenate stack index_copy".split())
AS_IS = frozenset(("bilinear",))               # made of others on these lists here, but not in PyTorch

# ---------------------------------------------------------------- GPUs
NARROW_CUDA = frozenset("matmul mm bmm mv addmm addmv addr baddbmm addbmm linear vecdot einsum chain_matmul multi_dot conv1d conv2d conv3d conv_tbc conv_transpose1d "
                        "conv_transpose2d conv_transpose3d prelu scaled_dot_product_attention lstm __matmul__ __rmatmul__".split())
FLOAT32_CUDA = frozenset(
    "binary_cross_entropy_with_logits cosine_embedding_loss cosine_similarity cross_entropy hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss "
    "multilabel_margin_loss multi_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss softmax softmin log_softmax logsumexp softplus "
    "layer_norm rms_norm group_norm normalize norm trapezoid trapz cumulative_trapezoid frobenius_norm nuclear_norm vector_norm matrix_norm pdist cdist dist renorm sum prod cumsum cumprod "
    "interpolate upsample upsample_nearest upsample_bilinear".split())
FLOAT32_ROWS = frozenset("acos asin cosh erfinv exp expm1 log log10 log1p log2 pow reciprocal rsqrt sinh square tan".split())
WIDEST_CUDA = frozenset("addcdiv addcmul atan2 bilinear cross dot vdot inner grid_sample index_put scatter_add tensordot".split())


class Narrow(NamedTuple):
    """The narrow types of device types; None where autocast is off."""
    cpu: dt.dtype | None
    cuda: dt.dtype | None
