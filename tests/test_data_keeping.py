"""What is kept of data is used only as it was written: damaged files, and sources changed behind their times."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

from tacit.data import store
from tacit.dataset import Dataset, open_dataset
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.text.spec import TextSpec
from tests.events import events, write

Open = Callable[[], Dataset]
FILES = {
    "image": ("decoded/*/images.bin", "decoded/*/content.bin"),
    "text": tuple(
        f"texts/*/{name}"
        for name in ("tokens.bin", "starts.bin", "text.bin", "text_starts.bin", "content.bin", "tokenizer.json")
    ),
    "audio": ("sounds/*/samples.bin", "sounds/*/starts.bin", "sounds/*/content.bin"),
    "series": ("series/*/values.bin", "series/*/starts.bin", "series/*/content.bin"),
    "items": tuple(
        f"histories/*/{name}"
        for name in ("events.bin", "times.bin", "starts.bin", "owner.bin", "content.bin", "items.parquet")
    ),
}
EVERY_FILE = [(kind, name) for kind, names in FILES.items() for name in (*names, "*/*/meta.json", "listings/*.json")]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Open]]:
    """Data of every kind with their caches: where these are, and how the data are opened."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    soundfolder = root / "sounds"
    soundfolder.mkdir()
    for i in range(3):
        soundfile.write(soundfolder / f"{i}.wav", 0.1 * rng.standard_normal(4000), 8000)
    data = {
        "image": rng.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        "text": pa.table({"text": [f"the words of text number {i} are few" for i in range(20)]}),
        "audio": soundfolder,
        "series": pa.table({"series": rng.standard_normal((6, 30)).tolist()}),
        "items": write(events(60, 8, 10), root / "events.parquet"),
    }
    found = {}
    for kind, of in data.items():

        def opened(of: Any = of, kind: str = kind) -> Dataset:
            return open_dataset(of, cache=str(root / kind), kind=kind)

        opened()
        found[kind] = (root / kind, opened)
    return found


def told(dataset: Dataset) -> list[Any]:
    """All that a training reads."""
    batch = dataset.batch(np.arange(len(dataset)))
    values = [value.tolist() for _, value in sorted(batch.items())]
    spec = dataset.spec.known.digest if isinstance(dataset.spec, ItemSpec) else dataset.spec
    return [*values, spec, dataset.content.tolist(), dataset.data_hash, dataset.ids.to_pylist()]


@pytest.mark.parametrize(("kind", "name"), EVERY_FILE)
def test_a_damaged_file_of_a_cache_is_found_and_made_anew(kept: dict[str, tuple[Path, Open]], kind: str, name: str):
    cache, opened = kept[kind]
    dataset = opened()
    right, lines = told(dataset), dataset.notes.lines()
    (path,) = cache.glob(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = opened()
    assert told(found) == right
    assert [line for line in found.notes.lines() if f"{path.name} is damaged: it was made anew" in line]
    assert opened().notes.lines() == lines


@pytest.mark.parametrize("cut", [0, 100])
def test_a_file_that_is_gone_or_too_short_is_made_anew(kept: dict[str, tuple[Path, Open]], cut: int):
    cache, opened = kept["image"]
    right = told(opened())
    (path,) = cache.glob("decoded/*/images.bin")
    path.write_bytes(path.read_bytes()[:cut])
    if not cut:
        path.unlink()
    found = opened()
    assert told(found) == right
    assert "images.bin is " in " ".join(found.notes.lines())


def test_whoever_cleans_the_cache_is_told_nothing(kept: dict[str, tuple[Path, Open]]):
    cache, opened = kept["items"]
    for path in cache.glob("histories/*/*"):
        path.unlink()
    for path in cache.glob("histories/*"):
        path.rmdir()
    assert "anew" not in " ".join(opened().notes.lines())


def test_of_a_large_file_a_share_is_compared_while_nobody_has_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "AT_ONCE", 40)
    monkeypatch.setattr(store, "_BLOCK", 10)
    read: list[bytes] = []
    monkeypatch.setattr(store.zlib, "crc32", lambda data: read.append(data) or zlib.adler32(data))
    (tmp_path / "x.bin").write_bytes(bytes(range(200)))
    store.write_meta(tmp_path, {"n": 1}, ["x.bin"])
    read.clear()
    assert store.read_meta(tmp_path) == {"n": 1, "files": store.read_sealed(tmp_path / "meta.json")["files"]}
    assert sum(len(block) == 10 for block in read) == 4
    (tmp_path / "x.bin").write_bytes(bytes(range(199)) + b"x")
    for _ in range(3):
        with pytest.raises(store.Damaged, match=r"x\.bin is damaged"):
            store.read_meta(tmp_path)


