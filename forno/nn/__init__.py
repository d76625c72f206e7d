"""Neural networks: modules, their functions, initial values and helpers, under PyTorch's names. Written with tensors only."""
from . import functional, init, modules, parameter, utils
from .modules import *
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
