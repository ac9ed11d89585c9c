"""A person's own function, named or given: what is found, what it may answer, and each mistake in a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tacit.core.errors import UserError
from tacit.core.types import Batch, Features
from tacit.encoders.external import as_encoder, import_callable, is_callable_name
from tacit.evaluation.features import extract

MODULE = """
import torch

constant = 3

def means(batch):
    return batch["image"].float().mean((2, 3))

class Encoder:
    dim, n_depths = 1, 0
    def __call__(self, batch, *, depths=()):
        return means(batch)

class Sized:
    def __init__(self, size):
        self.size = size
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder with a module `own_models` and one that cannot be imported."""
    (tmp_path / "own_models.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("import no_such_library")
    (tmp_path / "own_wrong.py").write_text("1 +")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("own_models", "own_broken", "own_wrong"):
        sys.modules.pop(name, None)


def batch(n: int = 4) -> Batch:
    return {"image": torch.arange(n * 8.0).reshape(n, 2, 2, 2), "index": torch.arange(n)}


def test_names(here: Path) -> None:
    assert all(map(is_callable_name, ["a:b", "own_models:means", "a.b.c:d.e"]))
    assert not any(map(is_callable_name, ["hf:name", "hf:a/b", "runs/a", "digits", "C:\\models", "a:", Path("a:b"), 3]))
    (here / "a:b").touch()
    assert not is_callable_name("a:b")


def test_a_function_is_found_in_the_current_folder(here: Path) -> None:
    encoder = as_encoder(import_callable("own_models:means"), "own_models:means")
    features = encoder(batch())
    torch.testing.assert_close(features.pooled, batch()["image"].mean((2, 3)))
    assert features.tokens.shape == (4, 1, 2)
    assert (encoder.dim, encoder.n_depths) == (2, 0)
    assert type(as_encoder(import_callable("own_models:Encoder"), "")).__name__ == "Encoder"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such:f", "there is no module 'no_such'"),
        ("own_models.deeper:f", "there is no module 'own_models.deeper'"),
        ("own_broken:f", "importing 'own_broken' failed with ModuleNotFoundError: No module named 'no_such_library'"),
        ("own_wrong:f", "importing 'own_wrong' failed with SyntaxError"),
        ("own_models:mean", "'own_models' has no 'mean'; did you mean 'means'"),
        ("own_models:constant", "of type int, which cannot be called"),
        ("own_models:Sized", "is a class that needs arguments"),
    ],
)
def test_mistakes_are_one_line(here: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        as_encoder(import_callable(name), name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.zeros(4), r"Tensor \[4\]"),
        (torch.zeros(3, 2), r"Features \[3, 2\]"),
        (None, "NoneType"),
        ([1, 2], "list"),
    ],
)
def test_other_answers_are_refused(answer: Any, said: str) -> None:
    encoder = as_encoder(lambda batch: answer, "mine")
    with pytest.raises(UserError, match=f"mine answers 4 examples with {said}: return tacit.Features or a tensor"):
        encoder(batch())


def test_a_module_is_embedded_in_evaluation_mode() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(8)

        def forward(self, batch: Batch) -> Features:
            pooled = self.norm(batch["image"].flatten(1))
            return Features(pooled[:, None], pooled)

    own = Own()
    rows = torch.arange(4).numpy()
    pooled = extract(as_encoder(own, "own"), lambda rows: batch(), rows)["pooled"]
    torch.testing.assert_close(torch.from_numpy(pooled), batch()["image"].flatten(1), rtol=1e-4, atol=1e-4)
    assert own.norm.training
