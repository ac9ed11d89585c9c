"""From the things people have to an opened `Dataset`: every kind of source, the cache, and what is refused."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tacit.core.errors import RunFailed, UserError
from tacit.data import decode, store
from tacit.dataset import TEST, TRAIN, Dataset, clean, default_root, open_dataset, open_source
from tacit.modalities.image import store as cache_module


def picture(value: int, size: int = 8) -> Image.Image:
    return Image.new("L", (size, size), value)


def png(value: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    picture(value, size).save(buffer, "PNG")
    return buffer.getvalue()


def folder(root: Path, n: int = 6) -> Path:
    """cat/0.png dog/1.png cat/2.png ...: file i is a square of grey value i."""
    for i in range(n):
        path = root / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return root


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: object) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), **settings})  # type: ignore[arg-type]

    return open_


def values(dataset: Dataset) -> list[int]:
    return dataset.batch(np.arange(len(dataset)))["image"][:, 0, 0, 0].tolist()


def test_a_folder_of_any_depth(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    (root / "cat" / "old" / "older").mkdir(parents=True)
    (root / "cat" / "old" / "older" / "a b ü.PNG").write_bytes(png(77))
    (root / "notes.md").write_text("not data")
    (root / ".hidden.png").write_bytes(png(1))
    dataset = cached(root)
    assert dataset.ids.to_pylist() == [
        "cat/0.png", "cat/2.png", "cat/4.png", "cat/old/older/a b ü.PNG", "dog/1.png", "dog/3.png", "dog/5.png",
    ]  # fmt: skip
    assert values(dataset) == [0, 2, 4, 77, 1, 3, 5]
    assert (dataset.kind, dataset.spec.size, dataset.spec.channels) == ("image", 8, 1)
    assert dataset.classes == ()
    assert (dataset.label == -1).all()
    assert dataset.notes.lines() == []
    batch = dataset.batch(np.array([4, 3, 4]))
    assert batch["index"].tolist() == [4, 3, 4]
    assert batch["image"].dtype == torch.uint8
    expected = np.array([0, 2, 4, 77, 1, 3, 5]) / 255
    assert dataset.spec.mean == pytest.approx((expected.mean(),))
    assert dataset.spec.std == pytest.approx((expected.std(),))


def test_links_leading_out_are_not_followed(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "s.png").write_bytes(png(9))
    try:
        (root / "out.png").symlink_to(outside / "s.png")
        (root / "outdir").symlink_to(outside)
        (root / "in.png").symlink_to(root / "cat" / "0.png")
        (root / "loop").symlink_to(root)
        (root / "dangling.png").symlink_to(root / "nowhere.png")
    except OSError:
        pytest.skip("this system lets nobody make links")
    dataset = cached(root)
    assert dataset.ids.to_pylist() == [
        *(f"cat/{i}.png" for i in (0, 2, 4)),
        *(f"dog/{i}.png" for i in (1, 3, 5)),
        "in.png",
    ]
    assert sorted(dataset.notes.left_aside.first) == [
        "dangling.png: a link that leads nowhere",
        "loop: a link to a folder",
        "out.png: a link leading out of the folder",
        "outdir: a link to a folder",
    ]
    assert dataset.notes.duplicates == 1


def test_links_of_a_snapshot_are_read_from_its_blobs_alone(tmp_path: Path, cached):
    """As Hugging Face's cache lays out what it has fetched."""
    blobs, shot = tmp_path / "model" / "blobs", tmp_path / "model" / "snapshots" / "main" / "images"
    blobs.mkdir(parents=True)
    shot.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(99))
    (blobs / "table").write_text("file,label\n" + "".join(f"images/{i}.png,{'ab'[i % 2]}\n" for i in range(4)))
    try:
        for i in range(4):
            (blobs / f"{i:040x}").write_bytes(png(i))
            (shot / f"{i}.png").symlink_to(f"../../../blobs/{i:040x}")
        (shot.parent / "table.csv").symlink_to("../../blobs/table")
        (shot / "secret.png").symlink_to(tmp_path / "secret.png")
        (blobs / "leak").symlink_to(tmp_path / "secret.png")
        (shot / "leak.png").symlink_to("../../../blobs/leak")
    except OSError:
        pytest.skip("this system lets nobody make links")
    for data in (shot, shot.parent, shot.parent / "table.csv"):
        dataset = cached(data)
        assert values(dataset) == [0, 1, 2, 3]
        names = {line.split(":")[0].rpartition("/")[2] for line in dataset.notes.left_aside.first}
        assert names == (set() if data.suffix else {"secret.png", "leak.png"})
    inner = tmp_path / "other" / "snapshots" / "x"
    inner.mkdir(parents=True)
    for i in range(3):
        (inner / f"{i}.png").symlink_to(shot / f"{i}.png")
    with pytest.raises(UserError, match=r"may be read \(0\.png: a link leading out of the folder, and 2 more\)"):
        cached(inner)


