"""Small programs over autograd's interface, run in both libraries: custom functions and what they may return, hooks, gradient attributes, errors.

Each answers `r`; values, dtypes, shapes and types of exceptions must be PyTorch's.
"""
import pytest
import torch

import forno

from .agree import plain, same

PROGRAMS = r"""
x=torch.ones(3,requires_grad=True)
l=[]
h=x.register_hook(lambda g: l.append(('x',g.tolist())))
y=x*2
y.register_hook(lambda g: g*3)
y.sum().backward()
r=(x.grad,l)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,n=2):
        ctx.n=n
        ctx.save_for_backward(x)
        return x**n
    @staticmethod
    def backward(ctx,g):
        x,=ctx.saved_tensors
        return g*ctx.n*x**(ctx.n-1),None
x=torch.tensor([2.,3.],requires_grad=True)
y=F1.apply(x,3)
y.sum().backward()
r=(x.grad,y.grad_fn.name(),type(y.grad_fn).__name__,y.requires_grad)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        return x
    @staticmethod
    def backward(ctx,g): return g*5
x=torch.ones(2,requires_grad=True)
y=F1.apply(x)
y.sum().backward()
r=(x.grad,y is x,y.is_leaf)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        return x.view(-1)
    @staticmethod
    def backward(ctx,g): return g.view(2,2)*5
x=torch.ones(2,2,requires_grad=True)
y=F1.apply(x)
y.sum().backward()
r=(x.grad,y.shape)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        a,b=x+1,x*2
        ctx.mark_non_differentiable(b)
        return a,b
    @staticmethod
    def backward(ctx,ga,gb): return ga*2+(0 if gb is None else gb)
x=torch.ones(2,requires_grad=True)
a,b=F1.apply(x)
a.sum().backward()
r=(x.grad,a.requires_grad,b.requires_grad)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.set_materialize_grads(False)
        return x+1,x*2
    @staticmethod
    def backward(ctx,ga,gb):
        global seen
        seen=(ga is None,gb is None)
        return ga
x=torch.ones(2,requires_grad=True)
a,b=F1.apply(x)
a.sum().backward()
r=(x.grad,seen)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        return x+1
x=torch.ones(2,requires_grad=True)
a=F1.apply(x)
a.sum().backward()
r=1
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,y): return x+y
    @staticmethod
    def backward(ctx,g): return g
x=torch.ones(2,requires_grad=True)
F1.apply(x,x).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,y): return x+y
    @staticmethod
    def backward(ctx,g): return g,g,g
x=torch.ones(2,requires_grad=True)
F1.apply(x,x).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return x*2
    @staticmethod
    def backward(ctx,g): return g[:1]
x=torch.ones(2,requires_grad=True)
F1.apply(x).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return x*2
    @staticmethod
    def backward(ctx,g): return 'a'
x=torch.ones(2,requires_grad=True)
F1.apply(x).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return x*2
    @staticmethod
    def backward(ctx,g): raise KeyError('k')
x=torch.ones(2,requires_grad=True)
F1.apply(x).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return [x*2]
    @staticmethod
    def backward(ctx,g): return g
x=torch.ones(2,requires_grad=True)
o=F1.apply(x)
r=(type(o),o)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return x*2,5,None
    @staticmethod
    def backward(ctx,g,a,b): return g
x=torch.ones(2,requires_grad=True)
o=F1.apply(x)
o[0].sum().backward()
r=(o[1:],x.grad)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return 5
    @staticmethod
    def backward(ctx,g): return g
r=F1.apply(torch.ones(2,requires_grad=True))
----
class F1(Function):
    @staticmethod
    def forward(x,k): return x*k
    @staticmethod
    def setup_context(ctx,inputs,output):
        ctx.k=inputs[1]
        ctx.save_for_backward(output)
    @staticmethod
    def backward(ctx,g): return g*ctx.k,None
x=torch.ones(2,requires_grad=True)
F1.apply(x,4).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.save_for_backward(x)
        return x.exp()
    @staticmethod
    def backward(ctx,g):
        x,=ctx.saved_tensors
        return g*x.exp()
x=torch.ones(2,requires_grad=True)
y=F1.apply(x)
g,=torch.autograd.grad(y.sum(),x,create_graph=True)
g2,=torch.autograd.grad(g.sum(),x)
r=(g,g2)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.save_for_backward(x)
        return x*2
    @staticmethod
    def backward(ctx,g):
        x,=ctx.saved_tensors
        return g*2
x=torch.ones(2,requires_grad=True)
y=F1.apply(x)
y.sum().backward(retain_graph=True)
y.sum().backward()
y.sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.mark_dirty(x)
        x.add_(1)
        return x
    @staticmethod
    def backward(ctx,g): return g*7
x=torch.ones(2,requires_grad=True)
y=x*1
z=F1.apply(y)
z.sum().backward()
r=(x.grad,z is y,y)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        x.requires_grad
        return x.clone()
    @staticmethod
    def backward(ctx,g):
        return g,
r=F1.apply(torch.ones(2)).requires_grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,y):
        r0=ctx.needs_input_grad
        global seen
        seen=r0
        return x+y
    @staticmethod
    def backward(ctx,g):
        global seen2
        seen2=ctx.needs_input_grad
        return g,g
x=torch.ones(2,requires_grad=True)
F1.apply(x,torch.ones(2)).sum().backward()
r=(seen,seen2)
----
class F1(Function):
    @staticmethod
    def forward(ctx,d):
        return d['a']*2
    @staticmethod
    def backward(ctx,g): return None
x=torch.ones(2,requires_grad=True)
r=F1.apply({'a':x}).requires_grad
----
F1=Function()
r=F1(torch.ones(1))
----
class F1(Function):
    @staticmethod
    def forward(ctx,x): return x
    @staticmethod
    def backward(ctx,g): return g
r=F1()(torch.ones(1))
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.save_for_backward(5)
        return x*2
    @staticmethod
    def backward(ctx,g): return g
r=F1.apply(torch.ones(1,requires_grad=True))
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        ctx.save_for_backward(x,None)
        return x*2
    @staticmethod
    def backward(ctx,g):
        a,b=ctx.saved_tensors
        return g*(1 if b is None else 2)
x=torch.ones(1,requires_grad=True)
F1.apply(x).backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        return x*2
    @staticmethod
    def backward(ctx,g):
        return g.double()
x=torch.ones(1,requires_grad=True)
F1.apply(x).backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,w):
        return x*w
    @staticmethod
    def backward(ctx,g):
        return g, g.sum()
x=torch.ones(3,requires_grad=True)
w=torch.tensor(2.,requires_grad=True)
F1.apply(x,w).sum().backward()
r=(x.grad,w.grad)
----
class F1(Function):
    @staticmethod
    def forward(ctx,x,w):
        return x*w
    @staticmethod
    def backward(ctx,g):
        return g, g
x=torch.ones(3,requires_grad=True)
w=torch.tensor(2.,requires_grad=True)
F1.apply(x,w).sum().backward()
r=(x.grad,w.grad)
----
class STE(Function):
    @staticmethod
    def forward(ctx,x): return (x>0).float()
    @staticmethod
    def backward(ctx,g): return F.hardtanh(g)
x=torch.tensor([-1.,2.],requires_grad=True)
(STE.apply(x)*torch.tensor([5.,-7.])).sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,x):
        y=x.detach().clone()
        ctx.y=y
        return y
    @staticmethod
    def backward(ctx,g): return g+ctx.y
x=torch.ones(2,requires_grad=True)
y=F1.apply(x)
y.sum().backward()
r=x.grad
----
class F1(Function):
    @staticmethod
    def forward(ctx,i): return i.float()*2
    @staticmethod
    def backward(ctx,g): return None
i=torch.arange(3)
r=F1.apply(i).requires_grad
----
from torch.autograd.function import once_differentiable, FunctionCtx, InplaceFunction
r=1
----
class F1(Function):
    @staticmethod
    def forward(ctx,*xs):
        ctx.n=len(xs)
        return sum(xs)
    @staticmethod
    def backward(ctx,g): return (g,)*ctx.n
xs=[torch.ones(2,requires_grad=True) for _ in range(3)]
F1.apply(*xs).sum().backward()
r=[x.grad for x in xs]
----
x=torch.ones(2,requires_grad=True)
y=(x*2)
y.retain_grad()
z=y*3
z.sum().backward()
r=(y.grad,x.grad,y.retains_grad)
----
x=torch.ones(2,requires_grad=True)
y=x*2
w=y.grad
r=w
----
x=torch.ones(2,requires_grad=True)
y=x.exp()
y.sum().backward()
y.sum().backward()
r=1
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.sum().backward()
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=x+2
y.sum().backward()
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.backward()
r=1
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.backward(torch.ones(3))
r=1
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.backward(torch.tensor([1,2]))
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.backward([1.,2.])
r=x.grad
----
torch.ones(2).sum().backward()
r=1
----
x=torch.ones(2,requires_grad=True)
r=torch.autograd.grad((x*2).sum(),x), torch.autograd.grad([(x*2).sum(),(x*3).sum()],[x])
----
x=torch.ones(2,requires_grad=True)
y=torch.ones(2,requires_grad=True)
r=torch.autograd.grad((x*2).sum(),[x,y])
----
x=torch.ones(2,requires_grad=True)
y=torch.ones(2,requires_grad=True)
r=torch.autograd.grad((x*2).sum(),[x,y],allow_unused=True)
----
x=torch.ones(2,requires_grad=True)
y=torch.ones(2,requires_grad=True)
r=torch.autograd.grad((x*2).sum(),[x,y],materialize_grads=True)
----
x=torch.ones(2,requires_grad=True)
r=torch.autograd.grad((x*2).sum(),torch.ones(2))
----
x=torch.ones(2,requires_grad=True)
y=x*2
r=torch.autograd.grad((y*3).sum(),y)
----
x=torch.ones(2,requires_grad=True)
r=torch.autograd.grad(x*2,x,torch.tensor([1.,3.]),is_grads_batched=False)
----
x=torch.ones(2,requires_grad=True)
r=torch.autograd.grad(x*2,x,torch.eye(2),is_grads_batched=True)
----
x=torch.ones(2,requires_grad=True)
x.add_(1)
r=x
----
x=torch.ones(2,requires_grad=True)
x[0]=1
r=x
----
x=torch.ones(2,requires_grad=True)
x.data.add_(1)
with torch.no_grad(): x.mul_(3)
r=x
----
x=torch.ones(2,requires_grad=True)
y=x.detach()
y.add_(1)
r=x,y.requires_grad
----
x=torch.ones(2,requires_grad=True)
y=x*1
y[0]=5
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=torch.zeros(2)
y[1]=x[0]*3
y.sum().backward()
r=x.grad,y.grad_fn.name()
----
x=torch.ones(2,requires_grad=True)
x.requires_grad=False
r=x.requires_grad
----
x=torch.ones(2,requires_grad=True)
y=x*2
y.requires_grad=False
r=1
----
x=torch.ones(2,dtype=torch.int32)
x.requires_grad=True
r=1
----
x=torch.ones(2,requires_grad=True)
x.grad=torch.ones(3)
r=1
----
x=torch.ones(2,requires_grad=True)
x.grad=torch.ones(2,dtype=torch.float64)
r=1
----
x=torch.ones(2,requires_grad=True)
x.grad=5
r=1
----
x=torch.ones(2,requires_grad=True)
x.grad=torch.zeros(2)
(x*2).sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
(x*2).sum().backward()
g=x.grad
(x*2).sum().backward()
r=(g,g is x.grad)
----
x=torch.ones(2,requires_grad=True)
(x*2).sum().backward()
g=x.grad
x.grad=None
(x*2).sum().backward()
r=(g,x.grad,g is x.grad)
----
x=torch.ones(2,requires_grad=True)
(x*2).sum().backward()
x.grad.zero_()
r=x.grad
----
checkpoint=__import__("importlib").import_module(torch.__name__+".utils.checkpoint").checkpoint
x=torch.ones(2,requires_grad=True)
n=[0]
def f(a):
    n[0]+=1
    return (a*2).sin()
y=checkpoint(f,x,use_reentrant=False)
y.sum().backward()
r=x.grad,n
----
checkpoint=__import__("importlib").import_module(torch.__name__+".utils.checkpoint").checkpoint
x=torch.ones(2,requires_grad=True)
y=checkpoint(lambda a,k=1:a*k,x,k=3,use_reentrant=False)
y.sum().backward()
r=x.grad
----
checkpoint=__import__("importlib").import_module(torch.__name__+".utils.checkpoint").checkpoint
lin=nn.Linear(2,2)
with torch.no_grad():
    for p in lin.parameters(): p.fill_(0.5)
x=torch.ones(2)
y=checkpoint(lin,x,use_reentrant=False)
y.sum().backward()
r=lin.weight.grad
----
checkpoint=__import__("importlib").import_module(torch.__name__+".utils.checkpoint").checkpoint
x=torch.ones(2,requires_grad=True)
y=checkpoint(lambda a:(a*2,a*3),x,use_reentrant=False)
(y[0]+y[1]).sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
with torch.autograd.detect_anomaly():
    y=torch.sqrt(x-1)*0
    y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
torch.autograd.set_detect_anomaly(True)
r=torch.is_anomaly_enabled()
torch.autograd.set_detect_anomaly(False)
----
x=torch.ones(2,requires_grad=True)
with torch.no_grad():
    y=x*2
    with torch.enable_grad():
        z=x*2
r=y.requires_grad,z.requires_grad,torch.is_grad_enabled()
----
@torch.no_grad
def f(x): return (x*2).requires_grad
r=f(torch.ones(1,requires_grad=True))
----
torch.set_grad_enabled(False)
x=torch.ones(1,requires_grad=True)*2
torch.set_grad_enabled(True)
r=x.requires_grad
----
x=torch.ones(2,requires_grad=True)
with torch.autograd.graph.save_on_cpu():
    y=x.exp()
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=x*2
r=y.grad_fn.next_functions[0][0].variable is x
----
x=torch.ones(2,requires_grad=True)
y=x*2
r=y.grad_fn.metadata
----
x=torch.ones(2,requires_grad=True)
h=x.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(10))
(x*2).sum().backward()
h.remove()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
l=[]
torch.autograd.graph.register_multi_grad_hook((x,),lambda gs:l.append([g.tolist() for g in gs]))
(x*2).sum().backward()
r=l
----
x=torch.ones(2,requires_grad=True)
y=x*2
h=y.register_hook(lambda g: g*0)
h.remove()
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=x*2
del x
y.sum().backward()
r=1
----
x=torch.ones(2,requires_grad=True)
y=x.expand(3,2)
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
a=x*2
b=a.detach()
b.requires_grad_()
(b*3).sum().backward()
a.backward(b.grad)
r=x.grad
----
x=torch.ones(3,requires_grad=True)
y=x.unbind()
y[0].backward(retain_graph=True)
y[1].backward()
r=x.grad
----
x=torch.ones(2,2,requires_grad=True)
y=x.clone()
y.diagonal().mul_(5)
y.sum().backward()
r=x.grad
----
x=torch.tensor([1.,0.],requires_grad=True)
torch.where(x>0,x.log(),torch.zeros(2)).sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=torch.tensor([1.,2.])
y.copy_(x*3)
y.sum().backward()
r=x.grad,y.grad_fn.name()
----
x=torch.ones(2,requires_grad=True)
torch.autograd.backward([x.sum(),(x*2).sum()])
r=x.grad
----
x=torch.ones(2,requires_grad=True)
torch.autograd.backward([x*2,x*3],[torch.ones(2),torch.ones(2)])
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=torch.ones(2,requires_grad=True)
(x*y).sum().backward(inputs=[x])
r=x.grad,y.grad
----
x=torch.ones(2,requires_grad=True)
y=x.to(torch.float64)
y.sum().backward()
r=x.grad
----
x=torch.ones(2,requires_grad=True)
y=torch.ones(2,dtype=torch.float64,requires_grad=True)
(x*y).sum().backward()
r=x.grad,y.grad
----
x=torch.ones(2,requires_grad=True)
y=x.numpy()
r=1
----
x=torch.ones(2,requires_grad=True)
r=float(x.sum()),x.sum().item(),x.tolist(),x[0].item()
----
x=torch.ones(2,requires_grad=True)
a=np.array(x.detach())
r=a
----
x=torch.ones(2,requires_grad=True)
r=torch.tensor(x)
----
x=torch.ones(2,requires_grad=True)
r=str(x), str(x*2), str(x.sum()), repr(x.detach()), str(x[0]), str(x.view(2))
----
x=torch.ones(2,dtype=torch.float64,requires_grad=True)
r=str(x*2), str(torch.ones(2,dtype=torch.float16,requires_grad=True)), str(nn.Parameter(torch.ones(2)))
----
x=torch.arange(4.).reshape(2,2).requires_grad_()
r=str(x@x), str(x.relu()), str(F.softmax(x,1)), str(x.mean()), str(x.t()), str(x.max(1)[0])
""".strip("\n").split("\n----\n")


