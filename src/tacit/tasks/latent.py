"""Latent prediction: hide tokens, predict what a teacher that sees everything makes of them.

- data2vec: Baevski, Hsu, Xu, Babu, Gu & Auli 2022, "data2vec: A General Framework for Self-supervised Learning in
  Speech, Vision and Language", arXiv:2202.03555. The student sees hidden tokens behind a mask token; the loss at each
  is a smooth L1 distance to the teacher's state of that token.
- I-JEPA (`drop`): Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun & Ballas 2023, "Self-Supervised Learning
  from Images with a Joint-Embedding Predictive Architecture", arXiv:2301.08243. The student sees the visible tokens
  alone, and a light Transformer predicts the teacher's states at hidden blocks.

The teacher is a moving average of the student that no gradient reaches; its states are normalised token by token.

Departures: data2vec averages the teacher's last layers, here it is the last; I-JEPA hides several blocks and predicts
them one by one, here all hidden squares are predicted at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tacit.core.types import Batch, Encoder, Output, ViewMaker
from tacit.tasks.base import Task, Teacher, mean_of_all, preview_of
from tacit.tasks.ingredients import MaskMaker, Target
from tacit.tasks.masked import Masked


class LatentPrediction(Task):
    """Prediction of a teacher's states; `drop` and `corrupt` as in masked prediction, `momentum` at the start.

    `spread` is the mean deviation of a feature of the teacher's states over hidden tokens: 1 where they cover the
    sphere, 0 where all are the same.
    """

    needs = frozenset({"whole", "masks"})
    takes = frozenset({"corrupt"})
    fewest = 2

    def __init__(
        self,
        encoder: Encoder,
        whole: ViewMaker,
        masks: MaskMaker,
        *,
        corrupt: Callable[[Batch, Tensor], Batch] | None = None,
        drop: bool = False,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        target = Target(self._states, encoder.dim)
        self.masked = Masked(encoder, whole, masks, target, corrupt=corrupt, drop=drop)
        self.teacher = Teacher(self._taught(), momentum)

    def _taught(self) -> dict[str, nn.Module]:
        assert isinstance(self.encoder, nn.Module)
        return {"encoder": self.encoder}

    @torch.no_grad()
    def _states(self, batch: Batch) -> Tensor:
        """The teacher's states of all tokens, normalised, [B N D]."""
        states = self.teacher["encoder"](batch).tokens.float()
        return nn.functional.layer_norm(states, states.shape[-1:])

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.masked.views(batch, 0)
        mask = self.masked.masks(seen, self.progress)  # [B N]
        wanted = self._states(seen)[mask]  # [M D]
        losses = nn.functional.smooth_l1_loss(self.masked.answer(seen, mask), wanted, reduction="none").mean(1)
        spread = wanted.std(0).mean() if len(wanted) > 1 else wanted.new_zeros(())
        return Output(mean_of_all(losses), {"spread": spread}, {})

    def after_step(self, carry: Mapping[str, Tensor]) -> None:
        self.teacher.follow(self._taught(), self.progress)

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"input": preview_of(self.masked.views(batch, 0))}
