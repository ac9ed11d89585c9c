"""Embed a corpus on a cluster that runs Ray, by an encoder that every worker loads once.

    pip install "tacit-learn[ray]"
    python examples/ray_embed.py RUN IN OUT --column text [--workers 8] [--gpus 1]

IN is a folder of Parquet files, OUT one that is written: their rows with an `embedding` more, in no order. Both may lie
wherever all machines reach them, s3:// and gs:// included. The column holds what `encoder.prepare` takes: texts, paths
of images or of recordings. RUN is a run or an exported folder. Without Ray, `torchrun -m tacit embed` does the same.
"""

from __future__ import annotations

import argparse
from typing import Any

import ray
import torch

import tacit


class Embedder:
    """One worker's encoder."""

    def __init__(self, encoder: str, column: str) -> None:
        self.column = column
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.encoder = tacit.load_encoder(encoder).to(self.device)

    @torch.inference_mode()
    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        batch = self.encoder.prepare(list(rows[self.column]))
        pooled = self.encoder({name: value.to(self.device) for name, value in batch.items()}).pooled
        return {**rows, "embedding": pooled.float().cpu().numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("encoder", "data", "out"):
        parser.add_argument(name)
    parser.add_argument("--column", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0, help="of each worker")
    parser.add_argument("--batch-size", type=int, default=256)
    asked = parser.parse_args()
    embedded = ray.data.read_parquet(asked.data).map_batches(
        Embedder,
        fn_constructor_args=(asked.encoder, asked.column),
        batch_size=asked.batch_size,
        concurrency=asked.workers,
        num_gpus=asked.gpus,
    )
    embedded.write_parquet(asked.out)


if __name__ == "__main__":
    main()
