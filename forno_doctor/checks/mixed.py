"""Packages of several CUDA generations in one environment, files that two packages write, and NVIDIA's packages that torch asks for and doesn't get (A9, A10).

NVIDIA's packages of CUDA 11, 12 and 13 partly share folders: nvidia/cudnn/lib/libcudnn.so.9 is a file of nvidia-cudnn-cu12 and of
nvidia-cudnn-cu13, and the last one installed wins.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

from ..finding import ERROR, NOTE, WARNING, Finding
from ..machine import Machine
from ..packages import Package
from ..requirements import Requirement
from ..versions import parse
from .common import bound, python

# Distributions that may write the same files: pairs of one product
FAMILIES = ("nvidia-",), ("onnxruntime",), ("triton", "pytorch-triton"), ("cupy",), ("tensorflow", "tf-nightly"), ("jaxlib",), ("bitsandbytes",), ("faiss",)
OF_TORCH = "nvidia-", "cuda-"
# Packages that carry a CUDA generation in their names and have a counterpart for each: {x} is the generation
COUNTERPARTS = {r"jax-cuda\d+-(?:plugin|pjrt)": '"jax[cuda{x}]=={v}"', r"cupy-cuda\d+x?": "cupy-cuda{x}x", r"tensorrt-cu\d+(?:-\w+)?": "tensorrt-cu{x}"}


def own(m: Machine) -> int | None:
    """The CUDA generation of the installed torch."""
    return int(m.torch.cuda.split(".")[0]) if m.torch and m.torch.cuda and m.torch.cuda[0].isdigit() else None


def generation(p: Package) -> int | None:
    """By a package's name; from CUDA 13 on NVIDIA's have it in their folder: nvidia/cu13/lib."""
    if p.cuda_major or not p.name.startswith("nvidia-"): return p.cuda_major
    folders = {m[1] for f in p.libraries for m in (re.match(r"nvidia/cu(\d+)/", f),) if m}
    return int(folders.pop()) if len(folders) == 1 else None


def nvidias(m: Machine) -> list[Package]: return [p for p in m.environment.by_name.values() if p.name.startswith("nvidia-") and p.installer != "conda"]


def base(p: Package) -> str: return re.sub(r"-cu\d+$", "", p.name)


def others(m: Machine, mine: int | None) -> list[Package]:
    """NVIDIA's packages of other generations, of those kinds that are here for torch's, too: what stands alone was installed for its own sake."""
    here = {base(p) for p in nvidias(m) if generation(p) == mine}
    return [p for p in nvidias(m) if mine and generation(p) not in (None, mine) and base(p) in here]


def asking(m: Machine, wanted: set[str]) -> dict[str, list[str]]:
    """Who asks for packages, by their names; what is itself among them doesn't count."""
    out: dict[str, list[str]] = {}
    for p in m.environment.by_name.values():
        for r in m.asked(p, None) if p.name not in wanted else ():
            if r.name in wanted: out.setdefault(r.name, []).append(p.name)
    return out


# ---------------------------------------------------------------- files of two packages
def shared(m: Machine) -> list[tuple[Package, Package, list[str]]]:
    """Pairs of packages that both say of the same libraries that they are theirs, with other contents."""
    out = []
    for starts in FAMILIES:
        group = [p for p in m.environment.by_name.values() if p.name.startswith(starts)]
        owners: dict[tuple[str, str], list[Package]] = {}
        for p in group if len(group) > 1 else ():
            for f in p.libraries: owners.setdefault((p.site, f), []).append(p)
        found: dict[tuple[str, str], list[str]] = {}
        for (_, f), ps in owners.items():
            for k, a in enumerate(ps):
                for b in ps[k + 1:]:
                    if differ(a, b, f): found.setdefault((a.name, b.name), []).append(f)
        by_name = {p.name: p for p in group}
        out += [(by_name[a], by_name[b], files) for (a, b), files in found.items()]
    return out


def differ(a: Package, b: Package, file: str) -> bool:
    one, other = a.files.get(file, ""), b.files.get(file, "")
    return bool(one.strip(",") and other.strip(",")) and one != other


def there(m: Machine, a: Package, b: Package, files: list[str]) -> Package | None:
    """Whose file it really is, by its size. None: their sizes are the same, or it is neither's."""
    for f in files:
        sizes = [p.files[f].rpartition(",")[2] for p in (a, b)]
        size = m.host.size(f"{a.site}/{f}")
        if sizes[0] != sizes[1] and size is not None and str(size) in sizes: return (a, b)[sizes.index(str(size))]
    return None


