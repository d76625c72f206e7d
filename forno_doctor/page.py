"""The stack of a machine as a page: a house with the GPU as its ground and your program under the roof, what is broken in red, and beside it what to type.

Comes in: what report.told made, and words. Goes out: one HTML file that needs nothing else: no scripts, no fonts, no addresses. page.css is its look.
"""
from __future__ import annotations

import math
from html import escape
from pathlib import Path

from . import facts, report
from .finding import ERROR, NOTE, ORDER, WARNING
from .versions import numbers
from .words import Words

# Where a finding stands in the house: by what it is about, else by the module of checks that found it.
FLOORS = "program", "framework", "libraries", "cuda", "driver", "gpu"
BY_ID = {**dict.fromkeys(("driver-too-old", "driver-too-old-for-all", "no-code-and-old-driver", "ptx-needs-driver"), "driver"),
         **dict.fromkeys(("nvcc-other-major", "nvcc-differs"), "cuda"),
         **dict.fromkeys(("no-device", "gpus-hidden", "visible-invalid", "visible-cut", "visible-twice", "mig-without-instance", "mig-instances",
                          "compute-prohibited", "compute-exclusive", "device-order", "device-unavailable", "card-passed-on", "amd-gpu", "intel-gpu"), "gpu")}
BY_AREA = {"builds": "framework", "extensions": "framework", "libraries": "libraries", "mixed": "libraries", "dlls": "libraries",
           "driver": "driver", "python": "program", "doctor": "program"}
ROWS = {"program": ("python", "system"), "framework": ("torch", "code", "beside", "packages"), "libraries": ("cudnn", "cublas", "nccl"), "cuda": ("cudart", "toolkit"),
        "driver": ("driver",), "gpu": ("gpu",)}
STATE = {ERROR: "bad", WARNING: "warn", NOTE: "note"}

# Drawn in 96 × 64; .glass is lit where all is well, .line is what it is drawn with.
ICONS = {
    "program": '<circle class="glass" cx="48" cy="32" r="26"/><circle class="line" cx="48" cy="32" r="26"/>'
               '<path class="line" d="M48 6v52M22 32h52M34 32l-7-6m0 12l7-6M62 32l7-6m0 12l-7-6"/>',
    "framework": '<path class="glass" d="M12 8h30v42H12zM54 8h30v42H54z"/>'
                 '<path class="line" d="M12 8h30v42H12zM54 8h30v42H54zM27 8v42M69 8v42M12 29h30M54 29h30M6 56h84M10 50v6M30 50v6M66 50v6M86 50v6"/>',
    "libraries": '<path class="glass" d="M10 6h76v50H10z"/><path class="line" d="M10 6h76v50H10zM10 31h76"/>'
                 '<path class="line" d="M18 31V14h6v17M27 31V11h7v20M37 31V16h5v15M56 31l5-18 6 2-4 16M18 56V38h7v18M28 56V41h5v15M48 56V36h7v20M58 56V40h6v16M67 56V38h5v18"/>',
    "cuda": '<path class="glass" d="M10 8h76v48H10z"/><path class="line" d="M10 8h76v48H10z"/><g class="line"><circle cx="36" cy="34" r="11"/><circle cx="36" cy="34" r="4"/>'
            '<path d="M36 19v4M36 45v4M21 34h4M47 34h4M25.4 23.4l2.8 2.8M43.8 41.8l2.8 2.8M25.4 44.6l2.8-2.8M43.8 26.2l2.8-2.8"/>'
            '<circle cx="63" cy="25" r="7"/><path d="M63 14v4M63 32v4M52 25h4M70 25h4"/></g>',
    "driver": '<path class="glass" d="M34 58V20a14 14 0 0128 0v38z"/><path class="line" d="M34 58V20a14 14 0 0128 0v38zM34 24h28M48 6v18M20 58h56M14 62h68"/>'
              '<circle class="line" cx="56" cy="41" r="2"/><path class="line" d="M14 40v-12h8v12zM74 40v-12h8v12z"/>',
    "gpu": '<path class="glass" d="M30 14h36v36H30z"/><path class="line" d="M30 14h36v36H30zM38 22h20v20H38z"/>'
           '<path class="line" d="M36 14V6M44 14V6M52 14V6M60 14V6M36 50v8M44 50v8M52 50v8M60 50v8M30 20h-8M30 28h-8M30 36h-8M30 44h-8M66 20h8M66 28h8M66 36h8M66 44h8"/>',
}
CRACK = '<svg class="crack" viewBox="0 0 40 120" preserveAspectRatio="none" aria-hidden="true"><path d="M24 0l-9 22 11 12-14 24 12 14-10 20 8 12-6 16"/></svg>'
ROOF = ('<svg class="roof" viewBox="0 0 440 92" preserveAspectRatio="none" aria-hidden="true"><path class="chimney" d="M322 58V14h34v58z"/><path class="cap" d="M316 8h46v9h-46z"/>'
        '<path class="tiles" d="M0 92L34 74 220 4l186 70 34 18z"/><path class="row" d="M46 74h348M92 56h256M142 38h156M190 20h60"/></svg>')
