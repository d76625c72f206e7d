"""torchvision.transforms, as far as arrays and tensors need them: from images to tensors, and normalization."""
from __future__ import annotations

import numpy as np

from ..framework import api as torch

__all__ = ["Compose", "Lambda", "Normalize", "ToTensor"]


class Compose:
    """One transform after the other."""

    def __init__(self, transforms): self.transforms = transforms

    def __call__(self, img):
        for t in self.transforms: img = t(img)
        return img

    def __repr__(self): return "\n".join([f"{type(self).__name__}(", *(f"    {t}" for t in self.transforms), ")"])


class ToTensor:
    """An image (H, W) or (H, W, C) as a tensor (C, H, W); bytes 0…255 become floats 0…1. Takes what NumPy reads: arrays, PIL images."""

    def __call__(self, pic):
        if isinstance(pic, torch.Tensor): raise TypeError("pic should be PIL Image or ndarray. Got <class 'torch.Tensor'>")
        image = np.asarray(pic)
        if image.ndim not in (2, 3): raise ValueError(f"pic should be 2/3 dimensional. Got {image.ndim} dimensions.")
        image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)                  # (C, H, W)
        if image.dtype != np.uint8: return torch.from_numpy(np.array(image, order="C"))
        scaled = image.astype(np.float32, order="C")
        scaled /= 255
        return torch.from_numpy(scaled)

    def __repr__(self): return f"{type(self).__name__}()"


class Normalize:
    """(tensor - mean) / std for each channel of a float tensor (…, C, H, W)."""

    def __init__(self, mean, std, inplace=False): self.mean, self.std, self.inplace = mean, std, inplace

    def __call__(self, tensor):
        if not isinstance(tensor, torch.Tensor): raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
        if not tensor.is_floating_point(): raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
        if tensor.ndim < 3: raise ValueError(f"Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = {tensor.size()}")
        mean, std = (torch.as_tensor(x, dtype=tensor.dtype, device=tensor.device).reshape(-1, 1, 1) for x in (self.mean, self.std))
        if bool((std == 0).any()): raise ValueError(f"std evaluated to zero after conversion to {tensor.dtype}, leading to division by zero.")
        if not self.inplace: tensor = tensor.clone()
        return tensor.sub_(mean).div_(std)

    def __repr__(self): return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class Lambda:
    """A function as a transform."""

    def __init__(self, lambd):
        if not callable(lambd): raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__!r}")
        self.lambd = lambd

    def __call__(self, img): return self.lambd(img)
    def __repr__(self): return f"{type(self).__name__}()"
