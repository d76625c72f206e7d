"""Cases of bench/gpu.py, run one after the other in a process that a broken kernel may end.

    python bench/gpu_cases.py KIND LIBRARY [small]          reads names of cases, a line each; writes a JSON line per case

KIND facts; smoke: every kind of kernel once, against the CPU; limits: what the chip can do; families: how long kernels take, and what they read, write and compute;
conformance: samples of PyTorch's database against PyTorch on the CPU. After an error of the driver nothing that this process computes means anything: it says so and
ends. BENCH_KEPT names a folder for the PTX of cases that fail.
"""
from __future__ import annotations

import collections
import gc
import importlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
import traceback
import types
import unittest
import warnings

BROKEN = 3                                     # exit status after an error of the driver
LONG = 1000                                    # characters of an error
KERNELS = 16                                   # whose PTX is kept of a case, the latest
HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def answer(**fields): print(json.dumps(fields), flush=True)


class Kept:
    """What is kept of a case: the PTX of the kernels that it loads, and its error. When the case has ended well, it is thrown away: so what cases leave that hang or
    end their process is there, too."""

    def __init__(self, library: str):
        at = os.environ.get("BENCH_KEPT")
        self.folder, self.case, self.files = pathlib.Path(at) if at and library == "forno" else None, None, collections.deque()
        if self.folder is None: return
        code = importlib.import_module("forno.cudart.code")
        load = code.function

        def function(driver, index: int, ptx: str, name: str) -> int:
            self.add(ptx, name)
            return load(driver, index, ptx, name)
        code.function = function

    def begin(self, name: str):
        if self.folder is None: return
        self.case = self.folder / (re.sub(r"\W+", "-", name).strip("-") or "case")
        self.files.clear()

    def add(self, ptx: str, name: str):
        if self.case is None: return
        self.write(f"{name}-{abs(hash(ptx)) & 0xFFFFFFFF:08x}.ptx", ptx)
        while len(self.files) > KERNELS: self.files.popleft().unlink(missing_ok=True)

    def write(self, name: str, text: str):
        self.case.mkdir(parents=True, exist_ok=True)
        path = self.case / name
        path.write_text(text, encoding="utf-8")
        if name.endswith(".ptx") and path not in self.files: self.files.append(path)

    def failed(self, error: BaseException):
        if self.case is not None: self.write("error.txt", "".join(traceback.format_exception(error)))

    def good(self):
        if self.case is not None: shutil.rmtree(self.case, ignore_errors=True)


class Library:
    """forno or torch on the GPU: `wait` ends what was asked for."""

    def __init__(self, name: str):
        self.name, self.torch = name, importlib.import_module(name)
        self.flush = importlib.import_module("forno.framework.engine").flush if name == "forno" else lambda: None
        devices = importlib.import_module("forno.cudart.devices") if name == "forno" else None
        self.synchronize = self.torch.cuda.synchronize if devices is None else lambda index: devices.use(index).CtxSynchronize()
        self.rounding(False)

    def rounding(self, on: bool):
        """May factors of float32 be rounded to tf32? Otherwise float32 is float32, on both sides."""
        self.torch.backends.cuda.matmul.allow_tf32 = self.torch.backends.cudnn.allow_tf32 = on

    def wait(self):
        self.flush()
        self.synchronize(0)

    def forget(self):
        """After a failure: what still waits to be computed isn't the next case's."""
        gc.collect()
        if self.name == "forno":
            run = importlib.import_module("forno.graph.line").LOCAL.run
            run.open(run.grad, run.inference)


# ---------------------------------------------------------------- every kind of kernel once
def leaf(x): return x.detach().requires_grad_()


def gradient(f, *xs):
    """f's gradients, for a cotangent of ones."""
    xs = [leaf(x) for x in xs]
    f(*xs).sum().backward()
    return [x.grad for x in xs]


