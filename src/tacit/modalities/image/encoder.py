"""What all image encoders share: their shape, the preprocessing of raw images, masked pixels, pooled depths."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor, nn

from tacit.core.encoder import OwnEncoder, several
from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch, Features
from tacit.data.named import as_numpy
from tacit.modalities.image import decode, medical
from tacit.modalities.image.framing import Framing
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.medical import files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Picture = str | Path | Image | NDArray[Any]


class ImageEncoder(OwnEncoder):
    """Embeds batches of raw images; abstract.

    `grid` and `stride` locate the tokens at `spec.size`: token
    (i, j) covers the square of `stride` px that starts at (i * stride, j * stride). `mask_token` is frozen until a task
    that masks tokens unfreezes it.
    """

    spec: ImageSpec
    mask_token: nn.Parameter
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        spec: ImageSpec,
        *,
        dim: int,
        n_depths: int,
        grid: tuple[int, int],
        stride: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, spec, dim=dim, n_depths=n_depths, options=options)
        self.grid = grid
        self.stride = stride
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(spec.std)[:, None, None], persistent=False)

    @property
    def title(self) -> str:
        return f"{self.name} for images of {self.spec.size} px"

    @abstractmethod
    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """Embed `batch["image"]` [B C H W]; depth `n_depths - 1` is the deepest and equals `pooled`."""

    def normalise(self, batch: Batch) -> Tensor:
        """Raw images as the network takes them: float32 [B C H W], mean 0 and deviation 1 over the training data."""
        image = batch["image"]
        if image.ndim != 4 or image.shape[1] != self.spec.channels:
            raise UserError(
                f"the encoder {self.name} takes images [B {self.spec.channels} H W], not {list(image.shape)}; "
                "encoder.prepare(images) makes such batches"
            )
        return (to_float(image) - self.mean) / self.std

    def hide(self, x: Tensor, mask: Tensor) -> Tensor:
        """Put the learned pixel `mask_token` [C] in the squares of `x` [B C H W] where `mask` [B N] is True."""
        squares = mask.reshape(-1, *self.grid).repeat_interleave(self.stride, 1).repeat_interleave(self.stride, 2)
        squares = squares[:, None, : x.shape[2], : x.shape[3]]  # [B 1 H W]; the last squares may stick out
        return torch.where(squares, self.mask_token[:, None, None].to(x.dtype), x)

    def prepare(self, images: Picture | Sequence[Picture]) -> Batch:
        """Paths, PIL images or arrays as a batch on the encoder's device, prepared as for its training.

        An array is one image [H W] or [H W C], or a stack of images. Its numbers are scaled as in training; if
        those were of another type, integers are scaled by their type, and floats are in [0, 1]. A medical file gives as
        many images as it holds. Returns `image` [B C size size] and `index` [B]. UserError names inputs that are no
        images, or that the encoder cannot read.
        """
        pictures = _several(images, self.spec.channels)
        scale = self.spec.scale
        arrays = [picture for picture in pictures if isinstance(picture, np.ndarray)]
        if scale is None and arrays and len({array.dtype for array in arrays}) == 1:  # trained by an older Tacit
            scale = _found(arrays)
        squares = [square for picture in pictures for square in self._squares(picture, scale)]
        if len({square.dtype for square in squares}) > 1:  # 8 and 16 bits mixed: 255 becomes 65535
            squares = [square if square.dtype == np.uint16 else square.astype(np.uint16) * 257 for square in squares]
        image = torch.from_numpy(np.stack(squares)).to(self.mean.device)  # [B C S S]
        return {"image": image, "index": torch.arange(len(image), device=image.device)}

    def _squares(self, picture: Picture, scale: decode.Scale | None) -> list[NDArray[np.generic]]:
        """One of a picture, and of a medical file as many as it holds images."""
        form = (self.spec.size, self.spec.channels, None, self.spec.framing)
        how: dict[str, Any] = {"scale": scale, "strict": self.spec.scale is not None}
        try:
            if isinstance(picture, np.ndarray):
                return [decode.array_to_square(picture, *form, **how)]
            if isinstance(picture, Image):
                return [decode.to_square(picture, *form, **how)]
            path = Path(picture)
            if medical_form := files.form(path):
                return [square for _, square in medical.squares(path, medical_form, *form, **how)]
            return [decode.decode(path, *form, **how)]
        except (OSError, ValueError) as error:
            what = f"an array of shape {picture.shape}" if isinstance(picture, np.ndarray) else str(picture)
            raise UserError(f"cannot prepare {what}: {error}") from None

    def read(self, model: PreTrainedModel, image: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the reloaded `hugging_face()` for images [B C S S] in [0, 1]: pooled [B D], tokens [B N D]."""
        hidden = model((image - self.mean.cpu()) / self.std.cpu()).last_hidden_state
        places = math.prod(self.grid)
        tokens = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, -places:]
        return tokens.mean(1), tokens

    def write_companions(self, folder: Path) -> None:
        """Write the preprocessing of images for the model in `folder`, for Hugging Face's library."""
        (folder / "preprocessor_config.json").write_text(json.dumps(image_processor(self.spec), indent=2))

    def shape(self) -> dict[str, Any]:
        """The modality's own fields of `encoder.json`."""
        return {"grid": self.grid, "stride": self.stride}

    pooling = "mean over tokens"


class MapEncoder(ImageEncoder):
    """Encoders that turn an image into ever smaller maps; abstract. A token is a place of the last map."""

    @abstractmethod
    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The output [B D_i H_i W_i] of every depth for normalised images [B C H W]."""

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.normalise(batch), depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        return self.features(self.hide(self.normalise(batch), mask), ())

    def features(self, x: Tensor, depths: Sequence[int]) -> Features:
        maps = self.maps(x)
        tokens = maps[-1].flatten(2).transpose(1, 2)  # [B N D]
        grid = (maps[-1].shape[2], maps[-1].shape[3])
        return Features(tokens, tokens.mean(1), grid=grid, depths=tuple(maps[depth].mean((2, 3)) for depth in depths))

    pooling = "last_hidden_state.mean((2, 3))"


def image_processor(spec: ImageSpec) -> dict[str, Any]:
    """`decode.to_square` and the normalisation as settings of a Hugging Face image processor."""
    framing = spec.framing or Framing(spec.size, keep=False, filter=3)  # bicubic
    square, edge = {"height": spec.size, "width": spec.size}, framing.edge
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": spec.channels == 3,
        "do_resize": edge > 0,
        "size": {"shortest_edge": edge} if framing.keep else {"height": edge, "width": edge},
        "resample": framing.filter,
        **({"do_center_crop": True, "crop_size": square} if framing.keep or edge != spec.size else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def _found(arrays: Sequence[NDArray[Any]]) -> decode.Scale | None:
    """One scale for all of these arrays, from their values; None where they hold no numbers."""
    try:
        return decode.scale_of(decode.Values.of(lambda: iter(arrays)))
    except ValueError:
        return None


def _several(images: Picture | Sequence[Picture], channels: int) -> Sequence[Picture]:
    """One image or many as a sequence of images."""
    images = as_numpy(images)
    one: tuple[type, ...] = (str, Path, Image)
    if isinstance(images, np.ndarray) and (
        images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4, channels))
    ):
        one = (np.ndarray,)
    return [as_numpy(image) for image in several(images, one, "paths, PIL images or arrays")]
