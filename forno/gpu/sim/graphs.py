"""The driver's functions for graphs that are written by hand, instantiated, changed and launched."""
from __future__ import annotations

import ctypes
import dataclasses

from ..prototypes import NODE, ExecUpdateResult, KernelNodeParams, NodeParams
from .capture import CaptureCalls, Exec, Graph, Node
from .memory import DELTA
from .work import Copy, Fill, HostCall, Kernel, Marker, Refuse, Work

_TOPOLOGY, _TYPE, _PARAMETERS = 2, 3, 5        # CU_GRAPH_EXEC_UPDATE_ERROR_…


class GraphCalls(CaptureCalls):
    def GraphCreate(self, flags): return self.handle_of(Graph())

    def graph(self, handle: int) -> Graph: return self.get(handle, Graph, "INVALID_VALUE")

    def GraphDestroy(self, handle): self.forget(self.graph(handle))

    # ---- nodes
    def nodes(self, at: int, count: int) -> list[Node]:
        return [self.get(h, Node, "INVALID_VALUE") for h in (ctypes.c_size_t * count).from_address(at)] if count else []

    def GraphAddKernelNode(self, handle, before, count, params):
        graph, p = self.graph(handle), KernelNodeParams.from_address(params)
        return self.node(graph, self.kernel_of(p), self.nodes(before, count)).handle

    def kernel_of(self, p: KernelNodeParams) -> Kernel:
        """A kernel that may touch what is given out whenever the graph is launched: nobody keeps memory for it, as is done for what is captured."""
        context = self.context()
        f = self.launchable(p.function or p.kernel or 0, context)
        made = self.kernel(f, f.context, (p.gridx, p.gridy, p.gridz), (p.blockx, p.blocky, p.blockz), p.shared, p.params or 0, p.extra or 0)
        return dataclasses.replace(made, divisions=None)

    def GraphAddNode(self, handle, before, count, params):
        graph, p, deps = self.graph(handle), NodeParams.from_address(params), self.nodes(before, count)
        if p.type == NODE["graph"]:
            made = {}
            for n in self.graph(p.graph.graph or 0).sorted(): made[n] = self.node(graph, n.work, [made[b] for b in n.before] or deps)
            return self.node(graph, Marker("end of a child graph"), [*made.values(), *deps]).handle
        return self.node(graph, self.work_of(p), deps).handle

    def work_of(self, p: NodeParams) -> Work:
        if p.type == NODE["kernel"]: return self.kernel_of(p.kernel)
        if p.type == NODE["host"]: return HostCall(p.host.function or 0, p.host.data or 0)
        if p.type == NODE["empty"]: return Marker("empty node")
        if p.type == NODE["memset"]:
            m = p.memset
            self.check_range(m.at, (m.height - 1) * m.pitch + m.width * m.itemsize)
            return Fill(m.at, m.value.to_bytes(4, "little")[:m.itemsize], m.width, m.height, m.pitch)
        if p.type == NODE["memcpy"]: return self.copy_of(p.memcpy.copy)
        raise Refuse("NOT_SUPPORTED")

    def copy_of(self, c) -> Copy:
        if c.depth != 1: raise Refuse("NOT_SUPPORTED")
        ends = []
        for kind, host, device, x, y, pitch in ((c.totype, c.tohost, c.to, c.tox, c.toy, c.topitch), (c.fromtype, c.fromhost, c.from_, c.fromx, c.fromy, c.frompitch)):
            at = ((host or 0) if kind == 1 else device) + y * pitch + x
            if at >= DELTA: self.check_range(at, (c.height - 1) * pitch + c.width)
            ends.append(at)
        return Copy(ends[0], ends[1], c.width, c.height, c.topitch, c.frompitch)

    def GraphAddDependencies(self, handle, sources, targets, count):
        graph = self.graph(handle)
        for a, b in zip(self.nodes(sources, count), self.nodes(targets, count)):
            if a.graph is not graph or b.graph is not graph or a in b.before or graph.reaches(b, a): raise Refuse("INVALID_VALUE")
            b.before.append(a)

    def GraphGetNodes(self, handle, nodes, count):
        """With no array, only the number; otherwise as many as there is room for."""
        graph, room = self.graph(handle), ctypes.c_size_t.from_address(count)
        if nodes:
            for k, n in enumerate(graph.nodes[:room.value]): ctypes.c_size_t.from_address(nodes + 8 * k).value = n.handle
            room.value = min(room.value, len(graph.nodes))
        else: room.value = len(graph.nodes)

    def GraphNodeGetType(self, handle): return self.get(handle, Node, "INVALID_VALUE").work.node

    def GraphKernelNodeGetParams(self, handle, params):
        """The arrays it points into live as long as the node."""
        n = self.get(handle, Node, "INVALID_VALUE")
        if not isinstance(n.work, Kernel): raise Refuse("INVALID_VALUE")
        w, f = n.work, n.work.function
        data = ctypes.create_string_buffer(w.params, max(1, len(w.params)))
        places = (ctypes.c_size_t * max(1, len(f.entry.params)))(*[ctypes.addressof(data) + p.offset for p in f.entry.params])
        n.kept = data, places
        out = KernelNodeParams(f.handle, *w.grid, *w.block, w.shared, ctypes.addressof(places), None, None, f.context.handle)
        ctypes.memmove(params, ctypes.byref(out), ctypes.sizeof(out))

    def GraphDebugDotPrint(self, handle, path, flags):
        graph = self.graph(handle)
        place = {n: k for k, n in enumerate(graph.nodes)}
        lines = [f'  n{k} [label="{n.work.name}"];' for n, k in place.items()] + [f"  n{place[b]} -> n{k};" for n, k in place.items() for b in n.before]
        with open(path.decode(), "w", encoding="utf-8") as f: f.write("\n".join(["digraph {", *lines, "}", ""]))

    def GraphConditionalHandleCreate(self, handle, context, value, flags): raise Refuse("NOT_SUPPORTED")

    # ---- executables
    def GraphInstantiateWithFlags(self, handle, flags):
        e = self.instantiate(self.graph(handle), self.context())
        e.handle = self.put(e)
        return e.handle

    def exec(self, handle: int) -> Exec: return self.get(handle, Exec, "INVALID_VALUE")

    def GraphLaunch(self, handle, stream): self.launch(self.exec(handle), self.stream(stream))

    def GraphUpload(self, handle, stream):
        self.exec(handle)
        self.submit(self.stream(stream), Marker("upload of a graph"))

    def GraphExecDestroy(self, handle):
        self.exec(handle)
        del self.handles[handle]

    def GraphExecKernelNodeSetParams(self, handle, node, params):
        e, n = self.exec(handle), self.get(node, Node, "INVALID_VALUE")
        if n not in e.nodes or not isinstance(e.works[e.nodes[n]], Kernel): raise Refuse("INVALID_VALUE")
        new = self.kernel_of(KernelNodeParams.from_address(params))
        if new.function.context is not e.works[e.nodes[n]].function.context: raise Refuse("INVALID_VALUE")
        e.works[e.nodes[n]] = new

    def GraphExecUpdate(self, handle, graph, result):
        """Another graph of the same form takes the place of this one's works; the first difference refuses it all."""
        e, nodes = self.exec(handle), self.graph(graph).sorted()
        place = {n: k for k, n in enumerate(nodes)}
        error = bad = None
        if len(nodes) != len(e.works): error = _TOPOLOGY
        for k, n in enumerate(nodes if error is None else ()):
            if sorted(place[b] for b in n.before) != sorted(e.edges[k]): error, bad = _TOPOLOGY, n
            elif n.work.node != e.works[k].node: error, bad = _TYPE, n
            elif not e.works[k].same_form(n.work): error, bad = _PARAMETERS, n
            if error is not None: break
        if result:
            out = ExecUpdateResult(error or 0, bad.handle if bad else None, None)
            ctypes.memmove(result, ctypes.byref(out), ctypes.sizeof(out))
        if error is not None: raise Refuse("GRAPH_EXEC_UPDATE_FAILURE")
        e.works, e.nodes = [n.work for n in nodes], place

    def ThreadExchangeStreamCaptureMode(self, mode):
        place = ctypes.c_int.from_address(mode)
        place.value = self.exchange(place.value)
