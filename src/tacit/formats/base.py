"""What a format to hand an encoder on in is, and what a copy in another program is compared with."""

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
    """One form of an encoder: what others open, beside the folder that `tacit.load_encoder` reads."""

    windows = True  # whether other programs open it, who do not cut an example into windows

    def check(self, encoder: OwnEncoder) -> None:
        """UserError where the encoder has no such form, or a package is missing."""

    def write(self, encoder: OwnEncoder, folder: Path) -> None:
        """Add to the folder of an encoder, which is there already, what others open."""

    def copy(self, encoder: OwnEncoder, folder: Path) -> Copy:
        """The copy as its readers open it."""
        raise NotImplementedError(type(self).__name__)

    # ---------------------------------------------------------------- with a head

    def write_head(self, encoder: OwnEncoder, head: Head, folder: Path, said: Mapping[str, object]) -> str:
        """Write the head, in place of `write`; the file that its weights are in. `said` describes it."""
        self.write(encoder, folder)
        return write_weights(head, folder)

    def usage(self, head: Head, words: Words) -> str:
        """Lines in Python from examples to the head's answer."""
        return usage(head, words)

    def does(self, words: Words) -> str:
        """What computes the embedding, and what of an example it does itself."""
        return f"the encoder {words.does}"

    def headed(self, encoder: OwnEncoder, head: Head, folder: Path) -> tuple[Copy, Copy] | None:
        """Original and copy of an encoder with its head, where they are one."""
        return None


def as_function(encoder: OwnEncoder) -> Copy:
    """An encoder as inputs to pooled features and tokens."""
    kind = handover(encoder)

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        features = kind.features(encoder, inputs)
        return features.pooled, features.tokens

    return answer
