"""Neural networks: modules, their functions, initial values and helpers, under PyTorch's names. Written with tensors only."""
from . import attention, functional, init, modules, parallel, parameter, utils
from .modules import *
from .parallel import DataParallel
from ._arguments import factory_kwargs
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
