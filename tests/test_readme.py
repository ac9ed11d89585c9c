"""What README and docs tell people to type is read by the command line, and their Python runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tacit import cli
from tacit.evaluation import splits

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
COMMANDS = list(
    dict.fromkeys(
        line.split("  #")[0].strip()
        for text in PAGES.values()
        for line in re.findall(r"^(?:    )?(tacit \S.*)$", text, re.MULTILINE)
    )
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*shlex.split(line)[1:], "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err


def test_the_readme_takes_two_minutes() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(link).exists(), link


@pytest.mark.slow
@pytest.mark.usefixtures("brief", "few_fits")
def test_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(splits, "PER_CLASS", (10,))
    monkeypatch.setattr(splits, "SHARES", ())
    blocks = [
        block
        for page in ("README.md", "docs/after.md")
        for block in re.findall(r"^```python\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "readme" / "report.html").exists()
