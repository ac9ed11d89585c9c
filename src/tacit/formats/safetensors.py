"""safetensors alone: the folder that only `tacit.load_encoder` reads."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from tacit.encoders import folder as saved
from tacit.formats.base import Format, as_function

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder
    from tacit.formats.base import Copy


class Safetensors(Format):
    """The folder of an encoder as it is."""

    windows = False

    def copy(self, encoder: OwnEncoder, folder: Path) -> Copy:
        twin = deepcopy(encoder)
        saved.restore(twin, folder)
        return as_function(twin)
