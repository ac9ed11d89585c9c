"""Reads a Hugging Face model's folder as untrusted input: everything is checked before a model is built from it.

Nothing in it is executed. The size of its JSON is bounded, its weights must match their headers, and a configuration
builds nothing larger than the weights allow. No weight stays random: missing and surplus weights are errors that name
them. A prefix that a trainer has put before all names is stripped, with a remark.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from tacit.core.errors import UserError, nearest

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MODULES = "modules.json"  # of a sentence encoder
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")
BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
DROPPED = (  # keys of a configuration that name code, kernels or devices, or choose what a model returns
    *("auto_map", "attn_implementation", "experts_implementation", "custom_pipelines", "use_kernels"),
    *("return_dict", "output_hidden_states", "output_attentions"),
)
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
LONGEST_JSON = 256 << 20  # bytes; a tokenizer of a quarter of a million words has 33 million
LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
FEWEST_PARTS = 48  # layers or experts that any model may have, however few weights: some share weights
MOST_CLASSES = 1 << 20
LARGEST_NUMBER = 1 << 24  # for a size in a configuration
LARGEST_BUFFERS = 1 << 26  # numbers in buffers, which a model computes itself, such as positions
# Keys of a configuration that count parts, each of which is a module of its own and has weights, or shares them.
PARTS = re.compile(r"(^|_)(layers?|depths?|blocks?|stages?|experts?|repeats?|hidden_groups|inner_group_num)$")
UNBOUNDED = re.compile(r"theta|seed|_ids?$|token|param|step|base|factor|eps|value|rate|freq")


# ---------------------------------------------------------------- files


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; UserError where there is none."""
    check_file(path, LONGEST_JSON)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}; download it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object; download it again")
    return found


