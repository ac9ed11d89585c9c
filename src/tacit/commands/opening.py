"""What Python alone offers: an encoder and data, opened."""

from __future__ import annotations

from typing import Any

from tacit.commands.command import guarded
from tacit.experiment.reading import open_encoder


@guarded
def load_encoder(source: Any, *, offline: bool = False) -> Any:
    """Open a run folder, an exported folder or hf:FOLDER_OR_NAME as a trainable `torch.nn.Module`.

    It embeds batches, `encoder(encoder.prepare(images)).pooled`, where `prepare` takes paths, PIL images or arrays and
    does the exact preprocessing of the training.
    """
    return open_encoder(source, offline=offline)


@guarded
def open_dataset(data: Any, **options: Any) -> Any:
    """Read data once into the cache; see `tacit.dataset.open_dataset` for the settings."""
    from tacit.dataset import open_dataset as open_

    return open_(data, **options)
