"""ResNet-18 and ResNet-50 (He et al. 2015, arXiv:1512.03385), Hugging Face's implementation.

Images of at most 64 px get the small-image stem, one 3x3 convolution of stride 1 and no max-pooling: the usual stem
would leave a 32 px image a map of 1 x 1. Hugging Face's configuration cannot express it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.models.resnet.configuration_resnet import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetModel

from tacit.modalities.image.encoder import MapEncoder
from tacit.modalities.image.spec import ImageSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SMALL_STEM_UP_TO = 64  # px
LAYOUTS = {
    "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "resnet50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
}


class ResNet(MapEncoder):
    def __init__(self, name: str, spec: ImageSpec) -> None:
        small_stem = spec.size <= SMALL_STEM_UP_TO
        stride = 8 if small_stem else 32
        side = -(-spec.size // stride)
        config = ResNetConfig(num_channels=spec.channels, **LAYOUTS[name])
        super().__init__(
            name,
            spec,
            dim=config.hidden_sizes[-1],
            n_depths=len(config.depths),
            grid=(side, side),
            stride=stride,
        )
        self.small_stem = small_stem
        self.model = ResNetModel(config)
        if small_stem:
            stem = nn.Conv2d(spec.channels, config.embedding_size, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
            self.model.embedder.embedder.convolution = stem
            self.model.embedder.pooler = nn.Identity()
        self.mask_token = nn.Parameter(torch.zeros(spec.channels), requires_grad=False)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)  # 1.1 times as fast on a CPU in 32 bits, no slower in bf16
        x = self.model.embedder(x)
        maps = []
        for stage in self.model.encoder.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def hugging_face(self) -> PreTrainedModel | None:
        return None if self.small_stem else self.model
