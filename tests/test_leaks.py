"""Test items that were as good as pretrained on: listed by inspect and run, and the verdict given without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tacit
from tacit.experiment.architecture import chosen_encoder, open_split
from tacit.experiment.leakage import Leaks, find_leaks
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened
from tacit.experiment.settings import Settings
from tests.test_data_duplicates import brighter, pairs_of_digits
from tests.tiny import digit_labels

TEST, COPIED = 60, 12
SIDE = 20  # px


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 drawings of two digits, labelled by the left one; of 60 for the test, 12 are brighter copies of others."""
    root = tmp_path_factory.mktemp("drawings")
    images, target = pairs_of_digits(SIDE)[:240].copy(), digit_labels()[:240] % 3
    for row in range(COPIED):
        images[row], target[row] = brighter(images[100 + row]), target[100 + row]
    lines = ["file,label,split"]
    (root / "images").mkdir()
    for row, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(root / "images" / f"scan{row:03d}.png")
        lines.append(f"scan{row:03d}.png,{target[row]},{'test' if row < TEST else 'train'}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def options(folder: Path) -> dict[str, Any]:
    return {"labels": str(folder / "labels.csv"), "split_column": "split"}


def opened(data: Any, reading: dict[str, Any], **more: Any) -> Opened:
    settings = Settings(**{"device": "cpu", "precision": "32", **more})
    with Log(quiet=True) as log:
        return open_split(data, reading, chosen_encoder(None), settings, log)[0]


def test_every_planted_copy_is_named(folder: Path) -> None:
    found = opened(str(folder / "images"), options(folder))
    leaks = find_leaks(found)
    assert leaks is not None
    assert found.split.labelled is not None
    ids = found.dataset.ids.take(found.split.rows[leaks.positions]).to_pylist()
    assert ids == [f"scan{row:03d}.png" for row in range(COPIED)]
    assert (leaks.exact, leaks.near_sought) == (0, True)
    assert {pair.rsplit(" (", 1)[0] for pair in leaks.pairs} == {
        f"scan{row:03d}.png = scan{100 + row:03d}.png" for row in range(COPIED)
    }
    line = leaks.line(TEST)
    assert line.startswith(
        "12 of the 60 test items have a copy or near-copy among what is pretrained on (0 exact): scan"
    )
    assert leaks.line(TEST, private=True).endswith("(0 exact)")
    assert leaks.as_data(private=True) == {"count": COPIED, "exact": 0, "near_sought": True, "first": []}


def test_nothing_to_find_where_test_inputs_are_pretrained_on(folder: Path) -> None:
    assert find_leaks(opened(str(folder / "images"), options(folder), transductive=True)) is None
    assert find_leaks(opened(str(folder / "images"), {})) is None


def test_the_digits_are_too_small_for_near_copies() -> None:
    leaks = find_leaks(opened("digits", {}))
    assert leaks is not None
    assert not leaks.near_sought
    assert len(leaks.positions) == 0
    assert leaks.line(540) == (
        "none of the 540 test items has an exact copy among what is pretrained on; near-copies were not looked for: "
        "images too small, or too many"
    )


def test_one_copy_reads_well() -> None:
    line = Leaks(np.array([4]), 1, ("a = b (exact)",), True).line(9)
    assert line == "1 of the 9 test items has a copy or near-copy among what is pretrained on (1 exact): a = b (exact)"


@pytest.mark.slow
def test_inspect_lists_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tacit.inspect(str(folder / "images"), tasks="rotation", budget="2steps", **options(folder))
    shown = capsys.readouterr().out
    assert "copies: 12 of the 60 test items have a copy or near-copy" in shown
    assert "scan005.png = scan105.png" in shown or "..." in shown


@pytest.mark.slow
@pytest.mark.parametrize("private", [False, True])
def test_a_run_judges_with_and_without_them(
    folder: Path, tmp_path: Path, private: bool, brief: None, few_fits: None
) -> None:
    out = tmp_path / "run"
    asked: dict[str, Any] = {"tasks": "rotation", "budget": "3steps", "out": str(out), "private": private}
    asked |= {"label_budgets": ["5"], "primary_budget": 5}
    report = tacit.run(str(folder / "images"), **asked, **options(folder))
    assert report.data["without_copies"]["left_out"] == COPIED
    assert report.verdict.gain != report.data["without_copies"]["gain"]
    saved = json.loads((out / "report.json").read_text())
    assert saved["data"]["without_copies"]["gain"] == report.data["without_copies"]["gain"]
    page, log = (out / "report.html").read_text(), (out / "log.txt").read_text()
    assert "Without the 12 test items that have a copy or near-copy in the pretraining data: " in page
    assert "12 of the 60 test items have a copy or near-copy" in log
    assert ("scan0" in log, "scan0" in page) == (not private, not private)
    if private:
        assert saved["data"]["number_of_test_copies"] == COPIED
    else:
        assert saved["data"]["test_copies"]["count"] == len(saved["data"]["test_copies"]["first"]) == COPIED
