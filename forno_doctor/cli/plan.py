"""`forno doctor plan torch==2.6 torchvision`: the set that fits a machine and a wish, the reasons, and what to type; or why there is none and what comes nearest.

`run` is 0 where something fits (or was installed), 1 where nothing does or nothing was changed, 2 for wrong usage and where an installation failed.
--json (schema 1): `asked`, `target`, `plan` (packages, tag, cuda, default, driver_floor, codes, notes, newer, higher) or null, `refusal` (reasons, nearest, builds,
release) or null, `nearest` (what fits instead: [key, values, commands]), `commands` by installer, `forno` (device, why, floor), `as_of` (the tables' date) and,
with --online, `index`.
"""
from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from dataclasses import asdict, replace

from .. import apply, commands, facts
from ..host import Host
from ..machine import Machine
from ..plan import ANY, Misread, Plan, Refusal, Wish, forno, lacking, read, resolve, target
from ..report import WIDTH, hang, of_forno, pad
from ..versions import parse
from ..words import Words
from .common import interpreter

SCHEMA = 1
VERIFY = "python -c \"import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())\""
VERSION = re.compile(r"(?:cp|py|python)?\d\.?\d{1,2}(?:\.\d+)?t?", re.IGNORECASE)
GROUPS = 3                                      # of newer releases whose reasons are told
TELL = 3                                        # releases that are named one by one


def add(commands):
    """Its help stands in the catalogues: help-plan."""
    p = commands.add_parser("plan", help=Words()("help-plan.about"), description=Words()("help-plan.description"))
    p.add_argument("what", nargs="*", metavar="PACKAGE")
    p.add_argument("--python", metavar="3.12|PATH", default=argparse.SUPPRESS)
    for name, metavar in (("driver", "VERSION"), ("cuda", "12.6|cu126|cpu|rocm6.4"), ("os", "linux|windows|macos|linux_aarch64"), ("glibc", "VERSION"), ("into", "PYTHON")):
        p.add_argument(f"--{name}", metavar=metavar)
    p.add_argument("--gpu", action="append", metavar="NAME|sm_86|8.6")
    p.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    for name in ("no-gpu", "online", "apply", "yes", "force"): p.add_argument(f"--{name}", action="store_true")
    p.set_defaults(run=run)


def run(options) -> int:
    words = options.words
    try: asked = Asked(options)
    except Misread as error:
        print(words(f"plan-misread.{error.key}", **error.data), file=sys.stderr)
        return 2
    if options.json: print(json.dumps(as_data(asked), indent=1, ensure_ascii=False))
    else: print(text(asked, words))
    if options.apply: return carry_out(asked, options, words)
    return 0 if asked.fits else 1


