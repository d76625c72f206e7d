"""Where every buffer lies: inputs, fresh outputs, and an arena for what lives only inside the plan.

Comes in: tasks in order, who owns the outputs, which inputs may be overwritten. Goes out: a Region per buffer and an Out per output.

A buffer may take over the memory of one that dies in the kernel that first writes it, if that kernel reads and writes every element at the
same index. Chains of such steps share one region, which starts as a donated input or ends as an output where it can; a copy into memory
taken over from its source is no step at all.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..core import kernels as k
from ..core.graph import Graph, Scalar, Value
from ..core.plan import Out, Place
from ..core.shape import reach
from .layout import Layout
from .loops import Draft
from .order import Task
from .values import nbytes

ALIGN = 64                                        # a cache line, and the widest vector
FOREVER = 1 << 60


@dataclass(eq=False, slots=True)
class Region:
    kind: str                                     # 'in' | 'out' | 'arena'
    index: int
    nbytes: int
    first: int
    last: int

    @property
    def place(self): return Place(self.kind, self.index)


class Memory:
    def __init__(self, graph: Graph, layout: Layout, tasks: list[Task], buffer):
        self.graph, self.layout, self.buffer = graph, layout, buffer
        self.region: dict[int, Region] = {}
        self.taken: dict[tuple[int, int], int] = {}                   # (task, buffer) -> the operand whose memory it took over
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.out: dict[int, int] = {id(buffer(o.root)): i for i, o in enumerate(layout.owners) if o.kind == "own"}
        for t, task in enumerate(tasks):
            for x in task.buffers(): self.first.setdefault(id(x), t); self.last[id(x)] = t
        for o in layout.owners: self.last[id(buffer(o.root))] = FOREVER
        self.wanted = {number: i for i, number in graph.prefer.items()}
        self.steps: list[Task] = []
        for t, task in enumerate(tasks):
            if not self.assign(t, task): self.steps.append(task)
        for o in layout.owners:
            b = buffer(o.root)
            if id(b) not in self.region: self.region[id(b)] = self.new(b, 0)
        self.arena = pack([r for r in {id(r): r for r in self.region.values()}.values() if r.kind == "arena"])
        self.outs = tuple([self.outcome(o) for o in layout.owners])

    def new(self, x: Value, t: int) -> Region:
        if x.op is None: return Region("in", x.number, nbytes(x), -1, FOREVER)
        if id(x) in self.out: return Region("out", self.out[id(x)], nbytes(x), t, FOREVER)
        return Region("arena", 0, nbytes(x), t, self.last[id(x)])

    def assign(self, t: int, task: Task) -> bool:
        """Give every buffer that appears here its region. True: the task copies memory onto itself and is no step."""
        for x in task.buffers():
            if id(x) not in self.region and (x.op is None or self.first[id(x)] < t): self.region[id(x)] = self.new(x, t)
        gone = False
        for i, (x, mode) in enumerate(zip(task.operands, task.modes)):
            if x.__class__ is Scalar or not mode or id(x) in self.region: continue
            source = self.dying(t, task, i) if task.kernel.__class__ is Draft and mode == "w" else None
            if source is None: self.region[id(x)] = self.new(x, t); continue
            region = self.region[id(task.operands[source])]
            self.region[id(x)] = region
            region.last = max(region.last, self.last[id(x)])
            if region.kind == "arena" and id(x) in self.out: region.kind, region.index = "out", self.out[id(x)]
            task.kernel.retarget(source, i)
            task.modes[source], task.modes[i] = "", "rw"
            gone = task.copies
        return gone

    def dying(self, t: int, task: Task, i: int) -> int | None:
        """The operand whose memory operand i may take over in this task."""
        draft, x = task.kernel, task.operands[i]
        stores = draft.accesses(i, k.Store)
        if len(stores) != 1: return None
        to, found = stores[0], None
        for j, (y, mode) in enumerate(zip(task.operands, task.modes)):
            if mode != "r" or y.__class__ is Scalar or draft.dtypes[j] is not draft.dtypes[i] or nbytes(y) != nbytes(x): continue
            if not self.ends_here(t, y, x) or sum([z is y for z in task.operands]) > 1: continue                # bytes read as two types: more than these loads
            loads = draft.accesses(j, k.Load)
            if any([(e.strides, e.offset) != (to.strides, to.offset) for e in loads]): continue
            if any(to.strides[len(draft.axes):]) and draft.levels[to.arg] < draft.last_pass(): continue    # read again by a later pass
            if y.op is None and self.graph.prefer.get(self.out.get(id(x), -1)) == y.number: return j
            if found is None or y.op is None: found = j
        return found

    def ends_here(self, t: int, y: Value, x: Value) -> bool:
        """Does nobody need y's memory after task t?"""
        if self.last[id(y)] != t: return False
        region = self.region[id(y)]
        if region.last != t and region.kind != "in": return False
        if y.op is not None: return True
        if y.number not in self.graph.donated or id(x) not in self.out: return False
        laid = self.layout.laid.get(id(y))
        if laid is not None and reach(laid) != (0, nbytes(y) // y.dtype.size - 1): return False
        return self.wanted.get(y.number, self.out[id(x)]) == self.out[id(x)]

    def outcome(self, owner) -> Out:
        region = self.region[id(self.buffer(owner.root))]
        if owner.kind == "alias": return Out("alias", source=region.place, view=owner.view)
        if region.kind == "in": return Out("donated", region.nbytes, region.place, owner.view)
        return Out("fresh", region.nbytes, view=owner.view)


def pack(regions: list[Region]) -> int:
    """Offsets by best fit over lifetimes; returns the arena's size."""
    free: list[list[int]] = []                    # [offset, size], by offset
    ends: list[Region] = []
    top = 0
    for r in sorted(regions, key=lambda r: (r.first, -r.nbytes)):
        live = []
        for e in ends:
            if e.last < r.first: release(free, e.index, padded(e.nbytes))
            else: live.append(e)
        ends, size = live, padded(r.nbytes)
        fit = min((b for b in free if b[1] >= size), key=lambda b: b[1], default=None)
        if fit is not None: r.index = fit[0]
        elif free and free[-1][0] + free[-1][1] == top: fit = free[-1]; r.index = fit[0]; top = r.index + size; fit[1] = size
        else: r.index, top = top, top + size
        if fit is not None:
            fit[0] += size
            fit[1] -= size
            if not fit[1]: free.remove(fit)
        ends.append(r)
    return top


def padded(n: int) -> int: return -(-n // ALIGN) * ALIGN


def release(free: list[list[int]], offset: int, size: int):
    """Give a block back, joined with its neighbours."""
    if not size: return
    i = 0
    while i < len(free) and free[i][0] < offset: i += 1
    free.insert(i, [offset, size])
    if i + 1 < len(free) and offset + size == free[i + 1][0]: free[i][1] += free.pop(i + 1)[1]
    if i and free[i - 1][0] + free[i - 1][1] == offset: free[i - 1][1] += free.pop(i)[1]
