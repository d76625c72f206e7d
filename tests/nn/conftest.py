"""FORNO_TEST_CORE=torch runs forno.nn on torch's tensors instead of forno's: what then differs from torch is nn's own composition."""
import os
import pathlib
import sys
import types

STAND_IN = os.environ.get("FORNO_TEST_CORE") == "torch"


def _stand_in():
    """torch's primitives under one roof: the top level, then its private nn primitives."""
    import torch
    api = types.ModuleType("forno.framework.api")

    def find(name):
        for home in (torch, torch._C._nn):
            if hasattr(home, name):
                return getattr(home, name)
        raise AttributeError(name)
    api.__getattr__ = find
    api._check_targets = lambda *args: None
    api.logsigmoid = torch._C._nn.log_sigmoid
    return api


if STAND_IN:
    root = pathlib.Path(__file__).parents[2] / "forno"
    for name, path in (("forno", root), ("forno.framework", root / "framework")):      # packages whose __init__ does not run
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(path)]
    sys.modules["forno"].framework = sys.modules["forno.framework"]
    sys.modules["forno.framework"].api = sys.modules["forno.framework.api"] = _stand_in()
    import torch

    from forno.nn.parameter import Parameter
    Parameter.__torch_function__ = torch._C._disabled_torch_function_impl              # so that p * 2 is a plain tensor
