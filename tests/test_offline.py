"""`--offline`: one place refuses every connection, whoever would open it."""

from __future__ import annotations

import asyncio
import os
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import tacit
from tacit.core.errors import UserError
from tacit.core.offline import is_offline, offline

HOST = "127.0.0.1"


def lookup() -> object:
    return socket.getaddrinfo("example.org", 80)


def by_name() -> object:
    return socket.gethostbyname("example.org")


def fetched() -> object:
    return urllib.request.urlopen(f"http://{HOST}:9/x")


def connected() -> object:
    return socket.create_connection((HOST, 9), timeout=1)


def sent() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        return datagrams.sendto(b"x", (HOST, 9))


def tried() -> object:
    with socket.socket() as opened:
        return opened.connect_ex((HOST, 9))


def awaited() -> object:
    return asyncio.run(asyncio.open_connection(HOST, 9))


def by_fsspec() -> object:
    import fsspec

    with fsspec.open("ftp://example.org/x.parquet") as file:
        return file.read()


def fetched_model() -> object:
    from huggingface_hub import snapshot_download

    return snapshot_download("nobody/none", endpoint=f"http://{HOST}:9")


WAYS = [lookup, by_name, fetched, connected, sent, tried, awaited, by_fsspec]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_no_connection_is_opened(way: Callable[[], object]) -> None:
    with offline(), pytest.raises(UserError, match="--offline"):
        way()
    assert not is_offline()


def test_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with offline(), offline():
        assert constants.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
        with pytest.raises(Exception, match=r"(?i)offline"):
            fetched_model()
    assert not constants.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ


def test_what_stays_here_goes_on(tmp_path: Path) -> None:
    with offline(False):
        assert not is_offline()
    with offline():
        one, other = socket.socketpair()
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()


URLS = ["http://127.0.0.1:9/x.parquet", "s3://bucket/x.parquet", "hf:nobody-at-all/none", "memory://x.parquet"]


@pytest.mark.parametrize("url", URLS)
def test_commands_open_no_url(url: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match=r"offline|cannot be loaded|need a library"):
        tacit.inspect(url, offline=True)
    with pytest.raises(UserError, match=r"offline|cannot be loaded|need a library"):
        tacit.pretrain(url, offline=True, out=out, budget="1steps")
    assert not is_offline()


@pytest.mark.parametrize("setting", ["test", "item_table", "labels"])
def test_nor_settings_that_name_one(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        tacit.inspect("digits", offline=True, **{setting: "http://127.0.0.1:9/x.parquet"})
