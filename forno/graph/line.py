"""Lines and nodes: what a program did, and what this run of it computed.

A **Line** is static: a row applied to earlier slots, with dtype, shape and gradient flag. Lines form a trie; a line's place in it is its
whole past in this window, so an equal line means an equal program so far, and everything that costs time (promotion, shape rules,
gradients, plans) is done when a line is made and found again when it is walked.

A **Node** is one run's immutable value of a line. Its memory is `buf`: None while pending, a Buffer (dense, laid out by the line's
strides), or a Slice of a buffer that another node owns too.

A **Run** is the open window of one thread: the current line, its nodes by slot, and this run's Python numbers.
"""
from __future__ import annotations

import math
import sys
import threading

from ..core.dtype import FLOAT
from ..core.errors import OutOfMemoryError
from ..core.flags import flags
from ..core.hot import hot, know
from ..core.op import Op, dtype_of, keeps
from ..core.state import state
from ..core.shape import View, broadcast_layout, dense_layout, exactly

new = object.__new__


@know
class Line:
    """`ins` codes operands: a slot (int), a fresh number (its type) or an earlier number of this run ((type, position))."""
    __slots__ = ("op", "key", "ins", "i", "j", "attr", "dtype", "shape", "strides", "grad", "slot", "nslots", "nscal", "scal", "prev", "next", "alts",
                 "plans", "memo", "source", "phrases", "where", "memory", "bytes", "loose", "crowded", "ends", "inference", "title", "device", "free")

    def __repr__(self):
        args = ", ".join(f"%{c}" if c.__class__ is int else c.__name__ if isinstance(c, type) else f"{c[0].__name__}#{c[1]}" for c in self.ins or ())
        attr = "" if self.attr is None else f" {self.attr}"
        kind = "" if self.dtype is None else f" : {self.dtype.name}{list(self.shape)}{' grad' if self.grad else ''}"
        return f"%{self.slot} = {self.op} ({args}){attr}{kind}"

    def program(self) -> list[Line]:
        """Every line of this window up to here, first to last."""
        out, line = [], self
        while line.prev is not None: out.append(line); line = line.prev
        return out[::-1]


@know
class Node:
    """`past`: None; a Leaf (gradient is collected here); or a History (set when a window closes and a backward may still come).

    `over`, where set: the id of the node whose place in a tensor's memory this one took, in the same window. `within`, where set: the last check
    that its values passed. `apart`, where set: other runs have a value of another length here, so this one is no part of the program;
    the room it can grow in, or None."""
    __slots__ = ("line", "buf", "past", "over", "within", "apart", "__weakref__")

    def __repr__(self): return f"<node {self.line} {'pending' if self.buf is None else 'done'}>"


@know
class Slice:
    """A node's value inside memory that it doesn't own alone: `view`, in elements of `size` bytes, of a buffer. Kernels are given its address and
    `shape`, the view without its offset, so that programs which differ only in where a slice starts are one program."""
    __slots__ = ("buffer", "view", "start", "shape")

    def __init__(self, buffer, view: View, size: int):
        offset = view.offset
        self.buffer, self.view, self.shape, self.start = buffer, view, view._replace(offset=0) if offset else view, offset * size

    @property
    def exposed(self): return self.buffer.exposed

    @property
    def device(self): return self.buffer.device

    @property
    def address(self): return self.buffer.address + self.start


@know
class Leaf:
    """Where gradients of a leaf arrive: PyTorch's AccumulateGrad. Survives in-place updates of the leaf."""
    __slots__ = ("grad", "hooks", "after", "owner", "__weakref__")

    def __init__(self): self.grad = self.hooks = self.after = self.owner = None      # owner: a weak reference to the tensor, for people who look at graphs


@know
class History:
    """What a later backward needs of a node whose window is closed: operands, numbers, and whether its saved values were freed.

    While the window is open only `hooks` is used. Operands form a DAG, so reference counts free it as precisely as PyTorch's graph.
    """
    __slots__ = ("run", "ins", "freed", "hooks", "ctx")

    def __init__(self): self.run = self.ins = self.hooks = self.ctx = None; self.freed = False


