"""What all encoders of volumes share: their shape, the preprocessing of scans, masked voxels, pooled depths.

Shapes: B volumes, D slices, H rows, W columns, N tokens, F features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder, several
from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch, Features
from tacit.data.named import as_numpy
from tacit.modalities.volume import decode
from tacit.modalities.volume.decode import Grid, Scan
from tacit.modalities.volume.spec import VolumeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Given = str | Path | NDArray[Any] | Sequence[str | Path]


class VolumeEncoder(OwnEncoder):
    """Embeds batches of raw volumes; abstract.

    `grid` and `stride` locate the tokens: token (d, i, j) covers the block of `stride` voxels that starts at
    (d, i, j) * stride, along each axis. `mask_token` is frozen until a task that masks tokens unfreezes it.
    """

    spec: VolumeSpec
    mask_token: nn.Parameter

    def __init__(
        self,
        name: str,
        spec: VolumeSpec,
        *,
        dim: int,
        n_depths: int,
        stride: tuple[int, int, int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=n_depths, options=options)
        self.stride = stride
        self.grid = (-(-spec.slices // stride[0]), -(-spec.side // stride[1]), -(-spec.side // stride[2]))

    @property
    def title(self) -> str:
        return f"{self.name} for volumes of {self.spec.short} voxels"

    @abstractmethod
    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed `batch["image"]` [B 1 D H W]; depth `n_depths - 1` is the deepest and equals `pooled`."""

    def normalise(self, batch: Batch) -> Tensor:
        """Raw volumes as the network takes them: float32 [B 1 D H W], mean 0 and deviation 1 over the training data."""
        image = batch["image"]
        if image.shape[1:] != (1, *self.spec.shape):
            raise UserError(
                f"the encoder {self.name} takes volumes [B 1 {' '.join(map(str, self.spec.shape))}], not "
                f"{list(image.shape)}; encoder.prepare(scans) makes such batches"
            )
        return (to_float(image) - self.spec.mean) / self.spec.std

    def hide(self, x: Tensor, mask: Tensor) -> Tensor:
        """Put the learned voxel `mask_token` [1] in the blocks of `x` [B 1 D H W] where `mask` [B N] is True."""
        blocks = mask.reshape(-1, *self.grid)
        for axis, stride in enumerate(self.stride, 1):
            blocks = blocks.repeat_interleave(stride, axis)
        _, _, D, H, W = x.shape  # the last blocks may stick out
        return torch.where(blocks[:, None, :D, :H, :W], self.mask_token[:, None, None, None].to(x.dtype), x)

    def prepare(self, scans: Given | Sequence[Given]) -> Batch:
        """Scans as a batch on the encoder's device, prepared as for its training.

        A scan is the path of a file, a list of the paths of its slices, or an array [D H W] of numbers as they were
        measured, whose slices lie as in training and whose voxels are as far apart. Returns `image` [B 1 D H W] and
        `index` [B]. UserError names what is no scan.
        """
        given = several(as_numpy(scans), (str, Path, np.ndarray), "paths or arrays")
        volumes = np.stack([volume for scan in given for volume in self._volumes(scan)])  # [B D H W]
        image = torch.from_numpy(volumes)[:, None].to(self.mask_token.device)
        return {"image": image, "index": torch.arange(len(image), device=image.device)}

    def _volumes(self, given: Given) -> list[NDArray[np.uint16]]:
        spec = self.spec
        grid = Grid(spec.axis, spec.shape, spec.spacing)
        try:
            if isinstance(given, np.ndarray):
                if given.ndim != 3 or given.dtype.kind not in "iuf":
                    raise ValueError("pass numbers [D H W]")
                return [decode.fit(_scan_of(given, grid), grid, spec.range)]
            files = [given] if isinstance(given, str | Path) else list(given)
            return [decode.fit(scan, grid, spec.range) for scan in decode.scans([Path(file) for file in files])]
        except (OSError, ValueError) as error:
            what = f"an array {given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else f"{given!s:.100}"
            raise UserError(f"cannot prepare {what}: {error}") from None

    def read(self, model: PreTrainedModel, image: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the reloaded `hugging_face()` for volumes [B 1 D H W] in [0, 1]: pooled [B F], tokens [B N F]."""
        raise NotImplementedError(self.name)

    def shape(self) -> dict[str, Any]:
        """The modality's own fields of `encoder.json`."""
        return {"grid": self.grid, "stride": self.stride}

    pooling = "mean over tokens"


class MapEncoder(VolumeEncoder):
    """Encoders that turn a volume into ever smaller maps; abstract. A token is a place of the last map."""

    @abstractmethod
    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The output [B F_i D_i H_i W_i] of every depth for normalised volumes [B 1 D H W]."""

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.normalise(batch), depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        return self.features(self.hide(self.normalise(batch), mask), ())

    def features(self, x: Tensor, depths: Sequence[int]) -> Features:
        maps = self.maps(x)
        tokens = maps[-1].flatten(2).transpose(1, 2)  # [B N F]
        return Features(
            tokens, tokens.mean(1), grid=self.grid, depths=tuple(maps[depth].mean((2, 3, 4)) for depth in depths)
        )


def _scan_of(slices: NDArray[Any], grid: Grid) -> Scan:
    """An array [D H W] as it would have been scanned: the inverse of `decode.laid`."""
    voxels = np.moveaxis(slices.swapaxes(1, 2)[:, ::-1, ::-1], 0, grid.axis)
    between, rows, columns = grid.spacing
    spacing = np.insert(np.array([columns, rows]), grid.axis, between)
    return Scan(voxels, spacing)
