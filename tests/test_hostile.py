"""Files made to do harm: paths that lead away, bombs, code, formulas. Each is refused by name, or does nothing.

Elsewhere: decoders that crash, hang, swell or talk, and images too large (test_data_decode), pickles in checkpoints
(test_checkpoint) and encoders (test_encoders), links in a folder (test_data_open), what a page shows (test_report),
members of tar files (test_shards).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tacit.core import archives
from tacit.core.errors import UserError
from tacit.core.records import read_record, write_record
from tacit.data import delimited, text
from tacit.data.embeddings import read_vectors
from tacit.data.labels import read_labels
from tacit.encoders import build_encoder, load_encoder, save_encoder
from tacit.experiment.folder import settings_of
from tacit.modalities.audio import decode as sounds
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.events.catalogue import Catalogue
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.image import decode
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.series.spec import SeriesSpec
from tests import texts
from tests.sounding import RATE, encoded, noise
from tests.test_encoders import hugging_face_folder

SOURCE = Path(text.__file__).parents[1]


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)
    return path


# ---------------------------------------------------------------- paths in tables


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_reads_no_file_outside_its_folder(tmp_path: Path, cached, suffix: str) -> None:
    root = tmp_path / "data"
    secret = picture(tmp_path / "secret.png", 99)
    names = [f"in/{picture(root / 'in' / f'{i}.png', i).name}" for i in range(3)]
    away = [
        "../secret.png",
        "in/../../secret.png",
        r"..\secret.png",
        secret.as_posix(),
        "link.png",
        "linked/secret.png",
    ]
    try:
        (root / "link.png").symlink_to(secret)
        (root / "linked").symlink_to(tmp_path)
    except OSError:
        pytest.skip("this system lets nobody make links")
    table = pa.table({"path": [*names, *away]})
    if suffix == "csv":
        text.write_csv(table, root / "t.csv")
    else:
        pq.write_table(table, root / "t.parquet")
    dataset = cached(root / f"t.{suffix}", max_bad=0.7)
    assert dataset.ids.to_pylist() == names
    why = "leads out of the table's folder; put the table beside or above its files"
    assert dataset.notes.skipped.first == tuple(f"{name.replace(chr(92), '/')}: {why}" for name in away)


def test_stretches_of_sounds_outside_are_not_heard(tmp_path: Path, cached) -> None:
    (tmp_path / "data").mkdir()
    for name in ("secret.wav", "data/0.wav", "data/1.wav"):
        (tmp_path / name).write_bytes(encoded(noise(1, 1.0)))
    (tmp_path / "data" / "t.csv").write_text("path,start,end\n0.wav,0,0.5\n1.wav,0,0.5\n../secret.wav,0,0.5\n")
    dataset = cached(tmp_path / "data" / "t.csv", max_bad=0.5)
    assert dataset.ids.to_pylist() == ["0.wav#0-0.5", "1.wav#0-0.5"]
    assert "leads out of the table's folder" in dataset.notes.skipped.first[0]


def test_a_saved_data_set_reads_no_file_outside_its_folder(tmp_path: Path, cached) -> None:
    root = tmp_path / "saved"
    cells = [{"bytes": None, "path": name} for name in ("0.png", "1.png", str(picture(tmp_path / "secret.png")))]
    for i in range(2):
        picture(root / f"{i}.png", i)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(cells, kind)})
    with pa.ipc.new_stream(root / "data.arrow", table.schema) as file:
        file.write_table(table)
    (root / "dataset_info.json").write_text(json.dumps({"features": {}}))
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    assert cached(root, max_bad=0.5).ids.to_pylist() == ["0.png", "1.png"]
    (root / "data.arrow").rename(tmp_path / "data.arrow")
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../data.arrow"}]}))
    with pytest.raises(UserError, match=r"saved/data\.arrow cannot be read"):
        cached(root)


def test_what_a_person_names_may_lie_anywhere(tmp_path: Path, cached) -> None:
    paths = [str(picture(tmp_path / name / "x.png", i)) for i, name in enumerate("ab")]
    for data in (paths, pa.table({"path": paths})):
        assert len(cached(data)) == 2


# ---------------------------------------------------------------- formulas


CELLS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "＝1", "'=1", "''-x", "-1", "+.5e3", "-", "", "cat", "a=b"]


@given(st.lists(st.text("=+-@\t\r'1.e xa＝", max_size=6), min_size=1))
@example(CELLS)
def test_no_cell_that_is_written_is_run_and_each_is_read_as_it_was(cells: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        text.write_csv(pa.table({"=file": cells, "number": np.full(len(cells), -1.5)}), path)
        shown = delimited.read_csv(path)
        for cell in [*shown.column_names, *shown.column(0).to_pylist()]:
            assert not cell.startswith(("=", "@", "\t", "\r", "＝")), cell
            assert not cell.startswith(("+", "-")) or float(cell) is not None
        assert shown["number"].to_pylist() == ["-1.5"] * len(cells)
        assert read_labels([path])[path]["=file"].to_pylist() == cells


def test_a_file_named_like_a_formula_keeps_its_label(tmp_path: Path, cached) -> None:
    names = [picture(tmp_path / "data" / f"={i}.png", i).name for i in range(4)]
    label = ["-1", "+x", "-1", "+x"]
    text.write_csv(pa.table({"file": names, "label": label}), tmp_path / "l.csv")
    assert "'=0.png" in (tmp_path / "l.csv").read_text()
    dataset = cached(tmp_path / "data", labels=str(tmp_path / "l.csv"))
    assert [dataset.classes[number] for number in dataset.label] == label


def test_nothing_writes_a_table_of_text_by_another_way() -> None:
    ways = re.compile(r"\.to_csv\(|csv\.write_csv\(|csv\.writer\(|DictWriter\(")
    found = {
        file.relative_to(SOURCE).as_posix(): ways.findall(file.read_text("utf-8")) for file in SOURCE.rglob("*.py")
    }
    assert {name: calls for name, calls in found.items() if calls} == {"data/text.py": ["csv.write_csv("]}


# ---------------------------------------------------------------- bombs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte is much."""
    monkeypatch.setattr(text, "_UNPACKED_ALWAYS", 1 << 20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "head", "line", "settings"),
    [
        ("t.csv.gz", b"text\n", b"a a a a\n", {}),
        ("t.csv.gz", b"user,item\n", b"1,1\n", {"kind": "items"}),
        ("t.jsonl.gz", b"", b'{"text": "a a"}\n', {}),
        ("t.jsonl.gz", b"", b'{"path": "a.png"}\n', {}),
        ("t.txt.gz", b"", b"a a a a\n", {}),
    ],
)
def test_a_gzip_bomb_is_refused(
    tmp_path: Path, cached, name: str, head: bytes, line: bytes, settings: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(head + line * ((4 << 20) // len(line))))
    with pytest.raises(UserError, match="unpacks to more than 250 times its size"):
        cached(tmp_path / name, **settings)


@pytest.mark.usefixtures("small")
def test_a_gzip_bomb_among_texts_is_skipped_and_one_as_labels_refused(tmp_path: Path, cached) -> None:
    (tmp_path / "data").mkdir()
    for i in range(3):
        (tmp_path / "data" / f"{i}.txt").write_text(f"words of number {i} and some more")
    (tmp_path / "data" / "bomb.txt.gz").write_bytes(gzip.compress(b"a a " * (1 << 20)))
    dataset = cached(tmp_path / "data", max_bad=0.5)
    assert dataset.notes.skipped.first == ("bomb.txt.gz: unpacks to more than 250 times its size, as a bomb does",)
    (tmp_path / "l.csv.gz").write_bytes(gzip.compress(b"file,label\n" * (1 << 19)))
    with pytest.raises(UserError, match="unpacks to more than 250 times"):
        cached(tmp_path / "data", labels=str(tmp_path / "l.csv.gz"))


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy(shape: str, data: bytes = b"", dtype: str = "|u1") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data


@pytest.mark.parametrize("name", ["x", "embedding"])
def test_arrays_larger_than_memory_are_refused(tmp_path: Path, cached, name: str, monkeypatch) -> None:
    read = {"x": cached, "embedding": read_vectors}[name]
    endless = npz(tmp_path / "endless.npz", **{name: npy("(1000000000000000, 8, 8)")})
    with pytest.raises(UserError, match=r"endless\.npz.*(more memory than there is|cannot be read)"):
        read(endless)
    monkeypatch.setattr(archives.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    bomb = npz(tmp_path / "bomb.npz", **{name: npy("(32768, 8, 8)", bytes(2 << 20))})
    assert bomb.stat().st_size < 1 << 13
    with pytest.raises(UserError, match=r"bomb\.npz.*arrays take 0\.0 GB, and 0\.0 GB of memory are free"):
        read(bomb)


def test_objects_in_an_archive_are_not_unpickled_and_names_lead_nowhere(tmp_path: Path, cached) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}, None], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"without pickled objects"):
        cached(tmp_path / "objects.npz")
    np.savez(tmp_path / "objects.npz", embedding=np.array([[1, None], [2, None]], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"'embedding' holds objects of mixed types"):
        read_vectors(tmp_path / "objects.npz")
    images = npy("(3, 8, 8)", bytes(192))
    (tmp_path / "in").mkdir()
    npz(tmp_path / "in" / "x.npz", x=images, **{"../y": images})
    assert len(cached(tmp_path / "in" / "x.npz")) == 3
    written = [path for path in tmp_path.rglob("*") if "cache" not in path.parts]
    assert {path.name for path in written} == {"objects.npz", "in", "x.npz"}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_an_image_that_claims_to_be_huge_or_hides_a_long_text_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    good = buffer.getvalue()
    huge = good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)) + good[33:]
    hidden = good[:33] + chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(80 << 20), 9)) + good[33:]
    for data, reason in ((huge, "megapixels"), (hidden, "too large")):
        assert len(data) < 100_000
        with pytest.raises(ValueError, match=reason):
            decode.decode(data, 8, 1)


