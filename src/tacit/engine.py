"""Devices, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import os
from typing import Literal

try:
    from lightning_fabric import Fabric
except ImportError:  # the same class inside the larger package
    from lightning.fabric import Fabric  # type: ignore[no-redef, import-not-found, unused-ignore]

import torch

Precision = Literal["auto", "32", "bf16"]

__all__ = ["Fabric", "Precision", "make_fabric"]


def make_fabric(*, device: str = "auto", precision: Precision = "auto", convolutional: bool = False) -> Fabric:
    """A Fabric for this process, also under torchrun; `device` is auto, cpu, cuda or mps.

    Precision `auto` is bf16 on CUDA, and on the CPU for convolutional encoders, where it was measured to pay (see
    docs/experiments.md); 32 bits elsewhere.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    if precision == "auto":
        on_cuda = device in {"auto", "cuda"} and torch.cuda.is_available()
        precision = "bf16" if on_cuda or (convolutional and device in {"auto", "cpu"} and not _has_mps()) else "32"
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
