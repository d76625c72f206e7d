"""Hooks around a module's call: before and after forward, before and after backward, and at registration; for one module or all.

Comes in: functions a user registers. Goes out: a handle to remove each, and `call`, which runs a module's forward with every hook around it.
"""
from __future__ import annotations

import functools
import itertools
import warnings
import weakref
from collections import OrderedDict

from ...framework import api as torch
from ...framework.custom import Function

_ids = itertools.count()

_global_buffer_registration_hooks: dict = OrderedDict()
_global_module_registration_hooks: dict = OrderedDict()
_global_parameter_registration_hooks: dict = OrderedDict()
_global_backward_pre_hooks: dict = OrderedDict()
_global_backward_hooks: dict = OrderedDict()
_global_forward_pre_hooks: dict = OrderedDict()
_global_forward_hooks: dict = OrderedDict()
_global_forward_hooks_always_called: dict = OrderedDict()
_global_forward_hooks_with_kwargs: dict = OrderedDict()
_global_backward_is_full: list = [None]          # None until the first hook decides between full and non-full


class RemovableHandle:
    """Removes its hook with `remove()` or at the end of a `with` block."""

    def __init__(self, hooks_dict, *, extra_dict=None):
        self.id = next(_ids)
        extra = [] if extra_dict is None else extra_dict if isinstance(extra_dict, list) else [extra_dict]
        self.tables = tuple(weakref.ref(table) for table in (hooks_dict, *extra))

    @property
    def hooks_dict_ref(self): return self.tables[0]

    def remove(self):
        for ref in self.tables:
            table = ref()
            if table is not None:
                table.pop(self.id, None)

    def __getstate__(self): return tuple(ref() for ref in self.tables), self.id

    def __setstate__(self, state):
        tables, self.id = state
        self.tables = tuple(weakref.ref(OrderedDict() if table is None else table) for table in tables)

    def __enter__(self): return self
    def __exit__(self, *exc): self.remove()


class WrappedHook:
    """A hook that may receive its module first, without keeping the module alive."""

    def __init__(self, hook, module=None):
        self.hook, self.module = hook, None if module is None else weakref.ref(module)
        functools.update_wrapper(self, hook)

    @property
    def with_module(self): return self.module is not None

    def __call__(self, *args, **kwargs):
        if self.module is None:
            return self.hook(*args, **kwargs)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args, **kwargs)

    def __getstate__(self):
        return {"hook": self.hook, "with_module": self.with_module} | ({"module": self.module()} if self.with_module else {})

    def __setstate__(self, state):
        self.hook, self.module = state["hook"], None
        if state["with_module"]:
            if state["module"] is None:
                raise RuntimeError("You are trying to revive the hook of a dead Module!")
            self.module = weakref.ref(state["module"])


def _add(table, hook, *, prepend=False, flags=()):
    """Put a hook into a table; `flags` are (set, wanted) pairs keyed by the same id."""
    handle = RemovableHandle(table, extra_dict=[flag for flag, _ in flags])
    table[handle.id] = hook
    for flag, wanted in flags:
        if wanted:
            flag[handle.id] = True
    if prepend:
        table.move_to_end(handle.id, last=False)
    return handle


# ---- hooks of all modules ---------------------------------------------------------------------------------------------------------------

