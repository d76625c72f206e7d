"""Values in and out: Python numbers, nested lists, NumPy arrays, raw memory.

A value leaves only after its window ran. Memory that something outside can see (`buffer.exposed`) is read at once and written in place:
graph.line.enter snapshots it or makes the window run early, tensor.write lands in it.
"""
from __future__ import annotations

import ctypes
import math
from sys import getrefcount

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, contiguous, is_contiguous, whole
from ..core.state import state
from ..cpu import memory as mem
from ..graph.line import Leaf, Node, Poison, Slice, given, new, snapshot_hook
from .engine import BUFFER_BASE, flush, hand_over
from .tensor import Tensor, memory, read, share, wrap


class Foreign(mem.Buffer):
    """A NumPy array's memory. It is exposed as long as anybody but this buffer holds the array or one it is a view of."""
    __slots__ = ()

    @property
    def exposed(self) -> bool:
        a = self.owner
        if getrefcount(a) > 3 or mem.Buffer.exposed.fget(self): return True
        while (b := a.base) is not None:
            if not isinstance(b, np.ndarray) or getrefcount(b) > 3: return True
            a = b
        return False


def snapshot(n: Node) -> Node:
    """The same value, history and place in the graph, in private memory."""
    line = n.line
    out = mem.empty(math.prod(line.shape) * line.dtype.size)
    twin = node_of(out, line.dtype, line.shape)
    if out.nbytes: np.copyto(array_of(twin), array_of(n))
    m = new(Node)
    m.line, m.buf, m.past = line, out, n.past
    if line.strides is not None: m.buf = Slice(out, whole(line.shape), line.dtype.size)
    return m


snapshot_hook[0] = snapshot


def node_of(buffer, dtype, shape, strides=None) -> Node:
    """A node for memory that exists already."""
    return given(buffer, dtype, shape, strides)


def realize(t: Tensor) -> Node:
    """t's node with its value computed."""
    n = read(t)
    if n.buf is None: flush()
    if n.buf is None: n = read(t)
    if n.buf is None: hand_over(n)
    if n.buf.__class__ is Poison: raise n.buf.error
    return n


def place(n: Node) -> tuple:
    """(buffer, View) of a realized node's value."""
    if n.buf.__class__ is Slice: return n.buf.buffer, n.buf.view
    return n.buf, View(n.line.shape, n.line.strides or contiguous(n.line.shape), 0)


