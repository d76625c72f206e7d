"""Values in and out: Python numbers, nested lists, NumPy arrays, raw memory.

A value leaves only after its window ran. Memory that something outside can see (`buffer.exposed`) is read at once and written in place:
graph.line.enter snapshots it or makes the window run early, tensor.write lands in it.
"""
from __future__ import annotations

import collections
import ctypes
import math
from sys import getrefcount

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, as_numpy_strided, contiguous, is_contiguous, whole
from ..core.state import state
from ..cpu import memory as mem
from ..cudart import devices, faults
from ..cudart import memory as device_memory
from ..graph.line import LOCAL, Leaf, Node, Poison, Slice, given, new, snapshot_hook
from .engine import BUFFER_BASE, flush, hand_over
from .native import elements, spanned
from .tensor import Storage, Tensor, detached, is_meta, memory, on_device, read, root, share, wrap


class Foreign(mem.Buffer):
    """A NumPy array's memory. It is exposed as long as anybody but this buffer holds the array or one it is a view of."""
    __slots__ = ()

    def __init__(self, address: int, nbytes: int, owner):
        super().__init__(address, nbytes, owner)
        self._readable = mem.nobody

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
    line, nbytes = n.line, math.prod(n.line.shape) * n.line.dtype.size
    m = new(Node)
    if n.buf.device != "cpu":
        m.line, m.buf, m.past = line, dense_on_device(n, nbytes), n.past
        return m
    out = mem.empty(nbytes)
    twin = node_of(out, line.dtype, line.shape)
    if out.nbytes: np.copyto(array_of(twin), array_of(n))
    m.line, m.buf, m.past = line, out, n.past
    if line.strides is not None: m.buf = Slice(out, whole(line.shape), line.dtype.size)
    return m


snapshot_hook[0] = snapshot


def node_of(buffer, dtype, shape, strides=None) -> Node:
    """A node for memory that exists already."""
    return given(buffer, dtype, shape, strides)


def realize(t: Tensor) -> Node:
    """t's node with its value computed."""
    LOCAL.run.stats.looks += 1
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
    """A private look at a realized value: valid while the node lives, not to be written. A device's is a copy."""
    buffer, v = place(n)
    if buffer.device != "cpu": return from_device(buffer, v, n.line.dtype)
    code, size = n.line.dtype.code, n.line.dtype.size
    if 0 in v.shape: return np.empty(v.shape, code)
    return np.ndarray(v.shape, code, (ctypes.c_char * buffer.nbytes).from_address(buffer.address), v.offset * size, [s * size for s in v.strides])


def from_device(buffer, v: View, dtype) -> np.ndarray:
    """The values of a view of a device's buffer."""
    if 0 in v.shape: return np.empty(v.shape, dtype.code)
    there, v = spanned(buffer, v, dtype.size)
    faults.check(devices.number_of(buffer.device))
    return as_numpy_strided(elements(there, dtype), v).copy()


KNOWN = 1 << 16                                # elements up to which looking at them is cheap


def known(t: Tensor):
    """The values of a small tensor that was computed already, or None."""
    n = read(t)
    if n.buf is None or n.line.device != "cpu" or n.buf.__class__ is Poison or not 0 < math.prod(n.line.shape) <= KNOWN: return None
    return array_of(n)


def below(values: np.ndarray, size: int) -> bool:
    """Are all integers from 0 to size - 1? As unsigned numbers negative ones are large: one pass says it."""
    return values.dtype.kind in "iu" and bool(values.view(f"u{values.itemsize}").max() < size)


def look(t: Tensor, key, check):
    """check(values) of a small tensor whose values are known; `key` names the check, which a value passes once. A call that is said again from memory makes it
    with the tensor it is given then."""
    journal = LOCAL.run.journal
    if journal is not None: journal.checks.append((t, key, check))
    n = read(t)
    try:
        if n.within == key and not n.buf.exposed: return
    except AttributeError: pass
    values = known(t)
    if values is None: return
    check(values)
    if not n.buf.exposed: n.within = key       # what others may write can be wrong next time


