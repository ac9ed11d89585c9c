"""Encoders on disk: `encoder.json`, `encoder.safetensors`, and Hugging Face's files where it can open them.

With Hugging Face's files, `model.safetensors` holds the network and `encoder.safetensors` only what that format has no
place for, so that no weight is stored twice. `encoder.json` names every weights file with its SHA-256.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core import folders
from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.core.records import read_record, reading, write_record
from tacit.core.spec import Spec
from tacit.modalities import modality_named, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder

FORMAT = "tacit-encoder"
VERSION = 1
LONGEST = 1 << 24  # bytes of a description: it holds no list of items or words
DESCRIPTION, WEIGHTS, NETWORK = "encoder.json", "encoder.safetensors", "model.safetensors"
MARK = "encoder"  # the content of its folder's mark
# What an older Tacit wrote into the folder of an encoder or of an export, which had no mark yet.
KNOWN = (
    *(DESCRIPTION, WEIGHTS, NETWORK, "model-?????-of-?????.safetensors", "model.safetensors.index.json"),
    *("config.json", "generation_config.json", "preprocessor_config.json", "FRONT_END.md", "items.parquet"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("1_WordWeights/config.json", "1_WordWeights/model.safetensors", "2_Pooling/config.json"),
    *("encoder.onnx", "onnx.json", "head.json", "head.safetensors"),
)
_CONFIG = "config.json"  # beside the weights; Hugging Face's library builds the network from it
_AGAIN = "export the encoder again"
_INNER = "inner."  # before the names of the weights of an encoder inside another, which has a folder of its own
PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})


@dataclass(frozen=True)
class Saved:
    """The description of an encoder in its folder."""

    name: str
    spec: Spec
    options: dict[str, Any]
    source: dict[str, Any]
    reading: dict[str, Any]


def find(source: Path) -> Path | None:
    """The folder with the encoder: `source`, or `source/encoder` of a run. None where neither is one."""
    if source.suffix in PICKLES:
        raise UserError(f"{source} is a pickle, which could run code; Tacit reads safetensors only")
    for folder in (source, source / "encoder"):
        if (folder / DESCRIPTION).is_file():
            return folder
    pickles = sorted(path.name for path in source.glob("*") if path.suffix in PICKLES) if source.is_dir() else []
    if pickles:
        raise UserError(f"{source} holds a pickle ({pickles[0]}), which could run code; Tacit reads safetensors only")
    return None


def own_files(folder: Path) -> tuple[str, ...]:
    """The patterns of Tacit's own files in the folder of an encoder without a mark; none where it is no such folder."""
    try:
        record = read_record(folder / DESCRIPTION)
        ours = record["format"] == FORMAT and "weights" in record
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return (*KNOWN, *(["README.md"] if (folder / "head.json").is_file() else [])) if ours else ()


def is_own(folder: Path) -> bool:
    """Whether Tacit has written an encoder here, even a damaged one where the folder is marked."""
    return folders.marked(folder) == MARK or bool(own_files(folder))


def remove(folder: Path) -> None:
    """Delete the encoder in this folder, and the folder unless it holds other files."""
    folders.remove_own(folder, own_files(folder))


def write(encoder: OwnEncoder, folder: Path, card: Mapping[str, Any]) -> None:
    """Write `encoder` into an empty folder; `card` is stored in its description unchanged."""
    import torch
    from safetensors.torch import save_file

    for name, part in encoder.parts.items():
        (folder / name).mkdir()
        part.reading = {of: column for of, column in encoder.reading.items() if of in _read_by(part)}
        write(part, folder / name, card)
    state = {
        name: value for name, value in encoder.state_dict().items() if not (encoder.parts and name.startswith(_INNER))
    }
    model = encoder.hugging_face()
    if model is not None:
        from tacit.encoders.hf import quiet

        with quiet():
            model.save_pretrained(folder)
        encoder.write_companions(folder)
        prefix = encoder.opened_as(state)[1]
        inside = {name for name in state if name.startswith(prefix)}
        state = {name: state[name] for name in state.keys() - inside - tied(state, inside).keys()}
    # Copies, because safetensors refuses memory that is shared or laid out channels last.
    whole = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    save_file(whole, folder / WEIGHTS)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "kind": encoder.spec.kind,
        "name": encoder.name,
        "options": encoder.options,
        "spec": encoder.spec_in(folder),
        "dim": encoder.dim,
        "n_depths": encoder.n_depths,
        **encoder.shape(),
        "pooled": encoder.pooling,
        "hugging_face": model is not None,
        "source": encoder.source,
        "reading": encoder.reading,
        "weights": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
        "card": dict(card),
    }
    if (folder / _CONFIG).is_file():
        description["files"] = {_CONFIG: sha256(folder / _CONFIG)}  # a number of it changes what the weights mean
    write_record(folder / DESCRIPTION, description, indent=2)


