"""A Transformer (Vaswani et al. 2017, arXiv:1706.03762) over log-mel frames, at widths for a CPU and a GPU.

Two convolutions over time, each halving it, make tokens of 4 frames, as in Whisper (Radford et al. 2022,
arXiv:2212.04356) but with even kernels, so that a token lies in the middle of its frames. Blocks norm first (Xiong et
al. 2020, arXiv:2002.04745), positions are sines and cosines, there is no dropout by default. No token attends to what
lies behind the end of a recording.

In a causal one no token looks ahead: it attends to itself and those before it, and its convolutions end with its own
last frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.windows import counted


class Layout(NamedTuple):
    dim: int
    blocks: int
    heads: int


LAYOUTS: Mapping[str, Layout] = {
    "nano": Layout(128, 2, 2),
    "tiny": Layout(256, 4, 4),
    "small": Layout(384, 12, 6),
    "base": Layout(768, 12, 12),
}
STRIDE = 4  # frames of a token


class AudioTransformer(AudioEncoder):
    position: Tensor  # [N D]

    def __init__(self, name: str, spec: AudioSpec, *, dropout: float = 0.0) -> None:
        dim, blocks, heads = LAYOUTS[name.rpartition("_")[2]]
        super().__init__(name, spec, dim=dim, strides=[STRIDE] * (1 + blocks), options={"dropout": dropout})
        self.causal = name.startswith("audio_causal_")
        self.stem = nn.ModuleList(nn.Conv1d(inputs, dim, 4, 2) for inputs in (spec.mels, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("position", sines(self.grid[0], dim), persistent=False)

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        x = x.transpose(1, 2)  # [B M T]
        around = (2, 0) if self.causal else (1, 1)  # from frame 2i - 2 to 2i + 1, else from 2i - 1 to 2i + 2
        for number, convolution in enumerate(self.stem):
            x = nn.functional.gelu(convolution(nn.functional.pad(x, around)))
            if frames is not None and number == 0:
                x = x * counted(-(-frames // 2), x.shape[2])[:, None]
        x = x.transpose(1, 2)  # [B N D]
        x = x + self.position[: x.shape[1]]
        attended = self._attended(x.shape[1], frames, x.device)
        states = [x]
        for block in self.blocks:
            x = block(x, attended)
            states.append(x)
        states[-1] = self.norm(x)
        return states

    def _attended(self, N: int, frames: Tensor | None, device: torch.device) -> Tensor | None:
        """Which token [... N 1] attends to which [... 1 N]; None if all attend to all."""
        place = torch.arange(N, device=device)
        if self.causal:  # what lies behind the end comes after all valid tokens
            return place[:, None] >= place  # [N N]
        return None if frames is None else counted(self.tokens_of(frames), N)[:, None, None, :]  # [B 1 1 N]


class Block(nn.Module):
    """Attention, then two linear layers, each beside a shortcut and after a norm."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.asked, self.leave = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout))

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        B, N, D = x.shape
        q, k, v = self.asked(self.before(x)).reshape(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B H N D/H]
        dropout = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attended, dropout_p=dropout)
        x = x + nn.functional.dropout(self.leave(mixed.transpose(1, 2).reshape(B, N, D)), dropout)
        output: Tensor = x + self.mlp(self.between(x))
        return output


def sines(places: int, dim: int) -> Tensor:
    """Encode positions by sines and cosines of waves from 2 pi to 20,000 pi tokens long, [N D]."""
    wave = torch.exp(torch.arange(0, dim, 2) * (-torch.log(torch.tensor(10_000.0)) / dim))  # [D/2]
    angle = torch.arange(places)[:, None] * wave
    return torch.cat([angle.sin(), angle.cos()], 1)
