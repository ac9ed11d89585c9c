"""What a run is given to write into, and what it leaves there for a person: its folder, log, encoders."""

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
from tacit.experiment.architecture import Architecture, adapted, as_read_by, chosen_encoder, initial_encoder, open_split
from tacit.experiment.folder import CONFIG, LOG, Workspace, default_folder
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.plan import named_tasks
from tacit.experiment.resuming import go_on_with_the_same
from tacit.experiment.settings import PretrainSettings, RunFolder, RunSettings, Settings
from tacit.training.loop import Run


def workspace(data: Any, settings: RunSettings | PretrainSettings) -> Workspace:
    """The folder of a run, which keeps its settings."""
    if settings.out is not None:
        out = Path(settings.out)
    elif settings.private:  # the name of a folder is a name too
        own = own_secret()
        key = "data" if own is None else own.mark(str(data).encode(), purpose="tacit.folder")[:8]
        out = Path("runs") / f"private-{key}"
    else:
        out = default_folder(data)
    usual = {field.name: field.default for field in fields(settings)}
    config = {"data": data, **vars(settings)}
    return Workspace(out, config, usual, resume=settings.resume, overwrite=settings.overwrite)


def log_of(space: Workspace, settings: RunFolder) -> Log:
    """The log of a run, in its folder."""
    board = space.path / "tensorboard" if settings.tensorboard else None
    return Log(space.path / LOG, tensorboard=board, private=settings.private)


def open_run(
    data: Any, settings: Settings, options: dict[str, Any], log: Log, space: Workspace
) -> tuple[Opened, Architecture]:
    """The data and the encoder of a run folder, with the test set that an earlier part of the run has sealed."""
    build = chosen_encoder(settings.encoder, offline=settings.offline, tasks=named_tasks(settings))
    initial = initial_encoder(settings, offline=settings.offline)
    if initial is not None:
        build, options = adapted(initial), as_read_by(initial, options)
    source = space.path if (space.path / "seal.json").exists() else settings.seal
    seal = Seal.load(source) if source is not None else None
    opened, architecture = open_split(data, options, build, settings, log, seal=seal, continued=initial is not None)
    if settings.transductive and opened.split.held is not None:
        raise UserError(
            "--transductive: what histories hold before the tested event is always known, and what came must not be; "
            "leave it out"
        )
    if ranks.leader():
        go_on_with_the_same(space.path, opened)
    return opened, architecture


def keep_seal(opened: Opened, space: Workspace) -> None:
    """Write what the run keeps out of training for good: from here on the folder holds a run."""
    space.begin()
    if opened.split.seal is not None and not (space.path / "seal.json").exists():
        opened.split.seal.save(space.path)


def keep_encoder(opened: Opened, name: str, run: Run, folder: Path) -> None:
    """Write what the user keeps: the encoder, and where it came from. Of several processes the leader does."""
    encoder: Any = run.task.exported["encoder"]
    encoder.reading = {} if opened.private else dict(opened.dataset.reading)  # config.yaml stays, an encoder leaves
    if not ranks.leader():
        return
    card = {"task": name, "steps": run.steps, "data": opened.data_hash}
    save_encoder(encoder, folder, card=card, within=True)


def tell_what_to_hand_on(opened: Opened, architecture: Architecture) -> None:
    """Of a private run: which of its files may leave the house, and what its encoder carries all the same."""
    if not opened.private:
        return
    held = opened.modality.holds(architecture.encoder.spec)
    print(
        f"to hand on: report.html, report.json, encoder/; to keep: {CONFIG}, which holds paths and names of columns, "
        f"checkpoints/ and encoders/, and {SECRET}, by which seal.json, begun_on.npz and predictions.npz can be read"
    )
    if held:
        print(f"what encoder/ holds of the data: {held}")
