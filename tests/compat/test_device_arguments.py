"""A device that isn't there: PyTorch's exception wherever one can be named; devices as values."""
import pytest

from tests.framework.agree import check

pytestmark = pytest.mark.filterwarnings("ignore")
STATEMENTS = r"""
torch.tensor(1,device='cuda')
torch.tensor([1],device='cuda:0')
torch.zeros(2,device='cuda')
torch.zeros(2,device=torch.device('cuda'))
torch.ones(2).to('cuda')
torch.ones(2).to(torch.device('cuda',0))
torch.ones(2).to(0)
torch.ones(2).cuda()
torch.ones(2).to(device='cuda')
nn.Linear(2,2).cuda()
nn.Linear(2,2).to('cuda')
nn.Linear(2,2,device='cuda')
torch.randn(2,device='cuda')
torch.rand(2,device='cuda')
torch.arange(3,device='cuda')
torch.full((2,),1.,device='cuda')
torch.empty(2,device='cuda')
torch.eye(2,device='cuda')
torch.linspace(0,1,3,device='cuda')
torch.randint(3,(2,),device='cuda')
torch.randperm(3,device='cuda')
torch.zeros_like(torch.ones(2),device='cuda')
torch.as_tensor([1],device='cuda')
torch.asarray([1],device='cuda')
torch.ones(2).new_zeros(2,device='cuda')
torch.ones(2).new_tensor([1],device='cuda')
torch.cuda.FloatTensor(2)
torch.device('foo')
torch.device('cuda:x')
str(torch.device('cpu',0))
torch.device('cuda',-1)
torch.device('cuda:3').index
str(torch.device(type='cpu'))
torch.device('cpu')==torch.device('cpu:0')
torch.device('cpu')=='cpu'
str(torch.device('cuda:1'))
repr(torch.device('cuda',1))
{torch.device('cpu'):1}[torch.device('cpu')]
torch.ones(2).to('cuda:1',torch.float16)
""".strip().split("\n")


@pytest.mark.parametrize("s", STATEMENTS)
def test_statements(s): check(s)
