"""Writes docs/operations.md: what every PyTorch operation is here, taken from the op table and the api tables by trying.

    python tools/operations.py            write it (needs PyTorch, whose database of samples is tried)
    python tools/operations.py --check    exit 1 if it is not what would be written (a minute)
    python tools/operations.py --rows     exit 1 if rows or entries have come or gone since (a second)

Each name is called on PyTorch's sample arguments, type by type. Nothing is computed: a row's rule refuses a type when the line is made, and the lines that a
call records say which rows it is made of. Its gradient is asked for once and once more.
"""
from __future__ import annotations

import itertools
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch

import forno
from forno.core.hot import FUNCTIONS
from forno.core.op import TABLE
from forno.dnn import batching
from forno.framework import api
from forno.framework.engine import flush
from forno.graph.line import LOCAL
from tests.conformance import walk

PATH = ROOT / "docs" / "operations.md"
CLASSES = {"b": (torch.bool,), "i": (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64), "h": (torch.float16, torch.bfloat16),
           "f": (torch.float32, torch.float64), "c": (torch.complex64, torch.complex128)}
SILENT = frozenset(("input", "gradleaf", "detach", "copy", "view", "cast", "full", "mode", "backward", "straight", "overwrite", "put"))
REFUSALS = (RuntimeError, TypeError, NotImplementedError, ValueError, IndexError, AttributeError, KeyError, AssertionError)
ORDER = ("opaque", "routine", "composite", "contract", "reduce", "elementwise", "movement")
KINDS = {
    "elementwise": ("Generated: elementwise", "One pass over the elements, fused with their neighbours."),
    "reduce": ("Generated: reductions", "Loops that combine along axes, fused with what feeds them."),
    "contract": ("Generated: products", "Tile programs for matrix products and convolutions."),
    "movement": ("Views and copies", "Nothing is computed: strides, copies and constants."),
    "composite": ("Composite", "Rows made of rows, planned and fused as if written out."),
    "routine": ("Routines", "Native loops of their own: sort, scatter, scan, random numbers."),
    "opaque": ("Opaque", "LAPACK or FFT through NumPy: the plan stops for them."),
}