def answer(program, lib):
    space = {"torch": lib, "nn": lib.nn, "F": lib.nn.functional, "Function": lib.autograd.Function}
    try: exec(program, space)
    except Exception as e: return type(e).__name__
    finally: lib.autograd.set_detect_anomaly(False)
    return plain(space["r"], lib)


@pytest.mark.parametrize("k", range(len(PROGRAMS)))
@pytest.mark.filterwarnings("ignore")
def test_like_torch(k):
    a, b = answer(PROGRAMS[k], torch), answer(PROGRAMS[k], forno)
    assert same(a, b), f"{PROGRAMS[k]}\ntorch: {a}\nforno: {b}"


NAMES = """x+1;1+x;x-1;1-x;x*2;x/2;2/x;x**2;x**x;2**x;-x;x.abs();x.exp();x.log();x.sqrt();x.sin();x.cos();x.tanh();x.sigmoid();x.relu();x.clamp(0,1);
x.clamp(min=0);x.sum();x.sum(0);x.mean();x.mean(1);x.max();x.max(1)[0];x.max(1).values;x.min();x.amax(1);x.prod();x.prod(1);x.var();x.var(1);
x.std();x.norm();x.norm(dim=1);x.t();x.T;x.view(3,2);x.reshape(3,2);x.reshape(-1);x.flatten();x[0];x[:,1];x[0:1];x[...,0];x[None];
x.unsqueeze(0);x[:1].squeeze(0);x.permute(1,0);x.transpose(0,1);x.expand(4,2,3);x.repeat(2,1);x.clone();x.double();x.to(torch.float64);
x.float().double();x@m;torch.mm(x,m);torch.matmul(x,m);torch.bmm(x[None],m[None]);torch.cat([x,x]);torch.stack([x,x]);
x.split(1)[0];x.chunk(2)[1];x.unbind(0)[0];x.select(0,0);x.narrow(0,0,1);x.gather(1,torch.zeros(2,1,dtype=torch.int64));
x.index_select(0,torch.tensor([0]));x[torch.tensor([0])];x[[0,1]];x[x>0.5];x.masked_select(x>2);x.masked_fill(x>0.5,0.);
torch.where(x>0.5,x,x);torch.where(x>0.5,x,0.);x.cumsum(0);x.cumprod(0);x.sort()[0];x.topk(1)[0];x.kthvalue(1)[0];x.median();x.median(0)[0];
x.log_softmax(1);x.softmax(1);F.softmax(x,1);F.log_softmax(x,1);F.relu(x);F.leaky_relu(x);F.gelu(x);F.silu(x);F.elu(x);F.softplus(x);
F.hardtanh(x);F.dropout(x,training=False);F.linear(x,m.t());F.linear(x,m.t(),m[0]);F.mse_loss(x,x.detach());F.l1_loss(x,x.detach());
F.smooth_l1_loss(x,x.detach());F.cross_entropy(x,torch.tensor([0,1]));F.nll_loss(x,torch.tensor([0,1]));F.binary_cross_entropy(x,x.detach());
F.binary_cross_entropy_with_logits(x,x.detach());F.kl_div(x,x.detach());F.layer_norm(x,(3,));F.embedding(torch.tensor([0]),x);
F.conv1d(x[None],torch.ones(1,2,1));F.conv2d(x[None,None],torch.ones(1,1,1,1));F.pad(x,(1,1));F.normalize(x);F.cosine_similarity(x,x);
torch.einsum('ij,jk->ik',x,m);torch.outer(x[0],x[1]);torch.addmm(x[:,:2],x,m);x.diagonal();x.tril();x.flip(0);x.roll(1);
x.logsumexp(1);x.square();x.rsqrt();x.reciprocal();x.pow(3);x.pow(0.5);x.erf();x.log1p();x.expm1();x.sign();x.floor();x.round();
torch.maximum(x,x);torch.minimum(x,x);torch.atan2(x,x);torch.lerp(x,x,0.5);x.contiguous();x.t().contiguous();x.mul(x);x.div(x);x.sub(x);
x.add(x,alpha=2);x.neg();x.scatter_add(0,torch.zeros(1,3,dtype=torch.int64),x);x.index_add(0,torch.tensor([0]),x[:1]);x.unfold(1,2,1);
x.as_strided((2,),(1,));x.detach().requires_grad_()*1;x.view_as(x);x.expand_as(x);x.movedim(0,1);x.swapaxes(0,1);x.unflatten(1,(3,1));
x.take(torch.tensor([0]));x.nan_to_num();x.hypot(x);torch.trace(x);x.log2();x.log10();x.exp2();x.asin();x.cosh();x.lgamma();x.addcmul(x,x);
x.addcdiv(x,x);torch.baddbmm(x[None][:,:,:2],x[None],m[None]);x.half();x.bfloat16();x.real;x.ceil();x.fmod(2);x.remainder(2);x.logaddexp(x);
x.tile(2);torch.cdist(x,x);x.cummax(0)[0];x.renorm(2,0,1.);torch.stack([x,x]).mean((1,2));x.masked_scatter(x>0.5,x);
x.index_put((torch.tensor([0]),),torch.ones(3));x.index_fill(0,torch.tensor([0]),1.);F.hardswish(x);F.hardsigmoid(x);F.mish(x);
F.logsigmoid(x);F.softsign(x);F.tanh(x);F.sigmoid(x);F.selu(x);F.celu(x);F.glu(m);F.prelu(x,torch.ones(1));F.relu6(x);F.threshold(x,0.,0.);
F.group_norm(x,1);F.instance_norm(x[None]);F.scaled_dot_product_attention(x[None,None],x[None,None],x[None,None]);F.pixel_shuffle(torch.rand(1,4,2,2,requires_grad=True),2);
F.unfold(x[None,None],1);F.conv_transpose2d(x[None,None],torch.ones(1,1,1,1));F.max_pool1d(x,1);F.avg_pool1d(x,1);
F.multi_margin_loss(x,torch.tensor([0,1]));F.triplet_margin_loss(x,x,x);x.std(1);torch.tensordot(x,m,1);torch.vstack([x,x]);
torch.hstack([x,x]);x.ravel();x.squeeze(0);x.sgn();x.copysign(x);torch.complex(x,x).abs()""".replace("\n", "").split(";")


