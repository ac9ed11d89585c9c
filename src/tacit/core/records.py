"""Small files of Tacit's own: written whole, read by one rule, so that damage is reported in a line and never used.

A record is a JSON object that ends in the SHA-256 of all its other entries. One without, from an older Tacit, is
accepted. The content is checked for its shape before it is used.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tacit.core.errors import UserError
from tacit.core.files import write_whole

LARGEST = 1 << 30  # bytes of a file that is read at once
DIGEST = "sha256"

T = TypeVar("T")


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Wrap a block that decodes, parses and checks the file `path`, and does nothing else.

    UserError, with the file and the remedy, for any error in it.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied; give yourself access to it") from None
    except Exception as error:  # every library has its own error for a damaged file
        raise UserError(f"{path} is damaged ({_reason(error)}); {remedy}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def text_of(path: Path, most: int = LARGEST) -> str:
    """Read a UTF-8 text file. OSError or ValueError for any other: one that is not regular could block or never end."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > most:
        raise ValueError(f"it has {status.st_size:,} bytes, more than any that Tacit writes")
    return path.read_bytes().decode("utf-8")


def write_record(path: Path, content: Any, *, indent: int | None = 1, strict: bool = True) -> None:
    """Write JSON whole or not at all, an object with its digest; `strict` allows finite numbers only."""
    if isinstance(content, Mapping):
        plain = json.loads(json.dumps(content))
        content = {**content, DIGEST: _digest(plain)}
    write_whole(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=not strict) + "\n")


def read_record(path: Path, most: int = LARGEST) -> Any:
    """Read the content that `write_record` wrote. Use it within `reading`: any error means that the file is damaged."""
    content = json.loads(text_of(path, most))
    if isinstance(content, dict) and (digest := content.pop(DIGEST, None)) is not None and digest != _digest(content):
        raise ValueError("it is not as it was written, by its SHA-256")
    return content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def built(cls: type[T], values: Any) -> T:
    """Build the dataclass or named tuple from these values. TypeError or KeyError where they do not fit."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{cls.__name__} is no object")
    hints = get_type_hints(cls)
    known = set(getattr(cls, "_fields", ())) or {of.name for of in fields(cls)}  # type: ignore[arg-type]
    if unknown := values.keys() - known:
        raise TypeError(f"{sorted(map(str, unknown))[0]!r} is unknown")
    for name in known:
        if name in values:
            if not _fits(values[name], hints[name]):
                raise TypeError(f"{name!r} is {values[name]!r:.40}")
        elif not _has_default(cls, name):
            raise KeyError(name)
    return cls(**values)


def _has_default(cls: type[Any], name: str) -> bool:
    if hasattr(cls, "_field_defaults"):
        return name in cls._field_defaults
    of = next(field for field in fields(cls) if field.name == name)
    return of.default is not MISSING or of.default_factory is not MISSING


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON has this type, for the types that fields have."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, inner[0]) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(v, inner[1]) for v in value.values())
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, inner[0]) for v in value)
    return isinstance(value, hint)
