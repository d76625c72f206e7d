"""Kernels as LLVM makes them from small IR texts, run from their PTX and compared with NumPy; bugs planted in their text are found."""
import numpy as np
import pytest

from forno.gpu.ptx import Fault

from . import ptx_kernels as kernels
from . import ptx_tools as tools
from .ptx_tools import emitted, from_bf16, launch, to_bf16

SREG = "\n".join(f"declare i32 @llvm.nvvm.read.ptx.sreg.{n}.{a}()" for n in ("tid", "ctaid", "ntid", "nctaid") for a in "xyz")


def elementwise(kind="float", width=4, body="fadd", cpu="sm_80") -> str:
    """y[i] = a[i] op b[i] in vectors, i below n."""
    v = f"<{width} x {kind}>" if width > 1 else kind
    size = {"float": 4, "double": 8, "half": 2, "bfloat": 2, "i32": 4, "i8": 1}[kind] * width
    return f"""{SREG}
define ptx_kernel void @k(ptr addrspace(1) noalias readonly align 16 %a, ptr addrspace(1) noalias readonly align 16 %b, ptr addrspace(1) noalias align 16 %y, i64 %n) {{
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %c = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %d = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %m = mul i32 %c, %d
  %i32 = add i32 %m, %t
  %i = zext i32 %i32 to i64
  %in = icmp ult i64 %i, %n
  br i1 %in, label %go, label %out
go:
  %pa = getelementptr {v}, ptr addrspace(1) %a, i64 %i
  %pb = getelementptr {v}, ptr addrspace(1) %b, i64 %i
  %py = getelementptr {v}, ptr addrspace(1) %y, i64 %i
  %x = load {v}, ptr addrspace(1) %pa, align {size}
  %z = load {v}, ptr addrspace(1) %pb, align {size}
  %r = {body} {v} %x, %z
  store {v} %r, ptr addrspace(1) %py, align {size}
  br label %out
out:
  ret void
}}"""


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(("kind", "dtype"), [("float", np.float32), ("double", np.float64), ("half", np.float16), ("i32", np.int32), ("i8", np.int8)])
def test_elementwise(kind, dtype, width):
    if kind == "double" and width == 4: width = 2                    # 32-byte vectors are another architecture's
    rng = np.random.default_rng(0)
    n = 100
    a, b = ((rng.standard_normal(n * width) * 20).astype(dtype) for _ in range(2))
    text = emitted(elementwise(kind, width, "mul" if kind[0] == "i" else "fmul"))
    _, _, y = launch(text, [a, b, np.zeros_like(a)], n, grid=4, block=32)
    with np.errstate(over="ignore"): assert np.array_equal(y, a * b)


def test_elementwise_bf16():
    rng = np.random.default_rng(0)
    a, b = (to_bf16(rng.standard_normal(400)) for _ in range(2))
    _, _, y = launch(emitted(elementwise("bfloat", 4, "fadd")), [a, b, np.zeros_like(a)], 100, grid=4, block=32)
    assert np.array_equal(y, to_bf16(from_bf16(a) + from_bf16(b)))


def test_planted_bound():
    """One element too many is a fault: of thread, line and distance."""
    text = emitted(elementwise()).replace("setp.le.u64", "setp.lt.u64")
    a = np.zeros(400, np.float32)
    launch(text, [a, a, a], 99, grid=4, block=32)
    with pytest.raises(Fault, match="0 bytes past its end") as fault: launch(text, [a, a, a], 100, grid=4, block=32)
    assert fault.value.kind == "out of bounds" and fault.value.block == (3, 0, 0) and fault.value.thread == (4, 0, 0) and "ld.global" in fault.value.text


# ---------------------------------------------------------------- reductions, transposition, histogram
SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("columns", "threads"), [(256, 64), (1024, 256), (96, 32)])
def test_softmax(columns, threads, seed):
    x = np.random.default_rng(seed).standard_normal((3, columns)).astype(np.float32) * 3
    _, y = launch(emitted(kernels.softmax(columns, threads)), [x, np.zeros_like(x)], grid=3, block=threads, seed=seed)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (45, 70), (1, 100)])
