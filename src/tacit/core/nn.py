"""Small tensor functions that encoders, views and tasks share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tacit.core.types import Batch

WIDEST = 1024  # features of an expander whose width is not given
_LUMA = (0.299, 0.587, 0.114)
_WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def to_float(image: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1], any shape; floating input is taken to be in [0, 1] already."""
    if image.is_floating_point():
        return image.to(torch.float32)
    return image.to(torch.float32).div_(_WHITE[image.dtype])


def turned(image: Tensor, quarters: int, axes: tuple[int, int]) -> Tensor:
    """Rotate pixels by a multiple of 90 degrees in the plane of two axes."""
    if image.dtype == torch.uint16:  # which torch does not turn
        return torch.rot90(image.view(torch.int16), quarters, axes).view(torch.uint16)
    return torch.rot90(image, quarters, axes)


def as_channels(image: Tensor, channels: int) -> Tensor:
    """Convert images [B C H W] to grey (luminance) or to colour (grey repeated three times)."""
    if image.shape[1] == channels:
        return image
    if channels == 1 and image.shape[1] == len(_LUMA):
        return (image * torch.tensor(_LUMA, device=image.device)[:, None, None]).sum(1, keepdim=True)
    return image.mean(1, keepdim=True) if channels == 1 else image.expand(-1, channels, -1, -1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean [B D] of x [B N D] where `mask` [B N] is True; 0 where no entry is."""
    weight = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return (x * weight[:, :, None]).sum(1)


def variety(identities: Tensor, n: int) -> Tensor:
    """The perplexity of identities [M]: exp of the entropy of their frequencies, n where all n are equally frequent."""
    share = torch.bincount(identities, minlength=n) / max(1, len(identities))
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


def together(parts: Sequence[Batch]) -> Batch:
    """Concatenate batches; shorter rows are padded with zeros, which are not valid."""

    def joined(name: str) -> Tensor:
        values = [part[name] for part in parts]
        if name != "image" and values[0].ndim > 1 and len({value.shape[1] for value in values}) > 1:
            widest = max(value.shape[1] for value in values)
            later = [0, 0] * (values[0].ndim - 2)
            values = [nn.functional.pad(value, (*later, 0, widest - value.shape[1])) for value in values]
        return torch.cat(values)

    return {name: joined(name) for name in parts[0]}


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A projection head: one hidden layer with batch norm (Chen et al. 2020)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


def expander(inputs: int, width: int | None = None, outputs: int | None = None) -> nn.Sequential:
    """A projection head of three layers with batch norm between them (Zbontar et al. 2021); at most `WIDEST` wide."""
    width = width or min(4 * inputs, WIDEST)
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True)),
        *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True)),
        nn.Linear(width, outputs or width, bias=False),
    )


def conv_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution with batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a network, such as the layers of a Transformer, in all its modules.

    They are the entries of its outermost module lists, also in Hugging Face's networks. Each is called as a whole.
    """
    found: dict[nn.Module, None] = {}
    lists = {name: part for name, part in module.named_modules() if isinstance(part, nn.ModuleList)}
    for name, part in lists.items():
        if not any(name.startswith(f"{outer}.") for outer in lists):
            found |= dict.fromkeys(block for block in part if any(True for _ in block.parameters()))
    return list(found)


class Decoder(nn.Module):
    """The light Transformer decoder of a masked autoencoder: from visible tokens to a prediction at every position."""

    def __init__(self, inputs: int, outputs: int, places: int, *, dim: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, dim)
        self.hidden = nn.Parameter(0.02 * torch.randn(dim))
        self.position = nn.Parameter(0.02 * torch.randn(places, dim))
        layer = nn.TransformerEncoderLayer(
            dim, max(1, dim // 32), 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.leave = nn.Linear(dim, outputs)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Tokens [B K D] at positions `keep` [B K] -> predictions [B N P]."""
        entered = self.enter(tokens)  # [B K d]
        everywhere = self.hidden.to(entered.dtype).expand(len(tokens), len(self.position), -1)
        at = keep[..., None].expand_as(entered)
        answer: Tensor = self.leave(self.blocks(everywhere.scatter(1, at, entered) + self.position))
        return answer
