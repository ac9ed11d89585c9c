"""Train and serve: what a run read, `prepare`, `tacit embed` and `tacit predict` give one vector for one input.

Each option of how data are read is one case. What a run was told, no later command has to be told again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

import tacit
from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.dataset import Dataset, open_dataset
from tacit.encoders import build_encoder, save_encoder
from tacit.evaluation.features import extract
from tacit.experiment.folder import RunSettings
from tacit.experiment.heads import Chosen
from tacit.experiment.reading import as_trained, open_encoder, overridden
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.files import framed
from tests import events
from tests.sounding import RATE, encoded, noise

Vectors = NDArray[np.float32]
NEAR = 2e-5

CHANNELS = ("mix", "left", "right", "separate")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))


def trained(dataset: Dataset, name: str) -> Any:
    """An encoder as a run on these data leaves it, but for its weights."""
    built = build_encoder(name, dataset.spec)  # type: ignore[call-overload]
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.is_floating_point():
                parameter += 0.05 * torch.randn_like(parameter)
    built.reading = dict(dataset.reading)
    return built.eval()


def read(encoder: OwnEncoder, dataset: Dataset) -> Vectors:
    """The vectors [N D] of what a run read."""
    return extract(encoder, dataset.batch, np.arange(len(dataset)))["pooled"]  # type: ignore[arg-type]


def prepared(encoder: Any, inputs: Any, **settings: Any) -> Vectors:
    with torch.inference_mode():
        found: Vectors = encoder(encoder.prepare(inputs, **settings)).pooled.numpy()
    return found


def embedded(encoder: OwnEncoder, data: Any, folder: Path, **options: Any) -> Vectors:
    """What `tacit embed` writes, of the encoder as it lies in a folder."""
    save_encoder(encoder, folder / "encoder")
    out = folder / "vectors.parquet"
    tacit.embed(str(folder / "encoder"), data, out=str(out), overwrite=True, **options)
    return np.stack(pq.read_table(out)["embedding"].to_pylist()).astype(np.float32)


def same(one: Vectors, other: Vectors) -> None:
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= NEAR * max(1.0, np.abs(one).max())


# ---------------------------------------------------------------- sound


def stereo(number: int) -> NDArray[np.int16]:
    return noise(number, 0.15 + number / 100, channels=2)


@pytest.mark.parametrize(("channels", "rate"), [*((of, None) for of in CHANNELS), ("left", 4000)])
def test_sounds_of_two_channels(tmp_path: Path, channels: str, rate: int | None) -> None:
    paths = [str(tmp_path / f"{number}.wav") for number in range(4)]
    for number, path in enumerate(paths):
        soundfile.write(path, stereo(number), RATE)
    dataset = open_dataset(paths, kind="audio", channels=channels, rate=rate)
    encoder = trained(dataset, "audio_nano")
    wanted = read(encoder, dataset)
    same(prepared(encoder, paths), wanted)
    same(prepared(encoder, [stereo(number) for number in range(4)], rate=RATE), wanted)
    same(embedded(encoder, paths, tmp_path), wanted)
    again = tacit.load_encoder(tmp_path / "encoder")
    assert again.spec.channels == channels
    same(prepared(again, paths), wanted)
    other = "left" if channels == "right" else "right"
    assert np.abs(prepared(again, paths, channels=other)[:1] - wanted[:1]).max() > 0.01
    if channels == "separate":
        assert len(wanted) == 8
        assert again.prepare(paths)["index"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("named", [("start", "end"), ("begin", None), (None, "until")])
def test_stretches_of_sounds(tmp_path: Path, named: tuple[str | None, str | None]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0, 0.6, channels=2), RATE)
    rows = [("a.wav", 0.0, 0.2), ("a.wav", 0.2, 0.45), ("a.wav", 0.1, 0.6)]
    table = "\n".join(f"{file},{start},{end}" for file, start, end in rows)
    columns = [column or spare for column, spare in zip(named, ("from", "to"), strict=True)]
    (tmp_path / "t.csv").write_text(f"clip_path,{','.join(columns)}\n{table}\n")
    asked = {f"{flag}_column": column for flag, column in zip(("start", "end"), named, strict=True) if column}
    dataset = open_dataset(str(tmp_path / "t.csv"), kind="audio", path_column="clip_path", channels="right", **asked)  # type: ignore[arg-type]
    encoder = trained(dataset, "audio_convnet")
    wanted = read(encoder, dataset)
    start = [start if named[0] else 0.0 for _, start, _ in rows]
    end = [end if named[1] else 9.0 for _, _, end in rows]
    same(prepared(encoder, [tmp_path / "a.wav"] * 3, start=start, end=end), wanted)
    same(embedded(encoder, str(tmp_path / "t.csv"), tmp_path), wanted)


def test_columns_that_mean_no_stretches_mean_none_later(tmp_path: Path) -> None:
    names = [Path(_wav(tmp_path, number)).name for number in range(3)]
    (tmp_path / "t.csv").write_text("file,start,end\n" + "\n".join(f"{name},0,0.1" for name in names) + "\n")
    dataset = open_dataset(str(tmp_path / "t.csv"), start_column="none")
    encoder = trained(dataset, "audio_convnet")
    wanted = read(encoder, dataset)
    same(prepared(encoder, [str(tmp_path / name) for name in names]), wanted)
    same(embedded(encoder, str(tmp_path / "t.csv"), tmp_path), wanted)


def test_encoded_sounds_of_a_column_and_long_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.modalities.audio.decode.MOST_SECONDS", 2)
    sounds = [noise(number, seconds) for number, seconds in enumerate((0.3, 2.0, 2.9, 5.3))]
    cells = {"thumb": [b"x"] * 4, "clip": [encoded(sound) for sound in sounds], "who": list("abcd")}
    pq.write_table(pa.table(cells), tmp_path / "t.parquet")
    dataset = open_dataset(str(tmp_path / "t.parquet"), audio_column="clip", seconds=0.5)
    encoder = trained(dataset, "audio_nano")
    wanted = read(encoder, dataset)
    same(prepared(encoder, sounds, rate=RATE), wanted)
    same(embedded(encoder, str(tmp_path / "t.parquet"), tmp_path), wanted)


def test_prepare_refuses_what_is_no_channel_and_no_stretch(tmp_path: Path) -> None:
    dataset = open_dataset({"a.wav": 1} and [_wav(tmp_path, n) for n in range(2)], kind="audio")
    encoder = trained(dataset, "audio_convnet")
    for settings, match in (
        ({"channels": "middle"}, "channels='middle' is none"),
        ({"start": 0.5, "end": 0.2}, "has no length"),
        ({"start": 99.0}, "lies beyond its end"),
        ({"start": [0.0, 0.1, 0.2]}, "3 starts or ends for 1 sounds"),
    ):
        with pytest.raises(UserError, match=match):
            encoder.prepare(noise(1), rate=RATE, **settings)


def _wav(folder: Path, number: int) -> str:
    soundfile.write(folder / f"w{number}.wav", noise(number), RATE)
    return str(folder / f"w{number}.wav")


# ---------------------------------------------------------------- text

ODD = [
    "a plain sentence about dogs, and cats.",
    "the horse eats [MASK] today",
    "[CLS] begins and [SEP] ends [PAD] here [UNK]",
    "<s> some </s> write <pad> and <mask> or <unk> too",
    "  blanks  \t and\nlines\r\n ",
    "NUL\0s and \ud83d halves",
    "Capitals İSTANBUL ÉCOLE ß",
    "日本語のテキスト、です。 🙂",
    " ".join(f"word{n % 37}" for n in range(150)),
    "[MASK]",
    "x" * 300,
    "\n".join("a line of some words [MASK]" for _ in range(80)),
]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_odd_texts(tmp_path: Path, algorithm: str, lowercase: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.modalities.text.tokens.PIECE", 700)
    dataset = open_dataset(ODD, kind="text", tokenizer=algorithm, lowercase=lowercase, vocabulary=400, length=32)
    encoder: TextEncoder = trained(dataset, "bert_nano")
    wanted = read(encoder, dataset)
    ours, theirs = encoder.prepare(ODD), dataset.batch(np.arange(len(ODD)))
    for name in ("tokens", "valid", "word"):
        assert torch.equal(ours[name], theirs[name]), name
    assert encoder.spec.mask not in ours["tokens"]
    same(prepared(encoder, ODD), wanted)
    same(embedded(encoder, ODD, tmp_path), wanted)


@pytest.mark.parametrize("headed", [False, True])
@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_exported_tokenizers_read_odd_texts(tmp_path: Path, algorithm: str, headed: bool) -> None:
    from transformers import AutoTokenizer

    dataset = open_dataset(ODD, kind="text", tokenizer=algorithm, vocabulary=400, length=32)
    encoder: TextEncoder = trained(dataset, "bert_nano")
    if headed:
        encoder.train_head()
    save_encoder(encoder, tmp_path / "out")
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = [text.replace("\0", "").replace("\ud83d", "\ufffd") for text in ODD]
    # What fills in masks has to know them; of any other, special words are text by default.
    ids = found(texts, padding=True, return_tensors="pt", **({"split_special_tokens": True} if headed else {}))
    assert torch.equal(ids["input_ids"], encoder.prepare(ODD)["tokens"])
    said = json.loads((tmp_path / "out" / "sentence_bert_config.json").read_text())
    assert said["tokenizer_args"] == {"split_special_tokens": True}
    assert "reads the first one alone" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        ("the cat eats [MASK] today", "the cat eats fish today"),
        ("[MASK] eats the cat", "fish eats the cat"),
        ("the cat eats [MASK], again", "the cat eats fish, again"),
        ("the cat eats [MASK].", "the cat eats fish."),
    ],
)
def test_a_mask_stands_where_a_word_stood(algorithm: str, asked: str, plain: str) -> None:
    """Fill-mask asks as training hid: the mask in the place of the word and of its blank."""
    told = ["the cat eats fish today", "the cat eats fish, again", "the cat eats fish.", "fish eats the cat"] * 40
    dataset = open_dataset(told, kind="text", tokenizer=algorithm, vocabulary=400)
    encoder: TextEncoder = trained(dataset, "bert_nano")
    whole = encoder.prepare([plain])["tokens"][0]
    hidden = [n for n in whole.tolist() if encoder.tokenizer.decode([n]).strip() == "fish"]
    assert len(hidden) == 1
    wanted = whole.masked_fill(whole == hidden[0], encoder.spec.mask)
    assert encoder.prepare([asked], masks=True)["tokens"][0].tolist() == wanted.tolist()
    from tokenizers import Tokenizer

    assert Tokenizer.from_str(framed(encoder.spec)).encode(asked).ids == wanted.tolist()


def test_tokenizers_that_pad_and_truncate(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    first = open_dataset(ODD, kind="text", vocabulary=400)
    harsh = Tokenizer.from_str(first.spec.tokenizer)  # type: ignore[union-attr]
    harsh.enable_truncation(6)
    harsh.enable_padding(length=40, pad_id=0)
    (tmp_path / "t").mkdir()
    harsh.save(str(tmp_path / "t" / "tokenizer.json"))
    dataset = open_dataset(ODD, kind="text", tokenizer=str(tmp_path / "t"), length=24)
    encoder: TextEncoder = trained(dataset, "bert_nano")
    encoder.spec = type(encoder.spec)(**{**vars(encoder.spec), "tokenizer": harsh.to_str()})
    same(prepared(encoder, ODD), read(encoder, dataset))
    save_encoder(encoder, tmp_path / "out")
    again = tacit.load_encoder(tmp_path / "out")
    same(prepared(again, ODD), read(encoder, dataset))
    same(embedded(encoder, ODD, tmp_path), read(encoder, dataset))
    said = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert said["truncation"] is None
    assert said["padding"] is None


@pytest.mark.parametrize(
    ("columns", "joined"),
    [
        (["body"], lambda row: row["body"]),
        (["subject", "body"], lambda row: f"{row['subject']}\n\n{row['body']}"),
        (["words"], lambda row: " ".join(row["words"])),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_columns_of_texts(tmp_path: Path, ending: str, columns: list[str], joined: Callable[[Any], str]) -> None:
    rows = [
        {"text": f"not this one {n}", "subject": f"about {n}", "body": f"a text of number {n}", "words": ["so", str(n)]}
        for n in range(8)
    ]
    file = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("\n".join(map(json.dumps, rows)))
    dataset = open_dataset(str(file), text_column=columns, vocabulary=300)
    encoder = trained(dataset, "bert_nano")
    wanted = read(encoder, dataset)
    same(prepared(encoder, [joined(row) for row in rows]), wanted)
    same(embedded(encoder, str(file), tmp_path), wanted)  # though there is a column of a usual name


def test_a_column_that_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"body": ODD[:1] * 3, "text": ["no", "not", "never"]}), tmp_path / "old.parquet")
    pq.write_table(pa.table({"text": ["a text", "b text"]}), tmp_path / "new.parquet")
    encoder = trained(open_dataset(str(tmp_path / "old.parquet"), text_column="body"), "bert_nano")
    found = embedded(encoder, str(tmp_path / "new.parquet"), tmp_path)
    assert "new.parquet has no column 'body', which was read in training; text is read instead" in (
        capsys.readouterr().out
    )
    same(prepared(encoder, ["a text", "b text"]), found)
    embedded(encoder, str(tmp_path / "old.parquet"), tmp_path, text_column="text")
    assert "--text-column text, as asked; in training it was body" in capsys.readouterr().out


# ---------------------------------------------------------------- images


def shapes() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 31), np.uint8)
    colour = rng.integers(0, 256, (17, 12, 3), np.uint8)
    turned = Image.fromarray(colour)
    turned.getexif()[0x0112] = 6
    return {
        "grey.png": Image.fromarray(grey),
        "colour.png": Image.fromarray(colour),
        "alpha.png": Image.fromarray(rng.integers(0, 256, (14, 14, 4), np.uint8), "RGBA"),
        "palette.png": Image.fromarray(colour).quantize(16),
        "deep.png": Image.fromarray(rng.integers(0, 65536, (16, 16)).astype(np.uint16)),
        "turned.jpg": turned,
        "two.png": Image.fromarray(grey > 99),
    }


@pytest.mark.parametrize(
    ("size", "names"), [(8, tuple(shapes())), (20, tuple(shapes())), (16, ("grey.png", "two.png", "deep.png"))]
)
def test_images(tmp_path: Path, size: int, names: Sequence[str]) -> None:
    for name in names:
        image = shapes()[name]
        image.save(tmp_path / name, **({"exif": image.getexif()} if name == "turned.jpg" else {}))
    paths = [str(tmp_path / name) for name in names]
    dataset = open_dataset(paths, kind="image", image_size=size)
    encoder = trained(dataset, "convnet")
    wanted = read(encoder, dataset)
    same(prepared(encoder, paths), wanted)
    same(np.concatenate([prepared(encoder, path) for path in paths]), wanted)  # whatever the others are
    same(embedded(encoder, paths, tmp_path), wanted)


# ---------------------------------------------------------------- histories


@pytest.mark.parametrize(
    ("name", "ending", "length"),
    [("sasrec_nano", "csv", None), ("sasrec_nano", "jsonl", 3), ("bert4rec_nano", "parquet", 3)],
)
def test_histories(tmp_path: Path, name: str, ending: str, length: int | None) -> None:
    rows = events.events(150, 12, 9, user="who", item="what", timestamp="at")
    file = events.write(rows, tmp_path / f"log.{ending}")
    named = {"user_column": "who", "item_column": "what", "time_column": "at"}
    dataset = open_dataset(str(file), **named, length=length)  # type: ignore[arg-type]
    encoder: ItemEncoder = trained(dataset, name)
    wanted = read(encoder, dataset)
    told = events.as_told(dataset)
    same(prepared(encoder, [told[user] for user in dataset.ids.to_pylist()]), wanted)
    same(embedded(encoder, str(file), tmp_path), wanted)
    again = tacit.load_encoder(tmp_path / "encoder")
    same(np.stack([again.encode(told[user]).embedding.numpy() for user in dataset.ids.to_pylist()]), wanted)


def test_weights_and_sessions_of_histories(tmp_path: Path) -> None:
    rows = events.events(200, 8, 12)
    for number, row in enumerate(rows):
        row |= {"what": ("view", "buy", "hide")[number % 3], "timestamp": 1_600_000_000 + 977 * number}
    file = events.write(rows, tmp_path / "log.parquet")
    asked: dict[str, Any] = {"event_column": "what", "event_weight": ["hide=0", "buy=3"], "session_gap": "1h"}
    dataset = open_dataset(str(file), **asked)
    encoder = trained(dataset, "sasrec_nano")
    same(embedded(encoder, str(file), tmp_path), read(encoder, dataset))


# ---------------------------------------------------------------- runs


def test_what_an_encoder_cannot_follow_is_refused(tmp_path: Path) -> None:
    sounds = [_wav(tmp_path, number) for number in range(3)]
    encoder: AudioEncoder = trained(open_dataset(sounds, kind="audio", channels="left"), "audio_convnet")
    with pytest.raises(UserError, match=r"--rate 4000: the encoder audio_convnet reads by its own \(8000\)"):
        as_trained(encoder, {"rate": 4000})
    assert as_trained(encoder, {"rate": 8000, "max_bad": 0.05})["channels"] == "left"
    assert overridden(encoder, {"channels": "mix"}) == ["--channels mix, as asked; in training it was left"]
    text: TextEncoder = trained(open_dataset(ODD, kind="text"), "bert_nano")
    for setting in ({"tokenizer": "bpe"}, {"lowercase": True}, {"length": 64}, {"vocabulary": 300}):
        with pytest.raises(UserError, match="reads by its own"):
            as_trained(text, setting)


def test_a_run_of_before_tells_by_its_config(tmp_path: Path) -> None:
    import yaml

    paths = [_wav(tmp_path, number) for number in range(3)]
    encoder = trained(open_dataset(paths, kind="audio", channels="left"), "audio_convnet")
    encoder.reading, encoder.spec = {}, type(encoder.spec)(**{**vars(encoder.spec), "channels": None})
    run = tmp_path / "run"
    save_encoder(encoder, run / "encoder")
    said = json.loads((run / "encoder" / "encoder.json").read_text())
    del said["reading"], said["spec"]["channels"], said["sha256"]  # as folders of before are
    (run / "encoder" / "encoder.json").write_text(json.dumps(said))
    asked = {"task": "simclr", "data": "x", "channels": "left", "audio_column": "clip", "time_column": "t"}
    (run / "config.yaml").write_text(yaml.safe_dump(asked))
    found = open_encoder(run)
    assert found.spec.channels == "left"  # type: ignore[union-attr]
    assert found.reading == {"audio_column": "clip"}
    assert open_encoder(run / "encoder").spec.channels is None  # type: ignore[union-attr]


def test_names_of_a_strangers_encoder_are_names_or_nothing(tmp_path: Path) -> None:
    encoder: ImageEncoder = trained(open_dataset("digits"), "convnet")
    encoder.reading = {"image_column": "scan"}
    save_encoder(encoder, tmp_path / "e")
    said = json.loads((tmp_path / "e" / "encoder.json").read_text())
    del said["sha256"]
    said["reading"] |= {"cache": {"a": 1}, "text_column": [1], "path_column": 7}
    (tmp_path / "e" / "encoder.json").write_text(json.dumps(said))
    assert tacit.load_encoder(tmp_path / "e").reading == {"image_column": "scan"}


def chosen(dataset: Dataset, name: str, asked: dict[str, Any]) -> Chosen:
    said = RunSettings(asked)
    said.trusted = True
    return Chosen(Path("run"), said, trained(dataset, name), "simclr", "final")


def test_predict_reads_new_data_as_the_run_read_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of calls the left channel alone tells the class; the right one is louder."""
    rng, clips, kinds = np.random.default_rng(0), [], []
    time = np.arange(1600) / RATE
    for number in range(24):
        left = 0.1 * np.sin(2 * np.pi * (400 if number % 2 else 1500) * time)
        right = 0.6 * np.sin(2 * np.pi * rng.choice([400, 1500]) * time)
        clips.append(encoded(np.stack([left, right], 1).astype(np.float32)))
        kinds.append("low" if number % 2 else "high")
    cells = {"key": [f"k{n}" for n in range(24)], "thumb": [b"\x89PNG"] * 24, "clip": clips, "kind": kinds}
    file = str(tmp_path / "calls.parquet")
    pq.write_table(pa.table(cells), file)
    asked: dict[str, Any] = {"data": file, "audio_column": "clip", "label_column": "kind", "channels": "left"}
    run = chosen(open_dataset(file, audio_column="clip", channels="left"), "audio_convnet", asked)
    monkeypatch.setattr("tacit.commands.predict.open_chosen", lambda *_, **__: run)
    table = tacit.predict("run", file)
    assert table["class"].to_pylist() == kinds
    capsys.readouterr()
    tacit.predict("run", file, channels="right")
    assert "--channels right, as asked; in training it was left" in capsys.readouterr().out
    with pytest.raises(UserError, match="predict takes no label_colum; did you mean 'label_column'"):
        tacit.predict("run", file, label_colum="kind")


def test_predict_reads_events_by_the_columns_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"p{u},{'ab'[u % 2]}{i % 5},{1_600_000_000 + 100 * u + i}" for u in range(30) for i in range(6)]
    (tmp_path / "log.csv").write_text("who,what,at\n" + "\n".join(rows) + "\n")
    people = [f"p{u},{'pro' if u % 2 else 'free'}" for u in range(30)]
    (tmp_path / "people.csv").write_text("who,plan\n" + "\n".join(people) + "\n")
    log, named = str(tmp_path / "log.csv"), {"user_column": "who", "item_column": "what", "time_column": "at"}
    asked: dict[str, Any] = {"data": log, "labels": str(tmp_path / "people.csv"), "label_column": "plan", **named}
    run = chosen(open_dataset(log, **named), "sasrec_nano", asked)  # type: ignore[arg-type]
    monkeypatch.setattr("tacit.commands.predict.open_chosen", lambda *_, **__: run)
    table = tacit.predict("run", log)
    told = dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))
    assert told == dict(line.split(",") for line in people)
