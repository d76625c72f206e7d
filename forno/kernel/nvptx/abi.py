"""How a kernel of a GPU is called: every parameter is an 8-byte word; and a builder that knows its thread.

Operands come first (addresses; numbers, complex ones as two words), then the kernel's own words. Threads are counted along x.
"""
from __future__ import annotations

import functools
from contextlib import contextmanager

from ...core import dtype as dt
from ..abi import INDEX_ERROR, Kernel
from ..text import PTR, TYPES, Val
from . import cores

WARP = 32
ALL = Val("-1", dt.int32, 1, -1)               # all lanes of a warp
_UNSIGNED = {1: dt.uint8, 2: dt.uint16}
LATE = ("error", "step", "scratch")            # words that whoever launches fills in


class DeviceKernel(Kernel):
    """A Builder inside a kernel of a GPU. Whoever makes one says first what for: `isa`, and `threads_per_block`; `tuning`: more attributes of the kernel."""
    tuning = ""

    def __init__(self, operands):
        super().__init__(operands)
        self.first = []                        # of each operand: its first parameter
        for o in operands: self.first.append(sum(map(self.width, operands[:len(self.first)])))
        self.parameters = sum(map(self.width, operands))

    @staticmethod
    def width(operand) -> int: return 2 if operand.mode == "n" and operand.dtype.category == dt.COMPLEX else 1

    @contextmanager
    def body(self, name: str):
        with self.inside(lambda: f"define ptx_kernel void @{name}({self.signature()}) #0 \"nvvm.maxntid\"=\"{self.threads_per_block}\"{self.tuning}"):
            yield self
            self.put("ret void")

    def signature(self) -> str:
        pointers = {f for o, f in zip(self.operands, self.first) if o.mode != "n"}
        types = ["ptr" if k in pointers else "i64" for k in range(self.parameters)] + ["ptr" if key[0] in ("error", "scratch") else "i64" for key in self.keys]
        return ", ".join([f"{t} %p{k}" for k, t in enumerate(types)])

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
        """Write an error, unless there is one that nobody has looked at (cudart/faults.py); the run goes on. Of a check: its row's position in the nest's body
        instead of an index. The code comes last: whoever finds it finds all. Only this device's threads claim: host memory promises no more."""
        record, step = self.word("error"), self.word("step")
        claim = self.emit(f'cmpxchg ptr {self.offset(record, 32).text}, i64 0, i64 1 syncscope("device") monotonic monotonic', dt.int64)
        with self.if_(self.emit(f"extractvalue {{ i64, i1 }} {claim.text}, 1", dt.bool)):
            for i, x in enumerate((index, size, step), 1): self.store(x, self.offset(record, 8 * i))
            self.fence("sys")
            self.store(self.index(code), record)

    def fence(self, scope: str):
        """This thread's writes are seen by others ("cta": of the block, "gl": of the device, "sys": also the host) before any that follow."""
        name = f"llvm.nvvm.membar.{scope}"
        self.declared[name] = f"declare void @{name}()"
        self.put(f"call void @{name}()")

    def store(self, x: Val, p: Val, align: int | None = None):
        """A complex number of halves is one word: LLVM would put it together from registers that nobody has written, and store it twice."""
        if x.n > 1 or not x.parts or x.re.dtype is not dt.float16: return super().store(x, p, align)
        low, high = (self.cast(self.bitcast(h, dt.uint16), dt.uint32) for h in x.parts)
        self.put(f"store {self.or_(low, self.shl(high, 16))}, ptr {p.text}, align 4")

    # ---- memory by 16 bytes
    def load_wide(self, p: Val, t, n: int) -> list[Val]:
        """n neighbours (a power of two) at an address that is a multiple of their bytes, or of 16."""
        if t.category == dt.COMPLEX:
            x = self.load_wide(p, t.real, 2 * n)
            return [self.pair(x[k], x[k + 1]) for k in range(0, 2 * n, 2)]
        if t is dt.bool: return [self.ne(x, 0) for x in self.load_wide(p, dt.uint8, n)]
        if n > 1 and t.size < 4:               # whole words, taken apart: LLVM does so in more instructions
            word, few = self.word_of(t, n)
            return [self.bitcast(self.cast(self.shr(w, 8 * t.size * j), _UNSIGNED[t.size]), t) for w in self.load_wide(p, word, n // few) for j in range(few)]
        each = min(n, 16 // t.size)
        vectors = [self.load(self.offset(p, k, t), t, each, each * t.size) for k in range(0, n, each)]
        return [self.extract(v, j) for v in vectors for j in range(each)]

    def store_wide(self, p: Val, xs: list[Val]):
        """The reverse."""
        t, n = xs[0].dtype, len(xs)
        if t.category == dt.COMPLEX: return self.store_wide(p, [y for x in xs for y in x.parts])
        if t is dt.bool: return self.store_wide(p, [self.cast(x, dt.uint8) for x in xs])
        if n > 1 and t.size < 4:
            word, few = self.word_of(t, n)
            pieces = [self.cast(self.bitcast(x, _UNSIGNED[t.size]), word) for x in xs]
            return self.store_wide(p, [functools.reduce(self.or_, (self.shl(x, 8 * t.size * j) for j, x in enumerate(pieces[k:k + few]))) for k in range(0, n, few)])
        each = min(n, 16 // t.size)
        for k in range(0, n, each):
            x = xs[k]
            if each > 1:
                x = Val("poison", t, each)
                for j in range(each): x = self.insert(x, xs[k + j], j)
            self.store(x, self.offset(p, k, t), each * t.size)

    @staticmethod
    def word_of(t, n: int):
        """(what n small values are loaded as, how many are in one)"""
        word = dt.uint32 if n * t.size >= 4 else dt.uint16
        return word, word.size // t.size

    def _to_half(self, x: Val, t, rounded=False) -> Val:
        """bfloat16 where there is an instruction; a float64's second rounding is done by hand, since LLVM would make one of the two."""
        if t is not dt.bfloat16 or rounded or x.n > 1 or x.text in self.narrowed or not self.isa.has("bf16"): return super()._to_half(x, t, rounded)
        return self.emit(f"bitcast bfloat {self.emit(f'fptrunc {x} to bfloat', t).text} to i16", t)

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

    def warp_barrier(self):
        """All threads of the warp have come here and see each other's writes."""
        name = "llvm.nvvm.bar.warp.sync"
        self.declared[name] = f"declare void @{name}(i32)"
        self.put(f"call void @{name}(i32 -1)")

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


for _name in cores.SINGLE: setattr(DeviceKernel, _name, cores.method(_name))
