"""A report as data for people and programs, and as one screen of text.

Comes in: a Report and words. Goes out: `told`, plain data with every sentence in it, which --json prints and from which text and page (page.py) are made, so that what is taken
out of it (redact.py) is in none of them; and `text`.
"""
from __future__ import annotations

import re
from datetime import date
from unicodedata import east_asian_width

from . import facts
from .diagnose import Report
from .finding import ERROR, NOTE, WARNING
from .machine import Machine
from .plan import Forno, forno, target
from .versions import at_least
from .words import Words

COLOURS = {ERROR: "31", WARNING: "33", NOTE: "36", "good": "32", "quiet": "2", "strong": "1"}
MARKS = {ERROR: "✗", WARNING: "!", NOTE: "i", "good": "✓"}
SHOWN = "cudnn", "cublas", "nccl", "cudart"    # the libraries that questions are about
BESIDE = "torchvision", "torchaudio", "triton"
WIDTH = 100
TOKEN = re.compile(r" +|[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef][\u3001\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f\u201d]*|[^ \u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+")


# ---------------------------------------------------------------- what is told
def told(report: Report, words: Words, program: str = "forno doctor") -> dict:
    """All of a report with its sentences. docs/doctor.md describes every key. `program`: how the doctor was called."""
    found = report.as_data()
    for f in found["findings"]:
        f["commands"], f["verify"] = [called(c, program) for c in f["commands"]], called(f["verify"], program)
        for part in ("title", "cause", "fix"): f[part] = words(f"{f['id']}.{part}", **f["data"]) if words.has(f"{f['id']}.{part}") else None
    m = found["machine"]
    m["driver"]["version"] = m["driver"].get("kernel") or m["driver"].get("library_version")
    counts = {s: sum(f["severity"] == s for f in found["findings"]) for s in (ERROR, WARNING, NOTE)}
    return {"schema": found["schema"], "made": date.today().isoformat(), "program": program, "language": words.language, "code": found["code"], "counts": counts,
            "cuda": cuda(m), "forno": runs(report.machine, words), "findings": found["findings"], "machine": m}


def called(command: str, program: str) -> str:
    """The doctor's own commands, as this one was called."""
    return re.sub("^forno doctor(?= |$)", lambda _: program, command)


def cuda(m: dict) -> dict:
    """The three versions that are called CUDA, and how torch's stands to the driver's."""
    driver, torch, platform = m["driver"]["version"], m["torch"], m["system"]["platform"]
    speaks = m["driver"]["cuda"] or (facts.cuda_of_driver(driver) if driver else None)
    toolkits = sorted((t for t in m["toolkits"] if t["version"]), key=lambda t: "CUDA_HOME" not in t["named_by"] and "PATH" not in t["named_by"])
    built = torch["cuda"] if torch else None
    floor = facts.floor(built, platform) if built else None
    if platform.startswith("macos"): verdict = "mac"
    elif torch is None: verdict = "no-torch"
    elif torch["tag"].startswith("rocm"): verdict = "rocm"
    elif built is None: verdict = "no-cuda"
    elif driver is None: verdict = "no-driver"
    elif m["system"]["jetson"]: verdict = "jetson"
    elif floor is None: verdict = "unverified"
    else: verdict = "fits" if at_least(driver, floor) else "too-old"
    return {"driver": speaks, "toolkit": toolkits[0]["version"] if toolkits else None, "torch": built, "floor": floor, "verdict": verdict}


def runs(m: Machine, words: Words) -> dict:
    """What forno itself would compute on here."""
    try:
        if m.driver.init or m.driver.hung: return {"device": "cpu", "why": "driver-stopped", "told": words("next.forno-stopped")}
        found = forno(target(m)) if m.python.version else None
    except Exception: found = None             # a version that can't be read, or what told() has among its findings
    if found is None: return {"device": None, "why": "unknown", "told": words("next.forno-unknown")}
    return {"device": found.device, "why": found.why or None, "told": of_forno(found, m.system.platform, words)}