def test_bad_files_are_skipped_counted_and_listed(tmp_path: Path, cached):
    root = folder(tmp_path / "pets", 40)
    (root / "cat" / "text.jpg").write_text("hello")
    (root / "dog" / "empty.png").write_bytes(b"")
    dataset = cached(root)
    assert len(dataset) == 40
    assert dataset.notes.listed == 42
    assert dataset.notes.skipped.count == 2
    assert dataset.notes.skipped.first[0].startswith("cat/text.jpg: not an image")
    assert dataset.notes.skipped.first[1] == "dog/empty.png: the file is empty"
    assert values(dataset) == [int(Path(name).stem) for name in dataset.ids.to_pylist()]
    assert "text.jpg" not in " ".join(dataset.notes.lines(private=True))
    assert "text.jpg" not in str(dataset.notes.as_dict(private=True))
    again = cached(root)  # from the cache, the same notes
    assert again.notes == dataset.notes
    assert again.ids == dataset.ids
    with pytest.raises(UserError, match=r"2 of 42 .* --max-bad 0.01 .*text.jpg"):
        cached(root, max_bad=0.01)


def test_one_file_in_a_hundred_is_damaged(tmp_path: Path, cached):
    """A byte flipped in its header, cut short, or of another kind: each is skipped and named, and no other is lost."""
    root = folder(tmp_path / "pets", 600)
    damaged = [f"{('cat', 'dog')[i % 2]}/{i}.png" for i in range(0, 600, 100)]
    for number, name in enumerate(damaged):
        data = bytearray((root / name).read_bytes())
        data[12 + number] ^= 0xFF
        (root / name).write_bytes([data, data[:30], b"I am a text"][number % 3])
    dataset = cached(root, max_bad=0.01)
    assert dataset.notes.skipped.count == len(damaged)
    assert [line.split(":")[0] for line in dataset.notes.skipped.first] == damaged
    names = dataset.ids.to_pylist()
    assert len(names) == 594
    assert values(dataset) == [min(255, int(Path(name).stem)) for name in names]


def test_too_many_bad_files_stop_the_opening(tmp_path: Path, cached):
    root = folder(tmp_path / "pets", 20)
    for i in range(5):
        (root / "cat" / f"bad{i}.png").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="--max-bad"):
        cached(root)
    assert len(cached(root, max_bad=0.5)) == 20
    assert not list((tmp_path / "cache" / "decoded").glob(".*"))


def test_the_second_opening_reads_no_file(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "pets")
    first = cached(root)
    monkeypatch.setattr(decode, "COMMAND", ["/nowhere"])
    second = cached(root)
    assert (second.data_hash, values(second)) == (first.data_hash, values(first))
    np.testing.assert_array_equal(second.content, first.content)
    (root / "cat" / "0.png").write_bytes(png(99))
    with pytest.raises(OSError, match="nowhere"):
        cached(root)


def test_alignment_tells_scans_from_scenes(cached):
    rng = np.random.default_rng(0)
    layout = rng.random((12, 12))
    alike = (255 * (0.7 * layout + 0.3 * rng.random((200, 12, 12)))).astype(np.uint8)
    spec = cached(alike).spec
    expected = (alike / 255).mean(0).var() / (alike / 255).var((1, 2)).mean()
    assert spec.alignment == pytest.approx(expected)
    assert spec.mean[0] == pytest.approx(alike.mean() / 255)
    assert spec.std[0] == pytest.approx(alike.std() / 255)
    assert spec.alignment > 0.5
    assert cached(rng.integers(0, 256, (200, 12, 12), dtype=np.uint8)).spec.alignment < 0.02
    assert cached(np.full((9, 12, 12), 7, np.uint8)).spec.alignment == pytest.approx(0, abs=1e-9)


