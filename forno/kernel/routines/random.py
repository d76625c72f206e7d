"""PyTorch's CPU generator and its distributions, number for number.

Comes in: an engine in memory (the Mersenne Twister mt19937, its tempered numbers, a remembered normal sample; byte offsets below), a place to fill, parameters.
Goes out: code of one kernel per distribution and dtype; each consumes exactly as many 32-bit numbers as PyTorch's, in the same order.

A kernel is one call of one thread: the generator is a chain. It pays for itself by width: a block of 624 new numbers is made and tempered in vector
registers, and distributions read whole chunks of them. Operand 0 is the engine, operand 1 the output; parameters are number operands; word 0 after
the positions is the count. What PyTorch computes with libm in float64 (log1p, cos, …) is computed with libm here, for the same last bits; the engine
carries the functions' addresses, since machine code has no other way out.
"""
from __future__ import annotations

import struct

from ...core import dtype as dt
from ...cpu import isa
from ..text import PTR, Val
from .code import Code, X

N, M, CHUNK = 624, 397, 4096
# byte offsets in an engine
RAW, TEMPERED, NEXT, FRESH, HAS_NORMAL, NORMAL, STATUS, LIBM, BUFFER = 0, 5056, 7552, 7560, 7568, 7576, 7584, 7616, 7680
FUNCTIONS = ("log", "log1p", "exp", "sin", "cos", "tan", "lgamma", "pow")
SIZE = BUFFER + 4 * CHUNK + 64
WIDE = isa.vector_bytes // 4                   # lanes of 32 bits; divides 624


# ---- the generator
def _block(c: Code, temper_only: bool):
    """The next 624 raw numbers x[i+624] = x[i+397] ^ twist(x[i], x[i+1]) behind the last ones, so that no index wraps; then tempered, then moved down."""
    engine = X(c, Val("%engine", PTR))
    tempered = c.at(engine, TEMPERED)
    u = lambda i: c.load(engine, dt.uint32, i, WIDE)
    with c.loop(0, N, WIDE) as i:
        if temper_only: x = u(i)
        else:
            low = u(i + 1)
            mixed = (u(i) & 0x80000000) | (low & 0x7FFFFFFF)
            x = u(i + M) ^ (mixed >> 1) ^ ((low & 1).ne(0).where(c.const(0x9908B0DF, dt.uint32), 0))
            c.store(x, engine, i + N)
        x = x ^ (x >> 11)
        x = x ^ ((x << 7) & 0x9D2C5680)
        x = x ^ ((x << 15) & 0xEFC60000)
        c.store(x ^ (x >> 18), tempered, i)
    if not temper_only:
        with c.loop(0, N, WIDE) as i: c.store(u(i + N), engine, i)
        for at in (NEXT, FRESH): c.store(c.const(0), c.at(engine, at))


def _stream(c: Code):
    """n tempered numbers into the engine's buffer."""
    engine, n = X(c, Val("%engine", PTR)), X(c, Val("%n", dt.int64))
    buffer, tempered, done = c.at(engine, BUFFER), c.at(engine, TEMPERED), c.var(0)
    with c.forever() as leave:
        leave(done.now >= n)
        with c.when(c.load(c.at(engine, NEXT), dt.int64).eq(N)): c.call("mt_block", None, engine)
        next, at = c.load(c.at(engine, NEXT), dt.int64), done.now
        count = (n - at).min(N - next)
        _sweep(c, count, WIDE, lambda i, w: c.store(c.load(tempered, dt.uint32, next + i, w), buffer, at + i))
        c.store(next + count, c.at(engine, NEXT))
        done.add(count)


def _sweep(c: Code, n: X, width: int, body):
    """body(i, width) over [0, n), with width 1 for what is left."""
    whole = n - n % width
    if width > 1:
        with c.loop(0, whole, width) as i: body(i, width)
    with c.loop(whole if width > 1 else 0, n) as i: body(i, 1)


