"""Compiling on several threads: the same code, each kernel once, errors and forks and ends of the process in between. One level for all kernels."""
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from forno.cpu import code, isa

from .handmade import call, kernel, store

MANY = "from forno.cpu import code, emit, isa\nimport threading\nisa.cores = lambda: 3\njobs = [(store(i), 'k', 1) for i in range(60)]\n"
# LLVM is at it for seconds: a long chain of multiplications with shifts in between
SLOW = """
def slow(seed, n=6000):
    lines = ["  %p = load ptr, ptr %vals", f"  %x0 = add i64 {seed}, 1", "  %m0 = load i64, ptr %p"]
    for i in range(n): lines += [f"  %a{i} = mul i64 %x{i}, %m{i}", f"  %m{i + 1} = lshr i64 %a{i}, {i % 7 + 1}", f"  %x{i + 1} = xor i64 %a{i}, {i}"]
    return kernel("\\n".join([*lines, f"  store i64 %x{n}, ptr %p"]))
"""


# ---- the same code
def test_threads_give_the_same_code(script):
    out = script(MANY + "assert [call(a) for a in code.precompile(jobs)] == list(range(60))\n"
                 "print(code.stats.compiled, code.stats.helped > 0, threading.active_count())").stdout
    assert out == "60 True 1\n"


def test_objects_do_not_depend_on_threads(script, tmp_path):
    """Bytes of the cache's files, compiled by one thread and by three."""
    texts = MANY + SLOW + "jobs += [(slow(i, 40 + i), 'k', 1) for i in range(20)]\n"

    def files(name):
        return {f.name: f.read_bytes() for f in (tmp_path / name / "code").iterdir()}
    script(texts + "isa.cores = lambda: 1\ncode.precompile(jobs)", FORNO_CACHE_DIR=str(tmp_path / "one"))
    script(texts + "code.precompile(jobs)", FORNO_CACHE_DIR=str(tmp_path / "three"))
    assert len(files("one")) == 80 and files("one") == files("three")


def test_nothing_starts_when_nothing_is_compiled(script):
    script(MANY + "code.precompile(jobs)")
    out = script(MANY + "start, begun = threading.Thread.start, []\nthreading.Thread.start = lambda t: (begun.append(t), start(t))\n"
                 "code.precompile(jobs)\ncode.together([lambda: None] * 10)\nprint(len(begun), code.stats.loaded)").stdout
    assert out == "0 60\n"


def test_callables_besides_run_once_and_share_what_they_load(script):
    out = script(MANY + """
ran = []
def build(i): ran.append((i, call(code.load(store(7000 + i % 4), 'k'))))
assert [call(a) for a in code.precompile(jobs, besides=[lambda i=i: build(i) for i in range(40)])] == list(range(60))
print(sorted(ran) == [(i, 7000 + i % 4) for i in range(40)], code.stats.compiled)
code.precompile(jobs, besides=[lambda: ran.clear()])
print(ran)
""").stdout
    assert out == "True 64\n[]\n"


def test_a_kernel_is_made_once_by_threads_that_want_it_at_once(script):
    out = script(MANY + SLOW + """
text, got = slow(1, 800), []
threads = [threading.Thread(target=lambda: got.append(code.load(text, 'k'))) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print(len(set(got)), len(got), code.stats.compiled)
""").stdout
    assert out == "1 6 1\n"


# ---- failures
def test_one_bad_kernel_among_many(script):
    for where in (3, 30, 57):
        out = script(MANY + f"jobs[{where}] = ('nonsense', 'k', 1)\ntry: code.precompile(jobs)\nexcept emit.BadCode as e: print('refused')\n"
                     "print(call(code.load(store(5), 'k')), threading.active_count())").stdout
        assert out == "refused\n5 1\n"


def test_threads_that_wait_for_a_bad_kernel_get_its_error_too(script):
    out = script(MANY + SLOW + """
text, errors = slow(1, 800).replace("ret void", "call void @exit()\\n  ret void") + "declare void @exit()", []
def work():
    try: code.load(text, 'k')
    except emit.BadCode as e: errors.append(str(e))
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(errors == ["k: calls 'exit', which kernels may not use"] * 4)
""").stdout
    assert out == "True\n"


def test_no_threads_no_harm(script):
    out = script(MANY + "def refuse(t): raise RuntimeError(\"can't start new thread\")\nthreading.Thread.start = refuse\n"
                 "print([call(a) for a in code.precompile(jobs)] == list(range(60)), code.stats.helped)").stdout
    assert out == "True 0\n"


