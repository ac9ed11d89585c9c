"""What a run asks of each kind of data, one module a kind, all with the functions of `Kind`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tacit.core.masks import Hiding
    from tacit.core.types import ViewMaker
    from tacit.dataset import Dataset
    from tacit.evaluation import Arm
    from tacit.modalities.recipe import Recipe
    from tacit.modalities.spec import Spec
    from tacit.run.split import Split
    from tacit.training.batches import Batches

KINDS = {
    name: f"tacit.modalities.{folder}.modality"
    for name, folder in {"image": "image", "text": "text", "audio": "audio", "items": "events"}.items()
}


class Kind(Protocol):
    """The functions of a module of this folder."""

    tasks: str  # that a run compares where none are named
    contrast: str  # the task whose views diagnosis looks at

    def scratch_views(self, spec: Any) -> ViewMaker:
        """The views of training on labels: those that make the harder baseline."""

    def default_encoder(self, spec: Any, tasks: Collection[str]) -> str:
        """The architecture that suits these data and these pretext tasks."""

    def recipe(
        self,
        weights: Mapping[str, float],
        encoder: Any,
        *,
        examples: int,
        batch_size: int | None = None,
        accelerated: bool = False,
        hiding: Hiding | None = None,
    ) -> Recipe:
        """How to pretrain by a task or a weighted sum of tasks; `hiding` where it is not the usual one."""

    def default_views(self, spec: Any, task: str) -> ViewMaker:
        """The views that suit a pretext task."""

    def batches(self, dataset: Dataset, rows: NDArray[np.int64], plan: Recipe, seed: int) -> Batches:
        """The rows as the recipe reads them, step by step."""

    def statistics(self, dataset: Dataset, split: Split, seed: int) -> list[Arm]:
        """The baselines that have learned nothing from unlabelled data but counts."""

    def statistics_seconds(self, dataset: Dataset, split: Split) -> tuple[float, Callable[[int], float]]:
        """About how long these take to judge, beyond what every encoder takes: at first, and with so many labels."""

    def same_form(self, spec: Any, other: Any) -> bool:
        """Whether an encoder of the one spec reads batches of data of the other."""

    def mismatch(self, own: Any, opened: Dataset) -> str:
        """What an encoder of this spec reads and these data are not, though opened as it reads; empty if they are."""

    def reading(self, spec: Any) -> dict[str, Any]:
        """Settings of `open_dataset` by which data are read as an encoder of this spec reads them."""

    def fixed(self, spec: Any) -> dict[str, Any]:
        """Settings that an encoder of this spec cannot read by other values of; None for those that it never takes."""

    def heard(self, encoder: Any, asked: Mapping[str, Any]) -> None:
        """Add to an encoder of before what its run was asked of the form of its data, and its spec does not tell."""

    def fitted(self, encoder: Any, spec: Any) -> Any:
        """An encoder that comes with its weights, ready for data of this spec, which were read as it reads them."""

    def begun(self, encoder: Any, dataset: Dataset, rows: NDArray[np.int64]) -> Any:
        """An encoder with new weights as its pretraining on these rows begins, by what counts of them say at most."""

    def bf16_pays(self, encoder: Any) -> bool:
        """Whether a CPU that computes in bf16 trains this encoder faster in it."""

    def describe(self, dataset: Dataset) -> str:
        """The data in a few words."""

    def about(self, dataset: Dataset) -> list[str]:
        """More of them, for `tacit inspect`."""

    def facts(self, dataset: Dataset) -> dict[str, Any]:
        """What the report's data section says of their shape."""

    def pictures(self, dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[Any]:
        """What a person sees of these examples: an image, or a text."""

    def sounds(self, dataset: Dataset, rows: NDArray[np.int64]) -> Sequence[bytes | None]:
        """What a person hears of them, as MP3; None of what has no sound."""

    def shown(self, dataset: Dataset, preview: Tensor) -> Sequence[Any]:
        """What a task's preview shows of some examples, in the same form."""


def kind_named(name: str) -> Kind:
    """The module of this kind of data."""
    found: Any = import_module(KINDS[name])
    return found  # type: ignore[no-any-return]


def kind_of(spec: Spec) -> Kind:
    """The module of the kind of data that a spec describes."""
    return kind_named(spec.kind)
