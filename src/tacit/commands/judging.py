"""Judging: the commands that tell what an encoder is worth, and use what was found out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.commands.settings import guarded, settings

if TYPE_CHECKING:
    from pyarrow import Table

    from tacit.commands.comparing import Comparison
    from tacit.evaluation import Report


@guarded
def evaluate(
    encoder: Any,
    data: Any = None,
    *,
    against: list[str] | None = None,
    budget: str | None = None,
    out: str | None = None,
    seed: int = 0,
    primary_budget: int | str | None = None,
    label_budgets: list[str] | None = None,
    metric: str | None = None,
    train_every_budget: bool = False,
    seal: str | None = None,
    device: str = "auto",
    private: bool = False,
    offline: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    **options: Any,
) -> Report:
    """Judge an encoder on labelled data against the mandatory baselines, or a run anew, or embeddings that are made.

    A run folder needs no data either: `tacit evaluate RUN --against hf:NAME --metric auroc` judges all that it has
    pretrained on its own data and seal, chooses anew among its tasks, and leaves the folder as it is.

    A file of embeddings needs no data: .parquet or .npz with `embedding` [N D] and `label`, optionally `id`, `group`
    and `split`; `side` where labels name pairs of two kinds, `pair` where they score pairs, `token` (the word) where
    they are of tokens. Further files named by --against are its baselines, joined by id.

    Nothing is pretrained. A run is judged on its own seal, and by its own target and metric where no target is named:
    labels that it did not have yet join training only.

    Args:
        encoder: A run folder, an exported folder, hf:FOLDER_OR_NAME, package.module:function (from batches to features;
            in Python the function itself), or a file of embeddings.
        data: A folder of images, a table, arrays, or the built-in `digits`; nothing for a file of embeddings, or for
            a run folder that shall be judged anew on its own data. In Python also a `tacit.evaluation.Labelled`, which
            `tacit.evaluation.evaluate` judges without importing any training.
        against: Encoders, or files of embeddings, to be judged as further baselines. May be repeated.
        budget: A time for the whole command (90s, 10m): what does not fit is given up, and named; none by default. The
            least that gives a verdict is always judged.
        out: A folder for report.html, report.json and what `tacit compare` needs; none are written without it.
        seed: Of splits and draws; a seal brings its own.
        primary_budget: Labels per class (or in all, where labels have no classes) at which the verdict is given.
        label_budgets: Judge at these many labels alone, such as "10 per class" or "5 %"; by default at 1 to 100 per
            class and at 1, 10 and 100 %. May be repeated.
        metric: What the verdict is about: balanced_accuracy, accuracy, macro_f1, auroc or average_precision of classes;
            r2 or d2_absolute_error of numbers; ndcg@10/test-gallery or recall@1/test-gallery of searches;
            spearman/cosine of scored pairs; ndcg@10/full/seen-filtered or hr@10/full/seen-filtered of recommendations;
            ...
        train_every_budget: Train from scratch and fine-tune at every label budget, not at the primary one alone.
        seal: A run folder or its seal.json to take the test set from; transductive where the encoder's run saw it.
        device: auto, cpu, cuda or mps.
        private: Leave every example, id, path and text out of the report, the terminal and the errors.
        offline: Use no network, also for hf: names.
        overwrite: Replace the report in the folder.
        trust: Open the data that a run folder names, also where the folder was not made here by you, or was changed.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    if hasattr(data, "answers"):  # a `Labelled`, which needs neither data to be opened nor anything that trains
        from tacit.core.budget import command_began, judging_deadline
        from tacit.evaluation import evaluate as judge

        ends = judging_deadline(budget, command_began())
        asked: dict[str, Any] = {"primary": primary_budget, "budgets": label_budgets, "metric": metric, "seed": seed}
        return judge(encoder, data, deadline=ends, **asked)
    from tacit.experiment.folder import is_run

    remembered = data is None and isinstance(encoder, str | Path) and is_run(Path(encoder))
    if not remembered and (data is None or str(encoder).endswith((".parquet", ".npz"))):
        from tacit.commands.embedded import evaluate_embedded

        return evaluate_embedded(encoder, data, given, options)
    from tacit.commands.evaluating import evaluate_one

    return evaluate_one(encoder, data, given, options)


@guarded
def compare(*runs: str, primary_budget: int | str | None = None, private: bool = False) -> Comparison:
    """Compare runs that were judged on one seal, paired on the same draws and test items.

    Different seals are refused. The seal's counter stays as it is, because no label is read: the judgements kept what
    they had read in predictions.npz. Folders are those of `tacit run` and of `tacit evaluate --out`.

    Args:
        runs: Two folders or more.
        primary_budget: Labels per class at which the verdicts are given; the first run's by default.
        private: Number the folders in place of naming them.
    """
    from tacit.commands.comparing import compare_runs

    return compare_runs(runs, primary_budget, private=private)


@guarded
def predict(
    run: str,
    data: Any,
    *,
    out: str | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    labelled: Any = None,
    device: str = "auto",
    private: bool = False,
    trust: bool = False,
    offline: bool = False,
    overwrite: bool = False,
    **reading: Any,
) -> Table:
    """Predict the class of every example, or its labels or number: what the run was judged by.

    Columns by the run's target: `id`, `class`, `p(CLASS)` for each class; of several labels each `id`, `labels` (those
    above one half, parted by the run's separator), `p(LABEL)` for each; of numbers `id`, `prediction`. They come from a
    linear probe on the encoder and depth that the run chose, refitted on all labels of the run's data, also the sealed
    ones. The verdict in the report precedes this refit: its figures come from probes that saw fewer labels, so they
    tend to be a little low for this one. It is judged no more.

    The data are read as the run read its own: the same columns, channel, rate, tokenizer and size.

    Args:
        run: A run folder. It remembers how its data and labels were read.
        data: What to predict: a folder of images, a table, arrays, or the built-in `digits`.
        out: The file to write, .csv or .parquet; none is written without it.
        labels: The label file to learn from in place of the run's, or `folders`.
        label_column: The column of labels in place of the run's.
        labelled: The data to learn from, where the run's have moved or were objects in Python.
        device: auto, cpu, cuda or mps.
        private: Print no class and no name; so where the run was private. The file holds what it holds.
        trust: Open the data and label files that the run names, also where the folder was not made here by you, or was
            changed since. Without it such a folder opens nothing: name data and labels by --labelled and --labels.
        offline: Use no network.
        overwrite: Replace the file.
        reading: What of the data to predict is read otherwise: settings of `tacit.open_dataset`, such as a column.
    """
    given = settings(locals())
    from tacit.commands.predicting import predict_data

    return predict_data(run, data, given, reading)
