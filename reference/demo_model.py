"""A small pixel diffusion model over thumbnails of the demo photographs.

It decides the layout and colours of the generated demo images at 32 px short
side; `demo_patches.py` adds the detail. Trained on 32 photographs for minutes
on one core it is weak on purpose: its scenes do not hold together.

Diffusion with the cosine schedule and v-prediction (Nichol & Dhariwal 2021,
arXiv:2102.09672; Salimans & Ho 2022, arXiv:2202.00512); DDIM-type sampling with
fresh noise (Song et al. 2021, arXiv:2010.02502, η = 1).
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

THUMBNAIL_PX = 32
BATCH = 16
CHANNELS = 32


class Block(nn.Module):
    """Two 3×3 convolutions with the noise level added between; residual."""

    def __init__(self, inputs, outputs, level_features):
        super().__init__()
        self.norm0 = nn.GroupNorm(8, inputs)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.level = nn.Linear(level_features, outputs)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv1.weight)
        nn.init.zeros_(self.conv1.bias)

    def forward(self, x, level):
        h = self.conv0(functional.silu(self.norm0(x))) + self.level(level)[:, :, None, None]
        return self.skip(x) + self.conv1(functional.silu(self.norm1(h)))


class LayoutNet(nn.Module):
    """U-Net over three resolutions: B×3×H×W and noise level B → v, B×3×H×W."""

    def __init__(self, width=CHANNELS):
        super().__init__()
        features = 4 * width
        self.frequencies = torch.exp(torch.linspace(0, math.log(200.0), 32))
        self.embed = nn.Sequential(
            nn.Linear(64, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
        )
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            [Block(width, width, features), Block(width, 2 * width, features)]
        )
        self.middle = nn.ModuleList([Block(2 * width, 2 * width, features) for _ in range(2)])
        self.up = nn.ModuleList(
            [Block(4 * width, width, features), Block(2 * width, width, features)]
        )
        self.head = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x, t):
        angles = t[:, None] * self.frequencies
        level = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.stem(x)
        skips = []
        for block in self.down:
            h = block(h, level)
            skips.append(h)
            h = functional.avg_pool2d(h, 2)
        for block in self.middle:
            h = block(h, level)
        for block in self.up:
            h = functional.interpolate(h, scale_factor=2, mode="nearest")
            h = block(torch.cat([h, skips.pop()], 1), level)
        return self.head(h)


def _crops(images, rng):
    """BATCH random crops as B×3×32×32 in [−1, 1]; mirrored half of the time."""
    batch = []
    for _ in range(BATCH):
        image = images[rng.integers(len(images))]
        side = int(min(image.size) * rng.uniform(0.55, 1.0))
        left = int(rng.integers(image.width - side + 1))
        top = int(rng.integers(image.height - side + 1))
        crop = image.resize(
            (THUMBNAIL_PX, THUMBNAIL_PX), Image.BOX, (left, top, left + side, top + side)
        )
        pixels = np.asarray(crop, np.float32) / 127.5 - 1
        batch.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)  # BHWC → BCHW


def train(photos, steps, seed):
    """The averaged weights of a LayoutNet after `steps` Adam steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    small = [p.resize((p.width // 2, p.height // 2), Image.BOX) for p in photos]
    net, average = LayoutNet(), LayoutNet()
    average.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), lr=6e-4)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 6e-4 * min(1.0, (step + 1) / 200) * (1 - 0.9 * step / steps)
        x = _crops(small, rng)
        t = torch.rand(BATCH)
        signal = torch.cos(t * math.pi / 2)[:, None, None, None]
        noise_scale = torch.sin(t * math.pi / 2)[:, None, None, None]
        noise = torch.randn_like(x)
        predicted = net(signal * x + noise_scale * noise, t)
        loss = (predicted - (signal * noise - noise_scale * x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            decay = min(0.998, (step + 1) / (step + 10))
            for slow, fast in zip(average.parameters(), net.parameters()):
                slow.lerp_(fast, 1 - decay)
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    return average.eval()


@torch.no_grad()
def sample(net, height, width, steps, generator):
    """One layout, 3×height×width in [0, 1]; sizes are multiples of 4."""
    x = torch.randn((1, 3, height, width), generator=generator)
    times = torch.linspace(0.995, 0.0, steps + 1)
    for now, following in zip(times[:-1], times[1:]):
        signal, noise_scale = math.cos(now * math.pi / 2), math.sin(now * math.pi / 2)
        v = net(x, now.reshape(1))
        clean = (signal * x - noise_scale * v).clamp(-1, 1)
        noise = (x - signal * clean) / noise_scale
        next_signal = math.cos(following * math.pi / 2)
        next_scale = math.sin(following * math.pi / 2)
        # Fresh noise for the whole variance that the exact posterior allows.
        variance = (next_scale / noise_scale) ** 2 * (1 - (signal / next_signal) ** 2)
        fresh = math.sqrt(max(variance, 0.0))
        kept = math.sqrt(max(next_scale**2 - fresh**2, 0.0))
        x = next_signal * clean + kept * noise
        x = x + fresh * torch.randn(x.shape, generator=generator)
    return ((x[0] + 1) / 2).clamp(0, 1)
