"""The driver's functions for memory and events that processes share.

Each process has a simulated machine of its own. An allocation that one shares lies in an anonymous file from then on, at the same addresses; the other maps that file. What
the two do to it at the same time is not compared: nobody sees both orders. An event that another process knows is over when the call that records it returns: all that
was queued before it runs then, which a GPU may do as well, so waiting for another process's event means nothing to do.
"""
from __future__ import annotations

import mmap
import os
import struct

from .allocate import MemoryCalls
from .machine import Event
from .memory import Allocation, Reservation, round_up
from .work import Refuse

_HANDLE = struct.Struct("<8sIIIIQ32x")         # mark, process, its file, device, unused, bytes
_MARK, _EVENT_MARK = b"fornoIPC", b"fornoEvt"


class IpcCalls(MemoryCalls):
    def IpcGetMemHandle(self, at):
        self.unsafe()
        self.context()
        a = self.space.at(at)
        if a is None or a.kind != "memory" or a.start != at: raise Refuse("INVALID_VALUE")
        if a.nbytes < mmap.PAGESIZE: raise Refuse("NOT_SUPPORTED")           # it has neighbours on its page
        if a.file is None: a.file = self.devices[a.device].arena.to_file(a.host, a.nbytes)
        return _HANDLE.pack(_MARK, os.getpid(), a.file, a.device, 0, a.nbytes)

    def IpcOpenMemHandle(self, shared, flags):
        self.unsafe()
        context = self.context()
        mark, process, file, device, _, nbytes = _HANDLE.unpack(bytes(shared))
        if mark != _MARK or flags != 1 or device != context.device.ordinal: raise Refuse("INVALID_VALUE")
        if process == os.getpid(): raise Refuse("INVALID_CONTEXT")           # memory isn't opened where it is from
        try: here = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR)
        except OSError: raise Refuse("INVALID_VALUE") from None               # that process has ended, or freed it
        room = Reservation(round_up(nbytes, mmap.PAGESIZE), mmap.PAGESIZE)
        room.map(room.at, room.nbytes, here)
        os.close(here)
        self.space.add(Allocation(room.at, room.at + nbytes, device, "shared", self.named("another process's memory"), pool=room))
        return room.at

    def IpcCloseMemHandle(self, at):
        self.unsafe()
        a = self.space.at(at)
        if a is None or a.kind != "shared" or a.start != at: raise Refuse("INVALID_VALUE")
        self.finish(self.devices[a.device].context)
        self.leave(a, f"IpcCloseMemHandle, call {self.calls}")

    def IpcGetEventHandle(self, handle):
        event = self.event(handle)
        if not event.interprocess: raise Refuse("INVALID_HANDLE")
        if event.captured is not None: raise Refuse("CAPTURED_EVENT")
        event.known = True
        if event.op is not None: self.run_until(event.op)
        return _HANDLE.pack(_EVENT_MARK, os.getpid(), 0, event.context.device.ordinal, 0, event.handle)

    def IpcOpenEventHandle(self, shared):
        context = self.context()
        mark, process, _, device, _, _ = _HANDLE.unpack(bytes(shared))
        if mark != _EVENT_MARK: raise Refuse("INVALID_VALUE")
        if process == os.getpid() or device != context.device.ordinal: raise Refuse("INVALID_CONTEXT")
        if not os.path.exists(f"/proc/{process}"): raise Refuse("INVALID_HANDLE")
        event = Event(context, False, interprocess=True, known=True)
        event.handle = self.put(event)
        return event.handle

    def leave(self, a: Allocation, by: str) -> None:
        self.space.remove(a, by)
        a.pool.free()

    def drop(self, a: Allocation, by: str) -> None:
        if a.kind == "shared": self.leave(a, by)
        else: super().drop(a, by)
