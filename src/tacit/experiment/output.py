"""The output of a run: its folder, log and encoders."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from tacit.core import ranks
from tacit.core.errors import UserError
from tacit.core.secret import FILE_NAME as SECRET
from tacit.core.secret import own_secret
from tacit.encoders import save_encoder
from tacit.evaluation import Seal
from tacit.experiment.architecture import Architecture, beginning, open_split
from tacit.experiment.folder import CONFIG, LOG, Workspace, default_folder
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.resuming import go_on_with_the_same
from tacit.experiment.settings import PretrainSettings, RunFolder, RunSettings, Settings
from tacit.training.loop import Run


def workspace(data: Any, settings: RunSettings | PretrainSettings) -> Workspace:
    """Open the folder of a run, which stores its settings."""
    if settings.out is not None:
        out = Path(settings.out)
    elif settings.private:  # a folder's name can be private too
        own = own_secret()
        key = "data" if own is None else own.mark(str(data).encode(), purpose="tacit.folder")[:8]
        out = Path("runs") / f"private-{key}"
    else:
        out = default_folder(data)
    usual = {field.name: field.default for field in fields(settings)}
    config = {"data": data, **vars(settings)}
    return Workspace(out, config, usual, resume=settings.resume, overwrite=settings.overwrite)


def log_of(space: Workspace, settings: RunFolder) -> Log:
    """Open the log in the folder of a run."""
    board = space.path / "tensorboard" if settings.tensorboard else None
    return Log(space.path / LOG, tensorboard=board, private=settings.private)


def open_run(
    data: Any, settings: Settings, options: dict[str, Any], log: Log, space: Workspace
) -> tuple[Opened, Architecture]:
    """Open the data and the encoder of a run, with the test set that an earlier part of the run has sealed."""
    build, options, continued = beginning(settings, options)
    source = space.path if (space.path / "seal.json").exists() else settings.seal
    seal = Seal.load(source) if source is not None else None
    opened, architecture = open_split(data, options, build, settings, log, seal=seal, continued=continued)
    if settings.transductive and opened.split.held is not None:
        raise UserError(
            "--transductive: what histories hold before the tested event is always known, and what came must not be; "
            "leave it out"
        )
    if ranks.is_leader():
        go_on_with_the_same(space.path, opened)
    return opened, architecture


def keep_seal(opened: Opened, space: Workspace) -> None:
    """Write the seal; from here on the folder holds a run."""
    space.begin()
    if opened.split.seal is not None and not (space.path / "seal.json").exists():
        opened.split.seal.save(space.path)


def keep_encoder(opened: Opened, name: str, run: Run, folder: Path) -> None:
    """Write the encoder and its origin; only the leader writes."""
    encoder: Any = run.task.exported["encoder"]
    encoder.reading = {} if opened.private else dict(opened.dataset.reading)  # an encoder may be handed on
    if not ranks.is_leader():
        return
    card = {"task": name, "steps": run.steps, "data": opened.data_hash}
    save_encoder(encoder, folder, card=card, within=True)


def tell_what_to_hand_on(opened: Opened, architecture: Architecture) -> None:
    """List which files of a private run may be handed on, and what its encoder still reveals."""
    if not opened.private:
        return
    held = opened.modality.holds(architecture.encoder.spec)
    print(
        f"to hand on: report.html, report.json, encoder/; to keep: {CONFIG}, which holds paths and names of columns, "
        f"checkpoints/ and encoders/, and {SECRET}, by which seal.json, begun_on.npz and predictions.npz can be read"
    )
    if held:
        print(f"what encoder/ holds of the data: {held}")