def test_transpose(rows, columns, seed):
    x = np.random.default_rng(seed).integers(0, 1 << 16, (rows, columns)).astype(np.uint16)
    _, y = launch(emitted(kernels.transpose()), [x, np.zeros((columns, rows), np.uint16)], rows, columns, grid=(-(-columns // 32), -(-rows // 32)), block=256, seed=seed)
    assert np.array_equal(y, x.T)


@pytest.mark.parametrize("seed", SEEDS)
def test_histogram(seed):
    x = np.random.default_rng(seed).integers(0, 64, 1000).astype(np.uint8)
    _, y = launch(emitted(kernels.histogram()), [x, np.zeros(64, np.int32)], len(x), grid=3, block=128, seed=seed)
    assert np.array_equal(y, np.bincount(x, minlength=64))


# ---------------------------------------------------------------- tensor cores
def matrices(form, M, N, K, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((M, K)).astype(np.float32), rng.standard_normal((N, K)).astype(np.float32)
    if form == "bf16": return to_bf16(a), to_bf16(b), from_bf16(to_bf16(a)) @ from_bf16(to_bf16(b)).T
    if form == "f16": return a.astype(np.float16), b.astype(np.float16), a.astype(np.float16).astype(np.float32) @ b.astype(np.float16).astype(np.float32).T
    cut = lambda x: (x.view(np.uint32) & 0xFFFFE000).view(np.float32)
    return a, b, cut(a) @ cut(b).T


def multiplied(text, form, M, N, K, seed=0, **more):
    a, b, want = matrices(form, M, N, K)
    got = launch(text, [a, b, np.zeros((M, N), np.float32)], M, N, K, grid=(-(-N // 32), -(-M // 32)), block=64, seed=seed, **more)[2]
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("M", "N", "K"), [(32, 32, 32), (64, 32, 96), (40, 50, 72), (5, 3, 8)])
@pytest.mark.parametrize("form", ["bf16", "f16", "tf32"])
def test_product(form, M, N, K, exact):
    assert multiplied(emitted(kernels.product(form)), form, M, N, K, exact=exact) < 1e-5


# ---------------------------------------------------------------- planted bugs
def without(text: str, what: str, which: int = 0) -> str:
    """The text without one occurrence of an instruction."""
    lines = text.split("\n")
    found = [i for i, line in enumerate(lines) if what in line]
    assert len(found) > which, what
    return "\n".join(line for i, line in enumerate(lines) if i != found[which])


def exchanged(text: str, old: str, new: str) -> str:
    assert old in text, (old, text)
    return text.replace(old, new, 1)


def caught(attempt) -> bool:
    """By a fault, or by wrong numbers, with every seed."""
    def one(seed):
        try: return not attempt(seed)
        except Fault: return True
    return all(one(seed) for seed in SEEDS)


def softmax_right(text):
    def attempt(seed):
        x = np.random.default_rng(seed).standard_normal((2, 256)).astype(np.float32) * 3
        y = launch(text, [x, np.zeros_like(x)], grid=2, block=64, seed=seed)[1]
        e = np.exp(x - x.max(1, keepdims=True))
        return np.allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)
    return attempt


SOFTMAX_BUGS = {
    "first barrier": lambda t: without(t, "bar.sync", 0), "second barrier": lambda t: without(t, "bar.sync", 1), "a shuffle's distance": lambda t: t.replace(", 8, 31, -1", ", 4, 31, -1"),
    "a shuffle's mask": lambda t: exchanged(t, ", 16, 31, -1", ", 16, 31, 65535"), "the writing lane": lambda t: exchanged(t, "setp.ne.b32", "setp.eq.b32"),
    "an offset": lambda t: exchanged(t, "+256]", "+252]"), "a dropped store": lambda t: without(t, "st.shared", 0), "another row": lambda t: exchanged(t, "shl.b32", "shr.u32"),
}


@pytest.mark.parametrize("bug", SOFTMAX_BUGS)
def test_planted_in_softmax(bug):
    text = emitted(kernels.softmax(256, 64))
    assert not caught(softmax_right(text)), "without the bug it is right"
    assert caught(softmax_right(SOFTMAX_BUGS[bug](text)))


def product_right(text): return lambda seed: multiplied(text, "bf16", 40, 50, 168, seed) < 1e-5


PRODUCT_BUGS = {
    "first barrier": lambda t: without(t, "bar.sync", 0), "last barrier": lambda t: without(t, "bar.sync", -1 % t.count("bar.sync")), "no wait": lambda t: without(t, "cp.async.wait_group"),
    "waits for too little": lambda t: exchanged(t, "cp.async.wait_group \t1", "cp.async.wait_group \t2"), "one group": lambda t: without(t, "cp.async.commit_group", 0),
    "a copy too few": lambda t: without(t, "cp.async.cg", 1), "a copy's place": lambda t: exchanged(t, "+2048]", "+2032]"),
    "stages not swapped": lambda t: exchanged(t, "xor.b32", "or.b32"), "fragments swapped": lambda t: exchanged(t, "ldmatrix.sync.aligned.m8n8.x4", "ldmatrix.sync.aligned.m8n8.x4.trans"),
    "a bound": lambda t: t.replace("setp.ge.u32", "setp.gt.u32"),
}


@pytest.mark.parametrize("bug", PRODUCT_BUGS)
def test_planted_in_product(bug):
    text = emitted(kernels.product("bf16"))
    assert not caught(product_right(text)), "without the bug it is right"
    assert caught(product_right(PRODUCT_BUGS[bug](text)))


TRANSPOSE_BUGS = {"barrier": lambda t: without(t, "bar.sync"), "tile row": lambda t: exchanged(t, ", 33, %r1;", ", 32, %r1;")}


@pytest.mark.parametrize("bug", TRANSPOSE_BUGS)
def test_planted_in_transpose(bug):
    text = emitted(kernels.transpose())
    def right(text):
        def attempt(seed):
            x = np.arange(45 * 70).reshape(45, 70).astype(np.uint16)
            return np.array_equal(launch(text, [x, np.zeros((70, 45), np.uint16)], 45, 70, grid=(3, 2), block=256, seed=seed)[1], x.T)
        return attempt
    assert not caught(right(text))
    assert caught(right(TRANSPOSE_BUGS[bug](text)))


HISTOGRAM_BUGS = {"first barrier": lambda t: without(t, "bar.sync", 0), "second barrier": lambda t: without(t, "bar.sync", 1), "no clearing": lambda t: without(t, "st.shared")}


@pytest.mark.parametrize("bug", HISTOGRAM_BUGS)
def test_planted_in_histogram(bug):
    text = emitted(kernels.histogram())
    def right(text):
        def attempt(seed):
            x = np.random.default_rng(seed).integers(0, 64, 1000).astype(np.uint8)
            return np.array_equal(launch(text, [x, np.zeros(64, np.int32)], len(x), grid=3, block=128, seed=seed)[1], np.bincount(x, minlength=64))
        return attempt
    assert not caught(right(text))
    assert caught(right(HISTOGRAM_BUGS[bug](text)))


# ---------------------------------------------------------------- the silicon's assembler
ALL = {"elementwise": elementwise(), "softmax": kernels.softmax(256, 64), "transpose": kernels.transpose(), "histogram": kernels.histogram(), **{f"product {f}": kernels.product(f) for f in kernels.FORMS}}


@pytest.mark.skipif(tools.ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
@pytest.mark.parametrize("name", ALL)
def test_ptxas(name, tmp_path):
    generic = not name.startswith("product")
    text = emitted(ALL[name], "sm_75" if generic else "sm_80")
    for arch in ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")[0 if generic else 1:]: assert tools.assemble(text, arch, tmp_path) == "", arch
