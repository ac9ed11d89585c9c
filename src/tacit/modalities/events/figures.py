"""Figures of an encoder of events for the report: a map of items, and sample recommendations."""

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
EVENTS, LISTED = 8, 10  # events shown of a history, and items recommended after it


def item_map(encoder: ItemEncoder, labelled: Labelled, name: str) -> Points:
    """A map of the most used items by their embeddings, coloured by the number of uses."""
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
    """Some held-out histories with the encoder's top items, and the item that came; `title` names an item.

    Call it after the verdict only: it reads test answers.
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
