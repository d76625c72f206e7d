"""Learns handwritten digits. Ordinary PyTorch: with `import torch`, `from torch import …` in the marked lines it runs there as it is."""
import time

import forno as torch                          # import torch
from forno import nn, optim                    # from torch import nn, optim
from forno.utils.data import DataLoader, TensorDataset          # from torch.utils.data import DataLoader, TensorDataset
from forno.vision.datasets import Digits       # the data comes with forno, as NumPy arrays


def tensors(train):
    digits = Digits(train=train)
    images = torch.from_numpy(digits.data.numpy()).float().unsqueeze(1) / 255            # (N, 1, 8, 8)
    return images, torch.from_numpy(digits.targets.numpy())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )                                      # (N, 32, 4, 4)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main(epochs=8):
    torch.manual_seed(0)
    images, labels = tensors(train=True)
    test_images, test_labels = tensors(train=False)
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    start = time.time()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        test = accuracy(model, test_images, test_labels)
        print(f"epoch {epoch + 1:2d}  loss {total / len(images):.4f}  test accuracy {test:.1%}  {time.time() - start:.1f} s")
    return test


if __name__ == "__main__":
    main()
