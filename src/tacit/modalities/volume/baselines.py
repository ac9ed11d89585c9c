"""What an encoder of volumes must beat: how often each intensity occurs, and the voxels themselves, averaged down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.core import keys
from tacit.core.nn import to_float
from tacit.core.types import Batch, Features
from tacit.modalities.volume.spec import VolumeSpec

BINS = 32  # of the histogram
PARTS = 2  # along each axis, with moments of their own
LARGEST = 12  # voxels along an axis that are left
MOST_COMPONENTS = 64
MOST_ROWS = 2048  # from which principal components are estimated
AT_ONCE = 64

Fetch = Callable[[NDArray[np.int64]], Batch]


@dataclass(frozen=True)
class Intensities:
    """The share of voxels of each intensity, and mean and deviation of each part of a volume, as an `Encoder`."""

    n_depths = 0
    dim = BINS + 2 * PARTS**3

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        x = to_float(batch["image"])  # [B 1 D H W]
        of = (x.flatten(1) * BINS).long().clamp(0, BINS - 1)
        share = torch.zeros(len(x), BINS, device=x.device).scatter_add_(1, of, torch.ones_like(of, dtype=x.dtype))
        mean = F.adaptive_avg_pool3d(x, PARTS).flatten(1)
        squares = F.adaptive_avg_pool3d(x * x, PARTS).flatten(1)
        spread = (squares - mean * mean).clamp(min=0).sqrt()
        found = torch.cat([(share / of.shape[1]).sqrt(), mean, spread], 1)
        return Features(found[:, None], found)


@dataclass(frozen=True)
class Voxels:
    """Voxels averaged down, as an `Encoder`: depth 0 is their leading principal components, depth 1 they themselves."""

    shape: tuple[int, int, int]
    mean: Tensor  # [P]
    components: Tensor  # [P K], orthonormal columns

    n_depths = 2

    @classmethod
    def fit(cls, fetch: Fetch, rows: NDArray[np.int64], spec: VolumeSpec, *, seed: int) -> Voxels:
        """Principal components of up to `MOST_ROWS` of these rows of the data; `fetch(rows)` reads them."""
        shape = (min(LARGEST, spec.slices), min(LARGEST, spec.side), min(LARGEST, spec.side))
        order = np.random.default_rng(keys.fold(seed, "voxels")).permutation(len(rows))
        chosen = rows[np.sort(order[:MOST_ROWS])]
        parts = [_flat(fetch(chosen[at : at + AT_ONCE]), shape) for at in range(0, len(chosen), AT_ONCE)]
        voxels = torch.cat(parts).double()  # [R P]
        mean = voxels.mean(0)
        _, _, directions = torch.linalg.svd(voxels - mean, full_matrices=False)  # [min(R, P) P]
        most = max(1, min(MOST_COMPONENTS, len(chosen) - 1))
        return cls(shape, mean.float(), directions[:most].T.float())

    @property
    def dim(self) -> int:
        return len(self.mean)

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        voxels = _flat(batch, self.shape)
        components = (voxels - self.mean.to(voxels.device)) @ self.components.to(voxels.device)
        return Features(voxels[:, None], voxels, depths=tuple((components, voxels)[depth] for depth in depths))


def _flat(batch: Batch, shape: tuple[int, int, int]) -> Tensor:
    return F.adaptive_avg_pool3d(to_float(batch["image"]), shape).flatten(1)