class Poison:
    """In place of a buffer whose computation failed, or that there never was (META): reading it raises the same error again."""
    __slots__ = ("kept",)
    exposed = False

    def __init__(self, error): self.kept = error

    @property
    def error(self): return NotImplementedError("Cannot copy out of meta tensor; no data!") if self.kept is None else self.kept

    @property
    def device(self): return "meta" if self.kept is None else "cpu"


META = Poison(None)                            # the one buffer of all tensors on device "meta"; their lines are recorded and never run


class Marker(Op):
    """Lines that compute nothing: inputs of the window and changes of ambient state."""


def _marker(name): m = object.__new__(Marker); object.__setattr__(m, "name", name); return m


INPUT, MODE, BACKWARD, ROOT = map(_marker, ("input", "mode", "backward", "root"))
LEAF, HISTORY, PLAIN = 2, 1, 0                 # what an input line says of its node's gradient
INFERENCE = 4                                  # … and that its node was made in inference mode


@know
class Run:
    __slots__ = ("cur", "nodes", "scalars", "inputs", "freed", "held", "id", "unmemo", "grad", "inference", "autocast", "hold", "stats", "eager", "level", "saving", "journal")

    def __init__(self):
        self.stats, self.level = Stats(), None             # level: a function under vmap records here (framework.batching)
        self.saving = self.journal = None      # hooks on kept values (framework.saving); what a call does that may be remembered
        self.id, self.hold = 0, 0
        self.autocast = None                   # the narrow type that some functions cast their arguments to (framework.autocast); lasts from window to window
        self.open(True, False)

    @hot
    def open(self, grad, inference):
        """Start a fresh window under these modes."""
        self.cur, self.grad, self.inference = _root(grad, inference, self.autocast), grad, inference
        self.nodes, self.scalars, self.inputs, self.freed = [], [], {}, []
        self.held = []                         # nodes that were replaced in place, and that only this list keeps
        _ids[0] += 1
        self.id = _ids[0]
        self.unmemo = self.eager = False

    def detach(self) -> Run:
        """The window as it stands, for another thread to run; this one goes on in a fresh window."""
        old = new(Run)
        for name in Run.__slots__: setattr(old, name, getattr(self, name))
        self.open(self.grad, self.inference)
        return old


class Journal:
    """What a call that may be said again does besides recording lines. `checks`: (tensor, key, check) of values. `drawn`: (node, shape, dtype, count, fill) of
    random numbers. `gradients`: it looks at them. `rates`: (optimizer, group, step, numbers) of updates; `ticks`: (optimizer, parameter, counter, step).
    `refusal`: why it can't be said again. `look`: who is asked for a tensor's value, where that isn't just the value."""
    __slots__ = ("checks", "drawn", "gradients", "rates", "ticks", "refusal", "look")

    def __init__(self): self.checks, self.drawn, self.gradients, self.rates, self.ticks, self.refusal, self.look = [], [], False, [], [], None, None

    def told(self, other: Journal):
        """A call inside this one did that."""
        for name in ("checks", "drawn", "rates", "ticks"): getattr(self, name).extend(getattr(other, name))
        self.gradients |= other.gradients
        self.refusal = self.refusal or other.refusal


@know
class Stats:
    """Counters the budget tests read, and whoever must know what a call did. `looks`: values that left as values;
    `said`: calls said again."""
    __slots__ = ("lines", "plans", "flushes", "derived", "remembered", "looks", "said")

    def __init__(self): self.lines = self.plans = self.flushes = self.derived = self.remembered = self.looks = self.said = 0

    def __repr__(self): return " ".join(f"{k}={getattr(self, k)}" for k in self.__slots__)


_ids = [0]                                     # windows so far


