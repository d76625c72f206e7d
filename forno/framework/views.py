"""Views: every one is a function of geometry applied twice, to the tensor's memory and to its own contiguous value.

The memory's geometry is what stride(), aliasing and errors see; the value's is what the line records. On a repeated program the line
remembers both, and a view costs one comparison and three small objects: it is looked up by the arguments as they came.
"""
from __future__ import annotations

import functools
import math
import operator

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.shape import View, contiguous, dense_layout, exactly, follows, is_contiguous, normalize_dim, restride, suggests_channels_last, whole
from ..dnn import movement as mv
from ..dnn.elementwise import TITLES
from ..graph.line import INPUT, LOCAL, Node, new, record, slot_of
from .tensor import Alias, Tensor, alone, detached, memory, owned, read, recast, share, view_of


def shape_of(t: Tensor) -> tuple:
    a = t.alias
    if a is None: return t.node.line.shape
    return a.store.shape if a.view is None else a.view.shape


def seen(t: Tensor, key) -> Tensor | None:
    """The view of t that the predicted line is known to show."""
    x = t.node or read(t)
    run = LOCAL.run
    e = run.cur.next
    if e.op is INPUT and id(x) not in run.inputs and x.buf is not None:        # t is new to this window
        slot_of(run, x)
        if run.eager: return None
        e = run.cur.next
    if e.op is mv.view and e.memo is not None and run.nodes[e.i] is x:
        known, before, after = e.memo
        a = t.alias
        if known == key and run.cur.next is e and (before is None if a is None else a.view is before and a.leaf is None and not a.frozen):
            if a is None: a = share(t)
            n = new(Node)
            n.line = e; n.buf = n.past = None
            run.nodes.append(n)
            run.cur = e
            r = new(Tensor)
            r.node = None
            r.alias = Alias(a.store, after, n, a.store.node, None, False, t if a.base is None else a.base)
            return r
    return None


def through(t: Tensor, geom) -> Tensor:
    """The view of t by `geom` (View -> View)."""
    mem = memory(t)
    return view_of(t, geom(mem), geom(whole(mem.shape)))


UNKNOWN = object()                             # in place of arguments that aren't Python's own numbers: never found again


def plain(x) -> bool: return x is None or x.__class__ is int or isinstance(x, tuple) and all([plain(y) for y in x])


def remembered(title):
    """A function that records one view line. The line remembers function (`title`, from which grad_fn has its name), arguments and both views."""
    def decorate(f):
        def call(input, *args, **kw):
            key = (title, *args, *kw.items()) if kw else (title, *args)
            r = seen(input, key)
            if r is not None: return r
            before = None if input.alias is None else input.alias.view
            r = f(input, *args, **kw)
            a, run = r.alias, LOCAL.run
            if a is not None and a.cache is not None and run.nodes and a.cache is run.nodes[-1] and not a.frozen and a.leaf is None:
                line = run.cur
                if line.op is mv.view and run.nodes[line.i] is read(input): line.memo = (key if plain(args + tuple(kw.values())) else (title, UNKNOWN), before, a.view)
            return r
        return functools.update_wrapper(call, f)
    return decorate


def ints(args) -> tuple:
    """Sizes given as f(1, 2) or f((1, 2)); tensors and NumPy integers count as ints."""
    if len(args) == 1 and not isinstance(args[0], int):
        a = args[0]
        if isinstance(a, (tuple, list)): args = a
    out = []
    for x in args:
        if x.__class__ is int: out.append(x); continue
        try: out.append(operator.index(x))
        except TypeError: raise TypeError(f"sizes must be integers, got {type(x).__name__}") from None
    return tuple(out)


@remembered("=")
def same(input):
    """All of it, as another tensor."""
    return through(input, lambda v: v)


# ---------------------------------------------------------------- axes
@remembered("p")
def permute(input, *axes, dims=None):
    p, n = ints(axes if dims is None else (dims,)), len(shape_of(input))
    if len(p) != n:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions "
                           f"i.e. input.dim() = {n} is not equal to len(dims) = {len(p)}")
    p = tuple(normalize_dim(d, n) for d in p)
    if len(set(p)) != n: raise RuntimeError("permute(): duplicate dims are not allowed.")
    return through(input, lambda v: View(tuple(v.shape[i] for i in p), tuple(v.strides[i] for i in p), v.offset))


