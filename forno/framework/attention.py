"""The row of attention on tensors; forno/nn/functional/attention.py has PyTorch's function around it."""
from __future__ import annotations

from ..core import dtype as dt
from ..dnn import attention as at
from ..dnn.contract import C_NAMES
from ..graph.line import LOCAL, flush_hook, record
from .tensor import owned, read


def attention(query, key, value, mask, causal, scale):
    """softmax(scale · Q Kᵀ + mask) V of equal batch axes. What backward needs of the softmax is kept where a backward may come."""
    if mask is not None and mask.dtype not in (dt.bool, dt.float32, query.dtype):
        raise RuntimeError("Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                           f"{C_NAMES[mask.dtype.name]} and  query.dtype: {C_NAMES[query.dtype.name]} instead.")
    nodes = [read(t) for t in (query, key, value, mask) if t is not None]
    spec = at.AttentionSpec(float(scale), bool(causal), mask is not None)
    if LOCAL.run.grad and any([n.line.grad for n in nodes]):
        spec = spec._replace(lse=True)
        nodes = [*nodes, record(at.attention_lse, nodes, spec)]
    result = owned(record(at.attention, nodes, spec))
    if not spec.lse and LOCAL.run.hold == 0 and grown(LOCAL.run): flush_hook[0]()
    return result


def grown(run) -> bool:
    """Does the window read a value whose length varies? It ends with the attention that it feeds: what follows doesn't see how many keys there are."""
    return any([hasattr(run.nodes[s], "apart") for s in run.inputs.values()])