def _pair(c: Code):
    """Two tempered numbers as one, the earlier as the upper half: in most cases two loads, without the buffer."""
    engine, out = X(c, Val("%engine", PTR)), c.var(0, dt.uint64)
    tempered, next = c.at(engine, TEMPERED), c.load(c.at(engine, NEXT), dt.int64)
    with c.either(next <= N - 2) as otherwise:
        out.set((c.load(tempered, dt.uint32, next).to(dt.uint64) << 32) | c.load(tempered, dt.uint32, next + 1).to(dt.uint64))
        c.store(next + 2, c.at(engine, NEXT))
        otherwise()
        c.call("mt_stream", None, engine, c.const(2))
        out.set(_bits64(c, c.at(engine, BUFFER), 0, 1))
    c.b.put(f"ret {out.now.v}")


def _with_engine(c: Code):
    def block():
        with c.b.function("mt_block", "ptr %engine", internal=True): _block(c, False)

    def stream():
        with c.b.function("mt_stream", "ptr %engine, i64 %n", internal=True): _stream(c)
    c.b.helper("mt_block", block)
    c.b.helper("mt_stream", stream)

    def pair():
        with c.b.function("mt_pair", "ptr %engine", "i64", internal=True): _pair(c)
    c.b.helper("mt_pair", pair)


def _chunks(c: Code, n: X, each: int, body):
    """Draws `each` 32-bit numbers for every one of n outputs, a chunk at a time: body(buffer, first output, count)."""
    engine, most = c.operand(0), CHUNK // each
    with c.loop(0, n, most) as first:
        count = (n - first).min(most)
        c.call("mt_stream", None, engine, count * each)
        body(c.at(engine, BUFFER), first, count)


def _bits64(c, buffer, i, w) -> X:
    """Generator numbers 2i and 2i+1 as one: the earlier one is the upper half."""
    x = c.load(buffer, dt.uint64, i, w)
    return (x >> 32) | (x << 32)


def _from_bits(x: X) -> X: return (x & ((1 << 53) - 1)).bits(dt.int64).to(dt.float64) * 2.0 ** -53
def _uniform64(c, buffer, i, w=1) -> X: return _from_bits(_bits64(c, buffer, i, w))


def _uniform32(c, buffer, i, w=1) -> X: return (c.load(buffer, dt.uint32, i, w) & 0xFFFFFF).bits(dt.int32).to(dt.float32) * 2.0 ** -24


def _uniform_sample(c: Code) -> X:
    """One float64 in [0, 1)."""
    return _from_bits(c.call("mt_pair", dt.uint64, c.operand(0)))


def _libm(c: Code, name: str, *xs: X) -> X:
    """The C library's float64 function."""
    f = c.load(c.at(c.operand(0), LIBM + 8 * FUNCTIONS.index(name)), PTR)
    return X(c, c.b.emit(f"call double {f.v.text}({', '.join(str(x.v) for x in xs)})", dt.float64))


# ---- distributions; each is a function that writes the body of a kernel
def temper(c: Code):
    """After a state was set: the tempered copies of its raw numbers."""
    c.call("mt_temper", None, c.operand(0))


def random32(c: Code):
    """One 32-bit number, as int64."""
    def body(buffer, first, count): c.store(c.load(buffer, dt.uint32).to(dt.int64), c.operand(1))
    _chunks(c, c.const(1), 1, body)


