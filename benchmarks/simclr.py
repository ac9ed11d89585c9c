"""Whole SimCLR training of the same model, ours beside lightly's usual pipeline: images a second, and how far they get.

The same encoder, widths of the head, temperature, batch, optimiser and rate at every step, and views of the same
distribution, on CIFAR-10. Threads are torch's default, one a core, on both sides.

- Ours: the decoded cache, views of a whole batch at once, Tacit's loop, bf16 where this machine computes in it.
- lightly: PIL images through its SimCLRTransform in a DataLoader with one worker a core, its projection head and
  NTXentLoss, a plain loop in 32 bits; on a GPU in mixed precision, as its own benchmarks do.

The first fifth of the steps is left out of a speed. `simclr_until.py` asks how long it takes until the ConvNet is as
good as 40 %: so often 20 nearest neighbours among 5,000 images name the class of 2,000 others. For that the clock stops
now and then; the images that are asked about are not trained on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from sides import Asked, Said, allow_torchvision, take_side

from tacit.encoders import build_encoder
from tacit.evaluation.probes.knn import knn_votes
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.training.optim import Optim

TARGET, ASK_EVERY = 0.40, 20
SPEC = ImageSpec(32, 3, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
TEMPERATURE, OUT = 0.2, 128
OPTIM = Optim("adamw", lr=1e-2, weight_decay=1e-4, warmup=0.1, betas=(0.9, 0.999))
HELD, AMONG, NEIGHBOURS, CLASSES = 2_000, 5_000, 20, 10


class Part(NamedTuple):
    encoder: str
    batch: int  # images
    steps: int
    until: bool = False  # the target is reached


PARTS = {"cpu": (Part("convnet", 256, 15), Part("resnet18", 64, 5)), "cuda": (Part("resnet18", 512, 60),)}
UNTIL = {"cpu": (Part("convnet", 256, 600, True),)}


class Reached(Exception):
    """The target has been reached."""


@dataclass
class Watch:
    """When each step ended, by a clock that stands still while `asked` asks how good the encoder has become."""

    device: str
    stamps: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # seconds, of the processes that load too
    answers: list[tuple[float, float, float]] = field(default_factory=list)  # of both since the first step; share right
    stood: float = 0.0  # seconds
    spent: float = 0.0  # of the processor meanwhile

    def step(self, *_: Any) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.stamps.append(time.perf_counter() - self.stood)
        self.processor.append(time.process_time() + of_children() - self.spent)

    def speed(self, batch: int) -> dict[str, float]:
        first = max(1, len(self.stamps) // 5)
        images = (len(self.stamps) - first) * batch
        clock, processor = (times[-1] - times[first - 1] for times in (self.stamps, self.processor))
        return {"rate": images / clock, "per_processor_second": images / processor, "batch": batch}

    def ask(self, encoder: ImageEncoder, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """Raises `Reached` from the target on."""
        began, spent = time.perf_counter(), time.process_time()
        with standing(encoder):
            some = torch.from_numpy(images).split(500)
            X = np.concatenate([encoder({"image": of}).pooled.float().numpy() for of in some])
        named = knn_votes(X[:AMONG], labels[:AMONG], X[-HELD:], CLASSES, k=NEIGHBOURS).argmax(1)
        right = float((named == labels[-HELD:]).mean())
        self.answers.append((self.stamps[-1] - self.stamps[0], self.processor[-1] - self.processor[0], right))
        self.stood += time.perf_counter() - began
        self.spent += time.process_time() - spent
        if right >= TARGET:
            raise Reached

    def until_target(self) -> dict[str, float]:
        """As if what was right had risen evenly between two answers."""
        now, before = self.answers[-1], (self.answers[-2] if len(self.answers) > 1 else (0.0, 0.0, 0.0))
        if now[2] < TARGET:
            raise SystemExit(f"after {now[0]:.0f} s only {now[2]:.1%} are right: give UNTIL more steps")
        share = (TARGET - before[2]) / (now[2] - before[2])
        clock, processor = (before[i] + share * (now[i] - before[i]) for i in (0, 1))
        return {"rate": 1 / clock, "per_processor_second": 1 / processor, "seconds": clock, "steps": len(self.stamps)}


def of_children() -> float:
    """Processor seconds of the processes that this one has started and that still run."""
    return float(sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children()))


@contextmanager
def standing(encoder: torch.nn.Module) -> Iterator[None]:
    encoder.eval()
    with torch.inference_mode():
        yield
    encoder.train()


def said(asked: Asked, parts: Mapping[str, Sequence[Part]], train: Callable[[ImageEncoder, Part, Watch], None]) -> Said:
    """What a side, which trains by `train`, has to say of these parts."""
    found: dict[str, dict[str, float]] = {}
    for part in parts[asked.device]:
        torch.manual_seed(asked.round)
        watch = Watch(asked.device)
        train(build_encoder(part.encoder, SPEC), part, watch)
        found[part.encoder] = watch.until_target() if part.until else watch.speed(part.batch)
    return found


def ours(asked: Asked, parts: Mapping[str, Sequence[Part]] = PARTS) -> Said:
    from tacit.dataset import open_dataset
    from tacit.modalities.image.baselines import default_views
    from tacit.modalities.image.modality import MODALITY as IMAGES
    from tacit.tasks.simclr import SimCLR
    from tacit.training.batches import Batches
    from tacit.training.engine import make_fabric
    from tacit.training.loop import pretrain

    dataset = open_dataset(str(asked.data), label_column="label", cache=str(asked.folder / "cache"))
    rows, labels = np.arange(len(dataset)), dataset.label
    images = dataset.batch(rows)["image"].numpy()
    if not (asked.folder / "images.npy").exists():
        np.save(asked.folder / "labels.npy", labels)
        np.save(asked.folder / "images.npy", images)
    known = np.concatenate([rows[:AMONG], rows[-HELD:]])

    def train(encoder: ImageEncoder, part: Part, watch: Watch) -> None:
        views = default_views(SPEC, "simclr")
        task = SimCLR(encoder, views, hidden=2 * encoder.dim, out=OUT, temperature=TEMPERATURE)
        source = Batches(dataset.batch, rows[:-HELD], batch_size=part.batch, seed=asked.round)
        fabric = make_fabric(device=asked.device, bf16_pays=IMAGES.bf16_pays(encoder))

        def stepped(row: Any, total: int) -> None:
            watch.step()
            if part.until and int(row["step"]) % ASK_EVERY == 0:
                watch.ask(encoder, images[known], labels[known])

        try:
            seed, steps = asked.round, part.steps
            pretrain(task, source, steps=steps, optim=OPTIM, fabric=fabric, seed=seed, rows=steps, watch=stepped)
        except Reached:
            return

    return said(asked, parts, train)


def lightly(asked: Asked, parts: Mapping[str, Sequence[Part]] = PARTS) -> Said:
    allow_torchvision()
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    images, labels = (np.load(asked.folder / f"{name}.npy") for name in ("images", "labels"))
    known = np.concatenate([np.arange(AMONG), np.arange(len(images) - HELD, len(images))])
    normalize = {"mean": list(SPEC.mean), "std": list(SPEC.std)}
    transform = SimCLRTransform(input_size=SPEC.size, gaussian_blur=0.0, normalize=normalize)

    class Pictures(Dataset[Any]):
        pixels = np.ascontiguousarray(images[:-HELD].transpose(0, 2, 3, 1))

        def __len__(self) -> int:
            return len(self.pixels)

        def __getitem__(self, row: int) -> Any:
            return transform(Image.fromarray(self.pixels[row]))

    def train(encoder: ImageEncoder, part: Part, watch: Watch) -> None:
        workers = os.cpu_count() or 1
        loader: Any = DataLoader(
            Pictures(), part.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
        )
        head = SimCLRProjectionHead(encoder.dim, 2 * encoder.dim, OUT)
        model = torch.nn.ModuleList([encoder, head]).to(asked.device)
        optimizer, criterion = OPTIM.build(model), NTXentLoss(temperature=TEMPERATURE)
        model.train()
        for step, views in zip(range(part.steps), epochs(loader), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = OPTIM.rate(step, part.steps, part.batch)
            with torch.autocast(asked.device, torch.bfloat16, enabled=asked.device == "cuda"):
                first, second = (head(encoder.features(view.to(asked.device), ()).pooled) for view in views)
                loss = criterion(first, second)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step()
            if part.until and (step + 1) % ASK_EVERY == 0:
                try:
                    watch.ask(encoder, images[known], labels[known])
                except Reached:
                    return

    return said(asked, parts, train)


def epochs(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


if __name__ == "__main__":
    take_side({"tacit": ours, "lightly": lightly})
