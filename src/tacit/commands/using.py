"""Using: the commands that take an encoder or data elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tacit.commands.settings import guarded, settings

if TYPE_CHECKING:
    from pyarrow import Table


@guarded
def embed(
    encoder: Any,
    data: Any,
    *,
    out: str,
    words: bool = False,
    of_items: bool = False,
    batch_size: int = 256,
    device: str = "auto",
    timeout: float = 600.0,
    offline: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> int:
    """Write the embedding of every example to a Parquet file, or to a folder of them.

    Columns: `id`, `embedding` (a list of fixed size) and the input's own columns. Writes whole or not at all.

    Where `out` does not end in .parquet, or where torchrun or srun has started several processes, it is a folder of
    parts, in the order of their names; every process writes some. The same command, with any number of processes, goes
    on where an interrupted one has stopped.

    With `words`, every word of a text gets a row of its own: the last state of its first token, `token` (the word) and
    `sentence` (the text's id); lists as long as the text has words, such as tags, are taken apart likewise, other
    columns repeated. `tacit evaluate FILE --target tokens --group-column sentence` judges them.

    With `of_items`, every item of an encoder of histories gets a row in place of every history: `item` (its id) and
    `embedding`.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        data: A folder of images, a table, arrays, or the built-in `digits`.
        out: The Parquet file to write, or the folder.
        words: Embed every word of a text, as its list of words or its blanks part it.
        of_items: Embed every item that the encoder knows.
        batch_size: Examples at a time; embeddings do not depend on it.
        device: auto, cpu, cuda or mps.
        offline: Use no network, also for hf: names.
        timeout: Seconds after which a process that waits for another one in vain ends the work.
        overwrite: Replace the file or the folder.
        options: What of the data is read otherwise than in the encoder's training: settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.commands.embedding import embed_data

    return embed_data(encoder, data, given, options)


@guarded
def export(
    encoder: Any,
    *,
    to: Literal["hf", "onnx", "safetensors"] = "hf",
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
    from tacit.experiment.folder import was_private
    from tacit.formats.write import export as write
    from tacit.formats.write import nameless

    if with_head:
        from tacit.experiment.heads import open_head

        opened, head = open_head(encoder, trust, labels=labels, label_column=label_column, labelled=labelled)
    else:
        from tacit.experiment.reading import open_encoder

        opened, head = open_encoder(encoder, offline=offline), None
    if without_ids:
        opened, head = nameless(opened, head)
    if isinstance(encoder, str | Path) and was_private(Path(encoder)):
        opened.reading = {}
    done = write(opened, to, Path(out), head=head)
    for key, value in done.items():
        print(f"{key}: {value}")
    return 0


@guarded
def fill_mask(run: Any, *texts: str, top: int = 5, offline: bool = False) -> Any:
    """Say which tokens a text encoder holds likeliest at masked places.

    Prints them, and returns for every text, for every [MASK] in it, the tokens with their probabilities.

    Args:
        run: A run folder, an exported folder, or hf:FOLDER_OR_NAME, pretrained by the task `masked`.
        texts: One or more, each with the tokenizer's mask token, [MASK], where a word is to be filled in.
        top: Tokens at each place.
        offline: Use no network, also for hf: names.
    """
    from tacit.modalities.text.language import fill_mask as fill

    return fill(run, texts, top=top, offline=offline)


@guarded
def recommend(
    run: Any,
    *,
    history: str | list[Any],
    k: int = 10,
    allowed: str | list[Any] | None = None,
    seen: bool = False,
    offline: bool = False,
) -> Any:
    """Say which items an encoder of histories holds likeliest to come next, after a history of anybody.

    Prints them, and returns their ids and scores, and how many events are of items that it does not know.

    Args:
        run: A run folder or an exported folder, pretrained on a table of events.
        history: Ids of items from the first to the latest, with commas between them; in Python also a list.
        k: How many items.
        allowed: Ids of the items that may be recommended, likewise; all of them by default.
        seen: Items of the history may be recommended again.
        offline: Use no network.
    """
    from tacit.commands.recommending import recommend as say

    return say(run, history, k=k, allowed=allowed, seen=seen, offline=offline)


@guarded
def next_labels(
    run: str,
    data: Any,
    *,
    n: int = 50,
    out: str | None = None,
    method: Literal["auto", "typiclust", "margin"] = "auto",
    device: str = "auto",
    private: bool = False,
    trust: bool = False,
    offline: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Table:
    """Choose the examples to label next, and write a file to fill in.

    While labels are few, the most typical examples of clusters without any (TypiClust), from no label at all on; once
    they are many, those that the linear probe finds hardest to tell (margin). What is sealed, of a sealed group,
    labelled already, or a copy of such is never proposed, and sealed labels are not learned from. Targets other than
    classes have no margin, and keep to TypiClust.

    Columns: `file`, an empty `label`, `why`, `score` (the higher the better, by one method). Once filled in, as far as
    you like, name the file with a further --labels. The run's own labels are read as it read them; --labels adds
    others, and any setting of how data are read takes the place of the run's.

    Args:
        run: A run folder, of `tacit run` or `tacit pretrain`. It remembers how its data and labels were read.
        data: The run's data, or these with more: a folder of images, a table, arrays, or the built-in `digits`.
        n: How many to choose.
        out: The CSV file to write; none is written without it.
        private: Print no name and no class; so where the run was private. The file names what is to be labelled.
        trust: Open the label files and test data that the run names, also where the folder was not made here by you.
        method: auto takes the margin from 5 labels per class on; typiclust also serves targets without classes.
        device: auto, cpu, cuda or mps.
        offline: Use no network.
        overwrite: Replace the file.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.commands.labelling import next_labels as choose

    return choose(run, data, given, options)


@guarded
def load_encoder(source: Any, *, offline: bool = False) -> Any:
    """Open a run folder, an exported folder or hf:FOLDER_OR_NAME as a trainable `torch.nn.Module`.

    It embeds batches, `encoder(encoder.prepare(images)).pooled`, where `prepare` takes paths, PIL images or arrays and
    does the exact preprocessing of the training.
    """
    from tacit.experiment.reading import open_encoder

    return open_encoder(source, offline=offline)


@guarded
def open_dataset(data: Any, **options: Any) -> Any:
    """Read data once into the cache; see `tacit.dataset.open_dataset` for the settings."""
    from tacit.dataset import open_dataset as open_

    return open_(data, **options)
