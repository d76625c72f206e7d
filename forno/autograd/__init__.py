"""torch.autograd: gradients, modes, custom functions, checks, higher-level functions. Everything is defined in framework/."""
from ..framework import custom as function
from ..framework import functional_autograd as functional
from ..framework import gradcheck as _checks
from ..framework.autograd import Variable, backward, detect_anomaly, grad, set_detect_anomaly
from ..framework.custom import Function
from ..framework.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from . import forward_ad, graph

gradcheck, gradgradcheck, GradcheckError = _checks.gradcheck, _checks.gradgradcheck, _checks.GradcheckError
