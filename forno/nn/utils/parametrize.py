"""Parametrizations: a parameter or buffer that a module computes from others, by attribute access, with gradients to the originals.

After `register_parametrization(m, 'weight', f)`: m.weight is f(m.parametrizations.weight.original), and assigning m.weight calls f.right_inverse.
"""
from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import contextmanager

from ...framework import api as torch
from ..modules.container import ModuleDict, ModuleList
from ..parameter import Parameter

__all__ = ["cached", "ParametrizationList", "register_parametrization", "is_parametrized", "remove_parametrizations", "type_before_parametrizations",
           "transfer_parametrizations_and_params"]

_cache: dict = {}
_cache_depth = [0]


@contextmanager
def cached():
    """Within the block every parametrized tensor is computed once."""
    _cache_depth[0] += 1
    try:
        yield
    finally:
        _cache_depth[0] -= 1
        if not _cache_depth[0]:
            _cache.clear()


def _register(module, name, tensor):
    (module.register_parameter if isinstance(tensor, Parameter) else module.register_buffer)(name, tensor)


def _check_same(what, new, old, unsafe_says=""):
    """A tensor that takes another's place has its dtype and shape."""
    if not isinstance(new, torch.Tensor):
        raise ValueError(f"{what} must return a tensor. Got {type(new).__name__}.")
    for name in ("dtype", "shape"):
        if getattr(new, name) != getattr(old, name):
            raise ValueError(f"{what} may not change the {name} of the tensor{unsafe_says}: it was {getattr(old, name)} and became "
                             f"{getattr(new, name)}")


_UNSAFE = ", unless the `unsafe` flag is enabled"


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied in order, and the tensor(s) they start from: `original`, or `original0`, `original1`, …"""

    def __init__(self, modules, original, unsafe=False):
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        with torch.no_grad():
            new, before = original, original.detach().clone()
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass
        self.is_tensor = isinstance(new, torch.Tensor)
        if not self.is_tensor and not isinstance(new, Sequence):
            raise ValueError(f"'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got {type(new).__name__}")
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            for name in ("dtype", "device"):
                if getattr(new, name) != getattr(original, name):
                    raise ValueError(f"When `right_inverse` outputs one tensor, it may not change the {name}.\noriginal.{name}: "
                                     f"{getattr(original, name)}\nright_inverse(original).{name}: {getattr(new, name)}")
            original.data = new.detach()
            _register(self, "original", original)
        else:
            for i, t in enumerate(new):
                if not isinstance(t, torch.Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                                     f"Got element {i} of the sequence with type {type(t).__name__}.")
                if isinstance(original, Parameter):
                    t = Parameter(t, original.requires_grad)
                _register(self, f"original{i}", t.requires_grad_(original.requires_grad))
        if not unsafe:
            _check_same("Registering a parametrization", self(), before, _UNSAFE)

    def _originals(self):
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    @torch.no_grad()
    def right_inverse(self, value):
        """Set the originals so that the parametrized tensor becomes `value`."""
        for module in reversed(self):
            if not hasattr(module, "right_inverse"):
                raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
            value = module.right_inverse(value)
        if self.is_tensor and not isinstance(value, torch.Tensor):
            raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
        if not self.is_tensor and (not isinstance(value, Sequence) or len(value) != self.ntensors):
            raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got {type(value).__name__}.")
        for original, new in zip(self._originals(), [value] if self.is_tensor else value):
            if new.dtype != original.dtype:
                raise ValueError(f"The tensor returned by `right_inverse` has dtype {new.dtype} while `original` has dtype {original.dtype}")
            original.data = new.detach()

    def forward(self):
        first, *rest = list(self)
        x = first(*self._originals())
        for module in rest:
            x = module(x)
        return x


def _deepcopy(self, memo):
    if id(self) not in memo:
        memo[id(self)] = twin = self.__new__(type(self))
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
    return memo[id(self)]


def _getstate(self):
    raise RuntimeError("Serialization of parametrized modules is only supported through state_dict().")


def _inject_new_class(module):
    """A class of its own, so that properties do not touch other instances."""
    cls = type(module)
    extra = {"__getstate__": _getstate} | ({} if hasattr(cls, "__deepcopy__") else {"__deepcopy__": _deepcopy})
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), extra)


def _inject_property(module, name):
    def get(self):
        if not _cache_depth[0]:
            return self.parametrizations[name]()
        key = id(self), name
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def set(self, value): self.parametrizations[name].right_inverse(value)
    setattr(type(module), name, property(get, set))


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Compute module.<tensor_name> by a module from now on; several on one tensor are applied one after the other."""
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            now = getattr(module, tensor_name)
            then = parametrization(now)
            _check_same("A parametrization", then, now, _UNSAFE)
            if hasattr(parametrization, "right_inverse"):
                try:
                    _check_same("parametrization.right_inverse", parametrization.right_inverse(then), now, _UNSAFE)
                except NotImplementedError:
                    pass
        module.parametrizations[tensor_name].append(parametrization)
        module.parametrizations[tensor_name].unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _inject_new_class(module)
            module.parametrizations = ModuleDict()
        _inject_property(module, tensor_name)
        module.parametrizations[tensor_name] = made
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    return module


def is_parametrized(module, tensor_name=None):
    held = getattr(module, "parametrizations", None)
    return isinstance(held, ModuleDict) and (len(held) > 0 if tensor_name is None else tensor_name in held)


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Back to an ordinary tensor, with the computed value or (not leave_parametrized) the original one."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    held = module.parametrizations[tensor_name]
    if held.is_tensor:
        original = held.original
        if leave_parametrized:
            with torch.no_grad():
                original.data = getattr(module, tensor_name).detach()
    elif leave_parametrized:
        t = getattr(module, tensor_name)
        original = Parameter(t.detach()) if t.requires_grad else t
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module):
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Share parametrizations and originals with another module."""
    for name in (list(from_module.parametrizations) if tensor_name is None else [tensor_name]) if is_parametrized(from_module) else ():
        held = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for parametrization in held:
            register_parametrization(to_module, name, parametrization)
        for key, t in held._parameters.items():
            setattr(to_module.parametrizations[name], key, t)
    return to_module
