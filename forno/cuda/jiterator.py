"""torch.cuda.jiterator: kernels written in CUDA C++. forno compiles none; its own way of writing kernels is Python (docs/kernels.md)."""
from __future__ import annotations

from ..core.errors import unsupported

__all__: list[str] = []


def _refuse(name: str): raise unsupported(f"torch.cuda.jiterator.{name}", device="cuda", instead="write the kernel in Python: forno.kernels.elementwise")
def _create_jit_fn(code_string: str, **kwargs): _refuse("_create_jit_fn")
def _create_multi_output_jit_fn(code_string: str, num_outputs: int, **kwargs): _refuse("_create_multi_output_jit_fn")
