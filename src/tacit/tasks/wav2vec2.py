"""wav2vec 2.0: at hidden positions, identify the true quantised latent among those of other hidden positions.

Baevski, Zhou, Mohamed & Auli 2020, "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
arXiv:2006.11477. With z_t the latents, c_t what the encoder says at t where some of them are hidden, and q_t the latent
behind a quantiser, the loss is the mean over hidden places t of

    - log exp(sim(c_t, q_t) / kappa) / sum_{q in {q_t} and Q_t} exp(sim(c_t, q) / kappa)

plus `diversity` times the share of codes that are not in use. sim is the cosine; Q_t are `negatives` places drawn from
the hidden ones of the same example, those left out whose codes are those of t. The quantiser puts one of V codes from
each of G books side by side, drawn by a Gumbel softmax whose gradient passes straight through, at a temperature that
falls with the progress. Codes that nobody uses are a collapse: the metric `codes_used` tells.

Departures: the share of codes in use is e to the entropy of their mean probabilities over V, as in the authors' code;
the latents' gradients are not scaled and their size is no part of the loss. With several ranks every mean is over the
hidden places of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tacit.core import gathering, keys
from tacit.core.errors import UserError
from tacit.core.nn import variety
from tacit.core.types import Batch, Encoder, Latent, Output, ViewMaker
from tacit.tasks.base import Task, preview_of
from tacit.tasks.ingredients import Books, MaskMaker


class Wav2Vec2(Task):
    """Contrast of hidden positions for encoders of latents; `out` is the dimension of q.

    `temperatures` of the quantiser are the first and the last one; `kappa` is that of the contrast.
    """

    needs = frozenset({"whole", "masks", "quantiser"})

    def __init__(
        self,
        encoder: Encoder,
        whole: ViewMaker,
        masks: MaskMaker,
        quantiser: Books,
        *,
        negatives: int = 100,
        out: int = 256,
        kappa: float = 0.1,
        diversity: float = 0.1,
        temperatures: tuple[float, float] = (2.0, 0.5),
    ) -> None:
        super().__init__()
        if not isinstance(encoder, Latent):
            name = getattr(encoder, "name", type(encoder).__name__)
            raise UserError(
                f"the encoder {name} has no latents of samples, which the task 'wav2vec2' needs; choose "
                "--encoder wav2vec2_nano"
            )
        encoder.mask_token.requires_grad_(True)
        self.encoder = encoder
        self.views = whole
        self.masks = masks
        self.negatives, self.kappa, self.diversity, self.temperatures = negatives, kappa, diversity, temperatures
        self.quantiser = Quantiser(encoder.latent_dim, *quantiser, out)
        self.project = nn.Linear(encoder.dim, out)

    @property
    def exported(self) -> Mapping[str, Encoder]:
        return {"encoder": self.encoder}

    def forward(self, batch: Batch) -> Output:
        seen = self.views(batch, 0)
        mask = self.masks(seen, self.progress)  # [B N]
        latents, valid = self.encoder.latents(seen)  # [B N C]
        predicted = self.project(self.encoder.together(latents, valid, mask)).float()  # [B N out]
        first, last = self.temperatures
        temperature = first * (last / first) ** self.progress
        wanted, code, chance = self.quantiser(latents, seen["key"], temperature)
        losses, right = self.contrast(predicted, wanted, code, mask, seen["key"])
        here = mask.sum()
        everywhere = gathering.mean(here.float()).clamp(min=1.0)
        unused = 1 - self.in_use(chance[mask])
        codes = code[mask]
        used = torch.stack([variety(codes[:, book], chance.shape[3]) for book in range(chance.shape[2])]).mean()
        metrics = {"accuracy": right / here.clamp(min=1), "codes_used": used / chance.shape[3]}
        return Output(losses / everywhere + self.diversity * unused, metrics, {})

    def contrast(
        self, predicted: Tensor, wanted: Tensor, code: Tensor, mask: Tensor, key: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sum of the loss over hidden positions, and at how many the right latent was nearest."""
        similar = (
            nn.functional.normalize(predicted, dim=2) @ nn.functional.normalize(wanted, dim=2).mT / self.kappa
        )  # [B N N]
        others = self.others(mask, key)  # [B N K]
        same = (code[:, :, None] == code[:, None]).all(3).gather(2, others)  # [B N K]
        against = similar.gather(2, others).masked_fill(same, -math.inf)
        logits = torch.cat([similar.diagonal(dim1=1, dim2=2)[:, :, None], against], 2)[mask]  # [M 1+K]
        truth = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        right = (logits.argmax(1) == 0).sum()
        return nn.functional.cross_entropy(logits, truth, reduction="sum"), right

    def others(self, mask: Tensor, key: Tensor) -> Tensor:
        """Of every hidden place [B N], K others of the same example, drawn with repetition; itself if it is alone."""
        B, N = mask.shape
        hidden = mask.int().argsort(dim=1, descending=True, stable=True)  # [B N] hidden places first, in order
        number = mask.long().cumsum(1) - 1  # [B N] which of them a place is
        count = mask.sum(1)[:, None, None]  # [B 1 1]
        u = keys.uniform(key, "negatives", N * self.negatives).reshape(B, N, -1)
        steps = 1 + (u * (count - 1)).long()  # from 1 to count - 1
        chosen = (number.clamp(min=0)[:, :, None] + steps) % count.clamp(min=1)
        return hidden.gather(1, chosen.flatten(1)).reshape(B, N, -1)

    @staticmethod
    def in_use(chance: Tensor) -> Tensor:
        """The share of codes in use at the places [M G V] of all ranks, from 1 / V to 1."""
        mean = gathering.total(chance.sum(0)) / gathering.total(chance.new_tensor(float(len(chance)))).clamp(
            min=1.0
        )  # [G V]
        entropy = -(mean * (mean + 1e-7).log()).sum(1)
        return entropy.exp().mean() / chance.shape[2]

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"input": preview_of(self.views(batch, 0))}


class Quantiser(nn.Module):
    """Product quantisation by a Gumbel softmax (Jang et al. 2016, arXiv:1611.01144)."""

    def __init__(self, inputs: int, books: int, codes: int, out: int) -> None:
        super().__init__()
        self.score = nn.Linear(inputs, books * codes)
        self.vectors = nn.Parameter(torch.rand(books, codes, out // books))
        self.leave = nn.Linear(out // books * books, out)
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, latents: Tensor, key: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of latents [B N C] the vectors [B N out], the codes drawn [B N G], and how likely each was [B N G V]."""
        B, N, _ = latents.shape
        books, codes, _ = self.vectors.shape
        score = self.score(latents).float().reshape(B, N, books, codes)
        u = keys.uniform(key, "gumbel", N * books * codes).reshape(score.shape).clamp(min=1e-7)
        soft = ((score - (-u.log()).log()) / temperature).softmax(3)
        code = soft.argmax(3)
        hard = nn.functional.one_hot(code, codes) - soft.detach() + soft
        vectors = torch.einsum("bngv,gvd->bngd", hard, self.vectors)
        return self.leave(vectors.flatten(2)).float(), code, score.softmax(3)
