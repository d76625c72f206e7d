"""torch.jit: forno compiles what runs without being asked, so script and trace give back what they get. Archives of TorchScript are not read or written."""
from __future__ import annotations

import builtins
import contextlib
from typing import Any, Final, NamedTuple

from ..core.errors import unsupported

__all__ = ["Attribute", "Final", "Future", "ScriptFunction", "ScriptModule", "annotate", "enable_onednn_fusion", "export", "fork", "freeze", "ignore", "interface",
           "is_scripting", "is_tracing", "isinstance", "load", "onednn_fusion_enabled", "optimize_for_inference", "save", "script", "script_if_tracing", "script_method",
           "set_fusion_strategy", "strict_fusion", "trace", "trace_module", "unused", "wait"]


class ScriptModule: """Nothing is one."""
class ScriptFunction: """Nothing is one."""
class Error(RuntimeError): """An error inside TorchScript."""


class Attribute(NamedTuple):
    """A value with a type for the compiler."""
    value: Any
    type: Any


def script(obj, optimize=None, _frames_up=0, _rcb=None, example_inputs=None): return obj
def trace(func, example_inputs=None, optimize=None, check_trace=True, check_inputs=None, check_tolerance=1e-5, strict=True, **kw): return func
def trace_module(mod, inputs, **kw): return mod
def script_if_tracing(fn): return fn
def script_method(fn): return fn
def freeze(mod, preserved_attrs=None, optimize_numerics=True): return mod
def optimize_for_inference(mod, other_methods=None): return mod
def export(fn): return fn
def interface(obj): return obj
def annotate(the_type, the_value): return the_value
def is_scripting() -> bool: return False
def is_tracing() -> bool: return False
def isinstance(obj, target_type) -> bool: return builtins.isinstance(obj, target_type)
def enable_onednn_fusion(enabled: bool): """There is nothing to turn on."""
def onednn_fusion_enabled() -> bool: return False
def set_fusion_strategy(strategy): return []


def ignore(drop=False, **kw):
    """@ignore and @ignore(drop=…)"""
    return drop if callable(drop) else lambda fn: fn


def unused(fn): return fn


@contextlib.contextmanager
def strict_fusion(): yield


@contextlib.contextmanager
def optimized_execution(should_optimize): yield


class Future:
    """A value that is there already."""

    def __init__(self, value): self._value = value
    def wait(self): return self._value
    value = wait
    def done(self) -> bool: return True


def fork(func, *args, **kw) -> Future: return Future(func(*args, **kw))
def wait(future): return future.wait()


def save(m, f, _extra_files=None): raise unsupported("torch.jit.save", instead="save m.state_dict() with torch.save")


def load(f, map_location=None, _extra_files=None, _restore_shapes=False):
    raise unsupported("torch.jit.load", instead="load the archive in PyTorch, save its state_dict() with torch.save, and load that")
