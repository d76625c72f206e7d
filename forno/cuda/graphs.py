"""torch.cuda's graphs: what a piece of program queues is captured once, and launched as one from then on.

Tensors that are read and written have their addresses in the graph. So a tensor that was alive when something was captured keeps its memory: new values are written
there. A captured graph computes with the numbers that it was captured with; what needs a look at values, or memory of the host that isn't pinned, can't be captured.
"""
from __future__ import annotations

import gc

from ..cudart import allocator, devices, graphs, streams
from ..framework import api as torch
from ..framework.autograd import grad
from ..framework.custom import Function
from ..nn.modules.module import Module
from ..utils._pytree import tree_flatten, tree_unflatten
from . import memory, where
from .streams import Stream, StreamContext, current_stream, settle


def is_current_stream_capturing() -> bool:
    """Is what this thread queues captured?"""
    if not devices.opened(): return False
    index = devices.current()
    return streams.current(index) != streams.DEFAULT and devices.use(index).StreamIsCapturing(streams.current(index)) != 0


def graph_pool_handle() -> allocator.Graphs:
    """Memory that several graphs may share which never run at once."""
    where.number()
    return allocator.Graphs()


class CUDAGraph:
    """A captured graph. Inputs, outputs and all between them stay where they are."""

    def __init__(self, keep_graph: bool = False):
        if devices.count() == 0: raise RuntimeError("torch.cuda.CUDAGraph requires CUDA support")
        self.inner, self.keep_graph = graphs.Graph(), keep_graph

    def capture_begin(self, pool=None, capture_error_mode: str = "global"):
        if capture_error_mode not in graphs.MODES:
            raise RuntimeError(f"Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, got {capture_error_mode}")
        if self.inner.exec: raise RuntimeError("This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance.")
        settle()
        s = current_stream()
        if s.stream_id == streams.DEFAULT:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them on the default stream.)")
        self.inner.begin(s.device_index, s.stream_id, pool, capture_error_mode)

    def capture_end(self):
        """What was recorded so far is captured, too."""
        if not self.inner.underway: raise RuntimeError("CUDAGraph.capture_end was called without capture_begin")
        try: settle()
        except BaseException:
            self.give_up()
            raise
        self.inner.end()

    def give_up(self):
        """Ends a capture that failed; why is known already."""
        try: self.inner.end()
        except RuntimeError: pass

    def instantiate(self): """The graph was made ready when its capture ended."""

    def replay(self):
        if not self.inner.exec: raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        settle()
        self.inner.launch(streams.current(self.inner.index))

    def reset(self):
        settle()
        self.inner.reset()

    def pool(self) -> allocator.Graphs: return self.inner.memory
    def raw_cuda_graph(self) -> int: return self.inner.graph
    def enable_debug_mode(self): """Graphs can always be drawn."""
    def debug_dump(self, debug_path): self.inner.draw(str(debug_path))


class graph:
    """Captures what is recorded inside."""

    def __init__(self, cuda_graph: CUDAGraph, pool=None, stream=None, capture_error_mode: str = "global"):
        if stream is None:
            index = where.number()
            stream = Stream.of(index, graphs.capture_stream(devices.use(index), index))
        self.cuda_graph, self.pool, self.capture_stream, self.mode = cuda_graph, pool, stream, capture_error_mode
        self.context = StreamContext(stream)

    def __enter__(self):
        settle()
        for index in devices.opened(): devices.synchronize(index)
        gc.collect()
        memory.empty_cache()
        self.context.__enter__()
        try: self.cuda_graph.capture_begin(self.pool, self.mode)
        except BaseException:
            self.context.__exit__()
            raise

    def __exit__(self, kind, value, trace):
        try:
            if kind is None: self.cuda_graph.capture_end()
            elif self.cuda_graph.inner.underway: self.cuda_graph.give_up()
        finally: self.context.__exit__()


