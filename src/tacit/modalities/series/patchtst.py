"""PatchTST (Nie, Nguyen, Sinthong & Kalagnanam 2023, arXiv:2211.14730), Hugging Face's implementation.

The same Transformer reads the patches of each channel by itself; the state of a patch is the mean over channels.
Departures: patches do not overlap and have at most 16 steps, so that a window has two dozen; layer norm in place of
batch norm, which would make an example depend on its batch; values are normalised (see `SeriesSpec`), so that the
model's own scaler is off; no dropout by default. Windows are always padded with zeros: padding is attended to, as in
the paper, but excluded from the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.patchtst.configuration_patchtst import PatchTSTConfig
from transformers.models.patchtst.modeling_patchtst import PatchTSTModel

from tacit.modalities.series.encoder import FARTHEST, LEAST_STD, SeriesEncoder, window_length
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.windows import counted

FRONT_END = "FRONT_END.md"
PATCH = 16  # steps at most
TOKENS = 24  # of a window, where patches then have more than one step


class Layout(NamedTuple):
    dim: int
    blocks: int
    heads: int


LAYOUTS: Mapping[str, Layout] = {
    "nano": Layout(128, 3, 4),
    "tiny": Layout(192, 4, 4),
    "small": Layout(384, 8, 6),
    "base": Layout(768, 12, 12),
}


def patch_of(spec: SeriesSpec) -> int:
    """Steps of a patch."""
    return max(1, min(PATCH, spec.length // TOKENS))


class PatchTST(SeriesEncoder):
    def __init__(self, name: str, spec: SeriesSpec, *, dropout: float = 0.0) -> None:
        dim, blocks, heads = LAYOUTS[name.removeprefix("patchtst_")]
        patch = patch_of(spec)
        super().__init__(name, spec, dim=dim, strides=[patch] * (1 + blocks), options={"dropout": dropout})
        config = PatchTSTConfig(
            num_input_channels=spec.channels,
            context_length=window_length(spec, patch),
            patch_length=patch,
            patch_stride=patch,
            num_hidden_layers=blocks,
            d_model=dim,
            num_attention_heads=heads,
            ffn_dim=4 * dim,
            norm_type="layernorm",
            attention_dropout=dropout,
            ff_dropout=dropout,
            scaling=None,
            do_mask_input=False,
        )
        self.model = PatchTSTModel(config)

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        N = x.shape[1] // self.stride
        x = nn.functional.pad(x, (0, 0, 0, self.length))[:, : self.length]  # [B L C]
        x = x.reshape(-1, self.grid[0], self.stride, self.spec.channels).permute(0, 3, 1, 2)  # [B C L/p p]
        encoder = self.model.encoder
        states = encoder.positional_encoder(encoder.embedder(x))  # [B C L/p D]
        depths = [states]
        for layer in encoder.layers:
            states = layer(states)[0]
            depths.append(states)
        return [of.mean(1)[:, :N] for of in depths]

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def read(self, model: PreTrainedModel, series: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        x, steps = self.frames({"series": series, "length": length})
        values = nn.functional.pad(x, (0, 0, 0, self.length))[:, : self.length]
        tokens = model(past_values=values).last_hidden_state.mean(1)  # [B N D]
        n = self.tokens_of(steps)
        share = counted(n, tokens.shape[1]) / n[:, None]
        return torch.einsum("bn,bnd->bd", share, tokens), tokens[:, : self.tokens_of(series.shape[1])]

    def write_companions(self, folder: Path) -> None:
        (folder / FRONT_END).write_text(_front_end(self), encoding="utf-8")

    pooling = (
        "last_hidden_state.mean(1), of that the mean over patches of steps that count; FRONT_END.md makes past_values"
    )


def _front_end(encoder: PatchTST) -> str:
    """A description of how to embed a series with the transformers library alone."""
    spec = encoder.spec
    own = (
        ""
        if spec.relative_to == "data"
        else f"\nvalues = values - values.mean(0)\nvalues = values / values.std(0).clip({LEAST_STD})"
    )
    return f"""# From numbers to embeddings

One series of {spec.channels} channels at regular steps, `series`, float32 [T {spec.channels}], of at most
{encoder.length} steps; longer ones are embedded in windows of so many.

```python
import numpy as np
import torch
from transformers import AutoModel

values = (series - np.float32({list(spec.mean)})) / np.float32({list(spec.std)})
values = np.where(np.isfinite(values), values, 0){own}
filled = np.zeros((1, {encoder.length}, {spec.channels}), np.float32)
filled[0, : len(values)] = values.clip(-{FARTHEST:g}, {FARTHEST:g})
patches = -(-len(values) // {encoder.stride})  # of {encoder.stride} steps each

model = AutoModel.from_pretrained(".").eval()
with torch.inference_mode():
    states = model(past_values=torch.from_numpy(filled)).last_hidden_state
embedding = states[0].mean(0)[:patches].mean(0)
```
"""
