"""Writes small libraries of Windows by hand: headers, imports, exports and GPU code, nothing that could run. Source: "PE Format", Microsoft Learn."""
import struct

from .elf_file import fatbin

MACHINES = {"x86_64": 0x8664, "aarch64": 0xAA64}
START, PAGE = 0x400, 0x1000                    # where sections begin in the file; how addresses are aligned


class Data:
    """A section that grows; addresses are relative to the image."""

    def __init__(self, address): self.address, self.bytes = address, bytearray()

    def add(self, data: bytes) -> int:
        self.bytes += b"\0" * (-len(self.bytes) % 8)
        at = self.address + len(self.bytes)
        self.bytes += data
        return at

    def text(self, text: str) -> int: return self.add(text.encode() + b"\0")


def dll(name="", needed=(), delayed=(), exports=(), codes=(), machine="x86_64") -> bytes:
    """`needed`, `delayed`: libraries, each a name or (name, imported names)."""
    data = Data(PAGE)
    imports = _imported(data, needed, lambda names, title: struct.pack("<IIIII", names, 0, 0, title, names), 20)
    late = _imported(data, delayed, lambda names, title: struct.pack("<IIIIIIII", 1, title, 0, names, names, 0, 0, 0), 32)
    export = 0
    if exports or name:
        table = data.add(b"".join(struct.pack("<I", data.text(e)) for e in exports) or b"\0" * 4)
        export = data.add(struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, data.text(name or "x.dll"), 1, len(exports), len(exports), table, table, table))
    parts = [(b".rdata", bytes(data.bytes))] + ([(b".nv_fatb", fatbin(codes))] if codes else [])
    directories = [(export, 40 if export else 0), (imports, 40 if imports else 0), *[(0, 0)] * 11, (late, 64 if late else 0), (0, 0), (0, 0)]
    optional = struct.pack("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, 14, 0, 0, 0, 0, 0, 0, 0x180000000, PAGE, 512, 6, 0, 0, 0, 6, 0, 0, PAGE * 8, START, 0, 2, 0, 0, 0, 0, 0, 0, 16)
    optional += b"".join(struct.pack("<II", *d) for d in directories)
    head = bytearray(b"MZ" + b"\0" * 58 + struct.pack("<I", 64) + b"PE\0\0")
    head += struct.pack("<HHIIIHH", MACHINES[machine], len(parts), 0, 0, 0, len(optional), 0x2022) + optional
    body, address, at = b"", PAGE, START
    for title, content in parts:
        padded = content + b"\0" * (-len(content) % 512)
        head += title.ljust(8, b"\0") + struct.pack("<IIIIIIHHI", len(content), address, len(padded), at, 0, 0, 0, 0, 0x40000040)
        body += padded
        address += (len(content) + PAGE - 1) // PAGE * PAGE
        at += len(padded)
    return bytes(head).ljust(START, b"\0") + body


def _imported(data, libraries, entry, size) -> int:
    entries = b""
    for library in libraries:
        title, names = (library, ()) if isinstance(library, str) else library
        places = [data.add(struct.pack("<H", 0) + n.encode() + b"\0") for n in names]
        entries += entry(data.add(b"".join(struct.pack("<Q", p) for p in (*places, 0))), data.text(title))
    return data.add(entries + b"\0" * size) if entries else 0
