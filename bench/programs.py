"""Whole programs to time, as people write them in PyTorch: one training step, or one inference, each. bench/workloads.py has the small ones.

Every function takes the library and what its users do to the model before they run it (nothing, or torch.compile), makes model and data from the same seed,
and returns a step; a step returns the tensor of one number that its user would look at.
"""
from __future__ import annotations


def same(model): return model


# ---------------------------------------------------------------- residual networks
def resnet_classes(torch):
    """ResNet's two blocks and the network, after torchvision's."""
    nn, F = torch.nn, torch.nn.functional

    def conv(a, b, k, stride=1): return nn.Conv2d(a, b, k, stride, k // 2, bias=False)

    class Basic(nn.Module):
        expansion = 1

        def __init__(self, a, b, stride=1):
            super().__init__()
            self.conv1, self.bn1, self.conv2, self.bn2 = conv(a, b, 3, stride), nn.BatchNorm2d(b), conv(b, b, 3), nn.BatchNorm2d(b)
            self.short = nn.Sequential() if stride == 1 and a == b else nn.Sequential(conv(a, b, 1, stride), nn.BatchNorm2d(b))

        def forward(self, x):
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + self.short(x))

    class Bottleneck(nn.Module):
        expansion = 4

        def __init__(self, a, b, stride=1):
            super().__init__()
            self.conv1, self.bn1, self.conv2, self.bn2 = conv(a, b, 1), nn.BatchNorm2d(b), conv(b, b, 3, stride), nn.BatchNorm2d(b)
            self.conv3, self.bn3 = conv(b, 4 * b, 1), nn.BatchNorm2d(4 * b)
            self.short = nn.Sequential() if stride == 1 and a == 4 * b else nn.Sequential(conv(a, 4 * b, 1, stride), nn.BatchNorm2d(4 * b))

        def forward(self, x):
            y = F.relu(self.bn1(self.conv1(x)))
            y = F.relu(self.bn2(self.conv2(y)))
            return F.relu(self.bn3(self.conv3(y)) + self.short(x))

    class ResNet(nn.Module):
        def __init__(self, block, depths, classes):
            super().__init__()
            self.conv1, self.bn1, self.pool = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, 1)
            width, stages = 64, []
            for k, depth in enumerate(depths):
                for i in range(depth):
                    stages.append(block(width, 64 << k, 2 if k and i == 0 else 1))
                    width = (64 << k) * block.expansion
            self.stages, self.fc = nn.Sequential(*stages), nn.Linear(width, classes)

        def forward(self, x):
            x = self.pool(F.relu(self.bn1(self.conv1(x))))           # (B, 64, H/4, W/4)
            return self.fc(self.stages(x).mean((2, 3)))              # (B, classes)
    return Basic, Bottleneck, ResNet


def resnet18(torch, compiled=same):
    """ResNet-18, a training step on 32 images of 32×32, SGD with momentum."""
    torch.manual_seed(0)
    Basic, _, ResNet = resnet_classes(torch)
    model = compiled(ResNet(Basic, (2, 2, 2, 2), 10))
    return classifying(torch, model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9), torch.randn(32, 3, 32, 32), 10)


def resnet50_1(torch, compiled=same): return resnet50(torch, 1, compiled)
def resnet50_8(torch, compiled=same): return resnet50(torch, 8, compiled)


def resnet50(torch, batch, compiled):
    """ResNet-50, inference on images of 224×224."""
    torch.manual_seed(0)
    _, Bottleneck, ResNet = resnet_classes(torch)
    model = compiled(ResNet(Bottleneck, (3, 4, 6, 3), 1000).eval())
    return inferring(torch, model, torch.randn(batch, 3, 224, 224))


def classifying(torch, model, optimizer, x, classes):
    y = torch.randint(0, classes, (x.shape[0],))

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()
    return step


def inferring(torch, model, x):
    def step():
        with torch.no_grad(): return model(x).sum()
    return step