class Asked:
    """What was asked and what is found. `here`: it is planned for the examined machine and interpreter; `elsewhere`: for another system; `names`: of GPUs by capability."""

    def __init__(self, options):
        given = getattr(options, "python", None)
        version = given if given and VERSION.fullmatch(given) else None
        self.machine = Machine(Host(python=interpreter(options.into or (sys.executable if version or not given else given))))
        if not self.machine.python.version: raise Misread("no-python", python=self.machine.python.executable)
        self.forno_only = any(re.match(r"forno\b", w.lower()) for w in options.what)
        if self.forno_only and len(options.what) > 1: raise Misread("forno-alone")
        self.words = options.what or ["torch"]
        self.wish = Wish() if self.forno_only else read(self.words, options.cuda)
        gpus = [g.strip() for many in options.gpu or () for g in many.split(",") if g.strip()]
        self.target = target(self.machine, version, gpus or None, options.driver, options.os, options.glibc, None, options.no_gpu)
        named = [(g, facts.capability(g)) for g in gpus] if gpus else [(g.name, g.capability or facts.capability(g.name)) for g in self.machine.gpus]
        self.names = {c: name for name, c in named if c and not facts.NUMBERED.fullmatch(name.lower())}
        self.elsewhere = self.target.platform != self.machine.system.platform
        self.here = not (self.elsewhere or version)
        self.no_driver = self.here and not (gpus or self.target.capabilities or self.target.unknown or options.no_gpu) and bool(self.machine.cards)
        self.from_conda = self.here and self.machine.torch is not None and self.machine.torch.source == "conda"
        self.found = None if self.forno_only else resolve(self.target, self.wish)
        self.forno = forno(self.target)
        self.online = online(self, self.found) if options.online and isinstance(self.found, Plan) else []

    def gpu(self, capability: str) -> str:
        """As it was named: "RTX 4090 (8.9)"."""
        name = self.names.get(capability)
        return f"{name} ({capability})" if name else f"GPU {capability}"

    def gpus(self) -> str: return ", ".join(self.gpu(c) for c in self.target.capabilities)

    def forno_words(self, words: Words) -> str: return of_forno(self.forno, self.target.platform, words)

    @property
    def fits(self) -> bool: return self.forno.device != "nowhere" if self.forno_only else isinstance(self.found, Plan)

    def bound(self, lines: list[str]) -> list[str]:
        """Commands that change the examined interpreter's environment and no other."""
        if not self.here: return lines
        made = self.machine.host.text(f"{self.machine.python.prefix}/pyvenv.cfg") or ""
        by = self.machine.torch.source if self.machine.torch else "uv" if re.search(r"^uv\s*=", made, re.MULTILINE) and not self.machine.environment.get("pip") else ""
        return commands.bound(lines, self.machine.python.executable, by)

    def verify(self) -> str:
        """What shows that it worked, in the examined interpreter."""
        return VERIFY.replace("python", commands.quoted(self.machine.python.executable), 1) if self.here else VERIFY

    def pip(self, p: Plan) -> list[str]:
        """Where another build of the same version is there, it is replaced: installers take the one for the other."""
        t = self.machine.torch if self.here else None
        other = t is not None and t.version.partition("+")[0] == p.packages["torch"] and t.tag != p.tag
        return commands.pip_instead(p) if other else commands.pip(p)


def online(asked: Asked, p: Plan) -> list[tuple[str, str, bool | None]]:
    """(package, version, is it there): None where the index didn't answer."""
    other = None if asked.here else (p.target.python, p.target.platform)
    build = f"+{p.tag}" if commands.index_options(p) and commands.named(p) else ""
    wheels = [(n, v if n == "triton" else v + build) for n, v in p.packages.items() if v[:1].isdigit()]
    return [(n, v, apply.on_index(asked.machine.python.executable, n, v, commands.index_options(p), other)) for n, v in wheels]


# ---------------------------------------------------------------- as text
def text(asked: Asked, words: Words) -> str:
    if isinstance(asked.found, Plan): lines = fitting(asked, asked.found, words)
    elif asked.found is not None: lines = refused(asked, asked.found, words)
    else: lines = _forno(asked, words)
    return "\n".join(lines)


def _forno(asked: Asked, words: Words) -> list[str]:
    typed = [] if asked.forno.device == "nowhere" else [*hang("", words("plan.forno-source"), WIDTH), *_typed(asked.bound(["pip install ."]))]
    return [*hang("", asked.forno_words(words), WIDTH), *typed]


def place(asked: Asked, words: Words) -> dict[str, str]:
    """Words that say for which machine."""
    t = asked.target
    gpus = ", ".join((*(asked.gpu(c) for c in t.capabilities), *t.unknown))
    return {"python": t.python, "platform": t.platform, "gpus": words("plan.with-gpus", gpus=gpus) if gpus else "",
            "driver": words("plan.with-driver", driver=t.driver) if t.driver else ""}


def fitting(asked: Asked, p: Plan, words: Words) -> list[str]:
    build = "" if p.target.platform.startswith("macos") else f"  [{p.tag}]"
    lines = [*hang("", words("plan.fits", **place(asked, words)), WIDTH), "", "  " + "  ".join(f"{n} {v}" for n, v in p.packages.items()) + build, ""]
    for label, sentence in reasons(asked, p, words): lines += hang(pad(f"  {label}", 12), sentence, WIDTH)
    for title, body in sections(asked, p, words): lines += ["", title, *body]
    return [*lines, "", words("plan.check"), *_typed([asked.verify()]), "", words("plan.tables", date=facts.table("torch")["as_of"])]


