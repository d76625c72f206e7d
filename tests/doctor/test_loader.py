"""The loader's search: every rule on hand-made libraries, and the same answers as the machine's own loader on real ones."""
import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from forno_doctor import Host
from forno_doctor.loader import EXTENSION_MAGIC, MAGIC, Loader

from .machines import Machine

APP = "/srv/app/libapp.so"
V2, V3 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"


def cache(entries, levels=()) -> bytes:
    """ld.so.cache as ldconfig writes it; `entries`: (name, file, level or None, flags)."""
    names, texts, rows = {}, b"", b""
    at = 48 + 24 * len(entries)
    for text in [x for name, file, *_ in entries for x in (name, file)] + list(levels):
        if text not in names:
            names[text] = at + len(texts)
            texts += text.encode() + b"\0"
    for name, file, level, flags in entries:
        rows += struct.pack("<iIIIQ", flags, names[name], names[file], 0, 0 if level is None else 1 << 62 | list(levels).index(level))
    extension = at + len(texts) + -len(texts) % 4 if levels else 0
    head = MAGIC + struct.pack("<IIB3xI12x", len(entries), len(texts), 2, extension)
    listed = struct.pack(f"<II IIII {len(levels)}I", EXTENSION_MAGIC, 1, 1, 0, extension + 24, 4 * len(levels), *(names[x] for x in levels)) if levels else b""
    return head + rows + texts + (b"\0" * (-len(texts) % 4) + listed if levels else b"")


@pytest.fixture
def m(tmp_path): return Machine(tmp_path)


def taken(m, name="libz.so.1", by=APP, **environment):
    """What the library at APP gets for a name."""
    m.environment(**environment)
    found = Loader(m.host()).load(by)[name]
    return found.rule, found.path


# ---------------------------------------------------------------- one rule at a time
def test_folders_in_their_order(m):
    """Every rule has its file; one after the other is taken away."""
    def app(**paths): m.library(APP, needed=["libz.so.1"], **paths)
    for folder in ("/srv/rpath", "/srv/env", "/srv/runpath", "/srv/conf", "/usr/lib"): m.library(f"{folder}/libz.so.1")
    m.file("/etc/ld.so.cache", cache([("libz.so.1", "/srv/conf/libz.so.1", None, 0x303)]))
    app(rpath="/srv/rpath")
    assert taken(m, LD_LIBRARY_PATH="/srv/env") == ("RPATH", "/srv/rpath/libz.so.1")
    app(rpath="/srv/rpath", runpath="/srv/runpath")
    assert taken(m) == ("LD_LIBRARY_PATH", "/srv/env/libz.so.1")           # RUNPATH takes RPATH its word
    assert taken(m, LD_LIBRARY_PATH="") == ("RUNPATH", "/srv/runpath/libz.so.1")
    app()
    assert taken(m) == ("ld.so.cache", "/srv/conf/libz.so.1")
    m.file("/etc/ld.so.cache", b"rubbish")
    assert taken(m) == ("default", "/usr/lib/libz.so.1")


def test_what_later_rules_would_have_found(m):
    m.library(APP, needed=["libz.so.1"], runpath="/srv/runpath").library("/srv/env/libz.so.1").library("/srv/runpath/libz.so.1").link("/usr/lib/libz.so.1", "/srv/env/libz.so.1")
    found = Loader(m.environment(LD_LIBRARY_PATH="/srv/env").host()).load(APP)["libz.so.1"]
    assert found.others == [("RUNPATH", "/srv/runpath/libz.so.1")] and found.by == APP             # a link to the file that is taken is no other one


def test_rpath_reaches_down_and_runpath_does_not(m):
    m.library("/srv/app/deep/liby.so", needed=["libz.so.1"]).library("/srv/far/libz.so.1")
    m.library(APP, needed=["liby.so"], rpath="$ORIGIN/deep:/srv/far")
    assert taken(m) == ("RPATH", "/srv/far/libz.so.1")
    m.library(APP, needed=["liby.so"], runpath="$ORIGIN/deep:/srv/far")
    assert taken(m) == (None, None)
    m.library(APP, needed=["liby.so"], rpath="$ORIGIN/deep:/srv/far").library("/srv/app/deep/liby.so", needed=["libz.so.1"], runpath="/srv/none")
    assert taken(m) == (None, None)                                        # who asks has a RUNPATH: no RPATH counts


