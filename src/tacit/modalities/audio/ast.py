"""The audio spectrogram transformer (Gong, Chung & Glass 2021, arXiv:2104.01778), Hugging Face's implementation.

Square patches of time and pitch are the tokens of its blocks; [CLS] and the distillation token take part in attention
only. Departures: patches do not overlap, and are as long and as high as fits the bands (16, 8 or 4 frames and bands); a
token that Tacit returns is the mean of the patches of its segment of time; no dropout by default. No token attends to
what lies behind the end of a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import ASTConfig
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import ASTModel

from tacit.modalities.audio.encoder import AudioEncoder, window_length
from tacit.modalities.audio.logmel import FLOOR
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.transformer import LAYOUTS
from tacit.modalities.windows import counted

PATCH = 16  # frames and bands at most
FIRST = 2  # tokens in front of the patches
FRONT_END = "FRONT_END.md"


class AudioSpectrogramTransformer(AudioEncoder):
    def __init__(self, name: str, spec: AudioSpec, *, dropout: float = 0.0) -> None:
        dim, blocks, heads = LAYOUTS[name.removeprefix("ast_")]
        patch = math.gcd(PATCH, spec.mels)
        super().__init__(name, spec, dim=dim, strides=[patch] * (1 + blocks), options={"dropout": dropout})
        config = ASTConfig(
            hidden_size=dim,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            patch_size=patch,
            frequency_stride=patch,
            time_stride=patch,
            max_length=window_length(spec, patch),
            num_mel_bins=spec.mels,
        )
        self.high = spec.mels // patch  # patches on top of each other
        self.model = ASTModel(config)
        self.pooling = (
            f"last_hidden_state[:, {FIRST}:].unflatten(1, ({self.high}, -1)).mean(1), of that the mean over tokens of "
            f"frames that count; {FRONT_END} makes input_values"
        )

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        parts = self.model.embeddings
        patches = parts.patch_embeddings(x)  # [B F*N D], those of the lowest bands first
        N = x.shape[1] // self.stride
        front, places = parts.position_embeddings.tensor_split([FIRST], dim=1)
        places = places.reshape(1, self.high, -1, self.dim)[:, :, :N].flatten(1, 2)
        front = front + torch.cat([parts.cls_token, parts.distillation_token], 1)
        x = parts.dropout(torch.cat([front.expand(len(x), -1, -1), patches + places], 1))
        attended = None if frames is None else self.attended(frames, N)[:, None, None, :]  # [B 1 1 2+F*N]
        states = [x]
        for block in self.model.layers:
            x = block(x, attended)
            states.append(x)
        states[-1] = self.model.layernorm(x)
        return [layer[:, FIRST:].reshape(len(layer), self.high, N, self.dim).mean(1) for layer in states]

    def attended(self, frames: Tensor, places: int) -> Tensor:
        """True [B 2+F*N] at patches of frames that count, and at the tokens in front of them."""
        inside = counted(self.tokens_of(frames), places)[:, None].expand(-1, self.high, -1).flatten(1)
        return torch.cat([inside.new_ones(len(inside), FIRST), inside], 1)

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def read(self, model: PreTrainedModel, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        mel, frames = self.front(audio, length)
        x = nn.functional.pad(self.normalised(mel, frames), (0, 0, 0, self.length))[:, : self.length]
        n, places = self.tokens_of(frames), self.grid[0]
        states = model(x, attention_mask=self.attended(frames, places)).last_hidden_state[:, FIRST:]
        tokens = states.reshape(len(x), self.high, places, self.dim).mean(1)
        share = counted(n, places) / n[:, None]
        return torch.einsum("bn,bnd->bd", share, tokens), tokens[:, : self.tokens_of(mel.shape[1])]

    def write_companions(self, folder: Path) -> None:
        (folder / FRONT_END).write_text(_front_end(self), encoding="utf-8")


def _front_end(encoder: AudioSpectrogramTransformer) -> str:
    """Explain, as Markdown, how to embed a recording with transformers alone."""
    spec = encoder.spec
    return f"""# From samples to embeddings

This model reads log-mel frames that transformers' own feature extractors do not make. One recording of one channel at
{spec.rate} Hz, `audio`, float32 [S] in [-1, 1], of at most {encoder.length * spec.hop - 1} samples; longer ones are
embedded in windows of so many.

```python
import numpy as np
import torch
from transformers import AutoModel
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

filters = mel_filter_bank({1 + spec.window // 2}, {spec.mels}, {spec.low}, {spec.high}, {spec.rate}, "slaney", "slaney")
window = window_function({spec.window}, "hann")
energy = spectrogram(audio, window, {spec.window}, {spec.hop}, power=2.0, pad_mode="constant", mel_filters=filters)
mel = np.log(energy.T + {FLOOR})[: 1 + (len(audio) - 1) // {spec.hop}]
frames = np.zeros(({encoder.length}, {spec.mels}), np.float32)
frames[: len(mel)] = (mel - {spec.mean!r}) / {spec.std!r}

tokens = -(-len(mel) // {encoder.stride})  # of {encoder.stride} frames each
seen = torch.arange({encoder.grid[0]}) < tokens
mask = torch.cat([torch.ones({FIRST}, dtype=torch.bool), seen.repeat({encoder.high})])
model = AutoModel.from_pretrained(".").eval()
with torch.inference_mode():
    states = model(torch.from_numpy(frames)[None], attention_mask=mask[None]).last_hidden_state
embedding = states[0, {FIRST}:].unflatten(0, ({encoder.high}, -1)).mean(0)[:tokens].mean(0)
```
"""
