"""Memory of devices, lent to other libraries and borrowed from them: DLPack, `__cuda_array_interface__`, memory that other processes see.

Comes in: tensors, and objects of other libraries'. Goes out: capsules and dictionaries on tensors' memory, and tensors on theirs. From the moment that somebody else
knows of it, memory is read and written where it lies, in the order of streams: who lends makes the borrower's stream wait for its own, who borrows the other way round.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.shape import contiguous, is_contiguous
from ..cudart import devices, exchange, streams
from ..cudart.memory import Outside
from ..dnn.elementwise import TITLES
from ..graph.line import Leaf
from . import data, views
from .tensor import Tensor, device_name, on_device, root, share, wrap

INT, UINT, FLOAT, BFLOAT, COMPLEX, BOOL = 0, 1, 2, 4, 5, 6                # DLDataTypeCode
_KINDS = {"i": INT, "u": UINT, "f": FLOAT, "c": COMPLEX, "b": BOOL}


def _type_of(dtype: dt.dtype) -> tuple[int, int]:
    """DLPack's (code, bits)."""
    code = BFLOAT if dtype is dt.bfloat16 else COMPLEX if dtype is dt.complex32 else _KINDS[dtype.code.kind]
    return code, 8 * dtype.size


def _typestr(dtype: dt.dtype) -> str:
    """NumPy's spelling; bfloat16, which it lacks, is two bytes of anything."""
    return f"<V{dtype.size}" if dtype in (dt.bfloat16, dt.complex32) else dtype.code.str


TYPES = {_type_of(t): t for t in (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64, dt.uint16, dt.uint32, dt.uint64, dt.float16, dt.bfloat16, dt.float32, dt.float64,
                                  dt.complex32, dt.complex64, dt.complex128, dt.bool)}
STRINGS = {_typestr(t): t for t in TYPES.values() if t is not dt.complex32}
_PLAIN = frozenset((list, tuple, int, float, bool, complex, np.ndarray))      # asked for most often, and never of a GPU


# ---------------------------------------------------------------- lending
def lent(t: Tensor):
    """(memory, how t lies in it), known to somebody else from now on, with all that was recorded for it queued."""
    share(t)
    buffer, view = data.shown(t)
    if buffer.__class__ is not Outside:
        store = root(t.alias.store)
        known = Outside(buffer.address, buffer.nbytes, buffer.device, buffer)
        for s in store.peers or (store,):
            if not s.node.line.grad or s.node.past.__class__ is Leaf: s.node = data.renewed(s.node, known)
        buffer = known
    return buffer, view


def capsule(t: Tensor, stream, versioned: bool, copy):
    """Tensor.__dlpack__ of a tensor on a GPU. `stream`: whose work comes next; -1 is nobody's, None and 1 the legacy default stream's."""
    index = t.get_device()
    if index != devices.current():
        raise BufferError(f"Can't export tensors on a different CUDA device index. Expected: {index}. Current device: {devices.current()}.")
    if stream is not None and stream.__class__ is not int: raise TypeError("stream must be ``int`` or ``none``")
    if stream == 0: raise AssertionError("unsupported stream on CUDA: 0.")
    if copy: t = views.clone(t)
    memory, view = lent(t)
    if stream != -1: exchange.ready_for(index, exchange.theirs(1 if stream is None else stream))
    return exchange.lend(memory, exchange.CUDA, index, _type_of(t.dtype), view.shape, view.strides, view.offset * t.dtype.size, versioned, bool(copy))


def cuda_array_interface(t: Tensor) -> dict:
    """Tensor.__cuda_array_interface__, version 3: with the stream that a reader has to wait for. Only tensors on GPUs have it."""
    where = device_name(t)
    if not where.startswith("cuda"):
        raise AttributeError(f"Can't get __cuda_array_interface__ on non-CUDA tensor type: torch.{TITLES[t.dtype.name]}Tensor "
                             "If CUDA data is required use tensor.cuda() to copy tensor to device memory.")
    if t.requires_grad:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. "
                           "If gradients aren't required, use var.detach() to get Variable that doesn't require grad.")
    memory, view = lent(t)
    size = t.dtype.size
    strides = None if is_contiguous(view.shape, view.strides) else tuple(s * size for s in view.strides)
    address = memory.address + view.offset * size if math.prod(view.shape) else 0
    return {"typestr": _typestr(t.dtype), "shape": tuple(view.shape), "strides": strides, "data": (address, False), "version": 3,
            "stream": exchange.number_of(streams.current(t.get_device()))}


