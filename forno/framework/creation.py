"""Tensors from nothing, from numbers and from data."""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.state import state
from ..cpu import memory as mem
from ..cudart import memory as device_memory
from ..dnn import movement as mv, recipes as rc
from ..dnn.elementwise import TITLES
from ..graph.line import ambient, record
from . import data, functions as fn, views
from .data import from_data, from_numpy
from .bind import apply, element_type, held, number
from .layouts import elsewhere
from .size import place, strided
from .lending import brought, offers_memory
from .tensor import Tensor, alone, device_name, is_meta, on_device, owned, without_data, wrap
from .views import ints, shape_of


def finish(t: Tensor, requires_grad, where: str = "cpu") -> Tensor:
    """`where`: the device that it is to be on."""
    if where != "cpu": t = on_device(t, where)
    if requires_grad: t.requires_grad_()
    return t


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A tensor with its own copy of the data."""
    if isinstance(data, Tensor) and is_meta(data): return finish(without_data(element_type(dtype) or data.dtype, shape_of(data)), requires_grad)
    if offers_memory(data): return finish(brought(data, element_type(dtype), None if device is None else place(device), True), requires_grad)
    where = device_name(data) if device is None and isinstance(data, Tensor) else place(device)
    return finish(from_data(data, element_type(dtype)), requires_grad, where)


def scalar_tensor(s, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """A 0-d tensor of a number, by default of the default dtype."""
    return full((), s, dtype=dtype or state.default_dtype, device=device, requires_grad=requires_grad)


def as_tensor(data, dtype=None, device=None):
    """The data as a tensor, sharing memory where it can."""
    dtype = element_type(dtype)
    if isinstance(data, Tensor): return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    if offers_memory(data): return brought(data, dtype, None if device is None else place(device), False)
    if (where := place(device)) != "cpu": return on_device(from_data(data, dtype), where)
    if isinstance(data, np.ndarray):
        t = from_numpy(data)
        return t if dtype is None else fn.to(t, dtype)
    return from_data(data, dtype)


def size_of(args, size, absent=False) -> tuple:
    shape = ints(args) if size is None else ints((size,))
    for i, n in enumerate(shape):
        if n >= 1 << 63: raise TypeError(f"argument 'size' failed to unpack the object at pos {i + 1} with error \"Overflow when unpacking long long\"")
        if n < 0: raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    if math.prod(shape) >= 1 << 47 and not absent: raise RuntimeError(f"[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate {math.prod(shape) * 4} bytes. "
                                                       "Error code 12 (Cannot allocate memory)")
    return shape


def constant(value):
    def make(*args, size=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, memory_format=None, names=None):
        dtype = element_type(dtype)
        if layout is not None and layout is not strided: return elsewhere("zeros" if value == 0 else "ones", layout, size_of(args, size), dtype, requires_grad)
        if (where := place(device)) == "meta": return finish(without_data(dtype or state.default_dtype, size_of(args, size, True)), requires_grad)
        return finish(apply(mv.full, attr=(size_of(args, size), dtype or state.default_dtype, value)), requires_grad, where)
    return make


zeros, ones = constant(0), constant(1)


def empty(*args, size=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, memory_format=None):
    """Uninitialised memory (its values are whatever was there)."""
    where = place(device)
    shape, dtype = size_of(args, size, where == "meta"), element_type(dtype) or state.default_dtype
    if where == "meta": return finish(without_data(dtype, shape), requires_grad)
    if layout is not None and layout is not strided: return elsewhere("zeros", layout, shape, dtype, requires_grad)
    return finish(wrap(data.node_of(room(math.prod(shape) * dtype.size, where), dtype, shape)), requires_grad)


def room(nbytes: int, where: str):
    """Fresh memory of a device."""
    return mem.empty(nbytes) if where == "cpu" else device_memory.empty(nbytes, where)


def full(size, fill_value, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    where = place(device)
    if isinstance(fill_value, Tensor): fill_value = data.item(fill_value)
    v = number(fill_value)
    if v is None: raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {type(fill_value).__name__}")
    dtype = element_type(dtype) or dt.default_for(dt.SCALAR_CATEGORY[type(v)], state.default_dtype)
    held(v, dtype)
    if where == "meta": return finish(without_data(dtype, size_of((size,), None, True)), requires_grad)
    return finish(owned(record(mv.full, (v,), (size_of((size,), None), dtype, None))), requires_grad, where)


def like(make):
    def f(input, *args, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False):
        where = input.device if device is None else device

        def made(shape): return make(shape, *args, dtype=dtype or input.dtype, device=where)
        if memory_format is None or memory_format.name == "preserve_format": t = views.made_like(made, input)
        else: t = views.contiguous_(made(shape_of(input)), memory_format)
        return finish(t, requires_grad)
    return f


zeros_like, ones_like, empty_like, full_like = like(zeros), like(ones), like(empty), like(full)


def arange(start=0, end=None, step=1, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    where = place(device)
    if end is None: start, end = 0, start
    start, end, step = (data.item(x) if isinstance(x, Tensor) else number(x) for x in (start, end, step))
    dtype = element_type(dtype)
    if dtype is not None and dtype.category in (dt.BOOL, dt.COMPLEX): raise NotImplementedError(f"\"arange_cpu\" not implemented for '{TITLES[dtype.name]}'")
    if complex in map(type, (start, end, step)): raise RuntimeError("value cannot be converted to type double without overflow")
    if dtype is None: dtype = dt.int64 if all(isinstance(x, int) for x in (start, end, step)) else state.default_dtype
    if step == 0: raise RuntimeError("step must be nonzero")
    if not all(math.isfinite(x) for x in (start, end)): raise RuntimeError(f"unsupported range: {start} -> {end}")
    if dtype is dt.int64:
        start, end, step = int(start), int(end), int(step)
        if step == 0: raise ValueError("step must be nonzero")
    if (end - start) * step < 0: raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    n = math.ceil((end - start) / step) if not all(isinstance(x, int) for x in (start, end, step)) else -(-(end - start) // step)
    if n >= 1 << 63: raise RuntimeError("invalid size, possible overflow?")
    if dtype.category == dt.INT: start, step = int(start), int(step)               # small integers count as PyTorch does: the length in floats, the steps in integers
    if n == 1 and dtype is dt.int64 and where == "cpu": return full((1,), start, dtype=dtype, requires_grad=requires_grad)       # a position that counts on is a number, not a new program
    return finish(apply(mv.iota, attr=(n, dtype, start, step)), requires_grad, where)


def eye(n, m=None, *, dtype=None, layout=None, device=None, requires_grad=False):
    m = n if m is None else m
    t = zeros(n, m, dtype=dtype, device=device)
    if not is_meta(t): views.diagonal(t).fill_(1)
    return finish(t, requires_grad)


def linspace(start, end, steps, *, dtype=None, layout=None, device=None, requires_grad=False):
    """`steps` points from start to end, mirrored from both ends as PyTorch does."""
    where = place(device)
    if isinstance(steps, (float, bool)): raise TypeError(f"linspace() received an invalid combination of arguments - got steps of type {type(steps).__name__}, but expected int")
    for x in (start, end):
        if isinstance(x, Tensor) and shape_of(x): raise RuntimeError(f"linspace only supports 0-dimensional start and end tensors, but got a tensor with {len(shape_of(x))} dimension(s).")
    start, end = (data.item(x) if isinstance(x, Tensor) else x for x in (start, end))
    dtype = element_type(dtype) or (state.default_dtype.to_complex() if isinstance(start, complex) or isinstance(end, complex) else state.default_dtype)
    if steps < 0: raise RuntimeError("number of steps must be non-negative")
    start, end = held(start, dtype), held(end, dtype)
    if dtype.category == dt.INT: start, end = int(start), int(end)
    if where == "meta": return finish(without_data(dtype, (steps,)), requires_grad)
    if steps == 0: return finish(empty(0, dtype=dtype), requires_grad, where)
    if steps == 1: return finish(full((1,), start, dtype=dtype), requires_grad, where)
    within = complex if dtype.is_complex else float
    ends = within(start), within(end), within((end - start) / (steps - 1))
    return finish(owned(record(rc.linspace, (record(mv.iota, (), (steps, dt.int64, 0, 1)), *ends), dtype)), requires_grad, where)


def logspace(start, end, steps, base=10.0, *, dtype=None, **kw):
    dtype = element_type(dtype) or state.default_dtype
    if dtype.category < dt.FLOAT: start, end = (int(data.item(x) if isinstance(x, Tensor) else x) for x in (start, end))          # exponents are of the result's type, too
    return fn.to(fn.pow(fn.as_tensor(float(base), None), linspace(start, end, steps, dtype=dt.float64, **kw)), dtype)


def empty_strided(size, stride, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    size, stride = ints((size,)), ints((stride,))
    room = 0 if 0 in size else 1 + sum((n - 1) * s for n, s in zip(size, stride))
    return finish(alone(views.as_strided(empty(room, dtype=dtype, device=device), size, stride, 0)), requires_grad)


def set_default_dtype(d):
    """Which float type bare Python floats become."""
    if d.__class__ is not dt.dtype or d.category != dt.FLOAT: raise TypeError("invalid dtype object: only floating-point types are supported as the default type")
    if d is not state.default_dtype:
        ambient(("default dtype", d))
        state.default_dtype = d


def get_default_dtype(): return state.default_dtype
