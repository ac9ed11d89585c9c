"""The pretext tasks: one explicit table, read without importing torch.

To add a task: write one file here and add one line to `TASKS` (see CONTRIBUTING.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from tacit.core.errors import UserError, nearest

if TYPE_CHECKING:
    from tacit.tasks.base import Task


class Entry(NamedTuple):
    family: str
    where: str  # "module:class"
    kinds: tuple[str, ...]  # modalities with a recipe for it
    pretext: str  # what the encoder must learn to do, in a line
    paper: str


TASKS = {
    "simclr": Entry(
        "contrast",
        "tacit.tasks.simclr:SimCLR",
        ("image", "text", "audio", "items"),
        "tell two views of the same example from views of all others",
        "Chen et al. 2020, arXiv:2002.05709",
    ),
    "byol": Entry(
        "self-prediction",
        "tacit.tasks.byol:BYOL",
        ("image", "text", "audio"),
        "predict what a slower copy of the encoder says of another view",
        "Grill et al. 2020, arXiv:2006.07733; Niizumi et al. 2021, arXiv:2103.06695",
    ),
    "rotation": Entry(
        "transformation",
        "tacit.tasks.rotation:Rotation",
        ("image",),
        "say by how many quarter turns an image was rotated",
        "Gidaris et al. 2018, arXiv:1803.07728",
    ),
    "masked": Entry(
        "reconstruction",
        "tacit.tasks.masked:Masked",
        ("image", "text", "audio", "items"),
        "fill in the parts that were hidden",
        "He et al. 2022, arXiv:2111.06377; Xie et al. 2022, arXiv:2111.09886; Devlin et al. 2018, arXiv:1810.04805",
    ),
    "bestrq": Entry(
        "reconstruction",
        "tacit.tasks.masked:Masked",
        ("audio",),
        "say which code of a random quantiser was hidden",
        "Chiu et al. 2022, arXiv:2202.01855",
    ),
    "next": Entry(
        "prediction",
        "tacit.tasks.next:Next",
        ("audio", "items"),
        "say what comes next",
        "Chung et al. 2019, arXiv:1904.03240; Kang & McAuley 2018, arXiv:1808.09781",
    ),
    "wav2vec2": Entry(
        "contrast",
        "tacit.tasks.wav2vec2:Wav2Vec2",
        ("audio",),
        "tell what was hidden from what else was hidden of the same recording",
        "Baevski et al. 2020, arXiv:2006.11477",
    ),
    "simcse": Entry(
        "contrast",
        "tacit.tasks.simclr:SimCLR",
        ("text", "items"),
        "tell the same example under other dropout from all others",
        "Gao et al. 2021, arXiv:2104.08821",
    ),
    "attributes": Entry(
        "prediction",
        "tacit.tasks.next:Next",
        ("items",),
        "say which attributes the next item has",
        "Zhou et al. 2020, arXiv:2008.07873",
    ),
    "electra": Entry(
        "detection",
        "tacit.tasks.electra:Electra",
        ("text",),
        "say which tokens a small generator has replaced",
        "Clark et al. 2020, arXiv:2003.10555",
    ),
}


def check_task(name: str) -> None:
    """UserError with the nearest name where `name` is not in the table; imports nothing."""
    if name not in TASKS:
        raise UserError(f"no pretext task named {name!r}{nearest(name, TASKS)}; `tacit tasks` lists them")


def check_kind(names: Iterable[str], kind: str) -> None:
    """UserError where one of these tasks has no recipe for data of this kind."""
    for name in names:
        if kind not in TASKS[name].kinds:
            fit = ", ".join(task for task, entry in TASKS.items() if kind in entry.kinds)
            raise UserError(f"the task {name!r} has no recipe for data of kind {kind}; choose from {fit}")


def listing() -> str:
    """The table for people."""
    lines = []
    for name, entry in TASKS.items():
        lines.append(f"{name:<10} {entry.family:<15} {', '.join(entry.kinds)}")
        lines += [f"{'':<10} {entry.pretext}", f"{'':<10} {entry.paper}"]
    return "\n".join([*lines, "a weighted sum of several on one encoder: simclr+0.4*rotation"])


def task_class(name: str) -> type[Task]:
    """The class behind a name in `TASKS`."""
    check_task(name)
    module, _, cls = TASKS[name].where.partition(":")
    found: type[Task] = getattr(import_module(module), cls)
    return found


def parse_mixture(text: str) -> dict[str, float]:
    """Read `simclr` or `simclr+0.4*rotation` as names with weights."""
    weights: dict[str, float] = {}
    for term in text.split("+"):
        weight, _, name = (part.strip() for part in term.rpartition("*"))
        check_task(name)
        if name in weights:
            raise UserError(f"the sum {text.strip()!r} names {name!r} twice; name each task once")
        try:
            weights[name] = float(weight) if weight else 1.0
        except ValueError:
            weights[name] = 0.0
        if not 0 < weights[name] < math.inf:
            raise UserError(f"cannot read the weight in {term.strip()!r}; write e.g. simclr+0.4*rotation")
    return weights
