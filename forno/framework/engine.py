"""The conductor: it closes a window, decides what must have a value, and turns lines into a plan, a plan into launches.

`flush()` on a program seen before is: reference counts → plan → one native call → buffers. Everything else happens once per new program:

    lines → graph of values → plan (plan.make) → kernels (kernel.build) → native table (cpu.launch)
"""
from __future__ import annotations

import math
import sys
import threading
import time
from sys import getrefcount
from time import perf_counter

import numpy as np

from ..core.errors import StepError
from ..core.graph import Graph, Scalar, Value
from ..core.flags import flags
from ..core.op import TABLE, keeps
from ..core.shape import View, compose, contiguous
from ..core.state import state
from ..core.trace import trace
from ..cpu import memory
from ..core.hot import hot, know
from ..dnn.elementwise import operand_dtypes
from ..dnn.gather import lookups, out_of_range
from ..graph import spec
from ..graph.derive import at, packed_values
from ..graph.line import (INPUT, LOCAL, META, History, Leaf, Node, Poison, Run, Slice, blank, drop_trie, flush_hook, hand_over_hook, lines_alive, new, runs,
                          runs_lock)
from . import apart, device, native, oracle

EXECUTOR = oracle if flags.EXECUTOR == "oracle" else native
HOLE = object()                                # `past` of a placeholder: a node of a remembered backward that nobody can hold


def _base():
    n = new(Node)
    n.line, n.buf, n.past = blank(None), None, None
    nodes = [n]
    del n
    return tuple(map(getrefcount, nodes))[0]


def _buffer_base():
    n = new(Node)
    n.line, n.past, n.buf = blank(None), None, object()
    return [getrefcount(n.buf)][0]


BASE = _base()                                 # what getrefcount says of a node that only its window holds
BUFFER_BASE = _buffer_base()                   # and of a buffer that only its node holds


@know
class Prepared:
    """What a flush at one line, with one set of live nodes, has to do."""
    __slots__ = ("outs", "keep", "inputs", "execute", "plan", "graph")


@hot
def flush():
    """Run this thread's window and open the next one."""
    run = LOCAL.run
    if run.level is None: flush_run(run)
    else: run.level.settle()


@hot
def flush_run(run):
    """Run a window: who is still wanted, the plan for that, one call, its buffers."""
    if run.saving is not None: run.saving.pack(run)
    nodes = run.nodes
    if not nodes:
        if run.cur.prev is not None: run.open(run.grad, run.inference)
        return
    counts = tuple(map(getrefcount, nodes))    # who is still wanted: one C-level pass; an over-count only keeps more
    own = tuple([getrefcount(nodes[s].buf) == BUFFER_BASE for s in run.inputs.values()])
    key = (counts, own, tuple(run.freed))
    todo = run.cur.plans.get(key, None)
    if todo is None: todo = run.cur.plans[key] = prepare(run, counts, own)
    else: trace.hits += 1
    run.stats.flushes += 1
    if flags.CHECK: spec.fits(todo.graph, [nodes[s].buf for s in todo.inputs])
    buffers = None
    try:
        t = perf_counter()
        buffers = todo.execute([nodes[s].buf for s in todo.inputs], run.scalars)
        trace.running += perf_counter() - t
        close(run, todo, nodes, buffers)
    except BaseException as error:
        interrupted(run, todo, nodes, buffers, error)
        raise


def interrupted(run: Run, todo: Prepared, nodes, buffers, error: BaseException):
    """Close a window whose run ended with an error; only an interrupt before anything ran leaves it as it was."""
    if buffers is None: buffers = getattr(error, "buffers", None)
    if buffers is None:
        if not isinstance(error, Exception): return
        failed(run, todo, error)
    close(run, todo, nodes, buffers)           # the results are there: nothing may run twice on inputs that were written over


