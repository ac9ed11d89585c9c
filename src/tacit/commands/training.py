"""Pretraining: the commands that train an encoder, or say beforehand what training would need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tacit.commands.settings import guarded, settings

if TYPE_CHECKING:
    from tacit.evaluation import Report
    from tacit.training.loop import Run


@guarded
def run(
    data: Any,
    *,
    tasks: str | None = None,
    budget: str = "30m",
    encoder: str | None = None,
    init: str | None = None,
    add_words: str | None = None,
    mask: str | None = None,
    against: list[str] | None = None,
    out: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    primary_budget: int | str | None = None,
    label_budgets: list[str] | None = None,
    metric: str | None = None,
    train_every_budget: bool = False,
    seal: str | None = None,
    transductive: bool = False,
    batch_size: int | Literal["auto"] | None = None,
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    compile: Literal["auto", "on", "off"] = "auto",
    skip_bad_steps: int = 0,
    device: str = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    profile: bool = False,
    shard: bool = False,
    timeout: float = 600.0,
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

    Started by torchrun or srun, all processes train together; then the first judges, and the others end.

    Args:
        data: A folder of images or of texts, a table (Parquet, CSV, JSONL), arrays (.npy, .npz), or the built-in
            `digits`.
        tasks: Names separated by commas; `a+0.4*b` trains one encoder on a weighted sum. `tacit tasks` lists them. By
            default simclr,rotation,masked for images, simclr for text and sound, and next for histories of items.
        budget: A time for the whole command (90s, 10m, 2h), or steps or epochs for each task (5000steps, 20epochs).
        encoder: convnet, resnet18, resnet50, vit_tiny, vit_small or vit_base for images; bert_bag, and bert_ or
            modernbert_ nano, tiny, small or base for text; audio_convnet, and audio_, audio_causal_, ast_ or wav2vec2_
            nano, tiny, small or base for sound; sasrec_ and bert4rec_ nano, tiny or small for histories of items;
            chosen from the data and the tasks by default.
        init: An encoder to go on from with its weights, and of text with its tokenizer: a run folder, an exported
            folder, or hf:FOLDER_OR_NAME. The report compares before with after.
        add_words: A file of words, one per line, that the tokenizer of --init shall know as a whole: those of a trade.
            Each starts as the mean of the tokens that it was parted into.
        mask: How much masked prediction hides: a share of the tokens (0.3), or one that changes over the training
            (0.3:0.15); of text also by what (token, word or span), as in 0.3,span. Chosen by measurement by default.
        against: Encoders to be judged as further baselines, e.g. hf:FOLDER_OR_NAME. May be repeated.
        out: The run folder; runs/ and the name of the data by default.
        seed: Of everything random.
        seeds: How often each task is pretrained, each time from other weights, in another order and with other views,
            under its share of the budget. With 1 the verdict is about this checkpoint, with 3 or more about the recipe.
        primary_budget: Labels per class at which the verdict is given; 10, or the most that fits, by default. Where
            labels have no classes, labels in all; 100 by default.
        label_budgets: Judge at these many labels alone, such as "10 per class" or "5 %"; by default at 1 to 100 per
            class and at 1, 10 and 100 %. May be repeated.
        metric: What the verdict is about and the choice among tasks too, e.g. auroc; the target's usual one by default.
        train_every_budget: Train from scratch and fine-tune at every label budget, not at the primary one alone: ten
            times as long, and out of the same share of a time budget.
        seal: A run folder, or its seal.json, whose test set is taken over; labels added since join training only.
        transductive: Pretrain on the test inputs too (never their labels); the report says so.
        batch_size: Examples per step; chosen from the data by default. With auto, the most that fit into memory.
        accumulate: Parts that each step is computed in, one after the other, so that more examples fit into memory.
            Contrast still compares all of them.
        gradient_checkpointing: Compute the activations of each block anew for the backward pass in place of keeping
            them: about a third slower, in a fraction of the memory.
        compile: Compile each block with torch.compile. It was measured not to pay on CPUs; auto is off until it is
            measured to pay elsewhere.
        skip_bad_steps: How often at most (3 is the most) a step whose loss is not finite, or jumps, is passed over:
            training then goes back to its newest checkpoint. With 0, what is not finite ends the run.
        device: auto, cpu, cuda or mps.
        precision: Numbers to compute with; auto takes what was measured to pay.
        profile: Say at the end where the time of a step went.
        shard: Cut the weights among the processes of torchrun or srun, for an encoder that one device cannot hold.
        timeout: Seconds after which a process that waits for another one in vain ends the run.
        tensorboard: Write the curves of metrics.jsonl for TensorBoard too, into the run folder.
        private: Leave every example, id, path and text out of the report, the log, the terminal and the errors. What to
            hand on of the run folder, and what not, is said at the end.
        offline: Use no network, also for hf: names.
        resume: Continue an interrupted run in the same folder. What it is judged by may be asked anew (--against,
            --metric, --label-budgets, --primary-budget, --train-every-budget): what was trained is kept.
        overwrite: Replace the run in the folder.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.experiment.pipeline import run_all

    return run_all(data, given, options)


@guarded
def pretrain(
    data: Any,
    *,
    task: str = "simclr",
    budget: str = "30m",
    encoder: str | None = None,
    init: str | None = None,
    add_words: str | None = None,
    mask: str | None = None,
    out: str | None = None,
    seed: int = 0,
    seal: str | None = None,
    transductive: bool = False,
    batch_size: int | Literal["auto"] | None = None,
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    compile: Literal["auto", "on", "off"] = "auto",
    skip_bad_steps: int = 0,
    device: str = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    profile: bool = False,
    shard: bool = False,
    timeout: float = 600.0,
    tensorboard: bool = False,
    private: bool = False,
    offline: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Run:
    """Pretrain by one task, without evaluation.

    Labels, where given, serve the online probe and keep the test examples out. Started by torchrun or srun, all
    processes train together; then the first keeps the encoder, and the others end.

    Args:
        data: A folder of images or of texts, a table, arrays, or the built-in `digits`.
        task: The pretext task, or a weighted sum such as simclr+0.4*rotation.
        budget: A time (10m), steps (5000steps) or epochs (20epochs).
        encoder: A name; chosen from the data by default.
        init: An encoder to go on from: a run folder, an exported folder, or hf:FOLDER_OR_NAME.
        add_words: A file of words, one per line, that the tokenizer of --init shall know as a whole.
        mask: How much masked prediction hides, such as 0.3, 0.3:0.15 or, of text, 0.3,span.
        out: The run folder; runs/ and the name of the data by default.
        seed: Of everything random.
        seal: A run folder, or its seal.json, whose test inputs are held out.
        transductive: Pretrain on the test inputs too.
        batch_size: Examples per step; chosen from the data by default. With auto, the most that fit into memory.
        accumulate: Parts that each step is computed in, one after the other, so that more examples fit into memory.
            Contrast still compares all of them.
        gradient_checkpointing: Compute the activations of each block anew for the backward pass in place of keeping
            them: about a third slower, in a fraction of the memory.
        compile: Compile each block with torch.compile. It was measured not to pay on CPUs; auto is off until it is
            measured to pay elsewhere.
        skip_bad_steps: How often at most (3 is the most) a step whose loss is not finite, or jumps, is passed over:
            training then goes back to its newest checkpoint. With 0, what is not finite ends the run.
        device: auto, cpu, cuda or mps.
        precision: Numbers to compute with; auto takes what was measured to pay.
        profile: Say at the end where the time of a step went.
        shard: Cut the weights among the processes of torchrun or srun, for an encoder that one device cannot hold.
        timeout: Seconds after which a process that waits for another one in vain ends the run.
        tensorboard: Write the curves of metrics.jsonl for TensorBoard too, into the run folder.
        private: Leave every example, id, path and text out of the log, the terminal and the errors.
        offline: Use no network, also for hf: names.
        resume: Continue an interrupted run in the same folder.
        overwrite: Replace the run in the folder.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.experiment.pipeline import pretrain_one

    return pretrain_one(data, given, options)


@guarded
def inspect(
    data: Any,
    *,
    tasks: str | None = None,
    budget: str = "30m",
    encoder: str | None = None,
    init: str | None = None,
    add_words: str | None = None,
    mask: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    primary_budget: int | str | None = None,
    label_budgets: list[str] | None = None,
    private: bool = False,
    offline: bool = False,
    **options: Any,
) -> int:
    """Say what is in the data and what a run could show, without training.

    Args:
        data: A folder of images or of texts, a table, arrays, or the built-in `digits`.
        tasks: The tasks a run would compare.
        budget: The budget a run would have.
        encoder: The encoder a run would train.
        init: The encoder a run would go on from.
        add_words: The words that its tokenizer would learn.
        mask: How much masked prediction would hide.
        seed: Of the split.
        seeds: How often a run would pretrain each task.
        primary_budget: Labels per class at which the verdict would be given.
        label_budgets: The numbers of labels that a run would judge at.
        private: Name no example, class, group or file.
        offline: Use no network, also for hf: names.
        options: How the data are read: the settings of `tacit.open_dataset`.
    """
    given = settings(locals())
    from tacit.commands.inspection import inspect_data

    return inspect_data(data, given, options)
