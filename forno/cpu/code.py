"""Machine code: compiled once per machine, loaded once per process.

Comes in: LLVM IR text and the name of its function. Goes out: the function's address. Between lie three layers: a table of this process, a folder of
object files, and LLVM (`emit.py`; in several processes when there is much to do).

The folder holds code that will run with the user's rights. It is used only if it belongs to this user and nobody else may write to it; every file
carries its key and a digest over key and content, so a torn, truncated or misnamed file is deleted and compiled again, never run. This protects from
accidents and from other users. It does not protect from someone who can already write as this user: nothing here is signed.
"""
from __future__ import annotations

import collections
import contextlib
import ctypes
import hashlib
import os
import pickle
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm

from ..core.flags import flags
from . import emit, isa
from .emit import BadCode

FORMAT = 1                                     # raise it when emit.py makes different code from the same text
_MAGIC = b"fornoobj"
_HEADER = struct.Struct("<8sQ32s32s")          # magic, length, key, digest
_HELPER = os.path.abspath(emit.__file__)
_HELP_FROM = 24                                # kernels to compile before a helper process (about 0.15 s to start) pays


@dataclass(slots=True)
class Stats:
    compiled: int = 0
    helped: int = 0                            # of the compiled: by helper processes
    loaded: int = 0                            # objects found in the folder
    reused: int = 0                            # already in this process
    bad_files: int = 0
    unwritten: int = 0                         # full disk, read-only folder
    evicted: int = 0
    compile_seconds: float = 0.0
    load_seconds: float = 0.0


stats = Stats()
_lock = threading.RLock()                      # LLVM's calls; held over a fork, so that a child never inherits it locked
_addresses: dict[bytes, int] = {}
_salt = f"{FORMAT}|{llvm.llvm_version_info}|{llvmlite.__version__}|{isa.cpu}|{isa.features}|".encode()
_compiler: emit.Compiler | None = None
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


def _compile(text, name, symbol, opt, extra) -> bytes:
    global _compiler
    with _lock, _uninterrupted():
        if _compiler is None: _compiler = emit.Compiler(isa.cpu, isa.features)
        return _compiler.compile(text, name, symbol, opt, extra)


def _link(objects: list[tuple[str, bytes]]) -> list[int]:
    """Loads objects into this process and gives their functions' addresses.

    By JITLink: it puts an object's sections side by side (the small code model needs that), and a bad object is an exception, not the end of the process.
    Engine and code are never released: at interpreter exit pool threads still stand in it.
    """
    global _engine, _libraries
    with _lock, _uninterrupted():
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


def _key(text: str, name: str, opt: int, extra) -> bytes:
    return hashlib.sha256(b"%s%d|%s|%s|%s" % (_salt, opt, name.encode(), ",".join(sorted(extra)).encode(), text.encode())).digest()


def _symbol(name: str, key: bytes) -> str: return f"{name}.{key[:12].hex()}"


# ---- what other floors call
def load(text: str, name: str, opt: int = 1, extra: tuple[str, ...] = ()) -> int:
    """The address of function `name` of the IR `text`. `extra`: outside symbols it may call besides `emit.ALLOWED` (the thread pool's system calls)."""
    return precompile([(text, name, opt)], extra)[0]


def precompile(jobs, extra: tuple[str, ...] = ()) -> list[int]:
    """Addresses of many (text, name, opt) at once; what has to be compiled is shared with helper processes if there is enough of it."""
    keyed = [(_key(t, n, _level(o), extra), t, n, _level(o)) for t, n, o in jobs]
    missing = {key: (t, n, _symbol(n, key), o, extra) for key, t, n, o in keyed if key not in _addresses}
    stats.reused += len(keyed) - len(missing)
    if missing:
        start = time.perf_counter()
        found = {key: cache.read(key) for key in missing}
        todo = {key: job for key, job in missing.items() if found[key] is None}
        stats.loaded += len(missing) - len(todo)
        compiling = time.perf_counter()
        for key, code in _compile_all(todo):
            cache.write(key, code)
            found[key] = code
        linking = time.perf_counter()
        addresses = _link([(missing[key][2], code) for key, code in found.items()])
        _addresses.update(zip(found, addresses))
        stats.compile_seconds += linking - compiling
        stats.load_seconds += time.perf_counter() - linking + compiling - start
    return [_addresses[key] for key, *_ in keyed]


def assembly(text: str, name: str, opt: int = 1) -> str:
    """What `load` would run, as text."""
    with _lock: return emit.Compiler(isa.cpu, isa.features).assembly(text, name, _level(opt))


def _level(opt: int) -> int: return flags.OPT if flags.OPT >= 0 else opt


# ---- many at once
def _compile_all(todo: dict) -> list[tuple[bytes, bytes]]:
    """This thread takes kernels from the front, one helper process per further core from the back, until they meet."""
    jobs, done, lost = collections.deque(todo.items()), [], []
    helpers = min(isa.cores() - 1, len(jobs) // _HELP_FROM, 8)
    threads = [threading.Thread(target=_help, args=(jobs, done, lost), name=f"forno-compile-{i}", daemon=True) for i in range(helpers)]
    for t in threads: t.start()
    try:
        while jobs:
            try: key, job = jobs.popleft()
            except IndexError: break           # a helper was faster
            done.append((key, _compile(*job)))
    finally:
        jobs.clear()                           # after an error: helpers stop at their current kernel
        for t in threads: t.join()
    done += [(key, _compile(*job)) for key, job in lost]
    for _, result in done:
        if isinstance(result, Exception): raise result
    stats.compiled += len(done)
    return done


def _help(jobs, done, lost) -> None:
    """Feeds one helper process. A helper that can't start or breaks off is no error, unless LLVM ended it: then its kernel would end us too."""
    try:
        helper = subprocess.Popen([sys.executable, "-I", "-S", _HELPER, isa.cpu, isa.features, "-", *sys.path],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except (OSError, ValueError): return       # no executable (an embedded Python), no processes left: this process compiles alone
    job, said = None, ""
    try:
        while jobs:
            try: key, job = jobs.pop()
            except IndexError: break
            pickle.dump(job, helper.stdin)
            helper.stdin.flush()
            answer = pickle.load(helper.stdout)
            done.append((key, BadCode(answer) if isinstance(answer, str) else answer))
            stats.helped += 1
            job = None
    except (OSError, EOFError, pickle.UnpicklingError):
        said = helper.stderr.read().decode(errors="replace").strip()
    finally:
        with contextlib.suppress(OSError): helper.stdin.close()
        for pipe in (helper.stdout, helper.stderr): pipe.close()
        helper.wait()
    if job is None: return
    if "LLVM ERROR" in said: done.append((key, BadCode(f"{job[1]}: {said[said.index('LLVM ERROR'):]}")))
    else: lost.append((key, job))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
