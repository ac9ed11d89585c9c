"""Small real things that many tests share: digits, documents, encoders, every task by its recipe, batches by step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core import keys
from tacit.core.encoder import OwnEncoder
from tacit.core.types import Batch
from tacit.encoders import build_encoder
from tacit.experiment.tasks import tasks_of
from tacit.modalities import modality_named
from tacit.modalities.audio.encoder import AudioEncoder
from tacit.modalities.audio.spec import AudioSpec
from tacit.modalities.events.catalogue import Catalogue
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.pair.encoder import Towers
from tacit.modalities.pair.spec import PairSpec
from tacit.modalities.recipe import Recipe
from tacit.modalities.series.encoder import SeriesEncoder
from tacit.modalities.series.spec import SeriesSpec
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.spec import TextSpec
from tacit.modalities.volume.encoder import VolumeEncoder
from tacit.modalities.volume.spec import VolumeSpec
from tacit.tasks import TASKS, needs, parse_mixture
from tacit.tasks.base import Task
from tests import narrow  # noqa: F401

SPEC = ImageSpec(size=8, channels=1, mean=(0.3,), std=(0.37,))
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
TEXT_SPEC = TextSpec("", 24, 69, PAD, CLS, SEP, MASK, UNKNOWN, (PAD, UNKNOWN, CLS, SEP, MASK))
AUDIO_SPEC = AudioSpec(rate=4000, seconds=1.0, window=100, hop=40, mels=16, low=50.0, high=2000.0, mean=-7.5, std=4.0)
VOLUME_SPEC = VolumeSpec(6, 8, (2.0, 1.0, 1.0), 2, mean=0.3, std=0.3)
SERIES_SPEC = SeriesSpec(channels=2, length=48, mean=(1.0, -20.0), std=(0.5, 8.0))
PAIR_SPEC = PairSpec({"image": SPEC, "text": TEXT_SPEC})
ITEMS, ATTRIBUTES = 40, 5
CATALOGUE = Catalogue(
    pa.array([f"item {n}" for n in range(ITEMS)]),
    attributes=pa.array([[n % ATTRIBUTES] if n % 3 else [] for n in range(ITEMS)], pa.list_(pa.int32())),
    n_attributes=ATTRIBUTES,
)
ITEM_SPEC = ItemSpec(ITEMS, 12, CATALOGUE)
EXAMPLES = 512

# Every task of every kind, and a sum; what is not of images carries its kind in front.
MIXTURES = [
    *(name for name in tasks_of("image") if name != "colour"),  # these images have none
    "simclr+0.4*rotation",
    *(f"text:{name}" for name in tasks_of("text")),
    "text:masked+0.5*simclr",
    *(f"audio:{name}" for name in tasks_of("audio")),
    "audio:masked+0.5*simclr",
    *(f"series:{name}" for name in tasks_of("series")),
    *("volume:simclr", "volume:position"),
    *(f"items:{name}" for name in tasks_of("items")),
    "items:next+0.1*simclr",
    *(f"pair:{name}" for name in tasks_of("pair")),
    "pair:siglip+0.5*image:simclr",
]

# Each task once, each kind of data with several and a sum: for what does not depend on the two together, as the way
# through the loop does not.
COVER = [
    *("simclr", "vicreg", "rotation", "masked", "simclr+0.4*rotation", "mocov3", "nnclr", "swav", "jigsaw"),
    *("text:byol", "text:simcse", "text:electra", "text:masked+0.5*simclr", "text:tsdae", "text:simsiam"),
    *("audio:simclr", "audio:bestrq", "audio:next", "audio:wav2vec2", "audio:barlow", "series:byol", "series:masked"),
    *("series:data2vec", "items:simclr", "items:next", "items:attributes", "items:sigreg", "ijepa"),
    *("volume:simclr", "volume:masked", "pair:clip", "pair:siglip+0.5*image:simclr"),
]


def learning() -> list[str]:
    """The mixtures by which each task is seen to learn; what needs nothing but views, on two kinds of data."""
    kinds = ("text", "audio", "series", "items")
    by_views = [name for name in TASKS if needs(name) == {"views"} and name != "simclr"]
    found = []
    for mixture in MIXTURES:
        kind, tasks = kind_and_tasks(mixture)
        if kind == "image" or tasks not in by_views or kind == kinds[by_views.index(tasks) % len(kinds)]:
            found.append(mixture)
    return found


@cache
def digits() -> Tensor:
    """scikit-learn's digits, uint8 [1797 1 8 8]."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images)
    return (images * (255 / 16)).round().to(torch.uint8)[:, None]


