"""The export formats of encoders: to add one, write a file here and a line below."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tacit.core.errors import UserError
from tacit.modalities import modality_of

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder
    from tacit.formats.base import Format
    from tacit.modalities.graph import GraphIO

FORMATS = {
    "hf": "tacit.formats.hf:HuggingFace",
    "onnx": "tacit.formats.onnx:Onnx",
    "safetensors": "tacit.formats.safetensors:Safetensors",
}


def format_named(name: str) -> Format:
    """The format of this name. UserError for an unknown one."""
    if name not in FORMATS:
        raise UserError(f"cannot export to {name!r}; choose {', '.join(FORMATS)}")
    module, _, of = FORMATS[name].partition(":")
    found: Format = getattr(import_module(module), of)()
    return found


def handover(encoder: OwnEncoder) -> GraphIO:
    """The inputs and outputs of this encoder's exported graph, by its modality."""
    return modality_of(encoder.spec).graph(encoder)
