"""Numbers over time as small drawings: a line for each channel, with gaps at missing values."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE, HIGH, EDGE = 96, 64, 3  # of a drawing
COLOURS = ("#2a6fdb", "#d9662b", "#2d9d78", "#8a5cc2", "#b8860b", "#555")
MOST_CHANNELS = 6
_MOST_POINTS = 2 * WIDE


@dataclass(frozen=True, eq=False)
class Curve:
    """Channels over time [C T], NaN where there is a gap. An image of it is `np.asarray(curve)`, [H W] in [0, 1].

    `span` is the lowest and the highest value of the drawing; by default those of the values themselves.
    """

    values: NDArray[np.floating[Any]]
    span: tuple[float, float] | None = None

    @property
    def uri(self) -> str:
        """A `data:` address of the drawing as SVG."""
        lines = []
        for number, (x, y) in enumerate(self._points()):
            known = np.isfinite(y)
            starts = np.flatnonzero(known & ~np.append(False, known[:-1]))
            stops = np.flatnonzero(known & ~np.append(known[1:], False)) + 1
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                at = range(start, stop) if stop > start + 1 else (start, start)
                path = "L".join(f"{x[i]:.1f} {y[i]:.1f}" for i in at)
                lines.append(f'<path d="M{path}" stroke="{COLOURS[number % len(COLOURS)]}"/>')
        box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}"'
        style = 'fill="none" stroke-width="1.2" stroke-linecap="round" stroke-linejoin="round"'
        drawing = f"<svg {box}><g {style}>{''.join(lines)}</g></svg>"
        return f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The drawing in grey [H W], for sheets of many small ones."""
        image = np.ones((HIGH, WIDE), np.float32)
        columns = np.arange(WIDE)
        rows = np.arange(HIGH)[:, None]
        for x, y in self._points():
            known = np.isfinite(y)
            if known.any():
                here = np.interp(columns, x[known], y[known])
                beside = np.interp(columns + 1, x[known], y[known])
                low, high = np.minimum(here, beside) - 0.7, np.maximum(here, beside) + 0.7
                image[(rows >= low) & (rows <= high)] = 0.15
        return image if dtype is None else image.astype(dtype)

    def _points(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Coordinates x [P] and y [P] of each channel's points, in the drawing's units from its top left corner."""
        values = np.atleast_2d(np.asarray(self.values, np.float64))[:MOST_CHANNELS]
        values = np.where(np.isfinite(values), values, np.nan)
        known = values[np.isfinite(values)]
        low, high = self.span or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
        if not high > low:
            low, high = low - 1.0, high + 1.0
        found = []
        for channel in values:
            at, of = _thinned(channel)
            x = EDGE + at / max(1, len(channel) - 1) * (WIDE - 2 * EDGE)
            y = EDGE + (high - np.clip(of, low, high)) / (high - low) * (HIGH - 2 * EDGE)
            found.append((x, y))
        return found


def _thinned(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and values, thinned: of each of equal segments the lowest and the highest, so that no peak
    is lost."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values), dtype=np.float64), values
    bounds = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(np.int64)
    at: list[int] = []
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = values[start:stop]
        if np.isnan(part).all():
            at.append(start)
        else:
            at += sorted({start + int(np.nanargmin(part)), start + int(np.nanargmax(part))})
    return np.asarray(at, np.float64), values[at]
