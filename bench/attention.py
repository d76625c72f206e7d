"""scaled_dot_product_attention beside PyTorch's, in processes of their own that alternate.

    python bench/attention.py [--threads N] [--rounds N]

Prints one line per problem: milliseconds of either (each round's lower quartile, then the least of the rounds) and their ratio.
"""
from __future__ import annotations

import argparse
import importlib
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]

# batch, heads, queries, keys, features, causal, backward
PROBLEMS = [(4, 12, 512, 512, 64, 0, 0), (4, 12, 512, 512, 64, 1, 0), (4, 12, 512, 512, 64, 0, 1), (4, 12, 512, 512, 64, 1, 1),
            (1, 12, 1, 1024, 64, 0, 0), (32, 4, 16, 16, 16, 0, 0), (32, 4, 16, 16, 16, 0, 1)]


def measure(library: str, threads: int, batch, heads, queries, keys, features, causal, backward) -> float:
    """Milliseconds per call, the lower quartile of a second."""
    if library == "forno": sys.path.insert(0, str(ROOT))
    m = importlib.import_module(library)
    m.set_num_threads(threads)
    q, k, v = (m.randn(batch, n, heads, features).transpose(1, 2).detach().requires_grad_(bool(backward)) for n in (queries, keys, keys))
    g = m.randn(batch, heads, queries, features)

    def step():
        o = m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=bool(causal))
        return m.autograd.grad(o, (q, k, v), g)[0].data_ptr() if backward else o.data_ptr()
    for _ in range(3): step()
    times, end = [], time.perf_counter() + 1.0
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 4] * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs="*")
    args = parser.parse_args()
    if args.one: return print(measure(args.one[0], args.threads, *map(int, args.one[1:])))
    for p in PROBLEMS:
        least = {"torch": 1e9, "forno": 1e9}
        for _ in range(args.rounds):
            for library in least:
                command = [sys.executable, __file__, "--threads", str(args.threads), "--one", library, *map(str, p)]
                least[library] = min(least[library], float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"{p}: torch {least['torch']:.3f} ms, forno {least['forno']:.3f} ms, {least['torch'] / least['forno']:.2f} times as quick", flush=True)


if __name__ == "__main__": main()
