"""torch.fft."""
from .framework.fft import *
from .framework.fft import __all__