def reasons(asked: Asked, p: Plan, words: Words) -> list[tuple[str, str]]:
    """(what, why): release, CUDA, driver, each GPU, notes."""
    out = [(words("plan.release"), words("plan.newest" if asked.wish.torch in ANY or p.newer else "plan.asked", version=p.release.version))]
    out += [("", words("plan.newer", version=versions, why=clause)) for versions, clause in newer(asked, p, words)]
    metal = p.target.platform == "macos_arm64" and p.release.version >= parse("1.12")
    kind = "maker" if p.tag.startswith(("rocm", "xpu")) else "metal" if metal else "cpu"
    if p.build is None: out.append((words("plan.cuda"), words(f"plan.{kind}", tag=p.tag)))
    else: out += _cuda(asked, p, words)
    if p.default and not p.target.platform.startswith("macos"): out.append(("", words("plan.default")))
    nobody = asked.elsewhere and p.tag == "cpu" != asked.wish.tag and not p.target.platform.startswith("macos")
    notes = [*(["no-driver"] if asked.no_driver else []), *(["from-conda"] if asked.from_conda else []), *(["no-machine"] if nobody else []), *p.notes]
    return out + [(words("plan.note"), words(f"plan-note.{n}", tag=p.tag)) for n in notes]


def _cuda(asked: Asked, p: Plan, words: Words) -> list[tuple[str, str]]:
    floor, driver = p.floor() or "?", None if p.target.jetson else p.target.driver
    out = [(words("plan.cuda"), words("plan.cuda-asked" if asked.wish.tag else "plan.highest", cuda=p.build.cuda if p.build else "", tag=p.tag))]
    out += [("", words("plan.higher", tag=tags, why=clause)) for tags, clause in _builds(asked, p.release, p.higher, words)]
    out.append((words("plan.driver"), words("plan.floor", floor=floor, driver=driver) if driver else words("plan.floor-only", floor=floor)))
    return out + [("GPU", words(f"plan.{kind}", gpu=asked.gpu(c), code=code)) for c, (kind, code) in p.codes().items()]


def newer(asked: Asked, p: Plan, words: Words) -> list[tuple[str, str]]:
    """Newer releases and why not they, those with one reason together."""
    by: dict[str, list[str]] = {}
    for version, refusal in p.newer: by.setdefault(why(asked, refusal, version, words), []).append(version)
    return [(", ".join(v) if len(v) <= TELL else f"{v[-1]} … {v[0]}", clause) for clause, v in list(by.items())[:GROUPS]]


def why(asked: Asked, refusal: Refusal, version: str, words: Words) -> str:
    """A refusal's reasons as one clause; of builds with different reasons each its own."""
    by = _builds(asked, facts.release(version), refusal.builds, words)
    if len(by) == 1: return by[0][1]
    return "; ".join(f"{clause} ({tags})" for tags, clause in by) or "; ".join(_clause(asked, reason, refusal, words) for reason in refusal.reasons)


def _clause(asked: Asked, reason: str, refusal: Refusal, words: Words) -> str:
    (root, _, package), t = reason.partition(":"), asked.target
    return words(f"plan-why.{root}", python=t.python, platform=t.platform, package=package, version=refusal.nearest.get(package, "?"), gpus=asked.gpus(),
                 tag=asked.wish.tag or "CUDA", numpy=t.numpy or asked.wish.extras.get("numpy", ""), needed=refusal.nearest.get("glibc", "?"), glibc=t.glibc,
                 gpu=refusal.nearest.get("gpu", "?"))


def _builds(asked: Asked, release, builds: tuple[tuple[str, str], ...], words: Words) -> list[tuple[str, str]]:
    """(tags, why not), those with one reason together."""
    by: dict[str, list[str]] = {}
    for tag, reason in builds:
        build = release.build(tag) if release else None
        floor = facts.floor(build.cuda, asked.target.platform) if build else "?"
        gpus = ", ".join(asked.gpu(c) for c in (lacking(build, asked.target) if build else asked.target.capabilities))
        by.setdefault(words(f"plan-build.{reason}", gpus=gpus, floor=floor), []).append(tag)
    return [(", ".join(tags), clause) for clause, tags in by.items()]


