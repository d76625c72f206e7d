"""torch.utils: data loading, safetensors files, checkpointing."""
