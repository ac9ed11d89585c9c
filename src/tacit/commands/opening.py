"""Functions for Python alone: open an encoder and data."""

from __future__ import annotations

from typing import Any

from tacit import dataset
from tacit.commands.command import guarded
from tacit.experiment.reading import open_encoder


@guarded
def load_encoder(source: Any, *, offline: bool = False) -> Any:
    """Open a run folder, an exported folder or hf:FOLDER_OR_NAME as a trainable `torch.nn.Module`.

    It embeds batches, `encoder(encoder.prepare(images)).pooled`, where `prepare` takes paths, PIL images or arrays and
    does the exact preprocessing of the training.
    """
    return open_encoder(source, offline=offline)


open_dataset = guarded(dataset.open_dataset)
