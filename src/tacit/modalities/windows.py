"""What encoders of sequences of any length share: tokens of frames, windows, masking, the mean over valid tokens.

Shapes: B examples, T frames of M numbers each, N tokens of `stride` frames each, L frames of a window, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder
from tacit.core.spec import Spec
from tacit.core.types import Batch, Features


class WindowedEncoder(OwnEncoder):
    """Embeds sequences of frames; abstract.

    Token i covers the `stride` frames from i * stride on; `strides` has the stride of every depth. A window has
    `length` frames, a multiple of all strides, and `grid` tokens. `mask_token` [M] is frozen until a task that masks
    tokens unfreezes it.
    """

    at_once = 32  # examples, or windows of one, that are embedded together, so that they fit into memory
    mask_token: nn.Parameter

    def __init__(
        self,
        name: str,
        spec: Spec,
        *,
        dim: int,
        strides: Sequence[int],
        length: int,
        numbers: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=len(strides), options=options)
        self.strides = tuple(strides)
        self.stride = strides[-1]
        self.length = length
        self.grid = (self.length // self.stride,)
        self.mask_token = nn.Parameter(torch.zeros(numbers), requires_grad=False)

    @abstractmethod
    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        """The output of every depth for normalised frames [B T M], T a multiple of `stride` and at most `length`.

        The first `frames` [B] of each example are valid (None: all). The others are 0 and must not affect these.
        Returns tensors [B T / strides[i] ...], the last one [B N D].
        """

    @abstractmethod
    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The raw frames [B T M] of a batch, and how many [B] of each example are valid."""

    @abstractmethod
    def normalised(self, values: Tensor, frames: Tensor) -> Tensor:
        """The frames [B T M] as the network takes them; 0 after the end of an example, whatever was there."""

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed a raw batch; depth `n_depths - 1` is the deepest and equals `pooled`."""
        values, frames = self.frames(batch)
        return self._embed(self.normalised(values, frames), frames, depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        """`forward` with `mask_token` in place of the frames of tokens under `mask` [B N], N = `tokens_of(T)`."""
        values, frames = self.frames(batch)
        hidden = mask.repeat_interleave(self.stride, 1)[:, : values.shape[1], None]  # [B T 1]
        hidden = hidden & counted(frames, values.shape[1])[:, :, None]
        x = self.normalised(values, frames)
        return self._embed(torch.where(hidden, self.mask_token.to(x.dtype), x), frames, ())

    def tokens_of(self, frames: Any) -> Any:
        """The number of tokens of so many frames: an integer, or one of each example."""
        return -(-frames // self.stride)

    def graph(self, values: Tensor, frames: Tensor, depths: Sequence[int] = ()) -> Features:
        """`forward` for examples of one window, with no branch on their values, so that it can be traced."""
        x = self.normalised(values, frames)
        T = values.shape[1]
        whole = (T + self.stride - 1) // self.stride * self.stride
        x = nn.functional.pad(x, (0, 0, 0, self.stride - 1))[:, :whole]
        outputs = self.layers(x, frames)
        pooled = [self._share(outputs[depth], depth, frames, frames) for depth in [*depths, self.n_depths - 1]]
        valid = counted(self.tokens_of(frames), outputs[-1].shape[1])
        return Features(outputs[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def _embed(self, x: Tensor, frames: Tensor, depths: Sequence[int]) -> Features:
        """Features of normalised frames [B T M] of any T, window by window where T exceeds `length`."""
        (B, T, _), L = x.shape, self.length
        N = self.tokens_of(T)
        valid = counted(self.tokens_of(frames), N)
        depths = [*depths, self.n_depths - 1]
        if T <= L:
            x = nn.functional.pad(x, (0, 0, 0, N * self.stride - T))
            outputs = self.layers(x, None if bool((frames == x.shape[1]).all()) else frames)
            pooled = [self._share(outputs[depth], depth, frames, frames) for depth in depths]
            return Features(outputs[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))
        W = -(-T // L)
        windows = nn.functional.pad(x, (0, 0, 0, W * L - T)).reshape(B * W, L, -1)
        inside = (frames[:, None] - L * torch.arange(W, device=x.device)).clamp(0, L).reshape(-1)  # [B*W]
        used = inside.nonzero()[:, 0]  # [U]
        parts = [self._windows(windows, inside, frames, some, depths, W) for some in torch.split(used, self.at_once)]
        row = used // W
        pooled = []
        for number in range(len(depths)):  # a recording's mean is the sum of its windows' shares in it
            shares = torch.cat([shares[number] for _, shares in parts])  # [U D_i]
            pooled.append(shares.new_zeros(B, shares.shape[1]).index_add(0, row, shares))
        tokens = torch.cat([tokens for tokens, _ in parts])  # [U L/stride D]
        whole = tokens.new_zeros(B * W, *tokens.shape[1:]).index_copy(0, used, tokens)
        return Features(whole.reshape(B, -1, self.dim)[:, :N], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def _windows(
        self, windows: Tensor, inside: Tensor, frames: Tensor, some: Tensor, depths: Sequence[int], W: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens [U N D] of some of the windows [B*W L M], and their shares in the means of their recordings."""
        own = inside[some]
        outputs = self.layers(windows[some], None if bool((own == self.length).all()) else own)
        return outputs[-1], [self._share(outputs[depth], depth, own, frames[some // W]) for depth in depths]

    def _share(self, output: Tensor, depth: int, inside: Tensor, frames: Tensor) -> Tensor:
        """The sum over tokens of `inside` frames at this depth, over the number of tokens of `frames`, [B D_i]."""
        stride = self.strides[depth]
        weight = counted(-(-inside // stride), output.shape[1]) / (-(-frames // stride))[:, None]  # [B N_i]
        return torch.einsum("bn,bnd->bd", weight.to(output.dtype), output.flatten(2))

    def shape(self) -> dict[str, Any]:
        """The modality's own fields of `encoder.json`."""
        return {"stride": self.stride, "length": self.length}


def counted(numbers: Tensor, places: int) -> Tensor:
    """True [B places] at the first `numbers` [B] of each row."""
    return torch.arange(places, device=numbers.device) < numbers[:, None]