SMOKE = '<svg class="smoke" viewBox="0 0 60 50" aria-hidden="true"><path d="M20 48c-12-10 10-14 2-24s14-12 8-22M34 46c-8-8 8-12 2-20s10-10 8-16"/></svg>'
BLADES = "".join(f"l{a} {b} {a} {-b}" for a, b in ((4, -5), (3, 4), (5, -7), (4, 5), (3, -4)) * 12)
GROUND = f'<svg class="grass" viewBox="0 0 440 14" preserveAspectRatio="none" aria-hidden="true"><path d="M0 14V8{BLADES}V14z"/></svg>'


class Markup(str):
    """Text that is HTML already. Everything else is escaped where it is put in."""


def tag(name: str, *inside, **attributes) -> Markup:
    """`cls` and `for_` stand for class and for; None leaves an attribute out."""
    said = "".join(f' {k.rstrip("_").replace("cls", "class").replace("_", "-")}="{escape(str(v))}"' for k, v in attributes.items() if v is not None)
    return Markup(f"<{name}{said}>{joined(*inside)}</{name}>")


def joined(*parts) -> Markup: return Markup("".join(p if isinstance(p, Markup) else escape(str(p)) for p in parts))


def html(t: dict, words: Words) -> str:
    title = words("page.title")
    meta = Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
                  '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">')
    style = Markup(f"<style>{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>")
    body = tag("body", tag("a", words("page.skip"), href="#house", cls="skip"), header(t, words), tag("main", house(t, words), scale(t, words), lists(t, words), after(t, words)),
               tag("footer", tag("p", words("page.made", date=t["made"])), tag("p", words("page.private"))))
    language = {"zh": "zh-CN"}.get(t["language"], t["language"])
    return "<!doctype html>\n" + tag("html", tag("head", meta, tag("title", title), style), "\n", body, lang=language) + "\n"


# ---------------------------------------------------------------- above the house
def header(t: dict, words: Words) -> Markup:
    state = STATE[ERROR] if t["counts"][ERROR] else STATE[WARNING] if t["counts"][WARNING] else "ok"
    jumps = [tag("li", tag("a", f["title"], href=f"#finding-{k}"), cls=STATE[f["severity"]]) for k, f in enumerate(t["findings"])]
    nav = tag("nav", tag("ol", *jumps), aria_label=words("page.findings")) if jumps else ""
    return tag("header", tag("h1", words("page.title")), tag("p", report.verdict(t, words), cls=f"verdict {state}"), nav)


# ---------------------------------------------------------------- the house
def house(t: dict, words: Words) -> Markup:
    where = {k: floor_of(f) for k, f in enumerate(t["findings"])}
    floors = [storey(name, t, [k for k, at in where.items() if at == name], words) for name in FLOORS]
    roof = tag("div", Markup(ROOF), Markup(SMOKE) if not t["code"] else "", cls="top", aria_hidden="true")
    return tag("section", tag("h2", words("page.house"), id="house-title"), tag("p", words("page.how"), cls="how"), roof, tag("ol", *floors, cls="house"),
               id="house", aria_labelledby="house-title")


def floor_of(f: dict) -> str: return BY_ID.get(f["id"]) or BY_AREA.get(f["area"], "framework")


def storey(name: str, t: dict, mine: list[int], words: Words) -> Markup:
    """One floor: what is there on the left, what it says and what is wrong with it on the right."""
    found = [t["findings"][k] for k in mine]
    worst = min((f["severity"] for f in found), key=ORDER.index, default=None)
    value = headline(name, t, words)
    state = STATE[worst] if worst in (ERROR, WARNING) else "ok" if value else "none"
    icon = Markup(f'<svg class="icon" viewBox="0 0 96 64" aria-hidden="true">{ICONS[name]}</svg>')
    label = tag("div", tag("h3", words(f"page.{name}")), tag("p", value or words("page.absent"), cls="value"), tag("p", words(f"page.state-{state}"), cls="state"), cls="label")
    rows = [(words(f"report.{key}"), parts) for key, parts in report.rows(t, words) if key in ROWS[name] and value]
    facts = [joined(tag("dt", what), tag("dd", " · ".join(parts))) for what, parts in rows]
    beside = tag("div", *[finding(k, t["findings"][k], words) for k in mine], tag("p", words(f"page.{name}-what"), cls="what"), tag("dl", *facts) if facts else "", cls="beside")
    wall = tag("div", Markup(GROUND) if name == "gpu" else "", icon, label, Markup(CRACK) if state == "bad" else "", cls="wall")
    return tag("li", wall, beside, cls=f"floor {name} {state}{' told' if mine else ''}")




