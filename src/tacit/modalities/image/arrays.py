"""Pixels already decoded: `.npy` and `.npz` files, arrays and tensors, lists of PIL images, and the built-in digits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tacit.core.archives import arrays_in
from tacit.core.errors import UserError
from tacit.data.named import as_column, as_numpy, as_text, table_as_text
from tacit.data.places import stamp_of
from tacit.data.source import ROWS, TEST, TRAIN, Source, digest, spread
from tacit.modalities.image import decode

PIXEL_NAMES = ("x", "X", "images", "image", "data", "pixels", "arr_0")
LABEL_NAMES = ("y", "Y", "label", "labels", "target", "targets", "arr_1")

DIGITS_HELD_OUT = 500
DIGITS_LABELLED = 20  # per class of the rest


def file_source(path: Path) -> Source:
    """A `.npy` file of images, or a `.npz` with one array of images and perhaps one of labels. Never unpickles."""
    stamp = stamp_of(path).decode()
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return arrays_source({"x": loaded}, path.name, stamp)
        loaded.close()
        with arrays_in(path) as arrays:
            return arrays_source({name: arrays[name] for name in arrays.files}, path.name, stamp)
    except UserError:
        raise
    except Exception as error:  # a false header can make numpy raise anything: overflow, nesting, no zip
        message = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as arrays without pickled objects: {message}") from None


def arrays_source(arrays: Mapping[str, Any], name: str, stamp: str | None = None) -> Source:
    """Images [N H W], [N H W C] or [N C H W] under the one name that fits, labels [N] under y, label or labels.

    Labels may be in any container: series, categories, lists with gaps, tensors.
    """
    found = [key for key in PIXEL_NAMES if key in arrays] or [
        k for k, a in arrays.items() if getattr(a, "ndim", 0) in (3, 4)
    ]
    if len(found) != 1:
        raise UserError(f"{name} holds the arrays {', '.join(arrays)}; name the images x and the labels y")
    images = np.asarray(arrays[found[0]])
    if images.ndim not in (3, 4) or not images.size:
        raise UserError(f"{name}: images have the shape [N H W], [N H W C] or [N C H W], got {list(images.shape)}")
    if images.ndim == 4 and images.shape[3] > 4 and images.shape[1] <= 4:
        images = images.transpose(0, 2, 3, 1)  # [N H W C]
    try:
        decode.probe_array(images[0])
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    values = decode.Values.of(lambda: decode.blocks_of(images))
    named = next((key for key in LABEL_NAMES if arrays.get(key) is not None), None)
    given = None if named is None else arrays[named]
    others = [key for key in arrays if key not in (found[0], named)]
    label = None if given is None else _label_text(given, name)
    if label is not None and len(label) != len(images):
        raise UserError(f"{name}: {len(images)} images need {len(images)} labels, got {len(label)}")
    return Source(
        name=name,
        ids=row_numbers(len(images)),
        key=ROWS,
        by_path=False,
        fingerprint=digest([(stamp or _hash(images)).encode()]),
        items=lambda: iter(images),
        sample=lambda k: [images[row] for row in spread(len(images), k)],
        label=label,
        about=values,
        remarks=(f"{name}: read are {found[0]} and {named or 'no labels'}, not {', '.join(others)}",) if others else (),
    )


def objects_source(data: Any, name: str) -> Source | None:
    """Arrays, tensors or PIL images in memory; None for a list of names or texts. UserError for what is no image."""
    if isinstance(data, Mapping):
        named = {str(key): value for key, value in data.items()}
        return arrays_source(
            {key: value if key in LABEL_NAMES else _array(value) for key, value in named.items()}, name
        )
    if isinstance(data, list | tuple) and data:
        if all(isinstance(item, Image.Image) for item in data):
            return pil_source(data)
        if all(isinstance(item, str | os.PathLike) for item in data):
            return None
    return arrays_source({"x": _array(data)}, name)


def _array(value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(as_numpy(value))
    except ValueError:
        raise UserError("images of different sizes: give them as a list of PIL images or of paths") from None
    if array.dtype == object:
        raise UserError(f"cannot read {type(value).__name__} as data; give arrays, tables, paths or PIL images")
    return array


def _label_text(given: Any, name: str) -> pa.Array:
    """Labels [N] in any container, or a table of 0 and 1 [N L]."""
    given = as_numpy(given) if hasattr(given, "detach") else given
    shape = list(np.shape(given)) if hasattr(given, "shape") else [-1]
    if len(shape) not in (1, 2):
        raise UserError(f"{name}: one label for each image is expected, got the shape {shape}")
    if len(shape) == 1:
        return as_text(as_column(given), lists=True)
    table = np.asarray(given)
    return as_text(as_column(table[:, 0])) if shape[1] == 1 else table_as_text(table)


def pil_source(images: Sequence[Image.Image]) -> Source:
    """A list of PIL images of any sizes."""
    return Source(
        name="images",
        ids=row_numbers(len(images)),
        key=ROWS,
        by_path=False,
        fingerprint=digest(list(_pil_hashes(images))),
        items=lambda: iter(images),
        sample=lambda k: [images[row] for row in spread(len(images), k)],
    )


def digits_source() -> Source:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 px, nearly all of their labels hidden.

    500 are held out as the test split by a fixed order (the hashes of their numbers), with their labels; of the others,
    20 per class keep theirs.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort([hashlib.sha256(f"digit {i}".encode()).digest() for i in range(len(digits.target))])
    split = np.full(len(order), TRAIN, np.int8)
    split[order[:DIGITS_HELD_OUT]] = TEST
    labelled = split == TEST
    for digit in range(10):
        labelled[[i for i in order[DIGITS_HELD_OUT:] if digits.target[i] == digit][:DIGITS_LABELLED]] = True
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # sixteen shades
    source = arrays_source({"x": images}, "digits", "digits of scikit-learn")
    label = pa.array([str(t) if k else None for t, k in zip(digits.target, labelled, strict=True)], pa.string())
    return replace(source, label=label, split=split)


def row_numbers(n: int) -> pa.Array:
    return pa.array(np.arange(n).astype(str), pa.string())


def _hash(images: NDArray[np.generic]) -> str:
    shape = f"{images.dtype} {images.shape}"
    return shape + digest(np.ascontiguousarray(image).data.cast("B") for image in images)


def _pil_hashes(images: Sequence[Image.Image]) -> Iterator[bytes]:
    for image in images:
        try:
            yield hashlib.sha256(decode.identity(image)).digest()
        except (OSError, ValueError, SyntaxError) as error:
            yield str(error).encode()
