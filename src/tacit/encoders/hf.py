"""Models from a Hugging Face folder or name; no remote code, safetensors only.

Image models are in `hf_image`, text models in `hf_text`, models of sound in `hf_audio`; `hf_folder` reads the files.
"""

from __future__ import annotations

import logging
import re
from copy import deepcopy
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.core.leading import leader
from tacit.core.spec import Spec
from tacit.modalities.hf_folder import check_complete, find_weights, load_model, quiet, read_config
from tacit.modalities.image.hf import HuggingFace, build, differences, read_processing
from tacit.modalities.image.spec import ImageSpec
from tacit.modalities.text import sentence
from tacit.modalities.text.spec import TextSpec

if TYPE_CHECKING:
    from tacit.modalities.audio.hf import HuggingFaceAudio
    from tacit.modalities.text.hf import HuggingFaceText

__all__ = ["HuggingFace", "load", "open_folder", "quiet", "untrained"]

FETCHED = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "README.md"),
    *("model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("[0-9]_*/*.json", "[0-9]_*/model.safetensors", "[0-9]_Transformer/*.txt", "[0-9]_Transformer/*.model"),
)
INPUTS = {"pixel_values": "image", "input_ids": "text", "input_values": "audio", "input_features": "audio"}


def load(name: str, *, offline: bool = False) -> HuggingFace | HuggingFaceText | HuggingFaceAudio:
    """The encoder behind `hf:FOLDER_OR_NAME`; UserError where there is none that can be read."""
    wanted = name.removeprefix("hf:")
    if Path(wanted).is_dir():
        folder = Path(wanted).resolve()
        # The folder's name alone: where it lies on this machine is nobody's business.
        name, source = f"hf:{folder.name}", {"name": folder.name, "revision": None}
    else:
        folder = _fetch(wanted, offline)
        # The hub's cache names snapshots by their commit.
        source = {"name": wanted, "revision": folder.name}
    found, remarks = _opened(name, folder, source, None)
    for remark in remarks if leader() else ():
        logging.getLogger(__name__).warning("%s: %s", name, remark)  # on the terminal, but for --private
    return found


def open_folder(
    name: str, folder: Path, source: dict[str, Any], *, spec: Spec | None = None
) -> HuggingFace | HuggingFaceText | HuggingFaceAudio:
    """Read a folder as `save_pretrained` writes it. `source` is completed by licence and hash.

    `spec` is known where Tacit wrote the folder.
    """
    return _opened(name, folder, source, spec)[0]


def _opened(
    name: str, folder: Path, source: dict[str, Any], spec: Spec | None
) -> tuple[HuggingFace | HuggingFaceText | HuggingFaceAudio, tuple[str, ...]]:
    """The encoder, and what a person should know of how its folder was read."""
    home, folder = folder, sentence.network(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json, so it is no Hugging Face model; pass a folder that has one")
    weights = find_weights(folder)
    hashes = {path.name: sha256(path) for path in weights.files}
    source = {"licence": _licence(home / "README.md"), "sha256": hashes} | source
    # Trainable also where it is loaded amid an evaluation.
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        config = read_config(folder, weights)
        kind = _kind(config)
        if kind == "text":
            from tacit.modalities.text import hf as hf_text

            return hf_text.open_text(
                name, home, folder, config, weights, source, spec if isinstance(spec, TextSpec) else None
            )
        if kind == "audio":
            from tacit.modalities.audio import hf

            return hf.open_audio(name, folder, config, weights, source)
        processing = read_processing(folder, getattr(config, "vision_config", config))
        if isinstance(spec, ImageSpec):
            processing = processing.as_read(spec)
        loaded = load_model(_opener(config), folder, config, weights)
        found = build(name, loaded.model, processing, source)
        check_complete(loaded, found.model)
        found.eval()
        return found, (*loaded.remarks, *processing.remarks, *(differences(found) if spec is None else ()))


def _opener(config: Any) -> Any:
    """AutoModel, or the one class that embeds by such a configuration where AutoModel knows none: of the tower for
    images of a larger model, saved by itself.
    """
    if type(config) in MODEL_MAPPING:
        return AutoModel
    beside = import_module(type(config).__module__.replace("configuration_", "modeling_"))
    for name, cls in vars(beside).items():
        fits = isinstance(cls, type) and issubclass(cls, PreTrainedModel) and cls.__module__ == beside.__name__
        if (
            fits
            and getattr(cls, "config_class", None) is type(config)
            and name.endswith("Model")
            and cls.main_input_name == "pixel_values"
        ):
            return Only(cls)
    return AutoModel


class Only:
    """Opens models of one class as AutoModel does those of all."""

    def __init__(self, cls: type[PreTrainedModel]) -> None:
        self.from_pretrained = partial(_without_remote, cls.from_pretrained)
        self.from_config = partial(_without_remote, cls._from_config)


def _without_remote(opener: Any, *args: Any, trust_remote_code: bool = False, **more: Any) -> Any:
    assert not trust_remote_code
    return opener(*args, **more)


def _kind(config: Any) -> str:
    """What the model of this configuration reads: images where it reads several things, one of them images."""
    if hasattr(config, "vision_config"):
        return "image"
    if hasattr(config, "audio_config"):
        return "audio"
    found = MODEL_MAPPING.get(type(config), None)
    found = found[0] if isinstance(found, tuple) else found
    return INPUTS.get(getattr(found, "main_input_name", ""), "image")


def untrained(encoder: nn.Module) -> HuggingFace | HuggingFaceText | HuggingFaceAudio:
    """The same architecture with weights drawn anew from torch's random numbers."""
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        if isinstance(encoder, HuggingFace):
            # Of its own class: the tower for images of a larger model may have no other opener.
            model = type(encoder.model)._from_config(deepcopy(encoder.model.config), dtype=torch.float32)
            return build(encoder.name, model, encoder.processing, dict(encoder.source))
        from tacit.modalities.audio import hf
        from tacit.modalities.text import hf as hf_text

        if isinstance(encoder, hf.HuggingFaceAudio):
            return hf.untrained(encoder)
        assert isinstance(encoder, hf_text.HuggingFaceText)
        return hf_text.untrained(encoder)


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


def _licence(card: Path) -> str | None:
    """The licence that a model card states in its front matter."""
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license: *['\"]?([^'\"\n]+)", front.group(1), re.MULTILINE) if front else None
    return found.group(1).strip() if found else None
