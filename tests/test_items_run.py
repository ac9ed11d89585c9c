"""A table of events from end to end without labels: run, evaluate, recommend; what is held out is learned by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tacit
from tacit import cli
from tacit.core.errors import UserError
from tacit.data.split import Split
from tacit.dataset import Dataset, open_dataset
from tacit.evaluation import Report, Seal
from tacit.experiment.split import split_dataset
from tacit.modalities.events import counts
from tacit.modalities.events.modality import MODALITY as EVENTS
from tests.events import Row, histories_of, write

pytestmark = pytest.mark.usefixtures("brief", "few_fits")

PEOPLE, ITEMS = 60, 20


def walks(order: str = "timestamp", *, more: int = 0, seed: int = 0) -> list[Row]:
    """People who mostly go from an item to the next number; with `more` events of each, and one who is new."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for user in range(PEOPLE + (more > 0)):
        item = int(rng.integers(ITEMS))
        length = int(rng.integers(4, 9))
        later = np.random.default_rng(user)
        for place in range(length + more):
            chance = rng if place < length else later
            when = 1_600_000_000 + 1000 * place + user if order == "timestamp" else place
            rows.append({"user": f"qwk{user}", "item": f"zyx{item}", order: when})
            item = (item + 1) % ITEMS if chance.random() < 0.8 else int(chance.integers(ITEMS))
    return rows


