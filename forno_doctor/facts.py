"""What is known about releases, CUDA builds, drivers and GPUs: the tables in data/, with the rules that read them.

Nothing here looks at a machine. A question that the tables don't answer gives None ("not known"), which is never taken for yes or no.
"""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from .versions import numbers, parse, satisfies

DATA = Path(__file__).parent / "data"
NUMBERED = re.compile(r"(?:sm_?|compute_)?(\d{1,2})\.?(\d)[af]?")                        # a GPU named by its compute capability
INDEX = "https://download.pytorch.org/whl"     # the official index of PyTorch's wheels
PACKAGES = "torch", "torchvision", "torchaudio"


@functools.cache
def table(name: str) -> dict:
    with open(DATA / f"{name}.json", encoding="utf-8") as f: return json.load(f)


# ---------------------------------------------------------------- releases
class Build:
    """One CUDA build of a release: `tag` ("cu126"), `cuda` ("12.6"); `platforms`: where it exists, None: not known."""

    def __init__(self, row: dict):
        self.row, self.tag, self.cuda, self.cudnn = row, row["tag"], row["cuda"], row.get("cudnn")
        self.platforms, self.default = row.get("platforms"), bool(row.get("pypi_default"))

    def architectures(self, platform: str) -> list[str] | None:
        """Compute capabilities inside, "+PTX" where there is PTX, too."""
        key = "sm_windows" if platform.startswith("windows") else f"sm_{platform}"
        text = self.row.get(key)
        return None if text is None else text.split(";")

    def offered(self, platform: str) -> bool:
        return platform in self.platforms if self.platforms is not None else platform in ("linux_x86_64", "windows_x86_64")


class Release:
    """One release of torch with what belongs to it."""

    def __init__(self, row: dict):
        self.row, self.version = row, parse(row["version"])
        self.builds = [Build(b) for b in row["cuda"] or ()]

    def __repr__(self): return f"Release({self.version})"

    def pythons(self, platform: str) -> set[str]:
        """Python versions with a wheel; "3.13t" is the free-threaded build."""
        python = self.row["python"]
        if platform == "linux_x86_64" or platform in python.get("same_on", ()): text = python.get("linux_x86_64_wheels")
        else: text = python.get("other_platforms", {}).get(platform, "")
        return set((text or "").split())

    def extra(self, package: str) -> str | None: return self.row[package]

    def extras(self, package: str) -> list[str]:
        """The versions of a package that go with this release, the best first; without those that were taken back."""
        return [v for v in (self.row[package], *(_first(t) for t in self.row.get(f"{package}_also", ()) if "yanked" not in t)) if v]

    def extra_pythons(self, package: str) -> str: return self.row.get(f"{package}_wheels") or ""

    def extra_has_wheel(self, package: str, python: str) -> bool:
        return wheel_for(self.extra_pythons(package), python)

    def triton_on(self, platform: str, python: str) -> bool:
        """Does this release ask for triton there? "linux x86_64, python<3.13"."""
        where, _, below = (self.row.get("triton_where") or "").partition(", python")
        named = platform.startswith("linux") and where == "linux" or platform.replace("_", " ", 1) == where
        return bool(self.row["triton"]) and named and (not below or satisfies(parse(python.rstrip("t")), below))

    def default_on(self, platform: str) -> str | None:
        """The tag of the package index's own wheel: "cpu", "cu126"; None: not known."""
        if not platform.startswith("linux") or platform == "linux_aarch64" and self.row.get("pypi_linux_aarch64") != "cuda": return "cpu"
        default = self.default()
        return default.tag if default else None

    def rocm(self) -> list[str]: return [f"rocm{v}" for v in self.row["rocm"] or ()]

    def build(self, tag: str) -> Build | None: return next((b for b in self.builds if b.tag == tag), None)
    def default(self) -> Build | None: return next((b for b in self.builds if b.default), None)

    def glibc(self, platform: str) -> str | None: return self.row.get("glibc_min_by_tag", {}).get(platform)

    def numpy2(self, platform: str) -> bool | None: return self.row["numpy2"].get(platform.split("_")[0])


def _first(text: str) -> str: return text.split()[0]


def wheel_for(wheels: str, python: str) -> bool:
    """Is a Python among "3.9 3.10 3.13t", or in ">=3.10,!=3.14.1 (py3-none)"?"""
    plain = wheels.split("(")[0].strip()
    if plain.startswith("py"): return not python.endswith("t")
    if plain[:1] in "<>=!~": return satisfies(parse(python.rstrip("t")), plain)
    return python in plain.split()


@functools.cache
def releases() -> list[Release]:
    """All that are known, the newest first."""
    return sorted((Release(r) for r in table("torch")["releases"]), key=lambda r: r.version, reverse=True)


def release(version: str) -> Release | None:
    v = parse(version)
    return next((r for r in releases() if v is not None and r.version == parse(v.public)), None)


