"""Exceptions that PyTorch has and Python has not, warnings that are counted, and the sentence every unsupported thing ends with."""
import sys
import warnings


class OutOfMemoryError(RuntimeError):
    """Memory ran out; the message names the bytes wanted, held and free, and the operation at the peak (torch.OutOfMemoryError)."""


class LinAlgError(RuntimeError):
    """A matrix has no factorization or inverse (torch.linalg.LinAlgError)."""


class AcceleratorError(RuntimeError):
    """What a kernel reported, or a driver (torch.AcceleratorError)."""


class StepError(Exception):
    """A step of a plan failed; the engine turns it into PyTorch's error at the user's line.

    `cause`: the host's exception, or (row, index, size) of an index out of range; size is None where a row's check failed. `made`: outputs complete by
    then; `spoiled`: inputs written over; `row`: what the host computed.
    """

    def __init__(self, cause, made: dict, spoiled: set, row=None):
        super().__init__(str(cause))
        self.cause, self.made, self.spoiled, self.row = cause, made, spoiled, row


def unsupported(op: str, dtype=None, device="cpu", instead: str = "") -> NotImplementedError:
    """The one shape of "not here": names the op, dtype and device, and what to use instead."""
    what = f"'{op}' is not implemented" + (f" for {dtype!r}" if dtype is not None else "") + f" on device '{device}'"
    return NotImplementedError(f"{what}; {instead}" if instead else what)


warned = [0]                                   # warnings of functions so far: a call that warned is run again, not remembered


def warn(message: str, category=UserWarning):
    """warnings.warn at the user's own line, from a function that works on tensors."""
    warned[0] += 1
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(PACKAGE): level, frame = level + 1, frame.f_back
    warnings.warn(message, category, level)


PACKAGE = __name__.split(".", maxsplit=1)[0] + "."