def test_rpath_of_the_program_is_the_last_one(m):
    """As conda's python has it: its libraries are found by everything without a RUNPATH."""
    m.library("/opt/conda/bin/python3.12", soname="", rpath="$ORIGIN/../lib").library("/opt/conda/lib/libstdc++.so.6").library("/usr/lib/libstdc++.so.6")
    m.library(APP, needed=["libstdc++.so.6"]).library("/srv/app/libother.so", needed=["libstdc++.so.6"], runpath="$ORIGIN")
    for path, rule in ((APP, "RPATH"), ("/srv/app/libother.so", "default")):
        assert Loader(m.host(), program="/opt/conda/bin/python3.12").load(path)["libstdc++.so.6"].rule == rule


@pytest.mark.parametrize("text, folder", [
    ("/srv/a;/srv/env", "/srv/env"), ("/srv/a::/srv/b", "/srv/here"), (":/srv/env", "/srv/here"), ("/srv/a:", "/srv/here"), ("$ORIGIN/../lib", "/srv/python/lib"),
    ("${ORIGIN}/../lib", "/srv/python/lib"), ("/srv/$LIB", "/srv/lib/x86_64-linux-gnu"), ("/srv/$PLATFORM", "/srv/x86_64"), ("/srv/$ORIGINAL", None)])
def test_words_of_the_search_path(m, text, folder):
    m.library("/srv/python/bin/python3").library(APP, needed=["libz.so.1"])
    if folder: m.library(f"{folder}/libz.so.1")
    found = Loader(m.environment(LD_LIBRARY_PATH=text, PWD="/srv/here").host(), program="/srv/python/bin/python3").load(APP)["libz.so.1"]
    assert found.path == (folder and f"{folder}/libz.so.1")


def test_origin_is_where_a_file_really_lies(m):
    m.library("/srv/real/libapp.so", needed=["libz.so.1"], runpath="$ORIGIN").library("/srv/real/libz.so.1").link(APP, "/srv/real/libapp.so")
    assert taken(m) == ("RUNPATH", "/srv/real/libz.so.1")


def test_files_for_other_machines_are_passed_over_and_rubbish_ends_the_search(m):
    m.library(APP, needed=["libz.so.1"]).library("/srv/arm/libz.so.1", machine="aarch64").library("/srv/good/libz.so.1")
    m.file("/srv/small/libz.so.1", b"\x7fELF\1\1\1" + b"\0" * 100).file("/srv/cut/libz.so.1", b"\x7fELF")
    assert taken(m, LD_LIBRARY_PATH="/srv/arm:/srv/small:/srv/good") == ("LD_LIBRARY_PATH", "/srv/good/libz.so.1")
    found = Loader(m.environment(LD_LIBRARY_PATH="/srv/cut:/srv/good").host()).load(APP)["libz.so.1"]
    assert found.broken and found.path == "/srv/cut/libz.so.1"


def test_what_is_loaded_is_not_searched_again(m):
    m.library(APP, needed=["libx.so", "liby.so"], runpath="$ORIGIN").library("/srv/app/libx.so", needed=["libz.so.1"], runpath="/srv/one")
    m.library("/srv/app/liby.so", needed=["libz.so.1"], runpath="/srv/two").library("/srv/one/libz.so.1").library("/srv/two/libz.so.1")
    loader = Loader(m.host())
    assert loader.load(APP)["libz.so.1"].path == "/srv/one/libz.so.1"
    assert (loader.asked("libz.so.1", "/srv/app/liby.so").rule, loader.asked("libz.so.1", "/srv/app/liby.so").path) == ("loaded", "/srv/one/libz.so.1")


def test_a_soname_counts_as_a_name(m):
    """A vendored copy under another file name serves who needs its soname."""
    m.library(APP, needed=["libz-1a2b3c4d.so.1", "liby.so"], runpath="$ORIGIN").library("/srv/app/libz-1a2b3c4d.so.1", soname="libz.so.1")
    m.library("/srv/app/liby.so", needed=["libz.so.1"]).library("/usr/lib/libz.so.1")
    assert taken(m) == ("RUNPATH", "/srv/app/libz-1a2b3c4d.so.1")


def test_cudnn_asks_for_its_parts(m):
    """By name, while the program runs: LD_LIBRARY_PATH comes before cuDNN's own RUNPATH."""
    folder = "/srv/site/nvidia/cudnn/lib"
    m.library(APP, needed=["libcudnn.so.9"], runpath=folder).library(f"{folder}/libcudnn.so.9", runpath="$ORIGIN").library(f"{folder}/libcudnn_ops.so.9").library("/srv/old/libcudnn_ops.so.9")
    for text, path in (("", f"{folder}/libcudnn_ops.so.9"), ("/srv/old", "/srv/old/libcudnn_ops.so.9")):
        loader = Loader(m.environment(LD_LIBRARY_PATH=text).host())
        loader.load(APP)
        assert loader.asked("libcudnn_ops.so.9", f"{folder}/libcudnn.so.9").path == path
        assert loader.asked("libcudnn_ops.so.9").path == ("/srv/old/libcudnn_ops.so.9" if text else None)                 # the program has no RUNPATH


