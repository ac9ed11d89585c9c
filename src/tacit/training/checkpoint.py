"""Checkpoints that are whole or absent.

A checkpoint is a folder `step-00000100` with `state.safetensors`, `state.json` and, written last, `manifest.json`: the
SHA-256 of all others. It is written under a temporary name, flushed to the disk and renamed, so a run killed at any
moment leaves the previous checkpoint or the new one. Nothing is pickled.

Each process writes its own pieces of sharded tensors, the leader with all else into `state.safetensors`,
process 1 into `state-1.safetensors` and so on; `pieces` in `state.json` says which rows of a tensor each file holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core import gathering, ranks
from tacit.core.errors import RunFailed, UserError, is_disk_full
from tacit.core.files import sha256
from tacit.core.folders import remove_own, whole_folder
from tacit.core.records import reading, text_of
from tacit.training.sharding import cuts, here

VERSION = 2  # version 1 had no pieces
_TENSORS, _STATE, _MANIFEST = "state.safetensors", "state.json", "manifest.json"
_OWN = (_TENSORS, _STATE, _MANIFEST, "state-*.safetensors")
_FILE = re.compile(r"state(-\d+)?\.safetensors|state\.json")  # the names that a manifest may contain

Pieces = dict[str, dict[str, tuple[int, int]]]  # tensor -> file -> the rows from and to that it holds


class Tensors(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, read from the disk on access."""

    def __init__(self, folder: Path, pieces: Pieces) -> None:
        from safetensors import safe_open

        files = {_TENSORS, *(file for of in pieces.values() for file in of)}
        self._files: dict[str, Any] = {file: safe_open(folder / file, "pt") for file in files}
        whole = {name: {_TENSORS: None} for name in self._files[_TENSORS].keys() - pieces.keys()}
        self._pieces: dict[str, Mapping[str, tuple[int, int] | None]] = {**whole, **pieces}

    def __getitem__(self, name: str) -> Tensor:
        if None in self._pieces[name].values():
            tensor: Tensor = self._files[_TENSORS].get_tensor(name)
            return tensor
        return self.rows(name, 0, self.shape(name)[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def shape(self, name: str) -> torch.Size:
        """The shape of the whole tensor."""
        file, rows = list(self._pieces[name].items())[-1]
        shape = self._files[file].get_slice(name).get_shape()
        return torch.Size(shape if rows is None else [rows[1], *shape[1:]])

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop - 1`; no others are read."""
        parts = []
        for file, rows in self._pieces[name].items():
            first, end = rows or (0, stop)
            piece = self._files[file].get_slice(name)
            begin = min(max(start, first), end)
            parts.append(piece[begin - first : max(begin, min(stop, end)) - first])
        return torch.cat(parts)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, and the faults of newer ones that were skipped."""

    step: int
    tensors: Tensors
    state: dict[str, Any]
    file: Path  # of the state
    damaged: tuple[str, ...] = field(default=())


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int = 2) -> None:
    """Write the checkpoint of `step` under `folder` and keep the newest `keep`. RunFailed on a full disk.

    Every process must call it: where tensors are cut, each writes its pieces.
    """
    leads, pieces = ranks.is_leader(), _pieces(tensors)
    if not leads and not pieces:
        return
    final = folder / _name(step)
    try:
        with whole_folder(final, last=_MANIFEST, known=_OWN) if leads else nullcontext(final) as begun:
            partial = Path(ranks.from_leader(lambda: str(begun))) if pieces else begun
            own = _write_own(partial, tensors)
            hashes = gathering.gather_bytes(bytes.fromhex(own)) if pieces else [bytes.fromhex(own)]
            if leads:
                content = {"version": VERSION, "step": step, **state, "pieces": pieces}
                (partial / _STATE).write_text(json.dumps(content, indent=1))
                manifest = {_file(process): value.hex() for process, value in enumerate(hashes)}
                manifest[_STATE] = sha256(partial / _STATE)
                (partial / _MANIFEST).write_text(json.dumps(manifest, separators=(",", ":")))
    except Exception as error:
        if is_disk_full(error):
            raise RunFailed(f"the disk is full at {folder}; free some space and continue with --resume") from error
        raise
    if leads:
        for old in list(_newest_first(folder))[keep:]:
            remove_own(old, _OWN)


def load(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint under `folder`, or None where there is none at all; every process must call it.

    Damaged ones are skipped and named in `damaged`. UserError where all are damaged, where one was written by a newer
    Tacit, or where it is a pickle.
    """
    name, damaged = ranks.from_leader(lambda: _newest_whole(folder))
    if name is None:
        return None
    path = folder / name
    with reading(path / _STATE, f"remove {path}, and the checkpoint before it is taken"):
        state = json.loads(text_of(path / _STATE))
        tensors = Tensors(path, state.get("pieces", {}))
    return Checkpoint(state["step"], tensors, state, path / _STATE, tuple(damaged))


def _newest_whole(folder: Path) -> tuple[str | None, list[str]]:
    damaged: list[str] = []
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in {".pt", ".pth", ".ckpt", ".pkl", ".bin"})
    if pickles:
        raise UserError(f"{pickles[0]} in {folder} is a pickle, which could run code; Tacit reads safetensors only")
    for path in _newest_first(folder):
        fault = _fault(path)
        if fault:
            damaged.append(f"{path.name}: {fault}")
            continue
        with reading(path / _STATE, f"remove {path}, and the checkpoint before it is taken"):
            state = json.loads(text_of(path / _STATE))
            version, step = state["version"], state["step"]
            if type(version) is not int or not isinstance(state.get("pieces", {}), dict):
                raise ValueError("it is no state of a training")
            if type(step) is not int or path.name != _name(step):
                raise ValueError(f"it is the state after step {step!r:.40}")
        if version > VERSION:
            raise UserError(
                f"{path} was written by a newer Tacit (format {version}, this one reads {VERSION}); upgrade Tacit"
            )
        return path.name, damaged
    if damaged:
        raise UserError(f"no whole checkpoint is left in {folder} ({'; '.join(damaged)}); start again in another --out")
    return None, []


def _write_own(folder: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write this process's pieces and, on the leader, the unsharded tensors; returns the hash of the file."""
    from safetensors.torch import save_file

    own = {}
    for name, value in tensors.items():
        rows = cuts(value)
        start, stop = (0, int(ranks.is_leader())) if rows is None else rows[gathering.rank()]
        if start < stop:
            own[name] = here(value).detach().to("cpu", copy=True).contiguous()
    path = folder / _file(gathering.rank())
    save_file(own, path)
    return sha256(path)


def _pieces(tensors: Mapping[str, Tensor]) -> Pieces:
    cut = {name: rows for name, value in tensors.items() if (rows := cuts(value)) is not None}
    return {
        name: {_file(process): (start, stop) for process, (start, stop) in enumerate(rows) if start < stop}
        for name, rows in cut.items()
    }


def _file(process: int) -> str:
    return f"state-{process}.safetensors" if process else _TENSORS


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _newest_first(folder: Path) -> Iterator[Path]:
    """The folders of checkpoints; one without any checkpoint file is not ours."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and re.fullmatch(r"step-\d{8,}", path.name)]
    found = [path for path in found if any((path / name).exists() for name in _OWN[:3])]
    yield from sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def _fault(path: Path) -> str | None:
    """The fault of a checkpoint, or None."""
    try:
        manifest = json.loads(text_of(path / _MANIFEST))
        for name in {_TENSORS: "", _STATE: "", **manifest}:
            if not _FILE.fullmatch(name):  # a path could lead to a file that blocks or never ends
                return f"{_MANIFEST} is damaged"
            if not (path / name).exists():
                return f"{name} is missing"
            if not (path / name).is_file() or (path / name).is_symlink() or sha256(path / name) != manifest[name]:
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{_MANIFEST} is damaged"
    return None
