"""Encoders: how to build, save and load them. Imports no torch until one is built.

To add an architecture: write one file in the folder of its modality, with a class derived from the encoder there, and
add one line to `ENCODERS` in its options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core import keys
from tacit.core.errors import UserError, nearest
from tacit.core.folders import whole_folder
from tacit.core.records import reading
from tacit.core.spec import E, Spec, SpecOf
from tacit.encoders import folder as saved
from tacit.modalities import architectures, modality_of, reads

if TYPE_CHECKING:
    from torch import nn

    from tacit.core.encoder import OwnEncoder


def check_encoder(name: str) -> None:
    """UserError with the nearest name where `name` is neither in the table nor `hf:...`; imports nothing."""
    names = architectures()
    if name not in names and not name.startswith("hf:"):
        raise UserError(f"no encoder named {name!r}{nearest(name, names)}; choose {', '.join(names)} or hf:NAME")


def is_own(encoder: object) -> bool:
    """Whether Tacit can save, load and train an encoder."""
    from tacit.core.encoder import OwnEncoder

    return isinstance(encoder, OwnEncoder)


def build_encoder(
    name: str,
    spec: SpecOf[E],
    *,
    offline: bool = False,
    parts: Mapping[str, OwnEncoder | str] | None = None,
    **options: Any,
) -> E:
    """Build an encoder for data of `spec` with random weights from torch's generator; `hf:NAME` has weights of its own.

    `options` are the architecture's: `patch` (px) for ViTs, `width` for ConvNets, `dropout` for Transformers over text,
    sound and events; None is the default. Of an encoder of several modalities `parts` are the encoders of some, or
    their names; others are the default ones. With `offline`, `hf:NAME` uses no network. `hf:NAME` reads text by its own
    tokenizer, whatever `spec` has.
    UserError where the encoder reads another modality.
    """
    check_encoder(name)
    options = {option: value for option, value in options.items() if value is not None}
    if name.startswith("hf:"):
        if options:
            raise UserError(f"the encoder {name} has no option {next(iter(options))!r}: it comes as it is")
        from tacit.encoders import hf

        found: Any = hf.load(name, offline=offline)
        _check_modality(name, found.spec.kind, spec)
        adapted: E = modality_of(spec).adapt(found, spec)
        return adapted
    modality, where = architectures()[name]
    _check_modality(name, modality, spec)
    module, _, cls = where.partition(":")
    build: Any = getattr(import_module(module), cls)
    accepted = build.__init__.__kwdefaults__ or {}
    for option in options.keys() - accepted.keys():
        raise UserError(f"the encoder {name} has no option {option!r}; it has {', '.join(accepted) or 'none'}")
    if not 0 <= options.get("dropout", 0) < 1:
        raise UserError(f"a dropout of {options['dropout']} is no share; choose one of 0 or more, and below 1")
    if spec.parts or parts:
        options["parts"] = _parts(spec, parts or {}, offline=offline)
    encoder: E = build(name, spec, **options)
    encoder.source = {"name": name, "revision": None, "licence": None}
    return encoder


def _parts(spec: Spec, given: Mapping[str, OwnEncoder | str], *, offline: bool) -> dict[str, OwnEncoder]:
    """The encoder of each part of a spec, as given or built. UserError for one that is no part."""
    usual = modality_of(spec).default_parts(spec)
    for part in given:
        if part not in usual:
            raise UserError(f"{part} is no side of these data; theirs are {' and '.join(usual) or 'none'}")
    found: dict[str, OwnEncoder] = {}
    for part, name in usual.items():
        of = given.get(part, name)
        found[part] = build_encoder(of, spec.parts[part], offline=offline) if isinstance(of, str) else of
        _check_modality(found[part].name, found[part].spec.kind, spec.parts[part])
    return found


def _check_modality(name: str, modality: str, spec: Spec) -> None:
    if modality == spec.kind:
        return
    fitting = [encoder for encoder, architecture in architectures().items() if architecture.modality == spec.kind]
    raise UserError(f"{name} reads {reads(modality)}, and the data are {reads(spec.kind)}; choose {', '.join(fitting)}")


def save_encoder(
    encoder: OwnEncoder, folder: str | Path, *, card: Mapping[str, Any] | None = None, within: bool = False
) -> None:
    """Write `encoder` to `folder` atomically, in place of an encoder that may be there.

    `card` (JSON-able: the task, the data's hash, ...) is stored in `encoder.json`. UserError where `folder` holds other
    things; with `within`, in a folder of Tacit's, the encoder is written beside them.
    """
    folder = Path(folder)
    if not within:
        check_free(folder)
    with written(folder) as partial:
        saved.write(encoder, partial, card or {})


def written(folder: Path) -> AbstractContextManager[Path]:
    """A temporary folder to write an encoder into, which then replaces the one in `folder`, see `whole_folder`."""
    return whole_folder(folder, last=saved.DESCRIPTION, what=saved.MARK, known=saved.own_files(folder))


def check_free(folder: Path) -> None:
    """UserError where `folder` is neither free nor one that Tacit has written an encoder into."""
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"{folder} is a link that leads nowhere; choose another --out")
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not free and not (folder.is_dir() and saved.is_own(folder)):
        raise UserError(f"{folder} holds something else than an encoder by Tacit; choose another --out")


def load_encoder(source: str | Path, *, offline: bool = False, module: nn.Module | None = None) -> OwnEncoder:
    """The encoder in a run folder or an exported one, or `hf:FOLDER_OR_NAME`: a trainable module in eval mode.

    `module` is your own, of the same shapes as when the folder was written from `wrap(module, spec)`. UserError
    where there is no encoder, or it is damaged, newer than this Tacit, or pickled.
    """
    if str(source).startswith("hf:"):
        from tacit.encoders import hf

        return hf.load(str(source), offline=offline)
    folder = saved.find(Path(source))
    if folder is None:
        hint = f"; for a Hugging Face model write hf:{source}" if (Path(source) / "config.json").is_file() else ""
        raise UserError(f"there is no encoder at {source}: neither a run nor an exported folder{hint}")
    found = saved.read(folder)
    if found.name.startswith("hf:"):
        from tacit.encoders import hf

        with reading(folder / saved.DESCRIPTION, "export the encoder again"):
            encoder: OwnEncoder = hf.open_folder(found.name, folder, found.source, spec=found.spec)
    elif found.name.startswith("module:"):
        encoder = _own(module, found)
    else:
        with reading(folder / saved.DESCRIPTION, "export the encoder again"):
            encoder = _without_trace(found, folder)
    saved.restore(encoder, folder)
    if found.name.startswith("hf:"):  # what Hugging Face's files do not hold
        encoder = modality_of(found.spec).adapt(encoder, found.spec)
    encoder.source, encoder.reading = found.source, found.reading
    return encoder.eval()


def fresh_twin(encoder: E, seed: int) -> E:
    """The same architecture with new weights, which depend on `seed` alone; torch's generator stays as it is."""
    import torch

    with torch.random.fork_rng(devices=[]):
        keys.seed_torch(seed)
        listed = encoder.name in architectures()
        parts = {part: fresh_twin(of, keys.fold(seed, part)) for part, of in encoder.parts.items()} or None
        twin: OwnEncoder = (
            build_encoder(encoder.name, encoder.spec, parts=parts, **encoder.options) if listed else encoder.untrained()
        )
        return twin  # type: ignore[return-value]  # of the class of `encoder`


def wrap(module: nn.Module, spec: SpecOf[E]) -> E:
    """Wrap `module` as an encoder: it maps normalised float images [B C H W] to [B D], [B N D] or a map [B D H W].

    `spec` describes the images; mean 0 and std 1 pass pixels in [0, 1] on unchanged. UserError for any other output.
    """
    return modality_of(spec).wrap(module, spec)  # type: ignore[return-value]  # it is of this spec


def _own(module: nn.Module | None, found: saved.Saved) -> OwnEncoder:
    if module is None or f"module:{type(module).__name__}" != found.name:
        wanted = found.name.removeprefix("module:")
        raise UserError(f"this encoder is a module of your own; load it with load_encoder(..., module={wanted}(...))")
    return wrap(module, found.spec)


def _without_trace(found: saved.Saved, folder: Path) -> OwnEncoder:
    """Build the architecture without advancing torch's generator; its random weights are replaced at once.

    ValueError as soon as it has more weights than the files of the folder could hold, before these are initialised.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = sum(file.stat().st_size for file in folder.glob("*.safetensors"))  # bytes; a weight takes at least one

    def count(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if weight is None else weight.numel()
        if left < 0:
            raise ValueError("it describes more weights than the files beside it hold")

    parts = {part: load_encoder(folder / part) for part in found.spec.parts} or None
    counting = register_module_parameter_registration_hook(count)
    try:
        with torch.random.fork_rng(devices=[]):
            return build_encoder(found.name, found.spec, parts=parts, **found.options)
    finally:
        counting.remove()
