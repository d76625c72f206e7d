"""Tensor: what the user holds. A tensor owns one node alone, or it sees a Storage (content, version) through a View.

Aliasing costs nothing until it starts: the first view or detach gives the memory an identity (`share`). From then on reads of every alias
go through `read`, writes through `write`, and PyTorch's rules for in-place operations, views and gradients follow from which rows those
two record. Names below are internal; PyTorch's names are hung on Tensor by framework.bind from the op table and the method files.
"""
from __future__ import annotations

import ctypes
import math
import weakref
from sys import getrefcount

from ..core.shape import View, as_numpy_strided, compose, contiguous, dense_layout, exactly, whole
from ..cpu import memory as memory_floor
from ..core.hot import hot, know
from ..cpu.memory import Block
from ..cudart import memory as device_memory
from ..dnn import movement as mv
from ..graph.line import LOCAL, META, History, Leaf, Node, Poison, Slice, given, record, varying
from .engine import flush
from .native import elements, gathered

new = object.__new__
FULL = mv.full


@know
class Storage:
    """Identity of memory that several tensors see. `node` carries value and history; its value is row-major with `shape`.

    `peers` are storages of the same memory with their own history (detach, .data, views made under no_grad).
    """
    __slots__ = ("node", "clock", "shape", "peers", "exposed", "leaf", "__weakref__")

    def __init__(self, node, clock):
        self.node, self.clock, self.shape, self.peers, self.exposed, self.leaf = node, clock, node.line.shape, None, None, False     # clock: [version], one for all peers but .data

    @property
    def version(self): return self.clock[0]


@know
class Peers:
    """Storages of one memory that are still there (a WeakSet, of which most live for a moment)."""
    __slots__ = ("refs",)

    def __init__(self, s: Storage): self.refs = [weakref.ref(s)]
    def __iter__(self): return iter(living(self))
    def __len__(self): return len(living(self))
    def __contains__(self, s): return any([r() is s for r in self.refs])


@hot
def living(peers):
    """The storages that are still there."""
    out = []
    for r in peers.refs:
        s = r()
        if s is not None: out.append(s)
    return out


@hot
def join(peers, s):
    """One more storage of the same memory."""
    if len(peers.refs) > 1: peers.refs = [r for r in peers.refs if r() is not None]
    peers.refs.append(weakref.ref(s))


