"""What a modality is: one object that says how its data are read, trained on, judged, shown and handed over.

A modality is a folder beside this file and a line in `tacit.modalities.MODALITIES`. Its object derives from `Modality`;
about nine methods have no default. Nothing outside the folder names the modality.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.core.spec import Spec
from tacit.data.copies import Copies, exact_copies
from tacit.data.store import Store
from tacit.tasks.ingredients import Ingredients
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tacit.core.encoder import OwnEncoder
    from tacit.core.masks import Hiding
    from tacit.core.types import Batch, ViewMaker
    from tacit.data.known import Spans
    from tacit.data.split import Split
    from tacit.evaluation import Arm, Labelled, Seal
    from tacit.modalities.graph import GraphIO
    from tacit.modalities.hf_folder import Public
    from tacit.modalities.recipe import Recipe
    from tacit.report import Points, Recommended
    from tacit.training.batches import Batches

Rows = NDArray[np.int64]


class Units(NamedTuple):
    """Labelled parts of examples, n of them: frames of recordings."""

    fetch: Callable[[Rows], Batch]  # the pieces of examples that they are parts of: an encoder sees each at once
    tokens: Rows  # [n 2] the piece of each, and its place in it
    row: Rows  # [n] of its example
    label: Rows  # [n]
    content: NDArray[np.void]  # [n] 16-byte hash


S = TypeVar("S", bound=Spec)
D = TypeVar("D", bound=Store)


class Unseen(NamedTuple):
    """Examples to try encoders on once they are judged."""

    rows: Rows
    held_out: bool  # whether they were kept out of pretraining
    seed: int
    private: bool  # whether nothing of theirs may be shown


class Modality(ABC, Generic[S, D]):
    """One kind of data. `S` is what an encoder sees of it, `D` where the decoded examples lie."""

    name: ClassVar[str]
    nouns: ClassVar[str]  # what its examples are called
    spec: type[S]
    default_tasks: ClassVar[str]  # that a run compares where none are named
    hidden_by: ClassVar[tuple[str, ...]] = ()  # the units that masked prediction may hide it by, see `Hiding`
    owned: ClassVar[bool] = False  # examples are made of what nobody else has, such as a shop's items

    # ---------------------------------------------------------------- pretraining

    @abstractmethod
    def default_encoder(self, spec: S, tasks: Collection[str]) -> str:
        """The architecture that suits these data and these pretext tasks."""

    ingredients: type[Ingredients[Any]]  # what it has for pretext tasks, which decides which of them it has

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
        from tacit.modalities.recipe import make_recipe

        return make_recipe(
            self,
            weights,
            encoder,
            examples=examples,
            batch_size=batch_size,
            accelerated=accelerated,
            hiding=hiding,
        )

    def measured(self, task: str, encoder: Any) -> Mapping[str, Any]:
        """Settings of a task that were measured to train well here, in place of the task's own defaults."""
        return {}

    def optim(self, encoder: Any) -> Optim:
        """How the weights are updated."""
        return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        """Examples of a step at most; more where an accelerator would idle."""
        return 256 if accelerated else 64

    def packs(self, encoder: Any, tasks: Collection[str]) -> bool:
        """Whether rows may hold one example after the other."""
        return False

    @abstractmethod
    def views(self, spec: S) -> ViewMaker:
        """Views that differ much and still are of the same example, by which encoders are compared and diagnosed."""

    @abstractmethod
    def scratch_views(self, spec: S) -> ViewMaker:
        """The views by which training on the labels alone is hardest to beat."""

    @abstractmethod
    def batches(self, store: D, rows: Rows, recipe: Recipe, seed: int) -> Batches:
        """The rows as the recipe reads them, step by step."""

    def warm_start(self, encoder: Any, store: D, rows: Rows) -> Any:
        """An encoder with new weights as its pretraining on these rows begins, by what counts of them say at most."""
        return encoder

    def bf16_pays(self, encoder: Any) -> bool:
        """Whether a CPU that computes in bf16 trains this encoder faster in it."""
        return False

    # ---------------------------------------------------------------- what is judged

    def units(self, store: D, spans: Spans, rows: Rows, stride: int) -> Units:
        """The labelled parts of these examples, one of every `stride`: what the target `tokens` judges."""
        raise NotImplementedError(self.name)

    def hold_out(
        self, store: D, names: Sequence[str], *, target: str, seed: int, transductive: bool, sealed: Seal | None
    ) -> Split:
        """Seal a part of each example, what comes next, in place of whole ones; `names` are the examples' ids.

        UserError where too little can be held out, or nothing of an earlier seal is there.
        """
        raise NotImplementedError(self.name)

    def without_held(self, store: D, held: object) -> D:
        """The examples without what is held out of them, so that nothing can learn from it."""
        return store

    def about_held(self, split: Split) -> list[str]:
        """What is asked, and what of it the usual way to ask leaves out."""
        return []

    # ---------------------------------------------------------------- judging

    @abstractmethod
    def baselines(self, store: D, split: Split, seed: int) -> list[Arm]:
        """What has learned nothing from unlabelled data but counts."""

    def baselines_seconds(self, store: D, split: Split) -> tuple[float, Callable[[int], float]]:
        """About how long these take to judge, beyond what every encoder takes: at first, and with so many labels."""
        return 0.0, lambda labels: 0.0

    # ---------------------------------------------------------------- encoders that were trained elsewhere

    @abstractmethod
    def compatible(self, spec: S, other: S) -> bool:
        """Whether an encoder of the one spec reads batches of data of the other."""

    def explain(self, own: S, other: S, name: str) -> str:
        """What an encoder reads and the data called `name` are not, though opened as it reads; empty if they are."""
        return ""

    @abstractmethod
    def options_of(self, spec: S) -> dict[str, Any]:
        """Settings of `open_dataset` by which data are read as an encoder of this spec reads them."""

    def fixed(self, spec: S) -> dict[str, Any]:
        """Settings that an encoder of this spec cannot read by other values of; None for those that it never takes."""
        return {}

    def restore_options(self, encoder: Any, settings: Mapping[str, Any]) -> None:
        """Add to an encoder of before what its run was asked of the form of its data, and its spec does not tell."""

    def read_spec(self, values: Mapping[str, Any], folder: Path) -> S:
        """The spec from its JSON form in the folder of an encoder; UserError where what lies beside it is damaged."""
        return self.spec.of(values)

    def holds(self, spec: S) -> str:
        """What of the data an encoder carries in so many words, and how it is left out; empty for nothing."""
        return ""

    public_inputs: ClassVar[tuple[str, ...]] = ()  # main inputs, in transformers' words, of models that read it
    public_part: ClassVar[str] = ""  # of the configuration of a model that reads it and other things

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        """The encoder in a folder of Hugging Face's, and what a person should know of how it was read.

        `spec` is known where Tacit wrote the folder.
        """
        raise NotImplementedError(self.name)

    def wrap(self, module: nn.Module, spec: S) -> OwnEncoder:
        """A person's own module as an encoder."""
        raise UserError(f"a module of your own cannot read {self.nouns}; wrap one of images")

    def adapt(self, encoder: Any, spec: Spec) -> Any:
        """An encoder that comes with its weights, ready for data of this spec, which were read as it reads them."""
        return encoder

    @abstractmethod
    def graph(self, encoder: Any) -> GraphIO:
        """How an encoder is written as a graph, and compared with its copies elsewhere."""

    def deep(self, store: D) -> bool:
        """Whether examples are images of more than 8 bits."""
        return False

    def copies(self, store: D, rows: Rows, among: Rows) -> Copies:
        """Copies of the examples `rows` among the examples `among`: exact ones, and near ones where they are sought."""
        return exact_copies(store.content, rows, among)

    # ---------------------------------------------------------------- words and pictures

    @abstractmethod
    def describe(self, store: D) -> str:
        """The data in a few words."""

    @abstractmethod
    def about(self, store: D) -> list[str]:
        """More of them, for `tacit inspect`."""

    @abstractmethod
    def facts(self, store: D) -> dict[str, Any]:
        """What the report's data section says of their shape."""

    @abstractmethod
    def pictures(self, store: D, rows: Rows) -> Sequence[Any]:
        """What a person sees of these examples: an image, or a text."""

    def sounds(self, store: D, rows: Rows) -> Sequence[bytes | None]:
        """What a person hears of them, as MP3; None of what has no sound."""
        return [None] * len(rows)

    def map_of(self, encoder: Any, labelled: Labelled, name: str) -> Points | None:
        """The map of what comes next, where that is judged; None for one of the examples, as everywhere else."""
        return None

    def recommended(self, encoder: Any, labelled: Labelled, seed: int) -> list[Recommended]:
        """What an encoder puts first where that is judged; for after the verdict, since it reads what came."""
        return []

    def aside(self, store: D, encoders: Mapping[str, Any], chosen: str, unseen: Unseen) -> dict[str, Any]:
        """What the report's data tell beside the verdict, of encoders by the name of their task."""
        return {}

    @abstractmethod
    def shown(self, store: D, preview: Tensor) -> Sequence[Any]:
        """What a task's preview shows of some examples, in the same form."""
