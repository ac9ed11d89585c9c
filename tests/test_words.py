"""Every word of a text embedded, with its tag, and judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tacit
from tacit.commands.embed import word_places
from tacit.core.errors import UserError
from tacit.encoders import build_encoder
from tacit.modalities.text.vocabulary import specials_of, text_spec, train_tokenizer
from tests import texts

WORDS = [["the", "quick", "Foxes"], [], ["unquestionably", "seen", ",", "a", "über-dog", "dog"], ["a"]]
TAGS = [["D", "A", "N"], [], ["R", "V", None, "D", "N", "N"], ["D"]]


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_a_word_is_found_where_its_first_token_stands(algorithm: str) -> None:
    known = train_tokenizer(texts.TEXTS * 5, algorithm=algorithm, size=300, lowercase=False)
    encoder = build_encoder("bert_nano", text_spec(known, specials_of(known, {}, "the test"), 24))
    for words in WORDS:
        batch = encoder.prepare(" ".join(words))
        begun = ""
        for word, place in zip(words, word_places(encoder, words), strict=True):
            begun += " " + word
            before = encoder.prepare(begun[: len(begun) - len(word)].strip())["tokens"][0]
            expected = len(before) - 1  # where [SEP] stood, the word begins
            expected += known.id_to_token(int(batch["tokens"][0, expected])) in ("Ġ", "▁")  # unless by its blank
            assert place == expected
            assert batch["valid"][0, place]


def test_every_word_with_its_tag(tmp_path: Path) -> None:
    encoder = texts.encoder("bert_nano")
    table = pa.table({"words": WORDS, "tags": TAGS, "site": ["a", "b", "c", "d"], "name": ["w", "x", "y", "z"]})
    pq.write_table(table, tmp_path / "in.parquet")
    options = {"text_column": "words", "cache": str(tmp_path / "cache"), "max_bad": 1.0}
    tacit.embed(encoder, tmp_path / "in.parquet", out=tmp_path / "out.parquet", words=True, **options)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["token"].to_pylist() == [word for row in WORDS for word in row]
    assert found["tags"].to_pylist() == [tag for row in TAGS for tag in row]
    assert found["sentence"].to_pylist() == ["w"] * 3 + ["y"] * 6 + ["z"]
    assert found["site"].to_pylist() == ["a"] * 3 + ["c"] * 6 + ["d"]
    assert found["id"].to_pylist()[3:5] == ["y/0", "y/1"]
    with torch.no_grad():
        said = encoder(encoder.prepare("the quick Foxes")).tokens[0, 1:4]  # each a token of its own
    np.testing.assert_allclose(np.stack(found["embedding"].to_numpy()[:3]), said, atol=1e-5)

    pq.write_table(table.set_column(1, "tags", pa.array([["D"], [], *TAGS[2:]])), tmp_path / "torn.parquet")
    with pytest.raises(UserError, match="w: 'tags' lists 1 values for 3 words"):
        tacit.embed(encoder, tmp_path / "torn.parquet", out=tmp_path / "torn.out.parquet", words=True, **options)
    assert not (tmp_path / "torn.out.parquet").exists()


def test_words_are_judged_by_their_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the words end a clause, which the next word tells: words that only their neighbours give away."""
    chance = np.random.default_rng(0)
    rows = [[["dog", "fox", "ran", "."][i] for i in chance.integers(0, 4, 12)] for _ in range(60)]
    tags = [["animal" if word in ("dog", "fox") else "other" for word in row] for row in rows]
    lines = pa.table({"words": rows, "tags": tags})
    pq.write_table(lines, tmp_path / "in.parquet")
    options = {"text_column": "words", "cache": str(tmp_path / "cache")}
    tacit.embed(
        texts.encoder("bert_nano"), tmp_path / "in.parquet", out=tmp_path / "out.parquet", words=True, **options
    )
    report = tacit.evaluate(
        tmp_path / "out.parquet", target="tokens", group_column="sentence", label_column="tags", label_budgets=["10"]
    )
    assert {arm.name for arm in report.arms} == {"out", "majority by type"}
    best = max(row.mean for row in report.results if row.arm == "out" and row.protocol == "linear")
    assert best > 0.95


def test_images_have_no_words(tmp_path: Path) -> None:
    from tacit.modalities.image.spec import ImageSpec

    spec = ImageSpec(size=8, channels=1, mean=(0.5,), std=(0.5,))
    with pytest.raises(UserError, match="reads images, without words"):
        tacit.embed(build_encoder("convnet", spec), "digits", out=tmp_path / "out.parquet", words=True)
