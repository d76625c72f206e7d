"""Values and gradients at corners: NaN, infinities, zeros, numbers for tensors, types that a function seldom sees. Statements in both libraries."""
import pytest

from .agree import check

pytestmark = pytest.mark.filterwarnings("ignore")
GRADIENT = "x=torch.tensor([float('nan'),float('inf'),-float('inf'),0.,6.,-1.,8.,3.]*64,dtype=torch.float64,requires_grad=True);"
SECOND = "x=torch.tensor([100.,-100.,1.,-1.,0.,710.],dtype=torch.float64,requires_grad=True);"
STATEMENTS = r"""
torch.Tensor.__rsub__(5.,torch.ones(2)) is NotImplemented
torch.Tensor.__rmod__(5,torch.arange(3))
torch.Tensor.__rfloordiv__(5,torch.arange(3))
torch.Tensor.__rlshift__(2,torch.arange(3))
torch.Tensor.__radd__(5,torch.arange(3))
x=torch.linspace(-9,9,512).bfloat16();k=8.396163642458497;(x+k,k+x,x-k,k-x,x*k,x/k,k/x,x.abs()**k,x%k,x.fmod(k),x//k,x<k,x.add(x,alpha=k),x.clone().sub_(k),F.hardshrink(x,k),F.leaky_relu(x,k))
x=torch.linspace(-9,9,512).half();k=0.1234567;(x+k,k+x,x-k,k-x,x*k,x/k,k/x,x.abs()**k,x%k,x.fmod(k),x//k,x<k,x.add(x,alpha=k),x.clone().sub_(k),F.hardshrink(x,k),F.leaky_relu(x,k))
h=torch.tensor([1.]).half();(torch.complex(h,h).dtype,torch.complex(h,h,out=torch.empty(1,dtype=torch.complex32)).dtype,torch.complex(h.float(),h.float()),str(torch.complex(h,h)))
x=torch.tensor([1+2j,3j]).to(torch.complex32).requires_grad_();torch.autograd.grad(x.imag,x,torch.ones(2).half())[0].to(torch.complex64)
torch.complex(torch.ones(1).half(),torch.ones(1))
x=torch.linspace(-9,9,97);[x.to(t).histc(100,low,high) for t in (torch.float32,torch.bfloat16,torch.float16) for low,high in ((-10,10),(0,10),(-10,0),(0,0))]
(torch.logspace(0,1.2,4,dtype=torch.int32),torch.logspace(torch.tensor(0.),torch.tensor(2.7),3,dtype=torch.int64),torch.logspace(-1.5,2,4,dtype=torch.int64),torch.logspace(0,1.2,4))
m,a,b=torch.eye(2).bool(),torch.tensor([True,False]),torch.tensor([True,True]);[torch.addr(m,a,b,beta=k,alpha=2) for k in (0,1,3)]
m,a,b=torch.eye(2).bool(),torch.tensor([1,0]).int(),torch.tensor([True,True]);(torch.addr(m,a,b,beta=3,alpha=2),torch.addr(m,a.byte(),b,alpha=200))
torch.tensordot(torch.ones(1,1,1).int(),torch.ones(2,1,2).int(),dims=((0,1),(2,0)))
x=(torch.arange(400)*7%23);[x.kthvalue(k) for k in (1,57,200,399)]
x=torch.tensor([3.,7.,0.01]).half().requires_grad_();y=2/x;(y,torch.autograd.grad(y.sum(),x)[0])
(2/torch.arange(3),True/torch.tensor([2.]),1j/torch.tensor([2.]),np.ones(2)/torch.ones(2))
(torch.rsub(torch.tensor(1).int(),0),torch.rsub(torch.tensor(1).int(),0.5),torch.rsub(torch.tensor(1.).bfloat16(),0.5))
a,b=torch.tensor([1e-3,300.,0.,-0.,1e-4]).half().requires_grad_(),torch.tensor([2e-3,300.,0.,-1.,1.]).half().requires_grad_();torch.autograd.grad(torch.atan2(a,b).sum(),(a,b))
x=torch.full((4,),2.0**-10).half().requires_grad_();torch.autograd.grad(x.rsqrt(),x,torch.full((4,),2.5).half())[0]
a,b=torch.full((9,),3.).bfloat16().requires_grad_(),torch.zeros(9).bfloat16().requires_grad_();y=a.div(b,rounding_mode="trunc");(y,torch.autograd.grad(y.sum(),(a,b)))
(torch.where(torch.tensor([True]),torch.ones(1).half(),2j).dtype,torch.where(torch.tensor([True]),2j,torch.ones(1).bfloat16()).dtype)
x,y=torch.full((9,),1+1j),torch.full((9,),complex(float("inf"),float("inf")));(torch.isnan(x+y),torch.isnan(x-y),torch.isnan(y+x),torch.isnan(x/y))
x,y=torch.zeros(3,dtype=torch.complex64),torch.tensor([1+1j,2,0],requires_grad=True);torch.isnan(torch.autograd.grad(x**y,y,torch.ones_like(y))[0])
""".strip().splitlines()
STATEMENTS += [f"{GRADIENT}torch.autograd.grad(F.{f}(x).sum(),x)[0]" for f in
               ("elu", "selu", "celu", "relu", "relu6", "hardtanh", "hardshrink", "softshrink", "hardswish", "hardsigmoid", "leaky_relu", "silu", "softsign", "tanhshrink", "softplus")]
STATEMENTS += [f"x=torch.tensor([float('nan'),7.,-1.],requires_grad=True);torch.autograd.grad(F.{f}(x).sum(),x)[0]" for f in
               ("elu", "selu", "celu", "relu6", "hardtanh", "hardshrink", "softshrink", "hardswish")]
STATEMENTS += [f"{SECOND}g=torch.autograd.grad(F.{f}(x).sum(),x,create_graph=True)[0];torch.autograd.grad(g.sum(),x)[0]" for f in
               ("elu", "selu", "celu", "softplus", "silu", "gelu", "logsigmoid", "tanhshrink", "hardswish")]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_corner(statement): check(statement)
