"""Every operation of PyTorch's database inside compiled functions: with backward, in place, with looks at values, on fresh values of one sample, run and from memory.

    python -m tests.fuzz.compiled [FIRST LAST]       # entries by number; prints what differs

forno is compared with itself: results, gradients, arguments, versions and the state of the generator must be the same to the bit.
"""
from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

import forno
from forno.framework.engine import flush
from forno.graph.line import LOCAL, drop_trie

from ..conformance.walk import INFOS, apart, array, flat, given, spread, twin

CALLS, SAMPLES = 8, 3
HERE = Path(__file__).parent.parent / "conformance"
MEMORY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "resize_as_"}       # whose values are whatever lay there

NAMES = [n for tier in ("t0", "t1", "t2") for n in (HERE / f"{tier}.txt").read_text().split() if n in INFOS and n not in MEMORY]


def varied(x, k):
    """Other values of one structure."""
    if isinstance(x, torch.Tensor): return (x.detach() * (1 + k / 64)).requires_grad_(x.requires_grad) if x.is_floating_point() or x.is_complex() else x
    if type(x) in (list, tuple): return type(x)(varied(y, k) for y in x)
    return {n: varied(y, k) for n, y in x.items()} if type(x) is dict else x


def forward(f, x, args, kw):
    out = f(x, *args, **kw)
    ends = [t for t in flat(out, forno.Tensor) if t.requires_grad]
    if ends: sum([(t.abs() if t.is_complex() else t).sum() for t in ends]).backward()
    return out


def in_place(f, x, args, kw):
    x = x.detach()
    f(x, *args, **kw)
    return x.sum()


def looking(f, x, args, kw):
    """Goes one of two ways, by what it finds, and gives numbers back."""
    out = f(x, *args, **kw)
    ends = [t for t in flat(out, forno.Tensor) if t.layout == forno.strided and (t.is_floating_point() or t.is_complex())]
    if not ends: return out
    total = sum([t.detach().abs().to(forno.float64).sum() for t in ends])
    if total * 1024 % 2 > 1: return out, ends[0] * 2, total.item()
    again = f(x, *args, **kw)
    return again, ends[0] - 1, ends[0].numel(), total.item()


def looked_at(t):
    if t.layout != forno.strided: t = t.detach().to_dense()
    return [t.shape, str(t.dtype), t.stride(), t.requires_grad, t._version, array(t).tobytes(), None if t.grad is None or not t.is_leaf else array(t.grad).tobytes()]


def story(body, f, sample, compiled: bool):
    """What can be seen after each of some calls, and how many were from memory."""
    flush()
    drop_trie()
    LOCAL.run.open(True, False)
    forno.manual_seed(0)
    def step(x, args, kw): return body(f, x, args, kw)
    call, seen = forno.compile(step) if compiled else step, []
    for k in range(CALLS):
        x, args, kw = (apart(given(varied(v, k))) for v in (sample.input, sample.args, sample.kwargs))
        try:
            out = call(x, args, kw)
            seen += [looked_at(t) for t in flat([out, x, args, list(kw.values())], forno.Tensor)] + [repr(v) for v in flat([out], float)]
        except (RuntimeError, ValueError, IndexError) as error: seen.append(str(error))            # some values are outside of an operation's domain
        seen.append(forno.get_rng_state().numpy().tobytes())
    return seen, call.said if compiled else 0


def differences(name: str):
    """(what differs, calls from memory) of one entry."""
    op, out, said = INFOS[name], [], 0
    if torch.float32 not in op.supported_dtypes("cpu"): return out, said
    f = twin(op.op, op.name)
    for i, s in enumerate(spread(list(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd)), SAMPLES)):
        bodies = [forward, looking] + ([in_place] if op.inplace_variant is not None and isinstance(s.input, torch.Tensor) and not s.broadcasts_input else [])
        for body in bodies:
            g = twin(op.inplace_variant, "") if body is in_place else f
            (a, _), (b, n) = (story(body, g, s, compiled) for compiled in (False, True))
            said += n
            if a != b: out.append(f"{name}, sample {i}, {body.__name__}: {[x == y for x, y in zip(a, b)].index(False)} of {len(a)} things to see")
    return out, said


def main():
    first, last = (int(a) for a in sys.argv[1:3]) if len(sys.argv) > 2 else (0, len(NAMES))
    found, said = [], 0
    for name in NAMES[first:last]:
        try: new, n = differences(name)
        except Exception as error: new, n = [f"{name}: {type(error).__name__}: {str(error)[:100]}"], 0
        for line in new: print(line, flush=True)
        found, said = found + new, said + n
    print(f"{len(NAMES[first:last])} entries, {said} calls from memory, {len(found)} differences")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    main()
