"""The table of modalities: to add one, write a folder here and a line below."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from tacit.core.options import Options, joined
from tacit.data.options import LabelOptions, Reading

if TYPE_CHECKING:
    from tacit.core.spec import Spec
    from tacit.data.signs import Signs
    from tacit.modalities.base import Modality
    from tacit.modalities.options import ModalityOptions
    from tacit.modalities.reader import Reader

# The folder holds options.py, which imports nothing heavy, reader.py, whose READER opens data without torch, and
# modality.py, whose MODALITY is the object. A sample of files of several modalities counts as the first of them. Stored
# indices of shards hold the positions of modalities with files, so add a new one after these. A table is offered to the
# last one first.
MODALITIES = {
    "image": "tacit.modalities.image",
    "audio": "tacit.modalities.audio",
    "text": "tacit.modalities.text",
    "series": "tacit.modalities.series",
    "volume": "tacit.modalities.volume",
    "items": "tacit.modalities.events",
    "pair": "tacit.modalities.pair",
}


class Architecture(NamedTuple):
    """The modality that an encoder reads, and where its class is."""

    modality: str
    where: str


def modality_named(name: str) -> Modality[Any, Any]:
    """The modality of this name."""
    found: Modality[Any, Any] = import_module(f"{MODALITIES[name]}.modality").MODALITY
    return found


def reader_named(name: str) -> Reader[Any]:
    """The reader of this modality; imports no torch."""
    found: Reader[Any] = import_module(f"{MODALITIES[name]}.reader").READER
    return found


@cache
def options_of() -> dict[str, type[ModalityOptions]]:
    """The settings of each modality."""
    return {name: _options(name).Options for name in MODALITIES}


@cache
def data_options() -> tuple[type[Options], ...]:
    """All settings of `open_dataset`: those of any data, and each modality's."""
    return (Reading, LabelOptions, *options_of().values())


def those(what: str) -> tuple[str, ...]:
    """The settings of all modalities in one of the lists of `ModalityOptions`, such as `paths`."""
    return tuple(dict.fromkeys(name for of in options_of().values() for name in getattr(of, what)))


def built_in() -> tuple[str, ...]:
    """Words that stand for data which a modality has built in."""
    return tuple(word for name in MODALITIES for word in getattr(_options(name), "BUILT_IN", ()))


@cache
def signs() -> dict[str, Signs]:
    """The signs by which data of each modality are recognised."""
    return {name: _options(name).SIGNS for name in MODALITIES}


@cache
def file_endings() -> frozenset[str]:
    """Suffixes by which a value in a column is recognised as the name of a file; those of notes are left out."""
    return frozenset[str]().union(*(of.suffixes for of in signs().values() if not of.notes))


def modality_of(spec: Spec) -> Modality[Any, Any]:
    """The modality whose data a spec describes."""
    return modality_named(spec.kind)


@cache
def architectures() -> dict[str, Architecture]:
    """The encoders of all modalities, by name; imports no torch."""
    return {
        name: Architecture(modality, where)
        for modality in MODALITIES
        for name, where in _options(modality).ENCODERS.items()
    }


def reads(modality: str) -> str:
    """What an encoder of a modality reads, for messages."""
    noun: str = _options(modality).READS
    return noun


def next_up(modality: str) -> str | None:
    """The default target of data without labels, which is the next event; None where nothing comes next."""
    target: str | None = getattr(_options(modality), "NEXT_UP", None)
    return target


def combinator() -> str:
    """The modality whose examples are made of those of several others."""
    return next(name for name, of in signs().items() if of.several)


def sides() -> tuple[str, ...]:
    """The modalities that can be a side of a pair: a table holds their examples in a column."""
    return tuple(name for name, of in signs().items() if of.columns or of.texts)


def asked_by(tasks: Collection[str]) -> str | None:
    """The modality that one of these tasks asks for by its name; None where all learn from any data."""
    return next((name for name in MODALITIES if {*getattr(_options(name), "TASKS", ())} & {*tasks}), None)


def usual_target(modality: str) -> str | None:
    """The target of a modality that has one of its own, whether there are labels or not."""
    target: str | None = getattr(_options(modality), "TARGET", None)
    return target


def _options(modality: str) -> Any:
    return import_module(f"{MODALITIES[modality]}.options")


# ---------------------------------------------------------------- all options of data as one class

if TYPE_CHECKING:  # the table once more, for type checkers and editors, which complete a flag that has no line here too
    from tacit.modalities.audio.options import Options as _Audio
    from tacit.modalities.events.options import Options as _Events
    from tacit.modalities.image.options import Options as _Image
    from tacit.modalities.pair.options import Options as _Pair
    from tacit.modalities.series.options import Options as _Series
    from tacit.modalities.text.options import Options as _Text
    from tacit.modalities.volume.options import Options as _Volume

    @dataclass(frozen=True, kw_only=True)
    class ContentOptions(Reading, _Image, _Audio, _Text, _Series, _Volume, _Events, _Pair):
        """How the content of data is read; nothing of labels, groups and splits."""

    @dataclass(frozen=True, kw_only=True)
    class DataOptions(LabelOptions, ContentOptions):
        """All settings of `open_dataset`."""

else:
    # Settings in `own_words` choose what is held out, and `patience` allows a sample in place of all data.
    _APART = {"patience"}.union(*(of.own_words for of in options_of().values()))
    ContentOptions = joined("ContentOptions", Reading, *options_of().values(), without=_APART)
    DataOptions = joined("DataOptions", *data_options())
