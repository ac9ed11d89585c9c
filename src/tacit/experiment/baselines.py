"""What a pretrained encoder is compared with: itself untrained, counts, training on the labels, other encoders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tacit.core.budget import quickest
from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.types import Batch, Encoder, Features
from tacit.dataset import Dataset
from tacit.encoders import is_own, load_encoder
from tacit.encoders.external import as_encoder, import_callable, is_callable_name
from tacit.evaluation import Arm
from tacit.evaluation.arms import target_of
from tacit.experiment.architecture import Architecture
from tacit.experiment.opening import Opened
from tacit.training.engine import Fabric

UNTRAINED = "random-init"  # the arm of the untrained twins
BEFORE = "before"  # the arm of the encoder that pretraining started from
TIMED = 4  # steps of a training from scratch that its estimate rests on
LONG = 1.0  # seconds of two steps, from which on these are the estimate

Public = Sequence[tuple[str, Any]]  # what --against names, opened, by its name


def baselines(opened: Opened, architecture: Architecture, public: Public = ()) -> list[Arm]:
    """The baselines that every encoder must beat, in the report's order. Counting and reading data again take time.

    The same architecture untrained, plain counts, training on the labels alone; where pretraining goes on from given
    weights, the encoder before; and the encoders of --against.
    """
    name, own, labelled = architecture.name, architecture.own, opened.split.labelled
    assert labelled is not None
    before = [
        Arm(BEFORE, "baseline", encoders=(architecture.start(opened).eval(),), encoder=name, own=True, own_encoder=own)
    ]
    return [
        Arm(UNTRAINED, "baseline", encoders=architecture.untrained(), encoder=name, own=True, own_encoder=own),
        *(before if architecture.continued else []),
        *opened.modality.baselines(opened.dataset.cache, opened.split, architecture.seed),
        Arm(
            "scratch",
            "baseline",
            build=architecture.fresh,
            views=opened.modality.scratch_views(opened.dataset.spec),
            encoder=name,
            own=True,
            own_encoder=own,
        ),
        *(
            Arm(rule, "baseline", rule=of, encoder="no features", own=True)
            for rule, of in target_of(labelled).rules(labelled).items()
        ),
        *(_public_arm(name, encoder, opened, architecture.fabric) for name, encoder in public),
    ]


def _public_arm(name: str, encoder: Any, opened: Opened, fabric: Fabric) -> Arm:
    """The arm of an encoder of --against; it is unknown whether a user's own function is public."""
    own = is_own(encoder)
    fed = suited(encoder, opened, fabric) if own else encoder
    public = True if own else None
    return Arm(name, "baseline", encoders=(fed,), encoder=name, public=public)


def open_public(sources: Sequence[str] | None, *, offline: bool = False, private: bool = False) -> Public:
    """The encoders and functions that --against names. UserError where one cannot be opened, or is named twice."""
    sources = [str(source) for source in sources or ()]
    twice = next((source for n, source in enumerate(sources) if source in sources[:n]), None)
    if twice is not None:
        raise UserError(f"--against {twice} is named twice; name each encoder once")
    names = [f"against {n}" for n in range(1, len(sources) + 1)] if private else sources  # which may be paths
    return [(name, _opened(source, offline=offline)) for name, source in zip(names, sources, strict=True)]


def _opened(source: str, *, offline: bool) -> Any:
    try:
        if is_callable_name(source):
            return as_encoder(import_callable(source), source)
        return load_encoder(source, offline=offline)
    except UserError as error:
        raise UserError(f"--against: {error}") from None


def on_device(arms: Sequence[Arm], fabric: Fabric | None) -> None:
    """Put the encoders of these arms on the device, or on the CPU, where pretraining needs the memory."""
    for arm in arms:
        for encoder in arm.encoders:
            module: Any = getattr(encoder, "encoder", encoder)  # of `InOwnForm`
            if not is_own(module):
                continue
            if fabric is None:
                module.to("cpu")
            else:
                fabric.to_device(module)


def suited(encoder: OwnEncoder, opened: Opened, fabric: Fabric) -> Encoder:
    """The encoder; it reads the originals again where it needs another form than that of the dataset."""
    dataset, own = opened.dataset, encoder.spec
    if dataset.kind != own.kind:
        raise UserError(f"the encoder {encoder.name} is of kind {own.kind}, and {dataset.name} of {dataset.kind}")
    fabric.to_device(encoder)
    if opened.modality.compatible(dataset.spec, own):
        return encoder
    if dataset.spans is not None:
        raise UserError(f"the encoder {encoder.name} hears other frames than are judged here; leave it out")
    if opened.split.held is not None:
        raise UserError(f"the encoder {encoder.name} knows other items than are recommended here; leave it out")
    return InOwnForm(encoder, opened.again(opened.modality.options_of(own)))


class InOwnForm:
    """An encoder that takes its examples from a dataset opened in its own form, by their rows."""

    def __init__(self, encoder: OwnEncoder, dataset: Dataset) -> None:
        self.encoder, self.dataset = encoder, dataset
        self.dim, self.n_depths = encoder.dim, encoder.n_depths

    def __call__(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        own = self.dataset.batch(batch["index"].cpu().numpy())
        device = next(self.encoder.parameters()).device
        found: Features = self.encoder({name: value.to(device) for name, value in own.items()}, depths=depths)
        return found


def scratch_seconds(opened: Opened, architecture: Architecture) -> float:
    """An estimate of one training from scratch, from a few steps of it after a few that warm the machine up."""
    from tacit.evaluation.probes.finetune import STEPS, train_on_labels

    labelled = opened.split.labelled
    assert labelled is not None
    rows, views = labelled.train[:64], opened.modality.scratch_views(opened.dataset.spec)
    training = target_of(labelled).trainable(labelled.answers[rows])
    if training is None or labelled.tokens is not None:
        return 0.0
    fit = partial(train_on_labels, architecture.fresh, labelled.fetch, rows, training, seed=0, views=views)
    warming = quickest(lambda: fit(steps=2), times=1)
    if warming > LONG:  # warming up matters little for such steps, and repeating them takes minutes
        return STEPS / 2 * warming
    return STEPS / TIMED * quickest(lambda: fit(steps=TIMED))
