"""Parameters as one vector and back."""
from __future__ import annotations

from ...framework import api as torch

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def _check_device(parameters):
    devices = {p.device for p in parameters}
    if len(devices) > 1:
        raise TypeError(f"Found parameters on different devices ({', '.join(map(str, devices))}), this is currently not supported.")


def parameters_to_vector(parameters):
    parameters = list(parameters)
    _check_device(parameters)
    return torch.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Write the vector's parts into the parameters' data."""
    if not isinstance(vec, torch.Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec)}")
    parameters, start = list(parameters), 0
    _check_device(parameters)
    for p in parameters:
        p.data = vec[start:start + p.numel()].view_as(p).data
        start += p.numel()
