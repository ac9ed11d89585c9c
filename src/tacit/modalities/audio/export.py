"""Exported graphs of sound: their inputs, outputs and description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.core.types import Features
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.graph import BATCHES, Inputs, Outputs, Words, outputs_of, within
from tacit.modalities.windows import counted

WORDS = Words(
    "recording",
    "makes log-mel frames and normalises them itself",
    "sounds)` does all of this for paths and arrays, to int16, and cuts nothing",
    "['sound.wav']",
    """batch = tacit.load_encoder(".").prepare(["sound.wav"])  # or your own, as listed above
inputs = {"audio": batch["audio"].float().numpy() / 32768, "length": batch["length"].numpy()}""",
)


class Sounds:
    """`audio` float32 [B S] in [-1, 1], S at most a window, and `length` int64 [B]; the graph makes log-mel itself."""

    axes: Mapping[str, Mapping[int, str]] = {"audio": {0: "batch", 1: "samples"}, "length": {0: "batch"}}

    def __init__(self, encoder: AudioEncoder) -> None:
        self.encoder = encoder
        self.front = encoder.traced_front()
        self.longest = encoder.length * encoder.spec.hop - 1  # samples of a window
        self.room = torch.ones(encoder.length, dtype=torch.int64)

    def example(self) -> Inputs:
        return self._recordings([min(self.longest, self.encoder.spec.rate), 400], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Noise of random loudness, short or as long as a window, in batches and alone."""
        generator = torch.Generator().manual_seed(0)
        for rows in BATCHES:
            for longest in (min(1000, self.longest), self.longest):
                rest = torch.randint(1, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._recordings([longest, *rest], generator)

    def _recordings(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        loud = torch.rand(len(lengths), 1, generator=generator) ** 4
        audio = loud * (2 * torch.rand(len(lengths), max(lengths), generator=generator) - 1)
        return {"audio": audio, "length": torch.tensor(lengths)}

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        return inputs

    def features(self, encoder: AudioEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.mask_token.device
        audio, length = inputs["audio"].to(device), inputs["length"].to(device)
        if torch.compiler.is_exporting():
            mel, frames = self.front(audio, length)
            frames = frames * within(self.room, mel[:, :, 0]).amin(0)
        else:
            mel, frames = encoder.front(audio, length)
        return encoder.graph(mel, frames, depths)

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        return self.encoder.read(model, inputs["audio"], inputs["length"])

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        frames = 1 + (inputs["length"] - 1) // self.encoder.spec.hop
        return tokens * counted(self.encoder.tokens_of(frames), tokens.shape[1])[:, :, None].to(tokens)

    def sidecar(self) -> dict[str, Any]:
        spec, encoder = self.encoder.spec, self.encoder
        return {
            "input": {
                "audio": {"shape": ["batch", "samples"], "dtype": "float32", "range": [-1, 1]},
                "length": {"shape": ["batch"], "dtype": "int64", "range": [1, self.longest]},
            },
            "output": outputs_of("tokens", encoder.dim),
            "preprocessing": f"one channel of {spec.rate} Hz, at most {self.longest} samples; longer recordings are "
            "cut, and their pooled averaged by length; length counts the samples of each, padded with zeros to the "
            "longest; the graph normalises them, and makes log-mel frames of them where it needs them, itself",
            "rate": spec.rate,
            "samples": self.longest,
            "token": {"samples": encoder.stride * spec.hop},
            **encoder.front_settings(),
        }

    def longer(self) -> str:
        return (
            f"of a recording longer than {self.longest:,} samples, tacit embeds all windows and takes the mean; the "
            "graph takes one"
        )

    def left_to_do(self, deep: bool) -> list[str]:
        spec = self.encoder.spec
        return [
            f"mix the channels to one and resample to {spec.rate} Hz, well",
            f"cut after {spec.seconds:g} s; tacit predict reads longer recordings in several windows",
            "float32 in [-1, 1], padded with zeros to the longest of a batch, audio [B S]",
            "length [B] int64 counts the samples of each",
        ]

    @property
    def words(self) -> Words:
        return WORDS
