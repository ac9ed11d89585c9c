"""Codes of sound by a random quantiser that is never trained; a task predicts them where sound is hidden.

Chiu, Qin, Zhang, Yu & Wu 2022, "Self-supervised Learning with Random-projection Quantizer for Speech Recognition",
arXiv:2202.01855 (BEST-RQ). With A and c_1 to c_K drawn once from a normal distribution, the code of a token x is

    argmin_k | u(A x) - u(c_k) |,      u(x) = x / |x|

Departure: every band of a recording is first normalised to mean 0 and deviation 1 over the recording, as is usual for
speech, so that codes depend neither on its loudness nor on the microphone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from tacit.core import keys
from tacit.core.types import Batch
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import frames_of


class QuantisedTarget(nn.Module):
    """The code [B N] of every token of `stride` frames, out of `codes`; frozen, and a function of `seed` alone."""

    projection: Tensor  # [stride*M D]
    codebook: Tensor  # [K D]

    def __init__(self, spec: AudioSpec, stride: int, *, codes: int = 8192, dim: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.stride = stride
        generator = torch.Generator().manual_seed(keys.fold(seed, "codes"))
        self.register_buffer("projection", torch.randn(stride * spec.mels, dim, generator=generator))
        self.register_buffer("codebook", normalize(torch.randn(codes, dim, generator=generator), dim=1))

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        mel, frames = frames_of(batch, self.spec)
        with torch.autocast(mel.device.type, enabled=False):
            x = standardised(mel.float(), frames)
            x = pad(x, (0, 0, 0, -x.shape[1] % self.stride)).reshape(len(x), -1, self.stride * x.shape[2])  # [B N P]
            return (normalize(x @ self.projection, dim=2) @ self.codebook.T).argmax(2)


def standardised(mel: Tensor, frames: Tensor) -> Tensor:
    """Normalise every band of [B T M] to mean 0 and deviation 1 over the recording's frames; 0 behind them."""
    valid = (torch.arange(mel.shape[1], device=mel.device) < frames[:, None])[:, :, None]  # [B T 1]
    share = valid / frames[:, None, None]
    centred = torch.where(valid, mel - (mel * share).sum(1, keepdim=True), 0.0)
    return centred * ((centred.square() * share).sum(1, keepdim=True) + 1e-5).rsqrt()