def of_forno(found: Forno, platform: str, words: Words) -> str:
    """Where forno computes, and what of that has never been tried."""
    system = {"windows_x86_64": "Windows", "windows_aarch64": "Windows", "linux_aarch64": "Arm (aarch64)"}.get(platform)
    untried = f' {words("plan-forno.untried-system", system=system)}' if system and found.device != "nowhere" else ""
    return words(f"plan-forno.{found.why or 'gpu'}", floor=found.floor) + untried


def cuda_verdict(t: dict, words: Words) -> str:
    c = t["cuda"]
    return words(f"cuda.{c['verdict']}", cuda=c["torch"], floor=c["floor"], driver=t["machine"]["driver"]["version"], command=f"{t['program']} plan torch")


def verdict(t: dict, words: Words) -> str:
    """All in one sentence."""
    errors, warnings = t["counts"][ERROR], t["counts"][WARNING]
    if errors: return words("report.verdict-errors", errors=errors, warnings=warnings)
    return words("report.verdict-warnings", warnings=warnings) if warnings else words("report.healthy")


# ---------------------------------------------------------------- rows from the ground up
def rows(t: dict, words: Words, verbose: bool = False) -> list[tuple[str, list[str]]]:
    """(what, its parts), as the house stands: the GPU first."""
    m, none = t["machine"], words("report.none")
    out = [("gpu", gpu) for gpu in gpus(m, words) or [[none]]]
    out += [("driver", driver(m["driver"], words))]
    kits = [words("report.named", path=f"{k['version'] or '?'}  {k['path']}", by=", ".join(dict.fromkeys(k["named_by"]))) for k in m["toolkits"]]
    out += [("toolkit", [kit]) for kit in kits] if verbose and kits else [("toolkit", kits or [none])]
    out += [(kind, library(m, kind, words)) for kind in SHOWN]
    out += [("system", system(m["system"], words)), ("python", python(m["python"], words)), ("torch", torch(m["torch"], m["system"]["platform"], words))]
    versions: dict[str, str] = {}
    for p in m["packages"]: versions.setdefault(p["name"], p["version"])
    if m["gpu_code"]: out.append(("code", [" ".join(m["gpu_code"]["architectures"])]))
    out.append(("beside", [f"{name} {versions.get(name, none)}" for name in BESIDE]))
    others = [f"{name} {version}" for name, version in versions.items() if name not in ("torch", *BESIDE) and (verbose or not name.startswith("nvidia-"))]
    out.append(("packages", others or [none]))
    return out


def gpus(m: dict, words: Words) -> list[list[str]]:
    """Equal ones in one row."""
    seen: dict[tuple, int] = {}
    for g in m["gpus"]: seen[(g["name"], g["capability"], g["memory"])] = seen.get((g["name"], g["capability"], g["memory"]), 0) + 1
    out = [[f"{count} × {name}" if count > 1 else name, *([words("report.capability", capability=c)] if c else []), *([f"{memory / (1 << 30):.1f} GiB"] if memory else [])]
           for (name, c, memory), count in seen.items()]
    return out or ([[words("report.unseen", count=len(m["cards"]))]] if m["cards"] else [])


def driver(d: dict, words: Words) -> list[str]:
    if d["version"] is None and d["library"] is None: return [words("report.none")]
    says = words("report.hung") if d["hung"] else words("report.speaks", cuda=d["cuda"]) if d["cuda"] else words("report.silent")
    return [d["version"] or "?", says, *([d["library"]] if d["library"] else [])]


def library(m: dict, kind: str, words: Words) -> list[str]:
    """The copy that torch would load, and why that one."""
    here = [c for c in m["libraries"] if c["kind"] == kind]
    taken = next((c for c in here if c["rule"]), None)
    if taken: return [taken["version"] or words("report.unknown"), taken["package"] or taken["path"], why(taken, words)]
    if not here: return [words("report.none")]
    if not m["system"]["platform"].startswith("linux"): return [" ".join(filter(None, (c["version"] or c["major"], c["package"]))) for c in here]
    return [words("report.not-loaded", count=len(here))]


def seen(what: str, words: Words) -> str:
    """What evidence is of: a name, or one of a few words."""
    return words(f"evidence.{what}") if words.has(f"evidence.{what}") else what


