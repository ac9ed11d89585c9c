"""The machine: what Tacit can do here, and what it leaves here."""

from __future__ import annotations

from pathlib import Path

from tacit.core.errors import clear_ends


@clear_ends
def tasks() -> int:
    """List the pretext tasks, what each must learn, for which data, and the paper."""
    from tacit.tasks import listing

    print(listing())
    return 0


@clear_ends
def doctor() -> int:
    """Check this machine: torch against the hardware, known breaks with their fixes, disk, a self-test."""
    from tacit.commands.checkup import run_doctor, trial

    return run_doctor(trial)


@clear_ends
def clean(*, cache: str | None = None) -> int:
    """Delete the cache of decoded data.

    Args:
        cache: The cache folder; the usual one by default.
    """
    from tacit.dataset import clean as clean_cache

    print(f"freed {clean_cache(Path(cache) if cache else None) / 2**20:.1f} MiB")
    return 0
