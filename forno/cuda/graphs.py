"""torch.cuda's graphs: what a piece of program queues is captured once, and launched as one from then on.

Tensors that are read and written have their addresses in the graph. So a tensor that was alive when something was captured keeps its memory: new values are written
there. A captured graph computes with the numbers that it was captured with, but draws random numbers anew; what needs a look at values, or memory of the host that
isn't pinned, can't be captured.
"""
from __future__ import annotations

from ..core.errors import warn
from ..cudart import allocator, devices, graphs, liveness, streams
from ..cudart import random as states
from ..framework import api as torch
from ..framework.autograd import grad
from ..framework.custom import Function, once_differentiable
from ..nn.modules.module import Module
from ..utils._pytree import tree_flatten, tree_unflatten
from . import memory, where
from .streams import Stream, StreamContext, current_stream, settle


UNANNOTATED = ("nothing is annotated: the numbers by which profilers know a graph's kernels (cuGraphNodeGetToolsId) came with CUDA 13.1, and forno asks for nothing "
               "that new. torch.cuda.nvtx.range names parts of a program")


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
    """A captured graph. Inputs, outputs and all between them stay where they are. `keep_graph`: its nodes are there to be looked at after it was made ready, which is
    done by `instantiate` or the first replay then."""

    def __init__(self, keep_graph: bool = False):
        if devices.count() == 0: raise RuntimeError("torch.cuda.CUDAGraph requires CUDA support")
        self.inner, self.keep_graph, self.debug, self.ended, self.inputs = graphs.Graph(), keep_graph, False, False, None

    # ---- capture
    def capture_begin(self, pool=None, capture_error_mode: str = "global", check_input_liveness: bool = False):
        if capture_error_mode not in graphs.MODES:
            raise RuntimeError(f"Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, got {capture_error_mode}")
        if pool is not None and not isinstance(pool, allocator.Graphs):
            raise TypeError(f"pool must come from graph_pool_handle(), a graph's pool() or a MemPool's id, not {pool!r}")
        if self.inner.exec: raise RuntimeError("This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance.")
        settle()
        s = current_stream()
        if s.stream_id == streams.DEFAULT:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them on the default stream.)")
        self.inner.begin(s.device_index, s.stream_id, pool, capture_error_mode)
        self.inputs = liveness.Inputs(self.inner.memory, self.inner.born) if check_input_liveness else None
        if self.inputs is not None: self.inputs.start()

    def capture_end(self):
        """What was recorded so far is captured, too."""
        if not self.inner.underway: raise RuntimeError("CUDAGraph.capture_end was called without capture_begin")
        try: settle()
        except BaseException:
            self.give_up()
            raise
        self.watch_no_more()
        self.inner.end()
        self.ended = True
        if not self.inner.count(): warn("The CUDA Graph is empty. This usually means that the graph was attempted to be captured on wrong device or stream.")
        if self.keep_graph: return
        self.inner.instantiate()
        if not self.debug: self.inner.forget()

    def give_up(self):
        """Ends a capture that failed; why is known already."""
        self.watch_no_more()
        try: self.inner.end()
        except RuntimeError: pass
        self.inner.reset()

    def watch_no_more(self):
        if self.inputs is not None: self.inputs.stop()

    def register_generator_state(self, generator):
        """What is captured may draw from this generator, too. Its device's own needs no telling."""
        if states.capturing(): raise RuntimeError("Cannot register the state during capturing stage. during CUDA graph capture.")
        self.inner.states.append(generator.of_gpu().state)

    # ---- replay
    def instantiate(self):
        if not self.ended: raise RuntimeError("capture_end() must have been called before calling instantiate")
        if self.inner.exec and not self.keep_graph: raise RuntimeError("instantiate() is intended to be called by the user only when keep_graph=true")
        self.inner.instantiate()

    def replay(self):
        if not self.ended: raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        settle()
        if self.inputs is not None: self.inputs.check()
        if not self.inner.exec: self.inner.instantiate()
        self.inner.launch(streams.current(self.inner.index))

    def reset(self):
        settle()
        self.inner.reset()
        self.ended, self.inputs = False, None

    # ---- what it is
    def pool(self) -> allocator.Graphs:
        if not self.ended: raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self.inner.memory

    def raw_cuda_graph(self) -> int:
        if not self.keep_graph: raise RuntimeError("You cannot access the raw cudaGraph_t instance unless CUDAGraph was initialized with keep_graph=true")
        if not self.inner.graph: raise RuntimeError("You cannot access the raw cudaGraph_t instance until capture_end() has been called")
        return self.inner.graph

    def raw_cuda_graph_exec(self) -> int:
        if not self.inner.exec: raise RuntimeError("You cannot access the raw cudaGraphExec_t instance until instantiate() has been called")
        return self.inner.exec

    def enable_debug_mode(self): self.debug = True

    def debug_dump(self, debug_path):
        """Writes the graph for Graphviz. Its nodes are let go of then, unless they are to be kept."""
        if not self.inner.graph or not (self.debug or self.keep_graph): return warn("CUDA Graphs debug not enabled, set with [graph].enable_debug_mode()")
        self.inner.draw(str(debug_path))
        if not self.keep_graph: self.inner.forget()


