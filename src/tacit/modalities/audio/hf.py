"""Models of sound from a Hugging Face folder, behind their own feature extractor: samples or spectrograms.

Each recording is embedded alone, padded only by its extractor, so that the rest of a batch changes nothing; one longer
than the model's window is embedded in several. `pooled` is the mean of the tokens of its own samples, over all windows.
A model of patches of a spectrogram (AST) has one token for each segment of time, the mean of its patches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.logmel import FULL
from tacit.modalities.audio.options import RATES
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.hf_folder import (
    Public,
    check_complete,
    first_line,
    freeze_unused,
    load_model,
    processor_settings,
    quiet,
)

SECONDS = 30.0  # of a window, where the model sets no limit
LEAST = 0.05  # seconds; a shorter recording is padded with silence
WINDOW, HOP, MELS, MELS_NARROW, LOW = 0.025, 0.010, 64, 40, 50.0  # of frames, as in the store
LARGEST_SETTING = 1 << 23  # samples, the most that an extractor may make of a window
LARGEST_TABLE = 1 << 16  # of bands and frequencies
KNOWN = ("Wav2Vec2", "AST", "Whisper", "SeamlessM4T", "Speech2Text", "Clap")
ONE = "AST"  # its tokens lie in a plane of time and pitch


class Embedded(NamedTuple):
    """The embedding of one recording."""

    tokens: Tensor  # [n D]
    pooled: Tensor  # [D]
    means: list[Tensor]  # of some depths, [D] each
    counts: list[int]  # tokens of each window


class HuggingFaceAudio(AudioEncoder):
    """A Hugging Face model of sound behind its own feature extractor. It hides no tokens, and has no graph."""

    masked = None  # type: ignore[assignment]  # so that it does not satisfy `Masking`
    traceable = False
    untraceable = "its feature extractor is none"
    at_once = 8

    def __init__(
        self, name: str, model: PreTrainedModel, extractor: Any, settings: Mapping[str, Any], source: dict[str, Any]
    ) -> None:
        rate = int(extractor.sampling_rate)
        config = _core(model).config
        if hasattr(config, "apply_spec_augment"):
            config.apply_spec_augment = False
        for key in ("layerdrop", "encoder_layerdrop"):
            if hasattr(config, key):
                setattr(config, key, 0.0)
        window, fixed = _window(extractor, rate)
        noise = np.random.default_rng(0).standard_normal(min(window, rate)).astype(np.float32) / 8
        try:
            states = _hidden_states(model.eval(), extractor, noise)
            again = _hidden_states(model, extractor, noise)[-1]
        except Exception as error:  # whatever they raise, they do not work on samples alone
            raise UserError(f"{name} does not embed a second of sound: {first_line(error)}") from None
        if not torch.allclose(states[-1], again, rtol=1e-3, atol=1e-4):
            raise UserError(f"{name} answers one sound with other numbers each time; choose a model that draws nothing")
        freeze_unused(model, states[-1])
        same = [of for of in states[1:-1] if of.ndim == 3 and of.shape[:2] == states[-1].shape[:2]]
        depths = 1 + len(same) if len(same) == len(states) - 2 else 1
        hop = round(rate * HOP)
        per_token = _per_token(
            config, extractor, hop, window if fixed else len(noise), _rows(config, extractor, states[-1])[1]
        )
        stride = max(1, round(per_token / hop))
        spec = AudioSpec(
            rate=rate,
            seconds=window / rate,
            window=2 * round(rate * WINDOW / 2),
            hop=hop,
            mels=MELS if rate >= 16_000 else MELS_NARROW,
            low=LOW,
            high=rate / 2,
            mean=0.0,
            std=1.0,
        )
        super().__init__(name, spec, dim=states[-1].shape[2], strides=[stride] * depths)
        self.extractor, self.extractor_settings = extractor, dict(settings)
        self.samples, self.fixed, self.least = window, fixed, _least(config, rate)
        self.per_token = per_token
        self.source = source
        self.model = model
        self.pooling = "the mean of last_hidden_state over the tokens of the recording's own samples"

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed `audio` [B S], int16 or float in [-1, 1], and `length` [B]."""
        return self._read(self.model, *self.frames(batch), depths)

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if "audio" not in batch or batch["audio"].ndim != 2:
            raise UserError(
                f"the encoder {self.name} takes audio [B S], not {', '.join(batch)}; encoder.prepare(sounds) makes "
                "such batches"
            )
        return batch["audio"], batch["length"]

    def layers(self, x: Tensor, frames: Tensor | None) -> Sequence[Tensor]:
        raise NotImplementedError(self.name)

    def front(self, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return audio, length

    def traced_front(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return self.front

    def front_settings(self) -> dict[str, Any]:
        return {}

    def graph(self, mel: Tensor, frames: Tensor, depths: Sequence[int] = ()) -> Features:
        return self._read(self.model, mel, frames, depths)

    def read(self, model: PreTrainedModel, audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        found = self._read(model, audio, length, ())
        return found.pooled, found.tokens

    def _read(self, model: PreTrainedModel, audio: Tensor, length: Tensor, depths: Sequence[int]) -> Features:
        device = self.mask_token.device
        whole = (audio.float() if audio.is_floating_point() else audio.float() / FULL).cpu().numpy()
        waves = [wave[: max(1, n)] for wave, n in zip(whole, length.tolist(), strict=True)]
        rows = [self._one(model, wave, depths) for wave in waves]
        places = [self._places(len(wave), row.counts) for wave, row in zip(waves, rows, strict=True)]
        N = int(self.tokens_of(1 + (max(1, audio.shape[1]) - 1) // self.spec.hop))
        at = torch.zeros(len(rows), N, dtype=torch.int64)
        valid = torch.zeros(len(rows), N, dtype=torch.bool)
        for number, (where, real) in enumerate(places):
            at[number, : len(where)], valid[number, : len(where)] = where, real
        tokens = torch.stack([row.tokens[where] for row, where in zip(rows, at.to(device), strict=True)])  # [B N D]
        inner = tuple(torch.stack([row.means[number] for row in rows]) for number in range(len(depths)))
        return Features(tokens, torch.stack([row.pooled for row in rows]), valid.to(device), depths=inner)

    def _one(self, model: PreTrainedModel, wave: NDArray[np.float32], depths: Sequence[int]) -> Embedded:
        """Embed one recording [S]."""
        cuts = self._cuts(len(wave))
        parts: list[Any] = np.split(wave, cuts)
        if cuts and not self.fixed:  # a recording is normalised as a whole
            whole = self.extractor(wave, sampling_rate=self.spec.rate, return_tensors="np")
            if "input_values" in whole:
                parts = [torch.from_numpy(of) for of in np.split(np.asarray(whole["input_values"][0]), cuts)]
        config = _core(model).config
        windows: list[Tensor] = []
        sums: list[list[Tensor]] = [[] for _ in depths]
        for part in parts:
            states = _hidden_states(model, self.extractor, part, self.least)
            last, n = _rows(config, self.extractor, states[-1])
            n = min(n, max(1, math.ceil(len(part) / self.per_token))) if self.fixed else n
            windows.append(last[:n])
            for number, depth in enumerate(depths):
                own = last if depth == self.n_depths - 1 else _rows(config, self.extractor, states[1 + depth])[0]
                sums[number].append(own[:n].sum(0))
        tokens = torch.cat(windows)
        means = [torch.stack(of).sum(0) / len(tokens) for of in sums]
        return Embedded(tokens, tokens.mean(0), means, [len(of) for of in windows])

    def _cuts(self, samples: int) -> list[int]:
        """Where a recording is cut into windows of whole tokens; empty if it fits into one."""
        if samples <= self.samples:
            return []
        step = self.stride * self.spec.hop
        window = max(step, self.samples // step * step)
        cuts = list(range(window, samples, window))
        return cuts[:-1] if samples - cuts[-1] < self.least else cuts  # the rest is too short for a window

    def _places(self, samples: int, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The token of every segment of `stride` frames of a recording, [N], and whether the segment has its own."""
        step = self.stride * self.spec.hop
        begins = torch.arange(0, max(1, samples), step)  # [N]
        starts = torch.tensor([0, *self._cuts(samples)])
        window = torch.searchsorted(starts, begins, right=True) - 1
        inner = ((begins - starts[window]) / self.per_token + 1e-6).long()
        n = torch.tensor(counts)
        return (n.cumsum(0) - n)[window] + inner.minimum(n[window] - 1), inner < n[window]

    def untrained(self) -> HuggingFaceAudio:
        with quiet(), torch.inference_mode(False), torch.enable_grad():
            model = AutoModel.from_config(self.model.config, trust_remote_code=False, dtype=torch.float32)
            return HuggingFaceAudio(self.name, model, self.extractor, self.extractor_settings, dict(self.source))

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def write_companions(self, folder: Path) -> None:
        """Write the settings of the feature extractor, as in the model's own folder."""
        (folder / "preprocessor_config.json").write_text(json.dumps(self.extractor_settings, indent=2))


def open_audio(public: Public) -> tuple[HuggingFaceAudio, tuple[str, ...]]:
    """Load a model of sound from its folder; also return remarks for the person."""
    name, _, folder, config, weights, source = public
    settings = processor_settings(folder, "feature_extractor", "preprocessor_config.json")
    kind = str(
        (settings or {}).get("feature_extractor_type") or FEATURE_EXTRACTOR_MAPPING_NAMES.get(config.model_type) or ""
    )
    if config.model_type.partition("_audio")[0] == "clap":
        kind = kind or "ClapFeatureExtractor"
    if kind.removesuffix("FeatureExtractor") not in KNOWN:
        raise UserError(
            f"{name} hears through {kind or 'nothing that its folder names'} ({config.model_type}), which is not read; "
            "choose a model like wav2vec 2.0, HuBERT, WavLM, AST or Whisper"
        )
    _bounded(folder, settings or {})
    try:
        extractor = getattr(transformers, kind).from_dict(dict(settings or {}))
        rate = int(extractor.sampling_rate)
    except Exception as error:  # whatever the class raises, the folder is the cause
        raise UserError(f"cannot open the feature extractor of {name}: {first_line(error)}") from None
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"{name} hears sounds of {rate:,} Hz; {RATES[0]:,} to {RATES[1]:,} Hz can be read")
    loaded = load_model(AutoModel, folder, config, weights)
    remarks = list(loaded.remarks)
    if settings is None:
        settings = {**extractor.to_dict(), "feature_extractor_type": kind}
        settings = {key: value for key, value in settings.items() if isinstance(value, str | int | float | bool)}
        remarks.append(f"its folder does not say how sounds are prepared; {kind} at {rate:,} Hz is taken")
    found = HuggingFaceAudio(name, loaded.model, extractor, settings, source)
    check_complete(loaded, _core(loaded.model))
    return found.eval(), tuple(remarks)


def _bounded(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise UserError for an extractor whose output could exceed a machine's memory."""
    for key, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            table = any(part in key for part in ("feature_size", "mel", "fft", "hop", "frame"))
            most = LARGEST_TABLE if table and "max" not in key else LARGEST_SETTING
            if not abs(value) <= most or ("chunk" in key and abs(value) > 600):
                raise UserError(f"{folder}: its feature extractor says {key} {value:,}; do not trust it")


def _core(model: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that reads sound: the encoder of an encoder-decoder, or the audio tower."""
    if getattr(model.config, "is_encoder_decoder", False):
        found: PreTrainedModel = model.get_encoder()
        return found
    return getattr(model, "audio_model", model)


def _window(extractor: Any, rate: int) -> tuple[int, bool]:
    """The samples of a window, and whether the extractor pads shorter sounds to it."""
    kind = type(extractor).__name__
    if kind.startswith("AST"):  # frames of 25 ms every 10 ms
        return 400 + 160 * (int(extractor.max_length) - 1), True
    if kind.startswith("Whisper"):
        return int(extractor.n_samples), True
    if kind.startswith("Clap"):
        return int(extractor.nb_max_samples), True
    return int(SECONDS * rate), False


def _least(config: Any, rate: int) -> int:
    """The least number of samples that make a token."""
    kernels, strides = getattr(config, "conv_kernel", None), getattr(config, "conv_stride", None)
    samples = 1
    if isinstance(kernels, list | tuple) and isinstance(strides, list | tuple):
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=False):
            samples = (samples - 1) * int(stride) + int(kernel)
    return max(samples, round(LEAST * rate))


def _per_token(config: Any, extractor: Any, hop: int, samples: int, tokens: int) -> float:
    """Samples from one token to the next, in whole frames unless the model fixes the tokens of a window."""
    if type(extractor).__name__.startswith("AST"):
        return 160.0 * int(config.time_stride)
    if type(extractor).__name__.startswith("Whisper"):
        return int(extractor.n_samples) / tokens
    near = max(1, round(samples / tokens / hop)) * hop  # some samples at the end have no token of their own
    return float(near)


def _hidden_states(model: PreTrainedModel, extractor: Any, wave: Any, least: int = 0) -> list[Tensor]:
    """The states of all layers for one window, [1 N D] each: the first layer's input first, the model's output last."""
    core = _core(model)
    device = next(core.parameters()).device
    if isinstance(wave, Tensor):  # normalised as a part of its recording
        inputs: dict[str, Tensor] = {"input_values": wave[None]}
    else:
        rate = extractor.sampling_rate
        if least > len(wave):
            wave = np.pad(wave, (0, least - len(wave)))
        inputs = dict(extractor(wave, sampling_rate=rate, return_tensors="pt"))
    name = core.main_input_name
    given = {name: inputs.get(name, next(iter(inputs.values()))).to(device)}
    for other in ("attention_mask", "is_longer"):
        if other in inputs and name == "input_features" and not type(extractor).__name__.startswith("Whisper"):
            given[other] = inputs[other].to(device)
    output = core(**given, output_hidden_states=True)
    last = output.last_hidden_state
    if last.ndim == 4:  # a plane without an axis of time
        return [last, last.flatten(2).mean(2)[:, None]]
    hidden = list(output.hidden_states or ())
    return [*hidden[:-1], last] if len(hidden) > 1 else [last, last]


def _rows(config: Any, extractor: Any, states: Tensor) -> tuple[Tensor, int]:
    """The tokens [n D] of a window, one for each segment of time, and their number."""
    if type(extractor).__name__.startswith(ONE):
        high = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        wide = (config.max_length - config.patch_size) // config.time_stride + 1
        patches = states[0, states.shape[1] - high * wide :]
        return patches.reshape(high, wide, -1).mean(0), wide
    return states[0], states.shape[1]