SMOKE = {
    "first launch": lambda t, x, y, i: x * 2 + 1,
    "elementwise": lambda t, x, y, i: (x.exp() + y.tanh() * 3).sigmoid(),
    "functions": lambda t, x, y, i: x.abs().log1p() + y.sin() * x.cos() + (x * 0.3).erf(),
    "broadcast and numbers": lambda t, x, y, i: x * y[:1] + y[:, :1] - 2.5,
    "bfloat16": lambda t, x, y, i: (x.bfloat16() * y.bfloat16()).float(),
    "float16": lambda t, x, y, i: (x.half() + y.half()).float(),
    "float64": lambda t, x, y, i: (x.double() / (y.double() ** 2 + 1)).float(),
    "integers": lambda t, x, y, i: (i * 7 // 3) % 5 + (i << 2),
    "choices": lambda t, x, y, i: t.where(x > y, x, y).clamp(-0.5, 0.5),
    "strided views": lambda t, x, y, i: x[3:13, ::2] * 2 + y[3:13, 1::2],
    "transposed copy": lambda t, x, y, i: x.t().contiguous(),
    "writes through views": lambda t, x, y, i: written(x, y),
    "cat": lambda t, x, y, i: t.cat([x, y], 1),
    "sum of all": lambda t, x, y, i: x.sum(),
    "sum of rows": lambda t, x, y, i: x.sum(1),
    "sum of columns": lambda t, x, y, i: x.sum(0),
    "largest": lambda t, x, y, i: x.amax(1) - x.amin(1),
    "argmax": lambda t, x, y, i: x.argmax(1),
    "mean and variance": lambda t, x, y, i: x.var(1) + x.mean(1),
    "softmax": lambda t, x, y, i: t.softmax(x, 1),
    "softmax's gradient": lambda t, x, y, i: gradient(lambda x: t.softmax(x, 1) * y, x)[0],
    "layer norm": lambda t, x, y, i: t.nn.functional.layer_norm(x, x.shape[1:], y[0], y[1]),
    "layer norm's gradient": lambda t, x, y, i: gradient(lambda x, w: t.nn.functional.layer_norm(x, x.shape[1:], w) * y, x, y[0])[0],
    "product float32": lambda t, x, y, i: x @ y.t(),
    "product transposed": lambda t, x, y, i: x.t() @ y,
    "product bfloat16": lambda t, x, y, i: (x.bfloat16() @ y.t().bfloat16()).float(),
    "product of batches": lambda t, x, y, i: x.reshape(2, -1, x.shape[1]) @ y.reshape(2, -1, y.shape[1]).transpose(1, 2),
    "few rows": lambda t, x, y, i: x[:1] @ y.t(),
    "linear, gelu": lambda t, x, y, i: t.nn.functional.gelu(t.nn.functional.linear(x, y, y[:, 0])),
    "gather rows": lambda t, x, y, i: x[i[:, 0]],
    "gather": lambda t, x, y, i: x.gather(0, i),
    "embedding's gradient": lambda t, x, y, i: gradient(lambda x: t.nn.functional.embedding(i[:, 0], x), x)[0],
    "scatter_add": lambda t, x, y, i: t.zeros_like(x).scatter_add(0, i, y), "sums in order": lambda t, x, y, i: in_order(t, x, y, i),
    "cumsum": lambda t, x, y, i: x.cumsum(1),
    "sort": lambda t, x, y, i: x.sort(1)[0],
    "topk": lambda t, x, y, i: x.topk(3, 1)[0],
    "nonzero": lambda t, x, y, i: (x > 1).nonzero(),
    "pad": lambda t, x, y, i: t.nn.functional.pad(x[None], (1, 2), mode="reflect"),
    "convolution": lambda t, x, y, i: t.nn.functional.conv2d(*images(x, y), padding=1),
    "convolution's gradients": lambda t, x, y, i: gradient(lambda x, w: t.nn.functional.conv2d(x, w, padding=1), *images(x, y))[1],
    "product tf32": lambda t, x, y, i: x @ y.t(),
    "convolution tf32": lambda t, x, y, i: t.nn.functional.conv2d(*images(x, y), padding=1),
    "max pool": lambda t, x, y, i: t.nn.functional.max_pool2d(images(x, y)[0], 2),
    "batch norm": lambda t, x, y, i: t.nn.functional.batch_norm(images(x, y)[0], None, None, training=True),
    "attention": lambda t, x, y, i: t.nn.functional.scaled_dot_product_attention(*heads(x, y), is_causal=True),
    "attention's gradient": lambda t, x, y, i: gradient(lambda q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v), *heads(x, y))[0],
    "loss": lambda t, x, y, i: t.nn.functional.cross_entropy(x, i[:, 0] % x.shape[1]),
    "complex numbers": lambda t, x, y, i: t.complex(x, y).abs(),
    "own kernel": lambda t, x, y, i: own(t)(x, y, 0.5),
    "own row kernel": lambda t, x, y, i: own_row(t)(x, 1e-5),
}


