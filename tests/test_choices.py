"""What `--mask` says, and that every kind of data hides as much."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.masks import MaskSchedule
from tacit.experiment.plan import check_mask_schedule, mask_schedule_of
from tacit.experiment.settings import Settings
from tacit.modalities import modality_named
from tacit.modalities.image.recipes import RandomMask
from tacit.tasks.masked import Masked
from tests.tiny import EXAMPLES, TinyBatches, tiny_audio_encoder, tiny_encoder, tiny_text_encoder


def asked(**settings: Any) -> Settings:
    return Settings(**{"mask": "0.3", **settings})


def test_shares_and_units() -> None:
    assert mask_schedule_of(None) is None
    assert mask_schedule_of("0.3") == MaskSchedule(0.3)
    assert mask_schedule_of("0.3:0.15") == MaskSchedule(0.3, 0.15)
    assert mask_schedule_of("0.3:0.15, span") == MaskSchedule(0.3, 0.15, "span")


@pytest.mark.parametrize("text", ["", "30", "0", "1", "0.3:", "0.3:0.2:0.1", "nan", "span", "0.3,", "0.3,letter"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UserError, match=rf"--mask {text}: give a share between 0 and 1 \(0.3\)"):
        mask_schedule_of(text)


def test_what_nothing_is_hidden_by() -> None:
    check_mask_schedule(None, asked(), "text")
    check_mask_schedule(MaskSchedule(0.3), asked(), "image")  # which a run pretrains by masking too
    check_mask_schedule(MaskSchedule(0.3, unit="span"), asked(tasks="simclr,0.5*electra+simcse"), "text")
    with pytest.raises(UserError, match=r"no task here masks: name one with --tasks \(data2vec, electra, masked\)"):
        check_mask_schedule(MaskSchedule(0.3), asked(), "text")
    with pytest.raises(UserError, match=r"--mask 0\.3,span: only text is hidden by span; give the share alone"):
        check_mask_schedule(MaskSchedule(0.3, unit="span"), asked(tasks="masked", mask="0.3,span"), "audio")


@pytest.mark.parametrize("kind", ["image", "text", "audio"])
def test_a_recipe_hides_as_asked(kind: str) -> None:
    encoder: Any = {"image": tiny_encoder, "text": tiny_text_encoder, "audio": tiny_audio_encoder}[kind]()
    shares = {}
    for end in (0.25, None):
        hiding = MaskSchedule(0.75, end)
        task = modality_named(kind).recipe({"masked": 1.0}, encoder, examples=EXAMPLES, hiding=hiding).task
        assert isinstance(task, Masked)
        seen = task.views(TinyBatches(f"{kind}:masked").batch(0), 0)
        hidden = [task.masks(seen, torch.tensor(at)).float().sum() for at in (0.0, 1.0)]
        shares[end] = float(hidden[1] / hidden[0])
    assert shares[None] == pytest.approx(1, abs=0.1)
    assert shares[0.25] < 0.8  # of few tokens, spans hide more than asked


def test_something_is_seen_and_something_hidden() -> None:
    batch = {"key": keys.batch_keys(0, 0, torch.arange(5))}
    for share, count in ((0.01, 1), (0.5, 2), (0.99, 3)):
        assert (RandomMask(MaskSchedule(share), 4)(batch, torch.tensor(0.0)).sum(1) == count).all()