# ---------------------------------------------------------------- sources that change


def replaced(path: Path, data: bytes) -> None:
    """Other bytes of the same length, and the old time of change."""
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no time of the last change but the one that can be set")
@pytest.mark.parametrize("kind", ["folder", "csv", "paths", "array"])
def test_a_source_that_changes_with_its_size_and_time_kept_is_read_anew(tmp_path: Path, kind: str):
    names = [tmp_path / "data" / f"{i}.bmp" for i in range(3)]
    names[0].parent.mkdir()
    for i, name in enumerate(names):
        Image.new("L", (8, 8), i).save(name)
    Image.new("L", (8, 8), 99).save(tmp_path / "other.bmp")
    other = (tmp_path / "other.bmp").read_bytes()
    data = tmp_path / "data"
    changed = names[1]
    if kind == "csv":
        data = changed = tmp_path / "texts.csv"
        data.write_text("text\nthe first of the texts\nthe second of them\n")
        other = data.read_bytes().replace(b"first", b"third")
    elif kind == "paths":
        data = tmp_path / "table.csv"
        data.write_text("path\n" + "".join(f"data/{name.name}\n" for name in names))
    elif kind == "array":
        data = changed = tmp_path / "x.npy"
        np.save(data, np.zeros((3, 8, 8), np.uint8))
        other = data.read_bytes()[:-1] + b"\x07"

    def opened() -> Any:
        dataset = open_dataset(str(data), cache=str(tmp_path / "cache"))
        return dataset.cache.texts([0, 1]) if kind == "csv" else dataset.cache.pixels.tolist()  # type: ignore[union-attr]

    first = opened()
    assert opened() == first
    replaced(changed, other)
    assert opened() != first


def test_texts_are_kept_by_all_that_says_which_numbers_they_become(tmp_path: Path):
    """Two specs of one tokenizer may take other tokens for special ones."""
    texts = pa.table({"text": [f"the words of text number {i} are few [MASK]" for i in range(20)]})
    first = open_dataset(texts, cache=str(tmp_path)).spec
    assert isinstance(first, TextSpec)
    other = replace(first, mask=first.unknown, specials=tuple(n for n in first.specials if n != first.mask))
    for spec in (first, other, replace(other, length=16), first):
        found = open_dataset(texts, cache=str(tmp_path), tokenizer=spec)  # type: ignore[arg-type]
        assert found.spec == spec
    assert len(list((tmp_path / "texts").iterdir())) == 2


def test_sounds_and_events_are_kept_by_how_they_were_read(tmp_path: Path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal((4000, 2)), 8000)
    hashes = [open_dataset(folder, cache=str(tmp_path), channels=how).data_hash for how in ("mix", "left", "right")]
    assert len(set(hashes)) == 3
    assert open_dataset(folder, cache=str(tmp_path), rate=4000).spec.rate == 4000  # type: ignore[union-attr]
    rows = [{**row, "kind": ("view", "buy")[i % 2]} for i, row in enumerate(events(60, 8, 10))]
    table = pa.Table.from_pylist(rows)
    weights = [
        open_dataset(table, cache=str(tmp_path), kind="items", event_column="kind", event_weight=[f"buy={weight}"])
        for weight in (2, 3)
    ]
    assert [set(np.unique(of.cache.weights)) for of in weights] == [{1.0, 2.0}, {1.0, 3.0}]  # type: ignore[union-attr]
