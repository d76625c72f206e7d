"""Files that come from anywhere: libraries, metadata and caches, whole, cut and changed. Whatever is in them, the readers answer, soon, and run nothing."""
import os
import random
import struct
import time

import pytest

from forno_doctor import Host, elf, fatbin, pe
from forno_doctor.loader import Loader
from forno_doctor.packages import Environment, constants, header

from .elf_file import library
from .machines import Machine
from .pe_file import dll

CODES = [("sass", 75), ("sass", 90), ("ptx", 90)]
ELF = library("libx.so.1", ["libc10.so", "libcudart.so.12"], runpath="$ORIGIN:$ORIGIN/../lib", defined=["f", "_ZN1aE"], undefined=["g"], codes=CODES)
PE = dll("x.dll", [("c10.dll", ["g", "h"]), "KERNEL32.dll"], delayed=[("nvcuda.dll", ["cuInit"])], exports=["f", "k"], codes=CODES)
SECONDS = 2.0                                  # for one file, on a busy machine


def codes(data, about): return {(c.kind, c.number) for c in fatbin.count(data, about.fatbins) if c is not None}


def test_elf():
    x = elf.parse(ELF, symbols=True)
    assert (x.machine, x.soname, x.needed, x.runpath, x.rpath) == ("x86_64", "libx.so.1", ["libc10.so", "libcudart.so.12"], ["$ORIGIN", "$ORIGIN/../lib"], [])
    assert x.symbols == (frozenset(("f", "_ZN1aE")), frozenset("g"))
    assert codes(ELF, x) == {("sass", 75), ("sass", 90), ("ptx", 90)}


def test_pe():
    x = pe.parse(PE, symbols=True)
    assert (x.machine, x.soname, x.needed) == ("x86_64", "x.dll", ["c10.dll", "KERNEL32.dll", "nvcuda.dll"])
    assert x.symbols == (frozenset(("f", "k")), frozenset(("g", "h", "cuInit")))
    assert codes(PE, x) == {("sass", 75), ("sass", 90), ("ptx", 90)}


