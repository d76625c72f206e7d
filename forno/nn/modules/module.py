"""Module: a tree of parameters, buffers and submodules with a forward function. The base class of every layer and model."""
from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict

from ...compiler import compile
from ...core.hot import hot
from ...framework import api as torch
from ..parameter import Buffer, Parameter
from . import hooks
from .hooks import (_global_backward_hooks, _global_backward_pre_hooks, _global_buffer_registration_hooks, _global_forward_hooks,
                    _global_forward_pre_hooks, _global_module_registration_hooks, _global_parameter_registration_hooks, registered)
from .hooks import (register_module_backward_hook, register_module_buffer_registration_hook, register_module_forward_hook,
                    register_module_forward_pre_hook, register_module_full_backward_hook, register_module_full_backward_pre_hook,
                    register_module_module_registration_hook, register_module_parameter_registration_hook)
from .state import _EXTRA_STATE_KEY_SUFFIX, StateDict, _IncompatibleKeys
from .utils import parse_to, typename

__all__ = ["Module", "register_module_forward_pre_hook", "register_module_forward_hook", "register_module_full_backward_pre_hook",
           "register_module_backward_hook", "register_module_full_backward_hook", "register_module_buffer_registration_hook",
           "register_module_module_registration_hook", "register_module_parameter_registration_hook",
           "_IncompatibleKeys", "_EXTRA_STATE_KEY_SUFFIX"]

