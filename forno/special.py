"""torch.special."""
from .framework.special import *