def test_a_glimpse_decodes_a_sample_and_keeps_nothing(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = folder(tmp_path / "pets", 12)
    monkeypatch.setattr(cache_module, "_GLIMPSED", 3)
    glimpse = cached(root, labels="folders", patience=1e-6)
    assert len(glimpse) == 12
    assert glimpse.notes.decoding_seconds > 0
    assert "only a sample" in glimpse.notes.lines()[-1]
    assert set(values(glimpse)) < set(range(12))
    assert len(np.unique(glimpse.content)) == 12
    assert not any((tmp_path / "cache" / "decoded").iterdir())
    whole = cached(root, labels="folders", patience=60.0)
    assert whole.notes.decoding_seconds == 0
    assert sorted(values(whole)) == list(range(12))
    assert (whole.label == glimpse.label).all()
    assert whole.cache.nbytes == glimpse.cache.nbytes
    assert cached(root, patience=1e-6).notes.decoding_seconds == 0, "what is decoded already is not sampled"


def test_equal_content_shares_one_cache_wherever_it_lies(tmp_path: Path, cached):
    first, second = cached(folder(tmp_path / "here")), cached(folder(tmp_path / "there"))
    assert first.data_hash == second.data_hash
    assert first.cache.folder == second.cache.folder
    other = cached(tmp_path / "here", image_size=4)
    assert other.cache.folder != first.cache.folder
    assert other.spec.size == 4
    assert other.data_hash == first.data_hash


def test_a_damaged_or_deleted_cache_is_made_again(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    before = cached(root)
    for path in before.cache.folder.iterdir():
        path.unlink()
    assert values(cached(root)) == values(before)
    (before.cache.folder / "images.bin").write_bytes(b"short")
    assert values(cached(root)) == [0, 2, 4, 1, 3, 5]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_the_cache_is_readable_by_its_owner_only(tmp_path: Path, cached):
    dataset = cached(folder(tmp_path / "pets"))
    for path in (dataset.cache.folder, dataset.cache.folder.parent, tmp_path / "cache" / "listings"):
        assert path.stat().st_mode & 0o077 == 0


def test_clean_frees_what_was_decoded_and_nothing_else(tmp_path: Path, cached):
    dataset = cached(folder(tmp_path / "pets"))
    (tmp_path / "cache" / "mine.txt").write_text("keep")
    assert clean(tmp_path / "cache") >= dataset.cache.nbytes
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine.txt"]
    assert clean(tmp_path / "cache") == 0


def test_the_default_cache_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "there"))
    assert default_root() == tmp_path / "there"
    assert len(open_dataset(np.zeros((3, 8, 8), np.uint8))) == 3
    assert (tmp_path / "there" / "decoded").is_dir()
    monkeypatch.delenv("TACIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert default_root() == tmp_path / "xdg" / "tacit"


def test_a_cache_larger_than_the_disk_is_refused(cached, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        cache_module.shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and type("U", (), {"free": 100})
    )
    with pytest.raises(UserError, match=r"3 images of 8 px need a cache of .* GB free.*--image-size"):
        cached(np.zeros((3, 8, 8), np.uint8))


def test_a_disk_that_fills_is_a_failed_run_and_leaves_nothing(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    import errno

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "flush", full)
    with pytest.raises(RunFailed, match="disk is full"):
        cached(np.zeros((3, 8, 8), np.uint8))
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []


def test_progress_reaches_the_end(tmp_path: Path, cached):
    seen: list[tuple[int, int]] = []
    cached(np.zeros((600, 8, 8), np.uint8), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 600), (512, 600), (600, 600)]


@pytest.mark.parametrize(("side", "expected"), [(8, 8), (63, 63), (64, 64), (72, 64), (200, 64)])
def test_the_size_is_chosen_from_the_data(cached, side: int, expected: int):
    assert cached([picture(1, side), picture(2, side + 40).resize((side + 40, side))]).spec.size == expected


def test_colour_anywhere_in_the_sample_makes_three_channels_and_deep_grey_sixteen_bits(cached):
    assert cached([picture(1), Image.new("RGB", (8, 8), "red")]).cache.shape == (2, 3, 8, 8)
    deep = cached([Image.fromarray(np.full((8, 8), 40_000, np.uint16)), picture(1)])
    assert deep.cache.dtype == np.uint16
    batch = deep.batch(np.arange(2))["image"]
    assert batch.dtype == torch.uint16
    assert batch.to(torch.int64)[:, 0, 0, 0].tolist() == [40_000, 257]


# Tables


