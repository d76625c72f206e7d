"""Control: branches are blocks of the host's code."""
from __future__ import annotations

from ..layout import BUDGET, ENDLESS, EXIT, NO_TARGET, TRAP, WAIT
from .table import instruction


def block(label: str) -> str: return f'"L.{label}"'


@instruction("bra")
def branch(code, ins):
    code.emit(f"br label %{block(ins.args[0])}")


@instruction("brx")
def indexed(code, ins):
    """Out of range is a fault; PTX leaves it undefined."""
    targets = code.function.targets[ins.args[1]]
    index, bad = code.get(ins.args[0], 32), code.label("bad")
    cases = " ".join(f"i32 {i}, label %{block(t)}" for i, t in enumerate(targets))
    code.emit(f"switch i32 {index}, label %{bad} [ {cases} ]")
    code.at(bad)
    code.call("fault", "%B.in", "%T.in", str(NO_TARGET), code.wide(index, 32), str(code.line << 16))
    code.go("fault")


@instruction("ret exit")
def leave(code, ins):
    code.emit(f"store i64 {EXIT}, ptr {code.word_place('T', WAIT)}")
    code.emit("ret i64 0")


@instruction("trap brkpt")
def trap(code, ins):
    code.call("fault", "%B.in", "%T.in", str(TRAP), "0", str(code.line << 16))
    code.go("fault")


def spend(code):
    """A branch backwards costs one of the launch's budget."""
    place = code.word_place("B", BUDGET)
    left = code.op(f"sub i64 {code.op(f'load i64, ptr {place}')}, 1")
    code.emit(f"store i64 {left}, ptr {place}")
    code.fault_if(code.op(f"icmp slt i64 {left}, 0"), ENDLESS)
