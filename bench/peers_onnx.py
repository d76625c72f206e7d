"""The inference workloads in ONNX Runtime: torch.onnx exports the PyTorch program's own model with the end of its step, ONNX Runtime runs it.

    python bench/peers_onnx.py NAME                serves blocks as bench/worker.py does; needs onnxruntime, onnxscript and torch (for the export)

The export counts as making the program; the first step is loading and optimizing the file, and one run. All of ONNX Runtime's graph optimizations are on,
which is its default; its CPU provider uses as many threads as OMP_NUM_THREADS says.
"""
from __future__ import annotations

import inspect
import os
import sys
import tempfile

import onnxruntime
import torch
from worker import serve
from workloads import WORKLOADS


class Ended(torch.nn.Module):
    """A model with what its step does to the result."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x): return self.model(x).sum()


class Decoding(Ended):
    """One more word: keys and values of earlier ones are inputs; as in the program, the longer ones are dropped."""

    def forward(self, ids, caches): return self.model(ids, [list(c) for c in caches], 64)[0, -1].argmax()


PEERS = ("resnet50_1", "resnet50_8", "gpt2_prefill", "gpt2_decode")


def exported(name: str, path: str):
    """Writes the file; the inputs as arrays."""
    kept = inspect.getclosurevars(WORKLOADS[name](torch)).nonlocals
    decoding = "start" in kept
    args = (kept["ids"][:, :1].contiguous(), kept["start"]) if decoding else (kept["x"],)
    with torch.no_grad(): torch.onnx.export((Decoding if decoding else Ended)(kept["model"]).eval(), args, path, dynamo=True, verbose=False)
    return [args[0].numpy(), *(t.numpy() for c in kept["start"] for t in c)] if decoding else [args[0].numpy()]


def main(name: str):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")

        def make():
            arrays, session, feeds = exported(name, path), [], {}

            def once():
                if not session:
                    options = onnxruntime.SessionOptions()
                    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
                    session.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
                    feeds.update(zip((i.name for i in session[0].get_inputs()), arrays, strict=True))
                return session[0].run(None, feeds)[0].item()
            return once
        serve(make)


if __name__ == "__main__": main(sys.argv[1])
