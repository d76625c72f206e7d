"""Every operation of tests/conformance/t0.txt against PyTorch's eager mode: one typical call, three sizes, forward and forward with backward.

    python bench/operations.py [NAME …] [--rounds 5] [--threads 2] [--save]      prints the ratios, slowest first; --save writes bench/results/operations.json
    python bench/operations.py --side LIBRARY NAME …                             one process of one library: a JSON line of microseconds per call

A ratio is forno's time by PyTorch's: below 1 forno is faster. Each round runs the whole list once per library, in alternating processes; a ratio is the
median over rounds, its spread the least and the most. Every timed call ends in values: forno holds operations back, so its window is flushed
inside the timed part. Sizes: `small` is about 10³ elements, `medium` 10⁵ (in cache), `large` 4·10⁶ (in memory); sixteen, four and four calls with
operands of their own before a flush, as operations stand in programs. `alone` is small with a flush per call, as when each value is printed.
Matrix products and convolutions have sizes of their own (SIDES).
"""
from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
SIZES = ("alone", "small", "medium", "large")
IN_A_ROW = {"alone": 1, "small": 16, "medium": 4, "large": 4}
BLOCK_SECONDS = 0.03
SIDES = {                                      # shapes by size: matrices, images with their channels, matrix products, sequences of words
    "matrix": {"small": (32, 32), "medium": (320, 320), "large": (2000, 2000)},
    "product": {"small": (32, 32), "medium": (200, 200), "large": (1000, 1000)},
    "images": {"small": (1, 4, 16, 16), "medium": (4, 16, 40, 40), "large": (16, 32, 88, 88)},
    "signal": {"small": (1, 4, 256), "medium": (4, 16, 1600), "large": (16, 32, 7744)},
    "batch": {"small": (4, 16, 16), "medium": (8, 80, 80), "large": (16, 400, 400)},
    "heads": {"small": (1, 2, 16, 32), "medium": (2, 4, 128, 64), "large": (4, 8, 512, 64)},
}
# Operands by letter: x y float matrix, p positive, v float vector as long as a row, i j integer matrix, l index vector, b c bool matrix, s scores in 0 … 1,
# A B square matrices for products, I images, K 3×3 weights, C one number per channel, S signal, W its weights, M N batches of matrices, Q heads.
CASES = {
    "add": ("x y", lambda m, x, y: x + y), "__radd__": ("x", lambda m, x: 2.5 + x), "mul": ("x y", lambda m, x, y: x * y), "__rmul__": ("x", lambda m, x: 2.5 * x),
    "div:no_rounding_mode": ("x p", lambda m, x, y: x / y), "div:trunc_rounding": ("x p", lambda m, x, y: m.div(x, y, rounding_mode="trunc")),
    "div:floor_rounding": ("x p", lambda m, x, y: m.div(x, y, rounding_mode="floor")), "true_divide": ("x p", lambda m, x, y: m.true_divide(x, y)),
    "__rdiv__": ("p", lambda m, x: 2.5 / x), "sub": ("x y", lambda m, x, y: x - y), "__rsub__": ("x", lambda m, x: 2.5 - x),
    "nn.functional.linear": ("A B v", lambda m, x, w, b: m.nn.functional.linear(x, w, b)), "to": ("x", lambda m, x: x.to(m.float64)),
    "floor_divide": ("i", lambda m, x: x // 3), "cat": ("x y", lambda m, x, y: m.cat([x, y])), "view": ("x", lambda m, x: x.view(-1)), "pow": ("x", lambda m, x: x ** 2),
    "__rpow__": ("x", lambda m, x: 2.5 ** x), "reshape": ("x", lambda m, x: x.t().reshape(-1)), "unsqueeze": ("x", lambda m, x: x.unsqueeze(1)),
    "remainder": ("x", lambda m, x: x % 2.5), "__rmod__": ("p", lambda m, x: 2.5 % x), "arange": ("x", lambda m, x: m.arange(x.numel())),
    "transpose": ("x", lambda m, x: x.transpose(0, 1)), "zeros": ("x", lambda m, x: m.zeros(x.shape)), "contiguous": ("x", lambda m, x: x.t().contiguous()),
    "mean": ("x", lambda m, x: x.mean(1)), "sum": ("x", lambda m, x: x.sum(0)), "float": ("i", lambda m, x: x.float()), "ones": ("x", lambda m, x: m.ones(x.shape)),
    "nn.functional.layer_norm": ("x v v", lambda m, x, w, b: m.nn.functional.layer_norm(x, x.shape[-1:], w, b)), "permute": ("x", lambda m, x: x.permute(1, 0)),
    "nn.functional.embedding": ("l x", lambda m, i, w: m.nn.functional.embedding(i, w)), "expand": ("x", lambda m, x: x[:, None].expand(-1, 2, -1)),
    "matmul": ("A B", lambda m, a, b: a @ b), "nn.functional.conv2d": ("I K C", lambda m, x, w, b: m.nn.functional.conv2d(x, w, b, padding=1)),
    "softmax": ("x", lambda m, x: m.softmax(x, 1)), "softmax:with_dtype": ("x", lambda m, x: m.softmax(x, 1, dtype=m.float64)),
    "nn.functional.dropout": ("x", lambda m, x: m.nn.functional.dropout(x, 0.1)), "flatten": ("x", lambda m, x: x.flatten()), "item": ("x", lambda m, x: x[0, 0].item()),
    "long": ("x", lambda m, x: x.long()), "clone": ("x", lambda m, x: x.clone()), "squeeze": ("x", lambda m, x: x[None].squeeze(0)),
    "squeeze:multiple": ("x", lambda m, x: x[None, None].squeeze((0, 1))), "stack": ("x y", lambda m, x, y: m.stack([x, y])), "split": ("x", lambda m, x: x.split(8)[0]),
    "split:list_args": ("x", lambda m, x: x.split([8, x.shape[0] - 8])[1]), "cos": ("x", lambda m, x: x.cos()), "sin": ("x", lambda m, x: x.sin()),
    "randn": ("x", lambda m, x: m.randn(x.shape)), "zeros_like": ("x", lambda m, x: m.zeros_like(x)), "where": ("b x y", lambda m, b, x, y: m.where(b, x, y)),
    "nn.functional.relu": ("x", lambda m, x: m.nn.functional.relu(x)), "chunk": ("x", lambda m, x: x.chunk(4)[2]), "empty": ("x", lambda m, x: m.empty(x.shape)),
    "__rmatmul__": ("A B", lambda m, a, b: a.__rmatmul__(b)), "nn.functional.pad:constant": ("I", lambda m, x: m.nn.functional.pad(x, (1, 1, 1, 1))),
    **{f"nn.functional.pad:{how}": ("I", lambda m, x, how=how: m.nn.functional.pad(x, (1, 1, 1, 1), how)) for how in ("reflect", "replicate", "circular")},
    "repeat": ("x", lambda m, x: x.repeat(2, 1)), "max:reduction_with_dim": ("x", lambda m, x: x.max(1)), "max:reduction_no_dim": ("x", lambda m, x: x.max()),
    "max:binary": ("x y", lambda m, x, y: m.max(x, y)), "nn.functional.batch_norm": ("I C C", lambda m, x, w, b: m.nn.functional.batch_norm(x, None, None, w, b, training=True)),
    "nn.functional.gelu": ("x", lambda m, x: m.nn.functional.gelu(x)), "rsqrt": ("p", lambda m, x: x.rsqrt()), "clamp": ("x", lambda m, x: x.clamp(-1, 1)),
    "full": ("x", lambda m, x: m.full(x.shape, 2.5)), "masked_fill": ("x b", lambda m, x, b: x.masked_fill(b, 0)), "bool": ("x", lambda m, x: x.bool()),
    "nn.functional.interpolate:nearest": ("I", lambda m, x: m.nn.functional.interpolate(x, scale_factor=2)),
    "nn.functional.interpolate:bilinear": ("I", lambda m, x: m.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")),
    "nn.functional.cross_entropy": ("x l", lambda m, x, y: m.nn.functional.cross_entropy(x, y)), "repeat_interleave": ("x", lambda m, x: x.repeat_interleave(2, 0)),
    "all": ("b", lambda m, x: x.all(1)), "argmax": ("x", lambda m, x: x.argmax(1)), "exp": ("x", lambda m, x: x.exp()),
    "einsum": ("M N", lambda m, a, b: m.einsum("bij,bjk->bik", a, b)),
    "log": ("p", lambda m, x: x.log()), "new_zeros": ("x", lambda m, x: x.new_zeros(x.shape)), "nonzero": ("b", lambda m, x: x.nonzero()),
    "linspace": ("x", lambda m, x: m.linspace(0, 1, x.numel())), "int": ("x", lambda m, x: x.int()), "ones_like": ("x", lambda m, x: m.ones_like(x)),
    "bitwise_and": ("i j", lambda m, x, y: x & y), "bitwise_or": ("b c", lambda m, x, y: x | y), "topk": ("x", lambda m, x: x.topk(5, 1)),
    "unbind": ("I", lambda m, x: x.unbind(1)[1]),
    "meshgrid:variadic_tensors": ("v v", lambda m, x, y: m.meshgrid(x, y, indexing="ij")),
    "meshgrid:list_of_tensors": ("v v", lambda m, x, y: m.meshgrid([x, y], indexing="ij")),
    "nn.functional.conv1d": ("S W C", lambda m, x, w, b: m.nn.functional.conv1d(x, w, b, padding=1)), "tanh": ("x", lambda m, x: x.tanh()),
    "gather": ("x i", lambda m, x, i: x.gather(1, i)), "bfloat16": ("x", lambda m, x: x.bfloat16()), "randint": ("x", lambda m, x: m.randint(0, 10, x.shape)),
    "sigmoid": ("x", lambda m, x: x.sigmoid()), "sqrt": ("p", lambda m, x: x.sqrt()), "cumsum": ("x", lambda m, x: x.cumsum(1)),
    "nn.functional.binary_cross_entropy_with_logits": ("x s", lambda m, x, y: m.nn.functional.binary_cross_entropy_with_logits(x, y)),
    "nn.functional.silu": ("x", lambda m, x: m.nn.functional.silu(x)), "abs": ("x", lambda m, x: x.abs()), "any": ("b", lambda m, x: x.any()),
    "expand_as": ("v x", lambda m, v, x: v.expand_as(x)),
    "nn.functional.scaled_dot_product_attention": ("Q Q Q", lambda m, q, k, v: m.nn.functional.scaled_dot_product_attention(q, k, v)),
    "t": ("x", lambda m, x: x.t()), "fill": ("x", lambda m, x: m.fill(x, 2.5)), "gt": ("x y", lambda m, x, y: x > y),
    "nn.functional.max_pool2d": ("I", lambda m, x: m.nn.functional.max_pool2d(x, 2)),
    "triu": ("x", lambda m, x: x.triu()), "uniform": ("x", lambda m, x: m.empty(x.shape).uniform_()), "flip": ("x", lambda m, x: x.flip(1)),
    "norm": ("x", lambda m, x: x.norm()),
    "norm:fro": ("x", lambda m, x: m.norm(x, "fro")), "norm:inf": ("x", lambda m, x: m.norm(x, float("inf"))), "linalg.norm": ("x", lambda m, x: m.linalg.norm(x, dim=1)),
    "linalg.vector_norm": ("x", lambda m, x: m.linalg.vector_norm(x, dim=1)), "eq": ("x y", lambda m, x, y: x == y),
    "nn.functional.conv_transpose2d": ("I K C", lambda m, x, w, b: m.nn.functional.conv_transpose2d(x, w, b, padding=1)),
    "scatter": ("x i y", lambda m, x, i, y: x.scatter(1, i, y)),
    "log_softmax": ("x", lambda m, x: m.log_softmax(x, 1)), "log_softmax:with_dtype": ("x", lambda m, x: m.log_softmax(x, 1, dtype=m.float64)),
    "nn.functional.avg_pool2d": ("I", lambda m, x: m.nn.functional.avg_pool2d(x, 2)), "ne": ("x y", lambda m, x, y: x != y),
    "min:reduction_with_dim": ("x", lambda m, x: x.min(1)),
    "min:reduction_no_dim": ("x", lambda m, x: x.min()), "min:binary": ("x y", lambda m, x, y: m.min(x, y)), "bmm": ("M N", lambda m, a, b: m.bmm(a, b)),
    "multinomial": ("p", lambda m, x: x.multinomial(1)), "zero_": ("x", lambda m, x: x.detach().zero_()), "median": ("x", lambda m, x: x.median(1)),
    "tril": ("x", lambda m, x: x.tril()),
    "outer": ("v v", lambda m, x, y: m.outer(x, y)), "unfold": ("x", lambda m, x: x.unfold(1, 4, 2)), "sort": ("x", lambda m, x: x.sort(1)),
    "nn.functional.l1_loss": ("x y", lambda m, x, y: m.nn.functional.l1_loss(x, y)), "mm": ("A B", lambda m, a, b: m.mm(a, b)),
    "equal": ("x", lambda m, x: m.equal(x, x.clone())),
    "double": ("x", lambda m, x: x.double()), "maximum": ("x y", lambda m, x, y: m.maximum(x, y)), "isnan": ("x", lambda m, x: x.isnan()),
    "logical_not": ("b", lambda m, x: x.logical_not()),
    "minimum": ("x y", lambda m, x, y: m.minimum(x, y)), "neg": ("x", lambda m, x: -x), "lt": ("x y", lambda m, x, y: x < y),
    "addmm": ("v A B", lambda m, c, a, b: m.addmm(c, a, b)),
    "ge": ("x y", lambda m, x, y: x >= y), "bitwise_not": ("i", lambda m, x: ~x), "index_put": ("x l v", lambda m, x, i, v: m.index_put(x, (i,), v)),
    "le": ("x y", lambda m, x, y: x <= y),
    "__getitem__": ("x l", lambda m, x, i: x[i]),
}

UNDIFFERENTIATED = ("__rmod__", "item")          # PyTorch has no derivative for the divisor; a Python number has none


def operand(m, letter: str, size: str, products: bool):
    """A fresh operand of a case."""
    n = SIDES["product" if products else "matrix"][size]
    if letter in "xyAB": return m.randn(n)
    if letter == "p": return m.rand(n) + 0.5
    if letter == "s": return m.rand(n)
    if letter == "v": return m.randn(n[1])
    if letter in "ij": return m.randint(0, n[1], n)
    if letter == "l": return m.randint(0, n[0], n[:1])
    if letter in "bc": return m.rand(n) > 0.5
    if letter == "I": return m.randn(SIDES["images"][size])
    if letter == "K": return m.randn((SIDES["images"][size][1],) * 2 + (3, 3))
    if letter == "C": return m.randn(SIDES["images"][size][1])
    if letter == "S": return m.randn(SIDES["signal"][size])
    if letter == "W": return m.randn((SIDES["signal"][size][1],) * 2 + (3,))
    if letter in "MN": return m.randn(SIDES["batch"][size])
    return m.randn(SIDES["heads"][size])


def ends(m, y) -> list: return [t for t in (y if isinstance(y, (list, tuple)) else [y]) if isinstance(t, m.Tensor) and t.requires_grad]


def program(m, name: str, size: str, backward: bool):
    """(a function that does the timed work, how many calls that is); None where nothing is to be differentiated."""
    letters, call = CASES[name]
    count, size = IN_A_ROW[size], "small" if size == "alone" else size
    sets = [[operand(m, k, size, "A" in letters) for k in letters.split()] for _ in range(count)]
    flush = importlib.import_module("forno.framework.engine").flush if m.__name__ == "forno" else lambda: None
    if not backward:
        def step():
            kept = [call(m, *xs) for xs in sets]
            flush()
            return kept
        return step, count
    leaves = [[t.requires_grad_() for t in xs if t.dtype.is_floating_point] for xs in sets]
    given = [m.randn(t.shape).to(t.dtype) for t in ends(m, call(m, *sets[0]))]
    if not given or name in UNDIFFERENTIATED: return None

    def step():
        kept = [m.autograd.grad(ends(m, call(m, *xs)), ts, given, allow_unused=True) for xs, ts in zip(sets, leaves)]
        flush()
        return kept
    return step, count


def timed(step, count) -> float:
    """Microseconds of a call: the median of a block of steps."""
    for _ in range(3): step()
    times: list[float] = []
    until = time.perf_counter() + BLOCK_SECONDS
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / count * 1e6


def side(library: str, names: list[str]):
    """Everything of one library, in this process."""
    m = importlib.import_module(library)
    m.manual_seed(0)
    found = {}
    for name in names:
        for size in SIZES:
            for backward in (False, True):
                made = program(m, name, size, backward)
                if made is not None: found[f"{name}|{size}|{'backward' if backward else 'forward'}"] = timed(*made)
    print(json.dumps(found))


def measure(library: str, names: list[str], threads: int) -> dict[str, float]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, __file__, "--side", library, *names], capture_output=True, text=True, env=env, check=False)
    if done.returncode: raise SystemExit(f"{library} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(pairs: list[tuple[dict, dict]]) -> list[dict]:
    """One row per operation, size and direction, slowest ratio first."""
    out = []
    for key in pairs[0][0]:
        name, size, direction = key.split("|")
        ratios = [ours[key] / theirs[key] for theirs, ours in pairs]
        out.append({"name": name, "size": size, "direction": direction, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
                    "torch_us": statistics.median(t[key] for t, _ in pairs), "forno_us": statistics.median(f[key] for _, f in pairs)})
    return sorted(out, key=lambda r: -r["ratio"])


def summary(found: list[dict]) -> list[str]:
    lines = ["| size | direction | calls | median ratio | above 1 | above 3 |", "|---|---|---|---|---|---|"]
    for size in SIZES:
        for direction in ("forward", "backward"):
            r = [x["ratio"] for x in found if (x["size"], x["direction"]) == (size, direction)]
            if r: lines.append(f"| {size} | {direction} | {len(r)} | {statistics.median(r):.2f} | {sum(x > 1 for x in r)} | {sum(x > 3 for x in r)} |")
    return lines


def save(found: list[dict], rounds: int, threads: int):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    found = [{k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in r.items()} for r in found]
    (HERE / "results" / "operations.json").write_text(json.dumps({"date": datetime.date.today().isoformat(), "machine": platform.processor() or platform.machine(),
                                                                   "commit": commit, "threads": threads, "rounds": rounds, "rows": found}, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--side", choices=("torch", "forno"))
    options = parser.parse_args()
    names = options.names or list(CASES)
    if options.side: return side(options.side, names)
    found = rows([(measure("torch", names, options.threads), measure("forno", names, options.threads)) for _ in range(options.rounds)])
    for r in found:
        print(f"{r['ratio']:7.2f} ({r['least']:.2f} … {r['most']:.2f})  {r['name']:45} {r['size']:7} {r['direction']:9}", end="")
        print(f" torch {r['torch_us']:10.1f} µs  forno {r['forno_us']:10.1f} µs")
    print(*summary(found), sep="\n")
    if options.save: save(found, options.rounds, options.threads)


if __name__ == "__main__": main()
