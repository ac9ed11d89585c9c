"""Devices, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import ctypes
import os
from typing import Literal

try:
    from lightning_fabric import Fabric
except ImportError:  # the same class inside the larger package
    from lightning.fabric import Fabric  # type: ignore[no-redef, import-not-found, unused-ignore]

import torch

Precision = Literal["auto", "32", "bf16"]

__all__ = ["Fabric", "Precision", "make_fabric"]


def make_fabric(*, device: str = "auto", precision: Precision = "auto", bf16_pays: bool = False) -> Fabric:
    """A Fabric for this process, also under torchrun; `device` is auto, cpu, cuda or mps.

    Precision `auto` is bf16 on CUDA, and on CPUs that compute in it where `bf16_pays`; 32 bits elsewhere. On a CPU that
    has to emulate it bf16 was measured to be 7 to 14 times slower (see docs/experiments.md).
    """
    keep_memory()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    if precision == "auto":
        cuda = device in {"auto", "cuda"} and torch.cuda.is_available()
        mps = device in {"auto", "mps"} and torch.backends.mps.is_available()
        precision = "bf16" if cuda or (bf16_pays and not mps and cpu_has_bf16()) else "32"
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def keep_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next ones, where the C library is glibc.

    Handing every large tensor back to the system and asking for it anew cost a fifth to a quarter of a step's time.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # macOS, Windows, musl
        return
    m_trim_threshold, m_mmap_max = -1, -4  # <malloc.h>
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16 rather than emulating it."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)
