"""A person's own function as an encoder: `package.module:function` imported by its name, and what it may return."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tacit.core.errors import UserError, nearest
from tacit.core.types import Batch, Encoder, Features

_NAMED = re.compile(r"(?!hf:)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_callable_name(source: Any) -> bool:
    """Whether `source` reads like package.module:function and is no file or folder."""
    return isinstance(source, str) and _NAMED.fullmatch(source) is not None and not Path(source).exists()


def import_callable(name: str) -> Any:
    """Import what `package.module:function` names, also from the current folder. UserError where there is none."""
    module_name, _, path = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except Exception as error:  # a person's own module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{name}: there is no module {error.name!r}, here or among those installed") from None
        message = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name}: importing {module_name!r} failed with {message}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__name__", module_name)
            raise UserError(f"{name}: {where!r} has no {part!r}{nearest(part, vars(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{name} is of type {type(found).__name__}, which cannot be called: name a function of batches")
    return found


def as_encoder(found: Any, name: str) -> Encoder:
    """Any callable as an encoder: encoders as they are; classes are built first; functions and modules are wrapped."""
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UserError(f"{name} is a class that needs arguments ({error}): name a function or an object") from None
    if not callable(found):
        raise UserError(f"{name} is of type {type(found).__name__}, which cannot be called: give a function of batches")
    return found if hasattr(found, "n_depths") else Function(found, name)


class Function(nn.Module):  # so that a module inside is evaluated in evaluation mode
    """A function from a batch to `Features`, or to a tensor [B D], as an encoder without depths."""

    n_depths = 0

    def __init__(self, function: Callable[[Batch], Any], name: str) -> None:
        super().__init__()
        self.function, self.name = function, name
        self.dim = 0  # set by the first batch

    def forward(self, batch: Batch, *, depths: Sequence[int] = ()) -> Features:
        answer = self.function(batch)
        n = len(batch["index"])
        if isinstance(answer, torch.Tensor) and answer.ndim == 2:
            answer = Features(answer[:, None], answer)
        if not isinstance(answer, Features) or answer.pooled.ndim != 2 or len(answer.pooled) != n:
            shape = getattr(getattr(answer, "pooled", answer), "shape", None)
            returned = type(answer).__name__ + ("" if shape is None else f" {list(shape)}")
            raise UserError(
                f"{self.name} answers {n} examples with {returned}: return tacit.Features or a tensor [B D]"
            )
        self.dim = answer.pooled.shape[1]
        return answer

    def scores(self, batch: Batch) -> Any:
        """The output of a function that scores every item of a catalogue, [B n]."""
        return self.function(batch)