def blank(op) -> Line:
    e = new(Line)
    e.op, e.key, e.ins, e.attr, e.dtype, e.shape, e.strides, e.grad, e.slot = op, None, (), None, None, None, None, False, -1
    e.i = e.j = e.scal = e.where = e.prev = e.memo = e.source = e.phrases = e.memory = e.title = None
    e.nslots = e.nscal = e.bytes = 0
    e.next, e.alts, e.plans, e.loose, e.crowded, e.ends, e.inference = END, {}, {}, False, False, False, False
    e.device, e.free = "cpu", False            # "cpu", "meta" (it will never have a value) or "cuda:0" …; a constant that goes along to any device
    return e


END = None
END = blank(None)
_roots: dict[tuple, Line] = {}


@hot
def _root(grad, inference, autocast):
    key = grad, inference, autocast, state.default_dtype, state.deterministic, state.rounding          # a window starts in the ambient state that the one before it ended in
    root = _roots.get(key, None)
    if root is None: root = _roots[key] = blank(ROOT)
    return root


def drop_trie():
    """Forget every recorded program (bounded memory for programs that never repeat). Open windows keep their own lines."""
    _roots.clear()
    _moving.clear()
    lines_alive[0] = 0


lines_alive = [0, 400_000]                    # and how many there may be, at about 0.4 KB each


class _Local(threading.local):
    def __init__(self):
        self.run = Run()
        with runs_lock:
            alive = {t.ident for t in threading.enumerate()}
            runs[:] = [(i, r) for i, r in runs if i in alive or r.nodes]
            runs.append((threading.get_ident(), self.run))


runs: list[tuple[int, Run]] = []               # every thread's window; one whose thread ended stays while it is pending
runs_lock = threading.Lock()
LOCAL = _Local()


class Ref:
    """A Python number of this run by its position, so that gradient rules keep its value out of the lines. index None: not in this run yet."""
    __slots__ = ("type", "index", "value")

    def __init__(self, type, index, value): self.type, self.index, self.value = type, index, value


def slot_of(run: Run, n: Node) -> int:
    s = n.line.slot
    nodes = run.nodes
    if 0 <= s < len(nodes) and nodes[s] is n: return s
    s = run.inputs.get(id(n))
    if s is None: s = enter(run, n)
    return s


def enter(run: Run, n: Node) -> int:
    """A value from outside becomes an input line of this window."""
    if run.level is not None: return run.level.enter(n)
    e = run.cur.next
    if e.source is n.line and enter_again(run, n, e): return e.slot
    buf = n.buf
    if buf is None:                            # pending in another thread's window: that window runs first
        hand_over_hook[0](n)
        buf = n.buf
    if buf.__class__ is Poison and buf is not META: raise buf.error
    if buf.exposed and (buf.device == "cpu" or (buf.buffer if buf.__class__ is Slice else buf)._readable is not None):
        # memory that something outside sees is read now, not at the flush; graphs of devices run between windows
        if run.hold == 0 and (buf.device != "cpu" or buf_bytes(n) > SNAPSHOT): run.eager = True
        else: return enter(run, snapshot_hook[0](n))
    line = n.line
    kind = PLAIN if not line.grad else LEAF if n.past.__class__ is Leaf else HISTORY
    if line.inference: kind |= INFERENCE
    key = id(n)
    e = advance(run, INPUT, (), (line.dtype, line.shape, kind, line.strides, buf.shape if buf.__class__ is Slice else None, line.memory, line.device))
    e.source = line
    s = run.inputs[key] = e.slot               # no call from here on: an interrupt finds the input entered, or not at all
    run.nodes.append(n)
    return s


@hot
def enter_again(run, n, e):
    """Let n in by input line e, which it, or its like of an earlier run (e.source), came in by last time; False where something is different now."""
    buf = n.buf
    if buf.__class__ in ODD or e.attr[4] is not None or id(n) in run.inputs or (buf._writable is not None or buf._readable is not None) and buf.exposed: return False
    if n.line.grad and (n.past.__class__ is Leaf) is not (e.attr[2] & LEAF != 0): return False
    run.inputs[id(n)] = e.slot
    run.cur = e
    run.nodes.append(n)
    return True