# ---------------------------------------------------------------- what comes first of all
@pytest.mark.parametrize("preload", ["/srv/pre/libz.so.1", "/srv/none.so /srv/pre/libz.so.1", "libz.so.1:libq.so"])
def test_preloaded(m, preload):
    m.library("/srv/bin/python3", rpath="/srv/pre").library("/srv/pre/libz.so.1").library(APP, needed=["libz.so.1"], runpath="$ORIGIN").library("/srv/app/libz.so.1")
    found = Loader(m.environment(LD_PRELOAD=preload).host(), program="/srv/bin/python3").load(APP)["libz.so.1"]
    assert (found.rule, found.path) == ("LD_PRELOAD", "/srv/pre/libz.so.1")


def test_preloaded_by_the_system(m):
    m.library("/srv/bin/python3").library("/srv/pre/libz.so.1").file("/etc/ld.so.preload", "# by hand\n/srv/pre/libz.so.1 # why\n").library(APP, needed=["libz.so.1"])
    assert Loader(m.host(), program="/srv/bin/python3").load(APP)["libz.so.1"].rule == "LD_PRELOAD"


# ---------------------------------------------------------------- processors and machines
def test_subfolders_for_processors(m):
    for level in ("", "/glibc-hwcaps/x86-64-v2", "/glibc-hwcaps/x86-64-v3", "/glibc-hwcaps/x86-64-v4"): m.library(f"/srv/env{level}/libz.so.1")
    m.library(APP, needed=["libz.so.1"])
    for flags, folder in (("", ""), (V2, "/glibc-hwcaps/x86-64-v2"), (f"{V2} {V3}", "/glibc-hwcaps/x86-64-v3"), (f"{V3} avx512f", "")):
        m.file("/proc/cpuinfo", f"processor : 0\nflags\t\t: fpu {flags}\n")
        assert taken(m, LD_LIBRARY_PATH="/srv/env")[1] == f"/srv/env{folder}/libz.so.1"


def test_the_cache_knows_processors_and_machines(m):
    levels = ["x86-64-v2", "x86-64-v3"]
    for k in range(4): m.library(f"/srv/c{k}/libz.so.1")
    entries = [("libz.so.1", "/srv/c0/libz.so.1", None, 0x803), ("libz.so.1", "/srv/c1/libz.so.1", None, 0x303), ("libz.so.1", "/srv/c2/libz.so.1", "x86-64-v3", 0x303),
               ("libz.so.1", "/srv/c3/libz.so.1", "x86-64-v2", 0x303)]
    m.library(APP, needed=["libz.so.1"]).file("/etc/ld.so.cache", b"ld.so-1.7.0\0" + b"\0" * 20 + cache(entries, levels))
    for flags, k in (("fpu", 1), (V2, 3), (f"{V2} {V3}", 2)):
        assert taken(m.file("/proc/cpuinfo", f"flags : {flags}\n"))[1] == f"/srv/c{k}/libz.so.1"


def test_the_cache_of_another_machine(tmp_path):
    m = Machine(tmp_path, machine="aarch64").library("/srv/c/libz.so.1", machine="aarch64").library(APP, needed=["libz.so.1"], machine="aarch64")
    for flags, path in ((0xA03, "/srv/c/libz.so.1"), (0x303, None)):
        assert taken(m.file("/etc/ld.so.cache", cache([("libz.so.1", "/srv/c/libz.so.1", None, flags)])))[1] == path


def test_a_cache_that_names_a_lost_file(m):
    m.library(APP, needed=["libz.so.1"]).file("/etc/ld.so.cache", cache([("libz.so.1", "/srv/gone/libz.so.1", None, 0x303)])).library("/usr/lib/libz.so.1")
    assert taken(m) == ("default", "/usr/lib/libz.so.1")


@pytest.mark.parametrize("cut", [0, 19, 20, 40, 47, 48, 60, 100])
def test_a_damaged_cache(m, cut):
    whole = cache([("libz.so.1", "/srv/conf/libz.so.1", "x86-64-v2", 0x303)], ["x86-64-v2"])
    assert Loader(m.file("/etc/ld.so.cache", whole[:cut]).host()).cache == {}


