"""The interface of a modality: one object that defines how its data are trained on, evaluated, shown and exported.

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
    from tacit.core.masks import MaskSchedule
    from tacit.core.types import Batch, ViewMaker
    from tacit.data.resolved import Spans
    from tacit.data.split import Split
    from tacit.evaluation import Arm, Labelled, Seal
    from tacit.modalities.graph import GraphIO
    from tacit.modalities.hf_folder import Public
    from tacit.modalities.recipe import Recipe
    from tacit.report import Points, Recommended
    from tacit.tasks.base import Task
    from tacit.training.batches import Batches

Rows = NDArray[np.int64]


class Units(NamedTuple):
    """n labelled parts of examples, such as frames of recordings."""

    fetch: Callable[[Rows], Batch]  # reads the pieces of examples that hold them; an encoder sees a piece as a whole
    tokens: Rows  # [n 2] the piece of each, and its token in that piece
    row: Rows  # [n] of the example of each
    label: Rows  # [n]
    content: NDArray[np.void]  # [n] 16-byte hash


class Matched(NamedTuple):
    """One side of n examples: its name, its embeddings in the space of both, and how people see it."""

    side: str
    embedding: NDArray[np.float32]  # [n D]
    pictures: Sequence[Any]  # [n]


S = TypeVar("S", bound=Spec)
D = TypeVar("D", bound=Store)


class Unseen(NamedTuple):
    """Examples to try encoders on after their evaluation."""

    rows: Rows
    held_out: bool  # whether they were kept out of pretraining
    seed: int
    private: bool  # whether the report may show nothing of them


class Modality(ABC, Generic[S, D]):
    """One modality. `S` is the spec of its data, as an encoder sees them; `D` is the store of decoded examples."""

    name: ClassVar[str]
    nouns: ClassVar[str]  # what its examples are called
    spec: type[S]
    default_tasks: ClassVar[str]  # that a run compares by default
    hidden_by: ClassVar[tuple[str, ...]] = ()  # the units that masked prediction may hide it by, see `MaskSchedule`
    kin: ClassVar[bool] = False  # whether examples of one group, such as a patient's scans, are no negatives
    owned: ClassVar[bool] = False  # examples consist of identities that nobody else has, such as a shop's items

    # ---------------------------------------------------------------- pretraining

    @abstractmethod
    def default_encoder(self, spec: S, tasks: Collection[str]) -> str:
        """The architecture that suits these data and these pretext tasks."""

    def default_parts(self, spec: S) -> Mapping[str, str]:
        """The architecture of each part of an encoder, where it is made of those of other modalities."""
        return {}

    ingredients: type[Ingredients[Any]]  # for pretext tasks; a modality has the tasks that it has all ingredients for

    def recipe(
        self,
        weights: Mapping[str, float],
        encoder: Any,
        *,
        examples: int,
        batch_size: int | None = None,
        accelerated: bool = False,
        hiding: MaskSchedule | None = None,
    ) -> Recipe:
        """How to pretrain by a task or a weighted sum of tasks; `hiding` replaces the default mask schedule."""
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

    def task(self, name: str, encoder: Any, hiding: MaskSchedule | None = None) -> Task:
        """The task of this name on an encoder, made of the ingredients; `hiding` replaces the default mask schedule."""
        from tacit.modalities.recipe import make_task

        return make_task(self, name, encoder, hiding)

    def measured(self, task: str, encoder: Any) -> Mapping[str, Any]:
        """Settings of a task that were measured to train well here, in place of the task's own defaults."""
        return {}

    def optim(self, encoder: Any) -> Optim:
        """The optimiser and its settings."""
        return Optim("adamw", lr=1e-3, weight_decay=0.05, warmup=0.06, betas=(0.9, 0.98), clip=1.0)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        """The largest number of examples of a step; larger where an accelerator would idle otherwise."""
        return 256 if accelerated else 64

    def packs(self, encoder: Any, tasks: Collection[str]) -> bool:
        """Whether a row may hold several examples, one after the other (packing)."""
        return False

    @abstractmethod
    def views(self, spec: S) -> ViewMaker:
        """Strong views of an example, by which encoders are compared and diagnosed."""

    @abstractmethod
    def scratch_views(self, spec: S) -> ViewMaker:
        """The views that make training on the labels alone hardest to beat."""

    @abstractmethod
    def batches(self, store: D, rows: Rows, recipe: Recipe, seed: int) -> Batches:
        """The batches of these rows, step by step, as the recipe reads them."""

    def warm_start(self, encoder: Any, store: D, rows: Rows) -> Any:
        """Initialise a new encoder from counts over these rows, where the modality has them."""
        return encoder

    def bf16_pays(self, encoder: Any) -> bool:
        """Whether this encoder trains faster in bf16 on a CPU that supports it."""
        return False

    # ---------------------------------------------------------------- labelled parts and held-out events

    def units(self, store: D, spans: Spans, rows: Rows, stride: int) -> Units:
        """The labelled parts of these examples, one of every `stride`, for the target `tokens`."""
        raise NotImplementedError(self.name)

    def hold_out(
        self, store: D, names: Sequence[str], *, target: str, seed: int, transductive: bool, sealed: Seal | None
    ) -> Split:
        """Hold out and seal the next events of each example in place of whole examples; `names` are the examples' ids.

        UserError where too little can be held out, or nothing of an earlier seal is found.
        """
        raise NotImplementedError(self.name)

    def without_held(self, store: D, held: object) -> D:
        """The examples without their held-out events, so that nothing can learn from these."""
        return store

    def about_held(self, split: Split) -> list[str]:
        """Lines on the held-out events: how many are tested, and which ones the default target leaves out."""
        return []

    # ---------------------------------------------------------------- evaluation

    @abstractmethod
    def baselines(self, store: D, split: Split, seed: int) -> list[Arm]:
        """The arms that learn nothing from unlabelled data but counts."""

    def plain(self, store: D, rows: Rows, seed: int) -> Callable[[Rows], Any] | None:
        """Features [n d] of examples, perhaps sparse, that are counted over `rows` and not learned; None for none."""
        return None

    def baselines_seconds(self, store: D, split: Split) -> tuple[float, Callable[[int], float]]:
        """Estimated seconds to evaluate the baselines beyond those of any encoder: once, and for a number of labels."""
        return 0.0, lambda labels: 0.0

    # ---------------------------------------------------------------- encoders that were trained elsewhere

    @abstractmethod
    def compatible(self, spec: S, other: S) -> bool:
        """Whether an encoder of one spec reads batches of data of the other spec."""

    def explain(self, own: S, other: S, name: str) -> str:
        """Why the data called `name`, though opened as the encoder reads data, do not fit it; empty if they do."""
        return ""

    @abstractmethod
    def options_of(self, spec: S) -> dict[str, Any]:
        """Settings of `open_dataset` that read data as an encoder of this spec does."""

    def fixed(self, spec: S) -> dict[str, Any]:
        """Settings that must have these values for an encoder of this spec; None for those that it never takes."""
        return {}

    def restore_options(self, encoder: Any, settings: Mapping[str, Any]) -> None:
        """Add to an earlier encoder the settings of its run on the form of the data that its spec lacks."""

    def read_spec(self, values: Mapping[str, Any], folder: Path) -> S:
        """The spec from its JSON form in the folder of an encoder; UserError where a file beside it is damaged."""
        return self.spec.of(values)

    def holds(self, spec: S) -> str:
        """Which of the data an encoder stores verbatim, and how to leave them out; empty for none."""
        return ""

    public_inputs: ClassVar[tuple[str, ...]] = ()  # `main_input_name` of the models of transformers that read it
    public_part: ClassVar[str] = ""  # its part of the configuration of a multimodal model

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        """The encoder in a Hugging Face folder, and remarks on how it was read.

        `spec` is given where Tacit wrote the folder.
        """
        raise NotImplementedError(self.name)

    def wrap(self, module: nn.Module, spec: S) -> OwnEncoder:
        """Wrap a person's own module as an encoder."""
        raise UserError(f"a module of your own cannot read {self.nouns}; wrap one of images")

    def adapt(self, encoder: Any, spec: Spec) -> Any:
        """Adapt a pretrained encoder to data of this spec, which were read as it reads them."""
        return encoder

    @abstractmethod
    def graph(self, encoder: Any) -> GraphIO:
        """How to export an encoder as a graph and to compare it with its copies."""

    def deep(self, store: D) -> bool:
        """Whether examples are images of more than 8 bits."""
        return False

    def copies(self, store: D, rows: Rows, among: Rows) -> Copies:
        """Copies of the examples `rows` among the examples `among`: exact, and near where the modality finds them."""
        return exact_copies(store.content, rows, among)

    # ---------------------------------------------------------------- words and pictures

    @abstractmethod
    def describe(self, store: D) -> str:
        """Describe the data in a few words."""

    @abstractmethod
    def about(self, store: D) -> list[str]:
        """Lines that describe the data in more detail, for `tacit inspect`."""

    @abstractmethod
    def facts(self, store: D) -> dict[str, Any]:
        """The shape of the data, for the report's data section."""

    @abstractmethod
    def pictures(self, store: D, rows: Rows) -> Sequence[Any]:
        """Each of these examples as people see it: an image, or a text."""

    def sounds(self, store: D, rows: Rows) -> Sequence[bytes | None]:
        """Each of these examples as MP3; None for those without sound."""
        return [None] * len(rows)

    def map_of(self, encoder: Any, labelled: Labelled, name: str) -> Points | None:
        """A map of next events, where these are the target; None for the usual map of the examples."""
        return None

    def captions(self, store: D, rows: NDArray[np.int64]) -> Sequence[str]:
        """What is said of these examples, where they are pairs with texts; else nothing."""
        return ()

    def matched(self, store: D, encoder: Any, rows: Rows) -> tuple[Matched, Matched] | None:
        """Both sides of these examples, of which the second asks for the first; None where an example has one."""
        return None

    def recommended(self, encoder: Any, labelled: Labelled, seed: int) -> list[Recommended]:
        """An encoder's top recommendations, where these are the target; reads held-out events, so after the verdict."""
        return []

    def aside(self, store: D, encoders: Mapping[str, Any], chosen: str, unseen: Unseen) -> dict[str, Any]:
        """Results for the report beside the verdict; `encoders` are by the name of their task."""
        return {}

    @abstractmethod
    def shown(self, store: D, preview: Tensor) -> Sequence[Any]:
        """A task's preview of some examples, in the form of `pictures`."""
