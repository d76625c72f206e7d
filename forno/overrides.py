"""torch.overrides: forno's functions take forno's tensors and never dispatch to `__torch_function__`."""
from __future__ import annotations

from .framework.tensor import Tensor


def is_tensor_like(inp) -> bool: return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")
def has_torch_function(relevant_args) -> bool: return False
def has_torch_function_unary(arg) -> bool: return False
def has_torch_function_variadic(*args) -> bool: return False
def get_ignored_functions() -> set: return set()
def is_tensor_method_or_property(func) -> bool: return func in vars(Tensor).values()


def handle_torch_function(public_api, relevant_args, *args, **kw):
    raise TypeError(f"no implementation found for '{getattr(public_api, '__name__', public_api)}' on types that implement __torch_function__: {[type(a) for a in relevant_args]}")


def wrap_torch_function(dispatcher): return lambda func: func