def test_a_sound_that_claims_to_last_for_hours_is_refused_or_as_long_as_it_is(tmp_path: Path, cached) -> None:
    good, silence = noise(1, 1.0), np.zeros(2 * 3600 * 1000, np.int16)
    flac = bytearray(encoded(good, format="FLAC"))
    flac[21:26] = bytes([flac[21] & 0xF0]) + (20 * 3600 * RATE).to_bytes(4, "big")  # STREAMINFO's number of samples
    tiny = encoded(silence, 1000, format="FLAC")
    assert len(tiny) < silence.nbytes / 500
    wav = bytearray(encoded(good))
    wav[40:44] = struct.pack("<I", 2 * 10 * 3600 * RATE)
    (tmp_path / "data").mkdir()
    for name, data in {"a.wav": encoded(good), "b.wav": wav, "liar.flac": flac, "tiny.flac": tiny}.items():
        (tmp_path / "data" / name).write_bytes(data)
    dataset = cached(tmp_path / "data", max_bad=0.5)
    assert dataset.ids.to_pylist() == ["a.wav", "b.wav"]
    assert dataset.cache.lengths.tolist() == [RATE, RATE]
    said = dict(line.split(": ", 1) for line in dataset.notes.skipped.first)
    assert "bytes are 20.0 hours of sound" in said["liar.flac"]
    assert "bytes are 2.0 hours of sound" in said["tiny.flac"]
    assert sounds.header(tmp_path / "data" / "tiny.flac").seconds == 7200