@pytest.mark.parametrize("machine, folders, inside, lib", [
    ("x86_64", ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"], None, "lib/x86_64-linux-gnu"), ("x86_64", ["/lib64", "/usr/lib64"], "/lib64/ld-linux-x86-64.so.2", "lib64"),
    ("x86_64", ["/usr/lib"], "/lib64/ld-linux-x86-64.so.2", "lib"), ("aarch64", ["/lib64", "/usr/lib64"], "/lib/ld-linux-aarch64.so.1", "lib64"),
    ("aarch64", ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib"], "/lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu")])
def test_default_folders_as_the_loader_itself_has_them(tmp_path, machine, folders, inside, lib):
    m = Machine(tmp_path, machine=machine)
    if inside: m.file(inside, b"\x7fELF\2\1\1\0/etc/ld.so.cache\0" + b"".join(f.encode() + b"/\0" for f in folders) + b"more")
    loader = Loader(m.host())
    assert loader.defaults == folders and loader.lib == lib


def test_nothing_is_there(tmp_path):
    loader = Loader(Host(tmp_path, system="linux", machine="x86_64", environment={}, answers={}), program="/srv/none")
    assert loader.load("/srv/libnone.so") == {} and loader.asked("libcuda.so.1").path is None and loader.defaults == ["/lib", "/usr/lib"]


# ---------------------------------------------------------------- the same answers as the real one
def traced(path, **environment) -> dict:
    """What the machine's own loader says, by name: it stops before the program starts."""
    loader = next((x for x in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if os.path.exists(x)), None)
    if loader is None: pytest.skip("no ld.so of glibc here")
    done = subprocess.run([loader, str(path)], env={"LD_TRACE_LOADED_OBJECTS": "1", **environment}, capture_output=True, text=True, timeout=30)
    return {m[1]: m[2] for m in re.finditer(r"^\t(\S+) => (\S+|not found)", done.stdout, re.MULTILINE)}


def same(path, **environment):
    real = {name: None if file == "not" else os.path.realpath(file) for name, file in traced(path, **environment).items()}
    assert real, f"ld.so says nothing about {path}"
    ours = Loader(Host(system="linux", environment=environment)).load(str(path))
    assert real == {name: ours[name].path and os.path.realpath(ours[name].path) for name in real}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ld.so is Linux's")
def test_a_real_torch():
    torch = next((Path(p) / "torch" for p in sys.path if (Path(p) / "torch/lib/libtorch_python.so").exists()), None)
    if torch is None: pytest.skip("no torch installed")
    same(torch / "lib/libtorch_python.so")
    same(torch / "lib/libtorch_global_deps.so", LD_LIBRARY_PATH="/usr/lib;/lib")


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="small libraries are made with gcc")
def test_real_libraries_with_every_mixture_of_paths(tmp_path):
    """A program needs x, x needs y, y needs z; each with RPATH, RUNPATH or neither, and each names a z of its own."""
    def build(out, *arguments):
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-x", "c", "/dev/null", "-shared", "-fPIC", "-o", str(out), "-Wl,--no-as-needed", "-x", "none", *map(str, arguments)], check=True, capture_output=True, timeout=60)
    kinds = {"rpath": ["-Wl,--disable-new-dtags"], "runpath": ["-Wl,--enable-new-dtags"], "none": None}
    for z in "app", "x", "y", "env": build(tmp_path / z / "libz.so", "-Wl,-soname,libz.so")
    made = tmp_path / "made"
    for name, needs in (("y", tmp_path / "env/libz.so"), ("x", made / "y-none/liby.so"), ("app", made / "x-none/libx.so")):
        for kind in reversed(kinds):
            path = [*(kinds[kind] or []), f"-Wl,-rpath,$ORIGIN/../{name}:$ORIGIN/../lib"] if kinds[kind] else []
            build(made / f"{name}-{kind}" / f"lib{name}.so", f"-Wl,-soname,lib{name}.so", *path, needs)
    for app, x, y in itertools.product(kinds, repeat=3):
        for name, kind in (("app", app), ("x", x), ("y", y)):
            (tmp_path / "lib").mkdir(exist_ok=True)
            shutil.copy(made / f"{name}-{kind}/lib{name}.so", tmp_path / f"lib/lib{name}.so")
        for environment in {}, {"LD_LIBRARY_PATH": f"{tmp_path}/none:{tmp_path}/env;{tmp_path}/lib"}: same(tmp_path / "lib/libapp.so", **environment)