def _read_by(encoder: OwnEncoder) -> tuple[str, ...]:
    """The settings of reading that mean something to an encoder: those of its modality, and the column of paths."""
    return (*options_of()[encoder.spec.kind].names(), "path_column")


def read(folder: Path) -> Saved:
    """Read the description that `write` wrote; UserError where a file is damaged, missing or newer than this Tacit."""
    description = _description(folder)
    for name, hashed in {**description["weights"], **description["files"]}.items():
        path = folder / name
        if path.parent != folder:
            raise UserError(f"{folder / DESCRIPTION} names {name}, which is no file of its folder; do not trust it")
        if not path.is_file():
            raise UserError(f"{path} is missing; export the encoder again")
        if sha256(path) != hashed:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one in {DESCRIPTION}; export the encoder again")
    with reading(folder / DESCRIPTION, _AGAIN):
        spec = _spec(description, folder)
    return Saved(
        description["name"], spec, description["options"], description["source"], _reading(description.get("reading"))
    )


def _reading(stored: Any) -> dict[str, Any]:
    """How the data of an encoder's training were read: names alone, since the file is untrusted."""
    named = {str(name): value for name, value in stored.items()} if isinstance(stored, dict) else {}
    return {name: value for name, value in named.items() if are_names(value)}


def are_names(value: Any) -> bool:
    """Whether this is a text, or a list of them."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _spec(description: Mapping[str, Any], folder: Path) -> Spec:
    modality = modality_named(description.get("kind", "image"))  # the only modality of older folders
    found: Spec = modality.read_spec(description["spec"], folder)
    return found


def restore(encoder: OwnEncoder, folder: Path) -> None:
    """Put the weights that `write` wrote into `encoder`; UserError where they do not fit."""
    import torch
    from safetensors.torch import load_file

    with reading(folder / WEIGHTS, _AGAIN):
        weights = load_file(folder / WEIGHTS)
    if (folder / NETWORK).is_file():
        from tacit.encoders.hf import quiet

        opener, prefix = encoder.opened_as(weights)
        # Through the library, since its files name the weights as its older versions did. The fork restores the random
        # numbers that it draws for parts which the encoder lacks (a pooler).
        with reading(folder / NETWORK, _AGAIN), quiet(), torch.random.fork_rng(devices=[]):
            model = opener.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
            )
        # The file may hold more than the encoder has: a pooler, see `ViT.hugging_face`.
        state = encoder.state_dict()
        found = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
        weights |= {name: tensor for name, tensor in found.items() if name in state}
        weights |= {name: weights[other] for name, other in tied(state, weights.keys()).items()}
    if encoder.parts:  # read from their own folders
        weights |= {name: value for name, value in encoder.state_dict().items() if name.startswith(_INNER)}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        message = str(error).splitlines()[-1].strip()
        raise UserError(f"the weights in {folder} do not fit {encoder.name}: {message}") from None


def tied(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, str]:
    """The names of a state outside `names` whose weights share memory with one of `names`, each with that name."""
    there = {state[name].data_ptr(): name for name in names if name in state}
    return {name: there[t.data_ptr()] for name, t in state.items() if name not in names and t.data_ptr() in there}


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    with reading(path, f"it may be no description of an encoder at all; {_AGAIN}"):
        record: dict[str, Any] = read_record(path, LONGEST)
        if record["format"] != FORMAT or not isinstance(record["version"], int):
            raise ValueError("it has another form")
    if record["version"] > VERSION:
        raise UserError(
            f"{path} comes from a newer Tacit (format {record['version']}, this one reads {VERSION}); upgrade Tacit"
        )
    with reading(path, _AGAIN):
        record.setdefault("files", {})
        objects = dict.fromkeys(("weights", "files", "spec", "options", "source"), dict)
        for name, type_ in {"name": str, **objects}.items():
            if not isinstance(record[name], type_):
                raise ValueError(f"{name} is {record[name]!r:.40}")
    return record
