"""The store of images, decoded once and then mapped into memory: images [N C H W] of uint8 or uint16 in one plain file.

A folder of it, decoded/KEY/, holds images.bin, content.bin (16-byte hash per example) and meta.json.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import UserError
from tacit.data.decode import Pool
from tacit.data.source import Source
from tacit.data.store import (
    CONTENT,
    Keeping,
    Kept,
    Written,
    check_bad,
    hash_of,
    keep,
    nothing_readable,
    read_content,
    unknown_content,
    write_meta,
)
from tacit.modalities.image import decode as pixels
from tacit.modalities.image.decoding import Plan, headers, values
from tacit.modalities.image.framing import Framing
from tacit.modalities.image.spec import ImageSpec

if TYPE_CHECKING:
    from tacit.core.types import Batch


LARGEST = 64  # px that larger images are resized to, unless a size is set; 96 takes a CPU over twice as long
_PROBED = 256  # images whose headers decide size, channels and depth
_SCALED = 1_024  # images whose numbers give one scale for all
_MEASURED = 2_000  # images whose pixels give mean and standard deviation
_GLIMPSED = 1_024  # images, at most, that stand for all in a glimpse
_LEAST_STD = 1e-3


@dataclass(frozen=True)
class Cache:
    """Decoded images; only requested rows are ever copied. May be read from several threads."""

    pixels: NDArray[np.generic]  # [N C H W], or those of a glimpse, which stand for all N in turn
    content: NDArray[np.void]  # [N] 16-byte hash of each example
    spec: ImageSpec
    data_hash: str
    folder: Path | None = None  # that it is stored in; None for a glimpse

    @classmethod
    def load(cls, folder: Path) -> Cache:
        meta = json.loads((folder / "meta.json").read_text())
        shape = (int(meta["n"]), int(meta["channels"]), int(meta["size"]), int(meta["size"]))
        mapped = np.memmap(folder / "images.bin", np.dtype(meta["dtype"]), "r", shape=shape)
        return cls(np.asarray(mapped), read_content(folder), ImageSpec.of(meta["spec"]), str(meta["data_hash"]), folder)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), self.pixels.shape[1], self.pixels.shape[2], self.pixels.shape[3])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    @property
    def nbytes(self) -> int:
        return len(self) * math.prod(self.shape[1:]) * self.dtype.itemsize

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """A copy of these rows, [B C H W]."""
        return self.pixels.take(rows if self.folder is not None else rows % len(self.pixels), axis=0)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """`image` [B C H W] and `index` [B] of these rows."""
        import torch

        rows = np.asarray(rows, np.int64)
        return {"image": torch.from_numpy(self.images(rows)), "index": torch.from_numpy(rows.copy())}


def open_cache(
    source: Source,
    image_size: int | None,
    keeping: Keeping,
    reads: ImageSpec | None = None,
    framing: Framing | None = None,
) -> Kept:
    """The images of this source, decoded now unless an earlier run has done it; read as an encoder of `reads` does.

    UserError where more of them are bad than allowed, or the disk has no room.
    """
    reads = reads if reads is not None and reads.scale is not None else None  # older ones do not state a scale
    like = None if reads is None else (reads.channels, reads.scale)
    return keep(
        source,
        "decoded",
        [source.fingerprint, image_size, like, framing, pixels.VERSION, pixels.versions()],
        keeping,
        Cache.load,
        lambda folder: _decode(source, image_size, folder, keeping, reads, framing),
        lambda: _glimpse(source, image_size, keeping.patience, reads, framing),
    )


class Unforeseen(Exception):
    """An image differs in form from those that the plan was made from."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def choose_plan(
    source: Source,
    image_size: int | None,
    pool: Pool,
    reads: ImageSpec | None = None,
    framing: Framing | None = None,
    met: Collection[str] = (),
) -> Plan:
    """Size, channels, depth and scale from the headers of some of the images, and from findings `met` in the others.

    `reads` is the spec of an encoder, which sets channels and scale.
    """
    found = headers(pool, source.sample(_PROBED))
    if not found:
        raise nothing_readable(source, "image", pool.why_not(next(iter(source.items()))))
    if image_size is None:
        image_size = min(LARGEST, int(np.median([min(header.width, header.height) for header in found])))
    bands = {header.bands for header in found}
    wide = any(header.wide for header in found) or "wide" in met
    if reads is not None:
        channels, scale = reads.channels, reads.scale
    else:
        grey = all(header.grey for header in found) and "colour" not in met
        channels = bands.pop() if len(bands) == 1 and 0 not in bands else 1 if grey else 3
        scale = _scale(source, pool, wide=wide)
    deep = channels == 1 and ("deep" in met or wide or any(header.deep for header in found))
    if source.about is not None:
        assert scale is not None
        deep = pixels.scale_for(source.about.numbers, scale).bits > 8
    scale = scale or pixels.BY_TYPE["uint16" if deep else "uint8"]
    return Plan(image_size, channels, "uint16" if deep else "uint8", framing, scale, strict=reads is not None)


