"""Values and gradients at corners: NaN, infinities, zeros, numbers for tensors, types that a function seldom sees. Statements in both libraries."""
import pytest

from .agree import check

pytestmark = pytest.mark.filterwarnings("ignore")
GRADIENT = "x=torch.tensor([float('nan'),float('inf'),-float('inf'),0.,6.,-1.,8.,3.]*64,dtype=torch.float64,requires_grad=True);"
SECOND = "x=torch.tensor([100.,-100.,1.,-1.,0.,710.],dtype=torch.float64,requires_grad=True);"
STATEMENTS = rf"""
torch.Tensor.__rsub__(5.,torch.ones(2)) is NotImplemented
torch.Tensor.__rmod__(5,torch.arange(3))
torch.Tensor.__rfloordiv__(5,torch.arange(3))
torch.Tensor.__rlshift__(2,torch.arange(3))
torch.Tensor.__radd__(5,torch.arange(3))
""".strip().splitlines()
STATEMENTS += [f"{GRADIENT}torch.autograd.grad(F.{f}(x).sum(),x)[0]" for f in
               ("elu", "selu", "celu", "relu", "relu6", "hardtanh", "hardshrink", "softshrink", "hardswish", "hardsigmoid", "leaky_relu", "silu", "softsign", "tanhshrink", "softplus")]
STATEMENTS += [f"{SECOND}g=torch.autograd.grad(F.{f}(x).sum(),x,create_graph=True)[0];torch.autograd.grad(g.sum(),x)[0]" for f in
               ("elu", "selu", "celu", "softplus", "silu", "gelu", "logsigmoid", "tanhshrink", "hardswish")]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_corner(statement): check(statement)
