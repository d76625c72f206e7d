"""forno on this machine's GPU, in one command: does it compute what it should, how far is it from the chip's limits, how fast is it beside PyTorch.

    python bench/gpu.py                     everything, in ten minutes at most; writes bench/results/gpu.json
    python bench/gpu.py --smoke             half a minute: the device, the first launch, every kind of kernel once against the CPU
    python bench/gpu.py --simulated --quick the same program on a simulated GPU with small sizes (times mean nothing); writes nothing

Everything that launches kernels does so in processes of its own (bench/gpu_cases.py), with a time limit per case: a kernel that faults or never ends costs its case, and
the next process goes on behind it. A section that runs out of its time says how many cases it didn't reach. Workloads are those of bench/run.py, timed the same way,
against PyTorch on the same GPU where a PyTorch with CUDA is installed; libraries' processes take turns. tools/pages.py makes the tables of docs/performance.md.
"""
from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import gpu_report  # noqa: E402
from gpu_cases import BROKEN, FAMILIES, SMOKE  # noqa: E402
from report import rounded  # noqa: E402
from run import Failed, Side  # noqa: E402
from workloads import PROGRAMS, WORKLOADS  # noqa: E402

START = 60                                     # seconds that a process may take until its first case is done, beyond the case's own
SHARES = {"smoke": 45, "limits": 40, "conformance": 150, "families": 110, "workloads": 230}      # seconds of a whole run
QUICK_NAMES = "add mul sum softmax matmul where cat transpose mean exp".split()
ASKED = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,temperature.gpu,pcie.link.gen.current,pcie.link.width.current"


class Brief(Side):
    """A worker that has little time."""
    patience = 90


