"""Small kernels as LLVM IR, for the PTX tests: reductions, softmax, transposition, histogram, and a pipelined matrix product on tensor cores."""
from __future__ import annotations


class IR:
    """Lines of one kernel; values get names, intrinsics their declarations."""

    def __init__(self, params: str, outside: str = "", threads: int = 0):
        self.params, self.outside, self.threads, self.lines, self.declared, self.count = params, outside, threads, ["entry:"], set(), 0

    def op(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def do(self, text: str): self.lines.append("  " + text)

    def label(self, name: str): self.lines.append(f"{name}:")

    def call(self, result: str, name: str, *args: str):
        kinds = ", ".join("i32 immarg" if a.startswith("imm ") else a.rsplit(" ", 1)[0] for a in args)
        self.declared.add(f"declare {result} @llvm.{name}({kinds})")
        text = f"call {result} @llvm.{name}({', '.join(a.replace('imm ', 'i32 ') for a in args)})"
        return self.do(text) if result == "void" else self.op(text)

    def special(self, name: str) -> str: return self.call("i32", f"nvvm.read.ptx.sreg.{name}")

    def binary(self, op: str, a, b, kind: str = "i32") -> str: return self.op(f"{op} {kind} {a}, {b}")

    def element(self, kind: str, base: str, index, space: int, wide: str = "i32") -> str:
        return self.op(f"getelementptr {kind}, ptr addrspace({space}) {base}, {wide} {index}")

    def barrier(self): self.call("void", "nvvm.barrier.cta.sync.aligned.all", "i32 0")

    def text(self) -> str:
        attributes = f' "nvvm.maxntid"="{self.threads}"' if self.threads else ""
        return "\n".join([self.outside, *sorted(self.declared), f"define ptx_kernel void @k({self.params}){attributes} {{", *self.lines, "  ret void", "}"])


G = "ptr addrspace(1)"


def block_reduce(ir: IR, value: str, thread: str, warps: int, combine, slot: str) -> str:
    """Shuffles within warps, then through shared memory; every thread gets the result."""
    def shuffle(x, d): return ir.call("float", "nvvm.shfl.sync.bfly.f32", "i32 -1", f"float {x}", f"i32 {d}", "i32 31")
    for d in (16, 8, 4, 2, 1): value = combine(value, shuffle(value, d))
    lane, warp = ir.binary("and", thread, 31), ir.binary("lshr", thread, 5)
    first = ir.op(f"icmp eq i32 {lane}, 0")
    n = ir.count
    ir.do(f"br i1 {first}, label %write{n}, label %wrote{n}")
    ir.label(f"write{n}")
    ir.do(f"store float {value}, ptr addrspace(3) {ir.element('float', slot, warp, 3)}")
    ir.do(f"br label %wrote{n}")
    ir.label(f"wrote{n}")
    ir.barrier()
    value = ir.op(f"load float, ptr addrspace(3) {ir.element('float', slot, ir.binary('and', lane, warps - 1), 3)}")
    d = warps // 2
    while d:
        value = combine(value, shuffle(value, d))
        d //= 2
    return value


def softmax(columns: int, threads: int) -> str:
    """y = softmax of each row of x, one row per block, in float32."""
    warps = threads // 32
    ir = IR(f"{G} noalias readonly align 16 %x, {G} noalias align 16 %y", "".join(f"@s{i} = internal addrspace(3) global [{warps} x float] undef, align 4\n" for i in range(2)), threads)
    t, row = ir.special("tid.x"), ir.special("ctaid.x")
    base = ir.binary("mul", row, columns)
    places = [ir.binary("add", base, ir.binary("add", t, i * threads)) for i in range(columns // threads)]
    values = [ir.op(f"load float, {G} {ir.element('float', '%x', p, 1)}") for p in places]
    biggest = lambda a, b: ir.call("float", "maxnum.f32", f"float {a}", f"float {b}")
    add = lambda a, b: ir.binary("fadd", a, b, "float")
    top = values[0]
    for v in values[1:]: top = biggest(top, v)
    top = block_reduce(ir, top, t, warps, biggest, "@s0")
    powers = [ir.call("float", "nvvm.ex2.approx.f", f"float {ir.binary('fmul', ir.binary('fsub', v, top, 'float'), '0x3FF7154760000000', 'float')}") for v in values]
    total = powers[0]
    for v in powers[1:]: total = add(total, v)
    total = block_reduce(ir, total, t, warps, add, "@s1")
    for p, v in zip(places, powers): ir.do(f"store float {ir.binary('fdiv', v, total, 'float')}, {G} {ir.element('float', '%y', p, 1)}")
    return ir.text()


def transpose() -> str:
    """y (columns, rows) = x (rows, columns).T by tiles of 32 × 32 through shared memory, 8 rows of threads."""
    ir = IR(f"{G} noalias readonly %x, {G} noalias %y, i64 %rows, i64 %columns", "@tile = internal addrspace(3) global [1056 x i16] undef, align 4\n", 256)
    t = ir.special("tid.x")
    tx, ty = ir.binary("and", t, 31), ir.binary("lshr", t, 5)
    rows, columns = ir.op("trunc i64 %rows to i32"), ir.op("trunc i64 %columns to i32")
    x0, y0 = (ir.binary("shl", ir.special(f"ctaid.{a}"), 5) for a in "xy")
    def guarded(i, row, column, limit_row, limit_column, name, body):
        ok = ir.op(f"icmp ult i32 {row}, {limit_row}")
        both = ir.op(f"and i1 {ok}, {ir.op(f'icmp ult i32 {column}, {limit_column}')}")
        ir.do(f"br i1 {both}, label %{name}{i}, label %{name}d{i}")
        ir.label(f"{name}{i}")
        body()
        ir.do(f"br label %{name}d{i}")
        ir.label(f"{name}d{i}")
    for i in range(4):
        r = ir.binary("add", ty, 8 * i)
        row, column = ir.binary("add", y0, r), ir.binary("add", x0, tx)
        def into(r=r, row=row, column=column):
            v = ir.op(f"load i16, {G} {ir.element('i16', '%x', ir.binary('add', ir.binary('mul', row, columns), column), 1)}")
            ir.do(f"store i16 {v}, ptr addrspace(3) {ir.element('i16', '@tile', ir.binary('add', ir.binary('mul', r, 33), tx), 3)}")
        guarded(i, row, column, rows, columns, "in", into)
    ir.barrier()
    for i in range(4):
        r = ir.binary("add", ty, 8 * i)
        row, column = ir.binary("add", x0, r), ir.binary("add", y0, tx)
        def out(r=r, row=row, column=column):
            v = ir.op(f"load i16, ptr addrspace(3) {ir.element('i16', '@tile', ir.binary('add', ir.binary('mul', tx, 33), r), 3)}")
            ir.do(f"store i16 {v}, {G} {ir.element('i16', '%y', ir.binary('add', ir.binary('mul', row, rows), column), 1)}")
        guarded(i, row, column, columns, rows, "out", out)
    return ir.text()


def histogram() -> str:
    """counts[x[i]] += 1 over a block's own counters in shared memory; 64 bins, 128 threads, a loop over the grid."""
    ir = IR(f"{G} noalias readonly %x, {G} %counts, i64 %n", "@bins = internal addrspace(3) global [64 x i32] undef, align 4\n", 128)
    t, block, blocks = ir.special("tid.x"), ir.special("ctaid.x"), ir.special("nctaid.x")
    n = ir.op("trunc i64 %n to i32")
    low = ir.op(f"icmp ult i32 {t}, 64")
    bin_ = ir.element("i32", "@bins", t, 3)
    ir.do(f"br i1 {low}, label %clear, label %cleared")
    ir.label("clear"); ir.do(f"store i32 0, ptr addrspace(3) {bin_}"); ir.do("br label %cleared")
    ir.label("cleared")
    ir.barrier()
    start, step = ir.binary("add", ir.binary("mul", block, 128), t), ir.binary("mul", blocks, 128)
    ir.do(f"br i1 {ir.op(f'icmp ult i32 {start}, {n}')}, label %loop, label %after")
    ir.label("loop")
    ir.do(f"%i = phi i32 [ {start}, %cleared ], [ %next, %loop ]")
    value = ir.op(f"zext i8 {ir.op(f'load i8, {G} ' + ir.element('i8', '%x', '%i', 1))} to i32")
    ir.op(f"atomicrmw add ptr addrspace(3) {ir.element('i32', '@bins', value, 3)}, i32 1 syncscope(\"block\") monotonic")
    ir.do(f"%next = add i32 %i, {step}")
    ir.do(f"br i1 {ir.op(f'icmp ult i32 %next, {n}')}, label %loop, label %after")
    ir.label("after")
    ir.barrier()
    ir.do(f"br i1 {low}, label %add, label %added")
    ir.label("add")
    count = ir.op(f"load i32, ptr addrspace(3) {bin_}")
    ir.op(f"atomicrmw add {G} {ir.element('i32', '%counts', t, 1)}, i32 {count} monotonic")
    ir.do("br label %added")
    ir.label("added")
    return ir.text()


FORMS = {"bf16": (2, "nvvm.mma.m16n8k16.row.col.bf16"), "f16": (2, "nvvm.mma.m16n8k16.row.col.f32.f32"), "tf32": (4, "nvvm.mma.m16n8k8.row.col.tf32")}


def product(form: str) -> str:
    """C (M, N) float32 = A (M, K) · B (N, K).T. Tiles of 32 × 32, 64 bytes of K at a time in two stages that cp.async fills; two warps. K · size in whole 16 bytes."""
    size, mma = FORMS[form]
    ir = IR(f"{G} noalias readonly align 16 %A, {G} noalias readonly align 16 %B, {G} noalias align 16 %C, i64 %M, i64 %N, i64 %K",
            "@tiles = internal addrspace(3) global [8192 x i8] undef, align 128\n", 64)
    M, N, K = (ir.op(f"trunc i64 %{n} to i32") for n in "MNK")
    t = ir.special("tid.x")
    lane, warp = ir.binary("and", t, 31), ir.binary("lshr", t, 5)
    m0, n0 = ir.binary("shl", ir.special("ctaid.y"), 5), ir.binary("shl", ir.special("ctaid.x"), 5)
    row_bytes = ir.binary("mul", K, size)

    def issue(stage: str, k: str):
        """Every thread copies two chunks of A's tile and two of B's; beyond the edges zeros."""
        for which, (matrix, start, limit) in enumerate((("%A", m0, M), ("%B", n0, N))):
            for i in range(2):
                r, chunk = ir.binary("add", ir.binary("lshr", t, 2), 16 * i), ir.binary("and", t, 3)
                row, column = ir.binary("add", start, r), ir.binary("add", ir.binary("shl", k, 6), ir.binary("shl", chunk, 4))
                ok = ir.op(f"and i1 {ir.op(f'icmp ult i32 {row}, {limit}')}, {ir.op(f'icmp ult i32 {column}, {row_bytes}')}")
                offset = ir.op(f"select i1 {ok}, i32 {ir.binary('add', ir.binary('mul', row, row_bytes), column)}, i32 0")
                to = ir.binary("add", ir.binary("add", ir.binary("shl", stage, 12), 2048 * which), ir.binary("add", ir.binary("shl", r, 6), ir.binary("shl", chunk, 4)))
                ir.call("void", "nvvm.cp.async.cg.shared.global.16.s", f"ptr addrspace(3) {ir.element('i8', '@tiles', to, 3)}", f"{G} {ir.element('i8', matrix, offset, 1)}",
                        f"i32 {ir.op(f'select i1 {ok}, i32 16, i32 0')}")
        ir.call("void", "nvvm.cp.async.commit.group")
    steps = ir.binary("lshr", ir.binary("add", row_bytes, 63), 6)
    issue("0", "0")
    entry = "entry"
    ir.do("br label %loop")
    ir.label("loop")
    ir.do(f"%k = phi i32 [ 0, %{entry} ], [ %k1, %loop ]")
    acc = [[f"%c{j}.{q}" for q in range(4)] for j in range(4)]
    for j in range(4):
        for q in range(4): ir.do(f"%c{j}.{q} = phi float [ 0.0, %{entry} ], [ %d{j}.{q}, %loop ]")
    ir.do("%k1 = add i32 %k, 1")
    stage = ir.binary("and", "%k", 1)
    issue(ir.binary("xor", stage, 1), "%k1")
    ir.call("void", "nvvm.cp.async.wait.group", "imm 1")
    ir.barrier()
    base = ir.binary("shl", stage, 12)
    four, two = "{ i32, i32, i32, i32 }", "{ i32, i32 }"
    def fragment(kind, count, row, chunk):
        place = ir.binary("add", base, ir.binary("add", ir.binary("shl", row, 6), ir.binary("shl", chunk, 4)))
        r = ir.call(kind, f"nvvm.ldmatrix.sync.aligned.m8n8.x{count}.b16.p3", f"ptr addrspace(3) {ir.element('i8', '@tiles', place, 3)}")
        return [ir.op(f"extractvalue {kind} {r}, {i}") for i in range(count)]
    for step in range(2):
        a = fragment(four, 4, ir.binary("add", ir.binary("shl", warp, 4), ir.binary("and", lane, 15)), ir.binary("add", ir.binary("lshr", lane, 4), 2 * step))
        for j in range(4):
            row = ir.binary("add", ir.binary("and", lane, 7), 32 + 8 * j)         # B's tile lies 32 rows behind A's
            b = fragment(two, 2, row, ir.binary("add", ir.binary("and", ir.binary("lshr", lane, 3), 1), 2 * step))
            kind = "i32" if form != "f16" else "<2 x half>"
            registers = [f"{kind} {ir.op(f'bitcast i32 {x} to <2 x half>') if form == 'f16' else x}" for x in a + b]
            d = ir.call("{ float, float, float, float }", mma, *registers, *(f"float {c}" for c in acc[j]))
            acc[j] = [ir.op(f"extractvalue {{ float, float, float, float }} {d}, {q}") for q in range(4)]
    for j in range(4):
        for q in range(4): ir.do(f"%d{j}.{q} = fadd float {acc[j][q]}, -0.0")
    ir.barrier()
    ir.do(f"br i1 {ir.op(f'icmp ult i32 %k1, {steps}')}, label %loop, label %store")
    ir.label("store")
    for j in range(4):
        for q in range(4):
            row = ir.binary("add", m0, ir.binary("add", ir.binary("shl", warp, 4), ir.binary("add", ir.binary("lshr", lane, 2), 8 * (q >> 1))))
            column = ir.binary("add", n0, ir.binary("add", ir.binary("shl", ir.binary("and", lane, 3), 1), 8 * j + (q & 1)))
            ok = ir.op(f"and i1 {ir.op(f'icmp ult i32 {row}, {M}')}, {ir.op(f'icmp ult i32 {column}, {N}')}")
            ir.do(f"br i1 {ok}, label %w{j}{q}, label %x{j}{q}")
            ir.label(f"w{j}{q}")
            ir.do(f"store float %d{j}.{q}, {G} {ir.element('float', '%C', ir.binary('add', ir.binary('mul', row, N), column), 1)}")
            ir.do(f"br label %x{j}{q}")
            ir.label(f"x{j}{q}")
    return ir.text()
