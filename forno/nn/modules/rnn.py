"""Recurrent layers over sequences (RNN, LSTM, GRU) and their single steps (RNNCell, LSTMCell, GRUCell)."""
from __future__ import annotations

import math
import numbers
import warnings

from ...framework import api as torch
from .. import init
from ..functional.linear import linear
from ..functional.recurrent import CELLS, lstm, recurrent
from ..parameter import Parameter
from ..packed import PackedSequence
from .module import Module

__all__ = ["RNNBase", "RNN", "LSTM", "GRU", "RNNCellBase", "RNNCell", "LSTMCell", "GRUCell"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _reset_uniform(module):
    bound = 1.0 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


def _permuted(states, permutation):
    return states if permutation is None else tuple(s.index_select(1, permutation) for s in states)


class RNNBase(Module):
    """What the three share: weights weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0[, weight_hr_l0][, …_reverse], checks, and the call."""
    __constants__ = ["mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"]

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0,
                 device=None, dtype=None):
        super().__init__()
        self._check_arguments(mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._all_weights = []                                               # names, one list per layer and direction
        gates, out, directions = _GATES[mode] * hidden_size, proj_size or hidden_size, 2 if bidirectional else 1
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[:directions]:
                shapes = {"weight_ih": (gates, input_size if layer == 0 else out * directions), "weight_hh": (gates, out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values()):
                    setattr(self, name, Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._all_weights.append(names)
        self.reset_parameters()

    @staticmethod
    def _check_arguments(mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size):
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater than 1, "
                          "but got "
                          f"dropout={dropout} and num_layers={num_layers}", stacklevel=4)
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)

    @property
    def _flat_weights_names(self): return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self): return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self): return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self):
        """cuDNN's layout of all weights in one block; nothing here needs it."""

    def reset_parameters(self): _reset_uniform(self)

    # ---- shapes ----

    def _state_sizes(self):
        """Width of each state tensor: h, and c for LSTM."""
        return (self.proj_size or self.hidden_size, self.hidden_size) if self.mode == "LSTM" else (self.hidden_size,)

    def check_input(self, input, batch_sizes):
        dtype = getattr(self, self._all_weights[0][0]).dtype
        if input.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). Convert input: input.to({dtype}), "
                             f"or convert model: model.to({input.dtype})")
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}")

    def _check_states(self, states, batch):
        rows = self.num_layers * (2 if self.bidirectional else 1)
        for i, (s, width) in enumerate(zip(states, self._state_sizes())):
            if tuple(s.shape) != (rows, batch, width):
                raise RuntimeError(f"Expected hidden{f'[{i}]' if self.mode == 'LSTM' else ''} size {(rows, batch, width)}, got {list(s.shape)}")

    def _states(self, hx, batched):
        """The given state as a tuple of (rows, B, H)."""
        states, expected = tuple(hx) if self.mode == "LSTM" else (hx,), 3 if batched else 2
        if any(s.dim() != expected for s in states):
            got = f"({states[0].dim()}-D, {states[1].dim()}-D) tensors" if self.mode == "LSTM" else f"{states[0].dim()}-D tensor"
            what = "hx and cx" if self.mode == "LSTM" else "hx"
            raise RuntimeError(f"For {'batched 3-D' if batched else 'unbatched 2-D'} input, {what} should also be {expected}-D but got {got}")
        return states if batched else tuple(s.unsqueeze(1) for s in states)

    def _zero_states(self, input, batch):
        rows = self.num_layers * (2 if self.bidirectional else 1)
        return tuple(torch.zeros(rows, batch, width, dtype=input.dtype, device=input.device) for width in self._state_sizes())

    # ---- the call ----

    def _run(self, x, states, sizes=None):
        layers = lstm if self.mode == "LSTM" and not self.proj_size and sizes is None else recurrent
        return layers(self.mode, x, states, self.all_weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, sizes)

    def _packed(self, packed, hx):
        input, batch_sizes, sorted_indices, unsorted_indices = packed
        sizes = batch_sizes.tolist()
        states = self._zero_states(input, sizes[0]) if hx is None else _permuted(tuple(hx) if self.mode == "LSTM" else (hx,), sorted_indices)
        self.check_input(input, batch_sizes)
        self._check_states(states, sizes[0])
        output, states = self._run(input, states, sizes)
        return PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices), _permuted(states, unsorted_indices)

    def _padded(self, input, hx):
        if input.dim() not in (2, 3):
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {input.dim()}D "
                             f"{'tensor ' if self.mode[:3] == 'RNN' else ''}instead")
        batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(batch_dim)
        batch = x.size(batch_dim)
        states = self._zero_states(x, batch) if hx is None else self._states(hx, batched)
        self.check_input(x, None)
        self._check_states(states, batch)
        output, states = self._run(x.transpose(0, 1) if self.batch_first else x, states)
        output = output.transpose(0, 1) if self.batch_first else output
        return (output, states) if batched else (output.squeeze(batch_dim), tuple(s.squeeze(1) for s in states))

    def forward(self, input, hx=None):
        """input (T, B, F), (B, T, F) if batch_first, (T, F), or packed -> (output, state)."""
        output, states = self._packed(input, hx) if isinstance(input, PackedSequence) else self._padded(input, hx)
        return output, states if self.mode == "LSTM" else states[0]

    def extra_repr(self):
        s = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0), ("bidirectional", False)):
            value = getattr(self, name)
            s += "" if value == usual else f", {name}={value}"
        return s