_TABLES = ("_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
           "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
           "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
_USUAL: set[type] = set()
_NONE: dict = {}
_ABSENT = object()


def usual(cls):
    """A class (a decorator) whose own objects have no properties named like their parameters and buffers, so that `held` may look for them in the tables
    at once. Subclasses may have some, and parametrized modules are of such."""
    _USUAL.add(cls)
    return cls


@hot
def held(module, table, name):
    """The parameter or buffer module.name, which `table` holds: an attribute that isn't found where Python looks first takes longer than recording a line."""
    if module.__class__ in _USUAL:
        found = module.__dict__[table].get(name, _ABSENT)
        if found is not _ABSENT: return found
    return getattr(module, name)


def _addindent(text, n):
    """Indent every line but the first."""
    first, *rest = text.split("\n")
    return "\n".join([first] + [" " * n + line if line.strip() else "" for line in rest])


def _no_attribute(module, name): return AttributeError(f"'{type(module).__name__}' object has no attribute '{name}'")


class Module(hooks.Hooks, StateDict):
    """Assigning a Parameter, Buffer or Module to an attribute registers it; calling the module runs its hooks and `forward`."""
    dump_patches = False
    _version = 1                       # rises when a subclass's state dict changes; saved as metadata
    call_super_init = False
    _compiled_call_impl = None

    def __init__(self, *args, **kwargs):
        if not self.call_super_init and kwargs:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if not self.call_super_init and args:
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        own = self.__dict__            # past __setattr__, whose rules are for registered things
        own["training"] = True
        own["_parameters"], own["_buffers"], own["_non_persistent_buffers_set"] = {}, {}, set()
        own["_is_full_backward_hook"] = None
        for table in _TABLES:
            own[table] = OrderedDict()
        own["_modules"] = {}
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input):
        """The computation of every call; subclasses define it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    @hot
    def _call_impl(self, *args, **kwargs):
        if not (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks or _global_forward_hooks
                or _global_forward_pre_hooks or _global_backward_hooks or _global_backward_pre_hooks):
            return self.forward(*args, **kwargs)
        return hooks.call(self, args, kwargs)

    @hot
    def __call__(self, *args, **kwargs):
        compiled = self._compiled_call_impl
        return self._call_impl(*args, **kwargs) if compiled is None else compiled(*args, **kwargs)

    def compile(self, *args, **kwargs):
        """Calls of this module go through `compile` from now on."""
        self._compiled_call_impl = compile(self._call_impl, *args, **kwargs)

    # ---- registering ----

    def _check_name(self, what, name, table):
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {typename(name)}")
        if what == "module" and hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."' + (f", got: {name}" if what == "module" else ""))
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name, tensor, persistent=True):
        """A tensor that moves and is saved with the module (unless not persistent) but is not a parameter."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, torch.Tensor):
            raise TypeError(f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or None required)")
        self._buffers[name] = registered(_global_buffer_registration_hooks, self, name, tensor)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_parameter(self, name, param):
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is None:
            self._parameters[name] = None
            return
        if not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{typename(param)}' object to parameter '{name}' (torch.nn.Parameter or None required)")
        if param.grad_fn:
            raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To express '{name}' "
                             "as a function of another Tensor, compute the value in the forward() method.")
        self._parameters[name] = registered(_global_parameter_registration_hooks, self, name, param)

    def add_module(self, name, module):
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = registered(_global_module_registration_hooks, self, name, module)

    def register_module(self, name, module): self.add_module(name, module)

    @hot
    def __getattr__(self, name):
        own = self.__dict__
        for table in ("_modules", "_parameters", "_buffers"):
            found = own.get(table, _NONE).get(name, _ABSENT)
            if found is not _ABSENT:
                return found
        raise _no_attribute(self, name)

    def _forget(self, name, *tables):
        for table in tables:
            if name in table:
                table.discard(name) if isinstance(table, set) else table.pop(name)

    def __setattr__(self, name, value):
        own = self.__dict__
        params = own.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, own, self._buffers, self._modules, self._non_persistent_buffers_set)
            self.register_parameter(name, value)
        elif params is not None and name in params:
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)")
            self.register_parameter(name, value)
        elif isinstance(value, Module) or name in own.get("_modules", ()):
            self._set_module(name, value)
        elif isinstance(value, Buffer) or name in own.get("_buffers", ()):
            self._set_buffer(name, value)
        else:
            super().__setattr__(name, value)

    def _set_module(self, name, value):
        modules = self.__dict__.get("_modules")
        if modules is None:
            raise AttributeError("cannot assign module before Module.__init__() call")
        if isinstance(value, Module):
            self._forget(name, self.__dict__, self._parameters, self._buffers, self._non_persistent_buffers_set)
        elif value is not None:
            raise TypeError(f"cannot assign '{typename(value)}' as child module '{name}' (torch.nn.Module or None expected)")
        modules[name] = registered(_global_module_registration_hooks, self, name, value)

    def _set_buffer(self, name, value):
        if value is not None and not isinstance(value, torch.Tensor):
            raise TypeError(f"cannot assign '{typename(value)}' as buffer '{name}' (torch.nn.Buffer, torch.Tensor or None expected)")
        persistent = value.persistent if isinstance(value, Buffer) else name not in self._non_persistent_buffers_set
        if type(self).register_buffer is Module.register_buffer or "persistent" in inspect.signature(self.register_buffer).parameters:
            self.register_buffer(name, value, persistent)
        elif persistent:
            self.register_buffer(name, value)
        else:
            raise RuntimeError("Registering a non-persistent buffer on a Module subclass that implements register_buffer() without the persistent "
                               "argument is not allowed.")

    def __delattr__(self, name):
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                if table is self._buffers:
                    self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    # ---- looking up by dotted name ----

    def _attribute_of(self, name):
        if not hasattr(self, name):
            raise AttributeError(f"{self._get_name()} has no attribute `{name}`")
        return getattr(self, name)

    def get_submodule(self, target):
        module = self
        for item in target.split(".") if target else ():
            module = module._attribute_of(item)
            if not isinstance(module, Module):
                raise AttributeError(f"`{item}` is not an nn.Module")
        return module

    def set_submodule(self, target, module, strict=False):
        """Replace (or, unless strict, add) the submodule at a dotted name."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict:
            parent._attribute_of(name)
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target):
        path, _, name = target.rpartition(".")
        param = self.get_submodule(path)._attribute_of(name)
        if not isinstance(param, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return param

    def get_buffer(self, target):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        buffer = module._attribute_of(name)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return buffer

    # ---- walking the tree: depth first, in registration order, every object once ----

    def _named_members(self, get_members_fn, prefix="", recurse=True, remove_duplicate=True):
        seen = set()
        for path, module in self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        yield from self._named_members(lambda module: module._parameters.items(), prefix, recurse, remove_duplicate)

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        yield from self._named_members(lambda module: module._buffers.items(), prefix, recurse, remove_duplicate)

    def named_children(self):
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def parameters(self, recurse=True):
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def buffers(self, recurse=True):
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def children(self):
        for _, module in self.named_children():
            yield module

    def modules(self, remove_duplicate=True):
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    # ---- changing the whole tree ----

    def apply(self, fn):
        """Call fn on every module, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn, recurse=True):
        """Replace the content of every parameter, its gradient and every buffer by fn(it); parameters stay the same objects unless the device changes."""
        for module in self.children() if recurse else ():
            module._apply(fn)
        for name, param in self._parameters.items():
            if param is not None:
                self._parameters[name] = self._converted(param, fn)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    @staticmethod
    def _converted(param, fn):
        with torch.no_grad():
            changed, grad = fn(param), None if param.grad is None else fn(param.grad)
        if changed.is_meta is param.is_meta:
            if changed is not param:
                param.data = changed
            if grad is not None and grad is not param.grad:
                param.grad.data = grad
            return param
        moved = Parameter(changed, param.requires_grad)
        if grad is not None:
            moved.grad = grad.requires_grad_(param.grad.requires_grad)
        return moved

    def cuda(self, device=None): return self._apply(lambda t: t.cuda(device))
    def cpu(self): return self._apply(lambda t: t.cpu())
    def xpu(self, device=None): return self._apply(lambda t: t.xpu(device))
    def type(self, dst_type): return self._apply(lambda t: t.type(dst_type))
    def float(self): return self._apply(lambda t: t.float() if t.is_floating_point() else t)
    def double(self): return self._apply(lambda t: t.double() if t.is_floating_point() else t)
    def half(self): return self._apply(lambda t: t.half() if t.is_floating_point() else t)
    def bfloat16(self): return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)
    def share_memory(self): return self._apply(lambda t: t.share_memory_())
    def to_empty(self, *, device, recurse=True): return self._apply(lambda t: torch.empty_like(t, device=device), recurse=recurse)

    def to(self, *args, **kwargs):
        """to(device, dtype, non_blocking), to(dtype), to(tensor), to(memory_format=...): dtype applies to floating point and complex tensors only."""
        device, dtype, non_blocking, memory_format = parse_to(*args, **kwargs)
        if dtype is not None:
            if not (dtype.is_floating_point or dtype.is_complex):
                raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")
            if dtype.is_complex:
                warnings.warn("Complex modules are a new feature under active development whose design may change, and some modules might not work "
                              "as expected when using complex tensors as parameters or buffers.", stacklevel=2)

        def convert(t):
            wanted = dtype if t.is_floating_point() or t.is_complex() else None
            if t.is_meta and device is not None and torch.device(device).type != "meta":
                raise NotImplementedError("Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of torch.nn.Module.to() when moving "
                                          "module from meta to a different device.")
            if memory_format is not None and t.dim() in (4, 5):
                return t.to(device, wanted, non_blocking, memory_format=memory_format)
            return t.to(device, wanted, non_blocking)
        return self._apply(convert)

    def train(self, mode=True):
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self): return self.train(False)

    def requires_grad_(self, requires_grad=True):
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.detach_() if p.grad.grad_fn is not None else p.grad.requires_grad_(False)
                    p.grad.zero_()

    # ---- text and pickles ----

    def _get_name(self): return type(self).__name__

    def extra_repr(self):
        """The part of repr between the parentheses; subclasses override it."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        extra = extra.split("\n") if extra else []
        children = [f"({name}): " + _addindent(repr(module), 2) for name, module in self._modules.items()]
        if len(extra) == 1 and not children:
            return f"{self._get_name()}({extra[0]})"
        lines = extra + children
        return self._get_name() + "(" + ("\n  " + "\n  ".join(lines) + "\n" if lines else "") + ")"

    def __dir__(self):
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted(name for name in names if not name[0].isdigit())       # '0' of a container is no attribute one can type

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_compiled_call_impl"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        for table in _TABLES:                                                # pickles from before a table existed
            self.__dict__.setdefault(table, OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        self.__dict__.setdefault("_is_full_backward_hook", None)
