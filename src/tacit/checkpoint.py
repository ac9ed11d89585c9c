"""Checkpoints that are whole or absent.

A checkpoint is a folder `step-00000100` with `state.safetensors`, `state.json` and, written last, `manifest.json`: the
SHA-256 of the other two. It is written under a temporary name, flushed to the disk and renamed, so a run killed
at any moment leaves the previous checkpoint or the new one. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tacit.errors import RunFailed, UserError
from tacit.files import is_disk_full, sha256, whole_folder

VERSION = 1
_TENSORS, _STATE, _MANIFEST = "state.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, and what was wrong with newer ones that had to be passed over."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    damaged: tuple[str, ...] = field(default=())


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write the checkpoint of `step` under `folder` and keep the newest `keep`. RunFailed on a full disk."""
    from safetensors.torch import save_file

    final = folder / f"step-{step:08d}"
    try:
        with whole_folder(final) as partial:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial / _TENSORS)
            (partial / _STATE).write_text(json.dumps({"version": VERSION, "step": step, **state}, indent=1))
            manifest = {name: sha256(partial / name) for name in (_TENSORS, _STATE)}
            (partial / _MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")))
    except Exception as error:
        if is_disk_full(error):
            raise RunFailed(f"the disk is full at {folder}; free some space and continue with --resume") from error
        raise
    for old in list(_newest_first(folder))[keep:]:
        shutil.rmtree(old)
    return final


def load(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint under `folder`, or None where there is none at all.

    Damaged ones are passed over and named in `damaged`. UserError where all are damaged, where one was written by a
    newer Tacit, or where a pickle is offered.
    """
    from safetensors.torch import load_file

    damaged: list[str] = []
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in {".pt", ".pth", ".ckpt", ".pkl", ".bin"})
    if pickles:
        raise UserError(f"{pickles[0]} in {folder} is a pickle, which could run code; Tacit reads safetensors only")
    for path in _newest_first(folder):
        fault = _fault(path)
        if fault:
            damaged.append(f"{path.name}: {fault}")
            continue
        state = json.loads((path / _STATE).read_text())
        if state["version"] > VERSION:
            raise UserError(
                f"{path} was written by a newer Tacit (format {state['version']}, this one reads {VERSION}); "
                "upgrade Tacit"
            )
        return Checkpoint(state["step"], load_file(path / _TENSORS), state, tuple(damaged))
    if damaged:
        raise UserError(f"no whole checkpoint is left in {folder} ({'; '.join(damaged)}); start again in another --out")
    return None


def _newest_first(folder: Path) -> Iterator[Path]:
    yield from sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        for name in (_TENSORS, _STATE):
            if not (path / name).exists():
                return f"{name} is missing"
            if sha256(path / name) != manifest[name]:
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{_MANIFEST} is damaged"
    return None
