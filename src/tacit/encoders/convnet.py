"""A very small residual ConvNet for images of 8 to 96 px, quick on a CPU.

As many stages as halve the image to a map of about 4 x 4; each is two 3x3 convolutions, the second with a shortcut.
Up to 32 px the first stage keeps the full size. Widths double towards `width`, the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tacit.encoders.base import MapEncoder
from tacit.spec import ImageSpec

SMALLEST_MAP = 4
FULL_SIZE_UP_TO = 32  # px; above, a stage at full size would cost more than all others together
NARROWEST = 32  # channels


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reduce = block(inputs, outputs, stride)
        self.refine = block(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        refined: Tensor = self.refine(x)
        return x + refined


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ConvNet(MapEncoder):
    def __init__(self, name: str, spec: ImageSpec, *, width: int = 128) -> None:
        halvings = max(0, (spec.size // SMALLEST_MAP).bit_length() - 1)
        stride = 2**halvings
        side = -(-spec.size // stride)
        strides = [1] * (spec.size <= FULL_SIZE_UP_TO) + [2] * halvings
        super().__init__(
            name, spec, dim=width, n_depths=len(strides), grid=(side, side), stride=stride, options={"width": width}
        )
        widths = [max(NARROWEST, width >> remaining) for remaining in range(len(strides) - 1, 0, -1)] + [width]
        pairs = pairwise([spec.channels, *widths])
        self.stages = nn.ModuleList(Stage(a, b, s) for (a, b), s in zip(pairs, strides, strict=True))
        self.mask_token = nn.Parameter(torch.zeros(spec.channels), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
