"""What a copy of an encoder in another program takes and says, one class per kind of data.

`Inputs` are the tensors that an ONNX graph takes, by name; copy and original are compared on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tacit.core.nn import masked_mean
from tacit.core.types import Features
from tacit.encoders import OwnEncoder
from tacit.modalities.audio.encoder import AudioEncoder, counted
from tacit.modalities.events.encoder import ItemEncoder, at_place
from tacit.modalities.image.encoder import ImageEncoder
from tacit.modalities.spec import ImageSpec
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.files import beyond_a_window

Inputs = Mapping[str, Tensor]
Said = tuple[Tensor, Tensor]  # pooled [B D] and tokens [B N D]
BATCHES = (1, 2, 7)  # sizes at which the other form is compared


class Handover(Protocol):
    """How one kind of encoder is written as a graph and compared with its copies."""

    axes: Mapping[str, Mapping[int, str]]  # of each input, those that may have any length, and their names

    def example(self) -> Inputs:
        """Inputs to trace a graph with."""

    def trial(self) -> Iterator[Inputs]:
        """Inputs to compare on, of their own random numbers."""

    def features(self, encoder: Any, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        """What an encoder of this kind says, by operations that can be traced."""

    def graph(self, inner: nn.Module) -> nn.Module:
        """A module that takes the inputs one by one, as a tracer wants them, and hands them to `inner` by name."""

    def read(self, model: Any, inputs: Inputs) -> Said:
        """What Hugging Face's model of the folder says, pooled as the description tells people to."""

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        """Tokens without those that mean nothing."""

    def sidecar(self) -> dict[str, Any]:
        """What `onnx.json` says of the graph."""

    def longer(self) -> str:
        """What other programs make of an example that is longer than a window; empty where there is none."""


