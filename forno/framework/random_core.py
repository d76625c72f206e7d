"""The random engine under torch.Generator: PyTorch's CPU generator with the same numbers, states and distributions.

Comes in: a seed or a 5056-byte state of PyTorch's, and addresses to fill. Goes out: memory filled at once, by one native call per fill.
An engine lives in native memory (offsets in `kernel/routines/random.py`); this file packs arguments and knows which kernel PyTorch would use when.
"""
from __future__ import annotations

import ctypes
import ctypes.util
import functools
import math
import os
import struct

from ..core import dtype as dt
from ..core.errors import unsupported
from ..cpu import code
from ..kernel.abi import WHOLE
from ..kernel.routines import random as native

DEFAULT_SEED = 67280421310721
STATE_BYTES = 5056
_MASK64 = (1 << 64) - 1
_STATE = struct.Struct("<QiiQ624QdddiIfB3x")   # seed, left, seeded, next, 624 numbers, normal x y rho, valid, padding, float sample, valid
_FLOATS = (dt.float16, dt.bfloat16, dt.float32, dt.float64)
_C_NAMES = {dt.uint8: "unsigned char", dt.int8: "signed char", dt.int16: "short", dt.int32: "int", dt.int64: "long"}
_DIGITS = {dt.float16: 11, dt.bfloat16: 8, dt.float32: 24, dt.float64: 53}
_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or ctypes.util.find_library("ucrtbase"))
_ADDRESSES = struct.pack(f"<{len(native.FUNCTIONS)}q", *(ctypes.cast(getattr(_LIBM, f), ctypes.c_void_p).value for f in native.FUNCTIONS))


@functools.cache
def _kernel(kind: str, *spec):
    address = code.load(code.Text(functools.partial(native.text, kind, *spec), f"{native.__name__} {kind} {spec!r}"), kind)
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)(address)


@functools.cache
def _prepared(kind: str, spec: tuple, form: str, count: int):
    places = tuple(range(1 + len(form)))
    return _kernel(kind, *spec), struct.Struct("<q" + form).pack, struct.Struct(f"<{len(places) + count}q").pack, places


def _int64(x: int) -> int:
    x &= _MASK64
    return x - (1 << 64) if x >> 63 else x


