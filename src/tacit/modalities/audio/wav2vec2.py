"""wav2vec 2.0's encoder of samples (Baevski et al. 2020, arXiv:2006.11477), Hugging Face's implementation.

Convolutions turn about 20 ms of samples into a latent; a Transformer relates the latents to each other. Each recording
is first normalised to mean 0 and deviation 1. As in its larger size, convolutions and blocks norm the values of one
token alone, so that neither padding nor the rest of a batch changes an embedding. Departures: a token is two frames of
the spec long, whatever its rate; zero padding centres it in its receptive field; no dropout by default, and no layer
drop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.logmel import FULL, frames_of
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.transformer import LAYOUTS
from tacit.modalities.windows import counted

STRIDE = 2  # frames of a token
MOST_HALVINGS = 6
WIDEST_LATENT = 512
FRONT_END = "FRONT_END.md"


class Wav2Vec2(AudioEncoder):
    """The values of a frame, as base classes call them, are its `hop` samples here, and a flag: hidden or not."""

    def __init__(self, name: str, spec: AudioSpec, *, dropout: float = 0.0) -> None:
        dim, blocks, heads = LAYOUTS[name.removeprefix("wav2vec2_")]
        super().__init__(name, spec, dim=dim, strides=[STRIDE] * (1 + blocks), options={"dropout": dropout})
        kernels, strides = convolutions(STRIDE * spec.hop)
        self.latent_dim = min(dim, WIDEST_LATENT)
        config = Wav2Vec2Config(
            hidden_size=dim,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            hidden_dropout=dropout,
            activation_dropout=dropout,
            attention_dropout=dropout,
            feat_proj_dropout=dropout,
            layerdrop=0.0,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_dim=[self.latent_dim] * len(kernels),
            conv_kernel=kernels,
            conv_stride=strides,
            num_conv_pos_embeddings=32 if dim < 768 else 128,
            apply_spec_augment=False,
        )
        self.model = Wav2Vec2Model(config)
        self.mask_token = self.model.masked_spec_embed.requires_grad_(False)
        self.receptive_field = 1  # samples of a latent
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            self.receptive_field = (self.receptive_field - 1) * stride + kernel
        self.before = (self.receptive_field - STRIDE * spec.hop) // 2  # samples of them before its own
        self.pooling = f"last_hidden_state.mean(1) of one recording; {FRONT_END} makes input_values"

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if "audio" not in batch or batch["audio"].ndim != 2:
            raise UserError(
                f"the encoder {self.name} takes audio [B S], not {', '.join(batch)}; encoder.prepare(sounds) makes "
                "such batches"
            )
        return self.front(batch["audio"], batch["length"])

    def front(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Samples at mean 0 and deviation 1 of each recording, in frames, [B T hop+1], and how many are valid."""
        hop, there = self.spec.hop, counted(length, audio.shape[1])
        wave = audio.float() if audio.is_floating_point() else audio.float() / FULL
        centred = torch.where(there, wave - (wave * there).sum(1, keepdim=True) / length[:, None], 0.0)
        wave = centred * (centred.square().sum(1, keepdim=True) / length[:, None] + 1e-7).rsqrt()
        T = (audio.shape[1] + hop - 1) // hop
        rows = nn.functional.pad(wave, (0, hop - 1))[:, : T * hop].reshape(wave.shape[0], T, hop)
        return nn.functional.pad(rows, (0, 1)), frames_of(length, self.spec)

    def traced_front(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return self.front

    def front_settings(self) -> dict[str, Any]:
        return {}

    def normalised(self, mel: Tensor, frames: Tensor) -> Tensor:
        return mel

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        """`forward` with the latents of tokens under `mask` [B N] replaced by `mask_token` before the Transformer."""
        x, frames = self.frames(batch)
        hidden = mask.repeat_interleave(STRIDE, 1)[:, : x.shape[1], None]  # [B T 1]
        return self._embed(torch.cat([x[:, :, :-1], hidden.to(x.dtype)], 2), frames, ())

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        valid = None if frames is None else counted(self.tokens_of(frames), x.shape[1] // STRIDE)
        return self._together(self._convolved(x[:, :, :-1].flatten(1), frames), valid, x[:, ::STRIDE, -1] > 0)

    def latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x, frames = self.frames(batch)
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % STRIDE))
        latents = self._convolved(x[:, :, :-1].flatten(1), frames)
        return latents, counted(self.tokens_of(frames), latents.shape[1])

    def together(self, latents: Tensor, valid: Tensor, mask: Tensor) -> Tensor:
        return self._together(latents, valid, mask)[-1]

    def _convolved(self, wave: Tensor, frames: Tensor | None) -> Tensor:
        """Samples [B N*stride*hop] as normed latents [B N C], 0 behind the end of the longest one."""
        step, behind = STRIDE * self.spec.hop, 0
        if frames is not None and not torch.compiler.is_exporting():
            behind = wave.shape[1] // step - int(self.tokens_of(frames.max()))
            wave = wave[:, : wave.shape[1] - behind * step]
        x = nn.functional.pad(wave, (self.before, self.receptive_field - step - self.before))[:, None]
        for convolution in self.model.feature_extractor.conv_layers:
            x = convolution(x)
        latents = self.model.feature_projection.layer_norm(x.transpose(1, 2))
        return nn.functional.pad(latents, (0, 0, 0, behind))

    def _together(self, latents: Tensor, valid: Tensor | None, mask: Tensor) -> Sequence[Tensor]:
        parts = self.model.feature_projection
        x = parts.dropout(parts.projection(latents))
        x = torch.where(mask[:, :, None], self.mask_token.to(x.dtype), x)
        if valid is not None:
            x = torch.where(valid[:, :, None], x, 0.0)
        x = self.model.encoder.dropout(x + self.model.encoder.pos_conv_embed(x))
        attended = None if valid is None else valid[:, None, None, :]  # [B 1 1 N]
        states = [x]
        for layer in self.model.encoder.layers:
            x = layer(x, attention_mask=attended)
            states.append(x)
        states[-1] = self.model.encoder.layer_norm(x)
        return states

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def read(self, model: PreTrainedModel, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        x, frames = self.front(audio, length)
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % STRIDE))
        n, step = self.tokens_of(frames), STRIDE * self.spec.hop
        wave = nn.functional.pad(x[:, :, :-1].flatten(1), (self.before, self.receptive_field - step - self.before))
        mask = counted((n - 1) * step + self.receptive_field, wave.shape[1]).long()
        states = model(wave, attention_mask=mask).last_hidden_state
        share = counted(n, states.shape[1]) / n[:, None]
        return torch.einsum("bn,bnd->bd", share, states), states

    def write_companions(self, folder: Path) -> None:
        extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": self.spec.rate}
        shape = {"feature_size": 1, "padding_value": 0.0, "do_normalize": True, "return_attention_mask": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(extractor | shape, indent=2))
        (folder / FRONT_END).write_text(_front_end(self), encoding="utf-8")


