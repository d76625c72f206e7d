"""torch.cuda.sparse: PyTorch keeps types of sparse tensors here, which nobody makes any more; `torch.sparse_coo_tensor(…, device="cuda")` does."""
