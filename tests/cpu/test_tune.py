"""Tuning: what is quicker is taken, what isn't is left, at a price that was agreed on; answers are kept, and nothing in a file can do harm."""
import ctypes
import json
import os
import random
import struct
import threading
from types import SimpleNamespace

import pytest

from forno.core.kernels import Choices
from forno.cpu import code, launch, memory, tune

from .handmade import kernel

FAST = {"": 1.0, "better": 0.8, "worse": 2.0, "alike": 0.97}


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """Budget and answers of this test's own."""
    monkeypatch.setattr(tune, "budget", tune.Budget())
    monkeypatch.setattr(tune, "_answers", [tune.Answers(str(tmp_path / "choices" / "machine.json"))])


class Plan:
    """A table of one kernel that three steps share, and a clock that only runs when something does. `costs`: milliseconds of a step, by choice; `besides`:
    seconds of other steps; `making`: seconds that new words take."""

    def __init__(self, costs, noise=0.0, kernel="k", making=0.0, besides=0.0):
        self.costs, self.names, self.noise, self.making, self.besides = costs, list(costs), noise, making, besides
        choices = Choices(kernel, lambda: tuple(self.names[1:]), self.make)
        self.steps = [SimpleNamespace(words=(5, i, 0, 0), choices=choices) for i in range(3)]
        self.words, self.pool, self.quickest, self.now, self.over, self.scratch = {}, "pool", 3e-3, 0.0, False, 0
        self.random, self.tried = random.Random(0), []

    def make(self, name):
        self.now += self.making if name else 0
        return (0, self.names.index(name)), 64 * self.names.index(name), 0

    def clock(self): return self.now
    def put(self, i, words): self.words[i] = words
    def enlarge(self, scratch, shared): self.scratch = max(scratch, self.scratch)
    def settled(self): self.over = True
    def name(self, i): return self.names[self.words[i][-1]] if i in self.words else ""

    def plain_walk(self, vals): return self.timed_steps(vals)[0]

    def timed_steps(self, vals):
        seconds = []
        self.now += self.besides
        for i in range(3):
            self.tried.append(self.name(i))
            seconds.append(1e-3 * self.costs[self.name(i)] * (1 + self.noise * self.random.random()))
            self.now += seconds[-1]
        return 0, seconds.__getitem__

    def walks(self, n=100_000):
        look = tune.Look(self, self.clock)
        while not self.over and n:
            look.walk(b"")
            n -= 1
        return look


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_quicker_one_is_taken(noise):
    plan = Plan(FAST, noise)
    plan.walks()
    assert plan.over and [plan.name(i) for i in range(3)] == ["better"] * 3
    assert list(tune.answers().found.values()) == ["better"]
    assert set(plan.tried) == set(FAST) and plan.tried.count("worse") < tune.SAMPLES      # it was hopeless
    assert plan.scratch == 64 * 3
    assert plan.words[1].tolist() == [5, 1, 0, 1]                                           # only words that differ are exchanged


def test_a_little_quicker_is_left():
    plan = Plan({"": 1.0, "alike": 0.97, "worse": 1.05}, 0.02)
    plan.walks()
    assert plan.over and [plan.name(i) for i in range(3)] == [""] * 3
    assert list(tune.answers().found.values()) == [""]


def test_answers_are_asked_for_once(monkeypatch):
    Plan(FAST).walks()
    again = Plan(FAST)
    assert tune.look(again) is None                                                         # nothing is left to find out
    tune.apply(again)
    assert [again.name(i) for i in range(3)] == ["better"] * 3
    tune.apply(other := Plan({"": 1.0, "renamed": 0.5}))
    assert other.words == {}                                                                # an answer that doesn't exist any more
    monkeypatch.setattr(tune.threads, "get_num_threads", lambda: 77)
    assert tune.look(Plan(FAST)) is not None                                                # other threads, another question


@pytest.mark.parametrize("costs", [{"": 1.0, "a": 30.0, "b": 1.08, "c": 1.09}, {"": 10.0, "a": 10.5, "b": 9.9}])
@pytest.mark.parametrize("making", [0.0, 0.02])
def test_the_budget_holds(costs, making):
    plan = Plan(costs, 0.3, making=making)
    look = tune.Look(plan, plan.clock)
    dear = 1e-3 * 1.3 * (max(costs.values()) * 3) + making * len(costs)                      # what one walk can cost before it is known
    most = 0.0
    for _ in range(2000):
        if not plan.over: look.walk(b"")
        most = max(most, tune.budget.spent - tune.SHARE * tune.budget.seen)
    assert most <= dear
    assert plan.over


