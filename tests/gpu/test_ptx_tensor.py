"""Matrix instructions alone: fragments as PTX's documentation lays them out, products against NumPy, 8 × 8 matrices in and out of shared memory."""
import numpy as np
import pytest

from forno.gpu.ptx import Fault

from .ptx_tools import HEAD, from_bf16, launch, to_bf16

SHAPES = [("m16n8k16", "f32.f16.f16.f32"), ("m16n8k8", "f32.f16.f16.f32"), ("m16n8k16", "f16.f16.f16.f16"), ("m16n8k8", "f16.f16.f16.f16"), ("m16n8k16", "f32.bf16.bf16.f32"),
          ("m16n8k8", "f32.bf16.bf16.f32"), ("m16n8k8", "f32.tf32.tf32.f32"), ("m16n8k4", "f32.tf32.tf32.f32"), ("m16n8k32", "s32.s8.s8.s32"), ("m16n8k16", "s32.u8.s8.s32"),
          ("m16n8k32", "s32.u8.u8.s32")]
EACH = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4}          # elements per register


def elements(register: np.ndarray, kind: str) -> np.ndarray:
    """The numbers in registers, lowest first."""
    raw = np.ascontiguousarray(register, np.uint32)
    if kind == "tf32": return (raw & 0xFFFFE000).view(np.float32).astype(np.float64)[..., None]
    if kind in ("s8", "u8"): return raw.view(np.int8 if kind == "s8" else np.uint8).reshape(*raw.shape, 4).astype(np.float64)
    half = raw.view(np.uint16).reshape(*raw.shape, 2)
    return (half.view(np.float16) if kind == "f16" else from_bf16(half)).astype(np.float64)


