"""Image models from a Hugging Face folder, with their own preprocessing, wherever the folder describes it."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from tacit.core.errors import UserError
from tacit.core.nn import as_channels, to_float
from tacit.core.types import Batch, Features
from tacit.modalities.hf_folder import (
    Public,
    check_complete,
    first_line,
    freeze_unused,
    load_model,
    processor_settings,
    quiet,
)
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.image.framing import Framing
from tacit.modalities.image.spec import ImageSpec

CHANNELS = (1, 2, 3, 4)
LARGEST = 1024  # px a side, as of any data
USUAL = 224  # px, where the folder names no size
MARGIN_BELOW = 384  # px; models like ConvNeXt crop a margin off smaller images
LEVIT_MARGIN = 256 / 224
TOLERANCE = 0.05  # share of the range of a picture's values by which a pixel may differ from transformers' own
DEFAULTS = {"resample": 2, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
ATTRIBUTES = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "crop_pct", "do_flip_channel_order", "do_flip_channels"),
    *("rescale_offset", "include_top"),
)


# ---------------------------------------------------------------- preprocessing


@dataclass(frozen=True)
class Processing:
    """A model's own preprocessing of pictures."""

    spec: ImageSpec
    shape: tuple[int, int]  # px, height and width of the model's input
    flip: bool  # BGR
    settings: Mapping[str, Any]  # of the folder's processor, to be written again
    remarks: tuple[str, ...] = ()

    def as_read(self, spec: ImageSpec) -> Processing:
        """The same preprocessing, for images as a run has read them."""
        shape = self.shape if spec.size == max(self.shape) else (spec.size, spec.size)
        return replace(self, spec=spec, shape=shape)


def read_processing(folder: Path, config: Any) -> Processing:
    """The folder's preprocessing, or else, with a remark, that of transformers for the type of model."""
    channels = getattr(config, "num_channels", None) or 3
    if channels not in CHANNELS:
        raise UserError(f"{folder} is a model of images of {channels} channels; images of 1 to 4 can be read")
    given = processor_settings(folder, "image_processor", "preprocessor_config.json")
    made_by, name = _processor(given, config)
    own = _pair(getattr(config, "image_size", None))
    remarks: list[str] = []
    settings = _attributes(made_by, given if given is not None else _default_size(made_by, name, own))
    shape, framing = _framing(settings, name)
    if shape is None:
        shape, framing = own or (USUAL, USUAL), None
        remarks.append(f"its preprocessing names no size; images are resized to {shape[0]} x {shape[1]} px")
    if max(shape) > LARGEST or min(shape) < 1:
        raise UserError(f"{folder} is a model of images of {shape[0]} x {shape[1]} px; {LARGEST} px a side can be read")
    if framing is not None and (framing.edge > 4 * LARGEST or shape[0] != shape[1]):
        framing = Framing(max(shape), False, framing.filter)
    mean, std = _moments(folder, settings, channels, name)
    if given is None:
        given = {key: settings[key] for key in ATTRIBUTES if key in settings} | (
            {"image_processor_type": name} if name else {}
        )
        remarks.append(
            f"its folder does not say how images are prepared (no preprocessor_config.json): {shape[0]} x {shape[1]} "
            f"px, mean {_spaced(mean)} and deviation {_spaced(std)} are taken, as of {name or 'most models'}"
        )
    flip = bool(settings.get("do_flip_channel_order") or settings.get("do_flip_channels")) and channels == 3
    spec = ImageSpec(max(shape), channels, mean, std, framing=framing)
    return Processing(spec, shape, flip, given, tuple(remarks))


@torch.no_grad()
def differences(encoder: HuggingFace) -> tuple[str, ...]:
    """A remark where transformers prepares a picture differently by the same settings: it follows more of them than are
    followed here (margins, aspect ratios), and not all can be, as all data are read as squares.
    """
    cls = _processor(encoder.processing.settings, encoder.model.config)[0]
    settings = {key: value for key, value in encoder.processing.settings.items() if key != "image_processor_type"}
    if cls is None or encoder.spec.channels != 3 or not _modest(settings):
        return ()
    height, width = 60, 90
    slope = np.linspace(0, 255, height)[:, None, None] * [0.4, 0.2, 0] + np.linspace(0, 150, width)[:, None] * [
        0.5,
        0,
        1,
    ]
    picture = Image.fromarray(slope.astype(np.uint8))
    try:
        wanted = torch.from_numpy(np.stack(cls(**settings)(images=picture)["pixel_values"])).float()
    except Exception:  # it may raise anything, and then there is nothing to compare with
        return ()
    found = encoder.normalise(encoder.prepare(picture))
    span = float(found.max() - found.min())
    if found.shape == wanted.shape and float((found - wanted).abs().max()) <= TOLERANCE * span:
        return ()
    fed = " x ".join(map(str, wanted.shape[2:]))
    return (
        f"its own preprocessing makes other pixels of a picture that is no square ({fed} px of {height} x {width}); "
        f"here it is fed with {' x '.join(map(str, encoder.processing.shape))} px, resized or cut",
    )


