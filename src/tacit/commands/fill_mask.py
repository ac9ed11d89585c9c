"""`tacit fill-mask`: what a text encoder holds likely at masked places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tacit.commands.command import guarded
from tacit.core.errors import UserError
from tacit.encoders import load_encoder
from tacit.modalities.text.encoder import TextEncoder
from tacit.modalities.text.language import Guess, guessed, masked_logits


@guarded
def fill_mask(run: Any, *texts: str, top: int = 5, offline: bool = False) -> list[list[list[Guess]]]:
    """Print the tokens that a text encoder finds most likely at each [MASK].

    Returns for every text, for every [MASK] in it, the tokens with their probabilities.

    Args:
        run: A run folder, an exported folder, or hf:FOLDER_OR_NAME, pretrained by the task `masked`.
        texts: One or more, each with the tokenizer's mask token, [MASK], where a word is to be filled in.
        top: Tokens at each place.
        offline: Use no network, also for hf: names.
    """
    encoder = load_encoder(run, offline=offline) if isinstance(run, str | Path) else run
    if not isinstance(encoder, TextEncoder) or not encoder.headed:
        raise UserError(f"{run} has no trained head for masked tokens; pretrain with the task masked, or name hf:MODEL")
    mask = str(encoder.tokenizer.id_to_token(encoder.spec.mask))
    for text in texts:
        if mask not in text:
            raise UserError(f"no {mask} in {text!r}: write it where a word is to be filled in")
    found = []
    for text in texts:
        batch = encoder.prepare([text], masks=True)
        logits = masked_logits(encoder, batch, batch["tokens"] == encoder.spec.mask)  # [M V]
        guesses = [guessed(encoder, row, top) for row in logits]
        found.append(guesses)
        print(text)
        for number, of in enumerate(guesses, 1):
            place = f"{number}: " if len(guesses) > 1 else ""
            print(f"  {place}" + ", ".join(f"{guess.token.strip()} {100 * guess.probability:.1f} %" for guess in of))
    return found