def uniform(c: Code, t: dt.dtype):
    """u·(hi - lo) + lo with one rounding; a value that rounds to hi becomes lo."""
    out, n, m = c.operand(1), c.word(4), t.opmath
    lo, hi = (c.number(k).to(m) for k in (2, 3))
    span, low, high = hi - lo, lo.to(t), hi.to(t)
    draw, each, wide = (_uniform64, 2, WIDE // 2) if t is dt.float64 else (_uniform32, 1, WIDE)

    def body(buffer, first, count):
        def one(i, w):
            x = draw(c, buffer, i, w).fma(span, lo).to(t)
            c.store(x.eq(high).where(low, x), out, first + i)
        _sweep(c, count, wide, one)
    _chunks(c, n, each, body)


def _log(x: X) -> X:
    """avx_mathfun's float32 log for 0 < x <= 1, with the multiplications and additions that GCC contracts in PyTorch's build contracted."""
    c = x.c
    bits = x.bits(dt.uint32)
    e = (bits >> 23).bits(dt.int32) - 0x7F
    x = ((bits & 0x807FFFFF) | 0x3F000000).bits(dt.float32)
    e = e.to(dt.float32) + 1.0
    small = x < 0.707106781186547524
    e = e - small.where(c.const(1.0, dt.float32), 0.0)
    x = x - 1.0 + small.where(x, 0.0)
    z, y = x * x, c.const(7.0376836292E-2, dt.float32)
    for k in (-1.1514610310E-1, 1.1676998740E-1, -1.2420140846E-1, 1.4249322787E-1, -1.6668057665E-1, 2.0000714765E-1, -2.4999993993E-1,
              3.3333331174E-1): y = y.fma(x, k)
    y = (y * x).fma(z, e * -2.12194440e-4) - z * 0.5
    return e.fma(c.const(0.693359375, dt.float32), x + y)


def _sincos(x: X) -> tuple[X, X]:
    """avx_mathfun's float32 sine and cosine for x >= 0, contracted as in `_log`."""
    c = x.c
    j = ((x * 1.27323954473516).to(dt.int32) + 1) & ~1
    y = j.to(dt.float32)
    flip_sin, flip_cos, direct = (j & 4) << 29, (~(j - 2) & 4) << 29, (j & 2).eq(0)
    for k in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8): x = y.fma(c.const(k, dt.float32), x)
    z = x * x
    p = c.const(2.443315711809948E-005, dt.float32).fma(z, -1.388731625493765E-003).fma(z, 4.166664568298827E-002)
    p = (p * z).fma(z, -(z * 0.5)) + 1.0
    q = c.const(-1.9515295891E-4, dt.float32).fma(z, 8.3321608736E-3).fma(z, -1.6666654611E-1)
    q = (q * z).fma(x, x)
    signed = lambda v, s: (v.bits(dt.int32) ^ s).bits(dt.float32)
    return signed(direct.where(q, p), flip_sin), signed(direct.where(p, q), flip_cos)


def _join(c, a: X, b: X) -> X: return X(c, c.b.shuffle(a.v, b.v, range(2 * a.v.n)))


def normal(c: Code, t: dt.dtype):
    """16 numbers or more: Box-Muller on blocks of 16 uniforms, 8 radii and 8 angles.

    An incomplete last block is drawn anew, overlapping the one before. For float32 and float64 the incomplete block's numbers are drawn twice, for halves once.
    """
    out, n = c.operand(1), c.word(4)
    m = t.opmath
    mean, std = (c.number(k).to(m) for k in (2, 3))

    def blocks32(buffer, first, count):
        def one(pairs):
            def write(i):
                halves = [[_uniform32(c, buffer, i + 16 * k + h, 8) for k in range(pairs)] for h in (0, 8)]
                u1, u2 = (_join(c, *h) if pairs == 2 else h[0] for h in halves)
                radius = (_log(1.0 - u1) * -2.0).sqrt()
                sin, cos = _sincos(u2 * 6.283185307179586)
                for h, z in ((0, radius * cos), (8, radius * sin)):
                    z = z.fma(std, mean).to(t)
                    for k in range(pairs): c.store(X(c, c.b.part(z.v, 8 * k, 8)), out, first + i + 16 * k + h)
            return write
        wide = 2 if isa.vector_bytes == 64 else 1
        whole = count - count % (16 * wide)
        with c.loop(0, whole, 16 * wide) as i: one(wide)(i)
        if wide == 2:
            with c.loop(whole, count, 16) as i: one(1)(i)

    def blocks64(buffer, first, count):
        with c.loop(0, count, 16) as i, c.loop(0, 8) as j:
            u1, u2 = 1.0 - _uniform64(c, buffer, i + j), _uniform64(c, buffer, i + j + 8)
            radius = (_libm(c, "log", u1) * -2.0).sqrt()
            theta = u2 * 6.283185307179586
            for h, f in ((0, "cos"), (8, "sin")):
                c.store((radius * _libm(c, f, theta)).fma(std, mean), out, first + i + j + h)

    each, blocks = (2, blocks64) if t is dt.float64 else (1, blocks32)

    rest = n % 16
    with c.loop(0, rest.ne(0).where(c.const(2), 1)) as again:                # the second time: 16 numbers for the last 16 places
        count = again.eq(0).where(n - rest if t.size == 2 else n, 16)
        _chunks(c, count, each, lambda buffer, first, count: blocks(buffer, again.eq(0).where(first, n - 16), count - count % 16))


