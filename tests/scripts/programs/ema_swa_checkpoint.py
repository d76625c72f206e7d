"""Exponential averages, stochastic weight averaging with update_bn, gradient accumulation and checkpointing, resuming from files."""
import copy
import os
import tempfile

import torch
import torch.nn as nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.data import DataLoader, TensorDataset


class EMA:
    def __init__(self, model, decay):
        self.decay, self.shadow, self.backup = decay, {}, {}
        self.model = model
        for name, param in model.named_parameters():
            if param.requires_grad:
                self.shadow[name] = param.data.clone()

    def update(self):
        for name, param in self.model.named_parameters():
            if param.requires_grad:
                self.shadow[name] = (1.0 - self.decay) * param.data + self.decay * self.shadow[name]

    def apply_shadow(self):
        for name, param in self.model.named_parameters():
            self.backup[name] = param.data
            param.data = self.shadow[name]

    def restore(self):
        for name, param in self.model.named_parameters():
            param.data = self.backup[name]


class Model(nn.Module):
    def __init__(self, recompute):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh())
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.1), nn.Hardswish()) for _ in range(3)])
        self.tail = nn.Sequential(nn.Linear(12, 12), nn.Mish(), nn.Linear(12, 1))
        self.recompute = recompute

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.recompute and self.training else block(x))
        return (checkpoint_sequential(self.tail, 2, x, use_reentrant=False) if self.recompute else self.tail(x)).squeeze(-1)


def build(recompute=True):
    torch.manual_seed(5)
    model = Model(recompute)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    return model, optimizer, scheduler


def train_epoch(model, optimizer, loader, accumulation_steps=2, after=lambda: None):
    model.train()
    optimizer.zero_grad()
    total = 0.0
    for i, (inputs, labels) in enumerate(loader):
        loss = nn.functional.huber_loss(model(inputs), labels) / accumulation_steps
        loss.backward()
        total += loss.item()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            after()
    return total


torch.manual_seed(0)
x = torch.randn(48, 6)
data = TensorDataset(x, (x ** 2).sum(1) - 6)
for recompute in (False, True):
    model, optimizer, scheduler = build(recompute)
    loader = DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
    print(recompute, [train_epoch(model, optimizer, loader) for _ in range(2)])

model, optimizer, scheduler = build()
ema, swa_model = EMA(model, 0.9), AveragedModel(model)
swa_scheduler = SWALR(optimizer, anneal_strategy="linear", anneal_epochs=2, swa_lr=0.005)
loader = DataLoader(data, batch_size=8)
folder = tempfile.mkdtemp()
path = os.path.join(folder, 'checkpoint.pth.tar')
best, history = float('inf'), []
for epoch in range(6):
    loss = train_epoch(model, optimizer, loader, after=ema.update)
    if epoch >= 3:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    history.append(loss)
    if epoch == 2:
        torch.save({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best': best, 'optimizer': optimizer.state_dict(),
                    'scheduler': scheduler.state_dict(), 'rng': torch.get_rng_state()}, path)
        kept = copy.deepcopy(model.state_dict())
    best = min(best, loss)
print(history, optimizer.param_groups[0]['lr'])
update_bn(loader, swa_model)
model.eval(), swa_model.eval()
ema.apply_shadow()
with torch.no_grad():
    print('ema', nn.functional.mse_loss(model(x), data.tensors[1]).item())
    ema.restore()
    print('raw', nn.functional.mse_loss(model(x), data.tensors[1]).item(), 'swa', nn.functional.mse_loss(swa_model(x), data.tensors[1]).item())

resumed, optimizer2, scheduler2 = build()
state = torch.load(path, map_location='cpu', weights_only=True)
print(resumed.load_state_dict(state['state_dict']), state['epoch'])
optimizer2.load_state_dict(state['optimizer'])
scheduler2.load_state_dict(state['scheduler'])
torch.set_rng_state(state['rng'])
print(all(torch.equal(v, kept[k]) for k, v in resumed.state_dict().items()), scheduler2.get_last_lr(), len(state['optimizer']['state']))
print(train_epoch(resumed, optimizer2, loader), history[3])
os.remove(path)