def own_memory(t: Tensor):
    """(buffer, View) where t itself lies, in memory that is the tensor's storage and nothing else's. Values may share buffers; storages may not."""
    LOCAL.run.stats.looks += 1
    a = t.alias
    if a is None:
        n = realize(t)
        settle(n)
        return place(n)
    s = root(a.store)
    if s is not a.store: a.store.content = a.store.seen = None
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
        for p in a.store.peers or (root(a.store),):
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
    nbytes = math.prod(n.line.shape) * n.line.dtype.size
    if b.device != "cpu":
        n.buf = dense_on_device(n, nbytes)
        return
    fresh = mem.empty(nbytes)
    copy = node_of(fresh, n.line.dtype, n.line.shape, n.line.strides)
    if fresh.nbytes: np.copyto(array_of(copy), array_of(n))
    if b.__class__ is mem.Block and b.size == fresh.size: b.address, fresh.address = fresh.address, b.address      # the tensor stays where it is: the others move
    n.buf = fresh


def dense_on_device(n: Node, nbytes: int):
    """Memory of its own for a value on a GPU, which lies there as its line says."""
    buffer, v = place(n)
    line, device = n.line, buffer.device
    out, strides = device_memory.empty(nbytes, device), n.line.strides or contiguous(n.line.shape)
    if v.strides == strides: device_memory.across(device, buffer.address + v.offset * line.dtype.size, nbytes, device, out.address)
    elif nbytes:
        raw = np.empty(math.prod(line.shape), line.dtype.code)
        np.lib.stride_tricks.as_strided(raw, line.shape, [s * line.dtype.size for s in strides])[...] = from_device(buffer, v, line.dtype)
        device_memory.send_to(device, raw.ctypes.data, nbytes, out.address)
    return out


def spare(t: Tensor):
    """The memory of a tensor whose every value is about to be replaced, for the new ones. None where it is small, or somebody else may want it or the old values."""
    a, run = t.alias, LOCAL.run
    if a is not None and (a.view is not None or a.store.__class__ is not Storage): return None
    place = t if a is None else a.store
    line = place.node.line
    if line.strides is not None or line.device != "cpu" or run.level is not None or run.grad and line.grad or math.prod(line.shape) * line.dtype.size < mem.MAPPED: return None
    flush()                                    # an open window keeps the values it has seen
    seen = 0 if a is None else (a.cache is place.node) + (a.seen is place.node)
    if getrefcount(place.node) > BUFFER_BASE + seen or getrefcount(place.node.buf) > BUFFER_BASE: return None
    b = place.node.buf
    if b.__class__ is not mem.Block or b.exposed or b.kept is False: return None
    b.kept = None
    return b


