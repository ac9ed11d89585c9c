"""The steps of CONTRIBUTING.md, followed in a copy of the package: a new modality and a new task are judged."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pytest

from tests.processes import run_anew

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)]
USE = """
import numpy as np, pathlib, sys, tacit
assert tacit.__file__.startswith(sys.path[0])
folder = pathlib.Path(sys.argv[1])
bits = np.random.default_rng(0).integers(0, 2, (120, 8))
lines = ["file,label"]
for i, of in enumerate(bits):
    (folder / f"{i}.bits").write_text("".join(map(str, of)))
    lines.append(f"{i}.bits,{'odd' if of[:3].sum() > 1 else 'even'}")
(folder / "labels.csv").write_text("\\n".join(lines))
run, labels = str(folder / "run"), str(folder / "labels.csv")
tacit.pretrain(str(folder), task="align", labels=labels, budget="8steps", bits_inverted=True, out=run, device="cpu")
report = tacit.evaluate(run, str(folder), labels=labels, primary_budget=5, label_budgets=["5 per class"], budget="6s")
assert {arm.name for arm in report.arms} >= {"run", "bits", "random-init"}, report.arms
encoder = tacit.load_encoder(folder / "run")
assert encoder.spec.inverted
assert encoder(encoder.prepare(["01010101"])).pooled.shape == (1, 16)
assert "bits_inverted: true" in (folder / "run" / "config.yaml").read_text()
print(report.verdict.text)
"""


def follow(package: Path) -> None:
    """Write the files that the steps name, and add the lines to the tables."""
    for block in BLOCKS:
        first, rest = block.split("\n", 1)
        if (line := re.match(r"# a line of (\w+) in src/tacit/(\S+)", first)) is not None:
            table = package / line[2]
            text, found = re.subn(rf"(?m)^({line[1]}\b[^\n]*= \{{\n)", rf"\1    {rest.strip()}\n", table.read_text())
            assert found == 1, first
            table.write_text(text)
        elif (path := re.match(r"# src/tacit/(\S+)", first)) is not None:
            (package / path[1]).parent.mkdir(exist_ok=True)
            (package / path[1]).write_text(rest)
            if (package / path[1]).parent.parent.name == "modalities":
                (package / path[1]).with_name("__init__.py").touch()


@pytest.mark.slow
def test_the_steps_add_a_modality_and_a_task(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "tacit", tmp_path / "src" / "tacit", ignore=shutil.ignore_patterns("__pycache__"))
    follow(tmp_path / "src" / "tacit")
    data = tmp_path / "data"
    data.mkdir()
    done = run_anew(USE, str(data), folder=tmp_path, package=tmp_path / "src")
    assert done.code == 0, done.out[-3000:]
