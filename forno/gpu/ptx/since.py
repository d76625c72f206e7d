"""Since when a chip and a version of PTX have each instruction, as NVIDIA's PTX manual says.

Comes in: a parsed module. Goes out: what its own `.target` and `.version` lines don't allow. Instructions that this table has no rule for are as old as PTX 3.1 and
capability 3.0, if their names are known; names that aren't known are an error. A rule holds where the opcode has all its words; of those that hold, the largest count.
A word that ends in "::" stands for all that begin so.
"""
from __future__ import annotations

import functools
import re

from .parse import Instruction, Label, Source

OLD = frozenset("""abs add addc and atom bar bfe bfi bfind bra brev brkpt call clz cnot copysign cos cvt cvta div ex2 exit fma isspacep ld ldu lg2 mad mad24 madc max membar min
    mov mul mul24 neg not or pmevent popc prefetch prefetchu prmt rcp red rem ret rsqrt sad selp set setp shf shl shr sin slct sqrt st sub subc testp trap xor undef""".split())

# instructions (space-separated): (words besides, capability, PTX version) …
_RULES = {
    "lop3": [("", 50, 43)], "dp4a dp2a": [("", 61, 50)], "bmsk szext": [("", 70, 76)], "nanosleep": [("", 70, 62)], "brx": [("", 30, 60)],
    # ---- threads meet
    "shfl vote": [("sync", 30, 60)], "match": [("", 70, 60)], "activemask": [("", 30, 62)], "redux": [("", 80, 70), ("f32", 100, 86)], "elect": [("", 90, 80)],
    "bar": [("warp", 30, 60)], "barrier": [("", 30, 60), ("cta", 30, 78), ("cluster", 90, 78)],
    "fence": [("", 70, 60), ("cluster", 90, 78), ("proxy", 70, 75), ("proxy async", 90, 80), ("acquire", 90, 86), ("release", 90, 86)],
    "griddepcontrol": [("", 90, 78)], "mbarrier": [("", 80, 70), ("try_wait", 90, 78), ("expect_tx", 90, 80)],
    # ---- memory
    "ld st": [("relaxed", 70, 60), ("acquire", 70, 60), ("release", 70, 60), ("weak", 70, 60), ("mmio", 70, 82), ("L1::", 70, 74), ("L2::", 75, 74), ("L2::256B", 80, 74),
              ("L2::cache_hint", 80, 74), ("v8", 100, 88), ("v4 b64", 100, 88), ("v4 f64", 100, 88), ("v4 u64", 100, 88), ("v4 s64", 100, 88), ("b128", 70, 83),
              ("shared::cta", 30, 78), ("shared::cluster", 90, 78), ("param::", 30, 83), ("async", 90, 81)],
    "atom red": [("cta", 60, 50), ("gpu", 60, 50), ("sys", 60, 50), ("cluster", 90, 78), ("relaxed", 70, 60), ("acquire", 70, 60), ("release", 70, 60), ("acq_rel", 70, 60),
                 ("min u64", 32, 31), ("max u64", 32, 31), ("min s64", 32, 31), ("max s64", 32, 31),
                 ("and b64", 32, 31), ("or b64", 32, 31), ("xor b64", 32, 31), ("add f64", 60, 50), ("f16x2", 60, 62), ("f16", 70, 63), ("b16", 70, 63),
                 ("bf16", 90, 78), ("bf16x2", 90, 78), ("v2", 90, 81), ("v4", 90, 81), ("v8", 90, 81),
                 ("b128", 90, 83), ("L2::cache_hint", 80, 74), ("shared::cta", 30, 78), ("shared::cluster", 90, 78), ("async", 90, 81)],
    "cp": [("async", 80, 70), ("bulk", 90, 80), ("L2::", 80, 74)], "ldmatrix": [("", 75, 65), ("m16n16", 100, 86), ("m8n16", 100, 86)], "stmatrix": [("", 90, 78)],
    "createpolicy applypriority discard": [("", 80, 74)], "mapa getctarank": [("", 90, 78)], "prefetch": [("tensormap", 90, 80)],
    "cvta": [("param", 70, 77), ("shared::cluster", 90, 78)], "isspacep": [("shared::cluster", 90, 78), ("shared::cta", 30, 78)],
    # ---- matrices
    "mma": [("m8n8k4", 70, 64), ("m8n8k4 f64", 80, 70), ("m16n8k8", 75, 65), ("m16n8k8 tf32", 80, 70), ("m16n8k8 bf16", 80, 70), ("m16n8k4", 80, 70), ("m16n8k16", 80, 70),
            ("m8n8k16", 75, 65), ("m8n8k32", 75, 65), ("m16n8k32", 80, 70), ("m16n8k64", 80, 70), ("e4m3", 89, 84), ("e5m2", 89, 84)],
    "wgmma setmaxnreg": [("", 90, 80)], "tcgen05": [("", 100, 86)],
    # ---- arithmetic of 16 bits, and of pairs
    "add sub mul": [("f16", 53, 42), ("f16x2", 53, 42), ("bf16", 90, 78), ("bf16x2", 90, 78), ("f32x2", 100, 86)],
    "fma": [("f16", 53, 42), ("f16x2", 53, 42), ("bf16", 80, 70), ("bf16x2", 80, 70), ("f32x2", 100, 86), ("relu", 80, 70), ("oob", 90, 81)],
    "neg": [("f16", 53, 60), ("f16x2", 53, 60), ("bf16", 80, 70), ("bf16x2", 80, 70)], "abs": [("f16", 53, 65), ("f16x2", 53, 65), ("bf16", 80, 70), ("bf16x2", 80, 70)],
    "min max": [("f16", 80, 70), ("f16x2", 80, 70), ("bf16", 80, 70), ("bf16x2", 80, 70), ("NaN", 80, 70), ("xorsign", 86, 72), ("relu", 90, 80),
                ("u16x2", 90, 80), ("s16x2", 90, 80)],
    "set setp": [("f16", 53, 42), ("f16x2", 53, 42), ("bf16", 90, 78), ("bf16x2", 90, 78)],
    "tanh": [("", 75, 70), ("bf16", 90, 78), ("bf16x2", 90, 78)], "ex2": [("f16", 75, 70), ("f16x2", 75, 70), ("bf16", 90, 78), ("bf16x2", 90, 78)],
    "cvt": [("f16x2", 80, 70), ("bf16", 80, 70), ("bf16x2", 80, 70), ("tf32", 80, 70), ("tf32 rn", 90, 78), ("relu", 80, 70), ("pack", 72, 65),
            ("e4m3x2", 89, 81), ("e5m2x2", 89, 81)],
    "mov": [("b128", 70, 83)],
}
RULES = {name: [(tuple(words.split()), chip, version) for words, chip, version in rules] for names, rules in _RULES.items() for name in names.split()}
OWN = frozenset(("wgmma", "setmaxnreg", "tcgen05"))       # of one chip, or one family: targets whose names end in a letter
_REGISTERS = (("%cluster", 90, 78), ("%is_explicit_cluster", 90, 78), ("%nclusterid", 90, 78), ("%current_graph_exec", 50, 80),
              ("%aggr_smem_size", 90, 81), ("%reserved_smem", 80, 76))


