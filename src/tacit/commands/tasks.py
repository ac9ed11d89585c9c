"""`tacit tasks`: the pretext tasks there are."""

from __future__ import annotations

from tacit.core.errors import clear_ends


@clear_ends
def tasks() -> int:
    """List the pretext tasks, what each must learn, for which data, and the paper."""
    from tacit.experiment.tasks import listing

    print(listing())
    return 0