def bytes_table(n: int = 6) -> pa.Table:
    names = [("cat", "dog")[i % 2] for i in range(n)]
    return pa.table(
        {"id": [f"p{i}" for i in range(n)], "image": [png(i) for i in range(n)], "label": names, "text": names}
    )


def test_a_parquet_table_of_encoded_images(tmp_path: Path, cached):
    pq.write_table(bytes_table(), tmp_path / "t.parquet", row_group_size=2)
    dataset = cached(tmp_path / "t.parquet", label_column="label")
    assert values(dataset) == list(range(6))
    assert dataset.ids.to_pylist() == [f"p{i}" for i in range(6)]
    assert dataset.classes == ("cat", "dog")
    assert dataset.label.tolist() == [0, 1] * 3
    assert dataset.columns is not None
    assert dataset.columns.column_names == ["id", "label", "text"]
    assert cached(tmp_path / "t.parquet").classes == ()  # unlabelled unless told


def test_shards_by_a_pattern(tmp_path: Path, cached):
    for shard in range(3):
        pq.write_table(bytes_table().slice(2 * shard, 2), tmp_path / f"train-{shard}.parquet")
    (tmp_path / "README.md").write_text("about them")
    for data in (str(tmp_path / "train-*.parquet"), tmp_path):
        assert values(cached(data)) == list(range(6))
    (tmp_path / "train-0.parquet").rename(tmp_path / "test-0.parquet")
    with pytest.raises(UserError, match=r"holds several splits: .*test\*\.parquet.*train\*\.parquet"):
        cached(tmp_path)


def test_hugging_face_structs_of_bytes_and_path(tmp_path: Path, cached):
    cells = [{"bytes": png(i), "path": f"{i}.png"} for i in range(3)] + [{"bytes": None, "path": "d.png"}]
    (tmp_path / "d.png").write_bytes(png(3))
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    dataset = cached(tmp_path / "t.parquet")
    assert values(dataset) == [0, 1, 2, 3]
    assert dataset.ids.to_pylist() == ["0.png", "1.png", "2.png", "d.png"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_of_paths_starts_from_its_own_folder(tmp_path: Path, cached, kind: str):
    root = folder(tmp_path / "pets")
    names = ["pets/cat/0.png", r"pets\dog\1.png", str(root / "cat" / "2.png")]
    table = pa.table({"path": names, "label": ["a", "b", "a"]})
    if kind == "csv":
        (tmp_path / "t.csv").write_text(
            "path;label\n" + "".join(f"{p};{c}\n" for p, c in zip(names, "aba", strict=True))
        )
    elif kind == "jsonl":
        import json

        (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    else:
        pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="two examples each"):
        cached(tmp_path / f"t.{kind}", label_column="label")
    dataset = cached(tmp_path / f"t.{kind}")
    assert values(dataset) == [0, 1, 2]
    assert dataset.columns is not None
    assert dataset.columns["label"].to_pylist() == ["a", "b", "a"]


def test_missing_files_of_a_table_are_bad_examples(tmp_path: Path, cached):
    folder(tmp_path)
    (tmp_path / "t.csv").write_text('file\ncat/0.png\nmissing.png\ndog/1.png\n""\n')
    dataset = cached(tmp_path / "t.csv", max_bad=0.6)
    assert values(dataset) == [0, 1]
    assert dataset.notes.skipped.first[0] == "missing.png: no such file or directory"


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        ({"a": [1, 2]}, {}, "no column of images: .*--image-column or --path-column.*a"),
        ({"one": [b"x", b"y"], "two": [b"x", b"y"]}, {}, "several binary columns .*--image-column"),
        ({"image": [b"x", b"y"]}, {"image_column": "picture"}, "no column 'picture'"),
        ({"image": [1, 2]}, {"image_column": "image"}, "holds int64, not encoded images"),
        ({"image": [b"x", b"y"], "audio": [b"x", b"y"]}, {}, "--kind image"),
        ({"path": ["a.wav", "b.wav"]}, {}, "no readable sound"),
        ({"path": ["a.wav", "b.png"]}, {}, "--kind image"),
        ({"image": [b"x", b"y"]}, {"label_column": "label"}, "--label-column label: .*no such column"),
        ({"image": []}, {}, "no rows"),
    ],
)
def test_tables_that_cannot_be_read_say_what_is_missing(cached, table, settings, message):
    with pytest.raises(UserError, match=message):
        cached(pa.table(table), **settings)


