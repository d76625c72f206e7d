"""Padding layers: constant, zero, reflection, replication and circular borders in one, two and three dimensions."""
from __future__ import annotations

from .. import functional as F
from .batchnorm import _expect
from .module import Module
from .utils import _ntuple

__all__ = ["CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d",
           "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"]


class _PadNd(Module):
    """One number for all sides, or (left, right, top, bottom, front, back)."""
    __constants__ = ["padding"]
    _n, _mode = 0, ""

    def __init__(self, padding):
        super().__init__()
        self.padding = _ntuple(2 * self._n)(padding)

    def forward(self, input): return F.pad(input, self.padding, self._mode)
    def extra_repr(self): return f"{self.padding}"


class _ReflectionPadNd(_PadNd): _mode = "reflect"
class _ReplicationPadNd(_PadNd): _mode = "replicate"


class _CircularPadNd(_PadNd):
    _mode = "circular"

    def _check_input_dim(self, input): _expect(input, self._n + 1, self._n + 2)

    def forward(self, input):
        self._check_input_dim(input)
        return super().forward(input)


class _ConstantPadNd(_PadNd):
    __constants__ = ["padding", "value"]

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input): return F.pad(input, self.padding, "constant", self.value)
    def extra_repr(self): return f"padding={self.padding}, value={self.value}"


class _ZeroPad:
    def __init__(self, padding): super().__init__(padding, 0.0)
    def extra_repr(self): return f"{self.padding}"


class CircularPad1d(_CircularPadNd): _n = 1
class CircularPad2d(_CircularPadNd): _n = 2
class CircularPad3d(_CircularPadNd): _n = 3
class ConstantPad1d(_ConstantPadNd): _n = 1
class ConstantPad2d(_ConstantPadNd): _n = 2
class ConstantPad3d(_ConstantPadNd): _n = 3
class ReflectionPad1d(_ReflectionPadNd): _n = 1
class ReflectionPad2d(_ReflectionPadNd): _n = 2
class ReflectionPad3d(_ReflectionPadNd): _n = 3
class ReplicationPad1d(_ReplicationPadNd): _n = 1
class ReplicationPad2d(_ReplicationPadNd): _n = 2
class ReplicationPad3d(_ReplicationPadNd): _n = 3
class ZeroPad1d(_ZeroPad, ConstantPad1d): pass
class ZeroPad2d(_ZeroPad, ConstantPad2d): pass
class ZeroPad3d(_ZeroPad, ConstantPad3d): pass
