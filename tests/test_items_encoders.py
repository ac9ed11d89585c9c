"""Encoders of histories: windows, what comes next, ids, recommendation, growth, files, and other programs' copies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tacit.core.errors import UserError
from tacit.core.types import Batch, Causal, Encoder, Ranker
from tacit.encoders import build_encoder, load_encoder, save_encoder
from tacit.formats.write import export
from tacit.modalities.events.catalogue import FILE_NAME, Catalogue
from tacit.modalities.events.encoder import GROUPS, ItemEncoder
from tests.tiny import CATALOGUE, ITEM_SPEC, ITEMS, tiny_item_encoder

NAMES = ("sasrec_nano", "bert4rec_nano")
by_name = pytest.mark.parametrize("name", NAMES)


def shaken(name: str) -> ItemEncoder:
    """With weights far from the start, where every event says something else."""
    encoder = tiny_item_encoder(name).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return encoder


def rows(*lengths: int, seed: int = 0) -> Batch:
    """Histories of random items, of so many events."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(2, ITEM_SPEC.vocabulary, (length,), generator=generator)
    return {"tokens": tokens, "valid": tokens != 0, "index": torch.arange(len(lengths))}


@by_name
@torch.no_grad()
def test_a_history_means_the_same_alone_and_among_others(name: str) -> None:
    encoder, batch = shaken(name), rows(3, 12, 1, 30)
    features, scores = encoder(batch, depths=(0, 1, 2)), encoder.scores(batch)
    assert scores.shape == (4, ITEMS)
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, Ranker)
    assert isinstance(encoder, Causal)
    assert torch.equal(features.depths[-1], features.pooled)
    for row, length in enumerate((3, 12, 1, 30)):
        latest = batch["tokens"][row : row + 1, max(0, length - ITEM_SPEC.length) : length]
        alone = {"tokens": latest, "valid": latest != 0}
        torch.testing.assert_close(encoder(alone).pooled[0], features.pooled[row])
        own = batch["tokens"][row : row + 1, :length]
        torch.testing.assert_close(encoder.scores({"tokens": own})[0], scores[row])


@torch.no_grad()
def test_what_comes_later_is_not_seen_by_a_causal_encoder() -> None:
    encoder, batch = shaken("sasrec_nano"), rows(9)
    changed = {**batch, "tokens": batch["tokens"].clone()}
    changed["tokens"][0, 5:] = 2
    before, after = encoder(batch).tokens, encoder(changed).tokens
    torch.testing.assert_close(before[0, :5], after[0, :5])
    assert not torch.allclose(before[0, 5:], after[0, 5:])
    torch.testing.assert_close(encoder(batch).pooled, before[:, -1])


@torch.no_grad()
def test_a_mask_behind_the_history_asks_for_what_comes_next() -> None:
    encoder, batch = shaken("bert4rec_nano"), rows(4, 25)
    short = torch.cat([batch["tokens"][:1, :4], torch.tensor([[ITEM_SPEC.mask]])], dim=1)
    full = torch.cat([batch["tokens"][1:, 25 - ITEM_SPEC.length + 1 :], torch.tensor([[ITEM_SPEC.mask]])], dim=1)
    assert full.shape[1] == ITEM_SPEC.length
    for row, asked in enumerate((short, full)):
        state = encoder({"tokens": asked, "valid": asked != 0}).tokens[0, -1]
        expected = (state @ encoder.table.T)[ITEM_SPEC.first :]
        torch.testing.assert_close(encoder.scores(batch)[row], expected)


@torch.no_grad()
def test_scores_are_cosines_over_a_temperature_or_products(tmp_path: Path) -> None:
    batch = rows(3, 9)
    for temperature in (0.2, 0.0):
        encoder = tiny_item_encoder(temperature=temperature, dropout=0.4).eval()
        state, table = encoder(batch).pooled, encoder.table[ITEM_SPEC.first :]
        cosines = torch.nn.functional.cosine_similarity(state[:, None], table[None], dim=2)
        expected = cosines / temperature if temperature else state @ table.T
        torch.testing.assert_close(encoder.scores(batch), expected)
        save_encoder(encoder, tmp_path / "encoder")
        found = load_encoder(tmp_path / "encoder")
        assert isinstance(found, ItemEncoder)
        assert found.options == {"dropout": 0.4, "temperature": temperature}
        torch.testing.assert_close(found.scores(batch), expected)
        assert found.recommend(["item 3"], 5) == encoder.recommend(["item 3"], 5)
        said = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
        assert ("cosine, over 0.2," if temperature else "its product with") in said["pooled"]


def test_the_rarer_items_are_the_more_is_dropped_out() -> None:
    dropout = [tiny_item_encoder().options["dropout"]]
    for uses in (5.0, 500.0):
        dropout.append(build_encoder("sasrec_nano", replace(ITEM_SPEC, uses=uses)).options["dropout"])
    assert dropout[1] > dropout[2] == dropout[0]
    assert build_encoder("sasrec_nano", replace(ITEM_SPEC, uses=5.0), dropout=0.0).options["dropout"] == 0