class Engine:
    """mt19937 with PyTorch's seeding and its remembered normal sample."""

    def __init__(self, seed: int = DEFAULT_SEED):
        self._memory = (ctypes.c_char * (native.SIZE + 64))()
        self.address = -(-ctypes.addressof(self._memory) // 64) * 64
        self._record = (ctypes.c_int64 * 4)()
        self._ctx = (ctypes.c_int64 * 10)(0, 1, 0, 0, 0, ctypes.addressof(self._record), 0, 0, 1 << WHOLE, 0)       # one thread, which has all the work (kernel/abi.py)
        self._context = ctypes.addressof(self._ctx)
        ctypes.memmove(self.address + native.LIBM, _ADDRESSES, len(_ADDRESSES))
        self.manual_seed(seed)

    # ---- seeds and states
    def manual_seed(self, seed: int):
        """Any Python integer from -2^63 to 2^64 - 1; only its low 32 bits reach the numbers, as in PyTorch."""
        if not -(1 << 63) <= seed < 1 << 64: raise ValueError(f"Overflow when unpacking long: seed {seed} needs more than 64 bits")
        self.initial_seed = seed & _MASK64
        x, numbers = self.initial_seed & 0xFFFFFFFF, []
        for j in range(1, native.N + 1):
            numbers.append(x)
            x = (1812433253 * (x ^ (x >> 30)) + j) & 0xFFFFFFFF
        self._write(numbers, native.N, True, None)

    def seed(self) -> int:
        """Seeds from the system's entropy and tells with what."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.initial_seed

    def _write(self, numbers, next: int, fresh: bool, sample: float | None):
        ctypes.memmove(self.address + native.RAW, struct.pack("<624I", *numbers), 4 * native.N)
        ctypes.memmove(self.address + native.NEXT, struct.pack("<qqqd", next, fresh, sample is not None, sample or 0.0), 32)
        if next < native.N: self._run("temper", (), 0)

    def get_state(self) -> bytes:
        """PyTorch's CPUGeneratorImplState."""
        numbers = struct.unpack("<624I", ctypes.string_at(self.address + native.RAW, 4 * native.N))
        next, fresh, has, sample = struct.unpack("<qqqd", ctypes.string_at(self.address + native.NEXT, 32))
        left, next = (1, 0) if fresh else (native.N + 1 - next, next)
        return _STATE.pack(self.initial_seed, left, 1, next, *numbers, 0.0, sample if has else 0.0, 0.0, has, 0, 0.0, 0)

    def set_state(self, state: bytes):
        if len(state) != STATE_BYTES:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state size to be {len(state)}")
        seed, left, seeded, next, *rest = _STATE.unpack(state)
        if not (seeded and 0 < left <= native.N and next <= native.N): raise RuntimeError("Invalid mt19937 state")
        self.initial_seed = seed
        fresh = left == 1 and next == 0
        self._write(rest[:native.N], native.N if left == 1 else next, fresh, rest[native.N + 1] if rest[native.N + 3] else None)

    # ---- native calls
    def _run(self, kind: str, spec: tuple, *values, words=()):
        """Calls a kernel with the engine as operand 0, then `values`: addresses (int) and numbers (float)."""
        f, pack_values, pack_words, places = _prepared(kind, spec, "".join(["d" if v.__class__ is float else "q" for v in values]), len(words))
        f(self._context, pack_values(self.address, *values), pack_words(*places, *map(_int64, words)))

    def _status(self) -> int: return ctypes.c_int64.from_address(self.address + native.STATUS).value

    def random(self) -> int:
        """One 32-bit number."""
        out = ctypes.c_int64()
        self._run("random32", (), ctypes.addressof(out))
        return out.value

    # ---- fills: n elements of `dtype` at `address`, contiguous
    def uniform(self, address: int, n: int, dtype, lo: float = 0.0, hi: float = 1.0):
        if dtype.is_complex: return self.uniform(address, 2 * n, dtype.real, lo, hi)
        if dtype not in _FLOATS: raise unsupported("uniform_", dtype)
        if lo > hi: raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={lo} > to={hi}")
        if n: self._run("uniform", (dtype,), address, float(lo), float(hi), words=(n,))

    def normal(self, address: int, n: int, dtype, mean: float = 0.0, std: float = 1.0, contiguous: bool = True):
        """`contiguous`: of the tensor this is for; PyTorch draws in float64 pairs for others, and for fewer than 16 numbers."""
        if not std >= 0.0: raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
        if dtype.is_complex: return self.normal(address, 2 * n, dtype.real, mean, std / math.sqrt(2.0), contiguous)
        if dtype not in _FLOATS: raise unsupported("normal_", dtype)
        if n: self._run("normal" if n >= 16 and contiguous else "normal_serial", (dtype,), address, float(mean), float(std), words=(n,))

    def bernoulli(self, address: int, n: int, dtype, p: float):
        if not 0.0 <= p <= 1.0: raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
        if dtype.is_complex: raise unsupported("bernoulli_", dtype)
        if n: self._run("bernoulli", (dtype,), address, float(p), 0.0, words=(n,))

    def bernoulli_each(self, address: int, n: int, dtype, p: int, p_dtype):
        """`p`: the address of n probabilities."""
        if n: self._run("bernoulli_each", (dtype, p_dtype), address, p, 0, words=(n,))

    def integers(self, address: int, n: int, dtype, low: int, high: int):
        """random_(low, high): low <= x < high."""
        if low >= high: raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
        if dtype in _FLOATS:
            low, high = _inside(low, dtype, 1), _inside(high, dtype, -1)
            if low >= high:
                raise RuntimeError(f"random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, but got from={low} >= to={high}")
        _check_range(low, high - 1, dtype)
        self._integers(address, n, dtype, high - low, low)

    def integers_from(self, address: int, n: int, dtype, low: int):
        """random_(low, None): up to the dtype's largest number."""
        if low == -(1 << 63): return self._integers(address, n, dtype, 1 << 64, 0)
        last = 1 << _DIGITS[dtype] if dtype in _FLOATS else 1 if dtype is dt.bool else _largest(dtype)
        if dtype in _FLOATS: low = _inside(low, dtype, 1)
        if low > last: raise RuntimeError(f"random_ expects 'from' casted to dtype to be less than or equal to 'to_inc' casted to dtype, "
                                          f"but got from={low} > to_inc={last}")
        _check_range(low, last, dtype)
        self._integers(address, n, dtype, last - low + 1, low)

    def integers_full(self, address: int, n: int, dtype):
        """random_(): every non-negative number of the dtype; floats up to 2^digits."""
        count = (1 << _DIGITS[dtype]) + 1 if dtype in _FLOATS else 2 if dtype is dt.bool else _largest(dtype) + 1
        self._integers(address, n, dtype, count, 0, 64 if dtype in (dt.float64, dt.int64, dt.uint64) else 32)

    def _integers(self, address, n, dtype, count, base, bits=None):
        if bits is None: bits = 64 if count >= 1 << 28 else 32               # PyTorch: at most 5 % of skew from the remainder
        if dtype.is_complex: raise unsupported("random_", dtype)
        if n: self._run("integers", (dtype, bits), address, 0, 0, words=(n, count, base))

    def permutation(self, address: int, n: int, dtype):
        if n < 0: raise RuntimeError(f"n must be non-negative, got {n}")
        if n: self._run("permutation", (dtype,), address, 0, 0, words=(n,))

    def exponential(self, address: int, n: int, dtype, rate: float = 1.0):
        if not rate > 0.0: raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate}")
        self._continuous("exponential", address, n, dtype, rate, 0.0)

    def cauchy(self, address: int, n: int, dtype, median: float = 0.0, sigma: float = 1.0):
        if not sigma > 0.0: raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
        self._continuous("cauchy", address, n, dtype, median, sigma)

    def log_normal(self, address: int, n: int, dtype, mean: float = 1.0, std: float = 2.0):
        if not std > 0.0: raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
        self._continuous("log_normal", address, n, dtype, mean, std)

    def geometric(self, address: int, n: int, dtype, p: float):
        if not 0.0 < p < 1.0: raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
        if n: self._run("geometric", (dtype,), address, float(p), 0.0, words=(n,))

    def _continuous(self, kind, address, n, dtype, a, b):
        if dtype not in _FLOATS: raise unsupported(f"{kind}_", dtype)
        if n: self._run(kind, (dtype,), address, float(a), float(b), words=(n,))

    def poisson(self, address: int, n: int, dtype, rates: int):
        if dtype not in _FLOATS: raise unsupported("poisson", dtype)
        if not n: return
        self._run("poisson", (dtype,), address, rates, 0, words=(n,))
        if self._status(): raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")

    def gamma(self, address: int, n: int, dtype, shapes: int):
        """Standard gamma numbers; `shapes`: the address of their n shape parameters."""
        if n: self._run("gamma", (dtype,), address, shapes, 0, words=(n,))

    def binomial(self, address: int, n: int, dtype, counts: int, probabilities: int):
        if n: self._run("binomial", (dtype,), address, counts, probabilities, words=(n,))

    def multinomial(self, address: int, weights: int, rows: int, categories: int, samples: int, dtype):
        """With replacement: (rows, samples) int64 at `address` from contiguous (rows, categories) weights."""
        sums = (ctypes.c_char * (8 * categories))()
        self._run("multinomial", (dtype,), address, weights, ctypes.addressof(sums), words=(rows, categories, samples))
        what = ("", "encountering probability entry < 0", "encountering probability entry = infinity or NaN", "sum of probabilities <= 0")[self._status()]
        if what: raise RuntimeError(f"invalid multinomial distribution ({what})")