# ---------------------------------------------------------------- functions as graphs
def make_graphed_callables(callables, sample_args, num_warmup_iters: int = 3, allow_unused_input: bool = False, pool=None):
    """Functions or modules whose forward and backward are graphs. They take tensors of the samples' shapes, in the same order, and nothing else."""
    where.number()
    alone = not isinstance(callables, tuple)
    if alone: callables, sample_args = (callables,), (sample_args,)
    pool = graph_pool_handle() if pool is None else pool
    made = [_Graphed(f, args, num_warmup_iters, allow_unused_input, pool) for f, args in zip(callables, sample_args)]
    for g in made: g.capture_forward()
    for g in reversed(made): g.capture_backward()
    out = tuple([g.installed() for g in made])
    return out[0] if alone else out


class _Graphed:
    """One function's two graphs with the tensors that lie at their ends."""

    def __init__(self, f, args, warmup: int, unused: bool, pool):
        if torch.is_autocast_enabled("cuda"): raise RuntimeError("make_graphed_callables does not support the autocast caching. Please set `cache_enabled=False`.")
        self.f, self.args, self.unused, self.pool = f, args, unused, pool
        leaves, _ = tree_flatten(args)
        if not all([isinstance(x, torch.Tensor) for x in leaves]):
            raise TypeError("In the beta API, sample_args for each callable must contain only Tensors. Other types are not allowed.")
        if isinstance(f, Module) and (f._forward_hooks or f._forward_pre_hooks or f._backward_hooks):
            raise RuntimeError("Modules must not have hooks registered at the time they are passed. However, registering hooks on modules after passing them through "
                               "make_graphed_callables is allowed.")
        self.count = len(leaves)
        self.inputs = (*leaves, *(f.parameters() if isinstance(f, Module) else ()))
        self.wanted = [x for x in self.inputs if x.requires_grad]
        self.forward_graph, self.backward_graph = CUDAGraph(), CUDAGraph()
        self.run = f.forward if isinstance(f, Module) else f
        settle()
        for index in devices.opened(): devices.synchronize(index)
        with StreamContext(Stream()):
            for _ in range(warmup):
                outputs, _ = tree_flatten(self.run(*args))
                self.gradients(outputs, [torch.empty_like(o) for o in outputs if o.requires_grad])
        for index in devices.opened(): devices.synchronize(index)

    def gradients(self, outputs, given):
        """Those of the inputs that want one."""
        roots = [o for o in outputs if o.requires_grad]
        if not roots or not self.wanted: return ()
        return grad(roots, self.wanted, given, allow_unused=self.unused)

    def capture_forward(self):
        with graph(self.forward_graph, self.pool): self.outputs, self.form = tree_flatten(self.run(*self.args))

    def capture_backward(self):
        self.given = [torch.empty_like(o) if o.requires_grad else None for o in self.outputs]
        if not self.wanted or not any([g is not None for g in self.given]):
            self.found = ()
            return
        with graph(self.backward_graph, self.pool): self.found = self.gradients(self.outputs, [g for g in self.given if g is not None])

    def function(self):
        """An autograd.Function that launches the graphs."""
        graphed = self

        class Graphed(Function):
            @staticmethod
            def forward(ctx, *inputs):
                for mine, x in zip(graphed.inputs[:graphed.count], inputs):
                    if mine is not x: mine.detach().copy_(x)
                graphed.forward_graph.replay()
                return tuple([o.detach() for o in graphed.outputs])

            @staticmethod
            def backward(ctx, *gradients):
                for mine, g in zip(graphed.given, gradients):
                    if mine is not None: mine.copy_(g)
                if graphed.found: graphed.backward_graph.replay()
                found = iter(graphed.found)
                return tuple([next(found).clone() if x.requires_grad else None for x in graphed.inputs])
        return Graphed

    def call(self, *args):
        leaves, _ = tree_flatten(args)
        return tree_unflatten(self.function_made.apply(*leaves, *self.inputs[self.count:]), self.form)

    def installed(self):
        """The function in its new form; a module keeps its type, and runs as always in the other mode."""
        self.function_made = self.function()
        if not isinstance(self.f, Module): return self.call
        mode, usual = self.f.training, self.f.forward
        self.f.forward = lambda *args: self.call(*args) if self.f.training is mode else usual(*args)
        return self.f