def operand(registers: np.ndarray, kind: str, which: str) -> np.ndarray:
    """(lanes, registers) as the matrix A (16, k) or B (k, 8)."""
    each, lanes = EACH[kind], np.arange(32)
    group, place = lanes // 4, lanes % 4
    count = registers.shape[1]
    k = 4 * each * count // (2 if which == "A" else 1)
    out = np.zeros((16, k) if which == "A" else (k, 8))
    values = elements(registers, kind)                               # (lanes, registers, each)
    for r in range(count):
        block, row = (r // 2, r % 2) if which == "A" else (r, 0)
        for j in range(each):
            column = place * each + 4 * each * block + j
            if which == "A": out[group + 8 * row, column] = values[:, r, j]
            else: out[column, group] = values[:, r, j]
    return out


def drawn(rng, kind: str, count: int) -> np.ndarray:
    numbers = rng.standard_normal((32, count, 2)).astype(np.float32)
    if kind == "tf32": return numbers[..., 0].view(np.uint32)
    if kind in ("s8", "u8"): return rng.integers(0, 1 << 32, (32, count), dtype=np.uint32)
    half = numbers.astype(np.float16).view(np.uint16) if kind == "f16" else to_bf16(numbers)
    return np.ascontiguousarray(half).view(np.uint32)[..., 0]


def kernel(op: str, na: int, nb: int, nc: int) -> str:
    """Each lane loads its registers, one after the other, multiplies, and stores the result's."""
    names = [[f"%{m}{i}" for i in range(n)] for m, n in (("a", na), ("b", nb), ("c", nc), ("d", nc))]
    body, at = [], 0
    for group in names[:3]:
        for n in group:
            body.append(f"ld.global.b32 {n}, [%in+{4 * at}];")
            at += 1
    listed = ["{" + ", ".join(g) + "}" for g in names]
    body.append(f"{op} {listed[3]}, {listed[0]}, {listed[1]}, {listed[2]};")
    body += [f"st.global.b32 [%out+{4 * i}], {n};" for i, n in enumerate(names[3])]
    return HEAD + f""".visible .entry k(.param .u64 x, .param .u64 y) {{
.reg .b32 %a<4>, %b<2>, %c<4>, %d<4>, %t; .reg .b64 %in, %out, %at; ld.param.u64 %in, [x]; ld.param.u64 %out, [y]; mov.u32 %t, %tid.x;
mul.wide.u32 %at, %t, {4 * at}; add.u64 %in, %in, %at; mul.wide.u32 %at, %t, {4 * nc}; add.u64 %out, %out, %at;
""" + "\n".join(body) + "\nret;\n}\n"


@pytest.mark.parametrize(("shape", "kinds"), SHAPES)
def test_products(shape, kinds):
    result, a_kind, b_kind, _ = kinds.split(".")
    k, rng = int(shape[6:]), np.random.default_rng(0)
    nb = k // (4 * EACH[a_kind])
    na, nc = 2 * nb, 2 if result == "f16" else 4
    a, b = drawn(rng, a_kind, na), drawn(rng, b_kind, nb)
    c = drawn(rng, "f16", nc) if result == "f16" else rng.integers(-1000, 1000, (32, nc)).astype(np.int32).view(np.uint32) if result == "s32" else drawn(rng, "tf32", nc)
    _, d = launch(kernel(f"mma.sync.aligned.{shape}.row.col.{kinds}", na, nb, nc), [np.concatenate([a, b, c], 1), np.zeros((32, nc), np.uint32)])
    want = operand(a, a_kind, "A") @ operand(b, b_kind, "B")
    lanes = np.arange(32)
    for q in range(4):
        exact = want[lanes // 4 + 8 * (q // 2), lanes % 4 * 2 + q % 2]
        if result == "s32": assert np.array_equal(d.view(np.int32)[:, q], (exact + c.view(np.int32)[:, q]).astype(np.int64).astype(np.int32))
        elif result == "f32": np.testing.assert_allclose(d.view(np.float32)[:, q], exact + c.view(np.float32)[:, q], rtol=1e-6, atol=1e-6)
        else:
            got, start = (m.view(np.float16).reshape(32, 4)[:, q] for m in (d, c))
            np.testing.assert_allclose(got, exact + start, rtol=1e-3, atol=1e-3)


def test_saturated_products():
    a, b = np.full((32, 4), 0x7F7F7F7F, np.uint32), np.full((32, 2), 0x7F7F7F7F, np.uint32)
    c = np.full((32, 4), 0x7FFFFFF0, np.uint32)
    for suffix, want in ((".satfinite", 0x7FFFFFFF), ("", (0x7FFFFFF0 + 127 * 127 * 32) & 0xFFFFFFFF)):
        _, d = launch(kernel(f"mma.sync.aligned.m16n8k32.row.col{suffix}.s32.s8.s8.s32", 4, 2, 4), [np.concatenate([a, b, c], 1), np.zeros((32, 4), np.uint32)])
        assert set(d.ravel().tolist()) == {want}


def moved(count: int, load_flip: str, store_flip: str, skew: int = 0) -> str:
    """Rows into shared memory, from there as matrices into registers, as matrices back to another place, and out."""
    registers = "{" + ", ".join(f"%r{i}" for i in range(count)) + "}"
    return HEAD + f""".shared .align 16 .b8 s[1024];
.visible .entry k(.param .u64 x, .param .u64 y) {{
.reg .b32 %r<8>, %v<4>, %t, %p; .reg .b64 %in, %out, %at; ld.param.u64 %in, [x]; ld.param.u64 %out, [y]; mov.u32 %t, %tid.x; mul.wide.u32 %at, %t, 16;
add.u64 %in, %in, %at; add.u64 %out, %out, %at; cvt.u32.u64 %p, %at; mov.u32 %t, s; add.u32 %p, %p, %t;
ld.global.v4.b32 {{%v0, %v1, %v2, %v3}}, [%in]; st.shared.v4.b32 [%p], {{%v0, %v1, %v2, %v3}};
bar.warp.sync -1;
ldmatrix.sync.aligned.m8n8.x{count}{load_flip}.shared.b16 {registers}, [%p+{skew}];
stmatrix.sync.aligned.m8n8.x{count}{store_flip}.shared.b16 [%p+512], {registers};
bar.warp.sync -1;
ld.shared.v4.b32 {{%v0, %v1, %v2, %v3}}, [%p+512]; st.global.v4.b32 [%out], {{%v0, %v1, %v2, %v3}};
ret;
}}"""


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("load_flip", "store_flip"), [("", ""), (".trans", ""), ("", ".trans"), (".trans", ".trans")])
def test_matrices(count, load_flip, store_flip):
    x = np.arange(256, dtype=np.uint16).reshape(32, 8)
    _, y = launch(moved(count, load_flip, store_flip), [x, np.zeros_like(x)], uninitialized=False)
    for m in range(count):
        matrix = x[8 * m:8 * m + 8]
        assert np.array_equal(y[8 * m:8 * m + 8], matrix if load_flip == store_flip else matrix.T)
    with pytest.raises(Fault, match="aligned to 16"): launch(moved(count, load_flip, store_flip, 8), [x, np.zeros_like(x)], uninitialized=False)
