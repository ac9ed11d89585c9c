"""Masked prediction: hide tokens, predict what was there.

One task for patches, frames, words and items. What is predicted is an argument: `target(batch)` gives the input itself
or a teacher's features (float, [B N P], squared error) or identities (integer, [B N], cross-entropy). The loss is the
mean over hidden tokens alone.

- `drop=True`: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377. The encoder sees
  the visible tokens only; a light Transformer, given mask tokens at the hidden places, reconstructs. Needs `Dropping`.
- `drop=False`: Xie et al. 2022, "SimMIM", arXiv:2111.09886. The encoder sees every place, the hidden ones behind a
  learned mask token, and one linear layer reconstructs. Needs `Masking`; also serves ConvNets.

Departure: the target is standardised by the caller where that helps (per patch for large patches), not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tacit.errors import UserError
from tacit.nn import Decoder
from tacit.task import Task
from tacit.types import Batch, Dropping, Encoder, Masking, Output, ViewMaker

MaskMaker = Callable[[Tensor, tuple[int, ...]], Tensor]  # keys [B], grid -> [B N] bool, the same count in every row


class Masked(Task):
    """Masked prediction; `width` is the size P of a float target or the number of identities of an integer one.

    `picture` turns predicted tokens [B N P] and their batch into images [B C H W], for the report.
    """

    def __init__(
        self,
        encoder: Encoder,
        views: ViewMaker,
        masks: MaskMaker,
        target: Callable[[Batch], Tensor],
        *,
        width: int,
        drop: bool = False,
        decoder_dim: int = 128,
        decoder_depth: int = 2,
        picture: Callable[[Tensor, Batch], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.views = views
        self.masks = masks
        self.target = target
        self.picture = picture
        self.drop = drop
        self.encoder: Masking | Dropping
        self.decoder: nn.Module
        if drop:
            if not isinstance(encoder, Dropping):
                raise _unable(encoder, "leave tokens out")
            places = math.prod(encoder.grid)
            self.encoder = encoder
            self.decoder = Decoder(encoder.dim, width, places, dim=decoder_dim, depth=decoder_depth)
        else:
            if not isinstance(encoder, Masking):
                raise _unable(encoder, "hide tokens")
            encoder.mask_token.requires_grad_(True)
            self.encoder = encoder
            self.decoder = nn.Linear(encoder.dim, width)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        mask = self.masks(seen["key"], self.encoder.grid)  # [B N]
        answer = self.predict(seen, mask)[mask].float()  # [M P]
        truth = self.target(seen)[mask]  # [M P] or [M]
        if truth.is_floating_point():
            return Output(nn.functional.mse_loss(answer, truth), {}, {})
        accuracy = (answer.argmax(1) == truth).float().mean()
        return Output(nn.functional.cross_entropy(answer, truth), {"accuracy": accuracy}, {})

    def predict(self, batch: Batch, mask: Tensor) -> Tensor:
        """What the task answers at every place, [B N P], having seen only where `mask` [B N] is False."""
        answer: Tensor
        if isinstance(self.encoder, Dropping) and self.drop:
            shown = int((~mask[0]).sum())
            keep = mask.int().argsort(dim=1, stable=True)[:, :shown]  # [B K] visible places in order
            answer = self.decoder(self.encoder.visible(batch, keep), keep)
        else:
            assert isinstance(self.encoder, Masking)
            answer = self.decoder(self.encoder.masked(batch, mask).tokens)
        return answer

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.views(batch, 0)
        if self.picture is None:
            return {"input": seen["image"]}
        mask = self.masks(seen["key"], self.encoder.grid)
        truth, answer = self.target(seen), self.predict(seen, mask).float()
        hidden = torch.where(mask[..., None], torch.zeros_like(truth), truth)
        filled = torch.where(mask[..., None], answer, truth)
        return {
            "input": seen["image"],
            "shown": self.picture(hidden, seen),
            "reconstruction": self.picture(filled, seen),
        }


def _unable(encoder: object, what: str) -> UserError:
    return UserError(
        f"the encoder {type(encoder).__name__} cannot {what}, which the task 'masked' needs; choose another --encoder"
    )