def _scale(source: Source, pool: Pool, *, wide: bool) -> pixels.Scale | None:
    """The one scale for all of these images; None where their types define black and white."""
    if source.about is not None:
        return pixels.scale_of(source.about)
    some = source.sample(_SCALED) if wide else []
    several = list(values(pool, some)) or list(values(pool, source.items() if wide else []))
    return pixels.scale_of(pixels.Values.together(several)) if several else None


def _glimpse(
    source: Source, image_size: int | None, patience: float, reads: ImageSpec | None, framing: Framing | None
) -> Kept | None:
    """A sample of the images in place of all, or None where all can be decoded within `patience` seconds."""
    items = source.sample(_GLIMPSED)
    with Pool(Plan) as pool:
        plan = choose_plan(source, image_size, pool, reads, framing)  # also starts the workers
        began, sample = time.perf_counter(), []
        for outcome in pool.decode(items, plan):
            sample += [outcome.data] if outcome.data else []
            if sample and time.perf_counter() - began > patience / 2:
                break
        spent = time.perf_counter() - began
    total = spent * len(source) / max(1, len(sample))
    if total <= patience or not sample:
        return None
    images = np.frombuffer(b"".join(sample), plan.dtype).reshape(-1, plan.channels, plan.size, plan.size)
    cache = Cache(images, unknown_content(len(source)), _measured(images, plan), data_hash="not decoded yet")
    return Kept(cache, np.arange(len(source)), seconds_left=total)


def _decode(
    source: Source,
    image_size: int | None,
    folder: Path,
    keeping: Keeping,
    reads: ImageSpec | None,
    framing: Framing | None,
) -> Written:
    """Decode into the folder.

    The plan is made from a sample of the headers; where another image differs in form, decoding starts again by a plan
    that allows for it.
    """
    met: set[str] = set()
    while True:
        try:
            return _decode_once(source, image_size, folder, keeping, reads, framing, met)
        except Unforeseen as error:
            if error.what in met:
                raise
            met.add(error.what)