@pytest.mark.parametrize("start", range(0, len(NAMES), 20))
def test_names_of_vertices(start):
    """What grad_fn=<…> says when a result is printed."""
    found = []
    for lib in (torch, forno):
        x, m = lib.rand(2, 3, requires_grad=True), lib.rand(3, 2, requires_grad=True)
        found.append([eval(s, {"torch": lib, "F": lib.nn.functional, "x": x, "m": m}) for s in NAMES[start:start + 20]])
    for s, a, b in zip(NAMES[start:start + 20], *found): assert (a.grad_fn and a.grad_fn.name()) == (b.grad_fn and b.grad_fn.name()), s


def test_a_graph_can_be_walked_to_its_parameters():
    """As drawing tools do: by next_functions to the leaves, whose tensors are the very objects the program has."""
    seen = []
    for lib in (torch, forno):
        net = lib.nn.Sequential(lib.nn.Linear(3, 2), lib.nn.ReLU(), lib.nn.Linear(2, 1))
        names = {id(p): n for n, p in net.named_parameters()}
        found, todo = [], [net(lib.ones(1, 3)).sum().grad_fn]
        while todo:
            f = todo.pop()
            if hasattr(f, "variable"): found.append(names[id(f.variable)])
            todo.extend(g for g, _ in f.next_functions if g is not None)
        seen.append(sorted(found))
    assert seen[0] == seen[1] == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_anomaly_mode_computes_the_same():
    """Every gradient is looked at while backward runs; the result is what it is without."""
    def step(lib, anomaly):
        with lib.autograd.set_detect_anomaly(anomaly):
            x = lib.ones(3, requires_grad=True)
            for _ in range(2): ((x * 2).exp() + x[:1]).sum().backward()
            return x.grad.tolist(), lib.is_anomaly_enabled()
    assert step(forno, True)[1] and step(forno, True)[0] == step(forno, False)[0] == pytest.approx(step(torch, True)[0], rel=1e-6)
