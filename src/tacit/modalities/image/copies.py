"""Copies and near-copies of some examples among others, found without any encoder.

A near-copy is the same picture after re-encoding, a slight resize, shift or change of brightness. No learned feature
is used: an encoder would find alike whatever it was trained to find alike.

1. Candidates: the nearest by the amplitudes of the image's low frequencies, whitened over the data. Amplitudes do not
   move with the image (the shift theorem), so that copies a pixel apart stay neighbours.
2. Likeness: the correlation of the two images' fine detail (a difference of Gaussians), the greatest over shifts of a
   pixel. Pictures of the same kind share their layout, copies share their detail.
3. The threshold follows the data: above what lookalikes reach by chance. Their best likeness per example is close to
   normal as Fisher's z; what 1 in 10,000 exceeds is extrapolated from its 10th and 50th percentiles, which copies
   hardly move. It is held between `LOOSEST` and `STRICTEST`.

Images too small or too flat to have detail, texts and sounds have exact copies only. docs/experiments.md holds what
this finds and misses on real data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.data.copies import Copies, exact_copies
from tacit.modalities.image.store import Cache

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

SMALLEST = 16  # px; below, two handwritten 3s are as alike as copies
LARGEST = 64  # px that images are averaged down to
FREQUENCIES = 6  # lowest, in each direction
CANDIDATES = 4
LOOSEST, STRICTEST = 0.80, 0.985
CHANCE = 1e-4  # the probability that an example without a copy is assigned one
FEWEST = 30  # examples from which chance is estimated; with fewer the strictest threshold holds
MOST_PAIRS = 10**10  # beyond, comparing takes many minutes: exact copies only

_FITTED = 4096  # examples from which the whitening is estimated
_BLOCK = 2048  # images decoded or pairs compared at a time
_WIDTH = 8192  # columns of a block of similarities


def find_copies(cache: Cache, rows: Rows, among: Rows) -> Copies:
    """Copies and near-copies of the examples `rows` among the examples `among`, which holds none of them."""
    found = exact_copies(cache.content, rows, among)
    if not 0 < len(rows) * len(among) <= MOST_PAIRS or cache.shape[2] < SMALLEST:
        return found
    twin, exact, likeness = found.twin, found.exact, found.likeness
    near = _candidates(cache, rows, among)  # [n k]
    like = _likeness(cache, np.repeat(rows, near.shape[1]), near.ravel()).reshape(near.shape)
    best = like.argmax(axis=1)[:, None]
    closest = np.take_along_axis(like, best, 1)[:, 0]
    threshold = chance_level(closest[~exact])
    close = ~exact & (closest >= threshold)
    twin[close] = np.take_along_axis(near, best, 1)[close, 0]
    return Copies(rows, twin, exact, np.where(exact, likeness, closest), threshold)


def chance_level(best: Floats) -> float:
    """The likeness that one in 10,000 examples without a copy reaches, from the best of each example [n]."""
    if len(best) < FEWEST:
        return STRICTEST
    low, middle = np.arctanh(np.clip(np.quantile(best, [0.1, 0.5]), 0, 0.999999))
    normal = NormalDist().inv_cdf
    level = math.tanh(middle + (middle - low) * normal(1 - CHANCE) / normal(0.9))
    return min(max(level, LOOSEST), STRICTEST)


# ---------------------------------------------------------------- candidates


def _candidates(cache: Cache, rows: Rows, among: Rows) -> Rows:
    """The rows [n k] among `among` whose frequencies are most like those of `rows`."""
    references = _frequencies(cache, among)  # [m d]
    some = references[np.linspace(0, len(references) - 1, min(len(references), _FITTED)).astype(np.int64)]
    mean = some.mean(axis=0)
    _, singular, axes = np.linalg.svd(some - mean, full_matrices=False)
    variance = np.square(singular) / len(some)
    # a tenth of the mean variance on top: directions of noise alone must not count as much as the others
    whitening = axes.T / np.sqrt(variance + 0.1 * variance.mean() + 1e-12)  # [d r]
    return among[
        _nearest(_unit((_frequencies(cache, rows) - mean) @ whitening), _unit((references - mean) @ whitening))
    ]


def _frequencies(cache: Cache, rows: Rows) -> Floats:
    """Logarithms of the amplitudes of the lowest frequencies [n d], of images brought to equal contrast."""
    parts = []
    for grey in _greys(cache, rows):
        side = grey.shape[1]
        window = np.sqrt(np.hanning(side + 2)[1:-1]).astype(np.float32)  # the edges wrap around in a spectrum
        grey = grey - grey.mean(axis=(1, 2), keepdims=True)
        grey /= grey.std(axis=(1, 2), keepdims=True) + 1e-6
        amplitude = np.abs(np.fft.rfft2(grey * window[:, None] * window)) * (32 / side) ** 2  # [B side side/2+1]
        upper = amplitude[:, :FREQUENCIES, :FREQUENCIES]
        lower = amplitude[:, 1 - FREQUENCIES :, :FREQUENCIES]
        both = np.concatenate([upper, lower], axis=1).reshape(len(grey), -1)
        parts.append(np.log1p(both).astype(np.float32))
    return np.concatenate(parts)


def _nearest(queries: Floats, references: Floats) -> Rows:
    """Positions [n k] in `references` [m d] of the largest inner products with `queries` [n d], k <= `CANDIDATES`."""
    k = min(CANDIDATES, len(references))
    top = np.full((len(queries), k), -np.inf, np.float32)
    at = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(references), _WIDTH):
        columns = references[start : start + _WIDTH].T
        for begin in range(0, len(queries), _BLOCK):
            similarity = queries[begin : begin + _BLOCK] @ columns  # [B width]
            here = np.flatnonzero(similarity.max(axis=1) > top[begin : begin + _BLOCK].min(axis=1))
            similarity, here_all = similarity[here], here + begin
            best = np.argpartition(similarity, -min(k, similarity.shape[1]), axis=1)[:, -k:]
            values = np.concatenate([top[here_all], np.take_along_axis(similarity, best, 1)], axis=1)
            places = np.concatenate([at[here_all], best + start], axis=1)
            keep = np.argpartition(values, -k, axis=1)[:, -k:]
            top[here_all] = np.take_along_axis(values, keep, 1)
            at[here_all] = np.take_along_axis(places, keep, 1)
    return at


# ---------------------------------------------------------------- likeness


def _likeness(cache: Cache, a: Rows, b: Rows) -> Floats:
    """The correlation of detail of each pair of rows [n], the greatest over shifts of a pixel; 0 for flat images."""
    parts = []
    for one, other in zip(_greys(cache, a), _greys(cache, b), strict=True):
        parts.append(_aligned(_detail(one), _detail(other), level=1 / np.iinfo(cache.dtype).max))
    return np.concatenate(parts)


def _detail(grey: Floats) -> Floats:
    """Fine detail without noise: the difference of two binomial blurs."""
    fine = _blurred(grey)
    coarse = fine
    for _ in range(3):
        coarse = _blurred(coarse)
    return fine - coarse


def _blurred(grey: Floats) -> Floats:
    """Blur by [1 2 1] along both axes; the edge is repeated."""
    padded = np.pad(grey, [(0, 0), (1, 1), (1, 1)], mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    blurred: Floats = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) * np.float32(1 / 16)
    return blurred


def _aligned(one: Floats, other: Floats, level: float) -> Floats:
    """The greatest correlation [n] over shifts of up to a pixel; 0 where an image's detail is below a grey level."""
    side = one.shape[1]
    edge = 1 + side // 16  # px; there, detail depends on what was beyond the edge
    inner = slice(edge, side - edge)
    fixed = one[:, inner, inner].reshape(len(one), -1)
    flat = np.minimum(fixed.std(axis=1), other.std(axis=(1, 2))) < level
    fixed = _unit(fixed - fixed.mean(axis=1, keepdims=True))
    best = np.zeros(len(one), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = other[:, edge + dy : side - edge + dy, edge + dx : side - edge + dx].reshape(len(other), -1)
            moved = _unit(moved - moved.mean(axis=1, keepdims=True))
            best = np.maximum(best, np.einsum("nd,nd->n", fixed, moved))
    best[flat] = 0
    return best


# ---------------------------------------------------------------- pictures


def _greys(cache: Cache, rows: Rows) -> Iterator[Floats]:
    """Grey images in [0, 1], [B S S] of `LARGEST` px at most, block after block."""
    for start in range(0, len(rows), _BLOCK):
        yield _grey(cache.images(rows[start : start + _BLOCK]))


def _grey(images: NDArray[Any]) -> Floats:
    """[B C H W] of integers as [B S S] in [0, 1]: luma of three channels, the mean of any other number."""
    channels, side = images.shape[1], images.shape[2]
    weights = (0.299, 0.587, 0.114) if channels == 3 else (1 / channels,) * channels
    grey: Floats = np.zeros((len(images), side, side), np.float32)
    for channel, weight in enumerate(weights):
        grey += (images[:, channel] * (weight / np.iinfo(images.dtype).max)).astype(np.float32)
    if side <= LARGEST:
        return grey
    averaging = _averaging(side, LARGEST)
    smaller: Floats = (averaging @ grey @ averaging.T).astype(np.float32, copy=False)
    return smaller


def _averaging(side: int, smaller: int) -> Floats:
    """The matrix [smaller side] that averages `side` pixels in equal segments."""
    edges = np.linspace(0, side, smaller + 1)
    pixels = np.arange(side)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: Floats = (np.clip(shared, 0, None) * (smaller / side)).astype(np.float32)
    return shares


def _unit(rows: Floats) -> Floats:
    """Rows of length 1; those of length 0 stay so."""
    unit: Floats = rows / np.maximum(np.sqrt(np.einsum("nd,nd->n", rows, rows)), 1e-9)[:, None]
    return unit
