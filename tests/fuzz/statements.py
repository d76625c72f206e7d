"""The statements random programs are made of: each picks its operands and does the same in both libraries. `p` is the program (programs.py).

Every exclusion is a deliberate difference, or behaviour that PyTorch leaves undefined, and marked "differs".
"""
from __future__ import annotations

import copy

import numpy as np
import torch

import forno
from forno.core.shape import View, overlaps
from forno.framework.engine import flush

FLOATS, HALF_NAMES = ("float64", "float64", "float64", "float32", "float32"), ("float16", "bfloat16")
INTEGERS = ("int64", "int64", "int32", "int16", "int8", "uint8", "bool")
COMPLEX = ("complex128", "complex64")
NUMPY = {"bfloat16": "float32"}                # what holds a type's values on the way into both libraries


def floating(t): return t.dtype.is_floating_point
def inexact(t): return t.dtype.is_floating_point or t.dtype.is_complex
def ordered(t): return not t.dtype.is_complex
def integral(t): return not inexact(t)
def attached(t): return inexact(t) and t.requires_grad


def same_memory(t, u): return t.untyped_storage().data_ptr() == u.untyped_storage().data_ptr()


def fits(shape, to):
    """Does `shape` broadcast to `to`?"""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to)))


# ---------------------------------------------------------------- new tensors
def leaf(p):
    r = p.r
    shape = p.shape() if not p.torch or r.random() < 0.5 else tuple([n or 2 for n in r.choice(p.torch).shape])
    name = r.choice(r.choices([FLOATS, INTEGERS, COMPLEX, HALF_NAMES if p.half else FLOATS], [8, 3, 1, 3])[0])
    rng = np.random.default_rng((r.randrange(1 << 30), p.round))
    a = rng.uniform(-2, 2, shape) if name in FLOATS + HALF_NAMES else rng.uniform(-1, 1, (*shape, 2)) @ (1, 1j) if name in COMPLEX else rng.integers(0, 3, shape)
    a = np.asarray(a).astype(NUMPY.get(name, name))
    grad = name not in INTEGERS and r.random() < 0.6
    p.do(f"leaf {name} {shape} {grad}", (), lambda m: m.tensor(a, dtype=getattr(m, name), requires_grad=grad))


def like(p):
    i, name = p.pick(), p.r.choice(["zeros_like", "ones_like", "new_zeros", "full_like"])
    if name == "new_zeros": p.do(f"new_zeros {i}", (i,), lambda m, t: t.new_zeros(tuple(t.shape)))
    else: p.do(f"{name} {i}", (i,), lambda m, t: getattr(m, name)(t, *([1.0 if inexact(p.torch[i]) else 1] if name == "full_like" else [])))


# ---------------------------------------------------------------- arithmetic
def unary(p):
    i = p.pick()
    names = ["neg", "exp", "tanh", "relu", "sigmoid", "abs", "square"] if ordered(p.torch[i]) else ["neg", "conj", "abs", "square", "real", "imag"]
    name = p.r.choice(names)
    if p.torch[i].dtype == torch.bool and name in ("neg", "relu", "abs", "square"): name = "tanh"
    if name == "conj": p.do(f"conj {i}", (i,), lambda m, t: t.conj().resolve_conj())
    elif name in ("real", "imag"): p.do(f"{name} {i}", (i,), lambda m, t: getattr(t, name))
    else: p.do(f"{name} {i}", (i,), lambda m, t: getattr(t, name)(), rough=name in ("exp", "tanh", "sigmoid", "abs"))


def binary(p):
    r = p.r
    i = p.pick()
    t = p.torch[i]
    j = p.pick(lambda u: u.shape == t.shape) if r.random() < 0.6 else p.pick()
    u = p.torch[j]
    name = r.choice(["add", "sub", "mul", "div", "add", "mul", "lt", "ge", "eq"])
    if torch.bool in (t.dtype, u.dtype) and name == "sub": name = "mul"
    if name in ("lt", "ge", "eq") and (p.is_rough(i, j) or name != "eq" and not (ordered(t) and ordered(u))): name = "add"
    if name == "div": p.do(f"div {i} {j}", (i, j), lambda m, t, u: t / (u * u + 1 if ordered(p.torch[j]) else u.abs() + 1), rough=True)
    else: p.do(f"{name} {i} {j}", (i, j), lambda m, t, u: getattr(t, name)(u))


