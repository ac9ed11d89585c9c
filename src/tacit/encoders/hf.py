"""Models from a Hugging Face folder or name, through AutoModel; no remote code, safetensors only.

Image models are here, text models in `hf_text`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging

from tacit.encoders.base import ImageEncoder
from tacit.errors import UserError
from tacit.files import sha256
from tacit.nn import to_float
from tacit.spec import ImageSpec, Spec, TextSpec
from tacit.types import Batch, Features

if TYPE_CHECKING:
    from tacit.encoders.hf_text import HuggingFaceText

FETCHED = (
    *("config.json", "preprocessor_config.json", "README.md", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
LUMA = (0.299, 0.587, 0.114)


class HuggingFace(ImageEncoder):
    """A Hugging Face vision model that answers with tokens [B N D] or a map [B D H W].

    Takes images of any size and of 1 or 3 channels and fits them to the model itself, so that it can be compared with
    other encoders on the same batches. Tokens in front of the patches (CLS, registers) are left out.
    """

    def __init__(self, name: str, model: PreTrainedModel, spec: ImageSpec, source: dict[str, Any]) -> None:
        answer = model(torch.zeros(1, spec.channels, spec.size, spec.size), output_hidden_states=True)
        last = answer.last_hidden_state
        freeze_unused(model, last)
        is_map = last.ndim == 4
        places = math.prod(last.shape[2:]) if is_map else last.shape[1]
        patches = (spec.size // _number(getattr(model.config, "patch_size", None) or spec.size)) ** 2
        prefix = places - patches if not is_map and 1 < patches <= places else 0
        side = math.isqrt(places - prefix)
        if side**2 != places - prefix:
            raise UserError(f"the {places - prefix} tokens of {name} form no square; choose a model of square images")
        hidden = answer.hidden_states or ()
        super().__init__(
            name,
            spec,
            dim=last.shape[1] if is_map else last.shape[2],
            n_depths=max(0, len(hidden) - 1),
            grid=(side, side),
            stride=-(-spec.size // side),
        )
        self.prefix = prefix
        self.source = source
        self.model = model
        self.mask_token = nn.Parameter(torch.zeros(spec.channels), requires_grad=False)
        self.pooling = "last_hidden_state.mean((2, 3))" if is_map else f"last_hidden_state[:, {prefix}:].mean(1)"

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.normalise(batch), depths)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        return self.features(self.hide(self.normalise(batch), mask), ())

    def features(self, x: Tensor, depths: Sequence[int]) -> Features:
        answer = self.model(x, output_hidden_states=bool(depths))
        tokens = self.tokens(answer.last_hidden_state)
        pooled = tokens.mean(1)
        found = tuple(
            pooled if depth == self.n_depths - 1 else self.tokens(answer.hidden_states[depth + 1]).mean(1)
            for depth in depths
        )
        return Features(tokens, pooled, grid=self.grid, depths=found)

    def tokens(self, hidden: Tensor) -> Tensor:
        """A map [B D H W] or a sequence [B P+N D] as tokens [B N D]."""
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, self.prefix :]

    def normalise(self, batch: Batch) -> Tensor:
        image = to_float(batch["image"])
        if image.shape[1] != self.spec.channels:
            if self.spec.channels == 1:
                image = (image * torch.tensor(LUMA, device=image.device)[:, None, None]).sum(1, keepdim=True)
            else:
                image = image.expand(-1, self.spec.channels, -1, -1)
        if image.shape[2:] != (self.spec.size, self.spec.size):
            image = nn.functional.interpolate(
                image, (self.spec.size, self.spec.size), mode="bilinear", antialias=True, align_corners=False
            )
        return (image - self.mean) / self.std

    def hugging_face(self) -> PreTrainedModel:
        return self.model


def freeze_unused(model: PreTrainedModel, answer: Tensor) -> None:
    """Parameters that the tokens do not depend on (poolers, other heads) cannot learn; let no optimiser have them."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(answer.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def load(name: str, *, offline: bool = False) -> HuggingFace | HuggingFaceText:
    """The encoder behind `hf:FOLDER_OR_NAME`; UserError where there is none that can be read."""
    wanted = name.removeprefix("hf:")
    if Path(wanted).is_dir():
        folder = Path(wanted).resolve()
        # The folder's name alone: where it lies on this machine is nobody's business.
        return open_folder(f"hf:{folder.name}", folder, {"name": folder.name, "revision": None})
    folder = _fetch(wanted, offline)
    # The hub's cache names snapshots by their commit.
    return open_folder(name, folder, {"name": wanted, "revision": folder.name})


