"""torch.hub: weights from the web, and models from a folder with a hubconf.py. Code is never fetched."""
from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tempfile
import urllib.request
from urllib.parse import urlparse

from .core.errors import unsupported
from .framework.serialize import load as load_file

__all__ = ["download_url_to_file", "get_dir", "help", "list", "load", "load_state_dict_from_url", "set_dir"]
_dir: str | None = None
_HASH = re.compile(r"-([a-f0-9]*)\.")


def get_dir() -> str:
    if _dir is not None: return _dir
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return os.path.join(os.path.expanduser(home), "hub")


def set_dir(d):
    global _dir
    _dir = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True):
    """The file appears at `dst` whole, and only when its SHA-256 begins with `hash_prefix`."""
    folder = os.path.dirname(os.path.expanduser(dst)) or "."
    os.makedirs(folder, exist_ok=True)
    digest = hashlib.sha256()
    fd, part = tempfile.mkstemp(dir=folder)
    try:
        with open(fd, "wb") as out, urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "forno"})) as source:
            while chunk := source.read(1 << 20):
                out.write(chunk)
                digest.update(chunk)
        if hash_prefix and not digest.hexdigest().startswith(hash_prefix): raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}")')
        os.replace(part, os.path.expanduser(dst))
    finally:
        if os.path.exists(part): os.unlink(part)


def load_state_dict_from_url(url: str, model_dir=None, map_location=None, progress=True, check_hash=False, file_name=None, weights_only=True):
    """Loads weights, downloaded once into the hub's folder."""
    folder = model_dir or os.path.join(get_dir(), "checkpoints")
    path = os.path.join(folder, file_name or os.path.basename(urlparse(url).path))
    if not os.path.exists(path):
        known = _HASH.search(os.path.basename(path)) if check_hash else None
        download_url_to_file(url, path, known[1] if known else None, progress)
    return load_file(path, map_location=map_location, weights_only=weights_only)


def _entries(repo_or_dir, source):
    if source != "local": raise unsupported(f"torch.hub with source='{source}'", instead="clone the repository and pass its folder with source='local'")
    path = os.path.join(repo_or_dir, "hubconf.py")
    spec = importlib.util.spec_from_file_location("hubconf", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(repo_or_dir))
    try: spec.loader.exec_module(module)
    finally: sys.path.remove(str(repo_or_dir))
    return {name: f for name, f in vars(module).items() if callable(f) and not name.startswith("_")}


def list(github, force_reload=False, skip_validation=False, trust_repo=None, verbose=True, *, source="github"): return [*_entries(github, source)]
def help(github, model, force_reload=False, skip_validation=False, trust_repo=None, *, source="github"): return _entry(github, model, source).__doc__


def load(repo_or_dir, model, *args, source="github", trust_repo=None, force_reload=False, verbose=True, skip_validation=False, **kw):
    return _entry(repo_or_dir, model, source)(*args, **kw)


def _entry(repo_or_dir, model, source):
    found = _entries(repo_or_dir, source)
    if model not in found: raise RuntimeError(f"Cannot find callable {model} in hubconf")
    return found[model]
