"""Texts from the things people have to a corpus of numbers: every kind of source, bad input, words, memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tacit.core.errors import UserError
from tacit.data import rows as rows_of_json
from tacit.data.copies import exact_copies
from tacit.dataset import TEST, Dataset, clean, open_dataset
from tacit.modalities.text import documents, tokenise, tokens
from tacit.modalities.text.store import LONGEST, Corpus
from tacit.modalities.text.vocabulary import open_tokenizer, specials_of, text_spec, train_tokenizer

WORDS = "the cat sat on a mat, and then the dog (who'd slept) ate 12 mice; 東京 is far. Größe zählt! don't you think?"
IMDB = Path(__file__).resolve().parents[2] / "shared" / "data" / "imdb" / "train.parquet"


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = WORDS.split()
    return [f"{i} " + " ".join(rng.choice(words, rng.integers(3, 20)).tolist()) for i in range(n)]


@pytest.fixture
def cached(tmp_path: Path):
    def open_(data: object, **settings: Any) -> Dataset:
        return open_dataset(data, **{"cache": str(tmp_path / "cache"), "vocabulary": 400, **settings})  # type: ignore[arg-type]

    return open_


def corpus_of(dataset: Dataset) -> Corpus:
    assert isinstance(dataset.cache, Corpus)
    return dataset.cache


def texts(dataset: Dataset) -> list[str]:
    return corpus_of(dataset).texts(np.arange(len(dataset)))


# Where texts lie


def test_a_folder_of_text_files(tmp_path: Path, cached):
    wanted = {}
    for i, text in enumerate(sentences(6)):
        path = tmp_path / "data" / ("pos", "neg")[i % 2] / f"{i}{('.txt', '.md', '.txt.gz')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        wanted[path.relative_to(tmp_path / "data").as_posix()] = text
    dataset = cached(tmp_path / "data", labels="folders")
    assert dataset.kind == dataset.spec.kind == "text"
    assert dataset.ids.to_pylist() == sorted(wanted)
    assert texts(dataset) == [wanted[name] for name in sorted(wanted)]
    assert dataset.classes == ("neg", "pos")
    assert dataset.notes.skipped.count == dataset.notes.blank == 0


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_tables_of_text(tmp_path: Path, cached, ending: str):
    wanted, path = sentences(7), tmp_path / f"t.{ending}"
    table = pa.table({"text": wanted, "label": ["a", "b"] * 3 + ["a"], "id": [f"x{i}" for i in range(7)]})
    if ending == "parquet":
        pq.write_table(table, path, row_group_size=3)
    else:
        sign = "\t" if "tsv" in ending else ","
        rows = table.to_pylist()
        as_lines = [sign.join(rows[0])] + [sign.join(f'"{v}"' for v in row.values()) for row in rows]
        said = "\n".join(map(json.dumps, rows) if "jsonl" in ending else as_lines).encode()
        path.write_bytes(gzip.compress(said) if ending.endswith(".gz") else said)
    dataset = cached(path, label_column="label")
    assert texts(dataset) == wanted
    assert dataset.classes == ("a", "b")
    assert dataset.ids.to_pylist() == [f"x{i}" for i in range(7)]
    assert dataset.columns is not None
    assert dataset.columns.column_names == ["label", "id"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_several_columns_are_joined_by_a_blank_line(tmp_path: Path, cached, ending: str):
    rows = [{"subject": f"on {i}", "body": text, "n": i} for i, text in enumerate(sentences(4))]
    rows += [{"subject": "alone", "body": "", "n": 4}, {"subject": None, "body": "without subject", "n": 5}]
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    dataset = cached(path, text_column=["subject", "body"])
    expected = [f"{row['subject']}\n\n{row['body']}" for row in rows[:4]]
    assert texts(dataset) == [*expected, "alone", "without subject"]
    assert texts(cached(path)) == [row["body"] for row in rows if row["body"]], "body is a usual name"


def test_objects_in_memory(tmp_path: Path, cached):
    wanted = sentences(5)
    table = pa.table({"label": list("ababa"), "utterances": wanted})
    assert texts(cached(wanted, kind="text")) == wanted
    assert texts(cached(table)) == wanted, "the only column of long strings"
    pandas = pytest.importorskip("pandas", reason="an optional input")
    assert texts(cached(pandas.DataFrame({"review": wanted, "stars": range(5)}))) == wanted
    for i, text in enumerate(wanted):
        (tmp_path / f"{i}.txt").write_text(text)
    assert texts(cached([tmp_path / f"{i}.txt" for i in range(5)], kind="text")) == wanted


def test_what_datasets_has_saved(tmp_path: Path, cached):
    datasets = pytest.importorskip("datasets", reason="an optional input")
    wanted = sentences(5)
    label = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    made = datasets.Dataset.from_dict({"text": wanted, "label": [0, 1, 0, 1, 0]}, features=features)
    made.save_to_disk(tmp_path / "saved", num_shards=2)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "both")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    made.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    for data in (made, tmp_path / "saved", tmp_path / "both" / "train"):
        dataset = cached(data, label_column="label")
        assert texts(dataset) == wanted
        assert dataset.classes == ("cat", "dog")
    assert texts(cached(tmp_path / "hub")) == wanted
    with pytest.raises(UserError, match="holds the splits test, train"):
        cached(tmp_path / "both")


def test_a_data_set_by_name(tmp_path: Path, cached, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="an optional input")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "downloaded")
    wanted, folder = sentences(5), tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        pq.write_table(pa.table({"text": [f"{split} {text}" for text in wanted]}), folder / f"{split}.parquet")
    assert texts(cached(f"hf:{folder}")) == [f"train {text}" for text in wanted]
    assert texts(cached(f"hf:{folder}:test")) == [f"test {text}" for text in wanted]
    with pytest.raises(UserError, match=r"has no split 'dev'; name one as .*: train, test"):
        cached(f"hf:{folder}:dev")
    with pytest.raises(UserError, match=r"hf:/no/such cannot be loaded .*; check the name"):
        cached("hf:/no/such")


def test_one_file_of_many_texts(tmp_path: Path, cached):
    (tmp_path / "lines.txt").write_text("one line\nanother line\n")
    (tmp_path / "blocks.txt").write_bytes("Größe\r\nzählt\r\n\r\n\r\nsecond\r\n".encode("cp1252"))
    assert texts(cached(tmp_path / "lines.txt")) == ["one line", "another line"]
    blocks = cached(tmp_path / "blocks.txt")
    assert texts(blocks) == ["Größe\r\nzählt", "second"]
    assert "blocks.txt is no UTF-8 and was read as cp1252" in " ".join(blocks.notes.lines())


def test_tables_of_images_stay_so(tmp_path: Path, cached):
    table = pa.table({"image": [b"no", b"image"], "text": ["a caption of it", "another caption"]})
    with pytest.raises(UserError, match="no readable image"):
        cached(table, vocabulary=None)
    assert texts(cached(table, kind="text")) == table["text"].to_pylist()
    assert texts(cached(table, text_column="text")) == table["text"].to_pylist()
    paths = pa.table({"file": ["a.png", "b.png"], "text": ["a caption of it", "another caption"]})
    with pytest.raises(UserError, match="no readable image"):
        cached(paths, vocabulary=None, max_bad=1.0)
    named = pa.table({"file": ["ca01", "ca02"], "text": ["a document of Brown", "another document"]})
    assert texts(cached(named)) == named["text"].to_pylist()


def test_a_column_of_paths_to_text_files(tmp_path: Path, cached):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"the text of {name}")
    (tmp_path / "t.csv").write_text("file,label\na.txt,x\nb.txt,y\n")
    assert texts(cached(tmp_path / "t.csv")) == ["the text of a", "the text of b"]


def test_further_data_are_the_test_split(tmp_path: Path, cached):
    dataset = cached(pa.table({"text": sentences(6)}), test=pa.table({"text": sentences(3, seed=1)}))
    assert texts(dataset) == sentences(6) + sentences(3, seed=1)
    assert dataset.split is not None
    assert (dataset.split == TEST).tolist() == [False] * 6 + [True] * 3


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        ({"text": [1, 2]}, {"text_column": "text"}, "--text-column text: .* holds int64, no text"),
        ({"text": ["a", "b"]}, {"text_column": "body"}, "--text-column body: .*no such column.*text"),
        (
            {"a": ["x" * 30] * 2, "b": ["y" * 30] * 2},
            {"kind": "text"},
            r"several columns of text \(a, b\).*--text-column",
        ),
        ({"a": [1, 2]}, {"kind": "text"}, "no column of text.*--text-column"),
        ({"a": ["x", "y"]}, {}, "--text-column"),
        ({"text": ["a", "b"]}, {"text_column": "text", "kind": "image"}, "contradicts --kind image"),
        ({"text": ["a", "b"]}, {"image_size": 8}, "--image-size 8"),
        ({"text": ["a", "b"]}, {"vocabulary": 10}, "--vocabulary 10"),
        ({"text": ["a", "b"]}, {"length": 4}, "--length 4"),
        ({"text": ["a", "b"]}, {"tokenizer": "bpee"}, "did you mean 'bpe'"),
        ({"text": ["a", "b"]}, {"tokenizer": "no/where"}, "--tokenizer no/where: no tokenizer there"),
        ({"text": ["", " "]}, {}, "no readable text"),
    ],
)
def test_what_cannot_be_read_says_why(cached, table, settings, message):
    with pytest.raises(UserError, match=message):
        cached(pa.table(table), **settings)


def test_settings_of_text_are_refused_for_images(cached):
    with pytest.raises(UserError, match=r"--length 64: .*leave it out"):
        cached(np.zeros((3, 8, 8), np.uint8), vocabulary=None, length=64)
    with pytest.raises(UserError, match=r"--test .*text data"):
        cached(np.zeros((3, 8, 8), np.uint8), vocabulary=None, test=pa.table({"text": sentences(3)}))


# Bad input


def test_encodings_nuls_blanks_and_damage_are_counted(tmp_path: Path, cached):
    root = tmp_path / "data"
    root.mkdir()
    good = [f"a good text number {i}" for i in range(30)]
    for i, text in enumerate(good):
        (root / f"{i:02}.txt").write_text(text)
    (root / "50.txt").write_bytes("Größe".encode("cp1252"))
    (root / "51.txt").write_bytes("in UTF-16".encode("utf-16"))
    (root / "52.txt").write_bytes(b"with\0 a NUL")
    (root / "60.txt").write_bytes(b"")
    (root / "61.txt").write_bytes(b" \n\t \0")
    (root / "62.txt").write_bytes(b"")
    (root / "70.txt").write_bytes(b"\x81\x8d\x8f not any encoding")
    (root / "71.txt.gz").write_bytes(gzip.compress(b"damaged " * 1000)[:-20])
    dataset = cached(root, max_bad=2.5 / 38)
    assert texts(dataset) == [*good, "Größe", "in UTF-16", "with a NUL"]
    notes = dataset.notes
    assert (notes.listed, notes.blank, notes.converted, notes.cleaned, notes.skipped.count) == (38, 3, 2, 1, 2)
    assert "70.txt: in none of UTF-8" in notes.skipped.first[0]
    assert notes.skipped.first[1].startswith("71.txt.gz: ")
    assert cached(root, max_bad=2.5 / 38).notes == notes
    with pytest.raises(UserError, match=r"2 of 38 .*--max-bad 0.01"):
        cached(root, max_bad=0.01)


def test_lines_that_are_broken_too_long_or_no_text_are_skipped(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows_of_json, "LONGEST", 1000)
    rows = [
        b'{"text": "the first", "n": 1}',
        b"{broken",
        b'{"text": "' + b"x" * 5000 + b'"}',
        b"",
        b'{"text": 7}',
        b'{"n": "two"}',
        b"[1]",
        '{"text": "Größe"}'.encode("cp1252"),
        rb'{"text": "half \ud83d of a pair"}',
        b'{"text": "the last", "n": {"m": 3}}',
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(rows))
    dataset = cached(tmp_path / "t.jsonl", max_bad=0.5)
    assert texts(dataset) == ["the first", "Größe", "half \ufffd of a pair", "the last"]
    assert dataset.columns is not None
    assert dataset.columns["n"].to_pylist() == ["1", None, None, '{"m": 3}']
    notes = dataset.notes
    assert (notes.listed, notes.blank, notes.converted, notes.skipped.count) == (9, 1, 2, 4)
    reasons = [line.partition(": ")[2] for line in notes.skipped.first]
    assert reasons[0].startswith("not JSON")
    assert reasons[1:] == ["the line is longer than 0 MB", "text is no text", "no JSON object"]


def test_a_damaged_gzip_table_is_named(tmp_path: Path, cached):
    for ending, said in (("jsonl", b'{"text": "a text"}\n' * 5000), ("csv", b"text\na text\n" * 5000)):
        (tmp_path / f"t.{ending}.gz").write_bytes(gzip.compress(said)[:-20])
        with pytest.raises(UserError, match=rf"t.{ending}.gz"):
            cached(tmp_path / f"t.{ending}.gz")


def test_a_long_document_is_read_in_pieces(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens, "PIECE", 50)
    monkeypatch.setattr(documents, "BLOCK", 70)
    (tmp_path / "data").mkdir()
    wanted = [" ".join(sentences(40)), "Größe  und \n\n mehr " * 30, "x" * 500, "ü" * 49 + " " * 200]
    for i, text in enumerate(wanted):
        (tmp_path / "data" / f"{i}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "data" / "4.txt").write_bytes((wanted[1] * 3).encode("utf-16"))
    cut = cached(tmp_path / "data")
    assert texts(cut) == [*wanted, wanted[1] * 3]
    assert texts(cached(wanted, kind="text")) == wanted
    monkeypatch.undo()
    whole = cached([*wanted, wanted[1] * 3], kind="text", tokenizer=str(corpus_of(cut).folder))
    for row in (0, 1, 4):
        one, other = (corpus_of(d).batch(np.array([row])) for d in (cut, whole))
        assert one["tokens"].tolist() == other["tokens"].tolist()
        assert one["word"].tolist() == other["word"].tolist()


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_a_corpus_of_ten_words_shrinks_the_vocabulary(cached, algorithm: str):
    dataset = cached(["ten words make", "no vocabulary of eight thousand, but some"], kind="text", tokenizer=algorithm)
    asked = cached(["ten words make", "no more"], kind="text", tokenizer=algorithm, vocabulary=8192)
    assert asked.spec.vocabulary < 400  # type: ignore[union-attr]
    assert "instead of 8,192: the texts have no more to give" in " ".join(asked.notes.lines())
    assert len(dataset) == 2


# Tokenizers


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_words_begin_where_the_tokenizer_says(cached, algorithm: str):
    wanted = [*sentences(30), "日本語のテキスト、です。", "[MASK] is a word here", "a\tb\n\nc", "🙂🙂 !?"]
    dataset = cached(wanted, kind="text", tokenizer=algorithm, lowercase=False)
    spec, corpus = dataset.spec, corpus_of(dataset)
    tokenizer = Tokenizer.from_str(spec.tokenizer)  # type: ignore[union-attr]
    tokenizer.encode_special_tokens = True
    rows = np.random.default_rng(0).permutation(len(wanted))
    batch = dataset.batch(rows)
    assert corpus.lengths.tolist() == [len(tokenizer.encode(text, add_special_tokens=False)) for text in wanted]
    for at, row in enumerate(rows.tolist()):
        encoding = tokenizer.encode(wanted[row])
        n = len(encoding)
        ids = [spec.unknown if i in spec.specials and 0 < at < n - 1 else i for at, i in enumerate(encoding.ids)]  # type: ignore[union-attr]
        assert batch["tokens"][at, :n].tolist() == ids
        assert (batch["tokens"][at, n:] == spec.pad).all()  # type: ignore[union-attr]
        words = encoding.word_ids
        begins = [w is not None and w != before for w, before in zip(words, [None, *words], strict=False)]
        assert batch["word"][at, :n].tolist() == begins
        assert batch["valid"][at].tolist() == [True] * n + [False] * (batch["valid"].shape[1] - n)
        assert not batch["word"][at, n:].any()
    assert batch["index"].tolist() == rows.tolist()


@given(st.lists(st.text(max_size=40), max_size=8))
@example(["[MASK] [PAD]<s>", "a  b\t\r\nc \0", "e\u0301 ＡＢ ﬁ İ ß", " \u2003 x"])
def test_bytes_decode_to_what_they_were(tmp_path_factory, found):
    wanted = [*found, "so that two", "are left"]
    settings = {"lowercase": False, "vocabulary": 300, "cache": str(tmp_path_factory.mktemp("c"))}
    dataset = open_dataset(wanted, kind="text", **settings)  # type: ignore[arg-type]
    tokenizer = Tokenizer.from_str(dataset.spec.tokenizer)  # type: ignore[union-attr]
    kept = [clear for text in wanted if (clear := text.replace("\0", "")).strip()]
    assert texts(dataset) == kept
    assert dataset.notes.blank == len(wanted) - len(kept)
    batch = dataset.batch(np.arange(len(kept)))
    for row, text in enumerate(kept):
        numbers = batch["tokens"][row][batch["valid"][row]].tolist()[1:-1]
        assert tokenizer.decode(numbers, skip_special_tokens=False) == tokenizer.normalizer.normalize_str(text)


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece"])
def test_training_is_deterministic(algorithm: str):
    one, other = (
        train_tokenizer(sentences(300), algorithm=algorithm, size=400, lowercase=True).to_str() for _ in range(2)
    )
    assert one == other


def test_tokenizers_of_other_makes(tmp_path: Path, cached):
    roberta = train_tokenizer(sentences(50), algorithm="bpe", size=400, lowercase=False)
    said = roberta.to_str()
    for old, new in (("[PAD]", "<pad>"), ("[UNK]", "<unk>"), ("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[MASK]", "<mask>")):
        said = said.replace(old, new)
    (tmp_path / "roberta").mkdir()
    (tmp_path / "roberta" / "tokenizer.json").write_text(said)
    dataset = cached(sentences(9), kind="text", vocabulary=None, tokenizer=str(tmp_path / "roberta"))
    spec = dataset.spec
    assert (spec.pad, spec.unknown, spec.cls, spec.sep, spec.mask) == (0, 1, 2, 3, 4)  # type: ignore[union-attr]
    assert dataset.batch(np.array([0]))["tokens"][0, 0] == 2

    own = said.replace("<mask>", "§hide§").replace("<pad>", "§pad§")
    (tmp_path / "own" / "encoder").mkdir(parents=True)
    (tmp_path / "own" / "encoder" / "tokenizer.json").write_text(own)
    told = {"mask_token": {"content": "§hide§"}, "pad_token": "§pad§"}
    with pytest.raises(UserError, match=r"no mask token.*such as bpe"):
        open_tokenizer(tmp_path / "own")
    (tmp_path / "own" / "encoder" / "tokenizer_config.json").write_text(json.dumps(told))
    _, specials = open_tokenizer(tmp_path / "own")
    assert (specials.pad, specials.mask) == (0, 4)

    (tmp_path / "bert").mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    tokenizer, specials = open_tokenizer(f"hf:{tmp_path / 'bert'}")
    assert specials.all == (0, 1, 2, 3, 4)
    assert tokenizer.encode("The cats", add_special_tokens=False).tokens == ["the", "cat", "##s"]

    (tmp_path / "roberta" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read as a tokenizer"):
        open_tokenizer(tmp_path / "roberta")
    with pytest.raises(UserError, match="--vocabulary 300 is less"):
        cached(sentences(3), kind="text", vocabulary=300, tokenizer=str(corpus_of(dataset).folder))


def test_a_large_vocabulary_takes_wider_numbers(cached):
    narrow = cached(sentences(5), kind="text")
    folder = str(corpus_of(narrow).folder)
    wide = cached(sentences(5), kind="text", tokenizer=folder, vocabulary=tokens.NARROW + 1)
    assert tuple(corpus_of(of).tokens.values.dtype for of in (narrow, wide)) == (np.uint16, np.uint32)
    assert wide.spec.vocabulary == tokens.NARROW + 1  # type: ignore[union-attr]
    for name, values in narrow.batch(np.arange(5)).items():
        assert values.tolist() == wide.batch(np.arange(5))[name].tolist()


def test_a_spec_survives_json():
    tokenizer = train_tokenizer(sentences(9), algorithm="bpe", size=300, lowercase=True)
    spec = text_spec(tokenizer, specials_of(tokenizer, {}, "made"), 64, 1000)
    assert type(spec).of(json.loads(json.dumps(vars(spec)))) == spec
    assert (spec.length, spec.vocabulary, spec.specials) == (64, 1000, (0, 1, 2, 3, 4))


# The cache


def test_the_second_opening_reads_no_text(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "data"
    root.mkdir()
    for i, text in enumerate(sentences(6)):
        (root / f"{i}.txt").write_text(text)
    first = cached(root)
    with monkeypatch.context() as patch:
        patch.setattr(documents, "opened_file", lambda path: pytest.fail(f"{path} was read"))
        second = cached(root, length=64)
    assert second.data_hash == first.data_hash
    assert corpus_of(second).folder == corpus_of(first).folder
    assert (first.spec.length, second.spec.length) == (128, 64)  # type: ignore[union-attr]
    assert texts(second) == texts(first)
    assert corpus_of(cached(root, lowercase=True)).folder != corpus_of(first).folder
    assert corpus_of(cached(sentences(6), kind="text")).folder == corpus_of(first).folder, "equal texts, equal corpus"
    (corpus_of(first).folder / "tokens.bin").write_bytes(b"short")  # type: ignore[operator]
    assert texts(cached(root)) == sentences(6)
    (root / "0.txt").write_text("another")
    assert texts(cached(root))[0] == "another"
    assert clean(tmp_path / "cache") > 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] in ([], ["listings"])


def test_a_glimpse_tokenises_a_sample_and_keeps_nothing(tmp_path: Path, cached, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokenise, "_GLIMPSED", 3)
    glimpse = cached(sentences(12), kind="text", patience=1e-9)
    assert len(glimpse) == len(corpus_of(glimpse).lengths) == 12
    assert glimpse.notes.decoding_seconds > 0
    assert set(texts(glimpse)) <= set(sentences(12))
    assert glimpse.batch(np.arange(12))["tokens"].shape[0] == 12
    assert not any((tmp_path / "cache" / "texts").iterdir())
    assert texts(cached(sentences(12), kind="text", patience=60.0)) == sentences(12)


def test_documents_beyond_the_longest_are_cut_and_counted(cached):
    dataset = cached(["word " * 3000, "short one"], kind="text")
    batch = dataset.batch(np.array([1, 0]))
    assert batch["tokens"].shape == (2, LONGEST)
    assert batch["tokens"][1, -1] == dataset.spec.sep  # type: ignore[union-attr]
    assert batch["valid"].sum(1).tolist()[1] == LONGEST
    assert corpus_of(dataset).lengths[0] >= 3000
    assert dataset.notes.cut == 1


def test_copies_are_found_by_content_alone(cached):
    wanted = sentences(6)
    dataset = cached([*wanted, wanted[2], "fresh and new"], kind="text")
    assert dataset.notes.duplicates == 1
    found = exact_copies(dataset.content, np.array([6, 7]), np.arange(6))
    assert found.twin.tolist() == [2, -1]
    assert found.exact.tolist() == [True, False]
    assert found.threshold is None


MEMORY = """
import re, sys
from pathlib import Path
from tacit.dataset import open_dataset

