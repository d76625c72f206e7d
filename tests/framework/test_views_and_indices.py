"""Views that share memory, advanced and boolean indices read and written, empty and 0-d tensors, sizes that can't be: statements in both libraries."""
import random

import numpy as np
import pytest
import torch

import forno

from .agree import check

pytestmark = pytest.mark.filterwarnings("ignore")
STATEMENTS = r"""
x=torch.arange(10);y=x.unfold(0,3,2);x[2]=99;y
x=torch.arange(10);y=x.unfold(0,3,2);y[0]=-1;x
x=torch.arange(12).reshape(3,4);y=x.unfold(1,2,1);(y.shape,y.stride())
x=torch.arange(12).reshape(3,4);y=x.as_strided((2,2),(1,4),1);y.add_(100);x
x=torch.arange(6).reshape(2,3);y=x.t();y[0,1]=9;x
x=torch.zeros(1,3);y=x.expand(4,3);x[0,1]=5;y
x=torch.zeros(1,3);y=x.expand(4,3);y[0,0]=1;x
x=torch.zeros(1,3);y=x.expand(4,3);y.add_(1)
x=torch.arange(6);y=x.view(2,3);y[1]=0;x
x=torch.arange(6);y=x.reshape(2,3);y[1]=0;x
x=torch.arange(6).reshape(2,3);y=x.diagonal();y.zero_();x
x=torch.arange(6).reshape(2,3);a,b=x.split(1);a.add_(10);x
x=torch.arange(6).reshape(2,3);a,b=x.chunk(2);b.mul_(0);x
x=torch.arange(6).reshape(2,3);a,b=x.unbind();b.mul_(0);x
x=torch.arange(6).reshape(2,3);x.squeeze(0).shape
x=torch.arange(6).reshape(2,3);y=x[:,None];y[0,0]=7;x
x=torch.arange(6).reshape(2,3);y=x.movedim(0,1);y[0]=7;x
x=torch.arange(6).reshape(2,3);y=x.narrow(1,1,2);y.fill_(3);x
x=torch.arange(6).reshape(2,3);y=x.select(0,1);y.fill_(3);x
x=torch.arange(6).reshape(2,3);y=x.flatten();y[0]=9;x
x=torch.arange(6).reshape(2,3).t();y=x.flatten();y[0]=9;x
x=torch.arange(6).reshape(2,3);y=x.ravel();y[0]=9;x
x=torch.arange(6).reshape(2,3);y=x.contiguous();y[0]=9;x
x=torch.arange(6).reshape(2,3);y=x.view(-1,2);y.data_ptr()==x.data_ptr()
x=torch.arange(6).reshape(2,3);x[0],x[1]=x[1].clone(),x[0].clone();x
x=torch.arange(6).reshape(2,3);x[0],x[1]=x[1],x[0];x
x=torch.arange(5);x[1:]=x[:-1].clone();x
x=torch.arange(5);x[[0,1]]+=10;x
x=torch.arange(5);x[x>2]*=2;x
x=torch.arange(5);x[torch.tensor([0,0])]+=1;x
x=torch.arange(5.);x[1:3]/=2;x
x=torch.arange(5);x[1:3]/=2;x
x=torch.arange(24).reshape(2,3,4);x[0,[0,2],1:3]
x=torch.arange(24).reshape(2,3,4);x[[0,1],:,[1,2]]
x=torch.arange(24).reshape(2,3,4);x[:,[0,2],[1,3]]
x=torch.arange(24).reshape(2,3,4);x[[[0],[1]],[0,2]]
x=torch.arange(24).reshape(2,3,4);x[...,0]
x=torch.arange(24).reshape(2,3,4);x[None,...,None].shape
x=torch.arange(24).reshape(2,3,4);x[True].shape
x=torch.arange(24).reshape(2,3,4);x[False].shape
x=torch.arange(24).reshape(2,3,4);x[torch.tensor(True)].shape
x=torch.arange(24).reshape(2,3,4);x[x>12]
x=torch.arange(24).reshape(2,3,4);x[:,torch.tensor([True,False,True])]
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([[True,False,True],[False,True,False]])]
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([[True,False,True],[False,True,False]]),1]
x=torch.arange(24).reshape(2,3,4);x[-1,-1,-1]
x=torch.arange(24).reshape(2,3,4);x[0,:,::2]
x=torch.arange(24).reshape(2,3,4);x[0,::-1]
x=torch.arange(24).reshape(2,3,4);x[5:]
x=torch.arange(24).reshape(2,3,4);x[1:0].shape
x=torch.arange(24).reshape(2,3,4);x[0][1][2]
x=torch.arange(24).reshape(2,3,4);x[(0,1)]
x=torch.arange(24).reshape(2,3,4);x[[0,1]].shape
x=torch.arange(24).reshape(2,3,4);x[[True,False]].shape
x=torch.arange(24).reshape(2,3,4);x[[0,1],[0,1]].shape
x=torch.arange(24).reshape(2,3,4);x[range(2)].shape
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([],dtype=torch.int64)].shape
x=torch.arange(24).reshape(2,3,4);x[[]].shape
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([0.,1.])]
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([0,1],dtype=torch.int32)].shape
x=torch.arange(24).reshape(2,3,4);x[torch.tensor([0,1],dtype=torch.uint8)].shape
x=torch.arange(24).reshape(2,3,4);x[0,0,0,0]
x=torch.arange(24).reshape(2,3,4);x[2]
x=torch.arange(24).reshape(2,3,4);x[...,...]
x=torch.arange(24).reshape(2,3,4);x["a"]
x=torch.arange(24).reshape(2,3,4);x[1.0]
x=torch.arange(24).reshape(2,3,4);x[{}]
x=torch.arange(24).reshape(2,3,4);x[0]=torch.arange(4);x
x=torch.arange(24).reshape(2,3,4);x[:,0]=5;x
x=torch.arange(24).reshape(2,3,4);x[...,-1]=torch.tensor([[1,2,3]]);x
x=torch.arange(24).reshape(2,3,4);x[x%2==0]=-1;x
x=torch.arange(24).reshape(2,3,4);x[x%2==0]=torch.arange(12);x
x=torch.arange(24).reshape(2,3,4);x[x%2==0]=torch.arange(11);x
x=torch.arange(24).reshape(2,3,4);x[0]=torch.arange(5);x
x=torch.arange(24).reshape(2,3,4);x[[0,1],[0,1]]=torch.ones(4,dtype=torch.int64);x
x=torch.arange(24).reshape(2,3,4);x[[0,1],[0,1]]=torch.ones(4);x
x=torch.arange(24).reshape(2,3,4);x[None]=1;x
x=torch.arange(24).reshape(2,3,4);x[...]=2;x
x=torch.arange(24).reshape(2,3,4);x[:]=torch.tensor(3);x
x=torch.arange(24).reshape(2,3,4);x[0,0,0]=True;x
x=torch.arange(24).reshape(2,3,4);x[0,0,0]=2.7;x
x=torch.arange(24).reshape(2,3,4);x[0,0,0]=1j;x
x=torch.arange(24).reshape(2,3,4);x[0,0,0]=torch.tensor([1]);x
x=torch.arange(24).reshape(2,3,4);x[0,0,0]=torch.tensor([1,2]);x
x=torch.tensor(5);x[()]
x=torch.tensor(5);x[...]
x=torch.tensor(5);x[None]
x=torch.tensor(5);x[0]
x=torch.tensor(5);x[()]=3;x
x=torch.tensor(5);x[...]=4;x
x=torch.tensor(5);x[True]
x=torch.tensor(5);x.fill_(2);x
x=torch.zeros(0,3);x[0]
x=torch.zeros(0,3);x.sum(0)
x=torch.zeros(0,3);x.max()
x=torch.zeros(0,3);x.mean()
x=torch.zeros(0,3);x@torch.zeros(3,2)
x=torch.zeros(3,0);x@torch.zeros(0,2)
x=torch.zeros(0);x.argmax()
x=torch.zeros(0,3);x.argmax(1)
x=torch.zeros(0,3);x.argmax(0)
x=torch.zeros(0);torch.cat([x,torch.ones(2)])
x=torch.zeros(0,3);x.sort()[0].shape
x=torch.zeros(0);x.cumsum(0)
x=torch.zeros(0,3);x.view(-1)
x=torch.zeros(0,3);x.view(-1,3)
x=torch.zeros(0,3);x.view(0,-1)
x=torch.zeros(0,3);x.reshape(3,-1)
x=torch.zeros(0,3);F.softmax(x,1)
x=torch.zeros(0,3);F.linear(x,torch.ones(2,3)).shape
x=torch.zeros(0,3);F.cross_entropy(x,torch.zeros(0,dtype=torch.int64))
x=torch.zeros(0,1,4,4);F.conv2d(x,torch.ones(1,1,3,3)).shape
x=torch.tensor(2.);x.sum(0)
x=torch.tensor(2.);x.sum(-1)
x=torch.tensor(2.);x.sum(1)
x=torch.tensor(2.);x.max(0)
x=torch.tensor(2.);x.softmax(0)
x=torch.tensor(2.);x.sort()
x=torch.ones(3,1).expand(3,40);x.sort()
x=torch.ones(40).bool();(x.sort(),x.argsort(),x.sort(stable=True))
x=torch.arange(40000)%7;(x.sort()[1][:50],x.sort(descending=True)[1][:50])
x=torch.arange(200)%7;(x.topk(30),x.topk(3),x.topk(30,sorted=False,largest=False),x.mode(),x.float().msort(),x.unique(return_inverse=True))
x=(torch.arange(200)%7).float().requires_grad_();(x.sort()[0]*torch.arange(200)).sum().backward();x.grad
x=torch.tensor(2.);x.cumsum(0)
x=torch.tensor(2.);x.unsqueeze(0)
x=torch.tensor(2.);x.view(1,1)
x=torch.tensor(2.);x.expand(3)
x=torch.tensor(2.);x.repeat(3)
x=torch.tensor(2.);x.t()
x=torch.tensor(2.);x.flatten()
x=torch.tensor(2.);x.squeeze()
x=torch.tensor(2.);torch.stack([x,x])
x=torch.tensor(2.);torch.cat([x,x])
x=torch.tensor(2.);x@x
x=torch.tensor(2.);len(x)
x=torch.tensor(2.);x.tolist()
x=torch.tensor(2.);torch.ones(3)*x
x=torch.tensor(2.);torch.ones(3,dtype=torch.int32)*x
x=torch.tensor(2.,dtype=torch.float64);torch.ones(3)*x
x=torch.tensor(2);torch.ones(3,dtype=torch.uint8)*x
x=torch.tensor(2.5);torch.ones(3,dtype=torch.int8).add_(x)
x=torch.ones(3,dtype=torch.int32);x.add_(2.5)
x=torch.ones(3,dtype=torch.int32);x*=2
x=torch.ones(3,dtype=torch.int32);x.mul_(torch.ones(2,3,dtype=torch.int32))
x=torch.ones(3,dtype=torch.float16);x+=torch.ones(3,dtype=torch.float64);x
x=torch.ones(3,dtype=torch.bool);x+=1
x=torch.ones(3,dtype=torch.bool);x|=True;x
x=torch.ones(3,dtype=torch.bool);x.sum()
x=torch.ones(3,dtype=torch.bool);x.float().mean()
x=torch.ones(3,dtype=torch.bool);x.mean()
x=torch.ones(3,dtype=torch.bool);x-x
x=torch.ones(3,dtype=torch.bool);-x
x=torch.ones(3,dtype=torch.bool);x*x
x=torch.ones(3,dtype=torch.bool);x+x
x=torch.ones(3,dtype=torch.bool);x/x
x=torch.ones(3,dtype=torch.bool);x//x
x=torch.ones(3,dtype=torch.bool);x**2
x=torch.arange(3);x.mean()
x=torch.arange(3);x.float().std()
x=torch.arange(3);x.std()
x=torch.arange(3);x.exp()
x=torch.arange(3);x.sqrt()
x=torch.arange(3);x/2
x=torch.arange(3);x.softmax(0)
x=torch.arange(3);x.norm()
x=torch.arange(3,dtype=torch.int32);x.sum().dtype
x=torch.arange(3,dtype=torch.int32);x.cumsum(0).dtype
x=torch.arange(3,dtype=torch.int32);x.prod().dtype
x=torch.arange(3);x@x
x=torch.arange(3.).half();x@x
x=torch.arange(3.);x.int()@x
x=torch.ones(2,3);x.view(3,2).stride()
x=torch.ones(2,3).t();x.view(6)
x=torch.ones(2,3).t();x.reshape(6).stride()
x=torch.ones(2,3,4).transpose(0,2);x.reshape(12,2).stride()
x=torch.ones(2,3);x.resize_(3,3).shape
x=torch.ones(2,3);x.set_(torch.zeros(4)).shape
x=torch.ones(2,3);x.swapaxes_(0,1).shape
x=torch.ones(2,3);x.unsqueeze_(0).shape
x=torch.ones(1,3);x.squeeze_().shape
x=torch.ones(2,3);x.transpose_(0,1).shape
x=torch.ones(2,3);x.t_().shape
x=torch.ones(2,3);x.data=torch.zeros(5);x
x=torch.ones(2,3);y=x.T;x.zero_();y
x=torch.ones(2,3);y=x[0];z=y[1:];x.fill_(7);z
x=torch.ones(2,3);y=x.detach();x.fill_(7);y
x=torch.ones(2,3);y=x.clone();x.fill_(7);y
x=torch.ones(2,3);x.copy_(torch.arange(3));x
x=torch.ones(2,3);x.copy_(torch.arange(2))
x=torch.ones(2,3);x.copy_(5)
x=torch.ones(2,3,dtype=torch.int32);x.copy_(torch.tensor(2.7));x
x=torch.ones(2,3);x.index_put_((torch.tensor([0]),torch.tensor([1])),torch.tensor(9.));x
x=torch.ones(2,3);x.index_put_((torch.tensor([0,0]),),torch.ones(3),accumulate=True);x
torch.empty(2**40)
torch.empty(2**62)
torch.zeros(2**31,2**31)
torch.ones(1).expand(2**31,2).shape
torch.ones(1).expand(2**33)[2**32].item()
torch.ones(1).expand(2**33).sum().item()
torch.zeros(1).expand(2**40)+1
torch.ones(1).repeat(2**45)
torch.arange(2**45)
torch.randn(2**45)
torch.full((2**45,),1.)
torch.empty(2**63)
torch.empty(10**30)
torch.zeros(-1)
torch.ones(2,-3)
torch.ones(3).view(-2)
torch.ones(3).view(-1,-1)
torch.ones(3).view(2,-1)
torch.ones(3).reshape(0,-1)
x=torch.arange(6);x[[0,1]]=torch.tensor(2.5);x
x=torch.arange(6);x[[0,1]]=torch.tensor([2.5]);x
x=torch.arange(6);x[[0,1]]=torch.tensor([2.5,1.]);x
x=torch.arange(6);x[x>2]=torch.tensor(2.5);x
x=torch.arange(6);x[x>2]=torch.tensor([2.5]);x
x=torch.arange(6);x[x>2]=torch.tensor([1.,2.,3.]);x
x=torch.arange(6.);x[x>2]=torch.tensor([1,2,3]);x
x=torch.arange(6.);x[[0,1]]=torch.tensor([1,2]);x
x=torch.arange(6.);x[[0,1]]=torch.tensor(2);x
x=torch.arange(6.);x[[0,1]]=torch.tensor(2.,dtype=torch.float64);x
x=torch.arange(6.);x[[0,1]]=torch.tensor([2.,1.],dtype=torch.float64);x
x=torch.arange(6.).half();x[[0,1]]=torch.tensor([2.,1.]);x
x=torch.arange(6.).reshape(2,3);x[:,[0,1]]=torch.tensor([2,1]);x
x=torch.arange(6.).reshape(2,3);x[0,[0,1]]=torch.tensor([2,1]);x
x=torch.arange(6.);x.index_put_((torch.tensor([0]),),torch.tensor([2]));x
x=torch.arange(6.);x.index_put_((torch.tensor([0]),),torch.tensor(2));x
x=torch.arange(6.);torch.index_put(x,(torch.tensor([0]),),torch.tensor(2.,dtype=torch.float64))
x=torch.arange(6.);x[torch.tensor([0,1])]=True;x
x=torch.arange(6.);x[torch.tensor([0,1])]=3;x
x=torch.arange(6);x[torch.tensor([0,1])]=3.7;x
x=torch.arange(6);x[torch.tensor(0)]=torch.tensor(3.7);x
x=torch.arange(6);x[1:3]=torch.tensor([3.7,2.2]);x
x=torch.arange(6);x[...,...,1]
x=torch.arange(6).reshape(2,3);x[...,0,...]
""".strip().split("\n")


