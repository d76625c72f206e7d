"""torch.cuda.GreenContext: a part of a device's multiprocessors for some streams. Not here."""
from __future__ import annotations

from ..core.errors import unsupported

__all__ = ["GreenContext"]


class GreenContext:
    """Refuses to be made."""

    @staticmethod
    def create(*, num_sms=None, workqueue_scope=None, workqueue_concurrency_limit=None, device_id=None):
        raise unsupported("torch.cuda.GreenContext.create", device="cuda", instead="streams with a priority, or MPS and MIG to divide a GPU")

    @staticmethod
    def max_workqueue_concurrency(device_id=None) -> int:
        raise unsupported("torch.cuda.GreenContext.max_workqueue_concurrency", device="cuda", instead="streams with a priority, or MPS and MIG to divide a GPU")