def test_an_hour_of_digital_silence_is_still_a_sound() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(3600 * 1000, np.int16), 1000, format="FLAC")
    assert sum(map(len, sounds.blocks(buffer.getvalue(), 4000))) == 3600 * 4000  # at that rate


# ---------------------------------------------------------------- code, and files that encoders name


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_code_beside_an_encoder_is_not_run(tmp_path: Path, kind: str) -> None:
    """Of a known architecture, so that the encoder itself opens: its own code is not even imported."""
    made = hugging_face_folder(kind, tmp_path) if kind == "vit" else texts.folder_of(kind, tmp_path)
    folder = Path(made.removeprefix("hf:"))
    evil = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(evil)!r}, 'w').close()\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        said = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        roles = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer", "AutoImageProcessor")
        said["auto_map"] = dict.fromkeys(roles, "evil.Evil")
        (folder / name).write_text(json.dumps(said))
    assert load_encoder(f"hf:{folder}").dim > 0
    assert not evil.exists()


def test_an_encoder_names_no_file_outside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_encoder(build_encoder("convnet", ImageSpec(8, 1, (0.3,), (0.25,)), width=8), folder)
    said = json.loads((folder / "encoder.json").read_text())
    (tmp_path / "secret").write_text("secret")
    for name in ("../secret", str(tmp_path / "secret")):
        (folder / "encoder.json").write_text(json.dumps({**said, "sha256": None, "weights": {name: "0" * 64}}))
        with pytest.raises(UserError, match=r"encoder\.json names .*secret, which is no file of its folder"):
            load_encoder(folder)


# ---------------------------------------------------------------- what grows when it is read


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{of}'] * 9)}]\n" for of, name in zip("abcdefgh", "bcdefghi", strict=True)
)
GROWING = {
    "aliases": LAUGHS,
    "an anchor alone": "data: &x digits\n",
    "an alias as a key": "a: &x 1\n*x : 2\n",
    "depth": "data: " + "[" * 5000 + "]" * 5000,
    "depth in blocks": "".join(" " * i + "a:\n" for i in range(300)),
    "megabytes": "data: '" + "x" * (2 << 20) + "'",
    "a tag that makes objects": "data: !!python/object/apply:os.system ['true']",
    "no yaml": "{",
    "a merge of a merge": "a: &a {x: 1}\nb: {<<: *a}\n",
    "control characters": "data: \0",
}


