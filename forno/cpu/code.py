"""Machine code: compiled once per machine, loaded once per process.

Comes in: LLVM IR text and the name of its function. Goes out: the function's address. Between lie three layers: a table of this process, a folder of
object files, and LLVM (`emit.py`), on several threads when there is much to do. A `Text` comes in before it is written: where the folder knows which
machine code its structure led to, it never is.

The folder holds code that will run with the user's rights. It is used only if it belongs to this user and nobody else may write to it; every file
carries its key and a digest over key and content, so a torn, truncated or misnamed file is deleted and compiled again, never run. This protects from
accidents and from other users. It does not protect from someone who can already write as this user: nothing here is signed.
"""
from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import hashlib
import marshal
import os
import signal
import stat
import struct
import sys
import threading
import time
import warnings
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm

from ..core.flags import flags
from . import emit, isa

FORMAT = 1                                     # raise it when emit.py makes different code from the same text
_MAGIC = b"fornoobj"
_HEADER = struct.Struct("<8sQ32s32s")          # magic, length, key, digest
_THREADS = 8                                   # that compile at once, at most
_WAITS = 16                                    # tasks begun while another one waits, one within the other


@dataclass(slots=True)
class Stats:
    compiled: int = 0
    helped: int = 0                            # of the compiled: not by the thread that wanted it
    loaded: int = 0                            # objects found in the folder
    reused: int = 0                            # already in this process
    bad_files: int = 0
    unwritten: int = 0                         # full disk, read-only folder
    evicted: int = 0
    compile_seconds: float = 0.0
    load_seconds: float = 0.0


stats = Stats()
_lock = threading.RLock()                      # loading into the process
_local = threading.local()                     # the team a thread works in
_compilers: list[emit.Compiler] = []           # those that nobody uses now; they never end, so no dying thread holds LLVM's lock while another one forks
_addresses: dict[bytes, int] = {}
_claims: dict[bytes, threading.Event] = {}     # what some thread is making; the event: it has ended
_salt = f"{FORMAT}|{llvm.llvm_version_info}|{llvmlite.__version__}|{isa.cpu}|{isa.features}|".encode()
_engine, _libraries = None, 0


# ---- the folder
def folder() -> str:
    """Where objects are kept: FORNO_CACHE_DIR, or the user's cache folder."""
    base = flags.CACHE_DIR or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "forno")
    return os.path.join(base, "code")


