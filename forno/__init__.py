"""forno: deep learning with PyTorch's API, from tensors to machine code, in readable Python."""
