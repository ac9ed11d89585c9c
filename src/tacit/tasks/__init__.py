"""The pretext tasks: one explicit table, read without importing torch.

To add a task: write one file here and add one line to `TASKS` (see CONTRIBUTING.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tacit.core.errors import UserError, nearest

if TYPE_CHECKING:
    from tacit.tasks.base import Task


class Entry(NamedTuple):
    family: str
    where: str  # "module:class"
    pretext: str  # what the encoder must learn to do, in a line
    paper: str
    using: Mapping[str, str] = MappingProxyType({})  # ingredients that replace those that the class needs


TASKS = {
    "simclr": Entry(
        "contrast",
        "tacit.tasks.simclr:SimCLR",
        "tell two views of the same example from views of all others",
        "Chen et al. 2020, arXiv:2002.05709",
    ),
    "mocov3": Entry(
        "contrast",
        "tacit.tasks.mocov3:MoCoV3",
        "tell what a slower copy of the encoder says of another view from what it says of all others",
        "Chen et al. 2021, arXiv:2104.02057",
    ),
    "nnclr": Entry(
        "contrast",
        "tacit.tasks.nnclr:NNCLR",
        "tell the nearest earlier neighbour of a view from those of all others",
        "Dwibedi et al. 2021, arXiv:2104.14548",
    ),
    "byol": Entry(
        "self-prediction",
        "tacit.tasks.byol:BYOL",
        "predict what a slower copy of the encoder says of another view",
        "Grill et al. 2020, arXiv:2006.07733; Niizumi et al. 2021, arXiv:2103.06695",
    ),
    "simsiam": Entry(
        "self-prediction",
        "tacit.tasks.simsiam:SimSiam",
        "predict the projection of another view, which no gradient reaches",
        "Chen & He 2021, arXiv:2011.10566",
    ),
    "swav": Entry(
        "clustering",
        "tacit.tasks.swav:SwAV",
        "predict from one view the cluster of the other",
        "Caron et al. 2020, arXiv:2006.09882",
    ),
    "barlow": Entry(
        "decorrelation",
        "tacit.tasks.barlow:BarlowTwins",
        "make features equal over two views and different from one another",
        "Zbontar et al. 2021, arXiv:2103.03230",
    ),
    "sigreg": Entry(
        "decorrelation",
        "tacit.tasks.sigreg:SIGReg",
        "bring views together while features stay an isotropic Gaussian",
        "Balestriero & LeCun 2025, arXiv:2511.08544",
    ),
    "vicreg": Entry(
        "decorrelation",
        "tacit.tasks.vicreg:VICReg",
        "bring two views together while features keep their spread and say different things",
        "Bardes et al. 2022, arXiv:2105.04906",
    ),
    "rotation": Entry(
        "transformation",
        "tacit.tasks.rotation:Rotation",
        "say by how many quarter turns an image was rotated",
        "Gidaris et al. 2018, arXiv:1803.07728",
    ),
    "position": Entry(
        "transformation",
        "tacit.tasks.rotation:Rotation",
        "say from which part of a volume some slices are",
        "Taleb et al. 2020, arXiv:2006.03829",
        {"turns": "slabs"},
    ),
    "jigsaw": Entry(
        "transformation",
        "tacit.tasks.jigsaw:Jigsaw",
        "say in which order the pieces of an image were put",
        "Noroozi & Favaro 2016, arXiv:1603.09246",
    ),
    "colour": Entry(
        "reconstruction",
        "tacit.tasks.colour:Colourisation",
        "predict the colours of an image from its grey copy",
        "Zhang et al. 2016, arXiv:1603.08511; Larsson et al. 2017, arXiv:1703.04044",
    ),
    "masked": Entry(
        "reconstruction",
        "tacit.tasks.masked:Masked",
        "fill in the parts that were hidden",
        "He et al. 2022, arXiv:2111.06377; Xie et al. 2022, arXiv:2111.09886; Devlin et al. 2018, arXiv:1810.04805",
    ),
    "data2vec": Entry(
        "self-prediction",
        "tacit.tasks.latent:LatentPrediction",
        "predict what a slower copy of the encoder makes of hidden parts",
        "Baevski et al. 2022, arXiv:2202.03555",
    ),
    "ijepa": Entry(
        "self-prediction",
        "tacit.tasks.latent:LatentPrediction",
        "predict it at hidden blocks from the visible parts alone",
        "Assran et al. 2023, arXiv:2301.08243",
        {"masks": "blocks"},
    ),
    "bestrq": Entry(
        "reconstruction",
        "tacit.tasks.masked:Masked",
        "say which code of a random quantiser was hidden",
        "Chiu et al. 2022, arXiv:2202.01855",
        {"target": "codes"},
    ),
    "next": Entry(
        "prediction",
        "tacit.tasks.next:Next",
        "say what comes next",
        "Chung et al. 2019, arXiv:1904.03240; Kang & McAuley 2018, arXiv:1808.09781",
    ),
    "wav2vec2": Entry(
        "contrast",
        "tacit.tasks.wav2vec2:Wav2Vec2",
        "tell what was hidden from what else was hidden of the same recording",
        "Baevski et al. 2020, arXiv:2006.11477",
    ),
    "simcse": Entry(
        "contrast",
        "tacit.tasks.simclr:SimCLR",
        "tell the same example under other dropout from all others",
        "Gao et al. 2021, arXiv:2104.08821",
        {"views": "dropout"},
    ),
    "attributes": Entry(
        "prediction",
        "tacit.tasks.next:Next",
        "say which attributes the next item has",
        "Zhou et al. 2020, arXiv:2008.07873",
        {"target": "attributes"},
    ),
    "tsdae": Entry(
        "reconstruction",
        "tacit.tasks.tsdae:TSDAE",
        "hold in one vector what rebuilds a text of which most words were left out",
        "Wang et al. 2021, arXiv:2104.06979",
    ),
    "electra": Entry(
        "detection",
        "tacit.tasks.electra:Electra",
        "say which tokens a small generator has replaced",
        "Clark et al. 2020, arXiv:2003.10555",
    ),
    "clip": Entry(
        "contrast",
        "tacit.tasks.clip:Clip",
        "tell which caption belongs to an image, and which image to a caption",
        "Radford et al. 2021, arXiv:2103.00020",
    ),
    "siglip": Entry(
        "contrast",
        "tacit.tasks.siglip:SigLIP",
        "say of every image and every caption whether they belong together",
        "Zhai et al. 2023, arXiv:2303.15343",
    ),
}


def of_whole(name: str) -> str:
    """The task of a name that may begin with the side of pairs that it learns from, as in image:simclr."""
    return name.rpartition(":")[2]


def check_task(name: str) -> None:
    """UserError with the nearest name where `name` is not in the table; imports nothing."""
    name = of_whole(name)
    if name not in TASKS:
        raise UserError(f"no pretext task named {name!r}{nearest(name, TASKS)}; `tacit tasks` lists them")


def task_class(name: str) -> type[Task]:
    """The class of a name in `TASKS`."""
    check_task(name)
    module, _, cls = TASKS[of_whole(name)].where.partition(":")
    found: type[Task] = getattr(import_module(module), cls)
    return found


def needs(name: str) -> frozenset[str]:
    """The ingredients that a modality must have for the task of this name."""
    using = TASKS[of_whole(name)].using
    return frozenset(using.get(need, need) for need in task_class(name).needs)


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