class graph:
    """Captures what is recorded inside."""

    def __init__(self, cuda_graph: CUDAGraph, pool=None, stream=None, capture_error_mode: str = "global", enable_annotations: bool = False, check_input_liveness: bool = False):
        if enable_annotations: warn(UNANNOTATED)
        if stream is None:
            index = where.number()
            stream = Stream.of(index, graphs.capture_stream(devices.use(index), index))
        self.cuda_graph, self.pool, self.capture_stream, self.capture_error_mode = cuda_graph, pool, stream, capture_error_mode
        self.check_input_liveness, self.context = check_input_liveness, StreamContext(stream)

    def __enter__(self):
        settle()
        for index in devices.opened(): devices.synchronize(index)
        memory.empty_cache()
        self.context.__enter__()
        try: self.cuda_graph.capture_begin(self.pool, self.capture_error_mode, self.check_input_liveness)
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


def fit(m: Module):
    """Only what has no hooks and trains nothing but parameters can be graphed."""
    if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks:
        raise AssertionError("Modules must not have hooks registered at the time they are passed. However, registering hooks on modules after passing them through "
                             "make_graphed_callables is allowed.")
    if any([b.requires_grad for b in m.buffers()]):
        raise AssertionError("In any :class:`~torch.nn.Module` passed to :func:`~make_graphed_callables`, only parameters may be trainable. All buffers must have "
                             "``requires_grad=False``.")


def copied(g): return None if g is None else g.clone()


class _Graphed:
    """One function's two graphs with the tensors that lie at their ends."""

    def __init__(self, f, args, warmup: int, unused: bool, pool):
        if torch.is_autocast_enabled("cuda") and torch.is_autocast_cache_enabled():
            raise RuntimeError("make_graphed_callables does not support the autocast caching. Please set `cache_enabled=False`.")
        self.f, self.args, self.unused, self.pool = f, args, unused, pool
        leaves, _ = tree_flatten(args)
        if not all([isinstance(x, torch.Tensor) for x in leaves]):
            raise AssertionError("In the beta API, sample_args for each callable must contain only Tensors. Other types are not allowed.")
        if isinstance(f, Module): fit(f)
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
            @once_differentiable
            def backward(ctx, *gradients):
                for mine, g in zip(graphed.given, gradients):
                    if mine is not None: mine.copy_(g)
                if graphed.found: graphed.backward_graph.replay()
                found = iter(graphed.found)
                return tuple([copied(next(found, None)) if x.requires_grad else None for x in graphed.inputs])
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
