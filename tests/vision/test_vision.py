"""The bundled digits and the transforms."""
import numpy as np
import pytest
import torch

from forno.framework import api as ft
from forno.utils.data import DataLoader
from forno.vision import datasets, transforms


def test_digits():
    train, test = datasets.Digits(train=True), datasets.Digits("ignored", train=False)
    assert (len(train), len(test)) == (1471, 326) and train.classes == list("0123456789")
    assert tuple(train.data.shape) == (1471, 8, 8) and train.data.dtype == ft.uint8 and train.targets.dtype == ft.int64
    assert train.data.numpy().max() == 255 and train.data.numpy().min() == 0
    for ds in (train, test):                   # every digit is in both, about equally often
        counts = np.bincount(ds.targets.numpy(), minlength=10)
        assert counts.min() > 0.07 * len(ds) and counts.max() < 0.13 * len(ds)
    image, label = train[0]
    assert image.dtype == np.uint8 and image.shape == (8, 8) and label == 0 and isinstance(label, int)
    pixels = np.concatenate([np.rint(ds.data.numpy() * (16 / 255)).astype(int).reshape(-1, 64) for ds in (train, test)])
    assert (pixels @ np.arange(64)).sum() == 17660653 and int(train.targets.sum()) + int(test.targets.sum()) == 8070      # as scikit-learn's copy
    assert "1471" in repr(train)


def test_transforms_and_loader():
    ds = datasets.Digits(train=False, transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]),
                         target_transform=lambda y: y + 1)
    x, y = next(iter(DataLoader(ds, batch_size=16)))
    assert tuple(x.shape) == (16, 1, 8, 8) and x.dtype == ft.float32 and int(y.min()) >= 1
    expected = (torch.from_numpy(ds._images[:16].astype(np.float32))[:, None] / 255 - 0.5) / 0.5
    np.testing.assert_allclose(x.numpy(), expected.numpy(), rtol=1e-6)
    color = transforms.ToTensor()(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    assert tuple(color.shape) == (3, 2, 4) and color[1, 0, 1].item() == np.float32(4) / np.float32(255)
    assert transforms.ToTensor()(np.ones((2, 2))).dtype == ft.float64
    assert transforms.Lambda(lambda v: v + 1)(2) == 3
    both = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.1)])
    assert repr(both) == "Compose(\n    ToTensor()\n    Normalize(mean=0.5, std=0.1)\n)"


def test_errors():
    with pytest.raises(TypeError): transforms.ToTensor()(ft.zeros(2, 2))
    with pytest.raises(ValueError, match="2/3 dimensional"): transforms.ToTensor()(np.zeros(3))
    with pytest.raises(TypeError, match="float tensor"): transforms.Normalize([0], [1])(ft.zeros(1, 2, 2, dtype=ft.int64))
    with pytest.raises(ValueError, match="zero"): transforms.Normalize([0.0], [0.0])(ft.zeros(1, 2, 2))
    with pytest.raises(TypeError): transforms.Lambda(3)
