"""Reading pickles of tensors safely: an interpreter that knows the opcodes of data and calls nothing but an allow-list.

Python's own Unpickler would run whatever a file names. This one executes no code of the file: globals come from a table, only functions of that
table are called, attributes are set on nothing but OrderedDicts and classes the user allowed. It can't be made to use much more memory than the file
has bytes.
"""
from __future__ import annotations

import codecs
import contextlib
import pickle
import struct
from collections import Counter, OrderedDict

user_globals: dict[str, object] = {}           # what add_safe_globals allowed, by qualified name

PLAIN = {
    "collections.OrderedDict": OrderedDict, "collections.Counter": Counter, "builtins.set": set, "builtins.complex": complex,
    "builtins.bytearray": bytearray, "builtins.frozenset": frozenset,
}
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_KEYS = (str, int, float, bool, bytes, complex, type(None))


def _name(f) -> tuple[object, str]:
    """What is allowed and its name in files, where forno's own modules go under torch's names."""
    if isinstance(f, tuple): return f
    name = f"{f.__module__}.{f.__qualname__}"
    return f, "torch" + name[5:] if name.startswith("forno.nn.") else name


def add_safe_globals(safe_globals):
    """Lets weights_only loading use these classes and functions (each itself, or (itself, "name in the file"))."""
    for f in safe_globals:
        obj, name = _name(f)
        user_globals[name] = obj


def get_safe_globals() -> list: return list(user_globals.values())
def clear_safe_globals(): user_globals.clear()


@contextlib.contextmanager
def safe_globals(allowed):
    """`add_safe_globals` inside a `with` block."""
    before = dict(user_globals)
    add_safe_globals(allowed)
    try: yield
    finally:
        user_globals.clear()
        user_globals.update(before)


def refused(what: str, way_out: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"Weights only load failed: {what}. {way_out}")


_TRUST = ("Loading it with weights_only=False can run any code the file contains: do that only if you trust its source")


class _Mark: pass


_MARK = _Mark()


def _encode(text, encoding="latin1"):
    """`_codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1" or not isinstance(text, str): raise pickle.UnpicklingError("bytes written in another encoding than latin1")
    return codecs.latin_1_encode(text)[0]


class Reader:
    """One pickle in `data` from `at` on; `table` maps qualified names to what they stand for; `at` is behind it afterwards."""

    def __init__(self, data: memoryview, table: dict, persistent_load, at: int = 0):
        self.data, self.table, self.persistent_load, self.at = data, PLAIN | {"_codecs.encode": _encode} | table | user_globals, persistent_load, at
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.mine: set[int] = {id(f) for f in self.table.values()}
        self.user: set[int] = {id(f) for f in user_globals.values()}

    def load(self):
        stack, table = self.stack, _OPCODES
        while True:
            op = self._take(1)[0]
            if op == 0x2E:                     # STOP
                if len(stack) != 1: raise pickle.UnpicklingError(f"the pickle ends with {len(stack)} values instead of one")
                return stack.pop()
            f = table.get(op)
            if f is None: raise refused(f"Unsupported operand {op}", _TRUST)
            f(self)

    # ---- bytes

    def _take(self, n: int) -> memoryview:
        at = self.at
        if n < 0 or at + n > len(self.data): raise pickle.UnpicklingError(f"pickle data was truncated: {n} bytes wanted at {at} of {len(self.data)}")
        self.at = at + n
        return self.data[at:at + n]

    def _number(self, form: str) -> int: return struct.unpack("<" + form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        stop = self.at
        while stop < len(self.data) and self.data[stop] != 10 and stop - self.at < 1000: stop += 1
        text = bytes(self._take(stop - self.at)).decode()
        if bytes(self._take(1)) != b"\n": raise pickle.UnpicklingError("a name of more than 1000 bytes")
        return text

    # ---- the stack

    def _pop(self):
        if not self.stack or self.stack[-1] is _MARK: raise pickle.UnpicklingError("the pickle takes more from its stack than there is")
        return self.stack.pop()

    def _top(self, kind, what):
        if not self.stack or not isinstance(self.stack[-1], kind): raise refused(f"{what} something else than {kind}", _TRUST)
        return self.stack[-1]

    def _marked(self) -> list:
        stack, i = self.stack, len(self.stack) - 1
        while i >= 0 and stack[i] is not _MARK: i -= 1
        if i < 0: raise pickle.UnpicklingError("the pickle has no mark where it needs one")
        out = stack[i + 1:]
        del stack[i:]
        return out

    def _set_items(self, items):
        target = self._top(dict, "Can only set items of dicts, not of")
        for k, v in zip(items[::2], items[1::2]): target[self._key(k)] = v

    def _key(self, k, depth=0):
        """Keys are hashed: plain ones only, and no deep nesting, whose hash would overflow C's stack."""
        if isinstance(k, tuple) and depth < 10:
            for x in k: self._key(x, depth + 1)
        elif not isinstance(k, _KEYS) and id(k) not in self.mine: raise refused(f"a dict key of type {type(k).__name__}", _TRUST)
        return k

    # ---- globals and calls

    def _global(self, module: str, name: str):
        module = _OLD_MODULES.get(module, module)
        full = f"{module}.{name}"
        found = self.table.get(full)
        if found is None:
            raise refused(f"Unsupported global: GLOBAL {full} was not an allowed global by default", "Allow it with "
                          f"`serialization.add_safe_globals([{name}])` or the `serialization.safe_globals([{name}])` context manager if you trust "
                          f"this class or function. {_TRUST}")
        return found

    def _reduce(self):
        args = self._pop()
        f = self._pop()
        if id(f) not in self.mine or not callable(f) or not isinstance(args, tuple):
            raise refused(f"Trying to call reduce for a {type(f).__name__}", _TRUST)
        if f is bytearray and not (len(args) <= 1 and all(isinstance(x, (bytes, bytearray)) for x in args)) and len(args) != 2:
            raise refused("a bytearray of something else than bytes", _TRUST)          # bytearray(10**12) would allocate
        if f in (set, frozenset):
            for x in args[0] if args else (): self._key(x)
        if f in (OrderedDict, Counter) and args:
            if len(args) != 1 or type(args[0]) not in (dict, list): raise refused(f"arguments of {f.__name__}", _TRUST)
            if type(args[0]) is list:
                for x in args[0]: self._key(x[0] if f is OrderedDict else x)
        self.stack.append(f(*args))

    def _new(self):
        args, cls = self._pop(), self._pop()
        if id(cls) not in self.user and cls not in (OrderedDict, Counter): raise refused(f"Trying to make a new {type(cls).__name__}", _TRUST)
        self.stack.append(cls.__new__(cls, *args))

    def _build(self):
        state = self._pop()
        target = self.stack[-1] if self.stack else None
        if type(target) is OrderedDict and isinstance(state, dict): target.__dict__.update({k: v for k, v in state.items() if k[:2] != "__"})
        elif id(type(target)) in self.user:
            if hasattr(target, "__setstate__"): target.__setstate__(state)
            elif isinstance(state, dict): target.__dict__.update(state)
            else: raise refused(f"a state of type {type(state).__name__}", _TRUST)
        else: raise refused(f"Can only build OrderedDicts and classes you allowed, not {type(target).__name__}", _TRUST)

    def _get(self, i):
        if i not in self.memo: raise pickle.UnpicklingError(f"the pickle refers to its value {i}, which it has not made")
        self.stack.append(self.memo[i])

    def _put(self, i):
        if not self.stack or self.stack[-1] is _MARK: raise pickle.UnpicklingError("the pickle remembers a value it has not made")
        self.memo[i] = self.stack[-1]

    def _append(self, items):
        self._top(list, "Can only append to lists, not to").extend(items)

    def _add(self, items):
        target = self._top(set, "Can only add to sets, not to")
        for x in items: target.add(self._key(x))

    def _stack_global(self):
        module, name = _pairs(self)
        if not isinstance(module, str) or not isinstance(name, str): raise pickle.UnpicklingError("the name of a global is not text")
        self.stack.append(self._global(module, name))

    def _proto(self):
        n = self._take(1)[0]
        if not 2 <= n <= 5: raise refused(f"pickle protocol {n}", _TRUST)

    def _tuple(self, n):
        self.stack.append(tuple(reversed([self._pop() for _ in range(n)])))