def _decode_once(
    source: Source,
    image_size: int | None,
    folder: Path,
    keeping: Keeping,
    reads: ImageSpec | None,
    framing: Framing | None,
    met: Collection[str],
) -> Written:
    found = Counter[str]()
    with Pool(Plan) as pool:
        plan = choose_plan(source, image_size, pool, reads, framing, met)
        _refuse_too_large(len(source), plan, folder.parent)
        bad, parts = _write(source, plan, pool, folder, keeping, found)
    content = read_content(folder)
    if not len(content):
        row, reason = bad[0] if bad else (0, "holds no image")
        raise nothing_readable(source, "image", reason, row)
    images = np.memmap(folder / "images.bin", plan.dtype, "r")
    spec = _measured(images.reshape(-1, plan.channels, plan.size, plan.size), plan)
    meta = {"n": len(content), **asdict(plan), "data_hash": hash_of(content), "spec": asdict(spec)}
    write_meta(folder, meta, ("images.bin", CONTENT))
    highest = int(images[:: max(1, len(images) // (1 << 22))].max())
    form = [*asdict(plan).values(), pixels.VERSION, pixels.versions()]
    remarks = _remarks(plan, found, len(content), highest)
    if without := parts.count(0):
        remarks.append(f"{without:,} files hold no image (reports, plans, doses, masks) and were left out")
    several = parts if any(many != 1 for many in parts) else []
    if several:
        remarks.append(f"{len(content):,} images are frames or slices of {sum(map(bool, parts)):,} files")
    return Written(form, bad, remarks=remarks, parts=several)


def _remarks(plan: Plan, found: Mapping[str, int], n: int, highest: int) -> list[str]:
    """Remarks on how the pixels were read, where this was not the plain way."""
    assert plan.scale is not None
    remarks = []
    if plan.channels in (2, 4):
        remarks.append(f"the images have {plan.channels} channels, and all were kept; none is taken for opacity")
    if plan.scale.numbers == "uint16" and plan.dtype == "uint16":
        up_to = f" (the highest found is about {highest:,})" if highest < 65535 // 4 else ""
        remarks.append(f"grey values have 16 bits: {plan.scale.describe()}{up_to}")
    elif plan.scale.numbers not in pixels.BY_TYPE:
        remarks.append(f"pixel values are read by one rule for all: {plan.scale.describe()}")
    counted = {
        "eight": "have 8 bits among deeper ones: of these, 255 is white" if found["eight"] < n else "",
        "clipped": "hold values beyond black and white, which were taken for these",
        "opacity": "are partly transparent and were laid on white",
        "frames": "hold several frames or pages, of which the first was read",
        "shallow": "have 16 bits a channel, of which 8 were read, as there is colour among them",
        "bands": "hold bands beyond red, green and blue, which were left out",
    }
    if found["windowed"]:
        remarks.append(f"{found['windowed']:,} files were read by the window or table that their header gives")
    if plan.strict and plan.channels == 1:
        counted["colour"] = "are stored in colour with channels that agree, and were read as grey"
    remarks += [f"{found[name]:,} of {n:,} images {what}" for name, what in counted.items() if found[name] and what]
    return remarks


def _refuse_too_large(n: int, plan: Plan, folder: Path) -> None:
    needed, free = n * plan.nbytes, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{n:,} images of {plan.size} px need a cache of {needed / 1e9:.1f} GB, but {folder} has "
            f"{free / 1e9:.1f} GB free: choose a smaller --image-size or another --cache"
        )


def _write(
    source: Source, plan: Plan, pool: Pool, folder: Path, keeping: Keeping, found: Counter[str]
) -> tuple[list[tuple[int, str]], list[int]]:
    """Write images.bin and content.bin; counts in `found`.

    Returns the bad examples' numbers and reasons, and how many images each of the others holds.
    """
    bad: list[tuple[int, str]] = []
    parts: list[int] = []
    n = len(source)
    with (folder / "images.bin").open("wb") as images, (folder / CONTENT).open("wb") as content:
        for row, outcome in enumerate(pool.decode(source.items(), plan)):
            if outcome.data is None:
                bad.append((row, outcome.reason))
                check_bad(source, bad, row + 1, keeping.max_bad)
            else:
                for what in outcome.found:
                    if what in pixels.UNFORESEEN and not (plan.strict and what == "colour"):
                        raise Unforeseen(what)
                found.update(outcome.found)
                images.write(outcome.data)
                content.write(outcome.content)
                parts.append(len(outcome.content) // 16)
            if keeping.progress is not None and (row % 256 == 255 or row + 1 == n):
                keeping.progress(row + 1, n)
    return bad, parts


def _measured(images: NDArray[Any], plan: Plan) -> ImageSpec:
    """The statistics of [N C H W], from some of the images where there are many, and how they were read."""
    top, (_, channels, size, _) = int(np.iinfo(images.dtype).max), images.shape
    total, squares, inside = np.zeros((channels, size, size)), np.zeros(channels), 0.0
    rows = np.linspace(0, len(images) - 1, min(len(images), _MEASURED)).astype(np.int64)
    for part in np.array_split(rows, max(1, len(rows) // 256)):
        image = images[part].astype(np.float64) / top
        total += image.sum(axis=0)
        squares += np.square(image).sum(axis=(0, 2, 3))
        inside += image.var(axis=(2, 3)).mean(axis=1).sum()
    typical = total / len(rows)
    mean = typical.mean(axis=(1, 2))
    variance = squares / (len(rows) * size * size) - np.square(mean)
    std = np.sqrt(np.maximum(variance, _LEAST_STD**2))  # above 0 for a constant channel too, as it is a divisor
    alignment = typical.var(axis=(1, 2)).mean() / max(inside / len(rows), _LEAST_STD**2)
    return ImageSpec(
        size, channels, tuple(mean.tolist()), tuple(std.tolist()), float(alignment), plan.framing, plan.scale
    )
