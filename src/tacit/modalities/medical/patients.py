"""Whose medical images are, and where they come from: read from headers while data are opened, and kept nowhere.

Patients become keyed hashes at once, by which splits and intervals keep what is theirs together. The other columns are
used where a person names one of them (`--holdout`, `--worst-group`), and else only counted. A label file may name
patients, studies or series by the identifiers of their headers in place of files.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tacit.core.errors import UserError
from tacit.core.folders import private_folder
from tacit.core.naming import without_zeros
from tacit.core.secret import Secret, own_secret, secret_of
from tacit.data.joining import flat
from tacit.data.labels import together
from tacit.data.named import as_text
from tacit.data.opened import PATH_NAMES
from tacit.data.source import Source, digest, each
from tacit.evaluation.targets import make_target
from tacit.modalities.medical.dicom import About
from tacit.modalities.medical.names import VOLUME_ENDINGS
from tacit.modalities.reader import Examples, Found, O

OFFERED = ("manufacturer", "model", "site", "protocol", "modality", "body_part", "laterality")  # to part by
NESTED = ("study", "series", "file")  # other things than patients to group by

_BIDS = re.compile(r"(?:^|/)sub-([A-Za-z0-9]+)")
_OF_HEADS = re.compile(r"(?i)(^|[_/])(anat|t1w|t2w|flair|pdw|mp2?rage)([_./]|$)")
_DEFACED = re.compile(r"(?i)deface|skull|brain|bet[_.]")

# Usual names of a label file's columns of identifiers, without blanks and capitals.
_IDENTIFIERS = {
    "patient": ("patientid", "patient", "subject", "subjectid", "participantid", "participant"),
    "study": ("studyinstanceuid", "studyuid", "study", "studyid"),
    "series": ("seriesinstanceuid", "seriesuid", "series", "seriesid"),
    "accession": ("accessionnumber", "accession"),
}


class Patients(NamedTuple):
    """What is known of N examples."""

    columns: dict[str, pa.Array]  # string [N]: patient, `NESTED`, `OFFERED`
    grouping: str  # how they are grouped by patient, in a line
    remarks: tuple[str, ...]


def examples(found: Found[O], abouts: Sequence[About | None], wholes: str) -> Examples:
    """The examples, with their headers [N], and their columns: grouped by patient unless another column is named."""
    source, labels = found.source, found.labels
    known = read(source, abouts, own_secret() or secret_of(private_folder(found.keeping.root)))
    others = {*labels.spec.columns.values()}
    named = {path: by_name(table, source, abouts, known, others) for path, table in labels.tables.items()}
    labels = labels._replace(tables={path: table for path, (table, *_) in named.items()})
    source = replace(
        source,
        aliases=(*source.aliases, *(key for _, key, _ in named.values() if key)),
        remarks=(*source.remarks, *(remark for *_, remark in named.values() if remark)),
    )
    own = {} if source.columns is None else {name: source.columns[name] for name in source.columns.column_names}
    there = {*own}.union(*(table.column_names for table in labels.tables.values()))
    wanted = {*labels.spec.columns.values()} - there
    offered = {name: column for name, column in known.columns.items() if name in wanted}
    read_from = replace(source, columns=pa.table({**own, **offered})) if offered else source
    columns = replace(found, source=read_from, labels=labels).columns()
    remarks = known.remarks
    if columns.group is None and make_target(labels.spec.target).by_itself:
        columns, remarks = replace(columns, group=known.columns["patient"]), (known.grouping, *remarks)
    source = replace(source, remarks=(*source.remarks, *remarks))
    read_by = [source.fingerprint, _version("pydicom"), _version("nibabel")]
    source = replace(source, fingerprint=digest([*map(str.encode, read_by), *_beside(source)]))
    return Examples(*together(source, columns, labels.spec, wholes))


def read(source: Source, abouts: Sequence[About | None], key: Secret) -> Patients:
    """What cannot be read has no name but its file's, and is named when it is decoded."""
    columns: dict[str, list[str | None]] = {name: [] for name in ("patient", *NESTED, *OFFERED)}
    burnt = heads = 0
    # An issuer that some files of a PatientID leave out tells nobody apart.
    named = [about.patient for about in abouts if about is not None and about.patient[:1] == ("id",)]
    unissued = {patient[1] for patient in named if not patient[2]}

    @cache
    def hidden(*parts: str) -> str:
        return key.mark(digest([part.encode() for part in parts]).encode(), purpose="tacit.patient")

    for name, about in zip(each(source.ids), abouts, strict=True):
        subject = _BIDS.search(name)
        study = series = ""
        patient: tuple[str, ...] = ("file", name)
        if about is not None and about.dicom:
            study, series = about.study, about.series
            patient = tuple(about.patient) or (("study", study) if study else patient)
            if patient[0] == "id" and patient[1] in unissued:
                patient = (*patient[:2], "")
            burnt, heads = burnt + about.burnt, heads + about.head
        elif subject:
            patient = ("bids", subject[1])
        if name.lower().endswith(VOLUME_ENDINGS):
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


