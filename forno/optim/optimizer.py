"""The base of every optimizer: parameter groups, per-parameter state, state dicts in PyTorch's format, hooks.

`Optimizer` is what users subclass (they write `step`). `Rule` is what forno's own optimizers subclass: they write `_update(group)`, one loop over
the group's parameters, and get `step` with closure, grad mode and hooks from here.
"""
from __future__ import annotations

import functools
import itertools
import struct
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from copy import deepcopy

from ..core.errors import unsupported
from ..framework import api as torch
from ..framework.effects import rated, refused, ticked
from ..framework.hurried import capturing
from ..framework.tensor import version
from ..framework.world import Shown

_global_pre_hooks: OrderedDict = OrderedDict()
_global_post_hooks: OrderedDict = OrderedDict()


class _Required:
    def __repr__(self): return "<required parameter>"


required = _Required()


class RemovableHandle:
    """Takes its hook out of the table again, by `remove()` or at the end of a `with` block."""
    _numbers = itertools.count()

    def __init__(self, table, hook, prepend=False):
        self.id, self._table = next(self._numbers), table
        table[self.id] = hook
        if prepend: table.move_to_end(self.id, last=False)

    def remove(self): self._table.pop(self.id, None)
    def __enter__(self): return self
    def __exit__(self, *exc): self.remove()


def register_optimizer_step_pre_hook(hook) -> RemovableHandle: return RemovableHandle(_global_pre_hooks, hook)
def register_optimizer_step_post_hook(hook) -> RemovableHandle: return RemovableHandle(_global_post_hooks, hook)


_HOOK_TABLES = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks",
                "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks")


def _with_hooks(step):
    """`step` between its hooks; costs two truth tests when there are none."""
    @functools.wraps(step)
    def hooked(self, *args, **kwargs):
        for hook in (*_global_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()):
            changed = hook(self, (self, *args), kwargs)
            if changed is None: continue
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
            (_, *args), kwargs = changed
        out = step(self, *args, **kwargs)
        for hook in (*self._optimizer_step_post_hooks.values(), *_global_post_hooks.values()): hook(self, (self, *args), kwargs)
        return out
    hooked.hooked = True
    return hooked


