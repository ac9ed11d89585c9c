from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch
from tacit.modalities.image import views as kernels
from tacit.modalities.image.views import Views, cut_out, gaussian_blur, recolour, sample

STILL = Views(crop=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
EVERYTHING = Views(rotate=20, shear=10, shift=0.1, solarise=0.3, cutout=0.5, crop=(0.3, 1.2))


def make_batch(rows: int = 6, channels: int = 3, size: int = 12, *, seed: int = 0) -> Batch:
    image = torch.randint(0, 256, (rows, channels, size, size), generator=torch.Generator().manual_seed(seed))
    index = torch.arange(rows)
    return {"image": image.to(torch.uint8), "index": index, "key": keys.batch_keys(seed, 0, index)}


def bilinear_oracle(image: Tensor, affine: Tensor) -> Tensor:
    """One view of one image, pixel by pixel."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            place = torch.tensor([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0])
            x, y = (affine @ place).tolist()
            column = min(max((x + 1) * width / 2 - 0.5, 0.0), width - 1.0)
            row = min(max((y + 1) * height / 2 - 0.5, 0.0), height - 1.0)
            left, top = min(int(column), width - 2), min(int(row), height - 2)
            a, b = column - left, row - top
            for c in range(channels):
                above = (1 - a) * image[c, top, left] + a * image[c, top, left + 1]
                below = (1 - a) * image[c, top + 1, left] + a * image[c, top + 1, left + 1]
                out[c, i, j] = (1 - b) * above + b * below
    return out


def luma(rgb: list[float]) -> float:
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def colour_oracle(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Brightness, contrast about the mean luma, saturation about each pixel's luma: three passes over the pixels."""
    pixels = (image.flatten(1).T * brightness).tolist()
    mean = sum(luma(rgb) for rgb in pixels) / len(pixels)
    pixels = [[mean + contrast * (value - mean) for value in rgb] for rgb in pixels]
    pixels = [[luma(rgb) + saturation * (value - luma(rgb)) for value in rgb] for rgb in pixels]
    return torch.tensor(pixels).T.reshape(image.shape)


def blur_oracle(image: Tensor, sigma: float) -> Tensor:
    """One channel, both directions at once, [H W]."""
    height, width = image.shape
    reach = int(3 * sigma)
    steps = range(-reach, reach + 1)
    weight = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma * sigma)) for a in steps for b in steps}
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            for (a, b), w in weight.items():
                out[i, j] += w * image[min(max(i + a, 0), height - 1), min(max(j + b, 0), width - 1)]
    return out / sum(weight.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_sampling_equals_a_slow_bilinear_loop(channels: int) -> None:
    batch = make_batch(4, channels, 6)
    affine = EVERYTHING._affine(batch["key"])
    image = to_float(batch["image"])
    expected = torch.stack([bilinear_oracle(image[b], affine[b]) for b in range(4)])
    torch.testing.assert_close(sample(image, affine), expected, atol=2e-5, rtol=0)


def test_affine_is_crop_then_slant_then_turn_with_the_mirror_first() -> None:
    key = keys.batch_keys(1, 0, torch.arange(4000))
    upright = replace(STILL, crop=(0.2, 0.9), aspect=(0.5, 2.0), flip=0.5)._affine(key)
    width, height, centre = upright[:, 0, 0].abs(), upright[:, 1, 1], upright[:, :, 2].abs()
    assert (upright[:, 0, 1] == 0).all()
    assert (upright[:, 1, 0] == 0).all()
    assert (centre[:, 0] + width <= 1 + 1e-6).all()  # the window lies inside the image
    assert (centre[:, 1] + height <= 1 + 1e-6).all()
    assert ((width * height) <= 0.9 + 1e-5).all()
    assert 0.45 < (upright[:, 0, 0] < 0).float().mean() < 0.55
    turned = replace(STILL, rotate=30.0)._affine(key)[:, :, :2]
    torch.testing.assert_close(turned @ turned.mT, torch.eye(2).expand_as(turned), atol=1e-5, rtol=0)
    angle = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
    assert 29 < angle.max() <= 30
    assert -30 <= angle.min() < -29
    slanted = replace(STILL, shear=20.0)._affine(key)[:, :, :2]
    torch.testing.assert_close(torch.linalg.det(slanted), torch.ones(4000))
    assert (slanted[:, 0, 1].abs() <= math.tan(math.radians(20)) + 1e-6).all()


@pytest.mark.parametrize(("brightness", "contrast", "saturation"), [(1.3, 0.6, 0.2), (0.5, 1.7, 1.6), (1, 1, 0)])
def test_one_matrix_equals_the_sequence_of_colour_steps(brightness: float, contrast: float, saturation: float) -> None:
    image = to_float(make_batch(1, 3, 6)["image"])
    jitter = torch.tensor([[0.9, brightness, contrast, saturation, 0.0, 0.9]])
    matrix, share = mix(jitter)
    out = recolour(image, matrix, share)
    torch.testing.assert_close(out[0], colour_oracle(image[0], brightness, contrast, saturation), atol=1e-5, rtol=0)


def mix(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix for wanted factors, by feeding `_colour` the draws that lead to them."""
    strong = replace(STILL, jitter=1.0, brightness=1.0, contrast=1.0, saturation=1.0, hue=1.0, grey=0.0)
    draws = wanted.clone()
    draws[:, 1:4] = draws[:, 1:4] / 2  # factor = 1 + (2 u - 1)
    draws[:, 4] = (draws[:, 4] + 1) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.keys, "uniform", lambda key, purpose, n: draws)
        return strong._colour(torch.zeros(len(draws), dtype=torch.int64), 3)


def test_hue_turns_the_colour_circle_and_keeps_the_luma() -> None:
    image = to_float(make_batch(1, 3, 8)["image"])
    for turn in (1 / 3, -1 / 3, 0.1):
        matrix, share = mix(torch.tensor([[0.0, 1.0, 1.0, 1.0, turn, 1.0]]))
        out = recolour(image, matrix, share)
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        torch.testing.assert_close((out[0] * weights).sum(0), (image[0] * weights).sum(0), atol=1e-5, rtol=0)
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    matrix, share = mix(torch.tensor([[0.0, 1.0, 1.0, 1.0, 1 / 3, 1.0]]))
    r, g, b = recolour(red, matrix, share).flatten().tolist()
    low = min(r, g, b)
    hue, _, _ = colorsys.rgb_to_hsv(r - low, g - low, b - low)
    assert hue == pytest.approx(1 / 3, abs=1e-5)  # red became green


def test_grey_has_three_equal_channels_of_the_luma() -> None:
    batch = make_batch()
    out = replace(STILL, grey=1.0)(batch, 0)["image"]
    expected = colour_oracle(to_float(batch["image"])[0], 1, 1, 0)
    torch.testing.assert_close(out[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 1.7])
def test_blur_equals_a_slow_two_dimensional_sum(sigma: float) -> None:
    image = to_float(make_batch(2, 3, 7)["image"])
    out = gaussian_blur(image, torch.tensor([sigma, 0.5]))
    torch.testing.assert_close(out[0, 1], blur_oracle(image[0, 1], sigma), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[1, 2], blur_oracle(image[1, 2], 0.5), atol=1e-5, rtol=0)


def test_only_drawn_images_are_blurred() -> None:
    batch = make_batch(40)
    out = replace(STILL, blur=0.5, blur_px=(1.0, 1.0))(batch, 0)["image"]
    changed = ((out - to_float(batch["image"])).abs().amax(dim=(1, 2, 3)) > 1e-3).tolist()
    drawn = (keys.uniform(keys.split(batch["key"], 0), "blur", 2)[:, 0] < 0.5).tolist()
    assert changed == drawn
    assert {True, False} == set(changed)


def test_solarise_inverts_what_is_bright() -> None:
    batch = make_batch()
    image = to_float(batch["image"])
    out = replace(STILL, solarise=1.0)(batch, 0)["image"]
    torch.testing.assert_close(out, torch.where(image >= 0.5, 1 - image, image), atol=1e-5, rtol=0)


def test_cut_out_puts_the_mean_in_one_square() -> None:
    image = to_float(make_batch(2, 3, 8)["image"])
    out = cut_out(image, torch.tensor([[0.5, 0.25, 0.125], [0.5, 0.5, 0.0]]))
    expected = image.clone()
    expected[0, :, 1:3, 3:5] = image[0].mean(dim=(1, 2))[:, None, None]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_strength_is_no_change(dtype: torch.dtype, channels: int) -> None:
    batch = make_batch(3, channels)
    image = batch["image"]
    batch["image"] = image.to(dtype) if dtype == torch.uint8 else (image / 255).to(dtype)
    if dtype == torch.uint16:
        batch["image"] = image.to(torch.int32).mul(257).to(torch.uint16)
    silent = replace(STILL, jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    for still in (STILL, silent):
        out = still(batch, 1)["image"]
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, image / 255, atol=1e-3 if dtype == torch.float16 else 1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([8, 13, 32]),
    view=st.integers(0, 3),
)
def test_views_are_in_range_repeatable_and_independent_of_their_neighbours(
    seed: int, rows: int, channels: int, size: int, view: int
) -> None:
    batch = make_batch(rows, channels, size, seed=seed)
    before = {name: value.clone() for name, value in batch.items()}
    out = EVERYTHING(batch, view)
    assert out["image"].shape == batch["image"].shape
    assert out["image"].min() >= 0
    assert out["image"].max() <= 1
    assert torch.equal(EVERYTHING(batch, view)["image"], out["image"])
    alone = EVERYTHING({name: value[-1:] for name, value in batch.items()}, view)
    torch.testing.assert_close(alone["image"][0], out["image"][-1], atol=1e-6, rtol=0)
    assert alone["key"][0] == out["key"][-1]
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_chunks_do_not_change_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(11, 3, 16)
    whole = EVERYTHING(batch, 0)["image"]
    monkeypatch.setattr(kernels, "_CHUNK", 3 * 3 * 16 * 16)
    torch.testing.assert_close(EVERYTHING(batch, 0)["image"], whole, atol=1e-6, rtol=0)


def test_views_differ_between_numbers_rows_and_steps() -> None:
    batch = make_batch(4)
    batch["image"] = batch["image"][:1].repeat(4, 1, 1, 1)
    seen = [EVERYTHING(batch, view)["image"][row] for view in range(3) for row in range(4)]
    later = {**batch, "key": keys.batch_keys(0, 1, batch["index"])}
    seen += list(EVERYTHING(later, 0)["image"])
    for i, one in enumerate(seen):
        assert all((one - other).abs().max() > 0.02 for other in seen[:i])


def test_half_precision_around_the_call_does_not_round_the_views() -> None:
    batch = make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = EVERYTHING(batch, 0)["image"]
    torch.testing.assert_close(inside, EVERYTHING(batch, 0)["image"])


def test_index_and_other_fields_come_along() -> None:
    batch = make_batch()
    out = STILL(batch, 2)
    assert torch.equal(out["index"], batch["index"])
    assert torch.equal(out["key"], keys.split(batch["key"], 2))


def test_bad_settings_name_the_value_and_the_remedy() -> None:
    with pytest.raises(UserError, match=r"flip is a probability, not 1.5; give 0 to 1"):
        Views(flip=1.5)
    with pytest.raises(UserError, match=r"crop is a range above 0, not \(0.9, 0.2\)"):
        Views(crop=(0.9, 0.2))
    with pytest.raises(UserError, match=r"crop is a range above 0"):
        Views(crop=(0.0, 1.0))


def test_pixels_become_floats_of_the_same_brightness() -> None:
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        image = torch.from_numpy(np.array([0, white // 3, white], dtype=dtype))
        torch.testing.assert_close(to_float(image), torch.tensor([0, 1 / 3, 1]))
    half = torch.tensor([0.25, 1.0], dtype=torch.float16)
    assert to_float(half).dtype == torch.float32
    assert torch.equal(to_float(half), torch.tensor([0.25, 1.0]))
