"""torch.save and torch.load: PyTorch's .pt files both ways.

A .pt file is a zip archive (archive.py): `data.pkl` is a pickle in which tensors refer to storages by number, `data/<number>` are the storages'
bytes. Tensors that share memory share a storage, so views come back as views. Reading trusts nothing by default (unpickle.py).
"""
from __future__ import annotations

import contextlib
import io
import mmap as mmap_module
import os
import pickle
import stat
import sys
import tempfile
from collections import OrderedDict

import numpy as np

from ..core.shape import View, reach
from . import api as torch, sparse, storage as memory
from .archive import Writer, broken, entries, is_zip
from .size import there
from .unpickle import Reader, add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]

DEFAULT_PROTOCOL = 2
_DTYPES = {name: getattr(torch, name) for name in
           ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64", "complex64",
            "complex128", "bool")}
_STORAGES = {"Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64", "Half": "float16", "BFloat16": "bfloat16",
             "Float": "float32", "Double": "float64", "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Bool": "bool"}
_STORAGE_OF = {_DTYPES[name]: kind + "Storage" for kind, name in _STORAGES.items()}          # the others have none and go untyped


class Global:
    """A name in a pickle, which needs no object behind it."""
    __slots__ = ("module", "name")

    def __init__(self, module, name): self.module, self.name = module, name
    def __call__(self): raise TypeError(f"{self.module}.{self.name} is a name in a file")


_Parameter: type = torch.Tensor


def parameter(cls):
    """Class decorator: the tensors that files call torch.nn.Parameter. The library that owns them says so, since this floor knows no library."""
    global _Parameter
    _Parameter = cls
    return cls


def _globals(*names): return {name: Global(*name.rsplit(".", 1)) for name in names}


_WRITTEN = _globals("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_meta_tensor_no_storage", "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
                    "torch._utils._rebuild_parameter_with_state", "torch._utils._rebuild_sparse_tensor", "torch.Size", "torch.device", "torch.serialization._get_layout",
                    "torch.storage.UntypedStorage", *(f"torch.{s}" for s in _STORAGE_OF.values()), *(f"torch.{d}" for d in _DTYPES))


# ---------------------------------------------------------------- writing

class _StorageRef:
    """What a tensor's pickle says about its storage."""
    __slots__ = ("pid",)

    def __init__(self, *pid): self.pid = pid