def number(p):
    i, x = p.pick(), p.r.choice([2, 0.5, 1.01, -1, True])
    t = p.torch[i]
    name = p.r.choice(["__add__", "__mul__", "__truediv__", "__rsub__", "__gt__", "__radd__", "__rmul__"])
    if t.dtype == torch.bool and name == "__rsub__" or name == "__gt__" and (not ordered(t) or p.is_rough(i)): name = "__add__"
    if x is True and name == "__rsub__": x = 2
    p.do(f"{name} {i} {x}", (i,), lambda m, t: getattr(t, name)(x), rough=name == "__truediv__")


def power(p):
    i, x = p.pick(floating), p.r.choice([2, 3, 2.0, 1])
    if i is not None: p.do(f"pow {i} {x}", (i,), lambda m, t: t ** x, rough=True)


def ternary(p):
    i, j, c = p.pick(), p.pick(), p.pick(lambda u: u.dtype == torch.bool)
    kind = p.r.choice(["where", "where", "clamp", "lerp", "addcmul", "masked_fill"])
    if kind in ("where", "masked_fill") and c is None: kind = "clamp"
    if kind == "where": p.do(f"where {c} {i} {j}", (c, i, j), lambda m, c, t, u: m.where(c, t, u))
    elif kind == "masked_fill": p.do(f"masked_fill {i} {c}", (i, c), lambda m, t, c: t.masked_fill(c, 1))
    elif kind == "clamp" and ordered(p.torch[i]) and p.torch[i].dtype != torch.bool: p.do(f"clamp {i}", (i,), lambda m, t: t.clamp(-1, 1))
    elif kind in ("lerp", "addcmul"):
        i = p.pick(inexact)
        j = None if i is None else p.pick(lambda u: u.dtype == p.torch[i].dtype)
        if j is None: return
        if kind == "lerp": p.do(f"lerp {i} {j}", (i, j), lambda m, t, u: m.lerp(t, u, 0.25), rough=True)
        else: p.do(f"addcmul {i} {j}", (i, j), lambda m, t, u: m.addcmul(t, u, u, value=2), rough=True)


def cast(p):
    i = p.pick()
    name = p.r.choice(p.r.choice([FLOATS, FLOATS, INTEGERS, COMPLEX, HALF_NAMES if p.half else FLOATS]))
    t = p.torch[i]
    # differs: numbers outside a type's range convert to something undefined; a complex number loses its imaginary part with a warning in PyTorch
    if inexact(t) and name in INTEGERS and (name != "bool" or p.is_rough(i)) or t.dtype.is_complex and name not in COMPLEX: return
    p.do(f"to {i} {name}", (i,), lambda m, t: t.to(getattr(m, name)))


# ---------------------------------------------------------------- views
def view(p):
    r = p.r
    kind = r.choice(["transpose", "narrow", "select", "diagonal", "unfold", "unfold", "expand", "expand", "reshape", "detach", "index", "permute", "grow", "clone", "unsqueeze",
                     "squeeze", "flatten", "split", "movedim", "contiguous", "view", "flip"])
    least = 2 if kind in ("transpose", "diagonal", "permute", "movedim") else 1 if kind in ("narrow", "select", "unfold", "index", "split", "flip") else 0
    i = p.pick(lambda t: t.dim() >= least and t.numel())
    if i is None: return
    shape = tuple(p.torch[i].shape)
    d = r.randrange(len(shape)) if shape else 0
    if kind == "diagonal" and len(shape) != 2: return
    args = {"transpose": lambda: (0, -1), "permute": lambda: tuple(r.sample(range(len(shape)), len(shape))), "clone": lambda: (), "detach": lambda: (), "movedim": lambda: (0, -1),
            "narrow": lambda: (d, s := r.randrange(shape[d]), r.randint(1, shape[d] - s + (r.random() < 0.1))), "select": lambda: (d, r.randrange(shape[d])),
            "unfold": lambda: (d, r.randint(1, shape[d]), r.choice([1, 1, 2])), "expand": lambda: ((2,) * r.choice([0, 1]) + tuple(3 if n == 1 else n for n in shape),),
            "reshape": lambda: (r.choice([(-1,), (1, *shape), (*shape, 1), shape[::-1], (-1, 1)]),), "grow": lambda: ((*shape, 1),), "diagonal": lambda: (r.choice([0, 0, 1]),),
            "index": lambda: (basic(p, shape),), "unsqueeze": lambda: (r.randint(0, len(shape)),), "squeeze": lambda: (), "flatten": lambda: (), "contiguous": lambda: (),
            "split": lambda: (1, d), "view": lambda: (r.choice([shape[::-1], (-1,), (1, *shape)]),), "flip": lambda: (d,)}[kind]()
    name = {"grow": "reshape", "index": "__getitem__"}.get(kind, kind)
    if kind == "split": p.do(f"split {i} {args} [0]", (i,), lambda m, t: t.split(*args)[0].clone())
    else: p.do(f"{name} {i} {args}", (i,), lambda m, t: getattr(t, name)(*args))


