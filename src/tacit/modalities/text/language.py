"""Language modelling by a text encoder: tokens at masked places, and pseudo-perplexity on unseen texts.

Pseudo-perplexity hides one token at a time (Salazar, Liang, Nguyen & Kirchhoff 2020, arXiv:1910.14659):

    exp(- mean over tokens t of log p(x_t | x without x_t))

It measures how well masked prediction fits a domain, not how well features serve a task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from tacit.core import keys
from tacit.evaluation.features import device_of, evaluation_mode
from tacit.modalities.base import Unseen
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.recipes import whole_views
from tacit.modalities.text.store import Corpus
from tacit.modalities.text.views import is_special

if TYPE_CHECKING:
    from tacit.core.types import Batch

READ = 1500  # tokens, each hidden once
FILLED = 8  # texts in the report
TOP = 5  # predictions at a place
AT_ONCE = 32  # rows
CONTEXT = 90  # characters on either side of a place


class Guess(NamedTuple):
    """A token predicted for a masked place, and its probability."""

    token: str
    probability: float


@torch.no_grad()
def masked_logits(encoder: TextEncoder, batch: Batch, places: torch.Tensor) -> torch.Tensor:
    """The head's logits [M V] at `places` [B N] of a batch that hides them already."""
    device = device_of(encoder)
    with evaluation_mode(encoder):
        states = encoder({name: value.to(device) for name, value in batch.items()}).tokens
        return encoder.logits(states[places.to(device)]).float().cpu()


def guessed(encoder: TextEncoder, logits: torch.Tensor, top: int) -> list[Guess]:
    """The likeliest tokens of one place, without special ones."""
    logits = logits.clone()
    logits[list(encoder.spec.specials)] = -math.inf
    best = logits.softmax(0).topk(min(top, len(logits)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [Guess(encoder.tokenizer.decode([number], skip_special_tokens=False), chance) for chance, number in pairs]


def pseudo_perplexity(encoder: TextEncoder, windows: Batch, *, read: int = READ, seed: int = 0) -> tuple[float, int]:
    """Pseudo-perplexity per token of a batch's windows, and the number of tokens read: at most `read`, at random."""
    counts = windows["valid"] & ~is_special(windows["tokens"], encoder.spec)
    places = counts.nonzero()  # [P 2]
    chosen = np.random.default_rng(seed).permutation(len(places))[:read]
    places = places[np.sort(chosen)]
    total = 0.0
    for some in torch.split(places, AT_ONCE):
        rows, at = some[:, 0], some[:, 1]
        batch = {name: value[rows] for name, value in windows.items()}
        truth = batch["tokens"].gather(1, at[:, None])[:, 0]
        batch["tokens"] = batch["tokens"].scatter(1, at[:, None], encoder.spec.mask)
        here = torch.zeros_like(batch["valid"]).scatter(1, at[:, None], True)
        logits = masked_logits(encoder, batch, here)
        total += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
    return math.exp(min(total / max(1, len(places)), 50.0)), len(places)


def describe_language(store: Corpus, encoders: Mapping[str, Any], chosen: str, unseen: Unseen) -> dict[str, Any]:
    """Compute, for the report, pseudo-perplexity of every encoder with a trained head, and predictions of one of them.

    The one shown is the chosen arm, or else the last with a head. Empty without such an encoder.
    """
    headed = {name: found for name, found in encoders.items() if isinstance(found, TextEncoder) and found.headed}
    if not headed:
        return {}
    spec, rows = next(iter(headed.values())).spec, unseen.rows
    windows = whole_views(spec)(
        {**store.batch(rows), "key": keys.batch_keys(unseen.seed, 0, torch.from_numpy(rows))}, 0
    )
    summary: dict[str, Any] = {"held_out": unseen.held_out, "texts": len(rows), "perplexity": {}}
    for name, encoder in headed.items():
        summary["perplexity"][name], summary["tokens"] = pseudo_perplexity(encoder, windows)
    shown = chosen if chosen in headed else list(headed)[-1]
    return summary if unseen.private else {**summary, "arm": shown, "fills": _fills(headed[shown], windows)}


def _fills(encoder: TextEncoder, windows: Batch) -> list[dict[str, Any]]:
    """Predict one hidden whole word in each of a few texts."""
    counts = windows["valid"] & ~is_special(windows["tokens"], encoder.spec)
    starts = windows["word"] & counts
    fills: list[dict[str, Any]] = []
    for row in range(len(counts)):
        places = starts[row].nonzero()[:, 0].tolist()
        whole = [p for p in places if p + 1 >= counts.shape[1] or not counts[row, p + 1] or starts[row, p + 1]]
        words = [p for p in whole if encoder.tokenizer.decode([int(windows["tokens"][row, p])]).strip().isalpha()]
        if not words or len(fills) == FILLED:
            continue
        at = words[len(words) // 2]
        batch = {name: value[row : row + 1].clone() for name, value in windows.items()}
        truth, own = int(batch["tokens"][0, at]), batch["tokens"][0][counts[row]].tolist()
        batch["tokens"][0, at] = encoder.spec.mask
        here = torch.zeros_like(batch["valid"])
        here[0, at] = True
        place = int(counts[row, :at].sum())
        before, after = encoder.tokenizer.decode(own[:place]), encoder.tokenizer.decode(own[place + 1 :])
        [logits] = masked_logits(encoder, batch, here)
        fills.append(
            {
                "before": before[-CONTEXT:],
                "after": after[:CONTEXT],
                "truth": encoder.tokenizer.decode([truth]).strip(),
                "top": [[guess.token.strip(), guess.probability] for guess in guessed(encoder, logits, TOP)],
            }
        )
    return fills
