"""Our own small charts as inline SVG: no scripts, no fonts, colours from the page's CSS classes.

Every chart is drawn for a width in px, so that its text keeps its size; a page holds a wide and a narrow drawing where
one does not serve both. All drawn values are repeated in `data-tip` (shown by the page's script) and in the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tacit.report import words
from tacit.report.drawing import linear, path, rule, shortened, spread, svg, tag, text, ticks

COLOURS = 8  # CSS classes c0 ... c7; g0 ... g3 are the greys of the baselines
FARTHEST = 1.0  # larger gains are drawn at the edge; only metrics without a lower bound, such as R2, have them
LOWEST = -0.25  # lower scores are drawn at the foot: how much worse than no features they are matters little


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (x, mean, low, high), low and high NaN where there is no interval."""

    name: str
    points: Sequence[tuple[float, float, float, float]]
    baseline: bool = False
    chosen: bool = False
    colour: str = "c0"


@dataclass(frozen=True)
class Gain:
    """A paired difference and its interval, in fractions of 1 (or in the metric's unit)."""

    baseline: str
    gain: float
    low: float
    high: float


def gains(rows: Sequence[Gain], width: int, metric: str, outcome: str, zone: float) -> Markup:
    """The gain over each baseline with its interval, against zero; within the `zone` it is of no practical size."""
    percent = words.is_fraction(metric)
    narrow = width < 480
    left, right, row, top = (14, 14, 58, 10) if narrow else (190, 150, 34, 8)
    height = top + row * len(rows) + 40
    values = [v for r in rows for v in (r.gain, r.low, r.high) if math.isfinite(v)] or [0.0]
    edge = FARTHEST if percent else math.inf
    low, high = max(min(0.0, *values), -edge), min(max(0.0, *values), edge)
    margin = max(0.06 * (high - low), 0.004 if percent else 0.001)
    place = linear(low - margin, high + margin, left, width - right)
    bottom = height - 40
    parts: list[object] = []

    def at(value: float) -> float:
        return min(max(place(value), left), width - right)

    if percent:
        parts.append(tag("rect", x=at(-zone), y=top, width=at(zone) - at(-zone), height=bottom - top, class_="zone"))
    scale = 100 if percent else 1
    for tick in ticks((low - margin) * scale, (high + margin) * scale, 4 if narrow else 6):
        x = at(tick / scale)
        parts.append(rule(x, top, x, bottom, "zero" if tick == 0 else "grid"))
        parts.append(text(x, bottom + 15, f"{tick:+g}".replace("-", "−") if tick else "0", "middle"))
    axis = f"percentage points{'' if narrow else f' of {words.plain(metric)}'}; shaded: within {100 * zone:g}"
    axis = axis if percent else f"difference in {words.plain(metric)}"
    parts.append(text((left + width - right) / 2, bottom + 32, axis, "middle"))
    for number, r in enumerate(rows):
        y = top + row * number + (row - 16 if narrow else row / 2)
        figures = f"{words.gain(r.gain, metric, unit=False)} {words.interval(r.low, r.high, metric)}"
        if narrow:
            parts.append(text(left, y - 15, shortened(f"vs {r.baseline}", 26), class_="halo strong"))
            parts.append(text(width - right, y - 15, figures, "end"))
        else:
            parts.append(text(left - 12, y + 4, shortened(f"vs {r.baseline}", 28), "end", class_="strong"))
            parts.append(text(width - right + 12, y + 4, figures))
        if math.isfinite(r.low) and math.isfinite(r.high):
            parts.append(rule(at(r.low), y, at(r.high), y, f"whisker o-{outcome}"))
            shown = (end for end in (r.low, r.high) if low - margin <= end <= high + margin)
            parts += [rule(at(end), y - 5, at(end), y + 5, f"whisker o-{outcome}") for end in shown]
        parts.append(tag("circle", cx=at(r.gain), cy=y, r=5, class_=f"dot o-{outcome}"))
    spoken = "; ".join(
        f"against {r.baseline} {words.gain(r.gain, metric)} {words.interval(r.low, r.high, metric)}" for r in rows
    )
    return svg(width, height, f"Gain with 95 % interval: {spoken}", *parts)


