"""Run as a program: `run.py torch|forno NAME…` runs programs/NAME.py one after another in this process and prints a line of JSON for each.

For forno the imports are changed as the README says, `import torch` to `import forno as torch`; nothing else is.
"""
import contextlib
import io
import json
import pathlib
import re
import sys
import traceback
import types

PROGRAMS = pathlib.Path(__file__).parent / "programs"
IMPORTS = [(r"^import torch$", "import forno as torch"), (r"^import torch\.([\w.]+) as", r"import forno.\1 as"), (r"^import torch\.", "import forno."),
           (r"^from torch\b", "from forno")]


def source(name: str, library: str) -> str:
    text = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    for pattern, new in IMPORTS if library == "forno" else ():
        text = re.sub(pattern, new, text, flags=re.M)
    return text


def run(name: str, library: str) -> dict:
    out, error = io.StringIO(), None
    sys.modules["__main__"] = main = types.ModuleType("__main__")        # where pickle looks for its classes
    with contextlib.redirect_stdout(out):
        try: exec(compile(source(name, library), f"{name}.py", "exec"), main.__dict__)
        except Exception: error = traceback.format_exc()
    return {"name": name, "out": out.getvalue(), "error": error}


if __name__ == "__main__":
    for name in sys.argv[2:]: print(json.dumps(run(name, sys.argv[1])), flush=True)