def array_of(n: Node) -> np.ndarray:
    """A private look at a realized value: valid while the node lives, not to be written."""
    buffer, v = place(n)
    code, size = n.line.dtype.code, n.line.dtype.size
    if 0 in v.shape: return np.empty(v.shape, code)
    flat = np.frombuffer((ctypes.c_char * buffer.nbytes).from_address(buffer.address), code, buffer.nbytes // size)
    return np.lib.stride_tricks.as_strided(flat[v.offset:], v.shape, [s * size for s in v.strides])


def own_memory(t: Tensor):
    """(buffer, View) where t itself lies, in memory that is the tensor's storage and nothing else's. Values may share buffers; storages may not."""
    a = t.alias
    if a is None:
        n = realize(t)
        settle(n)
        return place(n)
    s = a.store
    if s.node.buf is None: flush()
    if s.node.buf is None: hand_over(s.node)
    if s.node.buf.__class__ is Poison: raise s.node.buf.error
    settle(s.node, len({id(p.node) for p in s.peers or (s,) if p.node.buf is s.node.buf}))
    for p in s.peers or ():
        if p is not s: p.node = shared_value(p.node, s.node)
    a.seen = None                              # views of the old buffer are read again
    return s.node.buf, memory(t)


def shown(t: Tensor):
    """own_memory for somebody outside to see: aliases that cached a value read the memory again (they compare nodes)."""
    flush()                                    # pending readers of this memory have their values before anybody else can write it
    own = own_memory(t)
    a = t.alias
    if a is not None:
        for p in a.store.peers or (a.store,):
            if not p.node.line.grad or p.node.past.__class__ is Leaf: p.node = renewed(p.node, own[0])
        a.seen = a.cache = None
    return own


def shared_value(mine: Node, theirs: Node) -> Node:
    """A peer's content keeps its history and takes the very same buffer."""
    if mine.buf is None: flush()
    mine.buf = theirs.buf
    return mine


def renewed(n: Node, buffer) -> Node:
    """The same value and leaf as a new node: nothing read from the old one counts any more."""
    m = new(Node)
    m.line, m.buf, m.past = n.line, buffer, n.past
    return m


def settle(n: Node, holders: int = 1):
    """Make a node's buffer dense and its own; `holders`: nodes of the same storage that have it now."""
    b = n.buf
    if b.__class__ is not Slice and (b.exposed or getrefcount(b) <= BUFFER_BASE + holders): return
    flush()                                    # an open window may have this value as an input, lying as it lies now
    fresh = mem.empty(math.prod(n.line.shape) * n.line.dtype.size)
    copy = node_of(fresh, n.line.dtype, n.line.shape, n.line.strides)
    if fresh.nbytes: np.copyto(array_of(copy), array_of(n))
    if b.__class__ is mem.Block and b.size == fresh.size: b.address, fresh.address = fresh.address, b.address      # the tensor stays where it is: the others move
    n.buf = fresh


def to_numpy(t: Tensor, force=False) -> np.ndarray:
    """Tensor.numpy(): an array on the tensor's own memory."""
    if not force and read(t).line.grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    dtype = t.dtype
    if dtype is dt.bfloat16: raise TypeError("Got unsupported ScalarType BFloat16")
    buffer, v = shown(t)
    size = dtype.size
    return mem.as_array(buffer, dtype.code, v.shape, tuple(s * size for s in v.strides), v.offset * size)


def from_numpy(array) -> Tensor:
    """A tensor on the array's memory, shared both ways."""
    if not isinstance(array, np.ndarray): raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    dtype = dt.FROM_NUMPY.get(array.dtype)
    if dtype is None or not array.dtype.isnative:
        raise TypeError(f"can't convert np.ndarray of type numpy.{array.dtype}. The only supported types are: float64, float32, float16, complex64, complex128, "
                        "int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool.")
    if any(s < 0 for s in array.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
                         "(You can probably work around this by making a copy of your array  with array.copy().)")
    size = dtype.size
    if any(s % size for s in array.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate the memory.")
    strides = tuple(s // size for s in array.strides)
    v = View(array.shape, strides, 0)
    reach = 0 if 0 in array.shape else 1 + sum((n - 1) * s for n, s in zip(array.shape, strides))
    buffer = Foreign(array.__array_interface__["data"][0], reach * size, array)
    if is_contiguous(array.shape, strides): return wrap(node_of(buffer, dtype, array.shape))
    t = wrap(node_of(buffer, dtype, (reach,)))
    a = share(t)
    a.view = v
    a.cache = a.seen = None
    return t


def copy_array(array, dtype: dt.dtype) -> Tensor:
    """A tensor with its own copy of a NumPy array's values, converted."""
    array = np.asarray(array)
    out = mem.empty(array.size * dtype.size)
    n = node_of(out, dtype, array.shape)
    if array.size:
        if dtype is dt.bfloat16: array = bfloat_bits(array)
        with np.errstate(over="ignore", invalid="ignore"): np.copyto(array_of(n), array, casting="unsafe")
    return wrap(n)


def bfloat_bits(array) -> np.ndarray:
    """float -> bfloat16 bits, rounding to nearest even, NaN kept."""
    wide = np.ascontiguousarray(array, np.float32)
    bits = wide.view(np.uint32)
    out = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(wide), np.uint16(0x7FC0), out).reshape(np.shape(array))


def bfloat_values(bits) -> np.ndarray: return (bits.astype(np.uint32) << 16).view(np.float32).reshape(bits.shape)


def values(t: Tensor) -> np.ndarray:
    """t's values as a NumPy array of their own (bfloat16 as float32)."""
    n = realize(t)
    a = array_of(n)
    return bfloat_values(np.ascontiguousarray(a)) if n.line.dtype is dt.bfloat16 else a.copy()


def item(t: Tensor):
    """Tensor.item()."""
    n = realize(t)
    if math.prod(n.line.shape) != 1: raise RuntimeError(f"a Tensor with {math.prod(n.line.shape)} elements cannot be converted to Scalar")
    if n.line.dtype is dt.bfloat16: return float(values(t).reshape(())[()])
    buffer, v = place(n)
    return np.frombuffer((ctypes.c_char * n.line.dtype.size).from_address(buffer.address + v.offset * n.line.dtype.size), n.line.dtype.code)[0].item()


def tolist(t: Tensor): return values(t).tolist()


# ---------------------------------------------------------------- from Python data
def shape_of_list(data) -> tuple:
    shape = []
    while isinstance(data, (list, tuple)):
        shape.append(len(data))
        if not data: break
        data = data[0]
    return tuple(shape) + (tuple(data.shape) if hasattr(data, "shape") else ())


def infer_dtype(array: np.ndarray, data) -> dt.dtype:
    if array.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)): return state.default_dtype
    if array.dtype == np.complex128 and not isinstance(data, (np.ndarray, np.generic)): return state.default_dtype.to_complex()
    out = dt.FROM_NUMPY.get(array.dtype)
    if out is None: raise TypeError(f"can't convert np.ndarray of type {array.dtype}")
    return out


