"""What happens to a tile of a matrix product before it is left: bias, activation, any elementwise body, in a function of its own.

Comes in: a `Gemm` (or a `Conv`: m are channels, n pixels) with an `epilogue`, a Nest over (*batch, m, n) without window. Its operand 0 is the product
(rounded to its dtype, as a row's result is); its operand i > 0 is the kernel's operand i + 1, so operand 1 is c, which it must store. c must share no memory
with anything the epilogue reads.
Goes out: the address of `tail` and its run-time words. The driver of the product calls it for every finished tile, so no product is
compiled again for a new epilogue, and the tile is still in the nearest cache.
"""
from __future__ import annotations

from ..core import dtype as dt
from ..core.kernels import Apply, Cast, Const, Conv, Gemm, Load, Nest, Number, Store
from ..cpu import code
from .abi import Kernel, ours
from .text import Val
from .tile import Program, Tile

AHEAD = -1                                        # in place of ld: ask for what this tile will read, and nothing else
ARGS = "ptr vals, ptr words, ptr src, i64 ld, i64 item, i64 row, i64 col, i64 rows, i64 cols"


class _Tail(Program, Kernel):
    pass


def accepts(nest: Nest) -> bool:
    """Can `build` of a Gemm with this epilogue work?"""
    if nest.checks or nest.window or any(o.dtype.category == dt.COMPLEX for o in nest.operands): return False
    if not any(isinstance(v, Store) and v.operand == 1 for v in nest.body): return False
    for v in nest.body:
        if not isinstance(v, (Load, Const, Number, Apply, Cast, Store)): return False
        if not isinstance(v, Store) and v.dtype.category == dt.COMPLEX: return False
        if isinstance(v, Load) and (v.at or v.bounds): return False
    return True


def turned(nest: Nest) -> Nest:
    """The same over (*batch, n, m)."""
    def flip(t): return (*t[:-2], t[-1], t[-2])
    body = tuple(type(v)(**{f: flip(x) if f == "strides" else x for f in v.__slots__ for x in [getattr(v, f)]}) if isinstance(v, (Load, Store)) else v
                 for v in nest.body)
    return Nest(flip(nest.axes), (), nest.operands, body, nest.label)


def build(g: Gemm | Conv, t: Tile, first_word: int) -> tuple[int, tuple[int, ...]]:
    """(address of tail, its words). `first_word`: how many of the Launch's words come before them, of which the last are four per batch axis."""
    body, rank = g.epilogue.body, len(g.batch)
    fixed = [(v.__class__, v.operand, getattr(v, "arg", None), v.dtype, _accesses(v) and _steps(v, rank)) if isinstance(v, (Load, Store)) else v for v in body]
    structure = f"{__name__} {type(g).__name__} {t} {first_word} {rank} {g.operands} {fixed}"
    words = [x for v in body if _accesses(v) for x in (v.offset, *v.strides)]
    return code.load(code.Text(lambda: _text(g, t, first_word), structure if all(map(ours, body)) else None), "tail", 1), tuple(words)


def _accesses(v) -> bool: return isinstance(v, Store) or isinstance(v, Load) and v.operand > 0


def _steps(v: Load | Store, rank: int) -> tuple:
    """Strides from row to row and from column to column that are part of the code; None: a word."""
    return tuple([s if s in constant else None for s, constant in zip(v.strides[rank:], ((0,), (0, 1)))])


