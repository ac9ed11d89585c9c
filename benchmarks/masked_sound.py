"""Masked acoustic training of the same Transformer on the same recordings, beside loading and log-mel per utterance.

    PYTHON benchmarks/masked_sound.py LIBRISPEECH [--encoder audio_nano] [--steps 20] [--rounds 3]

LIBRISPEECH is a Parquet file of encoded recordings, which are written as FLAC files first. PYTHON is an interpreter
that has librosa beside what Tacit needs. The peer loads as S3PRL's pretraining does: a torch Dataset that opens a file,
computes its log-mel frames (librosa) and normalises them by utterance; a DataLoader pads the batch, with no worker or
with two. Encoder, masks, target, loss and AdamW are the same code on both sides; ours reads its cache, computes frames
by batch, and goes through the whole training loop.

`whole`: batches of 16 whole utterances. `stretch`: batches of 64 stretches of two seconds at most, drawn anew every
time, as Tacit's recipe has them; the peer cuts them from the frames of the utterance. All run in turn, on one thread
each; the first fifth of the steps is left out. One JSON line a case: seconds of sound that the encoder hears in a
second, the median over rounds, and how many times as many ours hears, by the clock and in processor seconds (of workers
too), which other programs on the machine blur less. `decoding_seconds` is what decoding into the cache took, once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

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

    def speeds(self, steps: int) -> tuple[float, float]:
        """Seconds of sound in a second, and in a processor second."""
        first = max(1, steps // 5)
        taken = (last - began for last, began in zip(self.stamps[steps - 1], self.stamps[first - 1], strict=True))
        clock, processor = taken
        return sum(self.heard[first:steps]) / clock, sum(self.heard[first:steps]) / processor


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


def ours(folder: Path, case: str, encoder: str, steps: int, seed: int) -> tuple[float, float]:
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
    watch = Watch()

    def read(numbers: Any) -> Any:
        batch = pieces.batch(numbers)
        watch.heard.append(float(batch["length"].sum()) / RATE)
        return batch

    source = Batches(read, Span(len(pieces)), batch_size=BATCH[case], seed=seed)
    task = built(encoder, spec, SoundViews(spec, round(seconds * spec.rate / spec.hop)))
    optim = Optim("adamw", lr=LR * 256 / BATCH[case], weight_decay=DECAY, warmup=0.1, betas=BETAS, clip=CLIP)
    pretrain(
        task,
        source,
        steps=steps,
        optim=optim,
        fabric=make_fabric(device="cpu", precision="32"),
        seed=seed,
        rows=steps,
        watch=watch.step,
    )
    return watch.speeds(steps)


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


def theirs(folder: Path, case: str, encoder: str, steps: int, seed: int, workers: int) -> tuple[float, float]:
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
    watch = Watch()
    for step, batch in zip(range(steps), epochs(), strict=False):
        batch["key"] = keys.batch_keys(seed, step, torch.arange(BATCH[case]))
        loss = task(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        watch.step()
        watch.heard.append(float(batch["frames"].sum()) * spec.hop / RATE)
    return watch.speeds(steps)


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
    import torch
    from record import record

    from tacit.data import open_dataset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default="audio_nano")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = written(asked.data, folder)
        began = time.perf_counter()
        open_dataset(folder / "files", seconds=LONGEST, cache=str(folder / "cache"))
        decoding = time.perf_counter() - began
        for case in BATCH:
            found: dict[str, list[tuple[float, float]]] = {"ours": [], "no_workers": [], "two_workers": []}
            for seed in range(asked.rounds):
                same = (folder, case, asked.encoder, asked.steps, seed)
                found["no_workers"].append(theirs(*same, 0))
                found["two_workers"].append(theirs(*same, 2))
                found["ours"].append(ours(*same))
            figures: dict[str, Any] = {}
            for number, by in enumerate(("second", "processor_second")):
                for side, speeds in found.items():
                    figures[f"{side}_per_{by}"] = round(statistics.median(of[number] for of in speeds), 1)
                for side in ("no_workers", "two_workers"):
                    pairs = zip(found["ours"], found[side], strict=True)
                    ratios = [mine[number] / other[number] for mine, other in pairs]
                    figures[f"{side}_{by}_ratio"] = round(statistics.median(ratios), 2)
                    figures[f"{side}_{by}_ratios"] = [round(ratio, 2) for ratio in ratios]
            record(
                f"masked-sound/{asked.encoder}/{case}",
                **figures,
                decoding_seconds=round(decoding, 1),
                utterances=n,
                steps=asked.steps,
                batch=BATCH[case],
            )


if __name__ == "__main__":
    main()