@remembered("t")
def transpose(input, dim0, dim1):
    n = len(shape_of(input))
    i, j = normalize_dim(dim0, n), normalize_dim(dim1, n)
    if n == 0: return through(input, lambda v: v)

    def geom(v):
        sh, st = list(v.shape), list(v.strides)
        sh[i], sh[j], st[i], st[j] = sh[j], sh[i], st[j], st[i]
        return View(tuple(sh), tuple(st), v.offset)
    return through(input, geom)


@remembered("T")
def t(input):
    n = len(shape_of(input))
    if n > 2: raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {n}D")
    return through(input, lambda v: View(v.shape[::-1], v.strides[::-1], v.offset))


def movedim(input, source, destination):
    n = len(shape_of(input))
    src = [normalize_dim(d, n) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    dst = [normalize_dim(d, n) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    if len(src) != len(dst): raise RuntimeError(f"movedim: Invalid source or destination dims: source ({src} dims) should contain the same number of dims as destination ({dst} dims)")
    if len(set(src)) != len(src): raise RuntimeError(f"movedim: repeated dim in `source` ({src})")
    if len(set(dst)) != len(dst): raise RuntimeError(f"movedim: repeated dim in `destination` ({dst})")
    order = [None] * n
    for s, d in zip(src, dst): order[d] = s
    rest = iter(d for d in range(n) if d not in src)
    return permute(input, tuple(next(rest) if o is None else o for o in order))


@remembered("u")
def unsqueeze(input, dim):
    n = len(shape_of(input))
    if not -n - 1 <= dim <= n: raise IndexError(f"Dimension out of range (expected to be in range of [{-n - 1}, {n}], but got {dim})")
    d = dim % (n + 1)

    def geom(v):
        step = v.shape[d] * v.strides[d] if d < len(v.shape) else 1
        return View(v.shape[:d] + (1,) + v.shape[d:], v.strides[:d] + (step,) + v.strides[d:], v.offset)
    return through(input, geom)


@remembered("s")
def squeeze(input, dim=None):
    shape = shape_of(input)
    n = len(shape)
    if dim is None: gone = {i for i, k in enumerate(shape) if k == 1}
    else: gone = {d for d in (normalize_dim(d, n) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))) if n and shape[d] == 1}
    if len(gone) == 0 and n == 0: return through(input, lambda v: v)
    stay = tuple(i for i in range(n) if i not in gone)
    return through(input, lambda v: View(tuple(v.shape[i] for i in stay), tuple(v.strides[i] for i in stay), v.offset))


def unflatten(input, dim, sizes):
    shape = shape_of(input)
    d = normalize_dim(dim, len(shape))
    sizes = resolve(ints((sizes,)), shape[d], f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} ({shape[d]}) in the input tensor")
    return view(input, shape[:d] + sizes + shape[d + 1:])


# ---------------------------------------------------------------- parts
@remembered("n")
def narrow(input, dim, start, length):
    shape = shape_of(input)
    if not shape: raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = normalize_dim(dim, len(shape))
    if isinstance(start, Tensor) and (shape_of(start) or start.dtype.category != dt.INT): raise RuntimeError("start must be an 0-dim integral Tensor.")
    start, length, n = int(start), int(length), shape[d]
    if length < 0: raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n: raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if start < 0: start += n
    if start + length > n: raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return through(input, lambda v: View(v.shape[:d] + (length,) + v.shape[d + 1:], v.strides, v.offset + start * v.strides[d]))


@remembered("i")
def select(input, dim, index):
    shape = shape_of(input)
    if not shape: raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = normalize_dim(dim, len(shape))
    i, n = int(index), shape[d]
    if not -n <= i < n: raise IndexError(f"select(): index {i} out of range for tensor of size {list(shape)} at dimension {d}")
    i %= n
    return through(input, lambda v: View(v.shape[:d] + v.shape[d + 1:], v.strides[:d] + v.strides[d + 1:], v.offset + i * v.strides[d]))


