"""Random straight-line programs of integers, float32, float64 and predicates against the instructions' definitions, one statement after the other."""
import functools
import random

import numpy as np
import pytest

from . import ptx_oracle as oracle
from .ptx_tools import HEAD, launch
from .test_ptx_instructions import bit_cases, float_edges, integer_cases, sign, width, word_cases

POOLS = {1: [f"%p{i}" for i in range(4)], 16: [f"%h{i}" for i in range(4)], 32: [f"%r{i}" for i in range(8)], 64: [f"%d{i}" for i in range(6)]}
LANES, STATEMENTS = 32, 60


@functools.cache
def cases() -> list:
    out = [c for k in ("u16", "s16", "u32", "s32", "u64", "s64") for c in integer_cases(k)] + [c for k in ("b16", "b32", "b64") for c in bit_cases(k)]
    return out + [c for c in word_cases() if not c[0].startswith("mov")] + float_cases()


def float_cases() -> list:
    out = []
    for form in ("f32", "f64"):
        for op, arity in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3), ("div", 2)):
            def f(*bits, op=op, form=form):
                x = [oracle.decode(b, form) for b in bits]
                exact = oracle.arithmetic(op, *x)
                got = oracle.encode(exact, form)
                if exact == 0 and not isinstance(exact, float): return zero(op, x, form)
                return oracle.NAN[form] if got is None else got
            out.append((f"{op}.rn.{form} {{d}}, " + ", ".join("{" + n + "}" for n in "abc"[:arity]) + ";", (form,) * arity, form, f))
    for op in ("lt", "geu", "equ", "nan"):
        def test(a, b, op=op):
            x, y = oracle.decode(a, "f32"), oracle.decode(b, "f32")
            if x != x or y != y: return op in ("geu", "equ", "nan")
            return {"lt": x < y, "geu": x >= y, "equ": x == y, "nan": False}[op]
        out.append((f"setp.{op}.f32 {{d}}, {{a}}, {{b}};", ("f32", "f32"), "pred", test))
    return out


def zero(op, x, form) -> int:
    """The bits of an exact zero result: its sign follows the operands'."""
    negative = lambda v: v < 0 or (isinstance(v, float) and str(v)[0] == "-")
    if op in ("mul", "div"): minus = negative(x[0]) != negative(x[1])
    else: minus = False                        # equal terms cancel to +0
    return int(minus) << width(form) - 1


def program(seed: int):
    """The text and, per lane, the final registers. NaN of float64 keeps no defined bits, so that its results only go where it can't be."""
    rng = random.Random(seed)
    start = {name: [rng.choice(float_edges({32: "f32", 64: "f64", 16: "f16"}.get(bits, "f16")) + [rng.getrandbits(bits)] * 20) & (1 << bits) - 1 for _ in range(LANES)]
             for bits, names in POOLS.items() for name in names}
    state, text = {n: list(v) for n, v in start.items()}, []
    while len(text) < STATEMENTS:
        statement, kinds, result, f = rng.choice(cases())
        operands = [rng.choice(POOLS[width(k)]) for k in kinds]
        target = rng.choice(POOLS[width(result)])
        names = dict(zip("abce", operands), d=target)
        if "%p7" in statement: continue
        values = []
        for lane in range(LANES):
            x = [sign(state[o][lane], k) if k[0] in "us" else bool(state[o][lane]) if k == "pred" else state[o][lane] for o, k in zip(operands, kinds)]
            values.append(int(f(*x)) & (1 << width(result)) - 1)
        if result == "f64" and oracle.NAN["f64"] in values: continue
        if rng.random() < 0.2:                                       # under a predicate
            guard, inverted = rng.choice(POOLS[1]), rng.random() < 0.5
            text.append(f"@{'!' if inverted else ''}{guard} {statement.format(**names)}")
            values = [v if bool(state[guard][i]) != inverted else state[target][i] for i, v in enumerate(values)]
        else: text.append(statement.format(**names))
        state[target] = values
    return text, start, state


def written(text) -> str:
    names = [n for p in POOLS.values() for n in p]
    loads, stores = [], []
    for i, n in enumerate(names):
        at = f"+{8 * LANES * i}]"
        if n[1] == "p": loads.append(f"ld.global.b64 %x, [%in{at}; setp.ne.u64 {n}, %x, 0;"); stores.append(f"selp.b64 %x, 1, 0, {n}; st.global.b64 [%out{at}, %x;")
        else:
            kind = {"h": "b16", "r": "b32", "d": "b64"}[n[1]]
            loads.append(f"ld.global.{kind} {n}, [%in{at};"); stores.append(f"st.global.{kind} [%out{at}, {n};")
    return HEAD + """.visible .entry k(.param .u64 x, .param .u64 y) {
.reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<8>, %t; .reg .b64 %d<8>, %in, %out, %at, %x;
ld.param.u64 %in, [x]; ld.param.u64 %out, [y]; mov.u32 %t, %tid.x; mul.wide.u32 %at, %t, 8; add.u64 %in, %in, %at; add.u64 %out, %out, %at;
""" + "\n".join(loads + text + stores) + "\nret;\n}\n"


