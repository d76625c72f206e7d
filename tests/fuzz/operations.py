"""Random operations on operands of every type, lying in every way: results, gradients and refusals must be PyTorch's.

    python -m tests.fuzz.operations FIRST LAST            runs these seeds in a child process and prints what differs, crashes or hangs
    python -m tests.fuzz.operations --one SEED            one seed in this process, with its operands
    python -m tests.fuzz.operations --digest FIRST LAST THREADS DETERMINISTIC
                                                          forno's results alone, as one hash: equal for any number of threads

What a seed stands for is in tests/fuzz/draws.py. A child that dies or says nothing for a minute is replaced by one that goes on behind that seed.
"""
from __future__ import annotations

import collections
import hashlib
import pathlib
import re
import select
import subprocess
import sys
import warnings

import numpy as np
import torch

import forno
from tests.conformance import walk

from .draws import Draw, Laid, draw, made

HERE = pathlib.Path(__file__).parent
SILENCE = 90                                   # seconds without a word from a child are a hang
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-8, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.complex64: 5e-5, torch.complex128: 1e-8}
HALVES = (torch.float16, torch.bfloat16)
# differs: what PyTorch refuses and forno computes: (operations, types, PyTorch's words, why)
COMPUTED = (
    ("special.zeta special.erfcx special.log_ndtr", HALVES, "not implemented for", "PyTorch's code for the CPU leaves the half types out"),
    ("avg_pool3d lp_pool3d local_response_norm", HALVES, "\"avg_pool3d_out_frame\" not implemented for", "PyTorch's code for the CPU leaves the half types out"),
    ("floor_divide heaviside", None, "derivative for aten::", "it is 0 almost everywhere"),
    ("soft_margin_loss batch_norm", None, "is not differentiable with respect to argument", "targets and running means have gradients like other operands"),
    ("unique unique_consecutive", None, "the derivative for", "values are gathered, and a gather has a gradient"),
    ("embedding", (torch.complex64, torch.complex128), "embedding does not support automatic differentiation", "rows are added up, whatever their type"),
    ("where", None, "input_is_complex == grad_is_complex", "an assertion of PyTorch's own, not meant for users"),
    ("acosh arccosh atanh arctanh asinh arcsinh", None, "the derivative for 'inplace version of", "the gradient is that of the function out of place"),
    ("linalg.eig", None, "linalg_eig_backward: The eigenvectors", "PyTorch tests whether a gradient depends on the phases of eigenvectors"),
    ("kron nn.functional.max_unpool3d", None, "view size is not compatible", "PyTorch makes a view of a copy of its own that isn't row-major"),
)
ERRORS = (RuntimeError, TypeError, IndexError, ValueError)


class Mismatch(AssertionError):
    """The two libraries disagree."""


def names() -> list[str]:
    found = [n for path in sorted((HERE.parent / "conformance").glob("t?.txt")) for n in path.read_text().split() if n in walk.INFOS]
    return sorted(set(found))


def outcome(d: Draw, m, start=0):
    """(result, gradients, error) in one library."""
    m.manual_seed(start)
    try:
        xs = made(list(d.operands), m)
        y = d.call(m, *xs)
        ends = [t for t in walk.flat(y, m.Tensor) if t.requires_grad and (t.dtype.is_floating_point or t.dtype.is_complex)]
        leaves = [t for t in flat(xs, m.Tensor) if t.requires_grad]
        grads = None
        if ends and leaves:
            cotangents = [torch.randn(tuple(t.shape), generator=torch.Generator().manual_seed(7), dtype=getattr(torch, str(t.dtype)[6:])) for t in ends]
            grads = m.autograd.grad(ends, leaves, cotangents if m is torch else [walk.given(c) for c in cotangents], allow_unused=True)
        arrays = [walk.array(t) for t in walk.flat(y, m.Tensor)] if m is forno else None          # a value that is asked for raises what waited
        del arrays
        return y, grads, None
    except ERRORS as e: return None, None, e


