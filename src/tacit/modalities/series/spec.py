"""The spec of time series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tacit.core.spec import SpecOf, number, numbers, whole

if TYPE_CHECKING:
    from tacit.modalities.series.encoder import SeriesEncoder  # noqa: F401  (the base class names it)

# Limits on values in files, which may be untrusted.
MOST_CHANNELS, MOST_STEPS = 1 << 10, 1 << 16


@dataclass(frozen=True)
class SeriesSpec(SpecOf["SeriesEncoder"]):
    """Time series of several channels at regular steps, of which an encoder sees at most `length` at once.

    `mean` and `std` are those of each channel in the training data. Values are normalised by the mean and deviation of
    `relative_to`: the data, or each series. A `step` is so many seconds, or whatever the times of the data counted;
    `names` are the channels' where they came from columns of files.
    """

    kind: ClassVar[str] = "series"

    channels: int
    length: int  # steps
    mean: tuple[float, ...]
    std: tuple[float, ...]
    relative_to: str = "data"
    step: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.mean) == len(self.std) == self.channels, self
        assert min(self.std) > 0, self
        assert self.length > 1, self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SeriesSpec:
        counts = {name: whole(values, name, most) for name, most in SIZES.items()}
        mean, std = numbers(values, "mean"), numbers(values, "std")
        if not len(mean) == len(std) == counts["channels"] or min(std) <= 0 or counts["length"] < 2:
            raise ValueError(f"{len(mean)} means and {len(std)} deviations of {counts['channels']} channels")
        relative_to = values.get("relative_to", "data")
        if relative_to not in ("data", "series"):
            raise ValueError(f"relative_to is {relative_to!r:.40}")
        step, names = values.get("step"), values.get("names") or ()
        if step is not None and not number(step, "step") > 0:
            raise ValueError(f"step is {step!r:.40}")
        texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        if not texts or len(names) not in (0, counts["channels"]):
            raise ValueError(f"names are {names!r:.40}")
        return cls(**counts, mean=mean, std=std, relative_to=relative_to, step=step, names=tuple(names))


SIZES = {"channels": MOST_CHANNELS, "length": MOST_STEPS}