def _push(make):
    def run(r): r.stack.append(make(r))
    return run


def _text(form): return _push(lambda r: str(r._take(r._number(form)), "utf-8", "surrogatepass"))
def _bytes(form): return _push(lambda r: bytes(r._take(r._number(form))))
def _long(form): return _push(lambda r: int.from_bytes(r._take(r._number(form)), "little", signed=True))


def _pairs(r): return [r._pop() for _ in range(2)][::-1]


_OPCODES = {ord(op): run for op, run in {
    "\x80": Reader._proto, "\x95": lambda r: r._take(8), "(": lambda r: r.stack.append(_MARK), "0": lambda r: r.stack.pop(),
    "1": lambda r: r._marked(),
    "N": _push(lambda r: None), "\x88": _push(lambda r: True), "\x89": _push(lambda r: False),
    "J": _push(lambda r: r._number("i")), "K": _push(lambda r: r._number("B")), "M": _push(lambda r: r._number("H")), "\x8a": _long("B"),
    "\x8b": _long("i"),
    "G": _push(lambda r: struct.unpack(">d", r._take(8))[0]),
    "X": _text("I"), "\x8c": _text("B"), "\x8d": _text("Q"), "B": _bytes("I"), "C": _bytes("B"), "\x8e": _bytes("Q"),
    "T": _text("i"), "U": _text("B"), "\x96": _push(lambda r: bytearray(r._take(r._number("Q")))),
    "]": _push(lambda r: []), "}": _push(lambda r: {}), ")": _push(lambda r: ()), "\x8f": _push(lambda r: set()),
    "l": _push(lambda r: r._marked()), "t": _push(lambda r: tuple(r._marked())), "\x85": lambda r: r._tuple(1), "\x86": lambda r: r._tuple(2),
    "\x87": lambda r: r._tuple(3), "\x91": _push(lambda r: frozenset(map(r._key, r._marked()))),
    "a": lambda r: r._append([r._pop()]), "e": lambda r: r._append(r._marked()), "s": lambda r: r._set_items(_pairs(r)),
    "u": lambda r: r._set_items(r._marked()),
    "\x90": lambda r: r._add(r._marked()),
    "q": lambda r: r._put(r._take(1)[0]), "r": lambda r: r._put(r._number("I")), "\x94": lambda r: r._put(len(r.memo)),
    "h": lambda r: r._get(r._take(1)[0]), "j": lambda r: r._get(r._number("I")),
    "c": _push(lambda r: r._global(r._line(), r._line())), "\x93": Reader._stack_global,
    "R": Reader._reduce, "\x81": Reader._new, "b": Reader._build, "Q": _push(lambda r: r.persistent_load(r._pop())),
}.items()}
