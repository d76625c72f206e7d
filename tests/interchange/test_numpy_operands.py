"""NumPy's arrays and scalars beside tensors: operators from both sides, indices, functions, conversions, shared memory."""
import pytest

from tests.framework.agree import check

pytestmark = pytest.mark.filterwarnings("ignore")
STATEMENTS = r"""
torch.arange(3)==np.arange(3)
np.arange(3)==torch.arange(3)
torch.arange(3)!=np.array([0,5,2])
torch.arange(3)<np.array([1,1,1])
np.array([1,1,1])<torch.arange(3)
torch.arange(3)+np.arange(3)
np.arange(3)+torch.arange(3)
np.arange(3.)+torch.arange(3.)
np.arange(3.)*torch.arange(3.)
np.arange(3.)-torch.arange(3.)
np.arange(3.)/torch.arange(1.,4.)
np.arange(3)//torch.arange(1,4)
np.arange(3)%torch.arange(1,4)
np.arange(3)**torch.arange(1,4)
torch.arange(3)-np.arange(3)
torch.arange(3)*np.arange(3)
torch.arange(3)/np.arange(1,4)
torch.arange(3)//np.arange(1,4)
torch.arange(3)%np.arange(1,4)
torch.arange(3)**np.arange(1,4)
torch.arange(3)&np.arange(3)
np.arange(3)&torch.arange(3)
torch.ones(2,2)@np.ones((2,2),dtype=np.float32)
np.ones((2,2),dtype=np.float32)@torch.ones(2,2)
torch.arange(3)+np.int64(3)
torch.arange(3)+np.float32(3)
torch.arange(3)+np.float64(3.5)
np.int64(3)+torch.arange(3)
np.float32(3)+torch.arange(3)
np.float64(3)*torch.ones(3)
np.float32(3)*torch.ones(3)
np.float64(3)-torch.ones(3)
np.float64(3)/torch.ones(3)
np.float64(3)**torch.ones(3)
np.float64(3)//torch.ones(3)
np.float64(3)%torch.ones(3)
np.float64(3)<torch.ones(3)
np.float64(3)>torch.ones(3)
np.float64(3)==torch.ones(3)
torch.ones(3)==np.float64(1)
torch.ones(3)<np.float64(3)
torch.ones(3)**np.float64(2)
torch.ones(3)-np.float32(2)
torch.ones(3)/np.int32(2)
torch.ones(3,dtype=torch.int32)+np.int64(2)
torch.ones(3,dtype=torch.float16)+np.float64(2)
torch.ones(3,dtype=torch.uint8)+np.int8(-1)
torch.ones(3,dtype=torch.bool)&np.array([True,False,True])
np.array([True,False,True])&torch.ones(3,dtype=torch.bool)
torch.ones(3)+np.array(2.0)
torch.ones(3)*np.array(2)
np.array(2.0)*torch.ones(3)
torch.add(torch.ones(3),np.ones(3))
torch.add(torch.ones(3),np.float64(2))
torch.mul(torch.ones(3),np.float32(2))
torch.maximum(torch.ones(3),np.ones(3))
torch.clamp(torch.ones(3),np.float64(0),np.float64(0.5))
torch.clamp(torch.ones(3),max=np.float64(0.5))
torch.full((2,),np.float64(3))
torch.full((2,),np.int64(3))
torch.full((np.int64(2),),1.)
torch.zeros(np.int64(2),np.int32(3))
torch.zeros((np.int64(2),3)).shape
torch.ones(2,3).sum(np.int64(1))
torch.ones(2,3).view(np.int64(3),2)
torch.ones(2,3).reshape((np.int64(3),2))
torch.ones(2,3)[np.int64(1)]
torch.ones(2,3)[np.int64(1):]
torch.ones(2,3)[np.array([0,1])]
torch.ones(2,3)[np.array([True,False])]
torch.ones(2,3)[:,np.array([0,2])]
torch.ones(2,3)[np.array(1)]
x=torch.zeros(3);x[np.array([0,1])]=5;x
x=torch.zeros(3);x[0]=np.float64(5);x
x=torch.zeros(3);x[:]=np.arange(3.);x
x=torch.zeros(3);x[1:]=np.array([1,2]);x
x=torch.zeros(3);x[np.array([True,False,True])]=np.float32(2);x
x=torch.zeros(3);x+=np.ones(3,dtype=np.float32);x
x=torch.zeros(3);x+=np.ones(3);x
x=torch.zeros(3);x*=np.float64(3);x
x=np.zeros(3);x+=torch.ones(3);x
x=np.zeros(3);x[:]=torch.ones(3);x
x=np.zeros(3);x[torch.tensor([0,1])]=1;x
x=np.zeros(3);x[torch.tensor(1)]
x=np.arange(6).reshape(2,3);x[torch.tensor([0,1]),torch.tensor([1,2])]
x=np.arange(3);x[torch.tensor([True,False,True])]
np.arange(10)[torch.tensor(2):torch.tensor(5)]
list(range(5))[torch.tensor(2)]
np.sum(torch.ones(3))
np.mean(torch.ones(3))
np.argmax(torch.arange(3))
np.sqrt(torch.ones(3))
np.exp(torch.ones(3)).dtype
np.dot(torch.ones(3),np.ones(3))
np.allclose(torch.ones(3),np.ones(3))
np.array_equal(torch.ones(3),torch.ones(3))
np.testing.assert_allclose(torch.ones(3),torch.ones(3))
np.stack([torch.ones(2),torch.zeros(2)])
np.concatenate([torch.ones(2),torch.zeros(2)])
np.array([torch.ones(2),torch.zeros(2)])
np.array([torch.tensor(1.),torch.tensor(2.)])
np.asarray(torch.ones(2,dtype=torch.float64))
np.asarray(torch.ones(2),dtype=np.float64)
np.array(torch.ones(2,requires_grad=True))
np.asarray(torch.ones(2,dtype=torch.bfloat16))
np.float64(torch.tensor(2.5))
np.int64(torch.tensor(2))
float(np.asarray(torch.tensor(2.5)))
np.where(torch.tensor([True,False]),1,2)
np.isnan(torch.tensor([1.,float('nan')]))
np.add(torch.ones(2),torch.ones(2))
np.add(torch.ones(2),1)
np.multiply.reduce(torch.ones(2))
np.linalg.norm(torch.ones(2))
np.transpose(torch.ones(2,3)).shape
np.reshape(torch.ones(2,3),(3,2))
np.expand_dims(torch.ones(2),0)
np.squeeze(torch.ones(1,2))
np.clip(torch.arange(3.),0,1)
np.round(torch.tensor([1.4]))
np.abs(torch.tensor([-1.]))
np.unique(torch.tensor([1,1,2]))
np.histogram(torch.ones(3))[0]
np.full(3,torch.tensor(2.))
np.zeros(torch.tensor(3))
np.zeros((torch.tensor(3),2)).shape
np.zeros(torch.ones(2,3).shape)
np.ones(torch.Size([2,3]))
torch.ones(2).numpy().dtype
torch.ones(2,dtype=torch.bool).numpy()
torch.tensor(3.).numpy()
torch.tensor(3).numpy()+1
torch.ones(2,3).t().numpy().strides
torch.ones(2,3)[:,1:].numpy().strides
torch.ones(2).expand(3,2).numpy().strides
torch.ones(2,requires_grad=True).numpy()
torch.ones(2,requires_grad=True).detach().numpy()
torch.ones(2,dtype=torch.bfloat16).numpy()
torch.ones(2,requires_grad=True).numpy(force=True)
torch.from_numpy(np.float64(2))
torch.from_numpy(np.ones(3,dtype=np.longdouble))
torch.from_numpy(np.array([1,2],dtype='datetime64[s]'))
torch.from_numpy(np.ones((2,3)).T).stride()
torch.from_numpy(np.ones((4,3))[::2]).stride()
torch.from_numpy(np.broadcast_to(np.ones(3),(2,3))).stride()
torch.from_numpy(np.array(5.))
torch.from_numpy(np.ones(3,dtype=np.uint16)).dtype
torch.from_numpy(np.ones(3,dtype=np.complex64))
a=np.zeros(3);t=torch.from_numpy(a);a[0]=5;t
a=np.zeros(3);t=torch.from_numpy(a);t[1]=7;a
a=np.zeros(3);t=torch.from_numpy(a).reshape(3,1);t.add_(1);a
a=np.zeros((2,3));t=torch.from_numpy(a);t.t()[0]=1;a
a=np.zeros((2,3));t=torch.from_numpy(a)[:,1];t.fill_(4);a
t=torch.zeros(3);a=t.numpy();t.add_(1);a
t=torch.zeros(3);a=t.numpy();a+=1;t
t=torch.zeros(3);a=t.numpy();y=t*2;a+=1;y
t=torch.zeros(3);a=t[1:].numpy();t.fill_(9);a
t=torch.ones(3);a=np.asarray(t);t.mul_(3);a
t=torch.zeros(3);a=t.numpy();b=a[1:];del a;t.add_(1);b
t=torch.zeros(4).view(2,2);a=t.numpy();t.t_();t.add_(torch.tensor([[1.,2],[3,4]]));a
torch.tensor(3.5).item()
torch.tensor(True).item()
torch.tensor(1+2j).item()
torch.tensor([[1,2],[3,4]]).tolist()
torch.tensor(3).tolist()
torch.zeros(0,3).tolist()
torch.zeros(2,0).tolist()
torch.tensor([True]).tolist()
torch.tensor([0.1],dtype=torch.float16).tolist()
torch.tensor([0.1],dtype=torch.bfloat16).tolist()
[type(x) for x in torch.tensor([1,2]).tolist()]
[x for x in torch.tensor([1,2])]
[a for a,b in torch.tensor([[1,2],[3,4]])]
dict(zip("ab",torch.tensor([1,2]).tolist()))
a,b=torch.tensor([1,2]);b
bool(torch.tensor(0.))
bool(torch.tensor([2]))
bool(torch.tensor(float('nan')))
int(torch.tensor(2.7))
int(torch.tensor(float('nan')))
int(torch.tensor(True))
float(torch.tensor(2))
float(torch.tensor([[2]]))
complex(torch.tensor(2))
complex(torch.tensor(2+1j))
int(torch.tensor(2+1j))
float(torch.tensor(2+1j))
round(torch.tensor(2.567),2)
round(torch.tensor(2.567))
import math;math.floor(torch.tensor(2.7))
import math;math.ceil(torch.tensor(2.2))
import math;math.trunc(torch.tensor(2.2))
import math;math.sqrt(torch.tensor(4.))
divmod(torch.tensor(7),3)
abs(torch.tensor(-2))
+torch.tensor(2)
-torch.tensor([True])
~torch.tensor(2)
~torch.tensor(2.)
torch.tensor(2) in [torch.tensor(1),torch.tensor(2)]
2 in torch.tensor([1,2])
5 in torch.tensor([1,2])
torch.tensor(2) in torch.tensor([1,2])
'a' in torch.tensor([1,2])
torch.tensor([1,2]) in torch.tensor([[1,2],[3,4]])
f"{torch.tensor(2.567):.2f}"
f"{torch.tensor(2):03d}"
f"{torch.tensor([2.567])}"
f"{torch.tensor([2.5,1]):.2f}"
f"{torch.tensor(2.567)}"
"%.2f" % torch.tensor(2.567)
"%d" % torch.tensor(2)
"%s" % torch.tensor(2)
str(torch.tensor(2))
sorted([torch.tensor(2),torch.tensor(1)])
max(torch.tensor([1,3,2]))
min([torch.tensor(2),torch.tensor(1)])
sum(torch.tensor([1,2,3]))
sum([torch.ones(2),torch.ones(2)])
any(torch.tensor([0,1]))
all(torch.tensor([0,1]))
len(torch.ones(2,3))
list(reversed(torch.tensor([1,2,3])))
reversed(torch.tensor([1,2,3]))
isinstance(torch.ones(1),torch.Tensor)
isinstance(torch.ones(1),torch.FloatTensor)
isinstance(torch.ones(1),torch.DoubleTensor)
type(torch.ones(1)).__name__
torch.is_tensor(3)
torch.is_tensor(torch.ones(1))
torch.is_floating_point(torch.ones(1))
torch.is_complex(torch.ones(1))
torch.is_nonzero(torch.tensor(1))
torch.is_nonzero(torch.tensor([1,2]))
torch.numel(torch.ones(2,3))
torch.ones(2)==None
torch.ones(2)!=None
torch.ones(2)=="a"
torch.ones(2)==[1,1]
torch.ones(2)==(1,1)
torch.ones(2)!=[1,1]
torch.ones(2)<None
torch.ones(2)+"a"
"a"+torch.ones(2)
torch.ones(2)*None
[1,2]*torch.ones(2)
torch.ones(2)-[1,2]
torch.ones(2)@[1,2]
torch.ones(2)+torch.ones(2,dtype=torch.int8)
torch.ones(2)==torch.ones(3)
torch.ones(2)==object()
torch.ones(2)+True
True+torch.ones(2,dtype=torch.int8)
torch.ones(2)<<1
torch.ones(2,dtype=torch.int32)<<1
1<<torch.ones(2,dtype=torch.int32)
2.0<<torch.ones(2,dtype=torch.int32)
2**torch.tensor([1,2])
2.5**torch.tensor([1,2])
torch.tensor([1,2])**-1
torch.tensor([1,2])**-1.0
torch.tensor([1,2])**0.5
torch.tensor([1.,2])**torch.tensor([1,2])
pow(torch.tensor([1,2]),2)
5//torch.tensor([2.,3.])
5%torch.tensor([2,3])
-5//torch.tensor([2,3])
-5%torch.tensor([2,3])
torch.tensor([-5])//2
torch.tensor([-5])%2
torch.tensor([-5.5])//2
torch.tensor([-5.5])%2
torch.tensor([5.])//0
torch.tensor([5.])%0
1/torch.tensor([2])
True^torch.tensor([True,False])
5&torch.tensor([3])
5.0&torch.tensor([3])
torch.tensor([3])&5.0
torch.tensor([3.])&5
""".strip().split("\n")


@pytest.mark.parametrize("start", range(0, len(STATEMENTS), 20))
def test_statements(start):
    for s in STATEMENTS[start:start + 20]:
        try: check(s)
        except AssertionError as e: raise AssertionError(f"{s}\n{e}") from None