def register_module_buffer_registration_hook(hook): return _add(_global_buffer_registration_hooks, hook)
def register_module_module_registration_hook(hook): return _add(_global_module_registration_hooks, hook)
def register_module_parameter_registration_hook(hook): return _add(_global_parameter_registration_hooks, hook)
def register_module_forward_pre_hook(hook): return _add(_global_forward_pre_hooks, hook)
def register_module_full_backward_pre_hook(hook): return _add(_global_backward_pre_hooks, hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    return _add(_global_forward_hooks, hook,
                flags=((_global_forward_hooks_always_called, always_call), (_global_forward_hooks_with_kwargs, with_kwargs)))


def _register_global_backward(hook, full):
    if _global_backward_is_full[0] is (not full):
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a global Module hook. Please use only one of them.")
    _global_backward_is_full[0] = full
    return _add(_global_backward_hooks, hook)


def register_module_backward_hook(hook): return _register_global_backward(hook, False)
def register_module_full_backward_hook(hook): return _register_global_backward(hook, True)


def registered(table, module, name, value):
    """What the global registration hooks make of a value that is being registered."""
    for hook in table.values():
        replaced = hook(module, name, value)
        value = value if replaced is None else replaced
    return value


# ---- hooks of one module ----------------------------------------------------------------------------------------------------------------

class Hooks:
    """The part of Module that registers its own hooks."""

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """`hook(module, args) -> None or new args` (with_kwargs: `hook(module, args, kwargs) -> None or (args, kwargs)`)."""
        return _add(self._forward_pre_hooks, hook, prepend=prepend, flags=((self._forward_pre_hooks_with_kwargs, with_kwargs),))

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """`hook(module, args, output) -> None or new output`; always_call runs it even if forward raised."""
        return _add(self._forward_hooks, hook, prepend=prepend,
                    flags=((self._forward_hooks_with_kwargs, with_kwargs), (self._forward_hooks_always_called, always_call)))

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """`hook(module, grad_output) -> None or new grad_output`."""
        return _add(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """`hook(module, grad_input, grad_output) -> None or new grad_input`."""
        return self._register_backward(hook, True, prepend)

    def register_backward_hook(self, hook):
        """The old form. PyTorch binds it to the last autograd node of forward; here it sees what a full hook sees (docs/differences.md)."""
        return self._register_backward(hook, False, False)

    def _register_backward(self, hook, full, prepend):
        if self._is_full_backward_hook is (not full):
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only one of them.")
        self._is_full_backward_hook = full
        return _add(self._backward_hooks, hook, prepend=prepend)

    def _get_backward_hooks(self):
        """(full, non-full) hooks, global ones first."""
        hooks = {True: [], False: []}
        for is_full, table in ((_global_backward_is_full[0], _global_backward_hooks), (self._is_full_backward_hook, self._backward_hooks)):
            if is_full is not None:
                hooks[is_full] += table.values()
        return hooks[True], hooks[False]

    def _get_backward_pre_hooks(self):
        return [*_global_backward_pre_hooks.values(), *self._backward_pre_hooks.values()]


# ---- the backward pass seen from a module -----------------------------------------------------------------------------------------------

class _Tap(Function):
    """Identity whose gradient passes through `seen(grads) -> grads`: the gradients of all its tensors arrive together."""

    @staticmethod
    def forward(ctx, seen, *tensors):
        ctx.seen = seen
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx, *grads): return (None, *ctx.seen(grads))


class BackwardHook:
    """One call's full backward hooks: taps on the outputs remember grad_output, taps on the inputs run the hooks."""

    def __init__(self, module, hooks, pre_hooks):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs, self.n_inputs, self.n_outputs, self.input_places, self.output_places = None, -1, -1, None, None

    def tap_inputs(self, args):
        args, self.input_places = self._tap(args, self._on_grad_input)
        self.n_inputs = len(args)
        return args

    def tap_outputs(self, result):
        single = not isinstance(result, tuple)
        outputs, self.output_places = self._tap((result,) if single else result, self._on_grad_output)
        self.n_outputs = len(outputs)
        return outputs[0] if single else outputs

    @staticmethod
    def _tap(args, seen):
        places = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        if not (torch.is_grad_enabled() and any(args[i].requires_grad for i in places)):
            return args, None
        tapped = list(args)
        for i, t in zip(places, _Tap.apply(seen, *[args[i] for i in places])):
            tapped[i] = t
        rebuilt = tuple(tapped)
        return (type(args)(*rebuilt) if hasattr(args, "_fields") else rebuilt), places      # named tuples keep their type

    def _on_grad_output(self, grads):
        full = self._spread(self.output_places, grads, self.n_outputs)
        for hook in self.pre_hooks:
            full = self._replaced(hook(self.module, full), full, "Backward pre hook returned an invalid number of grad_output")
        self.grad_outputs = full
        if self.input_places is None:                     # no input requires grad: this is the last chance to call the hooks
            if self.hooks:
                warnings.warn("Full backward hook is firing when gradients are computed with respect to module outputs since no inputs require "
                              "gradients.",
                              stacklevel=5)
            nothing = (None,) * self.n_inputs
            for hook in self.hooks:
                returned = hook(self.module, nothing, full)
                if returned is not None and not (isinstance(returned, tuple) and all(g is None for g in returned)):
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return None or None for all "
                                       "gradients.")
            self.grad_outputs = None
        return tuple(full[i] for i in self.output_places)

    def _on_grad_input(self, grads):
        full = self._spread(self.input_places, grads, self.n_inputs)
        for hook in self.hooks:
            full = self._replaced(hook(self.module, full, self.grad_outputs), full, "Backward hook returned an invalid number of grad_input")
        self.grad_outputs = None
        return tuple(full[i] for i in self.input_places)

    @staticmethod
    def _spread(places, grads, n):
        full = [None] * n
        for i, g in zip(places, grads):
            full[i] = g
        return tuple(full)

    @staticmethod
    def _replaced(returned, grads, complaint):
        if returned is None:
            return grads
        if isinstance(returned, torch.Tensor):
            returned = (returned,)
        if len(returned) != len(grads):
            raise RuntimeError(f"{complaint}, got {len(returned)}, but expected {len(grads)}")
        return returned


