"""Writes small shared libraries of Linux by hand: headers, a dynamic section, symbols and GPU code, nothing that could run. Source: System V ABI, chapters 4 and 5."""
import struct

MACHINES = {"x86_64": 62, "aarch64": 183}
NEEDED, HASH, STRTAB, SYMTAB, STRSZ, SYMENT, SONAME, RPATH, RUNPATH = 1, 4, 5, 6, 10, 11, 14, 15, 29
VERDEF, VERDEFNUM, VERNEED, VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF


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


def _asked(asks, names) -> bytes:
    """Verneed entries with their Vernaux; `asks`: {"libc.so.6": ["GLIBC_2.34"]}."""
    out = b""
    for k, (file, versions) in enumerate(asks.items(), 1):
        size = 16 + 16 * len(versions)
        out += struct.pack("<HHIII", 1, len(versions), names(file), 16, size if k < len(asks) else 0)
        out += b"".join(struct.pack("<IHHII", 0, 0, 2 + i, names(v), 16 if i < len(versions) - 1 else 0) for i, v in enumerate(versions))
    return out


def _offered(offers, names) -> bytes:
    """Verdef entries, each with one Verdaux."""
    return b"".join(struct.pack("<HHHHIIIII", 1, 0, k, 1, 0, 20, 28 if k < len(offers) else 0, names(v), 0) for k, v in enumerate(offers, 1))


def library(soname="", needed=(), runpath="", rpath="", defined=(), undefined=(), codes=(), machine="x86_64", asks=None, offers=(), text=b"") -> bytes:
    """`asks`, `offers`: versions of symbols; `text`: what lies in .rodata."""
    names = Strings()
    versions = [("asks", _asked(asks or {}, names)), ("offers", _offered(offers, names))]
    tags = [(NEEDED, names(n)) for n in needed]
    tags += [(tag, names(text)) for tag, text in ((SONAME, soname), (RUNPATH, runpath), (RPATH, rpath)) if text]
    symbols = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    symbols += b"".join(struct.pack("<IBBHQQ", names(n), 0x12, 0, section, 0x1000 * section, 8) for section, group in ((1, defined), (0, undefined)) for n in group)
    count = len(symbols) // 24
    parts, places, at = [], {}, 64 + 2 * 56
    for name, data in (("strings", names.bytes), ("symbols", symbols), ("hash", struct.pack("<IIII", 1, count, 0, 0) + b"\0" * 4 * count), *versions):
        data += b"\0" * (-len(data) % 8)
        places[name] = at
        parts.append(data)
        at += len(data)
    tags += [(STRTAB, places["strings"]), (STRSZ, len(names.bytes)), (SYMTAB, places["symbols"]), (SYMENT, 24), (HASH, places["hash"])]
    if asks: tags += [(VERNEED, places["asks"]), (VERNEEDNUM, len(asks))]
    if offers: tags += [(VERDEF, places["offers"]), (VERDEFNUM, len(offers))]
    tags.append((0, 0))
    dynamic = b"".join(struct.pack("<qQ", *t) for t in tags)
    code, titles = fatbin(codes) if codes else b"", b"\0.nv_fatbin\0.shstrtab\0.rodata\0"
    places |= {"dynamic": at, "code": at + len(dynamic), "text": at + len(dynamic) + len(code), "titles": at + len(dynamic) + len(code) + len(text)}
    end = places["titles"] + len(titles)
    sections = [(0, 0, 0, 0), (1, 1, places["code"], len(code)), (22, 1, places["text"], len(text)), (12, 3, places["titles"], len(titles))] if code or text else []
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, kind, 0, at, at, n, 0, 0, 8, 0) for name, kind, at, n in sections)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, end, end, 4096) + struct.pack("<IIQQQQQQ", 2, 6, places["dynamic"], places["dynamic"], 0, len(dynamic), len(dynamic), 8)
    head = b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 3, MACHINES[machine], 1, 0, 64, end if sections else 0, 0, 64, 56, 2, 64, len(sections), len(sections) - 1 if sections else 0)
    return head + segments + b"".join(parts) + dynamic + code + text + titles + table
