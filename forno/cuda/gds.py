"""torch.cuda.gds: storages of a GPU to files and back. What is read and written goes through the host's memory, so any file will do."""
from __future__ import annotations

import os

from ..framework import api as torch, storage as bytes_of

__all__ = ["GdsFile", "gds_deregister_buffer", "gds_register_buffer"]


def gds_register_buffer(s):
    """Nothing has to be known of a storage before it is read or written."""


def gds_deregister_buffer(s):
    """Nor afterwards."""


class GdsFile:
    """A file that storages are saved to and loaded from."""

    def __init__(self, filename: str, flags: int):
        self.filename, self.flags, self.fd, self.handle = filename, flags, os.open(filename, flags), None
        self.register_handle()

    def __del__(self):
        if hasattr(self, "fd"): os.close(self.fd)

    def register_handle(self):
        if self.handle is not None: raise AssertionError("Cannot register a handle that is already registered.")
        self.handle = self.fd

    def deregister_handle(self):
        if self.handle is None: raise AssertionError("Cannot deregister a handle that is not registered.")
        self.handle = None

    def load_storage(self, storage, offset: int = 0):
        """The bytes of a storage from the file, from a byte of it on."""
        if self.handle is None: raise AssertionError("Cannot load data from a file that is not registered.")
        raw = bytearray(os.pread(self.fd, storage.nbytes(), offset))
        if len(raw) != storage.nbytes(): raise RuntimeError(f"{self.filename} ends {storage.nbytes() - len(raw)} bytes before what is to be loaded does")
        if raw: storage.base.copy_(torch.frombuffer(raw, dtype=storage.base.dtype))

    def save_storage(self, storage, offset: int = 0):
        """The bytes of a storage to the file, from a byte of it on."""
        if self.handle is None: raise AssertionError("Cannot save data to a file that is not registered.")
        os.pwrite(self.fd, bytes_of.raw_bytes(storage.base), offset)
