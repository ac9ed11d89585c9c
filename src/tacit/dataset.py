"""Open data as a `Dataset`: examples of any modality, labels, groups, a split, and notes on what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tacit.core.columns import few
from tacit.core.errors import UserError
from tacit.core.options import keywords, takes
from tacit.core.spec import SpecOf
from tacit.data.cache import clean, default_root
from tacit.data.dataset import Dataset
from tacit.data.labels import grouped, read_labels
from tacit.data.layouts import with_folder_labels
from tacit.data.listing import File, Files, Lister, Listing, Objects, Word
from tacit.data.named import Missing
from tacit.data.notes import Notes
from tacit.data.options import LabelOptions, Reading
from tacit.data.resolved import resolve
from tacit.data.signs import check_modality, contested
from tacit.data.source import ROWS, TEST, TRAIN, VALIDATION, Source
from tacit.data.store import Keeping, Progress
from tacit.data.tables import Table, encoded_source
from tacit.modalities import (
    MODALITIES,
    ContentOptions,
    DataOptions,
    built_in,
    combinator,
    file_endings,
    next_up,
    options_of,
    reader_named,
    sides,
    signs,
    usual_target,
)
from tacit.modalities.options import ModalityOptions, flag
from tacit.modalities.reader import Found, LabelFiles

__all__ = ["READING", "TEST", "TRAIN", "VALIDATION", "Dataset", "Notes", "clean", "default_root", "open_dataset"]

# Settings of `open_dataset` about how content is read; none about labels, groups or splits.
READING = tuple(name for name, setting in keywords(ContentOptions).items() if setting.flag)


@dataclass(frozen=True)
class Settings:
    """All settings of how data are read."""

    reading: Reading = field(default_factory=Reading)
    labels: LabelOptions = field(default_factory=LabelOptions)
    options: Mapping[str, ModalityOptions] = field(default_factory=dict)  # of each modality, by its name
    before: Mapping[str, Any] = field(default_factory=dict)  # `Dataset.reading` of earlier data

    @classmethod
    def of(cls, as_before: Mapping[str, Any] | None = None, **settings: Any) -> Settings:
        """Sort settings, given by name, into their option groups."""
        options = {name: of.of(settings) for name, of in options_of().items()}
        taken = {name for of in options.values() for name in of.own_words if getattr(of, name) is not None}
        general = {name: value for name, value in settings.items() if name not in taken}
        return cls(Reading.of(general), LabelOptions.of(general), options, as_before or {})

    def check(self) -> None:
        """UserError where a value is invalid, or two contradict each other."""
        check_modality(signs(), self.reading.kind)
        for of in (self.labels, *self.options.values(), self.reading):
            of.check()

    def of_one_modality(self) -> Settings:
        """Set the modality that named columns imply: pairs, where they are of two that can be paired.

        UserError where they imply different ones.
        """
        named = {name: setting for name, of in self.options.items() if (setting := of.named())}
        both = combinator()
        two = self.reading.kind is None and len(named) == 2 and named.keys() <= {*sides()}
        if two or self.reading.kind == both:
            return replace(self, reading=replace(self.reading, kind=both))
        if len(named) > 1:
            raise UserError(f"{' and '.join(list(named.values())[:2])} exclude each other; choose one")
        for kind, setting in named.items():
            if self.reading.kind not in (None, kind):
                raise UserError(f"{setting} contradicts --kind {self.reading.kind}; leave one of them out")
            return replace(self, reading=replace(self.reading, kind=kind))
        return self

    def settled(self, names: list[str] | None) -> tuple[Settings, list[str]]:
        """Fill in the columns by which earlier data were read, where none is named; and those that are missing here."""
        contents = [
            self.reading.path_column,
            *(getattr(of, f"{name}_column", None) for name, of in self.options.items()),
        ]
        if names is None or not self.before or any(contents):
            return self, []
        lost: list[str] = []
        options: dict[str, ModalityOptions] = {}
        for name, of in self.options.items():
            options[name], missing = of.settled(self.before, names)
            lost += missing
        reading, path = self.reading, self.before.get("path_column")
        if path:
            lost += [] if path in names else [path]
            reading = replace(reading, path_column=path if path in names else None)
        return replace(self, options=options, reading=reading), lost

    def encoded(self) -> tuple[str, str] | None:
        """The named column of encoded examples and its modality; None where none is named."""
        for name, of in self.options.items():
            column = getattr(of, f"{name}_column", None)
            if column and signs()[name].columns:
                return name, column
        return None

    def reserved(self) -> frozenset[str]:
        """Columns used for labels, groups, splits and times, which are therefore not content."""
        own_file = self.labels.files and not self.labels.by_folder  # the columns may be those of the label file
        return frozenset() if own_file else frozenset(self.labels.label_spec().columns.values())

    def options_for(self, modality: str) -> ModalityOptions:
        """The options of one modality, which may be made of those of others."""
        return self.options[modality].over(self.options)

    def refuse_others(self, source: Source) -> None:
        """UserError for an option of a modality other than that of the source."""
        own = {*Reading.names(), *LabelOptions.names(), *self.options_for(source.kind).accepted()}
        for kind, of in self.options.items():
            for name, value in of.given().items():
                if kind != source.kind and (name not in own or name in of.own_words):
                    there, read = signs()[source.kind].nouns, signs()[kind].nouns
                    if isinstance(value, SpecOf):
                        raise UserError(f"{source.name} holds {there}, and this encoder reads {read}; give it {read}")
                    raise UserError(f"{flag(name, value)}: {source.name} holds no {read} but {there}; leave it out")


def open_source(data: Any, settings: Settings | None = None, root: Path | None = None) -> Source:
    """List the examples without reading their content. UserError for what cannot be read at all.

    `root` is the cache folder, which holds the indices of tar shards.
    """
    settings = (settings or Settings.of()).of_one_modality()
    check_modality(signs(), settings.reading.kind)
    listing = Lister(signs(), settings.reading.kind, (root or default_root()) / "listings")(data)
    settings, lost = settings.settled(listing.names() if isinstance(listing, Table) else None)
    source = replace(_claimed(listing, settings), endings=file_endings())
    if lost:
        columns = [column for of in source.read.values() for column in ([of] if isinstance(of, str) else of)]
        read = f"{', '.join(map(str, columns))} is read instead"
        remark = f"{source.name} has no column {lost[0]!r}, which was read in training; {read}"
        source = replace(source, remarks=(*source.remarks, remark))
    if len(source) < 2 and not reader_named(source.kind).several(source):
        raise UserError(f"{source.name} holds one example; at least two are needed")
    return source


def _claimed(listing: Listing, settings: Settings) -> Source:
    """Let the modalities claim the listing; the source of the first that does."""
    reading, encoded, reserved = settings.reading, settings.encoded(), settings.reserved()
    if isinstance(listing, Source):
        for name in contested(signs(), listing.kind) if reading.kind is None else ():
            found = reader_named(name).claim(listing, settings.options[name], reading, reserved)
            if found is not None:
                return found
        return reader_named(listing.kind).claimed(listing, settings.options[listing.kind])
    both = combinator()
    for name in [both] if reading.kind == both else [] if encoded else reversed(MODALITIES):
        if reading.kind in (None, name) or not isinstance(listing, Table):
            reader = reader_named(name)
            own = settings.options_for(name)
            found = reader.claim(listing, own, reading, reserved)
            if found is not None:
                return reader.claimed(found, own)
    if isinstance(listing, Word):
        raise UserError(
            f"{listing.name}: no such file or folder (and not the built-in {' or '.join(map(repr, built_in()))})"
        )
    if isinstance(listing, File):
        raise UserError(f"{listing.name}: give a folder, or a file of .parquet, .csv, .jsonl, .tar, .txt, .npz or .npy")
    assert not isinstance(listing, Files), "the modality of several others claims these, or says why not"
    named, bare = reading.path_column, isinstance(listing, Objects)
    if isinstance(listing, Objects) and not listing.paths:
        what = type(listing.value).__name__
        raise UserError(f"--kind {reading.kind} is not read from a {what}: give a folder, a table, or a list of paths")
    if isinstance(listing, Objects):  # a list of paths to files
        listing, named = Table(listing.name, pa.table({"file": [*map(str, listing.value)]}), signs()), "file"
    source = encoded_source(listing, reading.kind, encoded[1] if encoded else None, named)
    source = replace(source, read={}) if bare else source
    return reader_named(source.kind).claimed(source, settings.options[source.kind])


@dataclass(frozen=True, kw_only=True)
class OpenSettings(DataOptions):
    """Of `open_dataset`.

    Args:
        as_before: in Python, `Dataset.reading` of other data: the columns that they were read by are read here, where
            no others are named and a table has them
        progress: called with the examples decoded so far and in all
    """

    as_before: Mapping[str, Any] | None = None
    progress: Progress | None = None


@takes(OpenSettings)
def open_dataset(data: Any, settings: OpenSettings) -> Dataset:
    """Find, decode (once) and label the examples of `data`.

    Raises `UserError` for whatever a person can mend.

    Args:
        data: a folder, a .parquet, .csv, .jsonl, .tar, .txt, .npz or .npy file, an URL of tables or tar shards, hf:NAME
            or hf:NAME:SPLIT of Hugging Face, "digits"; in Python also arrays, tensors, a dict of arrays x and y, data
            frames, a `datasets.Dataset`, a list of paths, PIL images or texts
    """
    return _opened(data, Settings.of(**vars(settings)), settings.progress)


def _opened(data: Any, settings: Settings, progress: Progress | None) -> Dataset:
    settings.check()
    labels, label_spec = settings.labels, settings.labels.label_spec()
    root = Path(settings.reading.cache) if settings.reading.cache else default_root()
    keeping = Keeping(root, settings.reading.max_bad, progress, settings.reading.patience)
    of_labels: list[str] = []
    tables = {} if labels.by_folder else read_labels(labels.files, of_labels)
    before = {name: reader_named(name).before_labels(of, tables) for name, of in settings.options.items()}

    def opened(options: Mapping[str, ModalityOptions]) -> Source:
        given = replace(settings, options={**before, **options})
        sources = [open_source(d, given, root) for d in (data, *(() if labels.test is None else (labels.test,)))]
        if labels.by_folder:
            sources = [with_folder_labels(source, Missing(label_spec.kept)) for source in sources]
        return reader_named(sources[0].kind).join(*sources) if len(sources) == 2 else sources[0]

    source = opened({})
    kind, reader, own = source.kind, reader_named(source.kind), settings.options_for(source.kind)
    label_spec = label_spec.without("time") if reader.own_time else label_spec
    notes = Notes(listed=len(source), left_aside=few(*source.left_aside()), missing=Missing(label_spec.kept))
    if reader.grouped_by:
        source, label_spec = grouped(source, tables, label_spec, reader.grouped_by)
    settings.refuse_others(source)
    label_files = LabelFiles(labels, label_spec, tables)
    found = Found(source, own, label_files, notes, keeping, lambda other: opened({kind: other}))
    examples = reader.examples(found)
    source, columns = examples.source, examples.columns
    kept = reader.store(source, own, keeping)
    if len(kept.rows) < 2:
        raise UserError(f"{source.name} holds {len(kept.rows)} readable example; at least two are needed")
    notes.skipped = few((f"{source.ids[row].as_py()}: {why}" for row, why in kept.bad), len(kept.bad))
    notes.duplicates = kept.duplicates
    notes.decoding_seconds = kept.seconds_left
    notes.blank, notes.remarks = kept.blank, (*source.remarks, *kept.remarks, *of_labels)
    for count, number in kept.counts.items():
        setattr(notes, count, number)
    unnamed, held = labels.target is None and labels.multilabel is None, reader.holds_next(own)
    if unnamed and (usual := usual_target(kind)) is not None:
        label_spec = replace(label_spec, target=usual)
    label_spec = label_spec.for_modality(next_up(kind), labelled=columns.label is not None, unnamed=unnamed, held=held)
    split = None if source.split is None else source.split[kept.rows]
    rows, ids = pa.array(kept.rows), kept.named(source.ids)
    resolved = examples.finish(resolve(columns.take(kept.rows), label_spec, split, ids, notes), kept)
    return Dataset(
        name=source.name,
        kind=kind,
        spec=kept.cache.spec,
        cache=kept.cache,
        ids=ids,
        label=resolved.label,
        classes=resolved.classes,
        group=resolved.group,
        split=resolved.split,
        columns=None if source.columns is None else source.columns.take(rows),
        numbered=source.key == ROWS,
        notes=notes,
        target=resolved.target,
        truth=resolved.truth,
        subgroup=resolved.subgroup,
        subgroups=resolved.subgroups,
        pair=resolved.pair,
        spans=resolved.spans,
        reading=source.read,
    )
