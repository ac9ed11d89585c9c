"""Using: the commands that take an encoder or data elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tacit.commands.settings import settings


def embed(
    encoder: Any,
    data: Any,
    *,
    out: str,
    batch_size: int = 256,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> int:
    """Write the embedding of every example to a Parquet file.

    Columns: `id`, `embedding` (a list of fixed size) and the input's own columns. Writes whole or not at all.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        data: A folder of images, a table, arrays, or the built-in `digits`.
        out: The Parquet file to write.
        batch_size: Examples at a time; embeddings do not depend on it.
        device: auto, cpu, cuda or mps.
        offline: Use no network, also for hf: names.
        overwrite: Replace the file.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.embedding import embed_data

    return embed_data(encoder, data, given, options)


def export(encoder: Any, *, to: Literal["hf", "onnx", "safetensors"] = "hf", out: str, offline: bool = False) -> int:
    """Write an encoder so that others can open it without Tacit.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        to: hf opens with transformers.AutoModel, onnx with any ONNX runtime; safetensors is read by load_encoder.
        out: The folder to write.
        offline: Use no network, also for hf: names.
    """
    from tacit.encoders import load_encoder
    from tacit.exporting import export as write

    done = write(load_encoder(encoder, offline=offline), to, Path(out))
    for key, value in done.items():
        print(f"{key}: {value}")
    return 0


def load_encoder(source: Any, *, offline: bool = False) -> Any:
    """Open a run folder, an exported folder or hf:FOLDER_OR_NAME as a trainable `torch.nn.Module`.

    It embeds batches, `encoder(encoder.prepare(images)).pooled`, where `prepare` takes paths, PIL images or arrays and
    does the exact preprocessing of the training.
    """
    from tacit.encoders import load_encoder as load

    return load(source, offline=offline)


def open_dataset(data: Any, **options: Any) -> Any:
    """Read data once into the cache; see `tacit.data.open_dataset` for the settings."""
    from tacit.data import open_dataset as open_

    return open_(data, **options)
