"""In the style of DDPM, ViT and CLIP snippets: sinusoidal embeddings, patch embedding, einsum attention, GroupNorm blocks, EMA, contrastive loss."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half_dim = self.dim // 2
        embeddings = math.log(10000) / (half_dim - 1)
        embeddings = torch.exp(torch.arange(half_dim, device=time.device) * -embeddings)
        embeddings = time[:, None] * embeddings[None, :]
        return torch.cat((embeddings.sin(), embeddings.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, dim, dim_out, time_dim, groups=2):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, dim_out * 2))
        self.proj = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, dim_out)
        self.res = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, t):
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.proj(x)) * (scale + 1) + shift
        return F.silu(h) + self.res(x)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(SinusoidalPositionEmbeddings(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16))
        self.a, self.b, self.c = Block(1, 4, 16), Block(4, 8, 16), Block(12, 4, 16)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x, t):
        t = self.time(t)
        h = self.a(x, t)
        m = self.b(F.avg_pool2d(h, 2), t)
        return self.out(self.c(torch.cat((h, F.interpolate(m, scale_factor=2, mode='nearest')), 1), t))


T = 20
betas = torch.linspace(0.0001, 0.02, T)
alphas = 1. - betas
alphas_cumprod = torch.cumprod(alphas, axis=0)
alphas_cumprod_prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
posterior_variance = betas * (1. - alphas_cumprod_prev) / (1. - alphas_cumprod)


def extract(a, t, x_shape):
    return a.gather(-1, t.cpu()).reshape(t.shape[0], *((1,) * (len(x_shape) - 1))).to(t.device)


net = Denoiser()
ema = copy.deepcopy(net).eval().requires_grad_(False)
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
images = torch.sigmoid(torch.randn(16, 1, 8, 8)).mul(2).sub(1)
for step in range(6):
    t = torch.randint(0, T, (16,)).long()
    noise = torch.randn_like(images)
    x_noisy = extract(alphas_cumprod.sqrt(), t, images.shape) * images + extract((1. - alphas_cumprod).sqrt(), t, images.shape) * noise
    loss = F.smooth_l1_loss(noise, net(x_noisy, t))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for p, q in zip(ema.parameters(), net.parameters()):
            p.lerp_(q, 0.1)
    print('ddpm', step, loss.item())


@torch.no_grad()
def p_sample_loop(shape):
    img = torch.randn(shape)
    for i in reversed(range(0, T)):
        t = torch.full((shape[0],), i, dtype=torch.long)
        mean = extract(alphas.rsqrt(), t, shape) * (img - extract(betas, t, shape) * ema(img, t) / extract((1. - alphas_cumprod).sqrt(), t, shape))
        img = mean if i == 0 else mean + torch.sqrt(extract(posterior_variance, t, shape)) * torch.randn_like(img)
    return img


sample = p_sample_loop((2, 1, 8, 8))
print(sample.mean().item(), sample.std().item())


class ViT(nn.Module):
    def __init__(self, dim=12, heads=3, depth=2):
        super().__init__()
        self.patch = nn.Conv2d(1, dim, kernel_size=4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.pos = nn.Parameter(torch.zeros(1, 5, dim))
        self.layers = nn.ModuleList([nn.ModuleList([nn.LayerNorm(dim), nn.Linear(dim, dim * 3, bias=False), nn.Linear(dim, dim), nn.LayerNorm(dim),
                                                    nn.Sequential(nn.Linear(dim, 24), nn.GELU(), nn.Linear(24, dim))]) for _ in range(depth)])
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
        for n1, qkv, out, n2, mlp in self.layers:
            b, n, d = x.shape
            q, k, v = map(lambda t: t.reshape(b, n, self.heads, d // self.heads).permute(0, 2, 1, 3), qkv(n1(x)).chunk(3, dim=-1))
            attn = torch.einsum('bhid,bhjd->bhij', q, k).mul((d // self.heads) ** -0.5).softmax(dim=-1)
            x = x + out(torch.einsum('bhij,bhjd->bhid', attn, v).permute(0, 2, 1, 3).reshape(b, n, d))
            x = x + mlp(n2(x))
        return F.normalize(x[:, 0], dim=-1)


vit = ViT()
opt = torch.optim.Adam(vit.parameters(), lr=1e-3)
for step in range(5):
    a, b = images, images + 0.1 * torch.randn_like(images)
    za, zb = vit(a), vit(b.flip(-1) if step % 2 else b.roll(1, dims=2))
    logits = vit.temperature.exp() * za @ zb.t()
    labels = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    vit.temperature.data.clamp_(0, 4.6052)
    print('clip', step, loss.item())