def basic(p, shape):
    """An index of integers and slices."""
    out = []
    for n in shape[:p.r.randint(1, len(shape))]:
        at = p.r.randrange(n)
        out.append(p.r.choice([at, -1, slice(at, None), slice(None), slice(0, n, 2), slice(None, at + 1)]))
    return tuple(out) if p.r.random() < 0.9 else (Ellipsis, p.r.choice([0, -1]))


def as_strided(p):
    # differs: the gradient of as_strided of a view goes to all of the memory it shows, in PyTorch to the part that the view shows
    i = p.pick(lambda t: not t.requires_grad and t.numel())
    if i is None: return
    room = p.torch[i].untyped_storage().nbytes() // p.torch[i].element_size()
    size = tuple(p.r.choice([1, 2, 3]) for _ in range(p.r.choice([1, 2, 2, 3])))
    stride = tuple(p.r.choice([0, 1, 1, 2, 3]) for _ in size)
    reach = sum((n - 1) * s for n, s in zip(size, stride))
    offset = p.r.randrange(max(room - reach, 1))
    p.do(f"as_strided {i} {size} {stride} {offset}", (i,), lambda m, t: t.as_strided(size, stride, offset))


def aside(p):
    """Tensors beside the graph: detach, .data, deepcopy, values made under no_grad or inference_mode."""
    kind = p.r.choice(["data", "deepcopy", "no_grad mul", "inference", "no_grad view", "copy", "detach_"])
    i = p.pick(inexact if kind in ("inference", "no_grad mul") else lambda t: True)
    if i is None: return
    # differs: a later write through .data to a value that backward saved makes PyTorch's gradients wrong without a word
    if kind == "data" and any(u.requires_grad for u in p.torch): p.do(f"data + 1 {i}", (i,), lambda m, t: t.data + 1)
    elif kind == "data": p.do(f"data {i}", (i,), lambda m, t: t.data)
    elif kind == "deepcopy":                   # differs: PyTorch's copies have version 1, because their memory is set afterwards
        p.do(f"deepcopy {i}", (i,), lambda m, t: copy.deepcopy(t))
        p.unversioned.add(p.torch[-1].untyped_storage().data_ptr())
    elif kind == "copy": p.do(f"empty_like.copy_ {i}", (i,), lambda m, t: m.empty_like(t).copy_(t))
    elif kind == "detach_" and p.torch[i].grad_fn is not None and not p.has_views(i): p.do(f"detach_ {i}", (i,), lambda m, t: t.detach_(), new=False)
    elif kind == "no_grad mul": p.do(f"no_grad mul {i}", (i,), lambda m, t: within(m.no_grad(), lambda: t * 2))
    # differs: PyTorch says requires_grad of a view taken under no_grad, which has no gradient; it's False here
    elif kind == "no_grad view" and not p.torch[i].requires_grad: p.do(f"no_grad view {i}", (i,), lambda m, t: within(m.no_grad(), lambda: t.reshape(-1).mul_(1)) * 2)
    elif kind == "inference": p.do(f"inference {i}", (i,), lambda m, t: within(m.inference_mode(), lambda: (t * 2 + 1).add_(1)) + 0)


def within(mode, f):
    with mode: return f()


