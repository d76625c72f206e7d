"""Gradient modes: no_grad, enable_grad, set_grad_enabled and inference_mode, as contexts and as decorators.

Each is a state of this thread's window (graph.line); a change of it is a line, so that equal programs under different modes are different programs.
"""
from __future__ import annotations

import functools
import inspect as inspect_module

from ..graph.line import LOCAL, set_grad_mode, set_inference_mode


class _Mode:
    """A context manager and decorator that sets gradient mode; generator functions are resumed under it."""

    def __call__(self, f):
        if not callable(f): raise TypeError(f"expected a function to decorate, not {type(f).__name__}")
        if isinstance(f, type): return f
        if inspect_module.isgeneratorfunction(f): return self.resumed(f)

        @functools.wraps(f)
        def inside(*args, **kw):
            with self.clone(): return f(*args, **kw)
        return inside

    def resumed(self, f):
        """A generator function whose every step runs under the mode; between steps its caller's mode holds."""
        @functools.wraps(f)
        def inside(*args, **kw):
            gen = f(*args, **kw)
            step, given = gen.send, (None,)
            try:
                while True:
                    with self.clone(): out = step(*given)
                    try: step, given = gen.send, ((yield out),)
                    except GeneratorExit:
                        with self.clone(): gen.close()
                        raise
                    except BaseException as error: step, given = gen.throw, (error,)
            except StopIteration as end: return end.value
        return inside

    def clone(self): return type(self)()


class no_grad(_Mode):
    """Operations inside record no history."""
    mode = False

    def __new__(cls, f=None):
        self = object.__new__(cls)
        return self(f) if callable(f) else self

    def __enter__(self):
        self.was = LOCAL.run.grad
        set_grad_mode(self.mode)

    def __exit__(self, *error): set_grad_mode(self.was)


class enable_grad(no_grad):
    """Undoes no_grad inside."""
    mode = True


class set_grad_enabled(_Mode):
    """Sets gradient mode at once; as a context manager restores it."""

    def __init__(self, mode: bool):
        self.was, self.mode = LOCAL.run.grad, bool(mode)
        set_grad_mode(self.mode)

    def __enter__(self): set_grad_mode(self.mode)
    def __exit__(self, *error): set_grad_mode(self.was)

    def __call__(self, f):
        set_grad_mode(self.was)
        return super().__call__(f)

    def clone(self): return set_grad_enabled(self.mode)


class inference_mode(_Mode):
    """no_grad that also marks its results: backward may not need them, and only inference mode may write over them."""

    def __new__(cls, mode=True):
        self = object.__new__(cls)
        self.mode = True if callable(mode) else bool(mode)
        return self(mode) if callable(mode) else self

    def __enter__(self):
        run = LOCAL.run
        self.was = run.grad, run.inference
        if self.mode:
            set_grad_mode(False)
            set_inference_mode(True)
        else: set_inference_mode(False)

    def __exit__(self, *error):
        set_inference_mode(self.was[1])
        set_grad_mode(self.was[0])

    def clone(self): return inference_mode(self.mode)


def is_grad_enabled() -> bool: return LOCAL.run.grad
def is_inference_mode_enabled() -> bool: return LOCAL.run.inference
