"""The tables that people search for: torch with what belongs to it, CUDA and drivers, cuDNN, GPUs; all of them, or what this machine can use.

Comes in: a Target (what the machine is) or None for everything, and words. Goes out: `Table`s, and each as text for 80 columns, Markdown, one HTML page, or JSON.
A cell is None where nothing is verified, a text, a list of texts, which stand below each other, or a tuple of texts, which stand beside each other; empty where there is none.
The facts are those of facts.py; which build fits a machine is plan.py's rule.
"""
from __future__ import annotations

import html
from dataclasses import dataclass, field

from . import facts, report
from .facts import Build, Release
from .plan import Plan, Target, Wish, fitted
from .versions import at_least, numbers
from .words import Words

SCHEMA = 1
WIDTH = 80
UNKNOWN = "?"                                  # behind a build of which the tables don't say for which GPUs it has code
TOGETHER = "\u00a0"                            # a space at which no line ends
LONG_NAME = 24                                 # a longer one may be broken
DEFAULT = "*"                                  # behind the build that the package index serves
SYSTEMS = {"linux": "Linux", "windows": "Windows"}
PLATFORMS = "linux_x86_64", "linux_aarch64", "windows_x86_64"           # with CUDA builds


@dataclass
class Table:
    """`columns`: keys of catalogues; `rows`: a cell for each; `limits`: sentences that say what this machine was asked for; `left_out`: rows that it can't use; `notes`:
    sentences below; `sources`: (id, what)."""
    id: str
    columns: list[str]
    rows: list[list] = field(default_factory=list)
    as_of: str = ""
    limits: list[str] = field(default_factory=list)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)


def tables(names, target: Target | None, words: Words) -> list[Table]: return [MAKERS[n](target, words) for n in names or MAKERS]


def _table(id: str, data: str, columns: list[str], rows, target: Target | None, limits: list[str], notes: list[str]) -> Table:
    """`rows`: (can the machine use it?, cells)."""
    about, rows = facts.table(data), list(rows)
    kept = [cells for ok, cells in rows if target is None or ok]
    return Table(id, columns, kept, about["as_of"], limits if target else [], len(rows) - len(kept), notes, [(s["id"], s["what"]) for s in about["sources"]])


def remarked(t: Table, rows: list[dict], key: str) -> Table:
    """With what the data remarks on rows that are shown."""
    shown = {cells[0] for cells in t.rows}
    t.notes += dict.fromkeys(f"{r[key]}: {r['note']}." for r in rows if r.get("note") and r[key] in shown)
    return t


# ---------------------------------------------------------------- what fits
def fit(r: Release, b: Build, t: Target) -> bool | None:
    """Can a machine use a build? None: nothing says for which GPUs it has code."""
    found = fitted(r, t, Wish(tag=b.tag))
    if isinstance(found, Plan): return True
    unsaid = dict(found.builds).get(b.tag) == "unknown" and all(may_have_code(b.cuda, c) for c in t.capabilities)
    return None if unsaid and _driver_runs(b.cuda, t) else False


def cuda_knows(cuda: str, cc: str) -> bool:
    """Does a CUDA version make code for a capability? An unknown capability is newer than all that are known."""
    a = facts.architecture(cc)
    if a is None: return False
    first, last = a["cuda_min"].lstrip("<"), a["cuda_max"]
    return at_least(cuda, first) and (last is None or at_least(last, cuda))


def may_have_code(cuda: str, cc: str) -> bool:
    """Could a build of a CUDA version run on a capability, if nothing is said of its architectures? Not if that CUDA has dropped it, or knows no GPU of its family."""
    a, family = facts.architecture(cc), cc.split(".")[0]
    gone = a is not None and a["cuda_max"] is not None and not at_least(a["cuda_max"], cuda)
    return not gone and any(at_least(cuda, x["cuda_min"].lstrip("<")) for x in facts.table("gpu_arch")["architectures"] if x["cc"].split(".")[0] == family)


def _driver_runs(cuda: str, t: Target) -> bool:
    floor = facts.floor(cuda, t.platform)
    return t.driver is None or floor is not None and at_least(t.driver, floor)


