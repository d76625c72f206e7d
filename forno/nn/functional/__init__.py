"""Stateless layers: every function of torch.nn.functional, composed from tensor operations. Knows tensors and numbers, no modules."""
from ...framework import autocast as _autocast, gradfn as _gradfn
from ...framework.phrase import remembered as _remembered
from .activation import (celu, celu_, elu, elu_, gelu, glu, gumbel_softmax, hardshrink, hardsigmoid, hardswish, hardtanh, hardtanh_, leaky_relu,
                         leaky_relu_, log_softmax, logsigmoid, mish, prelu, relu, relu6, relu_, rrelu, rrelu_, selu, selu_, sigmoid, silu, softmax,
                         softmin, softplus, softshrink, softsign, tanh, tanhshrink, threshold, threshold_)
from .attention import _canonical_mask, _none_or_dtype, multi_head_attention_forward, scaled_dot_product_attention
from .distance import cosine_similarity, pairwise_distance, pdist
from .dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from .linear import bilinear, conv1d, conv2d, conv3d, conv_tbc, conv_transpose1d, conv_transpose2d, conv_transpose3d, grouped_mm, linear
from .loss import (binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, ctc_loss, gaussian_nll_loss, kl_div, linear_cross_entropy,
                   nll_loss, poisson_nll_loss)
from .margin import (cosine_embedding_loss, hinge_embedding_loss, huber_loss, l1_loss, margin_ranking_loss, mse_loss, multi_margin_loss,
                     multilabel_margin_loss, multilabel_soft_margin_loss, smooth_l1_loss, soft_margin_loss, triplet_margin_loss,
                     triplet_margin_with_distance_loss)
from .normalization import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, normalize, rms_norm
from .pooling import (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool1d, adaptive_max_pool1d_with_indices,
                      adaptive_max_pool2d, adaptive_max_pool2d_with_indices, adaptive_max_pool3d, adaptive_max_pool3d_with_indices, avg_pool1d,
                      avg_pool2d, avg_pool3d, fractional_max_pool2d, fractional_max_pool2d_with_indices, fractional_max_pool3d,
                      fractional_max_pool3d_with_indices, lp_pool1d, lp_pool2d, lp_pool3d, max_pool1d, max_pool1d_with_indices, max_pool2d,
                      max_pool2d_with_indices, max_pool3d, max_pool3d_with_indices, max_unpool1d, max_unpool2d, max_unpool3d)
from .shape import channel_shuffle, fold, native_channel_shuffle, pad, pixel_shuffle, pixel_unshuffle, unfold
from .sparse import embedding, embedding_bag, one_hot
from .vision import (GRID_SAMPLE_INTERPOLATION_MODES, GRID_SAMPLE_PADDING_MODES, affine_grid, grid_sample, interpolate, upsample, upsample_bilinear,
                     upsample_nearest)

for _name, _title in _gradfn.LOSSES.items(): globals()[_name] = _gradfn.entitled(globals()[_name], _title)
for _name, _f in list(globals().items()):
    if not isinstance(_f, type(_remembered)) or _name.startswith("_"): continue
    if _name != "max_pool3d": _f = _autocast.apply(_f, _name)              # which autocast leaves alone when it gives indices, too
    globals()[_name] = _remembered(_f)