@cache
def digit_labels() -> NDArray[np.int64]:
    """What each of them shows [1797]."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().target, np.int64)


def classes() -> Tensor:
    """The same as a tensor."""
    return torch.from_numpy(digit_labels())


@cache
def documents() -> Tensor:
    """Counting in steps of its own: [CLS] a, a + s, a + 2s, ... [SEP] of 6 to 20 tokens, [512 22], padded."""
    rows = torch.full((EXAMPLES, 22), PAD)
    for row in range(EXAMPLES):
        n, step = 6 + row % 15, 1 + row % 4
        rows[row, : n + 2] = torch.tensor([CLS, *((row * 7 + step * i) % 64 + 5 for i in range(n)), SEP])
    return rows


@cache
def histories() -> Tensor:
    """People who go round every fifth item in steps of their own: 4 to 20 events, [512 20], padded."""
    rows = torch.zeros(EXAMPLES, 20, dtype=torch.int64)
    for row in range(EXAMPLES):
        n, step = 4 + row % 17, 1 + row % 3
        rows[row, :n] = torch.tensor([(row * 7 + 5 * step * i) % ITEMS + ITEM_SPEC.first for i in range(n)])
    return rows


@cache
def tones() -> tuple[Tensor, Tensor]:
    """Sounds that rise or fall from one of eight pitches, in noise: int16 [512 1600], and their lengths."""
    audio, lengths = torch.zeros(EXAMPLES, 1600, dtype=torch.int16), 400 + 75 * (torch.arange(EXAMPLES) % 17)
    for row, length in enumerate(lengths.tolist()):
        time = torch.arange(length) / AUDIO_SPEC.rate
        pitch = 150 * 2 ** (row % 8 / 8) * (1 + (2 * (row % 2) - 1) * time)
        waves = sum((harmonic * 6.28 * pitch * time).sin() / harmonic for harmonic in (1, 2, 3))
        noise = torch.randn(length, generator=torch.Generator().manual_seed(row))
        audio[row, :length] = (200 * 2 ** (row % 5) * waves + 10 * 4 ** (row % 7 / 2) * noise).to(torch.int16)
    return audio, lengths


@cache
def waves() -> tuple[Tensor, Tensor]:
    """Waves of one of eight lengths that rise or fall, in noise, two channels: float [512 60 2], and their lengths."""
    lengths = 12 + 3 * (torch.arange(EXAMPLES) % 17)
    row, time = torch.arange(EXAMPLES)[:, None], torch.arange(60)
    wave = (6.28 * time / (5 + 2 * (row % 8)) + row).sin() + (2 * (row % 2) - 1) * time / 20
    noise = torch.randn(EXAMPLES, 60, 2, generator=torch.Generator().manual_seed(0))
    both = torch.stack([wave, wave.roll(3, 1)], 2) + 0.1 * noise
    return both * torch.tensor(SERIES_SPEC.std) + torch.tensor(SERIES_SPEC.mean), lengths


@cache
def balls() -> Tensor:
    """Balls on one of eight levels, large or small, in noise, above what grows brighter: uint16 [512 1 6 8 8]."""
    row = torch.arange(EXAMPLES)[:, None, None, None]
    at = torch.meshgrid(*(torch.linspace(0, 7, n) for n in (6, 8, 8)), indexing="ij")
    apart = (at[0] - row % 8) ** 2 + (at[1] - 3) ** 2 + (at[2] - 4) ** 2
    noise = torch.rand(EXAMPLES, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    return (30_000 * (apart < 4 + 5 * (row % 2)) + 9_000 * noise + 3_000 * at[0]).to(torch.uint16)[:, None]


def kind_and_tasks(mixture: str) -> tuple[str, str]:
    kind, _, tasks = mixture.partition(":")
    return (kind, tasks) if tasks else ("image", kind)


def tiny_encoder(name: str = "convnet", seed: int = 0) -> ImageEncoder:
    torch.manual_seed(seed)
    options = {"convnet": {"width": 32}, "vit_tiny": {"patch": 2}}.get(name, {})
    found = build_encoder(name, SPEC, **options)
    assert isinstance(found, ImageEncoder)
    return found


def tiny_text_encoder(name: str = "bert_nano", seed: int = 0) -> TextEncoder:
    torch.manual_seed(seed)
    found = build_encoder(name, TEXT_SPEC)
    assert isinstance(found, TextEncoder)
    return found


def tiny_audio_encoder(name: str = "audio_convnet", seed: int = 0) -> AudioEncoder:
    torch.manual_seed(seed)
    found = build_encoder(name, AUDIO_SPEC)
    assert isinstance(found, AudioEncoder)
    return found


def tiny_series_encoder(name: str = "series_convnet", seed: int = 0) -> SeriesEncoder:
    torch.manual_seed(seed)
    options = {"width": 32, "dim": 64} if name.startswith("series_") else {}
    found = build_encoder(name, SERIES_SPEC, **options)
    assert isinstance(found, SeriesEncoder)
    return found


def tiny_volume_encoder(name: str = "volume_slices", seed: int = 0) -> VolumeEncoder:
    torch.manual_seed(seed)
    found = build_encoder(name, VOLUME_SPEC, width=32)
    assert isinstance(found, VolumeEncoder)
    return found


def tiny_item_encoder(name: str = "sasrec_nano", seed: int = 0, **options: float) -> ItemEncoder:
    torch.manual_seed(seed)
    found = build_encoder(name, ITEM_SPEC, **options)
    assert isinstance(found, ItemEncoder)
    return found


def tiny_towers(seed: int = 0) -> Towers:
    torch.manual_seed(seed)
    parts: dict[str, OwnEncoder] = {"image": tiny_encoder(seed=seed), "text": tiny_text_encoder("bert_bag", seed)}
    found = build_encoder("towers", PAIR_SPEC, parts=parts, out=16)
    assert isinstance(found, Towers)
    return found


def tiny_recipe(mixture: str, *, encoder: str | None = None, batch_size: int = 32, seed: int = 0) -> Recipe:
    kind, tasks = kind_and_tasks(mixture)
    built: OwnEncoder
    if kind == "text":
        built = tiny_text_encoder(encoder or "bert_nano", seed)
    elif kind == "audio":
        built = tiny_audio_encoder(
            encoder or modality_named("audio").default_encoder(AUDIO_SPEC, parse_mixture(tasks)), seed
        )
    elif kind == "series":
        built = tiny_series_encoder(
            encoder or modality_named("series").default_encoder(SERIES_SPEC, parse_mixture(tasks)), seed
        )
    elif kind == "volume":
        built = tiny_volume_encoder(encoder or "volume_slices", seed)
    elif kind == "items":
        built = tiny_item_encoder(
            encoder or modality_named("items").default_encoder(ITEM_SPEC, parse_mixture(tasks)), seed
        )
    elif kind == "pair":
        built = tiny_towers(seed)
    else:
        built = tiny_encoder(encoder or modality_named("image").default_encoder(SPEC, parse_mixture(tasks)), seed)
    return modality_named(kind).recipe(parse_mixture(tasks), built, examples=EXAMPLES, batch_size=batch_size)


def without_dropout(task: Task) -> Task:
    """Each rank, and each part of a batch, draws dropout for itself: without it they are as good as one."""
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "hidden_dropout"):  # a share that the module hands to a function
            module.hidden_dropout = 0.0  # type: ignore[assignment]
        if isinstance(module, ItemEncoder):
            module.options["dropout"] = 0.0
    return task


class TinyBatches:
    """The first 512 examples of the mixture's kind in a fixed order, as the loop wants them."""

    def __init__(self, mixture: str = "simclr", batch_size: int = 32, seed: int = 0) -> None:
        self.kind, tasks = kind_and_tasks(mixture)
        self.packed = tasks in ("masked", "electra")
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        share = self.batch_size // world
        positions = torch.arange(rank * share, (rank + 1) * share)
        rows = (step * self.batch_size + positions) % EXAMPLES
        read = {"image": self.images, "text": self.texts, "audio": self.sounds, "items": self.histories}
        read |= {"series": self.series, "pair": self.pairs, "volume": lambda rows: {"image": balls()[rows]}}
        return {**read[self.kind](rows), "index": rows, "key": keys.batch_keys(self.seed, step, positions)}

    def images(self, rows: Tensor) -> Batch:
        return {"image": digits()[rows]}

    def texts(self, rows: Tensor) -> Batch:
        """Documents alone, or for tasks of single tokens the ends and beginnings of two in a row."""
        tokens = documents()[rows]
        if not self.packed:
            return {"tokens": tokens, "valid": tokens != PAD, "word": tokens > MASK}
        tokens = torch.cat([documents()[(rows + 1) % EXAMPLES][:, :8], tokens[:, :16]], 1)
        segment = (torch.arange(24) >= 8).long().expand(len(rows), -1)
        return {"tokens": tokens, "valid": tokens != PAD, "word": tokens > MASK, "segment": segment}

    def sounds(self, rows: Tensor) -> Batch:
        audio, length = tones()
        return {"audio": audio[rows], "length": length[rows]}

    def series(self, rows: Tensor) -> Batch:
        values, length = waves()
        return {"series": values[rows], "length": length[rows]}

    def histories(self, rows: Tensor) -> Batch:
        return {"tokens": histories()[rows], "valid": histories()[rows] != ITEM_SPEC.pad}

    def pairs(self, rows: Tensor) -> Batch:
        """Digits with a document each, one of ten for each class."""
        sides = {"image": self.images(rows), "text": self.texts(classes()[rows])}
        return {f"{side}.{field}": value for side, own in sides.items() for field, value in own.items()}

    def stream(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        for step in range(start, stop):
            yield self.batch(step, rank, world)
