"""Values that only leave: `return loss.item()`.

A number that a function asks for and does nothing with but give it back needs no guard, and nobody has to wait for it: it is computed when the call is over.
That nothing else happens to it is read from the byte code of the frames that it passes on its way out (`only_leaves`). Whichever way the code goes on from
the look, the value may be moved (into variables of that frame, tuples, lists, values of dictionaries), and nothing may take it: no call, no operator, no
attribute, no branch, and no handler of exceptions may find it in a variable. So no Python can tell what stands in its stead: a `Later`.

Where this can't be seen (an instruction that isn't known here, a function called under another name), the value is an ordinary look.
"""
from __future__ import annotations

import bisect
import dis
import functools
import os

from ..core.hot import Source
from ..graph.line import Node

HOME = os.path.dirname(os.path.dirname(__file__)) + os.sep
LOADS = frozenset(("LOAD_METHOD", "LOAD_ATTR", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF"))
PEEPHOLES = frozenset(("locals", "vars", "dir", "eval", "exec", "breakpoint", "_getframe", "currentframe", "settrace"))       # through which variables are seen
PUSHES = dict.fromkeys((         # what an instruction leaves on the stack; it takes what its effect says beyond that. Those that aren't here end the search
    "LOAD_CONST LOAD_FAST LOAD_FAST_CHECK LOAD_FAST_BORROW LOAD_SMALL_INT LOAD_NAME LOAD_DEREF LOAD_CLOSURE LOAD_CLASSDEREF PUSH_NULL BINARY_OP BINARY_SUBSCR BINARY_ADD BINARY_SUBTRACT BINARY_MULTIPLY "
    "BINARY_TRUE_DIVIDE BINARY_FLOOR_DIVIDE BINARY_MODULO BINARY_POWER BINARY_MATRIX_MULTIPLY BINARY_SLICE COMPARE_OP IS_OP CONTAINS_OP UNARY_NEGATIVE UNARY_NOT UNARY_INVERT "
    "BUILD_TUPLE BUILD_LIST BUILD_MAP BUILD_CONST_KEY_MAP BUILD_SLICE BUILD_STRING BUILD_SET FORMAT_VALUE LIST_TO_TUPLE GET_ITER MAKE_FUNCTION LOAD_ASSERTION_ERROR CALL CALL_FUNCTION CALL_METHOD CALL_FUNCTION_KW CALL_KW CALL_FUNCTION_EX").split(), 1)
PUSHES |= dict.fromkeys("STORE_FAST POP_TOP STORE_ATTR STORE_SUBSCR STORE_SLICE STORE_DEREF DELETE_FAST PRECALL KW_NAMES NOP RAISE_VARARGS".split(), 0) | {"BEFORE_WITH": 2}
GATHERS = frozenset(("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_CONST_KEY_MAP"))       # of which the value may become a member
ALWAYS = frozenset(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE"))


class Later:
    """What stands for a value until the call is over. `how`: what is wanted of the tensor of value n."""
    __slots__ = ("n", "how")

    def __init__(self, n: Node, how): self.n, self.how = n, how


@functools.lru_cache(1024)
def code_of(code) -> tuple[list, list]:
    """(instructions, their offsets)."""
    found = list(dis.get_instructions(code))
    return found, [i.offset for i in found]


def at(code, offset: int) -> int:
    """The index of the instruction that a frame is at, or in the cache behind which it is."""
    return bisect.bisect_right(code_of(code)[1], offset) - 1


def only_leaves(frame, inner, root, f) -> bool:
    """Does what the function of code `inner`, called in `frame`, gives back do nothing but leave, through all frames up to the one before `root`, which called f?"""
    while frame is not root:
        code = frame.f_code
        if code.co_flags & 0x2A0 or PEEPHOLES & set(code.co_names): return False              # generators and coroutines
        ours = code.co_filename.startswith(HOME)
        if not called_directly(code, frame.f_lasti, inner.co_name, ours) or guarded(code, frame.f_lasti, ours): return False
        way = passes(code, frame.f_lasti)
        if way is None: return False
        if not way: return True                # it was dropped here
        frame, inner = frame.f_back, code
    f = getattr(f, "__func__", f)
    return isinstance(f, Source) or getattr(f, "__code__", None) is inner


def guarded(code, offset: int, ours: bool) -> bool:
    """Would somebody catch an error at this place? (forno's own `with` doesn't.)"""
    entries = getattr(dis.Bytecode(code), "exception_entries", None)
    if entries is None: return any([i.opname.startswith("SETUP_") for i in code_of(code)[0]])
    instructions = code_of(code)[0]
    around = [e for e in entries if e.start <= offset < e.end]
    return any([not ours or instructions[at(code, e.target) + 1].opname != "WITH_EXCEPT_START" for e in around])


def called_directly(code, offset: int, name: str, ours: bool) -> bool:
    """Does the call at this place call what it finds under this name, or (`ours`) what a variable of forno's holds? Not sorted or map, which call it in turn."""
    instructions, k = code_of(code)[0], at(code, offset)
    call = instructions[k]
    if call.opname not in ("CALL", "CALL_FUNCTION", "CALL_METHOD", "CALL_FUNCTION_EX"): return False
    todo = 1 + (call.arg & 1) if call.opname == "CALL_FUNCTION_EX" else call.arg           # arguments that the code before put on the stack
    while instructions[k - 1].opname in ("PRECALL", "KW_NAMES"): k -= 1
    while todo and k > 0:
        k -= 1
        i = instructions[k]
        if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs: return False
        todo -= dis.stack_effect(i.opcode, i.arg)
    if instructions[k - 1].opname == "PUSH_NULL": k -= 1
    load = instructions[k - 1]
    return load.opname in LOADS and load.argval == name or ours and load.opname in ("LOAD_FAST", "LOAD_DEREF")


@functools.lru_cache(1024)
def passes(code, offset: int) -> bool | None:
    """What becomes of what the call at this place gives, whichever way the code goes on: True: it may be in what the code returns; False: it is dropped; None:
    something else may happen to it."""
    start = at(code, offset) + 1
    todo, met, visited, ever, out = [(start, (True,), frozenset())], set(), set(), set(), False
    while todo:
        state = todo.pop()
        if state in met: continue
        met.add(state)
        visited.add(state[0])
        following = moved(code, *state)
        if following is None or len(met) > 2000: return None
        for s in following:
            if s[0] is None: out |= s[1]
            else:
                ever |= s[2]
                todo.append(s)
    return None if read_elsewhere(code, ever, visited) else out


def moved(code, k: int, stack: tuple, holding: frozenset) -> list | None:
    """What follows instruction k: (index, where on the stack's known top the value is, variables that hold it) each; (None, is the value in it) for what the
    code returns. None: the value is used."""
    i = code_of(code)[0][k]
    name = i.opname
    if name in ("RETURN_VALUE", "RETURN_CONST"): return [(None, name == "RETURN_VALUE" and stack[-1:] == (True,))]
    if name in ("COPY", "SWAP"):
        full = [False] * (i.arg - len(stack)) + list(stack)
        if name == "COPY": full.append(full[-i.arg])
        else: full[-1], full[-i.arg] = full[-i.arg], full[-1]
        return [(k + 1, trimmed(full), holding)]
    if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs: return jumped(code, k, stack, holding)
    pushes = effect_of(i)
    if pushes is None: return None
    takes = pushes - dis.stack_effect(i.opcode, i.arg)
    taken, rest = split(stack, takes)
    if name == "STORE_FAST": holding = holding | {i.argval} if taken[0] else holding - {i.argval}
    elif name == "DELETE_FAST": holding = holding - {i.argval}
    elif name.startswith("LOAD_FAST"): return [(k + 1, trimmed([*rest, i.argval in holding]), holding)]
    elif name in GATHERS:
        keys = taken[::2] if name == "BUILD_MAP" else taken[-1:] if name == "BUILD_CONST_KEY_MAP" else []
        return None if any(keys) else [(k + 1, trimmed([*rest, any(taken)]), holding)]
    elif any(taken) and name != "POP_TOP": return None
    elif name == "RAISE_VARARGS": return []
    return [(k + 1, trimmed([*rest, *[False] * pushes]), holding)]


def jumped(code, k: int, stack: tuple, holding: frozenset) -> list | None:
    """The same for jumps, which may look at what is on the stack, but not at the value."""
    i = code_of(code)[0][k]
    ways = [True] if i.opname in ALWAYS else [False, True] if i.opname.startswith(("POP_JUMP", "JUMP_IF", "FOR_ITER")) else []
    takes = 0 if i.opname in ALWAYS else 1
    taken, rest = split(stack, takes)
    if not ways or any(taken): return None
    return [(at(code, i.argval) if way else k + 1, trimmed([*rest, *[False] * (takes + dis.stack_effect(i.opcode, i.arg, jump=way))]), holding) for way in ways]


def split(stack: tuple, takes: int) -> tuple[list, list]:
    """(what an instruction takes from the stack's top, what stays)."""
    full = [False] * (takes - len(stack)) + list(stack)
    return full[len(full) - takes:], full[:len(full) - takes]


def trimmed(stack: list) -> tuple:
    """A stack from where the value stands deepest: what lies below doesn't matter."""
    return tuple(stack[stack.index(True):]) if True in stack else ()


def effect_of(i) -> int | None:
    """How many values an instruction leaves; None where it isn't known."""
    if i.opname in ("LOAD_GLOBAL", "LOAD_METHOD", "LOAD_ATTR"): return dis.stack_effect(i.opcode, i.arg) + (i.opname != "LOAD_GLOBAL")
    return PUSHES.get(i.opname)


def read_elsewhere(code, names: set, visited: set) -> bool:
    """Might a handler of exceptions read one of these variables, or what comes behind it?"""
    if not getattr(code, "co_exceptiontable", b"?"): return False
    reads = [(k, i) for k, i in enumerate(code_of(code)[0]) if "FAST" in i.opname and i.opname not in ("STORE_FAST", "DELETE_FAST") and k not in visited]
    return any([not names.isdisjoint(i.argval if i.argval.__class__ is tuple else (i.argval,)) for _, i in reads])
