"""No image gives other grey values than it has without a word: a zoo of files, types, ranges, palettes and bands."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.data import decode
from tacit.dataset import Dataset, open_dataset
from tacit.encoders import build_encoder, load_encoder, save_encoder
from tacit.modalities.image import decode as pixels
from tacit.modalities.image.decode import BY_TYPE, Scale, Values
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import Cache

SIZE = 16
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (SIZE, SIZE), dtype=np.uint16)
OPACITY = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def tiff(data: NDArray[Any], extra: Sequence[int] | None = None) -> bytes:
    """A plain TIFF of [H W C], `extra` said of the bands beyond colour."""
    height, width, bands = data.shape
    tags = {256: width, 257: height, 259: 1, 262: 2, 273: 0, 277: bands, 278: height, 279: data.nbytes, 284: 1}
    fields: dict[int, Sequence[int]] = {tag: [value] for tag, value in tags.items()}
    fields |= {258: [8 * data.itemsize] * bands} | ({} if extra is None else {338: extra})
    begins = 8 + 2 + 12 * len(fields) + 4
    more, entries = b"", []
    for tag, values in sorted(fields.items()):
        packed = b"".join(struct.pack("<H", value) for value in values)
        if len(packed) > 4:
            packed, more = struct.pack("<I", begins + len(more)), more + packed
        entries.append((tag, len(values), packed))
    place = struct.pack("<I", begins + len(more))
    out = b"II*\0" + struct.pack("<IH", 8, len(fields))
    for tag, count, packed in entries:
        kind = 4 if tag == 273 else 3
        out += struct.pack("<HHI", tag, kind, count) + (place if tag == 273 else packed.ljust(4, b"\0"))
    return out + bytes(4) + more + data.tobytes()


def read(data: bytes | Image.Image, channels: int, **settings: Any) -> tuple[NDArray[Any], set[str]]:
    found: set[str] = set()
    if isinstance(data, Image.Image):
        return pixels.to_square(data, SIZE, channels, found=found, **settings), found
    return pixels.decode(data, SIZE, channels, found=found, **settings), found


def on_white(grey: NDArray[Any], opacity: NDArray[Any]) -> NDArray[Any]:
    opaque = opacity[..., None] / 255 if grey.ndim == 3 else opacity / 255
    return np.asarray(grey * opaque + 255 * (1 - opaque))


def palette() -> Image.Image:
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 200, 40, 50, 60] + [0] * 756)
    return image


def with_info(**chunks: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, data in chunks.items():
        info.add(name.encode(), data)
    return info


def laid(image: Image.Image) -> NDArray[Any]:
    """As Pillow lays an image on white."""
    rgba = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


# Of each: the file, channels, the right pixels [H W] or [H W C], and what must be said.
ZOO: dict[str, Callable[[], tuple[Any, int, NDArray[Any], set[str]]]] = {
    "grey": lambda: (encoded(Image.fromarray(GREY)), 1, GREY, set()),
    "one bit": lambda: (encoded(Image.fromarray(GREY > 99)), 1, 255 * (GREY > 99), set()),
    "four bits": lambda: (encoded(Image.fromarray(GREY // 17 * 17), bits=4), 1, GREY // 17 * 17, set()),
    "sixteen bits": lambda: (encoded(Image.fromarray(DEEP)), 1, DEEP, set()),
    "sixteen bits, TIFF": lambda: (encoded(Image.fromarray(DEEP), "TIFF"), 1, DEEP, set()),
    "sixteen bits, compressed": lambda: (
        encoded(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"), 1, DEEP, set(),
    ),
    "sixteen bits, one of which is none": lambda: (
        encoded(Image.fromarray(DEEP), transparency=int(DEEP[0, 0])),
        1,
        np.where(int(DEEP[0, 0]) == DEEP, 65535, DEEP),
        {"opacity"},
    ),
    "a grey value that is none": lambda: (
        encoded(Image.fromarray(GREY), transparency=int(GREY[0, 0])),
        1,
        np.where(int(GREY[0, 0]) == GREY, 255, GREY),
        {"opacity"},
    ),
    "grey with opacity": lambda: (
        encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPACITY)])),
        1,
        on_white(GREY, OPACITY),
        {"opacity"},
    ),
    "grey multiplied by its opacity": lambda: (
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPACITY)]).convert("La"),
        1,
        on_white(GREY, OPACITY),
        {"opacity"},
    ),
    "colour multiplied by its opacity": lambda: (
        Image.merge("RGBA", [*Image.fromarray(COLOUR).split(), Image.fromarray(OPACITY)]).convert("RGBa"),
        3,
        on_white(COLOUR, OPACITY),
        {"opacity"},
    ),
    "palette": lambda: (encoded(palette()), 3, np.asarray(palette().convert("RGB")), set()),
    "palette with opacity": lambda: (
        encoded(palette(), transparency=bytes([0, 128, 255, 30])),
        3,
        laid(Image.open(io.BytesIO(encoded(palette(), transparency=bytes([0, 128, 255, 30]))))),
        {"opacity"},
    ),
    "opacity that is full": lambda: (encoded(Image.fromarray(COLOUR).convert("RGBA")), 3, COLOUR, set()),
    "gamma": lambda: (
        encoded(Image.fromarray(GREY), pnginfo=with_info(gAMA=struct.pack(">I", 100_000))), 1, GREY, set(),
    ),
    "CMYK": lambda: (
        encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"),
        3,
        np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")),
        set(),
    ),
    "turned": lambda: (encoded(Image.fromarray(GREY), exif=turned(8)), 1, np.rot90(GREY), set()),
    "turned, sixteen bits": lambda: (encoded(Image.fromarray(DEEP), exif=turned(3)), 1, np.rot90(DEEP, 2), set()),
    "mirrored palette": lambda: (
        encoded(palette(), exif=turned(2)), 3, np.asarray(palette().convert("RGB"))[:, ::-1], set(),
    ),
    "several frames": lambda: (
        encoded(palette(), "GIF", save_all=True, append_images=[Image.new("RGB", (SIZE, SIZE), "red")]),
        3,
        np.asarray(palette().convert("RGB")),
        {"frames"},
    ),
    "several frames, PNG": lambda: (
        encoded(Image.fromarray(COLOUR), save_all=True, append_images=[Image.new("RGB", (SIZE, SIZE))]),
        3,
        COLOUR,
        {"frames"},
    ),
    "several pages": lambda: (
        encoded(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]),
        1,
        GREY,
        {"frames"},
    ),
    "one frame": lambda: (encoded(palette(), "GIF"), 3, np.asarray(palette().convert("RGB")), set()),
    "colour of sixteen bits": lambda: (tiff(COLOUR.astype(np.uint16) * 257), 3, COLOUR, {"shallow"}),
    "four bands": lambda: (tiff(np.dstack([COLOUR, GREY]), [0]), 4, np.dstack([COLOUR, GREY]), set()),
    "four bands of which nothing is said": lambda: (
        tiff(np.dstack([COLOUR, GREY])), 4, np.dstack([COLOUR, GREY]), set(),
    ),
    "four bands, of which three are wanted": lambda: (tiff(np.dstack([COLOUR, GREY]), [0]), 3, COLOUR, {"bands"}),
    "six bands": lambda: (tiff(np.dstack([COLOUR, COLOUR]), [0, 0, 0]), 3, COLOUR, {"bands"}),
    "opacity, as TIFF says": lambda: (
        tiff(np.dstack([COLOUR, OPACITY]), [2]), 3, on_white(COLOUR, OPACITY), {"opacity"},
    ),
    "colour that is grey": lambda: (encoded(Image.fromarray(GREY).convert("RGB")), 1, GREY, {"colour"}),
}  # fmt: skip


def turned(how: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = how
    return exif


@pytest.mark.parametrize("name", ZOO)
def test_a_zoo_of_files_keeps_its_grey_values(name: str):
    data, channels, right, said = ZOO[name]()
    found, of = read(data, channels)
    right = right[None] if right.ndim == 2 else np.moveaxis(right, -1, 0)
    np.testing.assert_allclose(found.astype(float), right, atol=1.6 if "opacity" in name else 0)
    assert of == said


@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_of_32_bits_are_read_by_the_rule_alone(channels: int):
    values = np.array([[-500.0, 0.0], [250.0, 1500.0]], np.float32).repeat(8, 0).repeat(8, 1)
    data = encoded(Image.fromarray(values), "TIFF")
    found, of = read(data, channels, dtype=np.dtype(np.uint16), scale=Scale("float", -1000.0, 2000.0))
    np.testing.assert_array_equal(found[0], np.rint((values + 1000) / 3000 * 65535))
    assert of == set()
    assert "wide" in read(data, channels, scale=BY_TYPE["uint16"])[1]
    with pytest.raises(ValueError, match=r"values from -500 to 1,500, where 0 is black, 1 is white"):
        read(data, channels, scale=Scale("float", 0.0, 1.0), strict=True)


# ---------------------------------------------------------------- one rule for a data set

NOISE = np.random.default_rng(1).random((40, 8, 8)).astype(np.float32)


def few(top: float) -> NDArray[Any]:
    values = NOISE.copy()
    values[0, 0, 0] = top
    return values


RANGES: dict[str, tuple[NDArray[Any], Scale]] = {
    "in [0, 1]": (NOISE, Scale("float", 0, 1)),
    "a hair beyond": (few(1.0000001), Scale("float", 0, 1)),
    "one a little beyond": (few(1.0001), Scale("float", 0, 1)),
    "one far beyond": (few(17.0), Scale("float", 0, 1)),
    "one out of this world": (few(1e9), Scale("float", 0, 1)),
    "one below": (few(-0.5), Scale("float", 0, 1)),
    "in [-1, 1]": (2 * NOISE - 1, Scale("float", -1, 1)),
    "in [0, 255]": (NOISE * 255, Scale("float", 0, 255)),
    "whole in [0, 255]": (np.rint(NOISE * 255), Scale("float", 0, 255, 8)),
    "8 bits in [0, 1]": (np.rint(NOISE * 255) / 255, Scale("float", 0, 1, 8)),
    "8 bits in [-1, 1]": (np.rint(NOISE * 255) / 127.5 - 1, Scale("float", -1, 1, 8)),
    "double": (NOISE.astype(np.float64), Scale("float", 0, 1)),
    "half": (NOISE.astype(np.float16), Scale("float", 0, 1)),
    "ink on paper": (np.where(NOISE > 0.99, 255.0, 0.0), Scale("float", 0, 255, 8)),
    "bytes": ((NOISE * 255).astype(np.uint8), BY_TYPE["uint8"]),
    "12 of 16 bits": ((NOISE * 4095).astype(np.uint16), BY_TYPE["uint16"]),
    "bytes as wide integers": ((NOISE * 255).astype(np.int64), Scale("int", 0, 255, 8)),
    "12 bits as wide integers": ((NOISE * 4095).astype(np.int32), Scale("int", 0, 65535)),
    "yes and no": (NOISE > 0.5, BY_TYPE["uint8"]),
}


@pytest.mark.parametrize("name", RANGES)
def test_one_rule_scales_all_and_a_few_values_do_not_move_it(name: str):
    values, right = RANGES[name]
    found = pixels.scale_of(Values.of(lambda: iter(np.array_split(values, 3))))
    assert found == right


@pytest.mark.parametrize(
    "values",
    [
        (NOISE * 4000 - 1000).astype(np.int16),
        (NOISE * 200 - 100).astype(np.int8),
        NOISE * 0.001,
        NOISE * 1e6,
        np.random.default_rng(2).standard_normal((40, 8, 8)),
        (NOISE * 3e9).astype(np.uint32),
        1.05 * NOISE - 0.02,
        NOISE * 16,
    ],
    ids=["int16", "int8", "tiny", "huge", "normal", "uint32", "overshooting", "sixteen"],
)
def test_numbers_without_a_usual_range_keep_their_grey_values(values: NDArray[Any]):
    scale = pixels.scale_of(Values.of(lambda: iter([values])))
    square = pixels.array_to_square(values[3], 8, 1, scale=scale)
    assert len(np.unique(square)) == len(np.unique(values[3]))
    back = square[0] / 65535 * (scale.high - scale.low) + scale.low
    np.testing.assert_allclose(back, values[3], atol=0.51 * (scale.high - scale.low) / 65535)
    worse = values.astype(np.float64)
    worse[0, 0, 0] = 1e9 * abs(worse).max()
    moved = pixels.scale_of(Values.of(lambda: iter([worse])))
    assert moved.high - moved.low < 4 * (scale.high - scale.low)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "int8", "int16", "int32", "float32", "float64"]))
def test_grey_values_keep_their_order_whatever_they_are(seed: int, dtype: str):
    rng = np.random.default_rng(seed)
    wide = 10.0 ** rng.integers(-3, 5)
    values = rng.normal(rng.normal() * wide, wide, (5, 6, 6))
    info = np.iinfo(dtype) if dtype[0] in "iu" else None
    values = (values if info is None else np.rint(values).clip(info.min, info.max)).astype(dtype)
    scale = pixels.scale_of(Values.of(lambda: iter([values])))
    squares = np.stack([pixels.array_to_square(image, 6, 1, np.dtype(np.uint16), scale=scale) for image in values])
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(squares.ravel()[order].astype(np.int64)) >= 0).all()


# ---------------------------------------------------------------- through the cache, and with new data

Cached = Callable[..., Dataset]


def cache_of(dataset: Dataset) -> NDArray[Any]:
    assert isinstance(dataset.cache, Cache)
    return np.asarray(dataset.cache.pixels)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_processors", lambda: 1)  # a few images need no more
        yield lambda data, **settings: open_dataset(data, cache=str(root), **settings)


@pytest.mark.parametrize(
    "values",
    [
        few(1.0001),
        2 * NOISE - 1,
        NOISE * 255,
        np.rint(NOISE * 255),
        (NOISE * 4000 - 1000).astype(np.int16),
        (NOISE * 4095).astype(np.uint16),
        (NOISE * 255).astype(np.int64),
        np.random.default_rng(2).standard_normal((40, 8, 8, 3)),
        (NOISE[..., None] * [255, 200, 100, 50]).astype(np.uint8),
        (NOISE[..., None] * [60000, 200]).astype(np.uint16),
    ],
    ids=["beyond", "signed", "255", "bytes", "int16", "12 bits", "int64", "colour", "four bands", "two bands"],
)
def test_prepare_and_a_new_data_set_read_as_the_training_did(opened: Cached, tmp_path: Path, values: NDArray[Any]):
    dataset = opened(values)
    assert isinstance(dataset.spec, ImageSpec)
    encoder = build_encoder("convnet", dataset.spec, width=32)
    save_encoder(encoder, tmp_path / "encoder")
    encoder = load_encoder(tmp_path / "encoder")
    dark = np.argsort(values.reshape(40, -1).mean(1))[:5]  # a rule by what an image holds would read these otherwise
    batch = dataset.batch(np.arange(40))
    alone = np.concatenate([to_float(encoder.prepare(values[row])["image"]).numpy() for row in dark])
    np.testing.assert_allclose(alone, to_float(batch["image"]).numpy()[dark], atol=1e-6)
    new = opened(values[dark], image_size=dataset.spec.size, reads=encoder.spec)
    np.testing.assert_allclose(to_float(new.batch(np.arange(5))["image"]).numpy(), alone, atol=1e-6)
    assert new.spec.scale == dataset.spec.scale  # type: ignore[union-attr]


def test_the_rule_and_what_it_cost_are_said(opened: Cached):
    assert opened(few(1.0001)).notes.lines() == [
        "pixel values are read by one rule for all: 0 is black, 1 is white",
        "1 of 40 images hold values beyond black and white, which were taken for these",
    ]
    assert len(np.unique(cache_of(opened(few(1.0001))))) > 2000
    assert opened((NOISE * 4000).astype(np.uint16)).notes.lines() == [
        "grey values have 16 bits: 0 is black, 65,535 is white (the highest found is about 3,999)"
    ]


def test_images_of_values_that_are_no_numbers_are_left_out_by_name(opened: Cached):
    values = NOISE.copy()
    values[7, 0, 0], values[9] = np.nan, np.inf
    dataset = opened(values, max_bad=0.1)
    assert len(dataset) == 38
    assert dataset.notes.skipped.first[0].startswith("7: holds values that are no numbers")
    assert dataset.spec.scale == Scale("float", 0, 1)  # type: ignore[union-attr]


def test_new_numbers_on_another_scale_are_refused(opened: Cached):
    spec = opened(NOISE).spec
    with pytest.raises(UserError, match=r"values from .* to 25.*, where 0 is black, 1 is white"):
        opened(NOISE * 255, reads=spec)
    with pytest.raises(UserError, match=r"where 0 is black, 1 is white"):
        build_encoder("convnet", spec).prepare(NOISE[0] * 255)
    with pytest.raises(UserError, match=r"no numbers"):
        build_encoder("convnet", spec).prepare(np.full((8, 8), np.nan))


def test_four_bands_are_kept_and_never_taken_for_opacity(opened: Cached):
    values = RNG.integers(0, 120, (20, 8, 8, 4), dtype=np.uint8)
    dataset = opened(values)
    np.testing.assert_array_equal(cache_of(dataset), values.transpose(0, 3, 1, 2))
    assert dataset.notes.lines() == ["the images have 4 channels, and all were kept; none is taken for opacity"]
    colour = build_encoder("convnet", opened(values[..., :3]).spec)
    with pytest.raises(UserError, match="give a PIL image of mode RGBA"):
        colour.prepare(values[0])
    seen = Image.merge("RGBA", [Image.fromarray(band) for band in np.moveaxis(values[0], -1, 0)])
    assert colour.prepare(seen)["image"].shape == (1, 3, 8, 8)


def test_a_folder_of_mixed_depths_and_colours_has_one_form(opened: Cached, tmp_path: Path, monkeypatch):
    """What a sample of headers did not show is found while decoding."""
    monkeypatch.setattr("tacit.modalities.image.store._PROBED", 1)
    deep = Image.fromarray(DEEP)
    several: dict[str, list[Image.Image]] = {
        "depths": [Image.fromarray(GREY), deep],
        "colours": [Image.fromarray(GREY), Image.fromarray(COLOUR)],
        "floats": [Image.fromarray(GREY), Image.fromarray(few(1.0)[0].repeat(2, 0).repeat(2, 1) * 300 - 100)],
    }
    found = {}
    for name, images in several.items():
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            image.save(tmp_path / name / f"{number}.tif")
        found[name] = opened(tmp_path / name)
    pair = cache_of(found["depths"])[:, 0]
    np.testing.assert_array_equal(pair, [GREY.astype(np.uint16) * 257, DEEP])
    assert "1 of 2 images have 8 bits among deeper ones: of these, 255 is white" in found["depths"].notes.lines()
    np.testing.assert_array_equal(cache_of(found["colours"])[0], [GREY] * 3)
    np.testing.assert_array_equal(cache_of(found["colours"])[1], COLOUR.transpose(2, 0, 1))
    floats = cache_of(found["floats"])
    assert len(np.unique(floats[1])) > 60
    assert "pixel values are read by one rule for all: -" in found["floats"].notes.lines()[0]


def test_float_files_share_one_rule(opened: Cached, tmp_path: Path):
    """A dark file is not stretched, and a bright one not clipped."""
    for number, factor in enumerate((0.2, 1.0, 200.0)):
        Image.fromarray(NOISE[number].repeat(2, 0).repeat(2, 1) * np.float32(factor)).save(tmp_path / f"{number}.tif")
    dataset = opened(tmp_path)
    assert dataset.spec.scale == Scale("float", 0, 255)  # type: ignore[union-attr]
    means = to_float(dataset.batch(np.arange(3))["image"]).mean((1, 2, 3)).numpy() * 255
    np.testing.assert_allclose(means, [NOISE[n].mean() * f for n, f in enumerate((0.2, 1.0, 200.0))], rtol=0.02)


def test_a_palette_is_content(opened: Cached):
    index = (RNG.random((16, 16)) > 0.5).astype(np.uint8)

    def image(*colours: int, transparent: int | None = None) -> Image.Image:
        found = Image.fromarray(index).convert("P")
        found.putpalette([*colours, *[0] * 762])
        found.info |= {} if transparent is None else {"transparency": transparent}
        return found

    warm, cold = image(255, 0, 0, 255, 255, 0), image(0, 0, 255, 0, 255, 255)
    lying = image(255, 0, 0, 255, 255, 0)
    lying.getexif()[0x0112] = 6
    clear = image(255, 0, 0, 255, 255, 0, transparent=1)
    for several in ([warm, cold], [cold, cold.copy()], [lying, warm], [clear, warm]):
        dataset = opened(several, image_size=16)
        right = [pixels.to_square(of, 16, 3) for of in several]
        np.testing.assert_array_equal(cache_of(dataset), right)
        assert dataset.notes.duplicates == (several[0] is cold)


def test_grey_scans_saved_in_colour_are_read_as_grey_where_the_channels_agree(opened: Cached, tmp_path: Path):
    spec = opened([Image.fromarray(np.roll(GREY, n)) for n in range(4)]).spec
    for number in range(4):
        grey = Image.fromarray(np.roll(GREY, number))
        grey.convert("RGB").save(tmp_path / f"{number}.png")
    dataset = opened(tmp_path, reads=spec)
    np.testing.assert_array_equal(cache_of(dataset)[:, 0], [np.roll(GREY, number) for number in range(4)])
    assert dataset.notes.lines() == [
        "4 of 4 images are stored in colour with channels that agree, and were read as grey"
    ]
    Image.fromarray(COLOUR).save(tmp_path / "4.png")
    with pytest.raises(UserError, match=r"4\.png: in colour, and the encoder reads grey images"):
        opened(tmp_path, reads=spec)


def test_an_encoder_of_before_opens_and_guesses_as_it_did():
    spec = ImageSpec.of({"size": 8, "channels": 1, "mean": [0.5], "std": [0.2]})
    assert spec.scale is None
    encoder = build_encoder("convnet", spec)
    for values in (NOISE[:3], NOISE[:3] * 255, (NOISE[:3] * 255).astype(np.uint8)):
        right = NOISE[:3] if values.dtype != np.uint8 else values / 255
        np.testing.assert_allclose(to_float(encoder.prepare(values)["image"])[:, 0].numpy(), right, atol=1e-2)


def test_a_test_set_of_another_scale_is_refused(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 8, 8)).astype(np.float64)
    with pytest.raises(UserError, match=r"from 0 to 255, where those of .* 0 is black, 1 is white: scale both alike"):
        open_dataset({"x": grey / 255}, test={"x": grey}, cache=str(tmp_path))
    assert len(open_dataset({"x": grey / 255}, test={"x": grey[:4] / 255}, cache=str(tmp_path))) == 12


def test_arrays_of_8_bits_among_deeper_ones_are_said(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (8, 8, 8)).astype(np.uint16)
    found = open_dataset({"x": deep}, test={"x": (deep // 16).astype(np.uint8)}, cache=str(tmp_path))
    assert any(line.startswith("8 of 16 images have 8 bits among deeper ones") for line in found.notes.lines())


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 8, 8)).astype(np.uint8)
    found = open_dataset({"x": grey, "y": np.arange(8) % 2, "target": np.arange(8) % 4}, cache=str(tmp_path))
    assert "the data: read are x and y, not target" in found.notes.lines()
