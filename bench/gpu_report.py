"""What bench/gpu.py found, as Markdown. A case that failed says so; what wasn't measured is a dash; what wasn't there is named."""
from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
from report import bold, mean, ratio, say, table

UNITS = {"copy": ("copy", 1e9, "GB/s"), "driver's copy": ("copy by the driver", 1e9, "GB/s"), "triad": ("triad", 1e9, "GB/s"), "driver's fill": ("fill by the driver", 1e9, "GB/s"),
         "float32": ("float32 multiply-adds", 1e12, "TFLOP/s"), "tf32": ("tf32 mma.sync", 1e12, "TFLOP/s"), "bf16": ("bf16 mma.sync", 1e12, "TFLOP/s"),
         "launches": ("empty launches by Python", 1e3, "thousands a second")}


def stamp(found: dict) -> str:
    m = found["machine"]
    driver = f"driver {m['driver']}" if m.get("driver") else f"a driver of CUDA {m['cuda']}"
    return f"{found['date']}, {m['gpu']}{', simulated' if m['simulated'] else ''}, {driver}, commit {found['commit']}; {found['minutes']:.1f} minutes"


def failures(cases: dict) -> list[str]: return [f"- {name}: {c['failed']}" for name, c in cases.items() if "failed" in c]


def tally(what: str, cases: dict, planned: int) -> list[str]:
    """How many cases went well, and what the others said."""
    bad, late, absent = failures(cases), planned - len(cases), sum("missing" in c for c in cases.values())
    more = f"{f', {absent} not in this PyTorch' if absent else ''}{f', {late} not reached in time' if late else ''}"
    return [f"**{what}**: {len(cases) - len(bad) - absent} of {planned} right{more}{':' if bad else '.'}", *(["", *bad] if bad else [])]


def rate(found: dict, name: str) -> float | None: return found["limits"].get(name, {}).get("rate")


def limits(found: dict) -> list[str]:
    rows = [(title, say(rate(found, name) and rate(found, name) / unit, 1), what) for name, (title, unit, what) in UNITS.items() if name in found["limits"]]
    bad = failures(found["limits"])
    return ["**Limits of the device**", "", *table(("what", "at most", ""), rows), *(["", *bad] if bad else [])]


def least(case: dict, found: dict) -> tuple[float, str] | None:
    """Least possible milliseconds, and what says so."""
    moves, computes = [x for x in (rate(found, n) for n in ("copy", "triad", "driver's copy")) if x], rate(found, case["limit"])
    if not moves or case["flops"] and computes is None: return None
    memory, compute = case["bytes"] / max(moves), case["flops"] / computes if case["flops"] else 0.0
    return 1e3 * max(memory, compute), "compute" if compute > memory else "memory"


def families(found: dict) -> list[str]:
    rows, bad = [], ["", *said] if (said := failures(found["families"].get("forno", {}))) else []
    for name, c in found["families"].get("forno", {}).items():
        theirs = found["families"].get("torch", {}).get(name, {}).get("ms")
        if "failed" in c: rows.append((name, "failed", "", "", "", say(theirs, 3), "")); continue
        bound = least(c, found)
        limit, far = (f"{bound[0]:.3f} ({bound[1]})", c["ms"] / bound[0]) if bound else ("–", None)
        rows.append((name, say(c["ms"], 3), say(c.get("clock_ms"), 3), limit, say(far), say(theirs, 3), bold(ratio(c["ms"], theirs))))
    head = ("family", "forno, ms", "by the clock", "limit, ms", "forno / limit", "PyTorch, ms", "forno / PyTorch")
    return ["**Families of kernels**", "", *table(head, rows), *bad] if rows else []


def workloads(found: dict) -> list[str]:
    rows, against, bad = [], {"eager": [], "compile": []}, []
    for name, sides in found["workloads"].items():
        ms = {label: side.get("ms") for label, side in sides.items()}
        others = {mode: ratio(ms.get(f"forno {mode}"), ms.get(f"torch {mode}")) for mode in against}
        for mode, r in others.items(): against[mode].append(r)
        rows.append((name, *("failed" if "failed" in sides.get(label, ()) else say(ms.get(label)) for label in ("torch eager", "torch compile", "forno eager", "forno compile")),
                     *map(bold, others.values())))
        bad += [f"- {name}, {line[2:]}" for line in failures(sides)]
    if not rows: return []
    rows.append(("*geometric mean*", "", "", "", "", *(bold(mean(values)) for values in against.values())))
    head = ("workload", "PyTorch, ms", "torch.compile, ms", "forno, ms", "forno.compile, ms", "eager / eager", "compile / compile")
    return ["**Workloads**", "", *table(head, rows), *(["", *bad] if bad else [])]


def notes(found: dict) -> list[str]:
    """What wasn't there, and sections that broke down."""
    return [f"Not there: {why}." for why in found.get("absent", {}).values()] + [f"Broken: {name}: {why}." for name, why in found.get("broken", {}).items()]


def full(found: dict) -> list[str]:
    parts = [tally("Every kind of kernel once, against the CPU", found["smoke"], found["planned"]["smoke"])] if found["smoke"] else []
    if found["conformance"]: parts.append(tally("PyTorch's samples of T0, against PyTorch on the CPU", found["conformance"], found["planned"]["conformance"]))
    parts += [limits(found)] if found["limits"] else []
    parts += [p for p in (families(found), workloads(found), notes(found)) if p]
    return [line for p in parts for line in (*p, "")] + [stamp(found)]