def _modest(settings: Any) -> bool:
    """Whether no number of these settings would make a picture of more than a few thousand px a side."""
    if isinstance(settings, dict | list | tuple):
        return all(map(_modest, settings.values() if isinstance(settings, dict) else settings))
    return not isinstance(settings, int | float) or abs(settings) <= 4 * LARGEST


def _default_size(cls: Any, name: str, own: tuple[int, int] | None) -> dict[str, Any]:
    """Settings that bring the usual preprocessing of a type of model to the size in its configuration."""
    usual = _framing(_attributes(cls, None), name)[0]
    if own is None or own == usual:
        return {}
    both, shorter = {"height": own[0], "width": own[1]}, {"shortest_edge": own[0]}
    size = getattr(cls, "size", None)
    return {"size": shorter if isinstance(size, dict) and "shortest_edge" in size else both, "crop_size": both}


def _processor(given: Mapping[str, Any] | None, config: Any) -> tuple[Any, str]:
    """The class of transformers that prepares such images, None where it needs other packages, and its name."""
    named = str((given or {}).get("image_processor_type") or (given or {}).get("feature_extractor_type") or "")
    named = named.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    if not named.endswith("ImageProcessor"):
        model_type = config.model_type
        names = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or IMAGE_PROCESSOR_MAPPING_NAMES.get(
            model_type.partition("_vision")[0]
        )
        named = (names or {}).get("torchvision") or (names or {}).get("pil", "").removesuffix("Pil")
    cls = getattr(transformers, f"{named}Pil", None) if named else None
    return cls, named


