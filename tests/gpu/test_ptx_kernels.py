"""Kernels as LLVM makes them from small IR texts, run from their PTX and compared with NumPy; bugs planted in their text are found."""
import numpy as np
import pytest

from forno.gpu.ptx import Fault

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
