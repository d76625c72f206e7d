"""Storages as objects of their own, and memory that other processes see.

Comes in: a tensor. Goes out: the memory behind it (`untyped_storage`), a tensor on another's memory (`set_`), or the same values in memory that forked
and receiving processes share (`share_memory_`).
"""
from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import tempfile
from multiprocessing import reduction

from ..core import dtype as dt
from ..core.shape import contiguous
from ..cpu import memory as mem
from ..cudart import ipc
from . import creation, data, lending, methods, views
from .tensor import Lens, Tensor, detached, device_name, memory, root, share, wrap
from .views import shape_of


# ---------------------------------------------------------------- storages
class UntypedStorage:
    """Bytes that tensors lie in. `base` is a tensor on them all."""

    def __init__(self, base): self.base = base if isinstance(base, Tensor) else creation.empty(int(base), dtype=dt.uint8)

    @property
    def device(self): return self.base.device

    def element_size(self): return 1
    def nbytes(self): return self.base.numel() * self.base.dtype.size
    def size(self): return self.nbytes()
    def __len__(self): return self.nbytes()
    def data_ptr(self): return self.base.data_ptr()
    def tolist(self): return list(self)
    def __bytes__(self): return bytes(memoryview(data.to_numpy(self.base, True).reshape(-1).view("u1")))
    def __iter__(self): return iter(bytes(self))
    def __getitem__(self, i): return bytes(self)[i]
    def is_shared(self): return is_shared(self.base)
    def share_memory_(self): share_memory_(self.base); return self
    def clone(self): return type(self)(views.clone(self.base))
    def cpu(self): return type(self)(self.base.cpu()) if self.is_cuda else self
    def cuda(self, device=None, non_blocking=False): return type(self)(self.base.cuda(device))
    def __eq__(self, other): return isinstance(other, UntypedStorage) and self.data_ptr() == other.data_ptr() and self.nbytes() == other.nbytes()
    def __hash__(self): return hash((self.data_ptr(), self.nbytes()))
    def __repr__(self): return "".join(f" {v}\n" for v in self) + f"[torch.storage.{type(self).__name__}({self.title()}device={self.device}) of size {len(self)}]"
    def title(self): return ""

    is_sparse, is_cuda = False, property(lambda self: self.device.type == "cuda")


class TypedStorage(UntypedStorage):
    """The same memory as elements of one type."""

    @property
    def dtype(self): return self.base.dtype

    def element_size(self): return self.dtype.size
    def size(self): return self.base.numel()
    def __len__(self): return self.base.numel()
    def __iter__(self): return iter(data.tolist(self.base))
    def __getitem__(self, i): return data.tolist(self.base)[i]
    def __setitem__(self, i, value): self.base[i] = value
    def untyped(self): return UntypedStorage(self.base)
    def title(self): return f"dtype={self.dtype!r}, "


def flat(t: Tensor) -> Tensor:
    """All of t's storage as one row, without history."""
    share(t)
    n = math.prod(t.alias.store.shape)
    return views.as_strided(detached(t), (n,), (1,), 0)


def untyped_storage(t: Tensor) -> UntypedStorage:
    r = detached(t)
    if r.alias.store.__class__ is Lens: r.alias.store = r.alias.store.base
    return UntypedStorage(flat(r))


def storage(t: Tensor) -> TypedStorage: return TypedStorage(flat(t))


def is_set_to(t: Tensor, other: Tensor) -> bool:
    """Do both see the same memory in the same way?"""
    a, b = t.alias, other.alias
    if t is other: return True
    if a is None or b is None or memory(t) != memory(other): return False
    return root(a.store) is root(b.store) or (a.store.peers is not None and a.store.peers is b.store.peers)


def set_(t: Tensor, source=None, storage_offset=0, size=None, stride=None) -> Tensor:
    """t becomes a tensor on the memory of `source`: another tensor, or a storage seen by offset, size and stride."""
    if source is None: source = creation.empty(0, dtype=t.dtype)
    base = source.base if isinstance(source, UntypedStorage) else source
    if base.dtype is not t.dtype:
        if isinstance(source, Tensor) or isinstance(source, TypedStorage):
            raise RuntimeError(f"Could not set tensor of type {scalar_name(base.dtype)} to a tensor of type {scalar_name(t.dtype)}")
        base = views.view(base, t.dtype)
    if not isinstance(source, Tensor) and size is None: size = (base.numel(),)
    if size is not None: base = views.as_strided(detached(base), size, contiguous(views.ints((size,))) if stride is None else stride, storage_offset)
    methods.set_data(t, base)
    return t


def scalar_name(dtype) -> str: return {"float32": "float", "float64": "double", "int64": "long int", "int32": "int", "bool": "bool"}.get(dtype.name, dtype.name)


