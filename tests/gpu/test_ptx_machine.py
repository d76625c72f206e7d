"""Threads, warps, barriers and memory: hand-written PTX, results against NumPy, and every fault with its place."""
import numpy as np
import pytest

from forno.gpu.ptx import Fault, Memory, Module, SyntaxFault

from .ptx_tools import HEAD, LAUNCHED, assemble, launch, ptxas, whole_file, words

SEEDS = range(6)


@pytest.fixture(scope="module", autouse=True)
def launched(): LAUNCHED.clear()               # by other files' tests


def entry(body: str, outside: str = "", params: int = 2, head: str = HEAD) -> str:
    """An entry whose first parameters are addresses, in %a0 …; %t is the thread, %l the lane, %at the thread's place in 4-byte words."""
    declared = ", ".join(f".param .u64 p{i}" for i in range(params))
    loads = "\n".join(f"ld.param.u64 %a{i}, [p{i}];" for i in range(params))
    return f"""{head}{outside}
.visible .entry k({declared}) {{
.reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<40>, %t, %l, %c; .reg .b64 %d<20>, %a<8>, %at; .reg .f32 %f<10>;
{loads}
mov.u32 %t, %tid.x; mov.u32 %l, %laneid; mov.u32 %c, %ctaid.x;
mul.wide.u32 %at, %t, 4;
{body}
ret;
}}"""


OUT = "add.u64 %d9, %a1, %at; st.global.u32 [%d9], %r1;"
IN = "add.u64 %d8, %a0, %at; ld.global.u32 %r0, [%d8];"


def run(body, x=None, block=32, outside="", **more):
    """r1 of every thread; r0 is x[thread]."""
    x = np.arange(block, dtype=np.uint32) if x is None else x
    return launch(entry(IN + body + OUT, outside), [x, np.zeros(block, np.uint32)], block=block, **more)[1]


def fault(body, kind, block=32, outside="", match=None, **more):
    with pytest.raises(Fault, match=match) as found: run(body, block=block, outside=outside, **more)
    assert found.value.kind == kind, found.value
    return found.value


