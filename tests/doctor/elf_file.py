"""Writes small shared libraries of Linux by hand: headers, a dynamic section, symbols and GPU code, nothing that could run. Source: System V ABI, chapters 4 and 5."""
import struct

MACHINES = {"x86_64": 62, "aarch64": 183}
NEEDED, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, SONAME, RPATH, RUNPATH = 1, 4, 5, 6, 10, 11, 14, 15, 29


class Strings:
    def __init__(self): self.bytes, self.at = b"\0", {"": 0}

    def __call__(self, text: str) -> int:
        if text not in self.at:
            self.at[text] = len(self.bytes)
            self.bytes += text.encode() + b"\0"
        return self.at[text]


def fatbin(codes) -> bytes:
    """A container of GPU code as NVIDIA's fatbinary writes it; `codes`: ("sass" or "ptx", 90) …"""
    entries = b""
    for kind, arch in codes:
        body = b"\0" * 32
        entries += struct.pack("<HHIQIIIII", {"ptx": 1, "sass": 2}[kind], 0x101, 64, len(body), 0, 0, 0, arch, 64) + b"\0" * 28 + body
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def library(soname="", needed=(), runpath="", rpath="", defined=(), undefined=(), codes=(), machine="x86_64") -> bytes:
    names = Strings()
    tags = [(NEEDED, names(n)) for n in needed]
    tags += [(tag, names(text)) for tag, text in ((SONAME, soname), (RUNPATH, runpath), (RPATH, rpath)) if text]
    symbols = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    symbols += b"".join(struct.pack("<IBBHQQ", names(n), 0x12, 0, section, 0x1000 * section, 8) for section, group in ((1, defined), (0, undefined)) for n in group)
    count = len(symbols) // 24
    parts, places, at = [], {}, 64 + 2 * 56
    for name, data in (("strings", names.bytes), ("symbols", symbols), ("hash", struct.pack("<IIII", 1, count, 0, 0) + b"\0" * 4 * count)):
        data += b"\0" * (-len(data) % 8)
        places[name] = at
        parts.append(data)
        at += len(data)
    tags += [(STRTAB, places["strings"]), (STRSZ, len(names.bytes)), (SYMTAB, places["symbols"]), (SYMENT, 24), (HASH, places["hash"]), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *t) for t in tags)
    code, titles = fatbin(codes) if codes else b"", b"\0.nv_fatbin\0.shstrtab\0"
    places |= {"dynamic": at, "code": at + len(dynamic), "titles": at + len(dynamic) + len(code)}
    end = places["titles"] + len(titles)
    sections = [(0, 0, 0, 0), (1, 1, places["code"], len(code)), (12, 3, places["titles"], len(titles))] if code else []
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, kind, 0, at, at, n, 0, 0, 8, 0) for name, kind, at, n in sections)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, end, end, 4096) + struct.pack("<IIQQQQQQ", 2, 6, places["dynamic"], places["dynamic"], 0, len(dynamic), len(dynamic), 8)
    head = b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 3, MACHINES[machine], 1, 0, 64, end if sections else 0, 0, 64, 56, 2, 64, len(sections), len(sections) - 1 if sections else 0)
    return head + segments + b"".join(parts) + dynamic + code + titles + table
