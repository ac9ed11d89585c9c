"""How many two-view images a second one core makes, against lightly's SimCLR transform and kornia's augmentations.

Both views of a SimCLR pair count as one image. lightly is given PIL images one by one, as its data sets give them;
kornia a batch of floats, as a training loop gives it, with the same draws under its own names. On a CPU seconds are
processor seconds of one thread, so that a busy machine does not blur them; a GPU is asked for batches of 512.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sides import Asked, Said, allow_torchvision, seconds, take_side

CASES = ((32, 256), (224, 64))  # px, images in a batch
TIMES = 5


def rates(asked: Asked, make: Callable[[int, torch.Tensor], Callable[[], object]]) -> Said:
    """Of every case, by what `make` makes of its size in px and images, uint8 [B 3 H W]."""
    torch.set_num_threads(1)
    said = {}
    for size, on_cpu in CASES:
        count = on_cpu if asked.device == "cpu" else 512
        images = raw(size, count).to(asked.device)
        taken = seconds(make(size, images), times=TIMES, device=asked.device)
        said[f"{size}px"] = {"rate": count / taken, "batch": count}
    return said


def raw(size: int, count: int) -> torch.Tensor:
    """Noise that is smooth like a photo, uint8 [B 3 H W]."""
    coarse = torch.rand(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).byte()


def ours(asked: Asked) -> Said:
    from tacit.core import keys
    from tacit.modalities.image.baselines import default_views
    from tacit.modalities.image.spec import ImageSpec
    from tacit.training.engine import keep_memory

    keep_memory()  # as in every training

    def make(size: int, images: torch.Tensor) -> Callable[[], object]:
        index = torch.arange(len(images))
        keyed = keys.batch_keys(0, 0, index).to(images.device)
        batch = {"image": images, "index": index.to(images.device), "key": keyed}
        views = default_views(ImageSpec(size, 3, (0.5,) * 3, (0.25,) * 3), "simclr")
        return lambda: [views(batch, 0), views(batch, 1)]

    return rates(asked, make)


def lightly(asked: Asked) -> Said:
    allow_torchvision()
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    def make(size: int, images: torch.Tensor) -> Callable[[], object]:
        transform = SimCLRTransform(input_size=size, gaussian_blur=0.5 if size >= 64 else 0.0)
        pictures = [Image.fromarray(np.ascontiguousarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
        return lambda: [transform(picture) for picture in pictures]

    return rates(asked, make)


def kornia(asked: Asked) -> Said:
    import kornia.augmentation as K

    def make(size: int, images: torch.Tensor) -> Callable[[], object]:
        parts = [
            K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
            K.RandomGrayscale(p=0.2),
        ]
        if size >= 64:
            parts.append(K.RandomGaussianBlur((13, 13), (0.1, 2.0), p=0.5))
        views = torch.nn.Sequential(*parts)
        return lambda: [views(images.float() / 255), views(images.float() / 255)]

    return rates(asked, make)


if __name__ == "__main__":
    take_side({"tacit": ours, "lightly": lightly, "kornia": kornia})
