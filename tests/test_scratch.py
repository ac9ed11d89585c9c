"""Training on the labels alone learns, repeats exactly, and leaves everything else untouched."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tacit.core import keys
from tacit.evaluation.probes import finetune
from tacit.evaluation.probes.finetune import TUNING_RATE, train_on_labels
from tacit.evaluation.targets.classification import Classification
from tests.tiny import digit_labels, digits, tiny_encoder


def fetch(rows):
    return {"image": digits()[torch.as_tensor(rows)], "index": torch.as_tensor(rows)}


def build(seed):
    return tiny_encoder(seed=seed)


def noisy(batch, view):
    key = keys.split(batch["key"], view)
    noise = keys.normal(key, "noise", 64).reshape(-1, 1, 8, 8)
    return {**batch, "image": batch["image"] / 255 + 0.1 * noise}


@pytest.fixture(scope="module")
def target():
    return digit_labels()


def train(target, rows=None, seed=0, start=build, scores=False, **more):
    rows = np.arange(100) if rows is None else rows
    training = Classification(10, scores=scores).trainable(target[rows])
    return train_on_labels(start, fetch, rows, training, seed=seed, **{"steps": 40, **more})


def test_it_learns_the_digits(target):
    model = train(target, views=noisy)
    test = np.arange(1000, 1400)
    predicted = model.predict(fetch, test)
    assert predicted.dtype.kind == "i"
    assert np.mean(predicted == target[test]) > 0.6
    p = train(target, views=noisy, scores=True).predict(fetch, test)
    np.testing.assert_array_equal(p.argmax(1), predicted)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(model.outputs(fetch, test, batch_size=9), model.outputs(fetch, test), atol=1e-4)


def test_same_seed_same_model_and_no_trace_in_the_global_randomness(target):
    state = torch.get_rng_state()
    first, second, other = (train(target, seed=s, views=noisy, steps=8) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name])
    assert not torch.equal(first.head[1].weight, other.head[1].weight)


def test_every_example_is_seen_equally_often():
    n, steps = 30, 15  # 15 batches of 64 are 32 epochs
    seen = np.bincount(np.concatenate([finetune._positions(0, s, n) for s in range(steps)]), minlength=n)
    assert seen.min() == seen.max() == 32


def test_one_label_and_one_class_are_enough_to_run(target):
    model = train(target, rows=np.array([0]), steps=60)
    assert model.predict(fetch, np.array([0])).tolist() == [target[0]]


def test_a_time_limit_becomes_steps_that_repeat_the_run(target, monkeypatch):
    clock = iter([9.0, 9.0 + 0.01 * finetune.TIMED_STEPS])  # read after the first step, and five of 10 ms later
    monkeypatch.setattr(finetune, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    short = train(target, steps=1000, seconds=0.305)
    assert short.steps == 30
    again = train(target, steps=30)
    assert torch.equal(short.head[1].weight, again.head[1].weight)


def test_fine_tuning_starts_from_a_copy(target):
    encoder = train(target, views=noisy).encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    rows, test = np.arange(100, 120), np.arange(1000, 1400)
    tuned = train(target, rows, steps=20, start=lambda seed: copy.deepcopy(encoder), lr=TUNING_RATE)
    fresh = train(target, rows=rows, steps=20)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    gained = [np.mean(model.predict(fetch, test) == target[test]) for model in (tuned, fresh)]
    assert gained[0] > gained[1] + 0.1
