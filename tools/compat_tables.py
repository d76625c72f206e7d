"""Proposes what forno_doctor/data/torch.json should say after new releases of torch, and lists what a person must review.

    python tools/compat_tables.py                        ask pip, compare with the table, print
    python tools/compat_tables.py --pytorch ~/pytorch    with the CUDA builds, architectures and cuDNN of a checkout's release tags, too
    python tools/compat_tables.py --listing torch.txt    from a saved `pip index versions torch -vvv`, without a network
    python tools/compat_tables.py --write                write the proposal: new releases, and what was null; a value that stands there is never changed

Nothing big is downloaded: pip reads lists of files and wheels' metadata, in child processes with time limits. A step that can't be done is named, and what it would
have said stays null ("not verified"). Exit code: 0 the table is up to date, 1 there is something to add or to look at, 2 nothing could be read.
Sources of formats: PEP 427 (file names), PEP 600 (manylinux tags), pip's installation report; pytorch/pytorch .ci/manywheel and .github/scripts at release tags.
"""
from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from forno_doctor import facts
from forno_doctor.versions import numbers, parse, satisfies

TABLE = ROOT / "forno_doctor" / "data" / "torch.json"
SECONDS = 180
SAYS_CUDA = "1.13"                             # from here on a wheel's metadata names NVIDIA's packages
LONGEST = 430                                  # characters of a release's builds in one line
WHEEL = re.compile(r"/(?P<name>torch|torchvision|torchaudio)-(?P<version>\d[\w.]*)(?:-(?P<build>\d\w*))?-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl")
REQUIRES = re.compile(r"requires-python:(?P<spec>[^)]+)\)")
RELEASES_WITHOUT_PTX = {"_is_release_build", "_ptx_arches"}            # scripts with one of these leave PTX out of releases
SCRIPTS = (".ci/manywheel/build_env_setup.py", ".ci/pytorch/windows/build_env_setup.py", ".ci/manywheel/build_cuda.sh", ".github/scripts/generate_binary_build_matrix.py")
LABEL = re.compile(r"([\d.\[\]|\s]+)\)\s*(.*)$")
GLIBC = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
MACHINES = {"win_amd64": "windows_x86_64", "win_arm64": "windows_arm64"}


# ---------------------------------------------------------------- asking, in child processes
@dataclass
class Asked:
    """What a program said, or why it couldn't."""
    text: str | None
    why: str = ""


