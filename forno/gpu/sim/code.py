"""The driver's functions for code: modules, libraries, the linker, functions' attributes, occupancy and launches."""
from __future__ import annotations

import ctypes
import functools
import re
import struct
from dataclasses import dataclass, field

from .. import chips, ptx
from ..ptx import since
from ..prototypes import FUNCTION, JIT, LAUNCH, LaunchConfig
from . import memory
from .ipc import IpcCalls
from .machine import Context, Device
from .work import Broken, Kernel, Refuse

CUBIN = b"\x7fELF\x02\x01\x01forno-cubin"       # then the target as eight bytes, then PTX
_BROKEN = {"misaligned": "MISALIGNED_ADDRESS", "out of bounds": "ILLEGAL_ADDRESS", "read-only": "ILLEGAL_ADDRESS", "endless": "LAUNCH_TIMEOUT", "deadlock": "LAUNCH_TIMEOUT"}
_REGISTERS = 32                                # PTX's registers say nothing of the machine's
_JIT_OPTIONS = 35                              # CU_JIT_NUM_OPTIONS


@dataclass(eq=False, repr=False)
class Module:
    """Code in a context. A library's modules are made when a context first wants one."""
    context: Context
    source: object                             # ptx.Module
    view: object                               # its memory
    functions: dict = field(default_factory=dict)
    globals: dict = field(default_factory=dict)          # name -> Allocation


@dataclass(eq=False, repr=False)
class Library:
    source: object                             # ptx.Module
    fits: object                               # capability -> does it run there?
    modules: dict = field(default_factory=dict)          # Context -> Module
    kernels: dict = field(default_factory=dict)          # name -> handle


@dataclass(eq=False, repr=False)
class LibraryKernel:
    library: Library
    name: str


@dataclass(eq=False, repr=False)
class Link:
    context: Context
    target: str
    log: object                                # where errors are told
    options: tuple = ()                        # (address, bytes) of arrays that must stay as they are until the link ends
    parts: list = field(default_factory=list)  # (PTX, its target)
    cubin: object = None                       # the buffer that LinkComplete returned


@dataclass(eq=False, repr=False)
class Function:
    """A kernel in a context."""
    module: Module
    name: str
    entry: object                              # ptx.Entry
    static: int                                # bytes of shared memory of its own
    dynamic: int                               # bytes of dynamic shared memory that are allowed
    handle: int = 0
    nonportable: int = 0

    @property
    def context(self) -> Context: return self.module.context

    @property
    def threads(self) -> int: return self.entry.max_threads

    def run(self, work: Kernel, machine, op) -> int:
        """Runs a launch; bytes touched."""
        self.module.view.divisions = work.divisions
        try:
            touched = self.entry.program(machine.exact).run(grid=work.grid, block=work.block, shared=work.shared, params=work.params, memory=self.module.view,
                                                            seed=machine.random.getrandbits(31))
        except ptx.Fault as e: raise Broken(_BROKEN.get(e.kind, "LAUNCH_FAILED"), machine.explained(e), e.kind) from None
        nbytes = 0
        for spans, writes in ((touched.reads, False), (touched.writes, True)):
            for block, start, end in spans:
                machine.touch(op, machine.space.at(block), start, end, writes)
                nbytes += end - start
        return nbytes


class View:
    """A device's memory as kernels of one module see it; `allocate` is for the module's variables."""

    def __init__(self, machine, context: Context): self.machine, self.context, self.delta, self.divisions = machine, context, memory.DELTA, {}

    @property
    def starts(self): return self.machine.intervals(self.context.device.ordinal, self.divisions)[0]

    @property
    def ends(self): return self.machine.intervals(self.context.device.ordinal, self.divisions)[1]

    def allocate(self, nbytes: int) -> int: return self.machine.allocation(self.context.device, nbytes, "global", "a module's variable").start


@functools.lru_cache(512)
def parsed(text: bytes): return ptx.Module(text.decode())


@functools.lru_cache(512)
def lacking(text: bytes) -> list[str]:
    """What is newer than the text's target or version. An instruction that nobody knows is found when its kernel is wanted."""
    try: return since.lacking(parsed(text).source)
    except NotImplementedError: return []


