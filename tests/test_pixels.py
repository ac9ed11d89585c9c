from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tacit.modalities.image import decode


def encode(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def quarters(size: int = 32) -> Image.Image:
    """Red, green / blue, white."""
    array = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    array[:half, :half], array[:half, half:] = (255, 0, 0), (0, 255, 0)
    array[half:, :half], array[half:, half:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(array)


LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "settings"), [*LOSSLESS, ("JPEG", {"quality": 95, "subsampling": 0}), ("GIF", {})])
def test_every_format_gives_the_same_picture(kind, settings):
    square = decode.decode(encode(quarters(), kind, **settings), 32, 3)
    assert square.shape == (3, 32, 32)
    assert square.dtype == np.uint8
    difference = np.abs(square.astype(int) - np.asarray(quarters()).transpose(2, 0, 1))
    assert difference.max() <= (0 if (kind, settings) in LOSSLESS or kind == "GIF" else 8)


def test_a_wide_image_is_kept_whole():
    wide = Image.fromarray(np.repeat(np.asarray(quarters()), 2, axis=1))
    square = decode.decode(encode(wide, "PNG"), 32, 3)
    assert np.abs(square.astype(int) - np.asarray(quarters()).transpose(2, 0, 1)).mean() < 3


def test_a_reduced_image_is_averaged_not_sampled():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    square = decode.decode(encode(Image.fromarray(stripes), "PNG"), 8, 1)
    assert np.abs(square.astype(int) - 128).max() <= 8


def test_jpeg_decoded_at_reduced_scale_agrees_with_the_full_decode():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (512, 512), Image.Resampling.BICUBIC
    )
    data = encode(smooth, "JPEG", quality=95)
    reduced = decode.decode(data, 32, 3).astype(int)
    given = Image.open(io.BytesIO(data))
    full = decode.to_square(given, 32, 3).astype(int)
    assert given.size == (512, 512)  # an image that is handed in stays as it is
    assert np.abs(reduced - full).mean() < 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_image_upright_once(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    lying = quarters().transpose(Image.Transpose.ROTATE_90)
    settings = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    square = decode.decode(encode(lying, kind, exif=exif, **settings), 32, 3)
    assert np.abs(square.astype(int) - np.asarray(quarters()).transpose(2, 0, 1)).max() <= 8


def test_broken_exif_beside_sound_pixels_is_ignored():
    info = PngImagePlugin.PngInfo()
    info.add(b"eXIf", b"MM\0*\0\0\0\x08\0\x05\x01\x12")  # announces five entries, holds half of one
    assert decode.decode(encode(quarters(), "PNG", pnginfo=info), 32, 3).shape == (3, 32, 32)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white_not_on_hidden_colours(mode):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:8] = (10, 10, 10, 255)  # the lower half is transparent black
    image = Image.fromarray(rgba)
    image = image.quantize() if mode == "P" else image.convert(mode)
    square = decode.decode(encode(image, "PNG"), 16, 3)
    assert (square[:, 8:] == 255).all()
    assert np.abs(square[:, :8].astype(int) - 10).max() <= 1


def test_cmyk_becomes_rgb():
    square = decode.decode(encode(quarters().convert("CMYK"), "JPEG", quality=100, subsampling=0), 32, 3)
    assert np.abs(square.astype(int) - np.asarray(quarters()).transpose(2, 0, 1)).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_depth(kind):
    deep = (np.arange(256, dtype=np.uint16) * 256 + 7).reshape(16, 16)
    data = encode(Image.fromarray(deep), kind)
    assert decode.probe(data) == decode.Header(16, 16, grey=True, deep=True)
    np.testing.assert_array_equal(decode.decode(data, 16, 1), deep[None])
    eight = decode.decode(data, 16, 3)
    assert eight.dtype == np.uint8
    np.testing.assert_allclose(eight[1] / 255, deep / 65535, atol=0.5 / 255 + 1e-6)
    assert decode.decode(data, 8, 1).dtype == np.uint16


def test_eight_bits_in_a_deep_cache_mean_the_same():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = decode.decode(encode(Image.fromarray(grey), "PNG"), 16, 1, np.dtype(np.uint16))
    np.testing.assert_array_equal(deep[0] / 65535, grey / 255)


def test_one_bit_and_grey_images_fill_three_channels():
    ones = Image.fromarray(np.eye(16, dtype=bool))
    square = decode.decode(encode(ones, "PNG"), 16, 3)
    np.testing.assert_array_equal(square, np.repeat(np.eye(16, dtype=np.uint8)[None] * 255, 3, axis=0))


def test_only_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode.decode(data, 8, 3)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("L", (4, 6)), True),
        (Image.new("RGB", (4, 6)), False),
        (Image.new("1", (4, 6)), True),
        (Image.new("LA", (4, 6)), True),
        (quarters().quantize(4), False),
        (Image.linear_gradient("L").resize((4, 6)).convert("P"), True),
    ],
)
def test_probe_sees_size_and_colour_in_the_header(image, grey):
    header = decode.probe(encode(image, "PNG"))
    assert (header.width, header.height) == image.size
    assert header.grey == grey
    assert not header.deep


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just some text\n" * 20, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encode(quarters(), "PNG")[:90], "truncated|incomplete|not an image"),
        (encode(Image.new("1", (10_000, 10_000)), "PNG"), "megapixels"),
        (encode(Image.new("1", (20_000, 20_000)), "PNG"), "megapixels"),
    ],
)
def test_what_cannot_be_decoded_says_why(data, reason):
    with pytest.raises((ValueError, OSError), match=reason):
        decode.decode(data, 8, 1)


def test_a_file_is_decoded_like_its_bytes(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(data := encode(quarters(), "PNG"))
    np.testing.assert_array_equal(decode.decode(tmp_path / "a.png", 20, 3), decode.decode(data, 20, 3))


@pytest.mark.parametrize("size", [32, 20])
def test_arrays_and_files_meet_the_same_routine(size):
    array = np.asarray(quarters())
    expected = decode.decode(encode(quarters(), "PNG"), size, 3)
    np.testing.assert_array_equal(decode.array_to_square(array, size, 3), expected)
    np.testing.assert_array_equal(decode.array_to_square(array.transpose(2, 0, 1), size, 3), expected)


def test_deep_colour_arrays_are_resized_per_channel():
    array = np.zeros((16, 16, 3), np.uint16)
    array[..., 0], array[..., 2] = 60_000, 3_000
    square = decode.array_to_square(array, 8, 3)
    assert square.dtype == np.uint16
    assert square[:, 4, 4].tolist() == [60_000, 0, 3_000]
    assert decode.array_to_square(array, 8, 1)[0, 4, 4] == 21_000
    assert decode.array_to_square(array[..., 0], 8, 3)[:, 4, 4].tolist() == [60_000] * 3


def test_an_array_of_no_image_shape_is_refused():
    with pytest.raises(ValueError, match=r"\[H W C\]"):
        decode.array_to_square(np.zeros((5, 5, 5), np.uint8), 5, 3)
