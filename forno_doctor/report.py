"""A report as one screen of text. Comes in: a Report and words. Goes out: text, coloured for a terminal or plain."""
from __future__ import annotations

from .diagnose import Report
from .finding import ERROR, NOTE, WARNING
from .words import Words

COLOURS = {ERROR: "31", WARNING: "33", NOTE: "36", "good": "32", "quiet": "2", "strong": "1"}


def text(report: Report, words: Words, colour: bool = False) -> str:
    paint = (lambda kind, t: f"\033[{COLOURS[kind]}m{t}\033[0m") if colour else (lambda kind, t: t)
    lines = [f"{paint('quiet', words(f'report.{key}').ljust(12))} {value}" for key, value in rows(report, words)]
    for f in report.findings:
        lines += ["", f"{paint(f.severity, words('report.' + f.severity))}: {paint('strong', words(f'{f.id}.title', **f.data))}  [{f.id}]", f"  {words(f'{f.id}.cause', **f.data)}"]
        lines += [f"    {what}: {where}" for what, where in f.evidence] + [f"  $ {c}" for c in f.commands]
        if f.verify: lines.append(f"  {words('report.verify')}: {f.verify}")
    if not report.findings: lines += ["", paint("good", words("report.healthy"))]
    return "\n".join(lines)


def rows(report: Report, words: Words) -> list[tuple[str, str]]:
    """(what, value) from the ground up."""
    m, none = report.machine, words("report.none")
    gpus = [f"{g.name}, {g.capability or '?'}, {(g.memory or 0) >> 20} MiB" for g in m.gpus]
    packages = [f"{p.name} {p.version}" for p in m.related()]
    return [("system", f"{m.system.name}, {m.system.platform}, glibc {m.system.glibc or '?'}"), ("gpu", "; ".join(gpus) or none),
            ("driver", f"{m.driver.version}, CUDA {m.driver.cuda or '?'}" if m.driver.version else none),
            ("toolkit", "; ".join(f"{t.version or '?'} ({t.path})" for t in m.toolkits) or none),
            ("python", f"{m.python.version} ({m.python.executable})"),
            ("torch", f"{m.torch.version} ({m.torch.folder})" if m.torch else none),
            ("packages", ", ".join(packages) or none)]
