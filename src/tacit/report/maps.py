"""The map of embeddings in two dimensions: its drawing, its legend, and the script's data for each point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tacit.report import words
from tacit.report.charts import COLOURS
from tacit.report.drawing import shortened, svg, tag, text
from tacit.report.figures import Points
from tacit.report.images import PIXELATED_BELOW, Sheet

MOST_POINTS = 1500
STEPS = 5  # of a scale of numbers, v0 ... v4, each for equally many points
FEWEST = 5  # points that a name needs for a colour where there are too many names
SHAPES = (  # one outline per round of colours, about 7 px wide, drawn from the point's centre
    "m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0",
    "m-3-3h6v6h-6z",
    "m0-4l4 7h-8z",
    "m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4z",
)
MOST_NAMED = COLOURS * len(SHAPES)  # names that colours and shapes can distinguish


def style(group: int) -> str:
    """CSS classes of a class's colour and of its shape in the legend."""
    return f"c{group % COLOURS} s{group // COLOURS}"


def drawn(points: Points) -> dict[str, Any]:
    """The map's drawing and its script's data; both axes share one scale, so that distances are comparable."""
    count = len(points.x)
    keep = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)
    xy = np.nan_to_num(np.stack([np.asarray(points.x, float), np.asarray(points.y, float)], 1))[keep]
    middle, span = (xy.max(0) + xy.min(0)) / 2, np.maximum(xy.max(0) - xy.min(0), 1e-9)
    width, edge = 760, 20
    height = round(width * min(max(span[1] / span[0], 0.5), 0.95))
    scale = min((width - 2 * edge) / span[0], (height - 2 * edge) / span[1])
    places = ((xy - middle) * [scale, -scale] + [width / 2, height / 2]).round().astype(int).tolist()
    label = [points.label[i] for i in keep] if len(points.label) else [""] * len(keep)
    if len(points.value):
        groups, names = in_steps(np.asarray(points.value, float)[keep])
        styles = [f"v{step}" for step in range(len(names))]
    else:
        groups, names, styles = by_name(label)
    shown = [points.image[i] for i in keep] if len(points.image) else []
    texts = shown if shown and isinstance(shown[0], str) else []
    sheet = Sheet(shown) if shown and not texts else None
    return {
        "chart": scatter(places, groups, names, styles, width, height, titled=not len(points.value)),
        "names": [(number, *named) for number, named in enumerate(zip(names, styles, strict=False))],
        "sheet": sheet,
        "tiny": sheet is not None and sheet.cell <= PIXELATED_BELOW,
        "noun": points.noun,
        "arm": points.arm,
        "method": points.method,
        "shown": len(keep),
        "count": count,
        "json": {
            "xy": places,
            "group": groups,
            "names": names,
            "label": label if len(points.value) else [],
            "ids": [points.id[i] for i in keep] if len(points.id) else [],
            "texts": texts,
            "columns": sheet.columns if sheet else 0,
            "rows": sheet.rows if sheet else 0,
        },
    }


def by_name(label: Sequence[str]) -> tuple[list[int], list[str], list[str]]:
    """The number of each point's name, the names, and the styles of the first of them.

    Where there are more names than styles, these go to the most frequent.
    """
    sizes = Counter(name for name in label if name)
    names = sorted(sizes)
    coloured = len(names)
    if len(names) > MOST_NAMED:
        names.sort(key=lambda name: -sizes[name])
        coloured = min(MOST_NAMED, sum(size >= FEWEST for size in sizes.values()))
    number = {name: i for i, name in enumerate(names)}
    return [number.get(name, -1) for name in label], names, [style(group) for group in range(coloured)]


def in_steps(values: NDArray[np.float64]) -> tuple[list[int], list[str]]:
    """The number of each value's step, -1 for NaN, and the steps as ranges, from the lowest to the highest."""
    known = values[np.isfinite(values)]
    bounds = np.unique(np.quantile(known, np.linspace(0, 1, STEPS + 1)[1:-1])) if len(known) else known
    step = np.where(np.isfinite(values), np.searchsorted(bounds, values), -1)
    used, numbered = np.unique(step[step >= 0], return_inverse=True)
    step[step >= 0] = numbered
    parts = [values[step == number] for number in range(len(used))]
    return step.tolist(), [f"{words.number(part.min())} to {words.number(part.max())}" for part in parts]


def scatter(
    places: Sequence[tuple[float, float]],
    groups: Sequence[int],
    names: Sequence[str],
    styles: Sequence[str],
    width: int,
    height: int,
    *,
    titled: bool = True,
) -> Markup:
    """A map of points in px; `groups` numbers each point's name, -1 for none. One path per group keeps it small.

    Groups beyond the last of `styles` are grey; `titled` writes the names of the others into the map.
    """
    parts: list[object] = []
    middles: dict[int, tuple[float, float]] = {}
    spots: dict[int, list[tuple[float, float]]] = {}
    for place, group in zip(places, groups, strict=True):
        spots.setdefault(group, []).append(place)
    for group, those in sorted(spots.items()):
        plain = not 0 <= group < len(styles)
        outline = SHAPES[0 if plain or not titled else group // COLOURS]
        d = "".join(f"M{x:.0f} {y:.0f}{outline}" for x, y in those)
        parts.append(tag("path", d=d, class_=f"points {'g1' if plain else styles[group]}", data_group=group))
        if titled and not plain:
            xs, ys = sorted(x for x, _ in those), sorted(y for _, y in those)
            middles[group] = xs[len(xs) // 2], ys[len(ys) // 2]
    for group, (x, y) in middles.items():
        name = shortened(names[group], 18)
        # Names are larger on a phone: one that fits a laptop only is hidden there.
        fits = [_is_clear(group, middles, names, width=size, height=2 * size) for size in (9, 14)]
        if fits[0]:
            parts.append(text(x, y + 4, name, "middle", f"halo strong{'' if fits[1] else ' laptop'}"))
    label = f"Map of {len(places)} embeddings" + (f" in {len(names)} classes" if names and titled else "")
    return svg(width, height, label, *parts, tag("circle", r=8, class_="ring"), class_="chart map")


def _is_clear(
    group: int, middles: dict[int, tuple[float, float]], names: Sequence[str], *, width: int, height: int
) -> bool:
    """Whether a name of letters this large in px touches none of the names before it, drawn or not."""
    x, y = middles[group]
    return not any(
        abs(x - u) < width * (min(len(names[group]), 18) + min(len(names[other]), 18)) / 2 and abs(y - v) < height
        for other, (u, v) in middles.items()
        if other < group
    )
