"""What a search has found, as one HTML file that needs nothing else to open."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from tacit.report.curves import Curve
from tacit.report.figures import Picture
from tacit.report.images import PIXELATED_BELOW, data_uri, thumbnail

PAGE_MADE_BY = '<meta name=generator content="tacit search">'  # a page without it is somebody's own
SIDE = 160  # px of a thumbnail
LIMIT = 20_000  # bytes of one
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
ol { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0; }
li, .query { width: 160px; } img { width: 160px; height: 160px; object-fit: contain; background: #f4f4f4; }
img.tiny { image-rendering: pixelated; } small { color: #666; overflow-wrap: anywhere; display: block; }
"""


def found_page(query: Picture | str, found: Sequence[tuple[Picture, float]], *, searched: str) -> str:
    """The query, and what was found for it, most alike first; `searched` describes what was searched."""
    title = escape(f"“{query}”") if isinstance(query, str) else escape(query.id)
    example = Markup("") if isinstance(query, str) else Markup('<p class="query">{}</p>').format(_shown(query))
    rows = Markup("").join(
        Markup("<li>{}<small>{}. {:.3f}{}<br>{}</small></li>").format(
            _shown(picture), place, likeness, f", {picture.label}" if picture.label else "", picture.id
        )
        for place, (picture, likeness) in enumerate(found, 1)
    )
    return str(
        Markup(
            "<!doctype html><html lang=en><meta charset=utf-8>{made_by}"
            "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; style-src "
            "'unsafe-inline'\"><meta name=viewport content='width=device-width'><title>{title}</title>"
            "<style>{style}</style><h1>{title}</h1><p>{searched}</p>{example}<ol>{rows}</ol></html>\n"
        ).format(
            made_by=Markup(PAGE_MADE_BY),
            title=title,
            style=Markup(_STYLE),
            searched=searched,
            example=example,
            rows=rows,
        )
    )


def _shown(picture: Picture) -> Markup:
    image = picture.image
    if image is None:
        return Markup("")
    if isinstance(image, str):
        return Markup("<p>{}</p>").format(image)
    if isinstance(image, Curve):
        return Markup('<img alt="" src="{}">').format(image.uri)
    small = thumbnail(image, SIDE)
    tiny = Markup(" class=tiny") if max(small.size) <= 2 * PIXELATED_BELOW else ""
    return Markup('<img alt="{}"{} src="{}">').format(picture.id, tiny, data_uri(small, LIMIT))
