"""Small ConvNets of volumes, quick on a CPU.

SliceNet is 2.5-D: every `NEIGHBOURS` slices are the channels of one picture, which a 2-D ConvNet reads (Roth et al.
2014, "A new 2.5D representation for lymph node detection", arXiv:1406.2639, with neighbouring slices in place of planes
at right angles). Its map has the places of all pictures one after the other, and pooling is over all of them.

VolumeNet convolves in three dimensions and halves all axes; where slices are further apart than voxels within one,
their axis is halved only once the others have caught up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tacit.core.nn import conv_block
from tacit.modalities.layers import NARROWEST, SMALLEST_MAP, halving_layers
from tacit.modalities.volume.encoder import MapEncoder
from tacit.modalities.volume.spec import VolumeSpec

NEIGHBOURS = 3  # slices of a picture: as many as the channels of colour


class SliceNet(MapEncoder):
    def __init__(self, name: str, spec: VolumeSpec, *, width: int = 128) -> None:
        layers = halving_layers(spec.side, width)
        across = 1
        for step, _ in layers:
            across *= step
        stride = (NEIGHBOURS, across, across)
        super().__init__(name, spec, dim=width, n_depths=len(layers), stride=stride, options={"width": width})
        inputs = [NEIGHBOURS, *(outputs for _, outputs in layers)]
        self.stages = nn.ModuleList(
            conv_block(before, outputs, step) for before, (step, outputs) in zip(inputs, layers, strict=False)
        )
        self.mask_token = nn.Parameter(torch.zeros(1), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        P = self.grid[0]
        x = nn.functional.pad(x, (0, 0, 0, 0, 0, P * NEIGHBOURS - x.shape[2]))  # [B 1 3P H W]
        x = x.reshape(-1, NEIGHBOURS, *x.shape[3:]).contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)  # [B*P F_i H_i W_i]
            maps.append(x.view(-1, P, *x.shape[1:]).transpose(1, 2))
        return maps

    pooling = "mean over slices, rows and columns"


class VolumeNet(MapEncoder):
    def __init__(self, name: str, spec: VolumeSpec, *, width: int = 128) -> None:
        steps = halvings(spec)
        stride = [1, 1, 1]
        for step in steps:
            stride = [before * now for before, now in zip(stride, step, strict=True)]
        super().__init__(
            name,
            spec,
            dim=width,
            n_depths=len(steps),
            stride=(stride[0], stride[1], stride[2]),
            options={"width": width},
        )
        widths = [max(NARROWEST, width >> (len(steps) - 1 - number)) for number in range(len(steps))]
        self.stages = nn.ModuleList(
            _block(before, after, step) for before, after, step in zip([1, *widths], widths, steps, strict=False)
        )
        self.mask_token = nn.Parameter(torch.zeros(1), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        maps = []
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    pooling = "mean over slices, rows and columns"


def halvings(spec: VolumeSpec) -> list[tuple[int, int, int]]:
    """The strides of each convolution: until a map has at most `SMALLEST_MAP` places along each axis."""
    places, apart = list(spec.shape), list(spec.spacing)
    steps: list[tuple[int, int, int]] = []
    while max(places) > SMALLEST_MAP or not steps:
        finest = min(mm for mm, n in zip(apart, places, strict=True) if n > SMALLEST_MAP) if max(places) > 4 else 0.0
        halved = [n > SMALLEST_MAP and mm < 1.5 * finest for n, mm in zip(places, apart, strict=True)]
        places = [-(-n // 2) if half else n for n, half in zip(places, halved, strict=True)]
        apart = [2 * mm if half else mm for mm, half in zip(apart, halved, strict=True)]
        steps.append((1 + halved[0], 1 + halved[1], 1 + halved[2]))
    return steps


def _block(inputs: int, outputs: int, step: tuple[int, int, int]) -> nn.Sequential:
    """A 3x3x3 convolution with batch norm and ReLU."""
    convolution = nn.Conv3d(inputs, outputs, 3, step, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