def test_a_process_spends_no_more_than_a_second():
    tune.budget.seen = 1e6
    plans = [Plan({"": 1.0, "a": 1.05, "b": 1.02}, 0.3, kernel=f"k{n}", making=0.15) for n in range(8)]
    for p in plans:
        if tune.look(p) is not None: p.walks()
    assert tune.MOST < tune.budget.spent < tune.MOST + 0.5
    assert tune.look(plans[-1]) is None and [plans[-1].name(i) for i in range(3)] == [""] * 3


def test_short_plans_and_small_kernels_are_left_alone():
    plan = Plan(FAST)
    plan.quickest = tune.SHORTEST / 2
    assert tune.look(plan) is None
    small = Plan(FAST, besides=1.0)
    small.walks()
    assert small.over and set(small.tried) == {""} and tune.answers().found == {}


def test_a_new_pool_ends_it():
    plan = Plan(FAST)
    look = tune.Look(plan, plan.clock)
    for _ in range(tune.WALKS + 3): look.walk(b"")
    assert not plan.over
    plan.pool = "another"
    look.walk(b"")
    assert plan.over and [plan.name(i) for i in range(3)] == [""] * 3 and tune.answers().found == {}


def test_switched_off(monkeypatch):
    Plan(FAST).walks()
    monkeypatch.setattr(tune.flags, "TUNE", 0)
    plan = Plan(FAST)
    tune.apply(plan)
    assert plan.words == {} and tune.look(Plan(FAST, kernel="new")) is None


# ---- the file
def test_the_file_is_read_again():
    Plan(FAST).walks()
    path = tune.answers().path
    assert tune.Answers(path).found == tune.answers().found != {}
    other = tune.Answers(path)
    other.add("another process's", "x", 0.5)
    tune.answers().add("mine", "y", 0.5)
    other.save()
    tune.answers().save()
    assert set(tune.Answers(path).found) >= {"another process's", "mine"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\0\xff", '{"k": "better"}', '{"code": "older", "found": {"k": "x"}}', '{"code": "", "found": {"k": 3}}',
                                  '{"code": "", "found": "x"}', '{"code": "", "found": {"k": {"deep": 1}}}'])
def test_a_bad_file_is_none(text, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="latin-1")
    answers = tune.Answers(str(path))
    assert answers.found == {}
    answers.add("k", "better", 0.5)
    answers.save()
    assert json.loads(path.read_text()) == {"code": "", "found": {"k": "better"}}


def test_the_file_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    path = tmp_path / "c" / "m.json"
    answers = tune.Answers(str(path))
    answers.add("k", "old", 0.5)
    answers.save()

    def full(*_, **__): raise OSError(28, "No space left on device")
    for name in ("replace", "makedirs"):
        with monkeypatch.context() as m:
            m.setattr(tune.os, name, full)
            answers.add("k", "new", 0.5)
            answers.save()
        assert json.loads(path.read_text())["found"] == {"k": "old"} and os.listdir(path.parent) == ["m.json"]
    answers.add("k", "new", 0.5)
    for i in range(tune.KEPT): answers.add(str(i), "", 1.0)
    answers.save()
    assert len(json.loads(path.read_text())["found"]) == tune.KEPT


def test_without_a_cache_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(tune.code, "cache", SimpleNamespace(usable=False))
    assert tune.file() is None
    answers = tune.Answers(None)
    answers.add("k", "x", 0.5)
    answers.save()
    assert answers.found == {"k": "x"}


# ---- real plans
# operand0 += words[1], after words[2] turns of an empty loop
WAITING = kernel("""  %w = load i64, ptr %words
  %v.p = getelementptr i64, ptr %vals, i64 %w
  %p = load ptr, ptr %v.p
  %a.p = getelementptr i64, ptr %words, i64 1
  %a = load i64, ptr %a.p
  %n.p = getelementptr i64, ptr %words, i64 2
  %n = load i64, ptr %n.p
  %turn = alloca i64
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %j, %loop ]
  %j = add i64 %i, 1
  store volatile i64 %j, ptr %turn
  %more = icmp ult i64 %j, %n
  br i1 %more, label %loop, label %out
out:
  %x = load i64, ptr %p
  %y = add i64 %x, %a
  store i64 %y, ptr %p""")