# ---------------------------------------------------------------- writes
def writable(p, i, j=None):
    """Is a write defined in PyTorch?"""
    t = p.torch[i]
    if t.untyped_storage().data_ptr() in p.hooked: return False        # differs: a hook on a view outlives writes through views, PyTorch drops it
    # differs: writing through overlapping memory, and sources that overlap the destination, are undefined in PyTorch
    if overlaps(View(tuple(t.shape), t.stride(), 0)) and not any(s == 0 and n > 1 for s, n in zip(t.stride(), t.shape)): return False
    if j is None: return True
    u = p.torch[j]
    return not (same_memory(t, u) and i != j) and not (u.requires_grad and not inexact(t)) and not (inexact(u) and not inexact(t)) and not (u.dtype.is_complex and not t.dtype.is_complex)


def operand_for(p, i):
    """Something that fits into tensor i: of its shape, or one that broadcasts."""
    shape = tuple(p.torch[i].shape)
    x = p.r.random()
    return p.pick(lambda u: u.shape == shape) if x < 0.5 else p.pick(lambda u: fits(tuple(u.shape), shape)) if x < 0.85 else p.pick()


def write(p):
    r = p.r
    kind = r.choice(["add_", "mul_", "sub_", "copy_", "zero_", "number", "number", "unary", "addcmul_", "masked_fill_", "+=", "fill"])
    i = p.pick()
    j = operand_for(p, i)
    t, u = p.torch[i], p.torch[j]
    p.on_view = t._is_view()
    if kind == "sub_" and torch.bool in (t.dtype, u.dtype): kind = "mul_"
    if not writable(p, i, j) or same_memory(t, u) and kind == "copy_": return
    if kind in ("add_", "mul_", "sub_", "copy_"): p.do(f"{kind} {i} {j}", (i, j), lambda m, t, u: getattr(t, kind)(u), new=False)
    elif kind == "+=": p.do(f"{i} += {j}", (i, j), lambda m, t, u: t.__iadd__(u), new=False)
    elif kind == "zero_": p.do(f"zero_ {i}", (i,), lambda m, t: t.zero_(), new=False)
    elif kind == "fill": p.do(f"fill_ {i}", (i,), lambda m, t: t.fill_(1), new=False)
    elif kind == "number":
        x, name = r.choice([2, 0.5, -1.5]), r.choice(["add_", "mul_"])
        p.do(f"{name} {i} {x}", (i,), lambda m, t: getattr(t, name)(x), new=False)
    elif kind == "unary" and ordered(t):
        name = r.choice(["tanh_", "relu_", "sigmoid_", "neg_"])
        p.do(f"{name} {i}", (i,), lambda m, t: getattr(t, name)(), new=False, rough=True)
    elif kind == "addcmul_" and inexact(t) and u.dtype == t.dtype and not same_memory(t, u): p.do(f"addcmul_ {i} {j}", (i, j), lambda m, t, u: t.addcmul_(u, u), new=False, rough=True)
    elif kind == "masked_fill_":
        c = p.pick(lambda c: c.dtype == torch.bool and fits(tuple(c.shape), tuple(t.shape)))
        if c is not None and not same_memory(t, p.torch[c]) and 0 not in t.stride(): p.do(f"masked_fill_ {i} {c}", (i, c), lambda m, t, c: t.masked_fill_(c, 1), new=False)


def set_item(p):
    i = p.pick(lambda t: t.dim() and t.numel())
    if i is None: return
    p.on_view = p.torch[i]._is_view()
    at = basic(p, tuple(p.torch[i].shape))
    j = p.pick(lambda u: u.shape == p.torch[i][at].shape) if p.r.random() < 0.5 else None
    if j is not None and writable(p, i, j) and i != j: p.do(f"{i}[{at}] = {j}", (i, j), lambda m, t, u: t.__setitem__(at, u), new=False)
    elif j is None and writable(p, i):
        x = p.r.choice([0, 1, 1.5, -2] if inexact(p.torch[i]) else [0, 1, 2])
        p.do(f"{i}[{at}] = {x}", (i,), lambda m, t: t.__setitem__(at, x), new=False)


def written_aside(p):
    """Writes that autograd doesn't see."""
    i = p.pick()
    j = operand_for(p, i)
    name, x, through = p.r.choice(["add_", "mul_", "zero_", "copy_"]), p.r.choice([0.5, 2.0]), p.r.choice(["no_grad", "no_grad", "data", "detach"])
    p.on_view = p.torch[i]._is_view()
    if not writable(p, i, j) or same_memory(p.torch[i], p.torch[j]) and name == "copy_": return
    # differs: a write through .data to a value that backward saved makes PyTorch's gradients wrong without a word
    if through == "data" and any(u.requires_grad for u in p.torch): through = "detach"

    def run(m, t, u):
        t = t.data if through == "data" else t.detach() if through == "detach" else t
        with m.no_grad(): t.zero_() if name == "zero_" else getattr(t, name)(u if name == "copy_" else x)
    p.do(f"{through} {name} {i} {j if name == 'copy_' else x}", (i, j), run, new=False)


