"""One suite over every target: the better features win, noise does not, hidden labels are not read, judgements pair."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.evaluation import Arm, Labelled, Predictions, Report, evaluate, pair
from tacit.evaluation.arms import parts_of, target_of
from tacit.evaluation.features import Stored
from tacit.evaluation.results import FILE_NAME
from tacit.evaluation.targets import make_target
from tacit.evaluation.targets.classification import majority_by_type
from tacit.evaluation.targets.compared import Alike, cosine

pytestmark = pytest.mark.usefixtures("few_strengths")

TARGETS = ["classification", "tokens", "multilabel", "ordinal", "regression", "retrieval", "pairs", "similarity"]
N, TEST = 500, 200


def fetch(positions: NDArray[np.int64]) -> Batch:
    return {"index": torch.as_tensor(positions)}


@cache
def problem(name: str, seed: int = 0, shuffled: bool = False) -> tuple[Labelled, NDArray[np.float32]]:
    """Examples of every target, and features [N 26] of which the first six tell it and the others nothing."""
    rng = np.random.default_rng(seed)
    latent, group = rng.normal(size=(N, 6)), np.arange(N)
    y, classes, truth = np.zeros(N, np.int64), ("a", "b", "c"), None
    if name in ("classification", "tokens"):
        y = rng.permutation(np.arange(N) % 3)
        latent += 2.0 * np.eye(6)[y]
    if name == "retrieval":
        y, classes = rng.permutation(np.arange(N) % 40), tuple(map(str, range(40)))
        latent = 0.6 * latent + rng.normal(size=(40, 6))[y]
    if name == "tokens":
        group = np.arange(N) // 5
    if name == "multilabel":
        truth = (latent[:, :3] + 0.5 * rng.normal(size=(N, 3)) > 0.5).astype(float)
        y = np.where(truth.any(1), truth.argmax(1), 3)
    if name == "ordinal":
        grade = latent @ [3.0, 2, 1, 0, 0, 0] + rng.normal(size=N)
        y, classes = np.searchsorted(np.quantile(grade, [0.4, 0.7, 0.9]), grade), ("0", "1", "2", "3")
    if name == "regression":
        classes = ()
        truth = latent @ [3.0, 2, 1, 0, 0, 0] + 20 + rng.normal(size=N)
        y = np.searchsorted(np.quantile(truth, [0.25, 0.5, 0.75]), truth)
    if name == "pairs":
        y = group = np.arange(N) // 2
        classes = tuple(map(str, range(N // 2)))
        latent = 0.4 * latent + rng.normal(size=(N // 2, 6))[y]
    if name == "similarity":
        group, classes = np.arange(N) // 2, ()
        latent = 0.7 * latent + rng.normal(size=(N // 2, 6))[group] * rng.choice([0.3, 1.0, 2.0], N // 2)[group, None]
        one, other = (half / np.linalg.norm(half, axis=1, keepdims=True) for half in (latent[::2], latent[1::2]))
        truth = np.repeat(((one * other).sum(1) + 0.2 * rng.normal(size=N // 2)).round(1), 2)
        y = np.searchsorted(np.quantile(truth, [0.25, 0.5, 0.75]), truth)
    if shuffled and name == "similarity":
        assert truth is not None
        truth = np.repeat(np.concatenate([rng.permutation(truth[:TEST:2]), rng.permutation(truth[TEST::2])]), 2)
    elif shuffled:
        order = np.concatenate([rng.permutation(TEST), TEST + rng.permutation(N - TEST)])
        y, truth, group = y[order], None if truth is None else truth[order], group[order] if name == "pairs" else group
    features = np.concatenate([latent, rng.normal(size=(N, 20))], axis=1).astype(np.float32)
    test = np.arange(N) < TEST
    labelled = Labelled(fetch, y, classes, group, np.flatnonzero(~test), np.flatnonzero(test), target=name, truth=truth)
    if name == "pairs":
        labelled = replace(labelled, side=np.arange(N) % 2)
    if name == "similarity":
        labelled = replace(labelled, pair=group)
    return labelled, features


def arm(name: str, features: NDArray[np.float32], kind: Any = "pretrained") -> Arm:
    return Arm(name, kind, (Stored(features),))


@cache
def judged(name: str, seed: int = 0) -> Report:
    labelled, x = problem(name)
    rules = [Arm(n, "baseline", rule=r) for n, r in target_of(labelled).rules(labelled).items()]
    arms = [
        arm("good", x[:, :8]),
        arm("noise", x[:, 8:]),
        arm("raw", x[:, (2 if name == "tokens" else 1) :][:, :8], "baseline"),
        *rules,
    ]
    return evaluate(arms, labelled, budgets=two_budgets(name), draws=4, seed=seed)


def two_budgets(name: str) -> list[int] | None:
    """The primary one and one below; None of what learns nothing."""
    if name in ("retrieval", "pairs", "similarity"):
        return None
    return [30, 100] if name in ("multilabel", "regression") else [5, 10]


@pytest.mark.parametrize("name", TARGETS)
def test_the_better_features_transfer_and_noise_does_harm(name: str) -> None:
    report = judged(name)
    assert (report.verdict.outcome, report.verdict.arm) == ("transfers", "good"), report.verdict.text
    usual = next(iter(make_target(name, 3).protocols))
    noise = [v for v in report.verdicts if v.arm == "noise" and v.protocol == usual]
    assert "harms" in {v.outcome for v in noise}
    assert "transfers" not in {v.outcome for v in noise}
    assert target_of(problem(name)[0]).metrics[0].words in report.verdict.text
    for r in report.results:
        assert r.low <= r.mean <= r.high


@pytest.mark.parametrize("name", TARGETS)
def test_a_report_survives_the_disk(name: str, tmp_path: Path) -> None:
    report = judged(name)
    report.save(tmp_path)
    assert (tmp_path / FILE_NAME).exists()
    assert Report.load(tmp_path) == report
    assert str(Report.load(tmp_path)) == str(report)
    assert "good" in report._repr_html_()


@pytest.mark.parametrize("name", TARGETS)
def test_judgements_are_paired_as_if_judged_together(name: str, tmp_path: Path) -> None:
    labelled, x = problem(name)
    budgets = two_budgets(name)
    alone = evaluate([arm("other", x[:, 2:9]), arm("raw", x[:, 3:], "baseline")], labelled, budgets=budgets, draws=4)
    for report, folder in ((judged(name), tmp_path / "a"), (alone, tmp_path / "b")):
        folder.mkdir()
        assert report.predictions is not None
        report.predictions.save(folder)
    pairs, reasons = pair(*(Predictions.load(tmp_path / folder) for folder in "ab"))
    assert reasons == []
    both = [arm("good", x[:, :8]), arm("other", x[:, 2:9], "baseline")]
    together = evaluate(both, labelled, budgets=budgets, draws=4)
    rows = {row["budget"]: row for row in together.gains if row["protocol"] == together.verdict.protocol}
    for paired in pairs:
        assert paired.estimate.mean == pytest.approx(rows[paired.budget.name]["gain"], abs=1e-6)
        assert paired.estimate.interval()[0] == pytest.approx(rows[paired.budget.name]["low"], abs=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_test_labels_are_hidden_until_the_end(name: str) -> None:
    """Whatever the sealed labels say, every prediction is the same."""
    labelled, x = problem(name)
    target, hidden = target_of(labelled), []
    for poisoned in (labelled, _poisoned(labelled)):
        [part] = parts_of(poisoned, 0)
        assert (part.labelled.y[part.test] == -1).all()
        if part.labelled.truth is not None:
            assert np.isnan(part.labelled.truth[part.test]).all()
        draws = [labelled.train[::4], labelled.train[1::4]]
        hidden.append(target.probe(part, x[part.train], x[part.test], draws, 0))
    for protocol, predicted in hidden[0].items():
        np.testing.assert_array_equal(predicted, hidden[1][protocol])


def _poisoned(labelled: Labelled) -> Labelled:
    y, truth = labelled.y.copy(), None if labelled.truth is None else labelled.truth.copy()
    y[labelled.test] = np.roll(y[labelled.test], 7)
    if truth is not None:
        truth[labelled.test] = truth[labelled.test][::-1]
    return replace(labelled, y=y, truth=truth)


@pytest.mark.slow
@pytest.mark.usefixtures("few_strengths")
@pytest.mark.parametrize("name", TARGETS)
def test_shuffled_labels_hardly_ever_transfer(name: str) -> None:
    """At most 5 % of 20 runs, and binomial error: 3."""
    transfers, both = 0, two_budgets(name)
    budgets = None if both is None else [min(both) if max(both) == 100 else max(both)]  # 30 labels, or 10 per class
    for seed in range(20):
        labelled, x = problem(name, 100 + seed, True)
        arms = [arm("a", x[:, :6]), arm("b", x[:, 6:12], "baseline")]
        transfers += evaluate(arms, labelled, budgets=budgets, draws=4).verdict.outcome == "transfers"
    assert transfers <= 3


@pytest.mark.parametrize("name", ["multilabel", "ordinal", "regression"])
def test_training_from_scratch_learns_the_target(name: str) -> None:
    from tacit.evaluation.probes.finetune import train_on_labels

    labelled, x = problem(name)
    target = target_of(labelled)
    training = target.trainable(labelled.answers[labelled.train])
    assert training is not None
    model = train_on_labels(lambda seed: Linear(x), fetch, labelled.train, training, seed=0, steps=150, lr=0.03)
    tested = target.tested(labelled, labelled.test)
    found = target.metrics[0].value(model.predict(fetch, labelled.test), tested.truth)
    assert found > (0.8 if name == "multilabel" else 0.6)


class Linear(torch.nn.Module):
    """Features as they are, with a layer that learns."""

    dim, n_depths = 26, 0

    def __init__(self, x: NDArray[np.float32]) -> None:
        super().__init__()
        self.x = torch.from_numpy(x)
        self.layer = torch.nn.Linear(26, 26)

    def forward(self, batch: Batch, *, depths: Any = ()) -> Features:
        pooled = self.layer(self.x[batch["index"]])
        return Features(pooled[:, None], pooled)


def test_every_label_has_the_probe_of_a_class() -> None:
    labelled, x = problem("multilabel")
    target, rows = target_of(labelled), labelled.train
    [p] = target.linear(x[rows], labelled.answers[rows], [np.arange(len(rows))], x[:TEST], seed=0)  # type: ignore[attr-defined]
    assert p.shape == (TEST, 3)
    for c in range(3):
        theirs = LogisticRegression(C=1.0).fit(x[rows], labelled.answers[rows, c]).predict_proba(x[:TEST])[:, 1]
        assert np.corrcoef(p[:, c], theirs)[0, 1] > 0.97


def test_search_by_hand() -> None:
    labelled, x = problem("retrieval")
    labelled = replace(labelled, group=np.arange(N) // 2)
    target = target_of(labelled)
    found = target.answers(labelled, labelled.test, cosine(x[:TEST]))  # type: ignore[attr-defined]
    unit = x[:TEST] / np.linalg.norm(x[:TEST], axis=1, keepdims=True)
    for i in range(0, TEST, 17):
        order = [j for j in np.argsort(-(unit @ unit[i]), kind="stable") if j // 2 != i // 2][:10]
        assert found[i].tolist() == order


def test_sparse_rows_are_searched_like_dense_ones() -> None:
    labelled, x = problem("retrieval")
    seeks, has = np.maximum(x[:TEST], 0), np.maximum(-x[:TEST], 0)
    dense, sparse = Alike(seeks, has), Alike(csr_array(seeks), csr_array(has))
    some, others = np.arange(7), np.arange(7)[::-1]
    np.testing.assert_allclose(sparse.to_each(some, others), dense.to_each(some, others), rtol=1e-5)
    np.testing.assert_allclose(sparse.to_each(some, others), dense.to_all(some)[some, others], rtol=1e-5)
    both = [target_of(labelled).answers(labelled, labelled.test, of) for of in (dense, sparse)]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(*both)


@pytest.mark.slow
def test_intervals_of_a_search_know_that_queries_share_what_they_seek() -> None:
    """Two encoders that are equally good: 95 % of the intervals hold 0, or more."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.repeat(np.arange(60), 5)
        latent = rng.normal(size=(60, 8))[y]
        encoders = [(latent + rng.normal(size=latent.shape)).astype(np.float32) for _ in range(2)]
        everyone = np.arange(300)
        labelled = Labelled(fetch, y, tuple(map(str, range(60))), everyone, everyone[:0], everyone, target="retrieval")
        verdict = evaluate([arm("a", encoders[0]), arm("b", encoders[1], "baseline")], labelled).verdict
        assert verdict.low is not None
        assert verdict.high is not None
        held += verdict.low <= 0 <= verdict.high
    assert held >= 53  # of 60: 88 %


