"""torch.compile and its neighbours. Eager forno already fuses and caches what it ran; replaying whole steps without their Python is not in this version,
so compile gives back what it gets."""
from __future__ import annotations

import contextlib
import functools


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
    """The callable itself; as a decorator with arguments, too. Nothing is gained and nothing changes."""
    if model is None: return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options, disable=disable)
    if not callable(model): raise TypeError(f"compile() expects a module or a function, not {type(model).__name__}")
    return model


def disable(fn=None, recursive=True, *, reason=None): return functools.partial(disable, recursive=recursive, reason=reason) if fn is None else fn
def is_compiling() -> bool: return False
def is_dynamo_compiling() -> bool: return False
def is_exporting() -> bool: return False
def reset(): """No compiled state to drop."""
def cudagraph_mark_step_begin(): """No CUDA graphs."""
def list_backends(exclude_tags=()) -> list[str]: return []
def allow_in_graph(fn): return fn
def assume_constant_result(fn): return fn
def set_stance(stance="default", **kw): """There is one stance."""
def mark_dynamic(t, index, **kw): """Every size may vary."""
def mark_static(t, index=None): """Sizes are no part of compiled code here."""
def graph_break(msg=""): """Nothing is traced that could be broken."""


class _Config:
    """torch._dynamo.config: settings of PyTorch's tracer, which scripts set; they are kept and change nothing."""

    def __init__(self): self.suppress_errors, self.verbose, self.cache_size_limit, self.recompile_limit = False, False, 8, 8

    def patch(self, changes=None, **more):
        """A context in which settings are others."""
        changes, before = {**(changes or {}), **more}, dict(vars(self))

        @contextlib.contextmanager
        def patched():
            vars(self).update(changes)
            try: yield
            finally:
                vars(self).clear()
                vars(self).update(before)
        return patched()


config = _Config()