def to_numpy(t: Tensor, force=False) -> np.ndarray:
    """Tensor.numpy(): an array on the tensor's own memory."""
    if is_meta(t): raise TypeError("can't convert meta device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
    if not force and read(t).line.grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if read(t).line.device != "cpu":
        if not force: raise TypeError(f"can't convert {t.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        t = on_device(detached(t), "cpu")
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
    return bfloat_values(np.ascontiguousarray(a)).reshape(a.shape) if n.line.dtype is dt.bfloat16 else a.copy()


def item(t: Tensor):
    """Tensor.item()."""
    journal = LOCAL.run.journal
    return number_in(t) if journal is None or journal.look is None else journal.look(t, number_in)


def number_in(t: Tensor):
    """The number in a tensor of one element."""
    n = read(t)
    line = n.line
    if math.prod(line.shape) != 1: raise RuntimeError(f"a Tensor with {math.prod(line.shape)} elements cannot be converted to Scalar")
    if line.device == "meta": raise RuntimeError("Tensor.item() cannot be called on meta tensors")
    n = realize(t)
    buffer, v = place(n)
    if buffer.device != "cpu": return values(t).reshape(-1)[0].item()
    address, kind = buffer.address + v.offset * line.dtype.size, _C_TYPES.get(line.dtype)
    if kind is not None: return kind.from_address(address).value
    if line.dtype is dt.bfloat16: return float(values(t).reshape(())[()])
    return np.frombuffer((ctypes.c_char * line.dtype.size).from_address(address), line.dtype.code)[0].item()


_C_TYPES = {dt.bool: ctypes.c_bool, dt.uint8: ctypes.c_uint8, dt.int8: ctypes.c_int8, dt.int16: ctypes.c_int16, dt.int32: ctypes.c_int32, dt.int64: ctypes.c_int64,
            dt.float32: ctypes.c_float, dt.float64: ctypes.c_double}


def tolist(t: Tensor):
    """Tensor.tolist()."""
    journal = LOCAL.run.journal
    return list_of(t) if journal is None or journal.look is None else journal.look(t, list_of)


def list_of(t: Tensor): return values(t).tolist()


def total(counts: Tensor) -> int:
    """The sum of a few int64 in memory of their own."""
    n = realize(counts)
    return ctypes.c_int64.from_address(n.buf.address).value if n.line.shape == (1,) and n.buf.device == "cpu" else sum(tolist(counts))


# ---------------------------------------------------------------- from Python data
SEQUENCES = (list, tuple, range, collections.deque)


def from_data(data, dtype=None) -> Tensor:
    """torch.tensor's reading of Python data: always a copy, dtype inferred as PyTorch does."""
    if isinstance(data, Tensor): return copy_array(values(data), dtype or data.dtype)
    if isinstance(data, np.ndarray): return copy_array(data, dtype or readable(data))
    if isinstance(data, np.generic): return from_number(data, dtype)
    if not isinstance(data, SEQUENCES): data = scalar(data)
    types = element_types(data)
    kind = dtype or inferred(types)
    try: array = np.array(data if not types & {Tensor} else unwrapped(data))
    except ValueError: raise ragged(data) from None
    if not array.size: return copy_array(array, kind)
    if array.dtype == object and all(isinstance(x, SEQUENCES) or isinstance(x, np.ndarray) and x.ndim for x in array.flat): raise ragged(data)
    if all(issubclass(t, int) for t in types): array = whole_numbers(array, data, kind)
    elif array.dtype.kind == "c" and kind.category in (dt.INT, dt.FLOAT):
        raise TypeError("'complex' object cannot be interpreted as an integer" if kind.category == dt.INT else "must be real number, not complex")
    elif array.dtype == object: array = np.array(data, kind.code if kind is not dt.bfloat16 else np.float32)      # whole numbers beyond 64 bits among others
    if kind.category == dt.INT: check_range(array, kind)
    return copy_array(array, kind)


def from_number(x, dtype) -> Tensor:
    """NumPy's scalars keep their type."""
    if dtype is not None and dtype.category == dt.INT and isinstance(x, np.floating) and not isinstance(x, float):
        raise TypeError(f"'numpy.{x.dtype}' object cannot be interpreted as an integer")
    array = np.asarray(x)
    kind = dtype or readable(array)
    if kind.category == dt.INT: check_range(array, kind)
    return copy_array(array, kind)


def readable(array: np.ndarray) -> dt.dtype:
    """The dtype of an array that PyTorch reads."""
    if not array.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between byte orders is currently not supported.")
    out = dt.FROM_NUMPY.get(array.dtype)
    if out is None:
        raise TypeError(f"can't convert np.ndarray of type {array.dtype.type.__module__}.{array.dtype.type.__name__}. The only supported types are: float64, float32, float16, "
                        "complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool.")
    if any(s < 0 for s in array.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
                         "(You can probably work around this by making a copy of your array  with array.copy().) ")
    return out


def scalar(x):
    """A single Python value as data: a number, or PyTorch's refusal."""
    if isinstance(x, (str, bytes)): raise TypeError(f"new(): invalid data type '{type(x).__name__}'")
    if isinstance(x, (int, float, complex)): return x
    if hasattr(x, "__array__"): return np.asarray(x)
    try: return list(memoryview(x))
    except TypeError: raise RuntimeError(f"Could not infer dtype of {type(x).__name__}") from None


def element_types(data) -> set:
    """The types of all numbers in nested sequences; arrays count as sequences."""
    types, todo = set(), [data] if isinstance(data, SEQUENCES) else []
    if not todo: types.add(type(data))
    while todo:
        x = todo.pop()
        if isinstance(x, np.ndarray): types.add(x.dtype.type); continue
        here = set(map(type, x))
        deeper = tuple(t for t in here if issubclass(t, (*SEQUENCES, np.ndarray)))
        if deeper: todo.extend(y for y in x if isinstance(y, deeper))
        for t in here.difference(deeper):
            if issubclass(t, Tensor): types.update((Tensor, *(y.dtype.code.type for y in x if isinstance(y, Tensor))))
            else: types.add(t)
    return types


def inferred(types: set) -> dt.dtype:
    """PyTorch's dtype for numbers of these types: all promoted together."""
    out = None
    for t in types - {Tensor}:
        if issubclass(t, np.generic):
            kind = dt.FROM_NUMPY.get(np.dtype(t))
            if kind is None: raise TypeError(f"can't convert np.ndarray of type numpy.{t.__name__}")
        elif issubclass(t, bool): kind = dt.bool
        elif issubclass(t, int): kind = dt.int64
        elif issubclass(t, float): kind = state.default_dtype
        elif issubclass(t, complex): kind = state.default_dtype.to_complex()
        elif issubclass(t, str): raise ValueError(f"too many dimensions '{t.__name__}'")
        else: raise RuntimeError(f"Could not infer dtype of {t.__name__}")
        out = kind if out is None else dt.promote_types(out, kind)
    return out or state.default_dtype


def ragged(data) -> Exception:
    """Why nested sequences are no array, as PyTorch says it."""
    shape, x = [], data
    while isinstance(x, SEQUENCES) and len(x): shape.append(len(x)); x = x[0]

    def wrong(x, d):
        if d == len(shape): return TypeError(f"'{type(x).__name__}' object cannot be interpreted as an integer") if isinstance(x, SEQUENCES) else None
        if not isinstance(x, (*SEQUENCES, np.ndarray)): return TypeError("not a sequence")
        if len(x) != shape[d]: return ValueError(f"expected sequence of length {shape[d]} at dim {d} (got {len(x)})")
        return next((e for e in (wrong(y, d + 1) for y in x) if e is not None), None) if d + 1 < len(shape) or not isinstance(x, np.ndarray) else None
    return wrong(data, 0) or ValueError("expected sequences of equal length at every dimension")


def whole_numbers(array, data, kind):
    """Python's integers may be longer than 64 bits."""
    if array.dtype.kind in "bi" and kind is not dt.uint64: return array
    if kind.category >= dt.FLOAT: return np.array(data, np.complex128 if kind.category == dt.COMPLEX else np.float64)
    if kind is dt.bool: return array != 0
    if kind is not dt.uint64: raise ValueError("Overflow when unpacking long long")
    try: return np.array(data, np.uint64)
    except OverflowError: raise OverflowError("int too big to convert" if array.max() > 0 else "can't convert negative int to unsigned") from None


def check_range(array, dtype):
    """Numbers must fit an integer type; negative integers wrap around in unsigned types."""
    if array.dtype.kind not in "iuf" or not array.size: return
    lo, hi = array.min(), array.max()
    low, high = dt.limits(dtype)
    if np.isnan(lo) or hi > high or lo < (low if dtype.signed or array.dtype.kind == "f" else -high):
        raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def unwrapped(data):
    """Nested sequences may hold tensors of one element."""
    if isinstance(data, SEQUENCES): return [unwrapped(x) for x in data]
    if not isinstance(data, Tensor): return data
    if math.prod(data.shape) == 1: return item(data)
    if data.dtype.category <= dt.INT: raise TypeError("only integer tensors of a single element can be converted to an index")
    raise ValueError("only one element tensors can be converted to Python scalars")
