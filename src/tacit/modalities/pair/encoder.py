"""Two encoders side by side, and a linear map of each into one space, where what belongs together lies together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.modalities.pair.spec import PairSpec
from tacit.modalities.pair.store import of_side

TEMPLATES = ("{}", "a {}", "this is a {}")  # of what a class is called, for classification by its name
_AT_ONCE = 256  # examples that are embedded together


class Towers(OwnEncoder):
    """A tower for each side, each an encoder of its own modality, and a linear map of each into `out` dimensions.

    Where one embedding of a pair is wanted it is the first tower's own, so that whatever judges encoders judges that
    tower. `frozen` towers keep their weights, and their batch norms count nothing (Zhai et al. 2021, "LiT: Zero-shot
    transfer with locked-image text tuning", arXiv:2111.07991).
    """

    spec: PairSpec
    pooling = "that of the first tower"

    def __init__(
        self,
        name: str,
        spec: PairSpec,
        *,
        parts: Mapping[str, OwnEncoder],
        out: int = 128,
        frozen: Sequence[str] = (),
    ) -> None:
        first = parts[spec.first]
        options = {"out": out, "frozen": list(frozen)}
        super().__init__(name, spec, dim=first.dim, n_depths=first.n_depths, options=options)
        for side in frozen:
            if side not in parts:
                raise UserError(f"--freeze {side}: the sides are {' and '.join(parts)}")
            parts[side].requires_grad_(False)
        self.out = out
        self.frozen = tuple(frozen)
        self.inner = nn.ModuleDict({side: parts[side] for side in spec.sides})
        self.maps = nn.ModuleDict({side: nn.Linear(parts[side].dim, out, bias=False) for side in spec.sides})

    @property
    def parts(self) -> dict[str, OwnEncoder]:
        return {side: tower for side, tower in self.inner.items() if isinstance(tower, OwnEncoder)}

    def __getattr__(self, name: str) -> Any:
        """`towers.image` is the tower of images."""
        inner = self.__dict__.get("_modules", {}).get("inner")
        if inner is not None and name in inner:
            return inner[name]
        return super().__getattr__(name)

    @property
    def title(self) -> str:
        return " and ".join(f"{tower.name} for {side}" for side, tower in self.parts.items())

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for side in self.frozen:
            self.parts[side].eval()
        return self

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        """The features of the first tower."""
        side = self.spec.first
        found: Features = self.parts[side](of_side(batch, side), depths=depths)
        return found

    def embed(self, side: str, batch: Batch) -> Tensor:
        """The embeddings [B out] of a batch of one side, of length 1."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and side not in self.frozen):
            pooled = self.parts[side](batch).pooled
        return normalize(self.maps[side](pooled).float(), dim=1)

    def sides(self, batch: Batch) -> dict[str, Tensor]:
        """The embeddings [B out] of both sides of a batch of pairs."""
        return {side: self.embed(side, of_side(batch, side)) for side in self.parts}

    def prepare(self, examples: Mapping[str, Any]) -> Batch:
        """Examples of one side or both, by the name of the side, as a batch on the encoder's device."""
        unknown = next((side for side in examples if side not in self.parts), None)
        if unknown is not None or not examples:
            raise UserError(f"no side is called {unknown!r}; give examples of {' or '.join(self.parts)}")
        batch: Batch = {}
        for side, of in examples.items():
            own = self.parts[side].prepare(of)
            batch |= {f"{side}.{field}": value for field, value in own.items()}
            batch.setdefault("index", own["index"])
        return batch

    @torch.no_grad()
    def embedding_of(self, side: str, examples: Sequence[Any]) -> Tensor:
        """The embeddings [n out] of raw examples of one side, such as texts or paths of images."""
        training, found = self.training, []
        self.eval()
        try:
            for start in range(0, len(examples), _AT_ONCE):
                found.append(self.embed(side, self.parts[side].prepare(examples[start : start + _AT_ONCE])))
        finally:
            self.train(training)
        return torch.cat(found)

    def by_name(self, classes: Sequence[str], held: Sequence[Sequence[str]] = ()) -> Tensor:
        """The embeddings [K out] of classes by their names, each the mean over texts that hold it.

        These are `held`, for each class, and where it has none the templates (Radford et al. 2021).
        """
        held = held or [()] * len(classes)
        texts = [
            of or [template.format(name) for template in TEMPLATES] for name, of in zip(classes, held, strict=True)
        ]
        distinct = {text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
        each = self.embedding_of(self.spec.second, list(distinct))
        return normalize(torch.stack([each[[distinct[text] for text in of]].mean(0) for of in texts]), dim=1)

    def forget_names(self) -> None:
        for tower in self.parts.values():
            tower.forget_names()

    def spec_in(self, folder: Path) -> dict[str, Any]:
        """The names of the sides: their specs stand in the folders of the towers."""
        return {"sides": list(self.spec.sides)}