def _largest(dtype) -> int: return (1 << (8 * dtype.size - dtype.signed)) - 1


def _rounded(x: int, dtype) -> int:
    """x as the nearest number of a float dtype, ties to even."""
    extra = abs(x).bit_length() - _DIGITS[dtype]
    if extra <= 0: return x
    q, r = divmod(abs(x), 1 << extra)
    half = 1 << (extra - 1)
    q += r > half or (r == half and q & 1)
    return (q << extra) * (1 if x >= 0 else -1)


def _inside(bound: int, dtype, direction: int) -> int:
    """A bound of [from, to) moved inwards to a number the dtype can tell from the one outside (PyTorch's update_from and update_to)."""
    near = _rounded(bound + direction, dtype)
    if (near >= bound if direction > 0 else near < bound): return bound
    return near + direction * (1 << (abs(bound + direction).bit_length() - _DIGITS[dtype]))


def _check_range(low: int, last: int, dtype):
    if dtype in _FLOATS: return                # every int64 is inside the range of the wider ones; PyTorch only warns
    lowest, highest = (0, 1) if dtype is dt.bool else (-_largest(dtype) - 1 if dtype.signed else 0, min(_largest(dtype), (1 << 63) - 1))
    for name, x in (("from", low), ("to - 1", last)):
        if not lowest <= x <= highest: raise RuntimeError(f"{name} is out of bounds for {_C_NAMES.get(dtype, dtype.name)}")
