"""What this machine can do at most: float32 FLOP/s of multiply-adds in registers, and bytes per second by footprint.

    python bench/peaks.py [--threads 1 2]          prints {"flops": …, "bytes": {footprint: …}} for each number of threads

Both are loops in LLVM IR written here, not forno's kernels: the limit must not depend on what is measured against it. FLOP/s is one loop of independent
multiply-adds on vectors, each of which counts as two. Bytes per second is the better of a loop that reads and one that copies (bytes read plus bytes
written), because a program that mostly reads weights may go faster than a copy. It depends on where the bytes lie, so it is measured per footprint, from the
caches to memory; a workload is compared with the bandwidth at its own footprint. Every number is the best of many short runs.
"""
from __future__ import annotations

import argparse
import ctypes
import json
import threading
import time

import llvmlite.binding as llvm

CHAINS, LANES = 24, 16                         # accumulators that fill the latency of two units, with registers left on AVX-512; of 16 floats, which LLVM splits
FOOTPRINTS = tuple(1 << k for k in range(18, 29, 2))     # 256 KiB … 256 MiB: from a core's L2 to memory
UNROLL = 8


def fma_loop() -> str:
    """void fma(i64 n, float* out): n times CHAINS multiply-adds of LANES lanes."""
    v = f"<{LANES} x float>"
    phis = "\n".join(f"  %a{k} = phi {v} [ zeroinitializer, %entry ], [ %b{k}, %loop ]" for k in range(CHAINS))
    steps = "\n".join(f"  %b{k} = call {v} @llvm.fma.v{LANES}f32({v} %a{k}, {v} %m, {v} %c)" for k in range(CHAINS))
    sums = "\n".join(f"  %s{k + 1} = fadd {v} %s{k}, %b{k}" for k in range(CHAINS))
    return f"""
declare {v} @llvm.fma.v{LANES}f32({v}, {v}, {v})
define void @fma(i64 %n, ptr %out) {{
entry:
  %m = load {v}, ptr %out, align 64
  %far = getelementptr {v}, ptr %out, i64 1
  %c = load {v}, ptr %far, align 64
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
{phis}
{steps}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %n
  br i1 %more, label %loop, label %done
done:
  %s0 = fadd {v} zeroinitializer, zeroinitializer
{sums}
  store {v} %s{CHAINS}, ptr %out, align 64
  ret void
}}
"""


def memory_loop(name: str) -> str:
    """void read / copy(i64 n, ptr from, ptr to): n × UNROLL vectors, `to` written or a sum kept."""
    v, copies = f"<{LANES} x float>", name == "copy"
    body = []
    for k in range(UNROLL):
        body += [f"  %k{k} = add i64 %at, {k}", f"  %p{k} = getelementptr {v}, ptr %from, i64 %k{k}", f"  %x{k} = load {v}, ptr %p{k}, align 64"]
        if copies: body += [f"  %q{k} = getelementptr {v}, ptr %to, i64 %k{k}", f"  store {v} %x{k}, ptr %q{k}, align 64"]
        else: body += [f"  %t{k} = fadd {v} %s{k}, %x{k}"]
    sums = "" if copies else "\n".join(f"  %s{k} = phi {v} [ zeroinitializer, %entry ], [ %t{k}, %loop ]" for k in range(UNROLL))
    kept = "" if copies else "\n".join([f"  store {v} %t{k}, ptr %to, align 64" for k in range(UNROLL)])
    if not copies:                             # each sum must be used, or its loads would be dropped
        adds = [f"  %u{k + 1} = fadd {v} %{'u' if k else 't'}{k if k else 0}, %t{k + 1}" for k in range(UNROLL - 1)]
        kept = "\n".join([*adds, f"  store {v} %u{UNROLL - 1}, ptr %to, align 64"])
    return f"""
define void @{name}(i64 %n, ptr %from, ptr noalias %to) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
{sums}
  %at = mul i64 %i, {UNROLL}
{chr(10).join(body)}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %n
  br i1 %more, label %loop, label %done
done:
{kept}
  ret void
}}
"""


class Loops:
    """The loops as machine code; ctypes calls let go of the GIL, so Python threads run them side by side."""

    def __init__(self):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2)
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(fma_loop() + memory_loop("read") + memory_loop("copy")), machine)
        self.engine.finalize_object()
        self.fma = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(self.engine.get_function_address("fma"))
        self.read, self.copy = (ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(self.engine.get_function_address(n)) for n in ("read", "copy"))


def block(nbytes: int):
    """(owner, address): written once, so that the pages are there; aligned to 4 KiB."""
    owner = ctypes.create_string_buffer(nbytes + 4096)
    ctypes.memset(owner, 0, nbytes + 4096)
    return owner, (ctypes.addressof(owner) + 4095) & ~4095


def fastest(work, threads: int, seconds: float) -> float:
    """Least seconds of work(k) done by k = 0 … threads - 1 at the same time."""
    found: list[float] = []
    gate = threading.Barrier(threads)

    def member(k):
        until = time.perf_counter() + seconds
        while True:
            gate.wait()
            start = time.perf_counter()
            work(k)
            gate.wait()
            if k == 0:
                found.append(time.perf_counter() - start)
                ended[0] = time.perf_counter() > until and len(found) >= 3
            gate.wait()
            if ended[0]: return
    ended = [False]
    team = [threading.Thread(target=member, args=(k,)) for k in range(1, threads)]
    for t in team: t.start()
    member(0)
    for t in team: t.join()
    return min(found)


def peaks(threads: int) -> dict:
    loops, steps = Loops(), 1 << 18
    scratch = [block(4096) for _ in range(threads)]
    flops = 2 * CHAINS * LANES * steps * threads / fastest(lambda k: loops.fma(steps, scratch[k][1]), threads, 0.3)
    bandwidth = {}
    for footprint in FOOTPRINTS:
        share = footprint // threads           # bytes that one thread reads, or half reads and half writes
        areas = [block(share) for _ in range(threads)]
        again = max(1, (1 << 24) // footprint)  # small ones several times, so that starting threads costs nothing

        def read(k, areas=areas, n=share // (64 * UNROLL), again=again):
            for _ in range(again): loops.read(n, areas[k][1], scratch[k][1])

        def copy(k, areas=areas, n=share // (128 * UNROLL), half=share // 2, again=again):
            for _ in range(again): loops.copy(n, areas[k][1], areas[k][1] + half)
        bandwidth[footprint] = footprint * again / min(fastest(read, threads, 0.15), fastest(copy, threads, 0.15))
    return {"threads": threads, "flops": flops, "bytes": bandwidth}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    for count in parser.parse_args().threads: print(json.dumps(peaks(count)))
