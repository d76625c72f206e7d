"""Which torch, torchvision, torchaudio and CUDA build fit a machine and a wish; or why none does, and what comes nearest.

The policy, in order: the newest release that satisfies the wish and has wheels for this Python; of its CUDA builds the highest that the driver runs and that
has code for the GPU. What the tables don't know isn't chosen.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from . import facts
from .facts import Build, Release
from .versions import at_least, parse, satisfies


@dataclass(frozen=True)
class Target:
    """A machine to plan for. `python`: "3.12", "3.13t"; `platform`: "linux_x86_64", "linux_aarch64", "windows_x86_64", "macos_arm64"; `capability`: of the
    oldest GPU, None: there is none; `driver`: "580.95.05"; `glibc`, `numpy`: limits, or None."""
    python: str
    platform: str
    capability: str | None = None
    driver: str | None = None
    glibc: str | None = None
    numpy: str | None = None


@dataclass(frozen=True)
class Wish:
    """What is asked for: specifiers by package ("" or "latest": any), a CUDA tag or None, or "cpu"."""
    torch: str = ""
    extras: dict[str, str] = field(default_factory=dict)
    tag: str | None = None


@dataclass(frozen=True)
class Plan:
    """What fits. `default`: the package index's own wheel is this build."""
    target: Target
    release: Release
    packages: dict[str, str]
    tag: str
    build: Build | None
    default: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why nothing fits: `reasons` are words like "arch", "driver", "extra_wheel:torchvision"; `nearest`: what would ("first_torch", "last_torch",
    "update_driver", "requires", "fix")."""
    reasons: tuple[str, ...]
    nearest: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str: return "+".join(self.reasons)


def plan(target: Target, wish: Wish) -> Plan | Refusal:
    unknown = [r for r in (_unknown(p, s) for p, s in {"torch": wish.torch, **wish.extras}.items()) if r]
    if unknown: return Refusal(tuple(unknown))
    wanted = [r for r in facts.releases() if _among(r.version, wish.torch) and r.row["on_pypi"]]
    first = None
    for r in wanted:
        found = fitted(r, target, wish)
        if isinstance(found, Plan): return found
        first = first or found
    return _with_nearest(first or Refusal(("unknown_version:torch",)), target, wish)


def fitted(r: Release, target: Target, wish: Wish) -> Plan | Refusal:
    """One release, for a target."""
    pythons = r.pythons(target.platform)
    if target.python not in pythons: return Refusal(("python",), {k: v for k, v in (("requires", r.row["python"]["requires"]),) if v})
    packages = {"torch": str(r.version)}
    for package, spec in wish.extras.items():
        version = r.extra(package)
        if version is None: return Refusal((f"unknown_version:{package}",))
        if not _among(parse(version), spec): return Refusal((f"unpaired:{package}",), {package: version})
        if not r.extra_has_wheel(package, target.python): return Refusal((f"extra_wheel:{package}",))
        packages[package] = version
    if target.numpy and r.numpy2(target.platform) is False and not satisfies(parse("1.26.4"), target.numpy): return Refusal(("numpy",), {"fix": "numpy<2 or torch>=2.3"})
    needed = r.glibc(target.platform)
    if target.glibc and needed and not at_least(target.glibc, needed): return Refusal(("glibc",), {"glibc": needed})
    if wish.tag == "cpu" or target.capability is None or target.platform.startswith("macos"):
        return Plan(target, r, packages, "cpu", None, target.platform.startswith(("macos", "windows")))
    return _with_cuda(r, target, wish, packages)


def _with_cuda(r: Release, target: Target, wish: Wish, packages: dict) -> Plan | Refusal:
    offered = [b for b in r.builds if b.offered(target.platform) and not ("torchaudio" in packages and b.tag == "cu132")]
    if target.glibc: offered = [b for b in offered if b.default]                    # only the package index's wheels have a stated glibc
    if wish.tag is not None: offered = [b for b in offered if b.tag == wish.tag]
    if not offered: return Refusal(("tag",))
    reasons, floors = [], []
    for b in sorted(offered, key=lambda b: parse(b.cuda), reverse=True):
        why = _unfit(b, target)
        if why is None: return Plan(target, r, packages, b.tag, b, b.default and target.platform.startswith("linux"))
        reasons.append(why)
        if why == "driver": floors.append(facts.floor(b.cuda, target.platform))
    nearest = {"update_driver": min(floors, key=lambda f: parse(f)).split(".")[0]} if floors else {}
    return Refusal(tuple(sorted(set(reasons))), nearest)


def _unfit(b: Build, target: Target) -> str | None:
    """Why a build doesn't run on a target."""
    floor, full = facts.floor(b.cuda, target.platform), facts.full_floor(b.cuda, target.platform)
    architectures = b.architectures(target.platform)
    if architectures is None: return "arch"
    is_full = target.driver is None or full is not None and at_least(target.driver, full)
    if not facts.covers(architectures, target.capability, is_full): return "arch"
    if target.driver is not None and (floor is None or not at_least(target.driver, floor)): return "driver"
    return None


def _with_nearest(refusal: Refusal, target: Target, wish: Wish) -> Refusal:
    """The releases nearest to what was wished for that would fit."""
    if not {"arch", "tag"} & set(refusal.reasons) or "update_driver" in refusal.nearest: return refusal
    fit = [r.version for r in facts.releases() if isinstance(fitted(r, target, Wish("", dict.fromkeys(wish.extras, ""), wish.tag)), Plan)]
    asked = [r.version for r in facts.releases() if _among(r.version, wish.torch)]
    if not fit or not asked: return refusal
    later, earlier = [v for v in fit if v > max(asked)], [v for v in fit if v < min(asked)]
    nearest = dict(refusal.nearest)
    if earlier: nearest["last_torch"] = str(max(earlier))
    if later: nearest["first_torch"] = str(min(later))
    return Refusal(refusal.reasons, nearest)


def _among(version, spec: str) -> bool: return spec in ("", "latest") and not version.early or spec not in ("", "latest") and satisfies(version, spec)


def _unknown(package: str, spec: str) -> str | None:
    """A package's version that never was, or was taken back."""
    if spec in ("", "latest") or not spec.startswith("=="): return None
    return None
