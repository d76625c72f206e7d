"""torch.cuda's streams and events.

What was recorded so far is queued before anything is said about a stream: work belongs to the stream that was current when it was written down.
"""
from __future__ import annotations

from multiprocessing import reduction

from ..cudart import devices, faults, memory, streams
from ..framework import runtime
from ..framework.effects import refused
from ..framework.engine import flush
from ..framework.size import device as torch_device
from . import where


HANDLE = 64                                    # bytes


def _needs_device(name: str):
    if devices.count() == 0: raise RuntimeError(f"torch.cuda.{name} requires CUDA support")


def settle():
    """What was recorded so far is queued. A call that asks for it is not said again from memory."""
    refused("it speaks of streams")
    flush()


class Stream(runtime.Stream):
    """A queue of work of one device. Work of different streams may overlap."""
    device_type = 1

    def __init__(self, device=None, priority=0, *, stream_id=None, device_index=None, device_type=None, **kw):
        _needs_device(type(self).__name__)
        index = device_index if device_index is not None and device is None else where.number(device)
        self.point(index, streams.from_pool(index, priority) if stream_id is None else stream_id)

    def point(self, index: int, handle: int): self.device, self.device_index, self.stream_id = where.name(index), index, handle

    @classmethod
    def of(cls, index: int, handle: int) -> Stream:
        """A stream that is there already."""
        self = object.__new__(cls)
        self.point(index, handle)
        return self

    cuda_stream = property(lambda self: self.stream_id)
    def __cuda_stream__(self) -> tuple[int, int]: return 0, self.stream_id          # the protocol's version, the driver's handle
    _as_parameter_ = property(lambda self: self.stream_id)
    priority = property(lambda self: streams.priority(self.device_index, self.stream_id))

    @staticmethod
    def priority_range() -> tuple[int, int]:
        index = where.number()
        return streams.priorities(devices.use(index), index)

    def query(self) -> bool:
        settle()
        return devices.use(self.device_index).StreamQuery(self.stream_id)

    def synchronize(self):
        settle()
        memory.wait(self.device_index, self.stream_id)
        faults.check(self.device_index)

    def wait_event(self, event): event.wait(self)

    def wait_stream(self, stream):
        settle()
        streams.follow(self.device_index, self.stream_id, stream.device_index, stream.stream_id)

    def record_event(self, event=None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def is_capturing(self) -> bool: return devices.use(self.device_index).StreamIsCapturing(self.stream_id) != 0

    def __enter__(self):
        self.context = StreamContext(self)
        self.context.__enter__()
        return self

    def __exit__(self, *error): return self.context.__exit__(*error)
    def __eq__(self, other): return isinstance(other, Stream) and (self.device_index, self.stream_id) == (other.device_index, other.stream_id)
    def __hash__(self): return hash((self.device_index, self.stream_id))
    def __repr__(self): return f"<torch.cuda.Stream device={self.device} cuda_stream={self.stream_id:#x}>"


class ExternalStream(Stream):
    """A stream that somebody else made, by its address. It must live as long as this object is used."""

    def __init__(self, stream_ptr, device=None, **kw):
        _needs_device("ExternalStream")
        self.point(where.number(device), int(stream_ptr))


class Event(runtime.Event):
    """A point in a stream, which other streams and the host may wait for, and whose time is known."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False, external=False):
        _needs_device("Event")
        self.timing, self.point = enable_timing, streams.Event(enable_timing, blocking, interprocess)

    device = property(lambda self: where.name(self.point.index) if self.point.handle else None)
    cuda_event = event_id = property(lambda self: self.point.handle)
    _as_parameter_ = property(lambda self: self.point.handle)

    def record(self, stream=None):
        settle()
        stream = current_stream() if stream is None else stream
        self.point.record(stream.device_index, stream.stream_id)

    def wait(self, stream=None):
        settle()
        stream = current_stream() if stream is None else stream
        self.point.wait(stream.device_index, stream.stream_id)

    def query(self) -> bool: return self.point.query()
    def synchronize(self): self.point.synchronize()

    def elapsed_time(self, end_event) -> float:
        """Milliseconds between two events."""
        both = self, end_event
        if not all(e.timing for e in both): raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if not all(e.point.handle for e in both): raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not all(e.query() for e in both): raise ValueError("Both events must be completed before calculating elapsed time.")
        return self.point.elapsed(end_event.point)

    @classmethod
    def from_ipc_handle(cls, device, handle) -> Event:
        """Another process's event. What is recorded in it there is waited for here, and the other way round."""
        if len(handle) != HANDLE: raise RuntimeError(f"cudaIpcEventHandle_t expects byte-like object of size {HANDLE}, but got {len(handle)}")
        kind = torch_device(device).type
        if kind != "cuda": raise RuntimeError(f"Event can only be created on CUDA devices, but got device type {kind}")
        self = object.__new__(cls)
        self.timing, self.point = False, streams.Event.of_another(where.number(device), bytes(handle))
        return self

    def ipc_handle(self) -> bytes:
        """64 bytes, for `from_ipc_handle` of another process; an event that wasn't recorded is the current device's from now on."""
        settle()
        return self.point.shared()
    def __repr__(self): return f"<torch.cuda.Event {self.point.handle:#x}>" if self.point.handle else "<torch.cuda.Event uninitialized>"


def sent(event: Event):
    """To another process, by multiprocessing's queues and pipes."""
    shared = event.ipc_handle()
    return Event.from_ipc_handle, (event.device, shared)


reduction.ForkingPickler.register(Event, sent)


def current_stream(device=None) -> Stream:
    index = where.number(device)
    return Stream.of(index, streams.current(index))


def default_stream(device=None) -> Stream: return Stream.of(where.number(device), streams.DEFAULT)


def get_stream_from_external(data_ptr, device=None) -> Stream: return ExternalStream(data_ptr, device)


def set_stream(stream):
    """Makes a stream the current one of its device, and its device this thread's. None changes nothing."""
    if stream is None: return
    settle()
    devices.select(stream.device_index)
    streams.choose(stream.device_index, stream.stream_id)


class StreamContext:
    """What is recorded inside is queued in a stream; None changes nothing, on any machine."""

    def __init__(self, stream): self.stream = stream

    def __enter__(self):
        if self.stream is None: return
        settle()
        self.device, index = devices.current(), self.stream.device_index
        devices.select(index)
        self.before = streams.choose(index, self.stream.stream_id)

    def __exit__(self, *error):
        if self.stream is None: return
        try: flush()
        finally:
            streams.choose(self.stream.device_index, self.before)
            devices.select(self.device)


def stream(stream) -> StreamContext: return StreamContext(stream)
