"""Which torch, torchvision, torchaudio and CUDA build fit a machine and a wish; or why none does, and what comes nearest.

    plan("torch==2.6 torchvision", python="3.12", gpu="RTX 4090", driver="550.54.14")          what isn't said is this machine's
    plan(Target("3.12", "linux_x86_64", "8.9", "550.54.14"), Wish("==2.6.*", {"torchvision": ""}))

The policy, in order: the newest release that satisfies the wish and has wheels for this Python; of its CUDA builds the highest that the driver runs and that
has code for each of the GPUs. What the tables don't know isn't chosen.
"""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace

from . import facts
from .facts import Build, Release
from .host import Host
from .machine import Machine
from .system import Python
from .versions import at_least, normal, numbers, parse, satisfies

EXTRAS = "torchvision", "torchaudio", "triton"
ANY = "", "latest", "stable"
VERSION_ALONE = re.compile(r"latest|stable|nightly|\d+(?:\.\d+)*(?:\+\w+(?:\.\d+)?)?")
STAGES = "python", "unpaired", "unknown_version", "extra_wheel", "numpy", "glibc", "tag"       # in the order in which a release is judged; then come its builds
SYSTEMS = {"linux": "linux_x86_64", "wsl": "linux_x86_64", "windows": "windows_x86_64", "win": "windows_x86_64",
           "macos": "macos_arm64", "mac": "macos_arm64", "darwin": "macos_arm64"}
FORNO_PYTHON, FORNO_CAPABILITY, FORNO_CUDA = "3.10", "5.0", "12.0"       # the lowest that forno itself runs with
PLATFORMS = "linux_x86_64", "linux_aarch64", "windows_x86_64", "macos_arm64", "macos_x86_64"
REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)\s*(?:\[[^\]]*\])?\s*(?:@\s*(?=\d)|(?=[=<>!~])|$)(.*)")


class Misread(ValueError):
    """What was asked can't be read. `key` and `data`: its sentence in the catalogue."""
    def __init__(self, key: str, **data):
        super().__init__(f"{key}: {data}")
        self.key, self.data = key, data


@dataclass(frozen=True)
class Target:
    """A machine to plan for. `python`: "3.12", "3.13t"; `platform`: "linux_x86_64", "linux_aarch64", "windows_x86_64", "macos_arm64"; `capability`: of its GPU, or of each
    of several, None: there is none; `driver`: "580.95.05", None: not known; `glibc`, `numpy`: limits, or None; `unknown`: names of GPUs that the tables don't have; `odd`: a
    Python for which nobody makes wheels of torch: "bits", "musl", "pypy"."""
    python: str
    platform: str
    capability: str | tuple[str, ...] | None = None
    driver: str | None = None
    glibc: str | None = None
    numpy: str | None = None
    unknown: tuple[str, ...] = ()
    odd: str = ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Of all GPUs, the oldest first."""
        given = (self.capability,) if isinstance(self.capability, str) else self.capability or ()
        return tuple(sorted(set(given), key=numbers))

    @property
    def jetson(self) -> bool: return self.platform == "linux_aarch64" and any(facts.jetson(c) for c in self.capabilities)


@dataclass(frozen=True)
class Wish:
    """What is asked for: specifiers by package ("" or "latest": any), a tag ("cu126", "cpu", "rocm6.4") or None: what fits best."""
    torch: str = ""
    extras: dict[str, str] = field(default_factory=dict)
    tag: str | None = None


@dataclass(frozen=True)
class Plan:
    """What fits. `default`: the package index's own wheel is this build; `notes`: words of the catalogue's plan-note; `newer`: releases that the wish allows and why they
    don't fit; `higher`: CUDA builds of this release above the chosen one, and why not those."""
    target: Target
    release: Release
    packages: dict[str, str]
    tag: str
    build: Build | None
    default: bool
    notes: tuple[str, ...] = ()
    newer: tuple[tuple[str, Refusal], ...] = ()
    higher: tuple[tuple[str, str], ...] = ()

    def codes(self) -> dict[str, tuple[str, str]]:
        """What each GPU gets: ("machine", "8.6") or ("ptx", "5.0")."""
        if self.build is None: return {}
        found = {c: _code(self.build, self.target, c) for c in self.target.capabilities}
        return {c: kind for c, kind in found.items() if kind}

    def floor(self) -> str | None:
        """The driver that this needs: for PTX the one that came with its CUDA version."""
        if self.build is None: return None
        compiled = any(kind == "ptx" for kind, _ in self.codes().values())
        return (facts.full_floor if compiled else facts.floor)(self.build.cuda, self.target.platform)


