"""Matrix products: one driver per element type, for all shapes, strides, batches and numbers of threads.

Comes in: a `Gemm`. Goes out: a `Launch` whose words carry the sizes, strides and blocking; nothing in the machine code depends on them.

Threads form a grid over batch, rows and columns; each computes its own block alone (packing a little twice is cheaper than waiting for each
other). Within a block Goto's order: K in pieces that keep a B panel in L1, M in pieces whose packed A stays in L2. M is cut in panels of
equal height, so there is a micro-kernel for every height and no waste at the edge; the last columns are computed whole and stored masked.
"""
from __future__ import annotations

import functools
import math
from dataclasses import replace

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Choices, Gemm, Launch, Matrix
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import choices, epilogue, few, gemv, pack, skinny
from .abi import had
from .epilogue import accepts
from .gemv import batch_offsets
from .tile import Program, Tile, chains, entry, even_split, kernel_of, micro, product_tile

PARALLEL_FLOPS = 400_000                       # below this waking other threads costs more than they save

# the driver's run-time words, in order; then (length, stride of a, of b, of c) per batch axis
WORDS = """driver micro tail a_at b_at batch rank m n k a_off a_row a_col b_off b_row b_col c_off c_row c_col
panels height taller kc mc nc pack_a pack_b in_place across""".split()


@code.program("main")
def driver(stored: dt.dtype, t: Tile) -> str:
    """The address and text of main(ctx, vals, words, w): w are WORDS."""
    p = Program()
    pack.writer(stored, t)(p, "pack_a", stored, t, False)
    pack.writer(stored, t)(p, "pack_b", stored, t, True)
    write_put(p, stored, t)
    _write_main(p, stored, t)
    return p.module()


def write_put(p: Program, stored: dt.dtype, t: Tile):
    """put: a tile in scratch to its place in C, whatever C's type and strides; `adding` to what is there."""
    T, L, part = t.acc, t.lanes, stored.real
    with p.define("put", "ptr tile, ptr c, i64 row, i64 col, i64 rows, i64 cols, i64 adding") as (src, c, row, col, rows, cols, adding):
        def vectors():
            with p.loop(0, t.vectors) as v:
                mask = p.mask(p.max(cols - v * L, 0), L)
                with p.loop(0, rows) as i:
                    x, at = p.load(p.offset(src, i * t.columns + v * L, T), T, L), p.offset(c, i * row + v * L, part)
                    if part is T:
                        p.otherwise(adding.ne(0), lambda: p.store_masked(p.add(x, p.load_masked(at, T, mask)), at, mask),
                                    lambda: p.store_masked(x, at, mask))
                    else: p.store_masked(p.cast(x, part), at, mask)

        def elements():
            with p.loop(0, rows) as i, p.loop(0, cols) as j:
                odd = j & 1 if stored.category == dt.COMPLEX else 0
                p.store(p.cast(p.load(p.offset(src, i * t.columns + j, T), T), part), p.offset(c, i * row + (j - odd) * col + odd, part))
        p.otherwise(col.eq(1), vectors, elements)


