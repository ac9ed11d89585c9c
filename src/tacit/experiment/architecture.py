"""The encoder of a run: how it is built or loaded, and how every training initialises it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tacit.core import keys
from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.spec import Spec
from tacit.dataset import open_dataset
from tacit.encoders import build_encoder, check_encoder, fresh_twin
from tacit.experiment.log import Log
from tacit.experiment.opening import Opened, open_data, split_data
from tacit.experiment.plan import check_mask_schedule, mask_schedule_of, named_tasks
from tacit.experiment.reading import as_trained, changed_settings, open_encoder
from tacit.experiment.settings import Processes, Settings, Start
from tacit.modalities import architectures, asked_by, combinator, modality_of, sides, those
from tacit.training.engine import Fabric, make_fabric

if TYPE_CHECKING:
    from tacit.evaluation import Seal

RANDOM_SEEDS = 3  # random initialisations that the baseline averages over
MAY_DIFFER = frozenset(those("together"))  # settings that may differ between two trainings of one encoder


@dataclass(frozen=True)
class Architecture:
    """An encoder, and further ones of the same architecture with other weights."""

    encoder: OwnEncoder
    fabric: Fabric
    seed: int
    continued: bool = False  # pretraining goes on from the weights that the encoder came with

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def own(self) -> bool:
        """Whether it is one of Tacit's own, so that its name is never private."""
        return self.name in architectures()

    def seed_of(self, number: int) -> int:
        """The seed of pretraining number `number`, from 1 on; the first is the run's own."""
        return self.seed if number == 1 else keys.fold(self.seed, "pretraining seed", number)

    def start(self, opened: Opened, number: int = 1) -> OwnEncoder:
        """The encoder with which every task begins: new weights for each number, or the given ones.

        New weights may be initialised from counts of the training data, see `Modality.warm_start`.
        """
        if self.continued:
            return copy.deepcopy(self.encoder)
        seed = keys.fold(self.seed_of(number), "encoder")
        new = copy.deepcopy(self.encoder) if number == 1 else fresh_twin(self.encoder, seed)
        started: OwnEncoder = opened.modality.warm_start(new, opened.dataset.cache, opened.split.pretrain)
        return started

    def fresh(self, seed: int) -> OwnEncoder:
        """The same architecture with new weights, which depend on `seed` alone."""
        twin = fresh_twin(self.encoder, seed)
        self.fabric.to_device(twin)
        return twin

    def untrained(self) -> tuple[OwnEncoder, ...]:
        """The same architecture at random initialisation, once per seed of the baseline."""
        seeds = (keys.fold(self.seed, "random-init", number) for number in range(RANDOM_SEEDS))
        return tuple(self.fresh(seed).eval() for seed in seeds)


def build_architecture(
    build: Callable[[Spec], OwnEncoder], spec: Spec, settings: Processes, *, seed: int, continued: bool = False
) -> Architecture:
    """Build the encoder for these data, and set up the device."""
    with torch.random.fork_rng(devices=[]):
        keys.seed_torch(keys.fold(seed, "encoder"))
        encoder = build(spec)
    pays = modality_of(spec).bf16_pays(encoder)
    fabric = make_fabric(device=settings.device, precision=settings.precision, bf16_pays=pays, sharded=settings.shard)
    return Architecture(encoder, fabric, int(seed), continued)


def open_split(
    data: Any,
    options: Mapping[str, Any],
    build: Callable[[Spec], OwnEncoder],
    settings: Settings,
    log: Log,
    *,
    seal: Seal | None = None,
    continued: bool = False,
) -> tuple[Opened, Architecture]:
    """Read the data, build the encoder for them, and seal the test rows, which may depend on the encoder's stride."""
    hiding, private = mask_schedule_of(settings.mask), settings.private
    dataset = open_data(data, options, log, private=private)
    check_mask_schedule(hiding, settings, dataset.kind)
    architecture = build_architecture(build, dataset.spec, settings, seed=settings.seed, continued=continued)
    opened = split_data(
        dataset,
        lambda others: open_dataset(data, **{**options, **others}),
        log,
        seed=settings.seed,
        seal=seal,
        transductive=settings.transductive,
        stride=getattr(architecture.encoder, "stride", 1),
        private=private,
    )
    return opened, architecture


# ---------------------------------------------------------------- which encoder


def chosen_encoder(
    name: str | None, *, offline: bool = False, tasks: Collection[str] = ()
) -> Callable[[Spec], OwnEncoder]:
    """A builder of the named encoder, or of the default one for the data and `tasks`, once the data are known."""
    if name is not None:
        check_encoder(name)
    return lambda spec: build_encoder(name or modality_of(spec).default_encoder(spec, tasks), spec, offline=offline)


