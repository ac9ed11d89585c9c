"""Block the network at the point where connections are opened, for any file system, library or logger.

Python calls its audit hooks before every address look-up and every connection. While `offline` holds, both are
refused; libraries are also set to use what they have cached.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tacit.core.errors import UserError

# Environment variables that libraries read on import, and the variables that imported libraries keep them in.
_VARIABLES = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK"), "1")
_VARIABLES |= {"HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "offline"}
_KEPT = {
    "huggingface_hub.constants": ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"),
    "datasets.config": ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"),
}
_LOOK_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
_SEND = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_HERE = {getattr(socket, name) for name in ("AF_UNIX", "AF_ALG", "AF_NETLINK", "AF_VSOCK") if hasattr(socket, name)}

_depth = 0  # of commands that must not use the network
_watched = False


def is_offline() -> bool:
    return _depth > 0


def refuse_offline(what: str) -> None:
    """UserError where the network is forbidden and `what` lies behind it."""
    if is_offline():
        raise UserError(
            f"{what} lies behind the network, and --offline forbids it; copy it here, or leave --offline out"
        )


@contextmanager
def offline(forbidden: bool = True) -> Iterator[None]:
    """Refuse every connection of this process within the block; does nothing unless `forbidden`."""
    global _depth
    if not forbidden:
        yield
        return
    _watch()
    before = {name: os.environ.get(name) for name in _VARIABLES}
    kept = [(sys.modules[of], name) for of, names in _KEPT.items() if of in sys.modules for name in names]
    values = [(module, name, getattr(module, name)) for module, name in kept if hasattr(module, name)]
    os.environ.update(_VARIABLES)
    for module, name, _ in values:
        setattr(module, name, True)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for module, name, value in values:
            setattr(module, name, value)
        _forget({of for of in _KEPT if of in sys.modules} - {module.__name__ for module, _, _ in values})


def _forget(modules: set[str]) -> None:
    """Restore the user's values in modules that were imported meanwhile and read ours."""
    for of in modules:
        for name in _KEPT[of]:
            if hasattr(sys.modules[of], name):
                value = os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
                setattr(sys.modules[of], name, value)


def _watch() -> None:
    """Add an audit hook that checks every connection; it stays for the life of the process."""
    global _watched
    if not _watched:
        sys.addaudithook(_ask)
        _watched = True


def _ask(event: str, arguments: tuple[Any, ...]) -> None:
    if not _depth or not event.startswith("socket."):
        return
    if event in _LOOK_UP:
        host = arguments[0]
        if host is not None and host != "":  # the wildcard address is resolved on this machine alone
            raise UserError(
                f"--offline: {_named(host)} was to be looked up; copy the data here, or leave --offline out"
            )
    elif event in _SEND and arguments[0].family not in _HERE:
        if os.name == "nt" and _named(arguments[1]).startswith("127."):  # socket pairs are made this way there
            return
        raise UserError(
            f"--offline: a connection to {_named(arguments[1])} was to be opened; copy the data here, or leave "
            "--offline out"
        )


def _named(address: Any) -> str:
    """The host of an address."""
    host = address[0] if isinstance(address, tuple) and address else address
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host)
