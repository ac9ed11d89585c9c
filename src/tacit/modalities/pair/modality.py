"""The modality of pairs: two others side by side. Where one embedding of a pair is wanted, it is the first side's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import UserError
from tacit.core.masks import MaskSchedule
from tacit.core.records import read_record
from tacit.core.types import Batch, Features, ViewMaker
from tacit.data.copies import Copies
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.evaluation.arms import target_of
from tacit.evaluation.features import both_sides
from tacit.modalities import modality_named, sides, signs
from tacit.modalities.base import Matched, Modality
from tacit.modalities.graph import GraphIO
from tacit.modalities.pair.baselines import mapped
from tacit.modalities.pair.encoder import Towers
from tacit.modalities.pair.recipes import OfSide, OnSide, PairIngredients, measured, optim_of
from tacit.modalities.pair.spec import PairSpec
from tacit.modalities.pair.store import Drawn, Pairs, of_side
from tacit.modalities.recipe import Recipe
from tacit.tasks.base import Task
from tacit.training.batches import Batches
from tacit.training.optim import Optim

Rows = NDArray[np.int64]
BATCH = 256


class FirstSide:
    """A baseline of the first side, which reads its fields of a batch of pairs."""

    def __init__(self, encoder: Any, side: str) -> None:
        self.encoder, self.side = encoder, side
        self.dim, self.n_depths = encoder.dim, encoder.n_depths

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        found: Features = self.encoder(of_side(batch, self.side), depths=depths)
        return found


class PairModality(Modality[PairSpec, Pairs]):
    name = "pair"
    nouns = "pairs"
    spec = PairSpec
    default_tasks = "siglip"

    ingredients = PairIngredients

    def default_encoder(self, spec: PairSpec, tasks: Collection[str]) -> str:
        return "towers"

    def default_parts(self, spec: PairSpec) -> Mapping[str, str]:
        """As for contrast: the ConvNet and the bag of embeddings learned most within minutes on a CPU."""
        return {side: modality_named(side).default_encoder(of, {"simclr"}) for side, of in spec.sides.items()}

    def task(self, name: str, encoder: Towers, hiding: MaskSchedule | None = None) -> Task:
        side, _, inner = name.rpartition(":")
        if not side:
            return super().task(name, encoder, hiding)
        if side not in encoder.parts:
            raise UserError(f"the task {name!r}: the sides are {' and '.join(encoder.parts)}")
        return OnSide(encoder, side, modality_named(side).task(inner, encoder.parts[side], hiding))

    def measured(self, task: str, encoder: Towers) -> Mapping[str, Any]:
        return measured(task, encoder)

    def optim(self, encoder: Towers) -> Optim:
        return optim_of(encoder)

    def batch_size(self, encoder: Towers, tasks: Collection[str], accelerated: bool) -> int:
        return BATCH

    def views(self, spec: PairSpec) -> ViewMaker:
        return _as_pairs(spec.first, modality_named(spec.first).views(spec.sides[spec.first]))

    def scratch_views(self, spec: PairSpec) -> ViewMaker:
        return _as_pairs(spec.first, modality_named(spec.first).scratch_views(spec.sides[spec.first]))

    def batches(self, store: Pairs, rows: Rows, plan: Recipe, seed: int) -> Batches:
        drawn = Drawn.among(store, rows)
        if not drawn.several:
            return Batches(store.batch, rows, batch_size=plan.batch_size, seed=seed)
        return Batches(store.batch, drawn.firsts, batch_size=plan.batch_size, seed=seed, drawn=drawn.batch)

    def bf16_pays(self, encoder: Towers) -> bool:
        return any(modality_named(side).bf16_pays(tower) for side, tower in encoder.parts.items())

    # ---------------------------------------------------------------- evaluation

    def baselines(self, store: Pairs, split: Split, seed: int) -> list[Arm]:
        """A linear map between plain features of both sides where pairs are matched; else those of the first side."""
        assert split.labelled is not None
        if target_of(split.labelled).matches:
            return mapped(store, split, seed)
        side = store.spec.first
        own = modality_named(side)
        inner = replace(split, pretrain=store.only(side, split.pretrain), rows=store.only(side, split.rows))
        found = own.baselines(store.sides[side].store, inner, seed)
        return [
            replace(arm, encoders=tuple(FirstSide(encoder, side) for encoder in arm.encoders)) if arm.encoders else arm
            for arm in found
        ]

    # ---------------------------------------------------------------- encoders that were trained elsewhere

    def compatible(self, spec: PairSpec, other: PairSpec) -> bool:
        return [*spec.sides] == [*other.sides] and all(
            modality_named(side).compatible(of, other.sides[side]) for side, of in spec.sides.items()
        )

    def explain(self, own: PairSpec, other: PairSpec, name: str) -> str:
        if [*own.sides] != [*other.sides]:
            return f"pairs of {' and '.join(own.sides)}, but those of {name} are of {' and '.join(other.sides)}"
        explained = (modality_named(side).explain(of, other.sides[side], name) for side, of in own.sides.items())
        return next(filter(None, explained), "")

    def options_of(self, spec: PairSpec) -> dict[str, Any]:
        found = {"sides": ",".join(spec.sides)}
        for side, of in spec.sides.items():
            found |= modality_named(side).options_of(of)
        return found

    def fixed(self, spec: PairSpec) -> dict[str, Any]:
        return {name: of for side, own in spec.sides.items() for name, of in modality_named(side).fixed(own).items()}

    def restore_options(self, encoder: Towers, settings: Mapping[str, Any]) -> None:
        for side, tower in encoder.parts.items():
            modality_named(side).restore_options(tower, settings)

    def read_spec(self, values: Mapping[str, Any], folder: Path) -> PairSpec:
        """From the descriptions of the towers, which lie in folders named after the sides."""
        named = [str(side) for side in values["sides"]]
        if len(named) != 2 or not {*named} <= {*sides()}:
            raise ValueError(f"sides is {named!r:.80}")
        found = {}
        for side in named:
            own = read_record(folder / side / "encoder.json")
            found[side] = modality_named(side).read_spec(own["spec"], folder / side)
        return PairSpec(found)

    def holds(self, spec: PairSpec) -> str:
        return "; ".join(filter(None, (modality_named(side).holds(of) for side, of in spec.sides.items())))

    def adapt(self, encoder: Towers, spec: Any) -> Any:
        if isinstance(spec, PairSpec):
            for side, tower in encoder.parts.items():
                if side in spec.sides:
                    modality_named(side).adapt(tower, spec.sides[side])
            encoder.spec = PairSpec({side: tower.spec for side, tower in encoder.parts.items()})
        return encoder

    def graph(self, encoder: Towers) -> GraphIO:
        raise UserError(f"{encoder.name} has a graph for each side, not one for both; export the towers")

    def deep(self, store: Pairs) -> bool:
        return self._first(store).deep(store.sides[store.spec.first].store)

    def copies(self, store: Pairs, rows: Rows, among: Rows) -> Copies:
        """Of the first side: a caption may describe many images."""
        side = store.spec.first
        own, others = store.only(side, rows), store.only(side, among)
        found = self._first(store).copies(store.sides[side].store, own, np.setdiff1d(others, own))
        pair_of = np.full(len(store.sides[side].store), -1, np.int64)
        pair_of[others] = among
        twin = np.where(found.twin >= 0, pair_of[np.maximum(found.twin, 0)], -1)
        return Copies(rows, twin, found.exact, found.likeness, found.threshold)

    # ---------------------------------------------------------------- words and pictures

    def _first(self, store: Pairs) -> Modality[Any, Any]:
        return modality_named(store.spec.first)

    def describe(self, store: Pairs) -> str:
        inner = "; ".join(modality_named(name).describe(side.store) for name, side in store.sides.items())
        return f"{len(store):,} pairs of {' and '.join(store.sides)}: {inner}"

    def about(self, store: Pairs) -> list[str]:
        return [line for name, side in store.sides.items() for line in modality_named(name).about(side.store)]

    def facts(self, store: Pairs) -> dict[str, Any]:
        found: dict[str, Any] = {"sides": list(store.sides)}
        for name, side in store.sides.items():
            found |= modality_named(name).facts(side.store)
        return found

    def pictures(self, store: Pairs, rows: Rows) -> Sequence[Any]:
        side = store.spec.first
        return modality_named(side).pictures(store.sides[side].store, store.only(side, rows))

    def sounds(self, store: Pairs, rows: Rows) -> Sequence[bytes | None]:
        side = store.spec.first
        return modality_named(side).sounds(store.sides[side].store, store.only(side, rows))

    def captions(self, store: Pairs, rows: Rows) -> Sequence[str]:
        side = store.spec.second
        if not signs()[side].texts:
            return ()
        said: Any = store.sides[side].store
        texts: Sequence[str] = said.texts(store.only(side, rows))
        return texts

    def matched(self, store: Pairs, encoder: Towers, rows: Rows) -> tuple[Matched, Matched]:
        both = np.split(both_sides(encoder, store.batch, rows, None)[:, :-1], 2, axis=1)
        one, other = (
            Matched(name, of, modality_named(name).pictures(side.store, side.rows[rows]))
            for (name, side), of in zip(store.sides.items(), both, strict=True)
        )
        return one, other

    def shown(self, store: Pairs, preview: Tensor) -> Sequence[Any]:
        """As the side whose examples have this form shows them."""
        tokens = preview.ndim == 2 and not preview.is_floating_point()
        fits = (name for name, of in store.sides.items() if ("tokens" in of.store.batch(of.rows[:1])) == tokens)
        name = next(fits, store.spec.first)
        return modality_named(name).shown(store.sides[name].store, preview)


@dataclass(frozen=True)
class _AsPairs:
    """Draws a view of the first side of each pair, as a batch of pairs."""

    of: OfSide

    def __call__(self, batch: Batch, view: int) -> Batch:
        own = self.of(batch, view)
        seen = {f"{self.of.side}.{field}": value for field, value in own.items() if field != "key"}
        return {"index": batch["index"], **seen}


def _as_pairs(side: str, views: ViewMaker) -> ViewMaker:
    return _AsPairs(OfSide(side, views))


MODALITY = PairModality()
