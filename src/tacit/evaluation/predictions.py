"""Every arm's predictions for every test item: stored beside the report, so that evaluations can be paired later.

`predictions.npz` names test items, draws and classes by hashes alone, which the folder's secret hides as it does those
of the seal, and arms by their place in the report. It does hold the test labels, as numbers; whoever pairs two
judgements reads these instead of the labels themselves.

Shapes: P seeds, S draws, n test items that count, fold after fold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.archives import arrays_in
from tacit.core.errors import UserError
from tacit.core.files import whole_file
from tacit.core.records import built, reading
from tacit.core.secret import FILE_NAME as SECRET
from tacit.core.secret import secret_in, secret_of
from tacit.evaluation.arms import Labelled
from tacit.evaluation.sealing import content_digests, short_digest
from tacit.evaluation.splits import Budget, Positions

FILE_NAME = "predictions.npz"
VERSION = 3  # version 2 did not hide names

Key = tuple[str, str]  # protocol, budget
Names = NDArray[np.str_]
_ARRAYS = ("item", "unit", "truth", "name")


@dataclass(frozen=True)
class Predictions:
    """One evaluation, item by item."""

    target: str
    metric: str  # that the verdict is about
    item: Names  # [n] different for each
    unit: NDArray[np.int64]  # [n] the group; each item its own where there are none
    truth: NDArray[Any]  # [n ...] as the target's metrics read it
    name: Names  # [n] the hash of the true label, since class numbers differ between evaluations
    judged: int  # the arm that the verdict is about; -1: none
    primary: str
    budgets: tuple[Budget, ...]
    draws: Mapping[str, Names]  # budget -> [S] equal where probes learned from the same labels
    predicted: Mapping[int, Mapping[Key, NDArray[Any]]]  # arm -> key -> predictions [P S n ...]

    def save(self, folder: str | Path) -> Path:
        """Write `predictions.npz` into `folder`, whole or not at all."""
        path = Path(folder) / FILE_NAME
        description = {
            "version": VERSION,
            "target": self.target,
            "metric": self.metric,
            "judged": self.judged,
            "primary": self.primary,
            "budgets": [asdict(budget) for budget in self.budgets],
        }
        hidden = partial(_each, secret_of(path.parent).hide)
        arrays: dict[str, Any] = {
            "said": np.array(json.dumps(description)),
            **{name: hidden(of) if (of := getattr(self, name)).dtype.kind == "U" else of for name in _ARRAYS},
            **{f"draws/{budget}": hidden(names) for budget, names in self.draws.items()},
            **{
                f"arm/{arm}/{protocol}/{budget}": _narrow(of)
                for arm, by_key in self.predicted.items()
                for (protocol, budget), of in by_key.items()
            },
        }
        with whole_file(path) as begun, begun.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Predictions:
        """Read `predictions.npz` from a folder. Raises `UserError` where there is none or it cannot be read."""
        path = Path(folder) / FILE_NAME
        if not path.exists():
            raise UserError(
                f"no {FILE_NAME} in {str(folder)!r}: judge again (tacit evaluate ... --out FOLDER) and take that folder"
            )
        with reading(path, "judge again"), arrays_in(path) as arrays:
            description = json.loads(str(arrays["said"]))
            if description["version"] not in (2, VERSION):
                raise UserError(f"{path} was written by another version: judge again with this one")
            shown = _shown_by(path.parent) if description["version"] == VERSION else None
            named: Any = {name: _shown(arrays[name], shown) for name in _ARRAYS}
            predicted: dict[int, dict[Key, NDArray[Any]]] = {}
            for name in arrays.files:
                if name.startswith("arm/"):
                    _, arm, protocol, budget = name.split("/")
                    predicted.setdefault(int(arm), {})[protocol, budget] = arrays[name]
            n = len(named["item"])
            whole = all(len(of) == n for of in named.values()) and all(
                of.ndim > 2 and of.shape[2] == n for by_key in predicted.values() for of in by_key.values()
            )
            if not whole or type(description["judged"]) is not int:
                raise ValueError("its arrays do not belong together")
            return cls(
                **named,
                **{name: description[name] for name in ("target", "metric", "judged", "primary")},
                budgets=tuple(built(Budget, budget) for budget in description["budgets"]),
                draws={
                    n.removeprefix("draws/"): _shown(arrays[n], shown) for n in arrays.files if n.startswith("draws/")
                },
                predicted=predicted,
            )


def _each(change: Callable[[str], str], names: Names) -> Names:
    """Change every name, calling `change` once per distinct name."""
    different, which = np.unique(names, return_inverse=True)
    return np.array([change(name) for name in different.tolist()], np.str_)[which].reshape(names.shape)


def _shown_by(folder: Path) -> Callable[[str], str]:
    secret = secret_in(folder)
    if secret is None:
        raise UserError(
            f"the names in {folder / FILE_NAME} are hidden by a secret, and {SECRET} is not beside it: name the folder "
            "that made it, or take that file along"
        )
    return secret.show


def _shown(array: NDArray[Any], show: Callable[[str], str] | None) -> NDArray[Any]:
    return array if show is None or array.dtype.kind != "U" else _each(show, array)


def _narrow(predicted: NDArray[Any]) -> NDArray[Any]:
    """Integers in the smallest type that holds them."""
    if predicted.dtype.kind != "i":
        return predicted
    ends = (np.min_scalar_type(int(end)) for end in (predicted.min(initial=0), predicted.max(initial=0)))
    return predicted.astype(np.result_type(*ends))


def item_names(labelled: Labelled, positions: Positions) -> Names:
    """A name [n] for each position: the hash of its content, numbered where several are copies of one another.

    Copies are numbered in the order of the data, whatever the order of `positions`.
    """
    content = _content(labelled)
    order = np.argsort(content, kind="stable")
    first = np.searchsorted(content[order], content[order])
    copy = np.empty(len(content), np.int64)
    copy[order] = np.arange(len(content)) - first
    return np.array([f"{content[p]}.{copy[p]}" for p in positions])


def draw_names(
    labelled: Labelled, drawn: Sequence[Mapping[str, Sequence[Positions]]], tested: Sequence[Positions]
) -> dict[str, Names]:
    """For each budget a hash [S] of every draw: of the contents and classes in it, fold by fold.

    In cross-fitting the folds belong to it too, because there they say which draw predicted an item; and the test items
    where nothing is drawn, because these are what is searched.
    """
    content = _content(labelled)
    named = truth_names(labelled, np.arange(len(labelled.y)))
    drawn_at_all = any(len(draw) for draws in drawn[0].values() for draw in draws)
    folds_count = len(tested) > 1 or not drawn_at_all
    folds = [",".join(np.sort(content[part])) if folds_count else "" for part in tested]
    names = {}
    for budget, of_first in drawn[0].items():
        draws = []
        for s in range(len(of_first)):
            state = hashlib.sha256()
            for draws_of_fold, fold in zip(drawn, folds, strict=True):
                taken = draws_of_fold[budget][s]
                lines = sorted(f"{content[p]} {named[p]}" for p in taken)
                state.update("\n".join([*lines, fold, ""]).encode())
            draws.append(state.hexdigest()[:32])
        names[budget] = np.array(draws)
    return names


def truth_names(labelled: Labelled, positions: Positions) -> Names:
    """The true label of each position [n]: the hash of its class's name, or of its numbers."""
    if labelled.truth is None:
        return np.array([*map(short_digest, labelled.classes), ""])[labelled.y[positions]]  # the last serves -1
    if labelled.truth.ndim == 1:
        return np.array([short_digest(repr(float(value))) for value in labelled.truth[positions]])
    names = np.array(labelled.classes)
    return np.array([short_digest("\n".join(sorted(names[row > 0]))) for row in labelled.truth[positions]])


def _content(labelled: Labelled) -> Names:
    if labelled.content is None:  # the same positions then mean the same examples
        return np.array([str(position) for position in range(len(labelled.y))])
    return np.array(content_digests(labelled.content))
