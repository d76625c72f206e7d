"""torch.random: the default generator's state."""
from __future__ import annotations

import contextlib

from .framework.api import default_generator, device, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .framework.randoms import restore, states

__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


@contextlib.contextmanager
def fork_rng(devices=None, enabled=True, _caller="fork_rng", _devices_kw="devices", device_type="cuda"):
    """Random numbers drawn inside leave the generators as they were: the CPU's, and those of `devices` (None: all)."""
    if not enabled:
        yield
        return
    before = states(None if devices is None else [d if isinstance(d, int) else device(d).index or 0 for d in devices])
    try: yield
    finally: restore(before)
