"""Label-free alarms: signs that an encoder collapsed. They can condemn features, never prove that they transfer.

Spectra (RankMe, participation ratio, alpha-ReQ) are of centred features: an offset would pass for the one direction
that carries everything. Spread and uniformity are not centred: centring would blow a constant plus a little noise up to
look healthy.

Shapes: N examples, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_PAIRED_ROWS = 2048  # rows whose pairs uniformity averages over
_DEAD = 1e-4  # of the largest feature's deviation
_LIDAR_RIDGE = 1e-4
_STRAIGHT = 0.9  # R2 from which on the decay of a spectrum can be called a line
METRICS = ("rankme", "participation", "alpha", "lidar", "std_normalised", "uniformity", "alignment")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Alarm:
    level: Literal["FAIL", "WARN"]
    name: str
    value: float
    threshold: float
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """The measured values; None where one cannot be measured.

    `std_normalised` is 1 for features spread evenly over the sphere, 0 for constant ones. `uniformity`: log mean
    Gaussian potential of pairs (Wang & Isola 2020), 0 for constant features, -4 at best. `alignment`: mean squared
    distance of two views of one example (same paper). `rankme`: exp of the entropy of the singular values (Garrido et
    al. 2023). `participation`: (sum of eigenvalues)^2 / sum of their squares. `alpha`: decay exponent of the
    eigenvalues (Agrawal et al. 2022, alpha-ReQ), fitted with `alpha_r2`; only a straight line, R2 of 0.9 and above,
    means something. `lidar`: RankMe of the differences between examples in units of those between views (Thilak et al.
    2023); it grows with the examples, so compare it at the same number. `dead_share`: of the features, as good as
    constant. `bad_rows`: NaN or infinite, left out of all else.
    """

    n: int
    dim: int
    bad_rows: int
    std_normalised: float | None = None
    uniformity: float | None = None
    rankme: float | None = None
    participation: float | None = None
    alpha: float | None = None
    alpha_r2: float | None = None
    dead_share: float | None = None
    alignment: float | None = None
    lidar: float | None = None
    alarms: tuple[Alarm, ...] = field(default=())

    @property
    def failed(self) -> bool:
        return any(alarm.level == "FAIL" for alarm in self.alarms)

    @property
    def figures(self) -> dict[str, float]:
        """The `METRICS` that are meaningful here."""
        straight = (self.alpha_r2 or 0.0) >= _STRAIGHT
        found = {name: getattr(self, name) for name in METRICS if straight or name != "alpha"}
        return {name: value for name, value in found.items() if value is not None}


def diagnose(
    Z: ArrayLike,
    *,
    views: tuple[ArrayLike, ArrayLike] | None = None,
    rankme_peak: float | None = None,
    untrained_spread: float | None = None,
    classification_pretext: bool = False,
) -> Diagnosis:
    """Measure features Z [N D] and, where given, those of two views of each example, both [N D].

    `rankme_peak` is the largest RankMe of this training so far. `untrained_spread` is that of the same architecture
    before training: some crowd their features from the start, and what training has not halved has not collapsed. A
    pretext that classifies (rotation) needs few directions: with `classification_pretext` a low rank only warns.
    """
    Z = np.asarray(Z, np.float64)
    assert Z.ndim == 2, Z.shape
    finite = np.isfinite(Z).all(axis=1)
    found: dict[str, float | None] = {}
    if finite.sum() > 1:
        found = _measure(Z[finite])
    if views is not None:
        first, second = (np.asarray(view, np.float64) for view in views)
        both = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
        if both.sum() > 1:
            found["alignment"] = alignment(first[both], second[both])
            found["lidar"] = lidar(np.stack([first[both], second[both]], axis=1))
    measured = Diagnosis(n=len(Z), dim=Z.shape[1], bad_rows=int((~finite).sum()), **found)  # type: ignore[arg-type]
    narrow = 0.2 if untrained_spread is None else min(0.2, untrained_spread / 2)
    alarms = tuple(_alarms(measured, rankme_peak, narrow, classification_pretext))
    return Diagnosis(**{**vars(measured), "alarms": alarms})


def _measure(Z: Matrix) -> dict[str, float | None]:
    variances = spectrum(Z)
    deviation = Z.std(axis=0)
    alpha, r2 = decay(variances, Z.shape[1])
    return {
        "std_normalised": spread(Z),
        "uniformity": uniformity(Z),
        "rankme": smooth_rank(np.sqrt(variances)),
        "participation": float(variances.sum() ** 2 / np.square(variances).sum()) if variances.any() else 0.0,
        "alpha": alpha,
        "alpha_r2": r2,
        "dead_share": float(np.mean(deviation <= _DEAD * deviation.max())),
    }


def _alarms(d: Diagnosis, rankme_peak: float | None, narrow: float, classification_pretext: bool) -> Iterator[Alarm]:
    if d.bad_rows:
        yield Alarm("FAIL", "nan", d.bad_rows, 0, f"{d.bad_rows} of {d.n} examples have NaN or infinite features")
    if d.std_normalised is not None and d.std_normalised < 0.5:
        level, threshold = _worse(d.std_normalised < narrow, narrow, 0.5)
        text = f"examples hardly differ: deviation of normalised features {d.std_normalised:.3g}, below {threshold:.2g}"
        yield Alarm(level, "std_normalised", d.std_normalised, threshold, text)
    if d.uniformity is not None and d.uniformity > -1:
        # Rectified features lie in a cone: an untrained ConvNet crowds too (-0.46 on digits), yet tells classes apart.
        # It is a failure only where the features also hardly differ, or fill few directions.
        crowded = (d.std_normalised or 0.0) < narrow or (d.rankme or 0.0) < _least_rank(d)
        text = f"examples crowd in one direction: uniformity {d.uniformity:.3g}, above -1"
        yield Alarm("FAIL" if crowded else "WARN", "uniformity", d.uniformity, -1, text)
    if d.rankme is not None:
        least = _least_rank(d)
        if d.rankme < least:
            level = "WARN" if classification_pretext else "FAIL"
            text = f"features use {d.rankme:.1f} of {d.dim} directions (RankMe), fewer than {least:.1f}"
            yield Alarm(level, "rankme", d.rankme, least, text)
        if rankme_peak is not None:
            yield from rank_falls(d.rankme, rankme_peak)
    if d.dead_share is not None and d.dead_share > 0.05:
        text = f"{d.dead_share:.0%} of the features are dead: the same for every example"
        yield Alarm("FAIL", "dead_share", d.dead_share, 0.05, text)


def rank_falls(rankme: float, peak: float) -> Iterator[Alarm]:
    """The alarm where RankMe lies below half of the largest one of this training so far."""
    if rankme < 0.5 * peak:
        text = f"directions are collapsing: RankMe fell to {rankme:.1f}, below half of its maximum {peak:.1f}"
        yield Alarm("WARN", "rankme_fall", rankme, 0.5 * peak, text)


def idle_codes(used: float) -> Iterator[Alarm]:
    """The alarm where a quantiser that is being learned uses less than a tenth of its codes."""
    if used < 0.1:
        text = f"codes are collapsing: of those of the quantiser {used:.1%} are in use, below 10%"
        yield Alarm("WARN", "codes_used", used, 0.1, text)


def unmoved(share: float) -> Iterator[Alarm]:
    """The alarm where the loss of telling pairs apart is still that of guessing."""
    if share >= 0.98:
        text = f"nothing was learned: the loss is {share:.0%} of what guessing costs"
        yield Alarm("FAIL", "of_guessing", share, 0.98, text)


def _least_rank(d: Diagnosis) -> float:
    """The rank of a few examples says little about the encoder: n centred rows cannot reach above n - 1."""
    return min(10, d.dim / 8, (d.n - 1) / 2)


def _worse(failed: bool, fail: float, warn: float) -> tuple[Literal["FAIL", "WARN"], float]:
    return ("FAIL", fail) if failed else ("WARN", warn)


def spread(Z: ArrayLike) -> float:
    """Mean deviation of the features of rows of length 1, times sqrt(D)."""
    unit = _unit_rows(np.asarray(Z, np.float64))
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def uniformity(Z: Matrix) -> float:
    """Log of the mean of exp(-2 |x - y|^2) over pairs of rows of length 1; of 2048 random rows where there are more."""
    if len(Z) > _PAIRED_ROWS:
        Z = Z[np.random.default_rng(0).choice(len(Z), _PAIRED_ROWS, replace=False)]
    unit = _unit_rows(Z)
    potential = np.exp(-4.0 + 4.0 * np.minimum(unit @ unit.T, 1.0))  # |x - y|^2 is 2 - 2 x'y
    n = len(unit)
    return float(np.log((potential.sum() - np.trace(potential)) / (n * (n - 1))))


def alignment(first: Matrix, second: Matrix) -> float:
    """Mean squared distance between two views of each example, rows of length 1."""
    return float(np.square(_unit_rows(first) - _unit_rows(second)).sum(axis=1).mean())


def spectrum(Z: Matrix) -> Matrix:
    """Eigenvalues of the centred features' covariance, largest first, as many as can differ from 0."""
    centred = Z - Z.mean(axis=0)
    gram = centred.T @ centred if Z.shape[1] < len(Z) else centred @ centred.T
    eigenvalues = np.linalg.eigvalsh(gram / len(Z))[::-1]
    return np.asarray(np.maximum(eigenvalues, 0.0))