def _attributes(cls: Any, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The given settings, and the defaults of the class for the others."""
    own = {name: value for name, value in (given or {}).items() if value is not None}
    if cls is None:
        return {**DEFAULTS, **IMAGENET, "do_resize": True, "do_rescale": True, "do_normalize": True, **own}
    return {
        **DEFAULTS,
        **{name: value for name in ATTRIBUTES if (value := getattr(cls, name, None)) is not None},
        **own,
    }


def _framing(settings: Mapping[str, Any], name: str) -> tuple[tuple[int, int] | None, Framing | None]:
    """The size of a model's input, height and width in px, and its framing; None where no size is given."""
    size, crop = settings.get("size"), _pair(settings.get("crop_size")) if settings.get("do_center_crop") else None
    filter_ = _whole(settings["resample"], 2)
    filter_ = filter_ if 0 <= filter_ <= 5 else 2
    edge = _whole(size.get("shortest_edge")) if isinstance(size, dict) else 0
    edge = _whole(size) if isinstance(size, int) and crop is not None else edge
    both = None if edge else _pair(size)
    percent = settings.get("crop_pct")
    if name.startswith("ConvNext"):  # its own rule, in place of the settings of a crop
        side = edge or (both or (0, 0))[0]
        if not side:
            return None, None
        if side >= MARGIN_BELOW:
            return (side, side), Framing(side, False, filter_)
        return (side, side), Framing(int(side / (percent or USUAL / 256)), True, filter_)
    if not settings.get("do_resize"):
        return (crop, Framing(0, True, filter_)) if crop is not None else (None, None)
    if name.startswith("Levit") and edge:
        edge = int(LEVIT_MARGIN * edge)
    if name.startswith("PoolFormer") and percent:
        inner = crop or both or (edge, edge)
        return inner, Framing(int((edge or (both or (0,))[0]) / percent), True, filter_)
    if crop is not None:
        if edge:
            return crop, Framing(edge, True, filter_)
        if both and both[0] == both[1]:
            return crop, Framing(both[0], False, filter_)
        return crop, Framing(max(crop), False, filter_)
    if edge:  # it would keep the aspect ratio; here the square takes the whole
        return (edge, edge), Framing(edge, False, filter_)
    return (both, Framing(max(both), False, filter_)) if both else (None, None)


def _pair(size: Any) -> tuple[int, int] | None:
    """Height and width in px from any way of writing them: 224, [224, 224], {"height": 224, ...}."""
    if isinstance(size, dict):
        side = size.get("shortest_edge")
        size = [side, side] if side else [size.get("height"), size.get("width")]
    if isinstance(size, list | tuple):
        pair = [_whole(side) for side in size][-2:]
        return (pair[0], pair[-1]) if pair and all(pair) else None
    side = _whole(size)
    return (side, side) if side else None


def _whole(value: Any, default: int = 0) -> int:
    """A number of px or of a filter as an integer."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1 << 31 else default


def _moments(
    folder: Path, settings: Mapping[str, Any], channels: int, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixel values in [0, 1] that normalise images to the model's input."""
    try:
        mean, std = (_each(settings[of], channels) for of in ("image_mean", "image_std"))
        scale = 255 * float(settings["rescale_factor"]) if settings.get("do_rescale") else 255.0
        again = std if settings.get("include_top") and name.startswith("EfficientNet") else (1.0,) * channels
        if not settings.get("do_normalize"):
            mean, std = (0.0,) * channels, (1.0,) * channels
        offset = 1.0 if settings.get("rescale_offset") else 0.0
        found = tuple((m + offset) / scale for m in mean), tuple(s * t / scale for s, t in zip(std, again, strict=True))
        sound = all(math.isfinite(m) for m in found[0]) and all(0 < s < math.inf for s in found[1])
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        sound = False
    if not sound:
        raise UserError(
            f"{folder}: image_mean, image_std and rescale_factor of its preprocessing must be numbers, one for each of "
            f"its channels ({channels}), and deviations above 0; mend preprocessor_config.json"
        )
    return found


def _each(values: Any, channels: int) -> tuple[float, ...]:
    """One number for each channel, from one for all or one for each."""
    listed = [float(value) for value in (values if isinstance(values, list | tuple) else [values])]
    if len(listed) != channels and channels > 1 and len(set(listed)) > 1:
        raise ValueError(values)
    return tuple(listed if len(listed) == channels else listed[:1] * channels)


def _spaced(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


# ---------------------------------------------------------------- the encoder


class HuggingFace(ImageEncoder):
    """A Hugging Face vision model that returns tokens [B N D] or a map [B D H W].

    Takes images of any size and of 1 or 3 channels and fits them to the model itself, so that it can be compared with
    other encoders on the same batches. Tokens in front of the patches (CLS, registers) are left out. A masked
    autoencoder embeds without masking.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, processing: Processing, source: dict[str, Any], answer: Any
    ) -> None:
        spec, last, hidden = processing.spec, answer.last_hidden_state, answer.get("hidden_states") or ()
        grid, prefix = _grid(model.config, last, processing.shape)
        super().__init__(
            name,
            spec,
            dim=last.shape[1] if last.ndim == 4 else last.shape[2],
            n_depths=max(0, len(hidden) - 1),
            grid=grid,
            stride=-(-spec.size // min(grid)) if grid[0] == grid[1] else spec.size,
        )
        self.processing = processing
        self.prefix = prefix
        self.source = source
        self.model = model
        is_map = last.ndim == 4
        self.pooling = "last_hidden_state.mean((2, 3))" if is_map else f"last_hidden_state[:, {prefix}:].mean(1)"

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        return self.features(self.normalise(batch), depths)

    def features(self, x: Tensor, depths: Sequence[int]) -> Features:
        answer = _run(self.model, x, hidden=bool(depths))
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
        if image.shape[1] != self.spec.channels and 1 not in (image.shape[1], self.spec.channels):
            raise UserError(
                f"{self.name} reads {self.spec.channels} channels, and the images have {image.shape[1]}; choose an "
                "encoder of as many, or give images in colour"
            )
        image = as_channels(image, self.spec.channels)
        if image.shape[2:] != self.processing.shape:
            image = nn.functional.interpolate(
                image, self.processing.shape, mode="bilinear", antialias=True, align_corners=False
            )
        x = (image - self.mean) / self.std
        return x.flip(1) if self.processing.flip else x

    def untrained(self) -> HuggingFace:
        with quiet(), torch.inference_mode(False), torch.enable_grad():
            # Of its own class: the tower for images of a larger model may have no other opener.
            model = type(self.model)._from_config(deepcopy(self.model.config), dtype=torch.float32)
            return build(self.name, model, self.processing, dict(self.source))

    def opener(self) -> Any:
        return type(self.hugging_face().base_model)  # perhaps the tower of a larger model

    def hugging_face(self) -> PreTrainedModel:
        return self.model

    def opened_as(self, state: Mapping[str, Tensor]) -> tuple[Any, str]:
        return type(self.model), "model."  # AutoModel knows few of the towers of larger models

    def read(self, model: PreTrainedModel, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.normalise({"image": image.to(self.mean.device)}).cpu()
        tokens = self.tokens(_run(model, x, hidden=False).last_hidden_state)
        return tokens.mean(1), tokens

    def write_companions(self, folder: Path) -> None:
        """Write the preprocessing settings of the model's own folder."""
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(self.processing.settings), indent=2))


