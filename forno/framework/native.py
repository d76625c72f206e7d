"""From a graph to native calls: plan it, compile its kernels, lay out its value table.

The value table is a row of 8-byte words: addresses of inputs, addresses of outputs, Python numbers; the launcher adds the arena's places.
"""
from __future__ import annotations

import ctypes
import functools
import math
import struct
import time
from struct import error as StructError

import numpy as np

from ..core import collector
from ..core.errors import StepError
from ..core.flags import flags
from ..core.graph import Graph, Scalar
from ..core.kernels import DeviceCall, Host, Native, Nest
from ..core.plan import Place, Plan
from ..core.shape import View, as_numpy_strided, contiguous, reach, whole
from ..core.trace import trace
from ..cpu import launch, memory
from ..cudart import memory as device_memory
from ..core.hot import hot, know
from ..graph.line import Slice
from ..kernel.abi import CHECK_ERROR
from ..kernel.build import accepts, build_all
from ..plan import make
from ..show import ladder
from . import host

_FORMAT = {int: "q", bool: "q", float: "d", complex: "dd"}


def prepare(graph: Graph, lines):
    with collector.Waiting(): return prepared(graph, lines)


def prepared(graph: Graph, lines):
    plan, t = planned(graph)
    kernels = [s.kernel for s in plan.steps]
    built = iter(build_all([k for k in kernels if not isinstance(k, Host)]))
    run = Runner(graph, plan, lines, [None if isinstance(k, Host) else next(built) for k in kernels])
    trace.add("compile", t)
    if flags.SHOW >= 2: ladder.planned(plan, run.launches)
    return plan, functools.partial(carry_out, run)


def planned(graph: Graph, accepts=accepts, halves=False):
    """A plan that no failing step can lose an input by, and the time it was ready."""
    t = time.perf_counter()
    plan = make(graph, accepts, halves)
    for last in (False, True):                 # what an output can't take over it may take from another input, so the second time it gets none
        lost = endangered(plan)
        if not lost: break
        kept = frozenset() if last else graph.donated - lost
        plan = make(graph._replace(donated=kept, prefer={j: k for j, k in graph.prefer.items() if k in kept}), accepts, halves)
    return plan, trace.add("plan", t)


def fails(kernel) -> bool:
    """Can values make a step fail?"""
    if kernel.__class__ is Native: return kernel.name in ("take", "scatter")
    return kernel.__class__ is Host or kernel.__class__ is Nest and kernel.checks


def intact(kernel) -> bool:
    """Does a step that fails leave alone what it would have written? A scatter looks at every index first."""
    return kernel.__class__ is Native and kernel.name == "scatter"


def writers(plan: Plan) -> dict:
    """Place -> the steps that write there."""
    wrote: dict = {}
    for k, s in enumerate(plan.steps):
        for p, o in zip(s.places, s.kernel.operands):
            if "w" in o.mode: wrote.setdefault(p, []).append(k)
    return wrote


def endangered(plan: Plan) -> frozenset:
    """Inputs to be written over that would be lost, half written, if a step failed: state must survive that, so such a plan is made without them."""
    risky = [k for k, s in enumerate(plan.steps) if fails(s.kernel)]
    if not risky or not any(o.kind == "donated" for o in plan.outs): return frozenset()
    wrote, out = writers(plan), set()
    for j, o in enumerate(plan.outs):
        if o.kind != "donated": continue
        mine = wrote.get(o.source, []) + wrote.get(Place("out", j), [])
        if any(min(mine) < k <= max(mine) or k == min(mine) and not intact(plan.steps[k].kernel) for k in risky if mine): out.add(o.source.index)
    return frozenset(out)


def word(x):
    """A number as a 64-bit word: whole numbers up to 2^64 wrap around, as in PyTorch."""
    if x.__class__ is not int or -1 << 63 <= x < 1 << 63: return x
    if 0 < x < 1 << 64: return x - (1 << 64)
    raise OverflowError("int too big to convert")


def copied(line) -> bool:
    """Is this output, which needs no kernel, a copy of an input (clone, contiguous) and no mere view of it?"""
    if line.op.name in VIEWS and line.prev.op.name == "input": return False
    lines = {l.slot: l for l in line.program()}
    while line.op.name in VIEWS: line = lines[line.ins[0]]
    return line.op.name != "input"


