"""torch.types: names for annotations."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Union

from .framework.api import Size, Tensor, device, dtype, layout, memory_format

__all__ = ["Device", "FileLike", "Number", "Size", "Storage", "Tensor", "device", "dtype", "layout", "memory_format"]
Number = Union[int, float, bool]
Device = Union[device, str, int, None]
FileLike = Union[str, os.PathLike, object]
Storage = object
_size = Union[Size, list, tuple]
_int, _float, _bool, _dtype, _device, _layout = int, float, bool, dtype, device, layout
_TensorOrTensors = Union[Tensor, Sequence[Tensor]]
