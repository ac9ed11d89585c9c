"""How long SimCLR trains until its features are so good, ours beside lightly's usual pipeline: see `simclr.py`."""

from __future__ import annotations

from functools import partial

from sides import take_side
from simclr import UNTIL, lightly, ours

if __name__ == "__main__":
    take_side({"tacit": partial(ours, parts=UNTIL), "lightly": partial(lightly, parts=UNTIL)})