def test_a_damaged_parquet_file_is_named(tmp_path: Path, cached):
    pq.write_table(bytes_table(), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"t.parquet cannot be read as a table"):
        cached(tmp_path / "t.parquet")


# Arrays and objects


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw"])
def test_arrays_in_every_layout(cached, layout: str):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 9) if layout == "nhw" else (5, 8, 9, 3), dtype=np.uint8)
    given = images.transpose(0, 3, 1, 2) if layout == "nchw" else images
    dataset = cached(given, image_size=9)
    assert dataset.cache.shape == (5, 1 if layout == "nhw" else 3, 9, 9)
    from tacit.modalities.image.decode import array_to_square

    expected = np.stack([array_to_square(image, 9, dataset.spec.channels) for image in images])
    np.testing.assert_array_equal(dataset.batch(np.arange(5))["image"].numpy(), expected)


def test_npy_and_npz_files_and_their_labels(tmp_path: Path, cached):
    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "xy.npz", images=images, labels=np.array([0, 1, 0, 1, 0, 1]))
    assert values(cached(tmp_path / "x.npy")) == list(range(6))
    dataset = cached(tmp_path / "xy.npz")
    assert dataset.classes == ("0", "1")
    assert dataset.notes.labels_from == "the data themselves"
    assert dataset.ids.to_pylist() == [str(i) for i in range(6)]


def test_objects_that_would_have_to_be_unpickled_are_refused(tmp_path: Path, cached):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="without pickled objects"):
        cached(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 64), np.uint8), r"\[N H W\].*got \[4, 64\]"),
        (np.full((4, 8, 8), np.nan), "values that are no numbers"),
        ({"x": np.zeros((4, 8, 8), np.uint8), "y": np.zeros(3)}, "4 images need 4 labels"),
        ({"a": np.zeros((4, 8, 8), np.uint8), "b": np.zeros((4, 8, 8), np.uint8)}, "name the images x"),
        (np.zeros((1, 8, 8), np.uint8), "at least two"),
        (object(), "object cannot be read as data: give a folder, a file"),
        (None, "NoneType cannot be read as data"),
        (iter([1, 2]), "cannot be read as data"),
        ({1, 2}, "set cannot be read as data"),
        (io.BytesIO(b"abc"), "BytesIO cannot be read as data"),
        (np.zeros((4, 0, 8)), r"\[N H W\].*got \[4, 0, 8\]"),
        ([Image.new("L", (0, 3))] * 4, "has no pixels"),
        (np.ma.masked_array(np.ones((4, 8, 8), np.uint8), np.eye(8)[None].repeat(4, 0)), "values that are no numbers"),
        *(
            ({"x": np.zeros((4, 8, 8), np.uint8), "y": labels}, "one value for each row is expected, not a")
            for labels in ({0, 1, 2, 3}, {0: 1}, iter("abab"), 7, "abab")
        ),
    ],
)
def test_arrays_that_are_no_images_say_why(cached, data, message):
    with pytest.raises(UserError, match=message):
        cached(data)


def test_tensors_lists_and_arrow_streams(tmp_path: Path, cached):
    images = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)

    class Frame:
        """What pandas, polars and others offer to arrow."""

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return bytes_table(4).__arrow_c_stream__(requested_schema)

    class HubDataset:
        """The part of `datasets.Dataset` that is used: an arrow view, and class names apart from their numbers."""

        class _Label:
            names = ("cat", "dog")

        features = {"image": object(), "label": _Label()}  # noqa: RUF012

        def with_format(self, kind: str) -> pa.Table:
            assert kind == "arrow"
            return {slice(None): pa.table({"image": [png(i) for i in range(4)], "label": [0, 1, 0, 1]})}

    folder(tmp_path / "pets", 4)
    paths = [tmp_path / "pets" / name for name in ("cat/0.png", "dog/1.png", "cat/2.png", "dog/3.png")]
    for data in (
        torch.from_numpy(images),
        torch.from_numpy(images).to_sparse(),
        list(images),
        [picture(i) for i in range(4)],
        paths,
        Frame(),
        bytes_table(4),
    ):
        assert values(cached(data)) == [0, 1, 2, 3]


def test_pandas_and_datasets(cached):
    pandas = pytest.importorskip("pandas", reason="an optional input")
    frame = pandas.DataFrame({"image": [png(i) for i in range(4)], "label": ["a", "b", "a", None]})
    assert values(cached(frame)) == [0, 1, 2, 3]