@dataclass(frozen=True)
class Refusal:
    """Why nothing fits: `reasons` are words like "arch", "driver", "extra_wheel:torchvision"; `nearest`: what would ("first_torch", "last_torch",
    "update_driver", "requires", "fix", "python", "tags", "gpu", "names"); `builds`: each CUDA build and why not; `release`: of which all this is said."""
    reasons: tuple[str, ...]
    nearest: dict[str, str] = field(default_factory=dict)
    builds: tuple[tuple[str, str], ...] = ()
    release: str = ""

    @property
    def reason(self) -> str: return "+".join(self.reasons)


# ---------------------------------------------------------------- what is asked
def plan(what: Target | str, wish: Wish | None = None, **machine) -> Plan | Refusal:
    """For a target and a wish; or for text such as "torch==2.6 torchvision", with words of `target`, and `cuda`: "12.6", "cpu"."""
    if isinstance(what, Target): return resolve(what, wish or Wish())
    asked = read(what.split(), machine.pop("cuda", None))
    return resolve(target(machine.pop("machine", None) or Machine(Host()), **machine), asked)


def read(words: list[str], cuda: str | None = None) -> Wish:
    """A wish from words as pip takes them: torch, torch==2.6 (all of 2.6), torch>=2.5,<2.8, torchvision==0.21.0+cu124; a version alone, or "latest", is torch's."""
    specs: dict[str, str] = {}
    tags = {tag_of(cuda)} - {None}
    for word in words:
        if VERSION_ALONE.fullmatch(word.strip()): word = f"torch=={word.strip()}"
        m = REQUIREMENT.fullmatch(word.strip())
        name = normal(m[1]) if m else ""
        if m is None: raise Misread("unreadable", word=word)
        name = {"pytorch": "torch"}.get(name, name)
        if name not in ("torch", "numpy", *EXTRAS): raise Misread("other-package", name=m[1])
        spec, tag = _spec(m[2].strip(), word)
        tags |= {tag} - {None}
        specs[name] = spec
    if len(tags) > 1: raise Misread("two-tags", tags=", ".join(sorted(tags)))
    extras = {k: v for k, v in specs.items() if k in EXTRAS}
    if specs.get("numpy"): extras["numpy"] = specs["numpy"]
    return Wish(specs.get("torch", ""), extras, tags.pop() if tags else None)


def _spec(text: str, word: str) -> tuple[str, str | None]:
    """A specifier as people mean it, and the build that it names: "==2.6" is all of 2.6; "2.6.0+cu124" is cu124's 2.6.0."""
    if text.lstrip("=") in ANY or text == "*": return "", None
    if text.lstrip("=").lower() in ("nightly", "dev", "pre"): return "nightly", None
    if re.match(r"=?\d", text): text = f"=={text.lstrip('=')}"                # conda's way to say it, and the shortest
    tag, clauses = None, []
    for clause in text.split(","):
        version, _, local = clause.strip().partition("+")
        tag = local or tag
        clauses.append(f"{version}.*" if re.fullmatch(r"==\s*\d+(\.\d+)?", version) else version)
    spec = ",".join(c for c in clauses if c)
    try: satisfies(parse("0"), spec)
    except ValueError: raise Misread("unreadable", word=word) from None
    return spec, tag_of(tag)


