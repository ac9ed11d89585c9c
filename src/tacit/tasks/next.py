"""Next prediction: predict a later token from all earlier ones.

One task for frames and items. The encoder must be `Causal`: the state h_t of token t knows tokens 1 to t alone. With
n = `ahead` the loss is the mean, over all tokens t whose token t + n lies inside the sequence, of

    |W h_t - x_{t+n}|                        x float [B N P], mean of absolute differences over P values
    - log softmax(decoder(h_t))[x_{t+n}]     x integer [B N]

- Frames: Chung, Hsu, Tang & Glass 2019, "An Unsupervised Autoregressive Model for Speech Representation Learning",
  arXiv:1904.03240 (APC). Some tokens ahead, since the very next frame is nearly the last one.
- Items: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation", arXiv:1808.09781 (SASRec), the next item.
  Departure: the whole softmax in place of one negative an item.

With several ranks the mean is over the tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.core.types import Batch, Causal, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, mean_of_all, preview_of
from tacit.tasks.ingredients import Target


class Next(Task):
    """Next prediction of the token `ahead`; an event counts by its `weight` where the batch has one."""

    needs = frozenset({"whole", "target", "ahead"})

    def __init__(
        self,
        encoder: Encoder,
        whole: ViewMaker,
        target: Target,
        *,
        ahead: int = 1,
    ) -> None:
        super().__init__()
        assert ahead > 0, ahead
        if not isinstance(encoder, Causal) or not encoder.causal:
            raise UserError(
                f"the encoder {getattr(encoder, 'name', type(encoder).__name__)} sees what comes after a token, which "
                "the task 'next' must not; choose another --encoder"
            )
        self.encoder = encoder
        self.views = whole
        self.target = target.of
        self.ahead = ahead
        self.loss = target.loss
        self.picture = target.picture
        self.decoder: Callable[[Tensor], Tensor] | None = target.decoder
        if target.decoder is None and target.loss is None:
            self.decoder = nn.Linear(encoder.dim, target.width)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        features = self.encoder(seen)
        truth = self.target(seen)  # [B N P] or [B N]
        there = features.valid if features.valid is not None else torch.ones_like(features.tokens[..., 0]).bool()
        counts = there[:, : -self.ahead] & there[:, self.ahead :]  # [B N-n]
        states, truth = features.tokens[:, : -self.ahead][counts], truth[:, self.ahead :][counts]
        losses, metrics = self.compare(states, truth)
        weight = seen["weight"][:, self.ahead :][counts] if "weight" in seen else None
        return Output(mean_of_all(losses, weight), metrics, {})

    def compare(self, states: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each of these states [M D] and truths, and metrics of all."""
        if self.loss is not None:
            return self.loss(states, truth), {}
        answer = self.answer(states)
        if truth.is_floating_point():
            return nn.functional.l1_loss(answer, truth, reduction="none").mean(1), {}
        accuracy = (answer.detach().argmax(1) == truth).sum() / max(1, len(truth))
        return nn.functional.cross_entropy(answer, truth, reduction="none"), {"accuracy": accuracy}

    def answer(self, states: Tensor) -> Tensor:
        """The prediction for the token `ahead`, [... P]."""
        assert self.decoder is not None
        return self.decoder(states).float()

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.views(batch, 0)
        if self.picture is None:
            return {"input": preview_of(seen)}
        predicted = self.answer(self.encoder(seen).tokens)
        foreseen = self.target(seen).clone()  # its first tokens, which cannot be predicted
        foreseen[:, self.ahead :] = predicted[:, : -self.ahead]
        return {"input": preview_of(seen), "foreseen": self.picture(foreseen, seen)}
