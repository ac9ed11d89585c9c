"""Inputs and outputs of exported encoders of time series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.core.types import Features
from tacit.modalities.graph import BATCHES, Inputs, Outputs, Words, outputs_of, within
from tacit.modalities.series.encoder import SeriesEncoder, relative
from tacit.modalities.windows import counted

WORDS = Words(
    "series",
    "takes values relative to their mean itself",
    "series)` does all of this for arrays, and cuts nothing",
    "[series]",
    """batch = tacit.load_encoder(".").prepare([series])  # or your own, as listed above
inputs = {"series": batch["series"].numpy(), "length": batch["length"].numpy()}""",
)


class Series:
    """`series` float32 [B T C], T at most a window, and `length` int64 [B]; the graph normalises values itself."""

    axes: Mapping[str, Mapping[int, str]] = {"series": {0: "batch", 1: "steps"}, "length": {0: "batch"}}

    def __init__(self, encoder: SeriesEncoder) -> None:
        self.encoder = encoder
        self.longest = encoder.length  # steps of a window
        self.room = torch.ones(encoder.length, dtype=torch.int64)

    def example(self) -> Inputs:
        return self._series([self.longest, max(1, self.longest // 2)], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Random walks, short and as long as a window, in batches and alone."""
        generator = torch.Generator().manual_seed(0)
        for rows in BATCHES:
            for longest in (max(1, self.longest // 3), self.longest):
                rest = torch.randint(1, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._series([longest, *rest], generator)

    def _series(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        spec = self.encoder.spec
        walk = torch.randn(len(lengths), max(lengths), spec.channels, generator=generator).cumsum(1) / 4
        values = walk * torch.tensor(spec.std) + torch.tensor(spec.mean)
        length = torch.tensor(lengths)
        return {"series": values * counted(length, values.shape[1])[:, :, None], "length": length}

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        return inputs

    def features(self, encoder: SeriesEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.mask_token.device
        series, length = inputs["series"].to(device), inputs["length"].to(device)
        if torch.compiler.is_exporting():
            length = length * within(self.room, series[:, :, 0]).amin(0)
        return encoder.graph(relative(series, length, encoder.spec), length, depths)

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        return self.encoder.read(model, inputs["series"], inputs["length"])

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens * counted(self.encoder.tokens_of(inputs["length"]), tokens.shape[1])[:, :, None].to(tokens)

    def sidecar(self) -> dict[str, Any]:
        spec, encoder = self.encoder.spec, self.encoder
        return {
            "input": {
                "series": {"shape": ["batch", "steps", spec.channels], "dtype": "float32"},
                "length": {"shape": ["batch"], "dtype": "int64", "range": [1, self.longest]},
            },
            "output": outputs_of("tokens", encoder.dim),
            "preprocessing": f"{spec.channels} channels at regular steps{self._step}, at most {self.longest}; longer "
            "series are cut, and their pooled averaged by length; length counts the steps of each, padded to the "
            "longest; gaps are filled along straight lines; the graph takes values relative to their mean itself",
            "channels": spec.channels,
            "steps": self.longest,
            "token": {"steps": encoder.stride},
        }

    def longer(self) -> str:
        return (
            f"of a series longer than {self.longest:,} steps, tacit embeds all windows and takes the mean; the graph "
            "takes one"
        )

    def left_to_do(self, deep: bool) -> list[str]:
        return [
            f"bring values to regular steps{self._step}, and fill gaps along straight lines",
            f"cut after {self.longest} steps; tacit predict reads longer series in several windows",
            f"float32, padded to the longest of a batch, series [B T {self.encoder.spec.channels}]",
            "length [B] int64 counts the steps of each",
        ]

    @property
    def _step(self) -> str:
        step = self.encoder.spec.step
        return f" of {step:,.6g} in the unit of the times" if step else ""

    @property
    def words(self) -> Words:
        return WORDS
