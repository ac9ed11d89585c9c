"""`tacit recommend`: what comes next after a history of item ids, of anybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacit.commands.command import guarded
from tacit.core.errors import UserError
from tacit.encoders import load_encoder
from tacit.modalities.events.encoder import ItemEncoder, Recommended


@guarded
def recommend(
    run: Any,
    *,
    history: str | list[Any],
    k: int = 10,
    allowed: str | list[Any] | None = None,
    seen: bool = False,
    offline: bool = False,
) -> Recommended:
    """Recommend the next items for a history, also of a person never seen.

    Prints them, and returns their ids and scores, and how many events are of items that it does not know.

    Args:
        run: A run folder or an exported folder, pretrained on a table of events.
        history: Ids of items from the first to the latest, with commas between them; in Python also a list.
        k: How many items.
        allowed: Ids of the items that may be recommended, likewise; all of them by default.
        seen: Items of the history may be recommended again.
        offline: Use no network.
    """
    encoder = load_encoder(run, offline=offline) if isinstance(run, str | Path) else run
    if not isinstance(encoder, ItemEncoder):
        raise UserError(f"{run} is no encoder of items, which alone recommend; name a run on a table of events")
    items = listed(history)
    found = encoder.recommend(items, k, allowed=None if allowed is None else listed(allowed), seen=seen)
    if found.unknown:
        print(f"{found.unknown:,} of the {len(items):,} events are of items that the encoder does not know, left out")
    known = encoder.spec.known
    for place, (item, score) in enumerate(zip(found.items, found.scores, strict=True), 1):
        title = known.title(known.number[str(item)])
        print(f"  {place}. {item}" + (f", {title}" if title != str(item) else "") + f"  {score:.3f}")
    return found


def listed(items: str | Sequence[Any]) -> list[Any]:
    """Ids that are written one after the other with commas between them, or as they are. UserError for none."""
    found = [item.strip() for item in items.split(",") if item.strip()] if isinstance(items, str) else list(items)
    if not found:
        raise UserError("no item is named: write their ids with commas between them, such as --history 12,7,30")
    return found
