"""YAML for settings: plain values. Anchors and aliases, which can grow beyond the file, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_LARGEST = 1 << 20  # characters: settings take hundreds
_DEEPEST = 20


def plain_yaml(text: str) -> Any:
    """Parse a YAML text. ValueError for invalid YAML, or for features that settings do not need."""
    import yaml

    if len(text) > _LARGEST:
        raise ValueError(f"it has {len(text):,} characters, and settings have {_LARGEST:,} at most")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where PyYAML was built with it
    deep = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
                raise ValueError(f"it has an anchor or an alias ({event.anchor:.20}): write its value out instead")
            deep += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if deep > _DEEPEST:
                raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def read_plain_yaml(file: Path) -> Any:
    """The value in a file. OSError or ValueError where there is none."""
    if not file.is_file():
        raise FileNotFoundError(file) if not file.exists() else ValueError("it is no regular file")
    if file.stat().st_size > 4 * _LARGEST:
        raise ValueError(f"it has {file.stat().st_size:,} bytes, and settings have {_LARGEST:,} at most")
    return plain_yaml(file.read_text(encoding="utf-8"))
