"""PyTorch's database of samples on device "cuda" of a simulated machine, against torch on the CPU: what fails and why. A script, not a test.

    FORNO_GPU=sim python -m tests.gpu.sweep [--limit 2] [--seconds 60] [--kinds forward,gradient] [--dtype int64] [--tier 0 | --file operations.txt] [operation …]

Operations are walked in a child process, which a crash ends alone: the next one goes on behind it. `missing` is what raises NotImplementedError for device "cuda".
Tiers are the lists of tests/conformance; a file has an operation per line, of which those that the database lacks ("module:…") are left out.
What the simulated machine finds while an operation runs (races, memory used too late) is a failure of that operation.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ALIASED = {"as_strided:partial_views"}                        # samples that look at memory which a copy to a device doesn't take along
TIERS = pathlib.Path(__file__).parents[1] / "conformance"
T0 = TIERS / "t0.txt"


def names_in(path) -> list[str]:
    names = [line.split("#")[0].strip() for line in pathlib.Path(path).read_text().splitlines()]
    return [name for name in names if name and not name.startswith("module:") and name not in ALIASED]


# ---------------------------------------------------------------- the child
def on_gpu(walk, forno):
    """Let walk's functions give tensors of device "cuda", and look where results are."""
    given, same, called, seen, drawn = walk.given, walk.same, walk.called, [], []
    walk.UNDEFINED.update({"nn.functional.multi_head_attention_forward", "nn.functional.dropout2d", "nn.functional.dropout3d", "nn.functional.alpha_dropout",
                           "nn.functional.rrelu"})         # other numbers
    forno.backends.cudnn.allow_tf32 = False                # the reference is computed in float32

    def there(x):
        import torch
        if isinstance(x, torch.device) or x == "cpu": return "cuda"
        out = given(x)
        if not isinstance(out, forno.Tensor): return out
        seen.append(1)                         # factories are given none
        if out.is_cuda: return out
        return out.detach().cuda().requires_grad_(out.requires_grad)

    def compared(want, got, name, factor=1.0, values=True):
        assert got.is_cuda or not seen, f"the result is on {got.device}"
        return same(want, got, name, factor, values and not drawn)

    def anew(f, s, source, out=None):
        seen.clear()
        drawn[:] = [p for p in [s.kwargs.get("dropout_p")] if p]           # GPUs draw other numbers
        return called(f, s, source, out)
    walk.given, walk.same, walk.called = there, compared, anew


def child(limit: int, seconds: int, kinds: str = "", kind_of_number: str = ""):
    """Names come in by lines, results go out as lines of JSON."""
    import torch

    import forno
    from forno import gpu
    from tests.conformance import walk
    on_gpu(walk, forno)

    def late(*_): raise TimeoutError(f"longer than {seconds} s")
    signal.signal(signal.SIGALRM, late)
    machine, known = gpu.driver().machine, 0
    for line in sys.stdin:
        name = line.strip()
        found, begun, done = [], time.perf_counter(), 0
        print(json.dumps({"begin": name}), flush=True)
        signal.alarm(seconds)
        try:
            types = walk.INFOS[name].supported_dtypes("cpu")
            dtype = getattr(torch, kind_of_number or "float32")
            if dtype not in types and not kind_of_number: dtype = min(types, key=str)
            for kind, number, thunk in walk.checks(name, dtype, limit) if dtype in types else ():
                if kinds and kind not in kinds.split(","): continue
                done += 1
                try: thunk()
                except TimeoutError: raise
                except Exception as error: found.append([kind, number, type(error).__name__, str(error)[:400], where(error)])
        except Exception as error: found.append(["samples", 0, type(error).__name__, str(error)[:400], where(error)])
        finally: signal.alarm(0)
        if machine is not None:
            with contextlib.suppress(Exception): forno.cuda.synchronize()      # an operation's error was told where it was raised
            found += [["finding", 0, f.kind, str(f)[:400], ""] for f in machine.findings()[known:]]
            known = len(machine.findings())
        print(json.dumps({"name": name, "checks": done, "failed": found, "seconds": round(time.perf_counter() - begun, 1)}), flush=True)
        if any("CUDA_ERROR" in f[3] for f in found): sys.exit(1)               # the device is lost


def where(error) -> str:
    """The innermost place in forno that an error comes from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/forno/" in f.filename]
    return f"{frames[-1].filename.split('/forno/')[-1]}:{frames[-1].lineno}" if frames else ""


# ---------------------------------------------------------------- the parent
def walked(names: list[str], limit: int, seconds: int, kinds: str = "", dtype: str = ""):
    """Results by name; a child that dies is followed by another one. `kinds`: of checks, all by default. `dtype`: float32 by default, and another one where there is none."""
    todo = list(names)
    while todo:
        command = [sys.executable, "-m", "tests.gpu.sweep", "--child", "--limit", str(limit), "--seconds", str(seconds), "--kinds", kinds, "--dtype", dtype]
        errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={"FORNO_GPU": "sim", **os.environ})
        process.stdin.write("".join(n + "\n" for n in todo))
        process.stdin.close()
        current = todo[0]
        for line in process.stdout:
            said = json.loads(line) if line.startswith("{") else {}
            if "begin" in said: current = said["begin"]
            if "name" in said:
                todo.remove(said["name"])
                yield said
        code = process.wait()
        if current in todo:
            todo.remove(current)
            yield {"name": current, "checks": 0, "failed": [["crash", 0, f"exit {code}", last_words(errors), ""]], "seconds": 0}


def last_words(errors) -> str:
    errors.seek(0)
    return errors.read()[-300:]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*")
    p.add_argument("--tier", type=int, default=0, choices=(0, 1, 2))
    p.add_argument("--file")
    p.add_argument("--limit", type=int, default=2, help="samples per operation (0: all)")
    p.add_argument("--seconds", type=int, default=60, help="per operation")
    p.add_argument("--kinds", default="", help="of checks, with commas between them: forward, gradient, method, in-place, out= (default: all)")
    p.add_argument("--dtype", default="", help="of samples; operations without it are left out")
    p.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(a.limit, a.seconds, a.kinds, a.dtype)
    checks, good, missing, reasons = 0, 0, 0, collections.Counter()
    for r in walked(a.names or names_in(a.file or TIERS / f"t{a.tier}.txt"), a.limit, a.seconds, a.kinds, a.dtype):
        checks += r["checks"]
        absent = [f for f in r["failed"] if f[2] == "NotImplementedError" and "on device 'cuda'" in f[3]]
        wrong = [f for f in r["failed"] if f not in absent]
        missing += len(absent)
        good += r["checks"] - len(r["failed"])
        if wrong: print(f"FAIL {r['name']} ({len(wrong)} of {r['checks']}, {r['seconds']} s)")
        for kind, number, error, text, place in wrong:
            print(f"     {kind} {number}: {error} {place}: {' '.join(text.split())[:240]}")
        for f in absent: reasons[f[3].split(" on device")[0]] += 1
        sys.stdout.flush()
    print(f"{good} of {checks} checks pass, {missing} need kernels that are missing:")
    for text, n in reasons.most_common(): print(f"  {n:4} {text}")


if __name__ == "__main__": main()
