"""One side of a comparison on a GPU: bench/worker.py with everything made on the device, and steps that end when the device has done them.

    python bench/gpu_worker.py LIBRARY MODE NAME
"""
from __future__ import annotations

import sys

import worker
from gpu_cases import Kept, Library


def program(library: str, mode: str, name: str):
    found = Library(library)
    found.torch.set_default_device("cuda")
    make = worker.program(library, mode, name)

    def made():
        step = make()

        def ended():
            out = step()
            found.wait()
            return out
        return ended
    return made


def main(library: str, mode: str, name: str):
    kept = Kept(library)
    kept.begin(f"workload {name} {mode}")
    try: worker.serve(program(library, mode, name))
    except BaseException as error:
        kept.failed(error)
        raise
    kept.good()


if __name__ == "__main__": main(*sys.argv[1:4])
