"""Exceptions that PyTorch has and Python has not, and the sentence every unsupported thing ends with."""


class OutOfMemoryError(RuntimeError):
    """Memory ran out; the message names the bytes wanted, held and free, and the operation at the peak (torch.OutOfMemoryError)."""


class CacheError(RuntimeError):
    """A code cache that can't be used; the run goes on without it."""


def unsupported(op: str, dtype=None, device="cpu", instead: str = "") -> NotImplementedError:
    """The one shape of "not here": names the op, dtype and device, and what to use instead."""
    what = f"'{op}' is not implemented" + (f" for {dtype!r}" if dtype is not None else "") + f" on device '{device}'"
    return NotImplementedError(f"{what}; {instead}" if instead else what)