def written(x, y):
    z = x.clone()
    z[1:7, 2:5] = y[1:7, 2:5] * 2
    z[0].mul_(3)
    return z


def images(x, y):
    n = x.numel() // 64 * 64
    return x.reshape(-1)[:n].reshape(-1, 4, 4, 4), y.reshape(-1)[:3 * 4 * 9].reshape(3, 4, 3, 3)


def heads(x, y):
    n = x.numel() // 64 * 64
    q, k = (a.reshape(-1)[:n].reshape(1, 2, -1, 32) for a in (x, y))
    return q, k, k * 0.5


def in_order(t, x, y, i):
    """Sums at indexed places without atomics."""
    t.use_deterministic_algorithms(True)
    try:
        out = t.zeros_like(x).index_add(0, i[:, 0], y)
        out[0, 0].item()
        return out
    finally: t.use_deterministic_algorithms(False)


def own(t):
    if not hasattr(t, "kernels"): return lambda x, y, k: x * (k * y).sigmoid()
    return t.kernels.elementwise(lambda x, y, k: x * (k * y).sigmoid())


def own_row(t):
    def norm(x, eps):
        d = x - x.mean()
        return d * ((d * d).mean() + eps).rsqrt()
    if not hasattr(t, "kernels"): return lambda x, eps: t.nn.functional.layer_norm(x, x.shape[1:], eps=eps)
    return t.kernels.row(norm)


def smoke(library: Library, small: bool):
    """Each on the device and on the CPU, by forno both; the CPU's kernels are compared with PyTorch elsewhere."""
    t, shape = library.torch, (16, 24) if small else (130, 68)
    t.manual_seed(0)
    x, y = t.randn(*shape), t.randn(*shape)
    i = t.randint(0, shape[0], shape)

    def case(name):
        here, given = SMOKE[name](t, x, y, i), (x.cuda(), y.cuda(), i.cuda())
        library.rounding("tf32" in name)
        try: there = SMOKE[name](t, *given)
        finally: library.rounding(False)       # what was recorded before is computed as it was asked for
        assert there.is_cuda, "the result isn't on the device"
        tolerance = 2e-2 if "float16" in name or "tf32" in name else 1e-4
        t.testing.assert_close(there.cpu(), here, rtol=tolerance, atol=tolerance)
    return case


