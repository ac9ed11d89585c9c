"""Patches of images, their default views, and the baseline of pixels that any encoder must beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.core import keys
from tacit.core.nn import to_float
from tacit.core.types import Batch, Features
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.views import Views

TINY = 16  # px; up to this size images are glyphs and icons, whose meaning a mirror changes
ALIGNED = 0.1  # alignment from which images are laid out alike: 0.33 to 0.58 on five such sets, 0.02 on photos
BLUR_FROM = 64  # px; below, blur removes what little detail there is

STRONG = ("simclr", "byol")  # tasks that compare views, which must differ much

MOST_PIXELS = 1024  # values of an image that the plain-pixel baseline looks at
MOST_COMPONENTS = 64
MOST_ROWS = 4096  # from which its principal components are estimated

Fetch = Callable[[NDArray[np.int64]], Batch]


def patches(image: Tensor, patch: int) -> Tensor:
    """Cut [B C H W] into squares, row by row: [B N patch*patch*C], the channels of a pixel side by side."""
    b, c, height, width = image.shape
    assert height % patch == width % patch == 0, (height, width, patch)
    squares = image.reshape(b, c, height // patch, patch, width // patch, patch)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch * patch * c)


def unpatches(tokens: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """The image [B C H W] whose `patches` on this grid of squares (rows, columns) are `tokens` [B N patch*patch*C]."""
    rows, columns = grid
    squares = tokens.reshape(len(tokens), rows, columns, patch, patch, -1)
    return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, rows * patch, columns * patch)


def default_views(spec: ImageSpec, task: str) -> Views:
    """The views that suit images of this size, channels and layout, for the pretext `task` or for "scratch".

    Tasks that compare views need strong ones; the others read the image itself, which is varied but kept whole. Hue
    and saturation of grey images stay. Tiny images are shifted, rotated and sheared a little. Where images are laid out
    alike (scans, portraits, products), position carries meaning: they are not mirrored, and strong crops keep at least
    0.7 of the area. For photos of scenes 0.08 is enough.
    """
    aligned, strong = spec.alignment >= ALIGNED, task in STRONG
    views = _colours(spec) if strong else Views(jitter=0.0, grey=0.0, blur=0.0)
    if spec.size <= TINY:
        if not strong:
            return replace(views, flip=0.0, crop=(0.8, 1.1), aspect=(0.9, 1.1), shift=0.05)
        return replace(views, flip=0.0, crop=(0.6, 1.2), aspect=(0.8, 1.25), rotate=15.0, shear=10.0, shift=0.05)
    if aligned:
        return replace(views, flip=0.0, crop=(0.7, 1.0) if strong else (0.5, 1.0))
    return replace(views, crop=(0.08, 1.0) if strong else (0.2, 1.0) if task == "masked" else (0.5, 1.0))


def _colours(spec: ImageSpec) -> Views:
    """SimCLR's jitter and blur.

    Blur scales with the image: SimCLR's 2 px are for 224 px. Grey images keep the jitter of brightness and contrast,
    tiny ones half of it: without, the comparison relies on the amount of ink and learns little else.
    """
    blur = Views(blur=0.5 if spec.size >= BLUR_FROM else 0.0, blur_px=(0.1, max(0.2, spec.size / 112)))
    if spec.channels == 3:
        return blur
    strength = 0.4 if spec.size <= TINY else 0.8
    return replace(blur, brightness=strength, contrast=strength, saturation=0.0, hue=0.0, grey=0.0)


@dataclass(frozen=True)
class PixelStatistics:
    """The baseline without training: pixels, and their principal components, as an `Encoder`.

    Images are averaged down to at most `MOST_PIXELS` values. Depth 0 is the leading principal components, depth 1 and
    `pooled` are the pixels themselves.
    """

    side: int  # px
    mean: Tensor  # [P]
    components: Tensor  # [P K], orthonormal columns

    n_depths = 2

    @classmethod
    def fit(cls, fetch: Fetch, rows: NDArray[np.int64], spec: ImageSpec, *, seed: int) -> PixelStatistics:
        """Principal components of up to `MOST_ROWS` of these rows of the data; `fetch(rows)` reads them."""
        side = min(spec.size, math.isqrt(MOST_PIXELS // spec.channels))
        order = np.random.default_rng(keys.fold(seed, "pixel statistics")).permutation(len(rows))
        chosen = rows[np.sort(order[:MOST_ROWS])]
        parts = [_flat(fetch(chosen[at : at + 256])["image"], side) for at in range(0, len(chosen), 256)]
        pixels = torch.cat(parts).double()  # [R P]
        mean = pixels.mean(0)
        spread = (pixels - mean).T @ (pixels - mean)  # [P P]
        _, vectors = torch.linalg.eigh(spread)  # in order of rising variance
        most = min(MOST_COMPONENTS, len(chosen) - 1, pixels.shape[1])
        return cls(side, mean.float(), vectors.flip(1)[:, : max(1, most)].float())

    @property
    def dim(self) -> int:
        return len(self.mean)

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        pixels = _flat(batch["image"], self.side)
        components = (pixels - self.mean.to(pixels.device)) @ self.components.to(pixels.device)
        return Features(pixels[:, None], pixels, depths=tuple((components, pixels)[depth] for depth in depths))


def _flat(image: Tensor, side: int) -> Tensor:
    """[B C H W] averaged down to `side` px and flattened, float32 in [0, 1]."""
    return F.adaptive_avg_pool2d(to_float(image), side).flatten(1)
