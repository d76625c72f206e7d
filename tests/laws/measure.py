"""Run as a program: counts what forno's Python does for a few small programs and prints it as JSON. A process of its own, so that nothing is warm."""
import gc
import json
import os
import sys

import forno as torch
from bench.host import PROGRAMS, no_flush, recorded
from forno.core.trace import trace
from forno.cpu import hot
from forno.framework import engine
from forno.graph import line

HOME = os.path.dirname(torch.__file__) + os.sep


def calls(f):
    """(calls of forno's functions, calls of built-ins, forno's files) while f runs."""
    python, builtin, names = 0, 0, set()

    def profile(frame, event, _):
        nonlocal python, builtin
        file = frame.f_code.co_filename
        if not file.startswith(HOME): return
        if event == "call":
            python += 1
            names.add(file[len(HOME):].replace(os.sep, "/"))
        elif event == "c_call": builtin += 1
    sys.setprofile(profile)
    try: f()
    finally: sys.setprofile(None)
    return python, builtin, sorted(names)


def counters():
    s = line.LOCAL.run.stats
    return {"lines": s.lines, "plans": s.plans, "backwards derived": s.derived, "plans made": trace.counts["plans_made"], "kernels": trace.counts["kernels_built"]}


def main():
    out = {}
    hot.install()
    a, b = torch.ones(3), torch.ones(3)
    engine.flush()
    out["a + b, first time"] = calls(lambda: a + b)
    engine.flush()

    def adds(n):
        y = a
        for _ in range(n): y = y + b
        return y
    counted = {}
    for n in (1, 11):
        for _ in range(5):
            adds(n)
            engine.flush()
        counted[n] = calls(lambda n=n: adds(n))
        out["flush"] = calls(engine.flush)[:2]
    out["a + b, warm"] = [(counted[11][k] - counted[1][k]) / 10 for k in (0, 1)]
    for name, make in PROGRAMS.items():
        for split in (False, True):
            step = make(torch, engine.flush if split else no_flush)[0]

            def whole(step=step):
                step()
                engine.flush()
            for _ in range(6): whole()
            gc.disable()                       # a reference cycle would keep values alive and make a new plan every step
            before = counters()
            for _ in range(10): whole()
            made = {k: v - before[k] for k, v in counters().items()}
            gc.enable()
            python, builtin, _ = calls(whole)
            out[name + (", split" if split else "")] = {"made": made, "lines": recorded(step, engine, line), "python": python, "builtin": builtin}
    print(json.dumps(out))


if __name__ == "__main__": main()
