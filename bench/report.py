"""What bench/run.py found, as Markdown: a line per workload while it runs, the full tables, and the README's short one.

Every ratio is forno's number by the others': below 1 forno needs less. A side that failed says so; what wasn't measured is a dash.
"""
from __future__ import annotations

import math

OTHERS = ("torch eager", "torch compile", "jax", "onnxruntime")
NAMES = {"torch eager": "PyTorch", "torch compile": "torch.compile", "jax": "JAX", "onnxruntime": "ONNX Runtime"}
TINY = 1 << 18                                 # bytes; less fits in a core's nearest cache
SLOW, WARM_SECONDS, TENTH = 1.0, 1.0, 0.1      # the aims: no workload slower; a warm first step; a cold one against torch.compile's


# ---------------------------------------------------------------- numbers of a row
def ms(row: dict, *labels: str) -> float | None:
    """Least time of these sides."""
    found = [row["sides"][label]["ms"] for label in labels if "ms" in row["sides"].get(label, ())]
    return min(found) if found else None


def ratio(ours: float | None, theirs: float | None) -> float | None: return None if ours is None or theirs is None else ours / theirs
def eager(row): return ratio(ms(row, "forno eager"), ms(row, "torch eager"))
def compiled(row): return ratio(ms(row, "forno compile"), ms(row, "torch eager", "torch compile"))
def best(row): return ratio(ms(row, "forno eager", "forno compile"), ms(row, *OTHERS))
def first(row, label, key="first_s"): return row["sides"].get(label, {}).get(key)
def memory(row, label): return ratio(first(row, f"forno {label}", "peak_mb"), first(row, "torch eager", "peak_mb"))


def rival(row) -> str:
    """The fastest of the others."""
    found = {label: ms(row, label) for label in OTHERS if ms(row, label) is not None}
    return NAMES[min(found, key=found.get)] if found else "–"


def spread(row) -> tuple[float, float] | None:
    """Least and most of the ratios of neighbouring blocks, eager against eager."""
    ours, theirs = (row["sides"].get(label, {}).get("medians_ms", []) for label in ("forno eager", "torch eager"))
    ratios = [a / b for a, b in zip(ours, theirs)]
    return (min(ratios), max(ratios)) if ratios else None


def at(bandwidth: dict, footprint: float) -> float:
    """Bytes per second of the smallest measured footprint that holds this one."""
    sizes = sorted(bandwidth, key=int)
    return bandwidth[next((s for s in sizes if int(s) >= footprint), sizes[-1])]


def limit(row: dict, peaks: dict) -> float | None:
    """Least possible milliseconds: FLOPs over the peak or bytes over the bandwidth, whichever is more. None for tiny steps: calls limit them, not the machine."""
    p = peaks[str(row["threads"])]
    if row["bytes"] < TINY: return None
    return 1e3 * max(row["flops"] / p["flops"], row["bytes"] / at(p["bytes"], row["bytes"]))


def bound(row: dict, peaks: dict) -> str:
    p = peaks[str(row["threads"])]
    if row["bytes"] < TINY: return "calls"
    return "compute" if row["flops"] / p["flops"] > row["bytes"] / at(p["bytes"], row["bytes"]) else "memory"


def mean(values) -> float | None:
    """The geometric mean."""
    values = [v for v in values if v is not None]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def differs(row: dict) -> float | None:
    """How far first losses of forno's sides are from PyTorch's, relative to the first; None where steps have no number."""
    theirs = [x for x in row["sides"]["torch eager"].get("losses", []) if x is not None]
    ours = [[x for x in row["sides"].get(label, {}).get("losses", []) if x is not None] for label in ("forno eager", "forno compile")]
    return max((abs(a - b) / max(abs(theirs[0]), 1e-9) for side in ours for a, b in zip(side, theirs)), default=None)


# ---------------------------------------------------------------- text
def say(x: float | None, digits=2, unit="") -> str: return "–" if x is None else f"{x:.{digits}f}{unit}"
def bold(x: float | None) -> str: return "–" if x is None else f"**{x:.2f}**"


