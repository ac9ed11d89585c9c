"""Weighted nearest neighbours by cosine: a probe of features without any training.

A neighbour of cosine similarity s votes for its class with weight exp(s / temperature); the k nearest vote (Wu et al.
2018, "Unsupervised feature learning via non-parametric instance discrimination").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.core.errors import UserError
from tacit.core.stages import beat

K = 20
TEMPERATURE = 0.07
_CHUNK = 2**22  # similarities held at once: 16 MiB

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def knn_votes(
    X_train: ArrayLike,
    y_train: Ints,
    X_test: ArrayLike,
    n_classes: int,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
) -> Floats:
    """The share of the votes [n_test n_classes] that each class gets from the min(k, n_train) nearest."""
    train, test = unit_rows(X_train), unit_rows(X_test)
    rows = max(1, _CHUNK // len(train))
    return np.concatenate(
        [_votes(test[i : i + rows] @ train.T, y_train, n_classes, k, temperature) for i in range(0, len(test), rows)]
    )


def knn_average(
    X_train: ArrayLike,
    values: NDArray[np.floating],
    X_test: ArrayLike,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """The mean [n_test L] of the nearest neighbours' values [n_train L], weighted as votes are."""
    train, test = unit_rows(X_train), unit_rows(X_test)
    rows, found = max(1, _CHUNK // len(train)), []
    for start in range(0, len(test), rows):
        beat()
        nearest, weight = _nearest(test[start : start + rows] @ train.T, k, temperature)
        found.append(np.einsum("bk,bkl->bl", weight / weight.sum(axis=1, keepdims=True), values[nearest]))
    return np.concatenate(found)


def knn_leave_one_out(
    X: ArrayLike,
    y: Ints,
    n_classes: int,
    groups: Ints | None = None,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
) -> float:
    """Balanced accuracy when every example is judged by all others that are not of its group.

    Raises `UserError` where all examples are of one group.
    """
    unit = unit_rows(X)
    group = np.arange(len(unit)) if groups is None else groups
    if (group == group[0]).all():
        raise UserError("all labelled examples are of one group: no neighbour is left to ask; label another group")
    predicted = np.empty(len(unit), np.int64)
    rows = max(1, _CHUNK // len(unit))
    for start in range(0, len(unit), rows):
        part = slice(start, start + rows)
        similarity = unit[part] @ unit.T
        similarity[group[part, None] == group] = -np.inf
        predicted[part] = _votes(similarity, y, n_classes, k, temperature).argmax(axis=1)
    right = np.bincount(y[predicted == y], minlength=n_classes)
    count = np.bincount(y, minlength=n_classes)
    return float(np.mean(right[count > 0] / count[count > 0]))


def _votes(similarity: Floats, y: Ints, n_classes: int, k: int, temperature: float) -> Floats:
    """Shares [B K] of similarities [B n]; -inf marks who may not vote."""
    beat()
    nearest, weight = _nearest(similarity, k, temperature)
    at = np.arange(len(nearest))[:, None] * n_classes + y[nearest]
    votes = np.bincount(at.ravel(), weight.ravel(), minlength=len(at) * n_classes).reshape(len(at), n_classes)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True), np.float32)


def _nearest(similarity: Floats, k: int, temperature: float) -> tuple[Ints, Floats]:
    """The k nearest [B k] and what each weighs."""
    k = min(k, similarity.shape[1])
    nearest = np.argpartition(similarity, -k, axis=1)[:, -k:]
    s = np.take_along_axis(similarity, nearest, axis=1)
    return nearest, np.exp((s - s.max(axis=1, keepdims=True)) / temperature)  # 1 for the nearest: no over- or underflow


def unit_rows(X: ArrayLike) -> Floats:
    X = np.asarray(X, np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", X, X))[:, None]  # np.linalg.norm would hold two more copies of X
    return np.asarray(X / np.maximum(length, 1e-12), np.float32)
