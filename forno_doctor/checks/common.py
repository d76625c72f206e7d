"""What several checks need: the set of packages that would fit, as commands for the examined interpreter, and commands that show that it helped."""
from __future__ import annotations

from dataclasses import replace

from .. import commands, facts
from ..machine import Machine
from ..nvidia import Gpu
from ..packages import Package, constants
from ..plan import Plan, Refusal, Wish, plan, target
from ..versions import at_least, parse

PAIRED = "torchvision", "torchaudio"


# Packages whose modules are called otherwise, where their lists of files don't say so
MODULES = {"flash-attn": "flash_attn", "flash-attn-3": "flash_attn_interface", "onnxruntime-gpu": "onnxruntime", "pytorch-triton": "triton", "pytorch-triton-rocm": "triton"}


def program(m: Machine) -> str: return f'"{m.python.executable}"' if " " in m.python.executable else m.python.executable
def python(m: Machine, code: str) -> str: return f'{program(m)} -c "{code}"'


def module(p: Package) -> str:
    """What is imported of a package. NVIDIA's libraries are used by torch."""
    if p.name.startswith("nvidia-"): return "torch"
    plain, tops = p.name.replace("-", "_"), [f.split("/")[0] for f in p.files if f.endswith("/__init__.py") and f.count("/") == 1]
    return plain if plain in tops else MODULES.get(p.name) or next((t for t in tops if not t.startswith("test")), plain)


def known_gpus(m: Machine) -> list[tuple[Gpu, str]]:
    """GPUs with their compute capabilities, where those are known. Jetson boards have builds and drivers of their own."""
    found = [(g, g.capability or facts.capability(g.name)) for g in m.gpus]
    return [(g, c) for g, c in found if c and not facts.jetson(c)]


def bound(m: Machine, *lines: str) -> list[str]: return commands.bound(list(lines), m.python.executable, m.torch.source if m.torch else "")


def fitting(m: Machine, tag: str | None = None) -> Plan | Refusal:
    """The nearest set that fits this machine: the same release if it can be, else the newest."""
    extras = {p: "" for p in PAIRED if m.environment.get(p)}
    known = parse(m.torch.version) if m.torch else None
    found = plan(target(m), Wish(f"=={known.public}", extras, tag)) if known else None
    return found if isinstance(found, Plan) else plan(target(m), Wish("", extras, tag))


def repaired(m: Machine, tag: str | None = None, again: bool = False) -> list[str]:
    """What to type for that set; conda's packages are replaced by conda. Empty: nothing fits. Only these packages change, and what they need; `again`: all is written
    anew, because files of the same version are broken."""
    if m.torch and m.torch.source == "conda": return from_conda(m)
    found = fitting(m, tag)
    if tag is not None and isinstance(found, Refusal): found = fitting(m)
    return bound(m, *(commands.pip(found, reinstall=True) if again else commands.pip_instead(found))) if isinstance(found, Plan) else []


def from_conda(m: Machine) -> list[str]:
    kind, extras = "cuda" if m.gpus else "cpu", [p for p in PAIRED if m.environment.get(p)]
    return [" ".join(["conda install", *(["-p", m.python.prefix] if m.python.prefix else []), "-c conda-forge", f'"pytorch=*=*{kind}*"', *extras])]


def newer_driver(m: Machine) -> str | None:
    """The driver's branch with which the newest set would fit, where the driver is all that stands in the way."""
    found = plan(replace(target(m), driver=None), Wish("", {p: "" for p in PAIRED if m.environment.get(p)}))
    floor = found.floor() if isinstance(found, Plan) else None
    return floor.split(".")[0] if floor else None


def pairs_with(m: Machine, package: Package) -> str | None:
    """The version of torchvision or torchaudio that goes with the installed torch, if this one doesn't; None: it does, or that isn't known."""
    release, version = m.torch and m.torch.release, parse(package.version)
    torch = parse(m.torch.version) if m.torch else None
    unmet = [r for r in m.asked(package) if r.name == "torch" and r.met_by(torch) is False]
    if not release or version is None: return unmet[0].text if unmet else None
    wanted = release.extras(package.name)
    if unmet or wanted and version.public not in wanted and not version.early: return wanted[0] if wanted else unmet[0].text
    return None


def paired(m: Machine) -> list[Package]: return [p for p in (m.environment.get(name) for name in PAIRED) if p is not None]


def tag(m: Machine, package: Package) -> str:
    """The build of a package, by its version or by the one that its own version.py says: the package index leaves "+cu126" away. "": not known."""
    own = constants(m.host.text(f"{package.site}/{package.name}/version.py") or "").get("__version__")
    return package.local or (str(own).partition("+")[2] if own else "")


def other_build(m: Machine, package: Package) -> str | None:
    """The build of a package, if it isn't torch's. None: it is, or one of them isn't known."""
    if not m.torch: return None
    here, own = tag(m, package), m.torch.version.partition("+")[2] or m.torch.tag
    known = all(t.startswith(("cu", "cpu", "rocm", "xpu")) for t in (here, own))
    return here if known and here != own else None


def current(m: Machine) -> str | None:
    """The build that is installed, where it fits: then only what stands beside it needs to change."""
    if not m.torch or not m.torch.tag.startswith("cu"): return "cpu" if m.torch and m.torch.tag == "cpu" and not known_gpus(m) else None
    if not known_gpus(m): return m.torch.tag               # built for another machine: on a login node, in an image
    if not m.gpu_code or not all(facts.covers(m.gpu_code.architectures, c, False) for _, c in known_gpus(m)): return None
    floor = facts.floor(m.torch.cuda or "", m.system.platform)
    return m.torch.tag if floor and m.driver.version and at_least(m.driver.version, floor) else None


def realigned(m: Machine, *names: str) -> list[str]:
    """What stands beside torch anew, for the torch that is here; where that doesn't fit the machine, or isn't known, all of them."""
    build = current(m)
    found = fitting(m, build) if build and m.torch and m.torch.source != "conda" else None
    if not isinstance(found, Plan) or not m.torch or not m.torch.release or (found.release.version, found.tag) != (m.torch.release.version, build): return repaired(m, build)
    some = replace(found, packages={n: v for n, v in found.packages.items() if n in names})
    return bound(m, *(c.replace("--force-reinstall", "--force-reinstall --no-deps", 1) for c in commands.pip(some, reinstall=True)))