def _normal_sample(c: Code, engine: X) -> X:
    """One float64 sample; the second of a pair is remembered in the engine."""
    z = c.var(0.0, dt.float64)
    has, memory = c.at(engine, HAS_NORMAL), c.at(engine, NORMAL)
    with c.either(c.load(has, dt.int64).ne(0)) as otherwise:
        c.store(c.const(0), has)
        z.set(c.load(memory, dt.float64))
        otherwise()
        u1, u2 = _uniform_sample(c), _uniform_sample(c)
        radius, theta = (_libm(c, "log1p", -u2) * -2.0).sqrt(), u1 * 6.283185307179586
        c.store(c.const(1), has)
        c.store(radius * _libm(c, "sin", theta), memory)
        z.set(radius * _libm(c, "cos", theta))
    return z.now


def normal_serial(c: Code, t: dt.dtype):
    """Fewer than 16 numbers: pairs in float64."""
    engine, out, mean, std = c.operand(0), c.operand(1), c.number(2), c.number(3)
    with c.loop(0, c.word(4)) as i: c.store(_normal_sample(c, engine).fma(std, mean).to(t), out, i)


def log_normal(c: Code, t: dt.dtype):
    engine, out, mean, std = c.operand(0), c.operand(1), c.number(2), c.number(3)
    with c.loop(0, c.word(4)) as i: c.store(_libm(c, "exp", _normal_sample(c, engine).fma(std, mean)).to(t), out, i)


def _from_uniform(f):
    """A distribution that is a function of one float64 uniform: operands 2 and 3 are its parameters."""
    def write(c: Code, t: dt.dtype):
        out, n, parameters = c.operand(1), c.word(4), (c.number(2), c.number(3))

        def body(buffer, first, count):
            with c.loop(0, count) as i: c.store(f(c, _uniform64(c, buffer, i), *parameters).to(t), out, first + i)
        _chunks(c, n, 2, body)
    return write


exponential = _from_uniform(lambda c, u, rate, _: (-1.0 / rate) * _libm(c, "log1p", -u))
cauchy = _from_uniform(lambda c, u, median, sigma: sigma.fma(_libm(c, "tan", (u - 0.5) * 3.141592653589793), median))
geometric = _from_uniform(lambda c, u, p, _: (_libm(c, "log", u) / _libm(c, "log1p", -p))._("ceil"))