def sections(asked: Asked, p: Plan, words: Words) -> list[tuple[str, list[str]]]:
    """(title, lines) per installer."""
    snippet, add_line = commands.uv_project(p)
    project = [*(f"  {line}".rstrip() for line in snippet.splitlines()), *([f"  {words('plan.then')}"] if snippet else []), *_typed([add_line])]
    index = [words("plan." + {True: "exists", False: "missing", None: "unasked"}[there], package=n, version=v) for n, v, there in asked.online]
    out = [(words("plan.pip"), _typed(asked.bound(asked.pip(p)))), (words("plan.uv"), _typed(asked.bound(commands.uv(p)))), (words("plan.uv-project"), project),
           (words("plan.conda"), _typed(commands.conda(p))), (words("plan.conda-forge"), _typed(commands.conda_forge(p))),
           (words("plan.file"), [f"  {line}" for line in commands.requirements_file(p)]), ("--online", [f"  {line}" for line in index])]
    return [(title, body) for title, body in out if body]


def _typed(lines: list[str]) -> list[str]: return [f"  $ {line}" for line in lines]


def refused(asked: Asked, r: Refusal, words: Words) -> list[str]:
    wish = " ".join(asked.words) + (f" [{asked.wish.tag}]" if asked.wish.tag else "")
    lines = hang("", words("plan.refused", wish=wish, **place(asked, words)), WIDTH)
    of = f"torch {r.release}: " if r.release else ""
    for reason in r.reasons if len(r.reasons) == 1 or not r.builds else ("none",): lines += hang("  - ", of + words("plan.because", why=_clause(asked, reason, r, words)), WIDTH)
    for tags, clause in _builds(asked, facts.release(r.release), r.builds, words): lines += hang("    ", f"{tags}: {clause}", WIDTH)
    near = nearest(asked, r)
    if near: lines += ["", words("plan.nearest")]
    for key, data, typed in near: lines += [*hang("  ", words(f"plan-near.{key}", **data), WIDTH), *(f"    $ {line}" for line in typed)]
    return [*lines, "", *_forno(asked, words), "", words("plan.tables", date=facts.table("torch")["as_of"])]


# ---------------------------------------------------------------- what comes nearest, with its commands
def nearest(asked: Asked, r: Refusal) -> list[tuple[str, dict, list[str]]]:
    """(word of plan-near, its values, commands) of what fits instead."""
    out, free = _other_pairs(asked), replace(asked.wish, torch="", extras=_free(asked.wish))
    for key in ("first_torch", "last_torch") if not out else ():
        p = resolve(asked.target, replace(free, torch=f"=={r.nearest[key]}")) if key in r.nearest else None
        if isinstance(p, Plan): out.append((key, {"version": r.nearest[key]}, asked.bound(asked.pip(p))))
    if "update_driver" in r.nearest:
        p = resolve(replace(asked.target, driver=f"{r.nearest['update_driver']}.999"), asked.wish)
        if isinstance(p, Plan): out.append(_driver(asked, r.nearest["update_driver"], p.floor() or r.nearest["update_driver"], p))
    if "python" in r.nearest:
        p = resolve(replace(asked.target, python=r.nearest["python"]), asked.wish)
        made = [f"uv venv --python {r.nearest['python']} .venv", *commands.bound(commands.uv(p), ".venv")] if isinstance(p, Plan) else []
        if made: out.append(("python", {"version": r.nearest["python"]}, made))
    for key, wish in (("tags", replace(asked.wish, tag=None)), ("fix", replace(asked.wish, extras={k: v for k, v in asked.wish.extras.items() if k != "numpy"})), ("names", None)):
        p = resolve(asked.target, wish) if wish and key in r.nearest else None
        more = asked.bound(['pip install "numpy<2"']) if key == "fix" else []
        if key in r.nearest: out.append((key, {key: r.nearest[key]}, [*asked.bound(asked.pip(p)), *more] if isinstance(p, Plan) else []))
    return [*out, *_unverified(asked, r), *([] if out else _on_cpu(asked))]


