"""The base of all encoders of sound: log-mel frames of recordings, and the preparation of these.

Shapes: B recordings, S samples, T frames, M bands, N tokens of `stride` frames each, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.encoder import several
from tacit.core.errors import UserError
from tacit.core.types import Batch
from tacit.data.named import as_numpy
from tacit.modalities.audio.logmel import FLOOR, LogMel, log_mel
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.windows import WindowedEncoder, counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sound = str | Path | NDArray[Any]


class AudioEncoder(WindowedEncoder):
    """Embeds batches of recordings, as frames of `spec.mels` log-mel values; abstract."""

    spec: AudioSpec

    def __init__(
        self,
        name: str,
        spec: AudioSpec,
        *,
        dim: int,
        strides: Sequence[int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        length = window_length(spec, strides[-1])
        super().__init__(name, spec, dim=dim, strides=strides, length=length, numbers=spec.mels, options=options)

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-mel values [B T M] before normalisation, and the number of valid frames [B] of each recording."""
        if "mel" in batch:
            mel, frames = batch["mel"], batch["frames"]
        elif "audio" in batch and batch["audio"].ndim == 2:
            mel, frames = self.front(batch["audio"], batch["length"])
        else:
            given = "audio " + str(list(batch["audio"].shape)) if "audio" in batch else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes audio [B S], not {given}; encoder.prepare(sounds) makes such batches"
            )
        if mel.ndim != 3 or mel.shape[2] != self.spec.mels:
            raise UserError(f"the encoder {self.name} takes mel [B T {self.spec.mels}], not {list(mel.shape)}")
        return mel, frames

    def front(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what `frames` returns from samples [B S], `length` [B] of which are valid."""
        return log_mel(audio, length, self.spec)

    def traced_front(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """`front` by operations that can be exported."""
        return LogMel(self.spec)

    def front_settings(self) -> dict[str, Any]:
        """The settings of `front`, for the description of an exported graph."""
        spec = self.spec
        return {
            "log_mel": {
                "window": spec.window,
                "hop": spec.hop,
                "mels": spec.mels,
                "low": spec.low,
                "high": spec.high,
                "scale": "slaney",
                "floor": FLOOR,
                "mean": spec.mean,
                "std": spec.std,
            }
        }

    def normalised(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Normalise to mean 0 and deviation 1 over the training data; 0 behind the end of a recording."""
        x = (mel.float() - self.spec.mean) / self.spec.std
        return torch.where(counted(frames, mel.shape[1])[:, :, None], x, 0.0)

    def prepare(
        self,
        sounds: Sound | Sequence[Sound],
        *,
        rate: int | None = None,
        channels: str | None = None,
        start: float | Sequence[float] = 0.0,
        end: float | Sequence[float] = math.inf,
    ) -> Batch:
        """Convert paths or arrays to a batch on the encoder's device, prepared as for its training.

        An array is one recording [S] or [S C], int16 or float in [-1, 1], of `rate` samples per second. Its channel is
        the one used in training (`spec.channels`), unless `channels` is mix, left, right or separate; it is resampled
        to `spec.rate`. `start` and `end` limit the segment to read, in seconds, one value for all or one for each.
        Returns `audio` [B S] int16, `length` [B] and `index` [B], the number of the sound: separate channels are rows
        of their own. Raises UserError naming the sound that cannot be read.
        """
        from tacit.modalities.audio.decode import as_samples, channels_of, excerpt
        from tacit.modalities.audio.options import MIXES, SEPARATE

        sounds = several(as_numpy(sounds), (str, Path, np.ndarray), "paths or arrays")
        wanted = channels or self.spec.channels or "mix"
        if wanted not in (*MIXES, SEPARATE):
            raise UserError(f"channels={wanted!r} is none; choose from {', '.join((*MIXES, SEPARATE))}")
        begins, ends = (_each(seconds, len(sounds)) for seconds in (start, end))
        rows, index = [], []
        for number, (sound, begin, stop) in enumerate(zip(sounds, begins, ends, strict=True)):
            given = isinstance(sound, np.ndarray)
            if not given and not isinstance(sound, str | Path):
                raise UserError(f"cannot prepare {sound!r}, a {type(sound).__name__}; pass paths or arrays")
            try:
                chosen = range(channels_of(sound)) if wanted == SEPARATE else [wanted]
                for channel in chosen:
                    whole = as_samples(sound, rate if given else None, self.spec.rate, channel, start=begin, end=stop)
                    rows.append(excerpt(whole, self.spec.seconds, self.spec.rate))
                    index.append(number)
            except (OSError, ValueError) as error:
                what = f"an array of shape {list(sound.shape)}" if isinstance(sound, np.ndarray) else str(sound)
                raise UserError(f"cannot prepare {what}: {error}") from None
        audio = np.zeros((len(rows), max(len(row) for row in rows)), np.int16)
        for number, row in enumerate(rows):
            audio[number, : len(row)] = row
        batch = {
            "audio": torch.from_numpy(audio),
            "length": torch.tensor([len(row) for row in rows]),
            "index": torch.tensor(index),
        }
        return {name: value.to(self.mask_token.device) for name, value in batch.items()}

    def read(self, model: PreTrainedModel, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Embed recordings by a model loaded from the files of `hugging_face()`: pooled [B D] and tokens [B N D]."""
        raise NotImplementedError(self.name)

    pooling = "mean over tokens of frames that count"


def _each(seconds: float | Sequence[float], count: int) -> list[float]:
    """The seconds of each sound, from one value for all or one for each."""
    found = [float(seconds)] * count if isinstance(seconds, int | float) else [float(value) for value in seconds]
    if len(found) != count:
        raise UserError(f"{len(found)} starts or ends for {count} sounds; give one for all, or one each")
    return found


def window_length(spec: AudioSpec, stride: int) -> int:
    """The number of frames embedded at once: those of `spec.seconds`, in whole tokens."""
    return max(1, round(spec.seconds * spec.rate / spec.hop) // stride) * stride
