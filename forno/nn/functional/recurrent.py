"""Recurrent cells and the loops over time that RNN, LSTM and GRU run. Input products of a whole sequence are one matrix product; the steps are one row
(framework/recurrence.py), or lines of their own where a sequence is packed, states are projected, or types are narrow.

A state is a tuple: (h,) or (h, c). A layer's weights are (w_ih, w_hh[, b_ih, b_hh][, w_hr]).
"""
from __future__ import annotations

from ...framework import api as torch, autocast
from ...framework.phrase import remembered
from ...framework.recurrence import fits, recurrence
from .dropout import dropout
from .linear import linear


def rnn_tanh_cell(gates, state, w_hh, b_hh, w_hr=None): return ((gates + linear(state[0], w_hh, b_hh)).tanh(),)
def rnn_relu_cell(gates, state, w_hh, b_hh, w_hr=None): return (torch.relu(gates + linear(state[0], w_hh, b_hh)),)


def lstm_cell(gates, state, w_hh, b_hh, w_hr=None):
    """Gates input, forget, cell, output (Hochreiter and Schmidhuber, 1997); w_hr projects h (Sak et al., 2014)."""
    h, c = state
    i, f, g, o = (gates + linear(h, w_hh, b_hh)).chunk(4, 1)                 # each (B, H)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if w_hr is None else linear(h, w_hr)), c


def gru_cell(gates, state, w_hh, b_hh, w_hr=None):
    """Gates reset, update, new (Cho et al., 2014); the reset gate acts on the product with h."""
    h = state[0]
    (xr, xz, xn), (hr, hz, hn) = gates.chunk(3, 1), linear(h, w_hh, b_hh).chunk(3, 1)
    n = (xn + (xr + hr).sigmoid() * hn).tanh()
    return (n + (xz + hz).sigmoid() * (h - n),)


CELLS = {"RNN_TANH": rnn_tanh_cell, "RNN_RELU": rnn_relu_cell, "LSTM": lstm_cell, "GRU": gru_cell}
ROWS = {"RNN_TANH": "tanh", "RNN_RELU": "relu", "LSTM": "lstm", "GRU": "gru"}


def _split(weights, bias):
    """(w_ih, b_ih) and the arguments (w_hh, b_hh, w_hr) of a cell."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if bias else (None, None)
    rest = rest[2:] if bias else rest
    return w_ih, b_ih, (w_hh, b_hh, rest[0] if rest else None)


def _run_padded(mode, x, state, weights, bias, reverse):
    """One direction of one layer over (T, B, F) -> ((T, B, H), state)."""
    w_ih, b_ih, recurrent = _split(weights, bias)
    w_hh, b_hh, w_hr = recurrent
    if w_hr is None and fits(x, state, w_hh): return _run_whole(mode, x, state, w_ih, b_ih, w_hh, b_hh, reverse)
    steps = linear(x, w_ih, b_ih).unbind(0)                                  # T times (B, gates)
    outputs = []
    for gates in reversed(steps) if reverse else steps:
        state = CELLS[mode](gates, state, *recurrent)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _run_whole(mode, x, state, w_ih, b_ih, w_hh, b_hh, reverse):
    """The same as one row. The reset gate acts on the GRU's hidden bias; all other biases go with the input."""
    gates = linear(x, w_ih, b_ih)
    if mode == "GRU": more = b_hh if b_hh is not None else w_hh.new_zeros(w_hh.size(0))
    else:
        more = state[1] if mode == "LSTM" else None
        gates = gates if b_hh is None else gates + b_hh
    output, h, c = recurrence(ROWS[mode], reverse, gates, w_hh, state[0], more)
    return output, (h,) if c is None else (h, c)


def _run_packed(mode, x, state, weights, bias, reverse, sizes):
    """The same over packed rows (sum of sizes, F); sequences end (or, in reverse, begin) where sizes change."""
    w_ih, b_ih, recurrent = _split(weights, bias)
    steps = linear(x, w_ih, b_ih).split(sizes)                               # T times (batch at t, gates)
    initial, outputs, ended = state, [], []
    state = tuple(s[:sizes[-1 if reverse else 0]] for s in state)
    for gates in reversed(steps) if reverse else steps:
        n, held = gates.size(0), state[0].size(0)
        if n < held:
            ended.append(tuple(s[n:] for s in state))
            state = tuple(s[:n] for s in state)
        elif n > held:
            state = tuple(torch.cat((s, first[held:n])) for s, first in zip(state, initial))
        state = CELLS[mode](gates, state, *recurrent)
        outputs.append(state[0])
    state = tuple(torch.cat(parts) for parts in zip(state, *reversed(ended)))
    return torch.cat(outputs[::-1] if reverse else outputs), state


@remembered
def recurrent(mode, x, states, weights, bias, num_layers, drop, training, bidirectional, sizes=None):
    """All layers: x (T, B, F) or packed rows, states a tuple of (layers · directions, B, H), weights one list per layer and direction."""
    directions = 2 if bidirectional else 1
    finals = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            start = tuple(s[k] for s in states)
            run = (mode, x, start, weights[k], bias, direction == 1)
            output, final = _run_padded(*run) if sizes is None else _run_packed(*run, sizes)
            outputs.append(output)
            finals.append(final)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
        if drop and training and layer + 1 < num_layers:
            x = dropout(x, drop)
    return x, tuple(torch.stack(parts) for parts in zip(*finals))


lstm = autocast.apply(recurrent, "lstm")
"""The same for a padded LSTM without projections, which PyTorch runs as one function."""
