"""AdaptiveLogSoftmaxWithLoss: a softmax over very many classes in clusters by frequency (Grave et al., 2017)."""
from __future__ import annotations

from collections import namedtuple

from ...framework import api as torch
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]

_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Classes below cutoffs[0] are in the head; cluster i holds [cutoffs[i], cutoffs[i + 1]) and projects to in_features / div_value^(i+1)."""

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if cutoffs != sorted(set(cutoffs)) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1 or any(int(c) != c for c in cutoffs):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each value is between 1 "
                             "and "
                             "n_classes-1")
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        where = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **where)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            self.tail.append(Sequential(Linear(in_features, width, bias=False, **where),
                                        Linear(width, self.cutoffs[i + 1] - self.cutoffs[i], bias=False, **where)))

    def reset_parameters(self):
        self.head.reset_parameters()
        for into, out in self.tail:
            into.reset_parameters()
            out.reset_parameters()

    def forward(self, input_, target_):
        """input (N, in_features), target (N,), or (in_features,) and () -> (log-probability of each target, mean loss)."""
        if target_.dim() > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target_.dim() == 1 and input_.size(0) != target_.size(0):
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if input_.dim() != target_.dim() + 1:
            raise RuntimeError(f"{target_.dim()}D target tensor expects {target_.dim() + 1}D input tensors, but found inputs with size "
                               f"{input_.size()}")
        input, target = (input_, target_) if target_.dim() else (input_.unsqueeze(0), target_.unsqueeze(0))
        if ((target < 0) | (target >= self.n_classes)).any():
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range [{target.min().item()}, "
                               f"{target.max().item()}] "
                               "were found. ")
        output, index = torch.zeros(target.size(0), dtype=input.dtype, device=input.device), target      # index: class or cluster in the head
        for i in range(self.n_clusters):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if rows.numel():                                                 # only the rows of this cluster pass through it
                logp = self.tail[i](input.index_select(0, rows)).log_softmax(1)
                picked = logp.gather(1, (target.index_select(0, rows) - low).unsqueeze(1)).squeeze(1)
                output = output.index_add(0, rows, picked)
            index = torch.where((target >= low) & (target < high), self.shortlist_size + i, index)
        output = output + self.head(input).log_softmax(1).gather(1, index.unsqueeze(1)).squeeze(1)
        return _ASMoutput(output if target_.dim() else output.squeeze(0), (-output).mean())

    def _get_full_log_prob(self, input, head_output):
        head = F.log_softmax(head_output, 1)
        parts = [head[:, :self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            parts.append(F.log_softmax(cluster(input), 1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return torch.cat(parts, 1)                                           # (N, n_classes)

    def log_prob(self, input): return self._get_full_log_prob(input, self.head(input))

    def predict(self, input):
        """The most probable class of each row; clusters are only computed for rows whose head points to one."""
        head = self.head(input)
        best = head.argmax(1)
        rows = (best >= self.shortlist_size).nonzero().squeeze(1)
        if not rows.numel():
            return best
        full = self._get_full_log_prob(input.index_select(0, rows), head.index_select(0, rows)).argmax(1)
        return best.index_copy(0, rows, full)