@hot
def close(run, todo, nodes, buffers):
    """Give the nodes their values, leave the history that a later backward needs on those that live on, and open a fresh window."""
    k: int
    outs = todo.outs
    for i in range(len(outs)): nodes[outs[i]].buf = buffers[i]
    scalars, freed = run.scalars, run.freed
    for s in todo.keep:
        n = nodes[s]
        if n.past is HOLE: n = nodes[s] = twin(n)
        line, ins = n.line, []
        k = line.scal
        for c in line.ins:
            if c.__class__ is int: ins.append(nodes[c])
            elif c.__class__ is type:
                ins.append(scalars[k])
                k += 1
            else: ins.append(scalars[c[1]])
        past = n.past
        if past is None: past = n.past = History()
        past.ins, past.run, past.freed = ins, run.id, False
        for f in freed:
            if s in f: past.freed = True
    run.open(run.grad, run.inference)
    if lines_alive[0] > lines_alive[1]:
        drop_trie()
        run.open(run.grad, run.inference)


def twin(n: Node) -> Node:
    m = new(Node)
    m.line, m.buf, m.past = n.line, n.buf, None
    return m


def prepare(run: Run, counts, own) -> Prepared:
    """A program's first flush with these values alive: find what is needed, plan it, compile it."""
    t = time.perf_counter()
    nodes = run.nodes
    lines = {l.slot: l for l in run.cur.program() if l.slot >= 0}
    todo = Prepared()
    live = [s for s, c in enumerate(counts) if lines[s].op is not INPUT and nodes[s].past is not HOLE and c > BASE]
    outs = set(live)
    keep = kept(run, lines, nodes, outs)
    outs |= saved(run, lines, keep)
    if keep: outs |= {s for s, l in lines.items() if l.op.history == "leaf" and nodes[s].past.__class__ is Leaf and s in keep[1]}
    checked = {s for s, l in lines.items() if l.op.checks(l.dtype, l.ins, int) and nodes[s].past is not HOLE and l.device != "meta"}
    if checked: outs |= checked - needed(lines, outs)      # PyTorch raises though nobody wants the result
    todo.keep = sorted(remade(run, lines, keep[0], outs)) if keep else []
    absent = [s for s in outs if lines[s].device == "meta"]            # never run
    there = sorted(outs.difference(absent))
    todo.outs = there + absent
    held = {c for s in todo.keep for c in lines[s].ins if c.__class__ is int}      # a later backward reads these: nobody may write over them
    todo.graph, todo.inputs = graph_of(run, lines, there, counts, own, held)
    bits = (tuple(todo.outs), tuple(todo.keep), todo.graph.donated)
    same = run.cur.plans.get(bits)             # other counts, same needs: never compiled twice
    if same is not None:
        todo.plan, todo.execute = same.plan, same.execute
        return todo
    if flags.CHECK: spec.verify(todo.graph)
    run.stats.plans += 1
    trace.counts["plans_made"] += 1
    trace.add("plan", t)
    todo.plan, todo.execute = (prepare_parts if elsewhere(lines) else EXECUTOR.prepare)(todo.graph, [lines[s] for s in there])
    if absent: todo.execute = followed(todo.execute, [META] * len(absent))
    run.cur.plans[bits] = todo
    return todo


def elsewhere(lines) -> bool:
    """Is any of a window on another device than the CPU?"""
    return any([l.device != "cpu" for l in lines.values()])


def prepare_parts(graph: Graph, lines):
    """What carries out a graph of several devices, part by part."""
    parts = apart.parts_of(graph)
    for p in parts:
        mine = apart.lines_of(p, graph, lines)
        _, p.execute = EXECUTOR.prepare(p.graph, mine) if p.device == "cpu" else device.prepare(p.graph, mine, p.device)
    return None, device.watched(apart.Relay(graph, parts, device.carried), {p.device for p in parts} - {"cpu"})


def followed(execute, more):
    """What `execute` gives and some more."""
    return lambda buffers, scalars: [*execute(buffers, scalars), *more]


def kept(run, lines, nodes, outs):
    """Slots whose history a later backward may walk: (vertices, leaves below them), or None."""
    todo = [s for s in outs if lines[s].grad and lines[s].op.history != "leaf"]
    if not todo: return None
    keep, leaves = set(), set()
    while todo:
        s = todo.pop()
        line = lines[s]
        if line.op is INPUT or s in keep: continue
        if line.op.history == "leaf": leaves.add(s); continue
        keep.add(s)
        if line.op.saves and any([s in f for f in run.freed]): continue
        todo.extend([c for c in line.ins if c.__class__ is int and lines[c].grad])
    return keep, leaves