def tag_of(cuda: str | None) -> str | None:
    """"12.6", "126", "cu126" and "cuda12.6" are cu126; "cpu", "rocm6.4" and "xpu" are themselves."""
    if cuda is None: return None
    text = cuda.strip().lower()
    m = re.fullmatch(r"(?:cu(?:da)?)?[-_ ]?(\d{1,2})\.?(\d)(?:\.\d+)?", text)
    if m: return f"cu{m[1]}{m[2]}"
    if text in ("cpu", "xpu") or re.fullmatch(r"rocm\d+(\.\d+)+", text): return text
    raise Misread("unreadable-tag", tag=cuda)


def target(machine: Machine | None = None, python: str | None = None, gpu: str | list[str] | None = None, driver: str | None = None, os: str | None = None,
           glibc: str | None = None, numpy: str | None = None, no_gpu: bool = False) -> Target:
    """A machine to plan for: what isn't said is of `machine` (None: nothing is known of one), but a machine with another system or GPU is another machine."""
    platform = platform_of(os) if os or machine is None else machine.system.platform
    here = machine is not None and platform == machine.system.platform
    names = [gpu] if isinstance(gpu, str) else list(gpu or ())
    found = [(name, facts.capability(name)) for name in names]
    capabilities = [c for _, c in found if c] if names else machine.capabilities if here and machine else []
    unknown = [n for n, c in found if c is None] if names else _nameless(machine) if here and machine else []
    if driver is None and here and machine and not names: driver = machine.driver.version
    if driver is not None and not numbers(driver): raise Misread("unreadable-driver", driver=driver)
    if numpy: numpy = _spec(numpy, f"numpy {numpy}")[0]
    if no_gpu: capabilities, unknown, driver = [], [], None
    return Target(python_of(python) if python or machine is None else machine.python.tag, platform, tuple(capabilities) or None, driver,
                  glibc or (machine.system.glibc if here and machine else None), numpy, tuple(unknown), _odd(machine.python) if here and machine and not python else "")


def _odd(python: Python) -> str:
    return "bits" if python.bits == 32 else "musl" if python.musl else "pypy" if python.implementation not in ("", "CPython") else ""


def _nameless(machine: Machine) -> list[str]: return [g.name for g in machine.gpus if not (g.capability or facts.capability(g.name))]


def platform_of(text: str | None) -> str:
    plain = (text or "linux").strip().lower().replace("-", "_").replace("amd64", "x86_64")
    plain = SYSTEMS.get(plain, plain)
    if plain not in PLATFORMS: raise Misread("unreadable-os", os=text, known=", ".join((*SYSTEMS, *PLATFORMS)))
    return plain


def python_of(text: str | None) -> str:
    """"3.12", "3.12.4", "312", "cp312" are 3.12; "3.13t" is without a global lock."""
    m = re.fullmatch(r"(?:cp|py|python)?\s*(\d)\.?(\d{1,2})(?:\.\d+)?(t?)", (text or "").strip().lower())
    if m is None: raise Misread("unreadable-python", python=text)
    return f"{m[1]}.{m[2]}{m[3]}"


# ---------------------------------------------------------------- the answer
def resolve(target: Target, wish: Wish) -> Plan | Refusal:
    if "numpy" in wish.extras:
        target = replace(target, numpy=wish.extras["numpy"])
        wish = replace(wish, extras={k: v for k, v in wish.extras.items() if k != "numpy"})
    odd = [r for r in (_unknown(p, s) for p, s in {"torch": wish.torch, **wish.extras}.items()) if r]
    if target.odd: return Refusal((target.odd,))
    if odd: return _with_nearest(Refusal(tuple(odd)), target, wish)
    if target.unknown and wish.tag != "cpu": return Refusal(("unknown_gpu",), {"gpu": ", ".join(target.unknown), **_similar(target.unknown)})
    wanted = [r for r in facts.releases() if among(r.version, wish.torch) and r.row["on_pypi"]]
    failed: list[tuple[str, Refusal]] = []
    for r in wanted:
        found = fitted(r, target, wish)
        if isinstance(found, Plan): return replace(found, newer=tuple(failed), notes=_notes(found))
        failed.append((str(r.version), found))
    return _with_nearest(_telling(failed), target, wish)