def _write_main(p: Program, stored: dt.dtype, t: Tile):
    T, L, NR, MR, part = t.acc, t.lanes, t.columns, t.rows, stored.real
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = {name: p.read(w, i) for i, name in enumerate(WORDS)}
        m, n, k, kc, mc, nc = (W[x] for x in ("m", "n", "k", "kc", "mc", "nc"))
        table, tail = p.read_pointer(w, WORDS.index("micro")), p.read_pointer(w, WORDS.index("tail"))
        sa = p.read_pointer(ctx, 2)                                                            # packed A | packed B | one tile
        sb = p.offset(sa, mc * t.steps(kc) * MR + 64, T)
        scratch_tile = p.offset(sb, nc * t.steps(kc) * NR + 64, T)
        operands = [p.read_pointer(vals, p.read(words, i)) for i in (W["a_at"], W["b_at"], 2)]
        columns = p.ceil_div(n, NR)
        (b0, b1), (p0, p1), (j0, j1) = grid(p, ctx, W["batch"], W["panels"], columns)
        across = W["across"].ne(0)
        single = p.both(p1 - p0 <= mc, p.not_(across))                                         # B panels are used at once: keep one
        packing_a, packing_b, in_place = W["pack_a"].ne(0), W["pack_b"].ne(0), W["in_place"].ne(0)

        def rows_of(q):
            """First row and height of panel q: the first `taller` panels have one row more."""
            more = q < W["taller"]
            return q * W["height"] + p.pick(more, q, W["taller"]), W["height"] + p.pick(more, 1, 0)

        with p.loop(b0, b1) as item:
            offsets = batch_offsets(p, p.offset(w, len(WORDS), dt.int64), W["rank"], item, [W[x] for x in ("a_off", "b_off", "c_off")])
            A, B, C = (p.offset(x, o, part) for x, o in zip(operands, offsets))
            with p.loop(j0, j1, nc) as jb, p.loop(0, p.max(k, 1), kc) as k0, p.loop(p0, p1, mc) as pb:
                je, pe, depth = p.min(jb + nc, j1), p.min(pb + mc, p1), p.min(kc, k - k0)
                adding, last = p.pick(k0.eq(0), 0, 1), k0 + kc >= k
                with p.if_(packing_a), p.loop(pb, pe) as q:
                    row, height = rows_of(q)
                    p.run("pack_a", p.offset(A, row * W["a_row"] + k0 * W["a_col"], part), W["a_row"], W["a_col"],
                          p.offset(sa, (q - pb) * t.steps(kc) * MR, T), height, height, depth)
                # column after column of tiles, or across: row after row
                with p.loop(p.pick(across, pb, jb), p.pick(across, pe, je)) as outer:
                    with p.loop(p.pick(across, jb, pb), p.pick(across, je, pe)) as inner:
                        j, q = p.pick(across, inner, outer), p.pick(across, outer, inner)
                        col = j * NR
                        cols = p.min(n - col, NR)
                        vectors = p.ceil_div(cols, L)
                        whole = cols.eq(vectors * L)
                        packed_b = p.or_(packing_b, cols.ne(NR))
                        slot = p.offset(sb, p.pick(single, 0, j - jb) * t.steps(kc) * NR, T)
                        b_at = p.offset(B, k0 * W["b_row"] + col * W["b_col"], part)
                        with p.if_(p.both(packed_b, q.eq(p0))):
                            p.run("pack_b", b_at, W["b_col"], W["b_row"], slot, p.int(NR), cols, depth)
                        b_panel = p.choose_pointer(packed_b, slot, b_at)
                        b_step = p.pick(packed_b, NR, W["b_row"])
                        row, height = rows_of(q)
                        a_at = p.offset(A, row * W["a_row"] + k0 * W["a_col"], part)
                        a_panel = p.choose_pointer(packing_a, p.offset(sa, (q - pb) * t.steps(kc) * MR, T), a_at)
                        c_at = p.offset(C, row * W["c_row"] + col * W["c_col"], part)
                        kernel = kernel_of(p, t, table, height, vectors, p.pick(packing_a, 0, 1))
                        directly = p.both(whole, in_place)
                        dst = p.choose_pointer(directly, c_at, scratch_tile)
                        with p.if_(p.both(last, W["tail"].ne(0))): p.run(tail, vals, words, scratch_tile, p.int(epilogue.AHEAD), item, row, col, height, cols)
                        p.run(kernel, a_panel, b_panel, dst, t.steps(depth), b_step, p.pick(directly, W["c_row"], NR), p.pick(directly, adding, 0),
                              W["a_row"], W["a_col"])
                        converts = p.and_(p.not_(in_place), W["tail"].ne(0))                   # then the tail stores from the scratch tile
                        with p.if_(p.not_(p.or_(directly, converts))):
                            p.run("put", scratch_tile, c_at, W["c_row"], W["c_col"], height, cols, adding)
                        with p.if_(p.both(last, W["tail"].ne(0))):
                            src = p.choose_pointer(in_place, c_at, scratch_tile)
                            p.run(tail, vals, words, src, p.pick(in_place, W["c_row"], NR), item, row, col, height, cols)


