"""torch.linalg."""
from .framework.linalg import *
from .framework.linalg import __all__
