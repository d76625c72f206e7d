"""What a Tensor is to Python: metadata, conversion, in-place writes, the gradient attributes, and every name hung on the class."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..dnn import elementwise as ew
from ..dnn import movement as mv
from ..graph.line import LOCAL, Leaf, Node, record
from . import autograd, data, functions as fn, gradfn, hurried, views
from .bind import apply, constant, element_type, number, unary
from .layouts import FUNCTIONS, OTHERS
from .size import CPU, DEVICES, Size, place, strided
from .tensor import Lens, Tensor, check_write, data_of, detached, device_name, is_meta, leaf_on, memory, on_device, owned, read, require_grad, version, whole_write, write
from .views import shape_of


# ---------------------------------------------------------------- metadata
def size(self, dim=None): return Size(shape_of(self)) if dim is None else shape_of(self)[views.normalize_dim(dim, len(shape_of(self)))]
def dim(self): return len(shape_of(self))
def numel(self): return math.prod(shape_of(self))
def stride(self, dim=None): return memory(self).strides if dim is None else memory(self).strides[views.normalize_dim(dim, len(shape_of(self)))]
def storage_offset(self): return memory(self).offset
def element_size(self): return self.dtype.size


def counted(self) -> int:
    """Tensor._version."""
    v = version(self)
    if v < 0: raise RuntimeError("Inference tensors do not track version counter.")
    return v


def dtype_of(self):
    n = self.node
    if n is not None: return n.line.dtype
    s = self.alias.store
    return s.dtype if s.__class__ is Lens else s.node.line.dtype


# ---------------------------------------------------------------- autograd attributes
def requires_grad(self): return read(self).line.grad


def set_requires_grad(self, on):
    n = read(self)
    if on not in (True, False): raise RuntimeError("requires_grad must be a bool")
    if on == n.line.grad: return
    if n.line.grad and n.past.__class__ is not Leaf:
        raise RuntimeError("you can only change requires_grad flags of leaf variables.")
    if on:
        if n.line.dtype.category < dt.FLOAT: raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
        require_grad(self)
    else: forget(self, n)


def forget(self, n: Node):
    """requires_grad_(False) on a leaf: the value without the leaf."""
    plain = record(mv.detach, (n,))
    a = self.alias
    if a is None: self.node = plain
    elif a.leaf is not None: a.leaf, a.cache, a.seen = None, None, None
    else: a.store.node = a.cache = a.seen = plain; a.cache = a.seen = plain if a.view is None else None


def requires_grad_(self, requires_grad=True):
    n = read(self)
    if n.line.grad and n.past.__class__ is not Leaf:
        if not requires_grad:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that doesn't require "
                               "differentiation use var_no_grad = var.detach().")
        return self
    set_requires_grad(self, requires_grad)
    return self


def is_leaf(self): n = read(self); return n.past.__class__ is Leaf or not n.line.grad


def get_grad(self):
    journal = LOCAL.run.journal
    if journal is not None: journal.gradients = True
    past = read(self).past
    if past.__class__ is Leaf: return past.grad
    try: return self.kept.grad
    except AttributeError: return None


def set_grad(self, g):
    if g is not None:
        if not isinstance(g, Tensor): raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(g).__name__}")
        if g is self: raise RuntimeError("can't assign Variable as its own grad")
        if g.shape != shape_of(self): raise RuntimeError("assigned grad has data of a different size")
        if g.dtype is not self.dtype: raise RuntimeError("assigned grad has data of a different type")
        if g.device != self.device: raise RuntimeError("assigned grad has data located on a different device")
    journal = LOCAL.run.journal
    if journal is not None: journal.gradients = True
    past = read(self).past
    if past.__class__ is Leaf: past.grad = g
    elif g is not None:
        self.kept = Leaf()
        self.kept.grad = g
    else:
        try: self.kept.grad = None
        except AttributeError: pass


def grad_fn(self):
    n = read(self)
    return gradfn.vertex(n) if n.line.grad and n.past.__class__ is not Leaf else None


def output_nr(self) -> int:
    n = read(self)
    return 0 if n.past.__class__ is Leaf or not n.line.grad else gradfn.output_number(n)


def base(self):
    """Tensor._base: what a view is a view of."""
    return None if self.alias is None else self.alias.base


def is_view(self) -> bool: return base(self) is not None


def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    autograd.backward((self,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs=inputs)


def register_hook(self, hook): return autograd.add_hook(self, hook)


def register_post_accumulate_grad_hook(self, hook):
    past = read(self).past
    if past.__class__ is not Leaf: raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    LOCAL.run.unmemo = True
    if past.after is None: past.after = []

    def call(leaf):
        if hook(self) is not None: raise RuntimeError("Tensor post accumulate grad hooks should return None.")
    past.after.append(call)
    return autograd.Handle(past.after, call)


def detach(self): return detached(self)


def detach_(self):
    a = self.alias
    if a is not None and a.view is not None and not a.own: raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    n = read(self)
    if n.line.grad:
        if a is not None and a.own: a.store.node, a.seen = record(mv.detach, (a.store.node,)), None
        elif self.alias is None: self.node = record(mv.detach, (n,))
        else: self.alias.store.node = self.alias.cache = self.alias.seen = record(mv.detach, (n,))
    return self


def set_data(self, value):
    """`t.data = v`: t takes v's memory, keeping its own leaf."""
    if not isinstance(value, Tensor): raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
    n = read(self)
    if is_meta(self) is not is_meta(value):
        raise RuntimeError("Attempted to call `variable.set_data(tensor)`, but `variable` and `tensor` have incompatible tensor type.")
    d = detached(value)
    leaf = n.past if n.past.__class__ is Leaf else None
    self.node, self.alias = d.node, d.alias
    if leaf is not None:
        a = self.alias
        if a.view is None:
            from_ = a.store.node
            a.store.node = a.cache = a.seen = leaf_on(from_, leaf)
        else:
            a.leaf = leaf
            a.cache = a.seen = None


