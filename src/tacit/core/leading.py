"""Find the process that writes files and prints (rank 0), without importing torch."""

from __future__ import annotations

import sys
from typing import Any


def is_leader() -> bool:
    """True on the process that writes files and prints: rank 0, or a process that is alone."""
    together: Any = sys.modules.get("torch.distributed")
    return together is None or not together.is_available() or not together.is_initialized() or together.get_rank() == 0
