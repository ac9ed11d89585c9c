"""Long work is counted where it happens, and whoever watches sees it go on."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from tacit.core import stages
from tacit.core.stages import Stage, beat, stage, watched
from tacit.core.types import Features
from tacit.evaluation import Labelled, evaluate, select
from tacit.evaluation.arms import Arm, target_of
from tacit.evaluation.features import Stored, extract
from tacit.evaluation.probes.finetune import train_on_labels
from tacit.evaluation.probes.knn import knn_leave_one_out, knn_votes
from tacit.evaluation.probes.linear import fit_probe
from tacit.evaluation.probes.ridge import fit_ridge
from tacit.evaluation.targets import make_target
from tacit.experiment import log as progress
from tacit.experiment.log import Log
from tests.tiny import digits, tiny_encoder


def told(work: Callable[[], Any]) -> list[str]:
    seen: list[str] = []
    with watched(lambda now: seen.append(str(now))):
        work()
    return seen


def test_pieces_are_counted_and_stages_lie_in_each_other() -> None:
    def work() -> None:
        beat()  # within no stage there is nothing to say
        with stage("outer", 2) as outer:
            with stage("inner", 1_500) as inner:
                assert inner.above is outer
                inner.step(1_000)
                beat()
            outer.step()
        with stage("after", 1) as after:
            assert after.above is None

    assert told(work) == [
        "outer 0 of 2",
        "inner 0 of 1,500",
        "inner 1,000 of 1,500",
        "inner 1,000 of 1,500",
        "outer 1 of 2",
        "after 0 of 1",
    ]
    work()  # and nobody watches


def test_a_thread_counts_where_it_takes_the_context_along() -> None:
    def work() -> None:
        with stage("fits", 8) as now:
            threads = [Thread(target=copy_context().run, args=(now.step,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    seen = told(work)
    assert sorted(seen)[-1] == "fits 8 of 8"
    assert len(seen) == 9


def test_an_error_leaves_no_stage_behind() -> None:
    with pytest.raises(ZeroDivisionError), stage("breaks", 1):
        raise ZeroDivisionError
    assert stages._NOW.get() is None


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 6)).astype(np.float32), np.arange(120) % 3
ROWS = np.arange(120)


def fetch(rows: Any) -> dict[str, torch.Tensor]:
    return {"image": digits()[torch.as_tensor(rows)], "index": torch.as_tensor(rows)}


def labelled(n_test: int = 60) -> Labelled:
    return Labelled(fetch, Y, ("a", "b", "c"), ROWS, ROWS[n_test:], ROWS[:n_test])


class Deep:
    """Something to choose between: the vectors, or half of them."""

    n_depths, dim = 1, 6

    def __call__(self, batch: Any, *, depths: Any = ()) -> Features:
        pooled = torch.from_numpy(X[batch["index"].numpy()])
        return Features(pooled[:, None], pooled, depths=(pooled[:, :3],))


def deep() -> list[Arm]:
    return [Arm("judged", "pretrained", (Deep(),))]


def trained() -> None:
    training = target_of(labelled()).trainable(Y)
    assert training is not None
    train_on_labels(lambda seed: tiny_encoder(), fetch, ROWS, training, seed=0, steps=3).predict(fetch, ROWS)


# Everything that an evaluation does for long, with the least that it says and how often.
LONG: dict[str, tuple[Callable[[], Any], str, int]] = {
    "embedding": (lambda: extract(tiny_encoder(), fetch, ROWS, batch_size=40), "embedding 120 of 120", 4),
    "a probe": (lambda: inside(lambda: fit_probe(X, Y, n_classes=3, seed=0)), "inside 0 of 1", 20),
    "numbers": (lambda: inside(lambda: fit_ridge(X, X[:, 0].astype(float), groups=None, seed=0)), "inside 0 of 1", 3),
    "neighbours": (lambda: inside(lambda: knn_votes(X, Y, X, 3)), "inside 0 of 1", 2),
    "neighbours at once": (lambda: inside(lambda: knn_leave_one_out(X, Y, 3)), "inside 0 of 1", 2),
    "draws": (
        lambda: make_target("classification", 3).linear(X, Y, [ROWS, ROWS[:60]], X, seed=0),  # type: ignore[attr-defined]
        "fitting 2 of 2",
        20,
    ),
    "training on labels": (trained, "training 3 of 3", 4),
    "what that predicts": (trained, "predicting 120 of 120", 5),
    "search": (
        lambda: inside(lambda: evaluate(Stored(X), replace(labelled(), target="retrieval"))),
        "inside 0 of 1",
        3,
    ),
    "choosing": (lambda: select(deep(), labelled(), primary=5), "weighing 1 of 1", 20),
    "judging": (lambda: evaluate(Stored(X), labelled(), budgets=[5], draws=2), "asking neighbours 2 of 2", 20),
}


def inside(work: Callable[[], Any]) -> None:
    with stage("inside", 1):
        work()


@pytest.mark.parametrize("name", LONG)
def test_nothing_that_takes_long_is_silent(name: str) -> None:
    work, said, times = LONG[name]
    seen = told(work)
    assert said in seen
    assert len(seen) >= times


def test_a_rule_is_counted_by_its_draws() -> None:
    rule = Arm("majority", "baseline", rule=lambda train, truth, test: np.zeros(len(test), np.int32))
    arms = [Arm("judged", "pretrained", (Stored(X),)), rule]
    assert "answering 2 of 2" in told(lambda: evaluate(arms, labelled(), budgets=[5], draws=2))


class Clock:
    """Goes as far as it is told, and a little at every look."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def test_a_log_has_a_line_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    with Log(tmp_path / "log.txt") as log, log.working("judging") as tell, stage("embedding", 100) as now:
        for n in range(100):
            clock.now += 1.0  # second
            if n == 50:
                tell(0.5, "probing simclr")
            now.step()
    lines = capsys.readouterr().err.splitlines()
    assert 9 <= len(lines) <= 11  # of a hundred seconds
    assert lines[0].startswith("  judging: 0%  embedding 0 of 100")
    assert any(line.startswith("  judging: 50%  probing simclr: embedding ") for line in lines)
    assert lines[-1].split()[-2:] == ["40", "s"] or "min" in lines[-1]
    assert (tmp_path / "log.txt").read_text().splitlines() == [line.strip() for line in lines]


def test_a_quiet_log_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Log(quiet=True) as log, log.working("judging") as tell:
        tell(0.1, "probing")
    assert not capsys.readouterr().err


def test_a_terminal_has_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Log() as log, log.working("judging") as tell, stage("fitting", 7) as now:
        tell(0.25, "probing simclr at 100 %")
        now.step(3)
        assert log._live is not None
        [bar] = log._live.tasks
        assert (bar.description, bar.completed) == ("judging", 25)
        assert bar.fields["note"].startswith("probing simclr at 100 %: fitting 3 of 7  ")
        with stage("embedding", 9):
            assert bar.fields["note"].startswith("probing simclr at 100 %: fitting 3 of 7, embedding 0 of 9")
    assert "judging" in shown.getvalue()


def test_a_stage_is_told_as_it_is_now() -> None:
    assert str(Stage("embedding", 5_952, 2_048)) == "embedding 2,048 of 5,952"
