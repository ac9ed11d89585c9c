"""The base class of encoders of time series: normalised values, and batches from arrays.

Shapes: B series, T steps, C channels, N tokens of `stride` steps each, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.encoder import several
from tacit.core.errors import UserError
from tacit.core.types import Batch
from tacit.data.named import as_numpy
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.windows import WindowedEncoder, counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_STD = 1e-4  # smallest deviation of a series, relative to that of the data
FARTHEST = 100.0  # deviations, to which values are clipped


def relative(series: Tensor, length: Tensor, spec: SeriesSpec) -> Tensor:
    """Normalise values [B T C] by mean and deviation of each channel; 0 where missing or after the end of a series.

    By those of the data, or of each series where the spec says so; a constant series is then 0 everywhere.
    """
    mean = torch.tensor(spec.mean, device=series.device)
    std = torch.tensor(spec.std, device=series.device)
    there = counted(length, series.shape[1])[:, :, None]  # [B T 1]
    x = (series.float() - mean) / std
    x = torch.where(there & torch.isfinite(x), x, 0.0)
    if spec.relative_to == "series":
        n = length.clamp(min=1)[:, None, None].to(x.dtype)
        x = torch.where(there, x - x.sum(1, keepdim=True) / n, 0.0)
        x = x / (x.square().sum(1, keepdim=True) / n).sqrt().clamp(min=LEAST_STD)
    return x.clamp(-FARTHEST, FARTHEST)


def values_of(batch: Batch, spec: SeriesSpec) -> tuple[Tensor, Tensor]:
    """The normalised values [B T C] of a batch, and its valid steps [B]; computed once and cached in the batch."""
    if "values" not in batch:
        batch["values"], batch["steps"] = relative(batch["series"], batch["length"], spec), batch["length"]
    return batch["values"], batch["steps"]


class SeriesEncoder(WindowedEncoder):
    """Embeds batches of time series; abstract. `mask_token` [C] stands for the values of a masked step."""

    spec: SeriesSpec
    at_once = 64  # even of a million steps each

    def __init__(
        self,
        name: str,
        spec: SeriesSpec,
        *,
        dim: int,
        strides: Sequence[int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        length = window_length(spec, strides[-1])
        super().__init__(name, spec, dim=dim, strides=strides, length=length, numbers=spec.channels, options=options)

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised values [B T C], and the valid steps [B] of each series."""
        if "values" in batch:
            values, steps = batch["values"], batch["steps"]
        elif "series" in batch and batch["series"].ndim == 3:
            values, steps = relative(batch["series"], batch["length"], self.spec), batch["length"]
        else:
            given = "series " + str(list(batch["series"].shape)) if "series" in batch else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes series [B T C], not {given}; encoder.prepare(series) makes such batches"
            )
        if values.ndim != 3 or values.shape[2] != self.spec.channels:
            raise UserError(
                f"the encoder {self.name} takes values [B T {self.spec.channels}], not {list(values.shape)}"
            )
        return values, steps

    def normalised(self, values: Tensor, frames: Tensor) -> Tensor:
        return torch.where(counted(frames, values.shape[1])[:, :, None], values.float(), 0.0)

    def prepare(self, series: NDArray[Any] | Sequence[NDArray[Any]]) -> Batch:
        """Make a batch on the encoder's device from arrays, prepared as for training.

        Each array is one series [T] or [T C], of numbers at regular steps; NaN where missing. UserError where one is no
        series.
        """
        from tacit.modalities.series.store import filled, padded

        given = several(as_numpy(series), np.ndarray, "arrays")
        rows = []
        for number, of in enumerate(given):
            values = np.asarray(of)
            values = values[:, None] if values.ndim == 1 else values
            if values.ndim != 2 or values.dtype.kind not in "fiu" or values.shape[1] != self.spec.channels:
                raise UserError(
                    f"series {number} is {values.dtype} {list(np.shape(of))}; pass numbers [T] or "
                    f"[T {self.spec.channels}]"
                )
            single = values.astype(np.float32)
            known = np.isfinite(single)
            if not known.any():
                raise UserError(f"series {number} holds no number")
            rows.append(filled(np.where(known, single, np.nan).astype(np.float32), known))
        batch = padded(rows, np.arange(len(rows)))
        return {name: value.to(self.mask_token.device) for name, value in batch.items()}

    def read(self, model: PreTrainedModel, series: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Embed series by a model opened from the files of `hugging_face()`: pooled [B D] and tokens [B N D]."""
        raise NotImplementedError(self.name)

    pooling = "mean over tokens of steps that count"


def window_length(spec: SeriesSpec, stride: int) -> int:
    """Steps of a window: `spec.length` rounded up to whole tokens, two at least."""
    return max(2, -(-spec.length // stride)) * stride
