"""The commands of Tacit: one file each, help and body together.

The Python functions and the command line have the same names and settings. Help reads these files without importing
them, see `tacit.cli`, so that they may import what they need.
"""

from __future__ import annotations

COMMANDS = {  # in the order in which a user meets them
    "run": "tacit.commands.run:run",
    "inspect": "tacit.commands.inspect:inspect",
    "pretrain": "tacit.commands.pretrain:pretrain",
    "evaluate": "tacit.commands.evaluate:evaluate",
    "compare": "tacit.commands.compare:compare",
    "predict": "tacit.commands.predict:predict",
    "next-labels": "tacit.commands.next_labels:next_labels",
    "embed": "tacit.commands.embed:embed",
    "export": "tacit.commands.export:export",
    "fill-mask": "tacit.commands.fill_mask:fill_mask",
    "recommend": "tacit.commands.recommend:recommend",
    "search": "tacit.commands.search:search",
    "tasks": "tacit.commands.tasks:tasks",
    "doctor": "tacit.commands.doctor:doctor",
    "clean": "tacit.commands.clean:clean",
}
