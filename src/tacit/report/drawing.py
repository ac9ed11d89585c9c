"""The strokes that charts are made of: SVG elements, axes, places for names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape


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
    """About `about` round numbers inside [low, high]."""
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
