from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core import keys
from tacit.core.masks import block_mask, random_mask

KEY = keys.batch_keys(7, 3, torch.arange(64))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 80), ratio=st.floats(0, 1))
def test_random_mask_hides_the_exact_count_in_every_row(n: int, ratio: float) -> None:
    mask = random_mask(KEY, n, ratio)
    assert mask.shape == (64, n)
    assert mask.dtype == torch.bool
    assert (mask.sum(dim=1) == round(ratio * n)).all()


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), ratio=st.floats(0, 1), block=st.integers(1, 5))
def test_block_mask_hides_the_exact_count_in_every_row(height: int, width: int, ratio: float, block: int) -> None:
    mask = block_mask(KEY, (height, width), ratio, block=block)
    assert mask.shape == (64, height * width)
    assert (mask.sum(dim=1) == round(ratio * height * width)).all()


def test_masks_of_a_row_do_not_depend_on_the_batch() -> None:
    assert torch.equal(random_mask(KEY[5:6], 49, 0.5)[0], random_mask(KEY, 49, 0.5)[5])
    assert torch.equal(block_mask(KEY[5:6], (7, 7), 0.5, block=2)[0], block_mask(KEY, (7, 7), 0.5, block=2)[5])


def test_rows_and_keys_get_masks_of_their_own() -> None:
    mask = random_mask(KEY, 64, 0.5)
    assert len({tuple(row.tolist()) for row in mask}) == len(mask)
    assert not torch.equal(mask, random_mask(keys.split(KEY, 1), 64, 0.5))


@pytest.mark.parametrize("block", [1, 3])
def test_every_place_is_hidden_equally_often(block: int) -> None:
    many = keys.batch_keys(0, 0, torch.arange(4000))
    share = block_mask(many, (6, 6), 0.5, block=block).float().mean(dim=0)
    assert (share - 0.5).abs().max() < 0.06
    if block == 1:
        assert (random_mask(many, 36, 0.25).float().mean(dim=0) - 0.25).abs().max() < 0.04


def test_blocks_are_whole_squares_but_for_the_last() -> None:
    for key in KEY[:20]:
        mask = block_mask(key[None], (12, 12), 0.4, block=4).view(12, 12)
        corner = (keys.uniform(key[None], "mask/corner", 2)[0] * 4).long().tolist()
        partial = 0
        for top in range(-corner[0], 12, 4):
            for left in range(-corner[1], 12, 4):
                square = mask[max(top, 0) : top + 4, max(left, 0) : left + 4]
                partial += int(square.any() and not square.all())
        assert partial <= 1