def test_columns_of_texts_are_lists_of_texts(cached):
    pandas = pytest.importorskip("pandas", reason="an optional input")
    texts = ["some words", "and some more", "and others"]
    missing = cached([*texts * 20, ""], kind="text")
    for column in (
        pandas.Series,
        pandas.Index,
        pandas.Categorical,
        pa.array,
        np.array,
        lambda of: pa.chunked_array([of]),
    ):
        assert cached(column(texts * 20), kind="text").data_hash == cached(texts * 20, kind="text").data_hash
    for gaps in (pandas.Series([*texts * 20, None]), pa.array([*texts * 20, None])):
        assert cached(gaps, kind="text").data_hash == missing.data_hash
    with pytest.raises(UserError, match="--kind text is not read from a list"):
        cached(np.array(["words", 3], object), kind="text")


@pytest.mark.parametrize("labels", [["a", "b"], np.array(["a", "b"]), pa.array(["a"]), iter("ab"), 7, {"a": 1}])
def test_labels_in_memory_go_with_the_data(cached, labels: object):
    with pytest.raises(UserError, match=r"labels= names files, and is|a: no such file"):
        cached(np.zeros((2, 8, 8), np.uint8), labels=labels)


def test_a_lazy_pil_image_that_breaks_is_a_bad_example(cached):
    broken = Image.open(io.BytesIO(png(5)[:45]))
    dataset = cached([picture(1), broken, picture(2)], max_bad=0.5)
    assert values(dataset) == [1, 2]
    assert dataset.notes.skipped.first[0].startswith("1: ")


def test_the_built_in_digits_hide_nearly_all_labels(cached):
    digits = cached("digits")
    assert len(digits) == 1797
    assert digits.cache.shape == (1797, 1, 8, 8)
    assert digits.split is not None
    held_out = digits.split == TEST
    assert held_out.sum() == 500
    assert (digits.label[held_out] >= 0).all()
    assert np.bincount(digits.label[(digits.split == TRAIN) & (digits.label >= 0)]).tolist() == [20] * 10
    assert digits.batch(np.arange(1797))["image"].max() == 255


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 2}, "--image-size 2"),
        ({"max_bad": 1.5}, "--max-bad 1.5"),
        ({"kind": "sound"}, "--kind sound"),
        ({"labels": "folders", "label_column": "x"}, "exclude each other"),
        ({"labels": "nowhere.csv"}, "nowhere.csv: no such file"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, cached, settings, message):
    with pytest.raises(UserError, match=message):
        cached(folder(tmp_path / "pets"), **settings)


def test_folders_without_images_say_so(tmp_path: Path, cached):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no image files .*jpg"):
        cached(tmp_path / "empty")
    (tmp_path / "empty" / "one.png").write_bytes(png(1))
    with pytest.raises(UserError, match="one example"):
        cached(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file or folder"):
        cached(tmp_path / "nothing")
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(UserError, match="give a folder, or a file of"):
        cached(tmp_path / "x.xlsx")


def test_nothing_readable_is_an_error(tmp_path: Path, cached):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(UserError, match="no readable image"):
        cached(tmp_path)


def test_two_kinds_in_a_folder_need_a_word(tmp_path: Path, cached):
    root = folder(tmp_path / "pets")
    (root / "dog" / "bark.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"6 of image and 1 of audio.*--kind image"):
        cached(root)
    assert len(cached(root, kind="image")) == 6


def test_a_readme_among_many_images_is_no_second_kind(tmp_path: Path, cached):
    root = folder(tmp_path / "pets", 120)
    (root / "README.txt").write_text("about")
    assert len(cached(root)) == 120


def test_two_runs_at_once_decode_once(tmp_path: Path, cached):
    from concurrent.futures import ThreadPoolExecutor

    root = folder(tmp_path / "pets")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(cached, [root, root])
    assert values(first) == values(second) == [0, 2, 4, 1, 3, 5]
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 1


@pytest.mark.parametrize(("pages", "refused"), [(1, True), (2, True), (9, False)])
def test_pages_about_tables_are_no_texts(tmp_path: Path, pages: int, refused: bool) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\na dog,1\na cat,2\n")
    for number in range(pages):
        (tmp_path / f"card{number}.md").write_text("About these tables.")
    if refused:
        with pytest.raises(UserError, match=r"holds tables \(test\.csv, train\.csv\): name one of them"):
            open_source(tmp_path)
    else:
        assert len(open_source(tmp_path)) == pages
