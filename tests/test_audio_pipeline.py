"""A folder of sounds from beginning to end: run, report, predict, embed, export, judge again. Tiny and real."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

import tacit
from tacit.core.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief", "few_fits")]

LABELLED, ALL, RATE = 120, 160, 4000
FEW: dict[str, Any] = {"label_budgets": ["5"], "primary_budget": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 tones that rise or fall, in files; the labels of the first 120."""
    chance, root = np.random.default_rng(0), tmp_path_factory.mktemp("sounds")
    (root / "calls").mkdir()
    with (root / "few.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for row in range(ALL):
            rising = row % 2
            time = np.arange(int(RATE * chance.uniform(0.2, 0.5))) / RATE
            pitch = chance.uniform(200, 500) * (1 + (2 * rising - 1) * time)
            sound = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * chance.normal(size=len(time))
            name = f"secretplace{row:03d}.wav"
            soundfile.write(root / "calls" / name, sound, RATE)
            if row < LABELLED:
                writer.writerow([name, ["sinking", "soaring"][rising]])
    return root


def run(folder: Path, out: Path, **settings: Any) -> Any:
    told = {"labels": str(folder / "few.csv"), "budget": "4steps", "tasks": "simclr,masked", "out": str(out)}
    return tacit.run(str(folder / "calls"), **{**told, **FEW, **settings})


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "calls"
    run(folder, out)
    return out


def test_the_report_is_of_sounds(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert (report["data"]["kind"], report["data"]["rate"]) == ("audio", RATE)
    assert {"simclr", "masked", "random-init", "log-mel", "mfcc", "scratch"} <= {arm["name"] for arm in report["arms"]}
    page = (finished / "report.html").read_text()
    players = re.findall(r'<audio controls preload="none" src="data:audio/mpeg;base64,([^"]+)"', page)
    assert len(players) > 20
    assert "media-src data:" in page
    for row in ("original", "view 1", "shown", "reconstruction"):
        assert f'<th scope="row">{row}</th>' in page


def test_the_encoder_is_of_use(finished: Path, folder: Path, tmp_path: Path) -> None:
    encoder = tacit.load_encoder(str(finished))
    files = sorted((folder / "calls").glob("*.wav"))[:3]
    with torch.no_grad():
        pooled = encoder(encoder.prepare(files)).pooled
    tacit.embed(str(finished), str(folder / "calls"), out=str(tmp_path / "calls.parquet"))
    table = pq.read_table(tmp_path / "calls.parquet")
    assert table["id"][0].as_py() == "secretplace000.wav"
    np.testing.assert_allclose(np.array(table["embedding"][:3].to_pylist()), pooled, rtol=1e-4, atol=1e-5)
    predicted = tacit.predict(str(finished), str(folder / "calls"), out=str(tmp_path / "predicted.csv"))
    assert set(predicted["class"].to_pylist()) <= {"sinking", "soaring"}
    report = tacit.evaluate(str(finished), str(folder / "calls"), labels=str(folder / "few.csv"), **FEW)
    assert report.data["seal_reads"] == 2
    with pytest.raises(UserError, match="no form in Hugging Face"):
        tacit.export(str(finished), to="hf", out=str(tmp_path / "hf"))


def test_a_private_report_plays_nothing(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "private", tasks="simclr", private=True)
    for name in ("report.html", "report.json", "log.txt"):
        text = (tmp_path / "private" / name).read_text()
        assert "secretplace" not in text, name
        assert "sinking" not in text, name
        assert "<audio" not in text, name
    arms = {arm["name"] for arm in json.loads((tmp_path / "private" / "report.json").read_text())["arms"]}
    assert {"simclr", "log-mel"} <= arms