def headline(name: str, t: dict, words: Words) -> str:
    """What stands on a floor, in a few words; "": nothing."""
    m, c = t["machine"], t["cuda"]
    if name == "program": return f"Python {m['python']['version']}" if m["python"]["version"] else ""
    if name == "framework": return f"torch {m['torch']['version']}" if m["torch"] else ""
    if name == "libraries":
        taken = [x for x in m["libraries"] if x["rule"]]
        cudnn = next((x for x in taken if x["kind"] == "cudnn"), None)
        return f"cuDNN {cudnn['version'] or cudnn['major']}" if cudnn else words("page.loaded", count=len(taken)) if taken else ""
    if name == "cuda": return f"CUDA {c['torch']}" if c["torch"] else words("page.toolkit", version=c["toolkit"]) if c["toolkit"] else ""
    if name == "driver": return m["driver"]["version"] or ("?" if m["driver"]["library"] else "")
    found = report.gpus(m, words)
    return "; ".join(parts[0] for parts in found)


def finding(k: int, f: dict, words: Words) -> Markup:
    """What is wrong, and what to type."""
    prose = [tag("p", f[part]) for part in ("cause", "fix") if f[part]]
    evidence = tag("dl", *[joined(tag("dt", report.seen(what, words)), tag("dd", where)) for what, where in f["evidence"]], cls="evidence") if f["evidence"] else ""
    commands = [code(c, words("page.command")) for c in f["commands"]]
    verify = [tag("p", words("page.then"), cls="then"), code(f["verify"], words("page.verify"))] if f["verify"] else []
    head = tag("p", tag("span", words(f"report.{f['severity']}"), cls="mark"), " ", tag("code", f["id"]), cls="kind")
    return tag("article", head, tag("h4", f["title"], id=f"title-{k}"), *prose, evidence, *commands, *verify,
               cls=f"finding {STATE[f['severity']]}", id=f"finding-{k}", aria_labelledby=f"title-{k}")


def code(command: str, label: str) -> Markup:
    """A command that one click selects as a whole."""
    return tag("pre", tag("code", command), tabindex="0", role="group", aria_label=label)


# ---------------------------------------------------------------- below the house
def scale(t: dict, words: Words) -> Markup:
    """The three CUDA versions on one line of versions."""
    c, known = t["cuda"], [k["cuda"] for k in facts.table("cuda_driver")["toolkits"]]
    places = [at(v) for v in (*known, c["driver"], c["toolkit"], c["torch"]) if v]
    low, high = min([at(v) for v in (c["driver"], c["toolkit"], c["torch"], "11.0") if v]), max(places)
    rows = []
    for key in ("driver", "toolkit", "torch"):
        here = f"--at:{100 * (at(c[key]) - low) / (high - low):.1f}%" if c[key] else None
        line = tag("span", tag("span", cls="mark", style=here) if here else "", cls="track", aria_hidden="true")
        rows.append(tag("div", tag("dt", words(f"cuda.{key}-label"), " ", tag("b", c[key] or words("cuda.absent"))), tag("dd", line, words(f"cuda.{key}")), cls=key))
    ticks = [tag("span", str(n), style=f"--at:{100 * (n - low) / (high - low):.1f}%") for n in range(math.ceil(low), math.floor(high) + 1)]
    rows.append(tag("div", tag("dt"), tag("dd", tag("span", *ticks, cls="axis")), aria_hidden="true"))
    counts = tag("p", report.cuda_verdict(t, words), cls=f"counts {c['verdict']}")
    return tag("section", tag("h2", words("cuda.title"), id="cuda-title"), tag("dl", *rows, cls=f"scale {c['verdict']}"), counts, aria_labelledby="cuda-title")


def at(version: str) -> float:
    """Where a version lies: a minor one is a tenth of a major one."""
    major, minor = (*numbers(version), 0, 0)[:2]
    return major + min(minor, 9.9) / 10


def lists(t: dict, words: Words) -> Markup:
    """Every library and package, folded away."""
    m, say = t["machine"], lambda *keys: [words(f"page.{k}") for k in keys]
    copies = [(c["kind"], c["version"] or c["major"], report.why(c, words) if c["rule"] else "–", c["package"] or "–", c["path"]) for c in m["libraries"]]
    packages = [(p["name"], p["version"], p["installer"] or "–", p["site"]) for p in m["packages"]]
    return tag("section", tag("h2", words("page.lists"), id="lists-title"), fold(words("report.copies"), say("library", "version", "why", "package", "path"), copies, words),
               fold(words("report.all-packages"), say("package", "version", "installer", "path"), packages, words), aria_labelledby="lists-title")


def fold(title: str, heads: list[str], rows: list[tuple], words: Words) -> Markup:
    if not rows: return tag("details", tag("summary", f"{title} (0)"), tag("p", words("report.none")))
    body = [tag("tr", *[tag("td", x, data_head=h) for x, h in zip(row, heads)]) for row in rows]
    return tag("details", tag("summary", f"{title} ({len(rows)})"), tag("table", tag("thead", tag("tr", *[tag("th", h, scope="col") for h in heads])), tag("tbody", *body)))


def after(t: dict, words: Words) -> Markup:
    """What to do next, and what forno would compute on here."""
    runs = tag("p", t["forno"]["told"], cls="forno")
    return tag("section", tag("h2", words("page.next"), id="next-title"), tag("p", words("page.next-plan")), code(f"{t['program']} plan torch", words("page.command")), runs,
               aria_labelledby="next-title")