# ---------------------------------------------------------------- families of kernels
def families(library: Library, small: bool):
    """name -> (a step, bytes that it must move, FLOPs, which limit those have)."""
    t = library.torch
    n, side = (16, 64) if small else (8192, 4096)
    f, kinds = t.nn.functional, {"float32": t.float32, "bf16": t.bfloat16}

    def made(*shape, dtype="float32"): return t.randn(*shape).cuda().to(kinds[dtype])

    def over(step, arrays, dtype="float32"):
        """A step that reads and writes so many arrays of (n, side)."""
        x = made(n, side, dtype=dtype)
        return lambda: step(x), arrays * n * side * x.element_size(), 0, "float32"

    def product(m, k, n, dtype, limit=None):
        a, b = made(m, k, dtype=dtype), made(k, n, dtype=dtype)
        return lambda: a @ b, (m * k + k * n + m * n) * a.element_size(), 2 * m * k * n, limit or dtype

    def pointwise():
        x, r, w, b = made(n, side), made(n, side), made(side), made(side)
        return lambda: f.gelu(x * w + b) + r, 12 * n * side, 0, "float32"

    def gathered():
        x, rows = made(n * 8, side // 32), t.randint(0, n * 8, (n * 8,)).cuda()
        return lambda: x[rows], 2 * 4 * x.numel() + 8 * n * 8, 0, "float32"

    def added(rows: int, places: int, width: int, ordered: bool):
        """Rows at places that a tensor names: by atomics, in any order, or in the order of the rows, whose bits are the same in every run."""
        x, i, before = made(rows, width), t.randint(0, places, (rows,)).cuda(), t.zeros(places, width).cuda()

        def step():
            t.use_deterministic_algorithms(ordered)
            try:
                y = before.index_add(0, i, x)
                library.flush()                # which kernels these are is decided here
                return y
            finally: t.use_deterministic_algorithms(False)
        return step, 4 * x.numel() + 8 * rows + 8 * before.numel(), 0, "float32"

    def convolved(back: bool, limit: str = "float32"):
        b, c, s = (2, 4, 6) if small else (64, 64, 56)
        x, w = made(b, c, s, s), made(c, c, 3, 3)
        flops = 2 * b * c * c * 9 * s * s
        if not back: return lambda: f.conv2d(x, w, padding=1), 8 * x.numel(), flops, limit
        g = made(b, c, s, s)
        x.requires_grad_()
        w.requires_grad_()

        def step():
            x.grad = w.grad = None
            f.conv2d(x, w, padding=1).backward(g)
            return w.grad
        return step, 20 * x.numel(), 3 * flops, limit

    def attended():
        b, h, s, d = (1, 1, 32, 32) if small else (8, 16, 2048, 64)
        q, k, v = (made(b, h, s, d, dtype="bf16") for _ in range(3))
        return lambda: f.scaled_dot_product_attention(q, k, v, is_causal=True), 8 * q.numel(), 2 * b * h * s * s * d, "bf16"
    big = 32 if small else 4096
    return {
        "elementwise float32": pointwise, "elementwise bf16": lambda: over(lambda x: x * 2 + 1, 2, "bf16"), "softmax float32": lambda: over(lambda x: t.softmax(x, 1), 2),
        "softmax bf16": lambda: over(lambda x: t.softmax(x, 1), 2, "bf16"), "layer norm float32": lambda: over(lambda x: f.layer_norm(x, (side,)), 2),
        "sum of all": lambda: over(lambda x: x.sum(), 1), "sum of rows": lambda: over(lambda x: x.sum(1), 1), "sum of columns": lambda: over(lambda x: x.sum(0), 1),
        "transposed copy": lambda: over(lambda x: x.t().contiguous(), 2), "gather rows": gathered, "product float32": lambda: product(big, big, big, "float32"),
        "product tf32": lambda: product(big, big, big, "float32", "tf32"), "product bf16": lambda: product(big, big, big, "bf16"),
        "product, one row, bf16": lambda: product(1, big, big, "bf16"), "convolution": lambda: convolved(False),
        "convolution tf32": lambda: convolved(False, "tf32"), "convolution, forward and backward": lambda: convolved(True), "attention bf16": attended,
        "rows at places": lambda: added(8 * n, n, side // 32, False), "rows at places, in order": lambda: added(8 * n, n, side // 32, True),
        "numbers at 16 places": lambda: added(128 * n, 16, 1, False), "numbers at 16 places, in order": lambda: added(128 * n, 16, 1, True)}


FAMILIES = ("elementwise float32", "elementwise bf16", "softmax float32", "softmax bf16", "layer norm float32", "sum of all", "sum of rows", "sum of columns", "transposed copy",
            "gather rows", "product float32", "product tf32", "product bf16", "product, one row, bf16", "convolution", "convolution tf32", "convolution, forward and backward",
            "attention bf16", "rows at places", "rows at places, in order", "numbers at 16 places", "numbers at 16 places, in order")


def timed(library: Library, small: bool):
    """By events, and by the host's clock: where the two differ much, the host is what takes the time."""
    found, t = families(library, small), library.torch
    assert tuple(found) == FAMILIES

    def case(name):
        step, nbytes, flops, kind = found[name]()
        library.rounding("tf32" in name)
        library.wait()

        def run(times) -> tuple[float, float]:
            """Milliseconds of a step: by events, by the clock."""
            first, last = (t.cuda.Event(enable_timing=True) for _ in range(2))
            start = time.perf_counter()
            first.record()
            for _ in range(times):
                y = step()
                library.flush()
                del y
            last.record()
            library.wait()
            return first.elapsed_time(last) / times, 1e3 * (time.perf_counter() - start) / times
        for _ in range(0 if small else 3): run(1)
        times = 1 if small else max(3, min(200, int(100 / run(3)[1])))
        events, clock = zip(*[run(times) for _ in range(1 if small else 5)])
        return {"ms": min(events), "clock_ms": min(clock), "times": times, "bytes": nbytes, "flops": flops, "limit": kind}
    return case


# ---------------------------------------------------------------- PyTorch's samples
def conformance(library: Library, small: bool):
    try: importlib.import_module("expecttest")
    except ImportError:                        # the database's module wants a base class for PyTorch's own tests
        sys.modules["expecttest"] = types.SimpleNamespace(TestCase=unittest.TestCase)
    walk = importlib.import_module("tests.conformance.walk")
    importlib.import_module("tests.gpu.sweep").on_gpu(walk, library.torch)
    oracle = walk.torch

    def case(name):
        if name not in walk.INFOS: return {"missing": f"PyTorch {oracle.__version__} has no samples of it"}
        info, bad, count = walk.INFOS[name], [], 0
        kinds = info.supported_dtypes("cpu")
        dtype = oracle.float32 if oracle.float32 in kinds else sorted(kinds, key=str)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for kind, i, check in walk.checks(name, dtype, 2):
                count += 1
                try: check()
                except Exception as error:
                    if broken(error): raise
                    bad.append((f"{kind}, sample {i}: {type(error).__name__}: {' '.join(str(error).split())[:200]}", error))
        if bad: raise AssertionError(f"{len(bad)} of {count} checks: {bad[0][0]}") from bad[0][1]
        return {"checks": count}
    return case


# ---------------------------------------------------------------- one after the other
def broken(error: BaseException) -> bool:
    """Is the device's context lost, or its memory's content not to be trusted?"""
    return type(error).__name__ in ("CudaError", "AcceleratorError", "Findings") or "CUDA error" in str(error)


def facts(library, small): return lambda name: importlib.import_module("gpu_limits").facts()
def limits(library, small): return lambda name: importlib.import_module("gpu_limits").limit(name, small)


def main(kind: str, library: str, *options: str):
    kept, used = Kept(library), None if kind in ("facts", "limits") else Library(library)
    case = {"facts": facts, "limits": limits, "smoke": smoke, "families": timed, "conformance": conformance}[kind](used, "small" in options)
    for line in sys.stdin:
        name, start = line.rstrip("\n"), time.perf_counter()
        kept.begin(f"{kind} {name}")
        try: found = case(name) or {}
        except Exception as error:
            kept.failed(error)
            answer(name=name, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:LONG]}", s=time.perf_counter() - start)
            if broken(error): sys.exit(BROKEN)
            del error
            if used: used.forget()
        else:
            kept.good()
            answer(name=name, s=time.perf_counter() - start, **found)


if __name__ == "__main__": main(*sys.argv[1:])
