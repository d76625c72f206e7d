"""State dicts of modules: an ordered mapping from dotted names to tensors, out of a module tree and back into one."""
from __future__ import annotations

import itertools
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Mapping

from ...framework import api as torch
from ..parameter import Parameter, is_lazy
from .hooks import WrappedHook, _add

_EXTRA_STATE_KEY_SUFFIX = "_extra_state"


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    __slots__ = ()

    def __repr__(self):
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"
    __str__ = __repr__


class StateDict:
    """The part of Module that saves and loads."""

    def get_extra_state(self):
        """Override to add anything picklable to the state dict."""
        raise RuntimeError("Module.get_extra_state() was called without being overridden; override get_extra_state and set_extra_state together")

    def set_extra_state(self, state):
        """Override to receive what get_extra_state saved."""
        raise RuntimeError("Module.set_extra_state() was called without being overridden; override get_extra_state and set_extra_state together")

    def register_state_dict_pre_hook(self, hook):
        """`hook(module, prefix, keep_vars)` before state_dict."""
        return _add(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook):
        """`hook(module, state_dict, prefix, local_metadata)`, which edits in place and returns None."""
        hook._from_public_api = True
        return _add(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook):
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("Cannot register the same function as the state dict post hook that was previously registered via "
                               "register_state_dict_post_hook")
        return _add(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook):
        """`hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` before loading."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook, with_module=False):
        return _add(self._load_state_dict_pre_hooks, WrappedHook(hook, self if with_module else None))

    def register_load_state_dict_post_hook(self, hook):
        """`hook(module, incompatible_keys)`, which edits in place and returns None."""
        return _add(self._load_state_dict_post_hooks, hook)

    # ---- saving ----

    def _persistent_buffers(self):
        return ((name, b) for name, b in self._buffers.items() if name not in self._non_persistent_buffers_set)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for name, t in itertools.chain(self._parameters.items(), self._persistent_buffers()):
            if t is not None:
                destination[prefix + name] = t if keep_vars else t.detach()
        if type(self).get_extra_state is not StateDict.get_extra_state:
            destination[prefix + _EXTRA_STATE_KEY_SUFFIX] = self.get_extra_state()

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        """Parameters and persistent buffers by dotted name; detached, but sharing memory."""
        if args:
            warnings.warn("Positional args are being deprecated, use kwargs instead.", FutureWarning, stacklevel=2)
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            returned = hook(self, destination, prefix, local_metadata)
            if returned is not None:
                if getattr(hook, "_from_public_api", False):
                    raise RuntimeError("state_dict post-hook must return None")
                destination = returned
        return destination

    # ---- loading ----

    def _load_one(self, name, param, key, given, assign):
        """Copy or assign one tensor; returns a complaint or None."""
        if not isinstance(given, torch.Tensor):
            return (f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint but '
                    f"received {type(given)}")
        if not is_lazy(param):
            if len(param.shape) == 0 and len(given.shape) == 1 and given.shape[0] == 1:      # files from before 0-dim tensors existed
                given = given[0]
            if given.shape != param.shape:
                return (f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                        f"the shape in current model is {param.shape}.")
        if param.is_meta and not given.is_meta and not assign:
            warnings.warn(f"for {key}: copying from a non-meta parameter in the checkpoint to a meta parameter in the current model, which is a no-op. "
                          "(Did you mean to pass `assign=True` to assign items in the state dictionary to their corresponding key in the module instead of copying "
                          "them in place?)", stacklevel=2)
        try:
            with torch.no_grad():
                if not assign:
                    param.copy_(given)
                    return None
                if isinstance(param, Parameter):
                    same = isinstance(given, Parameter)
                    given = given.requires_grad_(param.requires_grad) if same else Parameter(given, requires_grad=param.requires_grad)
                setattr(self, name, given)
        except Exception as e:
            return (f'While copying the parameter named "{key}", whose dimensions in the model are {param.size()} and whose dimensions in the '
                    f"checkpoint are {given.size()}, an exception occurred : {e.args}.")

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        """This module's own tensors, without its children; subclasses override it to read older versions."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = {name: t for name, t in itertools.chain(self._parameters.items(), self._persistent_buffers()) if t is not None}
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, param in own.items():
            key = prefix + name
            if key in state_dict:
                complaint = self._load_one(name, param, key, state_dict[key], assign)
                if complaint:
                    error_msgs.append(complaint)
            elif strict:
                missing_keys.append(key)

        extra_key = prefix + _EXTRA_STATE_KEY_SUFFIX
        if type(self).set_extra_state is not StateDict.set_extra_state:
            if extra_key in state_dict:
                self.set_extra_state(state_dict[extra_key])
            elif strict:
                missing_keys.append(extra_key)
        elif strict and extra_key in state_dict:
            unexpected_keys.append(extra_key)

        for key in state_dict if strict else ():
            if key.startswith(prefix) and key != extra_key:
                head, *rest = key[len(prefix):].split(".", 1)
                if head not in (self._modules if rest else own):
                    unexpected_keys.append(key)

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy a state dict into this tree (assign: take its tensors themselves); strict raises on missing or unexpected keys."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing, unexpected, errors = [], [], []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata
        self._load_tree(state_dict, "", metadata, assign, missing, unexpected, errors)
        if strict:
            for keys, what in ((unexpected, "Unexpected"), (missing, "Missing")):
                if keys:
                    errors.insert(0, f"{what} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in keys) + ". ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return _IncompatibleKeys(missing, unexpected)

    def _load_tree(self, state_dict, prefix, metadata, assign, missing, unexpected, errors):
        local_metadata = {} if metadata is None else metadata.get(prefix[:-1], {})
        if assign:
            local_metadata["assign_to_params_buffers"] = assign
        self._load_from_state_dict(state_dict, prefix, local_metadata, True, missing, unexpected, errors)
        for name, child in self._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                child._load_tree({k: v for k, v in state_dict.items() if k.startswith(below)}, below, metadata, assign, missing, unexpected, errors)
        for hook in self._load_state_dict_post_hooks.values():
            if hook(self, _IncompatibleKeys(missing, unexpected)) is not None:
                raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new values, if "
                                     "incompatible_keys need to be modified, it should be done inplace.")
