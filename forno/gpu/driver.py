"""The driver: every prototype as a checked Python method, from any table of C functions.

Comes in: the system's libcuda, or any other table of addresses (a simulated machine's). Goes out: a `Driver`: `at = driver.MemAlloc(nbytes)`,
`free, total = driver.MemGetInfo()`. What C writes is returned, a code other than success is raised, a function that this driver is too old for says so when it
is called. `driver.address("LaunchKernel")` is for native code that calls the driver itself.
"""
from __future__ import annotations

import ctypes
import os
import re
import sys
import weakref
from ctypes import byref, c_int

from . import errors, visible
from .errors import Missing
from .prototypes import CHARS, INPUT, OUTPUT, PROTOTYPES, Prototype, version_name

OLDEST = 12000                                 # r525: cuLibrary…, PTX 8.0, and the declarations that the table names
_LEGACY_STREAM = 1                             # CU_GET_PROC_ADDRESS_LEGACY_STREAM
_ByName = ctypes.CFUNCTYPE(c_int, ctypes.c_char_p, ctypes.c_void_p, c_int, ctypes.c_uint64, ctypes.c_void_p)


class Driver:
    """One table of functions. `version` is the newest CUDA version that it speaks (12020 is 12.2), `machine` the simulated one behind it, if it is one."""

    def __init__(self, table: dict[str, int], library=None):
        self.table, self.version, self.library, self.machine = table, 0, library, None          # the library keeps the functions
        self.above: dict = {}                  # what the floor above remembers of it
        self.process = os.getpid()             # a forked child can't use it
        for name, prototype in PROTOTYPES.items(): setattr(self, name, _method(prototype, table.get(name, 0), self))
        self.version = self.DriverGetVersion()

    def has(self, name: str) -> bool: return bool(self.table.get(name))

    def address(self, name: str) -> int:
        """Where C finds the function."""
        if not self.has(name): raise self._absent(PROTOTYPES[name])
        return self.table[name]

    def _absent(self, prototype: Prototype) -> NotImplementedError:
        need, have = version_name(prototype.version), version_name(self.version)
        why = "the driver should have it, but does not" if prototype.version <= self.version else "install a newer NVIDIA driver"
        return NotImplementedError(f"cu{prototype.name} needs a driver of CUDA {need}; this one is of {have}: {why}")

    def __repr__(self): return f"<CUDA driver {version_name(self.version)}, {sum(map(bool, self.table.values()))} of {len(PROTOTYPES)} functions>"


# ---------------------------------------------------------------- methods, made once
def _method(prototype: Prototype, address: int, driver: Driver):
    name, outputs, itself = prototype.name, prototype.outputs, weakref.ref(driver)
    if not address:
        def method(*_): raise itself()._absent(prototype)
    elif not outputs: method = _plain(prototype, address)
    elif len(outputs) == 1 and prototype.arguments[0].out and outputs[0].type in ("int", "uint", "u64", "size", "address", "handle", "ptr", "float"):
        method = _one(prototype, address)
    else: method = _several(prototype, address)
    if not isinstance(method, ctypes._CFuncPtr):
        method.__name__ = method.__qualname__ = name
        method.__doc__ = str(prototype)
    return method


def _c_function(prototype: Prototype, address: int, result=c_int):
    types = []
    for a in prototype.arguments:
        if a.type == "chars": types += [ctypes.c_void_p, c_int]
        else: types.append(ctypes.c_void_p if a.out else INPUT[a.type])
    return ctypes.CFUNCTYPE(result, *types)(address)


def _plain(prototype: Prototype, address: int):
    """The C function itself: nothing but the check stands between."""
    name, fail = prototype.name, errors.error
    if prototype.asks:
        def check(code):
            if code == 0: return True
            if code == 600: return False
            raise fail(name, code)
    else:
        def check(code):
            if code: raise fail(name, code)
    f = _c_function(prototype, address)
    f.restype = check
    return f


def _one(prototype: Prototype, address: int):
    """One number goes out, and it stands first."""
    name, fail, f, make = prototype.name, errors.error, _c_function(prototype, address), OUTPUT[prototype.arguments[0].type]
    count = len(prototype.inputs)

    def method(*inputs):
        if len(inputs) != count: raise TypeError(f"{prototype}: {count} arguments, not {len(inputs)}")       # ctypes lets too many through
        out = make()
        code = f(byref(out), *inputs)
        if code: raise fail(name, code)
        return out.value
    return method


def _several(prototype: Prototype, address: int):
    name, fail, f = prototype.name, errors.error, _c_function(prototype, address)
    kinds = tuple(a.type if a.out else None for a in prototype.arguments)
    count = len(prototype.inputs)
    make = {"chars": lambda: ctypes.create_string_buffer(CHARS)} | OUTPUT

    def method(*inputs):
        if len(inputs) != count: raise TypeError(f"{prototype}: {count} arguments, not {len(inputs)}")
        given, arguments, made = iter(inputs), [], []
        for kind in kinds:
            if kind is None:
                arguments.append(next(given))
                continue
            out = make[kind]()
            made.append((kind, out))
            arguments.append(byref(out))
            if kind == "chars": arguments.append(CHARS)
        code = f(*arguments)
        if code: raise fail(name, code)
        values = tuple([_value(kind, out) for kind, out in made])
        return values[0] if len(values) == 1 else values
    return method


def _value(kind: str, out):
    if kind in ("uuid", "ipc"): return out.raw
    if kind in ("chars", "text"): return (out.value or b"").decode()
    return out.value


