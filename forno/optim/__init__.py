"""Optimizers, learning-rate schedules and weight averaging under torch.optim's names.

In: parameters with `.grad`. Out: the same parameters, changed in place. Written only with the public Tensor API; every update is a chain of
in-place pointwise operations, so that the engine below fuses a whole step. Numbers and their order are those of PyTorch's single-tensor loops.
"""
from . import lr_scheduler, swa_utils
from .adagrad import Adadelta, Adagrad, RMSprop
from .adam import Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from .lbfgs import LBFGS
from .matrix import Adafactor, Muon
from .optimizer import Optimizer
from .sgd import ASGD, SGD, Rprop

__all__ = ["ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop", "SparseAdam",
           "lr_scheduler", "swa_utils"]