ODD = frozenset((Slice, Poison, type(None)))   # what may stand where a node has its own buffer
SNAPSHOT = 1 << 16                             # bytes up to which a copy is cheaper than running the window early
hand_over_hook = [None]                        # the engine's flush of another thread's window
snapshot_hook = [None]                         # framework.data's private copy of a node


def buf_bytes(n: Node) -> int: return math.prod(n.line.shape) * n.line.dtype.size


_given: dict = {}


def given(buf, dtype, shape, strides=None, memory=None, grad=False, inference: bool | None = None, device: str | None = None) -> Node:
    """A node for memory that exists already; it owes nothing to any window. `inference` None: as the mode is. `device` None: the memory's."""
    if inference is None: inference = LOCAL.run.inference
    if device is None: device = buf.device
    key = dtype, shape, strides, memory, grad, inference, device
    line = _given.get(key)
    if line is None:
        if len(_given) > 10000: _given.clear()
        line = _given[key] = blank(INPUT)
        line.dtype, line.shape, line.strides, line.memory, line.grad = dtype, shape, strides, memory if memory is not None else strides, grad
        line.inference, line.device = inference, device
    n = new(Node)
    n.line, n.buf, n.past = line, buf, None
    return n


def varying(run: Run, n: Node, op, attr) -> bool:
    """Is `op` with this view, on a value that lies ready, one of several that different runs record here (a slice that moves along a data set)?

    Then it is no part of the program: whoever asks makes the value without a line.
    """
    ins = (slot_of(run, n),)
    cur = run.cur
    if not cur.loose and (op, ins, attr) not in cur.alts: cur.loose = any([k[0] is op and k[1] == ins and moved(k[2], attr) for k in cur.alts])
    return cur.loose


def moved(a: View, b: View) -> bool:
    """Do two views differ in where they start or how long they are, and in nothing else?"""
    return a.strides == b.strides and len(a.shape) == len(b.shape) and (a.offset != b.offset or a.shape != b.shape)


def advance(run: Run, op, ins: tuple, attr) -> Line:
    """Walk the trie by one line: the predicted one, one of its siblings, or a new one."""
    cur = run.cur
    key = (op, ins, attr)
    e = cur.next
    if e.key != key:
        e = cur.alts.get(key)
        if e is None: e = cur.alts[key] = _make(run, cur, op, ins, attr, key)
        cur.next = e
    run.cur = e
    return e


def _make(run, cur, op, ins, attr, key) -> Line:
    e = blank(op)
    e.key, e.ins, e.attr, e.prev, e.slot, e.nscal = key, ins, attr, cur, cur.nslots, cur.nscal
    e.i, e.j = 0, None                         # what fast paths compare: operand 0's slot, operand 1's slot or type; a number in front matches none
    if ins and ins[0].__class__ is int:
        e.i = ins[0]
        if len(ins) > 1: e.j = ins[1]
    if op is INPUT or op is MODE: e.ends = cur.ends
    e.scal = cur.nscal                         # where this line's first fresh number stands
    e.nscal += sum([c.__class__ is type for c in ins])
    if op is INPUT:
        e.dtype, e.shape, kind, e.strides, _, e.memory, e.device = attr
        e.grad, e.inference, e.bytes = kind & (LEAF | HISTORY) != PLAIN, kind & INFERENCE != 0, cur.bytes
    elif op is MODE or op is BACKWARD:
        e.slot, e.bytes = -1, cur.bytes
    else:
        nodes = run.nodes
        lines = [nodes[c].line if c.__class__ is int else c if c.__class__ is type else c[0] for c in ins]
        e.dtype, e.shape = op.infer(attr, *lines)
        e.free = here = True
        for l in lines:
            if l.__class__ is Line:
                if l.device != "cpu": here = False
                if not l.free: e.free = False
        if not here or op.name == "transfer": e.device, e.free = where_made(run, op, attr, lines), False
        e.strides, e.memory = layout(op, attr, e.shape, lines)
        if op.history == "leaf": e.grad = True
        elif op.history == "keep": e.grad = lines[0].grad
        elif op.grads and run.grad and not run.inference and e.dtype.category >= FLOAT:
            e.grad = any([l.grad for l, g in zip(lines, op.rules(len(lines))) if g is not None and l.__class__ is Line])
            if e.grad and run.hold == 0: refuse_inference(op, lines)
        e.inference = run.inference if op.history not in OWN and op.name not in ("view", "put") else attr != "normal" and lines[0].inference
        if op.history is None and op.name != "view" and e.device == "cpu":
            size = math.prod(e.shape) * e.dtype.size
            if size > state.memory: raise too_large(op, e, size)
            e.bytes = cur.bytes + size
        else: e.bytes = cur.bytes
        if run.hold == 0:
            e.where = caller()
            if attr.__class__ is View: e.ends = cur.crowded = cur.crowded or crowds(cur, op, ins, attr, e.where)
    e.nslots = cur.nslots + (e.slot >= 0)
    run.stats.lines += 1
    lines_alive[0] += 1
    return e


