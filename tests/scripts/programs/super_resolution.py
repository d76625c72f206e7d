"""In the style of the super-resolution example: PixelShuffle, orthogonal initialisation, PSNR, interpolation as baseline."""
from math import log10

import torch
import torch.nn as nn
import torch.nn.init as init
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super(Net, self).__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 12, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(12, 12, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(12, 6, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(6, upscale_factor ** 2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        x = self.pixel_shuffle(self.conv4(x))
        return x

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain('relu'))
        init.orthogonal_(self.conv2.weight, init.calculate_gain('relu'))
        init.orthogonal_(self.conv3.weight, init.calculate_gain('relu'))
        init.orthogonal_(self.conv4.weight)


class Images(Dataset):
    def __init__(self, n, factor):
        super().__init__()
        y, x = torch.meshgrid(torch.linspace(0, 3, 16), torch.linspace(0, 3, 16), indexing='ij')
        self.images = torch.stack([torch.sin(x * (1 + i * 0.3)) * torch.cos(y + i) for i in range(n)]).unsqueeze(1) * 0.5 + 0.5
        self.factor = factor

    def __getitem__(self, index):
        target = self.images[index].clone()
        return nn.functional.avg_pool2d(target, self.factor), target

    def __len__(self):
        return len(self.images)


torch.manual_seed(123)
training_data_loader = DataLoader(dataset=Images(12, 2), num_workers=0, batch_size=4, shuffle=True)
model = Net(upscale_factor=2)
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=0.01)
for epoch in range(1, 5):
    epoch_loss = 0
    for iteration, batch in enumerate(training_data_loader, 1):
        input, target = batch[0], batch[1]
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        epoch_loss += loss.item()
        loss.backward()
        optimizer.step()
    print("===> Epoch {} Complete: Avg. Loss: {:.4f}".format(epoch, epoch_loss / len(training_data_loader)))
avg_psnr = 0
with torch.no_grad():
    for input, target in training_data_loader:
        prediction = model(input)
        avg_psnr += 10 * log10(1 / criterion(prediction, target).item())
        bicubic = nn.functional.interpolate(input, scale_factor=2, mode='bicubic', align_corners=False)
        print(criterion(bicubic, target).item(), criterion(nn.Upsample(scale_factor=2, mode='bilinear')(input), target).item())
print("===> Avg. PSNR: {:.3f} dB".format(avg_psnr / len(training_data_loader)))
print(nn.PixelUnshuffle(2)(prediction).shape, prediction.clamp(0, 1).mul(255).byte().float().mean().item())