class CodeCalls(IpcCalls):
    exact = True

    def intervals(self, device: int, divisions: dict):
        """Starts and ends of what kernels of a device may touch, as sorted arrays; made anew when it has changed."""
        changes, of, table = self.tables.get(device, (-1, None, None))
        if changes != self.space.changes or of is not divisions:
            table = self.space.intervals(device, divisions)
            self.tables[device] = self.space.changes, divisions, table
        return table

    def explained(self, fault) -> str:
        """A kernel's fault, and what lies where it touched."""
        found = re.search(r"\b0x([0-9a-f]{6,})", str(fault))
        return f"{fault}" + (f" ({self.describe(int(found.group(1), 16), 1)})" if found and fault.kind == "out of bounds" else "")

    # ---- PTX and cubins
    def read(self, image: int, device: Device, log) -> tuple:
        """(ptx.Module, capability -> does it run there?) of PTX text or a cubin at an address; it has to run on this device."""
        if not image: raise Refuse("INVALID_VALUE")
        head = ctypes.string_at(image, len(CUBIN) + 16) if ctypes.string_at(image, 4) == CUBIN[:4] else b""
        if head.startswith(CUBIN):
            target, size = head[len(CUBIN):len(CUBIN) + 8].rstrip(b"\0").decode(), struct.unpack("<Q", head[len(CUBIN) + 8:])[0]
            text = ctypes.string_at(image + len(head), size)
            if not cubin_runs(target, device.capability): raise Refuse("NO_BINARY_FOR_GPU")
            return parsed(text), functools.partial(cubin_runs, target)
        if head: raise Refuse("INVALID_IMAGE")
        text, target = self.jit(ctypes.string_at(image), device.capability, log)
        return parsed(text), functools.partial(chips.runs, target)

    def jit(self, text: bytes, capability: tuple[int, int], log) -> tuple[bytes, str]:
        """The checks of the driver's compiler; the text and its target."""
        version, target = re.search(rb"\.version\s+(\d+)\.(\d+)", text), re.search(rb"\.target\s+(\w+)", text)
        if not version or not target: raise self.refuse(log, "INVALID_IMAGE" if b".entry" not in text else "INVALID_PTX", "PTX without .version and .target")
        number, name = int(version.group(1)) * 10 + int(version.group(2)), target.group(1).decode()
        if number > chips.newest_ptx(self.version):
            raise self.refuse(log, "UNSUPPORTED_PTX_VERSION", f"ptxas application ptx input, line 1; fatal: Unsupported .version {number // 10}.{number % 10}; "
                                                              f"current version is '{chips.newest_ptx(self.version) / 10}'")
        if not chips.runs(name, capability):
            raise self.refuse(log, "INVALID_PTX", f"ptxas fatal   : SM version specified by .target is higher than default SM version assumed ({name} on {capability})")
        if number < (least := oldest_ptx(name)):
            raise self.refuse(log, "INVALID_PTX", f"ptxas application ptx input, line 2; error   : PTX version {number / 10} does not support .target {name}, {least / 10} does")
        if ".extern .func" in text.decode(errors="replace"): raise self.refuse(log, "INVALID_PTX", "ptxas fatal   : Unresolved extern function")
        try: entries, lacks = parsed(text).entries, lacking(text)
        except (ValueError, NotImplementedError) as e: raise self.refuse(log, "INVALID_PTX", f"ptxas application ptx input: {e}") from None
        if lacks: raise self.refuse(log, "INVALID_PTX", f"ptxas application ptx input: {lacks[0]}")
        most = 32764 if number >= 81 else 4096                                       # bytes of parameters
        for entry in entries.values():
            if entry.shared > chips.STATIC_SHARED:
                raise self.refuse(log, "INVALID_PTX", f"ptxas error   : Entry function '{entry.name}' uses too much shared data "
                                                      f"({entry.shared:#x} bytes, {chips.STATIC_SHARED:#x} max)")
            if entry.param_bytes > most:
                raise self.refuse(log, "INVALID_PTX", f"ptxas error   : Formal parameter space overflowed ({entry.param_bytes} bytes required, max {most} bytes allowed) "
                                                      f"in function {entry.name}")
        return text, name

    @staticmethod
    def refuse(log, code: str, text: str) -> Refuse:
        log(text)
        return Refuse(code)

    @staticmethod
    def log_of(count, options, values):
        """A function that writes the error log where the JIT options say."""
        given = {}
        if count: given = dict(zip((ctypes.c_int * count).from_address(options), (ctypes.c_size_t * count).from_address(values)))
        if any(not 0 <= k < _JIT_OPTIONS for k in given): raise Refuse("INVALID_VALUE")

        def log(text):
            at, size = given.get(JIT["error_log"], 0), given.get(JIT["error_size"], 0)
            if at and size: ctypes.memmove(at, (data := text.encode()[:size - 1] + b"\0"), len(data))
        return log

    def load(self, context: Context, source) -> Module:
        m = Module(context, source, View(self, context))
        m.globals = {name: self.space.at(at) for name, at in source.load(m.view).items()}
        return m

    def function(self, module: Module, name: str) -> Function:
        if name not in module.functions:
            if name not in module.source.entries: raise Refuse("NOT_FOUND")
            entry = module.source.entries[name]
            try: static = entry.program(self.exact).made.shared
            except NotImplementedError as e:
                self.find("not simulated", f"kernel {name}: {e}")
                raise Refuse("NOT_SUPPORTED") from None
            f = module.functions[name] = Function(module, name, entry, static, max(0, chips.STATIC_SHARED - static))
            f.handle = self.put(f)
        return module.functions[name]

    # ---- modules and libraries
    def ModuleLoadDataEx(self, image, count, options, values):
        self.unsafe()
        context = self.context()
        return self.put(self.load(context, self.read(image, context.device, self.log_of(count, options, values))[0]))

    def ModuleUnload(self, handle):
        self.unsafe()
        m = self.get(handle, Module)
        self.finish(m.context)
        del self.handles[handle]
        self.unload(m)

    def unload(self, m: Module) -> None:
        for f in m.functions.values(): del self.handles[f.handle]
        for a in m.globals.values(): self.free_now(a, "the unloading of its module")

    def ModuleGetFunction(self, handle, name): return self.function(self.get(handle, Module), name.decode()).handle

    def ModuleGetGlobal(self, handle, name): return self.variable(self.get(handle, Module), name)

    def variable(self, module: Module, name: bytes):
        a = module.globals.get(name.decode())
        if a is None: raise Refuse("NOT_FOUND")
        return a.start, a.nbytes

    def LibraryLoadData(self, image, options, values, count, library_options, library_values, library_count):
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        log = self.log_of(count, options, values)
        return self.put(Library(*self.read(image, self.current.device if self.current else self.devices[0], log)))

    def LibraryUnload(self, handle):
        self.unsafe()
        lib = self.get(handle, Library)
        for m in lib.modules.values():
            self.finish(m.context)
            self.unload(m)
        for k in lib.kernels.values(): del self.handles[k]
        del self.handles[handle]

    def LibraryGetKernel(self, handle, name):
        lib, name = self.get(handle, Library), name.decode()
        if name not in lib.source.entries: raise Refuse("NOT_FOUND")
        if name not in lib.kernels: lib.kernels[name] = self.put(LibraryKernel(lib, name))
        return lib.kernels[name]

    def LibraryGetGlobal(self, handle, name): return self.variable(self.module_of(self.get(handle, Library), self.context()), name)

    def module_of(self, lib: Library, context: Context) -> Module:
        if not lib.fits(context.device.capability): raise Refuse("NO_BINARY_FOR_GPU")
        if context not in lib.modules: lib.modules[context] = self.load(context, lib.source)
        return lib.modules[context]

    def KernelGetFunction(self, handle): return self.launchable(handle, self.context()).handle

    def launchable(self, handle: int, context: Context) -> Function:
        """A function, or a library's kernel as it is in this context."""
        thing = self.handles.get(handle)
        if isinstance(thing, LibraryKernel): return self.function(self.module_of(thing.library, context), thing.name)
        if not isinstance(thing, Function): raise Refuse("INVALID_HANDLE")
        return thing

    # ---- attributes
    def KernelSetAttribute(self, attribute, value, handle, device):
        context = self.device(device).context
        if context is None: raise Refuse("INVALID_CONTEXT")
        self.set_attribute(self.launchable(handle, context), attribute, value)

    def FuncSetAttribute(self, handle, attribute, value): self.set_attribute(self.launchable(handle, self.context()), attribute, value)

    @staticmethod
    def set_attribute(f: Function, attribute: int, value: int) -> None:
        if attribute == FUNCTION["dynamic_shared"]:
            if not 0 <= value <= f.context.device.chip.optin - f.static: raise Refuse("INVALID_VALUE")
            f.dynamic = value
        elif attribute == FUNCTION["nonportable_cluster"]: f.nonportable = value
        elif attribute not in (FUNCTION["carveout"], FUNCTION["cluster_policy"]): raise Refuse("INVALID_VALUE")

    def FuncGetAttribute(self, attribute, handle):
        f = self.launchable(handle, self.context())
        capability = f.context.device.capability
        known = {"threads": f.threads, "static_shared": f.static, "constant": 0, "local": 0, "registers": _REGISTERS, "ptx": capability[0] * 10 + capability[1],
                 "binary": capability[0] * 10 + capability[1], "cache": 0, "dynamic_shared": f.dynamic, "carveout": -1, "nonportable_cluster": f.nonportable}
        name = next((n for n, k in FUNCTION.items() if k == attribute), None)
        if name is None: raise Refuse("INVALID_VALUE")
        return known.get(name, 0)

    def OccupancyMaxActiveBlocksPerMultiprocessor(self, handle, threads, shared):
        f = self.launchable(handle, self.context())
        if threads <= 0: raise Refuse("INVALID_VALUE")
        return f.context.device.chip.resident(threads, _REGISTERS, shared + f.static) if threads <= f.threads else 0

    def OccupancyMaxActiveClusters(self, handle, config):
        c = LaunchConfig.from_address(config)
        f = self.launchable(handle, self.context())
        cluster = next((v.value.cluster for v in c.attributes[:c.count] if v.id == LAUNCH["cluster"]), None)
        size = cluster.x * cluster.y * cluster.z if cluster else 1
        return f.context.device.sms * f.context.device.chip.resident(c.blockx * c.blocky * c.blockz, _REGISTERS, c.shared + f.static) // size

    # ---- the linker
    def LinkCreate(self, count, options, values):
        context = self.context()
        given = dict(zip((ctypes.c_int * count).from_address(options), (ctypes.c_size_t * count).from_address(values))) if count else {}
        major, minor = context.device.capability
        target = f"sm_{given[JIT['target']] & 0xFFFFFFFF if JIT['target'] in given else major * 10 + minor}"
        log = self.log_of(count, options, values)
        arrays = tuple([(at, ctypes.string_at(at, n)) for at, n in ((options, 4 * count), (values, 8 * count))]) if count else ()
        return self.put(Link(context, target, log, arrays))

    def kept(self, link: Link) -> None:
        """The driver reads a link's options until the link ends: whoever made it has to keep them."""
        if any(ctypes.string_at(at, len(data)) != data for at, data in link.options):
            self.find("link", f"call {self.calls}: the options of LinkCreate were changed or freed before LinkDestroy")

    def LinkAddData(self, handle, kind, data, nbytes, name, count, options, values):
        link = self.get(handle, Link)
        if kind != 1: raise Refuse("NOT_SUPPORTED")                                  # 1: PTX
        self.kept(link)
        text = ctypes.string_at(data, nbytes)
        if not text.endswith(b"\0"): self.find("link", f"call {self.calls}: PTX of {nbytes} bytes that doesn't end with a 0")
        text = text.rstrip(b"\0")
        capability = int(link.target[3:-1]), int(link.target[-1])
        link.parts.append(self.jit(text, capability, link.log))

    def LinkComplete(self, handle):
        link = self.get(handle, Link)
        self.kept(link)
        if len(link.parts) != 1: raise Refuse("INVALID_VALUE" if not link.parts else "NOT_SUPPORTED")
        text, target = link.parts[0]
        own = link.target + ("a" if target.endswith("a") else "")
        link.cubin = ctypes.create_string_buffer(CUBIN + own.encode().ljust(8, b"\0") + struct.pack("<Q", len(text)) + text)
        return ctypes.addressof(link.cubin), len(link.cubin) - 1

    def LinkDestroy(self, handle):
        self.get(handle, Link)
        del self.handles[handle]

    # ---- launches
    def LaunchKernel(self, handle, gx, gy, gz, bx, by, bz, shared, stream, params, extra):
        s = self.stream(stream)
        self.go(s, self.kernel(self.launchable(handle, s.context), s.context, (gx, gy, gz), (bx, by, bz), shared, params, extra))

    def go(self, s, work: Kernel) -> None:
        op = self.submit(s, work)
        if self.blocking and op is not None: self.wait([op])

    def LaunchCooperativeKernel(self, handle, gx, gy, gz, bx, by, bz, shared, stream, params):
        s = self.stream(stream)
        self.go(s, self.kernel(self.launchable(handle, s.context), s.context, (gx, gy, gz), (bx, by, bz), shared, params, 0, cooperative=True))

    def LaunchKernelEx(self, config, handle, params, extra):
        c = LaunchConfig.from_address(config)
        s = self.stream(c.stream or 0)
        attributes = {a.id: a.value for a in c.attributes[:c.count]} if c.count else {}
        unknown = attributes.keys() - {0, 1, 8, 9, 10, *LAUNCH.values()}
        if unknown: raise Refuse("INVALID_VALUE")
        cluster = attributes.get(LAUNCH["cluster"])
        work = self.kernel(self.launchable(handle, s.context), s.context, (c.gridx, c.gridy, c.gridz), (c.blockx, c.blocky, c.blockz), c.shared, params, extra,
                           cooperative=bool(LAUNCH["cooperative"] in attributes and attributes[LAUNCH["cooperative"]].number),
                           cluster=(cluster.cluster.x, cluster.cluster.y, cluster.cluster.z) if cluster else (1, 1, 1))
        self.go(s, work)

    def kernel(self, f: Function, context: Context, grid, block, shared, params, extra, cooperative=False, cluster=(1, 1, 1)) -> Kernel:
        """A launch whose numbers the driver accepts. Parameters are copied now."""
        if f.context is not context: raise Refuse("INVALID_HANDLE")
        if params and extra: raise Refuse("INVALID_VALUE")
        chip, threads = context.device.chip, block[0] * block[1] * block[2]
        if not all(0 < n <= most for n, most in zip((*grid, *block), (2**31 - 1, 65535, 65535, 1024, 1024, 64))): raise Refuse("INVALID_VALUE")
        if threads > f.threads or shared > f.dynamic: raise Refuse("INVALID_VALUE")
        blocks = grid[0] * grid[1] * grid[2]
        if cooperative and blocks > context.device.sms * chip.resident(threads, _REGISTERS, shared + f.static): raise Refuse("COOPERATIVE_LAUNCH_TOO_LARGE")
        size = cluster[0] * cluster[1] * cluster[2]
        if size != 1 and (any(g % c for g, c in zip(grid, cluster) if c) or not size or size > (16 if f.nonportable else 8) or chip.capability < (9, 0)):
            raise Refuse("INVALID_CLUSTER_SIZE")
        return Kernel(f, grid, block, shared, self.parameters(f, params, extra), cooperative, cluster, self.divisions)

    @staticmethod
    def parameters(f: Function, params: int, extra: int) -> bytes:
        """The kernel's parameter bytes, from an array of pointers to each, or from one buffer."""
        end = f.entry.param_bytes
        if extra:
            words = (ctypes.c_size_t * 5).from_address(extra)
            if words[0] != 1 or words[2] != 2 or words[4] != 0: raise Refuse("INVALID_VALUE")
            size = ctypes.c_size_t.from_address(words[3]).value
            if size < end: raise Refuse("INVALID_VALUE")
            return ctypes.string_at(words[1], end)
        if end and not params: raise Refuse("INVALID_VALUE")
        out = bytearray(end)
        for k, p in enumerate(f.entry.params): out[p.offset:p.offset + p.size] = ctypes.string_at(ctypes.c_size_t.from_address(params + 8 * k).value, p.size)
        return bytes(out)


def oldest_ptx(target: str) -> int:
    """The first PTX version (80 is 8.0) that knows a target; 0: of one that chips doesn't know."""
    known = chips.CHIPS.get(chips.capability_of(target))
    return max(known.ptx if known else 0, {"a": 80, "f": 88}.get(target[-1], 0))


def cubin_runs(target: str, capability: tuple[int, int]) -> bool:
    """Machine code runs on its own chip and on later ones of the same major number; with an `a`, on its own alone."""
    at = chips.capability_of(target)
    return at == capability if target.endswith("a") else at[0] == capability[0] and at[1] <= capability[1]