@pytest.fixture(scope="module", autouse=True)
def _few_settings() -> Iterator[None]:
    """Counts choose among two settings each."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHARES", "FADES", "SHRINKING", "NEIGHBOURS", "DECAYS", "POWERS"):
            patch.setattr(counts, name, getattr(counts, name)[:1])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walks")
    write(walks(), folder / "events.parquet")
    return folder


def run(folder: Path, out: str, data: str = "events.parquet", **settings: Any) -> Report:
    told = {"budget": "6steps", "length": 8, "device": "cpu", "cache": str(folder / "cache"), **settings}
    return tacit.run(str(folder / data), out=str(folder / out), **told)


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    run(folder, "run")
    return folder / "run"


def test_a_verdict_without_labels(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    arms = {arm["name"] for arm in report["arms"]}
    assert arms == {"next", "random-init", "popularity", "recent popularity", "item-knn", "markov"}
    assert report["verdict"]["budget"] == "no labels"
    assert report["data"]["n_test"] == PEOPLE
    assert report["data"]["target"] == "recommendation"
    assert report["data"]["order"] == "in time"
    found = {r["arm"]: r["mean"] for r in report["results"] if r["metric"] == report["data"]["primary_metric"]}
    assert found["markov"] > found["random-init"]  # people mostly go on to the next number
    assert "public pretrained" not in report["verdict"]["text"]
    page = (finished / "report.html").read_text()
    for said in (
        "What was recommended, and what came",
        "Popularity against accuracy",
        "zyx3",
        "20 items",
        "Test histories",
    ):
        assert said in page
    assert "test items" not in page
    log = (finished / "log.txt").read_text()
    assert "60 histories are tested by the event that came next" in log
    assert "--target repeats asks for repeated items too" in log
    readings = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert any("probe" in row for row in readings)


def test_a_run_is_judged_again_on_its_own_seal(finished: Path, folder: Path) -> None:
    report = tacit.evaluate(
        str(finished),
        str(folder / "events.parquet"),
        cache=str(folder / "cache"),
        device="cpu",
        out=str(folder / "again"),
    )
    first = Report.load(finished)
    assert not report.verdict.transductive
    assert Seal.load(folder / "again").items == Seal.load(finished).items
    means = [{r.arm: r.mean for r in of.results if r.metric == of.metric} for of in (first, report)]
    assert means[0]["markov"] == means[1]["markov"]
    assert means[0]["next"] == pytest.approx(means[1]["run"])


def test_labels_of_people_are_judged_beside(finished: Path, folder: Path) -> None:
    lines = [f"qwk{user},{'even' if user % 2 else 'odd'}" for user in range(PEOPLE)]
    (folder / "people.csv").write_text("\n".join(["user,kind", *lines]))
    report = tacit.evaluate(
        str(finished),
        str(folder / "events.parquet"),
        labels=str(folder / "people.csv"),
        label_column="kind",
        label_budgets=["5"],
        primary_budget=5,
        cache=str(folder / "cache"),
        device="cpu",
    )
    assert report.data["target"] == "classification"
    assert report.verdict.transductive  # their histories were pretrained on
    assert "public pretrained" not in report.verdict.text


def test_nothing_private_is_told(folder: Path) -> None:
    run(folder, "private", private=True)
    for name in ("report.json", "report.html", "log.txt"):
        text = (folder / "private" / name).read_text()
        assert "zyx" not in text
        assert "qwk" not in text


def test_recommend_says_what_comes_next(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tacit.recommend(str(finished), history="zyx3, zyx4,zyx99", k=3)
    assert found.unknown == 1
    assert len(found.items) == 3
    assert not {"zyx3", "zyx4"} & set(found.items)
    assert "1 of the 3 events are of items that the encoder does not know" in capsys.readouterr().out
    assert tacit.recommend(str(finished), history=["zyx3"], allowed="zyx3,zyx5", seen=True).items[0] in {
        "zyx3",
        "zyx5",
    }
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(["recommend", str(finished), "--history", "zyx3,zyx4", "--k", "2"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.count("zyx") == 2
    with pytest.raises(UserError, match="no item is named"):
        tacit.recommend(str(finished), history=" , ")
    with pytest.raises(UserError, match="no encoder of items"):
        tacit.recommend(tacit.encoders.build_encoder("convnet", tacit.open_dataset("digits").spec), history="1")


# ---------------------------------------------------------------- what is held out


def opened(rows: list[Row], folder: Path, **settings: Any) -> Dataset:
    return open_dataset(pa.Table.from_pylist(rows), cache=str(folder / "cache"), **settings)


def pairs(split: Split, positions: np.ndarray, names: list[str]) -> dict[str, tuple[list[int], int]]:
    """What was known and what came, by person."""
    assert split.held is not None
    held = split.held
    known = [held.contexts.items[held.contexts.start[q] : held.contexts.stop[q]].tolist() for q in positions]
    return {names[held.user[q]]: (row, int(held.came[q])) for q, row in zip(positions, known, strict=True)}


@pytest.mark.parametrize("holdout", ["last", "time"])
def test_no_batch_of_pretraining_holds_what_is_asked(holdout: str, folder: Path) -> None:
    """Nor anything after it: every batch ends where the questions of validation begin."""
    dataset = opened(walks(), folder, holdout=holdout)
    split = split_dataset(dataset, seed=0)
    cut = replace(dataset, cache=EVENTS.without_held(dataset.cache, split.held))
    histories = histories_of(dataset)
    assert split.held is not None
    held = split.held
    assert len(held.train)
    assert len(held.test)
    until = histories.ends.copy()  # the place of the first event that somebody is asked about
    for question, user in enumerate(held.user):
        until[user] = min(until[user], held.contexts.stop[question])
    plan = EVENTS.recipe(
        {"next": 1.0}, tacit.encoders.build_encoder("sasrec_nano", dataset.spec), examples=len(dataset)
    )
    source = EVENTS.batches(cut.cache, split.pretrain, plan, 0)
    seen = set()
    for step in range(12):
        batch = source(step)
        for row, tokens, valid in zip(batch["index"].tolist(), batch["tokens"], batch["valid"], strict=True):
            seen.add(row)
            known = histories.items[histories.start[row] : until[row]].tolist()
            assert (tokens[valid] - 2).tolist() == known[: int(valid.sum())]
            if holdout == "time":
                assert histories.times is not None
                last = histories.times[histories.start[row] + int(valid.sum()) - 1]
                asked = chain(held.contexts.stop)
                assert last < min(histories.times[place] for place in asked)
    assert len(seen) > PEOPLE / 3
    np.testing.assert_array_equal(cut.batch(np.arange(4))["tokens"], histories_of(cut).batch(np.arange(4))["tokens"])


@pytest.mark.parametrize("holdout", ["last", "time"])
def test_a_seal_holds_when_people_have_gone_on(holdout: str, folder: Path) -> None:
    first, later = opened(walks(), folder, holdout=holdout), opened(walks(more=3), folder, holdout=holdout)
    before = split_dataset(first, seed=0)
    same = split_dataset(first, seed=0, sealed=before.seal)
    assert before.held is not None
    assert same.held is not None
    np.testing.assert_array_equal(same.held.learn.stop, before.held.learn.stop)
    after = split_dataset(later, seed=0, sealed=before.seal)
    assert after.held is not None
    assert after.untested == 0
    one = pairs(before, before.held.test, first.ids.to_pylist())
    other = pairs(after, after.held.test, later.ids.to_pylist())
    known = [dataset.spec.known for dataset in (first, later)]  # type: ignore[union-attr]
    told = [
        {name: (of.items(row), of.items([came])) for name, (row, came) in found.items()}
        for of, found in zip(known, (one, other), strict=True)
    ]
    assert told[0] == told[1]


def test_a_seal_of_something_else_is_refused(folder: Path) -> None:
    dataset = opened(walks(), folder)
    seal = split_dataset(dataset, seed=0).seal
    by_time = opened(walks(), folder, holdout="time")
    with pytest.raises(UserError, match="the seal keeps the last event of each history, and what is tested here"):
        split_dataset(by_time, seed=0, sealed=seal)
    strangers = opened([{**row, "user": f"other {row['user']}"} for row in walks()], folder)
    with pytest.raises(UserError, match="none of the sealed events is in the data"):
        split_dataset(strangers, seed=0, sealed=seal)


def test_a_mere_order_is_said(folder: Path) -> None:
    dataset = opened(walks("position"), folder)
    assert "order only" in EVENTS.describe(dataset.cache)
    assert EVENTS.facts(dataset.cache)["order"] == "order only"


def test_who_cannot_be_asked_is_counted(folder: Path) -> None:
    rows = [*walks(), {"user": "once", "item": "zyx1", "timestamp": 1_600_000_000}]
    [line, *_] = EVENTS.about_held(split_dataset(opened(rows, folder), seed=0))
    assert line.startswith("60 histories are tested by the event that came next, 60 choose by one before it; ")
    assert line.endswith("; 1 has too few events to be tested")
    assert split_dataset(opened(rows, folder, holdout="none"), seed=0).held is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "recommendation", "holdout": "none"}, "--target recommendation and --holdout none exclude"),
        ({"target": "repeats", "labels": "PEOPLE"}, "--target repeats asks what comes next, and reads no labels"),
    ],
)
def test_targets_that_contradict_are_refused(settings: dict[str, Any], said: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("user,label\nqwk0,a\nqwk1,b\nqwk2,a\nqwk3,b\n")
    if "labels" in settings:
        settings = {**settings, "labels": str(tmp_path / "people.csv")}
    with pytest.raises(UserError, match=said):
        opened(walks(), folder, **settings)


def test_images_are_not_recommended(folder: Path) -> None:
    with pytest.raises(UserError, match="--target recommendation needs a table of events"):
        open_dataset("digits", cache=str(folder / "cache"), target="recommendation")


def test_transductive_makes_no_sense(folder: Path) -> None:
    with pytest.raises(UserError, match="--transductive: what histories hold"):
        run(folder, "transductive", transductive=True)
