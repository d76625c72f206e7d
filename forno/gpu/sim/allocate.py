"""The driver's functions for memory: allocations, pools, pinned host memory, copies, fills, and memory apart from addresses."""
from __future__ import annotations

import ctypes
import os
import weakref
from dataclasses import dataclass, field, replace

from ..prototypes import POINTER, POOL, AccessDesc, AllocationProp, Memcpy2D, PoolProps
from . import memory
from .machine import Context, Device, caller, place_name
from .memory import ALIGN, DELTA, PAGE, Allocation, Reservation, round_up
from .streams import StreamCalls
from .work import Allocate, Copy, Fill, Free, Refuse, ends_of

_HOST, _DEVICE, _ARRAY, _UNIFIED = 1, 2, 3, 4


@dataclass(eq=False, repr=False)
class Pool:
    device: Device
    attributes: dict = field(default_factory=lambda: {POOL["reuse_event"]: 1, POOL["reuse_opportunistic"]: 1, POOL["reuse_dependencies"]: 1, POOL["release_threshold"]: 0})
    used: int = 0
    peak: int = 0
    readers: frozenset = frozenset()
    handle: int = 0


@dataclass(eq=False, repr=False)
class Physical:
    """Memory without an address: an anonymous file, so that it can be mapped at several places and handed to another process."""
    device: int
    nbytes: int
    file: int
    held: int = 1                              # its handle, and each mapping

    def __post_init__(self): self.close = weakref.finalize(self, os.close, self.file)