def curves(
    lines: Sequence[Line],
    width: int,
    metric: str,
    *,
    unit: str,
    primary: float | None = None,
    names: Mapping[float, str] | None = None,
) -> Markup:
    """Score against labels on a log axis, with interval bands and the names at the ends of the lines.

    `unit` is what labels are counted in, "labels per class"; `names` are those of the budgets.
    """
    percent = words.is_fraction(metric)
    scale = 100 if percent else 1
    narrow = width < 480
    height, longest = (330, 15) if narrow else (400, 24)
    left, right, top, bottom = 40, 112 if narrow else 168, 14, height - 44
    every = [p for line in lines for p in line.points]
    budgets = sorted({p[0] for p in every if p[0] > 0})
    values = [v for p in every for v in p[1:] if math.isfinite(v)] or [0.0, 1.0]
    low, high = foot(values) if percent else min(values), max(values)
    hidden = low > min(p[1] for p in every)
    margin = max(0.04 * (high - low), 0.005)
    low, high = low - margin, min(high + margin, 1.0 if percent else math.inf)
    first, last = (budgets[0], budgets[-1]) if budgets else (1.0, 10.0)
    along = linear(
        math.log(first), math.log(last) if last > first else math.log(first) + 1, left + 14, width - right - 8
    )
    onto = linear(low, high, bottom, top)
    parts: list[object] = []

    def up(value: float) -> float:
        return min(onto(value), float(bottom))

    for tick in ticks(low * scale, high * scale, 6):
        y = up(tick / scale)
        parts += [rule(left, y, width - right, y, "grid"), text(left - 7, y + 4, f"{tick:g}".replace("-", "−"), "end")]
    free = -math.inf
    for x in budgets:
        label = f"{x:,.0f}".replace(",", "\u202f") if x >= 10 or x == int(x) else f"{x:.1f}"
        place = along(math.log(x))
        parts.append(rule(place, bottom, place, bottom + 4, "axis"))
        if place - free > 7 * len(label) + 8 or free == -math.inf:
            parts.append(text(place, bottom + 18, label, "middle"))
            free = place
    parts.append(rule(left, bottom, width - right, bottom, "axis"))
    below = "; ▾ lower than drawn" if hidden else ""
    parts.append(text((left + width - right) / 2, bottom + 37, unit + below, "middle"))
    if primary in budgets and primary is not None:
        x = along(math.log(primary))
        parts.append(rule(x, top, x, bottom, "primary"))
        anchor = "start" if x < (left + width - right) / 2 else "end"
        parts.append(text(x + (5 if anchor == "start" else -5), bottom - 7, "primary budget", anchor, "small"))

    shown = [line for line in lines if line.points]
    for line in shown:  # bands below all lines
        band = [p for p in sorted(line.points) if math.isfinite(p[2]) and math.isfinite(p[3]) and p[0] > 0]
        if len(band) > 1:
            xs = [along(math.log(p[0])) for p in band]
            edge = [(x, up(p[3])) for x, p in zip(xs, band, strict=True)]
            edge += [(x, up(p[2])) for x, p in reversed(list(zip(xs, band, strict=True)))]
            parts.append(path(edge, f"band {line.colour}{' chosen' if line.chosen else ''}", close=True))
        elif len(band) == 1:
            [(x, _, low_end, high_end)] = band
            parts.append(
                rule(along(math.log(x)), up(low_end), along(math.log(x)), up(high_end), f"error {line.colour}")
            )
    for line in sorted(shown, key=lambda line: line.chosen):  # the chosen one on top
        spots = [(along(math.log(p[0])), up(p[1])) for p in sorted(line.points) if p[0] > 0]
        lost = [y >= bottom for _, y in spots]
        kind = "baseline" if line.baseline else "chosen" if line.chosen else "arm"
        parts.append(path(spots, f"line {kind} {line.colour}"))
        radius = 2.2 if line.baseline else 3.2
        seen = [spot for spot, off in zip(spots, lost, strict=True) if not off]
        parts += [tag("circle", cx=x, cy=y, r=radius, class_=f"dot {line.colour}") for x, y in seen]
        feet = [(x, y) for (x, y), off in zip(spots, lost, strict=True) if off]
        parts += [
            path([(x - 4, y - 4), (x + 4, y - 4), (x, y + 3)], f"foot {line.colour}", close=True) for x, y in feet
        ]

    reaching = [line for line in shown if max(line.points)[0] == last]
    ends = [up(max(line.points)[1]) for line in reaching]
    for line, y, place in zip(reaching, ends, spread(ends, 16, top + 2, bottom - 2), strict=True):
        side = width - right
        elbow = [(along(math.log(last)) + 5, y), (side + 4, place), (side + 9, place)]
        parts.append(path(elbow, f"leader {line.colour}"))
        parts.append(text(side + 12, place + 4, shortened(line.name, longest), class_=_name(line)))
    early = [line for line in shown if line not in reaching]  # such as training from scratch: named where they end
    places = spread([up(max(line.points)[1]) - 8 for line in early], 15, top + 8, bottom - 2)
    for line, place in zip(early, places, strict=True):
        budget, mean, *_ = max(line.points)
        x = along(math.log(budget))
        parts.append(tag("circle", cx=x, cy=up(mean), r=4, class_=f"dot {line.colour}"))
        beside = [p[1] for other in shown for p in other.points if p[0] == budget]
        above = mean >= sum(beside) / len(beside)  # curves rise, so there is room above on the left, below on the right
        at, anchor = ((x - 8, place), "end") if above else ((x + 9, place + 24), "start")
        parts.append(text(*at, shortened(line.name, longest), anchor, f"halo {_name(line)}"))

    for i, x in enumerate(budgets):  # invisible columns that answer the pointer
        here = along(math.log(x))
        start = left if i == 0 else (along(math.log(budgets[i - 1])) + here) / 2
        stop = width - right if i == len(budgets) - 1 else (along(math.log(budgets[i + 1])) + here) / 2
        found = sorted(((p, line) for line in shown for p in line.points if p[0] == x), key=lambda f: -f[0][1])
        tip = "\n".join(
            f"{line.name}: {words.score(p[1], metric)} {words.interval(p[2], p[3], metric)}".strip()
            for p, line in found
        )
        column = tag("rect", x=start, y=top, width=stop - start, height=bottom - top, class_="hit")
        hover = f"{words.budget((names or {}).get(x, f'{x:g}'))}\n{tip}"
        parts.append(tag("g", rule(here, top, here, bottom, "guide"), column, data_tip=hover))
    spoken = ", ".join(line.name for line in shown)
    label = f"{words.plain(metric)} against {unit} for {spoken}; the figures are in the table of results"
    return svg(width, height, label, *parts)


