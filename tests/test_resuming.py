"""A run goes on with the data that it was begun on, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import tacit
from tacit.core.errors import Interrupted, UserError
from tacit.data.split import Split
from tacit.dataset import Dataset, open_dataset
from tacit.experiment import resuming
from tacit.experiment.folder import BEGUN_ON
from tacit.experiment.opening import Opened
from tests.events import events

WORDS = [f"the text of number {i} has words of its own" for i in range(12)]
Table = list[dict[str, Any]]


def opened(dataset: Dataset, *, private: bool = False, without: int = 0) -> Opened:
    rows = np.arange(len(dataset) - without)
    return Opened(dataset, Split(rows, rows[:0]), lambda others: dataset, private)


def images(n: int, changed: int = -1) -> list[Image.Image]:
    return [Image.new("L", (8, 8), 200 if i == changed else i) for i in range(n)]


def texts(n: int, changed: int = -1) -> pa.Table:
    said = ["other words" if i == changed else WORDS[i] for i in range(n)]
    return pa.table({"id": [f"t{i}" for i in range(n)], "text": said})


def sounds(root: Path, n: int, changed: int = -1) -> Path:
    import soundfile

    root.mkdir()
    for i in range(n):
        tone = np.sin(np.arange(2000) * (0.5 if i == changed else 0.1 + i / 50))
        soundfile.write(root / f"{i}.wav", 0.3 * tone, 4000)
    return root


def histories(n: int, changed: int = -1) -> pa.Table:
    rows = [{**row, "user": f"u{row['user']}"} for row in events(200, n)]
    for row in rows:
        row["item"] = 29 - row["item"] if row["user"] == f"u{changed}" else row["item"]
    return pa.Table.from_pylist(rows)


@pytest.fixture(params=["image", "text", "audio", "items"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Dataset]:
    """n examples of a kind, one of which can be another."""
    kind, cache = request.param, str(tmp_path / "cache")

    def make(n: int, changed: int = -1) -> Dataset:
        data: Any = {"image": images, "text": texts, "items": histories}.get(kind, lambda *_: None)(n, changed)
        folder = tmp_path / f"{n} {changed}"
        if kind == "audio":
            data = folder if folder.exists() else sounds(folder, n, changed)
        return open_dataset(data, kind=kind, cache=cache)

    return make


def test_what_has_changed_is_named(made: Callable[..., Dataset], tmp_path: Path):
    before, folder = made(8), tmp_path / "run"
    resuming.go_on_with_the_same(folder, opened(before))
    resuming.go_on_with_the_same(folder, opened(made(8)))
    name = next(name for name in before.ids.to_pylist() if "3" in name)
    row = before.ids.to_pylist().index(name)
    cases = [
        (opened(made(8, 3)), rf"1 example has other content \({name}\)\. Bring them back"),
        (opened(made(8, 3), private=True), r"1 example has other content\. Bring them back"),
        (opened(before, without=1), "others are held out of pretraining"),
    ]
    if before.kind != "items":  # whose events are shared out among fewer people
        cases += [(opened(made(10)), r"2 examples are new \(.*8.*9"), (opened(made(7)), "1 example is gone")]
    for now, message in cases:
        with pytest.raises(UserError, match=message):
            resuming.go_on_with_the_same(folder, now)
    said = (folder / BEGUN_ON).read_bytes()
    assert len(name) < 4 or name.encode() not in said  # a number alone is anywhere
    assert before.content[row].tobytes() not in said


def test_another_order_or_form_is_named_too(tmp_path: Path):
    cache = str(tmp_path / "cache")
    dataset = open_dataset(texts(8), cache=cache)
    resuming.go_on_with_the_same(tmp_path, opened(dataset))
    with pytest.raises(UserError, match="in another order"):
        resuming.go_on_with_the_same(tmp_path, opened(open_dataset(texts(8).take(list(range(7, -1, -1))), cache=cache)))
    with pytest.raises(UserError, match="read with length 32, and were with 128"):
        resuming.go_on_with_the_same(tmp_path, opened(open_dataset(texts(8), length=32, cache=cache)))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"[]"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]):
    dataset = open_dataset(images(4), cache=str(tmp_path / "cache"))
    resuming.go_on_with_the_same(tmp_path, opened(dataset))
    path = tmp_path / BEGUN_ON
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"begun_on\.npz is damaged"):
        resuming.go_on_with_the_same(tmp_path, opened(dataset))


def test_a_run_refuses_to_go_on_with_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "img"
    folder.mkdir()

    def write(names: range) -> None:
        for i in names:
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i:03d}.png")

    write(range(40))
    settings = {"task": "simclr", "budget": "3steps", "out": str(tmp_path / "run"), "batch_size": 8}

    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr("tacit.experiment.pretraining.pretrain", stopped)
        with pytest.raises(Interrupted):
            tacit.pretrain(str(folder), **settings)
    write(range(40, 50))
    with pytest.raises(
        UserError, match=r"changed since .*run was begun: 10 examples are new \(040\.png, 041\.png, 042"
    ):
        tacit.pretrain(str(folder), resume=True, **settings)
    for path in folder.glob("04*.png"):
        path.unlink()
    assert tacit.pretrain(str(folder), resume=True, **settings).steps == 3
