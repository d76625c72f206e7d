"""What `forno doctor --json` prints, schema 1, as a description in Python, and what reads it.

A type stands for its values, None for null, a set for some values, a tuple for one of several, a list for a list of its only member, a dictionary for exactly its keys;
`Map()` for an object with any keys.
"""


class Map:
    """An object with any keys."""


TEXT = (str, None)
GPU = {"name": str, "capability": TEXT, "memory": (int, None), "uuid": TEXT, "source": str, "compute_mode": (int, None), "instances": ([str], None)}
SCHEMA = {
    "schema": {1}, "made": str, "program": str, "language": {"en", "zh"}, "code": {0, 1, 2}, "counts": {"error": int, "warning": int, "note": int},
    "cuda": {"driver": TEXT, "toolkit": TEXT, "torch": TEXT, "floor": TEXT,
             "verdict": {"fits", "too-old", "unverified", "no-driver", "no-cuda", "no-torch", "rocm", "jetson", "mac"}},
    "forno": {"device": {"gpu", "cpu", "nowhere", None}, "why": TEXT, "told": str},
    "findings": [{"id": str, "severity": {"error", "warning", "note"}, "area": str, "title": str, "cause": str, "fix": TEXT, "data": Map(), "evidence": [[str]],
                  "commands": [str], "verify": str}],
    "machine": {
        "system": {"platform": str, "name": str, "kernel": str, "glibc": TEXT, "container": TEXT, "wsl": ({1, 2}, None), "conda": TEXT, "musl": bool, "distribution": [str], "jetson": TEXT,
                   "secure_boot": (bool, None), "memory": (int, None), "free": (int, None), "shared": (int, None)},
        "python": {"executable": str, "version": str, "tag": str, "free": bool, "bits": {32, 64}, "prefix": str, "virtual": bool, "path": [str], "implementation": str, "machine": str,
                   "kernel": str, "musl": bool, "user": TEXT, "here": TEXT, "problem": TEXT, "said": str},
        "driver": {"kernel": TEXT, "library": TEXT, "library_rule": TEXT, "library_version": TEXT, "version": TEXT, "cuda": TEXT, "init": (int, None), "hung": bool, "error": TEXT,
                   "crashed": (int, None), "nvml": (int, None), "all": [GPU], "denied": [list]},
        "gpus": [GPU],
        "cards": [str], "bus": [{"address": str, "maker": str, "device": str, "driver": str}],
        "forno": ({"cuda": str, "ptx": TEXT, "works": bool}, None),
        "gpu_code": ({"architectures": [str], "source": str}, None),
        "toolkits": [{"path": str, "version": TEXT, "named_by": [str]}],
        "libraries": [{"kind": str, "path": str, "major": str, "version": TEXT, "package": TEXT, "manager": TEXT, "rule": TEXT, "by": TEXT, "instead": TEXT}],
        "torch": ({"version": str, "folder": str, "cuda": TEXT, "tag": str, "source": str}, None),
        "packages": [{"name": str, "version": str, "site": str, "installer": str}],
    },
}


def wrong(value, wanted=SCHEMA, at="") -> list[str]:
    """Where a value isn't what was described."""
    if isinstance(wanted, tuple): return [] if any(not wrong(value, w, at) for w in wanted) else [f"{at}: {value!r}"]
    if isinstance(wanted, set): return [] if value in wanted and type(value) in map(type, wanted) else [f"{at}: {value!r} is none of {wanted}"]
    if isinstance(wanted, Map): return [] if isinstance(value, dict) else [f"{at}: no object"]
    if wanted is None: return [] if value is None else [f"{at}: {value!r}"]
    if isinstance(wanted, list): return [x for k, v in enumerate(value) for x in wrong(v, wanted[0], f"{at}[{k}]")] if isinstance(value, list) else [f"{at}: no list"]
    if isinstance(wanted, dict):
        if not isinstance(value, dict): return [f"{at}: no object"]
        return [f"{at}: {k} is missing" for k in wanted.keys() - value.keys()] + [f"{at}: {k} isn't described" for k in value.keys() - wanted.keys()] \
            + [x for k in wanted.keys() & value.keys() for x in wrong(value[k], wanted[k], f"{at}.{k}".lstrip("."))]
    return [] if wanted is object or type(value) is wanted else [f"{at}: {value!r} is no {wanted.__name__}"]


def keys(wanted=SCHEMA, at="") -> list[str]:
    """Every key, as "machine.gpus.name"."""
    if isinstance(wanted, (tuple, list)): return [k for w in wanted for k in keys(w, at)]
    if not isinstance(wanted, dict): return []
    return [x for k, w in wanted.items() for x in (f"{at}{k}", *keys(w, f"{at}{k}."))]
