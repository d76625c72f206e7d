"""forno on this machine's GPU, in one command: does it compute what it should, how far is it from the chip's limits, how fast is it beside PyTorch.

    python bench/gpu.py                     everything, in less than ten minutes; writes bench/results/gpu.json
    python bench/gpu.py --smoke             half a minute: the device, the first launch, every kind of kernel once against the CPU
    python bench/gpu.py --simulated --quick the same program on a simulated GPU with small sizes (times mean nothing); writes nothing

Everything that launches kernels does so in processes of its own (bench/gpu_cases.py), with a time limit per case: a kernel that faults or never ends costs its case, and
the next process goes on behind it. Each section has a share of the time, and what one leaves the next ones have; cases that nobody reached are counted. The file is
written anew after every section and every few seconds within one, so a run that is ended leaves what it has. The PTX of cases that failed, hung or ended their process
lies in an archive beside it, with the errors' whole text. Workloads are those of bench/run.py, timed the same way, against PyTorch on the same GPU where a PyTorch with
CUDA is installed; libraries' processes take turns. tools/pages.py makes the tables of docs/performance.md.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import gpu_report  # noqa: E402
from gpu_cases import BROKEN, FAMILIES, SMOKE  # noqa: E402
from gpu_limits import LIMITS  # noqa: E402
from report import rounded  # noqa: E402
from run import Failed, Side  # noqa: E402
from workloads import PROGRAMS, WORKLOADS  # noqa: E402

START = 60                                     # seconds that a process may take until its first case is done, beyond the case's own
FACTS = 60                                     # and until it has said what the device is
WHOLE = 560                                    # of a whole run, with all around it
SHARES = {"smoke": 60, "limits": 30, "conformance": 170, "families": 90, "workloads": 190}       # how sections share them
PATIENCE = {"smoke": 20, "limits": 20, "conformance": 25, "families": 25, "workloads": 75}       # seconds of one case
OFTEN = 5                                      # seconds between two files
SIDE_BY_SIDE = 6                               # processes that compare samples
QUICK_NAMES = "add mul sum softmax matmul where cat transpose mean exp".split()
FIRST = "resnet18", "gpt", "lstm_lm"         # of the workloads, which not all may be reached
ASKED = ("name,driver_version,vbios_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.draw,power.limit,temperature.gpu,utilization.gpu,memory.used,"
         "pcie.link.gen.current,pcie.link.width.current")


class Brief(Side):
    """A worker that has little time."""

    def __init__(self, patience: float, *command, **more):
        self.patience = patience
        super().__init__(*command, **more)

    def end(self) -> dict:
        killer = threading.Timer(self.patience, self.process.kill)
        killer.start()
        try: return super().end()
        finally: killer.cancel()


class Results:
    """All that was found so far, and the file where it is kept."""

    def __init__(self, options):
        self.found: dict = {name: {} for name in SHARES}
        self.options, self.began, self.saved, self.lock = options, time.monotonic(), 0.0, threading.Lock()
        self.kept = pathlib.Path(tempfile.mkdtemp(prefix="forno-bench-"))

    def left(self) -> float: return self.began + self.options.seconds - time.monotonic()

    def save(self, often: bool = False):
        """All of it or nothing: whoever reads the file finds a whole one."""
        with self.lock:
            if self.options.out is None or often and time.monotonic() - self.saved < OFTEN: return
            self.found["minutes"] = (time.monotonic() - self.began) / 60
            replaced(self.options.out, lambda path: path.write_text(json.dumps(rounded(self.found), indent=1) + "\n", encoding="utf-8"))
            self.saved = time.monotonic()

    def archive(self):
        """What failed cases left."""
        files = sorted(p for p in self.kept.rglob("*") if p.is_file())
        if self.options.out is not None and files:
            with self.lock: replaced(self.options.out.with_suffix(".failed.zip"), lambda path: packed(path, files, self.kept))

    def end(self): shutil.rmtree(self.kept, ignore_errors=True)


def replaced(path: pathlib.Path, write):
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(beside)
    os.replace(beside, path)


def packed(path, files, root):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for f in files: z.write(f, f.relative_to(root))


class Walk:
    """Cases in child processes, one after the other; whatever ends a process, the next one goes on behind the case that did."""

    def __init__(self, kind: str, library: str, names, options, seconds: float, patience: float, kept=None, told=lambda: None):
        self.command = [sys.executable, HERE / "gpu_cases.py", kind, library, *(["small"] if options.quick else [])]
        self.names, self.options, self.patience, self.until, self.kept, self.told = list(names), options, patience, time.monotonic() + seconds, kept, told
        self.found, self.process = {}, None

    def stop(self):
        """From another thread: no case is begun any more, and the one that runs is dropped."""
        self.until = 0
        if self.process is not None: self.process.kill()

    def run(self) -> dict:
        while len(self.found) < len(self.names) and time.monotonic() < self.until: self.child(self.names[len(self.found):])
        return self.found

    def child(self, names):
        with tempfile.TemporaryFile("w+") as errors:
            self.process = process = subprocess.Popen([str(c) for c in self.command], env=environment(self.options, self.kept), stdin=subprocess.PIPE,
                                                      stdout=subprocess.PIPE, stderr=errors, cwd=HERE.parent)
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
            if not said and time.monotonic() > self.until: return
            if not said:
                if begun or process.wait(10) != BROKEN: self.found[name] = {"failed": f"the process ended: {last_words(process, errors)}"}
                return
            self.found[name] = {k: v for k, v in json.loads(said).items() if k != "name"}
            self.told()
            begun = 0


def beside_each_other(walks: list[Walk]):
    """Several walks at once."""
    with concurrent.futures.ThreadPoolExecutor(len(walks)) as pool:
        try: list(pool.map(Walk.run, walks))
        except BaseException:
            for w in walks: w.stop()
            raise


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
    with contextlib.suppress(subprocess.TimeoutExpired): process.wait(10)
    errors.seek(0)
    said = [t for t in errors.read().splitlines() if t.strip()]
    return f"exit status {process.returncode}{', ' + said[-1].strip()[:300] if said else ''}"


def environment(options, kept=None) -> dict:
    return {**os.environ, "PYTHONPATH": str(HERE.parent), **({"BENCH_KEPT": str(kept)} if kept else {}), **({"FORNO_GPU": "sim"} if options.simulated else {})}


# ---------------------------------------------------------------- what there is
def machine(options) -> dict:
    """What the driver says, and nvidia-smi where it is."""
    found = Walk("facts", "forno", ["facts"], options, FACTS, FACTS).run().get("facts", {"failed": f"the driver doesn't answer in {FACTS} s"})
    if "failed" in found: raise SystemExit(f"no GPU that forno can use: {found['failed']}")
    found |= {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count(), **versions("numpy", "llvmlite", "torch")}
    found["smi"] = smi(options)
    found["driver"] = found["smi"].get("driver_version") or found["kernel_module"]
    return found


def smi(options) -> dict:
    """Clocks, temperature and the like, now."""
    if options.simulated or not shutil.which("nvidia-smi"): return {}
    try: done = subprocess.run(["nvidia-smi", "--id=0", f"--query-gpu={ASKED}", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired: return {}
    return dict(zip(ASKED.split(","), [x.strip() for x in done.stdout.strip().split(",")])) if done.returncode == 0 else {}


def versions(*names: str) -> dict:
    """Of installed packages, without importing them."""
    out = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError): out[name] = importlib.metadata.version(name)
    return out


def asked(code: str, seconds: float = 60) -> str:
    """Why a line of Python fails in a process of its own; empty: it doesn't."""
    try: done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired: return f"no answer in {seconds:.0f} s"
    return "" if not done.returncode else (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]


