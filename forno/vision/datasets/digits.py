"""1,797 handwritten digits of 8 x 8 pixels (UCI, see DIGITS_LICENSE.txt): small enough to come with forno, big enough to train a real network on.

The last two of every eleven images are for testing: 1,471 to train on, 326 to test with, all writers and digits in both.
"""
from __future__ import annotations

import os

import numpy as np

from ...framework import api as torch
from ...utils.data import Dataset

_FILE = os.path.join(os.path.dirname(__file__), "digits.npz")


class Digits(Dataset):
    """ds[i] is (image, label), the image a uint8 array (8, 8) with values 0…255 before `transform`; ds.data and ds.targets are tensors of all.

    `root` and `download` are there for torchvision's sake and have nothing to do.
    """
    classes = [str(i) for i in range(10)]

    def __init__(self, root=None, train=True, transform=None, target_transform=None, download=False):
        self.root, self.train, self.transform, self.target_transform = root, train, transform, target_transform
        with np.load(_FILE) as file: images, labels = file["images"], file["labels"]
        chosen = (np.arange(len(labels)) % 11 >= 9) != train
        self._images = np.rint(images[chosen] * (255 / 16)).astype(np.uint8)     # the scanner counted 0…16 pixels per cell
        self._labels = labels[chosen].astype(np.int64)

    @property
    def data(self): return torch.from_numpy(self._images.copy())                 # (N, 8, 8)

    @property
    def targets(self): return torch.from_numpy(self._labels.copy())              # (N,)

    def __len__(self): return len(self._labels)

    def __getitem__(self, i):
        image, label = self._images[i], int(self._labels[i])
        if self.transform is not None: image = self.transform(image)
        if self.target_transform is not None: label = self.target_transform(label)
        return image, label

    def __repr__(self):
        return f"Dataset Digits\n    Number of datapoints: {len(self)}\n    Split: {'Train' if self.train else 'Test'}"
