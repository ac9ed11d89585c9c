"""Whose medical images are, and where they come from: asked of headers while data are opened, and kept nowhere.

Patients become keyed hashes at once, by which splits and intervals keep what is theirs together. The other columns are
used where a person names one of them (`--holdout`, `--worst-group`), and else only counted.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.secret import Secret
from tacit.data.decode import Pool
from tacit.data.source import Source, Unreadable, digest, each
from tacit.modalities.image.decoding import Plan, abouts
from tacit.modalities.image.options import DICOM_ENDINGS, PICTURES, VOLUME_ENDINGS

OFFERED = ("manufacturer", "model", "site", "protocol", "modality", "body_part", "laterality")  # to part by
NESTED = ("study", "series", "file")  # other things than patients to group by

_PICTURE = rf"(?i)({'|'.join(map(re.escape, PICTURES))})$"
_BIDS = re.compile(r"(?:^|/)sub-([A-Za-z0-9]+)")
_OF_HEADS = re.compile(r"(?i)(^|[_/])(anat|t1w|t2w|flair|pdw|mp2?rage)([_./]|$)")
_DEFACED = re.compile(r"(?i)deface|skull|brain|bet[_.]")


def beside(source: Source) -> Iterator[bytes]:
    """The state of the files that hold the pixels of a header of their own, as `.img` does of `.hdr`."""
    for name in each(source.ids):
        if name.lower().endswith(".hdr"):
            path = Path(source.root, name)
            for other in sorted(path.parent.glob(glob.escape(path.stem) + ".*")):
                yield f"{other.name} {other.stat().st_size} {other.stat().st_mtime_ns}".encode()


class Patients(NamedTuple):
    """What is known of N files."""

    columns: dict[str, pa.Array]  # string [N]: patient, `NESTED`, `OFFERED`
    grouping: str  # how they are grouped by patient, in a line
    remarks: tuple[str, ...]


def medical(source: Source) -> bool:
    """Whether some of these are no pictures by their names."""
    if not source.by_path or not len(source):
        return False
    if pc.all(pc.match_substring_regex(source.ids, _PICTURE)).as_py():
        return False
    endings = "|".join(map(re.escape, (*DICOM_ENDINGS, *VOLUME_ENDINGS)))
    return bool(source.root) or bool(pc.any(pc.match_substring_regex(source.ids, rf"(?i)({endings})$")).as_py())


def read(source: Source, key: Secret) -> Patients:
    """Ask the headers. What cannot be read has no name but its file's, and is told when it is decoded."""
    columns: dict[str, list[str | None]] = {name: [] for name in ("patient", *NESTED, *OFFERED)}
    burnt = heads = 0

    @cache
    def hidden(*parts: str) -> str:
        return key.mark(digest([part.encode() for part in parts]).encode(), purpose="tacit.patient")

    with Pool(Plan) as pool:
        for name, about in zip(each(source.ids), abouts(pool, _asked(source)), strict=True):
            subject = _BIDS.search(name)
            study = series = ""
            patient: tuple[str, ...] = ("file", name)
            if about is not None:
                study, series = about.study, about.series
                patient = tuple(about.patient) or (("study", study) if study else patient)
                burnt, heads = burnt + about.burnt, heads + about.head
            elif subject:
                patient = ("bids", subject[1])
            if about is None and name.lower().endswith(VOLUME_ENDINGS):
                heads += bool(_OF_HEADS.search(name)) and not _DEFACED.search(name)
            columns["patient"].append(hidden(*patient))
            columns["study"].append(hidden("study", study) if study else hidden("file", name))
            columns["series"].append(hidden("series", series) if series else hidden("file", name))
            columns["file"].append(hidden("file", name))
            for of in OFFERED:
                columns[of].append((getattr(about, of) if about is not None else "") or None)
    found = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    patients = len(pc.unique(found["patient"]))
    grouping = (
        f"grouped by patient ({patients:,}), whom no split parts: by PatientID and its issuer, else name and birth "
        f"date, a folder sub-, the study or the file; --group-column {', '.join(NESTED)} names another way"
    )
    return Patients(found, grouping, tuple(_remarks(found, burnt, heads)))


def _asked(source: Source) -> Iterator[Any]:
    """The files whose headers tell something."""
    passed = Unreadable("not asked")
    others = (*PICTURES, *VOLUME_ENDINGS)
    for name, item in zip(each(source.ids), source.items(), strict=True):
        yield passed if name.lower().endswith(others) else item


def _remarks(columns: dict[str, pa.Array], burnt: int, heads: int) -> Iterator[str]:
    counts = {name: len(pc.unique(columns[name].drop_null())) for name in OFFERED}
    several = [f"{count:,} of {name}" for name, count in counts.items() if count > 1]
    if several:
        yield (
            f"headers tell these apart: {', '.join(several)}; --worst-group NAME judges each alone, and "
            "--holdout NAME=VALUE tests on one that was not trained on"
        )
    if burnt:
        yield (
            f"{burnt:,} files may show names or dates in their pixels (said, or not excluded of ultrasound and screen "
            "captures): look at them before anything is handed on"
        )
    if heads:
        yield f"{heads:,} files are scans of heads, from which faces can be made: deface them before they are handed on"