def flat(x, kind): return walk.flat([*x.values()] if isinstance(x, dict) else x, kind) if not isinstance(x, (list, tuple)) else [t for y in x for t in flat(y, kind)]


def same(want, got, d: Draw, factor=1.0):
    if str(got.dtype) != str(want.dtype) or tuple(got.shape) != tuple(want.shape):
        raise Mismatch(f"forno {got.dtype} {tuple(got.shape)}, torch {want.dtype} {tuple(want.shape)}")
    if d.exact == "none": return
    a, b = walk.array(want.resolve_conj().resolve_neg()), walk.array(got)
    if a.dtype.kind not in "fc":
        if not np.array_equal(a, b): raise Mismatch(difference(a, b, a != b))
        return
    tolerance = TOLERANCE[want.dtype] * factor
    usual = np.abs(a[np.isfinite(a)])
    with np.errstate(all="ignore"):
        scale = float(np.sqrt(np.mean(np.square(usual[usual < 1e6], dtype=np.float64)))) if (usual < 1e6).any() else 0.0
        near = np.isclose(b, a, rtol=tolerance, atol=tolerance * d.absolute * (0.1 + scale), equal_nan=True)
        if a.dtype.kind == "c": near |= ~np.isfinite(a) & ~np.isfinite(b)
        if not near.all(): raise Mismatch(difference(a, b, ~near))
        if d.exact == "zeros" and a.dtype.kind == "f":
            other = (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b))
            if other.any(): raise Mismatch("sign of zero: " + difference(a, b, other))


def difference(a, b, where) -> str:
    at = np.argwhere(np.atleast_1d(where))[:3]
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    return f"{int(np.sum(where))} of {a.size}: " + "; ".join(f"{list(map(int, i))} forno {b[tuple(i)]} torch {a[tuple(i)]}" for i in at)


def compare(d: Draw):
    """'equal', 'refused by both' with one type of exception, 'refused by PyTorch' (COMPUTED says why); raises Mismatch."""
    y, grads, error = outcome(d, torch)
    if error is None and d.sampled and drawn(y, outcome(d, torch, 1)[0]): d = d._replace(exact="none")
    z, found, other = outcome(d, forno)
    if error is not None:
        if type(other) is type(error): return "refused by both"
        if other is None and computed(d, str(error)): return "refused by PyTorch"
        raise Mismatch(f"torch raises {type(error).__name__}: {str(error)[:200]}; forno {'computes' if other is None else f'raises {type(other).__name__}: {str(other)[:200]}'}")
    if other is not None: raise Mismatch(f"forno raises {type(other).__name__}: {str(other)[:300]}")
    a, b = walk.flat(y, torch.Tensor), walk.flat(z, forno.Tensor)
    if len(a) != len(b): raise Mismatch(f"{len(b)} tensors, expected {len(a)}")
    for want, got in zip(a, b): same(want, got, d)
    if not a and not isinstance(y, (list, tuple)) and not (y == z or y != y): raise Mismatch(f"forno {z}, torch {y}")
    if (grads is None) != (found is None) and any(g is not None and walk.array(g).any() for g in grads or found): raise Mismatch(f"gradients: forno {found is not None}, torch {grads is not None}")
    for k, (want, got) in enumerate(zip(grads or (), found or ())):
        try:
            if want is not None and got is not None: same(want, got, d._replace(exact=d.exact if d.exact == "none" else ""), 10.0)
            elif want is not None and bool(want.any()) or got is not None and walk.array(got).any(): raise Mismatch("one of them is None")
        except Mismatch as e: raise Mismatch(f"gradient {k}: {e}") from None
    return "equal"


def computed(d: Draw, error: str) -> bool:
    """Is this refusal of PyTorch's one of COMPUTED?"""
    name, kinds = re.split("[ (:]", d.text)[0].removeprefix("Tensor.").removesuffix("_"), {*types_of(d.operands)}
    return any(name in names.split() and (types is None or kinds & {*types}) and words in error for names, types, words, _ in COMPUTED)