class Walk:
    """Cases in child processes, one after the other; whatever ends a process, the next one goes on behind the case that did."""

    def __init__(self, kind: str, library: str, names, options, seconds: float, patience: float):
        self.command = [sys.executable, HERE / "gpu_cases.py", kind, library, *(["small"] if options.quick else [])]
        self.names, self.options, self.patience, self.until = list(names), options, patience, time.monotonic() + seconds
        self.found: dict[str, dict] = {}

    def run(self) -> dict:
        while len(self.found) < len(self.names) and time.monotonic() < self.until: self.child(self.names[len(self.found):])
        return self.found

    def child(self, names):
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen([str(c) for c in self.command], env=environment(self.options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=HERE.parent)
            try:
                with contextlib.suppress(BrokenPipeError):         # it ended at once
                    process.stdin.write("".join(f"{n}\n" for n in names).encode())
                    process.stdin.close()
                self.listen(process, names, errors)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def listen(self, process, names, errors):
        begun = START
        for name in names:
            limit = min(self.patience + begun, self.until - time.monotonic())
            said = line(process.stdout, limit)
            if said is None:                   # no answer in time
                if time.monotonic() < self.until: self.found[name] = {"failed": f"no answer in {limit:.0f} s"}
                return
            if not said:
                if begun or process.wait(10) != BROKEN: self.found[name] = {"failed": f"the process ended: {last_words(process, errors)}"}
                return
            self.found[name] = {k: v for k, v in json.loads(said).items() if k != "name"}
            begun = 0


def line(stream, seconds: float) -> bytes | None:
    """The next line that is JSON; empty at the end, None where it doesn't come in time."""
    until, text = time.monotonic() + seconds, b""
    while select.select([stream], [], [], max(0, until - time.monotonic()))[0]:
        byte = os.read(stream.fileno(), 1)
        if not byte: return b""
        text += byte
        if byte == b"\n":
            if text.startswith(b"{"): return text
            text = b""
    return None


def last_words(process, errors) -> str:
    process.wait(10)
    errors.seek(0)
    said = [t for t in errors.read().splitlines() if t.strip()]
    return f"exit status {process.returncode}{', ' + said[-1].strip()[:300] if said else ''}"


def environment(options) -> dict:
    return {**os.environ, "PYTHONPATH": str(HERE.parent), **({"FORNO_GPU": "sim"} if options.simulated else {})}


# ---------------------------------------------------------------- sections
def machine(options) -> dict:
    """What the driver says, and nvidia-smi where it is."""
    found = Walk("facts", "forno", ["facts"], options, 120, 60).run()["facts"]
    if "failed" in found: raise SystemExit(f"no GPU that forno can use: {found['failed']}")
    if shutil.which("nvidia-smi") and not options.simulated:
        done = subprocess.run(["nvidia-smi", "--id=0", f"--query-gpu={ASKED}", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            found["smi"] = dict(zip(ASKED.split(","), [x.strip() for x in done.stdout.strip().split(",")]))
            found["driver"] = found["smi"]["driver_version"]
    return found


def torch_on_gpu(options) -> bool:
    if options.simulated: return False
    done = subprocess.run([sys.executable, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"], capture_output=True, timeout=120, check=False)
    return done.returncode == 0


def samples(options) -> list[str]:
    """The conformance tests' first tier, where what it needs is installed."""
    if subprocess.run([sys.executable, "-c", "import torch, expecttest"], capture_output=True, check=False).returncode: return []
    return QUICK_NAMES if options.quick else (HERE.parent / "tests" / "conformance" / "t0.txt").read_text(encoding="utf-8").split()


def timed_families(options, seconds: float, peers: bool) -> dict:
    libraries = ["forno", "torch"] if peers else ["forno"]
    return {x: Walk("families", x, FAMILIES, options, seconds / len(libraries), 20).run() for x in libraries}


def beside(name: str, labels, options) -> dict:
    """Sides of one workload, asked for blocks of steps in turns."""
    more = {"FORNO_GPU": "sim"} if options.simulated else {}
    alive, found = {}, {}

    def attempt(label, work):
        try: return work()
        except (Failed, OSError) as e:
            found[label] = {"failed": str(e)}
            alive.pop(label, None)
            return None
    for label in labels:
        side = attempt(label, lambda label=label: Brief([sys.executable, HERE / "gpu_worker.py", *label.split(), name], 2, **more))
        if side is not None: alive[label] = side
    for _ in range(1 if options.quick else 3):
        for label, side in list(alive.items()): attempt(label, lambda side=side: side.block(0 if options.quick else 0.3))
    for label, side in list(alive.items()): found[label] = attempt(label, side.end) or found[label]
    return found


def workloads(options, seconds: float, peers: bool) -> dict:
    """Each without torch.compile, whose first steps take longest; then, with the time that is left, each against it."""
    found, until = {}, time.monotonic() + seconds
    first = ["torch eager"] * peers + ["forno eager"] + ["forno compile"] * (not options.quick)
    turns = [first, ["torch compile", "forno compile"]] if peers and not options.quick else [first]
    for labels in turns:
        for name in options.workloads:
            if time.monotonic() > until: say(f"{name}: no time left for {', '.join(labels)}"); continue
            sides = beside(name, labels, options)
            found[name] = found.get(name, {}) | sides
            say(f"{name}: " + ", ".join(f"{label} {s['failed'] if 'failed' in s else format(s['ms'], '.3g') + ' ms'}" for label, s in sides.items()))
    return found


def say(text: str): print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- the whole
def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only the device and every kind of kernel once")
    parser.add_argument("--simulated", action="store_true", help="a simulated GPU; times mean nothing")
    parser.add_argument("--quick", action="store_true", help="small sizes and few cases")
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), metavar="SECTION", help=f"of {', '.join(SHARES)}")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--seconds", type=float, help=f"for all sections together; {', '.join(f'{name} {s}' for name, s in SHARES.items())}")
    parser.add_argument("--out", type=pathlib.Path, help="where the numbers go; bench/results/gpu.json for a whole run on a GPU")
    options = parser.parse_args(given)
    if options.smoke: options.only = ["smoke"]
    if options.seconds is None: options.seconds = sum(SHARES[name] for name in options.only)
    if options.workloads is None: options.workloads = ["tiny"] if options.quick else list(PROGRAMS)
    whole = options.only == list(SHARES) and not options.quick and not options.simulated
    if options.out is None and whole: options.out = HERE / "results" / "gpu.json"
    return options


def measured(options) -> dict:
    started, found = time.monotonic(), {"smoke": {}, "conformance": {}, "limits": {}, "families": {}, "workloads": {}}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    found |= {"date": datetime.date.today().isoformat(), "commit": commit, "machine": machine(options), "planned": {"smoke": len(SMOKE), "conformance": 0}}
    m = found["machine"]
    say(f"{m['gpu']}, capability {'.'.join(map(str, m['capability']))}, {m['sms']} multiprocessors, {m['memory'] >> 20} MiB, CUDA {m['cuda']}")
    peers = bool({"families", "workloads"} & set(options.only)) and torch_on_gpu(options)

    def share(name): return options.seconds * SHARES[name] / sum(SHARES[s] for s in options.only)
    for name in options.only:
        if name == "smoke": found[name] = Walk("smoke", "forno", SMOKE, options, share(name), 15).run()
        elif name == "limits": found[name] = Walk("limits", "forno", ["limits"], options, share(name), 60).run().get("limits", {"failed": "no time"})
        elif name == "conformance":
            names = samples(options)
            found["planned"][name] = len(names)
            found[name] = Walk("conformance", "forno", names, options, share(name), 20).run()
        else: found[name] = {"families": timed_families, "workloads": workloads}[name](options, share(name), peers)
        say(f"{name}: {time.monotonic() - started:.0f} s")
    return found | {"minutes": (time.monotonic() - started) / 60}


def main():
    options = arguments()
    found = measured(options)
    print(*gpu_report.full(found), sep="\n")
    if options.out: options.out.write_text(json.dumps(rounded(found), indent=1) + "\n", encoding="utf-8")
    bad = [name for part in ("smoke", "conformance") for name, c in found[part].items() if "failed" in c]
    if bad: sys.exit(f"failed: {', '.join(bad)}")


if __name__ == "__main__": main()