# ---- a call with hooks ------------------------------------------------------------------------------------------------------------------

def any_global() -> bool:
    return bool(_global_backward_pre_hooks or _global_backward_hooks or _global_forward_pre_hooks or _global_forward_hooks)


def _before(module, args, kwargs):
    for key, hook in (*_global_forward_pre_hooks.items(), *module._forward_pre_hooks.items()):
        if key in module._forward_pre_hooks_with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def _run_forward_hook(module, key, hook, args, kwargs, result):
    with_kwargs = key in module._forward_hooks_with_kwargs or key in _global_forward_hooks_with_kwargs
    changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
    return result if changed is None else changed


def call(module, args, kwargs):
    """forward with every hook around it; after an error in forward, hooks registered with always_call still run."""
    result, called = None, set()
    try:
        pre_hooks, (full, non_full) = module._get_backward_pre_hooks(), module._get_backward_hooks()
        args, kwargs = _before(module, args, kwargs)
        hooks = [*full, *non_full]
        backward = BackwardHook(module, hooks, pre_hooks) if hooks or pre_hooks else None
        if backward:
            args = backward.tap_inputs(args)
        result = module.forward(*args, **kwargs)
        for key, hook in (*_global_forward_hooks.items(), *module._forward_hooks.items()):
            called.add(key)
            result = _run_forward_hook(module, key, hook, args, kwargs, result)
        if backward:
            if not isinstance(result, (torch.Tensor, tuple)):
                warnings.warn("For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                              f"but received {type(result)}", stacklevel=3)
            result = backward.tap_outputs(result)
        return result
    except Exception:
        for kind, table, always in (("global module", _global_forward_hooks, _global_forward_hooks_always_called),
                                    ("module", module._forward_hooks, module._forward_hooks_always_called)):
            for key, hook in table.items():
                if key in always and key not in called:
                    try:
                        result = _run_forward_hook(module, key, hook, args, kwargs, result)
                    except Exception as e:
                        warnings.warn(f"{kind} forward hook with ``always_call=True`` raised an exception that was silenced as another error "
                                      f"was raised in forward: {e}", stacklevel=3)
        raise
