"""Safetensors files both ways: a JSON header (names, dtypes, shapes, offsets) and raw little-endian bytes, no code.

Reading maps the file: tensors lie in its pages and are read when touched; writing to them does not change the file. Everything in the header is
checked against the real size before any tensor is made. Format: https://github.com/huggingface/safetensors#format
"""
from __future__ import annotations

import json
import math
import mmap
import os
import struct
import sys

from ..framework import api as torch, storage as memory
from ..framework.serialize import replaced

__all__ = ["SafetensorError", "load", "load_file", "safe_open", "save", "save_file"]

HEADER_LIMIT = 100_000_000
_NAMES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16", "I32": "int32",
          "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64", "C64": "complex64"}
_DTYPES = {code: getattr(torch, name) for code, name in _NAMES.items()}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class SafetensorError(RuntimeError):
    """A file that is no safetensors file, or a damaged one."""


def _once(pairs):
    out = dict(pairs)
    if len(out) != len(pairs): raise SafetensorError("Error while deserializing header: a name occurs twice")
    return out


def _whole(x) -> bool: return type(x) is int and 0 <= x < 1 << 62


def _header(data: memoryview) -> tuple[dict, dict, int]:
    """(name -> (dtype, shape, begin, end), metadata, where the data starts), all checked."""
    if len(data) < 8: raise SafetensorError(f"Error while deserializing header: HeaderTooSmall: the file has {len(data)} bytes")
    size, = struct.unpack_from("<Q", data)
    if size > HEADER_LIMIT:
        raise SafetensorError(f"Error while deserializing header: HeaderTooLarge: {size} bytes, at most {HEADER_LIMIT} are allowed")
    start = 8 + size
    if start > len(data): raise SafetensorError(f"Error while deserializing header: InvalidHeaderLength: {size} bytes in a file of {len(data)}")
    try: header = json.loads(bytes(data[8:start]), object_pairs_hook=_once)
    except (ValueError, RecursionError) as e: raise SafetensorError(f"Error while deserializing header: InvalidHeaderDeserialization: {e}") from None
    if not isinstance(header, dict): raise SafetensorError("Error while deserializing header: it is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise SafetensorError("Error while deserializing header: __metadata__ may hold text only")
    return {name: _checked(name, entry) for name, entry in header.items()}, metadata, start


def _checked(name: str, entry) -> tuple:
    if not (isinstance(entry, dict) and isinstance(entry.get("shape"), list) and isinstance(entry.get("data_offsets"), list)
            and len(entry["data_offsets"]) == 2 and all(map(_whole, entry["shape"] + entry["data_offsets"]))):
        raise SafetensorError(f"Error while deserializing header: tensor {name!r} lacks a valid dtype, shape or data_offsets")
    dtype = _DTYPES.get(entry.get("dtype")) if isinstance(entry.get("dtype"), str) else None
    if dtype is None: raise SafetensorError(f"Error while deserializing header: tensor {name!r} has an unknown dtype; known are {', '.join(_NAMES)}")
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise SafetensorError(f"Error while deserializing header: TensorInvalidInfo: tensor {name!r} with shape {list(shape)} and {dtype} needs "
                              f"{math.prod(shape) * dtype.itemsize} bytes, its offsets say {end - begin}")
    return dtype, shape, begin, end


def _check_layout(tensors: dict, room: int):
    """The parts lie behind each other without gaps and fill the file: nothing overlaps, nothing hides."""
    at = 0
    for name, (_, _, begin, end) in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if begin != at: raise SafetensorError(f"Error while deserializing header: InvalidOffset: tensor {name!r} begins at {begin} instead of {at}")
        at = end
    if at != room: raise SafetensorError(f"Error while deserializing header: MetadataIncompleteBuffer: tensors fill {at} of {room} bytes")


class _File:
    """A checked file in memory; gives its tensors one by one."""

    def __init__(self, data: memoryview, device="cpu", own=False):
        self.tensors, self.metadata, start = _header(data)
        _check_layout(self.tensors, len(data) - start)
        self.data, self.device, self.own = data[start:], device, own

    def tensor(self, name: str):
        try: dtype, shape, begin, end = self.tensors[name]
        except KeyError: raise SafetensorError(f"File does not contain tensor {name}") from None
        part = self.data[begin:end]
        if (len(self.data) and not self.own) or begin % dtype.itemsize or sys.byteorder == "big":     # not ours, or not aligned
            fresh = memory.fresh(len(part))
            fresh[:] = part
            part = fresh
        t = memory.adopt(part, dtype, shape)
        return t if str(self.device) == "cpu" else t.to(self.device)


def _open(path) -> memoryview:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0: raise SafetensorError("Error while deserializing header: HeaderTooSmall: the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def load_file(filename, device="cpu") -> dict:
    """name -> tensor, in the file's pages."""
    file = _File(_open(filename), device, own=True)
    return {name: file.tensor(name) for name in file.tensors}


def load(data: bytes) -> dict:
    """name -> tensor from the bytes of a file; copies."""
    file = _File(memoryview(data))
    return {name: file.tensor(name) for name in file.tensors}


def _parts(tensors: dict, metadata) -> tuple[bytes, list]:
    """(everything before the data, the data of each tensor): large elements first, so that all are aligned."""
    if not isinstance(tensors, dict): raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    memories, owners = memory.Memories(), {}
    for name, t in tensors.items():
        if not isinstance(name, str) or not isinstance(t, torch.Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(t)}")
        if t.dtype not in _CODES: raise SafetensorError(f"tensor {name!r} has dtype {t.dtype}, which the format can't hold")
        if not t.is_contiguous():
            raise ValueError(f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. It either means you are trying to save "
                             "tensors which are reference of each other, or a slice: call .contiguous() before saving")
        if t.numel(): owners.setdefault(memories.of(t)[0], []).append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    if shared:
        raise RuntimeError("Some tensors share memory, this will lead to duplicate memory on disk and potential differences when loading them "
                           f"again: {shared}. Save one of each, or clone() them")
    if metadata is not None and not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise ValueError("metadata must be a dict of text to text")
    header: dict = {} if metadata is None else {"__metadata__": dict(metadata)}
    at, parts = 0, []
    for name, t in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = memory.raw_bytes(t)
        header[name] = {"dtype": _CODES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, parts


def save(tensors: dict, metadata: dict | None = None) -> bytes:
    head, parts = _parts(tensors, metadata)
    return b"".join([head, *parts])


def save_file(tensors: dict, filename, metadata: dict | None = None):
    """Writes the file whole or not at all."""
    head, parts = _parts(tensors, metadata)
    with replaced(os.fspath(filename)) as file:
        file.write(head)
        for part in parts: file.write(part)


class safe_open:
    """`with safe_open(path) as f: f.get_tensor(name)`: single tensors without touching the others."""

    def __init__(self, filename, framework="pt", device="cpu"):
        if framework not in ("pt", "torch", "pytorch", "forno"): raise SafetensorError(f"framework {framework!r} is not supported; use 'pt'")
        self._file = _File(_open(filename), device, own=True)

    def __enter__(self): return self
    def __exit__(self, *exc): self._file = None
    def keys(self) -> list: return sorted(self._file.tensors)
    def offset_keys(self) -> list: return sorted(self._file.tensors, key=lambda name: self._file.tensors[name][2])
    def metadata(self) -> dict | None: return self._file.metadata or None
    def get_tensor(self, name): return self._file.tensor(name)
    def get_slice(self, name): return self._file.tensor(name)
