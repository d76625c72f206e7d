"""torch.cuda.FloatStorage and its like: storages by type, on a GPU."""
from __future__ import annotations

from ..framework import api as torch
from ..framework.runtime import STORED, StorageType, TypedStorage
from ..framework.size import there
from ..framework.legacy import TITLES

_NAMES = {f"{TITLES[t.name]}Storage": t for t in STORED}
__all__ = list(_NAMES)


class CudaStorageType(StorageType):
    """Constructors and isinstance checks of one dtype."""

    def __instancecheck__(cls, x): return isinstance(x, TypedStorage) and x.dtype is cls.dtype and x.device.type == "cuda"

    def __call__(cls, *args, device="cuda"):
        if not there("cuda"): raise TypeError(f"type torch.cuda.{cls.__name__} not available. Torch not compiled with CUDA enabled.")
        if len(args) > 1: raise RuntimeError(f"{cls.__name__}.__new__(): received too many positional arguments: {len(args)}")
        values = args[0] if args else 0
        return TypedStorage(torch.empty(values, dtype=cls.dtype, device=device) if isinstance(values, int) else torch.tensor(list(values), dtype=cls.dtype, device=device))

    def __repr__(cls): return f"<class 'torch.cuda.{cls.__name__}'>"


globals().update({name: CudaStorageType(name, (), {"dtype": t, "__module__": "torch.cuda", "__doc__": f"Storages of {t!r} on a GPU."}) for name, t in _NAMES.items()})
