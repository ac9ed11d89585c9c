"""The pooling of a sentence-transformers folder, from token states to one vector of a text, and its later modules.

Read from `modules.json` and the folders that it names. All tokens count, special ones too, and texts are cut at the
folder's window: a public encoder is evaluated as it is meant to be used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.core.errors import UserError
from tacit.modalities.hf_folder import MODULES, modules_of, read_header, read_json

WIDEST = 1 << 16  # features of a layer
# The names of poolings, in every release.
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
}
# Arguments for network and tokenizer that change no number.
HARMLESS = (
    *("attn_implementation", "torch_dtype", "dtype", "add_pooling_layer", "trust_remote_code", "device_map"),
    *("padding_side", "use_fast", "split_special_tokens", "unpad_inputs", "use_memory_efficient_attention"),
)
SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")  # sentence_..._config.json


class Dense(nn.Module):
    """A linear layer and a function of its values."""

    def __init__(self, inputs: int, outputs: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation = activation
        self.function = ACTIVATIONS[activation]()

    def anew(self) -> Dense:
        linear = self.linear
        return Dense(linear.in_features, linear.out_features, linear.bias is not None, self.activation)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.function(self.linear(x))
        return output


class Normed(nn.Module):
    """Scales every vector to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=1)


class Sentence(nn.Module):
    """Pools the last states [B N D] of the `valid` [B N] tokens to one vector [B D'] of each text."""

    def __init__(self, modes: tuple[str, ...], behind: Sequence[nn.Module], token_dim: int) -> None:
        super().__init__()
        self.modes = modes
        self.token_dim = token_dim
        self.behind = nn.ModuleList(behind)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        x = torch.cat([self._pooled(mode, states, valid) for mode in self.modes], 1)
        for module in self.behind:
            x = module(x)
        return x

    @staticmethod
    def _pooled(mode: str, states: Tensor, valid: Tensor) -> Tensor:
        share = valid[:, :, None].to(states.dtype)  # [B N 1]
        if mode == "cls":
            return states[:, 0]
        if mode == "lasttoken":
            last = (valid.sum(1) - 1).clamp(min=0)
            return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
        if mode == "max":
            return states.masked_fill(share == 0, float("-inf")).amax(1)
        if mode == "weightedmean":
            share = share * torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)[:, None]
        total = share.sum(1).clamp(min=1e-9)
        return (states * share).sum(1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)

    def anew(self) -> Sentence:
        """The same with fresh weights."""
        behind = [module.anew() if isinstance(module, Dense) else Normed() for module in self.behind]
        return Sentence(self.modes, behind, self.token_dim)

    @property
    def dim(self) -> int:
        """Features of the vector."""
        layers = [module for module in self.behind if isinstance(module, Dense)]
        return int(layers[-1].linear.out_features) if layers else self.token_dim * len(self.modes)

    def describe(self) -> str:
        """How the vector follows from the last states, in words."""
        names = [{"Normed": "length 1"}.get(type(module).__name__, "a dense layer") for module in self.behind]
        return f"as sentence-transformers does by modules.json: {', '.join([*self.modes, *names])} of all tokens"


@dataclass(frozen=True)
class SentenceSettings:
    """The settings in a sentence encoder's folder, beside its network and tokenizer."""

    sentence: Sentence
    length: int | None  # tokens, special ones included
    lowercase: bool
    prompt: str  # before every text
    remarks: tuple[str, ...] = ()  # settings that are not followed here