def smooth_rank(values: Matrix) -> float:
    """Exp of the entropy of non-negative values as shares of their sum; 0 where all are 0."""
    total = values.sum()
    if total == 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def decay(variances: Matrix, dim: int) -> tuple[float | None, float | None]:
    """Exponent a of eigenvalue ~ rank^-a over ranks 3 to 0.3 D, and the R2 of that line; None below four ranks."""
    last = min(int(0.3 * dim), len(variances))
    kept = variances[2:last]
    if len(kept) < 4 or kept[-1] <= 1e-12 * variances[0]:
        return None, None
    x, y = np.log(np.arange(3, last + 1)), np.log(kept)
    x, y = x - x.mean(), y - y.mean()
    if not y.any():
        return 0.0, None
    slope = x @ y / (x @ x)
    return float(-slope), float(slope * (x @ y) / (y @ y))


def lidar(views: Matrix) -> float:
    """Smooth rank of the covariance between examples, whitened by that between views of one; `views` [N V D]."""
    from scipy.linalg import eigh

    n, v, d = views.shape
    if n * v < d:  # the covariances are 0 outside the span of the rows: turned into it, they are smaller
        views, d = views @ np.linalg.qr(views.reshape(n * v, d).T)[0], n * v
    centre = views.mean(axis=1)
    between = centre - centre.mean(axis=0)
    within = (views - centre[:, None]).reshape(n * v, d)
    ridge = _LIDAR_RIDGE * np.eye(d)
    ratios = eigh(between.T @ between / (n - 1), within.T @ within / (n * (v - 1)) + ridge, eigvals_only=True)
    return smooth_rank(np.asarray(np.maximum(ratios, 0.0), np.float64))


def _unit_rows(Z: Matrix) -> Matrix:
    return np.asarray(Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12))
