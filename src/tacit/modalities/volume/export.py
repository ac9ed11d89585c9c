"""Exports encoders of volumes as graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.types import Features
from tacit.modalities.graph import BATCHES, Inputs, Outputs, Words, outputs_of
from tacit.modalities.volume.encoder import VolumeEncoder

WORDS = Words(
    "volume",
    "normalises the voxels itself",
    "scans)` does all of this for files of scans",
    "['scan.nii.gz']",
    """volumes = tacit.load_encoder(".").prepare(["scan.nii.gz"])["image"]  # or your own, as listed above
inputs = {"image": volumes.numpy()}""",
)


class Volumes:
    """`image` float32 [B 1 D S S] in [0, 1]; the graph normalises it itself."""

    axes: Mapping[str, Mapping[int, str]] = {"image": {0: "batch"}}

    def __init__(self, encoder: VolumeEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        return {"image": torch.zeros(2, 1, *self.encoder.spec.shape)}

    def trial(self) -> Iterator[Inputs]:
        """Noise, and smooth shapes like those of bodies."""
        generator, shape = torch.Generator().manual_seed(0), self.encoder.spec.shape
        for rows in BATCHES:
            yield {"image": torch.rand(rows, 1, *shape, generator=generator)}
            coarse = torch.rand(rows, 1, 4, 4, 4, generator=generator)
            yield {"image": nn.functional.interpolate(coarse, shape, mode="trilinear", align_corners=False)}

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        """Voxels as integers of 16 bits, in place of floats."""
        return {"image": (inputs["image"] * 65535).round().to(torch.uint16)}

    def features(self, encoder: VolumeEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        found: Features = encoder({"image": inputs["image"].to(encoder.mask_token.device)}, depths=depths)
        return found

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        found: Outputs = self.encoder.read(model, inputs["image"])
        return found

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens

    def sidecar(self) -> dict[str, Any]:
        spec, dim = self.encoder.spec, self.encoder.dim
        return {
            "input": {"image": {"shape": ["batch", 1, *spec.shape], "dtype": "float32", "range": [0, 1]}},
            "output": outputs_of(math.prod(self.encoder.grid), dim),
            "preprocessing": "; ".join(self._steps()) + "; the graph subtracts mean and divides by std itself",
            "spacing_mm": spec.spacing,
            "mean": spec.mean,
            "std": spec.std,
        }

    def longer(self) -> str:
        return ""

    def left_to_do(self, deep: bool) -> list[str]:
        return [*self._steps(), f"uint16, 0 to 65535, stacked to [B 1 {' '.join(map(str, self.encoder.spec.shape))}]"]

    def _steps(self) -> list[str]:
        spec = self.encoder.spec
        along = ("left to right", "back to front", "feet to head")[spec.axis]
        ends = (
            "the 0.5 and 99.5 % quantiles of each volume"
            if spec.range is None
            else f"{spec.range.low:,.6g} and {spec.range.high:,.6g}"
        )
        mm = " x ".join(f"{of:.4g}" for of in spec.spacing)
        return [
            f"turn a scan to its closest canonical orientation and cut it into slices from {along}, laid as in DICOM",
            f"scale numbers so that {ends} are black and white",
            f"resample to {mm} mm by means with linear weights, to {spec.short} voxels about the middle, black outside",
        ]

    @property
    def words(self) -> Words:
        return WORDS
