"""Instance normalization in one, two and three dimensions, with or without a batch dimension, and its lazy forms."""
from __future__ import annotations

import warnings

from .. import functional as F
from .batchnorm import _expect, _LazyNormBase, _NormBase

__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d"]


class _InstanceNorm(_NormBase):
    _unbatched = 0                           # dimensions of an input without batch: (C, *)

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None, *, bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype, bias=bias)

    def _check_input_dim(self, input): _expect(input, self._unbatched, self._unbatched + 1)

    def _apply_instance_norm(self, input):
        return F.instance_norm(input, self.running_mean, self.running_var, self.weight, self.bias, self.training or not self.track_running_stats,
                               0.0 if self.momentum is None else self.momentum, self.eps)

    def forward(self, input):
        self._check_input_dim(input)
        dim = input.dim() - self._unbatched
        if input.size(dim) != self.num_features:
            if self.affine:
                raise ValueError(f"expected input's size at dim={dim} to match num_features ({self.num_features}), but got: {input.size(dim)}.")
            warnings.warn(f"input's size at dim={dim} does not match num_features. You can silence this warning by not passing in num_features, "
                          f"which is "
                          "not used because affine=False", stacklevel=2)
        return self._apply_instance_norm(input) if dim else self._apply_instance_norm(input.unsqueeze(0)).squeeze(0)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        """Files without a version come from a time when statistics were tracked by default: say so."""
        if local_metadata.get("version") is None and not self.track_running_stats:
            stale = [name for name in ("running_mean", "running_var") if prefix + name in state_dict]
            if stale:
                error_msgs.append(f"Unexpected running stats buffer(s) {' and '.join(repr(prefix + s) for s in stale)} for {type(self).__name__} "
                                  f"with "
                                  "track_running_stats=False. Remove these keys from state_dict, or set track_running_stats=True to use them.")
            for name in stale:
                state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)


class InstanceNorm1d(_InstanceNorm): _unbatched = 2
class InstanceNorm2d(_InstanceNorm): _unbatched = 3
class InstanceNorm3d(_InstanceNorm): _unbatched = 4
class LazyInstanceNorm1d(_LazyNormBase, InstanceNorm1d): cls_to_become = InstanceNorm1d
class LazyInstanceNorm2d(_LazyNormBase, InstanceNorm2d): cls_to_become = InstanceNorm2d
class LazyInstanceNorm3d(_LazyNormBase, InstanceNorm3d): cls_to_become = InstanceNorm3d
