"""forno in PyTorch's place: after `install_as_torch()`, `import torch` anywhere in this process gives forno.

For programs and libraries that say `import torch` themselves and can't be changed. It is opt-in and never happens at import:

    import forno
    forno.install_as_torch()
    import some_library_that_uses_torch

Every `torch.x.y` that forno has is the very module `forno.x.y`; the others raise ModuleNotFoundError. `torchvision` is `forno.vision`. `uninstall_as_torch()`
takes it back, for imports to come.
"""
from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys

from .version import SPEAKS, TorchVersion

ROOTS = {"torch": "forno", "torchvision": "forno.vision"}
ELSEWHERE = {                                  # PyTorch's modules that have another place here
    "forno.autograd.function": "forno.framework.custom", "forno.autograd.gradcheck": "forno.framework.gradcheck",
    "forno.autograd.functional": "forno.framework.functional_autograd",
    "forno.storage": "forno.framework.sharing", "forno.functional": "forno.framework.api",
    "forno._tensor_str": "forno.framework.printing", "forno._tensor": "forno.framework.tensor", "forno.return_types": "forno.framework.results",
    "forno._dynamo": "forno.compiler", "forno.torch_version": "forno.version", "forno.utils.hooks": "forno.nn.modules.hooks",
    "forno.amp.autocast_mode": "forno.amp", "forno.amp.grad_scaler": "forno.amp",
}
INTERNAL = frozenset("forno." + name for name in ("framework", "core", "graph", "plan", "kernel", "dnn", "gpu", "show", "demo", "cli", "compat", "__main__"))


def own_name(name: str) -> str | None:
    """forno's name of a module of torch; None when it has none."""
    root, dot, rest = name.partition(".")
    if root not in ROOTS: return None
    ours = ROOTS[root] + dot + rest
    if ours in ELSEWHERE: return ELSEWHERE[ours]
    if any(ours == i or ours.startswith(i + ".") for i in INTERNAL): return None
    try: return ours if importlib.util.find_spec(ours) is not None else None
    except ModuleNotFoundError: return None


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of torch's modules with forno's. `given`: names it put into sys.modules."""

    def __init__(self): self.given: dict[str, object] = {}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ROOTS: return None
        ours = own_name(name)
        if ours is None: raise ModuleNotFoundError(f"No module named {name!r}: forno stands in for torch here and has no such module", name=name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = importlib.import_module(own_name(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):             # it ran when it was imported under its own name, which it keeps
        spec = module.__spec__
        module.__spec__ = spec.loader_state
        self.given[spec.name] = module


_finder: Finder | None = None


def install_as_torch():
    """From now on `import torch` gives forno in this process. Call it before anything imports PyTorch."""
    global _finder
    if _finder is not None: return
    for name in list(sys.modules):
        if name.partition(".")[0] in ROOTS:
            raise RuntimeError(f"{name} is imported already; call forno.install_as_torch() before anything imports it")
    _finder = Finder()
    sys.meta_path.insert(0, _finder)
    forno = importlib.import_module("forno")
    _finder.version, forno.__version__ = forno.__version__, forno.torch_version
    importlib.import_module("torch")


def uninstall_as_torch():
    """`import torch` means PyTorch again; modules that hold forno under torch's names keep it."""
    global _finder
    if _finder is None: return
    sys.meta_path.remove(_finder)
    for name in _finder.given:
        if sys.modules.get(name) is _finder.given[name]: del sys.modules[name]
    importlib.import_module("forno").__version__ = _finder.version
    _finder = None


def installed_as_torch() -> bool: return _finder is not None


def versions(own: str) -> tuple[TorchVersion, TorchVersion]:
    """(forno.__version__, forno.torch_version)"""
    return TorchVersion(own, SPEAKS), TorchVersion(f"{SPEAKS}+forno{own}", SPEAKS)
