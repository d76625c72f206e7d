"""IR to machine code: correctness, what is refused, and a cache that survives everything."""
import ctypes
import os
import stat
import threading
import time

import numpy as np
import pytest

from forno.cpu import code, emit, isa

from .handmade import call, kernel, store

CONSTANTS = kernel("""  %p = load ptr, ptr %vals
  %v = load <16 x float>, ptr %p, align 4
  %w = fadd <16 x float> %v, <float 1.0, float 2.5, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0, float 8.0,
                              float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0, float 15.0, float 16.0>
  store <16 x float> %w, ptr %p, align 4""")


def files(path): return [f for f in os.listdir(path) if not f.startswith(".")]


# ---- code
@pytest.mark.parametrize("opt", [0, 1, 2, 3])
def test_levels_run(opt):
    for _ in range(2): assert call(code.load(store(41 + opt), "k", opt)) == 41 + opt


def test_constant_pools_are_found():
    for opt in range(4):
        x = np.arange(16, dtype=np.float32)
        p = np.array([x.ctypes.data])
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(code.load(CONSTANTS, "k", opt))(None, p.ctypes.data, None)
        assert x[1] == 3.5 and x[15] == 31


def test_same_name_in_many_texts():
    addresses = code.precompile([(store(1000 + i), "k", 1) for i in range(40)])
    assert [call(a) for a in addresses] == list(range(1000, 1040))


def test_loaded_once():
    first, reused = code.load(store(5), "k"), code.stats.reused
    assert code.load(store(5), "k") == first and code.stats.reused == reused + 1
    assert code.load(store(5), "k", 2) != first
    assert len(set(code.precompile([(store(77), "k", 1)] * 3))) == 1


def test_inner_functions_and_globals_stay_private():
    helper = "@g = global i64 3\ndefine i64 @twice(i64 %x) alwaysinline {\n %g = load i64, ptr @g\n %y = mul i64 %x, %g\n ret i64 %y\n}"
    for opt in range(4):
        text = kernel("  %p = load ptr, ptr %vals\n  %r = call i64 @twice(i64 7)\n  store i64 %r, ptr %p", helper)
        assert call(code.load(text, "k", opt)) == 21
        assert call(code.load(text.replace("i64 7", "i64 9"), "k", opt)) == 27       # the same inner names again