@by_name
@torch.no_grad()
def test_rows_are_encoded_together_with_those_of_about_their_length(name: str) -> None:
    encoder, batch = shaken(name), rows(*range(1, ITEM_SPEC.length + 1), 1, 7, 3)
    assert len(batch["tokens"]) >= 2 * GROUPS
    together, whole = encoder(batch, depths=(0, 1)), encoder.graph(batch["tokens"], batch["valid"], (0, 1))
    torch.testing.assert_close(together.pooled, whole.pooled)
    torch.testing.assert_close(together.depths, whole.depths)
    torch.testing.assert_close(together.tokens[batch["valid"]], whole.tokens[batch["valid"]])


@by_name
@torch.no_grad()
def test_items_that_nobody_has_taught_it_are_left_out(name: str) -> None:
    encoder, batch = shaken(name), rows(5)
    strange = torch.tensor([[*batch["tokens"][0, :2].tolist(), 999, *batch["tokens"][0, 2:].tolist(), 1000]])
    found = encoder({"tokens": strange, "valid": strange != 0}).pooled
    torch.testing.assert_close(found, encoder(batch).pooled)
    told = encoder.encode(["item 3", "a new one", "item 5"])
    assert told.unknown == 1
    torch.testing.assert_close(told.embedding, encoder.encode(["item 3", "item 5"]).embedding)
    nothing = encoder.encode(["a new one"])
    assert nothing.unknown == 1
    assert nothing.embedding.isfinite().all()


@by_name
def test_recommended_are_the_best_of_all_items_that_are_allowed(name: str) -> None:
    encoder = shaken(name).train()
    history = ["item 3", "item 7", "unheard of", "item 1"]
    with torch.no_grad():
        scores = shaken(name).scores(encoder.prepare([history]))[0]
    order = [f"item {n}" for n in scores.argsort(descending=True).tolist()]
    found = encoder.recommend(history, 5)
    assert found.items == [item for item in order if item not in history][:5]
    assert found.unknown == 1
    assert found.scores == sorted(found.scores, reverse=True)
    assert encoder.recommend(history, 5, seen=True).items == order[:5]
    some = encoder.recommend(history, 10, allowed=["item 3", "item 9", "item 2", "unknown"])
    assert some.items == [item for item in order if item in ("item 9", "item 2")]
    assert len(encoder.recommend([], 1000).items) == ITEMS
    assert encoder.training, "as it was"
    with pytest.raises(UserError, match="no item is left to recommend"):
        encoder.recommend(history, 3, allowed=["item 3"])
    with pytest.raises(UserError, match="k is 0; ask for at least one item"):
        encoder.recommend(history, 0)


def test_ids_that_were_numbers_come_back_as_such() -> None:
    known = Catalogue(pa.array(["10", "7", "300"]), whole=True)
    assert known.numbers([7, "7", 7.0, np.int64(300), "x"]).tolist() == [1, 1, 1, 2, -1]
    assert known.items([2, 0]) == [300, 10]


@by_name
def test_a_grown_catalogue_leaves_what_was_learned(name: str) -> None:
    encoder = shaken(name)
    batch, before = rows(6, 12), encoder.table.detach().clone()
    scores = encoder.scores(batch).detach()
    encoder.grow(CATALOGUE)
    assert torch.equal(encoder.table, before)
    longer = Catalogue(pa.concat_arrays([CATALOGUE.ids, pa.array(["new", "newer"])]))
    encoder.grow(longer)
    assert encoder.spec.items == ITEMS + 2
    torch.testing.assert_close(encoder.scores(batch)[:, :ITEMS], scores)
    torch.testing.assert_close(encoder.table[-1], before[2:].mean(0))
    assert encoder.encode(["newer"]).unknown == 0
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@by_name
def test_saved_and_loaded_it_says_the_same_of_ids(name: str, tmp_path: Path) -> None:
    encoder = shaken(name)
    save_encoder(encoder, tmp_path / "run" / "encoder")
    found = load_encoder(tmp_path / "run")
    assert isinstance(found, ItemEncoder)
    assert (found.name, found.spec, found.spec.catalogue) == (name, ITEM_SPEC, CATALOGUE)
    assert found.spec.known.attributes == CATALOGUE.attributes
    history = ["item 3", "item 20"]
    assert found.recommend(history, 7) == encoder.recommend(history, 7)
    table = found.item_table()
    assert table["item"].to_pylist() == CATALOGUE.ids.to_pylist()
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.array_equal(vectors, encoder.table[2:].detach().numpy())
    (tmp_path / "run" / "encoder" / FILE_NAME).write_bytes(b"another")
    with pytest.raises(UserError, match=r"items\.parquet is damaged"):
        load_encoder(tmp_path / "run")


@by_name
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("to", ["hf", "onnx", "safetensors"])
def test_copies_say_what_the_encoder_says(name: str, to: str, tmp_path: Path) -> None:
    done = export(shaken(name), to, tmp_path / to)  # type: ignore[arg-type]
    assert done["difference"] < 1e-4
    assert FILE_NAME in done["files"]
    if to == "onnx":
        said = json.loads((tmp_path / to / "onnx.json").read_text())
        assert said["length"] == ITEM_SPEC.length
        assert FILE_NAME in said["preprocessing"]


def test_what_is_no_history_is_named() -> None:
    encoder = tiny_item_encoder()
    with pytest.raises(UserError, match="the encoder sasrec_nano takes tokens"):
        encoder({"image": torch.zeros(1, 1, 8, 8)})
    with pytest.raises(UserError, match="nothing to prepare"):
        encoder.prepare([])
