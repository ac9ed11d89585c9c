"""Hugging Face's library: the folder of an encoder, opened without Tacit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tacit.core.errors import UserError
from tacit.encoders.hf import quiet
from tacit.formats import handover
from tacit.formats.base import Format

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder
    from tacit.formats.base import Copy


class HuggingFace(Format):
    """config.json and model.safetensors, which the folder of an encoder has wherever the library knows its like."""

    def check(self, encoder: OwnEncoder) -> None:
        if encoder.hugging_face() is None:
            raise UserError(
                f"{encoder.title} has no form in Hugging Face's library; use --to onnx, or --to safetensors, which "
                "tacit.load_encoder reads"
            )

    def copy(self, encoder: OwnEncoder, folder: Path) -> Copy:
        opener = encoder.opener()
        with quiet():
            model = opener.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
        kind = handover(encoder)
        return lambda inputs: kind.read(model, inputs)
