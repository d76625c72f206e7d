"""One statement in PyTorch and in forno, and what came of it."""
import numpy as np
import torch

import forno

KINDS = {"f": (1e-4, 1e-5), "c": (1e-4, 1e-5)}


def plain(x, lib):
    """Tensors as (dtype, array), so that answers of two libraries can be compared."""
    if isinstance(x, lib.Tensor): return str(x.dtype), (x.float() if x.dtype == lib.bfloat16 else x).detach().numpy().copy()
    if isinstance(x, (tuple, list)): return tuple(plain(y, lib) for y in x)
    return str(x) if isinstance(x, (lib.dtype, lib.Size)) else x


def same(a, b) -> bool:
    if isinstance(a, tuple): return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray): return a.shape == b.shape and (np.allclose(a, b, *KINDS[a.dtype.kind], equal_nan=True) if a.dtype.kind in KINDS else np.array_equal(a, b))
    if isinstance(a, float): return isinstance(b, float) and np.isclose(a, b, 1e-4, equal_nan=True)
    return a == b


def outcome(statement: str, lib):
    """('value', answer) or ('error', exception)."""
    *lines, last = [s.strip() for s in statement.split(";")]
    space = {"torch": lib, "np": np, "F": lib.nn.functional, "nn": lib.nn}
    try:
        exec("\n".join(lines), space)
        return "value", plain(eval(last, space), lib)
    except Exception as error: return "error", error


def check(statement: str):
    (kind, a), (mine, b) = outcome(statement, torch), outcome(statement, forno)
    assert kind == mine, f"torch: {a!r}\nforno: {b!r}"
    if kind == "value": assert same(a, b), f"torch: {a}\nforno: {b}"
    else:
        wanted = forno.OutOfMemoryError if "can't allocate memory" in str(a) and hasattr(forno, "OutOfMemoryError") else type(a).__name__
        found = type(b) if not isinstance(wanted, str) else type(b).__name__
        assert found == wanted or isinstance(b, type(a)), f"torch: {a!r}\nforno: {b!r}"
