"""torch.serialization: files of tensors and what may be in them. The work is done by framework/serialize."""
from .framework.serialize import add_safe_globals, clear_safe_globals, get_safe_globals, load, safe_globals, save

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