def initial_encoder(settings: Start, *, offline: bool = False) -> OwnEncoder | None:
    """The encoder whose weights pretraining starts from: that of --init, or of --encoder hf:NAME."""
    named = settings.encoder if settings.encoder is not None and settings.encoder.startswith("hf:") else None
    if settings.init is not None and settings.encoder is not None:
        raise UserError("--init brings its own architecture; leave --encoder out")
    source = settings.init if settings.init is not None else named
    words = None if settings.add_words is None else _words(Path(settings.add_words))
    if source is None:
        if words is not None:
            raise UserError("--add-words adds to the tokenizer of --init; name an encoder to go on from")
        return None
    encoder = open_encoder(source, offline=offline)
    if words is not None:
        encoder.add_words(words)
    return encoder


def _words(file: Path) -> list[str]:
    """The words of a file, one per line, each once."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--add-words {file} cannot be read: {error}") from None
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    parted = next((word for word in words if len(word.split()) > 1), None)
    if not words or parted is not None:
        found = "no word" if parted is None else f"{parted!r}, which is more than a word"
        raise UserError(f"--add-words {file} holds {found}; write one word per line")
    return words


def as_read_by(encoder: OwnEncoder, options: dict[str, Any]) -> dict[str, Any]:
    """The settings to read training data for this encoder: its own form, unless overridden.

    UserError where the encoder cannot read the data in that form.
    """
    given = changed_settings(options)
    as_trained(encoder, {name: value for name, value in given.items() if name not in MAY_DIFFER})
    return {**options, **modality_of(encoder.spec).options_of(encoder.spec), **given}


def as_judged(encoder: OwnEncoder, options: dict[str, Any]) -> dict[str, Any]:
    """The settings to read evaluation data for this encoder: those of its training, unless overridden."""
    return {**options, **as_trained(encoder, {}), **changed_settings(options)}


def adapted(encoder: OwnEncoder) -> Callable[[Spec], OwnEncoder]:
    """A function that adapts this encoder to the data once they are known."""
    return lambda spec: modality_of(encoder.spec).adapt(encoder, spec)


# ---------------------------------------------------------------- how a run begins


class Beginning(NamedTuple):
    """How the encoder is made once the data are known, and how the data are read for it."""

    build: Callable[[Spec], OwnEncoder]
    options: dict[str, Any]  # of `open_dataset`
    continued: bool  # from weights that it came with


def beginning(settings: Settings, options: dict[str, Any]) -> Beginning:
    """How the settings begin a run: the kind of data that its tasks ask for, and new weights or given ones."""
    tasks = named_tasks(settings)
    if options.get("kind") is None and (kind := asked_by(tasks)) is not None:
        options = {**options, "kind": kind}
    names, sources = by_side(settings.encoder), by_side(settings.init)
    if names or sources or settings.freeze is not None:
        return _of_sides(settings, options, names, sources)
    initial = initial_encoder(settings, offline=settings.offline)
    if initial is None:
        return Beginning(chosen_encoder(settings.encoder, offline=settings.offline, tasks=tasks), options, False)
    return Beginning(adapted(initial), as_read_by(initial, options), True)


def by_side(text: str | None) -> dict[str, str]:
    """`image=resnet18,text=hf:NAME` as what is named for each side of pairs; empty for what names one encoder."""
    terms = [term.strip().partition("=") for term in (text or "").split(",")]
    named = {side: value for side, _, value in terms if side in sides() and value}
    return named if len(named) == len(terms) else {}


def _of_sides(
    settings: Settings, options: dict[str, Any], names: Mapping[str, str], sources: Mapping[str, str]
) -> Beginning:
    """Towers of which some are named, come with weights, or are frozen."""
    if twice := sorted(names.keys() & sources.keys()):
        raise UserError(f"--init brings the architecture of the side {twice[0]}; leave it out of --encoder")
    if (settings.encoder is not None and not names) or (settings.init is not None and not sources):
        raise UserError("--freeze and encoders of sides are of pairs: name each as SIDE=NAME, such as image=resnet18")
    frozen = [side.strip() for side in (settings.freeze or "").split(",") if side.strip()]
    for name in names.values():
        check_encoder(name)
    given = {side: open_encoder(source, offline=settings.offline) for side, source in sources.items()}
    for encoder in given.values():
        options = as_read_by(encoder, options)

    def build(spec: Spec) -> OwnEncoder:
        if not spec.parts:
            raise UserError(f"--encoder, --init and --freeze name sides, and the data are of kind {spec.kind}")
        towers = {side: modality_of(of.spec).adapt(of, spec.parts[side]) for side, of in given.items()}
        name = modality_of(spec).default_encoder(spec, ())
        return build_encoder(name, spec, parts={**names, **towers}, frozen=frozen, offline=settings.offline)

    return Beginning(build, {**options, "kind": combinator()}, bool(given))