@pytest.mark.parametrize("text", GROWING.values(), ids=GROWING)
def test_settings_that_grow_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tacit import cli
    from tacit.core.plain_yaml import plain_yaml

    with pytest.raises(ValueError, match=r"."):
        plain_yaml(text)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        cli.main(["pretrain", "digits", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(UserError, match=r"config\.yaml"):
        settings_of(tmp_path)


def test_settings_written_out_are_read() -> None:
    from tacit.core.plain_yaml import plain_yaml

    assert plain_yaml("data: digits\nlabels: [a, b]\nseed: 1\nnote: 'a & b * c'") == {
        "data": "digits",
        "labels": ["a", "b"],
        "seed": 1,
        "note": "a & b * c",
    }


def repeated(path: Path, column: str, cell: str | bytes, rows: int, **others: Any) -> Path:
    """A table of one cell that stands in every row, written once."""
    kind = pa.binary() if isinstance(cell, bytes) else pa.string()
    cells = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([cell], kind))
    pq.write_table(pa.table({**others, column: cells.cast(kind)}), path, compression="zstd")
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.parametrize("what", ["text", "label", "note", "user", "group"])
def test_a_parquet_bomb_is_refused(what: str, tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch) -> None:
    from tacit.data import unpacking

    monkeypatch.setattr(unpacking, "_ALWAYS", 1 << 20)
    monkeypatch.setattr(unpacking, "_TIMES", 100)
    path, long, rows = tmp_path / "bomb.parquet", "a b " * 2000, 3000
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    others: dict[str, dict[str, Any]] = {
        "text": {},
        "label": {"file": pa.array([f"{i}.png" for i in range(rows)])},
        "note": {"image": pa.array([buffer.getvalue()] * rows, pa.binary())},
        "user": {"item": np.arange(rows) % 7, "timestamp": np.arange(rows)},
        "group": {"embedding": pa.array([[0.0, 1.0]] * rows)},
    }
    repeated(path, what, long, rows, **others[what])
    read = {
        "label": lambda: cached("digits", labels=str(path)),
        "group": lambda: read_vectors(path, ["group"]),
    }.get(what, lambda: cached(path))
    with pytest.raises(UserError, match=r"bomb\.parquet cannot be read.* unpacks to more than 100 times its size"):
        read()


def test_a_parquet_file_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tacit.data import unpacking

    monkeypatch.setattr(unpacking.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 16))
    path = repeated(tmp_path / "bomb.parquet", "label", "x" * 100, 3000)
    with pytest.raises(UserError, match=r"take more than the 0\.0 GB of memory that are free"):
        read_labels([path])


def test_a_parquet_file_is_read_as_it_is(tmp_path: Path) -> None:
    from tacit.data.unpacking import read_columns

    table = pa.table(
        {
            "n": np.arange(9000),
            "word": pa.array(["a", "b", None] * 3000).dictionary_encode(),
            "of": pa.array([[1, 2], None, []] * 3000),
            "cell": pa.array([{"bytes": b"x", "path": "y"}, None, {"bytes": None, "path": "z"}] * 3000),
        }
    ).replace_schema_metadata({"told": "so"})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2000)
    pq.write_table(table[:0], tmp_path / "none.parquet")
    for name, whole in (("t.parquet", table), ("none.parquet", table[:0])):
        file = pq.ParquetFile(tmp_path / name)
        for columns in (None, ["n", "cell"], ["cell.path"]):
            found = read_columns(file, tmp_path / name, columns)
            assert found.to_pydict() == file.read(columns).to_pydict()
            assert found.num_rows == len(whole)
            assert found.schema.metadata[b"told"] == b"so"


def test_likeness_is_sought_among_few_and_short_names() -> None:
    from tacit.core.errors import nearest

    assert nearest("simclt", ["rotation", "simclr"]) == "; did you mean 'simclr'?"
    assert nearest("x" * 1_000_000, (f"{'x' * 99_999}{i}" for i in range(10**9))) == ""


