"""The source tree as the laws read it: files, their imports by ast, and the floors."""
from __future__ import annotations

import ast
import functools
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]

# What each part may import besides itself. docs/architecture.md says why; a new arrow is a decision, not a detail.
BELOW = {
    "core": (),
    "cpu": ("core",),
    "gpu": ("core", "cpu"),
    "graph": ("core",),
    "plan": ("core",),
    "cudart": ("core", "cpu", "gpu"),
    "kernel": ("core", "cpu"),
    "dnn": ("core",),
    "show": ("core", "cpu"),
    "framework": ("core", "gpu", "cpu", "cudart", "graph", "plan", "kernel", "dnn", "show"),
    "doctor": (),
}
# Everything else is a library under one of PyTorch's own names, written with the framework: it may import other libraries (never in a circle), and
# no floor may import it.
LIBRARY = ("core", "framework")
MORE = {"backends": ("cpu",)} | dict.fromkeys(("mps", "utils", "xpu"), ("gpu",)) | {"cuda": ("gpu", "cudart"), "nn": ("cudart",)}      # they ask for what no tensor can tell
ENTRANCES = ("__init__", "__main__", "cli", "demo")              # they may import anything below and nothing imports them


@functools.cache
def files(folder: str = "forno") -> tuple[pathlib.Path, ...]:
    return tuple(sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts))


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module: return ast.parse(path.read_text(encoding="utf-8"))


def module(path: pathlib.Path) -> str:
    """forno/plan/__init__.py -> forno.plan"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(name: str) -> str:
    """The part a module belongs to; `__init__` for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def allowed(a: str, b: str) -> bool:
    """May part a import part b?"""
    if a == b or a in ENTRANCES: return True
    if b in ENTRANCES: return False
    if a in BELOW: return b in BELOW[a]
    return b in LIBRARY or b not in BELOW or b in MORE.get(a, ())


def imports(path: pathlib.Path, everything: bool = False) -> list[tuple[str, int]]:
    """(module, line) of what runs when the file is imported; relative names resolved, `from . import x` as package.x where x is a module."""
    package = path.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import): found += [(a.name, node.lineno) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*package[:len(package) - node.level + 1], *(node.module or "").split(".")) if node.level else (node.module,)).rstrip(".")
            for a in node.names:
                inner = f"{base}.{a.name}"
                found.append((inner if is_module(inner) else base, node.lineno))
    return found


@functools.cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@functools.cache
def tracked() -> tuple[pathlib.Path, ...]:
    """Every file of the repository: what git knows, or the whole tree of an unpacked archive."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode: return tuple(p for p in ROOT.rglob("*") if p.is_file())
    return tuple(ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file())