def _similar(names: tuple[str, ...]) -> dict[str, str]:
    """Names that were perhaps meant."""
    known = {facts.plain(name): name for name in facts.gpu_labels()}
    near = [known[n] for name in names for n in difflib.get_close_matches(facts.plain(name), known, 3, 0.75)]
    return {"names": ", ".join(near)} if near else {}


def _telling(failed: list[tuple[str, Refusal]]) -> Refusal:
    """Of several releases the reason of the one that came nearest, the newest of those."""
    version, refusal = max(failed, key=lambda f: next((k for k, r in enumerate(STAGES) if f[1].reason.startswith(r)), len(STAGES)))
    return replace(refusal, release=version)


def fitted(r: Release, target: Target, wish: Wish) -> Plan | Refusal:
    """One release, for a target."""
    pythons = r.pythons(target.platform)
    if target.python not in pythons: return Refusal(("python",), {k: v for k, v in (("requires", r.row["python"]["requires"]),) if v})
    packages = {"torch": str(r.version)}
    for package, spec in wish.extras.items():
        found = _extra(r, package, spec, target)
        if isinstance(found, Refusal): return found
        packages[package] = found
    if target.numpy and r.numpy2(target.platform) is False and not satisfies(parse("1.26.4"), target.numpy): return Refusal(("numpy",), {"fix": "numpy<2 or torch>=2.3"})
    needed = r.glibc(target.platform)
    if target.glibc and needed and not at_least(target.glibc, needed): return Refusal(("glibc",), {"glibc": needed})
    default = r.default_on(target.platform)
    if wish.tag is not None and wish.tag.startswith(("rocm", "xpu")): return _other_maker(r, target, wish, packages)
    if wish.tag == "cpu" or wish.tag is None and (not target.capabilities or target.platform.startswith("macos")): return Plan(target, r, packages, "cpu", None, default == "cpu")
    return _with_cuda(r, target, wish, packages)


def _extra(r: Release, package: str, spec: str, target: Target) -> str | Refusal:
    """The version of an extra package that goes with a release."""
    if package == "triton": return _triton(r, spec, target)
    offered = r.extras(package)
    if not offered: return Refusal((f"unknown_version:{package}",))
    version = next((v for v in offered if spec in ANY or among(parse(v), spec)), None)
    if version is None: return Refusal((f"unpaired:{package}",), {package: offered[0]})
    at_home = next((x for x in facts.releases() if x.extra(package) == version), r)            # where its wheels are listed
    return version if at_home.extra_has_wheel(package, target.python) else Refusal((f"extra_wheel:{package}",))


def _triton(r: Release, spec: str, target: Target) -> str | Refusal:
    """torch itself says which triton it takes; "~=3.8.0" where that is a range."""
    own = r.row["triton"]
    if not r.triton_on(target.platform, target.python): return Refusal(("extra_wheel:triton",))
    if spec in ANY: return own
    exact = re.fullmatch(r"==(\d+(?:\.\d+)+)", spec)
    if own[0].isdigit(): fits = among(parse(own), spec)
    else: fits = satisfies(parse(exact[1]), own) if exact else any(satisfies(parse(f"{own[2:].rsplit('.', 1)[0]}.{k}"), spec) for k in range(10))
    return (exact[1] if exact else own) if fits else Refusal(("unpaired:triton",), {"triton": own})


def _other_maker(r: Release, target: Target, wish: Wish, packages: dict) -> Plan | Refusal:
    """AMD's and Intel's builds: whether there is one is known, whether a GPU runs it isn't."""
    there = wish.tag in r.rocm() or wish.tag == "xpu" and r.row["xpu"] is True
    on = ("linux_x86_64", "windows_x86_64") if wish.tag == "xpu" else ("linux_x86_64",)
    if not there or target.platform not in on: return Refusal(("tag",), {k: v for k, v in (("tags", " ".join(r.rocm())),) if v})
    return Plan(target, r, packages, wish.tag or "", None, False)


