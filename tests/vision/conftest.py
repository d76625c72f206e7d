"""With ON_TORCH=1 the libraries above the tensor core run on PyTorch's own tensors, which tells their faults from the core's."""
import os
import sys

import torch

import forno.framework

if os.environ.get("ON_TORCH"):
    sys.modules["forno.framework.api"] = forno.framework.api = torch
    sys.modules["forno.nn"] = forno.nn = torch.nn
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "files"))
    import storage_on_torch
    sys.modules["forno.framework.storage"] = forno.framework.storage = storage_on_torch
