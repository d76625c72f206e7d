"""The driver's functions for streams and events."""
from __future__ import annotations

from .devices import DeviceCalls
from .machine import Event, Op, Stream
from .work import HostCall, Marker, Refuse, WaitValue, Work, WriteValue

_DISABLE_TIMING, _INTERPROCESS = 2, 4


class StreamCalls(DeviceCalls):
    def submit(self, stream: Stream, work: Work) -> Op | None:
        """To the stream, or to the graph that it captures."""
        if stream.capture is not None: return self.captured(stream, work)
        self.no_implicit(stream)
        self.now += 1e-6
        return self.post(work, stream)

    # ---- streams
    def StreamCreateWithPriority(self, flags, priority):
        if flags > 1: raise Refuse("INVALID_VALUE")
        return self.new_stream(self.context(), flags, max(-5, min(0, priority))).handle

    def StreamDestroy(self, handle):
        """Its work still ends."""
        if handle in (0, 1, 2): raise Refuse("INVALID_HANDLE")
        s = self.stream(handle)
        if s.capture is not None: self.spoil(s.capture, "STREAM_CAPTURE_UNSUPPORTED")
        del self.handles[s.handle]
        if s.tail is None: s.context.streams.remove(s)

    def StreamSynchronize(self, handle):
        s = self.stream(handle)
        self.no_capture(s)
        self.wait(self.tails(s))

    def StreamQuery(self, handle):
        s = self.stream(handle)
        self.no_capture(s)
        self.unsafe()
        if not self.is_done(self.tails(s)): raise Refuse("NOT_READY")

    def tails(self, s: Stream) -> list[Op | None]:
        """What waiting for a stream waits for: the default one stands for all blocking ones."""
        if s is not s.context.legacy: return [s.tail]
        self.no_implicit(s)
        return [s.tail, *(t.tail for t in s.context.streams if t.blocking)]

    def StreamGetPriority(self, handle): return self.stream(handle).priority
    def StreamGetFlags(self, handle): return 0 if self.stream(handle).blocking else 1
    def StreamGetCtx(self, handle): return self.stream(handle).context.handle

    def LaunchHostFunc(self, handle, function, data):
        if not function: raise Refuse("INVALID_VALUE")
        self.submit(self.stream(handle), HostCall(function, data))

    def StreamWaitValue32(self, handle, at, value, flags):
        self.word(at)
        self.submit(self.stream(handle), WaitValue(at, value, flags & 3))

    def StreamWriteValue32(self, handle, at, value, flags):
        self.word(at)
        self.submit(self.stream(handle), WriteValue(at, value))

    def word(self, at: int) -> None:
        if at & 3 or (a := self.space.at(at)) is None or at + 4 > a.end: raise Refuse("INVALID_VALUE")

    # ---- events
    def EventCreate(self, flags):
        if flags & ~7 or flags & _INTERPROCESS and not flags & _DISABLE_TIMING: raise Refuse("INVALID_VALUE")
        event = Event(self.context(), not flags & _DISABLE_TIMING, interprocess=bool(flags & _INTERPROCESS))
        event.handle = self.put(event)
        return event.handle

    def event(self, handle: int) -> Event:
        event = self.get(handle, Event)
        self.check(event.context)
        return event

    def EventDestroy(self, handle):
        self.event(handle)
        del self.handles[handle]

    def EventRecord(self, handle, stream):
        event, s = self.event(handle), self.stream(stream)
        if event.context is not s.context: raise Refuse("INVALID_HANDLE")
        if s.capture is not None: self.record_captured(event, s)
        else: event.op, event.captured = self.submit(s, Marker("recorded event")), None
        if event.known and event.op is not None: self.run_until(event.op)          # no other process sees how far this one's work is

    def StreamWaitEvent(self, stream, handle, flags):
        event, s = self.event(handle), self.stream(stream)
        if flags > (s.capture is not None): raise Refuse("INVALID_VALUE")          # 1: a node of its own, in a graph
        if event.captured is not None or s.capture is not None: self.wait_captured(event, s)
        elif event.op is not None:
            self.no_implicit(s)
            self.post(Marker("wait for an event"), s, [event.op])

    def EventQuery(self, handle):
        event = self.event(handle)
        self.unsafe()
        if event.captured is not None: raise Refuse("CAPTURED_EVENT")
        if not self.is_done([event.op]): raise Refuse("NOT_READY")

    def EventSynchronize(self, handle):
        event = self.event(handle)
        if event.captured is not None: raise Refuse("CAPTURED_EVENT")
        self.unsafe()
        self.wait([event.op])

    def EventElapsedTime(self, start, end):
        pair = [self.event(start), self.event(end)]
        if any(e.captured is not None for e in pair): raise Refuse("CAPTURED_EVENT")
        if any(not e.timing or e.op is None for e in pair) or pair[0].context is not pair[1].context: raise Refuse("INVALID_HANDLE")
        if not self.is_done([e.op for e in pair]): raise Refuse("NOT_READY")
        return (pair[1].op.finish - pair[0].op.finish) * 1e3
