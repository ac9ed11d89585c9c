"""The interface of every encoder that is trained, saved and loaded here, of any modality."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tacit.core.errors import UserError
from tacit.core.spec import Spec
from tacit.core.types import Batch, Features

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def several(examples: Any, one: type | tuple[type, ...], what: str) -> list[Any]:
    """Examples to prepare, as a list; `one` is the type of a single example, `what` names several in errors."""
    if isinstance(examples, one):
        return [examples]
    if not isinstance(examples, Iterable) or isinstance(examples, bytes | Mapping | Set):
        raise UserError(f"cannot prepare a {type(examples).__name__}; pass {what}")
    found = list(examples)
    if not found:
        raise UserError(f"nothing to prepare; pass at least one of {what}")
    return found


class OwnEncoder(nn.Module, ABC):
    """Embeds raw batches; abstract, one subclass a modality and one of these an architecture.

    `name` and `options` rebuild it (`build_encoder(name, spec, **options)`), `source` says where its weights came from,
    `reading` where in the data of its training the content lay, see `tacit.data.dataset.Dataset.reading`. `dim` is the
    width D of tokens and of `pooled`.
    """

    spec: Spec
    pooling: str = "mean over tokens that count"
    """How `pooled` follows from the `last_hidden_state` of `hugging_face()`, for people who open it there."""

    def __init__(
        self, name: str, spec: Spec, *, dim: int, n_depths: int, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.spec = spec
        self.dim = dim
        self.n_depths = n_depths
        self.options = dict(options or {})
        self.source: dict[str, Any] = {}
        self.reading: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """A short description of the encoder."""
        return self.name

    @property
    def parts(self) -> Mapping[str, OwnEncoder]:
        """The encoders inside this one, each saved as an encoder of its own; their weights are below `inner`."""
        return {}

    def forget_names(self) -> None:
        """Remove names from the user's data, such as ids of items, from the spec."""

    @abstractmethod
    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed a raw batch; depth `n_depths - 1` is the deepest and equals `pooled`."""

    @abstractmethod
    def prepare(self, examples: Any, /) -> Batch:
        """Turn raw examples into a batch on the encoder's device, prepared as for its training."""

    def untrained(self) -> OwnEncoder:
        """The same architecture with new weights from torch's random generator."""
        twin = copy.deepcopy(self)
        for part in twin.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        return twin

    def add_words(self, words: Sequence[str]) -> int:
        """Add these tokens to the tokenizer; returns how many are new."""
        raise UserError(f"--add-words: {self.title} reads no text; leave it out")

    def hugging_face(self) -> PreTrainedModel | None:
        """The same encoder as a Hugging Face model, weights shared; None where that library cannot express it."""
        return None

    def opened_as(self, state: Mapping[str, Tensor]) -> tuple[Any, str]:
        """The class that opens the files of `hugging_face()`, and the prefix of its weights in the encoder's state."""
        from transformers import AutoModel

        return AutoModel, "model."

    def opener(self) -> Any:
        """The class by which others open the folder of `hugging_face()`."""
        from transformers import AutoModel

        return AutoModel

    def write_companions(self, folder: Path) -> None:
        """Write the files by which other libraries prepare examples for the model in `folder`."""

    def spec_in(self, folder: Path) -> dict[str, Any]:
        """The JSON form of the spec, for `encoder.json` in this folder."""
        return asdict(self.spec)

    def shape(self) -> dict[str, Any]:
        """The modality's own entries of `encoder.json`."""
        return {}