# ---------------------------------------------------------------- positions held by tensors
def advanced(p, shape, unique=False):
    """(text, index for a library) of integer tensors, masks, slices and numbers."""
    r, parts, d = p.r, [], 0
    many = r.choice([2, 3])
    while d < len(shape):
        n = shape[d]
        kind = r.choice(["rows", "rows", "slice", "number", "mask", "grid"]) if parts or d + 1 < len(shape) else r.choice(["rows", "mask", "grid"])
        if kind == "rows": parts.append(("index", r.sample(range(n), n) if unique else [r.randrange(-n, n) for _ in range(many)]))
        elif kind == "grid" and not unique: parts.append(("index", [[r.randrange(n)] for _ in range(2)]))
        elif kind == "mask": parts.append(("mask", [k == 0 or r.random() < 0.6 for k in range(n)]))
        elif kind == "number": parts.append(("plain", r.randrange(n)))
        else: parts.append(("plain", slice(None, None, r.choice([1, 2]))))
        d += 1
        if r.random() < 0.4: break
    return [x for _, x in parts], lambda m: tuple(m.tensor(x, dtype=m.bool if k == "mask" else m.int64) if k != "plain" else x for k, x in parts)


def look_up(p):
    r = p.r
    i = p.pick(lambda t: t.dim() and t.numel())
    if i is None: return
    shape = tuple(p.torch[i].shape)
    d = r.randrange(len(shape))
    rows = [r.randrange(shape[d]) for _ in range(r.randint(1, 3))]
    kind = r.choice(["index", "index", "index", "bool", "index_select", "gather", "take"])
    if kind == "index":
        text, at = advanced(p, shape)
        p.do(f"{i}[{text}]", (i,), lambda m, t: t[at(m)])
    elif kind == "bool":
        c = p.pick(lambda c: c.dtype == torch.bool and c.shape == shape)
        if c is not None: p.do(f"{i}[{c}]", (i, c), lambda m, t, c: t[c])
    elif kind == "index_select": p.do(f"index_select {i} {d} {rows}", (i,), lambda m, t: t.index_select(d, m.tensor(rows)))
    elif kind == "gather":
        at = np.random.default_rng(r.randrange(1 << 30)).integers(0, shape[d], shape)
        p.do(f"gather {i} {d}", (i,), lambda m, t: t.gather(d, m.tensor(at)))
    else: p.do(f"take {i}", (i,), lambda m, t: t.take(m.tensor([0, -1])))


def place(p):
    """Writes at positions held by tensors."""
    r = p.r
    i = p.pick(lambda t: t.dim() and t.numel() and 0 not in t.stride())
    if i is None or not writable(p, i): return
    t = p.torch[i]
    shape = tuple(t.shape)
    p.on_view = t._is_view()
    x = r.choice([0, 1, -2] if t.dtype != torch.uint8 else [0, 1])
    d = r.randrange(len(shape))
    rows = r.sample(range(shape[d]), r.randint(1, shape[d]))
    kind = r.choice(["set", "set", "accumulate", "mask", "index_fill_", "index_add_", "scatter_"])
    if kind == "set":
        text, at = advanced(p, shape, unique=True)
        p.do(f"{i}[{text}] = {x}", (i,), lambda m, t: t.__setitem__(at(m), x), new=False)
    elif kind == "accumulate":
        again = [r.randrange(shape[0]) for _ in range(3)]
        p.do(f"index_put_ {i} {again}", (i,), lambda m, t: t.index_put_((m.tensor(again),), m.tensor(x).to(t.dtype), accumulate=True), new=False, rough=True)
    elif kind == "mask":
        c = p.pick(lambda c: c.dtype == torch.bool and c.shape == shape)
        if c is not None and not same_memory(t, p.torch[c]): p.do(f"{i}[{c}] = {x}", (i, c), lambda m, t, c: t.__setitem__(c, x), new=False)
    elif kind == "index_fill_": p.do(f"index_fill_ {i} {d} {rows}", (i,), lambda m, t: t.index_fill_(d, m.tensor(rows), x), new=False)
    elif kind == "index_add_":
        j = p.pick(lambda u: u.shape == shape and u.dtype == t.dtype and not same_memory(t, u))
        if j is not None and writable(p, i, j):
            every = [r.randrange(shape[d]) for _ in range(shape[d])]
            p.do(f"index_add_ {i} {d} {every} {j}", (i, j), lambda m, t, u: t.index_add_(d, m.tensor(every), u), new=False, rough=True)
    else: p.do(f"scatter_ {i} {d}", (i,), lambda m, t: t.scatter_(d, m.zeros((1,) * len(shape), dtype=m.int64), x), new=False)