def remade(run, lines, keep, outs) -> set:
    """The kept vertices, and what lies below those whose value goes away now: a backward that wants it records it again from there."""
    freed = frozenset().union(*run.freed)      # these raise before anybody asks for their values
    out, todo = set(keep), [s for s in keep if s not in outs and not (lines[s].op.saves and s in freed)]
    while todo:
        for c in lines[todo.pop()].ins:
            if c.__class__ is int and c not in out and c not in outs and lines[c].op is not INPUT and lines[c].op.history != "leaf":
                out.add(c)
                todo.append(c)
    return out


def saved(run, lines, keep) -> set:
    """Values that backward rules of the kept vertices read, as PyTorch would have saved them."""
    out = set()
    for s in keep[0] if keep else ():
        line = lines[s]
        uses = line.op.saves
        if not uses or any([s in f for f in run.freed]): continue
        packed = packed_values(run.nodes[s])
        there = () if packed is None else packed.values
        if "o" in uses and "o" not in there: out.add(s)
        for i, c in enumerate(line.ins):
            if c.__class__ is int and keeps(line.op, i) and i not in there and lines[c].op is not INPUT: out.add(c)
    return out


def needed(lines, slots) -> set:
    """Everything these slots are computed from, and themselves."""
    need, todo = set(), list(slots)
    while todo:
        s = todo.pop()
        if s in need: continue
        need.add(s)
        todo.extend([c for c in lines[s].ins if c.__class__ is int])
    return need


def graph_of(run, lines, outs, counts, own, held):
    """The part of the window that the outputs need, as the planner reads it."""
    values: dict[int, Value] = {}
    inputs: list[int] = []
    for s in sorted(needed(lines, outs)):
        l = lines[s]
        if l.op is INPUT:
            seen = l.attr[4] if l.attr[4] is not None or l.strides is None else View(l.shape, l.strides, 0)
            values[s] = Value(None, (), None, l.dtype, l.shape, l.strides, seen, len(inputs), l.device)
            inputs.append(s)
            continue
        ins, k = [], l.scal
        for c in l.ins:
            if c.__class__ is int: ins.append(values[c])
            elif c.__class__ is type: ins.append(Scalar(k, c)); k += 1
            else: ins.append(Scalar(c[1], c[0]))
        values[s] = Value(l.op, tuple(ins), l.attr, l.dtype, l.shape, l.strides, device=l.device)
    alone = dict(zip(run.inputs.values(), own))
    donated = frozenset(k for k, s in enumerate(inputs) if counts[s] == BASE and alone.get(s) and s not in held and values[s].view is None)
    leaves = {id(run.nodes[s].past): k for k, s in enumerate(inputs) if run.nodes[s].past.__class__ is Leaf and k in donated}
    prefer = {j: leaves[id(run.nodes[s].past)] for j, s in enumerate(outs) if id(run.nodes[s].past) in leaves and run.nodes[s].past.__class__ is Leaf}
    return Graph(tuple(values[s] for s in inputs), tuple(values[s] for s in outs), donated, prefer), inputs


# ---------------------------------------------------------------- when a window fails
def failed(run: Run, todo: Prepared, error: Exception):
    """Close a window whose plan failed, and raise PyTorch's error.

    PyTorch would have stopped at the failing line. So a value that doesn't depend on it is computed now, on its own; one that does raises the
    error again whoever reads it; and a tensor that such a value was written into keeps its old value.
    """
    nodes = run.nodes
    lines = {l.slot: l for l in run.cur.program() if l.slot >= 0}
    made, spoiled = ({todo.outs[j]: b for j, b in error.made.items()}, {todo.inputs[i] for i in error.spoiled}) if isinstance(error, StepError) else ({}, set())
    for s, b in made.items(): nodes[s].buf = b
    culprit, error = blame(run, lines, error, spoiled)
    for s in todo.outs:
        if s not in made: nodes[s].buf = META if lines[s].device == "meta" else rescued(run, lines, s, error, culprit, spoiled)
    slots = {id(n): s for s, n in enumerate(nodes)}
    lost = [s for s in todo.outs if nodes[s].buf.__class__ is Poison and lines[s].device != "meta"]
    for s, buf in [(s, former(run, lines, slots, s, error, culprit, spoiled)) for s in lost]:
        if buf is not None: nodes[s].buf = buf
    for n in nodes:                            # a gradient that is lost was never accumulated
        if n.past.__class__ is Leaf and n.past.grad is not None and gradient(n.past).buf.__class__ is Poison and n.line.device != "meta": n.past.grad = None
    close(run, todo, nodes, [nodes[s].buf for s in todo.outs])
    raise error


