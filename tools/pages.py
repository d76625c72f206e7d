"""Writes what the documentation takes from the code: docs/flags.md, and the printed parts of docs/architecture.md.

    python tools/pages.py            write
    python tools/pages.py --check    exit 1 if something is stale
"""
from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

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


if __name__ == "__main__":
    stale = {p: text for p, text in pages().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    if "--check" in sys.argv[1:]: sys.exit(f"stale: {', '.join(p.name for p in stale)}; run python tools/pages.py" if stale else 0)
    for path, text in stale.items(): path.write_text(text, encoding="utf-8")
