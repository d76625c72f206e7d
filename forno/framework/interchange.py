"""Tensors leaving and entering by the protocols of Python: copy, pickle, NumPy's array protocol, buffers, DLPack.

Memory is shared where the protocol is about memory (NumPy, DLPack, buffers, copy.copy, storages inside one deepcopy) and copied where it is about
values (pickle). Parameters and other subclasses come back as what they were.
"""
from __future__ import annotations

import copy
import ctypes
import pickle

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, is_contiguous
from ..dnn import movement as mv
from ..graph.line import Leaf, record
from ..cudart.exchange import CPU, CUDA, PINNED
from . import creation, data, functions as fn, lending, methods, storage, views
from .bind import element_type
from .size import place
from .tensor import Tensor, alone, cut, detached, device_name, is_meta, memory, on_device, read, recast, root, without_data, wrap

NON_LEAF = ("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you were attempting to deepcopy a module, "
            "this may be because of a torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001")


# ---------------------------------------------------------------- copy
def retyped(t: Tensor, cls: type, requires_grad: bool, state: dict) -> Tensor:
    """`t`'s memory under a class, as a leaf or plain, with the attributes of `state`."""
    if cls is not Tensor: t = methods.make_subclass(cls, t)
    if requires_grad: t.requires_grad_()
    if state: t.__dict__.update(state)
    return t


def shallow(t: Tensor) -> Tensor:
    """copy.copy: another tensor on the same memory."""
    return retyped(detached(t), type(t), t.requires_grad, t.__dict__)


def deep(t: Tensor, memo: dict) -> Tensor:
    """copy.deepcopy: tensors that share memory share their copies' memory."""
    if id(t) in memo: return memo[id(t)]
    n = read(t)
    if n.line.grad and n.past.__class__ is not Leaf: raise RuntimeError(NON_LEAF)
    out = memo[id(t)] = retyped(deep_memory(t, memo), type(t), n.line.grad, copy.deepcopy(t.__dict__, memo))
    if t.grad is not None: out.grad = deep(t.grad, memo)
    return out


def deep_memory(t: Tensor, memo: dict) -> Tensor:
    a = t.alias
    if a is None: return wrap(record(mv.copy, (cut(t.node),)))
    store = root(a.store)
    key = "storage", id(store if store.peers is None else store.peers)
    base = memo.get(key)
    if base is None:
        base = memo[key] = wrap(record(mv.copy, (cut(store.node),)))
        if a.view is None: return base
    mem = memory(t)
    if store is not a.store: return recast(base, t.dtype, mem, mem)
    return alone(views.as_strided(detached(base), mem.shape, mem.strides, mem.offset))


# ---------------------------------------------------------------- pickle
def rebuild(dtype: dt.dtype, shape, order, raw, requires_grad: bool, device: str = "cpu") -> Tensor:
    """A tensor from its bytes; `order`: which axis is outermost in memory, and so on (None: row-major)."""
    dense = shape if order is None else tuple(shape[d] for d in order)
    if raw is None: t = without_data(dtype, dense)
    else:
        own = storage.fresh(len(memoryview(raw)))
        own[:] = memoryview(raw).cast("B")
        t = on_device(storage.adopt(own, dtype, tuple(dense)), place(device))
    if order is not None: t = views.permute(t, tuple(order.index(d) for d in range(len(order))))
    return t.requires_grad_() if requires_grad else t


def dense_order(mem: View) -> tuple | None:
    """The axes, outermost first, in which this memory is contiguous; None when it is row-major, or not dense."""
    if is_contiguous(mem.shape, mem.strides): return None
    order = sorted(range(len(mem.shape)), key=lambda d: (-mem.strides[d], -(mem.shape[d] > 1)))
    return tuple(order) if is_contiguous([mem.shape[d] for d in order], [mem.strides[d] for d in order]) else None


def reduce_ex(t: Tensor, protocol: int):
    """Tensor.__reduce_ex__. With protocol 5 the bytes may travel beside the pickle."""
    plain = detached(t)
    if type(t) is not Tensor or t.__dict__: return retyped, (plain, type(t), t.requires_grad, dict(t.__dict__))
    mem = memory(t)
    order = dense_order(mem)
    if is_meta(t): return rebuild, (t.dtype, mem.shape, order, None, t.requires_grad)
    raw = storage.raw_bytes(plain if order is None else views.permute(plain, order))
    return rebuild, (t.dtype, mem.shape, order, pickle.PickleBuffer(bytearray(raw)) if protocol >= 5 else bytes(raw), t.requires_grad, device_name(t))