def types_of(x):
    if isinstance(x, Laid): return [x.store.dtype]
    return [t for y in (x.values() if isinstance(x, dict) else x) for t in types_of(y)] if isinstance(x, (list, tuple, dict)) else []


def drawn(a, b) -> bool:
    """Do results depend on random numbers?"""
    return not all(torch.equal(torch.nan_to_num(x.detach()), torch.nan_to_num(y.detach())) for x, y in zip(walk.flat(a, torch.Tensor), walk.flat(b, torch.Tensor)) if not x.is_sparse)


def described(d: Draw) -> str:
    def word(x):
        if isinstance(x, Laid): return f"{str(x.store.dtype)[6:]}{tuple(x.view(x.store).shape)} {x.way}{' grad' * x.grad}"
        return f"[{', '.join(map(word, x))}]" if isinstance(x, (list, tuple)) else str({k: word(v) for k, v in x.items()}) if isinstance(x, dict) else repr(x)
    return f"{d.text}: {', '.join(map(word, d.operands))}"


def child(first: int, last: int):
    warnings.filterwarnings("ignore")
    known = names()
    for seed in range(first, last):
        print("seed", seed, flush=True)
        d = draw(seed, known)
        if d is None: result = "no sample"
        else:
            try: result = compare(d)
            except Mismatch as e: result = f"different\t{described(d)}\t{e}"
            except Exception as e: result = f"different\t{described(d)}\t{type(e).__name__} {e}"
        print("done", result.replace("\n", " "), flush=True)


def main(first: int, last: int) -> int:
    """How many of these seeds differ, crash or hang."""
    count, seed = collections.Counter(), first
    while seed < last:
        process = subprocess.Popen([sys.executable, "-m", "tests.fuzz.operations", "--child", str(seed), str(last)], stdout=subprocess.PIPE, text=True, bufsize=1, cwd=HERE.parents[1])
        while True:
            ready, _, _ = select.select([process.stdout], [], [], SILENCE)
            line = process.stdout.readline() if ready else None
            if not line: break
            if line.startswith("seed"): seed = int(line.split()[1])
            else:
                kind, *more = line[5:].rstrip("\n").split("\t")
                count[kind] += 1
                if kind == "different": print(f"{seed}: {more[0]}\n    {more[1][:600]}", flush=True)
                if seed == last - 1: seed = last
        process.kill()
        code = process.wait()
        if seed < last:
            kind = "hangs" if line is None else f"dies ({code})"
            count[kind.split()[0]] += 1
            d = draw(seed, names())
            print(f"{seed}: {described(d)}\n    {kind}", flush=True)
            seed += 1
    print(dict(count))
    return count["different"] + count["dies"] + count["hangs"]


def digest(first: int, last: int, threads: int, deterministic: int) -> str:
    """A hash of everything forno computes for these seeds with so many threads."""
    warnings.filterwarnings("ignore")
    forno.set_num_threads(threads)
    forno.use_deterministic_algorithms(bool(deterministic))
    hashed, known = hashlib.sha256(), names()
    for seed in range(first, last):
        d = draw(seed, known)
        if d is None or d.exact == "none": continue
        y, grads, error = outcome(d, forno)
        hashed.update(str(seed).encode() + (b"refused" if error is not None else b""))
        for t in walk.flat(y, forno.Tensor) + [g for g in grads or () if g is not None]: hashed.update(np.nan_to_num(walk.array(t)).tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    if sys.argv[1] == "--child": child(*map(int, sys.argv[2:4]))
    elif sys.argv[1] == "--digest": print(digest(*map(int, sys.argv[2:6])))
    elif sys.argv[1] == "--one":
        chosen = draw(int(sys.argv[2]), names())
        print(described(chosen))
        print(compare(chosen))
    else: sys.exit(bool(main(*map(int, sys.argv[1:]))))
