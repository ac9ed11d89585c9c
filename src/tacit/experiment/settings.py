"""The settings of commands: one frozen dataclass for each concern.

A field is a flag of the command line and a keyword argument in Python; the class's `Args` are its help, and `group` the
heading of its flags. A command's settings are a class that inherits from its concerns. Nothing heavy is imported here,
so that help is instant.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from tacit.modalities import ContentOptions, DataOptions, data_options

# The headings of flags in help: those of data first, in the order of the table of modalities.
OWN = "settings"  # of a command's own
GROUPS = (
    *(OWN, *dict.fromkeys(of.group for of in data_options())),
    *("pretraining", "judging", "this machine", "folder"),
)
# Flags that most people use, shown before all groups.
COMMON = ("labels", "label_column", "tasks", "task", "budget", "encoder", "out", "resume", "private")


@dataclass(frozen=True, kw_only=True)
class Seed:
    """Chance.

    Args:
        seed: The seed of everything random; a seal brings its own split and draws.
    """

    group: ClassVar[str] = "pretraining"

    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Start:
    """The encoder that is trained, and how it is masked.

    Args:
        encoder: convnet, resnet18, resnet50, vit_tiny, vit_small or vit_base for images; bert_bag, and bert_ or
            modernbert_ nano, tiny, small or base for text; audio_convnet, and audio_, audio_causal_, ast_ or wav2vec2_
            nano, tiny, small or base for sound; series_convnet, series_causal, and patchtst_ nano, tiny, small or base
            for time series; sasrec_ and bert4rec_ nano, tiny or small for histories of items; chosen from the data and
            the tasks by default. Of pairs one for each side: image=resnet18,text=bert_nano.
        init: An encoder to go on from with its weights, and of text with its tokenizer: a run folder, an exported
            folder, or hf:FOLDER_OR_NAME. The report of a run compares before with after. Of pairs for one side or
            both: image=RUN,text=hf:NAME.
        add_words: A file of words, one per line, that the tokenizer of --init learns as single tokens: those of a
            trade. Each starts as the mean of the tokens that it was split into.
        mask: How much masked prediction hides: a share of the tokens (0.3), or one that changes over the training
            (0.3:0.15); of text also by what (token, word or span), as in 0.3,span. Chosen by measurement by default.
        freeze: Of pairs, the side whose encoder keeps the weights that it came with, such as image.
    """

    group: ClassVar[str] = "pretraining"

    encoder: str | None = None
    init: str | None = None
    add_words: str | None = None
    mask: str | None = None
    freeze: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The tasks that are compared.

    Args:
        tasks: Names separated by commas; `a+0.4*b` trains one encoder on a weighted sum. `tacit tasks` lists them. By
            default simclr,rotation,masked for images, simclr,masked for sound and time series, simclr for text, next
            for histories of items, and siglip for pairs.
        budget: A time for the whole command (90s, 10m, 2h), or steps or epochs for each task (5000steps, 20epochs).
        seeds: How many times each task is pretrained, each with other initial weights, order and views, under its share
            of the budget. With 1 the verdict is about this checkpoint, with 3 or more about the recipe.
    """

    group: ClassVar[str] = "pretraining"

    tasks: str | None = None
    budget: str = "30m"
    seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class Task:
    """The one task that is trained.

    Args:
        task: The pretext task, or a weighted sum such as simclr+0.4*rotation.
        budget: A time (10m), steps (5000steps) or epochs (20epochs).
    """

    group: ClassVar[str] = "pretraining"

    task: str = "simclr"
    budget: str = "30m"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How a step of training is computed.

    Args:
        batch_size: Examples per step; chosen from the data by default. With auto, the most that fit into memory.
        accumulate: Parts that each step is computed in, one after the other, so that more examples fit into memory.
            Contrast still compares all of them.
        gradient_checkpointing: Compute the activations of each block anew for the backward pass instead of keeping
            them: about a third slower, in a fraction of the memory.
        compile: Compile each block with torch.compile. It was measured not to pay on CPUs; auto is off until it is
            measured to pay elsewhere.
        skip_bad_steps: How many steps (at most 3) may be skipped because their loss is not finite, or jumps: training
            then goes back to its newest checkpoint. With 0, a loss that is not finite ends the run.
    """

    group: ClassVar[str] = "pretraining"

    batch_size: int | Literal["auto"] | None = None
    accumulate: int = 1
    gradient_checkpointing: bool = False
    compile: Literal["auto", "on", "off"] = "auto"
    skip_bad_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """The test set.

    Args:
        seal: A run folder, or its seal.json, whose test set is taken over; labels added since join training only.
    """

    group: ClassVar[str] = "labels and splits"

    seal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Transductive(Sealed):
    """Whether its inputs are pretrained on.

    Args:
        transductive: Pretrain on the test inputs too (never their labels); the report says so.
    """

    group: ClassVar[str] = "labels and splits"

    transductive: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelBudgets:
    """The numbers of labels that are judged at.

    Args:
        primary_budget: Labels per class at which the verdict is given; 10, or the most that fits, by default. Where
            labels have no classes, labels in all; 100 by default.
        label_budgets: Evaluate only at these numbers of labels, such as "10 per class" or "5 %"; by default at 1 to 100
            per class and at 1, 10 and 100 %. May be repeated.
    """

    group: ClassVar[str] = "judging"

    primary_budget: int | str | None = None
    label_budgets: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Judging(LabelBudgets):
    """What an encoder is compared with, and by what.

    Args:
        against: Encoders to compare with as further baselines, e.g. hf:FOLDER_OR_NAME; of a file of embeddings, further
            such files. May be repeated.
        metric: The metric of the verdict and of the choice among tasks: balanced_accuracy, accuracy, macro_f1, auroc
            or average_precision of classes; r2 or d2_absolute_error of numbers; ndcg@10/test-gallery or
            recall@1/test-gallery of searches; spearman/cosine of scored pairs; ndcg@10/full/seen-filtered or
            hr@10/full/seen-filtered of recommendations; ... The target's usual one by default; auroc where one of two
            classes is rarer than 10 %.
        margin: Points below which a difference is of no practical size: what "equivalent" means. By default 1, and 0.2
            of recommendations.
        train_every_budget: Train from scratch and fine-tune at every label budget, not at the primary one alone: ten
            times as long, within the same share of a time budget.
    """

    group: ClassVar[str] = "judging"

    against: list[str] | None = None
    metric: str | None = None
    margin: float | None = None
    train_every_budget: bool = False


@dataclass(frozen=True, kw_only=True)
class Network:
    """Whether the network may be used.

    Args:
        offline: Use no network, also for hf: names.
    """

    group: ClassVar[str] = "this machine"

    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class Device(Network):
    """What computes.

    Args:
        device: auto, cpu, cuda or mps.
    """

    group: ClassVar[str] = "this machine"

    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Processes(Device):
    """How training uses the machine.

    Args:
        precision: Number format to compute in; auto takes the faster one, as measured.
        profile: Print at the end where the time of a step went.
        shard: Shard the weights over the processes of torchrun or srun, for an encoder that one device cannot hold.
        timeout: Seconds that a process waits for another before it ends the run.
    """

    group: ClassVar[str] = "this machine"

    precision: Literal["auto", "32", "bf16"] = "auto"
    profile: bool = False
    shard: bool = False
    timeout: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Private:
    """What is shown.

    Args:
        private: Leave every example, id, path and text out of the report, the log, the terminal and the errors. What to
            hand on of a run folder, and what not, is printed at the end.
    """

    group: ClassVar[str] = "folder"

    private: bool = False


@dataclass(frozen=True, kw_only=True)
class Folder(Private):
    """Where things are written.

    Args:
        out: The folder to write; for a run, runs/ and the name of the data by default. `evaluate` writes none
            without it.
        overwrite: Replace what Tacit wrote in the folder before.
    """

    group: ClassVar[str] = "folder"

    out: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class RunFolder(Folder):
    """The folder of a run.

    Args:
        resume: Continue an interrupted run in the same folder. How it is evaluated may change (--against,
            --metric, --label-budgets, --primary-budget, --train-every-budget): what was trained is kept.
        tensorboard: Write the curves of metrics.jsonl for TensorBoard too, into the run folder.
    """

    group: ClassVar[str] = "folder"

    resume: bool = False
    tensorboard: bool = False


# ---------------------------------------------------------------- how data are read


@dataclass(frozen=True, kw_only=True)
class Reading(DataOptions):
    """How data are read and labelled: the settings of `tacit.open_dataset`."""

    def options(self) -> dict[str, Any]:
        """The settings of `open_dataset`, by name."""
        return {name: getattr(self, name) for name in DataOptions.names()}

    def reading(self) -> dict[str, Any]:
        """Those that are not as they are by default."""
        return {name: value for name, value in self.given().items() if name in DataOptions.names()}


# ---------------------------------------------------------------- of the commands


@dataclass(frozen=True, kw_only=True)
class Settings(Seed, Start, Tasks, Steps, Transductive, Judging, Processes, RunFolder):
    """All settings of an experiment but how its data are read."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings, Reading):
    """Of `tacit run`."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Seed, Start, Task, Steps, Transductive, Processes, RunFolder, Reading):
    """Of `tacit pretrain`."""


@dataclass(frozen=True, kw_only=True)
class InspectSettings(Seed, Start, Tasks, LabelBudgets, Network, Private, Reading):
    """Of `tacit inspect`."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Seed, Sealed, Judging, Device, Folder, Reading):
    """Of `tacit evaluate`.

    Args:
        budget: A time for the whole command (90s, 10m): what does not fit is given up, and named; none by default. The
            least that gives a verdict is always judged.
        trust: Open the data that a run folder names, also where the folder was not made here by you, or was changed.
    """

    group: ClassVar[str] = "judging"

    budget: str | None = None
    trust: bool = False


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(Device, Reading):
    """Of `tacit embed`.

    Args:
        out: The Parquet file to write, or the folder.
        words: Embed every word of a text, as its list of words or its blanks part it.
        of_items: Embed every item that the encoder knows.
        batch_size: Examples at a time; embeddings do not depend on it.
        timeout: Seconds after which a process that waits for another one in vain ends the work.
        overwrite: Replace the file or the folder.
    """

    group: ClassVar[str] = OWN

    out: str
    words: bool = False
    of_items: bool = False
    batch_size: int = 256
    timeout: float = 600.0
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class OfARun(Device):
    """What is done with the folder of a run.

    Args:
        trust: Open the data and label files that the run names, also where the folder was not made here by you, or was
            changed since. Without it such a folder opens nothing: name data and labels yourself.
        overwrite: Replace the file.
    """

    group: ClassVar[str] = OWN

    trust: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class PredictSettings(OfARun, ContentOptions):
    """Of `tacit predict`.

    Args:
        out: The file to write, .csv or .parquet; none is written without it.
        labels: The label file to learn from in place of the run's, or `folders`.
        label_column: The column of labels in place of the run's.
        labelled: The data to learn from, where the run's have moved or were objects in Python.
        by_group: One answer for each patient, or recording: the mean over its examples, by the id of the first.
        private: Print no class and no name; so where the run was private. The file holds what it holds.
    """

    group: ClassVar[str] = OWN

    out: str | None = None
    labels: str | None = None
    label_column: str | None = None
    labelled: Any = None
    by_group: bool = False
    private: bool = False

    def reading(self) -> dict[str, Any]:
        """What is read otherwise than the run read its own, by name."""
        return {name: value for name, value in self.given().items() if name in ContentOptions.names()}


@dataclass(frozen=True, kw_only=True)
class NextLabelsSettings(OfARun, Reading):
    """Of `tacit next-labels`.

    Args:
        n: How many to choose.
        out: The CSV file to write; none is written without it.
        method: auto takes the margin from 5 labels per class on; typiclust also serves targets without classes.
        private: Print no name and no class; so where the run was private. The file names what is to be labelled.
    """

    group: ClassVar[str] = OWN

    n: int = 50
    out: str | None = None
    method: Literal["auto", "typiclust", "margin"] = "auto"
    private: bool = False


def settings_of(settings: Reading, **others: Any) -> Settings:
    """The settings of an experiment: those of a command, the `others`, and defaults for the rest."""
    given = {field.name: getattr(settings, field.name) for field in fields(Settings) if hasattr(settings, field.name)}
    if given.get("budget") is None:  # of `tacit evaluate`, which need not have one
        given.pop("budget", None)
    return Settings(**{**given, **others})