def _with_cuda(r: Release, target: Target, wish: Wish, packages: dict) -> Plan | Refusal:
    offered = [b for b in r.builds if b.offered(target.platform) and not ("torchaudio" in packages and b.tag == "cu132")]
    limited = target.glibc and not at_least(target.glibc, facts.highest_glibc())
    if limited: offered = [b for b in offered if b.tag == r.default_on(target.platform)]        # only the package index's wheels have a stated glibc
    named = [b for b in offered if b.tag == wish.tag] if wish.tag is not None else offered
    if not named: return Refusal(("tag",), {"tags": " ".join(b.tag for b in offered)} if offered else {})
    failed: list[tuple[str, str]] = []
    floors = []
    for b in sorted(named, key=lambda b: parse(b.cuda), reverse=True):
        why, floor = _unfit(b, target)
        if why is None: return Plan(target, r, packages, b.tag, b, b.tag == r.default_on(target.platform), higher=tuple(failed))
        failed.append((b.tag, why))
        if floor: floors.append(floor)
    nearest = {"update_driver": min(floors, key=numbers).split(".")[0]} if floors else {}
    return Refusal(tuple(sorted({"arch" if why == "unknown" else why for _, why in failed})), nearest, tuple(failed))


def _unfit(b: Build, target: Target) -> tuple[str | None, str | None]:
    """Why a build doesn't run on a target ("arch", "driver", "unknown": what it has code for), and the driver on which it would."""
    floor, full = facts.floor(b.cuda, target.platform), facts.full_floor(b.cuda, target.platform)
    architectures = b.architectures(target.platform)
    if lacking(b, target): return "arch", None
    if architectures is None: return "unknown", None
    if not all(_code(b, target, c) for c in target.capabilities): return ("driver", full) if full and not target.jetson else ("arch", None)
    if target.driver is not None and not target.jetson and (floor is None or not at_least(target.driver, floor)): return "driver", floor
    return None, None


def lacking(b: Build, target: Target) -> list[str]:
    """The GPUs for which a build has no code, whatever the driver."""
    architectures = b.architectures(target.platform)
    return [c for c in target.capabilities if _dropped(b, c) or architectures is not None and not facts.covers(architectures, c, True)]


def _dropped(b: Build, capability: str) -> bool:
    """Can this CUDA version make no code for a GPU any more?"""
    last = (facts.architecture(capability) or {}).get("cuda_max")
    return bool(last) and not at_least(last, b.cuda)


def _code(b: Build, target: Target, capability: str) -> tuple[str, str] | None:
    full = facts.full_floor(b.cuda, target.platform)
    compiles = not target.jetson and full is not None and (target.driver is None or at_least(target.driver, full))
    return facts.code(b.architectures(target.platform) or [], capability, compiles)


def _notes(p: Plan) -> tuple[str, ...]:
    """What a person should know beside the answer."""
    t, r = p.target, p.release
    said = [("numpy-1", r.numpy2(t.platform) is False), ("numpy-unknown", r.numpy2(t.platform) is None),
            ("extras-elsewhere", t.platform != "linux_x86_64" and len(p.packages) > 1),
            ("driver-unknown", p.build is not None and t.driver is None and not t.jetson), ("jetson", t.jetson),
            ("taken-back", p.packages.get("torchvision", "").startswith("0.2.")),
            ("windows-default", p.build is not None and t.platform.startswith("windows")), ("new-gpu", any(facts.architecture(c) is None for c in t.capabilities)),
            ("compiled", any(kind == "ptx" for kind, _ in p.codes().values())), ("other-maker", p.tag.startswith(("rocm", "xpu"))),
            ("by-hand", p.tag.startswith("cu") and satisfies(r.version, "<1.2")),
            ("glibc-limit", bool(t.glibc) and p.build is not None and not at_least(t.glibc or "", facts.highest_glibc()))]
    return tuple(name for name, holds in said if holds)