VIEWS = ("view", "detach", "gradleaf")


def private(buffer, view, line):
    """A copy of memory that something outside sees: what is written there must not reach it."""
    out = gathered(buffer, view, line)
    return out if line.strides is None else Slice(out, whole(line.shape), line.dtype.size)


def gathered(buffer, view, line):
    """A value that lies scattered in some buffer, row-major in one of its own."""
    if buffer.device != "cpu": return gathered_there(buffer, view, line)
    out = memory.empty(math.prod(line.shape) * line.dtype.size)
    if out.nbytes: elements(out, line.dtype).reshape(line.shape)[...] = as_numpy_strided(elements(buffer, line.dtype), view)
    return out


def gathered_there(buffer, view, line):
    """The same on a device; a value with gaps goes through the host."""
    size = line.dtype.size
    nbytes = math.prod(line.shape) * size
    out = device_memory.empty(nbytes, buffer.device)
    if view.strides == contiguous(view.shape): device_memory.copy(buffer.device, buffer.address + view.offset * size, nbytes, out.address)
    elif nbytes:
        straight = gathered(*spanned(buffer, view, size), line)
        device_memory.send_to(buffer.device, straight.address, nbytes, out.address)
    return out


def spanned(buffer, view: View, size: int):
    """All that a view of a buffer reaches, on the host, and the view of that."""
    if buffer.device == "cpu": return buffer, view
    first, last = reach(view)
    out = memory.empty((last - first + 1) * size)
    device_memory.fetch_from(buffer.device, buffer.address + first * size, out.nbytes, out.address)
    return out, view._replace(offset=view.offset - first)