def why(copy: dict, words: Words) -> str:
    if words.has(f"rule.{copy['rule']}") and (copy["by"] or copy["rule"] == "path"): return words(f"rule.{copy['rule']}", file=base(copy["by"] or ""))
    return words("report.by", rule=copy["rule"], file=base(copy["by"])) if copy["by"] else words("report.by-rule", rule=copy["rule"])


def system(s: dict, words: Words) -> list[str]:
    parts = [s["name"], s["platform"], f"glibc {s['glibc']}" if s["glibc"] else None, s["container"], words("report.wsl", version=s["wsl"]) if s["wsl"] else None]
    return [p for p in parts if p] + ([words("report.conda", folder=s["conda"])] if s["conda"] else [])


def python(p: dict, words: Words) -> list[str]:
    if not p["version"]: return [words("report.unanswered", path=p["executable"])]
    return [p["version"], *([words("report.free")] if p["free"] else []), *([words("report.bits", bits=p["bits"])] if p["bits"] != 64 else []), p["executable"],
            *([words("report.virtual")] if p["virtual"] else [])]


def torch(t: dict | None, platform: str, words: Words) -> list[str]:
    if t is None: return [words("report.none")]
    kind = "rocm" if t["tag"].startswith("rocm") else "metal" if platform == "macos_arm64" else "cpu-only"
    return [p for p in (t["version"], words("report.built-for", cuda=t["cuda"]) if t["cuda"] else words(f"report.{kind}"), t["folder"]) if p]


def base(path: str) -> str: return re.split(r"[/\\]", path)[-1]


# ---------------------------------------------------------------- text
def text(t: dict, words: Words, colour: bool = False, verbose: bool = False, width: int = WIDTH, ascii: bool = False) -> str:
    """`ascii`: for a terminal that can't show the marks."""
    paint = (lambda kind, x: f"\033[{COLOURS[kind]}m{x}\033[0m") if colour else (lambda kind, x: x)
    marks = {ERROR: "x", WARNING: "!", NOTE: "i", "good": "*"} if ascii else MARKS
    label = max(columns(words(f"report.{key}")) for key in ("gpu", "driver", "toolkit", "cudnn", "system", "python", "torch", "beside", "packages")) + 2
    lines, last = [], ""
    for key, parts in rows(t, words, verbose):
        if key == "code" and not verbose: continue
        name, last = "" if key == last else words(f"report.{key}"), key
        body = [" · ".join(parts)] if not verbose else wrap(" · ".join(parts), width - label)
        lines += [paint("quiet", pad(name if k == 0 else "", label)) + (line if verbose else fit(parts, width - label)) for k, line in enumerate(body)]
    lines += ["", *three(t, words, paint, width), ""]
    for f in t["findings"]: lines += [*finding(f, words, paint, marks, width), ""]
    lines += [paint(ERROR if t["counts"][ERROR] else WARNING if t["counts"][WARNING] else "good", f"{marks['good'] + ' ' if not t['code'] else ''}{verdict(t, words)}")]
    if verbose: lines += ["", *everything(t, words, paint, width)]
    if verbose or t["findings"]: lines.append("")
    plan, page = (paint("strong", f"{t['program']} {command}") for command in ("plan torch", "--html house.html"))
    lines.append(pad(words("next.title"), label) + words("next.line", plan=plan, page=page))
    lines += hang("", t["forno"]["told"], width)
    return "\n".join(lines)


def three(t: dict, words: Words, paint, width: int) -> list[str]:
    """The three CUDA versions, and which of them matter."""
    c, label = t["cuda"], max(columns(words(f"cuda.{k}-label")) for k in ("driver", "toolkit", "torch")) + 2
    out, said = [paint("strong", words("cuda.title"))], {key: c[key] or words("cuda.absent") for key in ("driver", "toolkit", "torch")}
    room = max(7, 1 + max(map(columns, said.values())))
    for key, version in said.items():
        out += hang(f"  {pad(words(f'cuda.{key}-label'), label)}{paint('strong', pad(version, room))}", words(f"cuda.{key}"), width, label + room + 2)
    return out + hang("  ", cuda_verdict(t, words), width)


