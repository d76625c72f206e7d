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
