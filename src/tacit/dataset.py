"""Data as people have it, opened as one thing: examples of any kind, labels, groups, split, what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tacit.core.columns import few
from tacit.core.errors import UserError
from tacit.data.asked import understand
from tacit.data.cache import clean, default_root
from tacit.data.dataset import READING, Dataset
from tacit.data.known import resolve
from tacit.data.labels import FOLDERS, by_speaker, file_columns, own_columns, read_labels, together
from tacit.data.layouts import with_folder_labels
from tacit.data.listing import open_source
from tacit.data.named import Missing
from tacit.data.notes import Notes
from tacit.data.source import ROWS, TEST, TRAIN, VALIDATION, Source, join
from tacit.data.store import Progress
from tacit.data.tables import Columns, label_files
from tacit.evaluation.targets import make_target
from tacit.modalities import next_up
from tacit.modalities.audio.channels import separated
from tacit.modalities.audio.recordings import Recordings
from tacit.modalities.audio.segments import WHOLE
from tacit.modalities.audio.spans import FRAMES, marked, read_spans, span_columns, whole_columns, with_spans
from tacit.modalities.audio.store import SEPARATE, check_sound, open_recordings
from tacit.modalities.events.interactions import Named
from tacit.modalities.events.sequences import Ask, open_histories
from tacit.modalities.events.store import HELD, Histories
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.image.store import Cache, open_cache
from tacit.modalities.text.halves import halved
from tacit.modalities.text.store import Corpus
from tacit.modalities.text.tokenise import open_corpus

__all__ = [
    "READING",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Cache",
    "Corpus",
    "Dataset",
    "Histories",
    "Notes",
    "Recordings",
    "clean",
    "default_root",
    "open_dataset",
]

_SIZES = (4, 1024)  # px


def open_dataset(
    data: Any,
    *,
    kind: str | None = None,
    labels: str | Sequence[str] | None = None,
    label_column: str | None = None,
    ignore_label: Sequence[str] = (),
    keep_label: Sequence[str] = (),
    group_column: str | None = None,
    split_column: str | None = None,
    test: Any = None,
    target: str | None = None,
    multilabel: str | None = None,
    worst_group: str | None = None,
    holdout: str | None = None,
    time_column: str | None = None,
    image_size: int | ImageSpec | None = None,
    image_column: str | None = None,
    path_column: str | None = None,
    text_column: str | Sequence[str] | None = None,
    tokenizer: str | None = None,
    vocabulary: int | None = None,
    length: int | None = None,
    lowercase: bool = False,
    audio_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    channels: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    event_column: str | None = None,
    event_weight: Sequence[str] = (),
    session_gap: str | None = None,
    k_core: int | None = None,
    item_table: str | None = None,
    catalogue: str | None = None,
    cache: str | None = None,
    max_bad: float = 0.05,
    as_before: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    patience: float = math.inf,
    reads: Any = None,
) -> Dataset:
    """Find, decode (once) and label the examples of `data`.

    Raises `UserError` for whatever a person can mend.

    Args:
        data: a folder, a .parquet, .csv, .jsonl, .tar, .txt, .npz or .npy file, an URL of tables or tar shards, hf:NAME
            or hf:NAME:SPLIT of Hugging Face, "digits"; in Python also arrays, tensors, a dict of arrays x and y, data
            frames, a `datasets.Dataset`, a list of paths, PIL images or texts
        kind: what the data are, where they do not say by themselves (image, text, audio, items)
        labels: a CSV or Parquet file of file,label, or of file,start,end,label where stretches of sounds are labelled;
            or "folders" for class folders; nothing is labelled unless told. Several files count as one.
        label_column: the column of labels, in the table that is the data or in the label file
        ignore_label: a label that means none, such as "unknown"
        keep_label: a word that is the name of a class or group here, though elsewhere it means that there is none, such
            as NA, None or a folder unlabeled
        group_column: the column that says what belongs together (patient, person); a split never parts a group. Of
            sounds it is the column speaker, where there is one of six speakers or more and no split is named
        split_column: the column that says train, val or test
        test: further data, held out as the test split
        target: what a label says: a class (classification, the default), one of ordered classes, such as a grade
            (ordinal), any of several (multilabel), a number (regression), what belongs together and is to be found
            again (retrieval), the one partner (pairs), how much the two of a pair are alike, as a number (similarity),
            or the class of a token of the sentence that --group-column names (tokens); the run's own where a run is
            judged. Of events without labels what comes next, of all that a user has not used (recommendation, the
            default) or of everything (repeats)
        multilabel: the sign between the labels of one cell, such as "|"; a cell that holds nothing else means none of
            them, an empty one is unlabelled. Implies the target multilabel, which lists of labels in a Parquet file
            need no sign for.
        worst_group: the column of parts of the population (hospital, sex) that are judged apart
        holdout: COLUMN=VALUE: the examples of this value are the test split, such as site=B. Of events: last (the
            default), each user's last for the test and the one before for validation; time, the latest tenth of all and
            the tenth before; or none: all are pretrained on
        time_column: the column of times (numbers, or dates such as 2024-05-31): the latest 30 % of the labelled
            examples are the test split, and whatever else is as late is not pretrained on either. Of events, the column
            that says when they happened, or their place in an order; default: one of a usual name, else the rows' order
        image_size: px a side; default: the images' own, at most 64; in Python also the spec of an encoder
        image_column: the table's column of encoded images
        path_column: the table's column of paths to images or sounds
        text_column: the table's column of texts, or of lists of words; several are joined by a blank line, such as
            subject and body. With the target similarity two of them are the pair that a row's label scores; with one,
            or with images, --group-column names the pair of each row.
        tokenizer: bpe (the default), wordpiece or unigram, trained on the texts; or the folder of a Hugging Face model,
            an encoder or a run, whose tokenizer is taken; in Python also the spec of an encoder
        vocabulary: tokens of a tokenizer that is trained; default 8,192
        length: tokens that are looked at together; default 128. Of events, how many of a history; default 50
        lowercase: whether a tokenizer that is trained takes capitals for small letters
        audio_column: the table's column of encoded sounds
        start_column: the column of the seconds at which each row's stretch of its sound begins; default: start, where a
            table of paths to sounds, or a label file of sounds, has both start and end; none: whole files are meant
        end_column: the column of the seconds at which it ends; default: end, likewise
        rate: samples per second that sounds are resampled to, 4,000 to 48,000 Hz; default: the commonest of the files,
            at most 16,000
        seconds: of sound that are looked at together, 0.5 to 60; default 10
        channels: mix (the mean of all, the default), left, right, or separate: each channel is an example of its own
        user_column: the column of users in a table of events, each of whom is an example; default: one of a usual name
        item_column: its column of items, likewise
        event_column: its column of weights of events, or of words such as view and purchase
        event_weight: what a word there weighs, such as purchase=3; others weigh 1, and what weighs 0 is left out
        session_gap: the time without an event after which a new session begins, such as 30m; each session is an example
        k_core: leaves out users and items of fewer events than this, again and again until there are none
        item_table: a table of the items: their ids, names, and columns of attributes
        catalogue: a run or an exported encoder whose numbers the items keep; in Python also the spec of an encoder
        cache: the folder for decoded data; default: the user's own cache folder
        max_bad: the fraction of unreadable files from which on the data are refused
        as_before: in Python, `Dataset.reading` of other data: the columns that they were read by are read here, where
            no others are named and a table has them
        progress: called with the examples decoded so far and in all
        reads: the spec of an encoder of images, whose channels and scale of grey values they are read in
        patience: seconds; where decoding takes longer, a sample of the images stands for all, and nothing is kept
    """
    held = holdout if holdout in HELD else None
    asked = understand(
        label_column=label_column,
        ignore_label=ignore_label,
        keep_label=keep_label,
        group_column=group_column,
        split_column=split_column,
        test=test,
        target=target,
        multilabel=multilabel,
        worst_group=worst_group,
        holdout=None if held else holdout,
        time_column=time_column,
    )
    target_read = make_target(asked.target)
    ask = Ask(session_gap, k_core, item_table, catalogue, held or "last")
    ask.check()
    framing = image_size.framing if isinstance(image_size, ImageSpec) else None
    reads = image_size if isinstance(image_size, ImageSpec) else reads
    image_size = image_size.size if isinstance(image_size, ImageSpec) else image_size
    if image_size is not None and not _SIZES[0] <= image_size <= _SIZES[1]:
        raise UserError(f"--image-size {image_size} is out of range; choose {_SIZES[0]} to {_SIZES[1]} px")
    check_sound(rate, seconds, channels)
    if not 0 <= max_bad <= 1:
        raise UserError(f"--max-bad {max_bad:g} is no fraction; choose 0 to 1, such as 0.05")
    files = label_files(labels)
    by_folder = [str(file) for file in files] == [FOLDERS]
    if by_folder and label_column is not None:
        raise UserError("--labels folders and --label-column exclude each other; choose one")
    texts = (text_column,) if isinstance(text_column, str) else tuple(text_column or ())
    of_labels: list[str] = []
    tables = {} if by_folder else read_labels(files, of_labels)
    whole = WHOLE in (start_column, end_column)
    spans = {} if whole else span_columns(tables, start_column, end_column)
    own_span = (None, None) if spans or whole else (start_column, end_column)
    events = Named(user_column, item_column, time_column, event_column, tuple(event_weight), session_gap is not None)
    before = as_before or {}
    columns_named = Columns(
        kind, image_column, audio_column, path_column, texts, *own_span, events, whole=whole, before=before
    )

    def opened(ask: Columns) -> Source:
        sources = [open_source(d, ask, root) for d in (data, test) if d is not None]
        if by_folder:
            sources = [with_folder_labels(source, Missing(asked.kept)) for source in sources]
        if len(sources) == 2 and sources[0].kind == "items":
            said = "what is tested of events is each user's last, or the latest; see --holdout"
            raise UserError(f"--test {test}: {said}")
        return join(*sources) if len(sources) == 2 else sources[0]

    root = Path(cache) if cache else default_root()
    source = opened(columns_named)
    texts = tuple(source.read.get("text_column", texts))
    if source.kind == "items":
        asked = asked.without("time")
    notes = Notes(listed=len(source), left_aside=few(*source.left_aside()), missing=Missing(asked.kept))
    if source.kind == "audio":
        source, asked = by_speaker(source, tables, asked)
    named, frames = None, target_read.of_parts and source.kind == "audio"
    if spans and source.kind == "audio" and source.whole is None:
        named = read_spans(source, tables, spans, asked, notes)
    elif frames:
        raise UserError(FRAMES)
    if tables:
        notes.labels_from = f"file {', '.join(file.name for file in files)}"
    if named is not None and frames:
        if channels == SEPARATE:
            raise UserError(f"--channels {SEPARATE} and --target tokens exclude each other; choose one")
        columns = whole_columns(source, named)
    elif named is not None:
        source, columns = marked(source, named, notes, root)
        notes.listed = len(source)
    elif tables:
        columns = file_columns(source, tables, notes, asked.columns, lists=target_read.lists)
    else:
        columns = own_columns(source, asked.columns, notes.missing, lists=target_read.lists)
        notes.unlabelled = 0 if by_folder or columns.label is None else columns.label.null_count
        notes.labels_from = f"column {label_column}" if label_column else FOLDERS if by_folder else ""
        notes.labels_from = notes.labels_from or ("the data themselves" if columns.label is not None else "")
    _refuse_others(
        source,
        image={"image-size": image_size},
        text={"tokenizer": tokenizer, "vocabulary": vocabulary, "length": None if source.kind == "items" else length},
        audio={
            "rate": rate,
            "seconds": seconds,
            "channels": channels,
            "start-column": start_column,
            "end-column": end_column,
        },
        items={**ask.settings(), "holdout": held},
    )
    if source.kind == "text":
        if "pair" in target_read.takes and len(texts) == 2:
            halves = [opened(replace(columns_named, text_column=(column,))) for column in texts]
            source, of = halved(source, halves, texts)
            columns, notes.listed = replace(columns.take(of), pair=source.whole), len(source)
        given: Any = tokenizer  # in Python also the spec of an encoder
        kept = open_corpus(
            source,
            tokenizer=given,
            vocabulary=vocabulary,
            length=length,
            lowercase=lowercase,
            root=root,
            max_bad=max_bad,
            progress=progress,
            patience=patience,
        )
    elif source.kind == "audio":
        if channels == SEPARATE:
            source, of = separated(source, root)
            columns, notes.listed = columns.take(of), len(source)
        source, columns = together(source, columns, asked)
        kept = open_recordings(
            source,
            rate=rate,
            seconds=seconds,
            channels=channels,
            root=root,
            max_bad=max_bad,
            progress=progress,
            patience=patience,
        )
    elif source.kind == "items":
        source, columns = together(source, columns, asked)
        kept = open_histories(source, ask, length=length, root=root, max_bad=max_bad, progress=progress)
    else:
        source, columns = together(source, columns, asked)
        kept = open_cache(source, image_size, root, max_bad, progress, patience, reads, framing)
    if len(kept.rows) < 2:
        raise UserError(f"{source.name} holds {len(kept.rows)} readable example; at least two are needed")
    notes.skipped = few((f"{source.ids[row].as_py()}: {why}" for row, why in kept.bad), len(kept.bad))
    notes.duplicates = kept.duplicates
    notes.decoding_seconds = kept.seconds_left
    notes.blank, notes.remarks = kept.blank, (*source.remarks, *kept.remarks, *of_labels)
    for count, number in kept.counts.items():
        setattr(notes, count, number)
    unnamed = target is None and multilabel is None
    labelled = columns.label is not None
    asked = asked.of_kind(next_up(source.kind), labelled=labelled, unnamed=unnamed, held=held != "none")
    split = None if source.split is None else source.split[kept.rows]
    rows, ids = pa.array(kept.rows), kept.named(source.ids)
    known = resolve(columns.take(kept.rows), asked, split, ids, notes)
    if named is not None and frames:
        known = with_spans(known, named, kept, asked, notes)
    return Dataset(
        name=source.name,
        kind=source.kind,
        spec=kept.cache.spec,
        cache=kept.cache,
        ids=ids,
        label=known.label,
        classes=known.classes,
        group=known.group,
        split=known.split,
        columns=None if source.columns is None else source.columns.take(rows),
        numbered=source.key == ROWS,
        notes=notes,
        target=known.target,
        truth=known.truth,
        subgroup=known.subgroup,
        subgroups=known.subgroups,
        pair=known.pair,
        spans=known.spans,
        reading={**source.read, **({} if session_gap is None else {"session_gap": session_gap})},
    )


_SAID = {"image": "images", "text": "texts", "audio": "sounds", "items": "events"}


def _refuse_others(source: Source, **settings: dict[str, Any]) -> None:
    """UserError for a setting of one kind of data where the source holds another."""
    for kind, values in settings.items():
        for flag, value in values.items():
            if kind != source.kind and value is not None:
                held = f"no {_SAID[kind]} but {_SAID[source.kind]}"
                raise UserError(f"--{flag} {value}: {source.name} holds {held}; leave it out")
