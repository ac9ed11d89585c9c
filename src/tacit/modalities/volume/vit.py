"""Vision Transformers over blocks of voxels: VideoMAE's encoder (Tong et al. 2022, arXiv:2203.12602), Hugging Face's
implementation, whose frames are the slices.

Departures: layouts of ViT tiny and small (Touvron et al. 2020, arXiv:2012.12877); blocks have a size of their own
along each axis, so that about seven lie along it; what sticks out of the volume is padded with the data's mean;
`pooled` is the mean over tokens after the final norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.models.videomae.configuration_videomae import VideoMAEConfig
from transformers.models.videomae.modeling_videomae import VideoMAEModel

from tacit.core.types import Batch, Features
from tacit.modalities.volume.encoder import VolumeEncoder
from tacit.modalities.volume.spec import VolumeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYOUTS: dict[str, dict[str, int]] = {
    "volume_vit_tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "volume_vit_small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
}
PLACES = 7  # blocks along an axis
LARGEST_BLOCK = 16  # voxels


def block_of(extent: int) -> int:
    """Voxels of a block along an axis."""
    return max(1, min(LARGEST_BLOCK, -(-extent // PLACES)))


class VolumeViT(VolumeEncoder):
    def __init__(self, name: str, spec: VolumeSpec) -> None:
        between, within = block_of(spec.slices), block_of(spec.side)
        slices, side = -(-spec.slices // between) * between, -(-spec.side // within) * within
        config = VideoMAEConfig(
            image_size=side,
            patch_size=within,
            num_channels=1,
            num_frames=slices,
            tubelet_size=between,
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
            **LAYOUTS[name],
        )
        stride = (between, within, within)
        super().__init__(name, spec, dim=config.hidden_size, n_depths=config.num_hidden_layers, stride=stride)
        self.padded = (slices, side)
        self.model = VideoMAEModel(config)
        self.mask_token = nn.Parameter(0.02 * torch.randn(config.hidden_size), requires_grad=False)

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.blocks_of(batch), depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        blocks = self.blocks_of(batch)
        return self.features(torch.where(mask[:, :, None], self.mask_token.to(blocks.dtype), blocks), ())

    def visible(self, batch: Batch, keep: Tensor) -> Tensor:
        places = self.placed(self.blocks_of(batch)).take_along_dim(keep[:, :, None], 1)  # [B K F]
        output: Tensor = self.model.layernorm(self.outputs(places)[-1])
        return output

    def blocks_of(self, batch: Batch) -> Tensor:
        """The embedded blocks of a batch, no position yet, [B N F]."""
        blocks: Tensor = self.model.embeddings.patch_embeddings(self.pixel_values(self.normalise(batch)))
        return blocks

    def pixel_values(self, x: Tensor) -> Tensor:
        """Normalised volumes [B 1 D H W] as Hugging Face's model takes them, [B D 1 H W] of whole blocks."""
        down, across = self.padded[0] - x.shape[2], self.padded[1] - x.shape[3]
        return nn.functional.pad(x, (0, across, 0, across, 0, down)).transpose(1, 2)

    def placed(self, blocks: Tensor) -> Tensor:
        positions: Tensor = self.model.embeddings.position_embeddings
        return blocks + positions.to(blocks)

    def outputs(self, places: Tensor) -> list[Tensor]:
        """The output [B K F] of every layer for placed blocks."""
        found, x = [], places
        for layer in self.model.encoder.layer:
            x = layer(x)
            found.append(x)
        return found

    def features(self, blocks: Tensor, depths: Sequence[int]) -> Features:
        outputs = self.outputs(self.placed(blocks))
        outputs[-1] = self.model.layernorm(outputs[-1])
        tokens = outputs[-1]
        return Features(
            tokens, tokens.mean(1), grid=self.grid, depths=tuple(outputs[depth].mean(1) for depth in depths)
        )

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def read(self, model: PreTrainedModel, image: Tensor) -> tuple[Tensor, Tensor]:
        x = (image - self.spec.mean) / self.spec.std
        tokens = model(pixel_values=self.pixel_values(x)).last_hidden_state
        return tokens.mean(1), tokens

    pooling = "last_hidden_state.mean(1); pixel_values are [B slices 1 rows columns], padded with 0 to whole blocks"
