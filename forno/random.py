"""torch.random: the default generator's state."""
from __future__ import annotations

import contextlib

from .framework.api import default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state

__all__ = ["default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


@contextlib.contextmanager
def fork_rng(devices=None, enabled=True, _caller="fork_rng", _devices_kw="devices", device_type="cuda"):
    """Random numbers drawn inside leave the generator as it was."""
    if not enabled:
        yield
        return
    state = get_rng_state()
    try: yield
    finally: set_rng_state(state)
