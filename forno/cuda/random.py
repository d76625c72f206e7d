"""torch.cuda's random numbers: each device's seed, and how far its numbers were used. Without a device seeding does nothing."""
from __future__ import annotations

from ..core import dtype as dt
from ..cudart import devices, random as states
from ..framework import api as torch, data
from ..framework.effects import refused
from . import where

__all__ = ["get_rng_state", "get_rng_state_all", "initial_seed", "manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state", "set_rng_state_all"]


def _there() -> bool:
    """Is there a generator whose state is to be set?"""
    if devices.count() == 0: return False
    refused("it sets the state of a generator of random numbers")
    return True


def _mine(device=None) -> states.Philox: return states.default(where.number(device))


def manual_seed(seed: int):
    """Seeds this thread's device."""
    if _there(): _mine().manual_seed(int(seed))


def manual_seed_all(seed: int):
    if _there(): states.manual_seed_all(int(seed))


def seed():
    if _there(): _mine().seed()


def seed_all():
    """One seed of the system's for all devices."""
    if _there(): states.manual_seed_all(_mine().seed())


def initial_seed() -> int: return _mine().initial_seed


def get_rng_state(device="cuda"):
    """Seed and offset, as bytes."""
    return data.from_data(list(_mine(device).get_state()), dt.uint8)


def get_rng_state_all() -> list: return [get_rng_state(i) for i in range(devices.count())]


def set_rng_state(new_state, device="cuda"):
    if not _there(): return
    if not isinstance(new_state, torch.Tensor) or new_state.dtype is not dt.uint8: raise TypeError("RNG state must be a torch.ByteTensor")
    _mine(device).set_state(bytes(data.values(new_state)))


def set_rng_state_all(new_states):
    for i, state in enumerate(new_states): set_rng_state(state, i)
