"""A person's own module as an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.image.encoder import ImageEncoder, MapEncoder
from tacit.modalities.image.spec import ImageSpec


class WrappedMap(MapEncoder):
    """A module that returns a map, whose places can be masked."""

    def __init__(self, module: nn.Module, spec: ImageSpec, answer: Tensor) -> None:
        height, width = answer.shape[2:]
        super().__init__(
            f"module:{type(module).__name__}",
            spec,
            dim=answer.shape[1],
            n_depths=1,
            grid=(height, width),
            stride=-(-spec.size // height),
        )
        self.module = module
        self.mask_token = nn.Parameter(torch.zeros(spec.channels), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        return [self.module(x)]


class WrappedTokens(ImageEncoder):
    """A module that returns tokens, or one vector, taken as a single token."""

    def __init__(self, module: nn.Module, spec: ImageSpec, answer: Tensor) -> None:
        places = answer.shape[1] if answer.ndim == 3 else 1
        super().__init__(
            f"module:{type(module).__name__}",
            spec,
            dim=answer.shape[-1],
            n_depths=1,
            grid=(1, places),
            stride=spec.size,
        )
        self.module = module

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        answer = self.module(self.normalise(batch))
        tokens = answer if answer.ndim == 3 else answer[:, None]  # [B N D]
        pooled = tokens.mean(1)
        return Features(tokens, pooled, grid=self.grid, depths=tuple(pooled for _ in depths))


def wrap(module: nn.Module, spec: ImageSpec) -> ImageEncoder:
    """Wrap `module` as an encoder: it maps normalised float images [B C H W] to [B D], [B N D] or a map [B D H W].

    `spec` describes the images; mean 0 and std 1 pass pixels in [0, 1] on unchanged. UserError for any other output.
    """
    training = module.training
    with torch.inference_mode():
        answer = module.eval()(torch.zeros(2, spec.channels, spec.size, spec.size))
    module.train(training)
    if not isinstance(answer, Tensor) or answer.ndim not in (2, 3, 4) or len(answer) != 2:
        returned = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        name = type(module).__name__
        raise UserError(f"{name} answers 2 images with {returned}; return a tensor [B D], [B N D] or [B D H W]")
    return WrappedMap(module, spec, answer) if answer.ndim == 4 else WrappedTokens(module, spec, answer)
