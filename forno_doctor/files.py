"""Files that are written whole or not at all."""
from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(file: str | Path, text: str):
    """All of it or nothing: what reads the file meanwhile sees the old one."""
    folder, name = os.path.split(os.path.abspath(file))
    handle, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)                    # as open() would have made it
        os.replace(beside, file)
    except OSError:
        os.unlink(beside)
        raise
