"""How a kernel of a GPU is called: every parameter is an 8-byte word; and a builder that knows its thread.

Operands come first (addresses; numbers, complex ones as two words), then the kernel's own words. Threads are counted along x.
"""
from __future__ import annotations

from contextlib import contextmanager

from ...core import dtype as dt
from ..abi import CHECK_ERROR, INDEX_ERROR, Kernel
from ..text import PTR, TYPES, Val

WARP = 32
ALL = Val("-1", dt.int32, 1, -1)               # all lanes of a warp
LATE = ("error", "step", "scratch")            # words that whoever launches fills in


class DeviceKernel(Kernel):
    """A Builder inside a kernel of a GPU. Whoever makes one says first what for: `isa`, and `threads_per_block`."""

    def __init__(self, operands):
        super().__init__(operands)
        self.first = []                        # of each operand: its first parameter
        for o in operands: self.first.append(sum(map(self.width, operands[:len(self.first)])))
        self.parameters = sum(map(self.width, operands))

    @staticmethod
    def width(operand) -> int: return 2 if operand.mode == "n" and operand.dtype.category == dt.COMPLEX else 1

    @contextmanager
    def body(self, name: str):
        outer = self.lines, self.entry, self.block
        self.lines, self.entry, self.block = [], [], "entry"
        yield self
        pointers = {f for o, f in zip(self.operands, self.first) if o.mode != "n"}
        types = ["ptr" if k in pointers else "i64" for k in range(self.parameters)] + ["ptr" if key[0] in ("error", "scratch") else "i64" for key in self.keys]
        head = f"define ptx_kernel void @{name}({', '.join(f'{t} %p{k}' for k, t in enumerate(types))}) #0 \"nvvm.maxntid\"=\"{self.threads_per_block}\" {{\nentry:\n"
        self.functions.append(head + "\n".join([*self.entry, *self.lines, "ret void"]) + "\n}\n")
        self.lines, self.entry, self.block = outer

    def word(self, *key) -> Val:
        if key not in self._words:
            self._words[key] = Val(f"%p{self.parameters + len(self.keys)}", PTR if key[0] in ("error", "scratch") else dt.int64)
            self.keys.append(key)
        return self._words[key]

    def base(self, k: int) -> Val: return Val(f"%p{self.first[k]}", PTR)

    def number(self, k: int, t) -> Val:
        kind, words = self.operands[k].dtype, [Val(f"%p{self.first[k] + i}", dt.int64) for i in range(2)]
        if kind.category == dt.COMPLEX: return self.cast(self.pair(*(self.bitcast(w, dt.float64) for w in words)), t)
        return self.cast(self.bitcast(words[0], dt.float64) if kind.category == dt.FLOAT else words[0], t)

    def report(self, index: Val, size: Val, code: int = INDEX_ERROR):
        """Write an error; the run goes on. Of a check: its row's position in the nest's body instead of an index."""
        record = self.word("error")
        for i, x in enumerate((self.index(code), index, size, self.word("step"))): self.store(x, self.offset(record, 8 * i))

    # ---- threads
    def special(self, name: str) -> Val:
        """A special register as int64."""
        full = f"llvm.nvvm.read.ptx.sreg.{name}"
        self.declared[full] = f"declare i32 @{full}()"
        return self.cast(self.emit(f"call i32 @{full}()", dt.uint32), dt.int64)

    def barrier(self):
        """All threads of the block have come here and see each other's writes."""
        name = "llvm.nvvm.barrier.cta.sync.aligned.all"
        self.declared[name] = f"declare void @{name}(i32)"
        self.put(f"call void @{name}(i32 0)")

    def shared_memory(self, nbytes: int) -> Val:
        """Static memory of the block: the only one of the kernel."""
        self.shared["@shared"] = f"@shared = internal addrspace(3) global [{nbytes} x i8] undef, align 16"
        return Val("addrspacecast (ptr addrspace(3) @shared to ptr)", PTR)

    def butterfly(self, x: Val, mask: int) -> Val:
        """x of the thread whose lane differs in the bits of `mask`."""
        if x.parts: return self.pair(*(self.butterfly(p, mask) for p in x.parts))
        t = x.dtype
        if t.size == 8 and t is not dt.bool:
            both = self.emit(f"bitcast {x.type} {x.text} to <2 x i32>", dt.int32, 2)
            return self.emit(f"bitcast <2 x i32> {self.swapped(both, mask).text} to {TYPES[t]}", t)
        if t is dt.bool: return self.ne(self.butterfly(self.cast(x, dt.int32), mask), 0)
        if t is dt.float32: return self.bitcast(self.butterfly(self.bitcast(x, dt.int32), mask), t)
        if t.size < 4: return self.emit(f"trunc i32 {self.butterfly(self.emit(f'zext {x} to i32', dt.int32), mask).text} to {TYPES[t]}", t)
        name = "llvm.nvvm.shfl.sync.bfly.i32"
        return self.call(name, dt.int32, ALL, x, Val(str(mask), dt.int32), Val("31", dt.int32))

    def swapped(self, both: Val, mask: int) -> Val:
        low, high = (self.butterfly(self.extract(both, i), mask) for i in (0, 1))
        return self.insert(self.insert(Val("poison", dt.int32, 2), low, 0), high, 1)


__all__ = ["ALL", "CHECK_ERROR", "LATE", "WARP", "DeviceKernel"]
