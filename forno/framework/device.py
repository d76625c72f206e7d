"""From a graph to launches on a GPU: planned as for the CPU, compiled for the device, queued in its stream.

Opaque rows' steps are computed by their library on the host, between two launches: their operands are fetched and their result is sent.
"""
from __future__ import annotations

import functools
import math
import struct

from .. import cudart
from ..core import collector
from ..core.flags import flags
from ..core.graph import Graph, Value
from ..core.kernels import DeviceCall, DeviceLaunch, Host
from ..core.shape import View, reach
from ..core.trace import trace
from ..cpu import memory, nvptx
from ..cudart import devices, faults, launch, liveness, streams
from ..cudart import memory as device_memory
from ..dnn.gather import lookups
from ..graph.derive import at
from ..kernel.abi import CHECK_ERROR
from ..kernel.nvptx import build
from ..show import ladder
from . import host
from .apart import lies_dense
from .native import Runner, gathered, halved, planned, shown, spanned, wrapped


def isa_of(device: str):
    """What is generated for a device."""
    return nvptx.isa_of(*cudart.target(cudart.number_of(device)))


def prepare(graph: Graph, lines, device: str):
    with collector.Waiting():
        isa = isa_of(device)
        plan, t = planned(graph, functools.partial(build.accepts, isa=isa), halves=True)
        kernels = [s.kernel for s in plan.steps]
        built = iter(build.build_all([k for k in kernels if not isinstance(k, Host)], isa))
        run = DeviceRunner(graph, plan, lines, [None if isinstance(k, Host) else next(built) for k in kernels], device)
        trace.add("compile", t)
        if flags.SHOW >= 2: ladder.planned(plan, run.launches)
        return plan, run


class DeviceRunner(Runner):
    """Calls a plan on a device: buffers of the inputs and the run's numbers in, buffers of the outputs out."""
    __slots__ = ("device",)

    def __init__(self, graph: Graph, plan, lines, launches, device: str):
        self.device = device
        super().__init__(graph, plan, lines, launches)
        if self.table is not None: self.table.about = functools.partial(told, [s.kernel for s, l in zip(plan.steps, launches) if isinstance(l, DeviceLaunch)], lines)

    def step(self, s, k, positions, lent):
        places = []
        for p, o in zip(positions, s.kernel.operands): places += [p, p + 1] if o.mode == "n" and o.dtype.is_complex else [p]
        return k, tuple(places)

    def table_of(self, steps, nvals, arena, offsets): return launch.Table(self.device, steps, nvals, arena, offsets)

    def __call__(self, buffers, scalars):
        result = [None] * self.outs
        for j, n in self.made: result[j] = device_memory.empty(n, self.device)
        for j, k in self.taken: result[j] = buffers[k]
        if liveness.WATCHED: liveness.note(*buffers)
        if self.table is not None:
            words = [b.address for b in buffers] + [0 if b is None else b.address for b in result] + [scalars[k] for k in self.numbers]
            if self.complex: words = halved(words)
            try: vals = self.pack(*words)
            except struct.error: vals = self.pack(*wrapped(words))
            frame = self.table.frame(vals)
            for kind, *what in self.parts:
                if kind == "native": frame.run(*what)
                else:
                    operands = [frame.values[p] for p in what[1]]
                    try: self.stop(what[0], operands) if kind == "host" else self.queue(what[2], operands)
                    except Exception as error: self.fail(error, what[0], buffers, result)
        return shown(self, buffers, result)

    def queue(self, call: DeviceCall, operands):
        """A library's work, in the stream's turn."""
        index = cudart.number_of(self.device)
        scratch = device_memory.empty(call.scratch, self.device) if call.scratch else None
        devices.use(index)
        call.call(index, streams.current(index), tuple(operands), scratch.address if scratch else 0)

    def stop(self, step, addresses):
        """An opaque row, on copies of its operands."""
        kernel = step.kernel
        sizes = [span(v, o.dtype.size) for v, o in zip(kernel.views, kernel.operands)]
        copies = [memory.empty(n) for n in sizes]
        for a, b, n in zip(addresses[:-1], copies, sizes): device_memory.fetch_from(self.device, a, n, b.address)
        host.call(kernel, [b.address for b in copies])
        device_memory.send_to(self.device, copies[-1].address, sizes[-1], addresses[-1])


def watched(execute, names: set):
    """`execute`, which raises what a GPU reported by its end, with the results that there are: nothing runs twice."""
    numbers = sorted(map(cudart.number_of, names))

    def run(buffers, scalars):
        out = execute(buffers, scalars)
        for index in numbers:
            error = faults.seen(index)
            if error is not None:
                error.buffers = out
                raise error
        return out
    return run


def told(kernels, lines, step: int, code: int, index: int, size: int) -> str:
    """What a step's report means, with the user's line where only one can be meant."""
    program = max(lines, key=lambda l: l.slot).program()
    if code == CHECK_ERROR:
        row = kernels[step].body[index].op
        mine = [l for l in program if l.op is row]
        return f"{row.check.error(mine[0].attr if mine else None)}{at(mine[0]) if len(mine) == 1 else ''}"
    by_slot = {l.slot: l for l in program}
    mine = [l for l in program if any([n == size for *_, n, _ in lookups(l.op, l.attr, [by_slot[c] if c.__class__ is int else c for c in l.ins])])]
    return f"index {index} is out of bounds for dimension with size {size} (in {kernels[step].label}){at(mine[0]) if len(mine) == 1 else ''}"


def span(view, size: int) -> int:
    """Bytes from a view's first element to its last."""
    first, last = reach(view)
    return (last - first + 1) * size


def carried(buffer, value: Value, device: str):
    """A value's bytes on another device, dense: they lie there as its strides say."""
    n = math.prod(value.shape) * value.dtype.size
    if not lies_dense(buffer, value):
        there, view = spanned(buffer.buffer, buffer.view, value.dtype.size)
        buffer = gathered(there, *in_memory_order(view, value))
        if device == "cpu": return buffer
    if device == "cpu": return on_host(buffer, n)
    out = device_memory.empty(n, device)
    if buffer.device == "cpu": device_memory.send_to(device, buffer.address, n, out.address)
    else:
        device_memory.across(buffer.device, buffer.address, n, device, out.address)
        if liveness.WATCHED: liveness.note(buffer)
    return out


def in_memory_order(view: View, value: Value) -> tuple[View, Value]:
    """A value and a view of it with their axes turned so that row-major is the order of its memory."""
    if value.strides is None: return view, value
    order = sorted(range(len(value.shape)), key=lambda d: -value.strides[d])
    turned = View(tuple([view.shape[d] for d in order]), tuple([view.strides[d] for d in order]), view.offset)
    return turned, Value(None, (), None, value.dtype, turned.shape)


def on_host(buffer, nbytes: int):
    """A device's buffer, copied to the host."""
    out = memory.empty(nbytes)
    device_memory.fetch_from(buffer.device, buffer.address, nbytes, out.address)
    return out
