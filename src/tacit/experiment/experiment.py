"""What all parts of a command share: the opened data, what is sealed, the architecture, the device, the baselines."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core import keys, ranks
from tacit.core.budget import quickest
from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.masks import Hiding
from tacit.core.secret import own_secret
from tacit.core.spec import Spec
from tacit.core.types import Batch, Encoder, Features
from tacit.core.wording import Ours
from tacit.data.split import Split
from tacit.dataset import Dataset, open_dataset
from tacit.encoders import build_encoder, check_encoder, fresh_twin, is_own, load_encoder
from tacit.encoders.external import as_encoder, import_callable, is_callable_name
from tacit.evaluation.targets import make_target
from tacit.experiment.log import Log
from tacit.experiment.plan import check_hiding, checked_parts, hiding_of
from tacit.experiment.settings import Settings
from tacit.experiment.split import about_seal, split_dataset
from tacit.modalities import modality_of
from tacit.modalities.base import Modality
from tacit.training.engine import Fabric, make_fabric
from tacit.training.stepping import Means

if TYPE_CHECKING:
    from tacit.evaluation import Arm, Seal
    from tacit.modalities.recipe import Recipe

UNTRAINED = "random-init"  # the arm of the untrained twins
BEFORE = "before"  # the arm of the encoder that pretraining went on from
RANDOM_SEEDS = 3  # random initialisations that the baseline averages over
PROBE_ROWS = 1000  # examples at most that the online probe embeds
PROBE_VIEWED = 200  # of these, with two views each: under 3 % of a training of 300 steps
SCRATCH_DRAWS = 3  # label draws that are trained on from scratch
TIMED = 4  # steps of it that its estimate rests on
LONG = 1.0  # seconds of two steps, from which on these are the estimate


@dataclass(frozen=True)
class Study:
    """One opened dataset with its split, and the architecture that is trained or judged on it."""

    data: Any
    options: dict[str, Any]
    dataset: Dataset
    split: Split
    encoder: OwnEncoder
    fabric: Fabric
    ask: Settings
    log: Log
    continued: bool = False  # pretraining goes on from the weights that the encoder came with
    hiding: Hiding | None = None  # by masked prediction, where it is not the usual
    against: tuple[tuple[str, Any], ...] = ()  # what --against names, opened, by its name

    @property
    def modality(self) -> Modality[Any, Any]:
        """What these data are."""
        return modality_of(self.dataset.spec)

    @property
    def data_hash(self) -> str:
        """What reports and encoders call these data; where they are private, a name that tells nobody which they are.

        A plain hash would: whoever has the data can make it too.
        """
        if not self.ask.private:
            return self.dataset.data_hash
        secret = own_secret()
        return "" if secret is None else secret.mark(self.dataset.data_hash.encode(), purpose="tacit.data")

    @property
    def accelerated(self) -> bool:
        """Whether training happens on anything faster than a CPU."""
        return self.fabric.device.type != "cpu"

    @property
    def means(self) -> Means:
        """How the steps of pretraining are computed."""
        ask = self.ask
        return Means(checked_parts(ask.accumulate), ask.compile == "on", ask.gradient_checkpointing)

    def recipe(self, weights: Mapping[str, float], encoder: OwnEncoder, batch_size: int | None = None) -> Recipe:
        """How to pretrain the encoder by a task or a weighted sum of tasks."""
        examples, accelerated = len(self.split.pretrain), self.accelerated
        return self.modality.recipe(
            weights, encoder, examples=examples, batch_size=batch_size, accelerated=accelerated, hiding=self.hiding
        )

    def seed(self, number: int) -> int:
        """The seed of the pretraining of this number, from 1 on; the first is the one that was asked for."""
        return int(self.ask.seed) if number == 1 else keys.fold(self.ask.seed, "pretraining seed", number)

    def start(self, number: int = 1) -> OwnEncoder:
        """The encoder as every task begins with it: new weights for each number, or those that it came with.

        New ones may know what plain counts of the data to learn from say, see `Modality.warm_start`.
        """
        if self.continued:
            return copy.deepcopy(self.encoder)
        seed = keys.fold(self.seed(number), "encoder")
        new = copy.deepcopy(self.encoder) if number == 1 else fresh_twin(self.encoder, seed)
        begun: OwnEncoder = self.modality.warm_start(new, self.dataset.cache, self.split.pretrain)
        return begun

    def fresh(self, seed: int) -> OwnEncoder:
        """The architecture with new weights, which depend on `seed` alone."""
        twin = fresh_twin(self.encoder, seed)
        self.fabric.to_device(twin)
        return twin

    def untrained(self) -> tuple[OwnEncoder, ...]:
        """The architecture at random initialisation, once for each of the seeds that the baseline averages over."""
        seeds = (keys.fold(self.ask.seed, "random-init", number) for number in range(RANDOM_SEEDS))
        return tuple(self.fresh(seed).eval() for seed in seeds)

    @cached_property
    def statistics(self) -> list[Arm]:
        """What plain counts of the data come to, made once: to count histories takes its time."""
        return self.modality.baselines(self.dataset.cache, self.split, self.ask.seed)

    def baselines(self) -> list[Arm]:
        """What every encoder must beat: the same architecture untrained, plain statistics, training on labels alone.

        Where pretraining goes on from given weights, also the encoder as it came.
        """
        from tacit.evaluation import Arm
        from tacit.evaluation.arms import target_of

        name = self.encoder.name
        views = self.modality.scratch_views(self.dataset.spec)
        before = [Arm(BEFORE, "baseline", encoders=(self.start().eval(),), encoder=name)] if self.continued else []
        assert self.split.labelled is not None
        rules = target_of(self.split.labelled).rules(self.split.labelled)
        return [
            Arm(UNTRAINED, "baseline", encoders=self.untrained(), encoder=name),
            *before,
            *self.statistics,
            Arm("scratch", "baseline", build=self.fresh, views=views, encoder=name),
            *(Arm(name, "baseline", rule=rule, encoder="no features") for name, rule in rules.items()),
        ]

    def public_arms(self) -> list[Arm]:
        """The encoders named by --against, on the device; nobody knows whether a person's own function is public."""
        for _, opened in self.against:
            if is_own(opened):
                self.fabric.to_device(opened)
        return list(self._public_arms)

    @cached_property
    def _public_arms(self) -> list[Arm]:
        """Made once: data that are read anew in another form take their time."""
        from tacit.evaluation import Arm

        arms = []
        for name, opened in self.against:
            own = is_own(opened)
            encoder = self.suited(opened) if own else opened
            arms.append(Arm(name, "baseline", encoders=(encoder,), encoder=name, public=True if own else None))
        return arms

    def rest(self) -> None:
        """Take what --against names off the device, whose memory pretraining may need."""
        for _, opened in self.against:
            if is_own(opened):
                opened.to("cpu")

    def suited(self, encoder: OwnEncoder) -> Encoder:
        """The encoder, reading the originals anew where it wants another form than the dataset was opened in."""
        spec, own = self.dataset.spec, encoder.spec
        if spec.kind != own.kind:
            raise UserError(f"the encoder {encoder.name} is of kind {own.kind}, and {self.dataset.name} of {spec.kind}")
        self.fabric.to_device(encoder)
        if self.modality.compatible(spec, own):
            return encoder
        if self.dataset.spans is not None:
            raise UserError(f"the encoder {encoder.name} hears other frames than are judged here; leave it out")
        if self.split.held is not None:
            raise UserError(f"the encoder {encoder.name} knows other items than are recommended here; leave it out")
        return InOwnForm(encoder, open_dataset(self.data, **{**self.options, **self.modality.options_of(own)}))

    def scratch_seconds(self) -> float:
        """An estimate of one training from scratch, from a few steps of it after a few that warm the machine up."""
        from tacit.evaluation.arms import target_of
        from tacit.evaluation.probes.finetune import STEPS, train_on_labels

        labelled = self.split.labelled
        assert labelled is not None
        rows, views = labelled.train[:64], self.modality.scratch_views(self.dataset.spec)
        training = target_of(labelled).trainable(labelled.answers[rows])
        if training is None or labelled.tokens is not None:
            return 0.0
        fit = partial(train_on_labels, self.fresh, labelled.fetch, rows, training, seed=0, views=views)
        warming = quickest(lambda: fit(steps=2), times=1)
        if warming > LONG:  # such steps are hardly warmed up at all, and to repeat them takes minutes
            return STEPS / 2 * warming
        return STEPS / TIMED * quickest(lambda: fit(steps=TIMED))

    def two_views(self, encoder: Encoder, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features [N D] of two views of each of these rows, drawn as contrast draws them: the same ones every time."""
        from tacit.evaluation.features import extract

        views, seed = (
            self.modality.views(self.dataset.spec),
            keys.fold(self.ask.seed, "views to diagnose on"),
        )

        def fetch(view: int, some: NDArray[np.int64]) -> Batch:
            batch = self.dataset.batch(some)
            return views({**batch, "key": keys.batch_keys(seed, 0, torch.from_numpy(some))}, view)

        first, second = (extract(encoder, partial(fetch, view), rows)["pooled"] for view in (0, 1))
        return first, second

    def probe(self) -> Callable[[Any], dict[str, float]]:
        """A callback that measures a task's encoder while it trains, on training labels only.

        `probe` is the target's metric as nearest neighbours have it (of classes, every example is judged by all others
        that are not of its group); beside it, and alone where no whole examples are labelled, the label-free figures.
        Sealed rows are never embedded.
        """
        from tacit.evaluation.arms import target_of
        from tacit.evaluation.features import extract
        from tacit.evaluation.spectrum import diagnose

        labelled = self.split.labelled
        labelled = None if labelled is None or labelled.tokens is not None else labelled
        labelled = None if labelled is None or not len(labelled.train) else labelled
        pool = self.split.pretrain if labelled is None else self.split.rows[labelled.train]
        chance = np.random.default_rng(keys.fold(self.ask.seed, "online probe"))
        chosen = np.sort(chance.permutation(len(pool))[:PROBE_ROWS])
        viewed = np.sort(chance.permutation(chosen)[:PROBE_VIEWED])

        def measure(task: Any) -> dict[str, float]:
            encoder = task.exported["encoder"]
            pooled = extract(encoder, self.dataset.batch, pool[chosen])["pooled"]
            found = diagnose(pooled, views=self.two_views(encoder, pool[viewed])).figures
            if labelled is not None:
                probe = target_of(labelled).glance(labelled, labelled.train[chosen], pooled, encoder)
                found |= {} if probe is None else {"probe": probe}
            return found

        return measure


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


def open_study(
    data: Any,
    ask: Settings,
    options: dict[str, Any],
    log: Log,
    *,
    encoder: Callable[[Spec], OwnEncoder],
    seal: Seal | None = None,
    continued: bool = False,
) -> Study:
    """Read the data, seal the test rows (or take an earlier seal) and set up the device."""
    hiding = hiding_of(ask.mask)
    against = open_against(ask) if ranks.leader() else ()  # who judges; and before data are read, which takes longer
    dataset = open_dataset(data, **options)
    check_hiding(hiding, ask, dataset.kind)
    log(Ours(describe(dataset, private=ask.private)))
    for line in dataset.notes.lines(private=ask.private):
        log(line)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keys.fold(ask.seed, "encoder"))
        built = encoder(dataset.spec)
    split = split_dataset(
        dataset, seed=ask.seed, transductive=ask.transductive, sealed=seal, stride=getattr(built, "stride", 1)
    )
    modality = modality_of(dataset.spec)
    if split.held is not None:
        dataset = replace(dataset, cache=modality.without_held(dataset.cache, split.held))
    if seal is not None and split.seal is not None and split.held is None:
        log(about_seal(dataset, split, private=ask.private))
    elif split.seal is not None and split.untested:
        what = "events are not in the data" if split.held else "test examples are not in the data or have no label"
        log(f"{split.untested:,} of {len(split.seal.items):,} sealed {what}, and are not tested")
    for line in modality.about_held(split) if split.held is not None else ():
        log(Ours(line))
    if split.labelled is not None and split.labelled.tokens is not None:
        log(f"{len(split.labelled.y):,} frames are judged, evenly spread over those in labelled stretches")
    bf16_pays = modality.bf16_pays(built)
    fabric = make_fabric(device=ask.device, precision=ask.precision, bf16_pays=bf16_pays, sharded=ask.shard)
    return Study(data, options, dataset, split, built, fabric, ask, log, continued, hiding, against)


def open_against(ask: Settings) -> tuple[tuple[str, Any], ...]:
    """The encoders and functions that --against names. UserError where one cannot be opened, or is named twice."""
    sources = [str(source) for source in ask.against or ()]
    twice = next((source for n, source in enumerate(sources) if source in sources[:n]), None)
    if twice is not None:
        raise UserError(f"--against {twice} is named twice; name each encoder once")
    names = [f"against {n}" for n in range(1, len(sources) + 1)] if ask.private else sources  # which may be paths
    return tuple((name, _opened(source, ask)) for name, source in zip(names, sources, strict=True))


def _opened(source: str, ask: Settings) -> Any:
    try:
        if is_callable_name(source):
            return as_encoder(import_callable(source), source)
        return load_encoder(source, offline=ask.offline)
    except UserError as error:
        raise UserError(f"--against: {error}") from None


def describe(dataset: Dataset, *, private: bool = False) -> str:
    """The dataset in a line."""
    labels = make_target(dataset.target).describe(dataset, private=private)
    return f"{modality_of(dataset.spec).describe(dataset.cache)}; {labels}"


def chosen_encoder(
    name: str | None, *, offline: bool = False, tasks: Collection[str] = ()
) -> Callable[[Spec], OwnEncoder]:
    """How to build the encoder of this name, or the default one for data and `tasks`, once the data are known."""
    if name is not None:
        check_encoder(name)
    return lambda spec: build_encoder(name or modality_of(spec).default_encoder(spec, tasks), spec, offline=offline)
