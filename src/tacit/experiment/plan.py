"""Check a command's settings before any data are read: its tasks, its seeds, how it computes."""

from __future__ import annotations

from tacit.core.errors import UserError
from tacit.core.masks import UNITS, MaskSchedule
from tacit.experiment.settings import Settings
from tacit.experiment.tasks import check_kind, tasks_of
from tacit.modalities import MODALITIES, modality_named
from tacit.modalities.recipe import hides
from tacit.tasks import parse_mixture

MOST_SKIPPED = 3  # steps: a training that needs more is wrong in itself
FEWEST_SEEDS = 3  # for a claim about a recipe


def named_tasks(settings: Settings) -> set[str]:
    """The single tasks that a command names, also within sums; without names the modality has its default tasks."""
    if not settings.tasks:
        return set()
    return {task for name in task_names(settings.tasks) for task in parse_mixture(name)}


def mixtures_of(text: str | None, kind: str) -> dict[str, dict[str, float]]:
    """The tasks that a run compares, by name: those of the text, or the defaults of the modality."""
    mixtures = {name: parse_mixture(name) for name in task_names(text or modality_named(kind).default_tasks)}
    for weights in mixtures.values():
        check_kind(weights, kind)
    return mixtures


def task_names(text: str) -> list[str]:
    """`a, b` as names; UserError for none, or for one given twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("no task is named; write e.g. --tasks simclr,rotation,masked")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the task {name!r} is named twice; name each once")
    return names


def mask_schedule_of(text: str | None) -> MaskSchedule | None:
    """Parse `--mask` as a mask schedule: `0.3`, `0.3:0.15`, `0.3,span`; UserError for anything else."""
    if text is None:
        return None
    shares, comma, unit = text.partition(",")
    try:
        found = [float(share) for share in shares.split(":")]
    except ValueError:
        found = []
    known = unit.strip() in UNITS or not comma
    if len(found) not in (1, 2) or not all(0 < share < 1 for share in found) or not known:
        raise UserError(
            f"--mask {text}: give a share between 0 and 1 (0.3), one at each end of the training (0.3:0.15), and of "
            f"text perhaps what is hidden ({', '.join(UNITS)}), as in 0.3,span"
        )
    return MaskSchedule(found[0], found[1] if len(found) == 2 else None, unit.strip() or None)


def check_mask_schedule(hiding: MaskSchedule | None, settings: Settings, kind: str) -> None:
    """UserError where no task masks these data, or not by this unit."""
    if hiding is None:
        return
    if hiding.unit is not None and hiding.unit not in modality_named(kind).hidden_by:
        ours = " and ".join(name for name in MODALITIES if hiding.unit in modality_named(name).hidden_by)
        raise UserError(f"--mask {settings.mask}: only {ours} is hidden by {hiding.unit}; give the share alone")
    tasks = named_tasks(settings) or {
        task for name in task_names(modality_named(kind).default_tasks) for task in parse_mixture(name)
    }
    if not any(map(hides, tasks)):
        masking = [task for task in sorted(tasks_of(kind)) if hides(task)]
        raise UserError(
            f"--mask says what masked prediction hides, and no task here masks: name one with --tasks "
            f"({', '.join(masking)}), or leave it out"
        )


def check_settings(settings: Settings) -> None:
    """UserError for a setting that is wrong for any data: raised before they are read, which may take long."""
    from tacit.evaluation.metrics import margin_of
    from tacit.evaluation.sealing import Seal
    from tacit.evaluation.splits import unplanned
    from tacit.evaluation.targets import check_metric

    named_tasks(settings)
    checked_seeds(settings.seeds)
    checked_skips(settings.skip_bad_steps)
    checked_parts(settings.accumulate)
    mask_schedule_of(settings.mask)
    check_machine(settings)
    if settings.seed < 0:
        raise UserError(f"--seed {settings.seed}: give a number from 0 on")
    size = settings.batch_size
    if size is not None and size != "auto" and not (isinstance(size, int) and size > 0):
        raise UserError(f"--batch-size {size}: give examples per step, 1 or more, or auto")
    for budget in [*(settings.label_budgets or ()), settings.primary_budget]:
        if budget is not None:
            unplanned(budget, 1)
    if settings.metric is not None:
        check_metric(settings.metric)
    if settings.margin is not None:
        margin_of(settings.margin)
    if settings.seal is not None:
        Seal.load(settings.seal)


def check_machine(settings: Settings) -> None:
    """UserError where the device is missing, or a setting of computation is invalid."""
    import torch

    here = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if settings.device not in here:
        raise UserError(f"--device {settings.device} is none; choose from {', '.join(here)}")
    if not here[settings.device]:
        raise UserError(
            f"--device {settings.device}: there is none that torch {torch.__version__} can use; leave it out"
        )
    for name, known in {"precision": ("auto", "32", "bf16"), "compile": ("auto", "on", "off")}.items():
        if getattr(settings, name) not in known:
            raise UserError(f"--{name} {getattr(settings, name)} is none; choose from {', '.join(known)}")
    if settings.timeout <= 0:
        raise UserError(f"--timeout {settings.timeout:g}: give the seconds that a process may wait for another one")


def checked_seeds(seeds: int) -> int:
    """The number of pretraining seeds; UserError for one that supports no claim about a checkpoint or a recipe."""
    if seeds != 1 and seeds < FEWEST_SEEDS:
        raise UserError(
            f"--seeds {seeds} supports no claim: 1 judges this checkpoint, {FEWEST_SEEDS} or more judge the recipe"
        )
    return seeds


def checked_skips(steps: int) -> int:
    """How many bad steps may be skipped; UserError for more than `MOST_SKIPPED`."""
    if not 0 <= steps <= MOST_SKIPPED:
        raise UserError(
            f"--skip-bad-steps {steps}: at most {MOST_SKIPPED} can be passed over; where more are bad, lower the "
            "learning rate or look at the data"
        )
    return steps


def checked_parts(parts: int) -> int:
    """How many parts a step is computed in; UserError for less than one."""
    if parts < 1:
        raise UserError(f"--accumulate {parts}: a step is computed in one part at least; give 1 or more")
    return parts
