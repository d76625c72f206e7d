"""Every public name of torch.cuda's modules is here, with PyTorch's parameters; what can't be done says what to use instead."""
import importlib
import inspect

import pytest
import torch as oracle

import forno as torch

MODULES = ["cuda", "cuda.memory", "cuda.amp", "cuda.amp.autocast_mode", "cuda.amp.common", "cuda.amp.grad_scaler", "cuda.nvtx", "cuda.random", "cuda.streams", "cuda.graphs", "cuda.profiler", "cuda.nccl", "cuda.comm", "cuda.gds", "cuda.tunable",
           "cuda.jiterator", "cuda.green_contexts", "backends.cuda", "backends.cudnn"]
# What is public without being listed.
BESIDES = {"cuda.streams": ["Event", "ExternalStream", "Stream"], "cuda.graphs": ["CUDAGraph", "graph", "graph_pool_handle", "is_current_stream_capturing", "make_graphed_callables"],
           "cuda.nccl": ["SUM", "init_rank", "is_available", "unique_id", "version"], "cuda": ["AcceleratorError", "OutOfMemoryError"],
           "cuda.memory": ["_allocation_traceback", "_dump_snapshot", "_get_memory_metadata", "_record_memory_history", "_set_memory_metadata", "_snapshot"],
           "cuda.jiterator": ["_create_jit_fn", "_create_multi_output_jit_fn"],
           "backends.cudnn": ["allow_tf32", "benchmark", "benchmark_limit", "deterministic", "enabled", "flags", "fp32_precision", "is_acceptable", "is_available", "set_flags", "version"]}
# Constructors whose C side has no parameters to look at, and one that has more here.
NO_PARAMETERS = {"SDPAParams", "CUDAGraph"}
OTHER_PARAMETERS = {"Stream", "ExternalStream", "Event"}         # PyTorch's are __new__, with **kwargs


def names(module: str) -> list[str]:
    theirs = importlib.import_module(f"torch.{module}")
    return sorted({*getattr(theirs, "__all__", ()), *BESIDES.get(module, ())})


def module_of(library, module: str):
    for part in module.split("."): library = getattr(library, part)
    return library


CASES = [(m, n) for m in MODULES for n in names(m) if hasattr(module_of(oracle, m), n)]


@pytest.mark.parametrize("module", MODULES)
def test_names(module):
    ours = module_of(torch, module)
    assert not [n for m, n in CASES if m == module and not hasattr(ours, n)]


def parameters(f) -> list:
    """(name, kind, default) of each; annotations and self are left out."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values() if p.name != "self"]


def test_parameters():
    wrong = []
    for module, name in CASES:
        theirs, mine = getattr(module_of(oracle, module), name), getattr(module_of(torch, module), name, None)
        if not callable(theirs) or mine is None or name in NO_PARAMETERS | OTHER_PARAMETERS or name.endswith(("Storage", "Tensor", "Error")): continue
        try: expected = parameters(theirs)
        except ValueError: continue
        got = parameters(mine)
        same = [(n, k) for n, k, _ in expected] == [(n, k) for n, k, _ in got] and all(repr(a) == repr(b) for (*_, a), (*_, b) in zip(expected, got))
        if not same: wrong.append(f"{module}.{name}: {got} instead of {expected}")
    assert not wrong, "\n".join(wrong)


def test_methods():
    """Of the classes that programs hold."""
    for name in ("Stream", "Event", "StreamContext", "CUDAGraph", "MemPool", "device", "device_of", "GreenContext"):
        theirs, mine = getattr(oracle.cuda, name), getattr(torch.cuda, name)
        public = {n for n in vars(theirs) if not n.startswith("_")} - {"cur_stream", "get_graph_data"}          # of compilers
        assert not [n for n in public if not hasattr(mine, n)], name


def test_switches_of_libraries():
    """Kept as set, and refused as PyTorch refuses them."""
    for lib in (torch, oracle):
        c = lib.backends.cuda
        before = c.matmul.allow_fp16_reduced_precision_reduction
        c.matmul.allow_fp16_reduced_precision_reduction = (False, False)
        assert not c.matmul.allow_fp16_reduced_precision_reduction and not c.matmul.allow_fp16_reduced_precision_reduction_split_k
        c.matmul.allow_fp16_reduced_precision_reduction = before
        for wrong in (1, (), (True, True, True), (1,)):
            with pytest.raises(TypeError, match="allow_bf16_reduced_precision_reduction expects"): c.matmul.allow_bf16_reduced_precision_reduction = wrong
        assert c.preferred_linalg_library("default").name == "Default" and c.preferred_blas_library().name == "Cublas"
        with pytest.raises(RuntimeError, match="Unknown input value. Choose from: default, cusolver, magma."): c.preferred_linalg_library("mkl")
        with pytest.raises(RuntimeError, match="Choose from: default, cublas"): c.blas_workspace_size(backend="mkl")
        assert not c.fp16_bf16_reduction_math_sdp_allowed()
        with pytest.warns(FutureWarning, match="sdpa_kernel"), c.sdp_kernel(enable_flash=False): assert not c.flash_sdp_enabled()
        assert c.flash_sdp_enabled()
        with lib.backends.cudnn.flags(benchmark=True, depthwise_kernel="auto"): assert lib.backends.cudnn.benchmark
        assert not lib.backends.cudnn.benchmark
    assert torch.backends.cuda.blas_workspace_size(4096) == torch.backends.cuda.cublas_workspace_size() == 4096 and torch.backends.cuda.cublas_workspace_size(0) == 0


def test_plans_of_transforms(devices):
    plans = torch.backends.cuda.cufft_plan_cache
    plans.max_size = 10
    assert (plans[0].max_size, plans[1].max_size, plans.size) == (10, 4096, 0)
    with pytest.raises(RuntimeError, match="read-only property"): plans.size = 3
    plans.clear()
    plans.max_size = 4096


REFUSED = ["caching_allocator_disabled()", "caching_allocator_enable(False)", "change_current_allocator(None)", "CUDAPluggableAllocator('a.so', 'a', 'b')", "current_blas_handle()",
           "current_solver_handle()", "GreenContext.create(num_sms=8)", "jiterator._create_jit_fn('')", "MemPool(allocator=1)", "nccl.version()", "temperature()",
           "list_gpu_processes()", "memory._snapshot(augment_with_fx_traces=True)"]


@pytest.mark.parametrize("call", REFUSED)
def test_what_is_not_here_says_what_is(call, devices):
    with pytest.raises(NotImplementedError, match=r"torch\.cuda.* is not implemented on device 'cuda'; \w+"): eval(f"torch.cuda.{call}", {"torch": torch})