def elements(buffer, dtype) -> np.ndarray:
    """A buffer's memory as one row of elements."""
    return np.frombuffer((ctypes.c_char * buffer.nbytes).from_address(buffer.address), dtype.code, buffer.nbytes // dtype.size)


NOTHING = [], []
UNSEEN = object()
FORMS: dict[tuple, int] = {}                   # of what kernels keep, numbered: a number is found sooner than a tuple


@hot
def carry_out(runner, buffers, scalars):
    """Call a plan: buffers of the inputs and the run's numbers in, buffers of the outputs out."""
    k: int
    j: int
    result = [None] * runner.outs
    words = [b.address for b in buffers]
    address = [0] * runner.outs
    for j, n in runner.made:
        b = result[j] = memory.empty(n)
        address[j] = b.address
    for j, k in runner.taken:
        b = result[j] = buffers[k]
        address[j] = b.address
        if b.kept: b.kept = None
    if runner.table is not None:
        words = words + address + [scalars[k] for k in runner.numbers]
        if runner.complex: words = halved(words)
        kept, fresh = lent(runner.keeps, buffers) if runner.keeps else NOTHING
        words = words + kept
        try: vals = runner.pack(*words)
        except StructError: vals = runner.pack(*wrapped(words))
        if runner.stops: runner.stop_and_go(vals, buffers, result)
        elif flags.SHOW: runner.show(vals, buffers, result)
        else:
            begun = runner.table.call[5]
            try: error = launch.run(runner.table, vals)
            except KeyboardInterrupt as interrupt:
                runner.interrupted(begun, interrupt, buffers, result)
                raise
            if error is not None: runner.refuse(error, buffers, result)
        for known, form, made in fresh: known[form] = made
    if runner.seen or runner.alias: return shown(runner, buffers, result)
    return result


@hot
def lent(keeps, buffers):
    """(addresses of what kernels kept of inputs, 0: nothing; what they fill in this run). Nothing is kept of values seen for the first time: in training
    it is the last time, too."""
    i: int
    addresses, new = [], []
    for i, form, nbytes in keeps:
        b, address = buffers[i], 0
        if b.__class__ is memory.Block and b.kept is not False:
            if b.kept is None: b.kept = {}
            made = b.kept.get(form, UNSEEN)
            if made is UNSEEN: b.kept[form] = None
            elif made is None:
                made = memory.empty(nbytes)
                new.append((b.kept, form, made))
                address = made.address + 1
            else: address = made.address
        addresses.append(address)
    return addresses, new


@hot
def shown(runner, buffers, result):
    """Outputs that see the memory of an input or of another output."""
    i: int
    j: int
    for j, view in runner.seen: result[j] = Slice(result[j], view, runner.lines[j].dtype.size)
    for j, given, i, view, dense in runner.alias:
        b = buffers[i] if given else result[i]
        if b.__class__ is Slice:
            if given: view = further(view, b.view)
            b = b.buffer
        if j in runner.copies and b.exposed: result[j] = private(b, view, runner.lines[j])
        elif dense and view.offset == 0 and b.nbytes == runner.nbytes[j]: result[j] = b
        else: result[j] = Slice(b, view, runner.lines[j].dtype.size)
    return result


def further(view: View, base: View) -> View:
    """A plan knows an input from its first element on."""
    return view._replace(offset=view.offset + base.offset)


def halved(words) -> list: return [y for x in words for y in ((x.real, x.imag) if x.__class__ is complex else (x,))]
def wrapped(words) -> list: return list(map(word, words))


@know
class Runner:
    """Calls a plan: buffers of the inputs and the run's numbers in, buffers of the outputs out."""

    __slots__ = ("plan", "lines", "nins", "numbers", "complex", "pack", "launches", "parts", "stops", "table", "made", "seen", "taken", "alias", "copies", "outs", "nbytes", "keeps")

    def __init__(self, graph: Graph, plan: Plan, lines, launches):
        self.plan, self.lines, self.launches = plan, lines, launches
        self.nins, outs = len(graph.inputs), len(graph.outputs)
        types = numbers_of(graph)
        used = sorted({p.index for s in plan.steps for p in s.places if p.kind == "number"})
        where, at = {}, self.nins + outs
        for k in used:
            where[k] = at
            at += 2 if types[k] is complex else 1
        self.numbers = used
        self.keeps = []                        # (input, number of the form, bytes): what kernels may keep of inputs that the plan only reads
        lent = {}                              # step -> position of that memory's address
        written = {o.source.index for o in plan.outs if o.kind == "donated"}
        for n, (s, k) in enumerate(zip(plan.steps, self.launches)):
            place = s.places[k.keeps.operand] if k is not None and k.keeps else None
            if place is None or place.kind != "in" or place.index in written: continue
            lent[n] = at + len(self.keeps)
            self.keeps.append((place.index, FORMS.setdefault(k.keeps.form, len(FORMS)), k.keeps.nbytes))
        at += len(self.keeps)
        self.complex = any(types[k] is complex for k in used)
        self.pack = struct.Struct(f"{self.nins + outs}q" + "".join(_FORMAT[types[k]] for k in used) + "q" * len(self.keeps)).pack
        offsets: dict[int, int] = {}

        def position(place):
            if place.kind == "in": return place.index
            if place.kind == "out": return self.nins + place.index
            if place.kind == "number": return where[place.index]
            return at + offsets.setdefault(place.index, len(offsets))
        steps, self.parts = [], []             # parts: ('native', first, last), ('host', step, places) and ('call', step, places, DeviceCall)
        for n, (s, k) in enumerate(zip(plan.steps, self.launches)):
            if k is None or k.__class__ is DeviceCall:
                operands = [position(p) for p in s.places]
                self.parts.append(("host", s, operands) if k is None else ("call", s, operands, k))
                continue
            trace.counts["kernels_built"] += 1
            steps.append(self.step(s, k, [position(p) for p in s.places], lent.get(n)))
            if self.parts and self.parts[-1][0] == "native": self.parts[-1] = ("native", self.parts[-1][1], len(steps))
            else: self.parts.append(("native", len(steps) - 1, len(steps)))
        self.stops = any(p[0] != "native" for p in self.parts)
        self.table = self.table_of(steps, at, plan.arena, tuple(offsets)) if steps or self.stops else None
        self.made = [(j, o.nbytes) for j, o in enumerate(plan.outs) if o.kind == "fresh"]
        self.seen = [(j, o.view) for j, o in enumerate(plan.outs) if o.kind != "alias" and o.view is not None]
        self.taken = [(j, o.source.index) for j, o in enumerate(plan.outs) if o.kind == "donated"]
        self.alias = [(j, o.source.kind == "in", o.source.index, o.view, self.dense(j, o)) for j, o in enumerate(plan.outs) if o.kind == "alias"]
        self.copies = {j for j, given, *_ in self.alias if given and copied(lines[j])}
        self.outs = outs
        self.nbytes = [math.prod(l.shape) * l.dtype.size for l in lines]

    def step(self, s, k, positions: list, lent: int | None) -> tuple:
        """What the table is told of one step."""
        words = [*positions, *k.words]
        if lent is not None: words[k.keeps.word] = lent
        return k.program.address, tuple(words), k.parallel, k.scratch, k.shared, k.choices

    def table_of(self, steps, nvals, arena, offsets): return launch.Table(steps, nvals, arena, offsets)

    def dense(self, j, out) -> bool:
        """Is an aliased output all of a buffer that lies as its line says?"""
        line = self.lines[j]
        return tuple(out.view) == (line.shape, line.strides or contiguous(line.shape), 0)

    def show(self, vals, buffers, result):
        """A call with its steps' times printed."""
        error, seconds = self.table.timed(vals)
        ladder.ran(self.plan, seconds)
        if error is not None: self.refuse(error, buffers, result)

    def interrupted(self, begun: int, interrupt: KeyboardInterrupt, buffers, result):
        """An interrupt that came with a call finds the results there, or nothing done."""
        if self.table.begun == begun: return   # nothing ran: the window is as it was
        error = self.table.error()
        if error is not None: self.refuse(error, buffers, result)
        interrupt.buffers = shown(self, buffers, result)

    def stop_and_go(self, vals, buffers, result):
        """Native parts and host steps in turn. An interrupt waits for the end: inputs may have been written over by then."""
        frame, held = self.table.frame(vals), None
        for part in self.parts:
            begun = self.table.begun
            try: self.part(part, frame, buffers, result)
            except KeyboardInterrupt as interrupt:
                held = interrupt
                if part[0] == "host" or self.table.begun == begun: self.part(part, frame, buffers, result)
        if held is not None:
            held.buffers = shown(self, buffers, result)
            raise held

    def part(self, part, frame, buffers, result):
        if part[0] == "native":
            error = self.table.run_part(frame, part[1], part[2])
            if error is not None: self.refuse(error, buffers, result)
            return
        try: host.call(part[1].kernel, [struct.unpack_from("q", frame.vals, 8 * p)[0] for p in part[2]])
        except Exception as error: self.fail(error, part[1], buffers, result)

    def refuse(self, error, buffers, result):
        step = [s for s in self.plan.steps if not isinstance(s.kernel, Host)][error.step]
        broken = error.code == CHECK_ERROR
        self.fail((step.kernel.body[error.index].op.name, None, None) if broken else (step.kernel.label, error.index, error.size), step, buffers, result)

    def fail(self, cause, step, buffers, result):
        """Say which outputs are complete and which inputs are lost after a failure in `step`."""
        at = next(k for k, s in enumerate(self.plan.steps) if s is step)
        wrote, clean = writers(self.plan), intact(step.kernel)
        spoiled, made = set(), {}
        for j, i in self.taken:
            mine = wrote.get(("in", i), []) + wrote.get(("out", j), [])
            if min(mine, default=at + 1) <= at - clean: spoiled.add(i)
            if max(mine, default=-1) < at: made[j] = buffers[i]
        for j, _ in self.made:
            if max(wrote.get(("out", j), []), default=-1) < at: made[j] = result[j]
        seen = shown(self, buffers, list(result))
        whole = {j for j, given, i, *_ in self.alias if (i not in spoiled if given else i in made)} | set(made)
        row = step.kernel.op if isinstance(step.kernel, Host) else None
        raise StepError(cause, {j: seen[j] for j in whole}, spoiled, row) from (cause if isinstance(cause, Exception) else None)


def numbers_of(graph: Graph) -> dict:
    """Types of the Python numbers a graph uses, by position."""
    types, todo, seen = {}, list(graph.outputs), set()
    while todo:
        v = todo.pop()
        if id(v) in seen: continue
        seen.add(id(v))
        for x in v.ins:
            if isinstance(x, Scalar): types[x.index] = x.type
            else: todo.append(x)
    return types
