"""A compiled module: what `compile` gives back for one."""
from __future__ import annotations

from ...compiler import form
from ...framework import compiled
from .module import Module


class OptimizedModule(Module):
    """A module whose calls are said again from memory. Everything but calls is the original's, `_orig_mod`, under whose name its parameters stand in `state_dict`."""

    def __init__(self, module: Module, fullgraph: bool = False):
        super().__init__()
        self._orig_mod = module
        self.__dict__["compiled"] = compiled.compile(module.__call__, fullgraph)

    def __call__(self, *args, **kw): return self.compiled(*args, **kw)
    def forward(self, *args, **kw): return self.compiled(*args, **kw)

    @property
    def training(self) -> bool: return self._orig_mod.training

    @training.setter
    def training(self, mode: bool):
        if "_orig_mod" in self.__dict__.get("_modules", ()): self._orig_mod.training = mode

    def __getattr__(self, name: str):
        if name == "_orig_mod": return self.__dict__["_modules"]["_orig_mod"]
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value):
        if name in ("_orig_mod", "training") or "_orig_mod" not in self.__dict__.get("_modules", ()): super().__setattr__(name, value)
        else: setattr(self._orig_mod, name, value)

    def extra_repr(self) -> str: return ""


form.register(Module, OptimizedModule)
