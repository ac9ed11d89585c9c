"""What a report shows of an encoder of events: its map of items, and what it recommends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.spec import FIRST
from tacit.evaluation import Labelled
from tacit.evaluation.arms import target_of
from tacit.evaluation.targets.recommendation import popularity
from tacit.modalities.events.encoder import ItemEncoder
from tacit.report import Points, Recommended
from tacit.report.figures import MAPPED, flatten

SHOWN = 6  # histories
EVENTS, LISTED = 8, 10  # of a history that are shown, and items that are recommended after it


def item_map(encoder: ItemEncoder, labelled: Labelled, name: str) -> Points:
    """The items that are used most, by their embeddings; their colours tell how often."""
    uses, spec = popularity(labelled), encoder.spec
    items = np.sort(np.argsort(-uses, kind="stable")[:MAPPED])
    table = encoder.table[spec.first :][torch.from_numpy(items)]
    flat, method = flatten(table.detach().float().cpu().numpy())
    return Points(
        x=flat[:, 0].tolist(),
        y=flat[:, 1].tolist(),
        label=[f"used {number:,} times" for number in uses[items].tolist()],
        value=uses[items].tolist(),
        image=[spec.known.title(item) for item in items.tolist()],
        arm=name,
        method=method,
        noun="items",
    )


def recommended(encoder: Any, labelled: Labelled, title: Callable[[int], str], *, seed: int) -> list[Recommended]:
    """Some held-out histories with what the encoder puts first, and what came; `title` names an item of the catalogue.

    For after the verdict: it reads what came.
    """
    target = target_of(labelled)
    chance = np.random.default_rng(keys.fold(seed, "pictures"))
    rows = chance.permutation(labelled.test if len(labelled.test) else labelled.train)[:SHOWN]
    lists = target.read(encoder, labelled, rows)["pooled"][:, :LISTED]
    histories = [tokens[tokens >= FIRST][-EVENTS:] - FIRST for tokens in labelled.fetch(rows)["tokens"].numpy()]
    came = labelled.answers[rows].astype(np.int64)

    def titles(items: NDArray[Any]) -> list[str]:
        return [title(item) for item in items.tolist() if item >= 0]

    return [
        Recommended(titles(history), titles(first), title(int(item)))
        for history, first, item in zip(histories, lists, came, strict=True)
    ]