def test_what_is_left_moves_up_where_a_result_is_gone() -> None:
    target = make_target("retrieval", 0)
    keep = np.array([True, False, True, True])
    found = target.among(np.array([[[[1, 2, 3], [0, 2, 3], [1, 3, 0], [2, 1, 0]]]]), keep)
    assert found.tolist() == [[[[1, 2, -1], [2, 0, -1], [1, 0, -1]]]]


def test_partners_are_sought_on_the_other_side() -> None:
    labelled, x = problem("pairs")
    found = target_of(labelled).answers(labelled, labelled.test, cosine(x[:TEST]))  # type: ignore[attr-defined]
    assert (found % 2 != np.arange(TEST)[:, None] % 2).all()


def test_a_pair_counts_once_and_only_whole() -> None:
    labelled, x = problem("similarity")
    places = np.array([4, 1, 0, 9, 5, 7, 3, 2, 8])  # of 7 and 3 the others are not there
    target: Any = target_of(labelled)
    assert target.partners(labelled, places).tolist() == [4, 2, 1, 8, 0, -1, 7, 6, 3]
    said, tested = target.answers(labelled, places, cosine(x[places])), target.tested(labelled, places)
    np.testing.assert_allclose(said[0], np.dot(x[4], x[5]) / np.linalg.norm(x[4]) / np.linalg.norm(x[5]), rtol=1e-5)
    assert np.flatnonzero(np.isnan(said)).tolist() == [5]
    assert np.flatnonzero(tested.counts).tolist() == [0, 1, 3, 6]
    assert tested.left_out == ["1 items: the other one of the pair is not there"]
    one_way = Alike(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [10], [100], [1000]]))
    assert target.answers(labelled, np.arange(4), one_way).tolist() == [6, 6, 1700, 1700]


