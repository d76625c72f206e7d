"""What a step must do at least: floating-point operations and bytes, counted on PyTorch's side of a workload.

    python bench/counts.py [NAME …]                prints {"name": …, "flops": …, "bytes": …} per line

FLOPs are those of matrix products, convolutions and attention, forward and backward, as torch.utils.flop_counter counts them: a multiply-add is two, causal
attention counts as if it weren't, convolutions as direct ones (Winograd's algorithm does less and may beat this limit), pointwise operations and reductions
count nothing.

Bytes are what a program that keeps everything else in registers and caches would still have to move: every input, parameter and state that the step holds
read once; what is trained read once more for its gradient and written once; optimizer states and buffers that change written once; what PyTorch keeps for
backward written once and read once; the step's result written once. Temporary values count nothing, nor do gradients that an update takes over at once.

The least time is the larger of FLOPs over the peak and bytes over the bandwidth (bench/peaks.py) at a footprint of as many bytes; the roofline factor is the
measured time over that: 1 is the limit.
"""
from __future__ import annotations

import inspect
import json
import sys
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from workloads import WORKLOADS


def held(value, found: dict):
    """Every tensor that a step reaches through its closures: key of its memory -> (bytes, trained?, changed by the step?)."""
    if isinstance(value, torch.Tensor): note(found, value, value.requires_grad, value.requires_grad)
    elif isinstance(value, torch.nn.Module):
        for p in value.parameters(): note(found, p, False, False)
        for b in value.buffers(): note(found, b, False, value.training)
    elif isinstance(value, torch.optim.Optimizer):
        for group in value.param_groups:
            for p in group["params"]: note(found, p, True, True)
        for state in value.state.values():
            for t in state.values(): held(t, found) if not isinstance(t, torch.Tensor) else note(found, t, False, True)
    elif isinstance(value, (list, tuple)):
        for v in value: held(v, found)
    elif inspect.isfunction(value) and value.__closure__:
        for cell in value.__closure__: held(cell.cell_contents, found)


def note(found: dict, t, trained: bool, changed: bool):
    key = t.untyped_storage().data_ptr()
    _, before, also = found.get(key, (0, False, False))
    found[key] = t.untyped_storage().nbytes(), trained or before, changed or also


def count(name: str) -> dict:
    step = WORKLOADS[name](torch)
    for _ in range(2): step()                  # optimizers make their states in the first
    found: dict = {}
    held(step, found)
    kept: dict = {}

    def pack(t):
        if t.layout is torch.strided and t.untyped_storage().data_ptr() not in found: kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    # LSTMs and attention as products, which the counter knows; one-kernel forms of both are opaque to it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")        # setting a flag warns of Intel's GPUs
        with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH): step()
    # kept is what the default forms keep
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t): result = step()
    moved = sum(nbytes * (1 + trained + changed) for nbytes, trained, changed in found.values()) + 2 * sum(kept.values())
    return {"name": name, "flops": counter.get_total_flops(), "bytes": moved + (result.nbytes if isinstance(result, torch.Tensor) else 0),
            "held": sum(n for n, _, _ in found.values()), "kept": sum(kept.values())}


if __name__ == "__main__":
    for wanted in sys.argv[1:] or WORKLOADS: print(json.dumps(count(wanted)), flush=True)
