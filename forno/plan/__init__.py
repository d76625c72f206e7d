"""From a graph of values to kernels in order with every operand placed. Knows rows and loops, not tensors or machine code.

expand     composite rows become the rows they are made of
share      equal values become one
simplify   history rows, views of views, reductions of nothing … disappear
widen      convolutions of half types become those of float32, where the kernel floor has none
products   sums of matrix products become one product
layout     which values need memory of their own; who owns each output
fuse       which values share a loop nest
write      groups become kernel nouns
epilogues  chains that only read a matrix product run on its tiles, if the kernel floor accepts them
order      dependencies first, then what keeps memory low
place      arena, donated inputs, fresh outputs

An output is 'fresh' or 'donated' with its strides as asked for (row-major if None), or an 'alias': `view` shows it in the source's buffer.
"""
from __future__ import annotations

from ..core.flags import flags
from ..core.graph import Graph, Value
from ..core.plan import Place, Plan, Step
from . import explain
from .epilogue import epilogues
from .expand import expand, share, topological
from .fuse import Fusion, current
from .layout import Layout, held, root_of
from .loops import Draft, Writer, written_in_place
from .memory import Memory
from .order import Task, order
from .products import gather_products
from .simplify import simplify
from .tiles import gemm, kernel_of
from .values import MOVE, SINK, nbytes
from .verify import verify
from .widen import widen


def make(graph: Graph, accepts_epilogue=None, halves=False) -> Plan:
    """The pipeline, pass by pass. `halves`: the kernel floor has convolutions of half types."""
    values = stage("expand", expand(list(graph.outputs)))
    values = stage("share", share(values))
    values = stage("simplify", simplify(values))
    values = stage("widen", values if halves else widen(values))
    values = stage("products", gather_products(values))
    layout = Layout(graph, values)
    values = stage("layout", layout.outputs)
    fusion = Fusion(layout, topological(values))
    stage("fuse", fusion.groups)
    tasks = stage("write", write(fusion))
    kept = {id(fusion.buffer(o.root)) for o in layout.owners}
    tasks = stage("epilogues", epilogues(tasks, kept, accepts_epilogue, lambda v: gemm(v, layout, fold=False)))
    tasks = stage("order", order(tasks, kept, nbytes))
    plan = stage("place", place(graph, layout, fusion, tasks))
    if flags.CHECK: verify(graph, plan)
    return plan


def stage(name: str, made):
    """FORNO_STOP_AFTER: print what a pass made and leave."""
    if name == flags.STOP_AFTER:
        print(made if isinstance(made, Plan) else "\n".join(map(str, topological(made) if made and made[0].__class__ is Value else made)))
        raise SystemExit(f"stopped after the pass '{name}' (FORNO_STOP_AFTER)")
    return made


def write(fusion: Fusion) -> list[Task]:
    """A task per group: its kernel, and the buffers it reads and writes. From the last to the first, so that only what is read gets stored."""
    layout, tasks = fusion.layout, {}
    needed = set(fusion.owned)
    for g in reversed(fusion.groups):
        if g.solo is not None:
            kernel, values = kernel_of(g.solo, layout)
            needed.update(id(held(root_of(x)[0])) for x in g.solo.ins if x.__class__ is Value)
            operands = [fusion.buffer(root_of(x)[0]) if x.__class__ is Value else x for x in values]
            tasks[id(g)] = Task(kernel, operands, [o.mode for o in kernel.operands], g.last, g, explain.label(g.nodes), explain.reason(g))
            continue
        writer = Writer(fusion, g, needed)
        draft = writer.draft()
        if not draft.body: continue
        needed |= writer.read
        for n in g.nodes:
            if n.op is SINK and n.attr[0].op.name == "put":
                move = n.attr[0].ins[0]
                needed.add(id(move))
                base = root_of(move.ins[0])[0]
                if base is move.ins[0]: written_in_place(draft, fusion.buffer(base), move, layout.laid)
        made = list(writer.made.values())
        copies = len(draft.body) == 2 and len(made) == 1 and made[0].op is MOVE
        tasks[id(g)] = Task(draft, draft.operands, draft.modes, g.last, g, explain.label(made), explain.reason(g), copies=copies)
    for t in tasks.values(): t.after = waits_for(t, tasks)
    return list(tasks.values())[::-1]


def waits_for(t: Task, tasks: dict[int, Task]) -> set[Task]:
    """The tasks that write what t reads, or fill what it writes into."""
    mine = {id(x) for x in t.buffers()}
    before = [tasks[id(p)] for p in {id(p): p for p in map(current, t.group.preds)}.values() if id(p) in tasks]
    return {p for p in before if p is not t and any([id(x) in mine for x in p.writes()])}


def place(graph: Graph, layout: Layout, fusion: Fusion, tasks: list[Task]) -> Plan:
    """Buffers get their places, drafts become nests."""
    memory = Memory(graph, layout, tasks, fusion.buffer)
    steps = []
    for task in memory.steps:
        kernel, operands = task.kernel.nest(task.label) if task.kernel.__class__ is Draft else (task.kernel, task.operands)
        places = tuple([memory.region[id(x)].place if x.__class__ is Value else Place("number", x.index) for x in operands])
        steps.append(Step(kernel, places, reason=task.reason))
    return Plan(tuple(steps), memory.outs, memory.arena)
