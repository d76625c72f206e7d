"""What to type to get a plan: for pip, uv, conda, and as lines of a pyproject."""
from __future__ import annotations

from . import facts
from .plan import Plan
from .versions import satisfies


def index(p: Plan) -> str: return f"{facts.INDEX}/{p.tag}"


def requirements(p: Plan, local: bool = False) -> list[str]:
    return [f"{name}=={version}{f'+{p.tag}' if local and name != 'torchaudio' else ''}" for name, version in p.packages.items()]


def pip(p: Plan, reinstall: bool = False) -> list[str]:
    """As the official pages wrote it at the time of each release."""
    start, v = "pip install --force-reinstall" if reinstall else "pip install", p.release.version
    if str(v) == "1.8.2": return [f"{start} {' '.join(requirements(p))} --extra-index-url {facts.INDEX}/lts/1.8/{p.tag}"]
    if p.default: return [f"{start} {' '.join(requirements(p))}"]
    if satisfies(v, ">=2.0"): return [f"{start} {' '.join(requirements(p))} --index-url {index(p)}"]
    if satisfies(v, ">=1.11"): return [f"{start} {' '.join(requirements(p, True))} --extra-index-url {index(p)}"]
    return [f"{start} {' '.join(requirements(p, True))} -f {facts.INDEX}/torch_stable.html"]


def uv(p: Plan) -> list[str]:
    if p.default or not satisfies(p.release.version, ">=2.0"): return [c.replace("pip install", "uv pip install", 1) for c in pip(p)]
    return [f"uv pip install {' '.join(requirements(p))} --torch-backend={p.tag}"]


def bound(commands: list[str], python: str, installer: str = "") -> list[str]:
    """The same for one interpreter, so that no other environment is changed; by uv, where uv made it."""
    out = []
    for c in commands:
        if c.startswith("pip ") and installer == "uv": c = f"uv {c.replace('pip install', f'pip install --python {python}', 1)}"
        elif c.startswith("pip "): c = f"{python} -m {c}"
        elif c.startswith("uv pip install "): c = c.replace("uv pip install", f"uv pip install --python {python}", 1)
        out.append(c)
    return out
