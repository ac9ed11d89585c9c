"""`tacit evaluate`: an encoder, a run anew, or a file of embeddings.

Embeddings are evaluated without torch, so it is not imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tacit.commands.command import command
from tacit.core.budget import command_began, judging_deadline
from tacit.evaluation import Report
from tacit.experiment.settings import EvaluateSettings


@command(EvaluateSettings)
def evaluate(encoder: Any, data: Any = None, *, settings: EvaluateSettings) -> Report:
    """Evaluate an encoder, a run or a file of embeddings on labelled data, against baselines.

    A run folder needs no data either: `tacit evaluate RUN --against hf:NAME --metric auroc` evaluates all its
    encoders on its own data and sealed test set, chooses among its tasks again, and leaves the folder unchanged.

    A file of embeddings needs no data: .parquet or .npz with `embedding` [N D] and `label`, optionally `id`, `group`
    and `split`; `side` where labels name pairs of two kinds, `pair` where they score pairs, `token` (the word) where
    they are of tokens. Further files named by --against are its baselines, joined by id.

    Nothing is pretrained. A run is evaluated on its own sealed test set, by its own target and metric unless a
    target is named; labels added since join training only.

    Args:
        encoder: A run folder, an exported folder, hf:FOLDER_OR_NAME, package.module:function (from batches to features;
            in Python the function itself), or a file of embeddings.
        data: A folder, a table, arrays, hf:NAME, or the built-in `digits`; none for a file of embeddings, or for
            a run folder that is evaluated again on its own data. In Python also a `tacit.evaluation.Labelled`, which
            `tacit.evaluation.evaluate` judges without importing any training.
    """
    if hasattr(data, "answers"):  # a `Labelled`, which needs no data set and no training code
        from tacit.evaluation import evaluate as judge

        return judge(
            encoder,
            data,
            primary=settings.primary_budget,
            budgets=settings.label_budgets,
            metric=settings.metric,
            margin=settings.margin,
            seed=settings.seed,
            deadline=judging_deadline(settings.budget, command_began()),
        )
    from tacit.experiment.folder import is_run

    remembered = data is None and isinstance(encoder, str | Path) and is_run(Path(encoder))
    if not remembered and (data is None or str(encoder).endswith((".parquet", ".npz"))):
        from tacit.commands.evaluate_file import evaluate_file

        return evaluate_file(encoder, data, settings)
    from tacit.commands.evaluate_encoder import evaluate_encoder

    return evaluate_encoder(encoder, data, settings)
