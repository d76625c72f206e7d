"""Weight averaging: a model whose parameters are the running (or exponential) mean of another's, and its learning-rate schedule."""
from __future__ import annotations

import itertools
import math
from copy import deepcopy

from .. import nn
from ..framework import api as torch
from .lr_scheduler import LRScheduler


def _check_decay(decay):
    if not 0.0 <= decay <= 1.0: raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_multi_avg_fn(decay=0.999):
    """Exponential mean over lists: each averaged tensor keeps `decay` of itself."""
    _check_decay(decay)

    def ema_update(averaged, current, _):
        with torch.no_grad():
            for a, p in zip(averaged, current):
                if a.is_floating_point() or a.is_complex(): a.lerp_(p, 1 - decay)
                else: a.copy_(a * decay + p * (1 - decay))
    return ema_update


def get_swa_multi_avg_fn():
    """Plain mean over lists."""
    def swa_update(averaged, current, num_averaged):
        with torch.no_grad():
            for a, p in zip(averaged, current):
                if a.is_floating_point() or a.is_complex(): a.lerp_(p, 1 / (float(num_averaged) + 1))
                else: a.copy_(a + (p - a) / (num_averaged + 1))
    return swa_update


def get_ema_avg_fn(decay=0.999):
    _check_decay(decay)

    def ema_update(averaged, current, num_averaged):
        with torch.no_grad(): return decay * averaged + (1 - decay) * current
    return ema_update


def get_swa_avg_fn():
    def swa_update(averaged, current, num_averaged):
        with torch.no_grad(): return averaged + (current - averaged) / (num_averaged + 1)
    return swa_update


class AveragedModel(nn.Module):
    """A copy of `model` that `update_parameters(model)` moves towards it; buffers are copied, or averaged too with `use_buffers`."""

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None: raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None: self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args, **kwargs): return self.module(*args, **kwargs)

    def _averaged(self, model):
        return itertools.chain(model.parameters(), model.buffers()) if self.use_buffers else model.parameters()

    def update_parameters(self, model):
        mine, theirs = [p.detach() for p in self._averaged(self.module)], [p.detach() for p in self._averaged(model)]
        theirs = [t.to(m.device) for m, t in zip(mine, theirs)]
        if self.n_averaged == 0:
            for m, t in zip(mine, theirs): m.copy_(t)
        elif self.multi_avg_fn is not None: self.multi_avg_fn(mine, theirs, self.n_averaged)
        else:
            average = self.avg_fn or get_swa_avg_fn()
            for m, t in zip(mine, theirs): m.copy_(average(m, t, self.n_averaged.to(m.device)))
        if not self.use_buffers:
            for m, t in zip(self.module.buffers(), model.buffers()): m.detach().copy_(t.detach().to(m.device))
        self.n_averaged += 1


def update_bn(loader, model, device=None):
    """One pass over the data that fills batch norm's running statistics for averaged weights."""
    norms = {m: m.momentum for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    if not norms: return
    training = model.training
    model.train()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None                      # a plain mean over all batches
    with torch.no_grad():
        for batch in loader:
            if isinstance(batch, (list, tuple)): batch = batch[0]
            model(batch.to(device) if device is not None else batch)
    for m, momentum in norms.items(): m.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """Anneals each group's rate from where it is to `swa_lr` in `anneal_epochs` steps and keeps it there."""

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        lrs = list(swa_lr) if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(optimizer.param_groups)
        if len(lrs) != len(optimizer.param_groups):
            raise ValueError(f"swa_lr must have the same length as optimizer.param_groups: swa_lr has {len(lrs)}, "
                             f"optimizer.param_groups has {len(optimizer.param_groups)}")
        for lr, group in zip(lrs, optimizer.param_groups): group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step):
        """How much of the way is done at a step, 0..1."""
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self):
        self._warn_unless_in_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0: step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        out = []
        for group in self.optimizer.param_groups:
            start = group["swa_lr"] if before == 1 else (group["lr"] - before * group["swa_lr"]) / (1 - before)
            out.append(group["swa_lr"] * now + start * (1 - now))
        return out
