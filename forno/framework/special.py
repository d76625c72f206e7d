"""torch.special: mathematical functions, most of them rows of the op table under another name."""
from __future__ import annotations

from . import api, neural

globals().update(api.special_rows)
expit, exp2, expm1, log1p = api.sigmoid, api.exp2, api.expm1, api.log1p
logsumexp, round, sinc = api.logsumexp, api.round, api.sinc
logit, multigammaln, polygamma = api.logit, api.mvlgamma, api.polygamma


def softmax(input, dim, dtype=None): return neural.softmax(input, dim, dtype)
def log_softmax(input, dim, *, dtype=None): return neural.log_softmax(input, dim, dtype)
