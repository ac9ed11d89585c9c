"""What Tacit does, one function a command: the Python API and the command line have the same names and arguments.

Nothing heavy is imported before a function is called, so that help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pyarrow import Table

    from tacit.comparing import Comparison
    from tacit.evaluation import Report
    from tacit.train import Run


def run(
    data: Any,
    *,
    tasks: str = "simclr,rotation,masked",
    budget: str = "30m",
    encoder: str | None = None,
    against: list[str] | None = None,
    out: str | None = None,
    seed: int = 0,
    primary_budget: int | str | None = None,
    seal: str | None = None,
    transductive: bool = False,
    batch_size: int | None = None,
    device: str = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    tensorboard: bool = False,
    private: bool = False,
    offline: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Report:
    """Pretrain by several tasks, choose, prove the transfer, and report.

    Every task trains the same encoder from the same start under the same budget; the choice is made inside the training
    labels; the sealed test labels are read once, for the report. Without labels the report holds the label-free
    diagnosis and says what labels would add.

    Args:
        data: A folder of images, a table (Parquet, CSV, JSONL), arrays (.npy, .npz), or the built-in `digits`.
        tasks: Names separated by commas; `a+0.4*b` trains one encoder on a weighted sum. `tacit tasks` lists them.
        budget: A time for the whole command (90s, 10m, 2h), or steps or epochs for each task (5000steps, 20epochs).
        encoder: convnet, resnet18, resnet50, vit_tiny, vit_small, vit_base, or hf:FOLDER_OR_NAME to continue from;
            chosen from the image size by default.
        against: Encoders to be judged as further baselines, e.g. hf:FOLDER_OR_NAME. May be repeated.
        out: The run folder; runs/ and the name of the data by default.
        seed: Of everything random.
        primary_budget: Labels per class at which the verdict is given; 10, or the most that fits, by default.
        seal: A run folder, or its seal.json, whose test set is taken over; labels added since join training only.
        transductive: Pretrain on the test inputs too (never their labels); the report says so.
        batch_size: Examples per step; chosen from the data by default.
        device: auto, cpu, cuda or mps.
        precision: Numbers to compute with; auto takes what was measured to pay.
        tensorboard: Write the curves of metrics.jsonl for TensorBoard too, into the run folder.
        private: Leave every example, id, path and text out of the report and the log.
        offline: Use no network, also for hf: names.
        resume: Continue an interrupted run in the same folder.
        overwrite: Replace the run in the folder.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    settings = _settings(locals())
    from tacit.pipeline import run_all

    return run_all(data, settings, options)