def check_file(path: Path, most: float = math.inf) -> None:
    """UserError where a path is no file, or the file is empty, implausibly large, or only a git-lfs pointer."""
    if not path.is_file():
        raise UserError(f"{path} is missing, or no plain file; download the folder again")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`")
    if size == 0:
        raise UserError(f"{path} is empty; download it again")
    if size > most:
        raise UserError(f"{path} has {size:,} bytes, more than such a file can have; do not trust it")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


@dataclass(frozen=True)
class Weights:
    """The shapes of the weights in a folder, from the headers of its files."""

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def numbers(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def longest(self) -> int:
        """The longest side of any tensor."""
        return max((max(shape, default=1) for shape in self.shapes.values()), default=1)


def find_weights(folder: Path) -> Weights:
    """The weights that transformers would load from here; UserError where they are pickled, truncated or incomplete."""
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} holds an adapter (adapter_config.json); merge it into its model (merge_and_unload) and save that"
        )
    whole, index = folder / WHOLE, folder / INDEX
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        files = _shards(index)
    else:
        raise UserError(_no_weights(folder))
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        shapes |= read_header(file)
    if not shapes:
        raise UserError(f"{files[0]} holds no weights; download it again")
    return Weights(tuple(files), shapes)


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{index} names no files; download it again")
    strange = next((name for name in sorted(names) if Path(name).name != name or "\\" in name), None)
    if strange is not None:
        raise UserError(f"{index} names {strange}, which is no file of its folder; do not trust it")
    files = [index.parent / name for name in sorted(names)]
    lost = [file.name for file in files if not file.is_file()]
    if lost:
        raise UserError(f"{index.parent} lacks {len(lost)} of {len(files)} files of weights ({lost[0]}); download them")
    return files


def _no_weights(folder: Path) -> str:
    shards = sorted(path.name for path in folder.glob("model-*-of-*.safetensors"))
    if shards:
        return f"{folder} holds a part of the weights ({shards[0]}) and no {INDEX}, which names all; download it"
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        return f"{folder} holds no {WHOLE} but {others[0]}; save the model there with save_pretrained"
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    held = f" but {pickles[0]}, which could run code" if pickles else ""
    return (
        f"{folder} holds no {WHOLE}{held}; Tacit reads no pickled weights: convert them, such as by "
        "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW)"
    )


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file; the header is checked against the size of the file."""
    check_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise UserError(f"{path} is cut off or no safetensors file; download it again")
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
            spans = {name: tuple(entry["data_offsets"]) for name, entry in tensors.items()}
            widths = {name: BYTES[entry["dtype"]] for name, entry in tensors.items()}
            packed = [name for name, entry in tensors.items() if entry["dtype"] in WHOLE_NUMBERS]
            whole = all(type(n) is int and n >= 0 for of in (*shapes.values(), *spans.values()) for n in of)
            fits = whole and all(
                len(spans[name]) == 2 and spans[name][1] - spans[name][0] == math.prod(shapes[name]) * widths[name]
                for name in tensors
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            fits = False
    if not fits:
        raise UserError(f"{path} has a damaged header; download it again")
    end = max((span[1] for span in spans.values()), default=0)
    if size != 8 + length + end:
        raise UserError(
            f"{path} has {size:,} bytes of {8 + length + end:,}: it is cut off or damaged; download it again"
        )
    if sum(b - a for a, b in spans.values()) != end:
        raise UserError(f"{path} has a damaged header, whose tensors overlap; download it again")
    packed = [name for name in packed if name.endswith("weight") and len(shapes[name]) > 1]
    if packed:
        raise UserError(
            f"{path} holds {_named(packed)} as whole numbers: such quantised weights are not read; save the model in "
            "float32 or float16"
        )
    return shapes


# ---------------------------------------------------------------- configuration


def read_config(folder: Path, weights: Weights) -> PreTrainedConfig:
    """The configuration in `config.json`, without keys that fetch or run code, checked against the weights."""
    path = folder / "config.json"
    settings = read_json(path)
    model_type = settings.get("model_type")
    if "pretrained_cfg" in settings or model_type in ("timm_wrapper", "timm_backbone"):
        raise UserError(
            f"{folder} holds a model of timm ({settings.get('architecture', model_type)}), which transformers does not "
            "open; judge it as a function of your own: package.module:function"
        )
    if not isinstance(model_type, str):
        raise UserError(f'{path} names no model_type; write its architecture there, such as "model_type": "bert"')
    if model_type not in CONFIG_MAPPING:
        near = nearest(model_type, CONFIG_MAPPING.keys())
        raise UserError(f"transformers {transformers.__version__} knows no model_type {model_type!r}{near}; upgrade it")
    if "quantization_config" in settings:
        raise UserError(f"{path} describes quantised weights, which are not read; save the model in float32 or float16")
    settings = _plain(settings)
    _check_bounds(path, settings, weights)
    try:
        config = CONFIG_MAPPING[model_type].from_dict(settings)
    except Exception as error:  # a configuration's class may raise anything, and the file is the cause
        raise UserError(f"{path} cannot be read as that of {model_type}: {first_line(error)}") from None
    assert isinstance(config, PreTrainedConfig)
    return config


def _plain(node: Any) -> Any:
    """A configuration without the keys in `DROPPED`, at any depth."""
    if isinstance(node, dict):
        return {key: _plain(of) for key, of in node.items() if not key.startswith("_") and key not in DROPPED}
    return [_plain(of) for of in node] if isinstance(node, list) else node


def _check_bounds(path: Path, node: Any, weights: Weights, key: str = "") -> None:
    """UserError where a number in a configuration asks for more or larger parts than these weights allow."""
    if isinstance(node, dict):
        for name, value in node.items():
            _check_bounds(path, value, weights, name)
    elif isinstance(node, list):
        for value in node:
            _check_bounds(path, value, weights, key)
        if all(type(value) is int for value in node) and PARTS.search(key):
            _check_bounds(path, sum(node), weights, key)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        most = max(LARGEST_NUMBER, weights.longest)
        if key == "num_labels":
            most = MOST_CLASSES
        elif PARTS.search(key):
            most = max(FEWEST_PARTS, len(weights.shapes))
        elif UNBOUNDED.search(key):
            return
        if node > most:
            raise UserError(
                f"{path} says {key} {node:,}, and the weights are {len(weights.shapes):,} tensors of at most "
                f"{weights.longest:,} a side; do not trust it"
            )


# ---------------------------------------------------------------- weights


@dataclass(frozen=True)
class Loaded:
    """A model with the weights of its folder, and the names of its missing and unexpected weights."""

    model: PreTrainedModel
    folder: Path
    missing: frozenset[str]
    unexpected: frozenset[str]
    prefix: str = ""  # of all names in the file; stripped

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on how the weights were read."""
        return (f"its weights bear the prefix {self.prefix!r}, which is left out",) if self.prefix else ()


def load_model(opener: Any, folder: Path, config: PreTrainedConfig, weights: Weights) -> Loaded:
    """Load the model of this configuration in float32; `check_complete` checks later that no needed weight is missing.

    UserError where the configuration describes a much larger model, or tensors of other shapes.
    """
    _check_size(opener, folder, config, weights)
    found = _loaded(opener, folder, config)
    if found.missing and found.unexpected:
        for prefix in _prefixes(weights.shapes):
            other = _loaded(opener, folder, config, prefix)
            if len(other.missing) < len(found.missing) and len(other.unexpected) <= len(found.unexpected):
                found = other
    return found


def check_complete(found: Loaded, part: nn.Module) -> None:
    """UserError, by name, where weights that embeddings depend on are missing, or the file has weights of no module.

    `part` is the module that embeds; its parameters without influence require no gradient, see `freeze_unused`.
    """
    matter = {id(of) for of in part.parameters() if of.requires_grad} | {id(of) for of in part.buffers()}
    state = dict(found.model.named_parameters(remove_duplicate=False)) | dict(found.model.named_buffers())
    lost = sorted(name for name in found.missing if name in state and id(state[name]) in matter)
    model_type = found.model.config.model_type
    if lost:
        others = f" but some of {_named(sorted(found.unexpected))}" if found.unexpected else ""
        raise UserError(
            f"{found.folder} holds no weights for {_named(lost)}{others}; save the whole model there with "
            "save_pretrained, under its own names"
        )
    strange = sorted(found.unexpected)
    if strange:
        heads = _names_of(found.model.config)
        strange = [name for name in strange if not _is_expected(name, heads)]
    if strange:
        raise UserError(
            f"{found.folder} holds weights of {_named(strange)}, for which {model_type} has no place; save the model "
            "there with save_pretrained, without them"
        )


def _loaded(opener: Any, folder: Path, config: PreTrainedConfig, prefix: str = "") -> Loaded:
    mapping = {"key_mapping": {f"^{re.escape(prefix)}": ""}} if prefix else {}
    try:
        model, info = opener.from_pretrained(
            folder,
            config=deepcopy(config),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **mapping,
        )
    except Exception as error:  # a model's class may raise anything, and the folder is the cause
        raise UserError(f"cannot open {folder} as a Hugging Face model: {first_line(error)}") from None
    for name, here, there in sorted(info["mismatched_keys"]):
        raise UserError(
            f"{folder}: {name} is {list(here)} in the weights and {list(there)} by config.json; they are of two models"
        )
    return Loaded(
        model.float().eval(), folder, frozenset(info["missing_keys"]), frozenset(info["unexpected_keys"]), prefix
    )


def _check_size(opener: Any, folder: Path, config: PreTrainedConfig, weights: Weights) -> None:
    """UserError where a configuration describes a larger model than the weights; the check allocates no memory."""
    if opener is transformers.AutoModel and type(config) not in transformers.MODEL_MAPPING:  # such as one tower of CLAP
        raise UserError(
            f"{folder} holds a {config.model_type}, which transformers opens by itself in no AutoModel; save the whole "
            "model there that it is a part of"
        )
    try:
        with torch.device("meta"):
            model = opener.from_config(deepcopy(config), trust_remote_code=False)
        described = sum(of.numel() for of in model.parameters())
        computed = sum(of.numel() for of in model.buffers())
    except Exception as error:  # as above
        raise UserError(f"cannot open {folder} as a Hugging Face model: {first_line(error)}") from None
    if described > 4 * weights.numbers + LARGEST_BUFFERS or computed > weights.numbers + LARGEST_BUFFERS:
        raise UserError(
            f"{folder}: config.json describes a model of {described + computed:,} numbers, and the weights are "
            f"{weights.numbers:,}; they are of two models"
        )


def _prefixes(names: Mapping[str, Any]) -> list[str]:
    """The prefixes, up to a dot, that all of these names share, the longest first."""
    listed = sorted(names)
    first, last = listed[0].split("."), listed[-1].split(".")
    shared = 0
    while shared < min(len(first), len(last)) - 1 and first[shared] == last[shared]:
        shared += 1
    return [".".join(first[:n]) + "." for n in range(shared, 0, -1)]


def _names_of(config: PreTrainedConfig) -> set[str]:
    """The names of all weights of any class of this architecture, so that those of its heads are recognised."""
    beside = import_module(type(config).__module__.replace("configuration_", "modeling_"))
    names: set[str] = set()
    for cls in vars(beside).values():
        is_model = isinstance(cls, type) and issubclass(cls, PreTrainedModel)
        if is_model and getattr(cls, "config_class", None) is type(config):
            try:
                with torch.device("meta"):
                    names |= cls(deepcopy(config)).state_dict().keys()
            except Exception:  # a class that needs more than this configuration is skipped
                continue
    return names


def _is_expected(name: str, names: set[str]) -> bool:
    """Whether a weight is one of `names`, with or without the part before the first dot, or a buffer in older files."""
    if name.endswith(("position_ids", "token_type_ids", "inv_freq", "attn.bias", "masked_bias", "num_batches_tracked")):
        return True
    return name in names or name.partition(".")[2] in names or any(of.partition(".")[2] == name for of in names)


def _named(names: list[str]) -> str:
    """The first of these names, and the number of the others."""
    return names[0] + (f" and {len(names) - 1} others" if len(names) > 1 else "")


# ---------------------------------------------------------------- models


def freeze_unused(model: nn.Module, answer: Tensor) -> None:
    """Freeze parameters that the tokens do not depend on (poolers, other heads), so that no optimiser takes them."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(answer.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and loading reports."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


MODULES = "modules.json"


class Public(NamedTuple):
    """The folder of a public model, with its configuration read."""

    name: str
    home: Path  # of a sentence encoder, whose network may be in a folder inside
    folder: Path
    config: Any
    weights: Weights
    source: dict[str, Any]


def network(folder: Path) -> Path:
    """The folder of the network and its tokenizer: this one, or the first that `modules.json` names."""
    modules = modules_of(folder)
    return folder / modules[0][1] if modules and modules[0][0] == "Transformer" else folder


def modules_of(folder: Path) -> list[tuple[str, str]]:
    """The type and the folder of each module of a sentence encoder; empty for any other folder."""
    if not (folder / MODULES).is_file():
        return []
    check_file(folder / MODULES)
    try:
        listed = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        modules = [(str(of["type"]).rpartition(".")[2], str(of["path"])) for of in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{folder / MODULES} is damaged; download it again") from None
    for name, path in modules:
        if path and (Path(path).name != path or not (folder / path).is_dir()) and name not in ("Normalize", "Dropout"):
            raise UserError(f"{folder / MODULES} names {path!r}, which is no folder of its own; download it again")
    return modules


def processor_settings(folder: Path, part: str, beside: str) -> dict[str, Any] | None:
    """The settings of one part of a processor, from `processor_config.json` or its own file; None without any."""
    whole = folder / "processor_config.json"
    nested = read_json(whole).get(part) if whole.exists() else None
    if isinstance(nested, dict):
        return nested
    path = folder / beside
    if not path.exists():
        return None
    found = read_json(path)
    inner = found.get(part)
    return inner if isinstance(inner, dict) else found
