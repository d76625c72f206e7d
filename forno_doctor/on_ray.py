"""Runs the doctor once on every node of a Ray cluster and prints their lines. A program of its own, which needs ray; forno_doctor must be importable on the nodes.
Source: Ray's documentation, "Scheduling", NodeAffinitySchedulingStrategy."""
import importlib
import subprocess
import sys


def node() -> str:
    return subprocess.run([sys.executable, "-m", "forno_doctor", "node"], capture_output=True, text=True, timeout=100, check=False).stdout


def main() -> int:
    ray = importlib.import_module("ray")
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    ray.init(address="auto", logging_level="ERROR")
    task = ray.remote(num_cpus=0)(node)
    alive = [n["NodeID"] for n in ray.nodes() if n["Alive"]]
    for text in ray.get([task.options(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(n, soft=False)).remote() for n in alive], timeout=110): print(text, end="")
    return 0


if __name__ == "__main__": sys.exit(main())