def cell(row: dict, label: str, x: float | None) -> str: return "failed" if "failed" in row["sides"].get(label, ()) else bold(x)


def brief(row: dict) -> str:
    times = ", ".join(f"{label} {side['ms']:.3g} ms" if "ms" in side else f"{label} failed" for label, side in row["sides"].items())
    losses = "" if differs(row) is None else f"; first losses within {differs(row):.1e}"
    return f"{row['name']}, {row['threads']} thread{'s' * (row['threads'] > 1)}, {row['took_s']:.0f} s: {times}{losses}"


def table(head: tuple, rows: list[tuple]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(str, r)) + " |" for r in rows)]


def programs(found: dict, threads: int) -> list[str]:
    """The whole programs at one number of threads."""
    rows, out = [r for r in found["rows"] if r["program"] and r["threads"] == threads], []
    for r in rows:
        low, high = spread(r) or (None, None)
        least = limit(r, found["peaks"])
        ours, theirs = ms(r, "forno eager", "forno compile"), ms(r, *OTHERS)
        out.append((r["name"], say(ms(r, "torch eager"), 2), say(ms(r, "forno eager"), 2), f"{cell(r, 'forno eager', eager(r))} ({say(low)} … {say(high)})",
                    say(ms(r, "torch compile"), 2) if "failed" not in r["sides"].get("torch compile", ()) else "failed", say(ms(r, "forno compile"), 2),
                    cell(r, "forno compile", compiled(r)), f"{bold(best(r))} {rival(r)}", f"{say(least, 2)} ({bound(r, found['peaks'])})", say(ratio(ours, least), 1),
                    say(ratio(theirs, least), 1)))
    head = ("workload", "PyTorch, ms", "forno, ms", "eager / eager", "torch.compile, ms", "forno.compile, ms", "compile / better of PyTorch's", "best / best of all peers",
            "roofline, ms", "forno / roofline", "best peer / roofline")
    return [*table(head, out), "", *summary(rows)]


def summary(rows: list[dict]) -> list[str]:
    out = []
    for what, measure in (("eager / eager", eager), ("compile / better of PyTorch's", compiled), ("best / best of all peers", best)):
        values = {r["name"]: measure(r) for r in rows}
        losses = [f"{n} {v:.2f}" for n, v in values.items() if v is not None and v > SLOW]
        out.append(f"{what}: geometric mean {say(mean(values.values()))}; above {SLOW:g}: {', '.join(losses) or 'none'}.")
    return [" ".join(out)]


def starts(found: dict) -> list[str]:
    """First steps and memory, at the first number of threads that was measured: there caches were empty."""
    rows, out = [r for r in found["rows"] if r["program"] and r["threads"] == found["rows"][0]["threads"]], []
    for r in rows:
        cold, theirs = first(r, "forno compile", "cold_s"), first(r, "torch compile")
        out.append((r["name"], say(first(r, "forno eager", "cold_s")), say(cold), say(theirs), cell(r, "torch compile", ratio(cold, theirs)), say(first(r, "forno eager")),
                    say(first(r, "forno compile")), say(first(r, "torch eager")), say(first(r, "torch eager", "peak_mb"), 0), say(first(r, "forno eager", "peak_mb"), 0),
                    cell(r, "forno eager", memory(r, "eager")), cell(r, "forno compile", memory(r, "compile"))))
    head = ("workload", "forno, cold, s", "forno.compile, cold, s", "torch.compile, cold, s", "ratio", "forno, warm, s", "forno.compile, warm, s", "PyTorch, s",
            "peak memory PyTorch, MB", "forno, MB", "ratio", "forno.compile's")
    over = [r["name"] for r in rows if (ratio(first(r, "forno compile", "cold_s"), first(r, "torch compile")) or 0) > TENTH]
    late = [r["name"] for r in rows if max(first(r, f"forno {m}") or 0 for m in ("eager", "compile")) > WARM_SECONDS]
    fat = [f"{r['name']} {memory(r, 'eager'):.2f}" for r in rows if (memory(r, "eager") or 0) > SLOW]
    told = (("more than a tenth of torch.compile's cold first step", over), ("warm first step above 1 s", late), ("more memory than PyTorch", fat))
    return [*table(head, out), "", " ".join(f"{what[0].upper()}{what[1:]}: {', '.join(names) or 'none'}." for what, names in told)]


