"""`tacit export`: an encoder in a form that others open without Tacit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tacit.commands.command import guarded
from tacit.experiment.folder import was_private
from tacit.experiment.heads import open_head
from tacit.experiment.reading import open_encoder
from tacit.formats.write import export as write
from tacit.formats.write import nameless
from tacit.modalities import modality_of


@guarded
def export(
    encoder: Any,
    *,
    to: str = "hf",
    out: str,
    with_head: bool = False,
    labels: str | None = None,
    label_column: str | None = None,
    labelled: Any = None,
    without_ids: bool = False,
    trust: bool = False,
    offline: bool = False,
) -> int:
    """Write an encoder so that others can open it without Tacit.

    With its head, a run also says what `tacit predict` says, by the probe refitted on all labels of the run's data. In
    ONNX it is part of the graph, from integer pixels to `embedding` and `probabilities` (of numbers `prediction`); else
    head.safetensors and head.json lie beside the encoder. README.md in the folder says what is left to do before and
    after.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        to: hf opens with transformers.AutoModel, onnx with any ONNX runtime; safetensors is read by load_encoder.
        out: The folder to write.
        with_head: Add the preprocessing and the head; needs a run folder.
        labels: The label file that the head learns from in place of the run's, or `folders`.
        label_column: The column of labels in place of the run's.
        labelled: The data that the head learns from, where the run's have moved or were objects in Python.
        without_ids: Leave out the ids, names and attributes of items, and the names of classes: numbers stand for them.
        trust: Open the data and label files that the run names, also where the folder was not made here by you.
        offline: Use no network, also for hf: names.
    """
    if with_head:
        opened, head = open_head(encoder, trust, labels=labels, label_column=label_column, labelled=labelled)
    else:
        opened, head = open_encoder(encoder, offline=offline), None
    if without_ids:
        opened, head = nameless(opened, head)
    private = isinstance(encoder, str | Path) and was_private(Path(encoder))
    if private:
        opened.reading = {}
    done = write(opened, to, Path(out), head=head)
    for key, value in done.items():
        print(f"{key}: {value}")
    if private:
        held = [modality_of(opened.spec).holds(opened.spec)]
        if head is not None and head.classes and not without_ids:
            held.append(f"the names of its {len(head.classes):,} classes; --without-ids leaves them out")
        for what in filter(None, held):
            print(f"it holds of the data: {what}")
    return 0
