"""Devices, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import ctypes
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
except ImportError:  # the same classes inside the larger package
    from lightning.fabric import Fabric  # type: ignore[no-redef, import-not-found, unused-ignore]
    from lightning.fabric.plugins.environments.slurm import (  # type: ignore[no-redef, import-not-found, unused-ignore]
        SLURMEnvironment,
    )
    from lightning.fabric.plugins.environments.torchelastic import (  # type: ignore[no-redef, import-not-found, unused-ignore]
        TorchElasticEnvironment,
    )
    from lightning.fabric.strategies.ddp import DDPStrategy  # type: ignore[no-redef, import-not-found, unused-ignore]
    from lightning.fabric.strategies.model_parallel import (  # type: ignore[no-redef, import-not-found, unused-ignore]
        ModelParallelStrategy,
    )

import torch
import torch.distributed as td
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from tacit.core import gathering, ranks
from tacit.core.errors import RunFailed
from tacit.training.optim import Optim
from tacit.training.sharding import shard

Precision = Literal["auto", "32", "bf16"]
TIMEOUT = 600.0  # seconds
KERNELS = 256  # of oneDNN; ResNet-50 has about 100

__all__ = ["TIMEOUT", "Fabric", "Precision", "all_processes", "make_fabric", "set_up", "shards"]


@contextmanager
def all_processes(*, device: str = "auto", timeout: float = TIMEOUT) -> Iterator[None]:
    """Run the block in all processes of torchrun or SLURM as one run, see `tacit.core.ranks`.

    A process that waits longer than `timeout` seconds for another one ends the run. RunFailed where they do not meet.
    """
    _meet(device, timeout)
    with ranks.united():
        yield


def make_fabric(
    *, device: str = "auto", precision: Precision = "auto", bf16_pays: bool = False, sharded: bool = False
) -> Fabric:
    """Make a Fabric for this process, also under torchrun and SLURM; `device` is auto, cpu, cuda or mps.

    Precision `auto` is bf16 on CUDA, and on CPUs that compute in it where `bf16_pays`; 32 bits elsewhere. On a CPU that
    must emulate it bf16 was measured to be 7 to 14 times slower (see docs/experiments.md). `sharded` shards the trained
    module over the processes; a single process keeps it whole.
    """
    keep_memory()
    _meet(device, TIMEOUT)
    here = _processes_here() if gathering.world() > 1 else 1
    if precision == "auto":
        cuda = _on_cuda(device)
        mps = device in {"auto", "mps"} and torch.backends.mps.is_available()
        precision = "bf16" if cuda or (bf16_pays and not mps and cpu_has_bf16()) else "32"
    fabric = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=gathering.world() // here,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        strategy=_strategy(sharded) if gathering.world() > 1 else "auto",
    )
    fabric.launch()
    return fabric


def _strategy(sharded: bool) -> DDPStrategy | ModelParallelStrategy:
    if sharded:
        return ModelParallelStrategy(shard, gathering.world(), 1)
    # Buffers change alike everywhere: batch norms see the global batch, and what tasks carry on is gathered.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before PyTorch 2.13
    given: dict[str, Any] = {name: False, "gradient_as_bucket_view": True}
    return DDPStrategy(**given)


def set_up(fabric: Fabric, module: nn.Module, optim: Optim) -> tuple[Any, Any]:
    """Set up the module and its optimiser for training on this device by all processes."""
    model = fabric.setup_module(module)
    return model, fabric.setup_optimizers(optim.build(module))


def shards(fabric: Fabric) -> bool:
    """Whether this Fabric shards modules."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def _meet(device: str, timeout: float) -> None:
    """Form the process group of a launcher, before anything else is done."""
    environment = _environment()
    if td.is_initialized():  # by us, or by a person's own script
        ranks.meet_anew(timeout)
        return
    if environment is None or environment.world_size() == 1:
        return
    address = f"{environment.main_address}:{environment.main_port}"  # sets MASTER_ADDR and MASTER_PORT
    own, world = environment.global_rank(), environment.world_size()
    cuda = _on_cuda(device)
    if cuda:
        torch.cuda.set_device(environment.local_rank())
    patience = timedelta(seconds=timeout)
    try:
        store, _, _ = next(rendezvous("env://", own, world, timeout=patience))
        store.set_timeout(patience)
        td.init_process_group("nccl" if cuda else "gloo", store=store, rank=own, world_size=world, timeout=patience)
        ranks.meet_by(store, timeout)
    except td.DistError as error:
        raise RunFailed(
            f"process {own} of {world} has not met the others at {address} within {timeout:g} s; start all of them, "
            "by torchrun or srun"
        ) from error


def _environment() -> TorchElasticEnvironment | SLURMEnvironment | None:
    """The launcher's environment: that of torchrun, which also runs inside SLURM, or of srun."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and SLURMEnvironment.detect():
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(_processes_here()))
        return SLURMEnvironment()
    return None


def _processes_here() -> int:
    """The number of processes on this machine, the same on every machine."""
    tasks, nodes = (int(os.environ.get(name, "1")) for name in ("SLURM_NTASKS", "SLURM_NNODES"))
    return int(os.environ.get("LOCAL_WORLD_SIZE", tasks // nodes))


def _on_cuda(device: str) -> bool:
    return device in {"auto", "cuda"} and torch.cuda.is_available()


def keep_memory() -> None:
    """Make glibc, where present, keep freed memory for the next tensors, and limit oneDNN's cache of kernels.

    Returning every large tensor to the system and allocating it again cost a fifth to a quarter of a step's time.
    oneDNN caches a kernel for every shape, about 1 MB each in bf16, and the number of predicted events differs from
    step to step: with its 1,024 kernels a training grew by 4 MB a step.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
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