def commit(options) -> str:
    """What is measured: changes that were not committed are said."""
    if options.commit: return options.commit
    if not shutil.which("git"): return "unknown"
    head, changed = (subprocess.run(["git", *a.split()], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
                     for a in ("rev-parse --short HEAD", "status --porcelain --untracked-files=no"))
    return head + (" and changes" if changed else "") if head else "unknown"


# ---------------------------------------------------------------- sections
def samples(r: Results) -> list[str]:
    """The conformance tests' first tier, where PyTorch is installed."""
    if why := asked("import torch, torch.testing"):
        r.found["absent"]["conformance"] = f"PyTorch's samples need PyTorch: {why}"
        return []
    return QUICK_NAMES if r.options.quick else (HERE.parent / "tests" / "conformance" / "t0.txt").read_text(encoding="utf-8").split()


def conformance(r: Results, seconds: float):
    names = samples(r)
    r.found["planned"]["conformance"] = len(names)
    many = 1 if r.options.quick else max(1, min(SIDE_BY_SIDE, (os.cpu_count() or 1) // 2))
    walks = [Walk("conformance", "forno", names[k::many], r.options, seconds, PATIENCE["conformance"], r.kept) for k in range(many)]
    for w in walks: w.found, w.told = r.found["conformance"] if many == 1 else w.found, lambda: gathered(r, walks)
    beside_each_other(walks)
    gathered(r, walks)


def gathered(r: Results, walks):
    with r.lock:
        for w in walks: r.found["conformance"].update(w.found)
    r.save(often=True)


def walked(r: Results, kind: str, library: str, names, seconds: float, into: dict):
    w = Walk(kind, library, names, r.options, seconds, PATIENCE[kind], r.kept, lambda: r.save(often=True))
    w.found = into
    w.run()


def families(r: Results, seconds: float, peers: bool):
    libraries = ["forno", "torch"] if peers else ["forno"]
    for x in libraries: walked(r, "families", x, FAMILIES, seconds / len(libraries), r.found["families"].setdefault(x, {}))


def beside(name: str, labels, options, until: float, kept=None) -> dict:
    """Sides of one workload, asked for blocks of steps in turns."""
    more = {k: v for k, v in environment(options, kept).items() if os.environ.get(k) != v and k != "PYTHONPATH"}
    alive, found = {}, {}

    def attempt(label, work):
        try: return work(max(1, min(PATIENCE["workloads"], until - time.monotonic())))
        except (Failed, OSError, ValueError) as e:
            found[label] = {"failed": str(e)}
            alive.pop(label, None)
            return None

    def block(side, patience):
        side.patience = patience
        side.block(0 if options.quick else 0.3)
    try:
        for label in labels:
            side = attempt(label, lambda patience, label=label: Brief(patience, [sys.executable, HERE / "gpu_worker.py", *label.split(), name], 2, **more))
            if side is not None: alive[label] = side
        for _ in range(1 if options.quick else 3):
            for label, side in list(alive.items()): attempt(label, lambda patience, side=side: block(side, patience))
        for label, side in list(alive.items()): found[label] = attempt(label, lambda patience, side=side: side.end()) or found[label]
    finally:
        for side in alive.values(): side.process.kill()             # at the end they have ended
    return found


def workloads(r: Results, seconds: float, peers: bool):
    """Each without torch.compile, whose first steps take longest; then, with the time that is left, each against it."""
    found, until = r.found["workloads"], time.monotonic() + seconds
    first = ["torch eager"] * peers + ["forno eager"] + ["forno compile"] * (not r.options.quick)
    turns = [first, ["torch compile", "forno compile"]] if peers and not r.options.quick else [first]
    for labels in turns:
        for name in r.options.workloads:
            if time.monotonic() > until - 2: say(f"{name}: no time left for {', '.join(labels)}"); continue
            sides = beside(name, labels, r.options, until, r.kept)
            found[name] = found.get(name, {}) | sides
            r.save()
            say(f"{name}: " + ", ".join(f"{label} {s['failed'] if 'failed' in s else format(s['ms'], '.3g') + ' ms'}" for label, s in sides.items()))


def say(text: str): print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- the whole
def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="only the device and every kind of kernel once")
    parser.add_argument("--simulated", action="store_true", help="a simulated GPU; times mean nothing")
    parser.add_argument("--quick", action="store_true", help="small sizes and few cases")
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), metavar="SECTION", help=f"of {', '.join(SHARES)}")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--seconds", type=float, help=f"for all together; {WHOLE} for everything")
    parser.add_argument("--commit", help="what is measured, where there is no git")
    parser.add_argument("--out", type=pathlib.Path, help="where the numbers go; bench/results/gpu.json for a whole run on a GPU. The archive of failed cases lies beside it")
    options = parser.parse_args(given)
    if options.smoke: options.only = ["smoke"]
    if options.seconds is None: options.seconds = WHOLE if options.only == list(SHARES) else FACTS + sum(SHARES[name] for name in options.only)
    if options.workloads is None: options.workloads = ["tiny"] if options.quick else [*FIRST, *[name for name in PROGRAMS if name not in FIRST]]
    whole = options.only == list(SHARES) and not options.quick and not options.simulated
    if options.out is None and whole: options.out = HERE / "results" / "gpu.json"
    return options


