"""Pairs: how both sides are found and read, what is left out and said, and a run from a table to a search."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import tacit
from tacit.core import keys
from tacit.core.errors import UserError
from tacit.dataset import Dataset
from tacit.evaluation.targets.matching import places
from tacit.modalities import modality_named
from tacit.modalities.pair.encoder import Towers
from tacit.modalities.pair.store import Drawn, Pairs
from tests.tiny import tiny_towers

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (240, 240, 240)}
SHAPES = ("square", "bar", "frame")


def picture(number: int) -> tuple[Image.Image, str]:
    """A coloured shape in grey noise, and what it is; every number another picture."""
    colour, shape = list(COLOURS)[number % 4], SHAPES[number % 3]
    chance = np.random.default_rng(number)
    pixels = chance.integers(90, 140, (16, 16, 3)).astype(np.uint8)
    x, y = chance.integers(1, 6, 2)
    high, wide = (3, 9) if shape == "bar" else (8, 8)
    pixels[y : y + high, x : x + wide] = COLOURS[colour]
    if shape == "frame":
        pixels[y + 2 : y + 6, x + 2 : x + 6] = 110
    return Image.fromarray(pixels), f"a {colour} {shape}"


def png(number: int) -> bytes:
    out = io.BytesIO()
    picture(number)[0].save(out, "PNG")
    return out.getvalue()


def table(n: int = 24, **columns: list[object]) -> pa.Table:
    own = {"image": [png(i) for i in range(n)], "caption": [picture(i)[1] for i in range(n)]}
    return pa.table({**own, **columns})


def opened(data: object, cache: Path, **settings: Any) -> Dataset:
    return tacit.open_dataset(data, cache=str(cache), **{"kind": "pair", **settings})


def captions(store: Any, rows: list[int]) -> list[str]:
    found: list[str] = store.sides["text"].store.texts(store.only("text", np.array(rows)))
    return found


def as_folder(root: Path) -> Path:
    for i in range(12):
        (root / f"{i:02}.png").write_bytes(png(i))
        (root / f"{i:02}.txt").write_text(picture(i)[1])
    (root / "alone.png").write_bytes(png(40))
    (root / "lone.txt").write_text("nothing to see")
    return root


def as_json_folder(root: Path) -> Path:
    for i in range(12):
        (root / f"{i:02}.png").write_bytes(png(i))
        (root / f"{i:02}.json").write_text(json.dumps({"captions": [picture(i)[1], f"picture {i}"]}))
    return root


def as_shard(root: Path) -> Path:
    with tarfile.open(root / "some.tar", "w") as tar:
        for i in range(12):
            for ending, data in (("png", png(i)), ("txt", picture(i)[1].encode())):
                info = tarfile.TarInfo(f"{i:02}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return root / "some.tar"


def as_lines(root: Path) -> Path:
    as_folder(root)
    lines = [json.dumps({"file": f"{i:02}.png", "captions": [picture(i)[1], f"no. {i}"]}) for i in range(12)]
    (root / "some.jsonl").write_text("\n".join(lines))
    return root / "some.jsonl"


@pytest.mark.parametrize(
    ("made", "pairs"),
    [(as_folder, 12), (as_json_folder, 24), (as_shard, 12), (as_lines, 24)],
)
def test_pairs_are_found_in_files_shards_and_lines(made: Callable[[Path], Path], pairs: int, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = opened(made(tmp_path / "data"), tmp_path / "cache")
    assert len(data) == pairs
    assert captions(data.cache, [0])[0] == picture(0)[1]
    batch = data.batch(np.arange(3))
    assert batch["image.image"].shape == (3, 3, 16, 16)
    assert {"text.tokens", "text.valid", "index"} <= batch.keys()
    left = "\n".join(data.notes.lines())
    if made is as_folder:  # neither counts as a pair, and both are named
        assert "alone.png: no text beside it" in left
        assert "lone.txt: no image of that name" in left


def test_captions_of_one_image_are_drawn_by_the_key(tmp_path: Path) -> None:
    several = [[picture(i)[1], f"picture {i}", f"number {i}"][: 1 + i % 3] for i in range(24)]
    data = opened(table(caption=several), tmp_path)
    assert len(data) == 48
    assert data.ids.to_pylist()[:4] == ["0", "1#0", "1#1", "2#0"]
    assert isinstance(data.cache, Pairs)
    drawn = Drawn.among(data.cache, np.arange(3, 48))
    assert len(drawn.firsts) == 22  # an image stands once in an epoch
    key = keys.batch_keys(0, 0, torch.arange(22))
    index = drawn.batch(drawn.firsts, key)["index"]
    assert torch.equal(index, drawn.batch(drawn.firsts, key)["index"])
    assert not torch.equal(index, drawn.batch(drawn.firsts, keys.split(key, "next"))["index"])
    first = data.cache.identity("image")
    assert np.array_equal(first[index.numpy()], first[drawn.firsts])


def test_what_cannot_be_paired_is_counted_or_refused_in_a_line(tmp_path: Path) -> None:
    good = table()
    broken = [png(i) if i else b"no image" for i in range(24)]
    blank = [picture(i)[1] if i > 1 else [None, "  "][i] for i in range(24)]
    data = opened(table(image=broken, caption=blank), tmp_path, max_bad=0.1)
    assert len(data) == 22
    lines = " ".join(data.notes.lines())
    assert "12 of 24" not in lines
    assert "share their text with another one" in lines  # 12 captions say the same of two images each
    with pytest.raises(UserError, match="all 24 pairs have the same text"):
        opened(table(caption=["a thing"] * 24), tmp_path)
    with pytest.raises(UserError, match="no column of texts that is known by its name: name one with --text-column"):
        opened(good.rename_columns(["image", "words"]), tmp_path)
    with pytest.raises(UserError, match="--sides image,smell: smell cannot be a side"):
        opened(good, tmp_path, sides="image,smell")
    with pytest.raises(UserError, match="the sides are image and text"):
        modality_named("pair").task("audio:simclr", tiny_towers())
    long = opened(table(caption=[f"{picture(i)[1]} {'very ' * 5000 * (i == 3)}long" for i in range(24)]), tmp_path)
    assert long.batch(np.arange(24))["text.tokens"].shape[1] <= 2048


def naive_places(queries: np.ndarray, gallery: np.ndarray, asks: list[int], has: list[int]) -> Iterator[int]:
    first = {entry: has.index(entry) for entry in set(has)}
    for asked in asks:
        relevant = {has[j] for j in range(len(has)) if asks[j] == asked}
        score = {entry: float(queries[asks.index(asked)] @ gallery[at]) for entry, at in first.items()}
        best = max(score[entry] for entry in relevant)
        tied = sum(value == best for entry, value in score.items() if entry not in relevant)
        yield 1 + sum(value > best for value in score.values()) + (tied + 1) // 2


def test_places_equal_the_loop_over_the_gallery() -> None:
    chance = np.random.default_rng(0)
    asks, has = chance.integers(0, 20, 40), chance.integers(0, 25, 40)
    for values in (chance.normal(size=(2, 40, 4)), chance.integers(-1, 2, (2, 40, 2)), np.zeros((2, 40, 3))):
        one, other = values.astype(np.float32)
        assert places(one, other, asks, has).tolist() == list(naive_places(one, other, asks.tolist(), has.tolist()))


@pytest.mark.slow
def test_a_run_on_pairs_matches_what_it_has_not_seen(tmp_path: Path) -> None:
    numbers = range(240)
    colour = [picture(i)[1].split()[1] for i in numbers]
    words = [f"{picture(i)[1]} no. {i}" for i in numbers]  # every caption another one
    pq.write_table(table(240, caption=words, colour=colour), tmp_path / "shapes.parquet")
    report = tacit.run(
        str(tmp_path / "shapes.parquet"),
        text_column="caption",
        label_column="colour",
        tasks="siglip",
        budget="40steps",
        batch_size=64,
        cache=str(tmp_path / "cache"),
        out=str(tmp_path / "run"),
    )
    found = {(of.arm, of.metric): of.mean for of in report.results}
    assert found["siglip", "recall@10/caption-to-example"] > 2 * found["chance", "recall@10/caption-to-example"]
    assert found["siglip", "accuracy/zero-shot"] > 0.5
    assert found["siglip", "median_place/example-to-caption"] < found["chance", "median_place/example-to-caption"]
    towers = tacit.load_encoder(tmp_path / "run")
    image = tacit.load_encoder(tmp_path / "run" / "encoder" / "image")
    batch = towers.prepare({"image": [picture(400)[0]], "text": ["a red square"]})
    assert torch.equal(towers(batch).pooled, image(image.prepare([picture(400)[0]])).pooled)
    assert isinstance(towers, Towers)
    assert [*towers.sides(batch)] == ["image", "text"]
    told = towers.by_name(["red", "blue"], [["a red bar", "red"], []])
    means = [
        towers.embedding_of("text", of).mean(0) for of in (["a red bar", "red"], ["blue", "a blue", "this is a blue"])
    ]
    torch.testing.assert_close(told, normalize(torch.stack(means), dim=1))
    found = tacit.search(
        tmp_path / "run",
        "a red square",
        data=str(tmp_path / "shapes.parquet"),
        index=str(tmp_path / "index.parquet"),
        out=str(tmp_path / "found.html"),
        k=5,
    )
    again = tacit.search(tmp_path / "run", image=picture(400)[0], index=str(tmp_path / "index.parquet"), k=240)
    assert sum(colour[int(name)] == "red" for name in found.ids) >= 3
    assert len(again.ids) == 240
    assert again.scores == sorted(again.scores, reverse=True)
    assert (tmp_path / "found.html").read_text().count("<img") == 5
    whole = (tmp_path / "index.parquet").read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:-3], whole[:middle], whole[: middle - 1] + bytes([whole[middle - 1] ^ 1]) + whole[middle:]):
        (tmp_path / "index.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged .*; delete it, and name the data with --data to make it anew"):
            tacit.search(tmp_path / "run", "a red square", index=str(tmp_path / "index.parquet"))
    (tmp_path / "mine.html").write_text("<meta http-equiv=Content-Security-Policy content=x>")
    for own in ({"out": str(tmp_path / "mine.html"), "overwrite": True}, {"index": str(tmp_path / "mine.html")}):
        with pytest.raises(UserError, match=r"was not written by|is no index of"):
            tacit.search(tmp_path / "run", "a red square", data=str(tmp_path / "shapes.parquet"), **own)
    (tmp_path / "words.txt").write_text("a red bar\na blue frame\n")
    with pytest.raises(UserError, match=r"words.txt holds texts, and this encoder reads images; give it images$"):
        tacit.search(tmp_path / "run", "a red square", data=str(tmp_path / "words.txt"))
    for use in (
        lambda: tacit.predict(str(tmp_path / "run"), str(tmp_path / "shapes.parquet")),
        lambda: tacit.export(str(tmp_path / "run"), to="onnx", with_head=True, out=str(tmp_path / "onnx")),
    ):
        with pytest.raises(UserError, match="was judged by matching, and nothing is learned for that"):
            use()
    with pytest.raises(UserError, match="say what is sought"):
        tacit.search(tmp_path / "run", " ", data=str(tmp_path / "shapes.parquet"))
    tacit.export(tmp_path / "run", to="safetensors", out=str(tmp_path / "exported"))
    exported = tacit.load_encoder(tmp_path / "exported")
    assert torch.equal(exported(batch).pooled, towers(batch).pooled)
