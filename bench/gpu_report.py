"""What bench/gpu.py found, as Markdown. A case that failed says so; what wasn't measured is a dash."""
from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
from report import bold, mean, ratio, say, table


def stamp(found: dict) -> str:
    m = found["machine"]
    driver = f"driver {m['driver']}" if "driver" in m else f"a driver of CUDA {m['cuda']}"
    return f"{found['date']}, {m['gpu']}{', simulated' if m['simulated'] else ''}, {driver}, commit {found['commit']}; {found['minutes']:.1f} minutes"


def failures(cases: dict) -> list[str]: return [f"- {name}: {c['failed']}" for name, c in cases.items() if "failed" in c]


def tally(what: str, cases: dict, planned: int) -> list[str]:
    """How many cases went well, and what the others said."""
    bad, late = failures(cases), planned - len(cases)
    return [f"**{what}**: {len(cases) - len(bad)} of {planned} right{f', {late} not reached in time' if late else ''}{':' if bad else '.'}", *(["", *bad] if bad else [])]


def limits(found: dict) -> list[str]:
    x = found["limits"]
    if "failed" in x: return [f"**Limits**: {x['failed']}"]
    return ["**Limits of the device**", "", *table(("copy, GB/s", "triad, GB/s", "float32, TFLOP/s", "bf16 (mma.sync), TFLOP/s"),
            [tuple(say(x[k] / s, d) if k in x else "–" for k, s, d in (("copy", 1e9, 0), ("triad", 1e9, 0), ("float32", 1e12, 1), ("bf16", 1e12, 0)))])]


def least(case: dict, limits: dict) -> tuple[float, str] | None:
    """Least possible milliseconds, and what says so."""
    rate = limits.get(case["limit"])
    if "copy" not in limits or case["flops"] and rate is None: return None
    memory, compute = case["bytes"] / max(limits["copy"], limits.get("triad", 0)), case["flops"] / rate if case["flops"] else 0.0
    return 1e3 * max(memory, compute), "compute" if compute > memory else "memory"


def families(found: dict) -> list[str]:
    rows, bad = [], ["", *said] if (said := failures(found["families"].get("forno", {}))) else []
    for name, c in found["families"].get("forno", {}).items():
        theirs = found["families"].get("torch", {}).get(name, {}).get("ms")
        if "failed" in c: rows.append((name, "failed", "", "", say(theirs, 3), "")); continue
        bound = least(c, found["limits"])
        limit, far = (f"{bound[0]:.3f} ({bound[1]})", c["ms"] / bound[0]) if bound else ("–", None)
        rows.append((name, say(c["ms"], 3), limit, say(far), say(theirs, 3), bold(ratio(c["ms"], theirs))))
    return ["**Families of kernels**", "", *table(("family", "forno, ms", "limit, ms", "forno / limit", "PyTorch, ms", "forno / PyTorch"), rows), *bad] if rows else []


def workloads(found: dict) -> list[str]:
    rows, against = [], {"eager": [], "compile": []}
    for name, sides in found["workloads"].items():
        ms = {label: side.get("ms") for label, side in sides.items()}
        others = {mode: ratio(ms.get(f"forno {mode}"), ms.get(f"torch {mode}")) for mode in against}
        for mode, r in others.items(): against[mode].append(r)
        rows.append((name, *("failed" if "failed" in sides.get(label, ()) else say(ms.get(label)) for label in ("torch eager", "torch compile", "forno eager", "forno compile")),
                     *map(bold, others.values())))
    if not rows: return []
    rows.append(("*geometric mean*", "", "", "", "", *(bold(mean(values)) for values in against.values())))
    return ["**Workloads**", "", *table(("workload", "PyTorch, ms", "torch.compile, ms", "forno, ms", "forno.compile, ms", "eager / eager", "compile / compile"), rows)]


def full(found: dict) -> list[str]:
    parts = [tally("Every kind of kernel once, against the CPU", found["smoke"], found["planned"]["smoke"])]
    if found["conformance"]: parts.append(tally("PyTorch's samples of T0, against PyTorch on the CPU", found["conformance"], found["planned"]["conformance"]))
    parts += [limits(found)] if found["limits"] else []
    parts += [p for p in (families(found), workloads(found)) if p]
    return [line for p in parts for line in (*p, "")] + [stamp(found)]