class _Pickler(pickle._Pickler):               # the one written in Python: the C one can't write names that aren't importable
    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.memories = memory.Memories()
        self.dtypes: list = []                         # of the storages, by their first tensors

    def persistent_id(self, obj): return obj.pid if type(obj) is _StorageRef else None

    def save_written(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[Global] = save_written

    def reducer_override(self, obj):
        if isinstance(obj, torch.Tensor): return self._tensor(obj)
        if type(obj) is torch.Size: return _WRITTEN["torch.Size"], (tuple(obj),)
        if isinstance(obj, torch.device): return _WRITTEN["torch.device"], (obj.type,) if obj.index is None else (obj.type, obj.index)
        if isinstance(obj, torch.layout): return _WRITTEN["torch.serialization._get_layout"], (str(obj),)
        return NotImplemented

    def save_global(self, obj, name=None):
        """Dtypes and forno's own module classes go under torch's names."""
        if isinstance(obj, torch.dtype):
            found = _WRITTEN.get(f"torch.{str(obj).rpartition('.')[2]}")
            if found is None: raise pickle.PicklingError(f"can't pickle {obj}")
            return self.save(found)
        module = getattr(obj, "__module__", None) or ""
        if module.startswith("forno.nn.") and isinstance(obj, type): return self.save(_shared_name("torch" + module[5:], obj.__qualname__))
        return super().save_global(obj, name)

    dispatch[type] = lambda self, obj: self.save_global(obj) if obj not in (type(None), type(...), type(NotImplemented)) else self.save_type(obj)

    def _tensor(self, t):
        kind = type(t)
        if issubclass(kind, sparse.SparseTensor): return _WRITTEN["torch._utils._rebuild_sparse_tensor"], (t.layout, sparse.parts(t))
        if kind is torch.Tensor: return self._rebuild(t.requires_grad, t)
        if kind is not _Parameter: return t.__reduce_ex__(self.proto)
        args = _Plain(t), t.requires_grad, OrderedDict()
        if not t.__dict__: return _WRITTEN["torch._utils._rebuild_parameter"], args
        return _WRITTEN["torch._utils._rebuild_parameter_with_state"], (*args, dict(t.__dict__))

    def _rebuild(self, requires_grad, t):
        if t.is_meta: return _WRITTEN["torch._utils._rebuild_meta_tensor_no_storage"], (t.dtype, tuple(t.shape), t.stride(), requires_grad)
        number, view = self.memories.of(t)
        if number == len(self.dtypes): self.dtypes.append(t.dtype)
        dtype, nbytes = self.dtypes[number], len(self.memories.all[number])
        args = view.offset, tuple(view.shape), tuple(view.strides), requires_grad, OrderedDict()
        if dtype == t.dtype and dtype in _STORAGE_OF:
            ref = _StorageRef("storage", _WRITTEN[f"torch.{_STORAGE_OF[dtype]}"], str(number), str(t.device), nbytes // dtype.itemsize)
            return _WRITTEN["torch._utils._rebuild_tensor_v2"], (ref, *args)
        if dtype in _STORAGE_OF:
            raise RuntimeError(f"Cannot save multiple tensors or storages that view the same data as different types: {dtype} and {t.dtype}; "
                               "save a clone() of one of them")
        ref = _StorageRef("storage", _WRITTEN["torch.storage.UntypedStorage"], str(number), str(t.device), nbytes)
        return _WRITTEN["torch._utils._rebuild_tensor_v3"], (ref, *args, _WRITTEN[f"torch.{str(t.dtype)[6:]}"])


_names: dict[tuple, Global] = {}


def _shared_name(module, name): return _names.setdefault((module, name), Global(module, name))


class _Plain:
    """A Parameter, written as the plain tensor in it."""
    __slots__ = ("t",)

    def __init__(self, t): self.t = t


def _save_plain(self, obj):
    func, args = self._rebuild(False, obj.t)
    self.save_reduce(func, args, obj=obj)


_Pickler.dispatch[_Plain] = _save_plain


def save(obj, f, pickle_module=pickle, pickle_protocol=DEFAULT_PROTOCOL, _use_new_zipfile_serialization=True):
    """Writes `obj` for torch.load and forno.load. A path is written whole or not at all: beside it first, then moved into its place."""
    if pickle_module is not pickle: raise NotImplementedError("save(pickle_module=…) supports Python's own pickle only")
    if not _use_new_zipfile_serialization:
        raise NotImplementedError("the format before PyTorch 1.6 can be read but not written; save without _use_new_zipfile_serialization=False")
    if not 2 <= pickle_protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"pickle_protocol must be 2..{pickle.HIGHEST_PROTOCOL}, but got {pickle_protocol}")
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle_protocol)
    pickler.framer.start_framing = lambda: None        # names are written directly, frames would cut them off
    pickler.dump(obj)
    if isinstance(f, (str, os.PathLike)):
        stem = os.path.basename(os.fspath(f)).rsplit(".", 1)[0]
        with replaced(os.fspath(f)) as file: _write(file, stem if stem.isascii() and stem else "archive", buffer.getvalue(), pickler.memories.all)
        return
    if not hasattr(f, "write"):
        raise AttributeError(f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, got {type(f).__name__}")
    _write(f, "archive", buffer.getvalue(), pickler.memories.all)


def _write(file, name, pickled, storages):
    out = Writer(file)
    out.add(f"{name}/data.pkl", pickled)
    out.add(f"{name}/.format_version", b"1")
    out.add(f"{name}/.storage_alignment", b"64")
    out.add(f"{name}/byteorder", sys.byteorder.encode())
    for number, data in enumerate(storages): out.add(f"{name}/data/{number}", data)
    out.add(f"{name}/version", b"3\n")
    out.close()


@contextlib.contextmanager
def replaced(path: str):
    """A new file that takes the place of `path` when the block ends well; on any error the old one stays and the new one is gone."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder): raise RuntimeError(f"Parent directory {folder} does not exist.")
    try: mode = os.stat(path).st_mode
    except FileNotFoundError: mode = None
    if mode is not None and not stat.S_ISREG(mode):    # a pipe or device: there is nothing to replace
        with open(path, "wb") as file: yield file
        return
    fd, beside = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", suffix=".tmp", dir=folder)
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(fd)
        os.chmod(beside, stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- reading

class _Storage:
    """A storage of the file: its bytes are read when the first tensor on it is made."""
    __slots__ = ("dtype", "nbytes", "fetch", "place", "base")

    def __init__(self, dtype, nbytes, fetch, place):
        self.dtype, self.nbytes, self.fetch, self.place, self.base = dtype, nbytes, fetch, place, None

    def tensor(self, dtype, view):
        if self.base is None: self.base = memory.Base(self.fetch(dtype), self.place)
        return self.base.tensor(dtype, view)


class Location:
    """What a callable map_location gets and may return in place of a storage: where it was, and `cpu()` or `cuda(n)` to say where to."""

    def __init__(self, device): self.device = device
    def cpu(self): return Location(torch.device("cpu"))
    def cuda(self, index=0): return Location(torch.device("cuda", index))


def _placer(map_location):
    """location in the file -> device"""
    def usual(location):
        device = torch.device(location)
        if device.type == "cuda" and not there("cuda"):
            raise RuntimeError("Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are running on a "
                               "CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to the CPU.")
        return device
    if map_location is None: return usual
    if isinstance(map_location, dict): return lambda location: usual(map_location.get(location, location))
    if callable(map_location):
        def asked(location):
            found = map_location(Location(torch.device(location)), location)
            return usual(location) if found is None else getattr(found, "device", found)
        return asked
    device = torch.device(map_location)
    return lambda location: device


def _whole(x) -> bool: return type(x) is int and 0 <= x < 1 << 62


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, dtype=None):
    if not isinstance(storage, _Storage): raise pickle.UnpicklingError("a tensor on something that is no storage")
    dtype = dtype or storage.dtype
    if dtype is None: raise pickle.UnpicklingError("a tensor on an untyped storage without a dtype")
    size, stride = tuple(size), tuple(stride)
    if not (_whole(offset) and len(size) == len(stride) <= 64 and all(map(_whole, (*size, *stride)))):
        raise pickle.UnpicklingError("a tensor's size, stride or offset is no list of non-negative numbers of one length")
    view = View(size, stride, offset)
    last, room = reach(view)[1], storage.nbytes // dtype.itemsize
    if last >= room or offset > room:
        raise RuntimeError(f"a tensor with size {list(size)}, stride {list(stride)} and offset {offset} needs {last + 1} elements of a storage "
                           f"with {room}: the file is damaged; save it again")
    t = storage.tensor(dtype, view)
    return t.requires_grad_() if requires_grad else t


def _rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad):
    if not (isinstance(dtype, torch.dtype) and len(size) == len(stride) <= 64 and all(map(_whole, (*size, *stride)))):
        raise pickle.UnpicklingError("a tensor's size or stride is no list of non-negative numbers of one length")
    return torch.empty_strided(size, stride, dtype=dtype, device="meta", requires_grad=bool(requires_grad))


def _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata=None):
    t = _rebuild_tensor(storage, offset, size, stride, requires_grad)
    return _marked(t, metadata)


def _rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    return _marked(_rebuild_tensor(storage, offset, size, stride, requires_grad, dtype), metadata)


def _marked(t, metadata):
    """Conjugate and negative bits: views in PyTorch, values here."""
    if not metadata: return t
    if metadata.get("conj"): t = t.conj()
    return -t if metadata.get("neg") else t


def _rebuild_parameter(data, requires_grad, hooks): return _Parameter(data, bool(requires_grad))


def _rebuild_parameter_with_state(data, requires_grad, hooks, state):
    p = _rebuild_parameter(data, requires_grad, hooks)
    for name, value in state.items():
        if name[:2] != "__": setattr(p, name, value)
    return p


def _rebuild_sparse_tensor(layout, parts):
    """Index tensors are looked at: a file must not lead to places outside of the tensor."""
    if layout is torch.sparse_coo:
        indices, values, size, *coalesced = parts
        return torch.sparse_coo_tensor(indices, values, size, check_invariants=True, is_coalesced=coalesced[0] if coalesced else None)
    return torch.sparse_compressed_tensor(*parts, layout=layout, check_invariants=True)


def _layout(name):
    found = getattr(torch, str(name).rpartition(".")[2], None)
    if not isinstance(found, torch.layout): raise pickle.UnpicklingError("a layout that does not exist")
    return found


def _size(items=()):
    return torch.Size(items)


def _device(*args):
    return torch.device(*args)


def _table() -> dict:
    """What torch's names in a file stand for here."""
    out = {f"torch.{name}": dtype for name, dtype in _DTYPES.items()}
    out |= {f"torch.{kind}Storage": _StorageType(_DTYPES[name]) for kind, name in _STORAGES.items()}
    out |= {"torch.storage.UntypedStorage": _StorageType(None), "torch.UntypedStorage": _StorageType(None)}
    for f in (_rebuild_tensor, _rebuild_tensor_v2, _rebuild_meta_tensor_no_storage, _rebuild_tensor_v3, _rebuild_parameter, _rebuild_parameter_with_state,
              _rebuild_sparse_tensor):
        out[f"torch._utils.{f.__name__}"] = f
    return out | {"torch.Size": _size, "torch.device": _device, "torch.serialization._get_layout": _layout}


class _StorageType:
    __slots__ = ("dtype",)

    def __init__(self, dtype): self.dtype = dtype


class _Everything(pickle.Unpickler):
    """Python's unpickler, for files that are trusted; torch's names are found in forno."""

    def __init__(self, file, persistent_load, table, **options):
        super().__init__(file, **options)
        self._load, self._table = persistent_load, table

    def persistent_load(self, pid): return self._load(pid)

    def find_class(self, module, name):
        found = self._table.get(f"{module}.{name}")
        if found is not None: return found
        if module == "torch" or module.startswith("torch."): module = "forno" + module[5:]
        return super().find_class(module, name)


def load(f, map_location=None, pickle_module=None, *, weights_only=None, mmap=None, **pickle_load_args):
    """Reads what torch.save or forno.save wrote.

    weights_only (default True): only tensors, numbers, text and containers, whatever the file says. False runs any code the file contains.
    mmap=True: tensors lie in the file's pages, read when touched; changes stay in memory.
    """
    if pickle_module is not None and weights_only: raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    safe = weights_only is None and pickle_module is None or bool(weights_only)
    if not isinstance(f, (str, os.PathLike)):
        if mmap: raise ValueError("f must be a file path in order to use the mmap argument")
        if not hasattr(f, "read"):
            raise AttributeError(f"expected 'f' to be string, path, or a file-like object with a 'read' attribute, got {type(f).__name__}")
        return _load(memoryview(f.read()), map_location, safe, False, pickle_load_args)
    with open(f, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0: raise EOFError(f"Ran out of input: {os.fspath(f)} is empty")
        pages = mmap_module.mmap(file.fileno(), 0, access=mmap_module.ACCESS_COPY if mmap else mmap_module.ACCESS_READ)
    return _load(memoryview(pages), map_location, safe, bool(mmap), pickle_load_args)


def _load(data, map_location, safe, lazy, options):
    if not data: raise EOFError("Ran out of input: the file is empty")
    try:
        if is_zip(data): return _load_zip(data, map_location, safe, lazy, options)
        if lazy: raise RuntimeError("mmap can only be used with files saved by torch.save since PyTorch 1.6; load without mmap=True")
        return _load_old(data, map_location, safe, options)
    except (pickle.UnpicklingError, RuntimeError, EOFError): raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError, AssertionError) as e:
        if not safe: raise
        raise pickle.UnpicklingError(f"Weights only load failed: the pickle is damaged ({type(e).__name__}: {e}); save the file again") from e


def _unpickle(data, at, persistent_load, safe, options):
    """(object, where its pickle ends)"""
    if safe:
        reader = Reader(data, _table(), persistent_load, at)
        return reader.load(), reader.at
    file = io.BytesIO(data)
    file.seek(at)
    return _Everything(file, persistent_load, _table(), **{"encoding": "utf-8"} | options).load(), file.tell()


def _persistent(pid, count):
    if not isinstance(pid, tuple) or len(pid) != count or pid[0] != "storage" or not isinstance(pid[1], _StorageType):
        raise pickle.UnpicklingError("a persistent id that names no storage")
    _, kind, key, location, numel = pid[:5]
    if not isinstance(key, str) or not isinstance(location, str) or not _whole(numel):
        raise pickle.UnpicklingError("a storage without number, place or size")
    return kind.dtype, key, location, numel * (kind.dtype.itemsize if kind.dtype else 1)


def _load_zip(data, map_location, safe, lazy, options):
    found, place = entries(data), _placer(map_location)
    top = next((name[:-len("data.pkl")] for name in found if name.endswith("/data.pkl") and name.count("/") == 1), None)
    if top is None: raise broken("there is no data.pkl")
    if top + "constants.pkl" in found:
        raise RuntimeError("this is a TorchScript archive; load it with torch.jit.load in PyTorch and save its state_dict()")
    order = bytes(_entry(data, found, top + "byteorder")).decode() if top + "byteorder" in found else "little"
    if order not in ("little", "big"): raise ValueError(f"Unknown endianness type: {order!r}")
    storages: dict[str, _Storage] = {}

    def persistent_load(pid):
        dtype, key, location, nbytes = _persistent(pid, 5)
        known = storages.get(key)
        if known is not None: return known
        name = f"{top}data/{key}"
        if name not in found: raise broken(f"storage {name!r} is missing")
        if found[name].size != nbytes: raise broken(f"storage {name!r} has {found[name].size} bytes where its tensors expect {nbytes}")

        def fetch(dtype):
            view = _entry(data, found, name)
            if lazy and order == sys.byteorder: return view
            own = memory.fresh(nbytes)
            own[:] = view
            if order != sys.byteorder: _swap(own, dtype)
            return own
        storages[key] = _Storage(dtype, nbytes, fetch, place(location))
        return storages[key]
    return _unpickle(_entry(data, found, top + "data.pkl"), 0, persistent_load, safe, options)[0]


def _entry(data, found, name): return data[found[name].start:found[name].start + found[name].size]


def _swap(own, dtype):
    n = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    numbers = np.frombuffer(own, f"u{n}")
    numbers.byteswap(inplace=True)


_MAGIC = 0x1950A86A20F9469CFC6C


def _load_old(data, map_location, safe, options):
    """The format before PyTorch 1.6: four pickles in a row, then the list of storages, then their bytes."""
    place, storages, total = _placer(map_location), {}, 0
    refuse = RuntimeError("Invalid magic number; corrupt file? It is neither a .pt file nor one of PyTorch's older formats")
    if bytes(data[:2]) != b"\x80\x02": raise refuse
    magic, at = _unpickle(data, 0, None, True, options)
    if type(magic) is not int or magic != _MAGIC: raise refuse
    version, at = _unpickle(data, at, None, True, options)
    if version != 1001: raise RuntimeError(f"Invalid protocol version: {version}")
    system, at = _unpickle(data, at, None, True, options)
    if not system.get("little_endian", True):
        raise RuntimeError("the file was written on a big-endian machine in a format before PyTorch 1.6; save it again")

    def persistent_load(pid):
        nonlocal total
        dtype, key, location, nbytes = _persistent(pid, 6)
        if pid[5] is not None: raise RuntimeError("views of storages are not supported in files older than PyTorch 0.4; save it again")
        if key not in storages:
            total += nbytes
            if total > len(data): raise RuntimeError(f"storages of {total} bytes in a file with {len(data)}: the file is damaged")
            own = memory.fresh(nbytes)
            storages[key] = own, _Storage(dtype, nbytes, lambda _: own, place(location))
        return storages[key][1]
    obj, at = _unpickle(data, at, persistent_load, safe, options)
    keys, at = _unpickle(data, at, None, True, options)
    for key in keys:
        if key not in storages: raise RuntimeError(f"storage {key!r:.40} is in the file but in no tensor: the file is damaged")
        own, s = storages[key]
        numel = int.from_bytes(data[at:at + 8], "little")
        if numel * (s.dtype.itemsize if s.dtype else 1) != s.nbytes or at + 8 + s.nbytes > len(data):
            raise RuntimeError("a storage's bytes are cut off: the file is damaged")
        own[:] = data[at + 8:at + 8 + s.nbytes]
        at += 8 + s.nbytes
    return obj