def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3

open_dataset(["to load what", "is needed"], kind="text", cache=sys.argv[2] + "/first")
before = memory("VmRSS")
dataset = open_dataset(sys.argv[1], cache=sys.argv[2], tokenizer=sys.argv[3])
assert len(dataset) == 3, len(dataset)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's own account of memory")
def test_memory_stays_flat_whatever_the_size(tmp_path: Path, cached):
    """Two files of 2 MB, one of them a single line, are read without either ever being whole in memory."""
    folder = corpus_of(cached(sentences(200), kind="text")).folder
    (tmp_path / "data").mkdir()
    line = " ".join(sentences(500, seed=2))
    for name, text in (("line", line + " "), ("lines", line + "\n"), ("short", "")):
        (tmp_path / "data" / f"{name}.txt").write_text(text * (2_000_000 // len(line)) + "the end", encoding="utf-8")
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "data"), str(tmp_path / "flat"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200


@pytest.mark.skipif(not IMDB.exists(), reason="the reviews are not on this machine")
def test_reviews_of_films(tmp_path: Path, cached):
    table = pq.read_table(IMDB).slice(0, 300)
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=100)
    dataset = cached(tmp_path / "part.parquet", label_column="label", group_column="movie", vocabulary=1000)
    assert texts(dataset) == table["text"].to_pylist()
    assert dataset.ids.to_pylist() == table["id"].to_pylist()
    assert dataset.spec.vocabulary == 1000  # type: ignore[union-attr]
    assert dataset.group is not None


def test_columns_of_labels_are_no_content_unless_they_are_named(tmp_path: Path) -> None:
    """`comment` is a usual name of a text, and comes before `post`."""
    table = pa.table({"post": [f"words number {n}" for n in range(8)], "comment": ["good", "bad"] * 4})
    pq.write_table(table, tmp_path / "t.parquet")
    assert open_dataset(str(tmp_path / "t.parquet")).reading == {"text_column": ["comment"]}
    labelled = open_dataset(str(tmp_path / "t.parquet"), label_column="comment")
    assert labelled.reading == {"text_column": ["post"]}
    assert labelled.classes == ("bad", "good")
