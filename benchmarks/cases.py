"""What `python -m benchmarks` compares: a script of sides, the peers among them, and what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """The sides of `script` but for ours, each with the environment that it runs in and a name for people.

    `data` is the file below the data folder that they read. A case `on` cuda is left out where there is none.
    """

    script: str
    what: str
    unit: str
    peers: Mapping[str, tuple[str, str]]
    data: str = ""
    on: str = "cpu"
    threads: int | None = 1  # None: one a core
    rounds: int = 3


LIGHTLY = f"lightly {peers.version_of('lightly')}"
KORNIA = f"kornia {peers.version_of('kornia')}"
LIBROSA = f"librosa {peers.version_of('librosa')}"
TRAINER = f"Trainer of transformers {peers.version_of('trainer')}"
RECBOLE = f"RecBole {peers.version_of('recbole')}"
VIEWS = {"lightly": ("lightly", LIGHTLY), "kornia": ("kornia", KORNIA)}
LOADING = {
    "no_workers": ("librosa", f"{LIBROSA} by utterance"),
    "two_workers": ("librosa", f"{LIBROSA} by utterance, two workers"),
}

CASES = {
    "views": Case("views.py", "two-view batches, one core", "images/s", VIEWS),
    "views-cuda": Case(
        "views.py", "two-view batches of 512 on a GPU", "images/s", {"kornia": VIEWS["kornia"]}, on="cuda"
    ),
    "simclr": Case(
        "simclr.py",
        "SimCLR on CIFAR-10, every core",
        "images/s",
        {"lightly": VIEWS["lightly"]},
        data="cifar10/train-0of5.parquet",
        threads=None,
    ),
    "simclr-until": Case(
        "simclr_until.py",
        "SimCLR on CIFAR-10 until 40 % of neighbours are right, every core",
        "1/s",
        {"lightly": VIEWS["lightly"]},
        data="cifar10/train-0of5.parquet",
        threads=None,
        rounds=1,
    ),
    "simclr-cuda": Case(
        "simclr.py",
        "SimCLR on CIFAR-10 on a GPU",
        "images/s",
        {"lightly": VIEWS["lightly"]},
        data="cifar10/train-0of5.parquet",
        on="cuda",
        threads=None,
    ),
    "melspec": Case(
        "melspec.py",
        "log-mel frames, one core",
        "s of sound/s",
        {
            "librosa": ("librosa", f"{LIBROSA}, clip by clip"),
            "librosa_at_once": ("librosa", f"{LIBROSA}, a batch at once"),
        },
    ),
    "masked-tokens": Case(
        "masked_tokens.py",
        "masked tokens, rows of 128, every core",
        "tokens/s",
        {"trainer": ("trainer", TRAINER)},
        data="imdb/train.parquet",
        threads=None,
    ),
    "masked-sound": Case(
        "masked_sound.py",
        "masked training on sound, one core",
        "s of sound/s",
        LOADING,
        data="librispeech_small/train_clean_100.parquet",
    ),
    "sasrec": Case(
        "recbole_speed.py",
        "SASRec on MovieLens-100K, one core",
        "interactions/s",
        {"recbole": ("recbole", RECBOLE)},
        data="ml100k/interactions.parquet",
    ),
}