@functools.cache
def known_versions(package: str) -> dict[str, bool]:
    """All versions of a package that the tables name, and whether each was taken back."""
    if package == "torch": return {str(r.version): False for r in releases()}
    out = {}
    for r in releases():
        for text in (r.row[package] or "", *r.row.get(f"{package}_also", ())):
            if text: out[_first(text)] = "yanked" in text
    return out


@functools.cache
def highest_glibc() -> str:
    """What the most demanding wheel of all asks for: a C library as new as this one takes each of them."""
    return max((v for r in releases() for v in r.row.get("glibc_min_by_tag", {}).values()), key=numbers)


# ---------------------------------------------------------------- drivers
def floor(cuda: str, platform: str) -> str | None:
    """The lowest driver on which programs of a CUDA version run, PTX apart."""
    row = toolkit(cuda)
    return None if row is None else row["mvc_min_windows" if platform.startswith("windows") else "mvc_min_linux"]


def full_floor(cuda: str, platform: str) -> str | None:
    """The driver that came with a CUDA version: the lowest that compiles its PTX."""
    row = toolkit(cuda)
    return None if row is None else row["toolkit_driver_windows" if platform.startswith("windows") else "toolkit_driver_linux"]


def toolkit(cuda: str) -> dict | None: return next((t for t in table("cuda_driver")["toolkits"] if t["cuda"] == cuda), None)


def cuda_of_driver(driver: str) -> str | None:
    """The highest CUDA version that a driver's branch speaks."""
    found = None
    for row in table("cuda_driver")["driver_branch_to_cuda"]:
        if numbers(driver)[:1] >= numbers(row["branch"])[:1]: found = row["cuda_reported_max"].split()[0]
    return found


# ---------------------------------------------------------------- GPUs
@functools.cache
def gpu_names() -> dict[str, str]:
    """Plain names to compute capabilities."""
    out = {}
    for a in table("gpu_arch")["architectures"]:
        for names in (*a.get("official", {}).values(), *a.get("other_names", {}).values()):
            for name in names: out.setdefault(plain(name), a["cc"])
    return out


def gpu_labels() -> list[str]:
    """Names of GPUs as their makers write them."""
    return [name for a in table("gpu_arch")["architectures"] for names in (*a.get("official", {}).values(), *a.get("other_names", {}).values()) for name in names]


def plain(name: str) -> str:
    """A GPU's name without maker, memory size and form factor."""
    name = re.sub(r"^nvidia\s+", "", name.strip().lower())
    name = re.sub(r"\s*\(.*?\)", "", name)
    return re.sub(r"[\s-]+(?:\d+\s*gb(?:\s*hbm\d\w*)?|pcie|sxm\d?|nvl|laptop gpu|gpu|max-q design|with max-q design)\b.*$", "", name)


def capability(gpu: str) -> str | None:
    """Of a GPU by its name, or by "8.6", "86", "sm_86", "sm_90a". None: not known."""
    m = NUMBERED.fullmatch(gpu.strip().lower())
    if m is not None and int(m[1]) < 20: return f"{int(m[1])}.{m[2]}"         # "980" is a name
    names, short = gpu_names(), re.sub(r"(?<=\d)(ti|super)\b", r" \1", re.sub(r"^(rtx|gtx|gt|mx)(?=\d)", r"\1 ", plain(gpu)))
    for name in (short, gpu.strip().lower(), *(f"{family} {short}" for family in ("geforce", "geforce rtx", "geforce gtx", "tesla", "quadro"))):
        if name in names: return names[name]
    return None


def architecture(cc: str) -> dict | None: return next((a for a in table("gpu_arch")["architectures"] if a["cc"] == cc), None)


def jetson(cc: str) -> bool:
    """Is it on NVIDIA's Jetson boards, whose drivers have numbers of their own?"""
    return "jetson" in (architecture(cc) or {}).get("official", {})


def code(architectures: list[str], cc: str, driver_is_full: bool) -> tuple[str, str] | None:
    """The code that a GPU gets: ("machine", "8.6") of its major version and no newer than it, else ("ptx", "5.0"), which its driver can compile; None: there is none."""
    x, y = map(int, cc.split("."))
    excluded = table("gpu_arch")["binary_rule"]["tegra_excluded"]
    machine, ptx = [], []
    for entry in architectures:
        base = entry.split("+")[0]
        a, b = map(int, base.rstrip("af").split("."))
        if a == x and b <= y and cc not in excluded.get(base, ()): machine.append((a, b))
        if entry.endswith("+PTX") and (a, b) <= (x, y) and driver_is_full: ptx.append((a, b))
    if not machine and not ptx: return None
    a, b = max(machine or ptx)
    return "machine" if machine else "ptx", f"{a}.{b}"


def covers(architectures: list[str], cc: str, driver_is_full: bool) -> bool: return code(architectures, cc, driver_is_full) is not None
