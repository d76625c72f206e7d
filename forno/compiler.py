"""torch.compile and its neighbours. Eager forno already fuses and caches what it runs; a compiled function's Python doesn't run either
(framework.compiled says when). Kernels and plans are the same, so are the numbers."""
from __future__ import annotations

import contextlib
import functools

from .framework import compiled


def compile(model=None, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
    """A function, or a module (`OptimizedModule`), whose calls are said again from memory where nothing that its Python can see has changed. `fullgraph`: what can't
    be said again raises RuntimeError instead of running as always. Sizes may vary, and there is one mode and one backend, so the other arguments
    change nothing. https://docs.pytorch.org/docs/2.13/generated/torch.compile.html"""
    if model is None: return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode, options=options, disable=disable)
    if not callable(model): raise TypeError(f"compile() expects a module or a function, not {type(model).__name__}")
    return model if disable or hasattr(model, "never_compiled") else form(model, fullgraph)


@functools.singledispatch
def form(model, fullgraph: bool):
    """What compile gives back; modules have a form of their own (nn.modules.optimized)."""
    return compiled.compile(model, fullgraph)


def explain(f) -> str:
    """How calls of a compiled function or module went, and why some ran as always."""
    found = getattr(f, "compiled", f)
    if not isinstance(found, compiled.Compiled): raise TypeError(f"explain() expects what compile() gave, not {type(f).__name__}")
    return found.explain()


def disable(fn=None, recursive=True, *, reason=None):
    """fn, which compile leaves as it is. Inside a compiled function it is part of it: what it sees is looked at, too."""
    if fn is None: return functools.partial(disable, recursive=recursive, reason=reason)
    with contextlib.suppress(AttributeError): fn.never_compiled = True
    return fn


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
