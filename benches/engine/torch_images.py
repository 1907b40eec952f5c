"""The families over images, with torchvision's names where it has them."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from torch_blocks import outputs


class ResidualBlock(nn.Module):
    """torchvision's `BasicBlock` and `Bottleneck`."""

    def __init__(self, before, channels, stride, bottleneck):
        super().__init__()
        given = 4 * channels if bottleneck else channels
        kernels = [(channels, 1, 1), (channels, 3, stride), (given, 1, 1)]
        self.depth = 0
        inputs = before
        for self.depth, (width, kernel, step) in enumerate(
            kernels if bottleneck else [(channels, 3, stride), (channels, 3, 1)], 1
        ):
            conv = nn.Conv2d(inputs, width, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{self.depth}", conv)
            self.add_module(f"bn{self.depth}", nn.BatchNorm2d(width))
            inputs = width
        self.downsample = None
        if stride != 1 or before != given:
            self.downsample = nn.Sequential(nn.Conv2d(before, given, 1, stride, bias=False), nn.BatchNorm2d(given))

    def forward(self, x):
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = F.relu(y, inplace=True) if index < self.depth else y
        return F.relu(y + (self.downsample(x) if self.downsample else x), inplace=True)


class Resnet(nn.Module):
    """torchvision's `ResNet`, with a stem for small images too."""

    def __init__(self, spec, task):
        super().__init__()
        depths, widths = spec.get("depths", [2, 2, 2, 2]), spec.get("channels", [64, 128, 256, 512])
        self.large, bottleneck = spec.get("stem") == "large", spec.get("block") == "bottleneck"
        kernel, stride = (7, 2) if self.large else (3, 1)
        self.shape, self.stages, before = spec["input"], len(depths), widths[0]
        self.conv1 = nn.Conv2d(self.shape[0], before, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for stage, (depth, width) in enumerate(zip(depths, widths)):
            blocks = []
            for index in range(depth):
                blocks.append(ResidualBlock(before, width, 2 if stage and not index else 1, bottleneck))
                before = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, outputs(task))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x.view(-1, *self.shape))), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1) if self.large else x
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class UnetLevel(nn.Module):
    """Two convolutions, each normalised and rectified."""

    def __init__(self, inputs, channels, norm):
        super().__init__()
        self.normed = norm != "none"
        for index, width in ((1, inputs), (2, channels)):
            self.add_module(f"conv{index}", nn.Conv2d(width, channels, 3, padding=1, bias=not self.normed))
            if self.normed:
                batch, groups = norm == "batch", math.gcd(8, channels)
                self.add_module(f"norm{index}", nn.BatchNorm2d(channels) if batch else nn.GroupNorm(groups, channels))

    def forward(self, x):
        for index in (1, 2):
            x = getattr(self, f"conv{index}")(x)
            x = F.relu(getattr(self, f"norm{index}")(x) if self.normed else x, inplace=True)
        return x


class Unet(nn.Module):
    def __init__(self, spec, task):
        super().__init__()
        depth, channels, norm = spec.get("depth", 3), spec.get("channels", 16), spec.get("norm", "batch")
        self.shape, widths = spec["input"], [channels << level for level in range(depth + 1)]
        before = [self.shape[0], *widths]
        self.down = nn.ModuleList([UnetLevel(before[level], widths[level], norm) for level in range(depth)])
        self.middle = UnetLevel(before[depth], widths[depth], norm)
        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            up = UnetLevel(2 * widths[level], widths[level], norm)
            up.upconv = nn.ConvTranspose2d(widths[level + 1], widths[level], 2, 2)
            self.up.append(up)
        height_width = self.shape[1] * self.shape[2]
        self.head = nn.Conv2d(channels, outputs(task) // height_width, 1)

    def forward(self, x):
        x, skips = x.view(-1, *self.shape), []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for level in self.up:
            x = level(torch.cat([skips.pop(), level.upconv(x)], 1))
        return self.head(x)