# ---------------------------------------------------------------- tables of functions
def resolve(symbol) -> dict[str, int]:
    """The table of a library: symbol(name) is the address of an exported C function, or 0. Only cuGetProcAddress is looked up by name."""
    newest = ctypes.c_int()
    if not (at := symbol("cuDriverGetVersion")): raise Missing("the library that was found as NVIDIA's driver has no cuDriverGetVersion: it is another library of that name")
    if (code := ctypes.CFUNCTYPE(c_int, ctypes.c_void_p)(at)(byref(newest))): raise Missing(_refused("DriverGetVersion", code))
    if newest.value < OLDEST: raise Missing(_too_old(newest.value))
    if not (at := symbol("cuGetProcAddress_v2")): raise Missing(_too_old(newest.value))
    by_name, table, found, status = _ByName(at), {}, ctypes.c_void_p(), c_int()
    for name, prototype in PROTOTYPES.items():
        if prototype.version > newest.value: continue                    # an older declaration of that name would be another function
        found.value = None
        code = by_name(f"cu{name}".encode(), byref(found), prototype.version, _LEGACY_STREAM, byref(status))
        if code == 0 and status.value == 0 and found.value: table[name] = found.value
    return table


def libraries() -> list[str]:
    """Where the system's driver may be, in the order in which it is looked for."""
    if sys.platform == "win32": return ["nvcuda.dll"]
    return ["libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", "libcuda.so"]


def open_library():
    """symbol(name) of the system's driver."""
    said = []
    for path in libraries():
        try: library = (ctypes.WinDLL if sys.platform == "win32" else ctypes.CDLL)(path)
        except OSError as e: said.append(str(e))
        else: return lambda name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value if hasattr(library, name) else 0
    raise Missing(_no_library(said))


def start(symbol) -> Driver:
    """An initialised driver that has at least one device, or `Missing`."""
    driver = Driver(resolve(symbol), symbol)
    try: driver.Init(0)
    except errors.CudaError as e: raise Missing(_refused("Init", e.code)) from None
    if not driver.DeviceGetCount(): raise Missing(_refused("DeviceGetCount", errors.CODES["NO_DEVICE"]))
    return driver


# ---------------------------------------------------------------- one clear sentence
def _no_library(said: list[str]) -> str:
    broken = [s for s in said if "cannot open shared object file" not in s and "not found" not in s.lower()]
    if broken: return f"NVIDIA's driver library is there but can't be loaded ({broken[0]}): reinstall the driver"
    if kernel_module() or os.path.exists("/dev/nvidiactl"):
        return ("the kernel has NVIDIA's driver, but libcuda.so.1 isn't there: start the container with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility, "
                "or install the driver's library (libcuda1, libnvidia-compute)")
    return f"there is no NVIDIA driver on this machine ({libraries()[0]} was not found): install one of CUDA {version_name(OLDEST)} (525) or later, if it has an NVIDIA GPU"


def _too_old(version: int) -> str:
    return f"the NVIDIA driver speaks CUDA {version_name(version)}, forno needs {version_name(OLDEST)}: install driver 525 or later"


def _refused(function: str, code: int) -> str:
    """Why cuInit failed. Three causes hide behind NO_DEVICE and UNKNOWN, and the environment and the device files tell them apart."""
    name, text, hint = errors.described(code)
    where = f"NVIDIA's driver refuses to start: {text} ({name}, {code})"
    if code in (errors.CODES["NO_DEVICE"], errors.CODES["INVALID_DEVICE"]) and (why := _hidden()): return f"{where}: {why}"
    if code in (errors.CODES["NO_DEVICE"], errors.CODES["UNKNOWN"], errors.CODES["OPERATING_SYSTEM"]) and (closed := _closed_files()):
        return f"{where}: this user may not open {', '.join(closed)}; add the user to the files' group (video, render), or ask whoever runs the machine"
    if code == errors.CODES["SYSTEM_DRIVER_MISMATCH"] and (module := kernel_module()): where += f"; the kernel module is {module}"
    if code in _OF_THE_LIBRARY and (path := loaded_library()): where += f"; the library is {path}"
    if code in _OF_MPS and (pipes := os.environ.get("CUDA_MPS_PIPE_DIRECTORY")): where += f"; CUDA_MPS_PIPE_DIRECTORY is {pipes!r}"
    return f"{where}: {hint or 'see nvidia-smi'}"


_OF_THE_LIBRARY = [errors.CODES[n] for n in ("SYSTEM_DRIVER_MISMATCH", "COMPAT_NOT_SUPPORTED_ON_DEVICE", "STUB_LIBRARY")]
_OF_MPS = [code for name, code in errors.CODES.items() if name.startswith("MPS_")]


def _hidden() -> str:
    """What the environment has to do with there being no device; empty: nothing."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None: return ""
    order = visible.order_complaint(os.environ.get("CUDA_DEVICE_ORDER"))
    return visible.complaint(wanted) + (f"; {order}" if order else "")


def loaded_library() -> str:
    """The file that the driver's functions were loaded from, where the system tells."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as f: return next((line.split(None, 5)[5].strip() for line in f if "libcuda.so" in line), "")
    except OSError: return ""


def _closed_files() -> list[str]:
    """Device files that are there and may not be opened."""
    names = ["/dev/nvidiactl", "/dev/nvidia-uvm", *sorted(f"/dev/{n}" for n in _listed("/dev") if re.fullmatch(r"nvidia\d+", n))]
    return [n for n in names if os.path.exists(n) and not os.access(n, os.R_OK | os.W_OK)]


def _listed(folder: str) -> list[str]:
    try: return os.listdir(folder)
    except OSError: return []


def kernel_module() -> str:
    """The version of the loaded kernel module; empty: none is loaded."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as f: found = re.search(r"\d{3}\.\d+(\.\d+)?", f.read())
    except OSError: return ""
    return found.group() if found else ""
