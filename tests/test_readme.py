"""What the README tells people to type is read by the command line, and its Python runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tacit import cli

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in re.findall(r"^    (tacit .*)$", README, re.MULTILINE)]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*shlex.split(line)[1:], "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "readme" / "report.html").exists()