def _text(g: Gemm | Conv, t: Tile, first_word: int) -> str:
    nest, rank = g.epilogue, len(g.batch)
    p, L = _Tail(g.operands), t.lanes
    at = place = len(g.operands) + first_word
    with p.define("tail", ARGS, internal=False) as (vals, w, src, ld, item, row, col, rows, cols):
        index, rest = [], item
        for r in reversed(range(rank)):
            length = p.read(w, at - 4 * rank + 4 * r) if r else None
            index.insert(0, rest % length if r else rest)
            rest = rest // length if r else rest

        def address(v: Load | Store):
            """(first element, row stride, column stride) of an access, which takes words for them; some strides are part of the code."""
            nonlocal place
            here = p.read(w, place)
            for r in range(rank): here = here + index[r] * p.read(w, place + 1 + r)
            steps = [p.int(s) if s is not None else p.read(w, place + 1 + rank + i) for i, s in enumerate(_steps(v, rank))]
            here = here + row * steps[0] + col * steps[1]
            place += 1 + len(v.strides)
            t = g.operands[v.operand + 1].dtype
            return p.offset(p.base(v.operand + 1), here, t), *steps
        accesses = {i: address(v) for i, v in enumerate(nest.body) if _accesses(v)}
        numbers = {i: p.number(v.operand + 1, v.dtype) for i, v in enumerate(nest.body) if isinstance(v, Number)}
        tiles = [(accesses[i], v) for i, v in enumerate(nest.body) if i in accesses and accesses[i][2].const == 1 and accesses[i][1].const != 0
                 and (isinstance(v, Load) or isinstance(g, Conv))]
        with p.if_(ld.eq(AHEAD)):                      # rows lie far apart, so that no prefetcher sees what comes
            for (base, row_step, _), v in tiles:
                part, store = v.dtype, isinstance(v, Store)
                with p.loop(0, rows) as line, p.loop(0, cols, 64 // part.size) as at: p.prefetch(p.offset(base, line * row_step + at, part), write=store)

        def column(q, mask):
            """(mask, last lane in use, lanes with valid addresses) of vector q. `mask`: None when all lanes are in use."""
            last = cols - q * L - 1
            if mask is None: return mask, last, p.iota(L)
            return mask, last, p.emit(f"select {p.lt(p.iota(L), p.splat(last, L))}, {p.iota(L)}, {p.splat(last, L)}", dt.int64, L)

        def load(i, v: Load, line, q, at) -> Val:
            base, row_step, step = accesses[i]
            here = p.offset(base, (0 if row_step.const == 0 else line * row_step) + q * L * step, v.dtype)
            if step.const == 0: return p.load(here, v.dtype)
            return vector(here, v.dtype, at[0]) if step.const == 1 else p.gather(here, p.mul(at[2], step), v.dtype)

        def vector(here, t, mask): return p.load(here, t, L) if mask is None else p.load_masked(here, t, mask)

        def body(line, q, at, same):
            """One vector. `same`: loads that were done before."""
            done: list[Val | None] = []
            for i, v in enumerate(nest.body):
                if isinstance(v, Load) and v.operand == 0: x = p.cast(vector(p.offset(src, line * ld + q * L, t.acc), t.acc, at[0]), v.dtype)
                elif isinstance(v, Load): x = same[i] if i in same else load(i, v, line, q, at)
                elif isinstance(v, Const): x = p.const(v.value, v.dtype)
                elif isinstance(v, Number): x = numbers[i]
                elif isinstance(v, Cast): x = p.cast(done[v.arg], v.dtype)
                elif isinstance(v, Apply): x = v.op.emit(p, *(done[a] for a in v.args))
                else: x = _store(p, p.splat(done[v.arg], L), accesses[i], line, q, at)
                done.append(x)
        loads = {i: v for i, v in enumerate(nest.body) if isinstance(v, Load) and i in accesses}
        of_rows, of_columns = ([i for i in loads if accesses[i][step].const == 0] for step in (2, 1))

        def by_rows():
            """What a row shares is loaded once."""
            def whole():
                with p.loop(0, rows) as line:
                    same = {i: load(i, loads[i], line, p.int(0), None) for i in of_rows}
                    for q in map(p.int, range(t.vectors)): body(line, q, column(q, None), same)

            def some():
                with p.loop(0, rows) as line:
                    same = {i: load(i, loads[i], line, p.int(0), None) for i in of_rows}
                    with p.loop(0, cols // L) as q: body(line, q, column(q, None), same)
                    with p.if_((cols % L).ne(0)): body(line, cols // L, column(cols // L, p.mask(cols % L, L)), same)
            p.otherwise(cols.eq(t.columns), whole, some)

        def by_columns():
            def all_rows(q, mask):
                at = column(q, mask)
                same = {i: load(i, loads[i], None, q, at) for i in of_columns}
                with p.loop(0, rows) as line: body(line, q, at, same)
            with p.loop(0, cols // L) as q: all_rows(q, None)
            with p.if_((cols % L).ne(0)): all_rows(cols // L, p.mask(cols % L, L))
        with p.if_(ld.ne(AHEAD)):
            if len(of_rows) > len(of_columns): by_rows()
            else: by_columns()
    return p.module()


def _store(p: Program, x: Val, access, line, q, at):
    (base, row_step, step), (mask, last, _) = access, at
    if step.const == 1:
        here = p.offset(base, line * row_step + q * x.n, x.dtype)
        return p.store(x, here) if mask is None else p.store_masked(x, here, mask)
    byte = dt.uint8 if x.dtype is dt.bool else x.dtype
    lanes = p.alloca(byte, x.n)
    p.store(x, lanes)
    with p.loop(0, p.min(last + 1, x.n)) as lane:
        p.store(p.load(p.offset(lanes, lane, byte), byte), p.offset(base, line * row_step + (q * x.n + lane) * step, byte))
