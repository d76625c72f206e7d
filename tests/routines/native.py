"""Calls one routine row's kernel with hand-made contexts on copies of torch tensors."""
import ctypes
import math
import struct
import threading

import torch

from forno.core import dtype as dt
from forno.core.graph import Value
from forno.kernel import routines
from tests.kernel.harness import cuts

DTYPES = {getattr(torch, t.name): t for t in dt.ALL}
TORCH = {t: k for k, t in DTYPES.items()}


class OutOfRange(Exception): pass


def value(t: torch.Tensor) -> Value: return Value(None, (), None, DTYPES[t.dtype], tuple(t.shape))


def call(launch, pointers, threads: int):
    """The kernel on so many Python threads, which meet at its barriers."""
    record, meet = (ctypes.c_int64 * 4)(), threading.Barrier(threads)
    vals = struct.pack(f"<{len(pointers)}q", *pointers)
    words = struct.pack(f"<{len(pointers) + len(launch.words)}q", *range(len(pointers)), *launch.words)
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)(launch.program.address)
    barrier = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda ctx: meet.wait(60) and None)

    def thread(tid):
        scratch = ctypes.create_string_buffer(launch.scratch + 64)
        at = -(-ctypes.addressof(scratch) // 64) * 64
        ctx = (ctypes.c_int64 * 10)(tid, threads, at, 0, ctypes.cast(barrier, ctypes.c_void_p).value, ctypes.addressof(record), 17, *cuts(threads)[tid:tid + 2], 0)
        f(ctypes.addressof(ctx), vals, words)
    others = [threading.Thread(target=thread, args=(tid,)) for tid in range(1, threads)]
    for other in others: other.start()
    thread(0)
    for other in others: other.join()
    if record[0]: raise OutOfRange(*record[1:])


def run(row, attr, *tensors, threads=1) -> torch.Tensor:
    """Shape rule, plan, kernel; every operand in memory of its own, with guard bytes around the result."""
    ins = [t.contiguous().clone() for t in tensors]
    values = [value(t) for t in ins]
    dtype, shape = row.infer(attr, *values)
    result = Value(row, tuple(values), attr, dtype, tuple(shape))
    native = row.plan(attr, result, *values)
    n, guard = math.prod(shape), 64 // dtype.size
    memory = torch.zeros(n + 2 * guard, dtype=TORCH[dtype])
    memory.view(torch.uint8)[:] = 0xA5 if dtype is not dt.bool else 1
    before = memory.view(torch.uint8).clone()
    out = memory[guard:guard + n]
    pointers = [t.data_ptr() for t in ins]
    if native.operands[0].mode == "rw":
        out.copy_(ins[0].reshape(-1))
        pointers[0] = out.data_ptr()
        assert len(native.operands) == len(ins)
    else:
        pointers.append(out.data_ptr())
        assert len(native.operands) == len(ins) + 1 and native.operands[-1].mode == "w"
    call(routines.build(native), pointers, threads)
    after, edge = memory.view(torch.uint8), guard * dtype.size
    assert torch.equal(after[:edge], before[:edge]) and torch.equal(after[-edge:], before[-edge:]), "wrote outside its result"
    for i, (a, b) in enumerate(zip(ins, tensors)): assert same(a, b), f"changed operand {i}"
    return out.clone().reshape(shape)


def same(a, b, rtol=0.0, atol=0.0) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape: return False
    if rtol or atol: return torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    if a.dtype.is_complex: return same(torch.view_as_real(a), torch.view_as_real(b))
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def sample(shape, dtype, lo=-5, hi=6) -> torch.Tensor:
    """Small whole numbers, which every dtype holds and adds exactly."""
    if dtype.is_complex: return torch.complex(torch.randint(lo, hi, shape).double(), torch.randint(lo, hi, shape).double()).to(dtype)
    if dtype is torch.bool: return torch.randint(0, 2, shape).bool()
    return torch.randint(0 if not dtype.is_signed else lo, hi, shape).to(dtype)
