"""Words for a plan: which rows share a kernel, and why."""
from __future__ import annotations

from ..core.graph import Value
from ..core.plan import Plan
from .fuse import Group
from .values import MOVE, SINK


def label(values: list[Value]) -> str:
    """A kernel's short name: its rows in order."""
    names = [v.op.name for v in values if v.op is not MOVE and v.op is not SINK] or ["write" if any(v.op is SINK for v in values) else "copy"]
    return "+".join(names) if len(names) <= 5 else "+".join((*names[:3], f"…{len(names) - 4}…", names[-1]))


def reason(g: Group) -> str:
    """Why this group is one kernel."""
    v = g.nodes[0]
    if g.solo is not None: return f"a kernel of its own: {v.op.kind} row"
    if len(g.nodes) == 1: return f"a copy: {v.attr}" if v.op is MOVE else "one row"
    outer = sum([id(n) in g.outer for n in g.nodes])
    if g.window is None: return f"{len(g.nodes)} values with one index"
    return f"{len(g.nodes) - outer} values with one index, {outer} once per row of {' and '.join(str(hi // lo) for lo, hi in g.window)}"


def text(plan: Plan, detail: int = 2) -> str:
    """FORNO_SHOW=2: the steps. 3: every step's body too."""
    out = [str(plan)]
    if detail >= 3:
        for i, s in enumerate(plan.steps):
            out.append(f"step {i}: {s.kernel.label}  ({s.reason})")
            body = getattr(s.kernel, "body", None)
            if body is not None:
                out.append(f"  axes {list(s.kernel.axes)} window {list(s.kernel.window)}")
                out.extend(f"  %{j} = {e}" for j, e in enumerate(body))
            else: out.append(f"  {s.kernel}")
    return "\n".join(out)
