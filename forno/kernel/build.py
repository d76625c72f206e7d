"""One door to the kernel floor: any kernel noun in, a Launch out. Equal kernels are built once: a network's layers repeat themselves."""
from __future__ import annotations

import functools
import itertools

from ..core.kernels import Const, Conv, Gemm, Launch, Load, Native, Nest
from . import conv, epilogue, gemm, nest, routines

_BUILDERS = {Nest: nest.build, Gemm: gemm.build, Conv: conv.build, Native: routines.build}
_SLOWEST = (Conv, Gemm, Native)                # to compile: the first to start when threads share the work
_MOST = 4096                                   # launches remembered
_numbers: dict = {}                            # what tells kernels apart -> a number
_count = itertools.count()
_launches: dict[int, Launch] = {}              # by that number


def build(kernel) -> Launch: return build_all([kernel])[0]


def build_all(kernels) -> list[Launch]:
    """Launches of a plan's kernels. What has to be compiled for them is compiled together, on several threads."""
    if len(_numbers) > _MOST:
        _numbers.clear()
        _launches.clear()
    numbers = [_numbers.setdefault(told_apart(k), next(_count)) for k in kernels]
    found = {i: _launches.get(i) for i in numbers}
    new = {i: k for i, k in zip(numbers, kernels) if found[i] is None}

    def make(i): found[i] = _launches[i] = _BUILDERS[type(new[i])](new[i])
    slow = sorted((i for i, k in new.items() if isinstance(k, _SLOWEST)), key=lambda i: _SLOWEST.index(type(new[i])))
    nests = [i for i, k in new.items() if isinstance(k, Nest)]
    nest.compile_all([new[i] for i in nests], [functools.partial(make, i) for i in slow])
    for i in nests: make(i)
    return [found[i] for i in numbers]


def told_apart(kernel) -> tuple:
    """What makes two kernels equal: themselves, and how their numbers are written, because 0.0, -0.0, 0 and False are equal in Python."""
    if isinstance(kernel, Native): return kernel, repr(kernel.spec)
    written = kernel if isinstance(kernel, Nest) else kernel.epilogue
    return kernel, written and repr([v.value if v.__class__ is Const else v.other for v in written.body if v.__class__ is Const or v.__class__ is Load and v.bounds])


def accepts(kernel: Gemm | Conv) -> bool:
    """Can a product with this epilogue be built, and is it quicker than a kernel of its own?"""
    return epilogue.accepts(kernel.epilogue) and (isinstance(kernel, Gemm) or conv.gains_by_epilogue(kernel))