def section(r: Results, name: str, seconds: float, peers: bool):
    if name == "smoke": walked(r, "smoke", "forno", SMOKE, seconds, r.found["smoke"])
    elif name == "limits": walked(r, "limits", "forno", LIMITS, seconds, r.found["limits"])
    elif name == "conformance": conformance(r, seconds)
    else: {"families": families, "workloads": workloads}[name](r, seconds, peers)


def measured(r: Results):
    """Sections in turn; one that breaks down says so, and the others go on."""
    options, found = r.options, r.found
    found |= {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"), "commit": commit(options),
              "asked": {"only": options.only, "seconds": options.seconds},
              "planned": {"smoke": len(SMOKE), "conformance": 0}, "absent": {}, "broken": {}, "took": {}}
    found["machine"] = m = machine(options)
    r.save()
    say(f"{m['gpu']}, capability {'.'.join(map(str, m['capability']))}, {m['sms']} multiprocessors, {m['memory'] >> 20} MiB, CUDA {m['cuda']}")
    peers = False
    if {"families", "workloads"} & set(options.only):
        why = "a simulated GPU has none" if options.simulated else asked("import torch\nassert torch.cuda.is_available(), 'torch.cuda.is_available() is False'")
        peers = not why
        if why: found["absent"]["torch"] = f"no PyTorch with CUDA beside forno: {why}"
    for k, name in enumerate(options.only):
        began = time.monotonic()
        seconds = r.left() * SHARES[name] / sum(SHARES[s] for s in options.only[k:])
        try: section(r, name, seconds, peers)
        except Exception as e: found["broken"][name] = f"{type(e).__name__}: {e}"
        found["took"][name] = time.monotonic() - began
        r.save()
        r.archive()
        say(f"{name}: {found['took'][name]:.0f} of {seconds:.0f} s")
    found["smi_after"] = smi(options)


def ended(*_): raise KeyboardInterrupt


def main():
    options = arguments()
    r = Results(options)
    signal.signal(signal.SIGTERM, ended)       # whoever ends a run that takes too long gets what there is
    try:
        try: measured(r)
        except KeyboardInterrupt: r.found.setdefault("broken", {})["the run"] = "it was ended before its time"
        r.save()
        r.archive()
        if "machine" in r.found: print(*gpu_report.full(r.found), sep="\n")
    finally: r.end()
    bad = [f"{part}: {name}" for part in ("smoke", "conformance", "limits") for name, c in r.found[part].items() if "failed" in c]
    bad += [f"family: {name}" for name, c in r.found["families"].get("forno", {}).items() if "failed" in c]
    bad += [f"{name}: {why}" for name, why in r.found.get("broken", {}).items()]
    if bad: sys.exit(f"failed: {', '.join(bad)}")


if __name__ == "__main__": main()