@remembered("c")
def slice_(input, dim, start, stop, step):
    """A clamped Python slice along one axis."""
    n = shape_of(input)[dim]
    lo, hi, step = slice(start, stop, step).indices(n)
    count = max(0, -(-(hi - lo) // step))
    return through(input, lambda v: View(v.shape[:dim] + (count,) + v.shape[dim + 1:], v.strides[:dim] + (v.strides[dim] * step,) + v.strides[dim + 1:],
                                         v.offset + lo * v.strides[dim]))


@remembered("d")
def diagonal(input, offset=0, dim1=0, dim2=1):
    shape = shape_of(input)
    a, b = normalize_dim(dim1, len(shape)), normalize_dim(dim2, len(shape))
    if a == b: raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    if offset >= 0: count, skip = max(min(shape[a], shape[b] - offset), 0), (b, offset)
    else: count, skip = max(min(shape[a] + offset, shape[b]), 0), (a, -offset)
    stay = tuple(i for i in range(len(shape)) if i not in (a, b))

    def geom(v):
        start = v.offset + (skip[1] * v.strides[skip[0]] if count else 0)
        return View(tuple(v.shape[i] for i in stay) + (count,), tuple(v.strides[i] for i in stay) + (v.strides[a] + v.strides[b],), start)
    return through(input, geom)


@remembered("w")
def unfold(input, dimension, size, step):
    shape = shape_of(input)
    d = normalize_dim(dimension, len(shape))
    n = shape[d] if shape else 1
    if size > n: raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0: raise RuntimeError(f"step is {step} but must be > 0")
    if not shape: return through(input, lambda v: View((size,), (1,), v.offset))
    count = (n - size) // step + 1

    def geom(v):
        sh, st = list(v.shape), list(v.strides)
        sh[d], st[d] = count, v.strides[d] * step
        return View((*sh, size), (*st, v.strides[d]), v.offset)
    return through(input, geom)


def as_strided(input, size, stride, storage_offset=None):
    size, stride = ints((size,)), ints((stride,))
    if len(size) != len(stride): raise RuntimeError(f"mismatch in length of strides and shape: {len(stride)} and {len(size)}")
    mem = memory(input)
    offset = mem.offset if storage_offset is None else int(storage_offset)
    if any(s < 0 for s in stride): raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if any(n < 0 for n in size): raise RuntimeError(f"as_strided: negative dimension in size {list(size)}")
    if offset < 0: raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    v = View(size, stride, offset)
    read(input)
    a = share(input)
    room = math.prod(a.store.shape)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else offset - 1
    if last >= room:
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {input.dtype.size} requiring a storage size of "
                           f"{(last + 1) * input.dtype.size} are out of bounds for storage of size {room * input.dtype.size}")
    if mem.offset == 0 and is_contiguous(mem.shape, mem.strides) and math.prod(mem.shape) == room: return view_of(input, v, v)
    r = view_of(input, v, None)
    read(r)
    return r


# ---------------------------------------------------------------- repetition
@remembered("e")
def expand(input, *sizes, size=None, implicit=False):
    shape, to = shape_of(input), list(ints(sizes if size is None else (size,)))
    lead = len(to) - len(shape)
    if lead < 0:
        raise RuntimeError(f"expand({input.dtype!r}{list(shape)}, size={to}): the number of sizes provided ({len(to)}) must be greater or equal to the number of "
                           f"dimensions in the tensor ({len(shape)})")
    for i, n in enumerate(to):
        if i < lead:
            if n < 0: raise RuntimeError(f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {i}")
        elif n == -1: to[i] = shape[i - lead]
        elif n != shape[i - lead] and shape[i - lead] != 1:
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing size ({shape[i - lead]}) at non-singleton dimension {i}.  "
                               f"Target sizes: {to}.  Tensor sizes: {list(shape)}")
        elif n < -1: raise RuntimeError(f"expand: invalid size {n} at dimension {i}")
    to = tuple(to)

    def geom(v):
        st = [s if n == m else 0 for n, m, s in zip(to[lead:], v.shape, v.strides)]
        for d in range(lead - 1, -1, -1): st.insert(0, 0 if to[d] != 1 else to[d + 1] * st[0] if st else 1)       # a new axis of length 1 gets a row's stride
        return View(to, tuple(st), v.offset)
    return through(input, geom)


def expand_as(input, other): return expand(input, shape_of(other))
def broadcast_to(input, size): return expand(input, size)


# ---------------------------------------------------------------- shape
def resolve(shape, numel, message=None) -> tuple:
    """A shape with its -1 filled in."""
    known = 1
    for n in shape:
        if n >= 0: known *= n
        elif n != -1: raise RuntimeError(f"invalid shape dimension {n}")
    if shape.count(-1) > 1: raise RuntimeError("only one dimension can be inferred")
    if -1 in shape:
        if known == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be any value and is ambiguous")
        if numel % known == 0: return tuple(numel // known if n == -1 else n for n in shape)
    elif known == numel: return tuple(shape)
    raise RuntimeError(message or f"shape '{list(shape)}' is invalid for input of size {numel}")


def reshaped(input, shape, must_view):
    mem = memory(input)
    shape = resolve(shape, math.prod(mem.shape))
    strides = restride(mem.shape, mem.strides, shape)
    if strides is not None:
        return through(input, lambda v: View(shape, restride(v.shape, v.strides, shape), v.offset))
    if must_view:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). "
                           "Use .reshape(...) instead.")
    return owned(record(mv.view, (read(input),), whole(shape)))


