"""Run folders from strangers: what their settings name is opened by nobody who does not say so."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import tacit
from tacit.core import secret
from tacit.core.errors import UserError
from tacit.experiment import heads
from tacit.experiment.folder import CONFIG, leads_out, settings_of

N = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    (root / "images").mkdir()
    chance = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(chance.integers(0, 255, (8, 8), np.uint8)).save(root / "images" / f"{i:02}.png")
    lines = [f"{i:02}.png,{'ab'[i % 2]}" for i in range(N // 2)]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]))
    return root


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    out = folder / "run"
    tacit.pretrain(
        str(folder / "images"), budget="1steps", device="cpu", out=str(out), labels=str(folder / "labels.csv")
    )
    (out / "report.json").write_text('{"data": {}}')
    return out


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the run had been judged: what `predict` reads of the report is the arm alone."""
    plain = heads.open_chosen
    monkeypatch.setattr(heads, "open_chosen", lambda run, **given: plain(run, **{**given, "judged": False}))
    monkeypatch.setattr("tacit.commands.predict.open_chosen", heads.open_chosen)


@pytest.fixture
def visited() -> Iterator[tuple[int, list[bytes]]]:
    """A port on this machine, and what was asked of it."""
    server, asked = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        while True:
            try:
                guest, _ = server.accept()
            except OSError:
                return
            with guest:
                asked.append(guest.recv(200))
                guest.sendall(b"HTTP/1.1 404 none\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def changed(made: Path, to: Path, **settings: Any) -> Path:
    """A copy of the run whose settings were changed by somebody."""
    shutil.copytree(made, to)
    asked = yaml.safe_load((to / CONFIG).read_text())
    (to / CONFIG).write_text(yaml.safe_dump({**asked, **settings}))
    return to


@pytest.mark.usefixtures("judged")
def test_a_run_of_the_person_opens_what_it_was_made_of(made: Path, folder: Path, tmp_path: Path) -> None:
    assert settings_of(made).trusted
    assert len(tacit.predict(str(made), str(folder / "images"))) == N
    shutil.copytree(made, tmp_path / "moved")
    assert len(tacit.predict(str(tmp_path / "moved"), str(folder / "images"))) == N


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize(
    ("command", "setting", "named"),
    [
        ("predict", "data", []),
        ("predict", "labels", ["labelled"]),
        ("predict", "cache", []),
        ("export", "data", []),
        ("export", "labels", ["labelled"]),
        ("next_labels", "labels", []),
        ("next_labels", "test", ["labels"]),
    ],
)
def test_a_stranger_has_nothing_fetched(
    made: Path,
    folder: Path,
    tmp_path: Path,
    visited: tuple[int, list[bytes]],
    command: str,
    setting: str,
    named: list[str],
) -> None:
    port, asked = visited
    images = str(folder / "images")
    run = str(changed(made, tmp_path / "run", **{setting: f"http://127.0.0.1:{port}/secret.parquet"}))
    given = {"labelled": images, "labels": str(folder / "labels.csv")}
    given = {name: given[name] for name in named}
    away: list[Any] = [] if command == "export" else [images]
    more = {"out": str(tmp_path / "out"), "with_head": True} if command == "export" else {}
    said = "data" if setting == "cache" else setting
    with pytest.raises(UserError, match=rf"not made here by you.*names its {said}.*not opened.*--trust"):
        getattr(tacit, command)(run, *away, **given, **more)
    assert asked == []


@pytest.mark.usefixtures("judged")
def test_the_person_may_trust_or_name_the_data_again(
    made: Path, folder: Path, tmp_path: Path, visited: tuple[int, list[bytes]]
) -> None:
    port, asked = visited
    images, labels = str(folder / "images"), str(folder / "labels.csv")
    run = str(changed(made, tmp_path / "run", data=f"http://127.0.0.1:{port}/x.parquet", labels="/etc/passwd"))
    with pytest.raises(UserError, match="names its labels: '/etc/passwd', which was not opened"):
        tacit.predict(run, images, labelled=images)
    assert len(tacit.predict(run, images, labelled=images, labels=labels)) == N
    assert len(tacit.next_labels(run, images, labels=labels, n=2, method="typiclust")) == 2
    assert asked == []
    with pytest.raises(UserError, match="cannot be reached"):
        tacit.predict(run, images, labels=labels, trust=True)
    assert asked


@pytest.mark.usefixtures("judged")
def test_a_stranger_makes_no_cache(made: Path, folder: Path, tmp_path: Path) -> None:
    run = changed(made, tmp_path / "run", cache=str(tmp_path / "elsewhere"))
    images, labels = str(folder / "images"), str(folder / "labels.csv")
    tacit.predict(str(run), images, labelled=images, labels=labels)
    assert not (tmp_path / "elsewhere").exists()


def test_other_commands_read_nothing_outside(
    made: Path, folder: Path, tmp_path: Path, visited: tuple[int, list[bytes]]
) -> None:
    port, asked = visited
    away = {name: f"http://127.0.0.1:{port}/{name}.csv" for name in ("data", "labels", "test", "tokenizer", "init")}
    run = str(changed(made, tmp_path / "run", **away, cache=str(tmp_path / "elsewhere")))
    images = str(folder / "images")
    tacit.embed(run, images, out=str(tmp_path / "e.parquet"))
    tacit.export(run, to="safetensors", out=str(tmp_path / "out"))
    tacit.load_encoder(run)
    assert asked == []
    assert not (tmp_path / "elsewhere").exists()


def test_a_signature_is_of_the_person_and_of_these_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data: x")
    assert not secret.is_signed(file)
    secret.sign(file)
    assert secret.is_signed(file)
    file.write_text("data: y")
    assert not secret.is_signed(file)
    file.write_text("data: x")
    assert secret.is_signed(file)
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "of another"))
    assert not secret.is_signed(file)
    monkeypatch.setenv("TACIT_CONFIG", str(file))  # a file in its place: nothing can be kept
    secret.sign(file)
    assert not secret.is_signed(file)
    kept = tmp_path / "of another" / secret.FILE_NAME
    assert kept.stat().st_mode & 0o077 == 0


def test_what_leads_out() -> None:
    assert leads_out("labels", "x.csv")
    assert leads_out("labels", ["a.csv", "b.csv"])
    assert not leads_out("labels", "folders")
    assert not leads_out("data", "digits")
    assert leads_out("data", "digits.csv")
    assert not leads_out("label_column", "http://x")