def crowds(cur: Line, op, ins, attr: View, where) -> bool:
    """Do different runs go on from `cur` with different places of one view or write? A line of the user's that was seen to write at different places does so wherever
    it is reached: in every layer, once the first has told."""
    if op.name == "put" and where in _moving: return True
    if sum([k[0] is op and k[1] == ins and moved(k[2], attr) for k in cur.alts]) < CROWD: return False
    if op.name == "put": _moving.add(where)
    return True


def where_made(run, op, attr, lines) -> str:
    """The device of a row's result, where not all is on the CPU. Constants of forno's own and 0-d tensors on the CPU go along; "meta" takes 0-d tensors from anywhere."""
    if op.name == "transfer": return attr
    if op.name == "function": return lines[-1].device      # the others are its history, wherever they are
    fixed = [l for l in lines if l.__class__ is Line and not l.free]
    device = next((l.device for l in fixed if l.shape or l.device != "cpu"), "cpu") if not any([l.device == "meta" for l in fixed]) else "meta"
    if run.hold == 0:
        for l in fixed:
            if l.device != device and (l.shape or device != "meta" and l.device != "cpu"): refuse_devices(op, fixed, device)
    return device


def refuse_devices(op, lines, device: str):
    """Rows take operands of one device. Those that look up places on "meta" take indices from any."""
    if device == "meta":
        if op.kind not in ("elementwise", "contract", "composite") and op.name != "cat": return
        found, expected = ("cpu", "meta") if lines[0].device == "meta" else ("meta", "cpu")
        raise RuntimeError(f"Tensor on device {found} is not on the expected device {expected}!")
    others = dict.fromkeys(l.device for l in lines)
    raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {', '.join(sorted(others, reverse=True))}!")


OWN = ("leaf", "keep", "cut")                  # rows whose result is the tensor that their operand was


def refuse_inference(op, lines):
    """PyTorch keeps no value for a backward that was made in inference mode. An operand is kept for the gradients of the others."""
    for i, l in enumerate(lines):
        if l.__class__ is Line and l.inference and keeps(op, i) and any([x.__class__ is Line and x.grad for x in lines[:i] + lines[i + 1:]]): raise RuntimeError(NOT_SAVED)


NOT_SAVED = ("Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by autograd. To work around this, "
             "you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`.")


def too_large(op, line, size) -> OutOfMemoryError:
    return OutOfMemoryError(f"[enforce fail at alloc_cpu.cpp] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {size} bytes. Error code 12 "
                            f"(Cannot allocate memory). '{op}' would make {line.dtype.name}{list(line.shape)}; the machine has {state.memory} bytes.")


