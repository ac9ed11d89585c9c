"""From a table of events to an encoder that recommends, and on to new items; what a report shows of histories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tacit
from tacit.core import keys
from tacit.core.errors import UserError
from tacit.dataset import open_dataset
from tacit.modalities.events.encoder import ItemEncoder
from tacit.modalities.events.modality import MODALITY as EVENTS
from tacit.modalities.events.views import ItemViews
from tests.events import events as some_events
from tests.events import histories_of, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("items")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A run of a few steps on the first twenty of thirty items."""
    rows = [row for row in some_events(400) if row["item"] < 20]
    path = write(rows, folder / "events.parquet")
    tacit.pretrain(str(path), task="next+0.1*simclr", budget="4steps", out=str(folder / "run"), device="cpu", length=8)
    return folder / "run"


def test_a_run_ends_with_an_encoder_that_recommends(trained: Path):
    encoder = tacit.load_encoder(trained)
    assert isinstance(encoder, ItemEncoder)
    assert (encoder.name, encoder.spec.items, encoder.spec.length) == ("sasrec_nano", 20, 8)
    found = encoder.recommend([3, 5, 29], 4)
    assert found.unknown == 1
    assert len({*found.items, 3, 5}) == 6
    assert all(isinstance(item, int) for item in found.items)
    log = (trained / "log.txt").read_text()
    assert "20 histories of" in log
    assert "in time by 'timestamp'" in log


def test_pretraining_goes_on_with_items_that_are_new(trained: Path, folder: Path):
    path = write(some_events(400, seed=1), folder / "later.parquet")
    tacit.pretrain(str(path), task="next", budget="2steps", init=str(trained), out=str(folder / "later"), device="cpu")
    before, after = tacit.load_encoder(trained), tacit.load_encoder(folder / "later")
    assert isinstance(before, ItemEncoder)
    assert isinstance(after, ItemEncoder)
    assert before.spec.known.begins(after.spec.known)
    assert (after.spec.items, after.spec.length) == (30, 8)
    assert after.encode([29]).unknown == 0


def test_histories_and_items_are_embedded(trained: Path, folder: Path):
    data = str(folder / "events.parquet")
    tacit.embed(str(trained), data, out=str(folder / "people.parquet"), device="cpu")
    people = pq.read_table(folder / "people.parquet")
    assert people.num_rows == 20
    assert people.schema.field("embedding").type.list_size == tacit.load_encoder(trained).dim
    tacit.embed(str(trained), data, out=str(folder / "items.parquet"), of_items=True, device="cpu")
    assert sorted(map(int, pq.read_table(folder / "items.parquet")["item"].to_pylist())) == list(range(20))
    with pytest.raises(UserError, match="--of-items: the encoder convnet reads images"):
        tacit.embed(
            tacit.encoders.build_encoder("convnet", tacit.open_dataset("digits").spec),
            "digits",
            out=str(folder / "no.parquet"),
            of_items=True,
        )


def test_what_is_held_out_is_in_no_batch_of_training(folder: Path):
    dataset = open_dataset(pa.Table.from_pylist(some_events(300)), cache=str(folder / "cache"))
    plan = EVENTS.recipe(
        {"next": 1.0}, tacit.encoders.build_encoder("sasrec_nano", dataset.spec), examples=len(dataset)
    )
    source = EVENTS.batches(dataset.cache, np.arange(len(dataset)), plan, 0)
    histories = histories_of(dataset)
    for step in range(8):
        batch = source(step)
        for row, tokens, valid in zip(batch["index"].tolist(), batch["tokens"], batch["valid"], strict=True):
            [known] = histories.without_last(2).seen(np.array([row]))
            assert (tokens[valid] - 2).tolist() == known.tolist()


def test_embeddings_begin_near_those_that_items_stood_beside(folder: Path):
    first = [{"user": 80, "item": item, "position": item} for item in range(20)]  # numbers items, whatever follows
    rows = [
        {"user": user, "item": 10 * (user % 2) + (user // 2 + 3 * place) % 10, "position": place}
        for user in range(80)
        for place in range(8)
    ]
    begun = begun_on([*first, *rows], folder)
    assert torch.equal(begun, begun_on([*first, *rows], folder)), "the same every time"
    later = [{**row, "item": 0} if row["position"] >= 6 else row for row in rows]
    assert torch.equal(begun, begun_on([*first, *later], folder)), "of what is held out nothing is known"
    kinds = torch.arange(20) // 10
    alike = torch.nn.functional.cosine_similarity(begun[:, None], begun[None], dim=2)
    beside, apart = alike[kinds[:, None] == kinds], alike[kinds[:, None] != kinds]
    assert float(beside.mean()) > 0.05 + float(apart.mean())


def begun_on(rows: list[dict[str, int]], folder: Path) -> torch.Tensor:
    """The embeddings of items that training begins with, in the order of their ids."""
    dataset = open_dataset(pa.Table.from_pylist(rows), cache=str(folder / "cache"))
    torch.manual_seed(0)
    encoder = tacit.encoders.build_encoder("sasrec_nano", dataset.spec)
    EVENTS.warm_start(encoder, dataset.cache, np.arange(len(dataset)))
    order = dataset.spec.known.numbers(range(20))
    return encoder.table[2:].detach()[torch.from_numpy(order)]


def test_people_see_names_in_order(folder: Path):
    rows = [{"user": u, "item": i, "position": i} for u in "ab" for i in range(3)]
    about = write([{"item": i, "title": f"film {i}"} for i in range(2)], folder / "films.csv")
    dataset = open_dataset(pa.Table.from_pylist(rows), cache=str(folder / "cache"), item_table=str(about))
    assert EVENTS.pictures(dataset.cache, np.array([0])) == ["film 0 → film 1 → 2"]
    assert EVENTS.shown(dataset.cache, torch.tensor([[2, 1, 3, 0]])) == ["film 0 → [?] → film 1"]
    assert "order only" in EVENTS.describe(dataset.cache)
    assert len(EVENTS.about(dataset.cache)) == 2
    batch = {**dataset.batch(np.array([0, 1])), "key": keys.batch_keys(0, 0, torch.arange(2))}
    seen = EVENTS.scratch_views(dataset.spec)(batch, 0)
    assert isinstance(EVENTS.views(dataset.spec), ItemViews)
    assert torch.equal(seen["tokens"], batch["tokens"])


def test_a_setting_of_another_kind_is_refused(folder: Path):
    with pytest.raises(UserError, match="--k-core 5: digits holds no events but images; leave it out"):
        open_dataset("digits", cache=str(folder / "cache"), k_core=5)
    with pytest.raises(UserError, match="--holdout last: digits holds no events but images; leave it out"):
        open_dataset("digits", cache=str(folder / "cache"), holdout="last")
