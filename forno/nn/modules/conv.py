"""Convolutions and transposed convolutions in one, two and three dimensions, and their lazy forms."""
from __future__ import annotations

from ...framework import api as torch
from .. import functional as F
from ..parameter import Parameter, UninitializedParameter
from .lazy import LazyModuleMixin
from .linear import _bias, _reset_like_linear
from .module import Module, held, usual
from .utils import _ntuple, _reverse_repeat_tuple, _single

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
           "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d"]


class _ConvNd(Module):
    """Sizes are tuples; weight (out, in/groups, *kernel), or (in, out/groups, *kernel) when transposed."""
    __constants__ = ["stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels", "out_channels", "kernel_size"]

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups, bias, padding_mode,
                 device=None, dtype=None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode must be one of {{'zeros', 'reflect', 'replicate', 'circular'}}, but got padding_mode='{padding_mode}'")
        self.in_channels, self.out_channels, self.kernel_size, self.stride = in_channels, out_channels, kernel_size, stride
        self.padding, self.dilation, self.transposed, self.output_padding = padding, dilation, transposed, output_padding
        self.groups, self.padding_mode = groups, padding_mode
        self._reversed_padding_repeated_twice = self._pad_argument()
        channels = (in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(torch.empty((*channels, *kernel_size), device=device, dtype=dtype))
        _bias(self, bias, out_channels, device, dtype)
        self.reset_parameters()

    def _pad_argument(self):
        """The padding as F.pad takes it, last dimension first; 'same' puts the odd element after."""
        if not isinstance(self.padding, str):
            return _reverse_repeat_tuple(self.padding, 2)
        pads = []
        for d, k in zip(reversed(self.dilation), reversed(self.kernel_size)):
            total = d * (k - 1) if self.padding == "same" else 0
            pads += [total // 2, total - total // 2]
        return pads

    def reset_parameters(self): _reset_like_linear(self.weight, self.bias)

    def _conv_forward(self, input, weight, bias):
        if self.padding_mode == "zeros":
            return self._conv(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return self._conv(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def forward(self, input): return self._conv_forward(input, held(self, "_parameters", "weight"), held(self, "_parameters", "bias"))

    def extra_repr(self):
        s = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            s += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            s += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            s += f", output_padding={self.output_padding}"
        if self.groups != 1:
            s += f", groups={self.groups}"
        if self.bias is None:
            s += ", bias=False"
        return s if self.padding_mode == "zeros" else s + f", padding_mode={self.padding_mode}"

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


class _Conv(_ConvNd):
    """A convolution whose sizes may come as one number for all `_n` dimensions."""
    _n = 0

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
                 device=None, dtype=None):
        each = _ntuple(self._n)
        super().__init__(in_channels, out_channels, each(kernel_size), each(stride), padding if isinstance(padding, str) else each(padding),
                         each(dilation), False, each(0), groups, bias, padding_mode, device=device, dtype=dtype)


@usual
class Conv1d(_Conv):
    """(N, C, L) or (C, L) -> (N, out, L')."""
    _conv, _n = staticmethod(F.conv1d), 1


@usual
class Conv2d(_Conv):
    """(N, C, H, W) or (C, H, W) -> (N, out, H', W')."""
    _conv, _n = staticmethod(F.conv2d), 2


@usual
class Conv3d(_Conv):
    """(N, C, D, H, W) or (C, D, H, W) -> (N, out, D', H', W')."""
    _conv, _n = staticmethod(F.conv3d), 3


class _ConvTransposeNd(_ConvNd):
    """The gradient of a convolution with respect to its input, as a layer."""
    _n = 0                                                  # spatial dimensions

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups, bias, padding_mode,
                 device=None, dtype=None):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups, bias, padding_mode,
                         device=device, dtype=dtype)

    def _output_padding(self, input, output_size, stride, padding, kernel_size, num_spatial_dims, dilation=None):
        """The padding that reaches output_size, since a stride > 1 maps several input sizes to one."""
        if output_size is None:
            return _single(self.output_padding)
        n, lead = num_spatial_dims, input.dim() - num_spatial_dims
        sizes = list(output_size[lead:] if len(output_size) == lead + n else output_size)
        if len(sizes) != n:
            raise ValueError(f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {lead + n} elements (got {len(sizes)})")
        spans = [d * (k - 1) + 1 for d, k in zip(dilation or (1,) * n, kernel_size)]
        least = [(size - 1) * s - 2 * p + span for size, s, p, span in zip(input.shape[lead:], stride, padding, spans)]
        most = [m + s - 1 for m, s in zip(least, stride)]
        if any(not low <= size <= high for low, size, high in zip(least, sizes, most)):
            raise ValueError(f"requested an output size of {output_size}, but valid sizes range from {least} to {most} "
                             f"(for an input of {input.size()[2:]})")
        return [size - low for size, low in zip(sizes, least)]

    def forward(self, input, output_size=None):
        extra = self._output_padding(input, output_size, self.stride, self.padding, self.kernel_size, self._n, self.dilation)
        return self._conv(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class _ConvTranspose(_ConvTransposeNd):
    """A transposed convolution whose sizes may come as one number for all `_n` dimensions."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
                 padding_mode="zeros", device=None, dtype=None):
        each = _ntuple(self._n)
        super().__init__(in_channels, out_channels, each(kernel_size), each(stride), each(padding), each(dilation), True, each(output_padding),
                         groups, bias, padding_mode, device=device, dtype=dtype)


class ConvTranspose1d(_ConvTranspose):
    """(N, C, L) or (C, L) -> (N, out, L')."""
    _conv, _n = staticmethod(F.conv_transpose1d), 1


class ConvTranspose2d(_ConvTranspose):
    """(N, C, H, W) or (C, H, W) -> (N, out, H', W')."""
    _conv, _n = staticmethod(F.conv_transpose2d), 2


class ConvTranspose3d(_ConvTranspose):
    """(N, C, D, H, W) or (C, D, H, W) -> (N, out, D', H', W')."""
    _conv, _n = staticmethod(F.conv_transpose3d), 3


class _LazyConvNd(LazyModuleMixin):
    """Takes in_channels from the first input."""

    def _uninitialized(self, out_channels, bias, device, dtype):
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self):
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input, *args, **kwargs):
        if not self.has_uninitialized_params():
            return
        n = len(self.kernel_size)
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of size: "
                               f"{input.shape}")
        self.in_channels = input.shape[-n - 1]
        if self.in_channels % self.groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        outer, inner = (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        self.weight.materialize((outer, inner // self.groups, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class _LazyConv(_LazyConvNd):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros", device=None,
                 dtype=None):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device=device, dtype=dtype)
        self._uninitialized(out_channels, bias, device, dtype)


class _LazyConvTranspose(_LazyConvNd):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1, padding_mode="zeros",
                 device=None, dtype=None):
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device=device, dtype=dtype)
        self._uninitialized(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d): cls_to_become = Conv1d
class LazyConv2d(_LazyConv, Conv2d): cls_to_become = Conv2d
class LazyConv3d(_LazyConv, Conv3d): cls_to_become = Conv3d
class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d): cls_to_become = ConvTranspose1d
class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d): cls_to_become = ConvTranspose2d
class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d): cls_to_become = ConvTranspose3d
