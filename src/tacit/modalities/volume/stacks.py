"""Which files are volumes together: the slices of one series, in order.

What is no volume is refused by name with the reason, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tacit.modalities.medical.dicom import About
from tacit.modalities.medical.geometry import ordered

LEAST = 4  # slices of a volume
SCANS = frozenset(["CT", "MR", "PT", "NM"])  # modalities whose slices or frames make up volumes


class Stacks(NamedTuple):
    """The volumes of a listing: the files of each, from foot to head, right to left or front to back."""

    files: list[list[int]]  # rows of the listing
    refused: list[tuple[int, str]]  # (row of its first file, reason)
    empty: int  # files without an image, such as reports


def stacks_of(abouts: Sequence[About | None], names: Sequence[str]) -> Stacks:
    """Group files by what their headers tell; a file that nothing is known of is tried as a volume of its own."""
    found, refused, empty = [], [], 0
    series: dict[tuple[object, ...], list[int]] = {}
    for row, about in enumerate(abouts):
        if about is None:
            found.append([row])
        elif not about.shape:
            empty += 1
        elif about.shape[0] > 1 or not about.dicom:
            reason = _why_no_volume(about)
            if reason:
                refused.append((row, reason))
            else:
                found.append([row])
        else:
            of = about.series or about.study or names[row].rpartition("/")[0]
            series.setdefault((about.patient[:2], of, about.shape, about.moment), []).append(row)
    for rows in series.values():
        slices = [about for row in rows if (about := abouts[row]) is not None]
        try:
            found.append([rows[number] for number in _in_order(slices)])
        except ValueError as error:
            refused.append((rows[0], str(error)))
    return Stacks(sorted(found, key=lambda rows: min(rows)), sorted(refused), empty)


def _why_no_volume(about: About) -> str:
    """Why a file of several slices or frames is no volume; empty where it is one."""
    if about.dicom and about.modality not in SCANS:
        return "its frames are no slices of a volume (--kind image reads them one by one)"
    if min(about.shape) < LEAST:
        return f"{' x '.join(map(str, about.shape))} voxels, and a volume has {LEAST} along each axis"
    return ""


def _in_order(slices: Sequence[About]) -> list[int]:
    """The order of the slices of one series. ValueError where they are no volume."""
    if len(slices) < LEAST:
        raise ValueError(f"{len(slices)} slice{'s' * (len(slices) > 1)}, and a volume has {LEAST} at least")
    if not all(of.position and of.orientation for of in slices):
        raise ValueError("its slices do not say where they lie")
    order, _ = ordered([of.position for of in slices], [of.orientation for of in slices])
    return [int(number) for number in order]


def are_volumes(abouts: Sequence[About | None]) -> bool:
    """Whether files like these are slices or volumes of scans rather than radiographs or pictures.

    True for most files with an image.
    """
    images = [about for about in abouts if about is not None and about.shape]
    scans = [of for of in images if (not of.dicom and min(of.shape) >= LEAST) or _may_stack(of)]
    return len(scans) * 2 > len(images)


def _may_stack(about: About) -> bool:
    if not about.dicom or about.modality not in SCANS:
        return False
    return min(about.shape) >= LEAST if about.shape[0] > 1 else bool(about.position and about.orientation)
