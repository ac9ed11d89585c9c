"""What the page is drawn with: numbers in words, ticks, places of names, images, colours."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.report import Curve, page, words
from tacit.report.drawing import spread, ticks
from tacit.report.images import Sheet, data_uri, thumbnail, to_image


def test_numbers_in_words() -> None:
    assert words.score(0.9123) == "91.2\u202f%"
    assert words.score(0.9123, "mae") == "0.912"
    assert words.interval(-0.012, 0.034) == "[−1.2, 3.4]"
    assert words.gain(0.059) == "+5.9 points"
    assert words.gain(-0.0004) == "0.0 points"
    assert [words.number(v) for v in (1234, 12345, 0.00012345, 2.0, True, None)] == [
        "1234",
        "12\u202f345",
        "0.000123",
        "2",
        "yes",
        "–",
    ]
    assert [words.duration(s) for s in (4.23, 48, 185, 7800)] == ["4.2 s", "48 s", "3 min 5 s", "2 h 10 min"]
    assert [words.budget(b) for b in (1, "10", "10 per class", "10 %")] == [
        "1 label per class",
        "10 labels per class",
        "10 labels per class",
        "10 % of the labels",
    ]
    said, rest = words.parted("NO EVIDENCE, underpowered: at 5 labels per class a; gain b; c; d")
    assert (said, rest) == ("At 5 labels per class a; gain b.", "C; d.")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_of_lines_never_overlap(positions: list[float]) -> None:
    moved = spread(positions, 12, 0, 100)
    gaps = np.diff(sorted(moved))
    assert (gaps > 12 - 1e-6).all()
    assert min(moved) > -1e-6
    assert max(moved) < 100 + 1e-6
    assert list(np.argsort(moved, kind="stable")) == list(np.argsort(positions, kind="stable"))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, about: int) -> None:
    found = ticks(low, low + span, about)
    assert 1 <= len(found) <= 2 * about
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1], rtol=1e-3)


def test_images_of_every_kind_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (7, 9), np.uint8), rng.integers(0, 256, (3, 7, 9), np.uint8)
    assert (np.asarray(to_image(grey)) == grey).all()
    assert (np.asarray(to_image(grey[None])) == grey).all()
    assert (np.asarray(to_image(colour)) == np.moveaxis(colour, 0, -1)).all()
    assert (np.asarray(to_image(np.moveaxis(colour, 0, -1))) == np.moveaxis(colour, 0, -1)).all()
    assert (np.asarray(to_image(grey.astype(np.uint16) * 257)) == grey).all()
    assert (np.asarray(to_image(grey / 255)) == grey).all()
    assert np.asarray(to_image(np.array([[-1.0, 2.0, np.nan]]))).tolist() == [[0, 255, 0]]
    with pytest.raises(ValueError, match=r"shape \(5, 7, 9\)"):
        to_image(np.zeros((5, 7, 9)))


def test_images_stay_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 400, 300), np.uint8)
    assert thumbnail(noise, 96).size == (72, 96)
    assert data_uri(thumbnail(noise[:, :8, :8], 96)).startswith("data:image/png;")
    uri = data_uri(thumbnail(noise, 96))
    assert uri.startswith("data:image/jpeg;")
    assert len(uri) < 12_000


def test_sheet_holds_every_thumbnail_in_its_cell() -> None:
    import base64
    import io

    from PIL import Image

    images = [np.full((4, 6 if i % 2 else 4), 10 * i, np.uint8) for i in range(10)]
    sheet = Sheet(images)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.uri.split(",")[1]))))
    assert (sheet.columns, sheet.rows, sheet.cell) == (4, 3, 6)
    assert pixels.shape == (18, 24)
    for i in range(10):
        row, column = divmod(i, 4)
        assert pixels[6 * row + 3, 6 * column + 3] == 10 * i


SIGHT = {  # what the eye makes of linear RGB: Machado, Oliveira & Fernandes 2009, severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_can_be_told_apart(scheme: int, sight: str) -> None:
    css = (
        Path(page.__file__)
        .with_name("style.css")
        .read_text("utf-8")
        .split("@media (prefers-color-scheme:dark)")[scheme]
    )

    def linear(colour: str) -> np.ndarray:
        c = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    colours = np.stack([linear(c) for c in re.findall(r"--c\d:#(\w{6})", css)[:8]])
    card = linear("ffffff" if scheme == 0 else re.findall(r"--card:#(\w{6})", css)[0])
    light = np.array([0.2126, 0.7152, 0.0722])
    contrast = (np.maximum(colours @ light, card @ light) + 0.05) / (np.minimum(colours @ light, card @ light) + 0.05)
    assert contrast.min() > 2.95
    seen = np.clip(colours @ np.array(SIGHT[sight]).T, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(seen @ np.array(to_xyz).T / [0.9505, 1, 1.089]).T  # no colour here is dark enough for the foot
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(8, 1)]
    assert apart.min() > 20


def test_a_curve_has_a_line_for_each_channel_between_gaps() -> None:
    values = np.stack([np.arange(50.0), np.full(50, 3.0)])
    values[0, 20:30] = np.nan
    drawing = base64.b64decode(Curve(values).uri.partition(",")[2]).decode()
    assert drawing.count("<path") == 3
    assert np.asarray(Curve(values)).min() < 0.5
    assert np.asarray(Curve(np.full((1, 9), np.nan))).min() == 1  # nothing is known
    long = Curve(np.where(np.arange(100_000) == 77_777, 9.0, 0.0))
    assert len(long.uri) < 8_000
    assert f" {3:.1f}" in base64.b64decode(long.uri.partition(",")[2]).decode()  # the one peak is not lost