def mutations(whole: bytes, seed: int, count: int):
    """Cut, with bytes changed, with numbers made huge, with parts moved."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            kind, at = rng.randrange(5), rng.randrange(len(data))
            if kind == 0: data[at] = rng.randrange(256)
            elif kind == 1: data[at:at + 8] = struct.pack("<Q", rng.choice((2**63, 2**32 - 1, 2**64 - 1, len(data), 0, 1, 2**31)))
            elif kind == 2: data[at:at + 4] = struct.pack("<I", rng.choice((2**32 - 1, len(data) - 1, 2**31, 0xFFFF, 0)))
            elif kind == 3: del data[at:at + rng.randrange(1, 64)]
            else: data[at:at] = data[rng.randrange(len(data)):][:rng.randrange(200)]
            if len(data) < 80: break
        yield bytes(data)


@pytest.mark.parametrize("parse, whole", [(elf.parse, ELF), (pe.parse, PE)], ids=["elf", "pe"])
def test_changed_libraries(parse, whole):
    answered = 0
    for data in mutations(whole, 11, 4000):
        start = time.perf_counter()
        try: codes(data, parse(data, symbols=True))
        except elf.Broken: pass
        else: answered += 1
        assert time.perf_counter() - start < SECONDS
    assert 100 < answered < 3900               # some changes hit what nobody reads, most don't


@pytest.mark.parametrize("parse, whole", [(elf.parse, ELF), (pe.parse, PE)], ids=["elf", "pe"])
def test_cut_libraries(parse, whole):
    for n in range(0, len(whole), 7):
        try: parse(whole[:n], symbols=True)
        except elf.Broken: pass


def test_libraries_that_would_take_forever():
    """Tables that overlap, chains without an end: bounded by what is in the file."""
    endless = bytearray(library("x", defined=["f"]))
    hash_tag = endless.find(struct.pack("<q", 4), endless.find(struct.pack("<q", 5)))           # DT_HASH becomes DT_GNU_HASH whose chain never ends
    endless[hash_tag:hash_tag + 8] = struct.pack("<q", 0x6FFFFEF5)
    names = dll("x.dll", [("a.dll", ["n" * 2000] * 200)] * 50)
    for data, parse in ((bytes(endless) + b"\0" * (1 << 22), elf.parse), (names, pe.parse), (ELF + b"\x50\xed\x55\xba" * (1 << 20), elf.parse)):
        start = time.perf_counter()
        try: parse(data, symbols=True)
        except elf.Broken: pass
        assert time.perf_counter() - start < SECONDS


def test_gpu_code_without_an_end():
    empty = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 0) * 300_000
    start = time.perf_counter()
    try: assert not set(fatbin.count(empty, [(0, len(empty))])) - {None}
    except elf.Broken: pass
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize("text", ["", "\0" * 1000, "Name: x", "Name\n:::\n\n", "Name: a\nVersion: 1\nRequires-Dist: " + "x" * 100_000, "é\udcff", ": : :\n" * 1000])
def test_metadata(tmp_path, text):
    m = Machine(tmp_path)
    m._place(f"{m.site}/x-1.0.dist-info").mkdir(parents=True)
    for name in ("METADATA", "RECORD", "INSTALLER", "WHEEL", "direct_url.json"): (m._place(f"{m.site}/x-1.0.dist-info") / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    for p in Environment(m.host(), [m.site]).all: assert p.name and p.version and isinstance(p.record, frozenset)
    header(text)


def test_changed_metadata_and_records(tmp_path):
    m, rng = Machine(tmp_path).package("torch", "2.6.0", ["numpy<2; python_version < '3.12'", "nvidia-cudnn-cu12 (==9.1)"], ["a/b.py", '"odd,name.py"']), random.Random(3)
    place = m._place(f"{m.site}/torch-2.6.0.dist-info")
    whole = {n: (place / n).read_bytes() for n in ("METADATA", "RECORD")}
    for _ in range(60):
        for name, data in whole.items():
            data = bytearray(data)
            for _ in range(rng.randrange(1, 8)): data[rng.randrange(len(data))] = rng.randrange(256)
            (place / name).write_bytes(data)
        for p in Environment(m.host(), [m.site]).all: assert isinstance(p.record, frozenset) and isinstance(p.requires, list)


def test_a_version_file_is_read_and_not_run(tmp_path):
    """Whatever torch/version.py says: nothing of it runs, and no text is too deep."""
    flag = tmp_path / "ran"
    assert constants(f"import os\nopen({str(flag)!r}, 'w')\n__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\nhip = None\ndebug = False\nx = f()\n") == \
        {"__version__": "2.6.0+cu124", "cuda": "12.4", "hip": None, "debug": False}
    assert not flag.exists()
    for text in ("(" * 200_000, "-" * 1_000_000 + "1", "x = " + "[" * 100_000, "\0", "cuda = '12" * 10_000, "cuda = " + "'" * 100_000):
        start = time.perf_counter()
        constants(text)
        assert time.perf_counter() - start < SECONDS


def test_folders_that_go_in_circles(tmp_path):
    m = Machine(tmp_path).link("/a", "/b").link("/b", "/a").link("/c/d", "../c")
    host = m.host()
    assert host.real("/a") is None and host.bytes("/a") is None and host.names("/b") == [] and host.real("/c/d/d/d/d") is not None
    assert host.real("/../../../etc/os-release") == "/etc/os-release"        # nothing outside the folder


def test_a_cache_of_libraries_that_lies(tmp_path):
    m = Machine(tmp_path)
    names = b"libcuda.so.1\0/usr/lib/libcuda.so.1\0"
    start = 48 + 24 * 2
    good = b"glibc-ld.so.cache1.1" + struct.pack("<II", 2, len(names)) + b"\0" * 20 + struct.pack("<iIIIQ", 0x303, start, start + 13, 0, 0) * 2 + names
    m.file("/etc/ld.so.cache", good)
    assert Loader(m.host()).cache["libcuda.so.1"]
    for data in [*mutations(good, 5, 200), b"glibc-ld.so.cache1.1" + struct.pack("<II", 2**32 - 1, 0) + b"\0" * 20 + struct.pack("<iIIIQ", 0x303, 48, 48, 0, 0) * 100_000 + b"x" * 100]:
        m.file("/etc/ld.so.cache", data)
        begin = time.perf_counter()
        assert isinstance(Loader(m.host()).cache, dict)
        assert time.perf_counter() - begin < SECONDS



@pytest.mark.slow
def test_many_changed_libraries():
    for seed in range(40):
        for parse, whole in ((elf.parse, ELF), (pe.parse, PE)):
            for data in mutations(whole, seed, 10_000):
                try: codes(data, parse(data, symbols=True))
                except elf.Broken: pass


def test_what_a_host_has_not(tmp_path):
    host = Host(root=tmp_path, answers={})
    assert host.text("/x") is None and host.names("/x") == [] and host.library("/x") is None and host.ask("x") is None and not host.exists("/x")
    (tmp_path / "y").write_bytes(os.urandom(1000))
    assert host.library("/y") is None
