"""install_as_torch in processes of its own: programs that say `import torch` run on forno, and only when asked."""
import subprocess
import sys

import pytest


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCRIPT = """
import forno
forno.install_as_torch()

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset
from torch.autograd import Variable
from torch.nn.parameter import Parameter
import torch.backends.cudnn as cudnn
import torch.utils.checkpoint
import torch.distributed as dist
from torch.cuda.amp import GradScaler

assert torch is forno and nn is forno.nn and F is forno.nn.functional and optim is forno.optim and Parameter is forno.nn.Parameter
assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 0) and torch.__version__ >= "2.0"
cudnn.benchmark = True
torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
x = torch.randn(64, 4)
y = (x.sum(1, keepdim=True) > 0).float()
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(device)
opt = optim.SGD(model.parameters(), lr=0.5)
sched = StepLR(opt, 5)
first = F.binary_cross_entropy_with_logits(model(x), y).item()
for epoch in range(3):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
        opt.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(Variable(a)), b)
        loss.backward()
        opt.step()
    sched.step()
assert F.binary_cross_entropy_with_logits(model(x), y).item() < first
print("trained")
"""


def test_a_training_script(): assert run(SCRIPT) == "trained"


def test_modules_keep_their_names_and_run_once():
    assert run("""
import sys, forno
before = {k: v for k, v in sys.modules.items() if k.startswith("forno")}
specs = {k: v.__spec__ for k, v in before.items()}
forno.install_as_torch()
import torch.nn.functional, torch.optim.lr_scheduler, torch.utils.data, torch.serialization, torch.autograd.function
assert all(sys.modules[k] is v is sys.modules[v.__name__] and v.__spec__ is specs[k] and v.__name__.startswith("forno") for k, v in before.items())
assert all(v.__name__.startswith("forno") for k, v in sys.modules.items() if k == "torch" or k.startswith("torch."))
assert isinstance(torch.nn.Linear(1, 1), forno.nn.Module) and torch.serialization.load is forno.load
import pickle, io
again = pickle.loads(pickle.dumps(torch.nn.Linear(1, 1)))
assert type(again) is forno.nn.Linear
print("ok")
""") == "ok"


def test_what_forno_lacks_is_missing():
    assert run("""
import forno
forno.install_as_torch()
for name in ("torch._inductor", "torch.framework", "torch.kernel", "torch.nn.nothing"):
    try: __import__(name)
    except ModuleNotFoundError as e: assert e.name == name and "forno stands in" in str(e), e
    else: raise SystemExit(name)
try: import torch.onnx
except ImportError: pass
print("ok")
""") == "ok"


def test_uninstall_brings_pytorch_back():
    pytest.importorskip("torch")
    assert run("""
import forno, sys
own = forno.__version__
forno.install_as_torch()
forno.install_as_torch()
import torch
assert torch is forno and str(forno.__version__) == str(forno.torch_version)
forno.uninstall_as_torch()
forno.uninstall_as_torch()
assert not [k for k in sys.modules if k.split(".")[0] in ("torch", "torchvision")] and forno.__version__ is own
import torch as real
assert real is not forno and hasattr(real, "_C")
try: forno.install_as_torch()
except RuntimeError as e: assert "before anything imports it" in str(e)
else: raise SystemExit("installed over PyTorch")
print("ok")
""") == "ok"


def test_never_at_import():
    assert run("import sys, forno; print([k for k in sys.modules if k.split('.')[0] == 'torch'], type(sys.meta_path[0]).__module__.startswith('forno'))") == "[] False"


def test_a_library_that_imports_torch():
    pytest.importorskip("safetensors")
    assert run("""
import forno
forno.install_as_torch()
import torch, safetensors.torch as st
data = st.save({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)})
back = st.load(data)
assert isinstance(back["a"], forno.Tensor)
print(back["a"].tolist(), back["b"])
""") == "[0.0, 1.0, 2.0, 3.0] tensor([1., 1.], dtype=torch.bfloat16)"


def test_torchvisions_names():
    assert run("""
import forno
forno.install_as_torch()
import torchvision
from torchvision import transforms
import torchvision.datasets as datasets
assert torchvision is forno.vision and transforms is forno.vision.transforms
print("ok")
""") == "ok"