# ---------------------------------------------------------------- transformers
def gpt_class(torch):
    """A GPT after nanoGPT: learned positions, pre-norm blocks, the embedding as output layer; with a cache of keys and values for decoding."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x, cache=None):
            B, T, C = x.shape
            q, k, v = [t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in self.qkv(self.ln1(x)).split(C, 2)]      # (B, heads, T, size)
            if cache is not None:
                if cache: k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
                cache[:] = k, v
            y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
            x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self, vocabulary, context, width, depth, heads):
            super().__init__()
            self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks, self.ln = nn.ModuleList([Block(width, heads) for _ in range(depth)]), nn.LayerNorm(width)
            for table in (self.words, self.places): nn.init.normal_(table.weight, std=0.02)

        def forward(self, ids, caches=None, start=0):
            x = self.words(ids) + self.places(torch.arange(start, start + ids.shape[1]))
            for k, block in enumerate(self.blocks): x = block(x, None if caches is None else caches[k])
            return F.linear(self.ln(x), self.words.weight)           # (B, T, vocabulary)
    return GPT


def gpt(torch, compiled=same):
    """GPT of 4 layers, 256 wide, a training step on 16 texts of 128 letters, AdamW."""
    torch.manual_seed(0)
    model = compiled(gpt_class(torch)(65, 128, 256, 4, 4))
    optimizer, ids = torch.optim.AdamW(model.parameters(), 1e-3), torch.randint(0, 65, (16, 129))

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).reshape(-1, 65), ids[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.detach()
    return step


def gpt2_prefill(torch, compiled=same):
    """GPT-2 of 124 million parameters: logits of 64 words."""
    torch.manual_seed(0)
    return inferring(torch, compiled(gpt_class(torch)(50257, 1024, 768, 12, 12).eval()), torch.randint(0, 50257, (1, 64)))


def gpt2_decode(torch, compiled=same):
    """GPT-2 of 124 million parameters: one more word after 64, keys and values cached."""
    torch.manual_seed(0)
    model, ids = gpt_class(torch)(50257, 1024, 768, 12, 12).eval(), torch.randint(0, 50257, (1, 64))
    with torch.no_grad():
        start: list[list] = [[] for _ in range(12)]
        model(ids, start)
    model = compiled(model)

    def step():
        with torch.no_grad(): return model(ids[:, :1], [list(c) for c in start], 64)[0, -1].argmax()
    return step


def vit_tiny(torch, compiled=same):
    """ViT-tiny, a training step on 4 images of 224×224, AdamW."""
    nn = torch.nn
    torch.manual_seed(0)

    class ViT(nn.Module):
        def __init__(self, width=192, depth=12, heads=3, classes=100):
            super().__init__()
            self.patches, self.token, self.places = nn.Conv2d(3, width, 16, 16), nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, 197, width) * 0.02)
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            self.encoder, self.ln, self.head = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False), nn.LayerNorm(width), nn.Linear(width, classes)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)           # (B, 196, width)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            return self.head(self.ln(self.encoder(x))[:, 0])
    model = compiled(ViT())
    return classifying(torch, model, torch.optim.AdamW(model.parameters(), 1e-3), torch.randn(4, 3, 224, 224), 100)


# ---------------------------------------------------------------- others
def lstm_lm(torch, compiled=same):
    """A language model of two LSTM layers, 256 wide, a training step on 20 texts of 35 words, SGD with clipped gradients."""
    nn = torch.nn
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self, vocabulary=2000, width=256):
            super().__init__()
            self.words, self.lstm, self.out = nn.Embedding(vocabulary, width), nn.LSTM(width, width, 2), nn.Linear(width, vocabulary)

        def forward(self, ids, state):
            y, state = self.lstm(self.words(ids), state)             # (T, B, width)
            return self.out(y), state
    model, ids = compiled(Model()), torch.randint(0, 2000, (36, 20))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    held = [(torch.zeros(2, 20, 256), torch.zeros(2, 20, 256))]

    def step():
        optimizer.zero_grad()
        y, state = model(ids[:-1], tuple(s.detach() for s in held[0]))
        loss = nn.functional.cross_entropy(y.reshape(-1, 2000), ids[1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        held[0] = state
        return loss.detach()
    return step


def dcgan(torch, compiled=same):
    """DCGAN on 16 images of 64×64: one step of the discriminator, one of the generator."""
    nn = torch.nn
    torch.manual_seed(0)

    def up(a, b, *how): return [nn.ConvTranspose2d(a, b, 4, *how, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    def down(a, b): return [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(*up(100, 256, 1, 0), *up(256, 128, 2, 1), *up(128, 64, 2, 1), *up(64, 32, 2, 1), nn.ConvTranspose2d(32, 3, 4, 2, 1, bias=False), nn.Tanh())

        def forward(self, noise): return self.main(noise)            # (B, 100, 1, 1) to (B, 3, 64, 64)

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(nn.Conv2d(3, 32, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True), *down(32, 64), *down(64, 128), *down(128, 256),
                                      nn.Conv2d(256, 1, 4, 1, 0, bias=False), nn.Sigmoid())

        def forward(self, images): return self.main(images).flatten()   # (B,)
    G, D = compiled(Generator()), compiled(Discriminator())
    toG, toD = (torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (G, D))
    real, noise, ones, zeros, bce = torch.rand(16, 3, 64, 64) * 2 - 1, torch.randn(16, 100, 1, 1), torch.ones(16), torch.zeros(16), nn.BCELoss()

    def step():
        D.zero_grad()
        fake = G(noise)
        loss = bce(D(real), ones)
        loss.backward()
        bce(D(fake.detach()), zeros).backward()
        toD.step()
        G.zero_grad()
        bce(D(fake), ones).backward()
        toG.step()
        return loss.detach()
    return step


def vae(torch, compiled=same):
    """A variational autoencoder 784-400-20, a training step on 128 digits, Adam."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(0)

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.mean, self.spread, self.fc3, self.fc4 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20), nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x):
            h = F.relu(self.fc1(x))
            mean, logvar = self.mean(h), self.spread(h)
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
            return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, logvar
    model, x = compiled(VAE()), torch.rand(128, 784)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        y, mean, logvar = model(x)
        loss = F.binary_cross_entropy(y, x, reduction="sum") - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        loss.backward()
        optimizer.step()
        return loss.detach()
    return step


