"""`tacit clean`: free the disk of decoded data."""

from __future__ import annotations

from pathlib import Path

from tacit.core.errors import clear_ends
from tacit.dataset import clean as clean_cache


@clear_ends
def clean(*, cache: str | None = None) -> int:
    """Delete the cache of decoded data.

    Args:
        cache: The cache folder; the usual one by default.
    """
    print(f"freed {clean_cache(Path(cache) if cache else None) / 2**20:.1f} MiB")
    return 0