class HuggingFaceSquares(HuggingFace):
    """One whose tokens are the squares of a square image, so that some of them can be masked."""

    def __init__(
        self, name: str, model: PreTrainedModel, processing: Processing, source: dict[str, Any], answer: Any
    ) -> None:
        super().__init__(name, model, processing, source, answer)
        self.mask_token = nn.Parameter(torch.zeros(self.spec.channels), requires_grad=False)

    def masked(self, batch: Batch, mask: Tensor) -> Features:
        return self.features(self.hide(self.normalise(batch), mask), ())


def build(name: str, model: PreTrainedModel, processing: Processing, source: dict[str, Any]) -> HuggingFace:
    """The encoder of a model that takes `pixel_values`, or of its tower for images where it has one."""
    tower = getattr(model, "vision_model", None)
    model = (tower if isinstance(tower, PreTrainedModel) else model).eval()
    if model.main_input_name != "pixel_values":
        raise UserError(f"{name} takes {model.main_input_name}; choose a model of images, of text or of sound")
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0
    height, width = processing.shape
    trial = torch.rand(1, processing.spec.channels, height, width, generator=torch.Generator().manual_seed(0))
    try:
        answer = _run(model, trial, hidden=True)
        last, again = answer.last_hidden_state, _run(model, trial, hidden=False).last_hidden_state
        sound = last.ndim in (3, 4) and len(last) == 1
    except Exception as error:  # a model may raise anything where images alone are no input to it
        raise UserError(f"{name} does not embed an image of {height} x {width} px: {first_line(error)}") from None
    if not sound:
        raise UserError(f"{name} answers an image with {list(last.shape)}; choose a model that answers with tokens")
    if not torch.allclose(last, again, rtol=1e-3, atol=1e-4):
        raise UserError(f"{name} answers one image with other numbers each time; choose a model that draws nothing")
    freeze_unused(model, last)
    grid, _ = _grid(model.config, last, processing.shape)
    squares = grid[0] == grid[1] and height == width
    return (HuggingFaceSquares if squares else HuggingFace)(name, model, processing, source, answer)


def _run(model: PreTrainedModel, x: Tensor, *, hidden: bool) -> Any:
    """The model's output; a masked autoencoder sorts its patches by noise, which here keeps their order."""
    more: dict[str, Any] = {"output_hidden_states": True} if hidden else {}
    if "noise" in inspect.signature(model.forward).parameters:
        patch = _pair(model.config.patch_size) or (1, 1)
        places = (x.shape[2] // patch[0]) * (x.shape[3] // patch[1])
        more["noise"] = torch.arange(places, device=x.device, dtype=x.dtype).expand(len(x), -1)
    return model(x, **more)


def _grid(config: Any, last: Tensor, shape: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """The grid of an output's tokens, and how many tokens precede them; (1, N) where they form no grid."""
    if last.ndim == 4:
        return (last.shape[2], last.shape[3]), 0
    height, width = shape
    registers = getattr(config, "num_register_tokens", None) or 0
    patch = _pair(getattr(config, "patch_size", None))
    for prefix in dict.fromkeys((1 + registers, 2 + registers, 0, registers, 1, 2)):
        places = last.shape[1] - prefix
        if patch is not None and places > 0 and places == (height // patch[0]) * (width // patch[1]):
            return (height // patch[0], width // patch[1]), prefix
    for prefix in dict.fromkeys((0, 1 + registers, 1, 2 + registers, 2)):
        places = last.shape[1] - prefix
        rows = math.isqrt(places * height // width) if places > 0 else 0
        if rows and places % rows == 0 and rows * width == places // rows * height:
            return (rows, places // rows), prefix
    return (1, last.shape[1]), 0


def open_image(public: Public, spec: ImageSpec | None) -> tuple[HuggingFace, tuple[str, ...]]:
    """A public model of images, and remarks on how it was read; `spec` is given where Tacit wrote it."""
    processing = read_processing(public.folder, getattr(public.config, "vision_config", public.config))
    if spec is not None:
        processing = processing.as_read(spec)
    loaded = load_model(_opener(public.config), public.folder, public.config, public.weights)
    found = build(public.name, loaded.model, processing, public.source)
    check_complete(loaded, found.model)
    found.eval()
    return found, (*loaded.remarks, *processing.remarks, *(differences(found) if spec is None else ()))


def _opener(config: Any) -> Any:
    """AutoModel, or where it knows no such configuration the one class that embeds by it: that of the tower for images
    of a larger model, saved by itself.
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