# ---------------------------------------------------------------- NumPy
def to_array(t: Tensor, dtype=None, copy=None) -> np.ndarray:
    """numpy.asarray(t): the tensor's own memory where no conversion is asked for."""
    a = data.to_numpy(t)
    if dtype is not None: a = a.astype(dtype, copy=False)
    return a.copy() if copy else a


def wrap_array(t: Tensor, array, context=None, return_scalar=False) -> Tensor:
    """What a NumPy function on a tensor returns."""
    array = np.asarray(array)
    return data.from_numpy(array.astype(np.uint8) if array.dtype == bool else array)       # as PyTorch, which had no bool once


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False) -> Tensor:
    """A 1-d tensor on the memory of an object with the buffer protocol."""
    try: raw = np.frombuffer(memoryview(buffer).cast("B"), np.uint8) if len(memoryview(buffer).cast("B")) else np.empty(0, np.uint8)
    except TypeError: raise ValueError("object does not implement Python buffer protocol.") from None
    length, size = raw.size, dtype.size
    if not length or not count: raise ValueError(f"both buffer length ({length}) and count ({count}) must not be 0")
    if not 0 <= offset < length: raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({length} bytes) minus 1")
    room = length - offset
    if count < 0 and room % size: raise ValueError(f"buffer length ({room} bytes) after offset ({offset} bytes) must be a multiple of element size ({size})")
    if count > 0 and count * size > room:
        raise ValueError(f"requested buffer length ({count} * {size} bytes) after offset ({offset} bytes) must not be greater than actual buffer length ({length} bytes)")
    return creation.finish(on_bytes(raw[offset:offset + (count * size if count > 0 else room)], dtype), requires_grad)


