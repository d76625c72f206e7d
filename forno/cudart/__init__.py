"""CUDA: devices, memory, streams, code and launches, on nothing but the driver.

Comes in: bytes, PTX, words. Goes out: buffers on a device and work in its streams. It knows addresses, and nothing of what they mean; `cpu` is its twin.
`forno.cuda` gives it torch.cuda's names.
"""
from .devices import count, current, number_of, place, select, target
