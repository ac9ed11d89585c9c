"""Export an encoder, and measure that the copy gives the same features.

Every export is a folder that `tacit.load_encoder` reads; a format adds what other programs open.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError
from tacit.core.folders import files_in, marked
from tacit.encoders import check_free, written
from tacit.encoders import folder as saved
from tacit.formats import format_named, handover
from tacit.formats import head as heads
from tacit.formats.base import as_function

if TYPE_CHECKING:
    from tacit.core.encoder import OwnEncoder
    from tacit.formats.base import Copy, Format
    from tacit.formats.head import Head

# A float32 network computed by other kernels differs by rounding; a larger difference means another function.
TOLERANCE = 1e-3


def export(
    encoder: OwnEncoder,
    to: str,
    out: str | Path,
    *,
    card: Mapping[str, Any] | None = None,
    head: Head | None = None,
) -> dict[str, Any]:
    """Write `encoder`, with its `head`, to the folder `out`, whole or not at all, and compare copy and original.

    Returns `to`, `out`, the names of `files`, the largest absolute `difference` of pooled features and tokens between
    copy and original on random inputs (of embedding and answer, where a graph has the head), the
    largest feature there, `scale`, a `note` in words, and with a head `caller`: what is left to do to images first.
    UserError where the encoder has no such form, a package is missing or `out` holds other things.
    """
    out, form = Path(out), format_named(to)
    towers = encoder.parts or {"": encoder}
    if encoder.parts and head is not None:
        raise UserError(f"a head is of one encoder: export that of a side, such as encoder/{next(iter(towers))}")
    for tower in towers.values():
        form.check(tower)
    check_free(out)
    _spare_runs(out)
    training = encoder.training
    encoder.eval()
    try:
        with written(out) as folder:
            saved.write(encoder, folder, card or {})
            found = {name: _added(tower, form, folder / name, head, to) for name, tower in towers.items()}
            files = files_in(folder) if encoder.parts else sorted(path.name for path in folder.iterdir())
    finally:
        encoder.train(training)
    difference, scale = (max(of) for of in zip(*found.values(), strict=True))
    notes = [(f"{name}: " if name else "") + _note(tower, form, *found[name]) for name, tower in towers.items()]
    if encoder.parts:
        notes.append("encoder.safetensors holds the linear map of each side into the space that both share")
    note = "; ".join(notes)
    done = {"to": to, "out": str(out), "files": files, "difference": difference, "scale": scale, "note": note}
    return done if head is None else {**done, "caller": "; ".join(handover(encoder).left_to_do(head.deep))}


def _added(encoder: OwnEncoder, form: Format, folder: Path, head: Head | None, to: str) -> tuple[float, float]:
    """Add the files of a format to the folder of an encoder; the largest difference of the copy, and the scale."""
    if head is None:
        form.write(encoder, folder)
    else:
        heads.write(encoder, head, form, folder)
    both = None if head is None else form.headed(encoder, head, folder)
    original, copy = both or (as_function(encoder), form.copy(encoder, folder))
    return _compare(encoder, original, copy, to)


def _note(encoder: OwnEncoder, form: Format, difference: float, scale: float) -> str:
    note = f"largest difference to the original {difference:.1e}, of features up to {scale:.1f}"
    if encoder.hugging_face() is None:
        note += "; Hugging Face's library cannot express this encoder, so there is no config.json"
    if form.windows and (longer := handover(encoder).longer()):
        note += f"; {longer}"
    return note


def nameless(encoder: OwnEncoder, head: Head | None) -> tuple[OwnEncoder, Head | None]:
    """The same encoder and head with numbers in place of the ids of items and the names of classes."""
    encoder.forget_names()
    if head is not None:
        head = head._replace(classes=tuple(f"class {number + 1}" for number in range(len(head.classes))))
    return encoder, head


def _compare(encoder: OwnEncoder, original: Copy, copy: Copy, to: str) -> tuple[float, float]:
    """Largest difference between copy and original, and the largest feature. RuntimeError where they disagree."""
    import torch

    difference = scale = 0.0
    kind = handover(encoder)
    with torch.inference_mode():
        for inputs in kind.trial():
            for ours, theirs in zip(original(inputs), copy(inputs), strict=True):
                theirs = theirs.to(ours)
                if ours.ndim == 3:
                    ours, theirs = kind.compared(ours, inputs), kind.compared(theirs, inputs)
                difference = max(difference, float((ours - theirs).abs().max()))
                scale = max(scale, float(ours.abs().max()))
    if not difference <= TOLERANCE * max(1.0, scale):  # also where it is NaN
        raise RuntimeError(f"the {to} copy is off by {difference:.1e} (features up to {scale:.1f}); it was not kept")
    return difference, scale


def _spare_runs(out: Path) -> None:
    """UserError where the folder is one that a run has written its encoder into."""
    place = out.absolute()
    for run in place.parents:
        if place.exists() and place.relative_to(run).parts[0] in ("encoder", "encoders") and marked(run) == "run":
            raise UserError(f"{out} is an encoder of the run {run}, which is not replaced; choose another --out")
