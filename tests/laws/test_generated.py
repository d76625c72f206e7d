"""What is generated from the code is what the code would generate now, and names that the libraries use exist."""
import ast
import subprocess
import sys

import pytest

import forno
from forno.framework import api

from .tree import ROOT, files, parsed


@pytest.mark.parametrize("tool", ["pages", "stubs"])
def test_fresh(tool):
    """docs/flags.md and what docs/architecture.md prints; forno/framework/api.pyi."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--check"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_operations_named():
    """docs/operations.md knows every row and every entry of the lists; what it says of each is tried again where time allows."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "operations.py"), "--rows"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_operations_tried():
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "operations.py"), "--check"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr


def stub_returns():
    """Tensor methods that the stub shows without required arguments, with what it says they return."""
    tree = ast.parse((ROOT / "forno" / "framework" / "api.pyi").read_text(encoding="utf-8"))
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    for f in cls.body:
        if not isinstance(f, ast.FunctionDef) or f.decorator_list or f.name.startswith("__"): continue
        required = len(f.args.args) - 1 - len(f.args.defaults) + sum(d is None for d in f.args.kw_defaults)
        if required == 0 and f.args.vararg is None and not f.name.endswith("_") and f.name not in ("backward", "retain_grad", "share_memory_"):
            yield f.name, ast.unparse(f.returns)


@pytest.mark.parametrize(("name", "said"), list(stub_returns()))
def test_stub_says_what_comes_back(name, said):
    wanted = {"Tensor": forno.Tensor, "_bool": bool, "_int": int, "_float": float, "_str": str, "_Size": forno.Size, "_dtype": forno.dtype, "None": type(None)}
    if said.startswith("_tuple"): wanted[said] = tuple
    if said == "_Any": return
    x = forno.tensor([[1.0, 0.5], [0.25, 2.0]])
    try: out = getattr(x, name)()
    except (RuntimeError, TypeError, NotImplementedError, ValueError, IndexError, AssertionError): return          # an operation on other dtypes or shapes
    assert isinstance(out, wanted[said]), f"{name}() returned {type(out).__name__}, the stub says {said}"


def used_names():
    """`torch.x` and `F.x` where torch is forno's own namespace, in the libraries above it."""
    for path in files():
        part = path.relative_to(ROOT / "forno").parts[0]
        if part not in ("nn", "optim", "utils", "vision", "distributions", "demo.py"): continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch": yield node.attr, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_libraries_use_names_that_exist():
    missing = {}
    for name, where in used_names():
        if not hasattr(api, name) and not hasattr(forno, name): missing.setdefault(name, []).append(where)
    assert not missing, missing