def pretrain(
    data: Any,
    *,
    task: str = "simclr",
    budget: str = "30m",
    encoder: str | None = None,
    out: str | None = None,
    seed: int = 0,
    seal: str | None = None,
    transductive: bool = False,
    batch_size: int | None = None,
    device: str = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    tensorboard: bool = False,
    private: bool = False,
    offline: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Run:
    """Pretrain by one task, without evaluation.

    Labels, where given, serve the online probe and keep the test examples out.

    Args:
        data: A folder of images, a table, arrays, or the built-in `digits`.
        task: The pretext task, or a weighted sum such as simclr+0.4*rotation.
        budget: A time (10m), steps (5000steps) or epochs (20epochs).
        encoder: A name, or hf:FOLDER_OR_NAME to continue from; chosen from the image size by default.
        out: The run folder; runs/ and the name of the data by default.
        seed: Of everything random.
        seal: A run folder, or its seal.json, whose test inputs are held out.
        transductive: Pretrain on the test inputs too.
        batch_size: Examples per step; chosen from the data by default.
        device: auto, cpu, cuda or mps.
        precision: Numbers to compute with; auto takes what was measured to pay.
        tensorboard: Write the curves of metrics.jsonl for TensorBoard too, into the run folder.
        private: Leave every example, id, path and text out of the log.
        offline: Use no network, also for hf: names.
        resume: Continue an interrupted run in the same folder.
        overwrite: Replace the run in the folder.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    settings = _settings(locals())
    from tacit.pipeline import pretrain_one

    return pretrain_one(data, settings, options)


def inspect(
    data: Any,
    *,
    tasks: str = "simclr,rotation,masked",
    budget: str = "30m",
    encoder: str | None = None,
    seed: int = 0,
    primary_budget: int | str | None = None,
    offline: bool = False,
    **options: Any,
) -> int:
    """Say what is in the data and what a run could show, without training.

    Args:
        data: A folder of images, a table, arrays, or the built-in `digits`.
        tasks: The tasks a run would compare.
        budget: The budget a run would have.
        encoder: The encoder a run would train.
        seed: Of the split.
        primary_budget: Labels per class at which the verdict would be given.
        offline: Use no network, also for hf: names.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    settings = _settings(locals())
    from tacit.inspection import inspect_data

    return inspect_data(data, settings, options)


def evaluate(
    encoder: Any,
    data: Any = None,
    *,
    against: list[str] | None = None,
    out: str | None = None,
    seed: int = 0,
    primary_budget: int | None = None,
    seal: str | None = None,
    device: str = "auto",
    private: bool = False,
    offline: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Report:
    """Judge an encoder on labelled data against the mandatory baselines, or embeddings that are made already.

    A file of embeddings needs no data: .parquet or .npz with `embedding` [N D] and `label`, optionally `id`, `group`
    and `split`. Further files named by --against are its baselines, joined by id.

    Nothing is pretrained. A run is judged on its own seal: labels that it did not have yet join training only.

    Args:
        encoder: A run folder, an exported folder, hf:FOLDER_OR_NAME, package.module:function (from batches to features;
            in Python the function itself), or a file of embeddings.
        data: A folder of images, a table, arrays, or the built-in `digits`; nothing for a file of embeddings.
        against: Encoders, or files of embeddings, to be judged as further baselines. May be repeated.
        out: A folder for report.html, report.json and what `tacit compare` needs; none are written without it.
        seed: Of splits and draws; a seal brings its own.
        primary_budget: Labels per class at which the verdict is given.
        seal: A run folder or its seal.json to take the test set from; transductive where the encoder's run saw it.
        device: auto, cpu, cuda or mps.
        private: Leave every example, id, path and text out of the report.
        offline: Use no network, also for hf: names.
        overwrite: Replace the report in the folder.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    settings = _settings(locals())
    if data is None or str(encoder).endswith((".parquet", ".npz")):
        from tacit.embedded import evaluate_embedded

        return evaluate_embedded(encoder, data, settings, options)
    from tacit.pipeline import evaluate_one

    return evaluate_one(encoder, data, settings, options)


def predict(
    run: str,
    data: Any,
    *,
    out: str | None = None,
    labels: str | None = None,
    label_column: str | None = None,
    labelled: Any = None,
    image_column: str | None = None,
    path_column: str | None = None,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
) -> Table:
    """Predict the class of every example, with the probabilities of all classes.

    Columns: `id`, `class`, `p(CLASS)` for each class, by a linear probe on the encoder and depth that the run chose,
    refitted on all labels of the run's data, also the sealed ones. The verdict in the report precedes this refit: its
    figures come from probes that saw fewer labels, so they tend to be a little low for this one. It is judged no more.

    Args:
        run: A run folder. It remembers how its data and labels were read.
        data: What to predict: a folder of images, a table, arrays, or the built-in `digits`.
        out: The file to write, .csv or .parquet; none is written without it.
        labels: The label file to learn from in place of the run's, or `folders`.
        label_column: The column of labels in place of the run's.
        labelled: The data to learn from, where the run's have moved or were objects in Python.
        image_column: The table's column of encoded images; the run's by default.
        path_column: The table's column of paths to images; the run's by default.
        device: auto, cpu, cuda or mps.
        offline: Use no network.
        overwrite: Replace the file.
    """
    settings = _settings(locals())
    from tacit.predicting import predict_data

    return predict_data(run, data, settings)


def compare(*runs: str, primary_budget: int | str | None = None) -> Comparison:
    """Compare runs that were judged on one seal, paired on the same draws and test items.

    Different seals are refused. The seal's counter stays as it is, because no label is read: the judgements kept what
    they had read in predictions.npz. Folders are those of `tacit run` and of `tacit evaluate --out`.

    Args:
        runs: Two folders or more.
        primary_budget: Labels per class at which the verdicts are given; the first run's by default.
    """
    from tacit.comparing import compare_runs

    return compare_runs(runs, primary_budget)


def embed(
    encoder: Any,
    data: Any,
    *,
    out: str,
    batch_size: int = 256,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> int:
    """Write the embedding of every example to a Parquet file.

    Columns: `id`, `embedding` (a list of fixed size) and the input's own columns. Writes whole or not at all.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        data: A folder of images, a table, arrays, or the built-in `digits`.
        out: The Parquet file to write.
        batch_size: Examples at a time; embeddings do not depend on it.
        device: auto, cpu, cuda or mps.
        offline: Use no network, also for hf: names.
        overwrite: Replace the file.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    settings = _settings(locals())
    from tacit.embedding import embed_data

    return embed_data(encoder, data, settings, options)


def export(encoder: Any, *, to: Literal["hf", "onnx", "safetensors"] = "hf", out: str, offline: bool = False) -> int:
    """Write an encoder so that others can open it without Tacit.

    Args:
        encoder: A run folder, an exported folder, or hf:FOLDER_OR_NAME.
        to: hf opens with transformers.AutoModel, onnx with any ONNX runtime; safetensors is read by load_encoder.
        out: The folder to write.
        offline: Use no network, also for hf: names.
    """
    from tacit.encoders import load_encoder
    from tacit.exporting import export as write

    done = write(load_encoder(encoder, offline=offline), to, Path(out))
    for key, value in done.items():
        print(f"{key}: {value}")
    return 0


def tasks() -> int:
    """List the pretext tasks, what each must learn, for which data, and the paper."""
    from tacit.tasks import listing

    print(listing())
    return 0


def doctor() -> int:
    """Check this machine: torch against the hardware, known breaks with their fixes, disk, a self-test."""
    from tacit.checkup import run_doctor, trial

    return run_doctor(trial)


def clean(*, cache: str | None = None) -> int:
    """Delete the cache of decoded data.

    Args:
        cache: The cache folder; the usual one by default.
    """
    from tacit.data import clean as clean_cache

    print(f"freed {clean_cache(Path(cache) if cache else None) / 2**20:.1f} MiB")
    return 0


def load_encoder(source: Any, *, offline: bool = False) -> Any:
    """Open a run folder, an exported folder or hf:FOLDER_OR_NAME as a trainable `torch.nn.Module`.

    It embeds batches, `encoder(encoder.prepare(images)).pooled`, where `prepare` takes paths, PIL images or arrays and
    does the exact preprocessing of the training.
    """
    from tacit.encoders import load_encoder as load

    return load(source, offline=offline)


def open_dataset(data: Any, **options: Any) -> Any:
    """Read data once into the cache; see `tacit.data.open_dataset` for the settings."""
    from tacit.data import open_dataset as open_

    return open_(data, **options)


def _settings(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in {"data", "options"}}
