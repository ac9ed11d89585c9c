"""A folder of texts from beginning to end: run, fill in, predict, embed, export, judge again, go on. Tiny and real."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tacit
from tacit import cli
from tacit.core.errors import UserError
from tacit.evaluation import Report
from tacit.experiment.split import split_dataset
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.language import masked_logits, pseudo_perplexity
from tacit.modalities.text.modality import MODALITY as TEXTS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief", "few_fits")]

LABELLED, ALL = 160, 200
FEW: dict[str, Any] = {"label_budgets": ["5"], "primary_budget": 5}
THINGS = {
    "weather": ["rain", "wind", "cloud", "storm", "snow", "sun", "frost", "thunder"],
    "kitchen": ["bread", "soup", "salt", "butter", "oven", "knife", "plate", "apple"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 notes on the weather or the kitchen, in files; the labels of the first 160."""
    chance, root = random.Random(0), tmp_path_factory.mktemp("notes")
    (root / "notes").mkdir()
    with (root / "few.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for row in range(ALL):
            topic = list(THINGS)[row % 2]
            words = [chance.choice(THINGS[topic]) for _ in range(chance.randint(4, 12))]
            text = " ".join(f"the {word} and the {chance.choice(THINGS[topic])}," for word in words)
            (root / "notes" / f"note{row:03d}.txt").write_text(f"Dear Secretplace, {text} as ever.")
            if row < LABELLED:
                writer.writerow([f"note{row:03d}.txt", topic])
    return root


def run(folder: Path, out: Path, **settings: Any) -> Any:
    told = {
        "labels": str(folder / "few.csv"),
        "budget": "4steps",
        "encoder": "bert_nano",
        "vocabulary": 400,
        "length": 32,
        **FEW,
    }
    return tacit.run(str(folder / "notes"), **{**told, "tasks": "masked,simclr", "out": str(out), **settings})


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "notes"
    run(folder, out)
    return out


def test_the_report_tells_of_texts(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    arms = {arm["name"] for arm in report["arms"]}
    assert arms == {"masked", "simclr", "random-init", "tfidf-words", "tfidf-characters", "scratch"}
    told = {r["arm"]: r["mean"] for r in report["results"] if r["budget"] == report["data"]["primary_budget"]}
    assert told["tfidf-words"] > 0.9  # the two topics share few words
    language = report["data"]["language"]
    assert language["held_out"]
    assert set(language["perplexity"]) == {"masked"}
    assert 1 < language["perplexity"]["masked"] < 400
    assert len(language["fills"][0]["top"]) == 5
    page = (finished / "report.html").read_text()
    for said in ("Dear Secretplace", "There stood", "Pseudo-perplexity", "[MASK]"):
        assert said in page


@pytest.mark.parametrize("target", ["retrieval", "pairs"])
def test_word_counts_search_as_well(target: str, tmp_path: Path) -> None:
    """120 notes on 60 things, two each: what is found equals scikit-learn's ranking, and the run is judged by it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    chance = random.Random(1)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    things = [chance.sample(words, 12) for _ in range(60)]
    texts = [" ".join([*chance.sample(things[row // 2], 6), *chance.sample(words, 8)]) for row in range(120)]
    data = pa.table({"text": texts, "thing": [f"thing {row // 2}" for row in range(120)]})
    told = {"target": target, "label_column": "thing", "vocabulary": 300, "length": 16}

    dataset = tacit.open_dataset(data, **told)
    split = split_dataset(dataset, seed=0)
    arms = {arm.name: arm for arm in TEXTS.baselines(dataset.cache, split, 0)}
    assert split.labelled is not None
    test = split.labelled.test
    rule = arms["tfidf-words"].rule
    assert rule is not None
    X = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(dataset.cache.texts(split.rows[test]))
    similarity = (X @ X.T).toarray() - 2 * np.eye(len(test))
    found = np.take_along_axis(similarity, rule(split.labelled.train, np.empty(0), test), axis=1)
    np.testing.assert_allclose(found, -np.sort(-similarity, axis=1)[:, :10], atol=1e-5)
    counting, fitting = TEXTS.baselines_seconds(dataset.cache, split)
    assert 0 < counting < 60
    assert fitting(100) == 0

    report = tacit.run(data, budget="2steps", out=str(tmp_path / "run"), **told)
    told_of = {r.arm: r.mean for r in report.results if r.metric == "ndcg@10/test-gallery"}
    assert told_of.keys() == {"simclr", "random-init", "tfidf-words", "tfidf-characters", "bm25", "chance"}
    assert min(told_of[arm] for arm in arms) > 2 * told_of["chance"]
    assert {gain["baseline"] for gain in report.gains} == told_of.keys() - {"simclr"}
    assert report.verdict.outcome in ("harms", "underpowered")
    assert report.verdict.baseline in arms


def test_scored_pairs_of_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the two sentences share is their score: word counts rank the pairs by it, as scikit-learn would."""
    from scipy.stats import spearmanr
    from sklearn.feature_extraction.text import TfidfVectorizer

    chance = random.Random(2)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    with (tmp_path / "sts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence1", "sentence2", "score"])
        for _ in range(90):
            shared, one = chance.randint(0, 5), chance.sample(words, 6)
            other = chance.sample(one, shared) + chance.sample(words, 6 - shared)
            writer.writerow([" ".join(one), " ".join(other), shared])
    told = ["--text-column", "sentence1", "--text-column", "sentence2", "--target", "similarity"]
    told += ["--label-column", "score", "--vocabulary", "300", "--length", "16"]
    run = ["run", str(tmp_path / "sts.csv"), *told, "--budget", "2steps", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        cli.main(run)
    assert ended.value.code == 0
    assert "90 pairs scored from 0 to 5" in capsys.readouterr().err
    report = Report.load(tmp_path / "run")
    assert "Spearman correlation with the scores, cosine of each pair" in report.verdict.text
    figures = {(r.arm, r.metric): r for r in report.results}
    assert {arm for arm, _ in figures} == {"simclr", "random-init", "tfidf-words", "tfidf-characters", "bm25"}
    assert {metric for _, metric in figures} == {"spearman/cosine", "pearson/cosine"}

    settings = {"text_column": ["sentence1", "sentence2"], "target": "similarity", "label_column": "score"}
    dataset = tacit.open_dataset(str(tmp_path / "sts.csv"), vocabulary=300, length=16, **settings)
    split = split_dataset(dataset, seed=0)
    assert split.labelled is not None
    assert dataset.truth is not None
    test = split.rows[split.labelled.test]
    X = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(dataset.cache.texts(test))
    expected = spearmanr(
        (X @ X.T).toarray()[np.arange(0, len(test), 2), np.arange(1, len(test), 2)], dataset.truth[test[::2]]
    )
    said = figures["tfidf-words", "spearman/cosine"]
    assert said.mean == pytest.approx(expected[0], abs=1e-6)
    assert said.low > 0.5
    assert said.n_test == said.n_groups == len(test) // 2


def test_a_private_report_holds_no_text(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "run", tasks="masked", mask="0.4:0.2,span", private=True, budget="2steps")
    for name in ("report.html", "report.json", "log.txt"):
        written = (tmp_path / "run" / name).read_text().lower()
        assert not [word for word in ("secretplace", "thunder", "note001", "weather") if word in written], name
    told = json.loads((tmp_path / "run" / "report.json").read_text())["data"]["language"]["perplexity"]
    assert set(told) == {"masked"}


def test_masks_are_filled_in(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = finished / "encoders" / "masked"
    texts = ["the [MASK] and the storm", "salt, [MASK], [MASK]"]
    found = tacit.fill_mask(str(encoder), *texts, top=3)
    assert [len(places) for places in found] == [1, 2]
    for guesses in (guess for places in found for guess in places):
        chances = [guess.probability for guess in guesses]
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1
    with pytest.raises(SystemExit) as ended:
        cli.main(["fill-mask", str(encoder), texts[0]])
    assert ended.value.code == 0
    assert "the [MASK] and the storm" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no \[MASK\] in 'nothing'"):
        tacit.fill_mask(str(encoder), "nothing")
    with pytest.raises(UserError, match="no trained head"):
        tacit.fill_mask(str(finished / "encoders" / "simclr"), texts[0])


def test_pseudo_perplexity_hides_one_token_at_a_time(finished: Path) -> None:
    encoder = tacit.load_encoder(str(finished / "encoders" / "masked"))
    assert isinstance(encoder, TextEncoder)
    batch = encoder.prepare(["the rain and the wind", "soup"])
    losses = []
    for row, at in batch["valid"].nonzero().tolist():
        truth = int(batch["tokens"][row, at])
        if truth in encoder.spec.specials:
            continue
        one = {name: value[row : row + 1].clone() for name, value in batch.items()}
        one["tokens"][0, at] = encoder.spec.mask
        here = torch.zeros_like(one["valid"])
        here[0, at] = True
        losses.append(-float(masked_logits(encoder, one, here)[0].log_softmax(0)[truth]))
    found, count = pseudo_perplexity(encoder, batch)
    assert count == len(losses)
    assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


def test_the_encoder_is_of_use(finished: Path, folder: Path, tmp_path: Path) -> None:
    encoder = tacit.load_encoder(str(finished))
    texts = [(folder / "notes" / f"note{row:03d}.txt").read_text() for row in range(3)]
    with torch.no_grad():
        pooled = encoder(encoder.prepare(texts)).pooled
    tacit.embed(str(finished), str(folder / "notes"), out=str(tmp_path / "notes.parquet"))
    table = pq.read_table(tmp_path / "notes.parquet")
    assert table["id"][0].as_py() == "note000.txt"
    np.testing.assert_allclose(np.array(table["embedding"][:3].to_pylist()), pooled, rtol=1e-4, atol=1e-5)
    predicted = tacit.predict(str(finished), str(folder / "notes"), out=str(tmp_path / "predicted.csv"))
    assert set(predicted["class"].to_pylist()) <= set(THINGS)
    tacit.export(str(finished), to="hf", out=str(tmp_path / "hf"))
    assert (tmp_path / "hf" / "tokenizer.json").exists()
    chosen = tacit.next_labels(str(finished), str(folder / "notes"), n=4)
    assert len(chosen) == 4


def test_an_encoder_is_judged_again_on_the_same_seal(finished: Path, folder: Path, tmp_path: Path) -> None:
    labels = str(folder / "few.csv")
    report = tacit.evaluate(str(finished), str(folder / "notes"), labels=labels, out=str(tmp_path / "judged"), **FEW)
    assert report.data["seal_reads"] == 2
    assert (tmp_path / "judged" / "report.html").exists()


def test_pretraining_goes_on_with_the_tokenizer_that_it_came_with(finished: Path, folder: Path, tmp_path: Path) -> None:
    start = str(finished / "encoders" / "masked")
    (tmp_path / "words.txt").write_text("zxqvword\n\n")
    taken = {"budget": "3steps", "encoder": None, "vocabulary": None, "length": None, "init": start}
    report = run(folder, tmp_path / "on", tasks="masked", add_words=str(tmp_path / "words.txt"), **taken)
    assert "before" in {arm.name for arm in report.arms}
    told = json.loads((tmp_path / "on" / "report.json").read_text())["data"]["language"]["perplexity"]
    assert told["masked"] < told["before"]
    before, after = tacit.load_encoder(start), tacit.load_encoder(str(tmp_path / "on"))
    assert [len(encoder.prepare("zxqvword")["tokens"][0]) > 3 for encoder in (before, after)] == [True, False]
    with pytest.raises(UserError, match="--add-words adds to the tokenizer of --init"):
        run(folder, tmp_path / "no init", add_words=str(tmp_path / "words.txt"))
    (tmp_path / "words.txt").write_text("two words\n")
    with pytest.raises(UserError, match="'two words', which is more than a word"):
        run(folder, tmp_path / "bad words", add_words=str(tmp_path / "words.txt"), **taken)
    with pytest.raises(UserError, match="--init brings its own architecture"):
        run(folder, tmp_path / "other", init=start)


def test_a_task_of_images_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'rotation' has no recipe for data of kind text; choose from simclr, mocov3, "):
        run(folder, tmp_path / "run", tasks="rotation")


def test_nothing_named_takes_contrast_of_a_mean_of_embeddings(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "run", tasks=None, encoder=None, budget="3steps")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [arm["encoder"] for arm in report["arms"] if arm["name"] == "simclr"] == ["bert_bag"]
    assert not report["data"].get("language")


def test_texts_without_words_have_their_baselines() -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choice("😀😂🤣" if k % 2 else "😡😢😭") for _ in range(6)) for k in range(120)]
    data = pa.table({"text": texts, "label": [str(k % 2) for k in range(120)]})
    dataset = tacit.open_dataset(data, label_column="label", vocabulary=300)
    split = split_dataset(dataset, seed=0)
    arms = TEXTS.baselines(dataset.cache, split, 0)
    assert [arm.encoder for arm in arms] == ["TF-IDF of single characters and pairs", "TF-IDF of 2 to 5 characters"]
    assert split.labelled is not None
    train, test, truth = split.labelled.train, split.labelled.test, split.labelled.y
    for arm in arms:
        assert arm.rule is not None
        assert (arm.rule(train, truth[train], test) == truth[test]).mean() > 0.95