# ---------------------------------------------------------------- borrowing
def on_memory(memory: Outside, dtype: dt.dtype, shape, strides) -> Tensor:
    """A tensor on memory that others know."""
    if is_contiguous(shape, strides): return wrap(data.node_of(memory, dtype, tuple(shape)))
    return views.as_strided(wrap(data.node_of(memory, dtype, (memory.nbytes // dtype.size,))), shape, strides, 0)


def reach(shape, strides, size: int) -> int:
    """Bytes from the first element to behind the last."""
    return 0 if 0 in shape else (1 + sum((n - 1) * s for n, s in zip(shape, strides))) * size


def place_of(capsule) -> tuple[int, int]:
    """DLPack's (kind, number) of a capsule's device."""
    d = exchange.described(capsule).device
    return d.kind, d.index


def asked(ext):
    """The capsule of an object whose memory is a GPU's, ready for what this thread queues next."""
    index = int(ext.__dlpack_device__()[1])
    devices.place(index)
    stream = exchange.number_of(streams.current(index))
    try: return ext.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError: return ext.__dlpack__(stream=stream)     # a producer from before versioned capsules


def taken(capsule) -> Tensor:
    """A tensor on the memory of a capsule."""
    d = exchange.described(capsule)
    dtype = TYPES.get((d.dtype.code, d.dtype.bits))
    if dtype is None or d.dtype.lanes != 1: raise unsupported(f"DLPack elements of kind {d.dtype.code}, {d.dtype.bits} bits, {d.dtype.lanes} lanes", device="cuda", instead="convert them first")
    name = devices.place(d.device.index)
    shape, strides = exchange.layout(d)
    if any(s < 0 for s in strides): raise BufferError("tensors with negative strides are not supported: copy it first")
    address, nbytes = (d.data or 0) + d.offset, reach(shape, strides, dtype.size)
    return on_memory(Outside(address, nbytes, name, exchange.take(capsule)), dtype, shape, strides)


def offers_memory(obj) -> bool: return obj.__class__ not in _PLAIN and not isinstance(obj, Tensor) and hasattr(obj, "__cuda_array_interface__")


def from_cuda_array(obj) -> Tensor:
    """A tensor on the memory of an object with `__cuda_array_interface__`, after what its stream holds."""
    d = obj.__cuda_array_interface__
    dtype, shape, (address, fixed) = STRINGS.get(d["typestr"]), tuple(d["shape"]), d["data"]
    if dtype is None: raise TypeError(f"can't use elements of type {d['typestr']!r}: convert them first; known are {', '.join(STRINGS)}")
    if fixed: raise TypeError("the read only flag is not supported, should always be False")
    if d.get("mask") is not None: raise unsupported("__cuda_array_interface__ with a mask", device="cuda", instead="fill what is masked, or share data and mask one by one")
    strides = contiguous(shape)
    if d.get("strides") is not None:
        if len(d["strides"]) != len(shape): raise TypeError("strides must be a sequence of the same length as shape")
        if any(s % dtype.size for s in d["strides"]):
            raise ValueError("given array strides not a multiple of the element byte size. Make a copy of the array to reallocate the memory.")
        strides = tuple(s // dtype.size for s in d["strides"])
        if any(s < 0 for s in strides): raise ValueError("arrays with negative strides are not supported: copy it first")
    if devices.count() == 0: raise RuntimeError("the array lies on a GPU, and there is none that forno can use")
    if 0 in shape: return wrap(data.node_of(data.device_memory.empty(0, devices.place(None)), dtype, shape))
    index = exchange.device_of(address)
    stream = d.get("stream")
    if stream == 0: raise ValueError("stream 0 is ambiguous in __cuda_array_interface__: 1 is the legacy default stream")
    if stream is not None: exchange.ready_from(index, exchange.theirs(stream))
    return on_memory(Outside(address, reach(shape, strides, dtype.size), devices.place(index), obj), dtype, shape, strides)


def brought(obj, dtype, where: str | None, copy: bool) -> Tensor:
    """torch.as_tensor of such an object, and torch.tensor (which copies)."""
    t = from_cuda_array(obj)
    if where is not None: t = on_device(t, where)
    if dtype is not None and dtype is not t.dtype: return t.to(dtype)
    return views.clone(t) if copy else t
