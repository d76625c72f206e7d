"""In the style of siamese and triplet networks: shared trunk, cosine similarity, contrastive and triplet losses, pairs from a dataset."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.group_examples()

    def group_examples(self):
        self.grouped = {int(c): torch.where(self.labels == c)[0] for c in self.labels.unique()}

    def __len__(self):
        return self.images.shape[0]

    def __getitem__(self, index):
        c = self.labels[index].item()
        same = self.grouped[c][random.randint(0, self.grouped[c].shape[0] - 1)]
        other = random.choice([k for k in self.grouped if k != c])
        different = self.grouped[other][random.randint(0, len(self.grouped[other]) - 1)]
        return self.images[index], self.images[same].clone().float(), self.images[different], torch.tensor(index % 2, dtype=torch.float)


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU(), nn.AvgPool2d(2), nn.InstanceNorm2d(4, affine=True), nn.Conv2d(4, 8, 2), nn.ELU(inplace=True))
        self.fc = nn.Sequential(nn.Linear(32, 16), nn.ReLU(inplace=True), nn.Linear(16, 6))
        self.head = nn.Sequential(nn.Linear(12, 1), nn.Sigmoid())
        self.apply(self.init_weights)

    def init_weights(self, m):
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)

    def forward_once(self, x):
        output = self.cnn(x)
        output = output.view(output.size()[0], -1)
        return self.fc(output)

    def forward(self, a, b):
        a, b = self.forward_once(a), self.forward_once(b)
        return a, b, self.head(torch.cat((a, b), 1)).squeeze()


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        d = F.pairwise_distance(output1, output2, keepdim=True).squeeze(1)
        return torch.mean((1 - label) * torch.pow(d, 2) + label * torch.pow(torch.clamp(self.margin - d, min=0.0), 2))


random.seed(1)
torch.manual_seed(1)
labels = torch.arange(24) % 4
images = torch.randn(24, 1, 8, 8) * 0.3 + F.one_hot(labels, 4).float().repeat_interleave(2, 1)[:, None, None, :]
loader = DataLoader(Pairs(images, labels), batch_size=8, shuffle=True, drop_last=True)
net = SiameseNetwork()
contrastive, triplet, bce = ContrastiveLoss(), nn.TripletMarginLoss(margin=1.0, p=2), nn.BCELoss()
cosine, ranking = nn.CosineEmbeddingLoss(margin=0.2), nn.MarginRankingLoss(margin=0.1)
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3, momentum=0.5)
for epoch in range(3):
    for anchor, positive, negative, label in loader:
        optimizer.zero_grad()
        a, p, same = net(anchor, positive)
        n = net.forward_once(negative)
        parts = (contrastive(a, torch.where(label[:, None] > 0, n, p), label), triplet(a, p, n), bce(same, torch.ones_like(same)),
                 cosine(a, n, -torch.ones(8)), ranking(F.cosine_similarity(a, p), F.cosine_similarity(a, n), torch.ones(8)))
        loss = sum(parts)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), [round(x.item(), 5) for x in parts])
net.eval()
with torch.no_grad():
    e = F.normalize(net.forward_once(images), dim=1)
    similarity = e @ e.t()
    similarity.fill_diagonal_(-1)
    nearest = similarity.argmax(1)
    print((labels[nearest] == labels).float().mean().item(), torch.cdist(e[:3], e[3:6]).mean().item())
