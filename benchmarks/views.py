"""How many two-view images a second one core makes, against lightly's SimCLR transform.

    python benchmarks/views.py [PYTHON]

Both views of a SimCLR pair count as one image. PYTHON is an interpreter with lightly and torchvision installed; without
it the peer is left out, since torchvision and a CPU build of torch do not always share an environment. Seconds are
processor seconds of one thread, the best of several rounds, so that a busy machine does not blur them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from record import record

CASES = ((32, 256), (224, 64))  # px, images in a batch
ROUNDS = 7


def rate(images: int, work: Callable[[], object]) -> float:
    """Images per processor second, after a round that does not count."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return round(images / min(seconds[1:]), 1)


def raw(size: int, count: int) -> np.ndarray:
    """Noise that is smooth like a photo, uint8 [B 3 H W]."""
    coarse = torch.rand(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).byte().numpy()


def ours(size: int, count: int) -> float:
    from tacit import keys
    from tacit.modalities.image import default_views
    from tacit.spec import ImageSpec

    index = torch.arange(count)
    batch = {"image": torch.from_numpy(raw(size, count)), "index": index, "key": keys.batch_keys(0, 0, index)}
    views = default_views(ImageSpec(size, 3, (0.5,) * 3, (0.25,) * 3), "simclr")
    return rate(count, lambda: [views(batch, 0), views(batch, 1)])


def lightly(size: int, count: int) -> float:
    library = torch.library.Library("torchvision", "DEF")  # imports beside a CPU build of torch only when told of these
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    transform = SimCLRTransform(input_size=size, gaussian_blur=0.5 if size >= 64 else 0.0)
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in raw(size, count)]
    return rate(count, lambda: [transform(picture) for picture in pictures])


def main(peer: str | None) -> None:
    torch.set_num_threads(1)
    if peer == "--lightly":
        for size, count in CASES:
            record(f"views/{size}px", who="lightly", images_per_second=lightly(size, count), batch=count)
        return
    for size, count in CASES:
        record(f"views/{size}px", who="tacit", images_per_second=ours(size, count), batch=count)
    if peer:
        source = str(Path(__file__).parents[1] / "src")
        subprocess.run([peer, __file__, "--lightly"], check=True, env={**os.environ, "PYTHONPATH": source})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
