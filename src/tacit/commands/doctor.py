"""`tacit doctor`: whether this machine can run Tacit, and what to change where it cannot.

Every check reports its finding; one that is not ok also reports the remedy. Nothing here changes anything.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from tacit.core.errors import DISTRIBUTION, clear_ends

SELF_TEST_SECONDS = 20.0
_ROOMY, _TIGHT = 5.0, 0.5  # GB of free disk: below the first it may run out, below the second nothing can be saved
_CUDA_BUILD = (
    "install the CUDA build that pytorch.org/get-started names for this machine "
    "(in a checkout: delete .venv and set TACIT_TORCH, see bootstrap.py)"
)


@dataclass(frozen=True)
class Check:
    """One finding: `ok`; `slow`, which works but wastes the machine or may not last; `broken`, which stops runs."""

    name: str
    state: Literal["ok", "slow", "broken"]
    found: str
    fix: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """What the installed torch was built for and what it can reach."""

    version: str
    made_for: str | None  # "CUDA 13.0", "ROCm 7.0"; None for a CPU build
    reaches_gpu: bool  # through CUDA, ROCm or Apple's Metal
    threads: int


@clear_ends
def doctor() -> int:
    """Check this machine: torch against the hardware, known breaks with their fixes, disk, a self-test."""
    return run_doctor(trial)


def trial() -> str:
    """Twenty steps of contrast on the digits: whether training goes on this machine. Says how fast.

    What it needs is imported here, so that a torch that cannot be imported is a finding.
    """
    from tacit.dataset import open_dataset
    from tacit.experiment.architecture import chosen_encoder
    from tacit.modalities import modality_of
    from tacit.training.engine import make_fabric
    from tacit.training.loop import pretrain

    dataset = open_dataset("digits")
    encoder = chosen_encoder("convnet")(dataset.spec)
    plan = modality_of(dataset.spec).recipe({"simclr": 1.0}, encoder, examples=len(dataset))
    source = modality_of(dataset.spec).batches(dataset.cache, dataset.label.argsort(), plan, 0)
    run = pretrain(plan.task, source, steps=20, optim=plan.optim, fabric=make_fabric())
    first, last = (float(run.history[place]["loss"]) for place in (0, -1))
    return f"20 steps of contrast on digits: loss {first:.3f} to {last:.3f}, {run.examples_per_second:,.0f} images/s"


def run_doctor(self_test: Callable[[], str] | None = None, *, cache: Path | None = None) -> int:
    """Print all checks as they are done. 0 when nothing is broken, else 1."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    style = {"ok": "green", "slow": "yellow", "broken": "bold red"}
    broken = 0
    for check in diagnose(self_test, cache=cache):
        line = Text.assemble((f"{check.state:<7}", style[check.state]), (f"{check.name:<13}", "bold"), check.found)
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(Text(f"{'':<20}fix: {check.fix}"), soft_wrap=True)
        broken += check.state == "broken"
    console.print("All well." if not broken else f"{broken} broken.", soft_wrap=True)
    return 1 if broken else 0


def diagnose(self_test: Callable[[], str] | None = None, *, cache: Path | None = None) -> Iterator[Check]:
    """All checks, one after the other, the slow ones last.

    `self_test` trains a little and says in a line how it went; `cache` is the folder of decoded data.
    """
    from tacit.data.cache import default_root

    yield check_packages()
    torch = _torch_build()
    if isinstance(torch, Check):
        yield torch
    else:
        yield check_torch(torch, graphics_cards())
        yield check_threads(torch.threads, _cores())
    yield check_memory()
    yield check_disk("cache", cache or default_root())
    yield check_disk("this folder", Path.cwd())
    yield check_torchvision()
    if self_test is not None:
        yield check_self_test(self_test)


