"""Hand an encoder on: as Hugging Face's files, as ONNX, or as safetensors alone, and measure that it says the same.

Every export is a folder that `tacit.load_encoder` reads; `hf` and `onnx` add what other programs open. The graph of the
ONNX file takes `image` float32 [B C H W] in [0, 1], any B, and normalises it itself, or `input_ids` and
`attention_mask` int64 [B N], or `audio` float32 [B S] in [-1, 1] and `length` int64 [B], of which it makes log-mel
frames itself, any B and N or S up to a window; it gives `pooled` [B D] and `tokens` [B N D]. `onnx.json` beside it says
so, for programs. With a head the graph is another, see `tacit.formats.head`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.encoders import check_free, written
from tacit.encoders import folder as saved
from tacit.formats import head as classifier
from tacit.formats.onnx import PACKAGES as ONNX_PACKAGES
from tacit.formats.onnx import open_graph, write_graph

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder
    from tacit.formats.head import Head
    from tacit.formats.onnx import Copy, Inputs

Form = Literal["hf", "onnx", "safetensors"]
ONNX_FILE, ONNX_SIDECAR = classifier.ONNX_FILE, "onnx.json"
OUTPUTS = ("pooled", "tokens")
# A float32 network computed by other kernels differs by rounding; more than this is another function.
TOLERANCE = 1e-3


def export(
    encoder: OwnEncoder,
    to: Form,
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
    out = Path(out)
    if to not in get_args(Form):
        raise UserError(f"cannot export to {to!r}; choose {', '.join(get_args(Form))}")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if to == "onnx" and missing:
        raise UserError(f"export to ONNX needs {', '.join(missing)}; install with: pip install 'tacit[onnx]'")
    if to == "hf" and encoder.hugging_face() is None:
        raise UserError(
            f"{encoder.title} has no form in Hugging Face's library; use --to onnx, or --to safetensors, which "
            "tacit.load_encoder reads"
        )
    if to == "onnx" and not getattr(encoder, "traceable", True):
        raise UserError(f"{encoder.name} has no graph, since {encoder.untraceable}; use --to hf")
    check_free(out)
    training = encoder.training
    encoder.eval()
    try:
        with written(out) as folder:
            saved.write(encoder, folder, card or {})
            if head is not None:
                classifier.write(encoder, head, to, folder)
            elif to == "onnx":
                _write_onnx(encoder, folder)
            difference, scale = _compare(encoder, to, folder, head)
            files = sorted(path.name for path in folder.iterdir())
    finally:
        encoder.train(training)
    note = f"largest difference to the original {difference:.1e}, of features up to {scale:.1f}"
    if encoder.hugging_face() is None:
        note += "; Hugging Face's library cannot express this encoder, so there is no config.json"
    from tacit.formats.handover import handover

    if to != "safetensors" and (longer := handover(encoder).longer()):
        note += f"; {longer}"
    done = {"to": to, "out": str(out), "files": files, "difference": difference, "scale": scale, "note": note}
    return done if head is None else {**done, "caller": "; ".join(handover(encoder).left_to_do(head.deep))}


def nameless(encoder: OwnEncoder, head: Head | None) -> tuple[OwnEncoder, Head | None]:
    """The same encoder and head with numbers in place of the ids of items and the names of classes."""
    encoder.forget_names()
    if head is not None:
        head = head._replace(classes=tuple(f"class {number + 1}" for number in range(len(head.classes))))
    return encoder, head


def _compare(encoder: OwnEncoder, to: Form, folder: Path, head: Head | None) -> tuple[float, float]:
    """Largest difference between the copy in `folder` and `encoder`, and the largest feature."""
    import torch

    from tacit.formats.handover import handover

    difference = scale = 0.0
    kind = handover(encoder)
    trial = kind.trial()
    if head is not None and to == "onnx":
        original = classifier.as_function(encoder, head)
        copy = open_graph(folder / ONNX_FILE, classifier.outputs(head))
        trial = (classifier.as_taken(inputs, head) for inputs in trial)
    else:
        original, copy = _as_function(encoder), _open_copy(encoder, to, folder)
    with torch.inference_mode():
        for inputs in trial:
            for ours, theirs in zip(original(inputs), copy(inputs), strict=True):
                theirs = theirs.to(ours)
                if ours.ndim == 3:
                    ours, theirs = kind.compared(ours, inputs), kind.compared(theirs, inputs)
                difference = max(difference, float((ours - theirs).abs().max()))
                scale = max(scale, float(ours.abs().max()))
    if not difference <= TOLERANCE * max(1.0, scale):  # also where it is NaN
        raise RuntimeError(f"the {to} copy is off by {difference:.1e} (features up to {scale:.1f}); it was not kept")
    return difference, scale


def _as_function(encoder: OwnEncoder) -> Copy:
    from tacit.formats.handover import handover

    kind = handover(encoder)

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        features = kind.features(encoder, inputs)
        return features.pooled, features.tokens

    return answer


def _open_copy(encoder: OwnEncoder, to: Form, folder: Path) -> Copy:
    """The copy as its readers open it; safetensors as `tacit.load_encoder` does, into a twin of the encoder."""
    if to == "hf":
        return _open_hugging_face(encoder, folder)
    if to == "onnx":
        return open_graph(folder / ONNX_FILE, OUTPUTS)
    twin = deepcopy(encoder)
    saved.restore(twin, folder)
    return _as_function(twin)


def _open_hugging_face(encoder: OwnEncoder, folder: Path) -> Copy:
    """The copy as anyone opens it without Tacit."""
    from tacit.encoders.hf import quiet
    from tacit.formats.handover import handover

    opener = encoder.opener()
    with quiet():
        model = opener.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    kind = handover(encoder)
    return lambda inputs: kind.read(model, inputs)


def _write_onnx(encoder: OwnEncoder, folder: Path) -> None:
    from tacit.formats.handover import Says, handover

    kind = handover(encoder)
    write_graph(kind.graph(Says(encoder)), kind.example(), folder / ONNX_FILE, OUTPUTS, kind.axes)
    sidecar = {**kind.sidecar(), "sha256": sha256(folder / ONNX_FILE)}
    (folder / ONNX_SIDECAR).write_text(json.dumps(sidecar, indent=2))