def read(folder: Path, inside: Path, dim: int) -> SentenceSettings | None:
    """Read how a folder pools, whose network is in `inside`; None if it does not say, or is Tacit's own.

    Raises UserError for unsupported modules.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = modules_of(folder)
    names = [kind for kind, _ in modules]
    if names == ["Transformer", "WordWeights", "Pooling"] and _ours(folder / modules[1][1]):
        return None
    if names[:1] != ["Transformer"]:
        raise UserError(f"{folder} is no plain text encoder: its {MODULES} begins with {names[0] if names else 'none'}")
    modes: tuple[str, ...] = ()
    token_dim = dim
    behind: list[nn.Module] = []
    for kind, path in modules[1:]:
        if kind == "Pooling" and not modes:
            modes = _modes(folder / path)
            dim *= len(modes)
        elif kind == "Dense" and modes:
            behind.append(_dense(folder / path, dim))
            dim = behind[-1].linear.out_features  # type: ignore[union-attr, assignment]
        elif kind == "Normalize" and modes:
            behind.append(Normed())
        elif kind != "Dropout":
            raise UserError(f"{folder} pools by {kind} ({MODULES}), which is not read; choose an encoder without it")
    if not modes:
        raise UserError(
            f"{folder / MODULES} has no Pooling, so there is no one vector of a text; choose another encoder"
        )
    settings = next((file for of in SETTINGS if (file := inside / f"sentence_{of}_config.json").is_file()), None)
    values = read_json(settings) if settings is not None else {}
    length = values.get("max_seq_length")
    if length is not None and (type(length) is not int or length < 1):
        raise UserError(f"{settings}: max_seq_length {length!r} is no number of tokens; mend it")
    prompt, cut = _prompt(folder)
    for kind, path in modules:
        if prompt and kind == "Pooling" and read_json(folder / path / "config.json").get("include_prompt") is False:
            raise UserError(
                f"{folder / path / 'config.json'} leaves a prompt out of the pooling, which is not read here"
            )
    sentence = Sentence(modes, behind, token_dim)
    remarks = (
        [f"{settings.name} passes {name} on, which is not followed here" for name in _passed(values)]
        if settings
        else []
    )
    if cut is not None and cut < sentence.dim:
        remarks.append(
            f"it is cut to its first {cut} features by itself (truncate_dim), and all {sentence.dim} are here"
        )
    return SentenceSettings(sentence, length, bool(values.get("do_lower_case")), prompt, tuple(remarks))


def _passed(values: Mapping[str, object]) -> list[str]:
    """The arguments for the network or its tokenizer that may change embeddings."""
    return [
        f"{of}: {name}"
        for of, settings in values.items()
        if of.endswith(("_args", "_kwargs")) and isinstance(settings, dict)
        for name in settings
        if name not in HARMLESS
    ]


def _ours(folder: Path) -> bool:
    """True if these weights of words merely leave out special tokens, as Tacit itself does."""
    light = read_json(folder / "config.json").get("word_weights")
    return isinstance(light, dict) and all(isinstance(weight, float) and weight < 1e-6 for weight in light.values())


def _modes(folder: Path) -> tuple[str, ...]:
    config = read_json(folder / "config.json")
    named = config.get("pooling_mode")
    modes = tuple(
        [named] if isinstance(named, str) else named or [mode for key, mode in LEGACY.items() if config.get(key)]
    )
    strange = next((mode for mode in modes if mode not in MODES), None)
    if strange is not None:
        raise UserError(f"{folder / 'config.json'}: no pooling is named {strange!r}; choose from {', '.join(MODES)}")
    return modes or ("mean",)


def _dense(folder: Path, dim: int) -> Dense:
    config, weights = read_json(folder / "config.json"), folder / "model.safetensors"
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    plain = config.get("module_input_name", "sentence_embedding") == "sentence_embedding" and not config.get(
        "use_residual"
    )
    outputs = config.get("out_features")
    if activation not in ACTIVATIONS or not plain or config.get("in_features") != dim:
        raise UserError(f"{folder} is a Dense layer that is not read ({activation}); choose an encoder without it")
    if type(outputs) is not int or not 0 < outputs <= WIDEST:
        raise UserError(f"{folder / 'config.json'}: out_features {outputs!r} is no number of features; mend it")
    if not weights.is_file():
        raise UserError(f"{folder} holds no model.safetensors; Tacit reads no pickled weights, convert them first")
    shapes, bias = read_header(weights), bool(config.get("bias", True))
    wanted = {"linear.weight": (outputs, dim), **({"linear.bias": (outputs,)} if bias else {})}
    if shapes != wanted:
        raise UserError(f"{weights} holds {dict(shapes)}, and config.json says {wanted}; they are of two layers")
    made = Dense(dim, outputs, bias, activation)
    made.load_state_dict(load_file(weights))
    return made


def _prompt(folder: Path) -> tuple[str, int | None]:
    """The prompt put before every text by default, and the features its vector is cut to; None if it is whole."""
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.is_file() else {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(name, "") if isinstance(prompts, dict) and name is not None else ""
    cut = config.get("truncate_dim")
    return prompt if isinstance(prompt, str) else "", cut if type(cut) is int and cut > 0 else None


def write(sentence: Sentence, folder: Path, length: int) -> None:
    """Write the same pooling as modules of sentence-transformers."""
    listed = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    modes = {key: mode in sentence.modes for key, mode in LEGACY.items()}
    in_order = tuple(LEGACY[key] for key, used in modes.items() if used) == sentence.modes
    named: dict[str, object] = {**modes} if in_order else {"pooling_mode": list(sentence.modes)}
    pooling = {"word_embedding_dimension": sentence.token_dim, **named}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))
    for number, module in enumerate(sentence.behind, 2):
        if isinstance(module, Normed):
            listed.append(("Normalize", f"{number}_Normalize"))
        elif isinstance(module, Dense):
            path = folder / f"{number}_Dense"
            path.mkdir()
            linear = module.linear
            config: dict[str, object] = {"in_features": linear.in_features, "out_features": linear.out_features}
            config |= {"bias": linear.bias is not None, "activation_function": module.activation}
            (path / "config.json").write_text(json.dumps(config, indent=2))
            save_file(
                {f"linear.{key}": value.cpu() for key, value in linear.state_dict().items()}, path / "model.safetensors"
            )
            listed.append(("Dense", path.name))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(listed)
    ]
    (folder / MODULES).write_text(json.dumps(modules, indent=2))
    settings = {"max_seq_length": length, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings, indent=2))
    unprompted = {"prompts": {}, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(unprompted, indent=2))