def make_subclass(cls, data, require_grad=False):
    """An instance of a Tensor subclass on the memory of `data`, without its history."""
    if data.__class__ in OTHERS: return FUNCTIONS["make_subclass"](cls, data, require_grad)
    d = detached(data)
    t = object.__new__(cls)
    t.node, t.alias = d.node, d.alias
    del d, data
    if require_grad: set_requires_grad(t, True)
    return t


# ---------------------------------------------------------------- in-place
def copy_(self, src, non_blocking=False):
    check_write(self)
    line = read(self).line
    if non_blocking and src.__class__ is Tensor:
        if hurried.fetched_into(self, src): return self
        if read(src).line.device != line.device: src = hurried.moved(src, line.device)
    n = read(src) if isinstance(src, Tensor) else constant(src, line.dtype, line.shape) if number(src) is not None else bad("copy_", src)
    if n.line.dtype is not line.dtype: n = record(mv.cast, (n,), line.dtype)
    if n.line.shape != line.shape: n = read(views.expand(owned(n), line.shape))
    n = record(mv.copy, (n,))
    if n.line.grad: n.line.title = "CopyBackwards"
    write(self, whole_write(self, n))
    return self


def bad(name, x): raise TypeError(f"{name}(): argument must be Tensor, not {type(x).__name__}")


def fill(input, value):
    if isinstance(value, Tensor):
        if shape_of(value): raise RuntimeError(f"fill only supports 0-dimension value tensor but got tensor with {len(shape_of(value))} dimensions.")
        return fn.to(views.clone(views.expand(value, shape_of(input))), input.dtype)
    n = read(input)
    if n.line.grad or n.line.device != "cpu" or number(value) is None: return fill_(views.clone(input), value)
    return views.as_preserved(owned(constant(value, n.line.dtype, n.line.shape)), input)