@remembered("r")
def reshape(input, *sizes, shape=None): return reshaped(input, ints(sizes if shape is None else (shape,)), False)


@remembered("r")
def view(input, *shape, dtype=None):
    if dtype is not None and not shape: shape = (dtype,)
    if not shape: raise TypeError("view() received an invalid combination of arguments - got ()")
    if len(shape) == 1 and isinstance(shape[0], dt.dtype): return view_dtype(input, shape[0])
    return reshaped(input, ints(shape), True)


def view_as(input, other): return view(input, shape_of(other))
def reshape_as(input, other): return reshape(input, shape_of(other))


def view_dtype(input, dtype):
    """The same bytes as another type, in memory and nowhere else: gradients don't pass."""
    if dt.complex32 in (dtype, input.dtype): raise unsupported("view(dtype)", dtype, "cpu", "torch.complex64")
    old, mem = input.dtype, memory(input)
    to = retyped(mem, old, dtype)
    history = read(input).line.grad or dtype.category >= dt.FLOAT          # a write through the result may have a gradient, which isn't the input's
    return alone(recast(detached(input) if history else input, dtype, to, whole(to.shape)))


def retyped(mem: View, old, dtype) -> View:
    """How memory lies when its elements of one type are read as another: the last axis takes the difference in size."""
    shape, strides, offset = mem
    if old.size == dtype.size: return mem
    wide, k = dtype.size > old.size, max(dtype.size, old.size) // min(dtype.size, old.size)

    def refuse(what, but=""): raise RuntimeError(f"self.{what} to view {TITLES[old.name]} as {TITLES[dtype.name]} (different element sizes){but}")
    if not shape: refuse("dim() cannot be 0")
    for what, n in (("size(-1)", shape[-1]), ("storage_offset()", offset)):
        if wide and n % k: refuse(f"{what} must be divisible by {k}", f", but got {n}")
    if strides[-1] != 1: refuse("stride(-1) must be 1", f", but got {strides[-1]}")
    if not wide: return View((*shape[:-1], shape[-1] * k), (*[s * k for s in strides[:-1]], 1), offset * k)
    for d, s in enumerate(strides[:-1]):
        if s % k: refuse(f"stride({d}) must be divisible by {k}", f", but got {s}")
    return View((*shape[:-1], shape[-1] // k), (*[s // k for s in strides[:-1]], 1), offset // k)


def flatten(input, start_dim=0, end_dim=-1):
    shape = shape_of(input)
    if not shape: return reshape(input, (1,))
    a, b = normalize_dim(start_dim, len(shape)), normalize_dim(end_dim, len(shape))
    if a > b: raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if a == b: return input
    return reshape(input, shape[:a] + (math.prod(shape[a:b + 1]),) + shape[b + 1:])


def ravel(input): return reshape(input, (-1,))


# ---------------------------------------------------------------- several at once
split_part, unbind_part = remembered("split")(narrow.__wrapped__), remembered("unbind")(select.__wrapped__)


def split(tensor, split_size_or_sections, dim=0):
    n = shape_of(tensor)[normalize_dim(dim, len(shape_of(tensor)))]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = [int(k) for k in split_size_or_sections]
        if sum(sizes) != n or any(k < 0 for k in sizes):
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got split_sizes={sizes}")
    else:
        k = int(split_size_or_sections)
        if k < 0: raise RuntimeError(f"split expects split_size be non-negative, but got split_size={k}")
        if k == 0 and n: raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sizes = [n] if k == 0 else [min(k, n - i) for i in range(0, max(n, 1), k)]
    out, at = [], 0
    for k in sizes:
        out.append(split_part(tensor, dim, at, k))
        at += k
    return tuple(out)


def chunk(input, chunks, dim=0):
    if chunks <= 0: raise RuntimeError("chunk expects `chunks` to be greater than 0, got: " + str(chunks))
    if not shape_of(input): raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    n = shape_of(input)[normalize_dim(dim, len(shape_of(input)))]
    if n == 0: return tuple(narrow(input, dim, 0, 0) for _ in range(chunks))
    return split(input, -(-n // chunks), dim)


def tensor_split(input, indices_or_sections, dim=0):
    n = shape_of(input)[normalize_dim(dim, len(shape_of(input)))]
    if isinstance(indices_or_sections, Tensor):
        if indices_or_sections.dtype is not dt.int64 or len(shape_of(indices_or_sections)) > 1:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional int64 tensor")
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0: raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        cuts = [n // k * i + min(i, n % k) for i in range(1, k)]
    else: cuts = [int(i) for i in indices_or_sections]
    cuts = [min(max(c + n if c < 0 else c, 0), n) for c in cuts]
    return tuple(narrow(input, dim, a, max(b - a, 0)) for a, b in zip([0, *cuts], [*cuts, n]))


def unbind(input, dim=0):
    d = normalize_dim(dim, len(shape_of(input)))
    if not shape_of(input): raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return tuple([unbind_part(input, d, i) for i in range(shape_of(input)[d])])


FORMATS = {"channels_last": (0, 2, 3, 1), "channels_last_3d": (0, 2, 3, 4, 1)}     # axes, outermost first


def laid(shape, memory_format) -> tuple[int, ...]:
    """Strides of a shape in a memory format."""
    order = FORMATS.get(memory_format.name)
    if order is None: return contiguous(shape)
    if len(order) != len(shape): raise RuntimeError(f"required rank {len(order)} tensor to use {memory_format.name} format")
    inner = contiguous([shape[d] for d in order])
    return tuple(inner[order.index(d)] for d in range(len(shape)))


def same_layout(shape, strides, wanted) -> bool:
    """Equal strides wherever an axis has more than one element."""
    return 0 in shape or all(s == w for n, s, w in zip(shape, strides, wanted) if n > 1)


def is_contiguous_in(input, memory_format=None) -> bool:
    mem = memory(input)
    if memory_format is None or memory_format.name not in FORMATS: return is_contiguous(mem.shape, mem.strides)
    return len(mem.shape) == len(FORMATS[memory_format.name]) and same_layout(mem.shape, mem.strides, laid(mem.shape, memory_format))


def converted(input, memory_format):
    """Tensor.to with a memory format: unlike contiguous it copies what only passes for the format because of axes of length 1."""
    mem = memory(input)
    images = suggests_channels_last(mem.shape, mem.strides)
    same = images and len(mem.shape) == len(FORMATS[memory_format.name]) if memory_format.name in FORMATS else not images
    return input if same and is_contiguous_in(input, memory_format) else dense_copy(input, memory_format)


def contiguous_(input, memory_format=None):
    """Tensor.contiguous: itself when it already lies so."""
    if is_contiguous_in(input, memory_format): return input
    return dense_copy(input, memory_format)


def lay(n: Node, strides) -> Node:
    """The same value with these strides in memory (None: row-major)."""
    return record(mv.copy, (n,), "dense" if strides is None else strides)


def dense_copy(input, memory_format=None):
    """A copy in a memory format (row-major by default)."""
    n = read(input)
    return owned(lay(n, None if memory_format is None else exactly(n.line.shape, laid(n.line.shape, memory_format))))


def clone(input, *, memory_format=None):
    if memory_format is not None and memory_format.name != "preserve_format": return dense_copy(input, memory_format)
    n = read(input)
    return owned(record(mv.copy, (n,)) if n.line.memory is None else lay(n, preserved(n)))


def as_preserved(result, input):
    """A fresh result, laid out as a copy of input would be."""
    n, strides = read(result), preserved(read(input))
    return result if n.line.memory == strides else owned(lay(n, strides))


def made_like(make, input):
    """make(shape), laid out as a copy of input would be. What fills its elements one after the other (random numbers) goes in the order of memory."""
    n = read(input)
    shape, strides = n.line.shape, preserved(n)
    if strides is None: return make(shape)
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    return owned(lay(read(permute(make(tuple([shape[d] for d in order])), tuple([order.index(d) for d in range(len(order))]))), strides))


def channels_like(result, input):
    """A fresh result, in channels_last when input suggests it."""
    n = read(result)
    strides = follows(None, n.line.shape, read(input).line)
    return result if n.line.memory == strides else owned(lay(n, strides))


def fresh(t):
    """A result with memory of its own: a copy where t is a view."""
    return t if t.alias is None else dense_copy(t)


def preserved(n: Node):
    """Strides of a copy that keeps the order of axes in memory (PyTorch's preserve_format); None for row-major."""
    line = n.line
    return None if line.memory is None else exactly(line.shape, dense_layout(line.shape, line.memory))