def resize_(t: Tensor, *sizes, memory_format=None) -> Tensor:
    """Another shape on the same memory; when that is too small, on new memory that begins with the old elements."""
    size = views.ints(sizes)
    if t.requires_grad: raise RuntimeError("cannot resize variables that require grad")
    if size == shape_of(t): return t
    share(t)
    need, offset = math.prod(size), memory(t).offset
    if offset + need > math.prod(t.alias.store.shape):
        grown = creation.empty(offset + need, dtype=t.dtype)
        old = flat(t)
        views.narrow(grown, 0, 0, old.numel()).copy_(old)
        methods.set_data(t, grown)
    methods.set_data(t, views.as_strided(detached(t), size, contiguous(size), offset))
    return t


def resize_as_(input: Tensor, other: Tensor, *, memory_format=None) -> Tensor: return resize_(input, shape_of(other), memory_format=memory_format)


# ---------------------------------------------------------------- memory between processes
class Shared(mem.Buffer):
    """An anonymous file mapped into memory. Others may write it at any time, so it is read and written in place, never kept as a value."""
    __slots__ = ("fd",)
    exposed = True

    def __init__(self, nbytes: int, fd: int | None = None):
        self.fd = anonymous(max(nbytes, 1)) if fd is None else fd
        pages = mmap.mmap(self.fd, max(nbytes, 1))
        super().__init__(ctypes.addressof(ctypes.c_char.from_buffer(pages)), nbytes, pages)
        self._readable = mem.nobody

    def __del__(self, close=os.close):
        with contextlib.suppress(OSError, AttributeError): close(self.fd)


def anonymous(nbytes: int) -> int:
    """A file without a name: nothing is left behind, whoever dies first."""
    if hasattr(os, "memfd_create"): fd = os.memfd_create("forno", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="forno")
        os.unlink(path)
    os.ftruncate(fd, nbytes)
    return fd


def shared_buffer(t: Tensor) -> Shared | None:
    n = t.node if t.alias is None else root(t.alias.store).node
    return n.buf if n.buf.__class__ is Shared else None


def is_shared(t: Tensor) -> bool:
    """Do other processes see this memory, or can they? They can see a GPU's always."""
    return on_gpu(t) or shared_buffer(t) is not None


def on_gpu(t: Tensor) -> bool: return device_name(t).startswith("cuda")


def share_memory_(t: Tensor) -> Tensor:
    """Move the storage to memory that forked processes see, and those that the tensor is sent to by multiprocessing's queues and pipes."""
    if is_shared(t): return t
    share(t)
    old, _ = data.own_memory(t)
    store = root(t.alias.store)
    new = Shared(math.prod(store.shape) * store.node.line.dtype.size)
    ctypes.memmove(new.address, old.address, new.nbytes)
    for s in store.peers or (store,): s.node = data.renewed(s.node, new)
    return t


def received(handle, dtype, stored, view, cls, requires_grad, state) -> Tensor:
    """In the receiving process: a tensor on the sender's memory."""
    return dressed(data.node_of(Shared(math.prod(stored) * dtype.size, handle.detach()), dtype, stored), view, cls, requires_grad, state)


def dressed(node, view, cls, requires_grad, state) -> Tensor:
    t = views.as_strided(wrap(node), *view)
    if cls is not Tensor: t = methods.make_subclass(cls, t)
    if requires_grad: t.requires_grad_()
    t.__dict__.update(state)
    return t


def send(t: Tensor):
    """How multiprocessing's own pickler sends tensors: shared memory as a file descriptor, everything else by value."""
    if not t.is_leaf and t.requires_grad:
        raise RuntimeError("Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support crossing process boundaries.  If you just "
                           "want to transfer the data, call detach() on the tensor before serializing (e.g., putting it on the queue).")
    if on_gpu(t): return sent_from_gpu(t)
    buffer = shared_buffer(t)
    if buffer is None: return t.__reduce_ex__(2)
    return received, (reduction.DupFd(buffer.fd), t.dtype, t.alias.store.shape, tuple(memory(t)), type(t), t.requires_grad, dict(t.__dict__))


def sent_from_gpu(t: Tensor):
    """A tensor on a GPU: its memory, as another process finds it."""
    memory, view = lending.lent(t)
    handle, offset, index, file = ipc.send(memory)
    return received_on_gpu, (handle, offset, memory.nbytes, index, reduction.DupFd(file), t.dtype, tuple(view), type(t), t.requires_grad, dict(t.__dict__))


def received_on_gpu(handle, offset, nbytes, index, file, dtype, view, cls, requires_grad, state) -> Tensor:
    """In the receiving process: a tensor on the sender's memory, which stays the sender's as long as this one lives."""
    memory = ipc.receive(handle, offset, nbytes, index, file.detach())
    return dressed(data.node_of(memory, dtype, (nbytes // dtype.size,)), view, cls, requires_grad, state)


def hang(cls):
    for f in (untyped_storage, storage, is_set_to, set_, resize_, resize_as_, is_shared, share_memory_): setattr(cls, f.__name__, f)
    cls._typed_storage = storage
    reduction.ForkingPickler.register(cls, send)
    cls.__init_subclass__ = classmethod(registered)


def registered(cls, **kw):
    """Subclasses travel like tensors; multiprocessing looks reducers up by exact class."""
    super(Tensor, cls).__init_subclass__(**kw)
    reduction.ForkingPickler.register(cls, send)