def test_an_error_of_a_callable_ends_the_others(script):
    out = script(MANY + """
def fail(): code.load(store(1), 'k'); raise LookupError('mine')
try: code.together([fail, *(lambda i=i: code.load(store(i), 'k') for i in range(2000))])
except LookupError as e: print(e, code.stats.compiled < 1000, threading.active_count())
""").stdout
    assert out == "mine True 1\n"


def test_an_interrupt_ends_all_threads(script):
    """Ctrl-C while the caller is in LLVM: it comes out between two kernels, and later kernels compile."""
    out = script(MANY + SLOW + """
import os, signal, time
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try: code.precompile([(slow(i, 400), 'k', 1) for i in range(500)])
except KeyboardInterrupt: print('interrupted', code.stats.compiled < 500)
print(call(code.load(store(5), 'k')), [t.name for t in threading.enumerate() if 'compile' in t.name])
""").stdout
    assert out == "interrupted True\n5 []\n"


# ---- forks and ends
def test_fork_while_threads_compile(script):
    """A child inherits neither a half-made kernel nor a lock: it compiles what it wants, also what its parent was just making."""
    out = script(MANY + SLOW + """
import os, time
wanted = [(slow(i, 300), 'k', 1) for i in range(12)]
maker = threading.Thread(target=lambda: code.precompile(wanted))
maker.start()
for i in range(4):
    time.sleep(0.03)
    pid = os.fork()
    if pid == 0:
        code.precompile([*wanted[:4], (store(9000 + i), 'k', 1)])
        os._exit(0 if call(code.load(store(9000 + i), 'k')) == 9000 + i and not code._claims else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
maker.join()
print(code.stats.compiled)
""").stdout
    assert out == "12\n"


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise SystemExit(3)", "os._exit(3)"])
def test_exit_while_threads_compile(script, end):
    """The main thread ends while others are in LLVM: no crash, no long wait."""
    start = time.perf_counter()
    done = script(MANY + SLOW + "import os, sys, time\nwork = [(slow(i, 400), 'k', 1) for i in range(6)]\n"
                  f"threading.Thread(target=lambda: code.precompile(work), daemon=True).start()\ntime.sleep(0.2)\n{end}", check=False)
    assert done.returncode == 3 and time.perf_counter() - start < 30 and "Fatal" not in done.stderr


def test_killed_while_compiling_leaves_a_good_folder(tmp_path):
    source = ("import sys; sys.path.insert(0, 'tests/cpu')\nfrom handmade import kernel, store, call\n" + MANY + SLOW +
              "print(1, flush=True)\ncode.precompile([(slow(i, 100), 'k', 1) for i in range(400)])")
    env = {**os.environ, "FORNO_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=env) as p:
            p.stdout.readline()
            time.sleep(0.4)
            p.send_signal(signal.SIGKILL)
    cache = code.Cache(str(tmp_path / "code"), 1 << 30)
    names = [n for n in os.listdir(cache.path) if not n.startswith(".")]
    assert names and all(cache.read(bytes.fromhex(n)) for n in names)


# ---- one level
POLYNOMIAL = kernel("""  %w = load ptr, ptr %vals
  %x = load <16 x float>, ptr %w, align 4
  %a = fmul <16 x float> %x, splat (float 0x3FB99999A0000000)
  %b = fadd <16 x float> %a, splat (float 0x3FE5555560000000)
  %c = fmul <16 x float> %b, %x
  %d = fadd <16 x float> %c, %a
  %e = fdiv <16 x float> %d, %b
  %f = fsub <16 x float> %e, %x
  store <16 x float> %f, ptr %w, align 4""")


@pytest.mark.skipif(isa.level == "neon", reason="the constant is x86's choice of vector")
def test_levels_give_the_same_bits():
    """No level contracts a product and a sum, or orders sums anew: FORNO_OPT changes speed, never a result."""
    results = []
    for opt in range(4):
        x = np.linspace(-3, 7, 16, dtype=np.float32)
        p = np.array([x.ctypes.data])
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(code.load(POLYNOMIAL, "k", opt))(None, p.ctypes.data, None)
        results.append(x.tobytes())
    assert len(set(results)) == 1


def test_threads_are_gone_afterwards():
    before = threading.active_count()
    assert [call(a) for a in code.precompile([(store(50_000 + i), "k", 1) for i in range(30)])] == list(range(50_000, 50_030))
    assert threading.active_count() == before