def grid(p: Program, ctx, batch, panels, columns, column=6):
    """This thread's ranges: of all ways to write nt = gb * gm * gn the one with the least work for the busiest thread, packing included: of tiles, panels and
    columns, which cost 16 to 3 to `column`."""
    tid, nt = p.read(ctx, 0), p.read(ctx, 1)
    best, gb, gm = (p.variable(p.int(x)) for x in (1 << 62, 1, 1))
    with p.if_(nt > 1), p.loop(1, nt + 1) as tb:
        with p.if_((nt % tb).eq(0)), p.loop(1, nt // tb + 1) as tm:
            rest = nt // tb
            with p.if_((rest % tm).eq(0)):
                cm, cn = p.ceil_div(panels, tm), p.ceil_div(columns, rest // tm)
                cost = p.ceil_div(batch, tb) * (cm * cn * 16 + cm * 3 + cn * column)
                with p.if_(cost < p.get(best)):
                    for place, x in ((best, cost), (gb, tb), (gm, tm)): p.set(place, x)
    gb, gm = p.int(p.get(gb)), p.int(p.get(gm))
    gn = nt // (gb * gm)

    def cut(total, parts, part):
        """By weight, where only this axis is cut."""
        return [p.pick(parts.eq(nt), x, y) for x, y in zip(p.mine(ctx, total, tell=False), p.share(total, parts, part))]
    ranges = cut(batch, gb, tid // (gm * gn)), cut(panels, gm, tid // gn % gm), cut(columns, gn, tid % gn)
    had(p, ctx, math.prod(hi - lo for lo, hi in ranges), batch * panels * columns)
    return ranges


# ---- a shape's numbers
def build(g: Gemm) -> Launch:
    stored = g.a.dtype
    if stored in (dt.bool, dt.complex32) or g.b.dtype is not stored or g.epilogue is None and g.c.dtype is not stored:
        raise unsupported("matmul", stored, instead="convert the operands")
    if g.epilogue is not None and not accepts(g.epilogue):
        raise unsupported("matmul with this epilogue", stored, instead="run the epilogue as a kernel of its own")
    t = product_tile(stored, g.rounding)
    words, scratch = _words(g, t)
    address, text = entry(len(g.operands))
    batch = math.prod(g.batch)
    flops, moved = 2 * batch * g.m * g.n * g.k, batch * stored.size * (g.m * g.k + g.k * g.n + g.m * g.n)
    return Launch(Code("gemm", address, text), words, flops > PARALLEL_FLOPS, scratch=scratch, bytes=moved, flops=flops,
                  choices=_choices(g, t) if flops > choices.FLOPS else None)


def _words(g: Gemm, t: Tile, choice: str = "") -> tuple[tuple[int, ...], int]:
    """The driver's words, if the usual ones aren't wanted with a change, and the bytes of scratch it needs for them."""
    g, a_at, b_at = (g, 0, 1) if _better_turned(g, t) == (choice == "turned") else (_turned(g), 1, 0)
    return _numbers(g, t, a_at, b_at, _changed(_blocking(g, t), g, t, choice)) if (other := _other_driver(g)) is None else other.build(g, a_at, b_at)


def _other_driver(g: Gemm): return next((d for d in (gemv, few, skinny) if d.accepts(g)), None)


def _turned(g: Gemm) -> Gemm:
    return replace(g, m=g.n, n=g.m, a=_transposed(g.b), b=_transposed(g.a), c=_transposed(g.c), epilogue=g.epilogue and epilogue.turned(g.epilogue))


def _transposed(x: Matrix) -> Matrix: return replace(x, rows=x.cols, cols=x.rows)


def _better_turned(g: Gemm, t: Tile) -> bool:
    """Compute the transpose? When C is contiguous the other way, or has few columns, which would fill few lanes of each vector."""
    if g.m == 1 or g.n == 1: return g.m != 1
    other = g.c.cols != 1 and g.c.rows == 1
    return other != (g.a.dtype.category != dt.COMPLEX and _thin(*(g.n, g.m) if other else (g.m, g.n), g.k, t))


def _thin(m: int, n: int, k: int, t: Tile) -> bool:
    """Does the transpose of a product, whose C is contiguous, save so many steps of micro-kernels (a tile of one vector takes as long as one of two) that they
    pay for storing C element by element? Then C can't hold partial sums, so all of a panel of B should stay in L2."""
    return _steps_saved(m, n, k, t) > 4 * m * n and t.acc.size * t.columns * t.steps(k) <= isa.caches()[1] // 2


def _steps_saved(m: int, n: int, k: int, t: Tile) -> int: return t.steps(k) * (m * -(-n // t.columns) - n * -(-m // t.columns))


def _blocking(g: Gemm, t: Tile) -> dict[str, int]:
    """How the product is cut, what is packed, in which order tiles are computed."""
    stored, z = g.a.dtype, _real_parts(g)
    m, n, k = g.m, g.n * z, g.k * z
    native = stored is t.acc and not t.pairs                                     # panels hold what memory does: no conversion
    in_place = (stored is t.acc or z == 2) and g.c.dtype is stored and g.c.cols == 1      # C can hold partial sums
    panels, columns = -(-m // t.rows), -(-n // t.columns)
    l1, l2, _ = isa.caches()
    # a panel of A and one of B share L1, or a tenth of a large L2; results that can't hold partial sums keep all of K in registers
    depth = max(l1 * 3 // 4, min(l2 // 10, 100_000)) // (t.acc.size * (t.rows + t.columns))
    kc = even_split(k, max(depth, 64), 8) if in_place else max(k, 1)
    steps = t.steps(kc)
    mc = even_split(panels, max(l2 * 3 // 8 // (t.acc.size * t.rows * steps), 1), 1)
    nc = even_split(columns, max((1 << 20) // (t.acc.size * t.columns * steps), 1), 1)
    # copying pays when a panel is read often, or when its rows lie a power of two apart and push each other out of L1
    pack_b = not (native and g.b.cols == 1 and (panels <= 4 or g.b.rows * t.acc.size <= 2048 or panels <= 12 and g.b.rows * t.acc.size % 4096))
    words = t.pairs and stored is not t.acc and g.a.cols == 1 and k % 2 == 0                             # A's rows hold words of two as they lie
    pack_a = not native and not words or (columns > 8 and g.a.rows * stored.size % 4096 == 0 if g.a.cols == 1 else columns > 4)
    # short sums: B stays in L2, and what is read and written most is C (and what its epilogue reads), which lies along rows
    across = g.c.cols == 1 and panels > 1 and columns > 1 and t.acc.size * columns * t.columns * steps <= l2 * 3 // 8
    height, taller = divmod(m, panels) if panels else (0, 0)
    return dict(panels=panels, height=height, taller=taller, kc=kc, mc=mc, nc=nc, pack_a=int(pack_a), pack_b=int(pack_b), in_place=int(in_place),
                across=int(across))


def _real_parts(g: Gemm) -> int: return 2 if g.a.dtype.category == dt.COMPLEX else 1


def _tiles(g: Gemm, t: Tile, cut: dict[str, int]) -> set[tuple[int, int]]:
    """(rows, vectors) of all tiles."""
    n = g.n * _real_parts(g)
    heights = {cut["height"], cut["height"] + 1} if cut["taller"] else {cut["height"]}
    return {(rows, vectors) for rows in heights for vectors in (t.vectors if n >= t.columns else 0, -(-(n % t.columns) // t.lanes)) if rows and vectors}


def _numbers(g: Gemm, t: Tile, a_at: int, b_at: int, cut: dict[str, int]) -> tuple[tuple[int, ...], int]:
    """The driver's words for a product that is cut like this."""
    stored, z, steps, kernels = g.a.dtype, _real_parts(g), t.steps(cut["kc"]), micro(t.acc, t.pairs)
    for rows, vectors in _tiles(g, t, cut): kernels.need(rows, vectors, not cut["pack_a"])
    values = dict(
        cut, driver=driver(stored, t)[0], micro=kernels.address, tail=0, a_at=a_at, b_at=b_at, batch=math.prod(g.batch), rank=len(g.batch), m=g.m, n=g.n * z, k=g.k * z,
        a_off=g.a.offset * z, a_row=g.a.rows * z, a_col=g.a.cols, b_off=g.b.offset * z, b_row=g.b.rows, b_col=g.b.cols,
        c_off=g.c.offset * z, c_row=g.c.rows * z, c_col=g.c.cols)
    axes = tuple(x for length, *strides in zip(g.batch, g.a.batch, g.b.batch, g.c.batch) for x in (length, *(s * z for s in strides)))
    scratch = t.acc.size * (cut["mc"] * steps * t.rows + cut["nc"] * steps * t.columns + t.rows * t.columns + 192)
    tail_words = ()
    if g.epilogue is not None: values["tail"], tail_words = epilogue.build(g, t, len(WORDS) + len(axes))
    return (*(values[name] for name in WORDS), *axes, *tail_words), scratch


# ---- choices
def _choices(g: Gemm, t: Tile) -> Choices:
    """Cuts and orders of the same sums; in these every element is added up as in the usual ones."""
    matrices = "; ".join(f"{x.batch} {x.rows} {x.cols}" for x in (g.a, g.b, g.c))
    kernel = f"matmul {t.acc} {g.a.dtype} {g.c.dtype} {g.batch} {g.m}x{g.n}x{g.k}; {matrices}; {g.epilogue and g.epilogue.label}"
    return Choices(kernel, functools.partial(_names, g, t), lambda name: (*_words(g, t, name), 0))


def _names(g: Gemm, t: Tile) -> tuple[str, ...]:
    usual, turned = (_turned(g), g) if _better_turned(g, t) else (g, _turned(g))
    if _other_driver(usual): return ()
    cut, across = _blocking(usual, t), _blocking(turned, t)
    out = [name for name in CHANGES if (new := _changed(cut, usual, t, name)) != cut and _sums_alike(usual, cut, usual, new, t)]
    fits = turned is g or _steps_saved(g.m, g.n, g.k, t) > 0
    return (*out, "turned") if fits and not _other_driver(turned) and _real_parts(g) == 1 and _sums_alike(usual, cut, turned, across, t) else tuple(out)


CHANGES = "order", "pack a", "pack b", "fewer rows", "fewer columns", "lower tiles"


def _changed(cut: dict[str, int], g: Gemm, t: Tile, choice: str) -> dict[str, int]:
    """A cut with one change; the same, where that can't be done."""
    native, panels, columns = g.a.dtype is t.acc and not t.pairs, cut["panels"], -(-g.n * _real_parts(g) // t.columns)
    if choice == "order" and min(panels, columns) > 1 and g.c.cols == 1: return dict(cut, across=1 - cut["across"])
    if choice == "pack a" and native: return dict(cut, pack_a=1 - cut["pack_a"])
    if choice == "pack b" and native and g.b.cols == 1: return dict(cut, pack_b=1 - cut["pack_b"])
    if choice == "fewer rows" and cut["mc"] > 1: return dict(cut, mc=-(-cut["mc"] // 2))
    if choice == "fewer columns" and cut["nc"] > 3: return dict(cut, nc=-(-cut["nc"] // 4))
    if choice == "lower tiles" and panels < g.m:
        height, taller = divmod(g.m, panels + 1)
        return dict(cut, panels=panels + 1, height=height, taller=taller, mc=min(cut["mc"] + 1, panels + 1))
    return cut


def _sums_alike(g: Gemm, cut: dict[str, int], h: Gemm, other: dict[str, int], t: Tile) -> bool:
    """Are all elements' sums made in the same order?"""
    return cut["kc"] == other["kc"] and len({chains(*size) for size in _tiles(g, t, cut) | _tiles(h, t, other)}) == 1