def _free(wish: Wish) -> dict[str, str]:
    """The same packages in any version; a limit on NumPy stays."""
    return {name: spec if name == "numpy" else "" for name, spec in wish.extras.items()}


def _other_pairs(asked: Asked) -> list[tuple[str, dict, list[str]]]:
    """Where a package beside torch was pinned: torch as asked with its own, and the pinned one with its torch."""
    out = []
    if not any(spec for name, spec in asked.wish.extras.items() if name != "numpy"): return out
    for key, wish in (("own_extras", replace(asked.wish, extras=_free(asked.wish))), ("own_torch", replace(asked.wish, torch=""))):
        p = resolve(asked.target, wish)
        if isinstance(p, Plan): out.append((key, {"packages": ", ".join(f"{n} {v}" for n, v in p.packages.items())}, asked.bound(asked.pip(p))))
    return out


def _driver(asked: Asked, branch: str, version: str, p: Plan) -> tuple[str, dict, list[str]]:
    system = asked.machine.system if asked.here else None
    ubuntu = system is not None and system.name.startswith("Ubuntu") and not system.wsl and not system.container
    typed = [f"sudo apt install nvidia-driver-{branch}"] if ubuntu else []
    key = "update_driver_wsl" if system is not None and system.wsl else "update_driver"
    return key, {"version": version, "release": p.packages["torch"]}, [*typed, *asked.bound(asked.pip(p))]


def _unverified(asked: Asked, r: Refusal) -> list[tuple[str, dict, list[str]]]:
    """What the tables don't know, but the official pages have a command for."""
    tag = asked.wish.tag or ("cu126" if asked.target.capabilities else "cpu")
    names = " ".join(("torch", *(e for e in asked.wish.extras if e in ("torchvision", "torchaudio"))))
    out, release = [], facts.release("1.8.2")
    if any(reason.startswith("nightly:") for reason in r.reasons): out.append(("nightly", {}, asked.bound([f"pip install --pre {names} --index-url {facts.INDEX}/nightly/{tag}"])))
    if "lts:torch" in r.reasons and release:
        p = Plan(asked.target, release, {n: release.extra(n) or "1.8.2" if n != "torch" else "1.8.2" for n in names.split()}, "cpu" if tag == "cpu" else "cu111", None, False)
        out.append(("lts", {}, asked.bound(commands.pip(p))))
    return out


def _on_cpu(asked: Asked) -> list[tuple[str, dict, list[str]]]:
    p = resolve(asked.target, replace(asked.wish, tag="cpu")) if asked.wish.tag != "cpu" else None
    return [("cpu", {}, asked.bound(asked.pip(p)))] if isinstance(p, Plan) else []


# ---------------------------------------------------------------- as data
def as_data(asked: Asked) -> dict:
    p = asked.found if isinstance(asked.found, Plan) else None
    r = asked.found if isinstance(asked.found, Refusal) else None
    out = {"schema": SCHEMA, "asked": {"words": asked.words, "torch": asked.wish.torch, "extras": asked.wish.extras, "tag": asked.wish.tag},
           "target": {**asdict(asked.target), "capability": list(asked.target.capabilities)}, "plan": None, "refusal": None, "nearest": [], "commands": {},
           "forno": asdict(asked.forno), "as_of": facts.table("torch")["as_of"]}
    if p:
        snippet, add_line = commands.uv_project(p)
        out["plan"] = {"packages": p.packages, "tag": p.tag, "cuda": p.build.cuda if p.build else None, "default": p.default, "driver_floor": p.floor(),
                       "codes": {c: list(kind) for c, kind in p.codes().items()}, "notes": list(p.notes), "newer": [[v, x.reason] for v, x in p.newer],
                       "higher": [list(x) for x in p.higher]}
        out["commands"] = {"pip": asked.bound(asked.pip(p)), "uv": asked.bound(commands.uv(p)), "uv_add": [add_line], "pyproject": snippet,
                           "conda": commands.conda(p), "conda_forge": commands.conda_forge(p), "requirements_txt": commands.requirements_file(p), "verify": [asked.verify()]}
    if r:
        out["refusal"] = {"reasons": list(r.reasons), "nearest": r.nearest, "builds": [list(b) for b in r.builds], "release": r.release or None}
        out["nearest"] = [[key, data, typed] for key, data, typed in nearest(asked, r)]
    if asked.online: out["index"] = [list(x) for x in asked.online]
    return out


