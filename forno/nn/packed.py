"""Sequences of different lengths: padded to one tensor, or packed into rows that are sorted by time step."""
from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable

from ..framework import api as torch

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pad_packed_sequence", "pad_sequence", "unpad_sequence", "pack_sequence",
           "unpack_sequence"]


class PackedSequence(namedtuple("PackedSequence", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"])):
    """data (sum of lengths, *): the rows of step 0, then of step 1, …; batch_sizes (T,): how many sequences are that long; and the sorting."""

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually. They should be "
                             "instantiated by functions like pack_sequence and pack_padded_sequences in nn.utils.rnn.")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        indices = (None if t is None else t.to(data.device) for t in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, *indices)

    def cuda(self, *args, **kwargs): return self.to(*args, **kwargs) if args or "device" in kwargs else self.to(device="cuda", **kwargs)
    def cpu(self): return self.to(device="cpu")
    def double(self): return self.to(dtype=torch.float64)
    def float(self): return self.to(dtype=torch.float32)
    def half(self): return self.to(dtype=torch.float16)
    def long(self): return self.to(dtype=torch.int64)
    def int(self): return self.to(dtype=torch.int32)
    def short(self): return self.to(dtype=torch.int16)
    def char(self): return self.to(dtype=torch.int8)
    def byte(self): return self.to(dtype=torch.uint8)
    def pin_memory(self): return type(self)(self.data.pin_memory(), *self[1:])
    def is_pinned(self): return self.data.is_pinned()

    @property
    def is_cuda(self): return self.data.is_cuda


def invert_permutation(permutation):
    if permutation is None:
        return None
    return torch.empty_like(permutation).scatter_(0, permutation, torch.arange(permutation.numel(), device=permutation.device))


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """(T, B, *) and lengths (B,) -> PackedSequence; unless enforce_sorted, the batch is sorted by length first."""
    lengths = torch.as_tensor(lengths, dtype=torch.int64, device="cpu")
    if lengths.dim() != 1:
        raise RuntimeError(f"`lengths` array has to be one-dimensional, but got shape {list(lengths.shape)}")
    sorted_indices = None
    if not enforce_sorted:
        lengths, sorted_indices = torch.sort(lengths, descending=True)
        sorted_indices = sorted_indices.to(input.device)
        input = input.index_select(0 if batch_first else 1, sorted_indices)
    x = input.transpose(0, 1) if batch_first else input                      # (T, B, *)
    known = lengths.tolist()
    if x.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(known) != x.size(1):
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(known)} (batch_size={x.size(1)})")
    if any(a < b for a, b in zip(known, known[1:])):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass `enforce_sorted=False` to "
                           "pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do not need ONNX exportability.")
    if known[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if known[0] > x.size(0):
        raise RuntimeError(f"Expected `lengths` to be at most the sequence length {x.size(0)}, but got {known[0]}")
    sizes = [sum(n > t for n in known) for t in range(known[0])]
    rows = torch.cat([x[t, :n] for t, n in enumerate(sizes)])
    return PackedSequence(rows, torch.tensor(sizes, dtype=torch.int64), sorted_indices, None)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """The inverse: (padded, lengths) in the batch's original order."""
    sizes = sequence.batch_sizes.tolist()
    steps, batch = len(sizes), sizes[0]
    if total_length is not None and total_length < steps:
        raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but got "
                         f"total_length={total_length} and max sequence length being {steps}")
    data = sequence.data
    out = torch.full((steps if total_length is None else total_length, batch, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    for t, part in enumerate(data.split(sizes)):
        out[t, :sizes[t]] = part
    lengths = torch.tensor([sum(n > i for n in sizes) for i in range(batch)], dtype=torch.int64)
    if sequence.unsorted_indices is not None:
        out, lengths = out.index_select(1, sequence.unsorted_indices), lengths[sequence.unsorted_indices.cpu()]
    return out.transpose(0, 1) if batch_first else out, lengths


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """A list of (L_i, *) -> (longest, B, *), or (B, longest, *) if batch_first."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    sequences = tuple(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    longest, first = max(s.size(0) for s in sequences), sequences[0]
    out = torch.full((len(sequences), longest, *first.shape[1:]), padding_value, dtype=first.dtype, device=first.device)
    for i, s in enumerate(sequences):
        n = s.size(0)
        out[i, longest - n if padding_side == "left" else 0:longest if padding_side == "left" else n] = s
    return out if batch_first else out.transpose(0, 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:int(n)] for row, n in zip(rows, lengths)]


def pack_sequence(sequences, enforce_sorted=True):
    lengths = torch.as_tensor([s.size(0) for s in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