class Cache:
    """A folder of objects with a bound. Every failure of the disk means 'not cached', is counted, and stops nothing."""

    def __init__(self, path: str, limit: int):
        self.path, self.limit, self.writes = path, limit, 0
        self.usable = limit > 0 and self._safe()

    def _safe(self) -> bool:
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            info = os.lstat(self.path)
        except OSError: return False
        if not hasattr(os, "geteuid"): return True                           # Windows: a user's folder is the user's by its access list
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022: return True
        warnings.warn(f"forno: compiled code is not cached: {self.path} must be a folder of yours that only you can write to", RuntimeWarning, stacklevel=2)
        return False

    def read(self, key: bytes) -> bytes | None:
        if not self.usable: return None
        path = os.path.join(self.path, key.hex())
        try:
            with open(path, "rb") as f:
                blob, age = f.read(), time.time() - os.fstat(f.fileno()).st_mtime
            if age > 3600: os.utime(path)                                   # recently used; an hour's precision is enough and costs no writes
        except FileNotFoundError: return None
        except OSError: return None if os.path.isdir(path) else self._unlink(path)
        code = blob[_HEADER.size:]
        if blob[:_HEADER.size] == _header(key, code): return code
        stats.bad_files += 1
        return self._unlink(path)

    def write(self, key: bytes, code: bytes) -> None:
        """Whole or not at all: a file of another name, then renamed. Two processes that write one key write the same bytes."""
        if not self.usable: return
        temporary = os.path.join(self.path, f".{key.hex()}.{os.getpid()}.{threading.get_ident()}")
        try:
            with open(temporary, "wb") as f: f.write(_header(key, code) + code)
            os.replace(temporary, os.path.join(self.path, key.hex()))
        except OSError:
            stats.unwritten += 1
            self._unlink(temporary)
        if self.writes % 256 == 0: self.evict()
        self.writes += 1

    def evict(self) -> None:
        """Oldest files first, down to four fifths of the bound; leftovers of killed writers too."""
        files, now = [], time.time()
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for e in entries:
                with contextlib.suppress(OSError):                           # another process may evict at the same time
                    info = e.stat(follow_symlinks=False)
                    if stat.S_ISREG(info.st_mode): files.append((info.st_mtime, info.st_size, e.path, e.name.startswith(".")))
        total = sum(size for _, size, _, _ in files)
        full = total > self.limit
        for mtime, size, path, temporary in sorted(files):
            if (temporary and now - mtime > 3600) or (full and total > self.limit * 4 // 5):
                self._unlink(path)
                total -= size
                stats.evicted += 1

    @staticmethod
    def _unlink(path: str) -> None:
        with contextlib.suppress(OSError): os.unlink(path)


def _header(key: bytes, code: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, len(code), key, hashlib.sha256(key + code).digest())


cache = Cache(folder(), flags.CACHE_SIZE << 20)


# ---- LLVM
@contextlib.contextmanager
def _uninterrupted():
    """llvmlite's objects don't survive an exception between two of its own lines (a double free): an interrupt waits until the kernel is made."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try: yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came: before(*came[0])


class _Gate:
    """Where threads are while they call LLVM. A fork waits until nobody is there, so that a child never inherits half a compilation or a lock."""

    def __init__(self): self.door, self.inside, self.closed = threading.Condition(), collections.Counter(), False

    def __enter__(self):
        me = threading.get_ident()
        with self.door:
            while self.closed and not self.inside[me]: self.door.wait()
            self.inside[me] += 1

    def __exit__(self, *_):
        with self.door:
            self.inside[threading.get_ident()] -= 1
            self.door.notify_all()

    def close(self):
        self.door.acquire()
        while any(n for i, n in self.inside.items() if i != threading.get_ident()):
            self.closed = True
            self.door.wait()

    def open(self):
        self.closed = False
        self.door.notify_all()
        self.door.release()


_gate = _Gate()


def exclusively(make):
    """make(), a call of LLVM that no interrupt and no fork may cut in two."""
    with _uninterrupted(), _gate: return make()


def _compile(text, name, symbol, opt, extra) -> bytes:
    if (team := getattr(_local, "team", None)) is not None: team.call()
    with _uninterrupted(), _gate:
        try: compiler = _compilers.pop()
        except IndexError: compiler = emit.Compiler(isa.cpu, isa.features)
        try: return compiler.compile(str(text), name, symbol, opt, extra)
        finally: _compilers.append(compiler)


def _link(objects: list[tuple[str, bytes]]) -> list[int]:
    """Loads objects into this process and gives their functions' addresses.

    By JITLink: it puts an object's sections side by side (the small code model needs that), and a bad object is an exception, not the end of the process.
    Engine and code are never released: at interpreter exit pool threads still stand in it.
    """
    with _uninterrupted(), _gate, _lock: return _linked(objects)


def _linked(objects) -> list[int]:
    """A frame of its own, so that llvmlite's objects in it are gone before the gate opens: they take llvmlite's lock when they go."""
    global _engine, _libraries
    if _engine is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.check_jit_execution()
        _engine = llvm.create_lljit_compiler(emit.Compiler(isa.cpu, isa.features).machine(1), use_jit_link=True, suppress_errors=True)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_engine))
    builder = llvm.JITLibraryBuilder().add_current_process()
    for symbol, code in objects: builder.add_object_img(code).export_symbol(symbol)
    _libraries += 1
    library = builder.link(_engine, f"forno{_libraries}")
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
    return [library[symbol] for symbol, _ in objects]


def _key(text: str | Text, name: str, opt: int, extra) -> bytes:
    if text.__class__ is Text: return text.key(name, opt)
    return hashlib.sha256(b"%s%d|%s|%s|%s" % (_salt, opt, name.encode(), ",".join(sorted(extra)).encode(), text.encode())).digest()


def _symbol(name: str, key: bytes) -> str: return f"{name}.{key[:12].hex()}"


# ---- texts that need not be written
class Text:
    """IR text that is written when somebody reads it, by `write()`: the text, or the text and notes about it (of what marshal knows).

    `structure` says all that it depends on besides what `_origin` counts; with it, the folder keeps the key of the text's machine code, and the notes.
    """
    __slots__ = ("write", "structure", "text", "notes")

    def __init__(self, write, structure: str | None): self.write, self.structure, self.text, self.notes = write, structure, None, None

    def __str__(self) -> str:
        if self.text is None:
            out = self.write()
            self.text, self.notes = out if out.__class__ is tuple else (out, None)
        return self.text

    def key(self, name: str, opt: int) -> bytes:
        """The key of its machine code: as the folder has it, or made from the text."""
        place = hashlib.sha256(b"%s%d|%s|%s" % (_origin(), opt, name.encode(), self.structure.encode())).digest() if self.structure and _origin() else None
        kept = cache.read(place) if place else None
        if kept is None:
            key = _key(str(self), name, opt, ())
            if place: cache.write(place, key + marshal.dumps(self.notes, 2))
            return key
        key, self.notes = kept[:32], marshal.loads(kept[32:])
        if flags.CHECK and key != _key(str(self), name, opt, ()): raise AssertionError(f"the text of {name} depends on more than {self.structure}")
        return key


@functools.cache
def _origin() -> bytes:
    """A digest of all that writes texts: forno's source, the Python that runs it, and what it knows of the processor. Empty where the source can't be read."""
    found = hashlib.sha256(_salt + repr((sys.version, isa.level, isa.attributes, isa.vector_bytes, isa.caches())).encode())
    floors = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for part in ("core", "cpu", "dnn", "kernel"):
        paths = sorted(os.path.join(at, name) for at, _, names in os.walk(os.path.join(floors, part)) for name in names if name.endswith(".py"))
        if not paths: return b""
        for path in paths:
            with open(path, "rb") as f: found.update(b"%s|%s" % (os.path.relpath(path, floors).encode(), f.read()))
    return found.digest()


def program(name: str, opt: int = 1):
    """A decorator: write(*structure), which gives the text of a module, becomes a function that gives the address of its function `name`, and the text."""
    def decorate(write):
        @functools.cache
        @functools.wraps(write)
        def made(*structure):
            text = Text(functools.partial(write, *structure), f"{write.__module__}.{write.__qualname__}{structure!r}")
            return load(text, name, opt), text
        return made
    return decorate


# ---- what other floors call
def load(text: str | Text, name: str, opt: int = 1, extra: tuple[str, ...] = ()) -> int:
    """The address of function `name` of the IR `text`. `extra`: outside symbols it may call besides `emit.ALLOWED` (the thread pool's system calls)."""
    return precompile([(text, name, opt)], extra)[0]


def precompile(jobs, extra: tuple[str, ...] = (), besides=()) -> list[int]:
    """Addresses of many (text, name, opt) at once; what has to be compiled is shared among threads, and so are the callables `besides`, which come first.
    What another thread makes already is waited for."""
    keys = {(t, n, o): _key(t, n, _level(o), extra) for t, n, o in dict.fromkeys(jobs)}
    keyed = [(keys[job], job[0], job[1], _level(job[2])) for job in jobs]
    missing = {key: (t, n, _symbol(n, key), o, extra) for key, t, n, o in keyed if key not in _addresses}
    stats.reused += len(keyed) - len(missing)
    if not missing: together(besides)
    while missing:
        claim, mine = threading.Event(), {}
        try:
            mine = {key: job for key, job in missing.items() if _claims.setdefault(key, claim) is claim and key not in _addresses}
            _make(mine, besides)
        finally:
            for key in missing:
                if _claims.get(key) is claim: del _claims[key]
            claim.set()
        besides = ()
        for key in missing.keys() - mine.keys():
            if (other := _claims.get(key)) is not None: _wait(other)
        missing = {key: job for key, job in missing.items() if key not in _addresses}          # another thread failed: it has its error, and we try
    return [_addresses[key] for key, *_ in keyed]


class Unmade(Exception):
    """Machine code that isn't there yet, asked for by somebody who can do without."""


_modest: set[int] = set()                      # threads inside `modestly`


@contextlib.contextmanager
def modestly():
    """Inside, machine code that isn't in the folder is `Unmade`, unless LLVM was at work in this process already: that alone takes 25 MB."""
    _modest.add(threading.get_ident())
    try: yield
    finally: _modest.discard(threading.get_ident())


def _make(jobs: dict, besides) -> None:
    start, me = time.perf_counter(), threading.get_ident()
    found, makers = {key: cache.read(key) for key in jobs}, []
    if me in _modest and not stats.compiled and None in found.values(): raise Unmade(", ".join(name for _, name, *_ in jobs.values()))
    compiling = time.perf_counter()

    def compile(key):
        found[key] = _compile(*jobs[key])
        cache.write(key, found[key])
        makers.append(threading.get_ident())
    largest = sorted((key for key, code in found.items() if code is None), key=lambda key: -len(str(jobs[key][0])))
    together([*besides, *(functools.partial(compile, key) for key in largest)])
    linking = time.perf_counter()
    addresses = _link([(jobs[key][2], code) for key, code in found.items()]) if jobs else ()
    _addresses.update(zip(found, addresses))
    stats.loaded += len(jobs) - len(makers)
    stats.compiled += len(makers)
    stats.helped += len(makers) - makers.count(me)
    stats.compile_seconds += linking - compiling
    stats.load_seconds += time.perf_counter() - linking + compiling - start


def assembly(text: str | Text, name: str, opt: int = 1) -> str:
    """What `load` would run, as text."""
    with _gate: return emit.Compiler(isa.cpu, isa.features).assembly(str(text), name, _level(opt))


def _level(opt: int) -> int: return flags.OPT if flags.OPT >= 0 else opt


# ---- several at once
def together(tasks) -> None:
    """Runs callables. As soon as one of them needs LLVM, further threads take tasks too: without that, threads would only cost. All threads have ended
    when this returns; the first error is raised."""
    outer = getattr(_local, "team", None)
    team = _local.team = _Team(tasks, outer)
    try: team.work()
    finally:
        _local.team = outer
        team.tasks.clear()                     # after an error or an interrupt: the others stop after their current kernel
        for t in team.threads: t.join()
    if team.errors: raise team.errors[0]


class _Team:
    def __init__(self, tasks, outer): self.tasks, self.outer, self.called, self.threads, self.errors = collections.deque(tasks), outer, False, [], []

    def call(self):
        """Start the other threads, once. They are no daemons: a process that ends waits for the kernels they are at."""
        if self.outer is not None: self.outer.call()
        if self.called: return
        self.called = True                     # before there are other threads
        for i in range(min(isa.cores(), _THREADS, len(self.tasks) + 1) - 1):
            t = threading.Thread(target=self.help, name=f"forno-compile-{i}")
            try: t.start()
            except RuntimeError: return        # no threads left: fewer do the work
            self.threads.append(t)

    def help(self):
        _local.team = self
        try: self.work()
        except BaseException as error:
            self.errors.append(error)
            self.tasks.clear()

    def work(self):
        while self.step(): pass

    def step(self) -> bool:
        """Runs a task, if there is one."""
        try: task = self.tasks.popleft()
        except IndexError: return False
        task()
        return True


def _wait(end: threading.Event) -> None:
    """Until another thread has made what this one needs too; its team's tasks meanwhile. They may have to wait in turn, but not without end."""
    team, depth = getattr(_local, "team", None), getattr(_local, "waits", 0)
    _local.waits = depth + 1
    try:
        while team is not None and depth < _WAITS and not end.is_set() and team.step(): pass
    finally: _local.waits = depth
    end.wait()


def _child() -> None:
    """In a forked child: the threads that made something are gone."""
    global _gate
    _gate = _Gate()
    _claims.clear()


if hasattr(os, "register_at_fork"): os.register_at_fork(before=lambda: _gate.close(), after_in_parent=lambda: _gate.open(), after_in_child=_child)
