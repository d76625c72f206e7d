"""Functions without writes, and what is inside a transform's tensors: both are so here without being asked."""
from __future__ import annotations

import functools


def functionalize(func, *, remove="mutations"):
    """`func`, whose writes are values: every write is a line that makes a new value, so there is nothing to take out."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. Valid options are:\n"
                           "     remove='mutations': all inplace and out= operators will be removed from the program\n"
                           "     remove='mutations_and_views': In addition to the above, all aliasing operators such as {view} will be replaced with non-aliasing "
                           "counterparts, {view}_copy\n")

    @functools.wraps(func)
    def call(*args, **kw): return func(*args, **kw)
    return call


def debug_unwrap(tensor, *, recurse=True):
    """The tensor itself: transforms wrap none."""
    return tensor
