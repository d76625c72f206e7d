"""The outside of a .pt file: an uncompressed zip archive whose entries start at multiples of 64 bytes, as PyTorch writes it.

`Writer` streams entries to anything with `write`. `entries` finds them in memory and trusts nothing: every offset and size is checked against the
real size of the file, so that a hostile archive costs no more memory than it has bytes.
"""
from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

ALIGN = 64
FULL = 0xFFFFFFFF                              # in a 32-bit field: look into the zip64 field
LIMIT = FULL                                   # sizes and offsets from here on go there
_FLAGS = 0x0808                                # sizes follow the data, names are UTF-8
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")


class Writer:
    """Writes entries one after the other, then the directory on `close`."""

    def __init__(self, file):
        self.file, self.at, self.directory = file, 0, []

    def _write(self, data):
        self.file.write(data)
        self.at += len(data)

    def add(self, name: str, data):
        """An entry; `data` is bytes or a memoryview of bytes."""
        start, size, path = self.at, len(data), name.encode()
        crc = zlib.crc32(data)
        wide = struct.pack("<2H2Q", 1, 16, size, size) if size >= LIMIT else b""
        room = start + _LOCAL.size + len(path) + len(wide) + 4
        padding = -room % ALIGN
        extra = wide + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        self._write(_LOCAL.pack(b"PK\3\4", 45 if wide else 0, _FLAGS, 0, 0, 0, 0, FULL if wide else 0, FULL if wide else 0, len(path), len(extra))
                    + path + extra)
        self._write(data)
        if size: self._write(struct.pack("<4sI2Q" if wide or start >= LIMIT else "<4sI2I", b"PK\7\x08", crc, size, size))
        self.directory.append((path, crc, size, start))

    def close(self):
        start = self.at
        for path, crc, size, offset in self.directory:
            wide = [n for n in (size, size, offset) if n >= LIMIT]
            extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
            small = FULL if size >= LIMIT else size
            self._write(_CENTRAL.pack(b"PK\1\2", 45 if wide else 0, 45 if wide else 0, _FLAGS, 0, 0, 0, crc, small, small, len(path), len(extra),
                                      0, 0, 0, 0, FULL if offset >= LIMIT else offset) + path + extra)
        count, size = len(self.directory), self.at - start
        if start >= LIMIT or size >= LIMIT or count >= 0xFFFF:
            end = self.at
            self._write(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, size, start) + _LOCATOR.pack(b"PK\6\7", 0, end, 1))
        self._write(_END.pack(b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), FULL if size >= LIMIT else size,
                              FULL if start >= LIMIT else start, 0))


class Entry(NamedTuple):
    start: int
    size: int


def broken(what: str) -> RuntimeError:
    return RuntimeError(f"PytorchStreamReader failed reading zip archive: {what}. The file is damaged or was not written by torch.save; "
                        "save it again, or copy it again if it was downloaded")


def is_zip(data: memoryview) -> bool: return bytes(data[:4]) == b"PK\3\4"


def entries(data: memoryview) -> dict[str, Entry]:
    """Where each entry's bytes lie."""
    try: return _entries(data)
    except (struct.error, UnicodeDecodeError, OverflowError) as e: raise broken(f"damaged directory ({e})") from None


def _directory(data: memoryview) -> tuple[int, int, int]:
    """(entries, size, offset) of the central directory."""
    tail = max(0, len(data) - 0xFFFF - _END.size)
    at = bytes(data[tail:]).rfind(b"PK\5\6")
    if at < 0: raise broken("failed finding central directory")
    at += tail
    _, _, _, _, count, size, offset, _ = _END.unpack_from(data, at)
    if (count == 0xFFFF or size == FULL or offset == FULL) and at >= _LOCATOR.size:
        mark, _, where, _ = _LOCATOR.unpack_from(data, at - _LOCATOR.size)
        if mark == b"PK\6\7":
            if where + _END64.size > len(data): raise broken(f"directory at byte {where} of {len(data)}")
            _, _, _, _, _, _, _, count, size, offset = _END64.unpack_from(data, where)
    if offset + size > len(data): raise broken(f"directory of {size} bytes at byte {offset} of {len(data)}")
    if count * _CENTRAL.size > size: raise broken(f"{count} entries in a directory of {size} bytes")
    return count, size, offset


def _entries(data: memoryview) -> dict[str, Entry]:
    count, size, at = _directory(data)
    end, out, total = at + size, {}, 0
    for _ in range(count):
        mark, _, _, flags, method, _, _, _, packed, full, name_len, extra_len, note_len, _, _, _, offset = _CENTRAL.unpack_from(data, at)
        if mark != b"PK\1\2": raise broken(f"no directory entry at byte {at}")
        at += _CENTRAL.size
        if at + name_len + extra_len + note_len > end: raise broken("directory entry longer than the directory")
        name, extra = bytes(data[at:at + name_len]).decode(), bytes(data[at + name_len:at + name_len + extra_len])
        at += name_len + extra_len + note_len
        full, packed, offset = _widened(extra, full, packed, offset)
        if method != 0 or packed != full:
            raise broken(f"entry '{name}' is compressed (method {method}, {packed} bytes for {full}); unpack it and zip it again with 'zip -0'")
        if flags & 1: raise broken(f"entry '{name}' is encrypted")
        if offset + _LOCAL.size > len(data): raise broken(f"entry '{name}' at byte {offset} of {len(data)}")
        local = _LOCAL.unpack_from(data, offset)
        start = offset + _LOCAL.size + local[-2] + local[-1]
        if local[0] != b"PK\3\4" or start + full > len(data): raise broken(f"entry '{name}': {full} bytes at byte {start} of {len(data)}")
        if name in out: raise broken(f"two entries are called '{name}'")
        total += full
        if total > len(data): raise broken(f"entries overlap: together they claim more than the {len(data)} bytes there are")
        out[name] = Entry(start, full)
    return out


def _widened(extra: bytes, *fields) -> list[int]:
    """Fields that are full in the entry itself are in its zip64 field, in this order."""
    wide, at = b"", 0
    while at + 4 <= len(extra):
        kind, n = struct.unpack_from("<2H", extra, at)
        if kind == 1: wide = extra[at + 4:at + 4 + n]
        at += 4 + n
    out = []
    for f in fields:
        if f == FULL and len(wide) >= 8: f, wide = struct.unpack("<Q", wide[:8])[0], wide[8:]
        out.append(f)
    return out
