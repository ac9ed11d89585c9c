"""Tar shards, and tables and shards behind URLs: what is in them, read where it lies; and what a hostile one tries."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tacit.core.errors import UserError
from tacit.data import places, shards
from tacit.dataset import Dataset, Settings, open_source
from tests.sounding import encoded, heard, noise


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar(*members: tuple[str, bytes | tarfile.TarInfo], format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as file:
        for name, data in members:
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if isinstance(data, tarfile.TarInfo) else len(data)
            file.addfile(info, None if isinstance(data, tarfile.TarInfo) else io.BytesIO(data))
    return buffer.getvalue()


def examples(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    """An image of its number's grey, a class, and words of two kinds."""
    members = []
    for i in numbers:
        said = {"site": ["A", "B"][i % 3 > 0], "age": i, **({"odd": "x"} if i % 2 else {})}
        members += [
            (f"{i:06d}.cls", f"{i % 2}\n".encode()),
            (f"{i:06d}.json", json.dumps(said).encode()),
            (f"{i:06d}.png", png(i)),
            (f"{i:06d}.txt", f"a caption of {i}".encode()),
        ]
    return members


def folder(root: Path, n: int = 9, each: int = 4) -> Path:
    root.mkdir()
    for shard in range(-(-n // each)):
        members = examples(range(shard * each, min(n, (shard + 1) * each)))
        (root / f"train-{shard:05d}.tar").write_bytes(tar(*members))
    return root


def values(dataset: Dataset) -> list[int]:
    return dataset.batch(np.arange(len(dataset)))["image"][:, 0, 0, 0].tolist()


def test_shards_hold_images_and_what_is_said_of_them(tmp_path: Path, cached) -> None:
    root = folder(tmp_path / "shards")
    for data in (root, str(root / "train-*.tar")):
        dataset = cached(data, label_column="cls", group_column="site")
        assert dataset.ids.to_pylist() == [f"train-{i // 4:05d}.tar/{i:06d}.png" for i in range(9)]
        assert values(dataset) == list(range(9))
        assert dataset.classes == ("0", "1")
        assert dataset.label.tolist() == [i % 2 for i in range(9)]
        assert dataset.columns is not None
        assert dataset.columns["age"].to_pylist() == list(range(9))
        assert dataset.columns["odd"].to_pylist() == [None, "x"] * 4 + [None]
        assert dataset.columns["txt"].to_pylist() == [f"a caption of {i}" for i in range(9)]
    assert cached(root).classes == ()  # unlabelled unless told
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{i:06d}.png,{'ab'[i % 2]}\n" for i in range(9)))
    assert cached(root, labels=str(tmp_path / "l.csv")).classes == ("a", "b")


def test_one_shard_with_class_folders(tmp_path: Path, cached) -> None:
    (tmp_path / "pets.tar").write_bytes(tar(*((f"{['cat', 'dog'][i % 2]}/{i}.png", png(i)) for i in range(6))))
    dataset = cached(tmp_path / "pets.tar", labels="folders")
    assert dataset.classes == ("cat", "dog")
    assert dataset.ids.to_pylist()[:2] == ["cat/0.png", "dog/1.png"]


def test_sounds_and_texts_in_shards(tmp_path: Path, cached) -> None:
    members = [
        (f"{i}.{e}", encoded(noise(i)) if e == "wav" else b'{"start": 0.1}') for i in range(3) for e in ("json", "wav")
    ]
    (tmp_path / "sounds.tar").write_bytes(tar(*members))
    assert heard(cached(tmp_path / "sounds.tar")) == [noise(i).tolist() for i in range(3)]
    cut = cached(tmp_path / "sounds.tar", start_column="start")
    assert heard(cut) == [noise(i)[800:].tolist() for i in range(3)]
    texts = [(f"{i}.txt", f"the words of text number {i}".encode()) for i in range(40)]
    (tmp_path / "texts.tar").write_bytes(tar(*texts))
    dataset = cached(tmp_path / "texts.tar")
    assert (dataset.kind, len(dataset)) == ("text", 40)
    with pytest.raises(UserError, match="holds no image members"):
        cached(tmp_path / "texts.tar", kind="image")


ONE, TWO = "1.2.840.113619.2.55.3", "1.2.840.113619.2.55.4"
NAMES: dict[str, tuple[list[str], list[str]]] = {  # members, and those of them that are examples
    "numbers as hospitals give them": ([f"{ONE}.{i}.png" for i in range(15)], [f"{ONE}.{i}.png" for i in range(15)]),
    "of two series": ([f"{ONE}.png", f"{TWO}.png"], [f"{ONE}.png", f"{TWO}.png"]),
    "a number that begins another": (["1.png", "1.2.png", "1.2.3.png"], ["1.png", "1.2.png", "1.2.3.png"]),
    "class and number": ([f"cat.{i}.png" for i in range(3)] + ["dog.0.png"],) * 2,
    "counted": (["img.001.png", "img.002.png"],) * 2,
    "days": (["cam.2024-05-01.png", "cam.2024-05-02.png"],) * 2,
    "hashes": (["x.3fa9.png", "x.77bd.png"],) * 2,
    "twice the same": (["a.png", "a.png"],) * 2,
    "letters": (["scan.a.png", "scan.b.png", "scan.c.png"],) * 2,
    "folders": (["p.1/0.png", "p.1/1.png", "p.2/0.png"],) * 2,
    "a mask": (["0.png", "0.mask.png", "1.png", "1.mask.png"], ["0.png", "1.png"]),
    "a mask that comes first": (["0.depth.png", "0.png", "1.depth.png", "1.png"], ["0.png", "1.png"]),
    "other endings": (["0.jpg.png", "1.jpg.png"],) * 2,
    "capitals": (["A.1.PNG", "A.2.PNG"],) * 2,
}


@pytest.mark.parametrize("name", NAMES)
def test_members_that_share_a_part_of_their_name_are_not_taken_for_one(tmp_path: Path, cached, name: str) -> None:
    members, right = NAMES[name]
    (tmp_path / "x.tar").write_bytes(tar(*((member, png(i)) for i, member in enumerate(members))))
    dataset = cached(tmp_path / "x.tar")
    assert dataset.ids.to_pylist() == right
    left = [line.partition(":")[0] for line in dataset.notes.left_aside.first]
    assert sorted([*right, *(of.removeprefix("x.tar/") for of in left)]) == sorted(members)


def test_what_is_said_of_members_with_points_goes_with_each(tmp_path: Path, cached) -> None:
    members = []
    for i in range(6):
        members += [(f"{ONE}.{i}.cls", f"{i % 2}".encode()), (f"{ONE}.{i}.json", b'{"n": %d}' % i)]
        members += [(f"{ONE}.{i}.png", png(i))]
    members += [(f"{ONE}.9.cls", b"7"), ("z.cls", b"8")]
    (tmp_path / "x.tar").write_bytes(tar(*members))
    dataset = cached(tmp_path / "x.tar", label_column="cls")
    assert values(dataset) == list(range(6))
    assert dataset.label.tolist() == [0, 1] * 3
    assert dataset.columns["n"].to_pylist() == list(range(6))
    assert dataset.notes.left_aside.first == ("x.tar/z.cls: no content lies beside it",)


def test_views_of_one_thing_stand_for_themselves_and_stay_together(tmp_path: Path, cached) -> None:
    members = []
    for i in range(12):
        members += [(f"{i:02d}.cls", f"{i % 2}".encode()), (f"{i:02d}.left.png", png(2 * i))]
        members += [(f"{i:02d}.right.png", png(2 * i + 1))]
    (tmp_path / "x.tar").write_bytes(tar(*members))
    dataset = cached(tmp_path / "x.tar", label_column="cls")
    assert values(dataset) == list(range(24))
    assert dataset.label.tolist() == [0, 0, 1, 1] * 6
    assert dataset.group is not None
    assert (np.diff(dataset.group.reshape(12, 2)) == 0).all()
    assert len(np.unique(dataset.group)) == 12
    assert "24 examples are one of several of their sample, and each stands for itself" in dataset.notes.lines()


def test_the_list_of_members_is_kept_and_follows_the_shard(tmp_path: Path, cached, monkeypatch) -> None:
    root = folder(tmp_path / "shards")
    before = cached(root)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "index_of", lambda *_: pytest.fail("read again"))
        assert cached(root).data_hash == before.data_hash
        assert values(cached(root, image_size=4)) == values(before)  # decoded anew by the kept index
    for path in (tmp_path / "cache" / "listings").glob("*.members.parquet"):
        path.write_bytes(b"damaged")
    assert cached(root, image_size=5).ids == before.ids
    (root / "train-00000.tar").write_bytes(tar(*examples(range(20, 23))))
    assert values(cached(root)) == [20, 21, 22, *range(4, 9)]


def test_any_content_can_be_read_by_itself(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path / "shards"), root=tmp_path / "cache")
    everything = list(source.items())
    assert everything == [png(i) for i in range(9)]
    assert source.sample(3) == [everything[0], everything[4], everything[8]]