class MemoryCalls(StreamCalls):
    # ---- allocations
    def named(self, what: str) -> str: return f"{what} {self.calls}{place_name(caller())}"

    def allocation(self, device: Device, nbytes: int, kind: str, name: str, live: bool = True) -> Allocation:
        """Counts against the device's memory and gets addresses."""
        if not nbytes: raise Refuse("INVALID_VALUE")
        size, arena = round_up(nbytes, ALIGN), device.arena
        if arena.used + size > arena.capacity: raise Refuse("OUT_OF_MEMORY")
        at = arena.reserve(nbytes)
        if not at: raise Refuse("OUT_OF_MEMORY")
        arena.used += size
        arena.peak = max(arena.peak, arena.used)
        peers = frozenset(d.ordinal for d in self.devices if d.context and device.ordinal in d.context.peers) if kind != "pool" else frozenset()
        a = self.space.add(Allocation(at, at + nbytes, device.ordinal, kind, name, live, readers=peers))
        if live:
            memory.fill(a.host, nbytes, memory.POISON)
            memory.mark_zones(a)
        return a

    def MemGetInfo(self):
        arena = self.context().device.arena
        return arena.capacity - arena.used, arena.capacity

    def MemAlloc(self, nbytes):
        self.unsafe()
        return self.allocation(self.context().device, nbytes, "memory", self.named("allocation")).start

    def MemFree(self, at):
        """Waits for everything on its device, as the driver does."""
        self.unsafe()
        self.context()
        a = self.freeable(at, ("memory", "pool"))
        self.finish(self.devices[a.device].context)
        self.free_now(a, f"MemFree, call {self.calls}")

    def freeable(self, at: int, kinds) -> Allocation:
        a = self.space.at(at)
        if a is None or a.start != at or a.kind not in kinds or a.freed_by:
            if a is None and (old := self.space.was(at)) is not None: self.find("double free", f"{old} was freed by {old.freed_by} and is freed again in call {self.calls}")
            raise Refuse("INVALID_VALUE")
        return a

    def drop(self, a: Allocation, by: str) -> None:
        """Frees an allocation of any kind."""
        if a.kind == "mapped": self.unmap(a, by)
        else: self.free_now(a, by)

    # ---- pools
    def MemAllocAsync(self, nbytes, stream):
        s = self.stream(stream)
        return self.from_pool(self.pool_of(s.context.device), nbytes, s)

    def MemAllocFromPoolAsync(self, nbytes, pool, stream): return self.from_pool(self.get(pool, Pool, "INVALID_VALUE"), nbytes, self.stream(stream))

    def from_pool(self, pool, nbytes, stream):
        if stream.capture is not None: raise Refuse(self.spoil(stream.capture, "NOT_SUPPORTED"))       # graph-owned memory is not simulated
        try: a = self.allocation(pool.device, nbytes, "pool", self.named("pool allocation"), live=False)
        except Refuse:
            self.finish(stream.context)                  # what is being freed counts once it is
            a = self.allocation(pool.device, nbytes, "pool", self.named("pool allocation"), live=False)
        a.pool, a.readers = pool, pool.readers
        pool.used += nbytes
        pool.peak = max(pool.peak, pool.used)
        self.submit(stream, Allocate(a))
        return a.start

    def MemFreeAsync(self, at, stream):
        s, a = self.stream(stream), self.freeable(at, ("memory", "pool"))
        if s.capture is not None: raise Refuse(self.spoil(s.capture, "NOT_SUPPORTED"))
        a.freed_by = f"MemFreeAsync, call {self.calls}"
        self.submit(s, Free(a))

    def pool_of(self, device: Device) -> Pool:
        if device.pool is None: device.pool = self.default_pool(device)
        return device.pool

    def default_pool(self, device: Device) -> Pool:
        if device.default_pool is None:
            device.default_pool = Pool(device)
            device.default_pool.handle = self.put(device.default_pool)
        return device.default_pool

    def DeviceGetDefaultMemPool(self, ordinal): return self.default_pool(self.device(ordinal)).handle
    def DeviceGetMemPool(self, ordinal): return self.pool_of(self.device(ordinal)).handle

    def DeviceSetMemPool(self, ordinal, pool):
        p = self.get(pool, Pool, "INVALID_VALUE")
        if p.device is not self.device(ordinal): raise Refuse("INVALID_DEVICE")
        self.device(ordinal).pool = p

    def MemPoolCreate(self, props):
        p = PoolProps.from_address(props)
        if p.type != 1 or p.location.type != 1: raise Refuse("INVALID_VALUE")
        pool = Pool(self.device(p.location.id))
        pool.handle = self.put(pool)
        return pool.handle

    def MemPoolDestroy(self, handle):
        pool = self.get(handle, Pool, "INVALID_VALUE")
        if pool is pool.device.default_pool: raise Refuse("INVALID_VALUE")
        if pool.device.pool is pool: pool.device.pool = None
        del self.handles[handle]

    def MemPoolSetAttribute(self, handle, attribute, value):
        self.unsafe()
        pool = self.get(handle, Pool, "INVALID_VALUE")
        wide = attribute >= POOL["release_threshold"]
        number = (ctypes.c_uint64 if wide else ctypes.c_int).from_address(value).value
        if attribute in pool.attributes: pool.attributes[attribute] = number
        elif attribute in (POOL["reserved_high"], POOL["used_high"]) and number == 0: pool.peak = pool.used
        else: raise Refuse("INVALID_VALUE")

    def MemPoolGetAttribute(self, handle, attribute):
        self.unsafe()
        pool = self.get(handle, Pool, "INVALID_VALUE")
        if attribute in pool.attributes: return pool.attributes[attribute]
        try: return {POOL["reserved"]: pool.used, POOL["reserved_high"]: pool.peak, POOL["used"]: pool.used, POOL["used_high"]: pool.peak}[attribute]
        except KeyError: raise Refuse("INVALID_VALUE") from None

    def MemPoolTrimTo(self, handle, keep):
        self.unsafe()
        self.get(handle, Pool, "INVALID_VALUE")

    def MemPoolSetAccess(self, handle, access, count):
        pool = self.get(handle, Pool, "INVALID_VALUE")
        pool.readers = self.granted(access, count, pool.device, pool.readers)
        for a in self.space.items:
            if a.pool is pool: a.readers = pool.readers
        self.space.changes += 1

    def granted(self, access: int, count: int, device: Device, before: frozenset) -> frozenset:
        out = set(before)
        for desc in (AccessDesc * count).from_address(access):
            if desc.location.type != 1: raise Refuse("INVALID_VALUE")
            other = self.device(desc.location.id)
            if other is not device and device.ordinal not in other.peers and desc.flags: raise Refuse("INVALID_DEVICE")
            (out.add if desc.flags else out.discard)(other.ordinal)
        return frozenset(out)

    # ---- the host's memory
    def MemHostAlloc(self, nbytes, flags):
        self.unsafe()
        self.context()
        if not nbytes or flags & ~7: raise Refuse("INVALID_VALUE")
        block = ctypes.create_string_buffer(nbytes + 4096)
        at = round_up(ctypes.addressof(block), 4096)
        ctypes.memset(at, memory.POISON, nbytes)
        self.space.add(Allocation(at + DELTA, at + DELTA + nbytes, -1, "host", self.named("pinned memory")))
        self.pinned[at] = block
        return at

    def MemFreeHost(self, at):
        self.unsafe()
        a = self.freeable(at + DELTA, ("host",))
        for d in self.devices:
            if d.context: self.finish(d.context)
        self.space.remove(a, f"MemFreeHost, call {self.calls}")
        ctypes.memset(at, memory.POISON, a.nbytes)
        del self.pinned[at]

    def MemHostRegister(self, at, nbytes, flags):
        self.unsafe()
        self.context()
        if not at or not nbytes or flags & ~15: raise Refuse("INVALID_VALUE")
        start, end = at + DELTA, at + DELTA + nbytes
        if any(a.start < end and start < a.end for a in self.space.items if a.device < 0): raise Refuse("HOST_MEMORY_ALREADY_REGISTERED")
        self.space.add(Allocation(start, end, -1, "registered", self.named("registered memory")))

    def MemHostUnregister(self, at):
        self.unsafe()
        a = self.space.at(at + DELTA)
        if a is None or a.kind != "registered" or a.start != at + DELTA: raise Refuse("HOST_MEMORY_NOT_REGISTERED")
        for d in self.devices:
            if d.context: self.finish(d.context)
        self.space.remove(a, f"MemHostUnregister, call {self.calls}")

    def MemHostGetDevicePointer(self, at, flags):
        a = self.space.at(at + DELTA)
        if a is None or a.device >= 0 or flags: raise Refuse("INVALID_VALUE")
        return at + DELTA

    def PointerGetAttribute(self, attribute, at):
        a = self.space.at(at) or (self.space.at(at + DELTA) if at < DELTA else None)
        if a is None: raise Refuse("INVALID_VALUE")
        device = self.devices[max(a.device, 0)]
        known = {POINTER["context"]: device.context.handle if device.context else 0, POINTER["memory_type"]: _HOST if a.device < 0 else _DEVICE,
                 POINTER["device_pointer"]: at if at >= DELTA else at + DELTA, POINTER["buffer_id"]: a.start >> 9, POINTER["is_managed"]: 0, POINTER["device"]: device.ordinal,
                 POINTER["range_start"]: a.start, POINTER["range_size"]: a.nbytes, POINTER["mapped"]: 1, POINTER["sync_memops"]: 0,
                 POINTER["mempool"]: a.pool.handle if a.kind == "pool" else 0}
        if a.device < 0: known[POINTER["host_pointer"]] = (at - DELTA) if at >= DELTA else at
        if attribute not in known: raise Refuse("INVALID_VALUE")
        return known[attribute]

    # ---- copies and fills
    def check_range(self, at: int, nbytes: int) -> None:
        """A device address with so much behind it, or one of the pinned host memory."""
        a = self.space.at(at) if at >= DELTA else None
        if a is None or at + nbytes > a.end:
            kind = "use after free" if a is None and self.space.was(at) else "bad address"
            if at >= DELTA: self.find(kind, f"call {self.calls} names {self.describe(at, nbytes)}", once=(at, nbytes))
            raise Refuse("INVALID_VALUE")

    def is_pinned(self, at: int, nbytes: int) -> bool:
        """Is this memory of the host known to the driver? A part of it is an error."""
        a = self.space.at(at + DELTA)
        if a is None or a.device >= 0: return False
        if at + DELTA + nbytes > a.end: raise Refuse("INVALID_VALUE")
        return True

    def copy(self, stream, work: Copy, waits: bool = False) -> None:
        """Memory of the host that is not pinned is read at the call and written before it returns: the driver stages it, where the device doesn't read pages itself."""
        nbytes = work.width * work.height
        if not nbytes: return
        span = {at: (work.height - 1) * pitch + work.width for at, pitch in ((work.to, work.to_pitch), (work.source, work.source_pitch))}
        for at in (work.to, work.source):
            if at >= DELTA: self.check_range(at, span[at])
            elif not at: raise Refuse("INVALID_VALUE")
        pageable = [at < DELTA and not self.is_pinned(at, span[at]) for at in (work.to, work.source)]
        if stream.context.device.spec.pageable and pageable[1]: pass         # read when its turn comes
        elif stream.capture is None and pageable[1]:
            rows = [ctypes.string_at(work.source + r * work.source_pitch, work.width) for r in range(work.height)]
            work = replace(work, staged=b"".join(rows))
        elif stream.capture is None and work.source < DELTA:
            pinned = self.space.at(work.source + DELTA)
            work = replace(work, seen=(pinned, pinned.written, ends_of(work.source, work.width)))
        op = self.submit(stream, work)
        if op is not None and (pageable[0] or waits): self.wait([op])

    def MemcpyHtoD(self, to, source, nbytes):
        self.no_implicit(self.stream(0))
        self.unsafe()
        self.copy(self.stream(0), Copy(to, source, nbytes), waits=source < DELTA and self.is_pinned(source, nbytes))

    def MemcpyDtoH(self, to, source, nbytes):
        self.no_implicit(self.stream(0))
        self.unsafe()
        self.copy(self.stream(0), Copy(to, source, nbytes), waits=True)

    def MemcpyAsync(self, to, source, nbytes, stream): self.copy(self.stream(stream), Copy(to, source, nbytes))

    def MemcpyHtoDAsync(self, to, source, nbytes, stream):
        if nbytes: self.check_range(to, nbytes)
        self.copy(self.stream(stream), Copy(to, source, nbytes))

    def MemcpyDtoHAsync(self, to, source, nbytes, stream):
        if nbytes: self.check_range(source, nbytes)
        self.copy(self.stream(stream), Copy(to, source, nbytes))

    def MemcpyDtoDAsync(self, to, source, nbytes, stream):
        for at in (to, source) if nbytes else (): self.check_range(at, nbytes)
        self.copy(self.stream(stream), Copy(to, source, nbytes))

    def MemcpyPeerAsync(self, to, to_context, source, source_context, nbytes, stream):
        for handle in (to_context, source_context): self.get(handle, Context, "INVALID_CONTEXT")
        for at in (to, source) if nbytes else (): self.check_range(at, nbytes)
        self.copy(self.stream(stream), Copy(to, source, nbytes))

    def Memcpy2DAsync(self, params, stream):
        p = Memcpy2D.from_address(params)
        ends = []
        for kind, host, device, x, y, pitch in ((p.totype, p.tohost, p.to, p.tox, p.toy, p.topitch), (p.fromtype, p.fromhost, p.from_, p.fromx, p.fromy, p.frompitch)):
            if kind not in (_HOST, _DEVICE, _UNIFIED) or (pitch and pitch < p.width + x): raise Refuse("INVALID_VALUE")
            ends.append(((host or 0) if kind == _HOST else device) + y * pitch + x)
        self.copy(self.stream(stream), Copy(ends[0], ends[1], p.width, p.height, p.topitch, p.frompitch))

    def MemsetD8Async(self, at, value, count, stream): self.fill(at, bytes([value]), count, stream)
    def MemsetD16Async(self, at, value, count, stream): self.fill(at, value.to_bytes(2, "little"), count, stream)
    def MemsetD32Async(self, at, value, count, stream): self.fill(at, value.to_bytes(4, "little"), count, stream)

    def fill(self, at, value, count, stream):
        if at % len(value): raise Refuse("INVALID_VALUE")
        s = self.stream(stream)
        if not count: return
        self.check_range(at, count * len(value))
        self.submit(s, Fill(at, value, count))

    # ---- memory apart from addresses
    def MemGetAllocationGranularity(self, props, option):
        self.device(AllocationProp.from_address(props).location.id)
        return PAGE

    def MemAddressReserve(self, nbytes, alignment, wish, flags):
        self.context()
        if not nbytes or nbytes % PAGE or flags: raise Refuse("INVALID_VALUE")
        try: r = Reservation(nbytes, max(alignment, PAGE))
        except MemoryError: raise Refuse("OUT_OF_MEMORY") from None
        self.reserved[r.at] = r
        return r.at

    def MemAddressFree(self, at, nbytes):
        r = self.reserved.get(at)
        if r is None or r.nbytes != nbytes or any(at <= a.start < at + nbytes for a in self.space.items): raise Refuse("INVALID_VALUE")
        del self.reserved[at]
        r.free()

    def MemCreate(self, nbytes, props, flags):
        self.unsafe()
        p = AllocationProp.from_address(props)
        if p.type != 1 or p.location.type != 1 or not nbytes or nbytes % PAGE: raise Refuse("INVALID_VALUE")
        arena = self.device(p.location.id).arena
        if arena.used + nbytes > arena.capacity: raise Refuse("OUT_OF_MEMORY")
        arena.used += nbytes
        arena.peak = max(arena.peak, arena.used)
        file = os.memfd_create("forno")
        os.ftruncate(file, nbytes)
        return self.put(Physical(p.location.id, nbytes, file))

    def MemRelease(self, handle):
        p = self.get(handle, Physical, "INVALID_VALUE")
        del self.handles[handle]
        self.let_go(p)

    def let_go(self, p: Physical) -> None:
        p.held -= 1
        if p.held: return
        p.close()
        self.devices[p.device].arena.used -= p.nbytes

    def MemMap(self, at, nbytes, offset, handle, flags):
        self.unsafe()
        p = self.get(handle, Physical, "INVALID_VALUE")
        r = self.reservation(at, nbytes)
        if r is None or at % PAGE or nbytes % PAGE or not nbytes or offset or nbytes > p.nbytes or flags: raise Refuse("INVALID_VALUE")
        if any(a.start < at + nbytes and at < a.end for a in self.space.items): raise Refuse("ALREADY_MAPPED")
        r.map(at, nbytes, p.file)
        p.held += 1
        a = self.space.add(Allocation(at, at + nbytes, p.device, "mapped", self.named("mapped memory"), live=False))      # nobody has access yet
        a.pool = p

    def MemUnmap(self, at, nbytes):
        self.unsafe()
        a = self.space.at(at)
        if a is None or a.kind != "mapped" or (a.start, a.nbytes) != (at, nbytes): raise Refuse("INVALID_VALUE")
        self.context()
        self.finish(self.devices[a.device].context)
        self.unmap(a, f"MemUnmap, call {self.calls}")

    def unmap(self, a: Allocation, by: str) -> None:
        self.space.remove(a, by)
        self.reservation(a.start, a.nbytes).unmap(a.start, a.nbytes)
        self.let_go(a.pool)

    def reservation(self, at: int, nbytes: int) -> Reservation | None:
        return next((r for r in self.reserved.values() if r.at <= at and at + nbytes <= r.at + r.nbytes), None)

    def MemSetAccess(self, at, nbytes, access, count):
        hit = [a for a in self.space.items if a.kind == "mapped" and at <= a.start and a.end <= at + nbytes]
        if not hit or sum(a.nbytes for a in hit) != nbytes: raise Refuse("INVALID_VALUE")
        for a in hit:
            who = self.granted(access, count, self.devices[a.device], a.readers | ({a.device} if a.live else set()))
            a.live, a.readers = bool(who), who
        self.space.changes += 1

    def MemExportToShareableHandle(self, shared, handle, kind, flags):
        if kind != 1: raise Refuse("NOT_SUPPORTED")
        ctypes.c_int.from_address(shared).value = os.dup(self.get(handle, Physical, "INVALID_VALUE").file)

    def MemImportFromShareableHandle(self, shared, kind):
        """The number of a file descriptor, as the pointer itself."""
        if kind != 1: raise Refuse("NOT_SUPPORTED")
        file = os.dup(shared)
        nbytes, device = os.fstat(file).st_size, self.context().device
        device.arena.used += nbytes
        return self.put(Physical(device.ordinal, nbytes, file))
