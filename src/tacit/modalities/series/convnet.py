"""A residual ConvNet over time, after Wang, Yan & Oates 2017, "Time series classification from scratch with deep neural
networks", arXiv:1611.06455.

Blocks of three convolutions of 8, 5 and 3 steps with batch norm and ReLU beside a shortcut. Departures: kernels of odd
width, strides where series are long, so that a window has a few dozen tokens, and dilations in later blocks for a wide
receptive field (Bai, Kolter & Koltun 2018, arXiv:1803.01271). Steps after the end of a series are 0 in every feature
map, so that padding has no effect.

In the causal variant no token depends on later steps: each convolution ends with its own last step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tacit.modalities.series.encoder import SeriesEncoder
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.windows import counted

KERNELS = (7, 5, 3)
BLOCKS = 3
TOKENS = 24  # of a window, at least, where there are strides


def halvings(spec: SeriesSpec) -> int:
    """Number of blocks with stride 2, such that a window keeps `TOKENS` tokens."""
    return min(BLOCKS, max(0, (spec.length // TOKENS).bit_length() - 1))


class SeriesConvNet(SeriesEncoder):
    def __init__(self, name: str, spec: SeriesSpec, *, width: int = 32, dim: int = 256) -> None:
        halved = halvings(spec)
        steps = [2 if number < halved else 1 for number in range(BLOCKS)]
        strides = [2 ** sum(step == 2 for step in steps[: number + 1]) for number in range(BLOCKS)]
        super().__init__(name, spec, dim=dim, strides=[*strides, strides[-1]], options={"width": width, "dim": dim})
        self.causal = name == "series_causal"
        channels = [spec.channels, width, 2 * width, 2 * width]
        self.blocks = nn.ModuleList(
            Block(channels[number], channels[number + 1], step, 2**number, causal=self.causal)
            for number, step in enumerate(steps)
        )
        self.leave = nn.Linear(channels[-1], dim)

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        states = []
        x = x.transpose(1, 2)  # [B C T]
        before = 1
        for block, stride in zip(self.blocks, self.strides, strict=False):
            x = block(x, frames, before)
            states.append(x.transpose(1, 2))
            before = stride
        return [*states, nn.functional.gelu(self.leave(states[-1]))]


class Block(nn.Module):
    """Three convolutions beside a shortcut; the first has the stride `step`."""

    def __init__(self, inputs: int, outputs: int, step: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.step, self.causal = step, causal
        self.dilations = [1, dilation, dilation]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(
                inputs if number == 0 else outputs,
                outputs,
                kernel,
                step if number == 0 else 1,
                dilation=self.dilations[number],
                bias=False,
            )
            for number, kernel in enumerate(KERNELS)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(outputs) for _ in KERNELS)
        self.shortcut = nn.Conv1d(inputs, outputs, step, step, bias=False)
        self.shortcut_norm = nn.BatchNorm1d(outputs)
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")

    def forward(self, x: Tensor, frames: Tensor | None, before: int) -> Tensor:
        """Map features [B C T] of `before` steps each to [B C T/step]; the first `frames` [B] steps are valid."""
        stride = before * self.step
        places = x.shape[2] // self.step
        there = None if frames is None else counted(-(-frames // stride), places)[:, None]  # [B 1 T/step]
        y = x
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            reach = (KERNELS[number] - 1) * self.dilations[number]
            step = self.step if number == 0 else 1
            # Centre the convolution on the steps of its output, or end it with the last of them.
            left = reach - (step - 1) if self.causal else (reach - (step - 1)) // 2
            y = norm(convolution(nn.functional.pad(y, (left, reach - left))))
            if number < len(KERNELS) - 1:
                y = torch.relu(y)
                y = y if there is None else y * there
        out = torch.relu(y + self.shortcut_norm(self.shortcut(x)))
        return out if there is None else out * there
