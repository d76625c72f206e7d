"""Memory of devices that other libraries lend and borrow: DLPack's structures and capsules, and whose memory an address is.

Comes in: a block, its dtype and how a tensor lies in it; or a capsule of somebody else's. Goes out: a capsule; or `Outside` memory with what it says of itself.

A borrower says that it is done by calling a C function, from any thread, also while the interpreter ends. So the function is native and only strikes out the first word of
the loan; whoever lends next takes back what is struck out.
"""
from __future__ import annotations

import ctypes
import functools
from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

from ..core.shape import contiguous
from ..cpu import code as host_code
from ..gpu.names import NAMES
from ..gpu.prototypes import POINTER
from . import devices, streams
from .allocator import WHEN_SHORT
from .memory import Outside

CPU, CUDA, PINNED = 1, 2, 3                    # DLDeviceType
COPIED = 2                                     # DLPACK_FLAG_BITMASK_IS_COPIED
PER_THREAD = 2                                 # the stream that is each thread's own, which forno has none of

_DONE = "define void @lent_back(ptr %loan) {\n  store i64 0, ptr %loan\n  ret void\n}\n"


class Device(ctypes.Structure): _fields_ = [("kind", c_int32), ("index", c_int32)]
class Type(ctypes.Structure): _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class Described(ctypes.Structure):
    """DLTensor"""
    _fields_ = [("data", c_void_p), ("device", Device), ("ndim", c_int32), ("dtype", Type), ("shape", ctypes.POINTER(c_int64)), ("strides", ctypes.POINTER(c_int64)),
                ("offset", c_uint64)]


class Loan(ctypes.Structure):
    """DLManagedTensor"""
    _fields_ = [("tensor", Described), ("context", c_void_p), ("done", c_void_p)]


class VersionedLoan(ctypes.Structure):
    """DLManagedTensorVersioned"""
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("context", c_void_p), ("done", c_void_p), ("flags", c_uint64), ("tensor", Described)]


FORMS = {b"dltensor": Loan, b"dltensor_versioned": VersionedLoan}
_used = {name: b"used_" + name for name in FORMS}          # capsules keep the addresses of their names
_names = {name: name for name in FORMS}
_api = ctypes.pythonapi
_Destructor = ctypes.PYFUNCTYPE(None, c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, ctypes.c_char_p, _Destructor)(("PyCapsule_New", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, c_void_p)(("PyCapsule_GetName", _api))
_pointer_of = ctypes.PYFUNCTYPE(c_void_p, c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
CONSUMED = ("from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you might have already constructed a tensor from it once.")


# ---------------------------------------------------------------- lending
_loans: dict[int, tuple] = {}                  # address of a loan -> it, and what it keeps


@functools.cache
def done() -> int:
    """The native function that ends a loan."""
    return host_code.load(_DONE, "lent_back", 1)


def take_back():
    """Forgets the loans that are over."""
    for at in [at for at, (loan, *_) in list(_loans.items()) if not c_uint64.from_address(at).value]: del _loans[at]


WHEN_SHORT.append(take_back)


@_Destructor
def dropped(capsule):
    """A capsule that nobody took is gone, and its loan is over."""
    name = _name_of(capsule)
    if name in FORMS: c_uint64.from_address(_pointer_of(capsule, name)).value = 0


def lend(block: Outside, kind: int, index: int, dtype: tuple[int, int], shape, strides, offset: int, versioned: bool, copied: bool):
    """A capsule on a block's memory, from a byte on. `dtype`: DLPack's code and the bits of one element; strides are in elements."""
    take_back()
    n = max(len(shape), 1)
    shape_, strides_ = (c_int64 * n)(*shape), (c_int64 * n)(*strides)
    tensor = Described(block.address + offset, Device(kind, index), len(shape), Type(*dtype, 1), shape_, strides_, 0)
    loan = VersionedLoan(1, 0, None, done(), COPIED if copied else 0, tensor) if versioned else Loan(tensor, None, done())
    at = ctypes.addressof(loan)
    _loans[at] = loan, block, shape_, strides_
    return _new(at, _names[b"dltensor_versioned" if versioned else b"dltensor"], dropped)


# ---------------------------------------------------------------- borrowing
class Borrowed:
    """A loan of somebody else's: over when this object ends."""

    def __init__(self, at: int, done: int): self.at, self.done = at, ctypes.CFUNCTYPE(None, c_void_p)(done) if done else None

    def __del__(self):
        if self.done is not None: self.done(self.at)


def described(capsule) -> Described:
    """What a capsule holds; nobody has taken it yet."""
    name = _name_of(id(capsule)) if type(capsule).__name__ == "PyCapsule" else None
    if name not in FORMS: raise RuntimeError(CONSUMED)
    at = _pointer_of(id(capsule), name)
    loan = FORMS[name].from_address(at)
    if name == b"dltensor_versioned" and loan.major != 1: raise BufferError(f"DLPack {loan.major}.{loan.minor} is not known here: ask for 1.0")
    return loan.tensor


def take(capsule) -> Borrowed:
    """The capsule is used up; its memory is there as long as what is returned."""
    name = _name_of(id(capsule))
    at = _pointer_of(id(capsule), name)
    _rename(capsule, _used[name])
    return Borrowed(at, FORMS[name].from_address(at).done)


def layout(d: Described) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, strides in elements)"""
    shape = tuple(d.shape[:d.ndim]) if d.ndim else ()
    if d.strides: return shape, tuple(d.strides[:d.ndim]) if d.ndim else ()
    return shape, contiguous(shape)


def borrowed(address: int, nbytes: int, index: int, owner) -> Outside: return Outside(address, nbytes, NAMES[index], owner)


# ---------------------------------------------------------------- addresses and streams
def device_of(address: int) -> int:
    """The device whose memory this is."""
    driver = devices.use(devices.current())
    return driver.PointerGetAttribute(POINTER["device"], address)


def number_of(stream: int) -> int:
    """A stream as the protocols name it: 1 is the legacy default stream, which the driver calls 0."""
    return stream or 1


def theirs(stream: int) -> int:
    """The other way round."""
    if stream == PER_THREAD: raise BufferError("per-thread default stream is not supported.")
    return streams.DEFAULT if stream == 1 else stream


def ready_for(index: int, stream: int):
    """Work that is queued in `stream` from now on sees what was queued in this thread's stream so far."""
    mine = streams.current(index)
    if stream != mine: streams.follow(index, stream, index, mine)


def ready_from(index: int, stream: int):
    """This thread's stream waits for what `stream` holds now."""
    mine = streams.current(index)
    if stream != mine: streams.follow(index, mine, index, stream)
