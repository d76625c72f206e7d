"""Writes what the documentation takes from the code: docs/flags.md, the printed parts of docs/architecture.md, and the tables of measurements in the
READMEs and docs/performance.md from bench/results/.

    python tools/pages.py            write
    python tools/pages.py --check    exit 1 if something that comes from the code is stale (measurements are written, not checked)
"""
from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import gpu_report, report
from forno.core import flags

PROGRAM = """\
import forno as torch

x = torch.ones(4, 3)
w = torch.ones(3, requires_grad=True)
b = torch.zeros(3, requires_grad=True)

y = (x * w + b).relu().sum()
y.backward()
print(w.grad)
"""
WATCHED = PROGRAM.replace("\ny = ", "\nfrom forno.framework.engine import flush; flush(); print('<<')\ny = ").replace(
    "print(w.grad)", "from forno.graph.line import LOCAL\nprint(*LOCAL.run.cur.program(), sep='\\n')\nprint('<<')\nw.grad.numpy()")


def printed() -> tuple[str, str]:
    """The example's lines and its plan with loops, as forno prints them."""
    with tempfile.TemporaryDirectory() as folder:
        env = {k: v for k, v in os.environ.items() if not k.startswith("FORNO_")}
        env |= {"PYTHONPATH": str(ROOT), "FORNO_SHOW": "4", "FORNO_CACHE_DIR": folder, "FORNO_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", WATCHED], env=env, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode: raise SystemExit(done.stderr)
    _, lines, plan = done.stdout.split("<<\n")
    return lines.rstrip(), "\n".join(l.rstrip() for l in plan.splitlines() if not l.startswith("run:"))


def filled(page: str) -> str:
    """The page with every marked block as it is now."""
    lines, plan = printed()
    for name, text in {"program": PROGRAM.rstrip(), "lines": lines, "plan": plan}.items():
        page = re.sub(rf"(<!-- {name} -->\n```\w*\n).*?(\n```)", lambda m, text=text: m[1] + text + m[2], page, flags=re.S)
    return page


def pages() -> dict[pathlib.Path, str]:
    architecture = ROOT / "docs" / "architecture.md"
    return {ROOT / "docs" / "flags.md": flags.page(), architecture: filled(architecture.read_text(encoding="utf-8"))}


def table(name: str, english: bool) -> str | None:
    """The measurements of this name as Markdown; None before anyone has measured. Whole programs have a short table (cpu) and full ones (programs)."""
    path = ROOT / "bench" / "results" / f"{'cpu' if name == 'programs' else name}.json"
    if not path.exists(): return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if name == "cpu": return "\n".join(report.short(found, english))
    if name == "programs": return "\n".join(report.full(found))
    if name == "gpu": return "\n".join(gpu_report.full(found))
    head = ("program", "lines per step", "µs per line", "with a flush before backward") if english else ("程序", "每步行数", "每行微秒数", "反向之前先执行")
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|---|"]
    lines += [f"| {r['name']} | {r['lines']} | {r['whole']:.2f} | {r['split']:.2f} |" for r in found["rows"]]
    return "\n".join([*lines, "", f"{found['date']}, {found['machine']}, {found['threads']} threads, commit {found['commit']}"])


def measured(page: str, english: bool) -> str:
    """A page with its tables as bench/results/ has them; tables that nobody has measured stay as they are."""
    def fill(m):
        text = table(m[2], english)
        return m[0] if text is None else m[1] + text + m[3]
    return re.sub(r"(<!-- bench: (\w+) -->\n).*?(\n<!-- /bench -->)", fill, page, flags=re.S)


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        for path in (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "docs" / "performance.md"):
            path.write_text(measured(path.read_text(encoding="utf-8"), path.name != "README.zh.md"), encoding="utf-8")
    stale = {p: text for p, text in pages().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    if "--check" in sys.argv[1:]: sys.exit(f"stale: {', '.join(p.name for p in stale)}; run python tools/pages.py" if stale else 0)
    for path, text in stale.items(): path.write_text(text, encoding="utf-8")
