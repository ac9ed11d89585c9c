"""A very small ConvNet for images of 8 to 96 px, quick on a CPU.

Plain 3x3 convolutions with batch norm and ReLU, see `halving_layers`; widths double towards `width`, the
last. Both were measured to learn most in the same time, against fewer, wider, residual and full-size convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tacit.core.nn import conv_block
from tacit.modalities.image.encoder import MapEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.layers import halving_layers


class ConvNet(MapEncoder):
    def __init__(self, name: str, spec: ImageSpec, *, width: int = 128) -> None:
        layers = halving_layers(spec.size, width)
        stride = math.prod(step for step, _ in layers)
        side = -(-spec.size // stride)
        super().__init__(
            name, spec, dim=width, n_depths=len(layers), grid=(side, side), stride=stride, options={"width": width}
        )
        inputs = [spec.channels, *(outputs for _, outputs in layers)]
        self.stages = nn.ModuleList(
            conv_block(before, outputs, step) for before, (step, outputs) in zip(inputs, layers, strict=False)
        )
        self.mask_token = nn.Parameter(torch.zeros(spec.channels), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        maps = []
        x = x.contiguous(memory_format=torch.channels_last)  # 1.1 to 1.35 times as fast on a CPU
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