def layout(op, attr, shape, lines):
    """(strides of the line's own dense buffer, strides a user sees), None for row-major: elementwise rows keep their operands' axis order."""
    if op.layout is not None: strides = op.layout(attr, shape, *lines)
    elif op.pointwise: strides = None if all([l.__class__ is type or l.memory is None for l in lines]) else elementwise_layout(op, shape, lines)
    elif op.name == "copy" and attr is not None: strides = None if attr == "dense" else attr
    elif op.history is not None: return lines[-1].strides, lines[-1].memory
    else: strides = None
    return strides, strides


def elementwise_layout(op, shape, lines):
    if op.kind != "elementwise": return broadcast_layout(shape, [(l.shape, l.memory) for l in lines if l.__class__ is Line])
    if op.name == "cast": return exactly(shape, dense_layout(shape, lines[0].memory))
    kinds = op.compute([dtype_of(l) for l in lines], state.default_dtype)      # operands of another type are converted first, which may change how they lie
    kinds = kinds if isinstance(kinds, tuple) else (kinds,) * len(lines)
    operands = []
    for i, (l, t) in enumerate(zip(lines, kinds)):
        if l.__class__ is not Line:
            if i < op.wraps: operands.append(((), None))
        else: operands.append((l.shape, l.memory if l.memory is None or l.dtype is t or not l.shape else dense_layout(l.shape, l.memory)))
    return broadcast_layout(shape, operands)


_HERE = __file__[:-len("graph/line.py")]


def caller():
    """(file, line) of the nearest frame outside forno: the user's own."""
    f = sys._getframe(2)
    while f is not None and f.f_code.co_filename.startswith(_HERE): f = f.f_back
    return (f.f_code.co_filename, f.f_lineno) if f is not None else None


def record(op, args, attr=None) -> Node:
    """Append one line to this thread's window and return its value's node. `args`: nodes, Python numbers and Refs."""
    run = LOCAL.run
    if run.hold == 0 and (len(run.nodes) >= flags.WINDOW or run.cur.bytes > state.memory // 2 or run.cur.ends): flush_hook[0]()
    numbers = None
    ins = []
    for x in args:
        c = x.__class__
        if c is Node: ins.append(slot_of(run, x))
        elif c is Ref:
            if x.index is None:                # a number of a closed window enters this one
                x.index = len(run.scalars) + (0 if numbers is None else len(numbers))
                ins.append(x.type)
                if numbers is None: numbers = [x.value]
                else: numbers.append(x.value)
            else: ins.append((x.type, x.index))
        else:
            ins.append(c)
            if numbers is None: numbers = [x]
            else: numbers.append(x)
    before = run.cur
    if before.crowded and run.hold == 0 and attr.__class__ is View and len(run.nodes) > len(run.inputs):       # what is pending is the same program wherever this goes
        flush_hook[0]()
        return record(op, args, attr)
    n = new(Node)
    try:
        n.line = advance(run, op, tuple(ins), attr)
        n.buf = n.past = None
        if numbers is not None: run.scalars.extend(numbers)
        run.nodes.append(n)
    except BaseException:                      # an interrupt: the line and its node come together or not at all
        run.cur = before
        del run.nodes[before.nslots:], run.scalars[before.nscal:]
        raise
    if run.eager: flush_hook[0]()
    return n


CROWD = 4                                      # places of one view or write from one line: from then on it is a window of its own,
                                               # so that what comes before and after is found again whatever the place was
_moving: set = set()                           # (file, line) of writes that were seen to
flush_hook = [None]                            # the engine's flush; a list so that this floor needs no import from above


def ambient(attr):
    """A change of ambient state is a line, so that equal places in the trie mean equal state."""
    advance(LOCAL.run, MODE, (), attr)


def set_inference_mode(on: bool):
    run = LOCAL.run
    if run.inference != on:
        ambient(("inference", on))
        run.inference = on


def set_grad_mode(on: bool):
    run = LOCAL.run
    if run.grad != on:
        ambient(on)
        run.grad = on


def set_autocast_mode(to):
    """Autocast to this narrow type; None: off."""
    run = LOCAL.run
    if run.autocast is not to:
        ambient(("autocast", to))
        run.autocast = to