# ---------------------------------------------------------------- forno itself
@dataclass(frozen=True)
class Forno:
    """Where forno computes on a target: on its "gpu", on its "cpu", or "nowhere"; `why` not on its GPU: "no_gpu", "old_gpu", "old_driver", "macos", "python", or not known:
    "unknown_gpu", "jetson", "driver_unknown"."""
    device: str
    why: str = ""
    floor: str = ""


def forno(target: Target) -> Forno:
    """It makes its own code for the GPU at hand, so that only the driver and the GPU's age count."""
    floor = facts.floor(FORNO_CUDA, target.platform) or ""
    new = [c for c in target.capabilities if at_least(c, FORNO_CAPABILITY)]
    if not at_least(target.python, FORNO_PYTHON): return Forno("nowhere", "python")
    if target.platform.startswith("macos"): return Forno("cpu", "macos")
    if not target.capabilities: return Forno("cpu", "unknown_gpu" if target.unknown else "no_gpu", floor)
    if not new: return Forno("cpu", "old_gpu")
    if target.jetson: return Forno("gpu", "jetson")
    if target.driver is None: return Forno("gpu", "driver_unknown", floor)
    return Forno("gpu", "", floor) if at_least(target.driver, floor) else Forno("cpu", "old_driver", floor)


# ---------------------------------------------------------------- what comes nearest
def _with_nearest(refusal: Refusal, target: Target, wish: Wish) -> Refusal:
    """The releases nearest to what was wished for that would fit, and the Python with which it would itself."""
    nearest = dict(refusal.nearest)
    free = Wish("", dict.fromkeys(wish.extras, ""), wish.tag)
    fit = [r.version for r in facts.releases() if r.row["on_pypi"] and isinstance(fitted(r, target, free), Plan)]
    asked = [r.version for r in facts.releases() if among(r.version, wish.torch)] or _named(wish.torch)
    if fit and asked:
        later, earlier = [v for v in fit if v > max(asked)], [v for v in fit if v < min(asked)]
        if earlier: nearest["last_torch"] = str(max(earlier))
        if later: nearest["first_torch"] = str(min(later))
    elif fit: nearest["last_torch"] = str(max(fit))
    if not fit or {"python", *(f"extra_wheel:{p}" for p in EXTRAS)} & set(refusal.reasons): nearest.update(_other_python(target, wish))
    return replace(refusal, nearest=nearest)


def _named(spec: str) -> list:
    """The versions that a specifier writes down."""
    return [v for v in (parse(t) for t in re.findall(r"\d+(?:\.\d+)*", spec)) if v]


def _other_python(target: Target, wish: Wish) -> dict[str, str]:
    """The Python nearest to this one with which the wish comes true."""
    pythons = {p for r in facts.releases() for p in r.pythons(target.platform) if not p.endswith("t")}
    near = sorted(pythons, key=lambda p: (abs(numbers(p)[0] - numbers(target.python)[0]), abs(numbers(p)[-1] - numbers(target.python)[-1]), p))
    for python in near:
        t = replace(target, python=python)
        if any(isinstance(fitted(r, t, wish), Plan) for r in facts.releases() if among(r.version, wish.torch)): return {"python": python}
    return {}


def among(version, spec: str) -> bool: return version is not None and (spec in ANY and not version.early or spec not in ANY and spec != "nightly" and satisfies(version, spec))


def _unknown(package: str, spec: str) -> str | None:
    """A specifier that no version meets which the tables know: a nightly one, one that was taken back, or one that never was."""
    if spec in ANY or package == "triton": return None
    if spec == "nightly" or any(v.early for v in (parse(t) for t in re.findall(r"\d[\w.]*", spec)) if v): return f"nightly:{package}"
    known = facts.known_versions(package)
    if package == "torch" and spec in ("==1.8.2",): return "lts:torch"
    met = [back for text, back in known.items() if among(parse(text), spec)]
    if not met: return f"unknown_version:{package}"
    return f"yanked:{package}" if all(met) else None
