from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tacit.core.types import Batch, Encoder
from tacit.modalities.image.baselines import PixelStatistics, default_views, patches, unpatches
from tacit.modalities.image.spec import ImageSpec

TASKS = ("simclr", "rotation", "masked", "scratch")


def spec(size: int, channels: int) -> ImageSpec:
    return ImageSpec(size, channels, (0.5,) * channels, (0.25,) * channels)


def test_patches_hold_each_square_and_turn_back() -> None:
    image = torch.rand(2, 3, 6, 4)
    tokens = patches(image, 2)
    assert tokens.shape == (2, 6, 12)
    square = image[1, :, 2:4, 0:2]  # the third of 3 x 2 squares
    assert torch.equal(tokens[1, 2], square.permute(1, 2, 0).flatten())
    assert torch.equal(unpatches(tokens, 2, (3, 2)), image)


@pytest.mark.parametrize("task", TASKS)
def test_default_views_respect_glyphs_and_grey(task: str) -> None:
    assert default_views(spec(8, 1), task).flip == 0
    assert default_views(spec(16, 3), task).flip == 0
    grey = default_views(spec(64, 1), task)
    assert grey.jitter == 0 or grey.saturation == grey.hue == 0
    assert grey.grey == 0
    assert (default_views(spec(8, 1), task).jitter > 0) == (task == "simclr")
    assert default_views(spec(32, 3), task).blur == 0


def test_contrast_gets_the_strongest_views() -> None:
    simclr = default_views(spec(224, 3), "simclr")
    assert (simclr.crop, simclr.flip, simclr.jitter, simclr.grey, simclr.blur) == ((0.08, 1.0), 0.5, 0.8, 0.2, 0.5)
    assert simclr.blur_px[1] == 2.0
    for task in ("rotation", "masked", "scratch"):
        weak = default_views(spec(224, 3), task)
        assert weak.jitter == weak.grey == weak.blur == weak.rotate == 0
        assert weak.crop[0] > simclr.crop[0]


def test_aligned_images_keep_most_of_themselves() -> None:
    scan = replace(spec(28, 1), alignment=0.5)
    assert default_views(scan, "simclr").crop[0] > 0.4 > default_views(spec(28, 1), "simclr").crop[0]
    assert (
        default_views(scan, task="masked").flip
        == default_views(scan, "simclr").flip
        == 0
        < default_views(spec(28, 1), "simclr").flip
    )
    assert default_views(scan, "masked").crop[0] >= default_views(spec(28, 1), "masked").crop[0]
    assert default_views(scan, "simclr").brightness > 0, "else contrast compares the amount of ink"


def make_fetch(images: NDArray[np.uint8]) -> Batch:
    return {"image": torch.from_numpy(images)}


def test_pixel_statistics_are_pixels_and_their_components() -> None:
    rng = np.random.default_rng(0)
    latent = rng.random((300, 3))
    images = (latent @ rng.random((3, 64)) * 80).astype(np.uint8).reshape(300, 1, 8, 8)
    baseline = PixelStatistics.fit(lambda rows: make_fetch(images[rows]), np.arange(200), spec(8, 1), seed=0)
    assert isinstance(baseline, Encoder)
    features = baseline(make_fetch(images[200:]), depths=(0, 1))
    pixels = torch.from_numpy(images[200:]).flatten(1) / 255
    torch.testing.assert_close(features.pooled, pixels)
    components, deepest = features.depths
    torch.testing.assert_close(deepest, pixels)
    assert components.shape == (100, 64)
    seen = images[:200].reshape(200, -1) / 255
    _, _, axes = np.linalg.svd(seen - seen.mean(0), full_matrices=False)
    theirs = (pixels.numpy() - seen.mean(0)) @ axes[:3].T
    np.testing.assert_allclose(np.abs(components[:, :3].numpy()), np.abs(theirs), atol=1e-4)


def test_pixel_statistics_shrink_large_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    baseline = PixelStatistics.fit(lambda rows: make_fetch(images[rows]), np.arange(20), spec(64, 3), seed=0)
    features = baseline(make_fetch(images[:4]), depths=(0,))
    assert features.pooled.shape == (4, baseline.dim) == (4, 3 * 18 * 18)
    assert features.depths[0].shape == (4, 19)
