"""The driver's functions for itself, devices and contexts."""
from __future__ import annotations

import ctypes
import hashlib

from .. import chips, errors
from ..prototypes import DEVICE, PROTOTYPES
from .machine import Context, Core, Device, Stream
from .work import Refuse

_LIMITS = {0: 1024, 1: 1 << 20, 2: 8 << 20}              # stack, printf and heap bytes


def uuid(seed: int, serial: int) -> bytes: return hashlib.md5(b"forno %d %d" % (seed, serial)).digest()


class DeviceCalls(Core):
    initialised = False

    # ---- the driver itself
    def Init(self, flags):
        if flags: raise Refuse("INVALID_VALUE")
        if not self.devices: raise Refuse("NO_DEVICE")
        self.initialised = True

    def DriverGetVersion(self): return self.version

    def GetProcAddress(self, symbol, version, flags):
        """(address, status): status 1 is "no such symbol", 2 "needs a newer driver"."""
        if version > self.version or flags > 2: raise Refuse("INVALID_VALUE")
        name = symbol.decode().removeprefix("cu")
        if name not in PROTOTYPES: return 0, 1
        if PROTOTYPES[name].version > version: return 0, 2
        at = self.table().get(name, 0)
        return at, int(not at)

    def GetErrorName(self, code): return self.text(errors.described(code)[0])
    def GetErrorString(self, code): return self.text(errors.described(code)[1])

    # ---- devices
    def device(self, ordinal: int) -> Device:
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        if not 0 <= ordinal < len(self.devices): raise Refuse("INVALID_DEVICE")
        return self.devices[ordinal]

    def DeviceGetCount(self):
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        return len(self.devices)

    def DeviceGet(self, ordinal): return self.device(ordinal).ordinal
    def DeviceGetName(self, ordinal): return self.device(ordinal).spec.name.encode()
    def DeviceGetPCIBusId(self, ordinal): return b"0000:%02X:00.0" % (self.device(ordinal).serial + 1)
    def DeviceGetUuid(self, ordinal): return uuid(self.seed, self.device(ordinal).serial)
    def DeviceTotalMem(self, ordinal): return self.device(ordinal).spec.nbytes

    def DeviceGetAttribute(self, attribute, ordinal):
        d = self.device(ordinal)
        c, new = d.chip, d.capability >= (9, 0)
        known = {"block_threads": chips.BLOCK_THREADS, "block_x": 1024, "block_y": 1024, "block_z": 64, "grid_x": 2**31 - 1, "grid_y": 65535, "grid_z": 65535,
                 "block_shared": chips.STATIC_SHARED, "constant": 65536, "warp": chips.WARP, "pitch": 2**31 - 1, "block_registers": c.registers,
                 "clock": int(d.hertz / 1000), "sms": d.sms, "map_host": 1, "concurrent": 1, "ecc": 1, "pci_bus": d.serial + 1, "memory_clock": 3201000,
                 "bus_width": int(d.bandwidth / 6.402e9 * 8), "l2": d.spec.l2, "sm_threads": c.threads, "engines": 3, "unified": 1, "major": d.capability[0],
                 "minor": d.capability[1], "priorities": 1, "sm_shared": c.shared, "sm_registers": c.registers, "double_ratio": 2, "preemption": 1, "cooperative": 1,
                 "optin_shared": c.optin, "vmm": 1, "fd_handles": 1, "sm_blocks": c.blocks, "reserved_shared": c.reserved_shared, "pools": 1, "cluster": int(new),
                 "ipc": 1, "tensor_map": int(new), "pageable": int(d.spec.pageable)}
        name = next((n for n, k in DEVICE.items() if k == attribute), None)
        if not 0 < attribute < 200: raise Refuse("INVALID_VALUE")
        return known.get(name, 0)

    def DeviceCanAccessPeer(self, ordinal, peer): return int(self.device(peer).ordinal in self.device(ordinal).peers)

    def DeviceGetP2PAttribute(self, attribute, ordinal, peer):
        """1 is a rank of speed, 2 whether access works, 3 whether atomics do."""
        can = self.DeviceCanAccessPeer(ordinal, peer)
        if ordinal == peer: raise Refuse("INVALID_DEVICE")
        return {1: 0, 2: can, 3: can}.get(attribute, 0)

    # ---- contexts
    @property
    def current(self) -> Context | None: return self.local.context

    def context(self) -> Context:
        """The current one, if it works."""
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        if self.current is None: raise Refuse("INVALID_CONTEXT")
        if not self.current.retained: raise Refuse("CONTEXT_IS_DESTROYED")
        self.check(self.current)
        return self.current

    def stream(self, handle: int) -> Stream:
        """0 and 1: the default stream; 2: this thread's own."""
        if handle in (0, 1): return self.context().legacy
        if handle == 2: return self.context().stream_of(self.thread, self)
        s = self.get(handle, Stream)
        self.check(s.context)
        return s

    def DevicePrimaryCtxRetain(self, ordinal):
        d = self.device(ordinal)
        if d.lost: raise Refuse("UNKNOWN")
        if d.context is None:
            d.context = c = Context(d)
            c.handle = self.put(c)
            c.legacy = Stream(c, self.lane())
            c.legacy.handle = 0
        d.context.retained += 1
        return d.context.handle

    def DevicePrimaryCtxRelease(self, ordinal):
        c = self.device(ordinal).context
        if c is None or not c.retained: raise Refuse("INVALID_CONTEXT")
        c.retained -= 1
        if not c.retained: self.end_context(c)

    def DevicePrimaryCtxReset(self, ordinal):
        if (c := self.device(ordinal).context) is not None: self.end_context(c)

    def end_context(self, c: Context) -> None:
        """Everything in it ends: memory is freed, handles are stale. A sticky error ends, too."""
        if not c.error: self.finish(c)
        for a in [a for a in self.space.items if a.device == c.device.ordinal]: self.drop(a, "the end of the context")
        for handle, thing in list(self.handles.items()):
            if thing is c or getattr(thing, "context", None) is c: del self.handles[handle]
        c.retained, c.device.context, c.device.default_pool, c.device.pool = 0, None, None, None

    def DevicePrimaryCtxGetState(self, ordinal):
        c = self.device(ordinal).context
        return (c.flags if c else 0), int(c is not None)

    def CtxSetCurrent(self, handle):
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        self.local.context = self.get(handle, Context, "INVALID_CONTEXT") if handle else None

    def CtxGetCurrent(self):
        if not self.initialised: raise Refuse("NOT_INITIALIZED")
        return self.current.handle if self.current else 0

    def CtxGetDevice(self): return self.context().device.ordinal

    def CtxSynchronize(self):
        c = self.context()
        self.no_capture_in(c)
        self.finish(c)

    def CtxEnablePeerAccess(self, handle, flags):
        c, peer = self.context(), self.get(handle, Context, "INVALID_CONTEXT")
        self.unsafe()
        if flags: raise Refuse("INVALID_VALUE")
        if peer.device.ordinal not in c.device.peers: raise Refuse("PEER_ACCESS_UNSUPPORTED")
        if peer.device.ordinal in c.peers: raise Refuse("PEER_ACCESS_ALREADY_ENABLED")
        c.peers.add(peer.device.ordinal)
        for a in self.space.items:
            if a.device == peer.device.ordinal and a.kind in ("memory", "global"): a.readers |= {c.device.ordinal}
        self.space.changes += 1

    def CtxDisablePeerAccess(self, handle):
        c, peer = self.context(), self.get(handle, Context, "INVALID_CONTEXT")
        if peer.device.ordinal not in c.peers: raise Refuse("PEER_ACCESS_NOT_ENABLED")
        c.peers.discard(peer.device.ordinal)
        for a in self.space.items:
            if a.device == peer.device.ordinal and a.kind in ("memory", "global"): a.readers -= {c.device.ordinal}
        self.space.changes += 1

    def CtxGetStreamPriorityRange(self): return (0, -5) if self.context() else None

    def CtxGetLimit(self, limit):
        if limit not in _LIMITS: raise Refuse("UNSUPPORTED_LIMIT")
        return self.context().limits.get(limit, _LIMITS[limit])

    def CtxSetLimit(self, limit, value):
        if limit not in _LIMITS: raise Refuse("UNSUPPORTED_LIMIT")
        self.context().limits[limit] = value

    def ProfilerStart(self): self.context()
    def ProfilerStop(self): self.context()

    # ---- texts that C may keep
    def text(self, s: str) -> int:
        if s not in self.texts: self.texts[s] = ctypes.create_string_buffer(s.encode())
        return ctypes.addressof(self.texts[s])