def machine_code(b: Build, cc: str, platform: str) -> bool | None:
    """Has a build machine code for a capability, so that no driver need compile it? None: not known."""
    architectures = b.architectures(platform)
    if not b.offered(platform): return False
    if architectures is None: return None if may_have_code(b.cuda, cc) else False
    return facts.covers(architectures, cc, driver_is_full=False)


def torch_range(cc: str, platform: str) -> tuple[Release | None, Release | None, bool]:
    """(first, last) release with machine code for a capability, and whether a later one may have it, too."""
    first = last = None
    later = False
    for r in reversed(facts.releases()):
        answers = [machine_code(b, cc, platform) for b in r.builds]
        if True in answers: first, last, later = first or r, r, False
        elif None in answers and last is not None: later = True
    return first, last, later


# ---------------------------------------------------------------- the tables
def torch_table(target: Target | None, words: Words) -> Table:
    platform = target.platform if target else PLATFORMS[0]
    limits = [] if target is None else [words("table.limit-python", python=target.python), words("table.limit-platform", platform=target.platform), *_gpu_limits(target, words)]
    notes = [words("table.default-build", platform=platform), words("table.pythons", platform=platform)]
    if target and target.capabilities: notes.append(words("table.unknown-build"))
    columns = ["torch", "torchvision", "torchaudio", "python", "cuda_builds", "cudnn", "released"]
    return _table("torch", "torch", columns, (torch_row(r, target) for r in facts.releases()), target, limits, notes)


def torch_row(r: Release, target: Target | None) -> tuple[bool, list]:
    """With a GPU, the builds that it can use; without one, all."""
    platform = target.platform if target else PLATFORMS[0]
    default = r.default_on(platform)
    if target is None: ok, builds = True, [(b, True) for b in r.builds]
    elif target.capabilities:
        builds = [(b, fits) for b in r.builds for fits in (fit(r, b, target),) if fits is not False]
        ok = bool(builds)
    else: ok, builds = isinstance(fitted(r, target, Wish()), Plan), [(b, True) for b in r.builds if b.offered(platform)]
    names = [f"{b.tag}{DEFAULT if b.tag == default else ''}{'' if sure else UNKNOWN}" for b, sure in builds]
    audio = r.extra("torchaudio") or (None if r.row["torchaudio_wheels"] else ())
    return ok, [str(r.version), r.extra("torchvision"), audio, python_cell(r.pythons(platform)) or None, names, [b.cudnn for b, _ in builds], r.row["released"]]


def python_cell(pythons: set[str]) -> list[str]:
    plain = sorted((p for p in pythons if not p.endswith("t")), key=numbers)
    free = sorted((p for p in pythons if p.endswith("t")), key=numbers)
    order = [f"3.{n}" for n in range(40)]
    return [*runs(plain, order), *runs(free, [f"{v}t" for v in order])]


def runs(values: list[str], order: list[str]) -> list[str]:
    """"3.9", "3.10", "3.11" as "3.9-3.11": what follows each other in an order, as ranges; a value that has no place there stands alone."""
    out: list[list[str]] = []
    for v in values:
        if out and v in order and out[-1][-1] in order and order.index(v) == order.index(out[-1][-1]) + 1: out[-1].append(v)
        else: out.append([v])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else run[0] for run in out]


def cuda_table(target: Target | None, words: Words) -> Table:
    systems = ["linux", "windows"] if target is None or target.platform.startswith("macos") else [target.platform.split("_")[0]]
    columns = ["cuda", *(f"least_{s}" for s in systems), *(f"own_{s}" for s in systems), "ptx", "added", "removed"]
    limits = [] if target is None else [SYSTEMS[s] for s in systems if len(systems) == 1] + _gpu_limits(target, words)
    rows = (cuda_row(t, systems, target) for t in reversed(facts.table("cuda_driver")["toolkits"]))
    t = _table("cuda", "cuda_driver", columns, rows, target, limits, [words("table.floors"), words("table.ptx-rule")])
    return remarked(t, facts.table("cuda_driver")["toolkits"], "cuda")


