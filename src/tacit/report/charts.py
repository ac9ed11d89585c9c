"""Our own small charts as inline SVG: no scripts, no fonts, colours from the page's CSS classes.

Every chart is drawn for a width in px, so that its text keeps its size; a page holds a wide and a narrow drawing where
one does not serve both. What is drawn is said again by `data-tip` (shown by the page's script) and by the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tacit.report import words

COLOURS = 8  # CSS classes c0 ... c7; g0 ... g3 are the greys of the baselines


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


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An SVG element: `class_` is class, `stroke_width` is stroke-width, floats are shortened, all text is escaped."""
    written = []
    for key, value in attributes.items():
        text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
        key = key.rstrip("_") if key.endswith("_") else key if key == "viewBox" else key.replace("_", "-")
        written.append(Markup(' {}="{}"').format(Markup(key), text))
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(written), body)


def svg(width: float, height: float, label: str, *children: object, class_: str = "chart") -> Markup:
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", *children, viewBox=box, width=width, height=height, role="img", aria_label=label, class_=class_)


def text(x: float, y: float, content: object, anchor: str = "start", class_: str = "") -> Markup:
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, *, close: bool = False) -> Markup:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if close else ''}", class_=class_)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers inside [low, high], about so many."""
    span = max(high - low, 1e-9)
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.75)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def linear(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved as little as needed, downwards then upwards, to lie `gap` apart inside [low, high]."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    moved = list(positions)
    floor = low
    for i in order:
        moved[i] = floor = max(positions[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        moved[i] = ceiling = min(moved[i], ceiling)
        ceiling -= gap
    return moved


def shortened(name: str, characters: int) -> str:
    return name if len(name) <= characters else name[: characters - 1].rstrip() + "…"


def gains(rows: Sequence[Gain], width: int, metric: str, outcome: str) -> Markup:
    """The gain over each baseline with its interval, against zero."""
    percent = words.is_fraction(metric)
    narrow = width < 480
    left, right, row, top = (14, 14, 58, 10) if narrow else (190, 150, 34, 8)
    height = top + row * len(rows) + 40
    values = [v for r in rows for v in (r.gain, r.low, r.high) if math.isfinite(v)] or [0.0]
    low, high = min(0.0, *values), max(0.0, *values)
    margin = max(0.06 * (high - low), 0.004 if percent else 0.001)
    at = linear(low - margin, high + margin, left, width - right)
    bottom = height - 40
    parts: list[object] = []
    if percent:
        edge = max(at(-0.01), left)
        parts.append(tag("rect", x=edge, y=top, width=max(at(0.01) - edge, 0.0), height=bottom - top, class_="zone"))
    scale = 100 if percent else 1
    for tick in ticks((low - margin) * scale, (high + margin) * scale, 4 if narrow else 6):
        x = at(tick / scale)
        parts.append(rule(x, top, x, bottom, "zero" if tick == 0 else "grid"))
        parts.append(text(x, bottom + 15, f"{tick:+g}".replace("-", "−") if tick else "0", "middle"))
    axis = "percentage points; shaded: within one point" if percent else f"difference in {words.plain(metric)}"
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
            parts += [rule(at(end), y - 5, at(end), y + 5, f"whisker o-{outcome}") for end in (r.low, r.high)]
        parts.append(tag("circle", cx=at(r.gain), cy=y, r=5, class_=f"dot o-{outcome}"))
    spoken = "; ".join(
        f"against {r.baseline} {words.gain(r.gain, metric)} {words.interval(r.low, r.high, metric)}" for r in rows
    )
    return svg(width, height, f"Gain with 95 % interval: {spoken}", *parts)


def curves(lines: Sequence[Line], width: int, metric: str, *, primary: float | None = None) -> Markup:
    """Score against labels per class on a log axis, with interval bands and the names at the ends of the lines."""
    percent = words.is_fraction(metric)
    scale = 100 if percent else 1
    narrow = width < 480
    height, longest = (330, 15) if narrow else (400, 24)
    left, right, top, bottom = 40, 112 if narrow else 168, 14, height - 44
    every = [p for line in lines for p in line.points]
    budgets = sorted({p[0] for p in every if p[0] > 0})
    values = [v for p in every for v in p[1:] if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = max(0.04 * (high - low), 0.005)
    low, high = low - margin, min(high + margin, 1.0 if percent else math.inf)
    first, last = (budgets[0], budgets[-1]) if budgets else (1.0, 10.0)
    along = linear(
        math.log(first), math.log(last) if last > first else math.log(first) + 1, left + 14, width - right - 8
    )
    up = linear(low, high, bottom, top)

    parts: list[object] = []
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
    parts.append(text((left + width - right) / 2, bottom + 37, "labels per class", "middle"))
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
    for line in sorted(shown, key=lambda line: line.chosen):  # the chosen one on top
        spots = [(along(math.log(p[0])), up(p[1])) for p in sorted(line.points) if p[0] > 0]
        kind = "baseline" if line.baseline else "chosen" if line.chosen else "arm"
        parts.append(path(spots, f"line {kind} {line.colour}"))
        radius = 2.2 if line.baseline else 3.2
        parts += [tag("circle", cx=x, cy=y, r=radius, class_=f"dot {line.colour}") for x, y in spots]

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
        budget, mean, low_end, high_end = max(line.points)
        x = along(math.log(budget))
        if len(line.points) == 1 and math.isfinite(low_end) and math.isfinite(high_end):
            parts.append(rule(x, up(low_end), x, up(high_end), f"error {line.colour}"))
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
        said = f"{x:g} labels per class\n{tip}"
        parts.append(tag("g", rule(here, top, here, bottom, "guide"), column, data_tip=said))
    names = ", ".join(line.name for line in shown)
    label = f"{words.plain(metric)} against labels per class for {names}; the figures are in the table of results"
    return svg(width, height, label, *parts)


def nearest(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value of the point closest to `x`; NaN where there is none."""
    return min(points, key=lambda point: abs(point[0] - x), default=(x, math.nan))[1]


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
        up = linear(*bounds, bottom, top)
        parts.append(text(left, top - 8, name, class_="strong"))
        scale = 100 if name.startswith("probe") else 1
        for tick in ticks(bounds[0] * scale, bounds[1] * scale, 3):
            y = up(tick / scale)
            parts.extend([rule(left, y, width - right, y, "grid"), text(left - 6, y + 4, f"{tick:g}", "end")])
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


SHAPES = (  # one outline per round of colours, about 7 px wide, drawn from the point's centre
    "m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0",
    "m-3-3h6v6h-6z",
    "m0-4l4 7h-8z",
    "m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4z",
)


def style(group: int) -> str:
    """CSS classes of a class's colour and of its shape in the legend."""
    return f"c{group % COLOURS} s{group // COLOURS}"


def scatter(
    places: Sequence[tuple[float, float]], groups: Sequence[int], names: Sequence[str], width: int, height: int
) -> Markup:
    """A map of points in px; `groups` numbers each point's name, -1 for none. One path per group keeps it small."""
    parts: list[object] = []
    middles: dict[int, tuple[float, float]] = {}
    for group in range(-1, len(names)):
        spots = [place for place, g in zip(places, groups, strict=True) if g == group]
        if not spots:
            continue
        plain = group < 0 or group >= COLOURS * len(SHAPES)
        outline = SHAPES[0 if plain else group // COLOURS]
        drawn = "".join(f"M{x:.0f} {y:.0f}{outline}" for x, y in spots)
        parts.append(tag("path", d=drawn, class_=f"points {'g1' if plain else style(group)}", data_group=group))
        if not plain:
            xs, ys = sorted(x for x, _ in spots), sorted(y for _, y in spots)
            middles[group] = xs[len(xs) // 2], ys[len(ys) // 2]
    for group, (x, y) in middles.items():
        name = shortened(names[group], 18)
        # Names are larger on a phone: one that fits a laptop only is hidden there.
        fits = [_is_clear(group, middles, names, width=size, height=2 * size) for size in (9, 14)]
        if fits[0]:
            parts.append(text(x, y + 4, name, "middle", f"halo strong{'' if fits[1] else ' laptop'}"))
    label = f"Map of {len(places)} embeddings" + (f" in {len(names)} classes" if names else "")
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
