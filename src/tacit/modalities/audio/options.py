"""Options of recordings and the names of their encoders, importable without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from tacit.core.errors import UserError, nearest
from tacit.data.signs import Signs
from tacit.modalities.options import ModalityOptions

MIXES = ("mix", "left", "right")
SEPARATE = "separate"  # each channel is an example of its own
RATES = (4_000, 48_000)  # Hz, of resampled sounds
SECONDS = (0.5, 60.0)  # that an encoder sees at once
WHOLE = "none"  # given in place of a column's name to read whole files

READS = "recordings"  # the noun in messages for what these encoders read

ENCODERS = {
    "audio_convnet": "tacit.modalities.audio.convnet:AudioConvNet",
    "audio_nano": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_tiny": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_small": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_base": "tacit.modalities.audio.transformer:AudioTransformer",
    "ast_nano": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_tiny": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_small": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_base": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "audio_causal_nano": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_tiny": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_small": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_base": "tacit.modalities.audio.transformer:AudioTransformer",
    "wav2vec2_nano": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_tiny": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_small": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_base": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
}

_ENDINGS = "wav wave flac ogg oga opus mp3 aiff aif aifc au caf w64 m4a"

SIGNS = Signs(
    nouns="sounds",
    suffixes=frozenset(f".{ending}" for ending in _ENDINGS.split()),
    columns=("audio", "sound", "wav", "recording", "bytes"),
    begins="tacit.modalities.audio.decode:is_sound",
)


@dataclass(frozen=True, kw_only=True)
class Options(ModalityOptions):
    """How recordings are read.

    Args:
        audio_column: the table's column of encoded sounds
        start_column: the column of the seconds at which each row's stretch of its sound begins; default: start, where a
            table of paths to sounds, or a label file of sounds, has both start and end; none: whole files are meant
        end_column: the column of the seconds at which it ends; default: end, likewise
        rate: samples per second that sounds are resampled to, 4,000 to 48,000 Hz; default: the commonest of the files,
            at most 16,000
        seconds: of sound that an encoder sees at once, 0.5 to 60; default 10
        channels: mix (the mean of all, the default), left, right, or separate: each channel is an example of its own
    """

    group = "sound"
    columns: ClassVar[tuple[str, ...]] = ("audio_column", "start_column", "end_column")
    of_labels: ClassVar[tuple[str, ...]] = ("start_column", "end_column")
    together: ClassVar[tuple[str, ...]] = ("seconds",)

    audio_column: str | None = None
    start_column: str | None = None
    end_column: str | None = None
    rate: int | None = None
    seconds: float | None = None
    channels: str | None = None

    @property
    def whole(self) -> bool:
        """True if whole files are read even where columns start and end exist."""
        return WHOLE in (self.start_column, self.end_column)

    @property
    def span(self) -> tuple[str | None, str | None]:
        """The columns named for where a segment begins and ends."""
        return (None, None) if self.whole else (self.start_column, self.end_column)

    def named(self) -> str:
        return replace(self, start_column=None, end_column=None).named() if self.whole else super().named()

    def settled(self, before: Mapping[str, Any], names: Collection[str]) -> tuple[Self, list[str]]:
        spans = {name: before.get(name) for name in ("start_column", "end_column")}
        if WHOLE in spans.values() or self.whole:
            found, lost = super().settled({k: v for k, v in before.items() if k not in spans}, names)
            named = self.start_column or self.end_column
            return (found if named else replace(found, start_column=WHOLE)), lost
        return super().settled(before, names)

    def check(self) -> None:
        if self.rate is not None and not RATES[0] <= self.rate <= RATES[1]:
            raise UserError(f"--rate {self.rate} is out of range; choose {RATES[0]:,} to {RATES[1]:,} Hz")
        if self.seconds is not None and not SECONDS[0] <= self.seconds <= SECONDS[1]:
            raise UserError(f"--seconds {self.seconds:g} is out of range; choose {SECONDS[0]:g} to {SECONDS[1]:g} s")
        choices = (*MIXES, SEPARATE)
        if self.channels not in (None, *choices):
            near = nearest(str(self.channels), choices)
            raise UserError(f"--channels {self.channels} is none{near}; choose from {', '.join(choices)}")
