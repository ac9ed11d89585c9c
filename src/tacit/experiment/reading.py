"""Settings of reading that travel with a run folder and an encoder, so that data are always read the same way.

Where in the data the content lay (columns, sessions) is `encoder.reading`; what form it was brought into (rate,
channels, tokenizer, size, catalogue) is `encoder.spec`. A later command reads by both unless its settings override
them; a setting that the encoder cannot follow is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.options import keywords
from tacit.core.spec import SpecOf
from tacit.dataset import READING
from tacit.encoders import load_encoder
from tacit.encoders.folder import are_names
from tacit.experiment.folder import is_run, settings_of
from tacit.modalities import DataOptions, modality_of, options_of, those

if TYPE_CHECKING:
    from tacit.dataset import Dataset

COLUMNS = tuple(name for name in READING if name.endswith("_column") or name in those("kept_with"))


def open_encoder(source: Any, *, offline: bool = False) -> OwnEncoder:
    """`load_encoder`; for an encoder without settings of reading, those of its run are used."""
    encoder = load_encoder(source, offline=offline)
    folder = Path(source)
    if not encoder.reading and is_run(folder):
        settings = settings_of(folder)
        kept = {name: settings.get(name) for name in (*COLUMNS, *those("kept"))}
        encoder.reading = {name: value for name, value in kept.items() if value and are_names(value)}
        if "time_column" not in options_of()[encoder.spec.kind].names():
            encoder.reading.pop("time_column", None)  # there it names the held-out events
        modality_of(encoder.spec).restore_options(encoder, settings)
    return encoder


def as_trained(encoder: OwnEncoder, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings to read data as in this encoder's training, overridden by `given`.

    UserError where the encoder cannot read data so.
    """
    given = changed_settings(given)
    fixed = modality_of(encoder.spec).fixed(encoder.spec)
    for name, value in given.items():
        if name in fixed and value != fixed[name]:
            own = "" if fixed[name] is None else f" ({fixed[name]})"
            raise UserError(
                f"--{name.replace('_', '-')} {value}: the encoder {encoder.name} reads by its own{own}; leave it out"
            )
    return {**_remembered(encoder), **given}


def changed_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `open_dataset` that differ from their defaults."""
    usual = {name: of.default for name, of in keywords(DataOptions).items()}
    return {name: value for name, value in options.items() if value is not None and value != usual.get(name)}


def _remembered(encoder: OwnEncoder) -> dict[str, Any]:
    columns = {name: value for name, value in encoder.reading.items() if name in COLUMNS}
    others = {name: value for name, value in encoder.reading.items() if name in those("kept")}
    kind = encoder.spec.kind
    return {"kind": kind, **others, **modality_of(encoder.spec).options_of(encoder.spec), "as_before": columns}


def overridden(encoder: OwnEncoder, given: Mapping[str, Any]) -> list[str]:
    """A line for each setting of reading that overrides that of training."""
    known = {**_remembered(encoder), **encoder.reading}
    lines = []
    for name, value in changed_settings(given).items():
        if name not in known or name == "as_before" or _plain(value) == _plain(known[name]):
            continue
        lines.append(f"--{name.replace('_', '-')} {_plain(value)}, as asked; in training it was {_plain(known[name])}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, SpecOf):
        return value.short
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def tell(dataset: Dataset, lines: list[str], *, private: bool = False) -> None:
    """Print these lines and the notes of the dataset."""
    for line in [*lines, *dataset.notes.lines(private=private)]:
        print(line)
