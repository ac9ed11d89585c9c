"""Exports encoders of images as graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.types import Features
from tacit.modalities.graph import BATCHES, Inputs, Outputs, Words, outputs_of
from tacit.modalities.image.decode import BY_TYPE
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.spec import ImageSpec

WORDS = Words(
    "image",
    "scales and normalises the pixels itself",
    "images)` does all of this for paths, PIL images and arrays",
    "['image.png']",
    """images = tacit.load_encoder(".").prepare(["image.png"])["image"].numpy()  # or your own, as listed above
inputs = {"image": images}""",
)


class Images:
    """`image` float32 [B C S S] in [0, 1]; the graph normalises it itself."""

    axes: Mapping[str, Mapping[int, str]] = {"image": {0: "batch"}}

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        spec = self.encoder.spec
        return {"image": torch.zeros(2, spec.channels, spec.size, spec.size)}

    def trial(self) -> Iterator[Inputs]:
        """Noise, and smooth shapes like those of photographs."""
        generator, spec = torch.Generator().manual_seed(0), self.encoder.spec
        for rows in BATCHES:
            yield {"image": torch.rand(rows, spec.channels, spec.size, spec.size, generator=generator)}
            coarse = torch.rand(rows, spec.channels, 4, 4, generator=generator)
            size = (spec.size, spec.size)
            yield {"image": nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)}

    def taken(self, inputs: Inputs, deep: bool) -> Inputs:
        """Pixels as integers of the run's depth, in place of floats."""
        white, dtype = (65535, torch.uint16) if deep else (255, torch.uint8)
        return {"image": (inputs["image"] * white).round().to(dtype)}

    def features(self, encoder: ImageEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        found: Features = encoder({"image": inputs["image"].to(encoder.mean.device)}, depths=depths)
        return found

    def read(self, model: Any, inputs: Inputs) -> Outputs:
        return self.encoder.read(model, inputs["image"])

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens

    def sidecar(self) -> dict[str, Any]:
        spec, dim = self.encoder.spec, self.encoder.dim
        shape = ["batch", spec.channels, spec.size, spec.size]
        return {
            "input": {"image": {"shape": shape, "dtype": "float32", "range": [0, 1]}},
            "output": outputs_of(math.prod(self.encoder.grid), dim),
            "preprocessing": f"{_resizing(spec)}; the graph subtracts mean and divides by std itself",
            "mean": spec.mean,
            "std": spec.std,
        }

    def longer(self) -> str:
        return ""

    def left_to_do(self, deep: bool) -> list[str]:
        spec = self.encoder.spec
        dtype, white = ("uint16", 65535) if deep else ("uint8", 255)
        named = {1: "one channel of grey", 3: "three channels, red, green, blue"}
        channels = named.get(spec.channels, f"the {spec.channels} channels of the training, in their order")
        rule = spec.scale
        return [
            "take the first frame, turned upright by its EXIF orientation, transparency laid on white",
            f"convert to {channels}, {dtype}, 0 to {white}"
            + (
                ""
                if rule is None or rule.numbers in BY_TYPE
                else f", where of numbers as in training {rule.describe()}"
            ),
            f"resize the whole image to {spec.size} x {spec.size} px, bicubic with antialiasing; crop nothing",
            f"stack to [B {spec.channels} {spec.size} {spec.size}]",
        ]

    @property
    def words(self) -> Words:
        return WORDS


def _resizing(spec: ImageSpec) -> str:
    """How a picture becomes the square that a graph takes."""
    framing = spec.framing
    if framing is None or (not framing.keep and framing.edge == spec.size):
        return "resize the whole image to the square"
    how = "its shorter side" if framing.keep else "both sides"
    first = f"resize {how} to {framing.edge} px, and" if framing.edge else "do not resize, but"
    return f"{first} cut the middle {spec.size} px out"