@pytest.mark.parametrize("start", range(0, len(STATEMENTS), 20))
def test_statements(start):
    for s in STATEMENTS[start:start + 20]:
        try: check(s)
        except AssertionError as e: raise AssertionError(f"{s}\n{e}") from None


def test_single_elements():
    """t[i, j, …] of values that lie ready, through views, beside pending work, of memory that NumPy sees; written through, and read again."""
    r = random.Random(0)
    for _ in range(200):
        a = np.random.default_rng(r.randrange(1000)).standard_normal((3, 4, 5))
        ours, theirs = (m.from_numpy(a.copy()) if r.random() < 0.3 else m.tensor(a) for m in (forno, torch))
        for _ in range(r.randint(0, 3)):
            how = r.choice(["x.transpose(0, -1)", "x[1:]", "x.unsqueeze(0)", "x.reshape(-1)", "x * 2"])
            if how == "x[1:]" and theirs.shape[0] < 2: continue
            ours, theirs = eval(how, {"x": ours}), eval(how, {"x": theirs})
        i = tuple(r.randrange(-n, n) for n in theirs.shape)
        v, w = ours[i], theirs[i]
        assert v.item() == w.item() and v.shape == () and v.stride() == () and v.storage_offset() == w.storage_offset() and v._is_view() and v.dtype is forno.float64
        v.mul_(3)
        w.mul_(3)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        assert v._version == ours._version and (ours[i] + 1).item() == (theirs[i] + 1).item()
    with pytest.raises(IndexError): forno.ones(2, 3)[0, 3]
    with pytest.raises(IndexError): forno.ones(2, 3)[0.0, 1]