def families(found: dict) -> list[str]:
    """Kernels by themselves and their distance from the limit."""
    out = []
    for r in (r for r in found["rows"] if not r["program"]):
        least = limit(r, found["peaks"])
        out.append((r["name"], r["threads"], say(ms(r, "torch eager"), 3), say(ms(r, "forno eager"), 3), cell(r, "forno eager", eager(r)),
                    f"{say(least, 3)} ({bound(r, found['peaks'])})", say(ratio(ms(r, "forno eager"), least), 2), say(ratio(ms(r, "torch eager"), least), 2)))
    return table(("family", "threads", "PyTorch, ms", "forno, ms", "ratio", "roofline, ms", "forno / roofline", "PyTorch / roofline"), out)


def limits(found: dict) -> list[str]:
    sizes = list(next(iter(found["peaks"].values()))["bytes"])
    head = ("threads", "GFLOP/s", *(f"GB/s at {int(s) >> 10} KiB" if int(s) < 1 << 20 else f"GB/s at {int(s) >> 20} MiB" for s in sizes))
    return table(head, [(t, say(p["flops"] / 1e9, 0), *(say(p["bytes"][s] / 1e9, 0) for s in sizes)) for t, p in found["peaks"].items()])


def stamp(found: dict, english=True) -> str:
    return f"{found['date']}, {found['machine']}, {found['rounds']} rounds" + (", commit " if english else "，提交 ") + found["commit"]


def full(found: dict) -> list[str]:
    out: list[str] = []
    for threads in dict.fromkeys(r["threads"] for r in found["rows"] if r["program"]):
        out += [f"**Whole programs, {threads} thread{'s' * (threads > 1)}**", "", *programs(found, threads), ""]
    if any(r["program"] for r in found["rows"]): out += ["**First steps and memory**", "", *starts(found), ""]
    if any(not r["program"] for r in found["rows"]): out += ["**Families of kernels**", "", *families(found), ""]
    return [*out, "**Limits of the machine**", "", *limits(found), "", f"{stamp(found)}; the run took {found['minutes']:.0f} minutes."]


def short(found: dict, english: bool) -> list[str]:
    """The README's table: both numbers of threads in one row."""
    head = ("workload", "eager, 2 threads", "eager, 1 thread", "compiled, 2 threads", "compiled, 1 thread", "best peer, 2 threads", "first step, cold / warm", "peak memory")
    chinese = ("程序", "即时，2 线程", "即时，1 线程", "编译，2 线程", "编译，1 线程", "最快的同类，2 线程", "第一步，冷 / 热", "峰值内存")
    rows = {(r["name"], r["threads"]): r for r in found["rows"] if r["program"]}
    none, out = {"sides": {}}, []
    for name in dict.fromkeys(name for name, _ in rows):
        two, one = rows.get((name, 2), none), rows.get((name, 1), none)
        some = two if two is not none else one
        out.append((name, bold(eager(two)), bold(eager(one)), bold(compiled(two)), bold(compiled(one)), f"{bold(best(two))} {rival(two)}",
                    f"{say(first(some, 'forno eager', 'cold_s'))} / {say(first(some, 'forno eager'))} s", say(memory(some, "eager"))))
    means = [mean(f(r) for (_, t), r in rows.items() if t == threads) for f, threads in ((eager, 2), (eager, 1), (compiled, 2), (compiled, 1), (best, 2))]
    return [*table(head if english else chinese, [*out, ("*geometric mean*" if english else "*几何平均*", *map(bold, means), "", "")]), "", stamp(found, english)]


def rounded(value):
    """Numbers with the digits that mean something."""
    if isinstance(value, dict): return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list): return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
