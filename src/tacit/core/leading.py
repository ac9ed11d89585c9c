"""Which of several processes writes and speaks, told without importing torch: who never did so is alone."""

from __future__ import annotations

import sys
from typing import Any


def leader() -> bool:
    """Whether this process is the one that writes and speaks: rank 0."""
    together: Any = sys.modules.get("torch.distributed")
    return together is None or not together.is_available() or not together.is_initialized() or together.get_rank() == 0
