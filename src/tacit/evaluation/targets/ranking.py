"""Full ranking: the first items of the whole catalogue for each history, what is in the history left out.

No item is sampled, and none is preferred for its number: items of equal score stand in an order that is drawn at random
for each history, and is the same whenever it is ranked again. Scores are compared in single precision.

Shapes: B histories of a block, n items, k places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.spec import FIRST
from tacit.core.stages import stage
from tacit.evaluation.features import device_of, evaluation_mode

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.types import Batch

DEEP = 100  # places that are kept
NOBODY = -1  # where fewer items are left than places
_CELLS = 2**22  # scores held at once
_MOST = 256  # histories held at once
_TIED = 32  # of these with equal scores, which take several times the memory


def rank(
    ranker: Any,
    fetch: Callable[[NDArray[np.int64]], Batch],
    rows: NDArray[np.int64],
    n_items: int,
    *,
    k: int = DEEP,
    seen: bool = False,
) -> NDArray[np.int32]:
    """The numbers [N k] of the items that score highest for the histories `rows`, the likeliest first.

    `ranker` is a `types.Ranker`, or a function from a batch to scores [B n]. Items of the history itself are left out
    unless `seen` items may come again; an item that scores minus infinity is never listed. Where fewer than k are left,
    the rest is -1. Raises `UserError` where there are not `n_items` scores, or one is not a number.
    """
    import torch

    scores_of: Callable[[Batch], Tensor] = getattr(ranker, "scores", ranker)
    device = device_of(ranker)
    tie = keys.split(torch.arange(n_items, device=device), "tie")  # [n]
    size = max(1, min(_CELLS // n_items, _MOST, getattr(ranker, "at_once", _MOST)))
    found = np.full((len(rows), k), NOBODY, np.int32)
    with evaluation_mode(ranker), torch.no_grad(), stage("ranking for", len(rows)) as now:
        for start in range(0, len(rows), size):
            batch = {name: tensor.to(device) for name, tensor in fetch(rows[start : start + size]).items()}
            scores = _checked(scores_of(batch), len(batch["index"]), n_items, ranker)
            first = _first(scores if seen else _without_seen(scores, batch), min(k, n_items), tie, batch["index"])
            found[start : start + size, : first.shape[1]] = first.cpu().numpy()
            now.step(len(first))
    return found


def _checked(scores: Any, n: int, n_items: int, ranker: Any) -> Tensor:
    """[B n] in single precision. UserError for anything else than a finite number, or minus infinity, of each item."""
    import torch

    name = getattr(ranker, "name", None) or getattr(ranker, "__name__", type(ranker).__name__)
    if not isinstance(scores, torch.Tensor) or scores.shape != (n, n_items):
        returned = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise UserError(
            f"{name} answers {n} histories with {returned}: to be judged by what it recommends it must score all "
            f"{n_items:,} items of the catalogue, [{n} {n_items}]"
        )
    highest = scores.float().amax(1)  # NaN where one is
    if bad := int((highest.isnan() | (highest == torch.inf)).sum()):
        raise UserError(f"{name} has scores that are no finite numbers for {bad} of {n} histories: it diverged")
    return scores.float()


def _without_seen(scores: Tensor, batch: Batch) -> Tensor:
    import torch

    history, at = (batch["tokens"] >= FIRST).nonzero(as_tuple=True)
    return scores.index_put((history, batch["tokens"][history, at] - FIRST), torch.tensor(-torch.inf).to(scores))


def _first(scores: Tensor, k: int, tie: Tensor, index: Tensor) -> Tensor:
    """The numbers [B k] of the items that score highest."""
    import torch

    values, items = scores.topk(k, dim=1)
    beyond = (scores >= values[:, -1:]).sum(1) > k
    tied = (beyond | (values[:, 1:] == values[:, :-1]).any(1)).nonzero()[:, 0]
    for start in range(0, len(tied), _TIED):
        rows = tied[start : start + _TIED]
        among = scores[rows]
        near = ((among >= values[rows, -1:]) & (among > -torch.inf)).any(0).nonzero()[:, 0]  # that any of them may list
        drawn = near[_drawn(among[:, near], min(k, len(near)), tie[near], index[rows])]
        items[rows, : drawn.shape[1]] = drawn
    return items.masked_fill(values == -torch.inf, NOBODY)


def _drawn(scores: Tensor, k: int, tie: Tensor, index: Tensor) -> Tensor:
    """The same with ties broken at random, by a hash of sequence and item."""
    import torch

    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 the same as 0.0
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()  # integers in the order of the scores
    own = keys.batch_keys(0, 0, index) | 1  # [B]
    chance = (own[:, None] * tie >> 32) & 0xFFFFFFFF  # [B n]
    return (order << 32 | chance).topk(k, dim=1).indices