TURNS = {"": 400_000, "quick": 40_000, "slow": 800_000}


def table(kernel="waiting"):
    """A plan of one step, which adds 3 to a number."""
    choices = Choices(kernel, lambda: ("quick", "slow"), lambda name: ((3, TURNS[name]), 0, 0))
    return launch.Table([(code.load(WAITING, "k"), (0, 3, TURNS[""]), False, 0, 0, choices)], 1)


def number():
    """Memory that holds 0, and what it holds now as a function."""
    at = memory.empty(8)
    there = ctypes.c_int64.from_address(at.address)
    there.value = 0
    return at, lambda: there.value


def test_a_plan_gets_quicker_and_stays_right(monkeypatch):
    monkeypatch.setattr(tune, "SHORTEST", 1e-6)
    monkeypatch.setattr(tune, "SHARE", 1.0)
    plan, (at, value) = table(), number()
    for n in range(1, 1000):
        plan.run(struct.pack("q", at.address))
        assert value() == 3 * n
        if plan.trials == 0: break
    assert plan.trials == 0 and plan.look is None
    assert plan.others[0].tolist() == [0, 3, TURNS["quick"]]
    fresh = table()                                                                         # another plan with the same kernel
    assert fresh.others[0].tolist() == [0, 3, TURNS["quick"]]
    error, seconds = fresh.timed(struct.pack("q", at.address))
    assert error is None and len(seconds) == 1 and seconds[0] > 0


def test_timed_runs_are_timed_while_a_plan_is_looked_at(monkeypatch):
    monkeypatch.setattr(tune, "SHORTEST", 1e-6)
    plan, (at, _) = table(), number()
    for _ in range(20):
        error, seconds = plan.timed(struct.pack("q", at.address))
        assert error is None and seconds[0] > 0


def test_threads_share_a_plan(monkeypatch):
    monkeypatch.setattr(tune, "SHORTEST", 1e-6)
    plan, (at, value) = table(), number()

    def work():
        for _ in range(100): plan.run(struct.pack("q", at.address))
    both = [threading.Thread(target=work) for _ in range(2)]
    for t in both: t.start()
    for t in both: t.join()
    assert value() == 3 * 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_goes_on(script):
    done = script("""
import os, sys
sys.path.insert(0, os.getcwd())
from tests.cpu import test_tune as t
t.tune.SHORTEST = 1e-6
plan, (at, value) = t.table(), t.number()
for _ in range(15): plan.run(t.struct.pack("q", at.address))
child = os.fork()
for _ in range(60): plan.run(t.struct.pack("q", at.address))
if child == 0: os._exit(value() != 3 * 75)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), value())
""")
    assert done.stdout.split() == ["0", "225"]


def test_switched_off_in_the_environment(script):
    source = """
import os, sys
sys.path.insert(0, os.getcwd())
from tests.cpu import test_tune as t
t.tune.SHORTEST = 1e-6
plan, (at, value) = t.table(), t.number()
for _ in range(300): plan.run(t.struct.pack("q", at.address))
print(len(plan.others), value())
"""
    assert script(source, FORNO_TUNE="0").stdout.split() == ["0", "900"]
    assert script(source).stdout.split() == ["1", "900"]


def test_llvm_is_not_woken(monkeypatch):
    """Machine code that nobody made yet is no choice in a process that found all of its own; nothing is kept of that kernel then."""
    monkeypatch.setattr(code.stats, "compiled", 0)
    text = f"define i64 @f() {{\n  ret i64 {random.getrandbits(60)}\n}}\n"
    with code.modestly(), pytest.raises(code.Unmade): code.load(text, "f")
    plan = Plan(FAST)
    made = plan.make

    def make(name):
        if name == "better": code.load(text, "f")
        return made(name)
    plan.make = make
    plan.steps = [SimpleNamespace(words=(5, i, 0, 0), choices=Choices("k", lambda: tuple(plan.names[1:]), make)) for i in range(3)]
    plan.walks(2000)
    assert plan.over and set(plan.tried) == {""} and tune.answers().found == {}
    code.load(text, "f")
    with code.modestly(): assert code.load(text, "f") == code.load(text, "f")
