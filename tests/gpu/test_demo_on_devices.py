"""The demo on a simulated GPU: its network learns there what it learns on the CPU, and the command says so."""
import io

import pytest

import forno as torch
from forno import cli, demo, optim
from forno.utils.data import DataLoader, TensorDataset

from .conftest import seeds

ROWS, BATCH = 24, 8
TENSORS = demo.tensors
pytestmark = [pytest.mark.usefixtures("devices"), pytest.mark.parametrize("devices", seeds([3]), indirect=True)]


def few(train, device):
    images, labels = TENSORS(train, "cpu")
    return images[:ROWS].to(device), labels[:ROWS].to(device)


def trained(device):
    """(loss of each epoch, accuracy, the classifier's weights); no dropout, because the CPU and GPUs draw other numbers. (Convolutions' biases go into a BatchNorm: their
    gradients are nothing but rounding, which Adam makes as large as any other.)"""
    torch.manual_seed(0)
    net = demo.Net()
    net.classifier[3].p = 0.0
    net.to(device)
    images, labels = few(True, device)
    optimizer = optim.Adam(net.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH)
    losses = [demo.epoch_of(net, loader, optimizer, "", io.StringIO())[0] for _ in range(2)]
    return losses, demo.accuracy(net, images, labels), [p.detach().cpu() for p in net.classifier.parameters()]


def test_learning_is_that_of_the_cpu():
    (losses, right, weights), (there, right_there, weights_there) = trained("cpu"), trained("cuda")
    assert losses[1] < losses[0] and losses == pytest.approx(there, rel=1e-3) and right == right_there
    for a, b in zip(weights, weights_there): assert torch.allclose(a, b, 1e-2, 2e-3)


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "tensors", few)
    assert cli.main(["demo", "--device", "cuda", "--epochs", "1", "--save", str(tmp_path / "digits.pt")]) == 0
    said = capsys.readouterr().out
    assert "GPU   Simulated H200" in said and f"{ROWS} digits to learn from" in said and "weights, on cuda" in said and "of digits it has never seen" in said
    state = torch.load(tmp_path / "digits.pt", map_location="cpu")
    assert state["classifier.4.weight"].shape == (10, 64)
