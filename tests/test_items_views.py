"""Views of histories, masks, and losses over a catalogue, each against a naive oracle."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.types import Batch
from tacit.modalities.events import recipes
from tacit.modalities.events.catalogue import Catalogue
from tacit.modalities.events.modality import MODALITY as EVENTS
from tacit.modalities.events.spec import ItemSpec
from tacit.modalities.events.views import GBCE, AttributeLoss, ItemMask, ItemViews, SampledSoftmax
from tacit.modalities.recipe import make_task
from tacit.modalities.tokens import Corruption
from tacit.tasks.masked import Masked
from tacit.tasks.next import Next
from tests.tiny import (
    ATTRIBUTES,
    CATALOGUE,
    ITEM_SPEC,
    ITEMS,
    TinyBatches,
    tiny_item_encoder,
    tiny_recipe,
    without_dropout,
)

LENGTH = ITEM_SPEC.length


def told(*lengths: int, seed: int = 0) -> Batch:
    """Histories whose events are all different, so that it can be told where each came from."""
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = 2 + torch.arange(length)
    key = keys.batch_keys(seed, 0, torch.arange(len(lengths)))
    weight = torch.where(tokens > 0, tokens.float() / 10, 0)
    return {"tokens": tokens, "valid": tokens > 0, "weight": weight, "key": key}


def kept(batch: Batch, row: int) -> list[int]:
    return batch["tokens"][row][batch["valid"][row]].tolist()


def many(length: int, views: ItemViews, n: int = 300) -> list[list[int]]:
    seen = views(told(*[length] * n), 0)
    assert torch.equal(seen["valid"].int().cummin(1).values, seen["valid"].int()), "events stand together, at the left"
    return [kept(seen, row) for row in range(n)]


def runs(length: int) -> set[tuple[int, ...]]:
    return {tuple(range(2 + first, 2 + first + LENGTH)) for first in range(length - LENGTH + 1)}


def test_a_window_is_a_run_of_events_often_the_latest():
    assert many(5, ItemViews(ITEM_SPEC, LENGTH)) == [[2, 3, 4, 5, 6]] * 300
    found = Counter(map(tuple, many(LENGTH + 4, ItemViews(ITEM_SPEC, LENGTH))))
    assert set(found) == runs(LENGTH + 4)
    assert found[tuple(range(6, 6 + LENGTH))] > 150
    latest = many(30, ItemViews(ITEM_SPEC, LENGTH, latest=1.0))
    assert latest == [list(range(2 + 30 - LENGTH, 32))] * 300
    seen = ItemViews(ITEM_SPEC, LENGTH)(told(20), 0)
    torch.testing.assert_close(seen["weight"], seen["tokens"].float() / 10, msg="weights go with their events")


@pytest.mark.parametrize("length", [1, 2, 7, 10])
def test_a_crop_is_a_share_of_the_events_in_a_row(length: int):
    wanted = max(1, round(0.6 * length))
    found = many(length, ItemViews(ITEM_SPEC, LENGTH, ways=("crop",)))
    assert {len(row) for row in found} == {wanted}
    assert {row[0] for row in found} == set(range(2, 2 + length - wanted + 1))
    assert all(row == list(range(row[0], row[0] + wanted)) for row in found)


def test_a_share_of_events_is_hidden_or_others_stand_there():
    hidden = many(10, ItemViews(ITEM_SPEC, LENGTH, ways=("mask",)))
    assert {row.count(ITEM_SPEC.mask) for row in hidden} == {3}
    assert len(set(map(tuple, hidden))) > 50
    others = many(10, ItemViews(ITEM_SPEC, LENGTH, ways=("substitute",)))
    changed = [[item for place, item in enumerate(row) if item != 2 + place] for row in others]
    assert {len(row) for row in changed} == {1, 2}, "2 of 10, but for an item that replaces itself"
    assert {item for row in changed for item in row} == set(range(2, 2 + ITEMS))


def test_neighbouring_events_change_their_order():
    found = many(10, ItemViews(ITEM_SPEC, LENGTH, ways=("reorder",)))
    assert all(sorted(row) == list(range(2, 12)) for row in found)
    moved = [[place for place, item in enumerate(row) if item != 2 + place] for row in found]
    assert max(row[-1] - row[0] for row in moved if row) == 5, "6 of 10 in a row"
    assert {row[0] for row in moved if row} >= set(range(5)), "from any place on"


def test_views_differ_and_depend_on_the_key_alone():
    views = ItemViews(ITEM_SPEC, LENGTH, ways=("crop", "mask", "reorder"))
    batch = told(*range(1, 25))
    first, again, other = views(batch, 0), views(batch, 0), views(batch, 1)
    assert torch.equal(first["tokens"], again["tokens"])
    assert first["tokens"].shape != other["tokens"].shape or not torch.equal(first["tokens"], other["tokens"])
    some = {name: value[7:9] for name, value in batch.items()}
    assert [kept(views(some, 0), row) for row in range(2)] == [kept(first, row) for row in (7, 8)]
    ways = Counter(map(len, many(10, replace(views, ways=("crop", "mask")))))
    assert 100 < ways[6] < 200, "each way in half of the rows"


def test_masks_hide_a_share_or_the_last_event_alone():
    batch = told(*[10] * 200, *[1] * 200)
    mask = ItemMask(0.3, last=0.5)(batch, torch.zeros(()))
    assert not (mask & ~batch["valid"]).any()
    alone = (mask.sum(1) == 1)[:200]
    assert 60 < int(alone.sum()) < 140
    assert mask[:200, 9][alone].all()
    assert set(mask[:200].sum(1).tolist()) == {1, 3}
    assert mask[200:, 0].all()
    shown = Corruption(ITEM_SPEC)(batch, mask)["tokens"]
    assert (shown[mask] == ITEM_SPEC.mask).all()
    assert torch.equal(shown[~mask], batch["tokens"][~mask])


# Losses


def states(n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(ITEM_SPEC.vocabulary, 8, generator=generator)
    truth = torch.randint(2, ITEM_SPEC.vocabulary, (n,), generator=generator)
    return torch.randn(n, 8, generator=generator), truth, table


def test_sampled_softmax_is_right_on_average_and_with_every_item_drawn(monkeypatch: pytest.MonkeyPatch):
    hidden, truth, table = states()
    scores = hidden @ table[2:].T
    exact = scores.exp().sum(1)
    sums = []
    for _ in range(3000):
        one = SampledSoftmax(lambda: table, ITEM_SPEC, 10)
        drawn = [one(hidden[row : row + 1], truth[row : row + 1]) for row in range(2)]
        sums.append([float((loss + scores[row, truth[row] - 2]).exp()) for row, loss in enumerate(drawn)])
    mean = torch.tensor(sums).mean(0)
    torch.testing.assert_close(mean, exact[:2], rtol=0.05, atol=0.0)
    every = torch.arange(2, ITEM_SPEC.vocabulary)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: every)
    full = SampledSoftmax(lambda: table, ITEM_SPEC, ITEMS)(hidden, truth)
    torch.testing.assert_close(full, cross_entropy(scores, truth - 2, reduction="none"))


def test_a_sample_is_compared_as_the_encoder_compares(monkeypatch: pytest.MonkeyPatch):
    encoder = tiny_item_encoder(temperature=0.5)
    hidden, truth = torch.randn(5, encoder.dim), torch.arange(2, 7)
    every = torch.arange(2, ITEM_SPEC.vocabulary)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: every)
    found = SampledSoftmax(lambda: encoder.table, ITEM_SPEC, ITEMS, encoder.comparable)(hidden, truth)
    exact = cross_entropy(encoder.logits(hidden)[:, 2:], truth - 2, reduction="none")
    torch.testing.assert_close(found, exact)


def test_gbce_equals_the_loop(monkeypatch: pytest.MonkeyPatch):
    hidden, truth, table = states()
    drawn = torch.tensor([2, 9, 11, int(truth[0])])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: drawn)
    share, t = 4 / (ITEMS - 1), 0.75
    power = share * (t * (1 - 1 / share) + 1 / share)
    total = 0.0
    for state, true in zip(hidden, truth, strict=True):
        total -= power * float(logsigmoid(state @ table[true]))
        total -= sum(float(logsigmoid(-(state @ table[n]))) for n in drawn if n != true)
    found = GBCE(lambda: table, ITEM_SPEC, 4, t)(hidden, truth)
    assert float(found.sum()) == pytest.approx(total, rel=1e-5)


def test_attributes_of_items_are_told_and_those_without_any_left_out():
    loss = AttributeLoss(ITEM_SPEC, 8)
    every = torch.arange(2, ITEM_SPEC.vocabulary)
    wanted = torch.zeros(ITEMS, ATTRIBUTES)
    for number, own in enumerate(CATALOGUE.attributes.to_pylist()):  # type: ignore[union-attr]
        wanted[number, own] = 1
    assert torch.equal(loss.of(every), wanted)
    hidden = torch.randn(ITEMS, 8)
    has = wanted.any(1)
    told = torch.nn.functional.binary_cross_entropy_with_logits(loss.head(hidden)[has], wanted[has])
    torch.testing.assert_close(loss(hidden, every).mean(), told * has.float().mean())
    assert float(loss(hidden[:1], every[:1])[0].detach()) == 0.0, "item 0 has no attribute"
    with pytest.raises(UserError, match="'attributes' needs attributes of the items: name a table"):
        AttributeLoss(ItemSpec(3, 5, Catalogue(pa.array(["a", "b", "c"]))), 8)


@pytest.mark.parametrize("task", ["next", "masked"])
def test_a_large_catalogue_is_compared_with_a_sample(task: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipes, "SAMPLED_FROM", ITEMS)
    monkeypatch.setattr(recipes, "NEGATIVES", 8)
    encoder = tiny_item_encoder(recipes.default_encoder(ITEM_SPEC, [task]))
    built = make_task(EVENTS, task, encoder)
    assert isinstance(built, Next | Masked)
    assert isinstance(built.loss, SampledSoftmax)
    out = built(TinyBatches(f"items:{task}", 16).batch(0))
    spread = 1 / encoder.temperature if encoder.temperature else 0.0  # of scores at the start, times dim^0.5
    assert float(out.loss.detach()) == pytest.approx(math.log(ITEMS) + spread**2 / (2 * encoder.dim), rel=0.3)
    out.loss.backward()
    assert encoder.table.grad is not None


def test_tasks_name_the_encoder_that_they_need():
    with pytest.raises(UserError, match=r"sasrec_nano sees only what came before an item.*choose --encoder bert4rec"):
        make_task(EVENTS, "masked", tiny_item_encoder())
    with pytest.raises(UserError, match="bert4rec_nano sees what comes after a token, which the task 'next' must not"):
        make_task(EVENTS, "next", tiny_item_encoder("bert4rec_nano"))
    encoder = tiny_item_encoder(dropout=0.0)
    with pytest.raises(UserError, match="the task 'simcse' needs dropout, and sasrec_nano has none"):
        make_task(EVENTS, "simcse", encoder)


@pytest.mark.parametrize("name", ["next", "masked"])
def test_events_count_by_their_weight(name: str):
    task, batch = without_dropout(tiny_recipe(f"items:{name}").task).eval(), TinyBatches("items:" + name, 16).batch(0)
    found = {}
    for weights in ([1.0, 1.0], [3.0, 3.0], [1.0, 0.0], [0.0, 1.0]):
        weight = torch.tensor(weights).repeat_interleave(8)[:, None].expand(batch["tokens"].shape)
        found[tuple(weights)] = float(task({**batch, "weight": weight * batch["valid"]}).loss.detach())
    plain = float(task(batch).loss.detach())
    assert found[1.0, 1.0] == pytest.approx(plain, rel=1e-5)
    assert found[3.0, 3.0] == pytest.approx(plain, rel=1e-5)
    first, second = found[1.0, 0.0], found[0.0, 1.0]
    assert first == pytest.approx(float(task({k: v[:8] for k, v in batch.items()}).loss.detach()), rel=1e-5)
    assert min(first, second) < plain < max(first, second)