def cuda_row(t: dict, systems: list[str], target: Target | None) -> tuple[bool, list]:
    cuda = t["cuda"]
    own = [t[f"toolkit_driver_{s}"] or t.get("branch") or (() if s == "windows" and t.get("windows_note") else None) for s in systems]
    all_of_them = facts.table("gpu_arch")["architectures"]
    older = [x["cuda"] for x in facts.table("cuda_driver")["toolkits"] if numbers(x["cuda"]) < numbers(cuda)]
    added = tuple(a["cc"] for a in all_of_them if a["cuda_min"] == cuda)
    removed = tuple(a["cc"] for a in all_of_them if a["cuda_max"] and older and a["cuda_max"] == max(older, key=numbers))
    ok = target is None or _driver_runs(cuda, target) and all(cuda_knows(cuda, c) for c in target.capabilities)
    ptx = None if t["ptx_src"].startswith("unverified") else t["ptx_isa_max"]
    return ok, [cuda, *(t[f"mvc_min_{s}"] for s in systems), *own, ptx, added, removed]


def cudnn_table(target: Target | None, words: Words) -> Table:
    order = [t["cuda"] for t in facts.table("cuda_driver")["toolkits"]]
    systems = ["linux", "windows"] if target is None or target.platform.startswith("macos") else [target.platform.split("_")[0]]
    columns = ["cudnn", "cuda", *(f"least_{s}" for s in systems), "capabilities"]
    rows = (cudnn_row(row, order, systems, target) for row in reversed(facts.table("cudnn_cuda")["matrix"]))
    limits = [] if target is None else [SYSTEMS[s] for s in systems if len(systems) == 1] + _gpu_limits(target, words)
    t = _table("cudnn", "cudnn_cuda", columns, rows, target, limits, [words("table.cudnn-abi"), words("table.cudnn-turing")])
    return remarked(t, facts.table("cudnn_cuda")["matrix"], "cudnn")


def cudnn_row(row: dict, order: list[str], systems: list[str], target: Target | None) -> tuple[bool, list]:
    cuda, capabilities = row["cuda"], row["compute_capability"]
    ok = target is None or (capabilities is None or all(serves(capabilities, c) for c in target.capabilities)) and (
        cuda is None or target.driver is None or any(facts.toolkit(c) is None or _driver_runs(c, target) for c in cuda))
    drivers = [None if row[f"min_driver_{s}"] is None else row[f"min_driver_{s}"].split(" / ") for s in systems]
    if cuda is None: shown = None
    elif any(d and len(d) == len(cuda) > 1 for d in drivers): shown = cuda                 # a driver for each
    else: shown = tuple(runs(cuda[::-1], order))
    return ok, [row["cudnn"], shown, *drivers, None if capabilities is None else tuple(capabilities)]


def serves(capabilities: list[str], cc: str) -> bool:
    """Is a capability among "7.5", "3.x", ">=3.5"? Code for X.Y runs on X.Z from Y on."""
    x, y = map(int, cc.split("."))
    for c in capabilities:
        if c.startswith(">="): ok = (x, y) >= numbers(c)
        elif c.endswith(".x"): ok = numbers(c) == (x,)
        else: ok = numbers(c)[0] == x and numbers(c)[1] <= y
        if ok: return True
    return False


def gpu_table(target: Target | None, words: Words) -> Table:
    platform = target.platform if target and target.platform in PLATFORMS else PLATFORMS[0]
    wanted = target.capabilities if target else ()
    rows = (gpu_row(a, platform, wanted) for a in reversed(facts.table("gpu_arch")["architectures"]))
    notes = [words("table.gpu-wheels", platform=platform), words("table.gpu-later"), words("table.gpu-ptx"), words("table.gpu-names")]
    columns = ["capability", "architecture", "cuda_first", "cuda_last", "torch_first", "torch_last", "names"]
    return remarked(_table("gpu", "gpu_arch", columns, rows, target, _gpu_limits(target, words, driver=False), notes), facts.table("gpu_arch")["architectures"], "cc")