def open_folder(
    name: str, folder: Path, source: dict[str, Any], *, spec: Spec | None = None
) -> HuggingFace | HuggingFaceText:
    """Read a folder as `save_pretrained` writes it. `source` is completed by licence and hash.

    `spec` is known where Tacit wrote the folder.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json, so it is no Hugging Face model; pass a folder that has one")
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise UserError(f"{folder} holds no model.safetensors; Tacit reads no pickled weights, convert them first")
    hashes = {path.name: sha256(path) for path in weights}
    source = {"licence": _licence(folder / "README.md"), "sha256": hashes} | source
    # Trainable also where it is loaded amid an evaluation.
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if _reads_text(config):
                from tacit.encoders import hf_text

                known = spec if isinstance(spec, TextSpec) else None
                return hf_text.open_text(name, folder, config, source, known)
            model = AutoModel.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, dtype=torch.float32
            )
        except UserError:
            raise
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            raise UserError(f"cannot open {folder} as a Hugging Face model: {str(error).splitlines()[0]}") from None
        model = getattr(model, "vision_model", model)  # of a pair of image and text
        if model.main_input_name != "pixel_values":
            raise UserError(f"{name} takes {model.main_input_name}; choose a model of images or of text")
        return HuggingFace(name, model.eval(), _spec(folder, model.config), source).eval()


def _reads_text(config: Any) -> bool:
    """Whether the model of this configuration takes the numbers of tokens, and nothing else."""
    found = MODEL_MAPPING.get(type(config), None)
    found = found[0] if isinstance(found, tuple) else found
    return getattr(found, "main_input_name", None) == "input_ids" and not hasattr(config, "vision_config")


def untrained(encoder: nn.Module) -> HuggingFace | HuggingFaceText:
    """The same architecture with weights drawn anew from torch's random numbers."""
    if not isinstance(encoder, HuggingFace):
        from tacit.encoders import hf_text

        assert isinstance(encoder, hf_text.HuggingFaceText)
        return hf_text.untrained(encoder)
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        model = AutoModel.from_config(encoder.model.config, trust_remote_code=False)
        return HuggingFace(encoder.name, getattr(model, "vision_model", model), encoder.spec, dict(encoder.source))


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and load reports."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _fetch(name: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(FETCHED), local_files_only=offline))
    except HFValidationError:
        raise UserError(f"hf:{name} is neither a folder here nor a name like owner/model") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        where = "in the local cache, and --offline forbids to fetch it" if offline else "to be had from the hub"
        raise UserError(f"hf:{name} is no folder here and not {where} ({type(error).__name__})") from None


def _spec(folder: Path, config: Any) -> ImageSpec:
    """What the model's own preprocessing says of its images; where it is silent, its configuration; else the usual."""
    path = folder / "preprocessor_config.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    size = size or getattr(config, "image_size", None) or 224
    channels = getattr(config, "num_channels", 3)
    plain = not said.get("do_normalize", True)
    mean = [0.0] if plain else said.get("image_mean", [0.5])
    std = [1.0] if plain else said.get("image_std", [0.5])
    if len(mean) != channels:
        mean, std = mean[:1] * channels, std[:1] * channels
    return ImageSpec(_number(size), channels, tuple(mean), tuple(std))


def _number(size: Any) -> int:
    """One side in px of the ways in which a size is written: 224, [224, 224], {"height": 224, ...}."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return int(size[0] if isinstance(size, list | tuple) else size)


def _licence(card: Path) -> str | None:
    """The licence that a model card states in its front matter."""
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license: *['\"]?([^'\"\n]+)", front.group(1), re.MULTILINE) if front else None
    return found.group(1).strip() if found else None
