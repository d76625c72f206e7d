"""Providers of a GPU's kernels: one that is asked first takes products over, what it refuses stays forno's, and a program can switch it off."""
import pytest

import forno as torch
from forno.core.flags import flags
from forno.core.kernels import DeviceCall, Gemm
from forno.cudart import devices as where
from forno.framework.engine import flush
from forno.kernel.nvptx import build, gemm
from forno.kernel.nvptx.providers import PROVIDERS, Offer, Provider

SEVEN = 0x40E00000                             # 7.0


class Library(Provider):
    """Products of 20 rows are 7, whatever they are; of 24 rows, what forno's own kernel makes, with their epilogues."""
    name = "cudnn"

    def offer(self, kernel, isa):
        if not isinstance(kernel, Gemm) or kernel.m not in (20, 24): return None
        if kernel.m == 24: return Offer(lambda: gemm.build(kernel, isa))

        def fill(device, stream, operands, scratch):
            assert scratch
            where.use(device).MemsetD32Async(operands[2], SEVEN, kernel.m * kernel.n, stream)
        return Offer(lambda: DeviceCall("fill", fill, scratch=256), fuses=False)


@pytest.fixture
def library(devices, fresh):
    PROVIDERS.insert(0, Library())
    yield
    flush()
    PROVIDERS.pop(0)


@pytest.mark.usefixtures("library")
def test_takes_over():
    """A call between two launches, in the stream's order; the chain behind it is a kernel of its own."""
    x, w = torch.randn(20, 30, device="cuda"), torch.randn(30, 40, device="cuda")
    y = torch.relu((x * 2) @ w - 5)
    assert torch.equal(y.cpu(), torch.full((20, 40), 2.0))
    assert torch.equal((x @ w).cpu(), torch.full((20, 40), 7.0))


@pytest.mark.usefixtures("library")
def test_refuses():
    x, w = torch.randn(21, 30), torch.randn(30, 40)
    assert torch.allclose(torch.relu(x.cuda() @ w.cuda() - 1).cpu(), torch.relu(x @ w - 1), 1e-4, 1e-4)


@pytest.mark.usefixtures("library")
def test_shown(capsys, monkeypatch):
    monkeypatch.setattr(flags, "SHOW", 2)
    for rows, names in ((20, ["cudnn", "forno"]), (21, ["forno"]), (24, ["cudnn"])):
        x, w = torch.ones(rows, 30, device="cuda"), torch.ones(30, 40, device="cuda")
        flush()
        capsys.readouterr()
        y = torch.relu(x @ w - 5)
        flush()
        plan = [line for line in capsys.readouterr().out.splitlines() if " by " in line]
        assert [line.split(" by ")[1].split()[0] for line in plan] == names, plan
        assert y[0, 0].item() == (2.0 if rows == 20 else 25.0)


@pytest.mark.usefixtures("library")
def test_switched_off():
    """torch.backends.cudnn.enabled, for the length of a block and for good."""
    x, w = torch.ones(20, 30, device="cuda"), torch.ones(30, 40, device="cuda")
    with torch.backends.cudnn.flags(enabled=False): y = x @ w
    assert torch.backends.cudnn.enabled and y[0, 0].item() == 30.0 and (x @ w)[0, 0].item() == 7.0
    torch.backends.cudnn.enabled = False
    try: assert not torch.backends.cudnn.enabled and (x @ w)[0, 0].item() == 30.0
    finally: torch.backends.cudnn.enabled = True
    assert (x @ w)[0, 0].item() == 7.0


def test_abstract_or_final():
    """A provider says what it offers; forno's own is asked last, and takes every kind of kernel."""
    with pytest.raises(TypeError, match="abstract"): type("Half", (Provider,), {"name": "half"})()
    assert isinstance(PROVIDERS[-1], build.Own) and all(isinstance(p, Provider) and p.name for p in PROVIDERS)


def test_precision_switches():
    """tf32 is allowed by torch's two names for each."""
    assert torch.backends.cuda.matmul.allow_tf32 is False
    torch.backends.cuda.matmul.allow_tf32 = True
    try: assert torch.get_float32_matmul_precision() == "high"
    finally: torch.set_float32_matmul_precision("highest")
    assert torch.backends.cuda.matmul.allow_tf32 is False