# ---------------------------------------------------------------- reductions, products, joins
def reduction(p):
    r = p.r
    i, name = p.pick(lambda t: t.numel()), r.choice(["sum", "amax", "mean", "prod", "cumsum", "softmax", "sort", "norm", "any"])
    t = p.torch[i]
    if name in ("mean", "softmax", "norm") and not floating(t) or name in ("amax", "sort") and not ordered(t) or name == "amax" and t.dtype == torch.bool: name = "sum"
    # differs: the order of equal elements' gradients, and of elements that rounding made equal
    if name in ("any", "sort") and (p.is_rough(i) or inexact(t) and name == "any"): name = "sum"
    d, keep = r.choice([None, *range(t.dim())]), r.random() < 0.4
    if name in ("cumsum", "softmax", "sort"):
        if not t.dim(): return
        d = r.randrange(t.dim())
        p.do(f"{name} {i} {d}", (i,), lambda m, t: getattr(t, name)(d)[0] if name == "sort" else getattr(t, name)(d), rough=True)
    elif name == "norm": p.do(f"norm {i}", (i,), lambda m, t: (t * t + 1).norm(), rough=True)
    elif d is None: p.do(f"{name} {i}", (i,), lambda m, t: getattr(t, name)(), rough=True)
    else: p.do(f"{name} {i} {d} {keep}", (i,), lambda m, t: getattr(t, name)(d, keepdim=keep), rough=True)


def product(p):
    i = p.pick(lambda t: t.dim() in (1, 2, 3) and inexact(t))
    j = None if i is None else p.pick(lambda t: t.dim() in (1, 2, 3) and t.dtype == p.torch[i].dtype and (t.shape[0] if t.dim() == 1 else t.shape[-2]) == p.torch[i].shape[-1])
    if j is None: return
    p.do(f"matmul {i} {j}", (i, j), lambda m, t, u: t @ u, rough=True)
    # differs: PyTorch squeezes some results of matmul in place, which counts as a version and leaves strides of axes of length 1 as they come
    p.unversioned.add(p.torch[-1].untyped_storage().data_ptr())
    if 1 in p.torch[-1].shape: p.foreign.add(len(p.torch) - 1)


def join(p):
    i = p.pick(lambda t: t.dim() >= 1)
    if i is None: return
    shape, d, name = p.torch[i].shape, p.r.randrange(p.torch[i].dim()), p.r.choice(["cat", "stack"])
    j = p.pick(lambda u: u.shape == shape)
    p.do(f"{name} {i} {j} {d}", (i, j), lambda m, t, u: getattr(m, name)([t, u], d))


