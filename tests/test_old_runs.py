"""Run folders of commit 8eabb5c, before the tree was rebuilt, are opened, resumed and judged as that one would.

`tests/old/make.py` has made them, and what that commit said of them: the runs on texts and sounds were stopped after
two of four steps, the others are finished.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import tacit
from tacit.evaluation.results import Report
from tacit.modalities.audio.convnet import AudioConvNet
from tacit.modalities.events import sasrec
from tacit.modalities.text import bert
from tests.old.make import AUDIO, BERT, RUNS, SASREC

OLD = Path(__file__).parent / "old"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it all, with encoders as wide as they are there."""
    shutil.copytree(OLD, tmp_path / "old")
    for key in (tmp_path / "old").glob("*/secret.key"):
        key.chmod(0o600)
    monkeypatch.chdir(tmp_path / "old")
    sizes: list[tuple[Any, str, Any]] = [(bert.LAYOUTS, "nano", BERT), (sasrec.LAYOUTS, "nano", SASREC)]
    sizes += [(AudioConvNet.__init__.__kwdefaults__, name, value) for name, value in AUDIO.items()]
    for of, name, value in sizes:
        monkeypatch.setitem(of, name, value)
    return tmp_path / "old"


def vectors(file: Path) -> np.ndarray:
    return np.stack(pq.read_table(file)["embedding"].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("name", RUNS)
def test_encoders_say_what_they_said(name: str, there: Path) -> None:
    """Those that were stopped once they are resumed, and copies of all."""
    data, said = next(there.glob(f"{name}.*")).name, vectors(there / name / "said.parquet")
    task, encoder, settings = RUNS[name]
    if not (there / name / "report.json").exists():
        trained = {"encoder": encoder, "budget": "4steps", "batch_size": 16, "device": "cpu", **settings}
        tacit.pretrain(data, task=task, out=name, resume=True, **trained)
    tacit.export(name, to="safetensors", out="copy")
    for of in (name, "copy"):
        tacit.embed(of, data, out="again.parquet", device="cpu", overwrite=True)
        np.testing.assert_allclose(vectors(there / "again.parquet"), said, rtol=1e-4, atol=1e-5)


def test_a_judged_run_predicts_what_it_predicted(there: Path) -> None:
    tacit.predict("image", "image.parquet", labelled="image.parquet", out="again.csv", device="cpu")
    then, now = (pyarrow.csv.read_csv(of) for of in ("image/predicted.csv", "again.csv"))
    assert now.column_names == then.column_names
    for name in then.column_names:
        if pyarrow.types.is_floating(then[name].type):
            np.testing.assert_allclose(now[name], then[name], atol=1e-4)
        else:
            assert now[name].equals(then[name])


@pytest.mark.usefixtures("brief", "few_fits")
def test_a_judged_run_is_judged_again_and_compared(there: Path) -> None:
    """On its own seal, to the same figures."""
    before, after = Report.load("events"), tacit.evaluate("events", "events.parquet", out="again", device="cpu")
    then, now = ({r.arm: r.mean for r in of.results if r.metric == of.metric} for of in (before, after))
    assert now["markov"] == then["markov"]
    assert now["events"] == pytest.approx(then["next"], abs=1e-6)
    assert tacit.compare("events", "again").gains
    copy = shutil.copytree("image", there / "image again")
    assert all(not row["gain"] for row in tacit.compare("image", str(copy)).gains)
