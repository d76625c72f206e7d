"""DLPack under its older name: tensors shared with other libraries without a copy."""
from ..framework.interchange import from_dlpack, to_dlpack

__all__ = ["from_dlpack", "to_dlpack"]
