"""forno: deep learning with PyTorch's API, from tensors to machine code, in readable Python.

    import forno as torch

runs ordinary PyTorch programs. The names below come from the floors they belong to; nothing is defined here.
"""
from .framework.api import *
from .framework import autograd
from .framework.gradcheck import GradcheckError, gradcheck, gradgradcheck
from .framework.serialize import load, save
from . import linalg, nn, optim, special, utils

__version__ = "0.1.0"
