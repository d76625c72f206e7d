"""Convolutions whose weights lie channels last, so that the results do, too."""
from __future__ import annotations

from ..modules.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d

__all__ = ["convert_conv2d_weight_memory_format", "convert_conv3d_weight_memory_format"]


def _converted(module, kinds, memory_format):
    for m in module.modules():
        if isinstance(m, kinds): m.weight.data = m.weight.detach().clone(memory_format=memory_format)
    return module


def convert_conv2d_weight_memory_format(module, memory_format): return _converted(module, (Conv2d, ConvTranspose2d), memory_format)
def convert_conv3d_weight_memory_format(module, memory_format): return _converted(module, (Conv3d, ConvTranspose3d), memory_format)