def overwritten(m: Machine) -> Iterator[Finding]:
    """Two packages of one place: what is loaded is the file of the one that came last."""
    mine = own(m)
    pairs = shared(m)
    foreign = others(m, mine)
    cuda = [(a, b, files) for a, b, files in pairs if mine and {mine} < {generation(a), generation(b)}]
    if cuda and m.torch:
        names = {p.name for p in foreign}
        by = asking(m, names)
        consumers = {who for all_of_them in by.values() for who in all_of_them}
        hit = [(a, b, files, there(m, a, b, files)) for a, b, files in cuda]
        wrong = [w for *_, w in hit if w is not None and generation(w) != mine]
        restored = [a if generation(a) == mine else b for a, b, _ in cuda]
        evidence = [(a.name + " / " + b.name, f"{a.site}/{files[0]}" + (f" ({w.name} {w.version})" if w else "")) for a, b, files, w in hit[:5]]
        evidence += [(who, " ".join(n for n in sorted(by) if who in by[n])) for who in sorted(consumers)]
        commands = [f"pip uninstall -y {' '.join(sorted(names | moved(consumers)))}", f"pip install --force-reinstall --no-deps {' '.join(pinned(m, restored))}"]
        yield Finding("cuda-files-overwritten", ERROR if wrong else WARNING,
                      {"own": mine, "others": ", ".join(f"{p.name} {p.version}" for p in foreign), "torch": m.torch.version, "by": ", ".join(sorted(consumers))},
                      evidence, bound(m, *commands, *replacements(m, consumers, mine)), python(m, "import torch; print(torch.backends.cudnn.version())"))
    for a, b, files in pairs:
        if (a, b, files) in cuda or generation(a) != generation(b): continue
        w = there(m, a, b, files)
        wanted, rest = (b, a) if w is a else (a, b)
        if "gpu" in wanted.name + rest.name: wanted, rest = (wanted, rest) if "gpu" in wanted.name else (rest, wanted)
        yield Finding("files-overwritten", WARNING,
                      {"one": f"{a.name} {a.version}", "other": f"{b.name} {b.version}", "count": len(files), "there": f"{w.name} {w.version}" if w else "?"},
                      [(a.name, a.folder), (b.name, b.folder), ("file", f"{a.site}/{files[0]}")],
                      bound(m, f"pip uninstall -y {rest.name} {wanted.name}", f"pip install {wanted.name}=={wanted.version}"), python(m, f"import {module(wanted)}"))


def module(p: Package) -> str:
    """What is imported: the folder that most of its libraries lie in."""
    return p.libraries[0].split("/")[0].split(".")[0]


def moved(consumers: set[str]) -> set[str]:
    """Those that have a counterpart for every CUDA generation."""
    return {c for c in consumers if any(re.fullmatch(pattern, c) for pattern in COUNTERPARTS)}


def replacements(m: Machine, consumers: set[str], x: int | None) -> list[str]:
    words = {text.format(x=x, v=m.environment.by_name[c].version) for c in consumers for pattern, text in COUNTERPARTS.items() if re.fullmatch(pattern, c)}
    return [f"pip install {' '.join(sorted(words))}"] if words else []


def pinned(m: Machine, packages: list[Package]) -> list[str]:
    """As torch asks for them, or as they were."""
    asked = {r.name: r for r in pins(m)}
    return sorted({asked[p.name].text if p.name in asked and asked[p.name].spec.startswith("==") else f"{p.name}=={p.version}" for p in packages})


# ---------------------------------------------------------------- generations
def generations(m: Machine) -> Iterator[Finding]:
    """Packages of other CUDA generations that nobody asks for, or that someone else does; where they write over torch's, that is told instead."""
    mine = own(m)
    if not mine or not m.torch: return
    foreign = others(m, mine)
    written = {p.name for a, b, _ in shared(m) for p in (a, b)}
    if not foreign or written & {p.name for p in foreign}: return
    by = asking(m, {p.name for p in foreign})
    unused = [p for p in foreign if p.name not in by]
    if unused:
        yield Finding("cuda-leftovers", NOTE, {"own": mine, "others": ", ".join(f"{p.name} {p.version}" for p in unused), "torch": m.torch.version},
                      [(p.name, p.folder) for p in unused], bound(m, f"pip uninstall -y {' '.join(p.name for p in unused)}"), bound(m, "pip check")[0])
    if by:
        consumers = {who for all_of_them in by.values() for who in all_of_them}
        yield Finding("cuda-generations-mixed", NOTE, {"own": mine, "others": ", ".join(sorted(by)), "by": ", ".join(sorted(consumers)), "torch": m.torch.version},
                      [(p.name, p.folder) for p in foreign if p.name in by], bound(m, *replacements(m, consumers, mine)), bound(m, "pip check")[0])


# ---------------------------------------------------------------- what torch asks for
def pins(m: Machine) -> list[Requirement]:
    """NVIDIA's packages that torch requires; behind cuda-toolkit stand others, by its extras."""
    torch = m.environment.get("torch")
    if torch is None: return []
    out = [r for r in m.asked(torch) if r.name.startswith(OF_TORCH)]
    for r in tuple(out):
        p = m.environment.get(r.name)
        if p is not None and r.extras: out += [x for x in m.asked(p, r.extras) if x.name.startswith(OF_TORCH) and x not in out]
    return out


def unmet(m: Machine) -> Iterator[Finding]:
    """A version that was changed, or that is missing while torch's libraries don't come from elsewhere."""
    torch = m.environment.get("torch")
    if torch is None or not m.torch or torch.installer == "conda": return
    wrong, missing = [], []
    for r in pins(m):
        p = m.environment.get(r.name)
        if p is None: missing.append(r)
        elif r.met_by(parse(p.version)) is False: wrong.append((r, p))
    if wrong:
        yield Finding("torch-pins-unmet", WARNING, {"torch": m.torch.version, "wrong": ", ".join(f"{p.name} {p.version} ({r.spec})" for r, p in wrong)},
                      [(p.name, p.folder) for _, p in wrong], bound(m, f"pip install {' '.join(quoted(r) for r, _ in wrong)}"), bound(m, "pip check")[0])
    if missing:
        lost = [f.name for f in m.loaded.values() if f.path is None]
        yield Finding("torch-packages-missing", ERROR if lost else NOTE, {"torch": m.torch.version, "missing": ", ".join(r.text for r in missing)},
                      [("torch", torch.folder), *(("missing", n) for n in lost[:5])], bound(m, f"pip install {' '.join(quoted(r) for r in missing)}"), python(m, "import torch"))


def quoted(r: Requirement) -> str: return r.text if re.fullmatch(r"[\w.=+-]+", r.text) else f'"{r.text}"'


CHECKS = [overwritten, generations, unmet]
