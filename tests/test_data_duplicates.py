"""Copies planted among pictures are found; lookalikes are not taken for copies."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tacit.modalities.image.copies import (
    CANDIDATES,
    LOOSEST,
    SMALLEST,
    STRICTEST,
    Copies,
    _averaging,
    _nearest,
    chance_level,
    find_copies,
)
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import Cache
from tests.tiny import digits

Images = NDArray[np.uint8]  # [N H W C]


@cache
def scenes(n: int = 400, side: int = 32) -> Images:
    """Colour pictures with the spectrum of photos: amplitudes that fall with frequency, phases by chance."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    amplitude = 1 / np.maximum(frequency, 1 / side) ** 1.2
    noise = np.fft.rfft2(rng.normal(size=(n, 3, side, side))) * amplitude
    noise[:, 1:] = 0.9 * noise[:, :1] + 0.3 * noise[:, 1:]  # channels go together
    waves = np.fft.irfft2(noise, s=(side, side))
    waves = (waves - waves.mean(axis=(2, 3), keepdims=True)) / waves.std(axis=(2, 3), keepdims=True)
    return (128 + 45 * waves).clip(0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


@cache
def pairs_of_digits(side: int = 28) -> Images:
    """Two digits side by side, enlarged: drawings that are all laid out alike."""
    images = digits()[:800, 0].numpy()
    both = [Image.fromarray(np.hstack([images[i], images[i + 400]])) for i in range(400)]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in both])[..., None]


def encoded(image: Images) -> Images:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file)).reshape(image.shape)


def resized(image: Images) -> Images:
    side = image.shape[0]
    smaller = Image.fromarray(image.squeeze()).resize((round(0.9 * side),) * 2, Image.Resampling.BICUBIC)
    return np.asarray(smaller.resize((side, side), Image.Resampling.BICUBIC)).reshape(image.shape)


def brighter(image: Images) -> Images:
    return (image * 1.05).clip(0, 255).round().astype(np.uint8)


def darker(image: Images) -> Images:
    return (image * 0.95).round().astype(np.uint8)


def shifted(image: Images) -> Images:
    return np.pad(image, [(1, 0), (0, 1), (0, 0)], mode="edge")[:-1, 1:]


def kept(images: Images) -> Cache:
    """The cache of these images [N H W C]."""
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    content = np.unique(pixels.reshape(len(pixels), -1), axis=0, return_inverse=True)[1]
    channels = pixels.shape[1]
    spec = ImageSpec(pixels.shape[2], channels, (0.5,) * channels, (0.2,) * channels)
    return Cache(pixels, np.stack([content, content], axis=1).astype(np.int64).view("V16")[:, 0], spec, "hash")


def search(tested: Images, known: Images) -> Copies:
    rows = np.arange(len(tested) + len(known))
    return find_copies(kept(np.concatenate([tested, known])), rows[: len(tested)], rows[len(tested) :])


@pytest.mark.parametrize("change", [encoded, resized, brighter, darker, shifted])
@pytest.mark.parametrize("pictures", [scenes, pairs_of_digits])
def test_planted_near_copies_are_found_and_named(pictures: object, change: object) -> None:
    images = pictures()  # type: ignore[operator]
    tested, known = images[:200].copy(), images[200:]
    tested[:20] = [change(image) for image in known[:20]]  # type: ignore[operator]
    found = search(tested, known)
    right = found.twin[:20] == 200 + np.arange(20)
    assert right.mean() >= 0.9
    assert not found.exact.any()
    assert not found.found[20:].any()


def test_exact_copies_are_told_from_near_ones() -> None:
    tested, known = scenes()[:100].copy(), scenes()[100:]
    tested[7], tested[9] = known[3], brighter(known[5])
    found = search(tested, known)
    assert np.flatnonzero(found.found).tolist() == [7, 9]
    assert found.twin[[7, 9]].tolist() == [103, 105]
    assert found.exact[[7, 9]].tolist() == [True, False]
    assert found.likeness[7] == 1


def test_one_tiny_digit_is_no_copy_of_another() -> None:
    """At 8 px two ones written by two people are as alike as a picture and its copy."""
    images = digits().numpy().transpose(0, 2, 3, 1)
    assert images.shape[1] < SMALLEST
    tested = images[:500].copy()
    tested[0] = images[600]
    found = search(tested, images[500:])
    assert found.threshold is None
    assert np.flatnonzero(found.found).tolist() == [0]
    assert found.exact[0]


def test_flat_images_have_exact_copies_only() -> None:
    flat = np.broadcast_to(np.arange(40, 200, dtype=np.uint8)[:, None, None, None], (160, 32, 32, 3))
    found = search(np.concatenate([scenes()[:50], flat[::2]]), np.concatenate([scenes()[50:], flat[1::2]]))
    assert not found.found.any()


def test_what_is_alike_by_kind_asks_for_more() -> None:
    """Lookalikes raise the threshold, copies among them hardly do, and it never leaves its bounds."""
    rng = np.random.default_rng(0)

    def level(middle: float, copies: int = 0) -> float:
        likeness = np.tanh(rng.normal(middle, 0.15, 1000))
        likeness[:copies] = 0.99
        return chance_level(likeness.astype(np.float32))

    assert level(0.2) == LOOSEST
    assert LOOSEST < level(0.9) < level(1.1) < level(1.3) < STRICTEST
    assert level(3.0) == STRICTEST
    assert level(0.9, copies=100) - level(0.9) < 0.03
    assert chance_level(np.zeros(3, np.float32)) == STRICTEST


def test_an_example_of_both_sides_is_refused() -> None:
    with pytest.raises(AssertionError, match="no copy of itself"):
        find_copies(kept(scenes()), np.arange(5), np.arange(4, 9))


def test_deep_and_large_images_are_compared_too() -> None:
    large = scenes(60, 80)[..., :1].astype(np.uint16) * 257
    tested, known = large[:40].copy(), large[40:]
    tested[3] = (known[2] * 0.95).astype(np.uint16)
    found = search(tested, known)  # type: ignore[arg-type]
    assert np.flatnonzero(found.found).tolist() == [3]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, known = rng.normal(size=(70, 6)).astype(np.float32), rng.normal(size=(101, 6)).astype(np.float32)
    naive = np.sort(np.argsort(-(queries @ known.T), axis=1)[:, :CANDIDATES], axis=1)
    monkeypatch.setattr("tacit.modalities.image.copies._BLOCK", 16)
    monkeypatch.setattr("tacit.modalities.image.copies._WIDTH", 3)
    np.testing.assert_array_equal(np.sort(_nearest(queries, known), axis=1), naive)


def test_averaging_keeps_the_mean() -> None:
    matrix = _averaging(100, 64)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=0), 0.64, rtol=1e-6)
    np.testing.assert_allclose(_averaging(8, 4), np.kron(np.eye(4), [[0.5, 0.5]]))
