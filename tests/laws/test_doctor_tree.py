"""The doctor stands alone: the standard library only, imports only go down, and every file can be read."""
import ast
import sys

from .tree import files, imports, module, parsed
from .test_tree import LONGEST

# From the ground up; a file imports only what stands before it, files of one folder never each other.
ORDER = ("versions", "files", "words", "facts", "elf", "pe", "fatbin", "host", "loader", "dlls", "system", "nvidia", "requirements", "packages", "libraries", "extensions", "machine", "finding", "plan", "commands",
         "apply", "checks", "diagnose", "redact", "report", "page", "table", "explain", "probe", "prove", "on_ray", "verify", "fleet", "age", "cli", "entry", "__main__", "__init__")


def place(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_imports_go_down_and_stay_in_the_standard_library():
    wrong = []
    for path in files("forno_doctor"):
        here = place(module(path))
        for target, line in imports(path):
            if target.split(".")[0] != "forno_doctor": ok = target.split(".")[0] in sys.stdlib_module_names
            elif place(target) == here: ok = path.name == "__init__.py" or place(target) in ("checks", "cli") and target.split(".")[-1] in ("common",)
            else: ok = ORDER.index(place(target)) < ORDER.index(here)
            if not ok: wrong.append(f"{path.name}:{line}: {target}")
    assert not wrong, wrong


def test_files_say_what_they_are_and_can_be_read():
    for path in files("forno_doctor"):
        assert ast.get_docstring(parsed(path)), path
        assert path.read_text(encoding="utf-8").count("\n") <= LONGEST, path
        hidden = [n.lineno for f in ast.walk(parsed(path)) if isinstance(f, (ast.FunctionDef, ast.ClassDef)) for n in ast.walk(f) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not hidden, f"{path.name}: imports inside functions at {hidden}"
