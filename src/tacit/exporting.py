"""Hand an encoder on: as Hugging Face's files, as ONNX, or as safetensors alone, and measure that it says the same.

Every export is a folder that `tacit.load_encoder` reads; `hf` and `onnx` add what other programs open. The graph of the
ONNX file takes `image` float32 [B C H W] in [0, 1], any B, normalises it itself, and gives `pooled` [B D] and
`tokens` [B N D]; `onnx.json` beside it says so, for programs.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tacit.encoders import check_free, saved
from tacit.errors import UserError
from tacit.files import sha256, whole_folder

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.encoders.base import ImageEncoder
    from tacit.spec import ImageSpec

    Copy = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> pooled, tokens

Form = Literal["hf", "onnx", "safetensors"]
ONNX_FILE, ONNX_SIDECAR = "encoder.onnx", "onnx.json"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 2, 7)  # sizes at which the other form is compared
# A float32 network computed by other kernels differs by rounding; more than this is another function.
TOLERANCE = 1e-3


def export(
    encoder: ImageEncoder, to: Form, out: str | Path, *, card: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write `encoder` to the folder `out`, whole or not at all, and compare the copy with the original.

    Returns `to`, `out`, the names of `files`, the largest absolute `difference` of pooled features and tokens between
    copy and original on random and on smooth images, the largest feature there, `scale`, and a `note` in words.
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
            f"{encoder.name} for images of {encoder.spec.size} px has no form in Hugging Face's library; use --to "
            "onnx, or --to safetensors, which tacit.load_encoder reads"
        )
    check_free(out)
    training = encoder.training
    encoder.eval()
    try:
        with whole_folder(out) as folder:
            saved.write(encoder, folder, card or {})
            if to == "onnx":
                _write_onnx(encoder, folder)
            difference, scale = _compare(encoder, to, folder)
            files = sorted(path.name for path in folder.iterdir())
    finally:
        encoder.train(training)
    note = f"largest difference to the original {difference:.1e}, of features up to {scale:.1f}"
    if encoder.hugging_face() is None:
        note += "; Hugging Face's library cannot express this encoder, so there is no config.json"
    return {"to": to, "out": str(out), "files": files, "difference": difference, "scale": scale, "note": note}


def _compare(encoder: ImageEncoder, to: Form, folder: Path) -> tuple[float, float]:
    """Largest difference between the copy in `folder` and `encoder`, and the largest feature."""
    import torch

    opened = {"hf": _open_hugging_face, "onnx": _open_onnx, "safetensors": _open_own}[to](encoder, folder)
    difference = scale = 0.0
    with torch.inference_mode():
        for images in _trial_images(encoder.spec):
            features = encoder({"image": images.to(encoder.mean.device)})
            for ours, theirs in zip((features.pooled, features.tokens), opened(images), strict=True):
                difference = max(difference, float((ours - theirs.to(ours)).abs().max()))
                scale = max(scale, float(ours.abs().max()))
    if not difference <= TOLERANCE * max(1.0, scale):  # also where it is NaN
        raise RuntimeError(f"the {to} copy is off by {difference:.1e} (features up to {scale:.1f}); it was not kept")
    return difference, scale


def _trial_images(spec: ImageSpec) -> Iterator[Tensor]:
    """Noise, and smooth shapes as photographs have them, of their own random numbers; float [B C S S] in [0, 1]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for rows in BATCHES:
        yield torch.rand(rows, spec.channels, spec.size, spec.size, generator=generator)
        coarse = torch.rand(rows, spec.channels, 4, 4, generator=generator)
        yield torch.nn.functional.interpolate(coarse, (spec.size, spec.size), mode="bilinear", align_corners=False)


def _open_own(encoder: ImageEncoder, folder: Path) -> Copy:
    """The copy as `tacit.load_encoder` reads it, put into a twin of the encoder."""
    twin = deepcopy(encoder)
    saved.restore(twin, folder)

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        features = twin({"image": images.to(twin.mean.device)})
        return features.pooled, features.tokens

    return answer


def _open_hugging_face(encoder: ImageEncoder, folder: Path) -> Copy:
    """The copy as anyone opens it without Tacit."""
    from transformers import AutoModel

    from tacit.encoders.hf import quiet

    with quiet():
        model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    mean, std = encoder.mean.cpu(), encoder.std.cpu()

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = model((images - mean) / std).last_hidden_state
        tokens = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, -math.prod(encoder.grid) :]
        return tokens.mean(1), tokens

    return answer


def _open_onnx(encoder: ImageEncoder, folder: Path) -> Copy:
    """The copy as ONNX Runtime computes it on the CPU."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, tokens = session.run(["pooled", "tokens"], {"image": images.numpy()})
        return torch.from_numpy(pooled), torch.from_numpy(tokens)

    return answer


def _write_onnx(encoder: ImageEncoder, folder: Path) -> None:
    import torch

    class Graph(torch.nn.Module):
        """From pixels to the two outputs; what ONNX can name are tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = deepcopy(encoder).cpu()

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            features = self.encoder({"image": image})
            return features.pooled, features.tokens

    spec = encoder.spec
    with _quiet_exporter():
        torch.onnx.export(
            Graph().eval(),
            (torch.zeros(2, spec.channels, spec.size, spec.size),),
            folder / ONNX_FILE,
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=["pooled", "tokens"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    places = math.prod(encoder.grid)
    images = ["batch", spec.channels, spec.size, spec.size]
    sidecar = {
        "input": {"image": {"shape": images, "dtype": "float32", "range": [0, 1]}},
        "output": {
            "pooled": {"shape": ["batch", encoder.dim], "dtype": "float32"},
            "tokens": {"shape": ["batch", places, encoder.dim], "dtype": "float32"},
        },
        "preprocessing": "resize the whole image to the square; the graph subtracts mean and divides by std itself",
        "mean": spec.mean,
        "std": spec.std,
        "sha256": sha256(folder / ONNX_FILE),
    }
    (folder / ONNX_SIDECAR).write_text(json.dumps(sidecar, indent=2))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks on torchvision and its own deprecated calls, which help nobody here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
