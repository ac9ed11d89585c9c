"""Vision Transformers (Dosovitskiy et al. 2020, arXiv:2010.11929; tiny and small from Touvron et al. 2020,
arXiv:2012.12877), Hugging Face's implementation, for any image and patch size.

Departures: position embeddings start as two-dimensional sines and cosines and are learned on; patches start from
Xavier's uniform distribution (both as in He et al. 2022, arXiv:2111.06377); `pooled` is the mean over patches after the
final norm, the CLS token takes part in attention only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.models.vit.configuration_vit import ViTConfig
from transformers.models.vit.modeling_vit import ViTModel

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.spec import ImageSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYOUTS: dict[str, dict[str, int]] = {
    "vit_tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "vit_small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "vit_base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}
LARGEST_DEFAULT_PATCH = 16  # px
FEWEST_PATCHES = 7  # a side, by default
MOST_PATCHES = 1 << 16  # of an image: each attends to each


class ViT(ImageEncoder):
    def __init__(self, name: str, spec: ImageSpec, *, patch: int | None = None) -> None:
        patch = patch_size(spec.size, patch)
        config = ViTConfig(
            image_size=spec.size,
            patch_size=patch,
            num_channels=spec.channels,
            layer_norm_eps=1e-6,
            pooler_act="linear",
            **LAYOUTS[name],
        )
        side = spec.size // patch
        super().__init__(
            name,
            spec,
            dim=config.hidden_size,
            n_depths=config.num_hidden_layers,
            grid=(side, side),
            stride=patch,
            options={"patch": patch},
        )
        self.model = ViTModel(config, add_pooling_layer=False)
        with torch.no_grad():
            self.model.embeddings.position_embeddings[0, 1:] = sine_positions(side, config.hidden_size)
            nn.init.xavier_uniform_(self.model.embeddings.patch_embeddings.projection.weight.flatten(1))
        self.mask_token = nn.Parameter(0.02 * torch.randn(config.hidden_size), requires_grad=False)

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.patches(batch), depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        patches = self.patches(batch)
        return self.features(torch.where(mask[:, :, None], self.mask_token.to(patches.dtype), patches), ())

    def visible(self, batch: Batch, keep: Tensor) -> Tensor:
        places = self.placed(self.patches(batch))
        places = places.take_along_dim(keep[:, :, None], 1)  # [B K D]
        output: Tensor = self.model.layernorm(self.blocks(places)[-1])  # [B 1+K D]
        return output[:, 1:]

    def patches(self, batch: Batch) -> Tensor:
        """The embedded patches of a batch, no position yet, [B N D]."""
        x = self.normalise(batch)
        if x.shape[2:] != (self.spec.size, self.spec.size):
            raise UserError(
                f"the encoder {self.name} takes images of {self.spec.size} px, not {x.shape[2]} x {x.shape[3]}; "
                "encoder.prepare(images) resizes them"
            )
        patches: Tensor = self.model.embeddings.patch_embeddings(x)
        return patches

    def placed(self, patches: Tensor) -> Tensor:
        position: Tensor = self.model.embeddings.position_embeddings[:, 1:]
        return patches + position

    def blocks(self, places: Tensor) -> list[Tensor]:
        """The output of every block for placed patches [B K D]: tensors [B 1+K D], the CLS token first."""
        first = self.model.embeddings.cls_token + self.model.embeddings.position_embeddings[:, :1]
        x = torch.cat([first.expand(places.shape[0], -1, -1).to(places.dtype), places], 1)
        outputs = []
        for layer in self.model.layers:
            x = layer(x)
            outputs.append(x)
        return outputs

    def features(self, patches: Tensor, depths: Sequence[int]) -> Features:
        outputs = self.blocks(self.placed(patches))
        outputs[-1] = self.model.layernorm(outputs[-1])
        tokens = outputs[-1][:, 1:]  # [B N D]
        return Features(
            tokens, tokens.mean(1), grid=self.grid, depths=tuple(outputs[depth][:, 1:].mean(1) for depth in depths)
        )

    def hugging_face(self) -> PreTrainedModel:
        """The same weights behind Hugging Face's pooler, which is set to pass the CLS token on unchanged.

        Without one, `AutoModel.from_pretrained` would add a pooler of random weights.
        """
        with torch.device("meta"):
            model = ViTModel(self.model.config)
        weights = self.model.state_dict()
        weights["pooler.dense.weight"] = torch.eye(self.dim, device=self.mean.device)
        weights["pooler.dense.bias"] = torch.zeros(self.dim, device=self.mean.device)
        model.load_state_dict(weights, assign=True)
        return model.eval()

    pooling = "last_hidden_state[:, 1:].mean(1)"


def patch_size(size: int, patch: int | None) -> int:
    """The given patch, else the largest of at most 16 px that leaves 7 or more patches a side."""
    divisors = [number for number in range(1, size) if size % number == 0] or [1]
    if patch is None:
        fitting = [p for p in divisors if p <= LARGEST_DEFAULT_PATCH and size // p >= FEWEST_PATCHES]
        patch = max(fitting, default=1)
    if patch not in divisors:
        valid = ", ".join(map(str, divisors))
        raise UserError(f"a patch of {patch} px does not divide an image of {size} px; choose one of {valid}")
    if (size // patch) ** 2 > MOST_PATCHES:
        raise UserError(
            f"an image of {size} px has {(size // patch) ** 2:,} patches of {patch} px, and {MOST_PATCHES:,} are the "
            "most; choose a larger patch, or another --image-size, which it divides"
        )
    return patch


def sine_positions(side: int, dim: int) -> Tensor:
    """Sines and cosines of row and column, a quarter of `dim` each, wavelengths from 2 pi to 20,000 pi; [N dim]."""
    assert dim % 4 == 0, dim
    rates = 10_000 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(side)[:, None] * rates  # [side dim/4]
    wave = torch.cat([angle.sin(), angle.cos()], 1)  # [side dim/2]
    rows = wave[:, None].expand(side, side, -1)
    columns = wave[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)