def fill_(self, value):
    check_write(self, False)
    line = read(self).line
    if isinstance(value, Tensor):
        if shape_of(value): raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {len(shape_of(value))} dimensions.")
        return copy_(self, value)
    if number(value) is None: bad("fill_", value)
    write(self, whole_write(self, constant(value, line.dtype, line.shape)))
    return self


def zero_(self):
    check_write(self, False)
    line = read(self).line
    write(self, whole_write(self, record(mv.full, (), (line.shape, line.dtype, 0))))
    return self


# ---------------------------------------------------------------- conversion
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    for a in args:
        if isinstance(a, (dt.dtype, type)): dtype = a
        elif isinstance(a, Tensor): dtype, device = a.dtype, a.device
        elif isinstance(a, (str, type(CPU), int)) and not isinstance(a, bool): device = a
        elif a is not None and not isinstance(a, bool): raise TypeError(f"to() received an invalid combination of arguments - got {type(a).__name__}")
    dtype = element_type(dtype)
    t = fn.to(self, dtype or self.dtype, copy)
    if device is not None:
        where = place(device)
        if device_name(t) != where: t = hurried.moved(t, where) if non_blocking else on_device(t, where)
    return t if memory_format is None or memory_format.name == "preserve_format" else views.converted(t, memory_format)


def caster(dtype):
    def method(self, memory_format=None): return to(self, dtype, memory_format=memory_format)
    return method


def type_(self, dtype=None, non_blocking=False):
    if dtype is None: return f"torch.{'' if device_name(self) == 'cpu' else device_name(self).partition(':')[0] + '.'}{ew.TITLES[self.dtype.name].replace('Complex', 'Complex')}Tensor"
    if isinstance(dtype, str):
        if dtype.startswith("torch.cuda."): return type_(to(self, device="cuda"), dtype.replace("cuda.", ""))
        dtype = {f"torch.{v}Tensor": dt.BY_NAME[k] for k, v in ew.TITLES.items()}.get(dtype, dtype)
    dtype = getattr(dtype, "dtype", dtype)
    if dtype.__class__ is not dt.dtype: raise ValueError(f"invalid type: '{getattr(dtype, '__name__', dtype)}'")
    return fn.to(self, dtype)


def to_bool(self):
    if numel(self) != 1:
        if numel(self) == 0: raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    return bool(data.item(self))


def scalar(kind):
    """float(t), int(t), complex(t)."""
    def method(self):
        if numel(self) != 1: raise ValueError("only one element tensors can be converted to Python scalars")
        x = data.item(self)
        if x.__class__ is complex and kind is not complex:
            if x.imag: raise RuntimeError(f"value cannot be converted to type {'double' if kind is float else 'int64_t'} without overflow")
            x = x.real
        return kind(x)
    return method


def to_index(self):
    if self.dtype.category > dt.INT: raise TypeError("only integer tensors of a single element can be converted to an index")
    if numel(self) != 1: raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(data.item(self))


def to_array(self, dtype=None, copy=None):
    a = data.to_numpy(self) if not requires_grad(self) else data.to_numpy(detached(self))
    return a if dtype is None else a.astype(dtype, copy=False)


def invert(self):
    if self.dtype.category > dt.INT: raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return _invert(self)


_invert = unary(ew.bitwise_not)


def contains(self, element):
    if not isinstance(element, Tensor) and number(element) is None:
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")
    return bool(data.item(fn.any(element == self)))


def reverse(self): return self.flip(0) if shape_of(self) else self


def length(self):
    shape = shape_of(self)
    if not shape: raise TypeError("len() of a 0-d tensor")
    return shape[0]


def iterate(self):
    if not shape_of(self): raise TypeError("iteration over a 0-d tensor")
    return iter(views.unbind(self, 0))