def finding(f: dict, words: Words, paint, marks: dict, width: int) -> list[str]:
    mark = pad(f"{marks[f['severity']]} {words('report.' + f['severity'])}", 11)
    out = hang(paint(f["severity"], mark), f["title"], width, 11, lambda x: paint("strong", x))
    name, room = f"[{f['id']}]", width - 11 - columns(wrap(f["title"], width - 11)[-1])
    if columns(name) + 2 <= room: out[-1] += "  " + paint("quiet", name)
    else: out.append(" " * 11 + paint("quiet", name))
    for part in ("cause", "fix"):
        if f[part]: out += hang(" " * 11, f[part], width)
    out += [f"{' ' * 11}{pad(seen(what, words), 12)}  {paint('quiet', where)}".rstrip() for what, where in f["evidence"]]
    out += [f"{' ' * 11}{paint('strong', '$ ' + c)}" for c in f["commands"]]
    return out + ([f"{' ' * 11}{words('report.verify')}: $ {f['verify']}"] if f["verify"] else [])


def everything(t: dict, words: Words, paint, width: int) -> list[str]:
    """Every copy of a CUDA library and every package."""
    out = [paint("strong", words("report.copies"))]
    for c in t["machine"]["libraries"]:
        mark = f"  {words('report.loaded')}: {why(c, words)}" if c["rule"] else ""
        out.append(f"  {pad(c['kind'], 11)}{pad(c['version'] or c['major'], 12)} {c['path']}{'  ' + c['package'] if c['package'] else ''}{paint('good', mark)}")
    if not t["machine"]["libraries"]: out.append(f"  {words('report.none')}")
    out += ["", paint("strong", words("report.all-packages"))]
    out += [f"  {pad(p['name'], 28)}{pad(p['version'], 16)} {p['installer']:<6} {p['site']}" for p in t["machine"]["packages"]] or [f"  {words('report.none')}"]
    return out


# ---------------------------------------------------------------- columns of a terminal
def columns(text: str) -> int: return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, width: int) -> str: return text + " " * (width - columns(text))


def hang(first: str, text: str, width: int, indent: int | None = None, paint=lambda x: x) -> list[str]:
    """Text behind a beginning; further lines stand below the text."""
    indent = columns(first) if indent is None else indent
    lines = wrap(text, width - indent)
    return [(first if k == 0 else " " * indent) + paint(line) for k, line in enumerate(lines)]


def wrap(text: str, width: int) -> list[str]:
    """Lines no wider than that where words allow it; between Chinese characters a line may end anywhere, but not in front of a closing mark."""
    lines, line = [], ""
    for token in TOKEN.findall(text.replace("\n", " ")):
        if line and columns(line) + columns(token.rstrip()) > width: lines, line = [*lines, line.rstrip()], ""
        line += token if line else token.lstrip()
    return [*lines, line.rstrip()]


def fit(parts: list[str], width: int) -> str:
    """Parts in one line: the longest path loses its middle, then the last parts are left out."""
    line = " · ".join(parts)
    if columns(line) <= width: return line
    longest = max(parts, key=lambda p: columns(p) if re.search(r"[/\\]", p) else 0)
    if re.search(r"[/\\]", longest):
        room = columns(longest) - (columns(line) - width)
        if room >= 16: return " · ".join(elided(p, room) if p is longest else p for p in parts)
    kept = len(parts)
    while kept > 1 and columns(" · ".join(parts[:kept])) + 6 > width: kept -= 1
    return elided(" · ".join(parts[:kept]), width - (6 if kept < len(parts) else 0)) + (f" … +{len(parts) - kept}" if kept < len(parts) else "")


def elided(text: str, width: int) -> str:
    """Without its middle; a path's end says more than its beginning."""
    if columns(text) <= width: return text
    head = tail = ""
    for c in text:
        if columns(head + c) > (width - 1) // 3: break
        head += c
    for c in reversed(text):
        if columns(head + c + tail) > width - 1: break
        tail = c + tail
    return f"{head}…{tail}"
