"""torch.utils: data loading, safetensors files, checkpointing."""
from . import checkpoint, data, dlpack