# ---------------------------------------------------------------- warps
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("mode", "operand", "clamp", "source"), [
    ("bfly", 5, 31, lambda i: i ^ 5), ("idx", 7, 31, lambda i: 7), ("up", 3, 0, lambda i: i - 3 if i >= 3 else i), ("down", 4, 31, lambda i: i + 4 if i < 28 else i),
    ("up", 2, 0x1800, lambda i: i - 2 if i % 8 >= 2 else i), ("down", 1, 0x181F, lambda i: i + 1 if i % 8 < 7 else i), ("idx", 3, 0x181F, lambda i: i // 8 * 8 + 3)])
def test_shuffle(mode, operand, clamp, source, seed):
    y = run(f"shfl.sync.{mode}.b32 %r1|%p1, %r0, {operand}, {clamp}, -1; selp.b32 %r2, 1000, 0, %p1; add.u32 %r1, %r1, %r2;", seed=seed)
    moved = {"up": lambda i: source(i) != i, "down": lambda i: source(i) != i}.get(mode, lambda i: True)
    assert y.tolist() == [source(i) + 1000 * moved(i) for i in range(32)]


@pytest.mark.parametrize("seed", SEEDS)
def test_half_a_warp(seed):
    """Two halves meet among themselves, in branches of their own."""
    y = run("""setp.lt.u32 %p1, %l, 16; @%p1 bra low;
shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xffff0000; bra done;
low: shfl.sync.bfly.b32 %r1, %r0, 2, 31, 0xffff; add.u32 %r1, %r1, 100;
done:""", seed=seed)
    assert y.tolist() == [(i ^ 2) + 100 for i in range(16)] + [i ^ 1 for i in range(16, 32)]


def test_votes():
    x = (np.arange(32) % 3 == 0).astype(np.uint32)
    ballot = int(sum(1 << i for i in range(0, 32, 3)))
    pred = "setp.ne.u32 %p1, %r0, 0;"
    assert set(run(pred + "vote.sync.ballot.b32 %r1, %p1, -1;", x)) == {ballot}
    for mode, want in (("all", 0), ("any", 1), ("uni", 0)): assert set(run(pred + f"vote.sync.{mode}.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", x)) == {want}
    assert set(run(pred + "vote.sync.uni.pred %p2, !%p1, -1; selp.u32 %r1, 1, 0, %p2;", x * 0)) == {1}


def test_match():
    x = (np.arange(32) // 5).astype(np.uint32)
    want = [sum(1 << j for j in range(32) if j // 5 == i // 5) for i in range(32)]
    assert run("match.any.sync.b32 %r1, %r0, -1;", x).tolist() == want
    assert set(run("match.all.sync.b32 %r1|%p1, %r0, -1; @%p1 add.u32 %r1, %r1, 1;", x)) == {0}
    assert set(run("match.all.sync.b32 %r1|%p1, %r0, -1; @!%p1 mov.u32 %r1, 7;", x * 0 + 9)) == {0xFFFFFFFF}


@pytest.mark.parametrize(("op", "f"), [("add.u32", lambda x: x.sum()), ("add.s32", lambda x: x.sum()), ("min.u32", lambda x: x.min()), ("max.u32", lambda x: x.max()),
                                       ("min.s32", lambda x: x.view(np.int32).min()), ("max.s32", lambda x: x.view(np.int32).max()), ("and.b32", np.bitwise_and.reduce),
                                       ("or.b32", np.bitwise_or.reduce), ("xor.b32", np.bitwise_xor.reduce)])
def test_redux(op, f):
    x = np.random.default_rng(0).integers(0, 1 << 32, 32, dtype=np.uint32)
    assert set(run(f"redux.sync.{op} %r1, %r0, -1;", x)) == {int(f(x)) & 0xFFFFFFFF}


def test_elect_and_active():
    y = run("elect.sync %r2|%p1, -1; selp.b32 %r1, 100, 200, %p1; add.u32 %r1, %r1, %r2;")
    assert y.tolist() == [100] + [200] * 31
    assert set(run("activemask.b32 %r1;")) == {0xFFFFFFFF}
    y = run("mov.u32 %r1, 0; setp.lt.u32 %p1, %l, 8; @!%p1 bra done; activemask.b32 %r1; done:")
    assert y.tolist() == [255] * 8 + [0] * 24


def test_lanemasks():
    for name, f in (("eq", lambda i: 1 << i), ("lt", lambda i: (1 << i) - 1), ("le", lambda i: (2 << i) - 1), ("gt", lambda i: -(2 << i)), ("ge", lambda i: -(1 << i))):
        assert run(f"mov.u32 %r1, %lanemask_{name};").tolist() == [f(i) & 0xFFFFFFFF for i in range(32)]


def test_wrong_masks():
    found = fault("shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xfffffffe;", "mask")
    assert found.thread == (0, 0, 0) and "shfl.sync" in found.text
    found = fault("mov.u32 %r1, 0; setp.lt.u32 %p1, %l, 16; @!%p1 bra done; shfl.sync.bfly.b32 %r1, %r0, 16, 31, 0xffff; done:", "inactive")
    assert f"lane {found.thread[0] + 16}" in found.why
    found = fault("mov.u32 %r1, 0; setp.lt.u32 %p1, %l, 16; @!%p1 bra done; shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1; done: bar.sync 0;", "deadlock")
    assert "16 at line" in found.why
    fault("setp.lt.u32 %p1, %l, 31; selp.b32 %r5, 0x7fffffff, 0xffffffff, %p1; shfl.sync.bfly.b32 %r1, %r0, 1, 31, %r5;", "inactive")
    fault("setp.lt.u32 %p1, %l, 31; selp.b32 %r5, 0xffffffff, 0x7fffffff, %p1; shfl.sync.bfly.b32 %r1, %r0, 1, 31, %r5;", "mask")
    fault("setp.lt.u32 %p1, %l, 30; selp.b32 %r5, 0xffffffff, 0xefffffff, %p1; shfl.sync.bfly.b32 %r1, %r0, 1, 31, %r5;", "divergent")


# ---------------------------------------------------------------- barriers
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("block", [32, 96, 1024])
def test_reverse_through_shared(block, seed):
    y = run(f"""mov.u32 %r5, buffer; shl.b32 %r6, %t, 2; add.u32 %r7, %r5, %r6; st.shared.u32 [%r7], %r0;
bar.sync 0;
sub.u32 %r6, {block - 1}, %t; shl.b32 %r6, %r6, 2; add.u32 %r7, %r5, %r6; ld.shared.u32 %r1, [%r7];""", block=block, outside=f".shared .align 4 .b8 buffer[{4 * block}];", seed=seed)
    assert y.tolist() == list(range(block))[::-1]


def test_reverse_without_barrier():
    body = """mov.u32 %r5, buffer; shl.b32 %r6, %t, 2; add.u32 %r7, %r5, %r6; st.shared.u32 [%r7], %r0; {}
sub.u32 %r6, 63, %t; shl.b32 %r6, %r6, 2; add.u32 %r7, %r5, %r6; ld.shared.u32 %r1, [%r7];"""
    kinds = set()
    for seed in SEEDS:
        for between in ("", "shfl.sync.idx.b32 %r9, %r0, 0, 31, -1;"):   # a shuffle orders no memory, and another warp even less
            with pytest.raises(Fault) as found: run(body.format(between), block=64, outside=".shared .align 4 .b8 buffer[256];", seed=seed)
            kinds.add(found.value.kind)
    assert kinds <= {"race", "uninitialized"} and "race" in kinds


@pytest.mark.parametrize("sync", ["bar.warp.sync -1;", "bar.sync 0;", "barrier.sync 0;", "barrier.sync.aligned 1, 32;", ""])
def test_neighbours_in_a_warp(sync):
    """Lanes of one warp are ordered by bar.warp.sync; by nothing else than barriers."""
    body = f"""mov.u32 %r5, buffer; shl.b32 %r6, %t, 2; add.u32 %r7, %r5, %r6; st.shared.u32 [%r7], %r0; {sync}
xor.b32 %r6, %r6, 4; add.u32 %r7, %r5, %r6; ld.shared.u32 %r1, [%r7];"""
    outside = ".shared .align 4 .b8 buffer[128];"
    if sync: assert run(body, outside=outside).tolist() == [i ^ 1 for i in range(32)]
    else:
        with pytest.raises(Fault) as found: run(body, outside=outside)
        assert found.value.kind in ("race", "uninitialized")


def test_write_after_read():
    """The second round's write meets the first round's reads."""
    body = """mov.u32 %r5, buffer; mov.u32 %r3, 0; mov.u32 %r1, 0;
loop: shl.b32 %r6, %t, 2; add.u32 %r7, %r5, %r6; add.u32 %r8, %r0, %r3; st.shared.u32 [%r7], %r8;
bar.sync 0;
xor.b32 %r6, %r6, 128; add.u32 %r7, %r5, %r6; ld.shared.u32 %r8, [%r7]; add.u32 %r1, %r1, %r8;
{}
add.u32 %r3, %r3, 1; setp.lt.u32 %p1, %r3, 3; @%p1 bra loop;"""
    outside = ".shared .align 4 .b8 buffer[256];"
    assert run(body.format("bar.sync 0;"), block=64, outside=outside).tolist() == [3 * (i ^ 32) + 3 for i in range(64)]
    for seed in SEEDS: fault(body.format(""), "race", block=64, outside=outside, seed=seed)


def test_barrier_reductions():
    x = (np.arange(64) % 3 == 0).astype(np.uint32)
    pred = "setp.ne.u32 %p1, %r0, 0;"
    assert set(run(pred + "bar.red.popc.u32 %r1, 0, %p1;", x, 64)) == {22}
    assert set(run(pred + "bar.red.and.pred %p2, 0, %p1; selp.u32 %r1, 1, 0, %p2;", x, 64)) == {0}
    assert set(run(pred + "bar.red.or.pred %p2, 0, !%p1; selp.u32 %r1, 1, 0, %p2;", x, 64)) == {1}


@pytest.mark.parametrize("seed", SEEDS)
def test_producer_and_consumer(seed):
    """Named barriers with counts: one warp arrives and goes on, the other waits. What the first writes after it has arrived is too late."""
    body = """mov.u32 %r5, buffer; shl.b32 %r6, %l, 2; add.u32 %r7, %r5, %r6; mov.u32 %r1, 0;
setp.ge.u32 %p1, %t, 32; @%p1 bra consumer;
st.shared.u32 [%r7], %r0; bar.arrive 1, 64; {} bra done;
consumer: bar.sync 1, 64; ld.shared.u32 %r1, [%r7];
done:"""
    y = run(body.format(""), block=64, outside=".shared .align 4 .b8 buffer[128];", seed=seed)
    assert y.tolist() == [0] * 32 + list(range(32))
    fault(body.format("st.shared.u32 [%r7], %r0;"), "race", block=64, outside=".shared .align 4 .b8 buffer[128];", seed=seed)


def test_barrier_after_exit():
    """Threads that ended are waited for by nobody."""
    y = run("mov.u32 %r1, 5; setp.ge.u32 %p1, %t, 40; @%p1 exit; bar.sync 0;", block=64)
    assert y.tolist() == [5] * 40 + [0] * 24


def test_divergent_barriers():
    found = fault("setp.lt.u32 %p1, %l, 16; @%p1 bar.sync 0; @!%p1 bar.sync 0;", "divergent")
    assert "bar.sync" in found.text
    assert set(run("mov.u32 %r1, 3; setp.lt.u32 %p1, %l, 16; @%p1 bra a; barrier.sync 0; bra b; a: barrier.sync 0; b:")) == {3}
    fault("setp.lt.u32 %p1, %t, 32; @%p1 bar.sync 0; @!%p1 bar.sync 1;", "deadlock", block=64)
    fault("bar.sync 0, 20;", "barrier")


# ---------------------------------------------------------------- memory
def test_shared_faults():
    found = fault("mov.u32 %r5, 128; st.shared.u32 [%r5], %r0;", "out of bounds", outside="", match="0 bytes")
    assert "st.shared" in found.text
    fault("mov.u32 %r5, s; ld.shared.v4.u32 {%r1,%r2,%r3,%r4}, [%r5+4];", "misaligned", outside=".shared .align 16 .b8 s[64];")
    fault("mov.u32 %r5, s; ld.shared.u32 %r1, [%r5];", "uninitialized", outside=".shared .align 16 .b8 s[64];")
    assert set(run("mov.u32 %r5, s; ld.shared.u32 %r1, [%r5];", outside=".shared .align 16 .b8 s[64];", uninitialized=False)) == {0xCBCBCBCB}


def test_dynamic_shared():
    """It lies behind the static variables; its size is the launch's."""
    body = "mov.u32 %r5, dyn; shl.b32 %r6, %t, 2; add.u32 %r5, %r5, %r6; st.shared.u32 [%r5], %r0; st.shared.u32 [s], %r0; ld.shared.u32 %r1, [%r5];".replace("st.shared.u32 [s], %r0;", "")
    outside = ".shared .align 4 .b8 s[20]; .extern .shared .align 16 .b8 dyn[];"
    assert run(body, outside=outside, shared=128).tolist() == list(range(32))
    fault(body, "out of bounds", outside=outside, shared=124)


def test_global_faults():
    fault("add.u64 %d1, %a0, 2; ld.global.u32 %r1, [%d1];", "misaligned")
    found = fault("ld.global.u32 %r1, [%a0+-4];", "out of bounds", match="4 bytes before it")
    assert found.block == (0, 0, 0)
    fault("mov.u64 %d1, 0; ld.global.u32 %r1, [%d1];", "out of bounds")
    fault("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%a0+128];", "out of bounds")


def test_undefined_register():
    found = fault("add.u32 %r1, %r0, %r30;", "undefined")
    assert "%r30" in found.why
    half = "setp.lt.u32 %p1, %t, 16; @%p1 mov.u32 %r30, 1; setp.lt.u32 %p2, %t, {}; @!%p2 bra done; add.u32 %r1, %r0, %r30; done: mov.u32 %r1, 1;"
    assert set(run(half.format(16))) == {1}
    assert fault(half.format(17), "undefined").thread == (16, 0, 0)


def test_endless():
    found = fault("again: bra again;", "endless", budget=1000)
    assert found.line


def test_trap(): fault("trap;", "trap")


def test_generic_addresses():
    y = run("""cvta.shared.u64 %d1, s0; cvta.to.shared.u64 %d2, %d1; isspacep.shared %p1, %d1; isspacep.global %p2, %a0; isspacep.global %p3, %d1;
mul.wide.u32 %d3, %t, 4; add.u64 %d4, %d1, %d3; st.u32 [%d4], %r0; bar.warp.sync -1; add.u64 %d5, %d2, %d3; cvt.u32.u64 %r5, %d5; ld.shared.u32 %r1, [%r5];
ld.u32 %r2, [%d8]; add.u32 %r1, %r1, %r2;
selp.u32 %r2, 100, 0, %p1; add.u32 %r1, %r1, %r2; selp.u32 %r2, 1000, 0, %p2; add.u32 %r1, %r1, %r2; selp.u32 %r2, 10000, 0, %p3; add.u32 %r1, %r1, %r2;
""".replace("cvta.shared.u64 %d1, s0;", "mov.u64 %d6, s; cvta.shared.u64 %d1, %d6;"), outside=".shared .align 4 .b8 s[128];")
    assert y.tolist() == [2 * i + 1100 for i in range(32)]


def test_local_memory():
    body = """.local .align 8 .b8 depot[16]; .reg .b64 %SP, %SPL; mov.u64 %SPL, depot; cvta.local.u64 %SP, %SPL; st.u32 [%SP+4], %r0; bar.sync 0; ld.local.u32 %r1, [%SPL+{}];"""
    assert run(body.format(4), block=64).tolist() == list(range(64))
    fault(body.format(16), "out of bounds")


def test_variables():
    """Initial values, addresses of other variables, and constants; one copy per memory."""
    outside = """.global .align 4 .u32 counter = 5; .const .align 4 .f32 table[4] = {0f3F800000, 2.0, 3.5, 0f40800000};
.global .align 8 .u64 pointer = counter; .global .align 1 .b8 bytes[3] = {1, 2, 255};"""
    text = entry(IN + """ld.global.u64 %d1, [pointer]; ld.relaxed.gpu.global.u32 %r1, [%d1]; ld.const.f32 %f1, [table+8]; cvt.rzi.u32.f32 %r2, %f1; add.u32 %r1, %r1, %r2;
ld.global.u8 %h1, [bytes+2]; cvt.u32.u16 %r2, %h1; add.u32 %r1, %r1, %r2; atom.global.add.u32 %r3, [counter], 1;""" + OUT, outside)
    module, memory = Module(text), Memory()
    x, y = memory.put(np.arange(32, dtype=np.uint32)), memory.put(np.zeros(32, np.uint32))
    touched = module.entries["k"].program().run((1,), (32,), params=words(x, y), memory=memory)
    assert sorted(memory.read(y, 32, np.uint32)) == [5 + i + 3 + 255 for i in range(32)]
    assert memory.read(module.load(memory)["counter"], 1, np.uint32)[0] == 37
    assert {w[0] for w in touched.writes} == {y, module.load(memory)["counter"]}
    assert module.load(Memory()) != module.load(memory)


def test_touched():
    """Ranges within allocations, reads and writes apart."""
    memory = Memory()
    a, b, c = (memory.put(np.arange(64, dtype=np.uint32)) for _ in range(3))
    text = entry("add.u64 %d1, %a0, %at; ld.global.u32 %r1, [%d1+16]; add.u64 %d2, %a1, %at; red.global.add.u32 [%d2], %r1;", params=3)
    touched = Module(text).entries["k"].program(False).run((1,), (32,), params=words(a, b, c), memory=memory)
    assert sorted(touched.reads) == sorted([(a, a + 16, a + 144), (b, b, b + 128)]) and touched.writes == [(b, b, b + 128)]


@pytest.mark.parametrize(("op", "kind", "f"), [("add", "u32", lambda a, b: a + b), ("min", "s32", min), ("max", "s32", max), ("min", "u32", min), ("max", "u32", max), ("and", "b32", lambda a, b: a & b),
                                               ("or", "b32", lambda a, b: a | b), ("xor", "b32", lambda a, b: a ^ b), ("add", "u64", lambda a, b: a + b), ("max", "s64", max)])
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics(op, kind, f, space):
    size = int(kind[1:])
    dtype = np.dtype(f"{'i' if kind[0] == 's' else 'u'}{size // 8}")
    x = np.random.default_rng(1).integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 64, dtype=dtype)
    r, reg = ("%r", "b32") if size == 32 else ("%d", "b64")
    start = f"mov.{reg} {r}3, 7;"
    load = f"mul.wide.u32 %d1, %t, {size // 8}; add.u64 %d1, %a0, %d1; ld.global.{reg} {r}4, [%d1];"
    if space == "global": body = load + f"red.global.{op}.{kind} [%a1], {r}4;"
    else: body = start + f"setp.eq.u32 %p1, %t, 0; @%p1 st.shared.{reg} [s], {r}3; bar.sync 0;" + load + f"atom.shared.{op}.{kind} {r}5, [s], {r}4; bar.sync 0; ld.shared.{reg} {r}6, [s]; @%p1 st.global.{reg} [%a1], {r}6;"
    _, y = launch(entry(body, ".shared .align 8 .b8 s[8];"), [x, np.full(1, 7, dtype)], block=64)
    want = 7
    for v in x.tolist(): want = f(want, v)
    assert int(y[0]) == np.array([want & (1 << size) - 1], f"u{size // 8}").astype(dtype)[0]


def test_atomic_counters_and_exchange():
    _, y = launch(entry("atom.global.inc.u32 %r1, [%a1], 9; atom.global.dec.u32 %r2, [%a1+4], 5; atom.global.exch.b32 %r3, [%a1+8], %t; atom.global.cas.b32 %r4, [%a1+12], 3, 4;"),
                  [np.zeros(1, np.uint32), np.array([0, 2, 0, 3], np.uint32)], block=23)
    assert y[0] == 23 % 10 and y[1] == (2 - 23) % 6 and y[2] < 23 and y[3] == 4


def test_atomic_floats():
    x = np.arange(32, dtype=np.float32)
    _, y = launch(entry("add.u64 %d1, %a0, %at; ld.global.f32 %f1, [%d1]; red.global.add.f32 [%a1], %f1; cvt.rn.f16.f32 %h1, %f1; red.global.add.noftz.f16 [%a1+4], %h1;"
                        "mov.b32 %r3, {%h1, %h1}; red.global.add.noftz.f16x2 [%a1+8], %r3;"), [x, np.zeros(3, np.uint32)], block=32)
    assert y.view(np.float32)[0] == 496 and y.view(np.float16)[2] == 496 and y.view(np.float16)[4:].tolist() == [496, 496]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_goes_before_atomics(seed):
    """A plain write is not ordered before others' additions by the writer's own."""
    one = "setp.eq.u32 %p1, %{}, 0; @%p1 st.{}.u32 [{}], 5; {} red.{}.add.u32 [{}], 1;"
    with pytest.raises(Fault, match="race"): launch(entry(one.format("c", "global", "%a0", "", "global", "%a0")), [np.zeros(1, np.uint32)] * 2, grid=2, block=1, seed=seed)
    outside = ".shared .align 4 .b8 s[4];"
    with pytest.raises(Fault, match="race"): launch(entry(one.format("t", "shared", "s", "", "shared", "s"), outside), [np.zeros(1, np.uint32)] * 2, block=64, seed=seed)
    launch(entry(one.format("t", "shared", "s", "bar.sync 0;", "shared", "s"), outside), [np.zeros(1, np.uint32)] * 2, block=64, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_async_copy(seed):
    body = """mov.u32 %r5, s; shl.b32 %r6, %t, 4; add.u32 %r7, %r5, %r6; mul.wide.u32 %d1, %t, 16; add.u64 %d1, %a0, %d1;
cp.async.cg.shared.global [%r7], [%d1], 16; cp.async.commit_group;
cp.async.ca.shared.global [%r7+512], [%d1], 8, 4; cp.async.commit_group;
{}
bar.sync 0; xor.b32 %r6, %r6, 16; add.u32 %r7, %r5, %r6; ld.shared.u32 %r1, [%r7+4]; {}"""
    outside = ".shared .align 16 .b8 s[1024];"
    x = np.arange(128, dtype=np.uint32)
    want = [4 * (i ^ 1) + 1 for i in range(32)]
    result = lambda body: launch(entry(body + OUT, outside), [x, np.zeros(32, np.uint32)], seed=seed)[1].tolist()
    assert result(body.format("cp.async.wait_group 1;", "")) == want
    assert result(body.format("cp.async.wait_all;", "ld.shared.u32 %r2, [%r7+516]; add.u32 %r1, %r1, %r2;")) == want      # bytes past 4 are zeros
    for wait, more in (("", ""), ("cp.async.wait_group 2;", ""), ("cp.async.wait_group 1;", "ld.shared.u32 %r2, [%r7+516]; add.u32 %r1, %r1, %r2;")):
        with pytest.raises(Fault, match="asynchronous") as found: result(body.format(wait, more))
        assert found.value.kind == "race"


# ---------------------------------------------------------------- races on global memory
def racing(body, *, block=32, grid=1, params=2, races=True, seed=0, size=64):
    return launch(entry(body, params=params), [np.zeros(size, np.uint32)] * params, block=block, grid=grid, races=races, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("block", "grid"), [(32, 1), (1, 2), (64, 3)])
def test_two_writers(block, grid, seed):
    """In one warp, in two blocks, in general; atomics and strong stores don't race among themselves, but with plain ones."""
    with pytest.raises(Fault, match="touches it too") as found: racing("st.global.u32 [%a0+4], %t;", block=block, grid=grid, seed=seed)
    assert found.value.kind == "race"
    racing("st.global.u32 [%a0+4], %t;", block=block, grid=grid, races=False)
    racing("red.global.add.u32 [%a0+4], 1; ld.volatile.global.u32 %r1, [%a0+4]; st.relaxed.gpu.global.u32 [%a0+4], %r1;", block=block, grid=grid, seed=seed)
    with pytest.raises(Fault): racing("red.global.add.u32 [%a0+4], 1; ld.global.u32 %r1, [%a0+4];", block=block, grid=grid, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_place_neighbours(seed):
    """x[i] = x[i + 1]: right only by luck. In one block a barrier makes it right, in two none does."""
    body = "add.u64 %d1, %a0, %at; ld.global.u32 %r1, [%d1+4]; {} st.global.u32 [%d1], %r1;"
    with pytest.raises(Fault): racing(body.format(""), seed=seed)
    racing(body.format("bar.sync 0;"), seed=seed)
    racing(body.format("bar.warp.sync -1;"), seed=seed)
    with pytest.raises(Fault): racing(body.format("bar.sync 0;"), grid=2, seed=seed)


def test_bytes_side_by_side():
    """Neighbouring bytes are nobody else's."""
    racing("cvt.u64.u32 %d1, %t; add.u64 %d1, %a0, %d1; st.global.u8 [%d1+1], 7; ld.global.u32 %r1, [%a1];", block=64)


def test_last_block_sums():
    """Partial sums, a fence, a counter: blocks that order themselves by flags are left in peace."""
    body = """cvt.u64.u32 %d1, %c; shl.b64 %d2, %d1, 2; add.u64 %d3, %a0, %d2; add.u32 %r1, %c, 1; st.global.u32 [%d3], %r1;
{} atom.global.add.u32 %r2, [%a1], 1; setp.ne.u32 %p1, %r2, 2; @%p1 bra done;
ld.global.u32 %r3, [%a0]; ld.global.u32 %r4, [%a0+4]; ld.global.u32 %r5, [%a0+8]; add.u32 %r3, %r3, %r4; add.u32 %r3, %r3, %r5; st.global.u32 [%a1+4], %r3; done:"""
    for seed in SEEDS:
        assert racing(body.format("membar.gl;"), block=1, grid=3, seed=seed)[1][1] == 6
        for fence in ("", "membar.sys;"):                                          # the latter is for the host
            with pytest.raises(Fault): racing(body.format(fence), block=1, grid=3, seed=seed)


# ---------------------------------------------------------------- control and calls
def test_branch_table():
    body = "and.b32 %r2, %r0, 3; table: .branchtargets zero, one, two, zero; brx.idx %r2, table; zero: mov.u32 %r1, 10; bra end; one: mov.u32 %r1, 11; bra end; two: mov.u32 %r1, 12; end:"
    assert run(body).tolist() == [[10, 11, 12, 10][i & 3] for i in range(32)]
    fault(body.replace("and.b32 %r2, %r0, 3", "mov.u32 %r2, %r0"), "branch")


def test_calls():
    """Functions with parameters, results, branches and a barrier; called twice, once under a predicate."""
    outside = """.func (.param .b32 result) twice(.param .b32 x, .param .align 8 .b8 pair[16]) {
.reg .b32 %r<6>; .reg .pred %p<2>;
ld.param.b32 %r1, [x]; ld.param.b32 %r2, [pair+8]; setp.gt.u32 %p1, %r1, 15; @%p1 bra big;
bar.warp.sync 0xffff; add.u32 %r3, %r1, %r2; st.param.b32 [result], %r3; ret;
big: shl.b32 %r3, %r1, 1; st.param.b32 [result], %r3; ret;
}"""
    call = "{{ .param .b32 a; .param .align 8 .b8 b[16]; .param .b32 r; st.param.b32 [a], {x}; st.param.b32 [b+8], 500; {guard} call.uni (r), twice, (a, b); ld.param.b32 %r1, [r]; }}"
    want = [i + 500 if i < 16 else 2 * i for i in range(32)]
    assert run(call.format(x="%r0", guard=""), outside=outside).tolist() == want
    two = call.format(x="%r0", guard="") + "mov.u32 %r9, %r1; setp.gt.u32 %p3, %r0, 15;" + call.format(x="%r0", guard="@%p3") + "selp.b32 %r1, %r1, %r9, %p3; add.u32 %r1, %r1, %r9;"
    assert run(two, outside=outside).tolist() == [2 * w for w in want]
    with pytest.raises(NotImplementedError, match="recursion"):
        run("call.uni f, ();", outside=".func f() { call.uni f, (); ret; }")


def test_scopes():
    """An inner block's registers are its own."""
    assert run("mov.u32 %r1, %r0; { .reg .b32 %r<9>; .reg .b32 x; mov.u32 %r1, 99; mov.u32 x, %r1; } { .reg .b32 x; mov.u32 x, 1; add.u32 %r1, %r1, x; }").tolist() == list(range(1, 33))


def test_entries():
    """Parameters lie as C would place them; bounds and names are the text's."""
    module = Module(HEAD + """.visible .entry first(.param .align 8 .b8 s[20], .param .u32 n, .param .f64 x) .maxntid 64, 2, 1 .minnctapersm 2 { .reg .b32 %r<7>; .shared .align 16 .b8 a[20]; .shared .b64 b;
mov.u32 %r1, a; mov.u32 %r2, b; ret; }
.entry second() { ret; }""")
    first = module.entries["first"]
    assert [(p.name, p.size, p.align, p.offset) for p in first.params] == [("s", 20, 8, 0), ("n", 4, 4, 20), ("x", 8, 8, 24)] and first.param_bytes == 32
    assert (first.max_threads, first.shared, first.registers) == (128, 32, {"%r<": "b32"}) and module.entries["second"].shared == 0
    assert (module.version, module.target, list(module.entries)) == ("8.0", "sm_90", ["first", "second"])


def test_special_registers():
    text = entry("mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z; mov.u32 %r3, %ntid.y; mad.lo.u32 %r4, %r2, %r3, %r1; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r4, %r3, %t;"
                 "mov.u32 %r5, %ctaid.y; mov.u32 %r6, %nctaid.x; mad.lo.u32 %r7, %r5, %r6, %c; mad.lo.u32 %r8, %r7, 24, %r4; mul.wide.u32 %d1, %r8, 4; add.u64 %d1, %a1, %d1; st.global.u32 [%d1], %r8;")
    _, y = launch(text, [np.zeros(1, np.uint32), np.zeros(24 * 6, np.uint32)], grid=(3, 2), block=(4, 3, 2))
    assert y.tolist() == list(range(144))


def test_what_is_not_there():
    with pytest.raises(NotImplementedError, match=r"line 11.*wgmma"): run("wgmma.fence.sync.aligned;")
    with pytest.raises(NotImplementedError, match="mbarrier"): run("mbarrier.init.shared.b64 [%r0], 1;")
    with pytest.raises(SyntaxFault): Module(HEAD + ".visible .entry k() { ret;")
    with pytest.raises(ValueError, match="threads"): run("mov.u32 %r1, 0;", block=1056)
    with pytest.raises(ValueError, match="parameters"): Module(entry("")).entries["k"].program().run(params=b"")


@pytest.mark.slow
@pytest.mark.skipif(ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
def test_ptxas_takes_what_was_run(tmp_path, request):
    """After the tests above: their texts are PTX, not only what this reader takes for it."""
    if whole_file(request): return
    assert len(LAUNCHED) > 50, "run the whole file"
    wrong = ("bar.sync 0, 20", "wgmma", "mbarrier", "call.uni f, ()")                # tests of refusals
    refused = {text: said for text in LAUNCHED if not any(w in text for w in wrong) and (said := assemble(text, "sm_90", tmp_path))}
    assert not refused, "\n".join(f"{said}\n{text}" for text, said in list(refused.items())[:12])