class Optimizer:
    """Holds `param_groups` (dicts of parameters and options), `defaults` and `state` (one dict per parameter)."""

    _older: dict = {}          # options a checkpoint from before they existed lacks, with the value that meant

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__ and not getattr(cls.step, "hooked", False): cls.step = _with_hooks(cls.step)

    def __init__(self, params, defaults: dict):
        if isinstance(params, torch.Tensor):
            raise TypeError(f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {type(params).__name__}")
        self.defaults = defaults
        for table in _HOOK_TABLES: setattr(self, table, OrderedDict())
        self._numbers: dict = {}
        self._lent: list = []                  # (complex tensor, its parts as reals) during one update
        self.state = defaultdict(dict)
        self.param_groups: list[dict] = []
        groups = list(params)
        if not groups: raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict): groups = [{"params": groups}]
        for group in groups: self.add_param_group(group)

    def __getstate__(self): return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._numbers, self._lent = {}, []
        for table in _HOOK_TABLES:
            if table not in self.__dict__: setattr(self, table, OrderedDict())
        self.defaults.setdefault("differentiable", False)
        for group in self.param_groups:
            for option, value in self._older.items(): group.setdefault(option, value)
            for p in group["params"]:
                s = self.state.get(p)
                if s and "step" in s and self._older and not isinstance(s["step"], torch.Tensor):
                    s["step"] = torch.tensor(float(s["step"]), dtype=scalar_dtype(), device=p.device if on_device(group) else "cpu")

    def __repr__(self):
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [*([""] if i else []), f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join(lines) + "\n)"

    def step(self, closure=None):
        """One update of every parameter that has a gradient; `closure` evaluates the model again and returns the loss."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True):
        for group in self.param_groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None: continue
                if set_to_none:
                    p.grad = None
                    continue
                if grad.grad_fn is not None: grad.detach_()
                else: grad.requires_grad_(False)
                grad.zero_()

    def add_param_group(self, param_group: dict):
        if not isinstance(param_group, dict): raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, torch.Tensor): params = [params]
        elif isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                            "will change between runs. Please use a list instead.")
        params = list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names and len(names) != len(params):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        if names: params, param_group["param_names"] = [p[1] for p in params], names
        param_group["params"] = params
        for p in params:
            if not isinstance(p, torch.Tensor): raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad): raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len(params) != len({id(p) for p in params}):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an error", stacklevel=3)
        named = "param_names" in param_group
        if any(("param_names" in group) != named for group in self.param_groups):
            raise ValueError(f"all optimizer param groups should be with/without names. cannot add param group "
                             f"{'with' if named else 'without'} names to the optimizer")
        held = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in held for p in params): raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    # ---- state dicts: parameters are numbered through all groups in order

    def state_dict(self) -> dict:
        for hook in self._optimizer_state_dict_pre_hooks.values(): hook(self)
        number: dict[int, int] = {}
        groups, start = [], 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start): number.setdefault(id(p), i)
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [number[id(p)] for p in group["params"]]
            start += len(packed["params"])
            groups.append(packed)
        state = {(number[id(k)] if isinstance(k, torch.Tensor) else k): v for k, v in self.state.items()}
        out = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, out)
            if changed is not None: out = changed
        return out

    def load_state_dict(self, state_dict: dict):
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            if changed is not None: state_dict = changed
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError(f"loaded state dict has a different number of parameter groups: {len(saved)}, the optimizer has {len(groups)}")
        for i, (group, new) in enumerate(zip(groups, saved)):
            if len(group["params"]) != len(new["params"]):
                raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                                 f"group {i} has {len(new['params'])} parameters, the optimizer's {len(group['params'])}")
        owner = {n: (p, new) for group, new in zip(groups, saved) for n, p in zip(new["params"], group["params"])}
        state = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owner: state[owner[key][0]] = _fit(value, *owner[key])
            else: state[key] = value
        for group, new in zip(groups, saved):
            new["params"] = group["params"]
            if "param_names" in group: new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values(): hook(self)

    # ---- hooks

    def register_step_pre_hook(self, hook): return RemovableHandle(self._optimizer_step_pre_hooks, hook)
    def register_step_post_hook(self, hook): return RemovableHandle(self._optimizer_step_post_hooks, hook)
    def register_state_dict_pre_hook(self, hook, prepend=False): return RemovableHandle(self._optimizer_state_dict_pre_hooks, hook, prepend)
    def register_state_dict_post_hook(self, hook, prepend=False): return RemovableHandle(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend=False):
        return RemovableHandle(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend=False):
        return RemovableHandle(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def _fit(value, p, group, key=None):
    """A loaded state value on its parameter's device and, when floating, in its dtype; step counters keep theirs."""
    if isinstance(value, torch.Tensor):
        if key == "step": return value.to(dtype=torch.float32, device=p.device) if on_device(group) else value
        return value.to(dtype=p.dtype, device=p.device) if p.is_floating_point() else value.to(device=p.device)
    if isinstance(value, dict): return {k: _fit(v, p, group, k) for k, v in value.items()}
    if isinstance(value, str): return value
    if isinstance(value, Iterable): return type(value)(_fit(v, p, group) for v in value)
    return value


class Rule(Optimizer, Shown):
    """An optimizer that is one loop over a group: subclasses define `_update(group)`."""

    def step(self, closure=None):
        with torch.set_grad_enabled(bool(self.defaults.get("differentiable"))):
            loss = None
            if closure is not None:
                with torch.enable_grad(): loss = closure()
            for group in self.param_groups:
                self._update(group)
                self._put_back()
        return loss

    def _update(self, group: dict):
        raise NotImplementedError

    # A step that is said again from memory (framework.effects) runs no Python of its rule but `rates`: the numbers that change from step to step.

    varying: tuple = ()                        # options that may be others at every step, because only `rates` reads them

    def rates(self, group: dict, step) -> tuple:
        """Floats that an update computes with, from the options `varying` and the number of this step (None: the rule counts none)."""
        raise NotImplementedError

    def _rated(self, group: dict, step=None) -> tuple:
        return rated(self, group, step, self.rates(group, step))

    def _uncapturable(self) -> Exception:
        """The number of a step is Python's: a graph would repeat one and the same."""
        name = type(self).__name__
        if any([g.get("capturable") is False for g in self.param_groups]):
            return RuntimeError(f"Attempting CUDA graph capture of step() for an instance of {name} but param_groups' capturable is False.")
        return unsupported(f"{name}.step() in a graph", device="cuda", instead="capture forward and backward alone, or take Adam(capturable=True)")

    def _varying(self, group: dict) -> tuple:
        """Which options `rates` alone reads in this group; none in rules of other people, which may do anything with them."""
        return self.varying if type(self).__module__.startswith(__package__) else ()

    def shown(self, walk):
        walk.dictionary(_global_pre_hooks)
        walk.dictionary(_global_post_hooks)
        walk.cls(type(self))
        for name in self.__dict__.keys() - {"_numbers", "_lent", "param_groups"}: walk.entry(self.__dict__, name)
        walk.world.places.append((self.__dict__, "param_groups", self.param_groups))
        walk.world.sequences.append((self.param_groups, tuple(self.param_groups)))
        for group in self.param_groups:
            varying = () if "param_groups" in walk.attributes else self._varying(group)
            for key in group: walk.entry(group, key, key in varying)

    def _begin(self, p, group: dict, state: dict):
        """Fills the state of a parameter before its first step."""

    def _each(self, group: dict) -> list:
        """(parameter, gradient to go down along, state) of every parameter of the group that has a gradient. A list: a generator costs a call for each."""
        maximize, found = group["maximize"], []
        for p in group["params"]:
            grad = p.grad
            if grad is None: continue
            if grad.__class__ is not torch.Tensor and grad.is_sparse and not self._sparse_too: raise RuntimeError(self._refusal())
            state = self.state[p]
            if not state: self._begin(p, group, state)
            found.append((p, -grad if maximize else grad, state))
        return found

    _sparse_too = False                        # can the rule take a sparse gradient?

    def _refusal(self) -> str:
        if any(cls.__name__ == "Adam" for cls in type(self).__mro__): return "Adam does not support sparse gradients, please consider SparseAdam instead"
        return f"{type(self).__name__} does not support sparse gradients"

    # PyTorch's optimizers treat the two parts of a complex number as independent reals

    def _reals(self, *tensors):
        """Complex tensors as pairs of reals for one update; what it changed is put back when the group is done."""
        pairs = [(t, None if t is None else torch.view_as_real(t)) for t in tensors]
        self._lent.extend(pairs)
        return tuple(real for _, real in pairs)

    def _put_back(self):
        for t, real in self._lent:
            if real is not None and real._version: t.copy_(torch.view_as_complex(real))
        self._lent.clear()

    # 0-d state tensors whose values the update needs as numbers. Reading one back would make the lazy engine run at every parameter, so their values
    # are remembered here and the tensor is only written; a tensor that somebody else replaced or changed is read again.

    def _number(self, p, key: str, tensor) -> float:
        seen = self._numbers.get((p, key))
        self._refuse()
        return seen[2] if seen is not None and seen[0] is tensor and seen[1] == version(tensor) else tensor.item()

    def _set_number(self, p, key: str, tensor, value: float):
        tensor.fill_(value)
        self._numbers[p, key] = tensor, tensor._version, value

    def _begin_number(self, p, key: str | None, group: dict, value: float = 0.0):
        """A new 0-d state tensor (the step counter without a key): on the CPU unless the step must run without reading it."""
        tensor = torch.full((), value, dtype=scalar_dtype(group.get("fused")), device=p.device if on_device(group) else "cpu")
        self._numbers[p if key is None else (p, key)] = tensor, tensor._version, rounded(value, tensor)
        return tensor

    def _refuse(self):
        """Calls that use this rule aren't said again: it computes with numbers that only its Python knows."""
        refused(f"the numbers of {type(self).__name__} depend on earlier steps")

    def _tick(self, p, state: dict) -> float:
        """Advances state['step'] and returns the new count."""
        if capturing(): raise self._uncapturable()
        tensor = state["step"]
        seen = self._numbers.get(p)
        n = 1 + (seen[2] if seen is not None and seen[0] is tensor and seen[1] == version(tensor) else tensor.item())
        tensor.add_(1)
        self._numbers[p] = tensor, version(tensor), n
        if self.varying: ticked(self, p, tensor, n)
        else: self._refuse()
        return n


def scalar_dtype(fused=False):
    return torch.float64 if torch.get_default_dtype() == torch.float64 and not fused else torch.float32


def on_device(group: dict) -> bool: return bool(group.get("capturable") or group.get("fused"))


def number(x):
    """An option as a Python number (lr and betas may be one-element tensors)."""
    return x.item() if isinstance(x, torch.Tensor) else x


def rounded(value: float, like) -> float:
    """What reading `value` back from a tensor of this dtype would give."""
    return value if like.dtype == torch.float64 else struct.unpack("f", struct.pack("f", value))[0]


def check_lr(lr):
    if isinstance(lr, torch.Tensor) and lr.numel() != 1: raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0: raise ValueError(f"Invalid learning rate: {lr}")


def check_not_negative(**options):
    """`epsilon=eps` must be >= 0, or ValueError naming it."""
    for name, value in options.items():
        if not value >= 0.0: raise ValueError(f"Invalid {name} value: {value}")


def check_betas(betas):
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0: raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_fused(fused, foreach, differentiable):
    if fused and differentiable: raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach: raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
