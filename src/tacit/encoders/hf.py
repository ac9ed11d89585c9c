"""Models from a Hugging Face folder or name; no remote code, safetensors only.

Every modality opens its own, see `Modality.open_public`; `modalities/hf_folder.py` reads the files.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.core.leading import is_leader
from tacit.core.spec import Spec
from tacit.modalities import MODALITIES, modality_named
from tacit.modalities.base import Modality
from tacit.modalities.hf_folder import Public, find_weights, network, quiet, read_config

__all__ = ["load", "open_folder", "quiet"]

FETCHED = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "README.md"),
    *("model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("[0-9]_*/*.json", "[0-9]_*/model.safetensors", "[0-9]_Transformer/*.txt", "[0-9]_Transformer/*.model"),
)


def load(name: str, *, offline: bool = False) -> OwnEncoder:
    """The encoder behind `hf:FOLDER_OR_NAME`; UserError where there is none that can be read."""
    wanted = name.removeprefix("hf:")
    if Path(wanted).is_dir():
        folder = Path(wanted).resolve()
        # The folder's name alone: its path on this machine is private.
        name, source = f"hf:{folder.name}", {"name": folder.name, "revision": None}
    else:
        folder = _fetch(wanted, offline)
        # The hub's cache names snapshots by their commit.
        source = {"name": wanted, "revision": folder.name}
    found, remarks = _opened(name, folder, source, None)
    for remark in remarks if is_leader() else ():
        logging.getLogger(__name__).warning("%s: %s", name, remark)  # on the terminal, but for --private
    return found


def open_folder(name: str, folder: Path, source: dict[str, Any], *, spec: Spec | None = None) -> OwnEncoder:
    """Read a folder as `save_pretrained` writes it. `source` is completed by licence and hash.

    `spec` is given where Tacit wrote the folder.
    """
    return _opened(name, folder, source, spec)[0]


def _opened(name: str, folder: Path, source: dict[str, Any], spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
    """The encoder, and remarks on how its folder was read."""
    home, folder = folder, network(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json, so it is no Hugging Face model; pass a folder that has one")
    weights = find_weights(folder)
    hashes = {path.name: sha256(path) for path in weights.files}
    source = {"licence": _licence(home / "README.md"), "sha256": hashes} | source
    # Trainable even where it is loaded during an evaluation.
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        config = read_config(folder, weights)
        return _modality(config).open_public(Public(name, home, folder, config, weights, source), spec)


def _modality(config: Any) -> Modality[Any, Any]:
    """The modality that the model of this configuration reads; of several, the first that it has a part for."""
    modalities = [modality_named(name) for name in MODALITIES]
    found = MODEL_MAPPING.get(type(config), None)
    found = found[0] if isinstance(found, tuple) else found
    read = getattr(found, "main_input_name", "")
    parts = (of for of in modalities if of.public_part and hasattr(config, of.public_part))
    return next(parts, next((of for of in modalities if read in of.public_inputs), modalities[0]))


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