def _no_projection(kwargs):
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """h' = tanh or relu of (W_ih x + b_ih + W_hh h + b_hh); arguments as RNNBase, with `nonlinearity` after num_layers (Elman, 1990)."""

    def __init__(self, *args, **kwargs):
        _no_projection(kwargs)
        nonlinearity = kwargs.pop("nonlinearity", "tanh") if len(args) <= 3 else args[3]
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), *args[:3], *args[4:], **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """State (h, c); proj_size > 0 projects h to that width."""
    def __init__(self, *args, **kwargs): super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    def __init__(self, *args, **kwargs):
        _no_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(Module):
    """One step: weights of a single layer, input (B, F) or (F,)."""
    __constants__ = ["input_size", "hidden_size", "bias"]

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(torch.empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(torch.empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self): _reset_uniform(self)

    def _step(self, mode, input, states, count):
        name = self._get_name()
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for i, s in enumerate(states or ()):
            if s.dim() not in (1, 2):
                what = f"hx[{i}]" if count == 2 else "hidden"
                raise ValueError(f"{name}: Expected {what} to be 1D or 2D, got {s.dim()}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if states is None:
            states = (torch.zeros(x.size(0), self.hidden_size, dtype=x.dtype, device=x.device),) * count
        elif not batched:
            states = tuple(s.unsqueeze(0) for s in states)
        self._check_sizes(x, states)
        states = CELLS[mode](linear(x, self.weight_ih, self.bias_ih), states, self.weight_hh, self.bias_hh)
        return states if batched else tuple(s.squeeze(0) for s in states)

    def _check_sizes(self, x, states):
        if x.size(1) != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.size(1)} expected {self.input_size}")
        for s in states:
            if s.size(0) != x.size(0):
                raise RuntimeError(f"Input batch size {x.size(0)} doesn't match hidden0 batch size {s.size(0)}")
            if s.size(1) != self.hidden_size:
                raise RuntimeError(f"hidden0 has inconsistent hidden_size: got {s.size(1)}, expected {self.hidden_size}")

    def extra_repr(self):
        s = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            s += f", bias={self.bias}"
        return s + f", nonlinearity={self.nonlinearity}" if self.__dict__.get("nonlinearity", "tanh") != "tanh" else s


class RNNCell(RNNCellBase):
    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step("RNN_" + self.nonlinearity.upper(), input, None if hx is None else (hx,), 1)[0]


class LSTMCell(RNNCellBase):
    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device=device, dtype=dtype)

    def forward(self, input, hx=None): return self._step("LSTM", input, hx, 2)


class GRUCell(RNNCellBase):
    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device=device, dtype=dtype)

    def forward(self, input, hx=None): return self._step("GRU", input, None if hx is None else (hx,), 1)[0]
