"""Knowledge distillation, frozen layers, forward hooks that take features, KLDiv with temperature, two parameter groups, OneCycleLR, mixup."""
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(3)
np.random.seed(3)
torch.set_default_dtype(torch.float32)
teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 5))
student = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.SiLU(), nn.Linear(8, 5))
x = torch.randn(60, 4, 4)
y = (x.flatten(1)[:, :5] + 0.1 * torch.randn(60, 5)).argmax(dim=-1)

features = {}


def get_features(name):
    def hook(module, input, output):
        features[name] = output.detach()
    return hook


teacher_handle = teacher[2].register_forward_hook(get_features('teacher'))
pre = student.register_forward_pre_hook(lambda m, args: (args[0] * 1.0,))
grads = []
back = student[3].register_full_backward_hook(lambda m, gi, go: grads.append((gi[0].norm().item(), go[0].norm().item())))


def mixup_data(x, y, alpha=0.4):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index, :], y, y[index], lam


optimizer = torch.optim.AdamW([{'params': teacher[1].parameters(), 'lr': 1e-2}, {'params': [p for l in (3, 4) for p in teacher[l].parameters()]}], lr=5e-3)
for step in range(15):
    mixed, y_a, y_b, lam = mixup_data(x, y)
    out = teacher(mixed)
    loss = lam * F.cross_entropy(out, y_a) + (1 - lam) * F.cross_entropy(out, y_b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print('teacher', loss.item(), (teacher(x).argmax(1) == y).float().mean().item())
for p in teacher.parameters():
    p.requires_grad = False
teacher.eval()
print(sum(p.numel() for p in teacher.parameters() if p.requires_grad), features['teacher'].shape)
T, alpha = 4.0, 0.7
projection = nn.Linear(8, 32, bias=False)
optimizer = torch.optim.SGD([{'params': student.parameters()}, {'params': projection.parameters(), 'lr': 0.01}], lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=12)
kd = nn.KLDivLoss(reduction='batchmean', log_target=False)
for step in range(12):
    with torch.no_grad():
        teacher_logits = teacher(x)
    hidden = student[2](student[1](student[0](x)))
    student_logits = student(x)
    soft = kd(F.log_softmax(student_logits / T, dim=1), F.softmax(teacher_logits / T, dim=1)) * (alpha * T * T)
    hard = F.cross_entropy(student_logits, y, weight=torch.tensor([1., 2., 1., 1., 0.5])) * (1. - alpha)
    hint = F.mse_loss(projection(hidden), features['teacher'])
    loss = soft + hard + 0.1 * hint
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(student.parameters(), 0.5)
    optimizer.step()
    scheduler.step()
    if step % 4 == 3:
        print(step, loss.item(), soft.item(), hard.item(), hint.item(), scheduler.get_last_lr())
teacher_handle.remove()
pre.remove()
back.remove()
print(len(grads), grads[-1])
frozen = copy.deepcopy(student)
with torch.no_grad():
    student[1].weight.zero_()
print((frozen(x).argmax(1) == y).float().mean().item(), student(x).std(0).sum().item())
