"""CIFAR ResNet of He et al. 2016 (arXiv:1512.03385, section 4.2) with shortcuts of kind A, as the public checkpoints hold it.

6n + 2 layers: a 3×3 convolution to 16 channels, three groups of n blocks with 16, 32, 64 channels, global average pooling
and a linear classifier. Where a group begins with stride 2 its shortcut takes every second row and column and pads the
channels with zeros, a quarter of the new width before and a quarter after (that placing is the checkpoints', from the
repository akamaster/pytorch_resnet_cifar10; the paper leaves it open).
"""

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """B×C×H×W → B×width×H/stride×W/stride: two 3×3 convolutions, each with BatchNorm, and the shortcut."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.stride = 1 if channels == width else 2
        self.pad = (width - channels) // 2
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()

    def forward(self, x):
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.pad:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))
        return self.relu2(branch + shortcut)


class CifarResNet(nn.Module):
    """B×3×32×32 → B×64 pooled features; `linear` gives the ten class scores from them."""

    def __init__(self, depth: int):
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers, found {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        channels = 16
        for group, width in enumerate((16, 32, 64), start=1):
            layers = []
            for _ in range(blocks):
                layers.append(Block(channels, width))
                channels = width
            setattr(self, f"layer{group}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean((2, 3))