# ---------------------------------------------------------------- what gradient rules and composites use
def row(self, op, *others, attr=None): return apply(op, self, *others, attr=attr)
def filled(self, shape, value, dtype=None): return apply(mv.full, attr=(tuple(shape), dtype or self.dtype, value))
def ramp(self, n, start=0, step=1, dtype=dt.int64): return apply(mv.iota, attr=(n, dtype, start, step))


def hang(cls):
    """Every name of this file on the class."""
    for name, f in dict(shape=lambda s: Size(shape_of(s)), ndim=dim, dtype=dtype_of, requires_grad=None, is_leaf=is_leaf, grad_fn=grad_fn, grad=None,
                        device=lambda s: DEVICES[device_name(s)], layout=lambda s: strided, _version=counted, is_cuda=lambda s: device_name(s).startswith("cuda"), is_sparse=lambda s: False,
                        is_quantized=lambda s: False, is_meta=is_meta, is_mkldnn=lambda s: False, itemsize=element_size,
                        nbytes=lambda s: numel(s) * s.dtype.size, T=lambda s: views.permute(s, tuple(range(dim(s)))[::-1]), mT=lambda s: views.transpose(s, -2, -1),
                        _base=base, output_nr=output_nr, retains_grad=lambda s: getattr(s, "kept", None) is not None, is_nested=lambda s: False,
                        is_cpu=lambda s: device_name(s) == "cpu", is_xpu=lambda s: False, is_mps=lambda s: False).items():
        if f is not None: setattr(cls, name, property(f))
    cls._make_subclass = staticmethod(make_subclass)
    cls.requires_grad = property(requires_grad, set_requires_grad)
    cls.grad = property(get_grad, set_grad, lambda s: set_grad(s, None))
    cls.data = property(data_of, set_data)
    for name, f in dict(size=size, dim=dim, ndimension=dim, numel=numel, nelement=numel, stride=stride, storage_offset=storage_offset, is_contiguous=views.is_contiguous_in,
                        element_size=element_size, requires_grad_=requires_grad_, backward=backward, register_hook=register_hook, detach=detach, detach_=detach_,
                        register_post_accumulate_grad_hook=register_post_accumulate_grad_hook, retain_grad=autograd.retain_grad, _is_view=is_view, copy_=copy_, fill_=fill_, zero_=zero_,
                        to=to, type=type_, item=data.item, tolist=data.tolist, __bool__=to_bool, __index__=to_index, __len__=length, __contains__=contains, __reversed__=reverse,
                        __iter__=iterate, __array__=to_array, row=row, filled=filled, ramp=ramp, type_as=lambda s, o: fn.to(s, o.dtype), contiguous=views.contiguous_,
                        is_floating_point=lambda s: s.dtype.category == dt.FLOAT, is_complex=lambda s: s.dtype.category == dt.COMPLEX, is_signed=lambda s: s.dtype.signed,
                        cpu=lambda s, memory_format=None: to(s, device=CPU), data_ptr=data_ptr, is_shared=lambda s: False, get_device=lambda s: -1 if DEVICES[device_name(s)].index is None else DEVICES[device_name(s)].index,
                        pin_memory=hurried.pin_memory, is_pinned=hurried.is_pinned, numpy=lambda s, *, force=False: data.to_numpy(s, force),
                        __float__=scalar(float), __int__=scalar(int), __complex__=scalar(complex),
                        __hash__=object.__hash__).items():
        setattr(cls, name, f)
    for name, t in dict(float=dt.float32, double=dt.float64, half=dt.float16, bfloat16=dt.bfloat16, long=dt.int64, int=dt.int32, short=dt.int16, char=dt.int8,
                        byte=dt.uint8, bool=dt.bool, chalf=dt.complex32, cfloat=dt.complex64, cdouble=dt.complex128).items(): setattr(cls, name, caster(t))
    return cls


def data_ptr(self):
    if is_meta(self): return 0
    buffer, v = data.own_memory(self)
    buffer.kept = False
    return buffer.address + v.offset * self.dtype.size
