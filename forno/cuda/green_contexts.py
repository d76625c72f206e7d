"""torch.cuda.GreenContext: a part of a device's multiprocessors for some streams. Not here."""
from __future__ import annotations

from ..core.errors import unsupported

__all__ = ["GreenContext"]


def _refuse(name: str): raise unsupported(f"torch.cuda.GreenContext.{name}", device="cuda", instead="streams with a priority, or MPS and MIG to divide a GPU")


class GreenContext:
    """Refuses to be made."""

    @staticmethod
    def create(*, num_sms=None, workqueue_scope=None, workqueue_concurrency_limit=None, device_id=None):
        _refuse("create")

    @staticmethod
    def max_workqueue_concurrency(device_id=None) -> int:
        _refuse("max_workqueue_concurrency")

    def set_context(self): _refuse("set_context")
    def pop_context(self): _refuse("pop_context")
    def Stream(self): _refuse("Stream")
