"""Masked acoustic training of the same Transformer on the same recordings, beside loading and log-mel per utterance.

The recordings of a Parquet file are written as FLAC files first. The peer loads as S3PRL's pretraining does: a torch
Dataset that opens a file, computes its log-mel frames (librosa) and normalises them by utterance; a DataLoader pads the
batch, with no worker or with two. Encoder, masks, target, loss and AdamW are the same code on both sides; ours reads
its cache, computes frames by batch, and goes through the whole training loop.

`whole`: batches of 16 whole utterances. `stretch`: batches of 64 stretches of two seconds at most, drawn anew every
time, as Tacit's recipe has them; the peer cuts them from the frames of the utterance. One thread trains; the first
fifth of the steps is left out. The rate is the seconds of sound that the encoder hears in a second, by the clock and in
processor seconds (of workers too), which other programs on the machine blur less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sides import Asked, Said, take_side

ENCODER, STEPS = "audio_nano", 20
RATE, LONGEST = 16_000, 25.0  # Hz; seconds of an utterance at most
BATCH = {"whole": 16, "stretch": 64}
STRETCH = 2.0  # seconds
LR, BETAS, DECAY, CLIP = 1e-3, (0.9, 0.98), 0.05, 1.0


class Watch:
    """When each step ended, by the clock and in processor seconds, and the seconds of sound that were heard in it."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, float]] = []
        self.heard: list[float] = []

    def step(self, *_: Any) -> None:
        workers = [sum(child.cpu_times()[:2]) for child in psutil.Process().children()]
        self.stamps.append((time.perf_counter(), time.process_time() + sum(workers)))

    def speeds(self) -> dict[str, float]:
        """Seconds of sound in a second, and in a processor second."""
        first = max(1, STEPS // 5)
        taken = (last - began for last, began in zip(self.stamps[STEPS - 1], self.stamps[first - 1], strict=True))
        clock, processor = taken
        heard = sum(self.heard[first:STEPS])
        return {"rate": heard / clock, "per_processor_second": heard / processor}


def built(spec: Any, views: Any) -> Any:
    """The task, by the code of both sides."""
    import torch

    from tacit.encoders import build_encoder
    from tacit.modalities.audio.recipes import HIDDEN, SPAN
    from tacit.modalities.audio.views import FrameTarget, SpanMask
    from tacit.tasks.ingredients import Target
    from tacit.tasks.masked import Masked

    torch.manual_seed(0)
    model: Any = build_encoder(ENCODER, spec)
    masks, target = SpanMask(spec, model.stride, HIDDEN, SPAN), FrameTarget(spec, model.stride)
    return Masked(model, views, masks, Target(target, model.stride * spec.mels))


def ours(asked: Asked) -> Said:
    import torch

    torch.set_num_threads(1)
    if not (asked.folder / "files").exists():
        write(asked.data, asked.folder)
    return {case: trained(asked.folder, case, asked.round) for case in BATCH}


def trained(folder: Path, case: str, seed: int) -> dict[str, float]:
    from tacit.dataset import open_dataset
    from tacit.modalities.audio.recordings import Pieces, Recordings
    from tacit.modalities.audio.spec import AudioSpec
    from tacit.modalities.audio.views import SoundViews
    from tacit.training.batches import Batches, Span
    from tacit.training.engine import make_fabric
    from tacit.training.loop import pretrain
    from tacit.training.optim import Optim

    dataset = open_dataset(folder / "files", seconds=LONGEST, cache=str(folder / "cache"))
    spec, recordings = dataset.spec, dataset.cache
    assert isinstance(spec, AudioSpec)
    assert isinstance(recordings, Recordings)
    seconds = STRETCH if case == "stretch" else float(recordings.lengths.max()) / RATE
    pieces = Pieces(recordings, np.arange(len(dataset)), seconds)
    watch = Watch()

    def read(numbers: Any) -> Any:
        batch = pieces.batch(numbers)
        watch.heard.append(float(batch["length"].sum()) / RATE)
        return batch

    source = Batches(read, Span(len(pieces)), batch_size=BATCH[case], seed=seed)
    task = built(spec, SoundViews(spec, round(seconds * spec.rate / spec.hop)))
    optim = Optim("adamw", lr=LR * 256 / BATCH[case], weight_decay=DECAY, warmup=0.1, betas=BETAS, clip=CLIP)
    pretrain(
        task,
        source,
        steps=STEPS,
        optim=optim,
        fabric=make_fabric(device="cpu", precision="32"),
        seed=seed,
        rows=STEPS,
        watch=watch.step,
    )
    return watch.speeds()


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


def no_workers(asked: Asked) -> Said:
    return {case: theirs(asked.folder, case, asked.round, 0) for case in BATCH}


def two_workers(asked: Asked) -> Said:
    return {case: theirs(asked.folder, case, asked.round, 2) for case in BATCH}


def theirs(folder: Path, case: str, seed: int, workers: int) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader

    from tacit.core import keys
    from tacit.modalities.audio.store import audio_spec

    torch.set_num_threads(1)
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

    task = built(spec, lambda batch, view: batch)
    optimizer = torch.optim.AdamW(task.parameters(), LR, BETAS, weight_decay=DECAY)
    watch = Watch()
    for step, batch in zip(range(STEPS), epochs(), strict=False):
        batch["key"] = keys.batch_keys(seed, step, torch.arange(BATCH[case]))
        loss = task(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        watch.step()
        watch.heard.append(float(batch["frames"].sum()) * spec.hop / RATE)
    return watch.speeds()


def write(data: Path, folder: Path) -> None:
    """The recordings of a table as FLAC files."""
    import io

    import pyarrow.parquet as pq
    import soundfile

    (folder / "files").mkdir()
    cells = pq.read_table(data, columns=["audio"])["audio"].to_pylist()
    for number, cell in enumerate(cells):
        sound, rate = soundfile.read(io.BytesIO(cell), dtype="int16")
        soundfile.write(folder / "files" / f"{number:04d}.flac", sound, rate)


if __name__ == "__main__":
    take_side({"tacit": ours, "no_workers": no_workers, "two_workers": two_workers})
