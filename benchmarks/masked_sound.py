"""Masked acoustic training of the same Transformer on the same recordings, beside loading and log-mel per utterance.

    python benchmarks/masked_sound.py LIBRISPEECH --peer PYTHON [--encoder audio_nano] [--steps 20] [--rounds 3]

LIBRISPEECH is a Parquet file of encoded recordings, which are written as FLAC files first. PYTHON is an interpreter
with torch, librosa, soundfile and what Tacit needs. The peer loads as S3PRL's pretraining does: a torch Dataset that
opens a file, computes its log-mel frames (librosa) and normalises them by utterance; a DataLoader pads the batch, with
no worker or with two. Encoder, masks, target, loss and AdamW are the same code on both sides; ours reads its cache,
computes frames by batch, and goes through the whole training loop.

`whole`: batches of 16 whole utterances. `stretch`: batches of 64 stretches of two seconds at most, drawn anew every
time, as Tacit's recipe has them; the peer cuts them from the frames of the utterance. Each side runs in a process of
its own, in turn; the first fifth of the steps is left out. One JSON line a case: seconds of sound that the encoder
hears in a second, the median over rounds, and how many times as many ours hears; `decoding_seconds` is what the first
opening took, which decodes into the cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RATE, LONGEST = 16_000, 25.0  # Hz; seconds of an utterance at most
BATCH = {"whole": 16, "stretch": 64}
STRETCH = 2.0  # seconds
LR, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.98), 0.05, 1.0


def told(steps: int, stamps: list[float], heard: list[float]) -> None:
    """Print seconds of sound per second, as both sides do."""
    first = max(1, steps // 5)
    print(json.dumps({"speed": sum(heard[first:steps]) / (stamps[steps - 1] - stamps[first - 1])}))


def built(encoder: str, spec: Any, views: Any) -> Any:
    """The task, by the code of both sides."""
    import torch

    from tacit.encoders import build_encoder
    from tacit.modalities.audio import FrameTarget, SpanMask
    from tacit.recipes.audio import MASKED_SHARE, SPAN
    from tacit.tasks.masked import Masked

    torch.manual_seed(0)
    model: Any = build_encoder(encoder, spec)
    masks, target = SpanMask(spec, model.stride, MASKED_SHARE, SPAN), FrameTarget(spec, model.stride)
    return Masked(model, views, masks, target, width=model.stride * spec.mels)


def ours(folder: Path, case: str, encoder: str, steps: int, seed: int) -> None:
    from tacit.data import Recordings, open_dataset
    from tacit.data.order import Batches, Span
    from tacit.data.recordings import Pieces
    from tacit.engine import make_fabric
    from tacit.modalities.audio import SoundViews
    from tacit.optim import Optim
    from tacit.spec import AudioSpec
    from tacit.train import pretrain

    dataset = open_dataset(folder / "files", seconds=LONGEST, cache=str(folder / "cache"))
    spec, recordings = dataset.spec, dataset.cache
    assert isinstance(spec, AudioSpec)
    assert isinstance(recordings, Recordings)
    seconds = STRETCH if case == "stretch" else float(recordings.lengths.max()) / RATE
    pieces = Pieces(recordings, np.arange(len(dataset)), seconds)
    heard: list[float] = []

    def read(numbers: Any) -> Any:
        batch = pieces.batch(numbers)
        heard.append(float(batch["length"].sum()) / RATE)
        return batch

    source = Batches(read, Span(len(pieces)), batch_size=BATCH[case], seed=seed)
    task = built(encoder, spec, SoundViews(spec, round(seconds * spec.rate / spec.hop)))
    optim = Optim("adamw", lr=LR * 256 / BATCH[case], weight_decay=DECAY, warmup=0.1, betas=BETAS, clip=CLIP)
    stamps: list[float] = []
    pretrain(
        task,
        source,
        steps=steps,
        optim=optim,
        fabric=make_fabric(device="cpu", precision="32"),
        seed=seed,
        rows=steps,
        watch=lambda row, total: stamps.append(time.perf_counter()),
    )
    told(steps, stamps, heard)


class Utterances:
    """A torch Dataset as S3PRL's: log-mel frames of a file [T M], normalised by utterance, perhaps a part of them."""

    def __init__(self, files: Sequence[Path], spec: Any, most: int | None, seed: int) -> None:
        self.files, self.spec, self.most, self.seed = files, spec, most, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Any:
        import librosa
        import soundfile
        import torch

        sound, rate = soundfile.read(self.files[number], dtype="float32")
        assert rate == self.spec.rate
        energy = librosa.feature.melspectrogram(
            y=sound,
            sr=rate,
            n_fft=self.spec.window,
            hop_length=self.spec.hop,
            n_mels=self.spec.mels,
            fmin=self.spec.low,
            fmax=self.spec.high,
            pad_mode="constant",
        )
        mel = torch.from_numpy(np.log(energy.T + 1e-6))
        mel = (mel - mel.mean(0)) / (mel.std(0) + 1e-6)
        if self.most is None or len(mel) <= self.most:
            return mel
        first = int(torch.randint(len(mel) - self.most + 1, ()))
        return mel[first : first + self.most]