def gradient(leaf: Leaf) -> Node: return leaf.grad.node if leaf.grad.alias is None else leaf.grad.alias.store.node


def former(run, lines, slots, s, error, culprit, spoiled):
    """What the memory of slot s held before the write that failed; None if it was no write, has a history of its own, or its old value is lost."""
    n, line = run.nodes[s], lines[s]
    if n.past.__class__ is Leaf: return earlier(run, lines, s, error, culprit, spoiled)
    if line.grad or line.op is INPUT: return None
    old = getattr(n, "over", None)
    for m in run.held:
        if id(m) == old: return m.buf
    k = slots.get(old)
    if k is not None and k < s:
        before = culprit is None or k < culprit or lines[k].op is INPUT        # a first half of an update is none
        buf = rescued(run, lines, k, error, culprit, spoiled) if before else None
        return former(run, lines, slots, k, error, culprit, spoiled) if buf is None or buf.__class__ is Poison else buf
    if line.op.history is not None: return former(run, lines, slots, line.ins[-1], error, culprit, spoiled)
    if line.op.name != "view": return None
    buf = former(run, lines, slots, line.ins[0], error, culprit, spoiled)
    return None if buf is None else through(buf, lines[line.ins[0]], line)


def earlier(run, lines, s, error, culprit, spoiled):
    """The last value of a leaf before the failing line, if there is one."""
    nodes = run.nodes
    for k in range(s - 1, -1, -1):
        if nodes[k].past is nodes[s].past and (culprit is None or k < culprit or lines[k].op is INPUT):
            buf = rescued(run, lines, k, error, culprit, spoiled)
            if buf.__class__ is not Poison: return buf
    return None


def through(buf, below, line):
    """A buffer, laid out as line `below` says, seen through the view `line`; None if no view shows it."""
    base, memory_of = (buf.view, buf.buffer) if buf.__class__ is Slice else (View(below.shape, below.strides or contiguous(below.shape), 0), buf)
    view = compose(base, line.attr)
    if view is None: return None
    whole = view == View(line.shape, line.strides or contiguous(line.shape), 0) and memory_of.nbytes == math.prod(line.shape) * line.dtype.size
    return memory_of if whole else Slice(memory_of, view, line.dtype.size)


def rescued(run, lines, s, error, culprit, spoiled):
    """The buffer of one output, or Poison."""
    need = needed(lines, [s])
    if culprit in need or need & spoiled: return Poison(error)
    try: return alone(run, lines, s)
    except Exception as again: return Poison(blame(run, lines, again, spoiled)[1])


def alone(run, lines, s):
    """The buffer of one value, computed apart from the window's plan; its inputs are left alone."""
    if lines[s].op is INPUT: return run.nodes[s].buf
    graph, inputs = graph_of(run, lines, [s], (0,) * len(run.nodes), (False,) * len(run.inputs), ())
    _, execute = (prepare_parts if elsewhere(lines) else EXECUTOR.prepare)(graph, [lines[s]])
    return execute([run.nodes[i].buf for i in inputs], run.scalars)[0]


def blame(run, lines, error, spoiled):
    """(slot, error) of the first line whose values PyTorch refuses; where none can be looked at any more, the only line that can be meant."""
    if not isinstance(error, StepError): return None, error
    if isinstance(error.cause, Exception): return refused(run, lines, error, spoiled), error.cause
    row, index, size = error.cause
    if size is None: return broken_check(run, lines, TABLE[row], spoiled)
    unseen = []
    for s, line in lines.items():
        if line.op.name != row and not line.op.name.endswith("_mean"): continue      # means are made of several
        for k, axis, n, low in lookups(line.op, line.attr, [lines[c] for c in line.ins]):
            k = line.ins[k]
            if run.nodes[k].buf is None and needed(lines, [k]) & spoiled:
                if n == size: unseen.append((s, axis))
                continue
            try: values = oracle.load(lines[k], run.nodes[k].buf or alone(run, lines, k))
            except StepError: continue         # it depends on another line that fails
            wrong = values[(values < low) | (values >= n)]
            if wrong.size: return first_check(run, lines, s, spoiled) or (s, refusal(lines[s], axis, int(wrong[0]), n))
    if len(unseen) == 1: return unseen[0][0], refusal(lines[unseen[0][0]], unseen[0][1], index, size)
    return None, IndexError(f"index {index} is out of bounds for dimension with size {size} (in {row})")


