"""Small recordings for the tests of encoders of sound, and encoders for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.logmel import log_mel
from tacit.modalities.audio.spec import AudioSpec

SPEC = AudioSpec(rate=8000, seconds=0.5, window=200, hop=80, mels=40, low=50.0, high=4000.0, mean=-6.0, std=3.0)
WINDOW = 48  # frames of a window, whatever the encoder's stride


def encoder(name: str, spec: AudioSpec = SPEC, seed: int = 0, **options: float) -> AudioEncoder:
    """With weights far from the start, where every token says something else, and norms as training leaves them."""
    torch.manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        built = build_encoder(name, spec, **options)
        for parameter in built.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for norm in built.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0  # take the next batch's as they are
        built.train()(recordings(3500, 2000, 3000, spec=spec, seed=9))
    return built.eval()


def recordings(*lengths: int, spec: AudioSpec = SPEC, seed: int = 0) -> Batch:
    """Tones over noise, of so many samples."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.zeros(len(lengths), max(lengths), dtype=torch.int16)
    for row, length in enumerate(lengths):
        t = torch.arange(length) / spec.rate
        pitch = 100 + 1500 * torch.rand(2, 1, generator=generator) * (1 + t)
        sound = 0.1 * torch.randn(length, generator=generator) + torch.sin(6.28 * pitch * t).sum(0)
        audio[row, :length] = (6000 * torch.rand(1, generator=generator) * sound).to(torch.int16)
    return {"audio": audio, "length": torch.tensor(lengths), "index": torch.arange(len(lengths))}


def alone(batch: Batch, row: int) -> Batch:
    """A recording without its padding."""
    length = int(batch["length"][row])
    return {"audio": batch["audio"][row : row + 1, :length], "length": batch["length"][row : row + 1]}


def log_mel_of(samples: NDArray[np.int16], spec: AudioSpec) -> NDArray[np.float32]:
    """Log-mel values [T M] of one sound [S]."""
    mel, _ = log_mel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), spec)
    found: NDArray[np.float32] = mel[0].numpy()
    return found