# ---------------------------------------------------------------- labels by identifier


def by_name(
    table: pa.Table, source: Source, abouts: Sequence[About | None], patients: Patients, others: Collection[str] = ()
) -> tuple[pa.Table, str, str]:
    """A label file that names patients, studies or series, with a row for each of their examples in their place.

    Also the column added, which names these, and a remark that counts rows: identifiers stand nowhere else. Any other
    table comes back as it is, with two empty texts. UserError where no identifier is known here.
    """
    columns = {flat(name): name for name in reversed(table.column_names)}
    if any(flat(name) in columns for name in PATH_NAMES):
        return table, "", ""
    named = ((of, columns[usual]) for of, names in _IDENTIFIERS.items() for usual in names if usual in columns)
    role, column = next(named, ("", ""))
    own = {} if source.columns is None else source.columns.column_names
    if not role or column in own:
        return table, "", ""
    known: dict[str, list[int]] = {}
    for row, (name, about) in enumerate(zip(each(source.ids), abouts, strict=True)):
        for identifier in {*_identifiers(role, name, about)}:
            known.setdefault(identifier, []).append(row)
    texts = [text or "" for text in as_text(table[column]).to_pylist()]
    if not any(text in known for text in texts):  # tables lose zeros in front of numbers
        bare: dict[str, list[int]] = {}
        for identifier, rows in known.items():
            bare.setdefault(without_zeros(identifier), []).extend(rows)
        known, texts = bare, [without_zeros(text) for text in texts]
    if not any(text in known for text in texts):
        raise UserError(
            f"no {column!r} of the label file is that of a header here ({len(known):,} differ among {len(source):,} "
            "examples); check that it belongs to these data, or name examples by a column 'file'"
        )
    whose = patients.columns["patient"].to_pylist()
    shared = {identifier for identifier, rows in known.items() if len({whose[row] for row in rows}) > 1}
    meant = [(number, row) for number, text in enumerate(texts) if text not in shared for row in known.get(text, ())]
    kept = table if column in others else table.drop_columns([column])
    kept = kept.take(pa.array([number for number, _ in meant], pa.int64()))
    key = f"{column} of headers"
    kept = kept.append_column(key, source.ids.take(pa.array([row for _, row in meant], pa.int64())))
    return kept, key, _counted(column, texts, known, shared)


def _counted(column: str, texts: Sequence[str], known: Collection[str], shared: Collection[str]) -> str:
    """How many rows of a label file name what headers have, and which do not, by their numbers."""
    none = [row for row, text in enumerate(texts, 1) if text not in known]
    several = [row for row, text in enumerate(texts, 1) if text in shared]
    text = (
        f"{len(texts) - len(none) - len(several):,} of {len(texts):,} rows of the label file have a {column} found here"
    )
    for rows, what in ((none, "have none"), (several, "have one that several patients share, and label nobody")):
        if rows:
            few = f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:3]))}{', ...' if len(rows) > 3 else ''}"
            text += f"; {len(rows):,} {what}: {few}"
    return text


def _identifiers(role: str, name: str, about: About | None) -> Iterator[str]:
    """How an example's patient, study or series may be called."""
    subject = _BIDS.search(name)
    if role == "patient" and subject:
        yield from (subject[1], f"sub-{subject[1]}")
    if about is not None and about.dicom:
        patient = about.patient[1] if about.patient and about.patient[0] == "id" else ""
        identifiers = {"patient": patient, "study": about.study, "series": about.series, "accession": about.accession}
        if identifiers[role]:
            yield identifiers[role]


# ---------------------------------------------------------------- words


def _remarks(columns: Mapping[str, pa.Array], burnt: int, heads: int) -> Iterator[str]:
    counts = {name: len(pc.unique(columns[name].drop_null())) for name in OFFERED}
    several = [f"{count:,} of {name}" for name, count in counts.items() if count > 1]
    if several:
        yield (
            f"headers tell these apart: {', '.join(several)}; --worst-group NAME judges each alone, and "
            "--holdout NAME=VALUE tests on one that was not trained on"
        )
    if burnt:
        yield (
            f"{burnt:,} files may show names or dates in their pixels (declared, or not excluded of ultrasound and "
            "screen captures): look at them before anything is handed on"
        )
    if heads:
        yield f"{heads:,} files are scans of heads, from which faces can be made: deface them before they are handed on"


def _beside(source: Source) -> Iterator[bytes]:
    """The state of the files that hold the pixels of a header of their own, as `.img` does of `.hdr`."""
    for name in each(source.ids):
        if name.lower().endswith(".hdr"):
            path = Path(source.root, name)
            for other in sorted(path.parent.glob(glob.escape(path.stem) + ".*")):
                yield f"{other.name} {other.stat().st_size} {other.stat().st_mtime_ns}".encode()


def _version(name: str) -> str:
    """Of a library that may be missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
