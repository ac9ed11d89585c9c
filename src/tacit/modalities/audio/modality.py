"""The modality of sound: what a run needs of it."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.encoder import OwnEncoder
from tacit.core.spec import Spec
from tacit.data.resolved import Spans
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.modalities.audio import export, recipes
from tacit.modalities.audio.convnet import AudioConvNet
from tacit.modalities.audio.decode import as_samples
from tacit.modalities.audio.frames import labelled_frames
from tacit.modalities.audio.options import MIXES, SECONDS, SEPARATE
from tacit.modalities.audio.recordings import Pieces, Recordings
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.audio.views import SILENCE, FrameStatistics, SoundStatistics, SoundViews, frames_of
from tacit.modalities.base import Modality, Units
from tacit.modalities.graph import GraphIO
from tacit.modalities.recipe import Recipe
from tacit.training.batches import Batches, Span
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.hf_folder import Public

PIECE = 2.0  # seconds of a recording that a step reads at most: twice a view
HEARD = 4.0  # seconds of a recording that a report plays
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz
WIDEST = 200  # frames of a spectrogram that stands for a recording


def as_mp3(sound: NDArray[np.int16], rate: int) -> bytes:
    """Encode samples [S] as MP3, which every browser plays."""
    file, supported = io.BytesIO(), next((supported for supported in MP3_RATES if supported >= rate), MP3_RATES[-1])
    soundfile.write(file, as_samples(sound, rate, supported), supported, format="MP3")
    return file.getvalue()


def _until_the_end(mel: Tensor) -> Tensor:
    """Cut the silence at the end that log-mel values [T M] were padded with; at least one frame stays."""
    loud = (mel > SILENCE + 1e-3).any(1).nonzero()
    return mel[: int(loud.max()) + 1] if len(loud) else mel[:1]


def spectrogram(mel: Tensor, spec: AudioSpec) -> NDArray[np.float32]:
    """Draw log-mel values [T M] as a grey picture [1 M T] in [0, 1]: low bands at the bottom, loud ones light."""
    shade = (mel - (spec.mean - 2 * spec.std)) / (4.5 * spec.std)
    picture: NDArray[np.float32] = shade.clamp(0, 1).T.flip(0)[None].numpy()
    return picture


class Sounds(Modality[AudioSpec, Recordings]):
    name = "audio"
    nouns = "sounds"
    spec = AudioSpec
    default_tasks = "simclr,masked"

    ingredients = recipes.SoundIngredients

    def default_encoder(self, spec: AudioSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: AudioSpec) -> SoundViews:
        return recipes.compared_views(spec)

    def scratch_views(self, spec: AudioSpec) -> SoundViews:
        return recipes.compared_views(spec)

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        return 256 if accelerated else 128

    def batches(self, store: Recordings, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        spec = store.spec
        pieces = Pieces(store, rows, min(PIECE, spec.seconds))
        return Batches(pieces.batch, Span(len(pieces)), batch_size=plan.batch_size, seed=seed)

    def units(self, store: Recordings, spans: Spans, rows: NDArray[np.int64], stride: int) -> Units:
        return labelled_frames(store, spans, rows, stride)

    def baselines(self, store: Recordings, split: Split, seed: int) -> list[Arm]:
        spec = store.spec
        if split.labelled is not None and split.labelled.tokens is not None:
            around = FrameStatistics(spec)
            return [
                Arm("log-mel", "baseline", encoders=(around,), encoder="log-mel bands, mean and deviation", own=True)
            ]
        bands, cepstra = SoundStatistics(spec), SoundStatistics(spec, cepstral=True)
        return [
            Arm(
                "log-mel",
                "baseline",
                encoders=(bands,),
                encoder="mean and deviation of log-mel in parts",
                own=True,
            ),
            Arm("mfcc", "baseline", encoders=(cepstra,), encoder="mean and deviation of MFCCs in parts", own=True),
        ]

    def compatible(self, spec: AudioSpec, other: AudioSpec) -> bool:
        return spec.rate == other.rate and other.channels in (None, spec.channels)

    def options_of(self, spec: AudioSpec) -> dict[str, Any]:
        found: dict[str, Any] = {"rate": spec.rate}
        if SECONDS[0] <= spec.seconds <= SECONDS[1]:
            found["seconds"] = spec.seconds
        return found if spec.channels is None else {**found, "channels": spec.channels}

    def fixed(self, spec: AudioSpec) -> dict[str, Any]:
        return {"rate": spec.rate, "seconds": spec.seconds}

    def restore_options(self, encoder: Any, settings: Mapping[str, Any]) -> None:
        if encoder.spec.channels is None and settings.get("channels") in (*MIXES, SEPARATE):
            encoder.spec = replace(encoder.spec, channels=settings["channels"])

    def adapt(self, encoder: Any, spec: Any) -> Any:
        """Take the channel of the data; with a feature extractor of its own, also their frames, for views."""
        if not isinstance(spec, AudioSpec):
            return encoder
        if encoder.name.startswith("hf:") and encoder.spec.rate == spec.rate and encoder.spec.hop == spec.hop:
            encoder.spec = replace(spec, seconds=encoder.spec.seconds)
        if spec.channels is not None:
            encoder.spec = replace(encoder.spec, channels=spec.channels)
        return encoder

    def bf16_pays(self, encoder: Any) -> bool:
        return isinstance(encoder, AudioConvNet)

    def graph(self, encoder: Any) -> GraphIO:
        return export.Sounds(encoder)

    public_inputs = ("input_values", "input_features")
    public_part = "audio_config"

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        from tacit.modalities.audio.hf import open_audio

        return open_audio(public)

    def describe(self, store: Recordings) -> str:
        spec = store.spec
        seconds = store.lengths / spec.rate
        return (
            f"{len(store):,} recordings of {seconds.mean():,.2g} s on average, {seconds.sum() / 3600:,.2f} h at "
            f"{spec.rate:,} Hz, {store.nbytes / 2**20:,.1f} MiB decoded"
        )

    def about(self, store: Recordings) -> list[str]:
        spec = store.spec
        low, middle, high = np.quantile(store.lengths / spec.rate, [0.05, 0.5, 0.95])
        window, hop = (1000 * samples / spec.rate for samples in (spec.window, spec.hop))
        return [
            f"length: median {middle:,.2f} s, nine in ten from {low:,.2f} to {high:,.2f} s; an encoder hears "
            f"{spec.seconds:g} s at once, longer recordings in several windows",
            f"frames: {spec.mels} mel bands from {spec.low:,.0f} to {spec.high:,.0f} Hz, {window:g} ms "
            f"every {hop:g} ms",
        ]

    def facts(self, store: Recordings) -> dict[str, Any]:
        spec = store.spec
        return {"rate": spec.rate, "mels": spec.mels, "hours": round(float(store.lengths.sum()) / spec.rate / 3600, 3)}

    def pictures(self, store: Recordings, rows: NDArray[np.int64]) -> Sequence[Any]:
        spec = store.spec
        batch = store.batch(rows)
        most = WIDEST * spec.hop
        mel, frames = frames_of({"audio": batch["audio"][:, :most], "length": batch["length"].clamp(max=most)}, spec)
        return [spectrogram(values[:n], spec) for values, n in zip(mel, frames.tolist(), strict=True)]

    def sounds(self, store: Recordings, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
        spec = store.spec
        return [as_mp3(sound[: round(HEARD * spec.rate)], spec.rate) for sound in store.sounds(rows)]

    def shown(self, store: Recordings, preview: Tensor) -> Sequence[Any]:
        spec = store.spec
        return [spectrogram(_until_the_end(values)[:WIDEST], spec) for values in preview.float().cpu()]


MODALITY = Sounds()
