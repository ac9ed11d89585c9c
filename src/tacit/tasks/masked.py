"""Masked prediction: hide tokens, predict their content.

One task for patches, frames, words and items. The target is an argument: `target.of(batch)` gives the input
itself or a teacher's features (float, [B N P], squared error) or identities (integer, [B N], cross-entropy). The loss
is the mean over hidden tokens alone.

- `drop=True`: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377. The encoder sees
  the visible tokens only; a light Transformer, given mask tokens at the hidden places, reconstructs. Needs `Dropping`.
- `drop=False`: Xie et al. 2022, "SimMIM", arXiv:2111.09886. The encoder sees every place, the hidden ones behind a
  learned mask token, and one linear layer reconstructs. Needs `Masking`; also serves ConvNets.

- `corrupt`: Devlin et al. 2018, "BERT", arXiv:1810.04805. Some hidden tokens show the mask, some a random token, some
  themselves; the loss, and the costly answer over a vocabulary, are computed at hidden places alone.

- `target`: Chiu et al. 2022, "BEST-RQ", arXiv:2202.01855. The codes of a random quantiser.

With several ranks the mean is over the hidden tokens of all of them.

Departure: the target is standardised by the caller where that helps (per patch for large patches), not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.nn import Decoder, variety
from tacit.core.types import Batch, Dropping, Encoder, Masking, Output, ViewMaker
from tacit.tasks.base import Task, mean_of_all, preview_of
from tacit.tasks.ingredients import MaskMaker, Target


class Masked(Task):
    """Masked prediction; with `drop`, `masks` hides as many tokens in every row.

    `corrupt` hides in the batch itself (mask tokens of a vocabulary, random ones), for encoders that need no mask token
    of their own. An event counts by its `weight` where the batch has one.
    """

    needs = frozenset({"whole", "masks", "target"})
    takes = frozenset({"corrupt"})

    def __init__(
        self,
        encoder: Encoder,
        whole: ViewMaker,
        masks: MaskMaker,
        target: Target,
        *,
        corrupt: Callable[[Batch, Tensor], Batch] | None = None,
        drop: bool = False,
        decoder_dim: int = 128,
        decoder_depth: int = 2,
    ) -> None:
        super().__init__()
        self.views = whole
        self.masks = masks
        self.target = target.of
        self.corrupt = corrupt
        self.picture = target.picture
        self.drop = drop
        self.loss = target.loss
        self.encoder = encoder
        self.decoder: Callable[..., Tensor]
        if drop:
            if not isinstance(encoder, Dropping):
                raise _unable(encoder, "leave tokens out")
            places = math.prod(encoder.grid)
            self.decoder = Decoder(encoder.dim, target.width, places, dim=decoder_dim, depth=decoder_depth)
        else:
            if corrupt is None:
                if not isinstance(encoder, Masking):
                    raise _unable(encoder, "hide tokens")
                encoder.mask_token.requires_grad_(True)
            self.decoder = target.decoder if target.decoder is not None else nn.Linear(encoder.dim, target.width)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        mask = self.masks(seen, self.progress)  # [B N]
        truth = self.target(seen)[mask]  # [M P] or [M]
        losses, metrics = self.compare(seen, mask, truth)
        return Output(mean_of_all(losses, seen["weight"][mask] if "weight" in seen else None), metrics, {})

    def compare(self, seen: Batch, mask: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [M] at each hidden position, and metrics of all."""
        if self.loss is not None:
            return self.loss(self.states(seen, mask)[mask], truth), {}
        answer = self.answer(seen, mask)  # [M P]
        if truth.is_floating_point():
            return nn.functional.mse_loss(answer, truth, reduction="none").mean(1), {}
        accuracy = (answer.detach().argmax(1) == truth).float().mean()
        metrics = {"accuracy": accuracy, "variety": variety(truth, answer.shape[1])}
        return nn.functional.cross_entropy(answer, truth, reduction="none"), metrics

    def answer(self, batch: Batch, mask: Tensor) -> Tensor:
        """Predictions at the M hidden positions alone, [M P]."""
        if self.drop:
            return self.predict(batch, mask)[mask].float()
        return self.decoder(self.states(batch, mask)[mask]).float()

    def predict(self, batch: Batch, mask: Tensor) -> Tensor:
        """Predictions at every position, [B N P], from the tokens where `mask` [B N] is False."""
        if isinstance(self.encoder, Dropping) and self.drop:
            shown = int((~mask[0]).sum())
            keep = mask.int().argsort(dim=1, stable=True)[:, :shown]  # [B K] visible places in order
            return self.decoder(self.encoder.visible(batch, keep), keep)
        return self.decoder(self.states(batch, mask))

    def states(self, batch: Batch, mask: Tensor) -> Tensor:
        """The encoder's tokens [B N D] with those under `mask` hidden from it."""
        if self.corrupt is not None:
            return self.encoder(self.corrupt(batch, mask)).tokens
        assert isinstance(self.encoder, Masking)
        return self.encoder.masked(batch, mask).tokens

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.views(batch, 0)
        mask = self.masks(seen, self.progress)
        if self.corrupt is not None:
            filled = preview_of(seen).clone()
            filled[mask] = self.answer(seen, mask).argmax(1)
            return {"input": preview_of(seen), "shown": preview_of(self.corrupt(seen, mask)), "filled in": filled}
        if self.picture is None:
            return {"input": preview_of(seen)}
        truth, answer = self.target(seen), self.predict(seen, mask).float()
        hidden = torch.where(mask[..., None], torch.zeros_like(truth), truth)
        filled = torch.where(mask[..., None], answer, truth)
        return {
            "input": preview_of(seen),
            "shown": self.picture(hidden, seen),
            "reconstruction": self.picture(filled, seen),
        }


def _unable(encoder: object, what: str) -> UserError:
    return UserError(
        f"the encoder {type(encoder).__name__} cannot {what}, which the task 'masked' needs; choose another --encoder"
    )