def collated(parts: list[Any]) -> Any:
    import torch

    frames = torch.tensor([len(part) for part in parts])
    return {"mel": torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), "frames": frames}


def theirs(folder: Path, case: str, encoder: str, steps: int, seed: int, workers: int) -> None:
    import torch
    from torch.utils.data import DataLoader

    from tacit import keys
    from tacit.data.listening import audio_spec

    spec = audio_spec(RATE, LONGEST)
    most = round(STRETCH * spec.rate / spec.hop) if case == "stretch" else None
    files = sorted((folder / "files").glob("*.flac"))
    loader: Any = DataLoader(
        Utterances(files, spec, most, seed),  # type: ignore[arg-type]
        batch_size=BATCH[case],
        shuffle=True,
        drop_last=True,
        collate_fn=collated,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def epochs() -> Iterator[Any]:
        while True:
            yield from loader

    task = built(encoder, spec, lambda batch, view: batch)
    optimizer = torch.optim.AdamW(task.parameters(), LR, BETAS, weight_decay=DECAY)
    stamps: list[float] = []
    heard: list[float] = []
    for step, batch in zip(range(steps), epochs(), strict=False):
        batch["key"] = keys.batch_keys(seed, step, torch.arange(BATCH[case]))
        loss = task(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        stamps.append(time.perf_counter())
        heard.append(float(batch["frames"].sum()) * spec.hop / RATE)
    told(steps, stamps, heard)


def written(data: Path, folder: Path) -> int:
    """The recordings of a table as FLAC files; how many."""
    import io

    import pyarrow.parquet as pq
    import soundfile

    (folder / "files").mkdir()
    cells = pq.read_table(data, columns=["audio"])["audio"].to_pylist()
    for number, cell in enumerate(cells):
        sound, rate = soundfile.read(io.BytesIO(cell), dtype="int16")
        soundfile.write(folder / "files" / f"{number:04d}.flac", sound, rate)
    return len(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--encoder", default="audio_nano")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=["ours", "no workers", "two workers"])
    parser.add_argument("--case", choices=list(BATCH))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.side:
        import torch

        torch.set_num_threads(asked.threads)
        same = (asked.data, asked.case, asked.encoder, asked.steps, asked.seed)
        return ours(*same) if asked.side == "ours" else theirs(*same, 2 if asked.side == "two workers" else 0)
    from record import record

    def run(side: str, case: str, seed: int, steps: int) -> float:
        python = sys.executable if side == "ours" else asked.peer
        command = [python, __file__, str(folder), "--side", side, "--case", case, "--seed", str(seed)]
        command += ["--steps", str(steps), "--threads", str(asked.threads), "--encoder", asked.encoder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return float(json.loads(done.stdout.strip().splitlines()[-1])["speed"])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = written(asked.data, folder)
        began = time.perf_counter()
        run("ours", "whole", 0, 2)  # decode once
        decoding = time.perf_counter() - began
        for case in BATCH:
            sides = ("no workers", "two workers", "ours")
            found: dict[str, list[float]] = {side: [] for side in sides}
            for seed in range(asked.rounds):
                for side in sides:
                    found[side].append(run(side, case, seed, asked.steps))
            figures: dict[str, Any] = {}
            for side in sides[:2]:
                ratios = [mine / other for mine, other in zip(found["ours"], found[side], strict=True)]
                key = side.replace(" ", "_")
                figures[f"{key}_sound_seconds_per_second"] = round(statistics.median(found[side]), 1)
                figures[f"{key}_ratio"] = round(statistics.median(ratios), 2)
                figures[f"{key}_ratios"] = [round(ratio, 2) for ratio in ratios]
            record(
                f"masked-sound/{asked.encoder}/{case}",
                sound_seconds_per_second=round(statistics.median(found["ours"]), 1),
                **figures,
                decoding_seconds=round(decoding, 1),
                utterances=n,
                steps=asked.steps,
                batch=BATCH[case],
                threads=asked.threads,
            )


if __name__ == "__main__":
    main()