def test_splits_of_shards_are_not_mixed(tmp_path: Path, cached) -> None:
    root = folder(tmp_path / "shards", 10)
    (root / "train-00002.tar").rename(root / "test-00002.tar")
    with pytest.raises(UserError, match=r"several splits: .*test\*\.tar.*train\*\.tar"):
        cached(root)
    assert len(cached(str(root / "train-*.tar"), test=str(root / "test-00002.tar"), max_bad=0)) == 10


def test_compressed_shards_are_refused(tmp_path: Path, cached) -> None:
    for name in ("a.tar.gz", "a.tgz"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match=r"is compressed.*unpack it to a \.tar"):
            cached(tmp_path / name)


# ---------------------------------------------------------------- hostile shards


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def named(name: str, info: tarfile.TarInfo) -> tuple[str, tarfile.TarInfo]:
    info.name = name
    return name, info


def test_names_links_and_devices_lead_nowhere(tmp_path: Path, cached) -> None:
    (tmp_path / "secret.png").write_bytes(png(99))
    good = ["../../escape.png", "/elsewhere/absolute.png", "plain.png", "=cmd|' /C calc'!A0.png", "b\udcff.png"]
    members: list[tuple[str, Any]] = [(name, png(i)) for i, name in enumerate(good)]
    members += [
        named("link.png", special(tarfile.SYMTYPE, str(tmp_path / "secret.png"))),
        named("hard.png", special(tarfile.LNKTYPE, "../secret.png")),
        named("pipe.png", special(tarfile.FIFOTYPE)),
        named("device.png", special(tarfile.CHRTYPE)),
        ("._plain.png", b"a Mac's"),
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.tar").write_bytes(tar(*members, format=tarfile.GNU_FORMAT))
    before = sorted(tmp_path.rglob("*"))
    dataset = cached(tmp_path / "data" / "x.tar")
    assert values(dataset) == list(range(5))
    assert dataset.ids.to_pylist() == [*good[:4], "b\ufffd.png"]
    said = dict(line.split(": ") for line in dataset.notes.left_aside.first)
    assert said == {
        "x.tar/link.png": "a link",
        "x.tar/hard.png": "a link",
        "x.tar/pipe.png": "no plain file",
        "x.tar/device.png": "no plain file",
    }
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


def broken(kind: str) -> bytes:
    """Three images, then something that is not as it says."""
    good = tar(*examples(range(3))).rstrip(b"\0")
    good += bytes(-len(good) % 512)
    header = tarfile.TarInfo("9.png")
    if kind == "endless":
        header.size = 1 << 40
    elif kind == "back":
        header.pax_headers = {"size": "-4096"}
        return good + header.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    elif kind == "sparse":
        header.size = 512
        header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
        return good + header.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n1099511627776\n".ljust(512, b"\0") + bytes(1024)
    data = header.tobuf(tarfile.GNU_FORMAT)
    return good + (b"\xff" * 512 if kind == "noise" else data) + bytes(1024)


@pytest.mark.parametrize("kind", ["endless", "back", "noise", "sparse"])
def test_a_shard_that_lies_keeps_what_came_before_and_says_so(tmp_path: Path, cached, kind: str) -> None:
    (tmp_path / "x.tar").write_bytes(broken(kind))
    dataset = cached(tmp_path / "x.tar")
    assert values(dataset) == [0, 1, 2]
    assert dataset.notes.left_aside.count == 1, dataset.notes
    assert dataset.notes.left_aside.first[0].startswith("x.tar/")


def test_what_is_no_tar_file_is_named(tmp_path: Path, cached) -> None:
    for data in (b"", b"I am a text" * 100, png(3)):
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(UserError, match=r"x\.tar (cannot be read as a tar file|holds no image members)"):
            cached(tmp_path / "x.tar")


def test_words_beside_an_image_are_bounded(tmp_path: Path, cached) -> None:
    deep = b"[" * 100_000
    many = json.dumps({f"key {i}": i for i in range(1000)} | {"__name__": "mine"}).encode()
    members = [("0.json", deep), ("0.png", png(0)), ("1.json", many), ("1.png", png(1)), ("1.txt", b"x" * (1 << 17))]
    (tmp_path / "x.tar").write_bytes(tar(*members))
    dataset = cached(tmp_path / "x.tar")
    assert values(dataset) == [0, 1]
    assert dataset.columns is not None
    assert dataset.columns.column_names == [f"key {i}" for i in range(100)]
    assert dataset.ids.to_pylist() == ["0.png", "1.png"]


MEMORY = """
import re, sys
from pathlib import Path
from tacit.dataset import open_source
def memory():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
open_source(sys.argv[1], root=Path(sys.argv[3]))
before = memory()
source = open_source(sys.argv[2], root=Path(sys.argv[3]))
print(len(source), memory() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_listing_a_shard_holds_little_of_each_member(tmp_path: Path) -> None:
    small, large = 2_000, 14_000
    header, data = tarfile.TarInfo(), png(0)
    for n in (small, large):
        with (tmp_path / f"{n}.tar").open("wb") as file:
            for i in range(n):
                header.name, header.size = f"{i:08d}.png", len(data)
                file.write(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))
            file.write(bytes(1024))
    words = [
        sys.executable,
        "-c",
        MEMORY,
        *(str(tmp_path / name) for name in (f"{small}.tar", f"{large}.tar", "cache")),
    ]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ).stdout.split()
    assert int(said[0]) == large
    assert int(said[1]) < 900 * (large - small)  # what tarfile itself remembers of a member takes more than a kilobyte


# ---------------------------------------------------------------- behind URLs


@pytest.fixture
def bucket() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_shards_and_tables_behind_an_url(cached, bucket: Any) -> None:
    for shard in range(2):
        bucket.pipe(f"/bucket/tars/train-{shard}.tar", tar(*examples(range(shard * 3, shard * 3 + 3))))
        table = pa.table(
            {"image": [png(i) for i in range(shard * 3, shard * 3 + 3)], "id": [f"{shard}-{i}" for i in "abc"]}
        )
        with bucket.open(f"/bucket/tables/train-{shard}.parquet", "wb") as file:
            pq.write_table(table, file)
    for url in ("memory://bucket/tars", "memory://bucket/tars/*.tar", "memory://bucket/tables/train-*.parquet"):
        assert values(cached(url)) == list(range(6))
    assert cached("memory://bucket/tars", label_column="cls").classes == ("0", "1")
    assert cached("memory://bucket/tars/train-1.tar").ids.to_pylist() == [f"{i:06d}.png" for i in (3, 4, 5)]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_texts_and_events_behind_an_url(cached, bucket: Any, name: str) -> None:
    rows = [{"user": f"u{i % 3}", "item": f"i{i % 5}", "timestamp": 1_600_000_000 + i} for i in range(30)]
    texts = [{"text": f"words of text number {i}"} for i in range(30)]
    for data, kind in ((rows, "items"), (texts, "text")):
        lines = (
            [json.dumps(row) for row in data]
            if name.endswith("l")
            else [",".join(map(str, row.values())) for row in data]
        )
        head = [] if name.endswith("l") else [",".join(data[0])]
        bucket.pipe(f"/bucket/{name}", "\n".join([*head, *lines, ""]).encode())
        assert cached(f"memory://bucket/{name}").kind == kind


def test_paths_in_a_table_behind_an_url_open_nothing(tmp_path: Path, cached, bucket: Any) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    bucket.pipe("/bucket/t.csv", f"path\n{tmp_path / 'secret.png'}\nmemory://bucket/x.png\n".encode())
    with pytest.raises(UserError, match="no readable image"):
        cached("memory://bucket/t.csv", max_bad=1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none.tar", r"memory://bucket/none\.tar cannot be reached .*check the address"),
        ("memory://bucket/none-*.tar", r"holds no .*\.tar"),
        ("nowhere://bucket/x.tar", r"nowhere://bucket/x\.tar cannot be reached .*Protocol not known"),
        ("http://me:secret@localhost:9/x.tar?key=secret", r"http://localhost:9/x\.tar cannot be reached"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_named_without_secrets(cached, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        cached(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError) as caught, places.reaching("a place"):
        raise FileNotFoundError(f"nothing at '{url}' or {url}")
    assert "secret" not in str(caught.value)


def test_a_system_that_needs_a_package_names_the_extra(cached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"needs a package .* pip install 'tacit-learn\[s3\]'"):
        cached("s3://bucket/x.tar")


def test_what_changes_behind_an_url_is_read_again(cached, bucket: Any) -> None:
    bucket.pipe("/bucket/x.tar", tar(*examples(range(3))))
    assert values(cached("memory://bucket/x.tar")) == [0, 1, 2]
    bucket.pipe("/bucket/x.tar", tar(*examples(range(5, 8))))
    assert values(cached("memory://bucket/x.tar")) == [5, 6, 7]
    assert len(places.stamp_of(places.find("memory://bucket/x.tar", frozenset([".tar"]))[0])) > 20


def test_members_that_are_not_read_are_counted(tmp_path: Path, cached) -> None:
    members = [(f"{i:03d}.png", png(i)) for i in range(4)] + [(f"{i:03d}.npy", b"depth") for i in range(4)]
    members += [(f"x{i}.webm", b"film") for i in range(3)] + [
        ("y.txt", b"a caption"),
        ("z.mp3", b"sound"),
        ("none", b""),
    ]
    path = tmp_path / "a.tar"
    path.write_bytes(tar(*sorted(members)))
    told, count = open_source(str(path), Settings.of(kind="image")).left_aside()
    kinds = {".npy": 4, ".webm": 3, ".txt": 1, ".mp3": 1, "no ending": 1}
    assert sorted(told) == sorted(f"{n} file{'s' * (n > 1)} of {of}: not read as image" for of, n in kinds.items())
    assert count == 10
