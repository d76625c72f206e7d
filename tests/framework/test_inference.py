"""Inference mode: which tensors it marks, and what may be done with them outside. Each program answers `r` in both libraries."""
import pytest
import torch

import forno

from .agree import plain, same

PROGRAMS = r"""
x=torch.ones(2,requires_grad=True)
with torch.inference_mode():
    y=x*2
r=(y.is_inference(), y.requires_grad, x.is_inference(), torch.is_inference(y), torch.is_inference_mode_enabled())
----
x=torch.ones(2,requires_grad=True)
with torch.inference_mode():
    y=x*2
r=(x*y)
----
x=torch.ones(2,requires_grad=True)
with torch.inference_mode():
    y=x*2
r=(x+y)
----
with torch.inference_mode():
    y=torch.ones(2)
y.add_(1)
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
    y.add_(1)
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
with torch.no_grad():
    y.add_(1)
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
r=y.requires_grad_()
----
with torch.inference_mode():
    y=torch.ones(2,requires_grad=True)
    z=y*2
r=(y.requires_grad,z.requires_grad,y.is_inference())
----
with torch.inference_mode():
    y=torch.ones(2)
r=y.clone().is_inference(), y.view(2).is_inference(), y[0].is_inference(), (y*2).is_inference(), y.detach().is_inference()
----
with torch.inference_mode():
    y=torch.ones(2)
r=y._version
----
x=torch.ones(2)
with torch.inference_mode():
    v=x.view(2)
    z=x[0]
    x.add_(1)
r=(v.is_inference(),z.is_inference(),x.is_inference(),x._version)
----
x=torch.ones(2)
with torch.inference_mode():
    v=x.view(2)
v.add_(1)
r=x
----
x=torch.ones(2,requires_grad=True)
with torch.inference_mode():
    v=x.view(2)
r=v*x
----
x=torch.ones(2,requires_grad=True)
with torch.inference_mode():
    v=x.view(2)
v.add_(1)
r=x
----
with torch.inference_mode():
    y=torch.ones(2)
y[0]=3
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
y.zero_()
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
y.copy_(torch.zeros(2))
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
x=torch.zeros(2)
x.copy_(y)
x.add_(y)
r=x
----
with torch.inference_mode():
    y=torch.ones(2)
torch.add(y,1,out=y)
r=y
----
with torch.inference_mode():
    y=torch.ones(2)
y.data=torch.zeros(2)
r=y
----
with torch.inference_mode():
    l=nn.Linear(2,2)
r=[p.is_inference() for p in l.parameters()], l.weight.requires_grad
----
with torch.inference_mode():
    l=nn.Linear(2,2)
o=l(torch.ones(1,2))
o.sum().backward()
r=0
----
l=nn.Linear(2,2)
with torch.inference_mode():
    o=l(torch.ones(1,2))
o.sum().backward()
r=0
----
@torch.inference_mode()
def f(x): return x*2
y=f(torch.ones(2))
r=y.is_inference()
----
with torch.inference_mode():
    with torch.inference_mode(False):
        a=torch.ones(2)
    b=torch.ones(2)
r=a.is_inference(),b.is_inference()
----
with torch.inference_mode():
    with torch.enable_grad():
        a=torch.ones(2,requires_grad=True)
        b=a*2
        g=torch.is_grad_enabled()
r=a.is_inference(),b.requires_grad,g
----
with torch.inference_mode():
    a=torch.ones(2)
with torch.inference_mode():
    a.add_(1)
    a[0]=4
r=a
----
with torch.inference_mode():
    y=torch.ones(2)
r=y.numpy(), y.tolist(), (y+1), y.sum()
----
with torch.inference_mode():
    y=torch.ones(2,2)
x=torch.ones(2,2,requires_grad=True)
r=x@y
----
with torch.inference_mode():
    y=torch.ones(2,2)
x=torch.ones(2,2,requires_grad=True)
r=F.relu(x)+y
----
with torch.inference_mode():
    y=torch.ones(2,2)
x=torch.ones(2,2,requires_grad=True)
r=torch.cat([x,y])
----
with torch.inference_mode():
    y=torch.tensor([0,1])
x=torch.ones(2,2,requires_grad=True)
r=x[y]
----
with torch.inference_mode():
    y=torch.ones(2)
x=torch.ones(2,requires_grad=True)
with torch.no_grad():
    x*=y
    z=x*y
r=x,z
----
with torch.inference_mode():
    m=nn.BatchNorm1d(2)
m2=nn.BatchNorm1d(2)
with torch.inference_mode():
    m2(torch.ones(3,2))
r=m2.running_mean.is_inference(), m2.running_mean
----
import pickle,copy
with torch.inference_mode():
    y=torch.ones(2)
r=copy.deepcopy(y).is_inference(), pickle.loads(pickle.dumps(y)).is_inference()
----
with torch.inference_mode():
    y=torch.ones(2)
    z=y.clone()
p=nn.Parameter(y)
r=p.is_inference()
----
with torch.inference_mode():
    y=torch.ones(2)
p=nn.Parameter(y)
(p*2).sum().backward()
r=p.grad
----
with torch.inference_mode():
    y=torch.ones(2)
class Mul(Function):
    @staticmethod
    def forward(ctx,a,b):
        ctx.save_for_backward(a,b)
        return a*b
    @staticmethod
    def backward(ctx,g): return g,g
r=Mul.apply(torch.ones(2,requires_grad=True),y)
----
r=torch.is_inference_mode_enabled()
----
with torch.inference_mode():
    r=torch.is_inference_mode_enabled(),torch.is_grad_enabled()
----
@torch.inference_mode
def f(): return torch.is_inference_mode_enabled()
r=f()
----
@torch.inference_mode(mode=False)
def f(): return torch.is_inference_mode_enabled(), torch.is_grad_enabled()
r=f()
""".strip("\n").split("\n----\n")


def answer(program, lib):
    space = {"torch": lib, "nn": lib.nn, "F": lib.nn.functional, "Function": lib.autograd.Function}
    try: exec(program, space)
    except Exception as e: return type(e), str(e)[:40]
    return plain(space["r"], lib)


@pytest.mark.parametrize("program", PROGRAMS)
def test_like_torch(program):
    a, b = answer(program, torch), answer(program, forno)
    if isinstance(a, tuple) and a and isinstance(a[0], type): assert a[0] is b[0] and (a[1] == b[1] or a[1].startswith("A view was created")), (a, b)
    else: assert same(a, b), (a, b)


def test_warm_programs_know_the_mode():
    """The same statements inside and outside are two programs."""
    x = forno.ones(3)

    def lap(): return (x * 2 + 1).exp()
    for _ in range(3):
        with forno.inference_mode():
            a = lap()
            a.tolist()
        b = lap()
        assert a.is_inference() and not b.is_inference()
        b.add_(1)
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor"): a.add_(1)


def test_a_normal_tensor_stays_normal():
    cache, w = forno.zeros(4), forno.ones(4, requires_grad=True)
    for k in range(4):
        with forno.inference_mode():
            cache[k] = k
            cache.mul_(2)
    cache += 1
    (cache * w).sum().backward()
    assert w.grad.tolist() == cache.tolist() and not cache.is_inference() and cache._version == 9