def unet(torch, compiled=same):
    """A U-Net of three levels, a training step on 4 images of 96×96, Adam."""
    nn = torch.nn
    torch.manual_seed(0)

    def twice(a, b): return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self, widths=(16, 32, 64), classes=2):
            super().__init__()
            self.down = nn.ModuleList([twice(a, b) for a, b in zip((3, *widths), widths)])
            self.rise = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths, widths[1:])])
            self.up, self.head = nn.ModuleList([twice(2 * a, a) for a in widths[:-1]]), nn.Conv2d(widths[0], classes, 1)

        def forward(self, x):
            kept = []
            for level in self.down:
                x = level(nn.functional.max_pool2d(x, 2) if kept else x)
                kept.append(x)
            for k in reversed(range(len(self.up))): x = self.up[k](torch.cat([kept[k], self.rise[k](x)], 1))
            return self.head(x)
    model, x, y = compiled(UNet()), torch.randn(4, 3, 96, 96), torch.randint(0, 2, (4, 96, 96))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()
    return step


def chain(torch, compiled=same):
    """Pointwise operations, a norm and a softmax on 4 million floats."""
    F = torch.nn.functional
    torch.manual_seed(0)
    x, r, w, b = torch.randn(4096, 1024), torch.randn(4096, 1024), torch.ones(1024), torch.zeros(1024)

    @compiled
    def forward(x, r): return torch.softmax(F.layer_norm(F.gelu(x * 0.5 + r) * torch.sigmoid(r), (1024,), w, b), 1).sum()

    def step():
        with torch.no_grad(): return forward(x, r)
    return step
