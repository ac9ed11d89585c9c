"""The interface of an export format, and the comparison of an exported copy with its original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tacit.formats import handover
from tacit.formats.head import Head, usage, write_weights

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder
    from tacit.modalities.graph import Words

    Inputs = Mapping[str, Tensor]
    Copy = Callable[[Inputs], tuple[Tensor, Tensor]]  # to pooled features and tokens, or to embedding and answer


class Format:
    """One export format: the files for other programs, beside the folder that `tacit.load_encoder` reads."""

    windows = True  # whether other programs open it, which do not cut an example into windows

    def check(self, encoder: OwnEncoder) -> None:
        """UserError where the encoder has no such format, or a package is missing."""

    def write(self, encoder: OwnEncoder, folder: Path) -> None:
        """Add the files of this format to the existing folder of an encoder."""

    def copy(self, encoder: OwnEncoder, folder: Path) -> Copy:
        """The exported copy, opened as other programs do."""
        raise NotImplementedError(type(self).__name__)

    # ---------------------------------------------------------------- with a head

    def write_head(self, encoder: OwnEncoder, head: Head, folder: Path, description: Mapping[str, object]) -> str:
        """Write the head, in place of `write`; returns the file of its weights. `description` is its metadata."""
        self.write(encoder, folder)
        return write_weights(head, folder)

    def usage(self, head: Head, words: Words) -> str:
        """Lines of Python from examples to the head's output."""
        return usage(head, words)

    def does(self, words: Words) -> str:
        """A description of what computes the embedding, with the preprocessing that it includes."""
        return f"the encoder {words.does}"

    def headed(self, encoder: OwnEncoder, head: Head, folder: Path) -> tuple[Copy, Copy] | None:
        """Original and copy of an encoder with its head, where they are one graph."""
        return None


def as_function(encoder: OwnEncoder) -> Copy:
    """An encoder as inputs to pooled features and tokens."""
    kind = handover(encoder)

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        features = kind.features(encoder, inputs)
        return features.pooled, features.tokens

    return answer