class Images:
    """`image` float32 [B C S S] in [0, 1]; the graph normalises it itself."""

    axes: Mapping[str, Mapping[int, str]] = {"image": {0: "batch"}}

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        spec = self.encoder.spec
        return {"image": torch.zeros(2, spec.channels, spec.size, spec.size)}

    def trial(self) -> Iterator[Inputs]:
        """Noise, and smooth shapes as photographs have them."""
        generator, spec = torch.Generator().manual_seed(0), self.encoder.spec
        for rows in BATCHES:
            yield {"image": torch.rand(rows, spec.channels, spec.size, spec.size, generator=generator)}
            coarse = torch.rand(rows, spec.channels, 4, 4, generator=generator)
            size = (spec.size, spec.size)
            yield {"image": nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)}

    def features(self, encoder: ImageEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        found: Features = encoder({"image": inputs["image"].to(encoder.mean.device)}, depths=depths)
        return found

    def graph(self, inner: nn.Module) -> nn.Module:
        class Graph(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, image: Tensor) -> Any:
                return self.inner({"image": image})

        return Graph()

    def read(self, model: Any, inputs: Inputs) -> Said:
        return self.encoder.read(model, inputs["image"])

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens

    def sidecar(self) -> dict[str, Any]:
        spec, dim = self.encoder.spec, self.encoder.dim
        shape = ["batch", spec.channels, spec.size, spec.size]
        return {
            "input": {"image": {"shape": shape, "dtype": "float32", "range": [0, 1]}},
            "output": _outputs(math.prod(self.encoder.grid), dim),
            "preprocessing": f"{_resizing(spec)}; the graph subtracts mean and divides by std itself",
            "mean": spec.mean,
            "std": spec.std,
        }

    def longer(self) -> str:
        return ""


class Numbers:
    """`input_ids` and `attention_mask` int64 [B N], N at most a window: the graph refuses more."""

    encoder: Any  # of texts, or of items

    axes: Mapping[str, Mapping[int, str]] = {
        "input_ids": {0: "batch", 1: "tokens"},
        "attention_mask": {0: "batch", 1: "tokens"},
    }

    def graph(self, inner: nn.Module) -> nn.Module:
        length = self.encoder.spec.length

        class Graph(nn.Module):
            room: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.inner = inner
                self.register_buffer("room", torch.ones(length, dtype=torch.int64))

            def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
                attention_mask = attention_mask * within(self.room, input_ids)
                return self.inner({"input_ids": input_ids, "attention_mask": attention_mask})

        return Graph()

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        return tokens * inputs["attention_mask"][:, :, None].to(tokens)


class Texts(Numbers):
    """The graph leaves special tokens out itself."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        return self._documents([self.encoder.spec.length - 1, 2], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Documents of random numbers, short ones and full windows, beside others and alone."""
        generator, length = torch.Generator().manual_seed(0), self.encoder.spec.length
        for rows in BATCHES:
            for longest in (min(5, length), length):
                rest = torch.randint(2, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._documents([longest, *rest], generator)

    def _documents(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        spec = self.encoder.spec
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # [B N]
        tokens = torch.randint(0, spec.vocabulary, valid.shape, generator=generator)
        if spec.cls >= 0:
            tokens[:, 0] = spec.cls
        if spec.sep >= 0:
            tokens.scatter_(1, torch.tensor(lengths)[:, None] - 1, spec.sep)
        return {"input_ids": torch.where(valid, tokens, spec.pad), "attention_mask": valid.long()}

    def features(self, encoder: TextEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.special.device
        return encoder.graph(inputs["input_ids"].to(device), inputs["attention_mask"].to(device) != 0, depths)

    def read(self, model: Any, inputs: Inputs) -> Said:
        tokens = model(**inputs).last_hidden_state
        own = inputs["attention_mask"].bool()
        if self.encoder.sentence is not None:
            return self.encoder.sentence(tokens, own), tokens
        counted = own & ~torch.isin(inputs["input_ids"], torch.tensor(self.encoder.spec.specials))
        counted = torch.where(counted.any(1, keepdim=True), counted, own)[:, :, None]
        return (tokens * counted).sum(1) / counted.sum(1), tokens

    def sidecar(self) -> dict[str, Any]:
        spec = self.encoder.spec
        numbers = {"shape": ["batch", "tokens"], "dtype": "int64"}
        return {
            "input": {"input_ids": {**numbers, "range": [0, spec.vocabulary - 1]}, "attention_mask": numbers},
            "output": _outputs("tokens", self.encoder.dim),
            "preprocessing": f"tokenizer.json makes input_ids of a text, cut after {spec.length}; attention_mask is 0 "
            f"where padding; the graph pools by itself: {self.encoder.pooling}",
            "length": spec.length,
            "pad": spec.pad,
        }

    def longer(self) -> str:
        return beyond_a_window(self.encoder.spec)


class Sequences(Numbers):
    """Histories of items, the latest event last."""

    def __init__(self, encoder: ItemEncoder) -> None:
        self.encoder = encoder

    def example(self) -> Inputs:
        return self._histories([self.encoder.spec.length - 1, 2], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Histories of random items, short ones and full windows, beside others and alone."""
        generator, length = torch.Generator().manual_seed(0), self.encoder.spec.length
        for rows in BATCHES:
            for longest in (min(3, length), length):
                rest = torch.randint(1, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._histories([longest, *rest], generator)

    def _histories(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        spec = self.encoder.spec
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # [B N]
        tokens = torch.randint(spec.first, spec.vocabulary, valid.shape, generator=generator)
        return {"input_ids": torch.where(valid, tokens, spec.pad), "attention_mask": valid.long()}

    def features(self, encoder: ItemEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.table.device
        return encoder.graph(inputs["input_ids"].to(device), inputs["attention_mask"].to(device) != 0, depths)

    def read(self, model: Any, inputs: Inputs) -> Said:
        tokens, valid = model(**inputs).last_hidden_state, inputs["attention_mask"].bool()
        if self.encoder.causal:
            return at_place(tokens, valid.sum(1) - 1), tokens
        return masked_mean(tokens, valid), tokens

    def sidecar(self) -> dict[str, Any]:
        spec = self.encoder.spec
        numbers = {"shape": ["batch", "tokens"], "dtype": "int64"}
        return {
            "input": {"input_ids": {**numbers, "range": [0, spec.vocabulary - 1]}, "attention_mask": numbers},
            "output": _outputs("tokens", self.encoder.dim),
            "preprocessing": f"the number of an item is its row in items.parquet, from 0 on, plus {spec.first}; the "
            f"latest {spec.length} events, the first of them first, padded at the end; attention_mask is 0 there",
            "length": spec.length,
            "pad": spec.pad,
            "mask": spec.mask,
        }

    def longer(self) -> str:
        return ""  # the latest events are all that the encoder itself reads


class Sounds:
    """`audio` float32 [B S] in [-1, 1], S at most a window, and `length` int64 [B]; the graph makes log-mel itself."""

    axes: Mapping[str, Mapping[int, str]] = {"audio": {0: "batch", 1: "samples"}, "length": {0: "batch"}}

    def __init__(self, encoder: AudioEncoder) -> None:
        self.encoder = encoder
        self.front = encoder.traced_front()
        self.longest = encoder.length * encoder.spec.hop - 1  # samples of a window
        self.room = torch.ones(encoder.length, dtype=torch.int64)

    def example(self) -> Inputs:
        return self._recordings([min(self.longest, self.encoder.spec.rate), 400], torch.Generator().manual_seed(0))

    def trial(self) -> Iterator[Inputs]:
        """Noise of its own loudness, short and as long as a window, beside others and alone."""
        generator = torch.Generator().manual_seed(0)
        for rows in BATCHES:
            for longest in (min(1000, self.longest), self.longest):
                rest = torch.randint(1, longest + 1, (rows - 1,), generator=generator).tolist()
                yield self._recordings([longest, *rest], generator)

    def _recordings(self, lengths: list[int], generator: torch.Generator) -> Inputs:
        loud = torch.rand(len(lengths), 1, generator=generator) ** 4
        audio = loud * (2 * torch.rand(len(lengths), max(lengths), generator=generator) - 1)
        return {"audio": audio, "length": torch.tensor(lengths)}

    def features(self, encoder: AudioEncoder, inputs: Inputs, depths: Sequence[int] = ()) -> Features:
        device = encoder.mask_token.device
        audio, length = inputs["audio"].to(device), inputs["length"].to(device)
        if torch.compiler.is_exporting():
            mel, frames = self.front(audio, length)
            frames = frames * within(self.room, mel[:, :, 0]).amin(0)
        else:
            mel, frames = encoder.front(audio, length)
        return encoder.graph(mel, frames, depths)

    def graph(self, inner: nn.Module) -> nn.Module:
        class Graph(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, audio: Tensor, length: Tensor) -> Any:
                return self.inner({"audio": audio, "length": length})

        return Graph()

    def read(self, model: Any, inputs: Inputs) -> Said:
        return self.encoder.read(model, inputs["audio"], inputs["length"])

    def compared(self, tokens: Tensor, inputs: Inputs) -> Tensor:
        frames = 1 + (inputs["length"] - 1) // self.encoder.spec.hop
        return tokens * counted(self.encoder.tokens_of(frames), tokens.shape[1])[:, :, None].to(tokens)

    def sidecar(self) -> dict[str, Any]:
        spec, encoder = self.encoder.spec, self.encoder
        return {
            "input": {
                "audio": {"shape": ["batch", "samples"], "dtype": "float32", "range": [-1, 1]},
                "length": {"shape": ["batch"], "dtype": "int64", "range": [1, self.longest]},
            },
            "output": _outputs("tokens", encoder.dim),
            "preprocessing": f"one channel of {spec.rate} Hz, at most {self.longest} samples; longer recordings are "
            "cut, and their pooled averaged by length; length counts the samples of each, padded with zeros to the "
            "longest; the graph normalises them, and makes log-mel frames of them where it needs them, itself",
            "rate": spec.rate,
            "samples": self.longest,
            "token": {"samples": encoder.stride * spec.hop},
            **encoder.front_settings(),
        }

    def longer(self) -> str:
        return (
            f"of a recording longer than {self.longest:,} samples, tacit embeds all windows and takes the mean; the "
            "graph takes one"
        )


def handover(encoder: OwnEncoder) -> Handover:
    """How this encoder is handed over."""
    if isinstance(encoder, AudioEncoder):
        return Sounds(encoder)
    if isinstance(encoder, ItemEncoder):
        return Sequences(encoder)
    return Texts(encoder) if isinstance(encoder, TextEncoder) else Images(encoder)


def within(room: Tensor, inputs: Tensor) -> Tensor:
    """1 for each place of inputs [B N], where there is `room` [L] for them: a graph looks them up, and fails beyond.

    An encoder without positions of its own would answer longer inputs by something else than it was trained for.
    """
    return room[torch.arange(inputs.shape[1], device=room.device)]


class Says(nn.Module):
    """Inputs to pooled and tokens, on the CPU, with a copy of the encoder's weights."""

    def __init__(self, encoder: OwnEncoder) -> None:
        super().__init__()
        self.kind = handover(encoder)
        self.encoder = deepcopy(encoder).cpu()

    def forward(self, inputs: Inputs) -> Said:
        features = self.kind.features(self.encoder, inputs)
        return features.pooled, features.tokens


def _resizing(spec: ImageSpec) -> str:
    """How a picture becomes the square that a graph takes."""
    framing = spec.framing
    if framing is None or (not framing.keep and framing.edge == spec.size):
        return "resize the whole image to the square"
    how = "its shorter side" if framing.keep else "both sides"
    first = f"resize {how} to {framing.edge} px, and" if framing.edge else "do not resize, but"
    return f"{first} cut the middle {spec.size} px out"


def _outputs(places: int | str, dim: int) -> dict[str, Any]:
    return {
        "pooled": {"shape": ["batch", dim], "dtype": "float32"},
        "tokens": {"shape": ["batch", places, dim], "dtype": "float32"},
    }