def samples(info, dtype, grad=False, most=3):
    """A few of PyTorch's samples, spread over all of them."""
    torch.manual_seed(0)
    try: found = list(itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=grad), 24))
    except REFUSALS: return []
    return found if len(found) <= most else [found[i * (len(found) - 1) // (most - 1)] for i in range(most)]


def rows_of_window() -> list:
    """Rows of the lines recorded since the last flush."""
    return [l.op for l in LOCAL.run.cur.program()]


def call(f, s):
    return f(walk.given(s.input), *walk.given(s.args), **walk.given(s.kwargs))


class Entry:
    """What trying showed of one entry of PyTorch's database."""

    def __init__(self, name: str):
        self.name, self.info = name, walk.INFOS[name]
        self.rows, self.types, self.error = [], {}, ""
        try: self.f = walk.twin(self.info.op, self.info.op.__name__ if "torch.testing" in str(self.info.op) else self.info.name)
        except (AttributeError, TypeError): self.f = None
        if self.f is None: return
        for letter, kinds in CLASSES.items():
            here = [t for t in kinds if t in self.info.supported_dtypes("cpu")]
            if here: self.types[letter] = (sum(map(self.takes, here)), len(here))
        self.gradient = self.derivatives()

    @property
    def there(self) -> bool: return any(n for n, _ in self.types.values())

    def takes(self, dtype) -> bool:
        worked = False
        for s in samples(self.info, dtype):
            flush()
            try:
                y = call(self.f, s)
                self.rows += [o for o in rows_of_window() if o not in self.rows and o.name not in SILENT]
                worked = True
                del y
            except REFUSALS as e: self.error = self.error or f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
        return worked

    def derivatives(self) -> str:
        """How often it can be differentiated: '', '1' or '2'."""
        best = ""
        dtype = next((t for t in (torch.float64, torch.float32) if t in self.info.supported_dtypes("cpu")), None)
        if dtype is None or not self.info.supports_autograd: return best
        for s in samples(self.info, dtype, True, 2):
            try:
                x, args, kw = walk.given(s.input), walk.given(s.args), walk.given(s.kwargs)
                leaves = [t for t in walk.flat([x, *args, *kw.values()], forno.Tensor) if t.requires_grad]
                ends = [t for t in walk.flat(self.f(x, *args, **kw), forno.Tensor) if t.requires_grad]
                if not ends or not leaves: continue
                got = [g for g in forno.autograd.grad(ends, leaves, [forno.ones_like(t).requires_grad_() for t in ends], allow_unused=True, create_graph=True) if g is not None]
                best = max(best, "1")
                again = [g for g in got if g.requires_grad]
                if again: forno.autograd.grad(again, leaves, [forno.ones_like(t) for t in again], allow_unused=True)
                best = "2"
            except REFUSALS: continue
        return best

    @property
    def kind(self) -> str:
        kinds = {o.kind for o in self.rows}
        return next((k for k in ORDER if k in kinds), "movement")

    def batched(self) -> str:
        """What vmap does: 'rule' for every row, 'parts' where composite rows are expanded, 'each' where a row runs once per example."""
        words = {"rule" if batching.rule(o) is not None else "parts" if o.kind == "composite" else "each" for o in self.rows}
        return "each" if "each" in words else "parts" if "parts" in words else "rule"

    def kinds(self) -> str:
        """Types: a letter for a class that is taken as a whole, in brackets where some of it is refused."""
        return "".join(letter if n == of else f"({letter})" if n else "" for letter, (n, of) in self.types.items())

    def missing(self) -> str: return "".join(letter for letter, (n, _) in self.types.items() if not n)


def offered(name: str) -> str:
    """Where a name is: f function, m method, i in place."""
    path = name.split(":")[0]
    owner: object = forno
    for part in path.split("."): owner = getattr(owner, part, None)
    last = path.rsplit(".", 1)[-1]
    plain = "." not in path
    return ("f" if owner is not None else "") + ("m" if plain and hasattr(forno.Tensor, last) else "") + ("i" if plain and hasattr(forno.Tensor, last + "_") else "")


def line(e: Entry) -> str:
    rows = ", ".join(f"`{o.name}`" for o in e.rows[:4]) + (f" + {len(e.rows) - 4}" if len(e.rows) > 4 else "")
    return f"| {e.name} | {offered(e.name)} | {e.kinds()} | {e.missing()} | {e.gradient} | {e.batched()} | {rows} |"


def functions(module, skip=()) -> list[str]:
    return sorted(n for n in vars(module) if not n.startswith("_") and isinstance(getattr(module, n), FUNCTIONS) and n not in skip)


def words(names) -> str: return " ".join(f"`{n}`" for n in names) or "none"


HEAD = """# Operations

Generated by `tools/operations.py` from the op table and the api tables, by trying PyTorch's own sample arguments; don't edit. An entry is one of PyTorch's
database of operations (`name:variant`) that stands in `tests/conformance/t0.txt` (used most), `t1.txt` or `t2.txt`.

| column | says |
|---|---|
| as | f: function, m: method, i: in place (`name_`) |
| types | b bool, i integers, h float16 and bfloat16, f float32 and float64, c complex; in brackets: some of them. Only types that PyTorch's CPU code takes are tried |
| raises | classes of types that PyTorch takes and forno refuses, with an error that names operation and type |
| grad | 1: has a gradient; 2: the gradient has one, too. Forward mode is derived from gradient rules, so it is there where the gradient is |
| vmap | rule: all its rows have a batching rule; parts: composite rows are expanded first; each: a row runs once per example |
| rows | the rows of the op table that the samples recorded (views, copies, casts and constants left out) |
"""


def listed() -> list[str]:
    """The entries of the project's lists."""
    lists = [(ROOT / "tests" / "conformance" / f"{t}.txt").read_text().split() for t in ("t0", "t1", "t2")]
    return sorted({n for names in lists for n in names if n in walk.INFOS}, key=str.lower)


def page() -> str:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = listed()
    entries = [Entry(n) for n in names]
    present, absent = [e for e in entries if e.there], [e for e in entries if not e.there]
    every = sum(not e.missing() for e in present)
    out = [HEAD, f"{len(present)} of {len(entries)} entries work for at least one type; {every} of them for every class of types that PyTorch takes. "
                 f"The op table has {len(TABLE)} rows.\n"]
    for kind, (title, text) in KINDS.items():
        mine = [e for e in present if e.kind == kind]
        out += [f"## {title}\n", f"{text} {len(mine)} entries.\n", "| entry | as | types | raises | grad | vmap | rows |", "|---|---|---|---|---|---|---|", *map(line, mine), ""]
    out += ["## Not there\n", "Entries that no sample gets through, with the first error.\n", "| entry | error |", "|---|---|",
            *(f"| {e.name} | {'no such name' if not offered(e.name) and not e.error else e.error.replace('|', '/')[:140]} |" for e in absent), ""]
    known = {e.name.split(":")[0] for e in entries}
    others = [n for n in functions(api) if n not in known]
    methods = sorted(n for n in dir(forno.Tensor) if not n.startswith("_") and n not in known and callable(getattr(forno.Tensor, n)) and n not in others)
    out += ["## Further names\n", "Without an entry above. Functions of `forno`:\n", words(n for n in others if n[-1] != "_") + "\n", "Methods that are no functions above:\n",
            words(n for n in methods if n[-1] != "_") + "\n", "In place:\n", words(sorted({n for n in (*others, *methods) if n[-1] == "_"})) + "\n", rows_by_kind()]
    return "\n".join(out)


def rows_by_kind() -> str:
    lists = (f"**{kind}**: {words(sorted(o.name for o in TABLE.values() if o.kind == kind))}\n" for kind in KINDS)
    return "\n".join(["## Rows\n", "All rows of the op table by kind.\n", *lists])


def complete() -> bool:
    """Does the page name every entry and every row there is now?"""
    text = PATH.read_text(encoding="utf-8")
    return rows_by_kind() in text and all(f"\n| {n} |" in text for n in listed())


if __name__ == "__main__":
    if "--rows" in sys.argv[1:]: sys.exit(None if complete() else "stale: operations.md; run python tools/operations.py")
    text = page()
    if "--check" not in sys.argv[1:]: PATH.write_text(text, encoding="utf-8")
    elif not PATH.exists() or PATH.read_text(encoding="utf-8") != text: sys.exit("stale: operations.md; run python tools/operations.py")