def gpu_row(a: dict, platform: str, wanted: tuple[str, ...]) -> tuple[bool, list]:
    first, last, later = torch_range(a["cc"], platform)
    names = tuple(n for group in (*a.get("official", {}).values(), *a.get("other_names", {}).values()) for n in group)
    newest = facts.table("cuda_driver")["toolkits"][-1]["cuda"]
    return not wanted or a["cc"] in wanted, [a["cc"], a["arch"], a["cuda_min"], a["cuda_max"] or f"{newest}+", str(first.version) if first else (),
                                       f"{last.version}{'+' if later else ''}" if last else (), names]


def _gpu_limits(target: Target | None, words: Words, driver: bool = True) -> list[str]:
    if target is None: return []
    out = [words("table.limit-gpu", capability=c) for c in target.capabilities]
    out += [words("table.limit-unknown", gpu=name) for name in target.unknown]
    return out + ([words("table.limit-driver", driver=target.driver)] if target.driver and driver else [])


MAKERS = {"torch": torch_table, "cuda": cuda_table, "cudnn": cudnn_table, "gpu": gpu_table}


# ---------------------------------------------------------------- text
def lines_of(cell, words: Words) -> list[str]:
    """A cell as lines of text."""
    unknown = words("table.unknown").replace(" ", TOGETHER)
    if isinstance(cell, tuple): return [", ".join(c.replace(" ", TOGETHER) if len(c) <= LONG_NAME else c for c in cell) or "-"]
    return [unknown if c is None else c for c in cell] or ["-"] if isinstance(cell, list) else [unknown if cell is None else cell]


