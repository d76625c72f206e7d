"""Hot functions: their machine code does what their Python does, gives back every reference, and covers all that are marked."""
import functools
import gc
import inspect
import json
import os
import pathlib
import subprocess
import sys

import pytest

import forno
from forno.core import hot as marks
from forno.core.hot import hot
from forno.cpu import hot as machine
from forno.cpu.hot.expressions import Unsupported
from forno.cpu.hot.function import translate
from forno.cpu.hot.layout import Layout

ROOT = pathlib.Path(__file__).parents[2]
needed = pytest.mark.skipif(marks.Hot is None, reason="this interpreter, or FORNO_HOT=0, has no machine code for Python functions")

PROGRAM = '''
import gc, json, sys
from forno.core import hot as marks
from forno.core.hot import hot, know
from forno.cpu import hot as machine

new = object.__new__
SEVEN = 7


@know
class Pair:
    __slots__ = ("a", "b", "c", "__weakref__")
    def __init__(self, a, b): self.a, self.b = a, b


class Odd:
    """Says no about itself, and breaks when it is compared."""
    def __bool__(self): raise ZeroDivisionError("truth")
    def __eq__(self, other): raise ZeroDivisionError("equality")
    __hash__ = None


@hot
def slots(p, x):
    """Reads a slot."""
    if p.a is x: return p.b
    return p.c


@hot
def lists(n: int, rows):
    out = []
    for k, v in rows:
        if v > n: out.append(k)
        elif v == 3: break
        else: continue
    return out, len(rows)


@hot
def any_arguments(*args, **kw):
    if kw: return args, kw
    return args


@hot
def caught(p):
    try: x = p.c or SEVEN
    except AttributeError: return "none"
    else: p.c = None
    return x


@hot
def counted(xs, n: int):
    total = 0
    for i in range(n): total = total + xs[i]
    return [x for x in xs if x is not None], (total, n - 1), xs[0] if n > 1 else xs[-1]


@hot
def dictionary(d, key):
    v = d.get(key, 5)
    d[key] = (v, v)
    p = new(Pair)
    p.a = p.b = v
    p.a, p.b = p.b, d
    return p.a


@hot
def undone(xs):
    try:
        for x in xs: x.append(1)
    except BaseException as error:
        xs.append(type(error))
        raise
    return xs


@hot
def default(a, b=3): return (a, b) if a and b or not a else a in b


@hot
def waiting(xs):
    while xs:
        if xs[0] == 4: break
        xs.pop(0)
    return xs


@hot
def refused(x):
    if x is not None: raise KeyError("no")
    y = x
    return unset(y)


@hot
def unset(x):
    if x is not None: z = x
    return z


@hot
def swapped(a, b):
    a, b = b, a
    return a, b


@hot
def nested(f, *args): return f(*args), max(*args, 3)


def outcomes():
    p, o = Pair(1, "x"), Odd()
    calls = [lambda: slots(p, 1), lambda: slots(p, 2), lambda: slots(3, 4), lambda: slots(), lambda: slots(x=1, p=p), lambda: lists(2, [("a", 1), ("b", 5), ("c", 3), ("d", 9)]),
             lambda: lists("x", []), lambda: lists(1, ((1, 2, 3),)), lambda: lists(0, iter([(1, 1)])), lambda: lists(0, {"ab": 1}), lambda: any_arguments(1, 2, x=3), lambda: any_arguments(),
             lambda: any_arguments(1), lambda: caught(p), lambda: caught(Pair(0, 0)), lambda: counted([1, 2, None], 2), lambda: counted((1, 2), 1), lambda: counted([1], 3),
             lambda: dictionary({1: 2}, 1), lambda: dictionary({}, "k"), lambda: dictionary({}, []), lambda: dictionary([], 0), lambda: undone([[], [2]]), lambda: undone([[], 3]),
             lambda: default(1), lambda: default(0), lambda: default(1, 0), lambda: default(a=0, b=[4]), lambda: default(o), lambda: default(2, ()), lambda: waiting([1, 2, 4, 5]),
             lambda: waiting([o]), lambda: waiting([]), lambda: refused(1), lambda: refused(None), lambda: swapped(1, "b"), lambda: nested(len, "abc"), lambda: nested(divmod, 7, 2)]
    found = []
    for call in calls:
        try: found.append(repr(call()))
        except Exception as error: found.append((type(error).__name__, str(error)))
    return found


before = outcomes()
machine.install()
same = [a == b or a[0] == b[0] in ("ValueError", "UnboundLocalError") for a, b in zip(before, outcomes())]       # the text of two errors is shorter
for _ in range(50): outcomes()
gc.collect()
blocks = sys.getallocatedblocks()
watched = [None, True, SEVEN, Pair, list, tuple, machine.function.NO_KEYWORDS]
kept = [sys.getrefcount(x) for x in watched]
for _ in range(300): outcomes()
gc.collect()
grown = [sys.getrefcount(x) - k for x, k in zip(watched, kept)]
print(json.dumps({"same": same, "left": [str(e) for e in machine.left], "grown": grown, "blocks": sys.getallocatedblocks() - blocks, "before": before}))
'''


@needed
def test_machine_code_does_what_python_does(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["left"]
    wrong = [(k, b) for k, (s, b) in enumerate(zip(found["same"], found["before"])) if not s]
    assert not wrong
    assert max(map(abs, found["grown"])) < 20 and abs(found["blocks"]) < 300, found          # 300 rounds: one reference lost or kept would show as 300


@needed
def test_every_hot_function_has_machine_code():
    x = forno.ones(3)
    for _ in range(5): (x + x).sum().item()    # a program that repeats itself
    assert machine._done and not machine.left, machine.left


@needed
@pytest.mark.parametrize("text", ["def f(x): yield x", "def f(x): return lambda: x", "def f(x):\n with x: pass", "def f(x):\n global y\n y = x", "def f(x, *, y): return y",
                                  "def f(x): return f'{x}'", "def f(x): return x[1:2]", "def f(x): return 0 < x < 3", "def f(x): return x / 2", "def f(x):\n del x"])
def test_more_than_it_knows_is_refused(text, tmp_path):
    path = tmp_path / "more.py"
    path.write_text(text)
    names = {}
    exec(compile(text, str(path), "exec"), names)
    with pytest.raises(Unsupported, match=r"f, line \d+"): translate(names["f"], Layout(marks.Hot))


@needed
def test_to_people_it_is_a_function():
    def add(self, b=2):
        """Adds."""
        return self.a + b
    f = hot(add)

    class C:
        a = 1
        method = f
    kept = C.method
    C.method = kept                            # as programs do that replace a method for a while
    assert C().method() == 3 and C().method(b=5) == 6 and kept is f
    assert f.__name__ == "add" and f.__doc__ == "Adds." and str(inspect.signature(f)) == "(self, b=2)"
    with pytest.raises(TypeError, match="add"): f()

    @functools.wraps(f)
    def twice(*args): return f(*args) * 2
    assert hot(twice)(C()) == 6 and inspect.unwrap(hot(twice)) is add          # a wrapper of a hot function that is hot itself
    gc.collect()
