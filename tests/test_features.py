"""Features are those of evaluation mode, of every depth, whatever the batches; and unusable ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tacit.core.errors import UserError
from tacit.core.types import Features
from tacit.evaluation.features import Stored, extract

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def fetch(rows):
    return {"image": IMAGES[torch.as_tensor(rows)], "index": torch.as_tensor(rows)}


class Small(nn.Module):
    """Batch norm and dropout: what betrays the wrong mode."""

    dim, n_depths = 6, 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)

    def forward(self, batch, *, depths=()):
        first = self.first(batch["image"])
        last = self.second(first)
        pooled = [first.mean((2, 3)), last.mean((2, 3))]
        grid = (last.shape[2], last.shape[3])
        return Features(last.flatten(2).transpose(1, 2), pooled[1], None, grid, tuple(pooled[i] for i in depths))


class Words(nn.Module):
    """Says of a text its numbers, and remembers how wide its batches were."""

    dim, n_depths, at_once, sorts = 1, 0, 3, True

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, batch, *, depths=()):
        self.shapes.append(tuple(batch["tokens"].shape))
        x = (batch["tokens"] * batch["valid"])[:, :, None].float()
        return Features(x, x.sum(1), batch["valid"])


def test_texts_of_like_length_are_read_together():
    lengths = torch.tensor([5, 1, 9, 2, 1, 8, 2])

    def fetch_words(rows):
        valid = torch.arange(9) < lengths[rows][:, None]
        return {"tokens": (torch.as_tensor(rows)[:, None] + 1) * valid, "valid": valid}

    encoder = Words()
    found = extract(encoder, fetch_words, np.array([6, 0, 2, 1, 3, 5, 4]))
    assert found["pooled"][:, 0].tolist() == [14, 5, 27, 2, 8, 48, 5]
    assert encoder.shapes == [(3, 2), (3, 8), (1, 9)]


def test_every_representation_in_the_order_of_rows():
    encoder = Small()
    rows = np.array([7, 3, 30, 3])
    found = extract(encoder, fetch, rows)
    assert {name: values.shape for name, values in found.items()} == {
        "pooled": (4, 6),
        "depth0": (4, 4),
        "grid2": (4, 24),
    }
    assert all(values.dtype == np.float32 for values in found.values())
    np.testing.assert_array_equal(found["pooled"][1], found["pooled"][3])

    encoder.eval()
    with torch.no_grad():
        last = encoder.second(encoder.first(IMAGES[[30]]))
    np.testing.assert_allclose(found["pooled"][2], last.mean((2, 3))[0], atol=1e-6)
    quarters = [last[0, :, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2) for j in (0, 2)]
    np.testing.assert_allclose(found["grid2"][2].reshape(6, 4).T, torch.stack(quarters), atol=1e-6)


def test_batches_do_not_matter():
    encoder, rows = Small(), np.arange(40)
    whole = extract(encoder, fetch, rows)
    for size in (1, 7):
        for name, values in extract(encoder, fetch, rows, batch_size=size).items():
            np.testing.assert_allclose(values, whole[name], atol=1e-6)


def test_the_encoder_is_left_as_it_was():
    encoder = Small().train()
    encoder.first[1].eval()  # a frozen batch norm
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    extract(encoder, fetch, np.arange(20))
    assert encoder.training
    assert encoder.first.training
    assert not encoder.first[1].training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder(fetch(np.arange(4))).pooled.sum().backward()  # still trainable
    encoder.second = None
    with pytest.raises(TypeError):
        extract(encoder, fetch, np.arange(4))
    assert encoder.training


def test_a_callable_without_parameters_is_an_encoder():
    class Pixels:
        dim, n_depths = 64, 0

        def __call__(self, batch, *, depths=()):
            flat = batch["image"].flatten(1)
            return Features(flat[:, None], flat)

    found = extract(Pixels(), fetch, np.arange(5))
    assert list(found) == ["pooled"]
    np.testing.assert_array_equal(found["pooled"], IMAGES[:5].flatten(1))


def test_a_sequence_is_read_by_its_first_words_too() -> None:
    tokens = torch.arange(20.0).reshape(2, 5, 2) ** 2
    valid = torch.tensor([[False, True, False, True, True], [True, False, False, False, False]])

    def encoder(batch, *, depths=()):
        return Features(tokens, torch.zeros(2, 2), valid)

    encoder.n_depths = 0
    found = extract(encoder, fetch, np.arange(2))["opening"]
    np.testing.assert_allclose(found[0], [(4 + 36) / 2, (9 + 49) / 2, 0, 0])
    np.testing.assert_allclose(found[1], [100, 121, 0, 0])


def test_nan_is_refused_with_its_extent():
    encoder = Small()

    def broken(rows):
        batch = fetch(rows)
        batch["image"] = batch["image"].clone()
        batch["image"][batch["index"] % 10 == 0] = float("nan")
        return batch

    with pytest.raises(UserError, match="4 of 40 examples"):
        extract(encoder, broken, np.arange(40))


def test_stored_embeddings_are_looked_up() -> None:
    values = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    stored, rows = Stored(values), np.array([7, 3, 30])
    np.testing.assert_array_equal(extract(stored, fetch, rows)["pooled"], values[rows])
    np.testing.assert_array_equal(stored(fetch(rows)).pooled, values[rows])  # the same when asked as an encoder
    assert (stored.dim, stored.n_depths) == (5, 0)
    values[3] = np.nan
    with pytest.raises(UserError, match="1 of 3 examples have NaN"):
        extract(stored, fetch, rows)