def from_data(data, dtype=None) -> Tensor:
    """torch.tensor's reading of Python data: always a copy, dtype inferred as PyTorch does."""
    if isinstance(data, Tensor):
        src = values(data)
        return copy_array(src, dtype or data.dtype)
    if isinstance(data, (list, tuple)): data = unwrap_tensors(data)
    if isinstance(data, (list, tuple)) and len(data) == 0: return copy_array(np.empty((0,) if not data else np.shape(data)), dtype or state.default_dtype)
    try: array = np.array(data)
    except ValueError as e:
        raise ValueError(f"expected sequence of equal length at every dimension: {e}") from None
    if array.dtype == object:
        if isinstance(data, np.ndarray): raise TypeError("can't convert np.ndarray of type numpy.object_.")
        bad = next((x for x in np.ravel(array) if not isinstance(x, (int, float, complex, bool))), 0)
        if isinstance(bad, int): raise ValueError("Overflow when unpacking long long")
        if isinstance(bad, (list, tuple)): raise ValueError(f"expected sequence of length {len(array)} at dim {array.ndim} (got {len(bad)})")
        raise RuntimeError(f"Could not infer dtype of {type(bad).__name__}")
    if array.dtype.kind in "US": raise TypeError("new(): invalid data type 'str'")
    if array.size == 0 and not isinstance(data, (np.ndarray, np.generic)): return copy_array(array, dtype or state.default_dtype)
    if array.dtype == np.uint64 and not isinstance(data, (np.ndarray, np.generic)): raise ValueError("Overflow when unpacking long long")
    if dtype is not None and dtype.category <= dt.INT and not isinstance(data, (np.ndarray, np.generic)): check_range(array, dtype)
    return copy_array(array, dtype or infer_dtype(array, data))


def check_range(array, dtype):
    """Python numbers must fit an integer type; negative ones wrap around in unsigned types."""
    if array.dtype.kind not in "iuf" or not array.size or dtype is dt.bool: return
    lo, hi, bound = array.min(), array.max(), np.iinfo(dtype.code)
    if np.isnan(lo) or hi > bound.max or lo < (bound.min if dtype.signed else -int(bound.max)):
        raise RuntimeError(f"value cannot be converted to type {dtype.name}_t without overflow")


def unwrap_tensors(data):
    """Nested sequences may hold tensors of one element."""
    if isinstance(data, (list, tuple)): return [unwrap_tensors(x) for x in data]
    return item(data) if isinstance(data, Tensor) and math.prod(data.shape) == 1 else values(data) if isinstance(data, Tensor) else data
