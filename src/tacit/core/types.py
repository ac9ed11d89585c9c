"""The types that all modules share: batches, features, encoders, outputs.

Shapes: B examples, C channels, *S the raw extent (H W for images, T for sound), N tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = dict[str, Tensor]
"""Raw examples and their fields, first dimension B everywhere.

`image` [B C H W] uint8, uint16 or float in [0, 1]; `index` [B] int64, the row in the data; `key` [B] int64, the
example's own source of randomness in this step (see `tacit.core.keys`); `valid` [B N] bool where examples differ in
length.

Text: `tokens` [B N] int64, a tokenizer's numbers; `valid` [B N] False where padding; `word` [B N] True where a word
begins; `segment` [B N] int64 where a row holds several documents, each of which attends to itself alone.

Numbers over time: `values` [B T C] float, as an encoder takes them, 0 where an example has ended.

Pairs: the fields of both sides, each with the name of its side and a dot in front (`image.image`, `text.tokens`).

Events: `tokens` [B N] int64, a whole sequence in order of time: 0 is padding, 1 the mask, item i of a catalogue i + 2;
`valid` [B N] False where padding; `weight` [B N] float32 where events have one.
"""


ViewMaker = Callable[[Batch, int], Batch]
"""Draws view number `view` of every example: `views(batch, view)`, random by `batch["key"]` alone."""


class Features(NamedTuple):
    """The output of an encoder for a batch."""

    tokens: Tensor  # [B N D]  patches, frames, words, items; a ConvNet's map flattened
    pooled: Tensor  # [B D]    mean over valid tokens, or the last valid one where it has seen all others
    valid: Tensor | None = None  # [B N]  False where padding
    grid: tuple[int, ...] | None = None  # (H, W), (D, H, W), (T,): where the N tokens lie
    depths: tuple[Tensor, ...] = ()  # pooled features of the requested depths, each [B D_i]


@runtime_checkable
class Encoder(Protocol):
    """Anything that embeds a raw batch: ours, a third party's, a baseline of plain statistics.

    `n_depths` intermediate layers are available by number, 0 the shallowest; an encoder without any has 0.
    """

    @property
    def dim(self) -> int: ...

    @property
    def n_depths(self) -> int: ...

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features: ...


@runtime_checkable
class Masking(Encoder, Protocol):
    """An encoder that can hide tokens behind a learned mask token or pixel.

    `mask_token` does not require gradients until a task that hides tokens enables them.
    """

    grid: tuple[int, ...]
    mask_token: nn.Parameter

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        """Embed with the tokens where `mask` [B N] is True hidden; all N tokens come back."""
        ...


@runtime_checkable
class Dropping(Encoder, Protocol):
    """An encoder that can leave tokens out altogether (a Transformer)."""

    grid: tuple[int, ...]

    def visible(self, batch: Batch, keep: Tensor) -> Tensor:
        """Embed only the tokens numbered in `keep` [B K]; returns [B K D]."""
        ...


@runtime_checkable
class Causal(Encoder, Protocol):
    """An encoder whose tokens depend only on themselves and earlier tokens, where `causal` is True."""

    causal: bool


@runtime_checkable
class Latent(Encoder, Protocol):
    """An encoder in two steps: a latent of every position by itself, then a context over all of them.

    `mask_token` does not require gradients until a task that hides latents enables them.
    """

    latent_dim: int
    mask_token: nn.Parameter

    def latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised latents [B N C] of raw examples, and where they are valid, [B N]."""
        ...

    def together(self, latents: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
        """Tokens [B N D] of latents, valid where `valid` [B N] is True and hidden where `mask` [B N] is."""
        ...


@runtime_checkable
class TwoSided(Encoder, Protocol):
    """An encoder of pairs, which embeds either side by itself into one space."""

    def embed(self, side: str, batch: Batch) -> Tensor:
        """The unit embeddings [B D] of a batch of this side."""
        ...

    def sides(self, batch: Batch) -> dict[str, Tensor]:
        """Those of both sides of a batch of pairs, by the name of the side."""
        ...

    def by_name(self, classes: Sequence[str]) -> Tensor:
        """Those of classes [K D], by what they are called."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """Anything that scores every item of a catalogue as the next event: an encoder of events, plain counts."""

    def scores(self, batch: Batch) -> Tensor:
        """[B n], higher is likelier."""
        ...


class Output(NamedTuple):
    """The output of a task at one step."""

    loss: Tensor
    metrics: dict[str, Tensor]  # detached scalars, averaged over ranks by the loop
    carry: dict[str, Tensor]  # detached per-example tensors, gathered in rank order before `after_step`