def refused(run, lines, error, spoiled):
    """The slot of the line whose library call raised, or None."""
    mine = [s for s, line in lines.items() if line.op is error.row]
    for s in mine if len(mine) > 1 else ():
        if needed(lines, [s]) & spoiled: continue
        try: alone(run, lines, s)
        except StepError: return s
    return mine[0] if len(mine) == 1 else None


def first_check(run, lines, before, spoiled):
    """(slot, error) of the first line before this one whose row's check fails, or None."""
    for s, line in lines.items():
        if s >= before or not line.op.checks(line.dtype, line.ins, int) or needed(lines, [c for c in line.ins if c.__class__ is int]) & spoiled: continue
        try: arrays = operands(run, lines, s)
        except StepError: continue             # it depends on another line that fails
        if line.op.check.oracle(*arrays).any(): return s, located(line.op.check.error(line.attr, *arrays), line)


def broken_check(run, lines, row, spoiled):
    """The same for a row's check."""
    found = first_check(run, lines, math.inf, spoiled)
    if found is not None: return found
    mine = [s for s, line in lines.items() if line.op is row]
    if len(mine) != 1: return None, row.check.error(lines[mine[0]].attr if mine else None)
    return mine[0], located(row.check.error(lines[mine[0]].attr), lines[mine[0]])


def operands(run, lines, s) -> list:
    """A line's operands as arrays of the types it computes in."""
    line, out, k = lines[s], [], lines[s].scal
    for c in line.ins:
        if c.__class__ is int: out.append(oracle.load(lines[c], run.nodes[c].buf or alone(run, lines, c)))
        elif c.__class__ is type: out.append(run.scalars[k]); k += 1
        else: out.append(run.scalars[c[1]])
    types = operand_dtypes(line.op, [lines[c] if c.__class__ is int else c if c.__class__ is type else c[0] for c in line.ins])
    return [np.asarray(x).astype(t.opmath.code) for x, t in zip(out, types)]


def refusal(line, axis, index, size):
    """PyTorch's error with the user's own line."""
    return located(out_of_range(line.op, line.attr, axis, index, size, len(line.shape)), line)


def located(error, line): return type(error)(f"{error}{at(line)}")


# ---------------------------------------------------------------- other threads' windows
def hand_over(n: Node):
    """Run the window of the thread that recorded n, so that this thread can use its value.

    That thread may be anywhere in Python, but not inside forno: windows are not locked, because their hot path is a few bytecodes. It goes on in a
    fresh window at once, because running the old one lets go of the GIL.
    """
    deadline = time.monotonic() + 60
    me = threading.get_ident()
    while n.buf is None:
        with runs_lock: found = [(i, r) for i, r in runs if i != me and 0 <= n.line.slot < len(r.nodes) and r.nodes[n.line.slot] is n]
        if not found:
            if n.buf is not None: return       # its own thread was faster
            raise RuntimeError(f"the value of {n.line} was lost: its thread ended before the value was computed")
        ident, run = found[0]
        interval, mine = sys.getswitchinterval(), None
        sys.setswitchinterval(1000)            # between the look at that thread's frames and the taking of its window nothing else may run Python
        try:
            if not inside_forno(sys._current_frames().get(ident)):
                mine = me, run.detach()
                runs.append(mine)              # who needs a value of it meanwhile finds it here, and waits
        finally: sys.setswitchinterval(interval)
        if mine is not None:
            try: flush_run(mine[1])
            finally:
                with runs_lock: runs.remove(mine)
            return
        if time.monotonic() > deadline: raise RuntimeError("another thread kept its tensors busy for a minute; synchronize the threads before sharing tensors")
        time.sleep(0.0005)


def inside_forno(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(HERE): return True
        frame = frame.f_back
    return False


HERE = __file__[:-len("framework/engine.py")]
flush_hook[0] = flush
hand_over_hook[0] = hand_over
state.memory = memory.machine_bytes()
