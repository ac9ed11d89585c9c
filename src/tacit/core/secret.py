"""Secrets that are never handed on: the user's, which signs their run folders, and one of each folder.

The user's secret lies outside every run folder, readable by its owner alone. A file signed with it was written on this
machine by this user; a folder from elsewhere, or one that was changed since, has no valid signature.

The secret of a folder hides the names of examples, groups and classes in its files. Plain digests of names can be
guessed: trying ten thousand patient numbers finds them all. With the secret the folder stays readable; without it (a
folder that is handed on leaves it out) no guess can be tried.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tacit.core.errors import UserError

FILE_NAME = "secret.key"  # of a folder
SIGNATURE = ".signature"  # the suffix of a signature's file name
_BYTES = 32
_TAG = 16  # bytes


@dataclass(frozen=True)
class Secret:
    """A key and its operations. Its `repr` shows nothing."""

    key: bytes = field(repr=False)

    def mark(self, data: bytes, *, purpose: str) -> str:
        """A keyed hash of these bytes, 32 hexadecimal digits: without the key nobody can compute it or test a guess."""
        return hashlib.blake2b(data, key=self.key, person=purpose.encode()[:16], digest_size=_TAG).hexdigest()

    def hide(self, text: str) -> str:
        """Encrypt a text so that `show` restores it: equal for equal texts, unreadable without the key.

        The tag is a keyed hash of the text, and the text is combined with a key stream derived from the tag (a
        synthetic initialisation vector: Rogaway & Shrimpton 2006).
        """
        plain = text.encode()
        tag = bytes.fromhex(self.mark(plain, purpose="tacit.tag"))
        return (tag + self._added(plain, tag)).hex()

    def show(self, hidden: str) -> str:
        """The hidden text. ValueError where another key has hidden it, or it was changed."""
        data = bytes.fromhex(hidden)
        plain = self._added(data[_TAG:], data[:_TAG])
        if not hmac.compare_digest(self.mark(plain, purpose="tacit.tag"), data[:_TAG].hex()):
            raise ValueError("another secret has hidden it")
        return plain.decode()

    def _added(self, data: bytes, tag: bytes) -> bytes:
        """The bytes XORed with a stream derived from key and tag, which encrypts and decrypts."""
        blocks = (
            hashlib.blake2b(tag + number.to_bytes(4, "little"), key=self.key, person=b"tacit.stream").digest()
            for number in range(-(-len(data) // 64))
        )
        stream = b"".join(blocks)[: len(data)]
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def secret_in(folder: Path, *, name: str = FILE_NAME) -> Secret | None:
    """The secret of a folder, or None where it has none. UserError for an invalid file."""
    path = folder / name
    if not path.exists():
        return None
    return _read(path)


def secret_of(folder: Path, *, name: str = FILE_NAME) -> Secret:
    """The secret of a folder, created if it has none."""
    return secret_in(folder, name=name) or _made(folder / name)


def own_secret() -> Secret | None:
    """The user's secret, created if there is none; None where this machine cannot keep one."""
    try:
        folder = _kept_in()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return secret_of(folder)
    except (OSError, RuntimeError, UserError):  # no home, no right to write there, or an invalid file
        return None


def sign(path: Path) -> None:
    """Sign a file as it is now with the user's secret."""
    secret = own_secret()
    if secret is not None:
        _signature(path).write_text(secret.mark(path.read_bytes(), purpose="tacit.signature"))


def is_signed(path: Path) -> bool:
    """Whether a file is unchanged since this user signed it on this machine."""
    signature, secret = _signature(path), own_secret()
    if secret is None or not (signature.is_file() and path.is_file()):
        return False
    with signature.open("rb") as file:
        written = file.read(2 * _TAG + 1)
    return hmac.compare_digest(written, secret.mark(path.read_bytes(), purpose="tacit.signature").encode())


def _signature(path: Path) -> Path:
    return path.with_name(f".{path.name}{SIGNATURE}")


def _kept_in() -> Path:
    """TACIT_CONFIG, or the platform's folder for settings."""
    if named := os.environ.get("TACIT_CONFIG"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming")) / "tacit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tacit"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tacit"


def _read(path: Path) -> Secret:
    if not path.is_file():  # a pipe would block
        raise UserError(f"{path} is no plain file, and holds no secret; restore it from a copy")
    try:
        with path.open("rb") as file:
            key = bytes.fromhex(file.read(1024).decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise UserError(f"{path} is damaged: it holds no secret; restore it from a copy")
    return Secret(key)


def _made(path: Path) -> Secret:
    """Create a secret, readable by its owner alone; if several processes create one, the first wins."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES))
        with contextlib.suppress(FileExistsError):
            try:
                os.link(partial, path)
            except (PermissionError, NotImplementedError, AttributeError, OSError) as error:
                if isinstance(error, FileExistsError):
                    raise
                partial.rename(path)  # a disk without links
    finally:
        partial.unlink(missing_ok=True)
    return _read(path)