def test_numbers_beyond_reason_are_names(cached) -> None:
    large = [4_000_000_000, 2**62, -(2**62)]
    rows = range(90)
    events = {"user": [large[i % 2] + i % 9 for i in rows], "item": [2**63 - 1 - i % 7 for i in rows]}
    dataset = cached(pa.table({**events, "timestamp": [2**62 + i for i in rows]}))
    assert (dataset.spec.items, len(dataset)) == (7, 18)
    x = np.arange(60, dtype=np.uint8)[:, None, None] + np.zeros((60, 8, 8), np.uint8)
    assert cached({"x": x, "y": np.array(large * 20)}).classes == tuple(str(n) for n in sorted(large))


@pytest.mark.parametrize(
    "data",
    [
        npy("(1000000000000000, 8, 8)"),
        npy("(10000000000, 8, 8)"),
        npy("(-1, 8, 8)"),
        npy("(2, 99999999999999999999)"),
        npy("(3, 8, 8)", dtype="|O"),
        npy("(3, 8, 8)", dtype="<U1000000000"),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{" * 1000,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 20) + b"(" * (1 << 20),
        npy("((((((((((3))))))))), 8, 8)"),
        b"\x93NUMPY",
    ],
)
def test_heads_of_arrays_that_lie_are_refused(data: bytes, tmp_path: Path, cached) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.npy"):
        cached(tmp_path / "x.npy")


@pytest.mark.parametrize("cell", ["[" * 100_000 + "]" * 100_000, '{"a":' * 20_000 + "1" + "}" * 20_000])
def test_lines_nested_without_end_are_refused(cell: str, tmp_path: Path, cached) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a b", "x": {cell}}}\n' * 3)
    with pytest.raises(UserError, match=r"t\.jsonl"):
        cached(tmp_path / "t.jsonl")


# ---------------------------------------------------------------- counts that nothing can be made of


def edited(source: Path, folder: Path, change: dict[str, Any]) -> Path:
    """A copy of an encoder's folder, whose description says something else, with a digest of it."""
    shutil.copytree(source, folder)
    said = read_record(folder / "encoder.json")
    for key, value in change.items():
        part, _, name = key.rpartition(".")
        (said[part] if part else said)[name] = value
    write_record(folder / "encoder.json", said, strict=False)
    return folder


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("described")
    image, sound = ImageSpec(8, 1, (0.3,), (0.25,)), AudioSpec(4000, 1.0, 256, 128, 16, 0.0, 2000.0, 0.0, 1.0)
    made = {
        "convnet": build_encoder("convnet", image, width=8),
        "vit_tiny": build_encoder("vit_tiny", image),
        "audio_nano": build_encoder("audio_nano", sound),
        "patchtst_nano": build_encoder("patchtst_nano", SeriesSpec(1, 32, (0.0,), (1.0,))),
        "bert4rec_nano": build_encoder("bert4rec_nano", ItemSpec(20, 10, Catalogue.of_numbers(20))),
    }
    for name, encoder in made.items():
        save_encoder(encoder, root / name)
    return {name: root / name for name in made}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *[("convnet", {"options.width": value}) for value in (10**9, 5000, 2**70, -1, "8", [8])],
        *[("convnet", {"spec.size": value}) for value in (10**9, 2**70, 0, 1.5, "8", True)],
        ("convnet", {"spec.channels": 10**4, "spec.mean": [0.3] * 10**4, "spec.std": [0.2] * 10**4}),
        *[("convnet", {"spec.mean": value}) for value in ([float("nan")], [10**400], ["0.3"], 5)],
        *[("convnet", {"spec.scale": value}) for value in (["uint8", "a", 255, 8], ["uint8", 0, 0, 8], ["x", 0, 1, 8])],
        *[("convnet", {"spec.framing": value}) for value in ([-5, True, 3], [8, True, 99], [10**9, True, 3])],
        *[("convnet", {"files": value}) for value in (["a"], 5)],
        *[("vit_tiny", {"spec.size": value}) for value in (10**9, 16384, 16381)],
        *[("audio_nano", {f"spec.{key}": 10**9}) for key in ("rate", "seconds", "window", "mels")],
        *[("patchtst_nano", {f"spec.{key}": 10**9}) for key in ("length", "channels")],
        *[("patchtst_nano", {"spec.std": value}) for value in ([-1.0], [float("nan")], [], 5)],
        ("bert4rec_nano", {"spec.length": 10**12}),
        ("bert4rec_nano", {"spec.length": 10**7}),
        ("bert4rec_nano", {"options.dropout": 5}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_absurd_counts_of_an_encoder_are_a_line(
    described: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"encoder\.json is damaged|patches of|a dropout of") as told:
        load_encoder(edited(described[name], tmp_path / "edited", change))
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600
