"""The small language of the runner's own machinery: what its functions compute as machine code."""
import ctypes
import itertools
import struct
import textwrap
import types

import numpy as np
import pytest

from forno.cpu import code
from forno.gpu.ptx import machine, native

HEADER = "from forno.gpu.ptx.native import *\nLIMIT = 12\n"
_numbers = itertools.count()


def compiled(text: str, tmp_path, monkeypatch) -> dict:
    """Addresses of the functions of a text, by name."""
    name = f"native_sample{next(_numbers)}"
    path = tmp_path / f"{name}.py"
    path.write_text(HEADER.replace("import *", f"import {', '.join(native.BUILTINS)}, i8, i16, i32, i64, u8, u16, u32, f32, f64") + textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    assert isinstance(module, types.ModuleType)
    out = np.zeros(32, np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.load(native.text(module, table=name), name, 1))(out.ctypes.data)
    return dict(zip(native.functions(module), out.tolist()))


def whole(address, *args): return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(args))(address)(*args)


def test_statements(tmp_path, monkeypatch):
    f = compiled("""
        def total(words, count):
            out = 0
            for i in range(count): out += i64[words, i]
            return out

        def collatz(n):
            steps = 0
            while n != 1:
                if n % 2 == 0: n //= 2
                else: n = 3 * n + 1
                steps += 1
                if steps > 1000: break
            return steps

        def skips(n):
            out = 0
            for i in range(1, n, 3):
                if i & 1: continue
                out = out * 10 + i
            return out

        def logic(a, b): return (1 if a < b and not b == 5 else 2) + (10 if a > b or b == 5 else 20)

        def guarded(address): return i64[address] if address != 0 else -1

        def bounded(n):
            if n > LIMIT: return LIMIT
            return n

        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        """, tmp_path, monkeypatch)
    values = np.array([5, -7, 1 << 40], np.int64)
    assert whole(f["total"], values.ctypes.data, 3) == values.sum()
    assert whole(f["collatz"], 27) == 111
    assert whole(f["skips"], 14) == 50
    assert [whole(f["logic"], a, b) for a, b in ((1, 2), (2, 1), (1, 5), (3, 3))] == [21, 12, 12, 22]
    assert whole(f["guarded"], 0) == -1 and whole(f["guarded"], values.ctypes.data) == 5
    assert [whole(f["bounded"], n) for n in (3, 20)] == [3, 12]
    assert whole(f["factorial"], 10) == 3628800


def test_numbers(tmp_path, monkeypatch):
    f = compiled("""
        def halves(bits_): return bits(double(bits_) * 0.5 + 1.0)
        def cut(bits_): return bits(to_f32(double(bits_)))
        def words(address):
            u16[address] = -2
            i8[address + 2] = 200
            return u16[address] + i16[address] * 1000 + i8[address + 2] * 1000000 + u8[address + 2] * 1000000000
        def shifts(a): return (a >> 4) + shift_right(a, 60) + less(a, 0)
        def counts(a): return popcount(a) + 100 * count_zeros(a) + 10000 * trailing_zeros(a)
        def moves(to, at, n):
            fill(to, 7, n + 1)
            copy(to, at, n)
            return u8[to, n]
        def apply(function, a, b): return invoke(function, a, b)
        def minus(a, b): return a - b
        """, tmp_path, monkeypatch)
    as_bits = lambda x: struct.unpack("<q", struct.pack("<d", x))[0]
    assert whole(f["halves"], as_bits(3.0)) == as_bits(2.5)
    assert whole(f["cut"], as_bits(0.1)) == struct.unpack("<I", struct.pack("<f", 0.1))[0]
    room = np.zeros(16, np.uint8)
    assert whole(f["words"], room.ctypes.data) == 65534 - 2000 - 56 * 1000000 + 200 * 1000000000
    assert whole(f["shifts"], -256) == -16 + 15
    assert whole(f["counts"], 0b1100) == 2 + 6000 + 20000
    source = np.arange(8, dtype=np.uint8)
    assert whole(f["moves"], room.ctypes.data, source.ctypes.data, 8) == 7 and room[:8].tolist() == list(range(8))
    assert whole(f["apply"], f["minus"], 10, 3) == 7


@pytest.mark.parametrize(("text", "why"), [("def f(a): return [a]", "not in this language"), ("def f(a): return b", "neither"), ("def f(a): return g(a)", "unknown function"),
                                           ("def f(a):\n    x = 1\n    x = 2.0\n    return x", "where"), ("def f(a): return 0 < a < 2", "one comparison")])
def test_what_it_refuses(text, why, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=why): compiled(text, tmp_path, monkeypatch)


def test_the_runtime_fits_its_table():
    """Kernels find the runtime's functions behind each other in a block's words."""
    from forno.gpu.ptx.layout import BLOCK_WORDS, FUNCTIONS
    assert FUNCTIONS + len(machine.positions()) <= BLOCK_WORDS
    assert len(set(machine.addresses().tolist())) == len(machine.positions())