def check_packages(distribution: str = DISTRIBUTION) -> Check:
    """Whether every dependency is installed in a suitable version."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(line) for line in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        return Check("packages", "broken", f"{distribution} is not installed", "pip install . in its folder")
    required = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    short = []
    for one in required:
        try:
            found = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found == "missing" or not one.specifier.contains(found, prereleases=True):
            short.append((one, found))
    if short:
        wrong = ", ".join(f"{one.name} {found} (needs {one.specifier})" for one, found in short)
        wanted = " ".join(f'"{one.name}{one.specifier}"' for one, _ in short)
        return Check("packages", "broken", wrong, f"pip install {wanted}")
    known = {one.name: metadata.version(one.name) for one in required}
    named = ", ".join(f"{name} {known[name]}" for name in ("torch", "transformers") if name in known)
    versions = f"Python {platform.python_version()}, {distribution} {metadata.version(distribution)}, {named}"
    return Check("packages", "ok", f"{versions}; {len(known)} dependencies recent enough")


def check_torch(torch: TorchBuild, cards: list[str]) -> Check:
    """Whether torch uses the available hardware."""
    build = f"torch {torch.version}, " + (f"built for {torch.made_for}" if torch.made_for else "CPU build")
    if not cards:
        return Check("accelerator", "ok", f"none found; {build}")
    found = f"{', '.join(cards)}; {build}"
    if torch.reaches_gpu:
        return Check("accelerator", "ok", found)
    if cards[0].startswith("Apple"):
        fix = "install a Python and a torch made for arm64, on macOS 14 or newer"
        return Check("accelerator", "slow", f"{found} cannot use Metal", fix)
    if torch.made_for is None:
        return Check("accelerator", "slow", f"{found} cannot use it", _CUDA_BUILD)
    fix = f"update the driver, unset CUDA_VISIBLE_DEVICES, or {_CUDA_BUILD}"
    return Check("accelerator", "slow", f"{found} cannot reach it", fix)


def check_threads(threads: int, cores: int) -> Check:
    """Whether torch computes on all cores, and on no more."""
    found = f"{cores} cores, torch uses {threads} threads"
    if threads > cores:
        return Check("processor", "slow", found, f"set OMP_NUM_THREADS={cores}: threads beyond that slow each other")
    if threads == 1 < cores and "OMP_NUM_THREADS" in os.environ:
        return Check("processor", "slow", found, "unset OMP_NUM_THREADS")
    return Check("processor", "ok", found)


def check_memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < 2e9:
        return Check("memory", "slow", found, "close other programs, or take a smaller --encoder")
    return Check("memory", "ok", found)


def check_disk(name: str, folder: Path) -> Check:
    """Free space where `folder` is, or would be made, and whether it can be written."""
    there = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:.1f} GB free at {folder}"
    elsewhere = "choose another --cache" if name == "cache" else "work in another folder, or name one with --out"
    if not os.access(there, os.W_OK):
        return Check(name, "broken", f"{folder} cannot be written", elsewhere)
    if free < _ROOMY:
        return Check(name, "broken" if free < _TIGHT else "slow", found, f"free some space, or {elsewhere}")
    return Check(name, "ok", found)


def check_torchvision() -> Check:
    """A torchvision that does not fit torch raises on import, and takes the vision models of transformers with it."""
    if importlib.util.find_spec("torchvision") is None:
        return Check("torchvision", "ok", "not installed, not needed")
    trial = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if trial.returncode == 0:
        return Check("torchvision", "ok", "installed and importable, not needed")
    last = (trial.stderr.strip().splitlines() or ["no message"])[-1]
    found = f"importing it fails and takes transformers' vision models with it: {last}"
    return Check("torchvision", "broken", found, f"{sys.executable} -m pip uninstall torchvision")


def check_self_test(self_test: Callable[[], str]) -> Check:
    """Train for a few steps."""
    start = time.monotonic()
    try:
        message = self_test()
    except Exception as error:  # any error is the finding
        return Check("self-test", "broken", f"{type(error).__name__}: {error}", "mend what is broken above first")
    seconds = time.monotonic() - start
    found = f"{message} ({seconds:.0f} s)"
    if seconds > SELF_TEST_SECONDS:
        return Check("self-test", "slow", found, "this machine is slow or busy: give runs a larger --budget")
    return Check("self-test", "ok", found)


def graphics_cards() -> list[str]:
    """Names of the GPUs that the system knows, whatever torch can do with them."""
    if sys.platform == "darwin":
        chip = _output("sysctl", "-n", "machdep.cpu.brand_string").strip()
        return [chip] if chip.startswith("Apple") else []
    # nvidia-smi -L prints "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-...)" for each card
    listed = [line for line in _output("nvidia-smi", "-L").splitlines() if line.startswith("GPU ")]
    cards = [line.split(": ", 1)[1].split(" (UUID")[0] for line in listed]
    if not cards and any(Path("/proc/driver/nvidia/gpus").glob("*")):
        cards = ["NVIDIA GPU"]
    if not cards and Path("/dev/kfd").exists():
        cards = ["AMD GPU"]
    return cards


def _output(program: str, *arguments: str) -> str:
    """The output of a program; empty where it is missing, fails or hangs."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _torch_build() -> TorchBuild | Check:
    try:
        import torch
    except Exception as error:  # a broken install raises anything from OSError to RuntimeError
        return Check("torch", "broken", f"{type(error).__name__}: {error}", "pip install --force-reinstall torch")
    cuda, hip = torch.version.cuda, torch.version.hip
    made_for = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else None
    reaches = torch.cuda.is_available() or torch.backends.mps.is_available()
    return TorchBuild(torch.__version__, made_for, reaches, torch.get_num_threads())


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
