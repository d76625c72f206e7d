"""The debug ladder FORNO_SHOW: 1 timings, 2 plans, 3 reasons, 4 loops, 5 LLVM IR, 6 assembly. Each level shows the ones below it too."""
from __future__ import annotations

import dataclasses

from ..core.flags import flags
from ..core.kernels import DeviceCall, DeviceLaunch, Launch, Nest
from ..core.plan import Plan
from ..cpu import code, tune


def planned(plan: Plan, launches):
    """What a new plan is (levels 2 to 6). `launches`: the kernel floor's answer for every step, None for host steps."""
    level = flags.SHOW
    print(f"plan: {len(plan.steps)} steps, {len(plan.outs)} outputs, {plan.arena} bytes of arena")
    for i, (step, launch) in enumerate(zip(plan.steps, launches)):
        places = " ".join(f"{p.kind}{p.index}" for p in step.places)
        by = f"  by {launch.by}" if isinstance(launch, (DeviceLaunch, DeviceCall)) else ""
        print(f"  {i:3} {step.device} {type(step.kernel).__name__.lower():7} {step.kernel.label:44} [{places}]{by}" + (f"  {step.reason}" if level >= 3 else ""))
        if level >= 4: print(loops(step.kernel))
        if level >= 5 and isinstance(launch, DeviceLaunch): print(launch.ptx)
        if level >= 5 and isinstance(launch, Launch): print(launch.program.text)
        if level >= 6 and isinstance(launch, Launch): print(code.assembly(launch.program.text, launch.program.name))


def loops(kernel) -> str:
    """A kernel noun as lines."""
    if not isinstance(kernel, Nest):
        return "      " + ", ".join(f"{f.name}={getattr(kernel, f.name)}" for f in dataclasses.fields(kernel) if f.name not in ("label", "operands"))
    lines = [f"      for {' × '.join(map(str, kernel.axes)) or '1'}" + (f", within it {' × '.join(map(str, kernel.window))}" if kernel.window else "")]
    for i, v in enumerate(kernel.body):
        fields = ", ".join(f"{f.name}={getattr(v, f.name)}" for f in dataclasses.fields(v) if f.name != "dtype" and getattr(v, f.name) not in ((), None))
        lines.append(f"        v{i} = {type(v).__name__.lower()} {fields}" + (f" : {v.dtype.name}" if v.dtype is not None else ""))
    return "\n".join(lines)


def ran(plan: Plan, seconds):
    """How long each step of one run took, and what tuning chose since the last one (level 1)."""
    slowest = sorted(zip(seconds, plan.steps), key=lambda x: -x[0])[:12]
    print(f"run: {1e6 * sum(seconds):.0f} µs in {len(plan.steps)} steps: " + ", ".join(f"{s.kernel.label} {1e6 * t:.1f}" for t, s in slowest))
    news = tune.answers().news
    while news: print(f"tuned: {news.pop(0)}")