def widths(body: list[list[list[str]]], most: int) -> list[int]:
    """Of columns: what they need if there is room; else what their longest word needs, and the rest goes where most lines would stand below each other."""
    columns = list(zip(*body))
    longest = [max(report.columns(line) for cell in c for line in cell) for c in columns]
    room = most - 2 * (len(columns) - 1)
    if sum(longest) <= room: return longest
    words = [max(report.columns(word.rstrip()) for cell in c for line in cell for word in report.TOKEN.findall(line) or [""]) for c in columns]
    wide = [max(word, min(line, 6)) for word, line in zip(words, longest)]
    while sum(wide) < room:
        k = max(range(len(wide)), key=lambda n: -(-longest[n] // wide[n]) + (longest[n] > wide[n]))
        wide[k] += 1
    return wide


def grid(head: list[str], rows: list[list[list[str]]], most: int = WIDTH) -> list[str]:
    """Columns with their heads, no wider than a terminal where words allow it."""
    body = [[[h] for h in head], *rows]
    wide, out = widths(body, most), []
    for row in body:
        cells = [[part for line in cell for part in report.wrap(line, w)] for cell, w in zip(row, wide)]
        out += ["  ".join(report.pad(c[k] if k < len(c) else "", w) for c, w in zip(cells, wide)).replace(TOGETHER, " ").rstrip() for k in range(max(map(len, cells)))]
        if row is body[0]: out.append("  ".join("-" * w for w in wide))
    return out


def head(t: Table, words: Words) -> list[str]: return [words(f"table-columns.{c}") for c in t.columns]


def limited(t: Table, words: Words) -> str:
    """What was left out for this machine, and how to see all."""
    if not t.limits: return words("table.everything")
    return words("table.limited", limits=words("table.and").join(t.limits), left_out=t.left_out, all=f"forno doctor table {t.id} --all")


def text(found: list[Table], words: Words) -> str:
    out: list[str] = []
    for t in found:
        out += [words(f"table-{t.id}.title"), *report.wrap(limited(t, words), WIDTH), ""]
        out += grid(head(t, words), [[lines_of(c, words) for c in row] for row in t.rows]) if t.rows else report.wrap(words("table.nothing"), WIDTH)
        out += [""] + [line for n in t.notes for line in report.wrap(n, WIDTH)]
        out += report.wrap(words("table.as-of", date=t.as_of), WIDTH)
        out += [line for id, what in t.sources for line in report.hang("  ", f"{id}: {what}", WIDTH, 4)] + ["", ""]
    return "\n".join(out).rstrip() + "\n"



# ---------------------------------------------------------------- Markdown, HTML, JSON
def markdown(found: list[Table], words: Words) -> str:
    out: list[str] = []
    for t in found:
        out += [f"## {words(f'table-{t.id}.title')}", "", limited(t, words), ""]
        if t.rows:
            out += ["| " + " | ".join(head(t, words)) + " |", "|" + " --- |" * len(t.columns)]
            out += ["| " + " | ".join("<br>".join(map(_marked, lines_of(c, words))) for c in row) + " |" for row in t.rows]
        else: out.append(words("table.nothing"))
        out += ["", *(f"{_marked(n)}\n" for n in t.notes), words("table.as-of", date=t.as_of), "", *(f"- {id}: {_marked(what)}" for id, what in t.sources), ""]
    return "\n".join(out)


def _marked(text: str) -> str:
    """With nothing that Markdown would read as its own signs."""
    return html.escape(text, quote=False).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")


STYLE = """
:root { color-scheme: light dark; --line: #8886; --quiet: light-dark(#555, #aaa); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
p, li { overflow-wrap: anywhere; } .scroll { overflow-x: auto; } .scroll:focus-visible { outline: 3px solid #06c; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } caption { text-align: left; padding: .5rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
.unknown, .sources { color: var(--quiet); } .sources { font-size: .9rem; }
"""


def page(found: list[Table], words: Words) -> str:
    """One file that needs no other: no scripts, no fonts, no pictures."""
    title = html.escape(words("table.page"))
    parts = [f"<!doctype html>\n<html lang=\"{words.language}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>"]
    if len(found) > 1: parts.append("<nav><ul>" + "".join(f"<li><a href=\"#{t.id}\">{html.escape(words(f'table-{t.id}.title'))}</a></li>" for t in found) + "</ul></nav>")
    return "\n".join([*parts, *(_section(t, words) for t in found), "</main>\n</body>\n</html>\n"])


def _section(t: Table, words: Words) -> str:
    title = html.escape(words(f"table-{t.id}.title"))
    heads = "".join(f"<th scope=\"col\">{html.escape(h)}</th>" for h in head(t, words))
    rows = "\n".join("<tr>" + "".join(_cell(c, k, words) for k, c in enumerate(row)) + "</tr>" for row in t.rows)
    limits = html.escape(limited(t, words))
    body = (f"<div class=\"scroll\" role=\"region\" aria-labelledby=\"{t.id}\" tabindex=\"0\">\n<table>\n<caption>{limits}</caption>\n"
            f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>") if t.rows else f"<p>{limits} {html.escape(words('table.nothing'))}</p>"
    notes = "".join(f"<p>{html.escape(n)}</p>" for n in t.notes)
    sources = "".join(f"<li>{html.escape(id)}: {html.escape(what)}</li>" for id, what in t.sources)
    return (f"<section>\n<h2 id=\"{t.id}\">{title}</h2>\n{body}\n{notes}\n<p>{html.escape(words('table.as-of', date=t.as_of))}</p>\n"
            f"<ul class=\"sources\">{sources}</ul>\n</section>")


def _cell(cell, k: int, words: Words) -> str:
    tag = "th scope=\"row\"" if k == 0 else "td"
    inner = "<br>".join(html.escape(line) for line in lines_of(cell, words))
    quiet = ' class="unknown"' if cell is None else ""
    return f"<{tag}{quiet}>{inner}</{tag[:2]}>"


def as_data(found: list[Table]) -> dict:
    """Null where nothing is verified. Rows by the columns' names, which are the same in every language."""
    return {"schema": SCHEMA, "tables": [{"id": t.id, "as_of": t.as_of, "limits": t.limits, "left_out": t.left_out, "columns": t.columns,
                                          "rows": [dict(zip(t.columns, row)) for row in t.rows], "notes": t.notes, "sources": [list(s) for s in t.sources]} for t in found]}
