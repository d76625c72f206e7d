"""What to type to get a plan: for pip, uv and conda, and as lines of files. The forms are those that pytorch.org's "previous versions" page printed for each release."""
from __future__ import annotations

from . import facts
from .plan import Plan
from .versions import at_least, satisfies

# CUDA builds that pip had and conda's channel did not, with the releases of which that is so (by the same page)
NOT_ON_CONDA = {"cu101": ">=1.8", "cu111": ">1.8.0", "cu115": ">=0"}
LAST_ON_CONDA = "2.5.1"


def index(p: Plan) -> str: return f"{facts.INDEX}/{p.tag}"


def requirements(p: Plan, local: bool = False) -> list[str]:
    """"torch==2.6.0", or with its build: "torch==2.6.0+cu126"; a range (triton's) as it is. Before 2.0 torchaudio's wheels weren't named with theirs."""
    out = []
    for name, version in p.packages.items():
        without = name == "triton" or name == "torchaudio" and satisfies(p.release.version, "<2.0")
        build = f"+{p.tag}" if local and not without else ""
        out.append(f"{name}{'==' if version[:1].isdigit() else ''}{version}{build}")
    return out


def plain(p: Plan) -> bool:
    """Is it enough to name the packages? On macOS; where only the package index's own wheel is known to fit; and for its build, where the official pages said so."""
    v, limited = p.release.version, p.target.glibc and not at_least(p.target.glibc, facts.highest_glibc())
    return p.target.platform.startswith("macos") or p.default and (bool(limited) or satisfies(v, "<1.8.1") or satisfies(v, "==2.0.*")) or satisfies(v, "<1.2")


def pip(p: Plan, reinstall: bool = False) -> list[str]:
    """`reinstall`: all of it again, with what it needs."""
    start, v = "pip install --force-reinstall" if reinstall else "pip install", p.release.version
    if str(v) == "1.8.2": return [f"{start} {' '.join(requirements(p))} --extra-index-url {facts.INDEX}/lts/1.8/{p.tag}"]
    if plain(p): return [f"{start} {' '.join(requirements(p))}"]
    if satisfies(v, ">=2.0"): return [f"{start} {' '.join(requirements(p))} --index-url {index(p)}"]
    if satisfies(v, ">=1.11"): return [f"{start} {' '.join(requirements(p, True))} --extra-index-url {index(p)}"]
    return [f"{start} {' '.join(requirements(p, True))} -f {facts.INDEX}/torch_stable.html"]


def named(p: Plan) -> bool:
    """Are the index's wheels of torch known to have their build in their versions?"""
    return p.tag != "cpu" or p.target.platform in ("linux_x86_64", "windows_x86_64")


def index_options(p: Plan) -> list[str]: return [] if plain(p) else f"--index-url {index(p)}".split()


def pip_instead(p: Plan) -> list[str]:
    """Where another build of the same version is installed, which installers take for this one: named with their builds the packages are replaced, and nothing else is."""
    if plain(p) or not named(p) or satisfies(p.release.version, "<2.0"): return pip(p, reinstall=plain(p) or not named(p))
    return [f"pip install {' '.join(requirements(p, True))} --index-url {index(p)}"]


def uv(p: Plan) -> list[str]:
    if plain(p) or not satisfies(p.release.version, ">=2.0"): return [c.replace("pip install", "uv pip install", 1) for c in pip(p)]
    return [f"uv pip install {' '.join(requirements(p))} --torch-backend={p.tag}"]


def uv_project(p: Plan) -> tuple[str, str]:
    """For a project that uv manages: lines of pyproject.toml that bind these packages, and only these, to their index; and the command that adds them."""
    add = f"uv add {' '.join(requirements(p))}"
    if plain(p) or not satisfies(p.release.version, ">=2.0"): return "", add
    name = f"pytorch-{p.tag.replace('.', '-')}"
    where = "sys_platform == 'linux'" if p.tag.startswith("rocm") else "sys_platform == 'linux' or sys_platform == 'win32'"
    sources = [f'{package} = [{{ index = "{name}", marker = "{where}" }}]' for package in p.packages]
    return "\n".join(["[[tool.uv.index]]", f'name = "{name}"', f'url = "{index(p)}"', "explicit = true", "", "[tool.uv.sources]", *sources]), add


def requirements_file(p: Plan) -> list[str]:
    """Lines of a requirements.txt whose other packages still come from the package index."""
    if plain(p) or p.default: return requirements(p)
    if satisfies(p.release.version, "<1.11"): return [f"--find-links {facts.INDEX}/torch_stable.html", *requirements(p, True)]
    return [f"--extra-index-url {index(p)}", *requirements(p, True)]


def conda(p: Plan) -> list[str]:
    """From PyTorch's own channel, which ends at 2.5.1; nothing where it had no such build."""
    v, platform = p.release.version, p.target.platform
    if satisfies(v, f">{LAST_ON_CONDA}") or p.target.python.endswith("t") or platform == "linux_aarch64" or p.tag.startswith(("rocm", "xpu")) or str(v) == "1.8.2": return []
    if p.tag in NOT_ON_CONDA and satisfies(v, NOT_ON_CONDA[p.tag]) or "triton" in p.packages: return []
    early = p.tag == "cpu" and satisfies(v, "<1.2") and not platform.startswith("macos")
    names = [r.replace("torch==", "pytorch==", 1) if r.startswith("torch==") else r for r in requirements(p)]
    names = [r.replace("==", "-cpu==", 1) for r in names] if early else names
    if platform.startswith("macos"): more = "-c pytorch"
    elif p.tag == "cpu": more = "cpuonly -c pytorch"
    else: more = _toolkit(p)
    return [f"conda install {' '.join(names)} {more}"]


def _toolkit(p: Plan) -> str:
    """The package that brings CUDA, and where it was."""
    v, cuda = p.release.version, f"{p.tag[2:-1]}.{p.tag[-1]}"
    if satisfies(v, ">=1.13"): return f"pytorch-cuda={cuda} -c pytorch -c nvidia"
    if satisfies(v, "==1.0.0"): return f"cuda{p.tag[2:]} -c pytorch"
    elsewhere = at_least(cuda, "11.1") and not (cuda == "11.3" and satisfies(v, ">=1.11"))
    return f"cudatoolkit={cuda} -c pytorch" + (" -c conda-forge" if elsewhere else "")


def conda_forge(p: Plan) -> list[str]:
    """conda-forge makes builds of its own; which ones isn't in the tables."""
    if p.tag.startswith(("rocm", "xpu")): return []
    build = "" if p.target.platform.startswith("macos") else "=cpu*" if p.tag == "cpu" else "=cuda*"
    more = "".join(f" {n}={v}" for n, v in p.packages.items() if n in ("torchvision", "torchaudio"))
    return [f'conda install -c conda-forge "pytorch={p.packages["torch"]}{build}"{more}']


def quoted(word: str) -> str:
    """As every shell takes it."""
    return f'"{word}"' if " " in word else word


def bound(commands: list[str], python: str, installer: str = "") -> list[str]:
    """The same for one interpreter, so that no other environment is changed; by uv, where uv made it."""
    out, program = [], quoted(python)
    for c in commands:
        if c.startswith("pip ") and installer == "uv": c = f"uv {c.replace('pip install', f'pip install --python {program}', 1)}"
        elif c.startswith("pip "): c = f"{program} -m {c}"
        elif c.startswith("uv pip install "): c = c.replace("uv pip install", f"uv pip install --python {program}", 1)
        out.append(c)
    return out
