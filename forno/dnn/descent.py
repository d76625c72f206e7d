"""Elementwise rows of optimizers: what is done to a weight and to what is known of its gradients, rounded as PyTorch's loops round it. Nobody asks for their gradients:
optimizers that are differentiated through use ordinary rows."""
from __future__ import annotations

import numpy as np

from .elementwise import row, tensors

# second moments: s · keep + take · g²
adam_square = row("adam_square", lambda b, s, g, keep, take: b.fma(b.mul(take, g), g, b.mul(s, keep)), lambda s, g, keep, take: s * keep + take * g * g,
                  rule=tensors, types="f", names="")
# a step by first and second moments, the weights shrunk by `keep` before
adam_step = row("adam_step", lambda b, p, m, s, keep, bias, eps, rate: b.add(b.mul(p, keep), b.div(b.mul(rate, m), b.add(b.div(b.sqrt(s), bias), eps))),
                lambda p, m, s, keep, bias, eps, rate: p * keep + rate * m / (np.sqrt(s) / bias + eps), rule=tensors, types="f", names="")