@functools.lru_cache(4096)
def of_opcode(parts: tuple[str, ...]) -> tuple[int, int]:
    """(capability, PTX version) since which there is this opcode: 80 is 8.0."""
    name, words = parts[0], set(parts[1:])
    if name not in RULES and name not in OLD: raise NotImplementedError(f"since when there is '{'.'.join(parts)}' isn't known here")
    if name == "cvt" and parts[-1] == "bf16": return 80, 71                # from it; to it is older
    found = [(30, 31), *[(chip, version) for rule, chip, version in RULES.get(name, ()) if all(_has(words, w) for w in rule)]]
    if name in ("shfl", "vote") and "sync" not in words: return 1 << 10, 31                            # gone since capability 7.0
    return max(c for c, _ in found), max(v for _, v in found)


def _has(words: set[str], wanted: str) -> bool: return any(w.startswith(wanted) for w in words) if wanted.endswith("::") else wanted in words


def needs(s: Instruction) -> tuple[int, int]:
    chip, version = of_opcode(s.parts)
    for name, c, v in _REGISTERS:
        if name in s.text: chip, version = max(chip, c), max(version, v)
    return chip, version


def lacking(source: Source) -> list[str]:
    """What a module uses that its target and its version of PTX don't have, a sentence each."""
    major, minor = map(int, source.version.split("."))
    version, target = 10 * major + minor, source.target
    number, own = int(re.sub(r"\D", "", target)), target[-1].isalpha()
    out = []
    for f in source.functions.values():
        for s in f.body:
            if isinstance(s, Label): continue
            chip, since = needs(s)
            if chip <= number and since <= version and (own or s.parts[0] not in OWN): continue
            letter = "a" if s.parts[0] in OWN else ""
            out.append(f"PTX line {s.line}: '{s.opcode}' needs sm_{chip}{letter} and PTX {since // 10}.{since % 10}, this is for {target} in PTX {source.version}: {s.text}")
    return out