def bernoulli(c: Code, t: dt.dtype):
    """u < p with 53-bit u."""
    out, n, p = c.operand(1), c.word(4), c.number(2)

    def body(buffer, first, count): _sweep(c, count, WIDE // 2, lambda i, w: c.store((_uniform64(c, buffer, i, w) < p).to(t), out, first + i))
    _chunks(c, n, 2, body)


def bernoulli_each(c: Code, t: dt.dtype, p_type: dt.dtype):
    """u < p[i]; operand 2 is p. A float64 p is met with 53 bits, any other with 24."""
    out, n, p = c.operand(1), c.word(4), c.operand(2)
    wide = p_type is dt.float64
    draw, each = (_uniform64, 2) if wide else (_uniform32, 1)

    def body(buffer, first, count):
        def one(i, w): c.store((draw(c, buffer, i, w) < c.load(p, p_type, first + i, w).to(p_type.opmath)).to(t), out, first + i)
        _sweep(c, count, WIDE // each, one)
    _chunks(c, n, each, body)


def integers(c: Code, t: dt.dtype, bits: int):
    """base + number % range, with numbers of 32 or 64 bits; range 0 stands for 2^64. Words: count, range, base."""
    out, n, size, base = c.operand(1), c.word(4), c.word(5).bits(dt.uint64), c.word(6)

    def body(buffer, first, count):
        with c.loop(0, count) as i:
            if bits == 32: x = (c.load(buffer, dt.uint32, i) % size.to(dt.uint32)).to(dt.uint64)
            else:
                x = _bits64(c, buffer, i, 1)
                x = size.eq(0).where(x, x % size.max(1))
            c.store((x.bits(dt.int64) + base).to(t), out, first + i)
    _chunks(c, n, bits // 32, body)


def permutation(c: Code, t: dt.dtype):
    """0..n-1, then for every place but the last a swap with one at or after it."""
    out, n = c.operand(1), c.word(4)
    with c.loop(0, n) as i: c.store(i.to(t), out, i)

    def body(buffer, first, count):
        with c.loop(0, count) as i:
            here = first + i
            there = here + (c.load(buffer, dt.uint32, i) % (n - here).to(dt.uint32)).to(dt.int64)
            a, b = c.load(out, t, here), c.load(out, t, there)
            c.store(b, out, here)
            c.store(a, out, there)
    _chunks(c, n - 1, 1, body)


def multinomial(c: Code, t: dt.dtype):
    """With replacement: a cumulative sum per row, then for each sample the first place whose sum reaches a 53-bit uniform.

    Operands: engine, out (rows, samples) int64, weights (rows, categories), room for one row's sums. Words: rows, categories, samples.
    A bad weight stops it with STATUS 1 (negative or NaN), 2 (infinite) or 3 (they sum to nothing).
    """
    engine, out, weights, sums = (c.operand(k) for k in range(4))
    rows, n, samples = (c.word(k) for k in (4, 5, 6))
    m, status = t.opmath, c.var(0)
    with c.loop(0, rows) as row:
        total = c.var(0.0, m)
        with c.loop(0, n) as j:
            w = c.load(weights, t, row * n + j).to(m)
            with c.when(w.eq(float("inf"))): status.set(2)
            with c.when(~(w >= 0.0)): status.set(1)
            total.set(total.now + w)
            c.store(total.now, sums, j)
        with c.when(~(total.now > 0.0) & status.now.eq(0)): status.set(3)
        with c.when(status.now.eq(0)):
            with c.loop(0, n) as j: c.store(c.load(sums, m, j) / total.now, sums, j)
            c.store(c.const(1.0, m), sums, n - 1)
            with c.loop(0, samples) as k:
                u = _uniform_sample(c)
                lo, hi = c.var(0), c.var(n)
                with c.forever() as leave:
                    leave(hi.now <= lo.now)
                    mid = lo.now + ((hi.now - lo.now) >> 1)
                    with c.either(c.load(sums, m, mid).to(dt.float64) < u) as otherwise:
                        lo.set(mid + 1)
                        otherwise()
                        hi.set(mid)
                c.store(lo.now, out, row * samples + k)
    c.store(status.now, c.at(engine, STATUS))


def poisson(c: Code, t: dt.dtype):
    """Operand 2: rates. Below 10 by counting uniforms, above by transformed rejection (Hörmann 1993), as PyTorch and NumPy do."""
    engine, out, rates, status = c.operand(0), c.operand(1), c.operand(2), c.var(0)
    f = lambda name, x: _libm(c, name, x)
    uniform = lambda: _uniform_sample(c)
    with c.loop(0, c.word(4)) as i:
        rate, k = c.load(rates, t, i).to(dt.float64), c.var(0)
        with c.when(~(rate >= 0.0)): status.set(1)
        with c.either(rate >= 10.0) as otherwise:
            root, log_rate = rate.sqrt(), f("log", rate)
            b = root * 2.53 + 0.931
            a = b * 0.02483 + -0.059
            inv_alpha, vr = 1.1328 / (b - 3.4) + 1.1239, 0.9277 - 3.6224 / (b - 2.0)
            with c.forever() as leave:
                u, v = uniform() - 0.5, uniform()
                us = 0.5 - X(c, c.b.abs(u.v))
                k.set(((a * 2.0 / us + b) * u + rate + 0.43)._("floor").to(dt.int64))
                leave((us >= 0.07) & (v <= vr))
                x = k.now.to(dt.float64)
                fits = f("log", v) + f("log", inv_alpha) - f("log", a / (us * us) + b) <= x * log_rate - rate - f("lgamma", x + 1.0)
                leave(fits & (k.now >= 0) & ~((us < 0.013) & (v > us)))
            otherwise()
            with c.when(rate > 0.0):
                least, product = f("exp", -rate), c.var(1.0, dt.float64)
                with c.forever() as leave:
                    product.set(product.now * uniform())
                    leave(product.now <= least)
                    k.add(1)
        c.store(k.now.to(t), out, i)
    c.store(status.now, c.at(engine, STATUS))


def gamma(c: Code, t: dt.dtype):
    """Operand 2: shapes. Rejection from a cubed normal (Marsaglia and Tsang 2000); shapes below 1 through shape + 1 and a power of a uniform.

    Constants with an f in PyTorch's code are float32 numbers; arithmetic on the shape alone has its type.
    """
    engine, out, shapes = c.operand(0), c.operand(1), c.operand(2)
    single = lambda x: struct.unpack("f", struct.pack("f", x))[0]
    f = lambda name, *xs: _libm(c, name, *xs)
    with c.loop(0, c.word(4)) as i:
        given, z = c.load(shapes, t, i), c.var(0.0, dt.float64)
        with c.when(given.ne(0.0)):
            shape, scale = c.var(given), c.var(1.0, dt.float64)
            with c.when(given < 1.0):
                scale.set(f("pow", 1.0 - _uniform_sample(c), (1.0 / given).to(dt.float64)))
                shape.set(given + 1.0)
            d = (shape.now - c.const(single(1 / 3), t)).to(dt.float64)
            slope = 1.0 / (d * 9.0).sqrt()
            with c.forever() as leave:
                x, y = c.var(0.0, dt.float64), c.var(0.0, dt.float64)
                with c.forever() as positive:
                    x.set(_normal_sample(c, engine))
                    y.set(x.now * slope + 1.0)
                    positive(~(y.now <= 0.0))
                v, u, xx = y.now * y.now * y.now, 1.0 - _uniform_sample(c), x.now * x.now
                z.set(scale.now * d * v)
                leave((u < 1.0 - xx * single(0.0331) * xx) | z.now.isnan())
                leave(f("log", u) < xx * 0.5 + d * (1.0 - v + f("log", v)))
        least = 2.0 ** (-1022 if t is dt.float64 else -126)
        z = z.now.to(t)
        c.store((z > least).where(z, c.const(least, t)), out, i)


# log k! minus Stirling's formula without its tail, for k < 10
STIRLING = (0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211, 0.0138761288230707,
            0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287)


def _stirling(c: Code, k: X) -> X:
    square = (k + 1.0) * (k + 1.0)
    out = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1.0)
    for n, value in enumerate(STIRLING): out = k.eq(float(n)).where(c.const(value, dt.float64), out)
    return out


def binomial(c: Code, t: dt.dtype):
    """Operands 2 and 3: counts and probabilities. With few successes expected, by adding geometric steps; else by transformed rejection (BTRS,
    Hörmann 1993). A probability above one half draws failures. Arithmetic on the parameters alone has their type."""
    out, counts, probabilities = c.operand(1), c.operand(2), c.operand(3)
    wide = lambda x: x.to(dt.float64)
    log = lambda x: _libm(c, "log", x)

    def by_steps(n, p, k):
        rate, total = wide(_libm(c, "log1p", -wide(p)).to(t)), c.var(0.0, dt.float64)
        with c.forever() as leave:
            total.set(total.now + (log(_uniform_sample(c)) / rate)._("ceil"))
            leave(~(total.now <= wide(n)))
            k.set(k.now + 1.0)

    def by_rejection(n, p, k):
        spread, r = wide((n * p * (1.0 - p)).sqrt()), wide(p / (1.0 - p))
        b = spread * 2.53 + 1.15
        a = b * 0.0248 + -0.0873 + wide(p) * 0.01
        middle, tight = wide(n * p) + 0.5, 0.92 - 4.2 / b
        alpha, m = (5.1 / b + 2.83) * spread, wide(((n + 1.0) * p)._("floor"))
        n64 = wide(n)
        rest = n64 - m + 1.0
        peak = (m + 0.5) * log((m + 1.0) / (r * rest))
        with c.forever() as leave:
            u, v = _uniform_sample(c) - 0.5, _uniform_sample(c)
            us = 0.5 - X(c, c.b.abs(u.v))
            k.set(((a * 2.0 / us + b) * u + middle)._("floor").to(t))
            x = wide(k.now)
            inside = (k.now >= 0.0) & (k.now <= n)
            leave(inside & (us >= 0.07) & (v <= tight))
            over = wide(n - k.now + 1.0)
            bound = (peak + wide(n + 1.0) * log(rest / over) + (x + 0.5) * log(r * over / (x + 1.0)) + _stirling(c, m) + _stirling(c, n64 - m)
                     - _stirling(c, x) - _stirling(c, n64 - x))
            leave(inside & (log(v * alpha / (a / (us * us) + b)) <= bound))
    with c.loop(0, c.word(4)) as i:
        n, p, k = c.load(counts, t, i), c.load(probabilities, t, i), c.var(0.0, t)
        with c.either((n <= 0.0) | (p <= 0.0) | (p >= 1.0) | p.isnan()) as otherwise:
            k.set((p >= 1.0).where(n.max(0.0), ((n <= 0.0) | (p <= 0.0)).where(c.const(0.0, t), p)))
            otherwise()
            rare = (p <= 0.5).where(p, 1.0 - p)
            with c.either(n * rare >= 10.0) as otherwise_steps:
                by_rejection(n, rare, k)
                otherwise_steps()
                by_steps(n, rare, k)
            with c.when(p > 0.5): k.set(n - k.now)
        c.store(k.now, out, i)


KINDS = {f.__name__: f for f in (temper, random32, uniform, normal, normal_serial, log_normal, bernoulli, bernoulli_each, integers, permutation,
                                 multinomial, poisson, gamma, binomial)} | {"exponential": exponential, "cauchy": cauchy, "geometric": geometric}


def text(kind: str, *spec) -> str:
    """The module of one engine kernel, whose function is called `kind`."""
    c = Code()
    _with_engine(c)
    if kind == "temper":
        def write():
            with c.b.function("mt_temper", "ptr %engine", internal=True): _block(c, True)
        c.b.helper("mt_temper", write)
    with c.kernel(kind): KINDS[kind](c, *spec)
    return c.text()