def foot(values: Sequence[float]) -> float:
    """Where an axis of fractions starts: at the lowest value, but not far below 0."""
    return max(min(values), min(LOWEST, max(values) - 0.5))


def nearest(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value of the point closest to `x`; NaN where there is none."""
    return min(points, key=lambda point: abs(point[0] - x), default=(x, math.nan))[1]


@dataclass(frozen=True)
class Spot:
    """An arm in a plane of two metrics, fractions of 1, with its tooltip."""

    name: str
    x: float
    y: float
    tip: str
    chosen: bool = False
    colour: str = "c0"


def plane(spots: Sequence[Spot], width: int, along: str, up: str) -> Markup:
    """One dot per arm, its name beside the plane; `along` and `up` name the axes, both in per cent."""
    narrow = width < 480
    height, left, right, top = 300, 44, 112 if narrow else 168, 14
    bottom, side = height - 44, width - right

    def axis(values: Sequence[float]) -> tuple[float, float]:
        margin = max(0.1 * (max(values) - min(values)), 0.005)
        return min(values) - margin, max(values) + margin

    xs, ys = axis([0.0, *(spot.x for spot in spots)]), axis([0.0, *(spot.y for spot in spots)])
    across, onto = linear(*xs, left, side - 8), linear(*ys, bottom, top)
    parts: list[object] = []
    for tick in ticks(100 * xs[0], 100 * xs[1], 4 if narrow else 6):
        x = across(tick / 100)
        parts.append(rule(x, top, x, bottom, "grid" if tick else "zero"))
        parts.append(text(x, bottom + 15, f"{tick:g}".replace("-", "−"), "middle"))
    for tick in ticks(100 * ys[0], 100 * ys[1], 5):
        y = onto(tick / 100)
        parts += [rule(left, y, side - 8, y, "grid"), text(left - 7, y + 4, f"{tick:g}".replace("-", "−"), "end")]
    parts.append(text(left, top - 3, shortened(up, 30 if narrow else 80), class_="small"))
    parts.append(text((left + side) / 2, bottom + 32, shortened(along, 42 if narrow else 90), "middle"))
    places = spread([onto(spot.y) for spot in spots], 16, top + 2, bottom - 2)
    for spot, place in zip(spots, places, strict=True):
        x, y = across(spot.x), onto(spot.y)
        name = text(
            side + 12,
            place + 4,
            shortened(spot.name, 15 if narrow else 24),
            class_=f"name {spot.colour}{' strong' if spot.chosen else ''}",
        )
        dot = tag("circle", cx=x, cy=y, r=6 if spot.chosen else 4.5, class_=f"dot {spot.colour}")
        leader = path([(x, y), (side + 4, place), (side + 9, place)], f"leader {spot.colour}")
        parts.append(tag("g", leader, name, dot, data_tip=f"{spot.name}\n{spot.tip}"))
    spoken = "; ".join(f"{spot.name}: {spot.tip}".replace("\n", ", ") for spot in spots)
    return svg(width, height, f"{up} against {along}: {spoken}", *parts)


def loss_and_probe(
    loss: Sequence[tuple[float, float]],
    probe: Sequence[tuple[float, float]],
    probe_range: tuple[float, float],
    width: int = 340,
) -> Markup:
    """One arm's pretext loss above its online probe, over the same steps, each on its own axis."""
    left, right, height = 44, 12, 268 if probe else 158
    bottom = height - 40
    steps = [s for s, _ in (*loss, *probe)] or [0.0, 1.0]
    along = linear(min(steps), max(steps), left, width - right)
    parts: list[object] = []

    def panel(
        points: Sequence[tuple[float, float]], bounds: tuple[float, float], top: int, bottom: int, name: str
    ) -> None:
        onto = linear(*bounds, bottom, top)

        def up(value: float) -> float:
            return min(onto(value), float(bottom))

        parts.append(text(left, top - 8, name, class_="strong"))
        scale = 100 if name.startswith("probe") else 1
        for tick in ticks(bounds[0] * scale, bounds[1] * scale, 3):
            y = up(tick / scale)
            figure = f"{tick:g}".replace("-", "−")
            parts.extend([rule(left, y, width - right, y, "grid"), text(left - 6, y + 4, figure, "end")])
        if points:
            colour = "c0" if scale == 100 else "loss"
            parts.append(path([(along(s), up(v)) for s, v in points], f"line arm {colour}"))
        if scale == 100:
            best = max(points, key=lambda p: p[1], default=None)
            for s, v in points:
                size = 4.5 if (s, v) == best else 2.4
                parts.append(tag("circle", cx=along(s), cy=up(v), r=size, class_="dot c0"))

    values = [v for _, v in loss] or [0.0, 1.0]
    pad = max(0.06 * (max(values) - min(values)), 1e-3)
    panel(loss, (min(values) - pad, max(values) + pad), 24, 112, "pretext loss")
    if probe:
        panel(probe, probe_range, 150, bottom, "probe, %")
    for tick in ticks(min(steps), max(steps), 4):
        parts.append(text(along(tick), bottom + 18, words.number(tick), "middle"))
    parts.append(text((left + width - right) / 2, bottom + 35, "steps", "middle"))

    spots = [s for s, _ in probe] or [s for s, _ in loss[:: max(1, len(loss) // 24)]]
    for i, s in enumerate(spots):
        start = left if i == 0 else (along(spots[i - 1]) + along(s)) / 2
        stop = width - right if i == len(spots) - 1 else (along(spots[i + 1]) + along(s)) / 2
        tip = f"step {words.number(s)}\nloss {words.number(nearest(loss, s))}"
        tip += f"\nprobe {words.score(probe[i][1])}" if probe else ""
        area = tag("rect", x=start, y=14, width=max(stop - start, 0.0), height=bottom - 8, class_="hit")
        parts.append(tag("g", rule(along(s), 18, along(s), bottom, "guide"), area, data_tip=tip))
    spoken = (
        f"Pretext loss from {words.number(loss[0][1])} to {words.number(loss[-1][1])}" if loss else "No loss recorded"
    )
    spoken += f"; probe from {words.score(probe[0][1])} to {words.score(probe[-1][1])}" if probe else ""
    return svg(width, height, spoken, *parts)


def _name(line: Line) -> str:
    return f"name {line.colour}{' strong' if line.chosen else ''}"
