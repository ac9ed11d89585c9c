"""Spoken digits by unknown speakers: pretrained through the command line, judged leaving one speaker out in turn.

    python benchmarks/spoken_digits.py CASE FSDD LIBRISPEECH [--budget 20m] [--keep FOLDER] [-- SETTINGS OF tacit run]

FSDD is the folder with train.parquet and test.parquet (audio, label, speaker), LIBRISPEECH that of unlabelled speech.

    heard     every clip is pretrained on, without labels; then each speaker in turn is the test set: transductive
    unheard   six pretrainings, each without the speaker that it is judged on
    few       the official split, whose speakers are all known: 60 labels, 6 of each digit at random, and, with
              intervals over ten draws, one of each digit by each speaker

One JSON line per speaker with every arm's balanced accuracy in percent and its 95 % interval, and one with the means
over speakers, whose intervals are Student's over the six.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from record import record
from scipy.stats import t

from tacit.modalities.audio.spec import AudioSpec

METRIC = "balanced_accuracy"
ALL = "100 %"
DRAWS = 10
FURTHER: list[str] = []  # settings of tacit run


def clips(fsdd: Path, librispeech: Path, out: Path) -> list[str]:
    """One table of all clips, with those of LibriSpeech unlabelled; returns the speakers."""
    parts = [pq.read_table(fsdd / f"{name}.parquet") for name in ("train", "test")]
    spoken = pa.concat_tables(parts)
    ids = [f"{name}/{row}" for name, part in zip(("train", "test"), parts, strict=True) for row in range(len(part))]
    split = [name for name, part in zip(("train", "test"), parts, strict=True) for _ in range(len(part))]
    others = [pq.read_table(path, columns=["audio"])["audio"] for path in sorted(librispeech.glob("*.parquet"))]
    n = sum(map(len, others))
    audio = pa.chunked_array([*spoken["audio"].chunks, *(chunk for column in others for chunk in column.chunks)])
    table = pa.table(
        {
            "audio": audio,
            "id": [*ids, *(f"librispeech/{row}" for row in range(n))],
            "label": [*map(str, spoken["label"].to_pylist()), *[None] * n],
            "speaker": [*spoken["speaker"].to_pylist(), *(f"libri {row}" for row in range(n))],
            "split": [*split, *["train"] * n],
        }
    )
    pq.write_table(table, out)
    return sorted(set(spoken["speaker"].to_pylist()))


def figures(report: Path, budget: str) -> dict[str, list[float]]:
    found = {}
    for row in json.loads(report.read_text())["results"]:
        if row["metric"] == METRIC and row["budget"] == budget and row["protocol"] in ("linear", "scratch", "finetune"):
            name = f"{row['arm']}, fine-tuned" if row["protocol"] == "finetune" else row["arm"]
            found[name] = [round(100 * row[key], 1) for key in ("mean", "low", "high")]
    return found


def one_of_each(run: Path, table: Path) -> dict[str, list[float]]:
    """Accuracy on the test clips where each speaker has labelled each digit once, by the linear probe of `pooled`."""
    from tacit.dataset import open_dataset
    from tacit.encoders import fresh_twin, load_encoder
    from tacit.evaluation.features import extract
    from tacit.evaluation.targets.classification import Classification
    from tacit.modalities.audio.views import SoundStatistics

    dataset = open_dataset(table, label_column="label", split_column="split")
    assert isinstance(dataset.spec, AudioSpec)
    assert dataset.split is not None
    known = np.flatnonzero(dataset.label >= 0)
    who = np.array(dataset.columns["speaker"].to_pylist())[known]  # type: ignore[index]
    y, train = dataset.label[known], np.flatnonzero(dataset.split[known] != 1)
    test = np.flatnonzero(dataset.split[known] == 1)
    draws = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(train)
        _, first = np.unique(
            np.stack([y[order], np.unique(who[order], return_inverse=True)[1]]), axis=1, return_index=True
        )
        draws.append(np.sort(order[first]))
    encoder: Any = load_encoder(run)
    arms: dict[str, Any] = {"simclr": encoder, "random-init": fresh_twin(encoder, 0)}
    arms |= {"log-mel": SoundStatistics(dataset.spec), "mfcc": SoundStatistics(dataset.spec, cepstral=True)}
    found = {}
    for name, arm in arms.items():
        X = extract(arm, dataset.batch, known)["pooled"]
        said = Classification(len(dataset.classes)).linear(X, y, draws, X[test], seed=0)
        found[name] = interval((said == y[test]).mean(1) * 100)
    return found


def interval(values: NDArray[np.float64]) -> list[float]:
    """Mean, and the ends of Student's 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(v), 1) for v in (values.mean(), values.mean() - half, values.mean() + half)]


def tacit(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "tacit", *map(str, words)], check=True)


def told(case: str, by_speaker: dict[str, dict[str, list[float]]], seconds: float, **more: Any) -> None:
    arms = sorted(set.intersection(*(set(found) for found in by_speaker.values())))
    means = {}
    for arm in arms:
        means[arm] = interval(np.array([found[arm][0] for found in by_speaker.values()]))
    record(f"spoken_digits/{case}/mean", speakers=len(by_speaker), means=means, seconds=round(seconds), **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["heard", "unheard", "few"])
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("librispeech", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--keep", type=Path, help="keep the runs here")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    FURTHER[:] = words[at + 1 :]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = given.keep or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        table = Path(folder) / "clips.parquet"
        speakers = clips(given.fsdd, given.librispeech, table)
        labels = ["--label-column", "label"]
        if given.case == "few":
            split = ["--split-column", "split", "--label-budgets", "6 per class"]
            tacit("run", table, *labels, *split, "--budget", given.budget, "--out", out / "few", *FURTHER)
            found = figures(out / "few" / "report.json", "6 per class")
            each = one_of_each(out / "few", table)
            spent = round(time.perf_counter() - began)
            record("spoken_digits/few", labels=60, figures=found, one_of_each=each, budget=given.budget, seconds=spent)
            return
        by_speaker = {}
        judged = ["--label-budgets", ALL]
        if given.case == "heard":
            tacit("pretrain", table, "--task", "simclr", "--budget", given.budget, "--out", out / "heard", *FURTHER)
        for speaker in speakers:
            held = [*labels, *judged, "--holdout", f"speaker={speaker}", "--out", out / speaker]
            if given.case == "heard":
                tacit("evaluate", out / "heard", table, *held)
            else:
                tacit("run", table, *held, "--budget", given.budget, "--tasks", "simclr", *FURTHER)
            report = out / speaker / "report.json"
            by_speaker[speaker] = figures(report, ALL)
            seen = json.loads(report.read_text())["verdict"]["transductive"]
            record(f"spoken_digits/{given.case}/{speaker}", figures=by_speaker[speaker], transductive=seen)
        told(given.case, by_speaker, time.perf_counter() - began, budget=given.budget)


if __name__ == "__main__":
    main()
