"""What can be said of images before torch is there: the names of their encoders."""

from __future__ import annotations

READS = "images"  # what an encoder of this modality is said to read

ENCODERS = {
    "convnet": "tacit.modalities.image.convnet:ConvNet",
    "resnet18": "tacit.modalities.image.resnet:ResNet",
    "resnet50": "tacit.modalities.image.resnet:ResNet",
    "vit_tiny": "tacit.modalities.image.vit:ViT",
    "vit_small": "tacit.modalities.image.vit:ViT",
    "vit_base": "tacit.modalities.image.vit:ViT",
}
