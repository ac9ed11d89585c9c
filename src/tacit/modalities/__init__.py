"""The table of modalities: to add one, write a folder here and a line below."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tacit.core.spec import Spec
    from tacit.modalities.base import Modality

# The folder holds options.py, which imports nothing heavy, and modality.py, whose MODALITY is the object.
MODALITIES = {
    "image": "tacit.modalities.image",
    "text": "tacit.modalities.text",
    "audio": "tacit.modalities.audio",
    "items": "tacit.modalities.events",
}


class Architecture(NamedTuple):
    """What an encoder of a name reads, and where its class is."""

    modality: str
    where: str


def modality_named(name: str) -> Modality[Any, Any]:
    """The modality of this name."""
    found: Modality[Any, Any] = import_module(f"{MODALITIES[name]}.modality").MODALITY
    return found


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
    """What an encoder of a modality is said to read."""
    said: str = _options(modality).READS
    return said


def next_up(modality: str) -> str | None:
    """The target that data of a modality are judged by without labels: what comes next. None where nothing does."""
    said: str | None = getattr(_options(modality), "NEXT_UP", None)
    return said


def _options(modality: str) -> Any:
    return import_module(f"{MODALITIES[modality]}.options")
