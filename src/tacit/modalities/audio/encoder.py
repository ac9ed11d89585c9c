"""What all encoders of sound share: their shape, log-mel frames from recordings, windows, hiding frames, the mean.

Shapes: B recordings, S samples, T frames, M bands, N tokens of `stride` frames each, L frames of a window, D features.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.audio.logmel import FLOOR, LogMel, log_mel
from tacit.modalities.audio.spec import AudioSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Sound = str | Path | NDArray[Any]


class AudioEncoder(OwnEncoder):
    """Embeds batches of recordings; abstract.

    Token i is of the `stride` frames from i * stride on; `strides` has
    as much for every depth. `length` frames, a multiple of all strides, are a window; `grid` says how many tokens that
    is. `mask_token` [M] is frozen until a task that hides tokens unfreezes it.
    """

    spec: AudioSpec
    at_once = 32  # recordings of any length, or windows of one, that fit into memory together while they are embedded
    mask_token: nn.Parameter

    def __init__(
        self,
        name: str,
        spec: AudioSpec,
        *,
        dim: int,
        strides: Sequence[int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=len(strides), options=options)
        self.strides = tuple(strides)
        self.stride = strides[-1]
        self.length = window_length(spec, self.stride)
        self.grid = (self.length // self.stride,)
        self.mask_token = nn.Parameter(torch.zeros(spec.mels), requires_grad=False)

    @abstractmethod
    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        """What every depth says of normalised log-mel values [B T M], T a multiple of `stride` and at most `length`.

        `frames` [B] count, of the others, which are 0, nothing may come into those: None where all do. Tensors
        [B T / strides[i] ...], the last one [B N D].
        """

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed `mel` [B T M] and `frames` [B], or `audio` [B S] and `length` [B] where there is no `mel`.

        Depth `n_depths - 1` is the deepest and equals `pooled`.
        """
        mel, frames = self.frames(batch)
        return self._said(self.normalised(mel, frames), frames, depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        """`forward` with the frames of tokens under `mask` [B N] hidden behind `mask_token`, N = `tokens_of(T)`."""
        mel, frames = self.frames(batch)
        hidden = mask.repeat_interleave(self.stride, 1)[:, : mel.shape[1], None]  # [B T 1]
        hidden = hidden & counted(frames, mel.shape[1])[:, :, None]
        x = self.normalised(mel, frames)
        return self._said(torch.where(hidden, self.mask_token.to(x.dtype), x), frames, ())

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-mel values [B T M] as they come, and how many frames [B] of each recording count."""
        if "mel" in batch:
            mel, frames = batch["mel"], batch["frames"]
        elif "audio" in batch and batch["audio"].ndim == 2:
            mel, frames = self.front(batch["audio"], batch["length"])
        else:
            said = "audio " + str(list(batch["audio"].shape)) if "audio" in batch else ", ".join(batch)
            raise UserError(
                f"the encoder {self.name} takes audio [B S], not {said}; encoder.prepare(sounds) makes such batches"
            )
        if mel.ndim != 3 or mel.shape[2] != self.spec.mels:
            raise UserError(f"the encoder {self.name} takes mel [B T {self.spec.mels}], not {list(mel.shape)}")
        return mel, frames

    def front(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """What `frames` gives of samples [B S], `length` [B] of which count."""
        return log_mel(audio, length, self.spec)

    def traced_front(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """`front` by operations that a graph has."""
        return LogMel(self.spec)

    def front_settings(self) -> dict[str, Any]:
        """What a graph's description says of `front`."""
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
        """Mean 0 and deviation 1 over the training data; 0 where a recording has ended, whatever was there."""
        x = (mel.float() - self.spec.mean) / self.spec.std
        return torch.where(counted(frames, mel.shape[1])[:, :, None], x, 0.0)

    def tokens_of(self, frames: Any) -> Any:
        """How many tokens so many frames are: a number, or one of each recording."""
        return -(-frames // self.stride)

    def graph(self, mel: Tensor, frames: Tensor, depths: Sequence[int] = ()) -> Features:
        """`forward` of one window a recording, free of questions about the values in it, so that it can be traced."""
        x = self.normalised(mel, frames)
        T = mel.shape[1]
        whole = (T + self.stride - 1) // self.stride * self.stride
        x = nn.functional.pad(x, (0, 0, 0, self.stride - 1))[:, :whole]
        said = self.layers(x, frames)
        pooled = [self._share(said[depth], depth, frames, frames) for depth in [*depths, self.n_depths - 1]]
        valid = counted(self.tokens_of(frames), said[-1].shape[1])
        return Features(said[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def _said(self, x: Tensor, frames: Tensor, depths: Sequence[int]) -> Features:
        """What is said of normalised frames [B T M] of any T, by windows where it is more than `length`."""
        (B, T, _), L = x.shape, self.length
        N = self.tokens_of(T)
        valid = counted(self.tokens_of(frames), N)
        depths = [*depths, self.n_depths - 1]
        if T <= L:
            x = nn.functional.pad(x, (0, 0, 0, N * self.stride - T))
            said = self.layers(x, None if bool((frames == x.shape[1]).all()) else frames)
            pooled = [self._share(said[depth], depth, frames, frames) for depth in depths]
            return Features(said[-1], pooled[-1], valid, depths=tuple(pooled[:-1]))
        W = -(-T // L)
        windows = nn.functional.pad(x, (0, 0, 0, W * L - T)).reshape(B * W, L, -1)
        inside = (frames[:, None] - L * torch.arange(W, device=x.device)).clamp(0, L).reshape(-1)  # [B*W]
        used = inside.nonzero()[:, 0]  # [U]
        parts = [self._windows(windows, inside, frames, some, depths, W) for some in torch.split(used, self.at_once)]
        row = used // W
        pooled = []
        for number in range(len(depths)):  # a recording's mean is the sum of its windows' shares in it
            shares = torch.cat([shares[number] for _, shares in parts])  # [U D_i]
            pooled.append(shares.new_zeros(B, shares.shape[1]).index_add(0, row, shares))
        tokens = torch.cat([tokens for tokens, _ in parts])  # [U L/stride D]
        whole = tokens.new_zeros(B * W, *tokens.shape[1:]).index_copy(0, used, tokens)
        return Features(whole.reshape(B, -1, self.dim)[:, :N], pooled[-1], valid, depths=tuple(pooled[:-1]))

    def _windows(
        self, windows: Tensor, inside: Tensor, frames: Tensor, some: Tensor, depths: Sequence[int], W: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens [U N D] of some of the windows [B*W L M], and their shares in the means of their recordings."""
        own = inside[some]
        said = self.layers(windows[some], None if bool((own == self.length).all()) else own)
        return said[-1], [self._share(said[depth], depth, own, frames[some // W]) for depth in depths]

    def _share(self, said: Tensor, depth: int, inside: Tensor, frames: Tensor) -> Tensor:
        """The sum over tokens of `inside` frames at this depth, over the number of those of `frames`, [B D_i]."""
        stride = self.strides[depth]
        weight = counted(-(-inside // stride), said.shape[1]) / (-(-frames // stride))[:, None]  # [B N_i]
        return torch.einsum("bn,bnd->bd", weight.to(said.dtype), said.flatten(2))

    def prepare(
        self,
        sounds: Sound | Sequence[Sound],
        *,
        rate: int | None = None,
        channels: str | None = None,
        start: float | Sequence[float] = 0.0,
        end: float | Sequence[float] = math.inf,
    ) -> Batch:
        """Paths or arrays as a batch on the encoder's device, prepared as for its training.

        An array is one recording [S] or [S C], int16 or float in [-1, 1], of `rate` samples per second. Its channel is
        the one that training heard (`spec.channels`), unless `channels` says mix, left, right or separate; it is
        resampled to `spec.rate`. `start` and `end` are seconds of the stretch that is meant, for all or one for each.
        Returns `audio` [B S] int16, `length` [B] and `index` [B], the number of the sound: separate channels are rows
        of their own. UserError names what is no sound.
        """
        from tacit.modalities.audio.decode import as_samples, channels_of, excerpt
        from tacit.modalities.audio.options import MIXES, SEPARATE

        sounds = [sounds] if isinstance(sounds, str | Path | np.ndarray) else list(sounds)
        if not sounds:
            raise UserError("no sounds to prepare; pass at least one path or array")
        heard = channels or self.spec.channels or "mix"
        if heard not in (*MIXES, SEPARATE):
            raise UserError(f"channels={heard!r} is none; choose from {', '.join((*MIXES, SEPARATE))}")
        begins, ends = (_each(seconds, len(sounds)) for seconds in (start, end))
        rows, index = [], []
        for number, (sound, begin, stop) in enumerate(zip(sounds, begins, ends, strict=True)):
            given = isinstance(sound, np.ndarray)
            if not given and not isinstance(sound, str | Path):
                raise UserError(f"cannot prepare {sound!r}, a {type(sound).__name__}; pass paths or arrays")
            try:
                chosen = range(channels_of(sound)) if heard == SEPARATE else [heard]
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
        """What the opened files of `hugging_face()` say of recordings: pooled [B D] and tokens [B N D]."""
        raise NotImplementedError(self.name)

    def shape(self) -> dict[str, Any]:
        """What `encoder.json` says of the kind's own."""
        return {"stride": self.stride, "length": self.length}

    pooling = "mean over tokens of frames that count"


def _each(seconds: float | Sequence[float], count: int) -> list[float]:
    """Seconds of each sound, given for all or one by one."""
    found = [float(seconds)] * count if isinstance(seconds, int | float) else [float(value) for value in seconds]
    if len(found) != count:
        raise UserError(f"{len(found)} starts or ends for {count} sounds; give one for all, or one each")
    return found


def window_length(spec: AudioSpec, stride: int) -> int:
    """How many frames are embedded at once: those of `spec.seconds`, in whole tokens."""
    return max(1, round(spec.seconds * spec.rate / spec.hop) // stride) * stride


def counted(numbers: Tensor, places: int) -> Tensor:
    """True [B places] at the first `numbers` [B] of each row."""
    return torch.arange(places, device=numbers.device) < numbers[:, None]
