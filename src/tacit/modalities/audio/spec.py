"""Sound as an encoder sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import SpecOf, number, whole

if TYPE_CHECKING:
    from tacit.modalities.audio.encoder import AudioEncoder  # noqa: F401  (the base class names it)

# Limits on what a stranger's file may claim: frames, samples of a frame, bands, samples a second.
MOST_FRAMES, LONGEST_FRAME, MOST_MELS, MOST_SAMPLES = 1 << 18, 1 << 16, 1 << 10, 1 << 24


@dataclass(frozen=True)
class AudioSpec(SpecOf["AudioEncoder"]):
    """Sound as an encoder sees it: one channel of `rate` samples per second, as log-mel frames.

    A frame is `window` samples, the next one `hop` samples later; `mels` bands from `low` to `high` Hz. An encoder sees
    at most `seconds` at once. `mean` and `std` are those of the data's log-mel values. `channels` names the one
    channel that is taken of several: mix (their mean), left, right, or separate, each an example of its own.
    """

    kind: ClassVar[str] = "audio"

    rate: int  # Hz
    seconds: float
    window: int  # samples
    hop: int  # samples
    mels: int
    low: float  # Hz
    high: float  # Hz
    mean: float
    std: float
    channels: str | None = None  # None if unspecified

    def __post_init__(self) -> None:
        assert 0 < self.hop <= self.window, self
        assert self.mels > 0, self
        assert 0 <= self.low < self.high <= self.rate / 2, self
        assert self.seconds > 0, self
        assert self.std > 0, self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AudioSpec:
        most = {"rate": MOST_SAMPLES, "window": LONGEST_FRAME, "hop": LONGEST_FRAME, "mels": MOST_MELS}
        counts = {name: whole(values, name, many) for name, many in most.items()}
        parts = {name: number(values[name], name) for name in ("seconds", "low", "high", "mean", "std")}
        if parts["seconds"] * counts["rate"] > MOST_FRAMES * counts["hop"]:
            raise ValueError(f"seconds is {parts['seconds']:g}, more than {MOST_FRAMES:,} frames")
        return cls(**{**counts, **parts}, channels=values.get("channels"))  # type: ignore[arg-type]
