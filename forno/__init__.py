"""forno: deep learning with PyTorch's API, from tensors to machine code, in readable Python.

    import forno as torch

runs ordinary PyTorch programs. The names below come from the floors they belong to; nothing is defined here.
"""
import sys as _sys

__version__ = "0.1.0"

try:
    if _sys.argv[:1] == ["-m"] and "forno.doctor" in _sys.orig_argv: raise ImportError("only the doctor was asked for")          # python -m forno.doctor: nobody waits for the rest
    import llvmlite as _llvmlite
    import numpy as _numpy
except Exception as _error:                    # what they raise when they are broken has many types
    _why = f"forno stands on NumPy and llvmlite, and one of them doesn't load here: {_error}. `python -m forno.doctor` says what is wrong and what to type."
    _cause = _error

    def __getattr__(name):
        """The package itself loads, so that the doctor in it can be asked; nothing else of it can be used."""
        if name.startswith("__"): raise AttributeError(name)
        raise ImportError(_why) from _cause
else:
    from .framework.api import *
    from .framework.api import _dirichlet_grad, _sample_dirichlet, _standard_gamma, _standard_gamma_grad
    from .autograd import GradcheckError, gradcheck, gradgradcheck
    from .framework.serialize import load, save
    from . import (__config__, accelerator, amp, array_api, backends, compat, compiler, cuda, distributed, distributions, fft, func, hub, jit, kernels, linalg, masked,
                   mps, multiprocessing, nn, ops, optim, overrides, random, serialization, signal, sparse, special, testing, types, utils, version, xpu)
    from .amp import GradScaler, autocast
    from .compat import install_as_torch, uninstall_as_torch
    from .compiler import compile
    from .func import vmap
    from .jit import Future, fork, wait
    from .nn.aten import *

    torch = _sys.modules[__name__]             # PyTorch's package holds its own name, too
    _dynamo = compiler                         # … and its tracer, which scripts reset and configure
    __version__, torch_version = compat.versions(__version__)
