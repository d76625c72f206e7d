"""torch.sparse: functions for sparse tensors beyond those that serve every layout. https://docs.pytorch.org/docs/2.13/sparse.html"""
from .framework.legacy import LEGACY
from .framework.sparse import check_sparse_tensor_invariants, old_constructor
from .framework.sparse_math import addmm, log_softmax, mm, sampled_addmm, softmax, spdiags, torch_sparse_sum as sum

globals().update({c.__name__: c for c in map(old_constructor, LEGACY)})        # torch.sparse.FloatTensor(indices, values, size) and its like

__all__ = ["addmm", "check_sparse_tensor_invariants", "log_softmax", "mm", "sampled_addmm", "softmax", "spdiags", "sum"]