def ask(*command: str) -> Asked:
    try: done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired: return Asked(None, f"no answer in {SECONDS} s")
    except OSError as error: return Asked(None, str(error))
    if done.returncode == 0: return Asked(done.stdout + "\n" + done.stderr if "index" in command else done.stdout)
    return Asked(None, next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit code {done.returncode}")[:200])


def pip(*arguments: str) -> Asked: return ask(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def listing(package: str) -> Asked: return pip("index", "versions", package, "-vvv")


def metadata(package: str, version: str, python: str, platform: str = "manylinux_2_28_x86_64") -> tuple[dict | None, str]:
    """A wheel's own metadata, for a Python and platform that need not be this one's."""
    with tempfile.TemporaryDirectory() as nowhere:
        said = pip("install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--use-feature=fast-deps", "--report", "-", "--only-binary=:all:", "--target", nowhere,
                   "--python-version", python.rstrip("t"), "--platform", platform, f"{package}=={version}")
    if said.text is None: return None, said.why
    try: return json.loads(said.text[said.text.index("{"):said.text.rindex("}") + 1])["install"][0]["metadata"], ""
    except (ValueError, KeyError, IndexError, TypeError) as error: return None, f"a report that can't be read: {error!r}"


# ---------------------------------------------------------------- lists of files
@dataclass
class Wheel:
    """A file of a release. `pythons`: "3.12", "3.13t", "3.12+" (abi3: that and later), "py3"."""
    version: str
    python: str
    platform: str
    tag: str
    requires: str


def wheels(text: str, package: str = "torch") -> dict[str, list[Wheel]]:
    """By version, from what `pip index versions -vvv` prints of found and skipped links; local builds and files of this machine aren't among them."""
    out: dict[str, list[Wheel]] = {}
    for line in text.splitlines():
        m = WHEEL.search(line)
        if m is None or m["name"] != package or "file:" in line or "yanked" in line: continue
        requires = REQUIRES.search(line)
        for tag in m["platform"].split("."):
            platform = platform_of(tag)
            if platform: out.setdefault(m["version"], []).append(Wheel(m["version"], python_of(m["python"], m["abi"]), platform, tag, requires["spec"].strip() if requires else ""))
    return out


def platform_of(tag: str) -> str | None:
    if tag in MACHINES: return MACHINES[tag]
    m = re.fullmatch(r"(?:(many)linux\w*|(macosx)_\d+_\d+)_(x86_64|aarch64|arm64)", tag)
    return None if m is None else f"{'linux' if m[1] else 'macos'}_{m[3]}"


def python_of(python: str, abi: str) -> str:
    m = re.fullmatch(r"cp(\d)(\d+)", python)
    if m is None: return "py3"
    return f"{m[1]}.{m[2]}" + ("+" if abi == "abi3" else "t" if re.fullmatch(r"cp\d+t", abi) else "")


def in_order(pythons) -> list[str]: return sorted(pythons, key=lambda p: (numbers(p), p.endswith("t")))


def python_row(found: list[Wheel]) -> dict:
    """The table's `python`: what a release requires, and the versions with a wheel by platform."""
    by: dict[str, set[str]] = {}
    for w in found: by.setdefault(w.platform, set()).add(w.python)
    linux = by.get("linux_x86_64", set())
    every = [p.rstrip("t+") for group in by.values() for p in group if p != "py3"]
    out: dict = {"requires": next((w.requires for w in found if w.requires), None), "min": min(every, key=numbers, default=None), "max": max(every, key=numbers, default=None),
                 "linux_x86_64_wheels": " ".join(in_order(linux)), "same_on": sorted(p for p, group in by.items() if p != "linux_x86_64" and group == linux)}
    others = {p: " ".join(in_order(group)) for p, group in sorted(by.items()) if p != "linux_x86_64" and group != linux}
    return {**out, "other_platforms": others} if others else out


def linux_tags(found: list[Wheel]) -> tuple[dict, dict]:
    """(names of manylinux, lowest glibc) by platform."""
    names: dict[str, set[str]] = {}
    for w in found:
        if w.platform.startswith("linux"): names.setdefault(w.platform, set()).add(w.tag.rsplit(w.platform.split("_", 1)[1], 1)[0].rstrip("_"))
    return {p: sorted(n) for p, n in sorted(names.items())}, {p: min((glibc(n) for n in group), key=numbers) for p, group in sorted(names.items())}


def glibc(name: str) -> str: return GLIBC.get(name) or ".".join(re.findall(r"\d+", name))


# ---------------------------------------------------------------- metadata
def from_metadata(m: dict) -> dict:
    """What a wheel of torch says of its build: CUDA, cuDNN, NCCL, triton."""
    lines = m.get("requires_dist") or []
    out: dict = {"requires": m.get("requires_python")}
    toolkit, runtime = _pinned(lines, r"cuda-toolkit(?:\[[^\]]*\])?"), _pinned(lines, r"nvidia-cuda-runtime(?:-cu\d\d)?")
    if toolkit or runtime: out["pypi_default_cuda"] = ".".join((toolkit or runtime or "").split(".")[:2])
    out |= {"cuda_toolkit": toolkit, "cudnn": _pinned(lines, r"nvidia-cudnn-cu\d\d"), "nccl": _pinned(lines, r"nvidia-nccl-cu\d\d")}
    triton = next((line for line in lines if re.match(r"triton\b", line)), None)
    if triton is not None: out["triton"], out["triton_where"] = _triton(triton)
    gpu = [line for line in lines if line.startswith(("nvidia-", "cuda-"))]
    if gpu: out["pypi_linux_aarch64"] = "cpu" if all("platform_machine" in line for line in gpu) else "cuda"
    return {k: v for k, v in out.items() if v is not None}


def _pinned(lines: list[str], name: str) -> str | None:
    return next((m[1] for line in lines for m in (re.match(name + r"\s*\(?==\s*([\d.]+)", line),) if m), None)


def _triton(line: str) -> tuple[str | None, str]:
    version, _, marker = line.partition(";")
    spec = re.sub(r"^triton\s*|[()\s]", "", version)
    where = "linux" + (" x86_64" if "x86_64" in marker else "") if "Linux" in marker or "linux" in marker else "everywhere"
    below = re.search(r"python_version\s*<\s*[\"']([\d.]+)", marker)
    return (spec[2:] if spec.startswith("==") else spec or None), where + (f", python<{below[1]}" if below else "")


def pin_of(m: dict) -> str:
    """What a companion asks of torch: "==2.6.0", ">=2.14.0" or ""."""
    line = next((line for line in m.get("requires_dist") or [] if re.match(r"torch\s*(?:[(=<>!~;]|$)", line)), "torch")
    return re.sub(r"^torch\s*|[()\s]", "", line.split(";")[0])


# ---------------------------------------------------------------- a checkout of pytorch
def at_tag(checkout: Path, version: str, path: str) -> Asked: return ask("git", "-C", str(checkout), "show", f"v{version}:{path}")


def named(node) -> str | None:
    """The name that a statement gives a value."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
    return target.id if isinstance(target, ast.Name) else None


def lists_in_python(text: str) -> dict[tuple[str, str], str]:
    """(CUDA, machine) to architectures, from build_env_setup.py (2.13 and later; Windows has one of its own). The file is parsed, not run."""
    values, functions = {}, set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef): functions.add(node.name)
        name = named(node)
        if name in ("TORCH_CUDA_ARCH_LIST_TABLE", "_PTX_ARCHES") and node.value is not None:
            values[name] = ast.literal_eval(node.value) if not isinstance(node.value, ast.Call) else set()
    ptx = set() if functions & RELEASES_WITHOUT_PTX else values.get("_PTX_ARCHES", set())
    out = {}
    for cuda, by in values.get("TORCH_CUDA_ARCH_LIST_TABLE", {}).items():
        if isinstance(by, str): out[f"{cuda[:-1]}.{cuda[-1]}", "windows"] = by             # {"126": "5.0;6.0"}
        else: out |= {(cuda, machine): ";".join(f"{c // 10}.{c % 10}{'+PTX' if c in ptx else ''}" for c in sorted(codes)) for machine, codes in by.items()}
    return out


def lists_in_shell(text: str) -> dict[tuple[str, str], str | None]:
    """The same from build_cuda.sh (to 2.12), for x86_64. None: written in a way that a person must read."""
    out: dict[tuple[str, str], str | None] = {}
    start, labels, depth, other, inside = "", [], 0, 0, False                  # `other`: the depth of a block that isn't for wheels
    current: str | None = ""
    for raw in text.splitlines():
        line = raw.split(" #")[0].strip()
        if re.match(r"case\s+\$\{?CUDA_VERSION\}?\s+in", line): inside = True
        elif inside and line == "esac": break
        label = LABEL.match(line) if inside else None
        if label: labels, current, depth, other, line = labelled(label[1]), start, 0, 0, label[2]
        depth += bool(re.match(r"if\b", line)) - (line == "fi")
        if re.match(r"if\b.*PACKAGE_TYPE.*==.*libtorch", line): other = other or depth
        if depth < other: other = 0
        if other: continue
        assigned = re.match(r"(?:export )?TORCH_CUDA_ARCH_LIST=(?:\"(.*)\"|([\d.;+PTX]+))\s*(?:;;)?$", line)
        if assigned:
            current = None if depth else expanded(assigned[1] or assigned[2] or "", current if labels else start)
            if not inside: start = current or ""
        elif "TORCH_CUDA_ARCH_LIST=" in line: current = None
        if "TORCH_CUDA_ARCH_LIST=" in line: out |= {(cuda, "x86_64"): current for cuda in labels}
        if line.endswith(";;"): labels = []
    return out


def labelled(text: str) -> list[str]:
    """The versions that a case's label names: "12.6", "12.8|12.9", "11.[67]"."""
    return [f"{m[1]}{digit}" for part in text.split("|") for m in (re.fullmatch(r"\s*(\d+\.)(?:(\d)|\[(\d+)\])\s*", part),) if m for digit in (m[2] or m[3])]


def expanded(text: str, before: str | None) -> str | None:
    """A list with the shell's variable in it: itself, or itself with a part replaced; what is only for aarch64 is left out."""
    if before is None: return None
    text = re.sub(r"\$\(\[\[ \"?\$ARCH\"? == \"?aarch64\"? \]\] && echo \"([^\"]*)\" \|\| echo \"([^\"]*)\"\)", lambda m: m[2], text)
    text = re.sub(r"\$\{TORCH_CUDA_ARCH_LIST//?([^/}]+)/([^}]*)\}", lambda m: before.replace(m[1], m[2]), text)
    text = re.sub(r"\$\{TORCH_CUDA_ARCH_LIST\}|\$TORCH_CUDA_ARCH_LIST\b", lambda m: before, text)
    return None if "$" in text else text.strip(";").replace(";;", ";")


def builds_in_matrix(text: str) -> dict[str, str | None]:
    """CUDA versions of a release with the cuDNN that each asks for, from generate_binary_build_matrix.py. Parsed, not run."""
    values: dict = {"CUDA_ARCHES": [], "PYTORCH_EXTRA_INSTALL_REQUIREMENTS": {}}
    for node in ast.parse(text).body:
        name = named(node)
        if name not in values or node.value is None: continue
        try: values[name] = ast.literal_eval(node.value)
        except ValueError: continue                # made by a function: a person reads it
    arches, requirements = values.values()
    cudnn = {cuda: re.search(r"nvidia-cudnn-cu\d\d==([\d.]+)", text) for cuda, text in requirements.items() if isinstance(text, str)}
    return {cuda: m[1] if (m := cudnn.get(cuda)) else None for cuda in arches}


# ---------------------------------------------------------------- the proposal
@dataclass
class Proposal:
    """`table`: the new one; `added`: versions; `filled`: (version, field, value) that was null; `differs`: (version, field, table's, found); `undone`: (step, why);
    `review`: what a person must do."""
    table: dict
    added: list[str] = field(default_factory=list)
    filled: list[tuple] = field(default_factory=list)
    differs: list[tuple] = field(default_factory=list)
    undone: list[tuple[str, str]] = field(default_factory=list)
    review: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool: return bool(self.added or self.filled)


def propose(table: dict, found: dict[str, list[Wheel]], read=None, lists=None, companions=None) -> Proposal:
    """`read(version, python)`: metadata of torch, or None; `lists(version)`: (CUDA versions with cuDNN, architectures) of a checkout; `companions(version)`: pairs of
    torchvision and torchaudio with their pins. None: that step isn't done."""
    p = Proposal(copy.deepcopy(table))
    rows = {r["version"]: r for r in p.table["releases"]}
    for version in sorted((v for v in found if parse(v) and not parse(v).early), key=parse):
        known = rows.get(version)
        asks = known is None or known["pypi_default_cuda"] is None and parse(version) >= parse(SAYS_CUDA)
        fresh = row(version, found[version], read if asks else None, companions if known is None else None)
        if known is None:
            p.table["releases"].append(fresh)
            p.added.append(version)
            known = fresh
        else: _compare(p, known, fresh)
        if version in p.added or any(b["sm_linux_x86_64"] is None for b in known["cuda"] or ()): _architectures(p, known, lists)
    p.table["count"] = len(p.table["releases"])
    p.review = reviews(p)
    return p


def row(version: str, found: list[Wheel], read, companions) -> dict:
    """A new release's row; what isn't known is null."""
    python, (tags, floors) = python_row(found), linux_tags(found)
    said = read(version, python["max"]) if read and python["max"] else None
    facts_of = from_metadata(said) if said else {}
    pairs = companions(version) if companions else {}
    build = None
    if "pypi_default_cuda" in facts_of:
        cuda = facts_of["pypi_default_cuda"]
        build = {"tag": "cu" + cuda.replace(".", ""), "cuda": cuda, "pypi_default": True, **{k: facts_of[k] for k in ("cuda_toolkit", "cudnn") if k in facts_of}, "cudnn_src": "M",
                 "sm_linux_x86_64": None, "sm_windows": None}
    out = {"version": version, "released": None, "on_pypi": True, "python": python, "torchvision": None, "torchvision_pin": None, "torchaudio": None, "torchaudio_pin": None,
           "torchvision_wheels": None, "torchaudio_wheels": None, "cuda": [build] if build else [],
           "pypi_default_cuda": facts_of.get("pypi_default_cuda"), "pypi_default_src": "wheel metadata" if build else None,
           "pypi_linux_aarch64": facts_of.get("pypi_linux_aarch64"),
           "pypi_windows": "cpu" if "windows_x86_64" in (*python["same_on"], *python.get("other_platforms", ())) else None, "rocm": None, "xpu": None}
    out |= {k: facts_of.get(k) for k in ("triton", "triton_where", "nccl")}
    return {**out, **pairs, "linux_tag": tags, "glibc_min_by_tag": floors, "numpy2": {"linux": None, "macos": None, "windows": None}}


def _compare(p: Proposal, known: dict, fresh: dict):
    """A row of the table with what was found now: holes are filled, other differences are shown."""
    for key in ("linux_tag", "glibc_min_by_tag", "pypi_default_cuda", "nccl", "triton"):
        if fresh.get(key) is None or known.get(key) == fresh[key]: continue
        if known.get(key) is None:
            known[key] = fresh[key]
            p.filled.append((known["version"], key, fresh[key]))
        else: p.differs.append((known["version"], key, known[key], fresh[key]))
    a, b = ({"linux_x86_64": r["python"].get("linux_x86_64_wheels"), **r["python"].get("other_platforms", {}), **dict.fromkeys(r["python"].get("same_on", ()), "the same"),
             "requires": r["python"]["requires"]} for r in (known, fresh))
    p.differs += [(known["version"], f"python.{k}", a.get(k), b.get(k)) for k in sorted({*a, *b}) if a.get(k) != b.get(k)]


def _architectures(p: Proposal, known: dict, lists):
    """CUDA builds and their architectures from a checkout, where the table has none."""
    builds, codes = lists(known["version"]) if lists else ({}, {})
    for cuda, cudnn in builds.items():
        if any(b["cuda"] == cuda for b in known["cuda"]): continue
        known["cuda"].append({"tag": "cu" + cuda.replace(".", ""), "cuda": cuda, "cudnn": cudnn, "cudnn_src": "P", "sm_linux_x86_64": None, "sm_windows": None})
        p.filled.append((known["version"], "cuda", cuda))
    known["cuda"].sort(key=lambda b: numbers(b["cuda"]))
    for b in known["cuda"]:
        for machine, key in (("x86_64", "sm_linux_x86_64"), ("aarch64", "sm_linux_aarch64"), ("windows", "sm_windows")):
            text = codes.get((b["cuda"], machine))
            if text is None or b.get(key) is not None: continue
            b[key], b["sm_src"] = text, "P"
            p.filled.append((known["version"], f"{b['tag']}.{key}", text))
        if b.get("cudnn") is None and builds.get(b["cuda"]):
            b["cudnn"], b["cudnn_src"] = builds[b["cuda"]], "P"
            p.filled.append((known["version"], f"{b['tag']}.cudnn", b["cudnn"]))


def reviews(p: Proposal) -> list[str]:
    """What no program can decide."""
    rows = {r["version"]: r for r in p.table["releases"]}
    out = []
    for v in p.added:
        r = rows[v]
        holes = [k for k in ("released", "torchvision", "torchaudio", "pypi_default_cuda", "rocm", "xpu") if r[k] is None]
        out.append(f"{v}: not known: {', '.join([*holes, 'NumPy 2', 'builds beside the default, their platforms, Windows architectures'])}")
        if any(w.endswith("+") for w in (r["python"]["linux_x86_64_wheels"] or "").split()): out.append(f"{v}: abi3 wheels cover later Pythons: write them out")
    for v in [*p.added, *(f[0] for f in p.filled)]:
        for b in rows[v]["cuda"]:
            if facts.toolkit(b["cuda"]) is None: out.append(f"CUDA {b['cuda']} has no row in cuda_driver.json: driver floors and PTX are in NVIDIA's release notes")
            unknown = {c.split("+")[0] for c in (b["sm_linux_x86_64"] or "").split(";") if c} - {a["cc"] for a in facts.table("gpu_arch")["architectures"]}
            if unknown: out.append(f"compute capabilities that gpu_arch.json lacks: {', '.join(sorted(unknown))}")
    out += [f"{v}: {key}: the table says {old!r}, found now {new!r}" for v, key, old, new in p.differs]
    if p.changed: out.append("RELEASE.md's compatibility row, NVIDIA's cuDNN matrix, new GPUs and messages; then `pytest tests/doctor`: a changed answer is to be looked at")
    return list(dict.fromkeys(out))


# ---------------------------------------------------------------- writing
def _line(value) -> str: return json.dumps(value, ensure_ascii=False)


def _release(r: dict) -> str:
    lines = []
    for key, value in r.items():
        one = f"   {_line(key)}: {_line(value)}"
        lines.append(one if key != "cuda" or len(one) <= LONGEST else f"   {_line(key)}: [\n" + ",\n".join(f"    {_line(b)}" for b in value) + "\n   ]")
    return "  {\n" + ",\n".join(lines) + "\n  }"


def rendered(table: dict) -> str:
    """As the table is written: one line for each field, so that differences can be read."""
    parts = []
    for key, value in table.items():
        if key in ("releases", "sources"): body = "[\n" + ",\n".join(_release(r) if key == "releases" else f"  {_line(r)}" for r in value) + "\n ]"
        elif isinstance(value, dict): body = "{\n" + ",\n".join(f"  {_line(k)}: {_line(v)}" for k, v in value.items()) + "\n }"
        else: body = _line(value)
        parts.append(f" {_line(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write(path: Path, text: str):
    """All of it or nothing."""
    json.loads(text)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as f: f.write(text)
    try:
        os.chmod(f.name, path.stat().st_mode if path.exists() else 0o644)
        os.replace(f.name, path)
    except OSError:
        os.unlink(f.name)
        raise


# ---------------------------------------------------------------- steps
class Steps:
    """The sources as functions for `propose`; each step that fails is noted once for a release."""

    def __init__(self, checkout: Path | None, offline: bool):
        self.checkout, self.offline, self.undone = checkout, offline, []

    def read(self, version: str, python: str) -> dict | None:
        if self.offline: return self._no(f"metadata of torch {version}", "--listing: pip isn't asked")
        said, why = metadata("torch", version, python)
        return said if said is not None else self._no(f"metadata of torch {version}", why)

    def companions(self, version: str) -> dict:
        out: dict = {}
        for package in ("torchvision", "torchaudio"):
            asked = Asked(None, "--listing: pip isn't asked") if self.offline else listing(package)
            if asked.text is None:
                self._no(f"list of {package}", asked.why)
                continue
            found = wheels(asked.text, package)
            for candidate in sorted((v for v in found if parse(v) and not parse(v).early), key=parse, reverse=True)[:4]:
                row_of = python_row(found[candidate])
                said, why = metadata(package, candidate, row_of["max"] or "3.12")
                if said is None: self._no(f"metadata of {package} {candidate}", why)
                if said is None or not satisfies(parse(version), pin_of(said)): continue
                out |= {package: candidate, f"{package}_pin": pin_of(said) or None, f"{package}_wheels": row_of["linux_x86_64_wheels"] or None}
                break
        return out

    def lists(self, version: str) -> tuple[dict, dict]:
        if self.checkout is None:
            self._no(f"architectures of torch {version}", "no --pytorch PATH")
            return {}, {}
        script, windows, shell, matrix = (at_tag(self.checkout, version, path) for path in SCRIPTS)
        codes: dict = {}
        try:
            if shell.text is not None: codes |= lists_in_shell(shell.text)
            for found in (script, windows):
                if found.text is not None: codes |= lists_in_python(found.text)
            builds = builds_in_matrix(matrix.text) if matrix.text is not None else {}
        except (SyntaxError, ValueError) as error:
            self._no(f"build scripts of torch {version}", str(error))
            return {}, {}
        if not codes: self._no(f"architectures of torch {version}", script.why or "no list in the build scripts")
        for (cuda, machine), text in codes.items():
            if text is None: self._no(f"architectures of torch {version}, CUDA {cuda}, {machine}", "written in a way that a person must read")
        return builds, codes

    def _no(self, step: str, why: str) -> None: self.undone.append((step, why))


def report(p: Proposal) -> str:
    lines = [f"new releases: {', '.join(p.added) or 'none'}"]
    lines += [f"filled: torch {v}: {key} = {value}" for v, key, value in p.filled]
    lines += [f"not done: {step}: {why}" for step, why in p.undone]
    return "\n".join([*lines, *(f"review: {r}" for r in p.review)])


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pytorch", type=Path, metavar="PATH", help="a checkout of pytorch with its release tags")
    parser.add_argument("--listing", type=Path, metavar="FILE", help="what `pip index versions torch -vvv` printed; pip isn't asked")
    parser.add_argument("--table", type=Path, default=TABLE, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write the proposal into the table")
    options = parser.parse_args(arguments)
    table = json.loads(options.table.read_text(encoding="utf-8"))
    steps = Steps(options.pytorch, options.listing is not None)
    asked = Asked(options.listing.read_text(encoding="utf-8", errors="replace")) if options.listing else listing("torch")
    found = wheels(asked.text or "")
    if not found:
        print(f"not done: list of torch's files: {asked.why or 'no wheel of torch in it'}", file=sys.stderr)
        return 2
    p = propose(table, found, steps.read, steps.lists, steps.companions)
    p.undone = steps.undone
    print(report(p))
    if options.write and p.changed: write(options.table, rendered(p.table))
    return 1 if p.changed or p.differs else 0


if __name__ == "__main__": sys.exit(main())
