"""Tensors that modules own: Parameter (trained), Buffer (saved, not trained), and their uninitialized forms for lazy modules.

Comes in: a tensor. Goes out: the same memory under a class, or a mark, that `Module.__setattr__` recognizes.
"""
from __future__ import annotations

from collections import OrderedDict

from ..framework import api as torch, serialize

__all__ = ["Parameter", "UninitializedParameter", "is_lazy", "Buffer", "UninitializedBuffer", "UninitializedTensorMixin"]


def _rebuild(data, requires_grad, hooks, state=None):
    param = Parameter(data, requires_grad)
    param._backward_hooks = hooks
    for name, value in (state or {}).items():
        setattr(param, name, value)
    return param


@serialize.parameter
class Parameter(torch.Tensor):
    """A tensor that becomes part of `module.parameters()` when it is assigned to a module; a leaf that shares `data`'s memory."""
    prints_as_tensor = True                    # tensor(…), not Parameter(…), as PyTorch keeps it

    def __new__(cls, data=None, requires_grad=True):
        return torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(memory_format=torch.preserve_format), self.requires_grad)
        return memo[id(self)]

    def __repr__(self): return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, proto):
        state = self.__dict__
        return _rebuild, (self.data, self.requires_grad, OrderedDict()) + ((dict(state),) if state else ())


class _Marked(type(torch.Tensor)):
    """Buffers stay plain tensors; a mark on the object makes them instances of Buffer."""

    def __instancecheck__(cls, x):
        return isinstance(x, torch.Tensor) and getattr(x, "_is_buffer", False) if cls is Buffer else super().__instancecheck__(x)


class Buffer(torch.Tensor, metaclass=_Marked):
    """Marks a tensor so that assigning it to a module registers a buffer."""

    def __new__(cls, data=None, *, persistent=True):
        data = torch.empty(0) if data is None else data
        t = data.detach().requires_grad_(data.requires_grad)
        t.persistent, t._is_buffer = persistent, True
        return t


class UninitializedTensorMixin:
    """A tensor without a shape; `materialize(shape)` turns it in place into the class named by `cls_to_become`."""
    cls_to_become: type

    def materialize(self, shape, device=None, dtype=None):
        held = self.data
        self.data = torch.empty(shape, device=held.device if device is None else device, dtype=held.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become

    @property
    def shape(self):
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in `load_state_dict` when "
                           "trying "
                           "to load an uninitialized parameter into an initialized one. Call `forward` to initialize the parameters before accessing "
                           "their attributes.")

    def share_memory_(self):
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters before calling "
                           "`module.share_memory()`.")

    def __repr__(self): return f"<{type(self).__name__}>"
    def __reduce_ex__(self, proto): return type(self), (self.requires_grad,)


def is_lazy(param) -> bool:
    return isinstance(param, UninitializedTensorMixin)


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    cls_to_become = Parameter

    def __new__(cls, requires_grad=True, device=None, dtype=None):
        return torch.Tensor._make_subclass(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.data.device, self.data.dtype)
        return memo[id(self)]


class UninitializedBuffer(UninitializedTensorMixin, torch.Tensor):
    cls_to_become = torch.Tensor

    def __new__(cls, requires_grad=False, device=None, dtype=None, persistent=True):
        t = torch.Tensor._make_subclass(cls, torch.empty(0, device=device, dtype=dtype), requires_grad)
        t.persistent, t._is_buffer = persistent, True
        return t
