"""Features of any encoder, read once: every depth and pooling that a probe may choose from, in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.stages import stage

if TYPE_CHECKING:  # stored embeddings are evaluated without torch, whose import takes seconds
    import torch

    from tacit.core.types import Batch, Encoder, Features
    from tacit.evaluation.arms import Labelled

_WIDEST_GRID = 1024  # features; wider than this the 2x2 grid costs more than it brings
_OPENING = 2  # tokens: questions and titles say most in their first words


REPRESENTATION = re.compile(r"pooled|opening|(depth|grid)\d+")  # names that `extract` gives


@dataclass(frozen=True, eq=False)
class Stored:
    """Embeddings [N D] made before; as an encoder it answers with the rows that a batch's `index` names."""

    values: NDArray[np.float32]
    n_depths: int = 0

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        import torch

        from tacit.core.types import Features

        pooled = torch.from_numpy(self.values[batch["index"].cpu().numpy()])
        return Features(pooled[:, None], pooled)


def extract(
    encoder: Encoder,
    fetch: Callable[[NDArray[np.int64]], Batch],
    rows: NDArray[np.int64],
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Representations [N D] of the examples `rows`, by name: "pooled", "depth0", "depth1", ..., "grid2" and "opening".

    "grid2" holds the last tokens averaged over the four quarters of their grid, side by side; only where the tokens lie
    on a plane and 4 D is at most 1024. "opening" holds the average of the first two of them beside "pooled"; only where
    they are a sequence. A depth that says the same as "pooled" is left out.

    `fetch` reads a batch of rows; it is moved to `device`, by default the encoder's own. The encoder is in evaluation
    mode meanwhile, so that an example's features do not depend on its batch. What is `Stored` is looked up. Raises
    `UserError` where features are not finite.
    """
    assert len(rows) > 0, "nothing to embed"
    if isinstance(encoder, Stored):
        everything = len(rows) == len(encoder.values) and bool((rows == np.arange(len(rows))).all())
        return _finite({"pooled": encoder.values if everything else encoder.values[rows]})
    import torch

    target = torch.device(device) if device is not None else device_of(encoder)
    at_once = min(batch_size, getattr(encoder, "at_once", batch_size))
    fetched = batch_size if getattr(encoder, "sorts", False) else at_once
    parts: list[dict[str, NDArray[np.float32]]] = []
    with evaluation_mode(encoder), torch.no_grad(), stage("embedding", len(rows)) as now:
        for start in range(0, len(rows), fetched):
            some = fetch(rows[start : start + fetched])
            places, batches = _of_like_length(some, at_once) if fetched > at_once else (None, [some])
            read = []
            for batch in batches:
                there = {name: value.to(target) for name, value in batch.items()}
                features = encoder(there, depths=range(encoder.n_depths))
                read.append({name: value.float().cpu().numpy() for name, value in candidates(features).items()})
                now.step(len(features.pooled))
            joined = {name: np.concatenate([part[name] for part in read]) for name in read[0]}
            parts.append(joined if places is None else {name: values[places] for name, values in joined.items()})
    found = _finite({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return {name: values for name, values in found.items() if name == "pooled" or not _same(values, found["pooled"])}


def _of_like_length(batch: Batch, most: int) -> tuple[NDArray[np.int64], list[Batch]]:
    """A batch of texts in batches of at most so many, each of texts of like length, without the padding that none of
    them needs; and where each text is among all of these.
    """
    lengths = batch["valid"].sum(1)
    order = lengths.argsort(stable=True)
    parts = []
    for start in range(0, len(order), most):
        some = order[start : start + most]
        N = max(1, int(lengths[some].max()))
        parts.append({name: value[some, :N] if value.ndim > 1 else value[some] for name, value in batch.items()})
    return order.argsort().numpy(), parts


def extract_tokens(
    encoder: Encoder,
    fetch: Callable[[NDArray[np.int64]], Batch],
    tokens: NDArray[np.int64],
    *,
    batch_size: int = 64,
) -> dict[str, NDArray[np.float32]]:
    """The last states [N D], as "pooled", of the tokens [N 2]: the example of each, and its place in it.

    Every example is encoded once, however many of its tokens are needed. An encoder whose token covers several
    positions, such as several frames of sound, has a `stride`.
    """
    import torch

    device, embed = device_of(encoder), getattr(encoder, "states", encoder)
    places = tokens[:, 1] // getattr(encoder, "stride", 1)
    examples, which = np.unique(tokens[:, 0], return_inverse=True)
    found: NDArray[np.float32] | None = None
    with evaluation_mode(encoder), torch.no_grad(), stage("embedding", len(examples)) as now:
        for start in range(0, len(examples), batch_size):
            batch = fetch(examples[start : start + batch_size])
            states = embed({name: tensor.to(device) for name, tensor in batch.items()}).tokens.float().cpu().numpy()
            here = np.flatnonzero((which >= start) & (which < start + batch_size))
            found = np.empty((len(tokens), states.shape[2]), np.float32) if found is None else found
            found[here] = states[which[here] - start, places[here]]
            now.step(len(examples[start : start + batch_size]))
    assert found is not None, "nothing to embed"
    return _finite({"pooled": found})


def features_of(encoder: Encoder, labelled: Labelled, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Representations of these labelled examples, or of these labelled tokens."""
    if labelled.tokens is None:
        return extract(encoder, labelled.fetch, rows)
    return extract_tokens(encoder, labelled.fetch, labelled.tokens[rows])


def _finite(found: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    for name, values in found.items():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise UserError(
                f"{bad} of {len(values)} examples have NaN or infinite features ({name}): "
                "the encoder diverged or its input is not finite; train with a lower learning rate or check the data"
            )
    return found


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() <= 1e-4 * np.abs(other).max())


def candidates(features: Features) -> dict[str, torch.Tensor]:
    """The representations [B D] of a batch by name, as `extract` has them."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    found = {"pooled": features.pooled}
    found |= {f"depth{number}": pooled for number, pooled in enumerate(features.depths)}
    grid, tokens = features.grid, features.tokens
    if grid is not None and len(grid) == 2 and min(grid) >= 2 and 4 * tokens.shape[2] <= _WIDEST_GRID:
        maps = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, grid[0], grid[1])  # [B D H W]
        found["grid2"] = adaptive_avg_pool2d(maps.float(), 2).flatten(1)
    if grid is None and features.valid is not None:
        first = features.valid & (features.valid.cumsum(1) <= _OPENING)
        share = first.to(tokens.dtype) / first.sum(1, keepdim=True).clamp(min=1)
        found["opening"] = torch.cat([(tokens * share[:, :, None]).sum(1), features.pooled], dim=1)
    return found


def device_of(encoder: Any) -> torch.device:
    """Where the encoder's parameters are; the CPU for a callable without any."""
    import torch

    first = next(encoder.parameters(), None) if isinstance(encoder, torch.nn.Module) else None
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluation_mode(encoder: Any) -> Iterator[None]:
    """Every module of `encoder` in evaluation mode; afterwards each in the mode it was in, frozen parts too."""
    from torch import nn

    was = {module: module.training for module in encoder.modules()} if isinstance(encoder, nn.Module) else {}
    try:
        if was:
            encoder.eval()
        yield
    finally:
        for module, training in was.items():
            module.training = training


class ByName(NamedTuple):
    """Classes by their names: embeddings [K D], and what is added to the likeness of each, [K]."""

    embedding: NDArray[np.float32]
    prior: NDArray[np.float32]

    def classes(self, embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class of each of these [n D]."""
        return np.asarray((embeddings @ self.embedding.T + self.prior).argmax(1))


def both_sides(
    encoder: Any,
    fetch: Callable[[NDArray[np.int64]], Batch],
    rows: NDArray[np.int64],
    named: ByName | None,
    *,
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """The embeddings of both sides of these pairs one after the other, and the likeliest class of `named`, [n 2D+1].

    Without these the last column is -1. UserError where the encoder does
    not embed two sides, or its embeddings are not finite.
    """
    import torch

    if not hasattr(encoder, "sides"):
        name = getattr(encoder, "name", type(encoder).__name__)
        raise UserError(f"{name} embeds one side of a pair; only an encoder of pairs can be judged by what it matches")
    device, parts = device_of(encoder), []
    with evaluation_mode(encoder), torch.no_grad(), stage("embedding", len(rows)) as now:
        for start in range(0, len(rows), batch_size):
            batch = fetch(rows[start : start + batch_size])
            there = {name: value.to(device) for name, value in batch.items()}
            one, other = (side.float().cpu().numpy() for side in encoder.sides(there).values())
            nearest = named.classes(one) if named is not None else np.full(len(one), -1)
            parts.append(np.concatenate([one, other, nearest[:, None].astype(np.float32)], axis=1))
            now.step(len(one))
    return _finite({"pooled": np.concatenate(parts)})["pooled"]