def test_pairs_that_tell_nothing() -> None:
    labelled, _ = problem("similarity")
    target: Any = target_of(labelled)
    assert labelled.truth is not None
    for bad in (replace(labelled, truth=np.full(N, 3.0)), replace(labelled, truth=np.arange(N) // 2 == 7)):
        with pytest.raises(UserError, match="scores all but the same: score more pairs"):
            target.tested(bad, bad.test)
        assert target.glance(bad, bad.train, problem("similarity")[1][bad.train], None) is None
    with pytest.raises(UserError, match="too few"):
        target.tested(labelled, np.arange(4))
    with pytest.raises(UserError, match="say which examples are one"):
        target.tested(replace(labelled, pair=None), labelled.test)


def test_the_majority_of_a_type() -> None:
    rule = majority_by_type(np.array([0, 0, 0, 1, 1, 2, 0, 1, 2, 3]))
    said = rule(np.arange(6), np.array([1, 1, 0, 2, 2, 0]), np.arange(6, 10))
    assert said.tolist()[:3] == [1, 2, 0]
    assert said[3] in (0, 1, 2)


def test_tokens_of_an_encoder_are_judged_where_they_stand() -> None:
    """Texts of five tokens: what stored embeddings of the tokens give, an encoder of the texts gives too."""
    labelled, x = problem("tokens")

    class Texts:
        dim, n_depths = 8, 0

        def __call__(self, batch: Batch, *, depths: Any = ()) -> Features:
            tokens = torch.from_numpy(x[:, :8]).reshape(-1, 5, 8)[batch["index"]]
            return Features(tokens, tokens.mean(1))

    placed = replace(labelled, tokens=np.stack([np.arange(N) // 5, np.arange(N) % 5], axis=1))
    arms = [
        Arm("good", "pretrained", (Texts(),)),
        Arm("noise", "baseline", rule=majority_by_type(np.zeros(N, np.int64))),
    ]
    stored = [arm("good", x[:, :8]), arms[1]]
    one, other = (evaluate(a, of, budgets=[10], draws=3) for a, of in ((arms, placed), (stored, labelled)))
    assert one.results == other.results
    assert one.verdict.outcome == "transfers"


def test_another_metric_decides() -> None:
    labelled, x = problem("classification")
    arms = [arm("good", x[:, :8]), arm("raw", x[:, 3:], "baseline")]
    report = evaluate(arms, labelled, metric="auroc", budgets=[5], draws=2)
    assert "AUROC" in report.verdict.text
    assert report.results[0].metric == "auroc"
    with pytest.raises(UserError, match="no metric 'aurocc'"):
        evaluate(arms, labelled, metric="aurocc")


def test_a_part_that_is_harmed_is_named() -> None:
    """Features that tell the classes everywhere but in one hospital."""
    labelled, x = problem("classification")
    site = np.arange(N) % 4
    blind = x[:, :8].copy()
    blind[site == 2] = np.random.default_rng(5).normal(size=(int((site == 2).sum()), 8))
    labelled = replace(labelled, subgroup=site, subgroups=("north", "east", "south", "west"))
    report = evaluate([arm("good", blind), arm("raw", x[:, 1:7], "baseline")], labelled, budgets=[20], draws=4)
    worst = report.data["subgroups"][0]
    assert (worst["subgroup"], worst["harmed"]) == ("south", True)
    assert not any(row["harmed"] for row in report.data["subgroups"][1:])
    assert "HARMS south" in str(report)
    assert "worst part: south" in str(report)


def test_a_rare_event_is_budgeted_in_all() -> None:
    labelled, x = problem("classification")
    rng = np.random.default_rng(0)
    y = (rng.random(N) < 0.04).astype(np.int64)
    y[[0, 1, 300, 301, 302]] = 1
    rare = replace(labelled, y=y, classes=("no", "yes"))
    report = evaluate([arm("good", x[:, :8] + 2 * y[:, None]), arm("raw", x[:, 8:], "baseline")], rare, draws=3)
    assert report.verdict.budget.endswith("in all")
    assert report.metric == "auroc"
    assert "; AUROC, linear probe" in report.verdict.text
    assert {"auroc", "average_precision"} <= {r.metric for r in report.results}


def test_no_target_of_that_name() -> None:
    with pytest.raises(UserError, match=r"no target named 'regresion'.*regression"):
        make_target("regresion", 2)


def test_predictions_become_columns() -> None:
    scores = np.array([[0.2, 0.8], [0.6, 0.7], [0.5, 0.1]], np.float32)
    chosen = make_target("classification", 2).columns(scores, ("a", "b"), "|")  # type: ignore[attr-defined]
    assert list(chosen) == ["class", "p(a)", "p(b)"]
    assert chosen["class"].tolist() == ["b", "b", "a"]
    several = make_target("multilabel", 2).columns(scores, ("a", "b"), "; ")  # type: ignore[attr-defined]
    assert list(several) == ["labels", "p(a)", "p(b)"]
    assert several["labels"].tolist() == ["b", "a; b", ""]
    np.testing.assert_array_equal(several["p(b)"], scores[:, 1])
    numbers = make_target("regression", 0).columns(scores[:, 0], (), "|")  # type: ignore[attr-defined]
    assert list(numbers) == ["prediction"]
    np.testing.assert_array_equal(numbers["prediction"], scores[:, 0])


@pytest.mark.parametrize("name", ["classification", "multilabel", "regression"])
def test_a_probe_is_a_linear_function_and_its_link(name: str) -> None:
    """Which is what an export writes down."""
    labelled, x = problem(name)
    target: Any = replace(target_of(labelled), scores=True)
    probe = target.fit(x[TEST:], labelled.answers[TEST:], None, 0)
    outputs = torch.from_numpy(x[:TEST]).double() @ torch.from_numpy(probe.W) + torch.from_numpy(probe.b)
    ends = {"softmax": lambda z: z.softmax(1), "sigmoid": torch.sigmoid, "identity": lambda z: z[:, 0]}
    np.testing.assert_allclose(probe(x[:TEST]), ends[target.link](outputs).numpy(), rtol=1e-4, atol=1e-6)


def test_a_label_that_all_have_is_certain() -> None:
    labelled, x = problem("multilabel")
    truth = labelled.answers.copy()
    truth[:, 0], truth[:, 2] = 1, 0
    said = make_target("multilabel", 3).fit(x, truth, None, 0)(x)  # type: ignore[attr-defined]
    assert (said[:, 0] == 1).all()
    assert (said[:, 2] == 0).all()
    assert 0 < said[:, 1].min() < said[:, 1].max() < 1