# ---------------------------------------------------------------- --apply
class Teller:
    """Prints what --apply does; beside --json where it can't be taken for it."""

    def __init__(self, options, words: Words): self.words, self.file = words, sys.stderr if options.json else sys.stdout
    def __call__(self, key: str, **data): self.line(self.words(f"plan-apply.{key}", **data))
    def line(self, text: str): print(text, file=self.file, flush=True)


def carry_out(asked: Asked, options, words: Words) -> int:
    """Shows what would change, asks, writes down the way back, installs."""
    tell, machine = Teller(options, words), asked.machine
    arguments = wanted(asked)
    if not arguments: return _stopped(tell, "no-plan")
    where = apply.place(machine)
    if where.hindrance in ("no-python", "no-installer") or where.hindrance and not options.force: return _stopped(tell, where.hindrance, python=where.python)
    if (machine.python.tag, machine.system.platform) != (asked.target.python, asked.target.platform):
        return _stopped(tell, "other-python", python=where.python, found=machine.python.tag, system=machine.system.platform, wanted=asked.target.python,
                        platform=asked.target.platform)
    if asked.from_conda and not options.force: return _stopped(tell, "from-conda", python=where.python)
    tell.line("")
    changes, answer = apply.dry_run(machine, where, arguments)
    if answer.code != 0: return _failed(tell, answer, apply.DRY_SECONDS)
    tell("dry" if changes else "nothing", python=where.python)
    for c in changes: tell.line(f"  {c.name}  {c.before or words('plan-apply.new')} -> {c.after or words('plan-apply.gone')}{f'  ({_size(c.size)})' if c.size else ''}")
    if not changes: return 0
    if any(c.size for c in changes): tell("total", size=_size(sum(c.size or 0 for c in changes)))
    if not options.yes and not sys.stdin.isatty(): return _stopped(tell, "unsure")
    if not options.yes and input(words("plan-apply.ask")).strip().lower() not in ("y", "yes", "是"): return _stopped(tell, "no")
    return install(asked, where, arguments, changes, tell, show=not options.json)


def wanted(asked: Asked) -> list[str]:
    """What follows `pip install`."""
    return shlex.split(asked.pip(asked.found)[0])[2:] if isinstance(asked.found, Plan) else []


def install(asked: Asked, where: apply.Place, arguments: list[str], changes: list[apply.Change], tell: Teller, show: bool) -> int:
    try: file, back = apply.way_back(asked.machine, where, changes)
    except OSError as error: return _stopped(tell, "no-way-back", error=error)
    tell("back", file=file)
    for line in back: tell.line(f"  $ {line}")
    answer = apply.install(where, arguments, show=show)
    if answer.code == 0:
        tell("done")
        tell.line(f"  $ {VERIFY.replace('python', commands.quoted(where.python), 1)}")
        return 0
    _failed(tell, answer, apply.SECONDS)
    tell("half")
    for line in back: tell.line(f"  $ {line}")
    return 2


def _size(nbytes: int) -> str: return f"{nbytes / 1e6:.1f} MB"


def _stopped(tell: Teller, key: str, **data) -> int:
    tell(key, **data)
    return 1


def _failed(tell: Teller, answer, seconds: float) -> int:
    if answer.code is None: tell("late", seconds=f"{seconds:.0f}")
    else:
        tell("failed", code=answer.code)
        for line in (answer.err or answer.out).splitlines()[-12:]: tell.line(f"  {line}")
    return 2
