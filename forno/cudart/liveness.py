"""Is what a captured graph reads and writes still there when the graph is launched? For `CUDAGraph.capture_begin(check_input_liveness=True)`.

Comes in: the buffers that launches and copies of a capture are given. Goes out: an error that names those which have ended since, with the lines where the capture met
them and where they ended. Memory that the capture made is its own; what has become of other memory of the same pool doesn't matter while somebody has it.
"""
from __future__ import annotations

import textwrap
import threading
import traceback
import weakref

from . import allocator, devices
from .allocator import LIVE, Graphs

SHOWN = 5                                      # dead tensors that an error tells of
WATCHED: dict[int, Inputs] = {}                # thread -> what it captures, if that is watched


class Input:
    """Memory that isn't the graph's."""

    def __init__(self, buffer):
        self.address, self.device, self.met, self.ended = buffer.address, buffer.device, here(), None
        self.alive = weakref.ref(buffer, self.end)

    def end(self, _): self.ended = here()

    def told(self, number: int) -> str:
        return f"Dead tensor #{number} (data_ptr={self.address:#x}):\n{part('Creation Traceback (Python)', self.met)}{part('Deletion Traceback (Python)', self.ended)}"


class Inputs:
    """Those of one capture into `own` memory. `begin`: blocks born later are its own."""

    def __init__(self, own: Graphs, begin: int): self.own, self.begin, self.found = own, begin, {}

    def start(self): WATCHED[threading.get_ident()] = self

    def stop(self):
        for thread in [t for t, inputs in WATCHED.items() if inputs is self]: del WATCHED[thread]

    def note(self, buffers):
        for b in buffers:
            owner = getattr(b, "owner", None)
            if hasattr(owner, "born"): b = owner                             # what another library knows lives as long as the block does
            if b.address not in self.found and getattr(b, "born", -1) < self.begin: self.found[b.address] = Input(b)

    def check(self):
        """Raises if some have ended."""
        dead = [i for i in self.found.values() if i.alive() is None and not self.given_out(i)]
        if not dead: return
        more = f"  ... and {len(dead) - SHOWN} more\n" if len(dead) > SHOWN else ""
        told = "".join(i.told(n) for n, i in enumerate(dead[:SHOWN], 1))
        raise RuntimeError(f"CUDA graph replay detected {len(dead)} dead tensor(s).\n{told}{more}{part('Replay Traceback (Python)', here())}")

    def given_out(self, i: Input) -> bool:
        """Has somebody this memory of the graph's pool?"""
        if i.device == "cpu": return False
        index = devices.number_of(i.device)
        mine = allocator.of(devices.use(index), index)
        with mine.lock:
            mine.collect()
            segment = mine.holder(i.address)
            piece = segment and segment.first
            while piece is not None and not piece.address <= i.address < piece.address + piece.size: piece = piece.after
            return piece is not None and piece.state is LIVE and piece.pool.apart is self.own


def note(*buffers):
    """A launch or copy of this thread is given these."""
    if (inputs := WATCHED.get(threading.get_ident())) is not None: inputs.note(buffers)


def here() -> str: return "".join(traceback.format_stack()[:-2])
def part(label: str, text: str | None) -> str: return f"  {label}:\n{textwrap.indent(text.strip(), '    ')}\n" if text else ""