# ---------------------------------------------------------------- autograd
def functions(m):
    """The same custom Functions in a library."""
    class Square(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            ctx.save_for_backward(x)
            ctx.k = k
            return x * x * k

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * 2 * x * ctx.k, None

    class Both(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y, x + y

        @staticmethod
        def backward(ctx, g, h):
            x, y = ctx.saved_tensors
            return g * y + h, (g * x + h if ctx.needs_input_grad[1] else None)
    return {"Square": Square, "Both": Both}


CUSTOM = {torch: functions(torch), forno: functions(forno)}


def custom(p):
    i = p.pick(floating)
    if i is None: return
    kind = p.r.choice(["Square", "Square", "Both"])
    if kind == "Square": p.do(f"Square {i}", (i,), lambda m, t: CUSTOM[m]["Square"].apply(t, 0.5))
    else:
        j = p.pick(lambda u: u.shape == p.torch[i].shape and u.dtype == p.torch[i].dtype)
        p.do(f"Both {i} {j}", (i, j), lambda m, t, u: sum(CUSTOM[m]["Both"].apply(t, u)))


def marks(p):
    """requires_grad_, hooks of all kinds, retain_grad."""
    kind = p.r.choice(["requires", "hook", "hook", "retain", "accumulated"])
    i = p.pick(inexact)
    if i is None: return
    t = p.torch[i]
    if kind == "requires":
        # differs: a view taken before requires_grad_ on its base collects its own .grad in PyTorch
        if not p.has_views(i): p.do(f"requires_grad_ {i}", (i,), lambda m, t: t.requires_grad_(), new=False)
    elif kind == "hook":
        # differs: a hook on a view that is a leaf stays with that view in PyTorch
        if t.requires_grad and t._is_view(): p.hooked.add(t.untyped_storage().data_ptr())
        if t.requires_grad and (t.grad_fn is not None or not t._is_view()): p.do(f"hook {i}", (i,), lambda m, t: t.register_hook(lambda g: g * 2) and None, new=False)
    elif kind == "accumulated":
        if t.requires_grad and t.is_leaf and not t._is_view():
            p.do(f"after accumulation {i}", (i,), lambda m, t: t.register_post_accumulate_grad_hook(lambda t: t.grad.mul_(0.5) and None) and None, new=False)
    elif t.requires_grad and not t.is_leaf and not t.retains_grad:
        p.do(f"retain_grad {i}", (i,), lambda m, t: t.retain_grad(), new=False)
        p.kept[i] = t._version


def total(y): return y.real.sum() + y.imag.sum() if y.is_complex() else y.sum()


def backward(p):
    i = p.pick(attached)
    if i is None: return
    retain = p.r.random() < 0.4
    if p.r.random() < 0.5: close_window(p)
    p.do(f"backward {i} {retain}", (i,), lambda m, t: total(t).backward(retain_graph=retain), new=False)


def double(p):
    i, j = p.pick(attached), p.pick(lambda t: attached(t) and t.is_leaf)
    if i is None or j is None or p.torch[j].grad is not None: return

    def run(m, y, x):
        g, = m.autograd.grad(total(y.tanh() if p.torch[i].dtype.is_floating_point else y * y), [x], create_graph=True, allow_unused=True)
        return (m.zeros(tuple(x.shape), dtype=x.dtype) if g is None else g).contiguous()
    p.foreign.add(len(p.torch))
    p.do(f"grad {i} {j}", (i, j), run, rough=True)


def close_window(p):
    if p.log is not None: p.log.append("flush")
    flush()


def train(p):
    """A few steps of an optimizer: the same statements again, so that lines, plans and backwards are found and not made."""
    r = p.r
    i = p.pick(lambda t: attached(t) and t.is_leaf and floating(t) and t.numel() and not t._is_view())
    j = None if i is None else p.pick(lambda t: floating(t) and t.dtype == p.torch[i].dtype and fits(tuple(t.shape), tuple(p.torch[i].shape)) and not same_memory(t, p.torch[i]))
    if j is None: return
    steps, between, none, custom_step = r.choice([2, 3, 5]), r.random() < 0.5, r.random() < 0.5, r.random() < 0.3

    def run(m, w, x):
        x = x.detach()
        losses = []
        momentum = m.zeros_like(w)
        for _ in range(steps):
            y = CUSTOM[m]["Square"].apply(w, 0.5) if custom_step else (w * x + 0.5).tanh()
            loss = y.sum() * 0.01
            if between: (flush() if m is forno else None)
            loss.backward()
            with m.no_grad():
                momentum.mul_(0.9).add_(w.grad)
                w.sub_(momentum * 0.1)
            w.grad = None if none else w.grad.zero_()
            losses.append(loss.detach())
        return m.stack(losses)
    p.foreign.add(len(p.torch))
    p.do(f"train {i} {j} steps={steps} flush={between} custom={custom_step}", (i, j), run, rough=True)


STATEMENTS = {leaf: 8, like: 1, unary: 7, binary: 13, number: 6, power: 2, ternary: 4, cast: 4, view: 24, as_strided: 2, aside: 4, write: 13, set_item: 5, written_aside: 4, look_up: 6,
              place: 4, reduction: 7, product: 3, join: 3, custom: 2, marks: 4, backward: 5, double: 1.5, close_window: 3, train: 1}