def disagreement(seed: int) -> str | None:
    text, start, state = program(seed)
    names = list(state)
    data = np.array([start[n] for n in names], np.uint64)
    got = launch(written(text), [data, np.zeros_like(data)], block=LANES, seed=seed)[1]
    for n, row in zip(names, got.tolist()):
        if row != state[n]: return f"seed {seed}: {n} is {[hex(v) for v in row]}, not {[hex(v) for v in state[n]]} after\n" + "\n".join(text)
    return None


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_random_programs(first):
    found = [d for d in map(disagreement, range(first, first + 10)) if d]
    assert not found, found[0]


@pytest.mark.slow
def test_more_random_programs():
    found = [d for d in map(disagreement, range(1000, 1400)) if d]
    assert not found, found[0]


# ---------------------------------------------------------------- control flow and waits
MASK = 0xFFFFFFFF
BINARY = {"add.u32": lambda a, b: a + b, "sub.u32": lambda a, b: a - b, "mul.lo.u32": lambda a, b: a * b, "xor.b32": lambda a, b: a ^ b, "and.b32": lambda a, b: a & b, "max.u32": max}


class Flow:
    """A random structured kernel of two warps, written as PTX and acted out in Python at the same time: branches that part lanes, loops, and at places where all
    lanes are together shuffles, votes and barriers with an exchange through shared memory. Values live across all of them."""
    THREADS, REGISTERS = 64, 10

    def __init__(self, seed: int):
        self.rng, self.text, self.labels, self.counters = random.Random(seed), [], 0, 0
        self.start = [[self.rng.getrandbits(32) for _ in range(self.THREADS)] for _ in range(self.REGISTERS)]
        self.block(self.rng.randint(6, 12), 0, True)
        self.values = [list(v) for v in self.start]

    def label(self) -> str:
        self.labels += 1
        return f"L{self.labels}"

    def register(self) -> int: return self.rng.randrange(self.REGISTERS)

    def block(self, count: int, depth: int, together: bool):
        for _ in range(count):
            kinds = ["binary"] * 4 + (["part", "loop"] if depth < 3 else []) + (["shuffle", "vote", "exchange", "barrier"] if together else [])
            getattr(self, self.rng.choice(kinds))(depth, together)

    def say(self, *lines): self.text.extend(lines)

    def binary(self, depth, together):
        op, d, a, b = self.rng.choice(list(BINARY)), self.register(), self.register(), self.register()
        self.say((f"{op} %r{d}, %r{a}, %r{b};", lambda v, lanes: self.each(v, lanes, d, lambda i: BINARY[op](v[a][i], v[b][i]))))

    @staticmethod
    def each(v, lanes, d, f):
        new = {i: f(i) & MASK for i in lanes}
        for i, x in new.items(): v[d][i] = x

    def part(self, depth, together):
        """if (bit of a) … else …; lanes take different ways."""
        a, bit, other, end = self.register(), self.rng.randrange(32), self.label(), self.label()
        outer, self.text = self.text, []
        self.block(self.rng.randint(1, 3), depth + 1, False)
        yes, self.text = self.text, []
        self.block(self.rng.randint(0, 3), depth + 1, False)
        no, self.text = self.text, outer
        def act(v, lanes):
            chosen = [i for i in lanes if v[a][i] >> bit & 1]
            run(yes, v, chosen)
            run(no, v, [i for i in lanes if i not in chosen])
        self.say((f"and.b32 %s0, %r{a}, {1 << bit:#x}; setp.eq.u32 %p0, %s0, 0; @%p0 bra {other};\n{spoken(yes)}\nbra {end};\n{other}:\n{spoken(no)}\n{end}:", act))

    def loop(self, depth, together):
        """Together: a fixed number of turns; alone: as many as a register says."""
        top, a, turns = self.label(), self.register(), self.rng.randint(1, 3)
        self.counters += 1
        counter = f"%n{self.counters}"
        outer, self.text = self.text, []
        self.block(self.rng.randint(1, 3), depth + 1, together)
        body, self.text = self.text, outer
        first = f"mov.u32 {counter}, {turns};" if together else f"and.b32 {counter}, %r{a}, 3; add.u32 {counter}, {counter}, 1;"
        def act(v, lanes):
            left = {i: turns if together else (v[a][i] & 3) + 1 for i in lanes}
            while lanes := [i for i in left if left[i]]:
                run(body, v, lanes)
                for i in lanes: left[i] -= 1
        self.say((f"{first}\n{top}:\n{spoken(body)}\nsub.u32 {counter}, {counter}, 1; setp.ne.u32 %p1, {counter}, 0; @%p1 bra {top};", act))

    def shuffle(self, depth, together):
        d, a, by = self.register(), self.register(), self.rng.randrange(1, 32)
        def act(v, lanes):
            old = list(v[a])
            self.each(v, lanes, d, lambda i: old[i ^ by])
        self.say((f"shfl.sync.bfly.b32 %r{d}, %r{a}, {by}, 31, -1;", act))

    def vote(self, depth, together):
        d, a, bit = self.register(), self.register(), self.rng.randrange(32)
        def act(v, lanes):
            ballots = [sum((v[a][w * 32 + i] >> bit & 1) << i for i in range(32)) for w in range(2)]
            self.each(v, lanes, d, lambda i: ballots[i // 32])
        self.say((f"and.b32 %s0, %r{a}, {1 << bit:#x}; setp.ne.u32 %p0, %s0, 0; vote.sync.ballot.b32 %r{d}, %p0, -1;", act))

    def exchange(self, depth, together):
        """With the thread at the other end of the block."""
        d, a = self.register(), self.register()
        def act(v, lanes):
            old = list(v[a])
            self.each(v, lanes, d, lambda i: old[self.THREADS - 1 - i])
        self.say((f"st.shared.u32 [%mine], %r{a}; bar.sync 0; ld.shared.u32 %r{d}, [%other]; bar.sync 0;", act))

    def barrier(self, depth, together):
        d, a = self.register(), self.register()
        def act(v, lanes):
            count = sum(v[a][i] & 1 for i in range(self.THREADS))
            self.each(v, lanes, d, lambda i: count)
        self.say((f"and.b32 %s0, %r{a}, 1; setp.ne.u32 %p0, %s0, 0; bar.red.popc.u32 %r{d}, 0, %p0;", act))

    def kernel(self) -> str:
        loads = [f"ld.global.u32 %r{i}, [%in+{4 * self.THREADS * i}];" for i in range(self.REGISTERS)]
        stores = [f"st.global.u32 [%out+{4 * self.THREADS * i}], %r{i};" for i in range(self.REGISTERS)]
        return HEAD + f""".visible .entry k(.param .u64 x, .param .u64 y) {{
.reg .pred %p<2>; .reg .b32 %r<{self.REGISTERS}>, %s<1>, %n<{self.counters + 1}>, %t, %mine, %other; .reg .b64 %in, %out, %at; .shared .align 4 .b8 room[{4 * self.THREADS}];
ld.param.u64 %in, [x]; ld.param.u64 %out, [y]; mov.u32 %t, %tid.x; mul.wide.u32 %at, %t, 4; add.u64 %in, %in, %at; add.u64 %out, %out, %at;
mov.u32 %mine, room; shl.b32 %other, %t, 2; sub.u32 %other, {4 * self.THREADS - 4}, %other; add.u32 %other, %other, %mine; shl.b32 %t, %t, 2; add.u32 %mine, %mine, %t;
""" + "\n".join([*loads, spoken(self.text), *stores]) + "\nret;\n}\n"

    def disagreement(self, seed: int) -> str | None:
        run(self.text, self.values, list(range(self.THREADS)))
        data = np.array(self.start, np.uint32)
        got = launch(self.kernel(), [data, np.zeros_like(data)], block=self.THREADS, seed=seed, exact=seed % 3 > 0)[1]
        return None if np.array_equal(got, np.array(self.values, np.uint32)) else f"seed {seed}\n{self.kernel()}"


def run(text, v, lanes):
    for _, act in text: act(v, lanes)


def spoken(text) -> str: return "\n".join(line for line, _ in text)


@pytest.mark.parametrize("first", range(0, 24, 8))
def test_random_flow(first):
    found = [d for seed in range(first, first + 8) if (d := Flow(seed).disagreement(seed))]
    assert not found, found[0]


@pytest.mark.slow
def test_more_random_flow():
    found = [d for seed in range(2000, 2300) if (d := Flow(seed).disagreement(seed))]
    assert not found, found[0]