def on_bytes(raw: np.ndarray, dtype: dt.dtype) -> Tensor:
    """A tensor of any dtype on an array of bytes, which it keeps."""
    shape = (raw.size // dtype.size,)
    return wrap(data.node_of(data.Foreign(raw.__array_interface__["data"][0], raw.size, raw), dtype, shape))


# ---------------------------------------------------------------- DLPack
# NumPy makes and reads the capsules, with a deleter in C that also works while the interpreter ends. It knows no bfloat16: those travel through it as
# 16-bit integers, and the type code inside the capsule is changed on the way.
_api = ctypes.pythonapi
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", _api))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_TYPE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}        # bytes before DLTensor.dtype: data 8, device 8, ndim 4; the versioned struct puts 32 in front
_UINT, _BFLOAT = 1, 4
_NEW_NUMPY = np.lib.NumpyVersion(np.__version__) >= "2.1.0"    # knows versioned capsules


def type_code(capsule) -> ctypes.c_uint8:
    """The dtype's code in a capsule that nobody consumed yet, to be read or changed."""
    name = _name_of(capsule)
    if name not in _TYPE_AT: raise RuntimeError("from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you might have already "
                                                "constructed a tensor from it once.")
    return ctypes.c_uint8.from_address(_pointer_of(capsule, name) + _TYPE_AT[name])


def export(t: Tensor, *, stream=-1, max_version=None, dl_device=None, copy=None):
    """Tensor.__dlpack__: a capsule on the tensor's memory."""
    if t.requires_grad: raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if is_meta(t): raise BufferError("a tensor on device meta has no memory to export")
    if device_name(t) != "cpu":
        if dl_device is None or int(dl_device[0]) == CUDA: return lending.capsule(t, stream, max_version is not None and max_version[0] >= 1, copy)
        if copy is False: raise ValueError(f"cannot move a tensor of {t.device} to the CPU without copying it")
        t, stream, copy = on_device(detached(t), "cpu"), None, None
    if stream not in (None, -1): raise AssertionError("stream should be None on cpu.")
    if copy: t = views.clone(t)
    bits = t.dtype is dt.bfloat16
    buffer, v = data.shown(t)
    size = t.dtype.size
    array = data.mem.as_array(buffer, t.dtype.code, v.shape, tuple(s * size for s in v.strides), v.offset * size)
    capsule = array.__dlpack__(max_version=max_version) if _NEW_NUMPY and max_version is not None else array.__dlpack__()
    if bits: type_code(capsule).value = _BFLOAT
    return capsule


class _Handed:
    """A capsule, as an object that NumPy asks for it."""

    def __init__(self, capsule): self.capsule = capsule
    def __dlpack__(self, **kw): return self.capsule
    def __dlpack_device__(self): return 1, 0


def from_dlpack(ext_tensor, *, device=None, copy=None) -> Tensor:
    """A tensor on the memory of anything that speaks DLPack, or of a capsule."""
    if hasattr(ext_tensor, "__dlpack__"):
        kind = int(ext_tensor.__dlpack_device__()[0])
        if kind == CUDA: return arrived(lending.taken(lending.asked(ext_tensor)), device, copy)
        if kind not in (CPU, PINNED): raise NotImplementedError(f"'from_dlpack' from DLPack device type {kind} is not implemented; copy it to the CPU first")
        try: capsule = ext_tensor.__dlpack__(max_version=(1, 0)) if _NEW_NUMPY else ext_tensor.__dlpack__()
        except TypeError: capsule = ext_tensor.__dlpack__()    # a producer from before versioned capsules
    else: capsule = ext_tensor
    if lending.place_of(capsule)[0] == CUDA: return arrived(lending.taken(capsule), device, copy)
    code = type_code(capsule)
    bits = code.value == _BFLOAT
    if bits: code.value = _UINT
    array = np.from_dlpack(_Handed(capsule))
    t = data.from_numpy(array)
    if bits: t = reinterpreted(array)
    return arrived(t, device, copy)


def arrived(t: Tensor, device, copy) -> Tensor:
    """The tensor, where it is wanted."""
    if device is not None and (where := place(device)) != device_name(t):
        if copy is False: raise ValueError(f"cannot move DLPack tensor from device {device_name(t)} to {where} without copying. Set copy=None or copy=True.")
        return on_device(t, where)
    return views.clone(t) if copy else t


def reinterpreted(array: np.ndarray) -> Tensor:
    """bfloat16 on the memory of 16-bit integers."""
    strides = tuple(s // 2 for s in array.strides)
    room = 0 if 0 in array.shape else 1 + sum((n - 1) * s for n, s in zip(array.shape, strides))
    t = wrap(data.node_of(data.Foreign(array.__array_interface__["data"][0], room * 2, array), dt.bfloat16, (room,)))
    return views.as_strided(t, array.shape, strides, 0)


def to_dlpack(t: Tensor): return export(t)


def dlpack_device(t: Tensor) -> tuple[int, int]:
    """Tensor.__dlpack_device__"""
    if device_name(t) != "cpu": return CUDA, t.get_device()
    return (PINNED if t.is_pinned() else CPU), 0


# ---------------------------------------------------------------- asarray
def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=None) -> Tensor:
    """Anything as a tensor, on the same memory where that is possible; copy=False insists on it, copy=True forbids it."""
    dtype = element_type(dtype)
    t, shares = interpreted(obj, dtype)
    if device is not None and device_name(t) != place(device):
        if copy is False: raise ValueError(f"can't alias tensor from device '{device_name(t)}' to '{device}'.")
        t, shares = on_device(t, place(device)), False
    if copy is False and not shares: raise ValueError("can't alias arbitrary sequence into a tensor.")
    if dtype is not None and t.dtype is not dtype:
        if copy is False: raise ValueError(f"can't alias tensor with dtype '{fn.ew.TITLES[t.dtype.name]}' into dtype '{fn.ew.TITLES[dtype.name]}'.")
        t = fn.to(t, dtype)
    elif copy and shares: t = views.clone(t)
    if requires_grad is None: return t
    if not requires_grad and t.requires_grad and not t.is_leaf: return detached(t)
    return t.requires_grad_(requires_grad)


def interpreted(obj, dtype):
    """(tensor, whether it is on obj's memory)"""
    if isinstance(obj, Tensor): return obj, True
    if isinstance(obj, np.ndarray): return data.from_numpy(obj), True
    if isinstance(obj, np.generic): return data.from_data(np.asarray(obj)), False
    if hasattr(obj, "__dlpack__"): return from_dlpack(obj), True
    if lending.offers_memory(obj): return lending.from_cuda_array(obj), True
    try: memoryview(obj)
    except TypeError: return data.from_data(obj, dtype), False
    return frombuffer(obj, dtype=dtype or creation.get_default_dtype()), True


def hang(cls):
    cls.__copy__, cls.__deepcopy__, cls.__reduce_ex__ = shallow, deep, reduce_ex
    cls.__array__, cls.__array_wrap__, cls.__array_priority__ = to_array, wrap_array, 1000
    cls.__dlpack__, cls.__dlpack_device__, cls.__cuda_array_interface__ = export, dlpack_device, property(lending.cuda_array_interface)