def convolutions(samples: int) -> tuple[list[int], list[int]]:
    """Kernels and strides of convolutions that make a latent of `samples` samples, as in the paper: 320 by 5, 2 ..."""
    halvings = next(n for n in range(MOST_HALVINGS, -1, -1) if samples % 2**n == 0)
    first, short = samples // 2**halvings, min(2, halvings)
    kernels = [2 * first, *[3] * (halvings - short), *[2] * short]
    return kernels, [first, *[2] * halvings]


def _front_end(encoder: Wav2Vec2) -> str:
    """Explain, as Markdown, how to embed a recording with transformers alone."""
    step = STRIDE * encoder.spec.hop
    return f"""# From samples to embeddings

One recording of one channel at {encoder.spec.rate} Hz, `audio`, float32 [S] in [-1, 1], of at most
{encoder.length * encoder.spec.hop} samples; longer ones are embedded in windows of so many, normalised as a whole.

```python
import torch
from transformers import AutoFeatureExtractor, AutoModel

prepare, model = AutoFeatureExtractor.from_pretrained("."), AutoModel.from_pretrained(".").eval()
values = prepare(audio, sampling_rate={encoder.spec.rate}, return_tensors="pt").input_values
tokens = -(-len(audio) // {step})  # of {step} samples each
behind = tokens * {step} - len(audio) + {encoder.receptive_field - step - encoder.before}
values = torch.nn.functional.pad(values, ({encoder.before}, behind))
with torch.inference_mode():
    embedding = model(values).last_hidden_state[0].mean(0)
```
"""