class Lens:
    """A Storage read as elements of another dtype. It answers as a Storage does: reads, writes and views through it need not know."""
    __slots__ = ("base", "dtype", "content", "seen", "kept", "__weakref__")

    def __init__(self, base: Storage, dtype, kept=False): self.base, self.dtype, self.content, self.seen, self.kept = base, dtype, None, None, kept

    @property
    def node(self) -> Node:
        n = self.base.node
        if self.seen is not n or outside(n) and not self.kept: self.content, self.seen = bits(n, self.dtype), n
        return self.content

    @property
    def shape(self): return (math.prod(self.base.shape) * self.base.node.line.dtype.size // self.dtype.size,)

    @property
    def version(self): return self.base.version

    @property
    def peers(self): return self.base.peers

    def back(self, content: Node, tracked: bool) -> Node:
        """The storage's own content after this one was written."""
        n = self.base.node
        flat = bits(content, n.line.dtype)
        if flat.line.shape[0] == math.prod(n.line.shape): return record(mv.view, (flat,), whole(n.line.shape))
        return record(mv.put, (n if tracked else cut(n), flat), whole(flat.line.shape))        # bytes at the end fill no element of this type


def bits(n: Node, dtype) -> Node:
    """The bytes of a value as one row of another type."""
    return record(mv.bitcast, (n,), (n.line.dtype, dtype))


def root(s: Storage | Lens) -> Storage: return s.base if s.__class__ is Lens else s


@know
class Alias:
    """How a tensor sees a Storage. `view` None: all of it. (`seen`, `cache`): content node last read, and the node read from it."""
    __slots__ = ("store", "view", "cache", "seen", "leaf", "frozen", "own", "base")

    def __init__(self, store, view, cache, seen, leaf=None, frozen=False, base=None):
        self.store, self.view, self.cache, self.seen = store, view, cache, seen
        self.base = base                       # the tensor that this one is a view of
        self.leaf = leaf                       # the Leaf of a partial view that became a leaf of its own
        self.own = False                       # the tensor isn't a view: its memory just isn't row-major
        self.frozen = frozen                   # made under no_grad from a tensor with history: must not be written in grad mode


@know
class Tensor:
    __slots__ = ("node", "alias", "ver", "kept", "__dict__", "__weakref__")


def wrap(node: Node) -> Tensor:
    """A tensor that owns `node`."""
    t = new(Tensor)
    t.node, t.alias = node, None
    return t


def owned(node: Node) -> Tensor:
    """A tensor for a freshly recorded value, seen through a view when its memory isn't row-major."""
    t = new(Tensor)
    t.node, t.alias = node, None
    if node.line.strides is not None: permuted(t)
    return t


def permuted(t: Tensor):
    """Give a dense, permuted value its memory: the storage holds it in memory order, the tensor sees it through the permutation."""
    n = t.node
    line = n.line
    shape, strides = line.shape, line.strides
    flat = in_memory_order(n, View(shape, strides, 0))
    t.alias = Alias(Storage(flat, [0]), View(shape, strides, 0), n, flat)
    t.alias.own = True
    t.node = None


def without_data(dtype, shape, strides=None) -> Tensor:
    """A tensor on device "meta"."""
    return owned(given(META, dtype, tuple(shape), strides))


def on_device(t: Tensor, name: str) -> Tensor:
    """t, or its values on another device."""
    l = read(t).line
    if l.device == name: return t
    if l.device == "meta": raise META.error
    if name == "meta": return on_meta(t)
    return owned(record(mv.transfer, (read(t),), name))


def on_meta(t: Tensor) -> Tensor:
    """t's like without its values."""
    l = read(t).line
    if l.device == "meta": return t
    if l.grad: return owned(record(mv.transfer, (read(t),), "meta"))
    return without_data(l.dtype, l.shape, None if l.memory is None else exactly(l.shape, dense_layout(l.shape, l.memory)))


def device_name(t: Tensor) -> str: return (root(t.alias.store).node if t.node is None else t.node).line.device
def is_meta(t: Tensor) -> bool: return device_name(t) == "meta"


def in_memory_order(n: Node, view: View) -> Node:
    """n's value, which lies as `view` says in dense memory, in the order of that memory."""
    shape, strides, _ = view
    order = sorted(range(len(shape)), key=lambda d: (-strides[d], shape[d] == 1))
    mine = contiguous(shape)
    return record(mv.view, (n,), View(tuple([shape[d] for d in order]), tuple([mine[d] for d in order]), 0))


@hot
def read(t):
    """The node of a tensor's present value."""
    n = t.node
    if n is not None: return n
    a = t.alias
    n = a.store.node
    if a.seen is n and (a.view is None or not outside(n) or passes_leaf(a, n)): return a.cache     # a part of memory that something else writes is read anew
    return read_anew(a, n)


def read_anew(a: Alias, n: Node) -> Node:
    s = a.store
    if a.view is None:
        if a.leaf is None: return n            # nothing to remember: whoever holds a content that was replaced keeps its memory from being written in place
    else:
        n = record(mv.view, (n,), a.view)
        n.line.memory = seen_as(a.view)
    if a.leaf is not None:
        if n.line.grad: n = record(mv.detach, (n,))
        n = leaf_node(n, a.leaf)
    a.cache, a.seen = n, s.node
    return n


def passes_leaf(a: Alias, content: Node) -> bool: return a.leaf is None and a.cache.line.grad and not content.line.grad     # a view of a view that is a leaf: the content doesn't know


def seen_as(view: View):
    """Strides for the layout of results, None when they are row-major."""
    return None if view.strides == contiguous(view.shape) else view.strides


def leaf_node(n: Node, leaf: Leaf) -> Node:
    m = record(mv.gradleaf, (n,))
    m.past = leaf
    return m


def leaf_on(n: Node, leaf: Leaf) -> Node:
    """n's value as a leaf: the very same memory when something outside sees it."""
    return bare(n, True, leaf) if outside(n) else leaf_node(n, leaf)


@hot
def outside(n):
    """Can something outside see this value's memory?"""
    b = n.buf
    if b is None or b.__class__ is Block and b._writable is None and b._readable is None: return False
    return b.exposed


def bare(n: Node, grad: bool = False, leaf: Leaf | None = None) -> Node:
    """n's memory as a value of its own, which owes nothing to the window."""
    l = n.line
    m = given(n.buf, l.dtype, l.shape, l.strides, l.memory, grad, l.inference)
    m.past = leaf
    return m


def share(t: Tensor) -> Alias:
    """t's memory gets an identity: from now on others may see it."""
    if t.alias is None:
        n = t.node
        t.alias = Alias(Storage(n, [version(t)]), None, None, None)
        t.node = None
    return t.alias


@hot
def version(t):
    if t.alias is not None:
        s = t.alias.store
        return s.clock[0] if s.__class__ is Storage else s.version
    try: return t.ver
    except AttributeError: return INFERENCE if t.node.line.inference else 0


def touched(t: Tensor):
    """Count a write that something else did."""
    if is_inference(t): return
    if t.alias is None: t.ver = version(t) + 1
    else: root(t.alias.store).clock[0] += 1


INFERENCE = -(1 << 60)                         # versions of tensors made in inference mode count from here: below 0 they are nobody's business


def is_inference(t: Tensor) -> bool: return version(t) < 0


def memory(t: Tensor) -> View:
    """How the tensor lies in its storage."""
    if t.alias is None: return whole(t.node.line.shape)
    return whole(t.alias.store.shape) if t.alias.view is None else t.alias.view


def view_of(t: Tensor, mem: View, rel: View | None, frozen: bool | None = None) -> Tensor:
    """A tensor that sees t's memory through `mem`; `rel` is the same view relative to t's own contiguous value.

    At creation the view is recorded relative to t's node, so that hooks on t fire; after a write it is read from the storage's content.
    """
    n = read(t)
    a = share(t)
    run = LOCAL.run
    freeze = a.frozen or (not run.grad and n.line.grad)
    r = new(Tensor)
    r.node = None
    if freeze and not a.frozen and a.leaf is None: store = peer(a.store)
    else: store = a.store
    if a.leaf is not None and rel is None: n, rel = record(mv.put, (cut(store.node), n), a.view), mem          # of memory around the leaf, too
    if a.leaf is not None:                     # a view of a leaf that shares memory: its history goes through that leaf
        v = record(mv.view, (n,), rel)
        v.line.memory = seen_as(mem)
        r.alias = Alias(store, mem, v, store.node, None, freeze, t if a.base is None else a.base)
        return r
    r.alias = Alias(store, mem, None, None, None, freeze, t if a.base is None else a.base)
    if rel is not None and not freeze:
        v = shown(n, mem, rel)
        if v is None:
            v = record(mv.view, (n,), rel)
            v.line.memory = seen_as(mem)
        r.alias.cache, r.alias.seen = v, store.node
    return r


def alone(t: Tensor) -> Tensor:
    """A view that is none to whoever asks, because nobody has the tensor it was made from."""
    t.alias.base = None
    return t


def shown(n: Node, mem: View, rel: View) -> Node | None:
    """A moving view of a value that lies ready and has no history, as a value of its own: it is no part of the program."""
    run = LOCAL.run
    if run.cur.ends and run.hold == 0: flush()
    buf = n.buf
    if buf is None or n.past is not None or n.line.grad or buf.__class__ is Poison or buf.exposed or not varying(run, n, mv.view, rel): return None
    line = n.line
    base = buf.view if buf.__class__ is Slice else View(line.shape, line.strides or contiguous(line.shape), 0)
    view = compose(base, rel)
    if view is None: return None
    v = given(Slice(buf.buffer if buf.__class__ is Slice else buf, view, line.dtype.size), line.dtype, rel.shape, None, seen_as(mem), False, line.inference)
    v.apart = None
    return v


def element(t: Tensor, index: tuple) -> Tensor | None:
    """t[3, 4], a number for every axis, of a value that lies ready and has no history: a value of its own that is no part of the program. None of any other,
    and in a call that is to be said again."""
    n, run = read(t), LOCAL.run
    buf, line, a = n.buf, n.line, t.alias
    shape = line.shape
    if buf is None or len(index) != len(shape) or n.past is not None or line.grad or buf.__class__ is Poison or buf.exposed or run.level is not None: return None
    if run.journal is not None and run.journal.look is not None: return None
    rows = contiguous(shape)
    seen = rows if a is None or a.view is None else a.view.strides
    lies = buf.view.strides if buf.__class__ is Slice else line.strides or rows
    there = here = 0
    for i, k, s, m in zip(index, shape, lies, seen):
        if i.__class__ is not int or not -k <= i < k: return None
        if i < 0: i += k
        there += i * s
        here += i * m
    if a is None: a = share(t)
    if a.leaf is not None or a.frozen or a.store.__class__ is not Storage: return None
    if a.view is not None: here += a.view.offset
    if buf.__class__ is Slice: there, buf = there + buf.view.offset, buf.buffer
    r = new(Tensor)
    r.node = None
    v = given(Slice(buf, View((), (), there), line.dtype.size), line.dtype, (), None, None, False, line.inference)
    r.alias = Alias(a.store, View((), (), here), v, a.store.node, None, False, t if a.base is None else a.base)
    return r


def recast(t: Tensor, dtype, mem: View, rel: View) -> Tensor:
    """A tensor that sees t's memory through `mem` as another type; `rel` is the same view of the bytes of t's own contiguous value."""
    n = read(t)
    a = share(t)
    freeze = a.frozen or (not LOCAL.run.grad and n.line.grad)
    base = root(a.store)
    if freeze and not a.frozen and a.leaf is None: base = peer(base)
    r = new(Tensor)
    r.node = None
    store = base if base.node.line.dtype is dtype else Lens(base, dtype, a.leaf is not None)         # kept: the content alone doesn't know that t is a leaf
    r.alias = Alias(store, mem, None, None, None, freeze, t if a.base is None else a.base)
    if n.line.grad and (a.leaf is not None or not freeze):
        r.alias.cache, r.alias.seen = record(mv.view, (bits(n, dtype),), rel), store.node
        r.alias.cache.line.memory = seen_as(mem)
    return r


@hot
def detached(t):
    """The same memory with a history of its own (detach, .data)."""
    read(t)
    a = t.alias
    if a is None: a = share(t)
    r, b = new(Tensor), new(Alias)
    b.store, b.view, b.cache, b.seen, b.leaf, b.frozen, b.own, b.base = peer(a.store), a.view, None, None, None, False, False, None
    r.node, r.alias = None, b
    return r


def data_of(t: Tensor) -> Tensor:
    """Tensor.data: detached, and its writes don't count in t's version."""
    r = detached(t)
    root(r.alias.store).clock = [0]
    return r


@hot
def peer(s):
    """Another storage of the same memory, without history."""
    if s.__class__ is Lens: return Lens(peer(s.base), s.dtype)
    if s.peers is None: s.peers = Peers(s)
    n = s.node
    if n.line.grad: n = bare(n) if outside(n) else cut(n)
    p = new(Storage)
    p.node, p.clock, p.shape, p.peers, p.exposed, p.leaf = n, s.clock, s.shape, s.peers, s.exposed, False
    join(s.peers, p)
    return p


def cut(n: Node) -> Node: return record(mv.detach, (n,)) if n.line.grad else n


def straight(old: Node, v: Node) -> Node:
    """An unrecorded write: the value changes, the history stays."""
    if old.past.__class__ is Leaf: return leaf_node(cut(v), old.past)
    return record(mv.straight, (old, cut(v)))


def write(t: Tensor, v: Node, tracked: bool | None = None):
    """t's memory takes value v (t's shape and dtype): all of it, or through the view. tracked=False: autograd must not see it."""
    write_node(t, v, tracked)


@hot
def write_node(t, v, tracked):
    old = read(t) if t.alias is None else root(t.alias.store).node
    if v.line.device is not old.line.device: v = taken_along(v, old)
    record_write(t, v, tracked)
    if outside(old): land(old, t)


def taken_along(v: Node, old: Node) -> Node:
    """A value for a tensor on another device."""
    if v.line.device == "meta": raise META.error
    return record(mv.transfer, (v,), old.line.device)


def land(old: Node, t: Tensor):
    """Memory that something outside sees is written at once, where it lies; whoever still needs the old value gets a copy of it. Only t's own elements are
    touched: other processes may be at the others."""
    flush()
    target = old.buf
    s = None if t.alias is None else root(t.alias.store)
    mine = [t.node] if s is None else [p.node for p in s.peers or (s,)]
    if any(n.buf is target for n in mine): return          # it was written in place already
    now = mine[0] if s is None else s.node
    source = now.buf
    if source.__class__ is Slice: source = gathered(source.buffer, source.view, now.line)
    if target.device != "cpu":
        old.buf = land_there(target, source)
        for n in mine: n.buf = target
        return
    keep = memory_floor.empty(target.nbytes)
    ctypes.memmove(keep.address, target.address, target.nbytes)
    view = t.alias.view if s is not None and s is t.alias.store else None
    if view is None: ctypes.memmove(target.address, source.address, target.nbytes)
    elif 0 not in view.shape: as_numpy_strided(elements(target, now.line.dtype), view)[...] = as_numpy_strided(elements(source, now.line.dtype), view)
    old.buf = keep
    for n in mine: n.buf = target


def land_there(target, source):
    """The same in a device's memory; what the old value has now."""
    keep = device_memory.copied(target)
    device_memory.copy(target.device, source.address, target.nbytes, target.address)
    return keep


@hot
def settle_alone(t):
    """A tensor that is the last to see all of its storage owns its node again."""
    a = t.alias
    if a.view is not None or a.leaf is not None or a.frozen or getrefcount(a.store) != ALONE: return
    s = a.store
    if (s.peers is None or len(living(s.peers)) == 1) and s.node.line.shape == s.shape: t.node, t.alias, t.ver = s.node, None, s.version


def _alone():
    """What getrefcount says inside settle_alone of a storage that one Alias holds."""
    t = Tensor()
    t.alias = Alias(object(), None, None, None)
    a = t.alias
    return getrefcount(a.store)


ALONE = _alone()


@hot
def record_write(t, v, tracked):
    if t.alias is not None: settle_alone(t)
    n = read(t)
    if v.line.memory is not None: v = record(mv.copy, (v,), "dense")     # the order of axes in memory stays t's
    if v.line.inference and not is_inference(t): v = record(mv.detach, (v,), "normal")
    if tracked is None: tracked = LOCAL.run.grad and (v.line.grad or n.line.grad)
    a = t.alias
    if a is None:
        t.node = v if tracked or not n.line.grad else straight(n, v)
        replaced(n, t.node, v)
        t.ver = version(t) + 1
        return
    s, view = a.store, a.view
    old = s.node
    a.cache = a.seen = None
    if a.leaf is not None: tracked = False
    if view is None or (not tracked and view.offset == 0 and view.strides == contiguous(view.shape) and math.prod(view.shape) == math.prod(s.shape)):
        w = v if v.line.shape == s.shape else record(mv.view, (v,), whole(s.shape))
    elif a.own: w = in_memory_order(v, view)
    else: w = record(mv.put, (old if tracked else cut(old), v), view)
    if s.__class__ is Lens:
        w, old = s.back(w, tracked), s.base.node
        s.content = s.seen = None
        s = s.base
    if not tracked and old.line.grad: w = straight(old, w)
    replaced(old, w, v)
    s.node = w
    s.clock[0] += 1
    if s.peers is not None:
        for p in living(s.peers):
            if p is s: continue
            d = cut(w) if w.line.grad else w
            p.node = straight(p.node, d) if p.node.line.grad else d


def replaced(old: Node, now: Node, v: Node):
    """`now`, which contains v, takes old's place: should v fail, the tensor keeps its old value."""
    if v.buf is not None or v.line.op is FULL: return                # these can't
    now.over = id(old)
    if old.buf is not None and not old.buf.exposed:
        run = LOCAL.run
        if id(old) not in run.inputs: run.held.append(old)


def whole_write(t: Tensor, v: Node) -> Node:
    """A tracked full overwrite keeps requires_grad: the old history gets zeros."""
    n = read(t)
    if not LOCAL.run.grad or not n.line.grad: return v
    return record(mv.overwrite, (n, v if v.line.free or v.line.device is n.line.device else taken_along(v, n)))


def check_write(t: Tensor, overlap: bool = True): writable(t, overlap)


def overlaps(view: View) -> bool: return any(s == 0 and n > 1 for s, n in zip(view.strides, view.shape))


@hot
def writable(t, overlap):
    """PyTorch's refusals of in-place operations."""
    a = t.alias
    if overlap and a is not None and a.view is not None and overlaps(a.view):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
                           "Please clone() the tensor before performing the operation.")
    run = LOCAL.run
    if not run.inference and is_inference(t):
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal tensor before doing inplace update."
                           "See https://github.com/pytorch/rfcs/pull/17 for more details.")
    if run.grad:
        n = read(t)
        if n.past.__class__ is Leaf: raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if a is not None:
            if a.frozen and n.line.dtype.category >= 2:
                raise RuntimeError("A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this use case is "
                                   "ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the inplace either "
                                   "both inside the no_grad block (if you don't want the inplace to be tracked) or both outside (if you want the inplace to be tracked).")
            if a.leaf is None and (root(a.store).node.past.__class__ is Leaf or root(a.store).leaf):
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def require_grad(t: Tensor):
    """Turn t into a leaf."""
    if is_inference(t) and not LOCAL.run.inference: raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
    n = read(t)
    leaf = Leaf()
    leaf.owner = weakref.ref(t)
    a = t.alias
    if a is None: t.node = leaf_on(n, leaf)
    elif a.view is None:
        a.store.node = a.cache = leaf_on(n, leaf)
        a.seen = a.store.node
    else:
        a.leaf, a.cache = leaf, leaf_node(n, leaf)
        if a.own:                              # no view: views of it see the leaf, too
            flat, a.store.leaf = in_memory_order(a.cache, a.view), True
            a.store.node = flat if flat.line.shape == a.store.shape else record(mv.view, (flat,), whole(a.store.shape))
        a.seen = a.store.node


def history(n: Node) -> History:
    if n.past is None: n.past = History()
    return n.past
