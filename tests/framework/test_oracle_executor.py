"""FORNO_EXECUTOR=oracle: whole programs through each row's NumPy oracle give what machine code gives."""
import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import numpy as np
import forno as torch
F = torch.nn.functional
torch.manual_seed(0)
x = torch.arange(12.).reshape(3, 4) / 7
out = [x * 2 + 1, x.softmax(1), F.layer_norm(x, (4,)) * x, x.var(0), F.gelu(x), x @ x.t(), x.sort(descending=True)[0], torch.rand(3), x[torch.tensor([0, 2])], x.cumsum(0),
       F.max_pool2d(x.reshape(1, 1, 3, 4), 2), (x.bfloat16() * 3).softmax(0), x.half().exp().sum(1), (x * (1 + 2j)).abs(), torch.linalg.inv(torch.eye(3) * 2), x.int() // 2, x > 1,
       torch.nn.LSTM(4, 5)(x)[0].detach()]
net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(18, 3))
opt = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(3):
    opt.zero_grad()
    loss = F.cross_entropy(net(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    opt.step()
    out.append(loss.detach())
v = torch.zeros(3, 4)
v[1:, ::2] = x[:2, 1:3].clone()
v.t().add_(1)
out += [v, *net.state_dict().values()]
np.savez(PATH, *[t.float().numpy() for t in out])
"""


@pytest.mark.parametrize("check", ["0", "1"])
def test_programs(tmp_path, check):
    got = []
    for executor in ("native", "oracle"):
        path = tmp_path / f"{executor}.npz"
        env = {**os.environ, "FORNO_EXECUTOR": executor, "FORNO_CHECK": check}
        subprocess.run([sys.executable, "-c", PROGRAM.replace("PATH", repr(str(path)))], check=True, env=env, timeout=120)
        with np.load(path) as z: got.append([z[k] for k in z.files])
    assert len(got[0]) == len(got[1]) == 30
    for k, (a, b) in enumerate(zip(*got)): np.testing.assert_allclose(a, b, 2e-3 if k in (11, 12) else 1e-4, 1e-5, err_msg=str(k))