def test_calls_to_the_allowed_outside():
    text = kernel("  %p = load ptr, ptr %vals\n  %m = call double @pow(double 2.0, double 10.0)\n  %i = fptosi double %m to i64\n"
                  "  call void @llvm.memset.p0.i64(ptr %p, i8 1, i64 8, i1 false)\n  %o = load i64, ptr %p\n  %s = add i64 %o, %i\n  store i64 %s, ptr %p",
                  "declare double @pow(double, double)\ndeclare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    assert call(code.load(text, "k")) == 0x0101010101010101 + 1024


# ---- refusals: exceptions, and the process lives on
BAD = {
    "syntax": ("define void @k( {", "k", "expected"),
    "empty": ("", "k", "defines no function 'k'"),
    "verifier": (kernel("  %a = add i64 1, 1\n  br label %x\nx:\n  %q = phi i64 [ 1, %nowhere ]"), "k", "nowhere"),
    "types": (kernel("  %a = fadd float 1.0, i64 2"), "k", "error"),
    "missing": (store(1), "other", "defines no function 'other'"),
    "declared": ("declare void @k(ptr, ptr, ptr)", "k", "defines no function"),
    "zero": (store(1) + "\0", "k", "zero character"),
    "system": (kernel("  %r = call i32 @system(ptr null)", "declare i32 @system(ptr)"), "k", "'system'"),
    "syscall": (kernel("  %r = call i64 (i64, ...) @syscall(i64 60)", "declare i64 @syscall(i64, ...)"), "k", "'syscall'"),
    "data": (kernel("  %p = load ptr, ptr %vals\n  store ptr @environ, ptr %p", "@environ = external global ptr"), "k", "'environ'"),
    "libcall": (kernel("  %p = load ptr, ptr %vals\n  %a = load i128, ptr %p\n  %d = sdiv i128 %a, 7\n  store i128 %d, ptr %p"), "k", "divti3"),
    "fp128": (kernel("  %p = load ptr, ptr %vals\n  %a = load fp128, ptr %p\n  %d = fmul fp128 %a, %a\n  store fp128 %d, ptr %p"), "k", "'__multf3'"),
    "intrinsic": (kernel("  call void @llvm.no.such()", "declare void @llvm.no.such()"), "k", "llvm.no.such"),
    "other machine": (kernel("  call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"), "k", "neon"),
    "assembly": (kernel('  call void asm sideeffect "hlt", ""()'), "k", "inline assembly"),
    "module assembly": ('module asm ".globl x"\n' + store(1), "k", "inline assembly"),
    "thread local": ("@t = thread_local global i64 0\n" + store(1), "k", "thread_local"),
    "alias": ("@a = alias void (ptr, ptr, ptr), ptr @k\n" + store(1), "k", "besides"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.skipif(isa.level == "neon", reason="libcalls have other names")
def test_refused(case):
    text, name, words = BAD[case]
    for opt in (0, 1, 2):
        with pytest.raises(emit.BadCode, match=words): code.load(text, name, opt)
    assert call(code.load(store(3), "k")) == 3


def test_narrow_targets_refuse_wide_intrinsics(script):
    out = script("""
from forno.cpu import code, emit
t = kernel('  %v = call <16 x float> @llvm.x86.avx512.mask.scalef.ps.512(<16 x float> zeroinitializer, <16 x float> zeroinitializer, '
           '<16 x float> zeroinitializer, i16 -1, i32 4)', 'declare <16 x float> @llvm.x86.avx512.mask.scalef.ps.512(<16 x float>, <16 x float>, <16 x float>, i16, i32)')
h = kernel('  %p = load ptr, ptr %vals\\n  %a = load half, ptr %p\\n  %b = fadd half %a, %a\\n  store half %b, ptr %p')
for x in (t, h):
    try: code.load(x, 'k')
    except emit.BadCode as e: print(e)
""", FORNO_CPU="baseline").stdout.splitlines()
    assert "needs avx512f" in out[0] and "'__" in out[1]                               # half without F16C would be a library call


# ---- the folder
LOAD = "from forno.cpu import code\nprint(call(code.load(store(9), 'k')), code.stats.compiled, code.stats.loaded, code.stats.bad_files, code.stats.unwritten)\n"


def test_found_again_by_the_next_process(script, tmp_path):
    assert script(LOAD).stdout == "9 1 0 0 0\n"
    assert script(LOAD).stdout == "9 0 1 0 0\n"
    folder = tmp_path / "cache" / "code"
    assert len(files(folder)) == 1 and stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert script(LOAD, FORNO_OPT="2").stdout == "9 1 0 0 0\n"                          # another level is another file
    assert script(LOAD, FORNO_CPU="baseline").stdout.startswith("9 1 0")


DAMAGE = {
    "truncated": lambda b: b[:len(b) // 2], "empty": lambda b: b"", "header only": lambda b: b[:80], "a bit": lambda b: b[:300] + bytes([b[300] ^ 1]) + b[301:],
    "longer": lambda b: b + b"x", "random": lambda b: bytes(range(256)) * 8, "bare object": lambda b: b[80:], "other length": lambda b: b[:8] + b"\xff" * 8 + b[16:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_files_are_deleted_not_loaded(tmp_path, how):
    cache, key, object_code = code.Cache(str(tmp_path / "c"), 1 << 20), b"k" * 32, bytes(range(256)) * 4
    cache.write(key, object_code)
    path = tmp_path / "c" / key.hex()
    assert cache.read(key) == object_code
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    bad = code.stats.bad_files
    assert cache.read(key) is None and code.stats.bad_files == bad + 1 and not path.exists()


def test_a_damaged_file_is_compiled_again(script, tmp_path):
    script(LOAD)
    path = tmp_path / "cache" / "code" / files(tmp_path / "cache" / "code")[0]
    good = path.read_bytes()
    path.write_bytes(good[:-5])
    assert script(LOAD).stdout == "9 1 0 1 0\n"
    assert path.read_bytes() == good


def test_a_file_under_another_key_is_not_loaded(script, tmp_path):
    script(LOAD + "code.load(store(10), 'k')\n")
    folder = tmp_path / "cache" / "code"
    a, b = files(folder)
    (folder / a).write_bytes((folder / b).read_bytes())
    (folder / b).unlink()
    assert "9 1 0" in script(LOAD).stdout


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folders_that_others_may_write_to_are_not_used(script, tmp_path, mode):
    folder = tmp_path / "cache" / "code"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    done = script(LOAD)
    assert done.stdout == "9 1 0 0 0\n" and done.stderr.count("not cached") == 1 and not files(folder)


def test_a_link_is_not_followed(script, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "code").symlink_to(tmp_path / "elsewhere")
    assert "not cached" in script(LOAD).stderr and not files(tmp_path / "elsewhere")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_stranger_s_folder_is_not_used(script, tmp_path):
    folder = tmp_path / "cache" / "code"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, 12345, 12345)
    assert "not cached" in script(LOAD).stderr and not files(folder)


def test_no_disk(script, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert script(LOAD).stdout == "9 1 0 0 0\n"
    assert script(LOAD, FORNO_CACHE_DIR="/proc/no/such").stdout == "9 1 0 0 0\n"
    assert script(LOAD, FORNO_CACHE_SIZE="0").stdout == "9 1 0 0 0\n"


def test_a_full_disk_is_counted(script):
    full = "import builtins\nreal = open\ndef full(p, *a, **k):\n    if 'wb' in a: raise OSError(28, 'No space left on device')\n    return real(p, *a, **k)\n"
    assert script(full + "builtins.open = full\n" + LOAD).stdout == "9 1 0 0 1\n"


def test_the_size_is_bounded_and_the_oldest_go(tmp_path):
    cache = code.Cache(str(tmp_path / "c"), 100_000)
    for i in range(30): cache.write(bytes([i]) * 32, b"x" * 10_000)
    for i in range(30): os.utime(tmp_path / "c" / (bytes([i]) * 32).hex(), (1000 + i, 1000 + i))
    (tmp_path / "c" / ".left.by.a.dead.writer").write_bytes(b"x")
    os.utime(tmp_path / "c" / ".left.by.a.dead.writer", (5, 5))
    assert cache.read(bytes([2]) * 32) == b"x" * 10_000                                 # a use makes it young
    cache.evict()
    left = {int(f[:2], 16) for f in files(tmp_path / "c")}
    assert left == {2, *range(24, 30)} or left == {2, *range(23, 30)}
    assert not os.path.exists(tmp_path / "c" / ".left.by.a.dead.writer")
    assert cache.read(bytes([5]) * 32) is None


def test_concurrent_writers(script, tmp_path):
    """Four processes write and read the same 30 kernels while a fifth keeps deleting files."""
    source = "from forno.cpu import code\nr = [call(a) for a in code.precompile([(store(i), 'k', 0) for i in range(30)])]\nassert r == list(range(30))\n" \
             "print(code.stats.bad_files)"
    out, stop = [], []

    def vandal():
        while not stop:
            for f in (os.listdir(tmp_path / "cache" / "code") if (tmp_path / "cache" / "code").exists() else [])[::5]:
                (tmp_path / "cache" / "code" / f).unlink(missing_ok=True)
            time.sleep(0.01)
    processes = [threading.Thread(target=lambda: out.append(script(source).stdout)) for _ in range(4)]
    v = threading.Thread(target=vandal)
    v.start()
    for t in processes: t.start()
    for t in processes: t.join()
    stop.append(1)
    v.join()
    assert out == ["0\n"] * 4 and not [f for f in os.listdir(tmp_path / "cache" / "code") if f.startswith(".")]


def test_threads_compile_and_fork(script):
    out = script("""
import os, threading
from forno.cpu import code
bad = []
def work(s):
    for i in range(15):
        if call(code.load(store(s * 100 + i), 'k')) != s * 100 + i: bad.append(s)
ts = [threading.Thread(target=work, args=(s,)) for s in range(4)]
for t in ts: t.start()
for i in range(5):
    pid = os.fork()
    if pid == 0: os._exit(0 if call(code.load(store(9000 + i), 'k')) == 9000 + i else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
for t in ts: t.join()
print(bad)
""")
    assert out.stdout == "[]\n"
