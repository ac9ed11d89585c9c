from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap

SCRIPT = Path(bootstrap.__file__)


def test_an_old_python_can_read_as_far_as_the_line_that_refuses_it() -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_make_knows_the_same_jobs() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 1
    jobs = set(re.findall(r"[a-z]+", done.stderr.split("bootstrap.py")[1]))
    targets = re.search(r"^\.PHONY: (.*)$", (SCRIPT.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    assert set(targets[1].split()) == jobs >= {"quickstart", "test", "check", "install", "lock", "clean"}


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_an_install_is_stale_when_its_inputs_change(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("as it was")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "LOCK", tmp_path / "requirements.lock")
    before = bootstrap.fingerprint()
    assert bootstrap.fingerprint() == before
    (tmp_path / changed).write_text("as it is")
    assert bootstrap.fingerprint() != before


def test_half_installed_packages_are_forgotten_and_whole_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / ("Lib" if os.name == "nt" else "lib/python3.11") / "site-packages"
    for folder in ("whole", "whole-1.0.dist-info", "half", "half-1.0.dist-info", "~alf"):
        (site / folder).mkdir(parents=True)
    (site / "whole-1.0.dist-info" / "INSTALLER").write_text("pip\n")
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    bootstrap.mend()
    assert {path.name for path in site.iterdir()} == {"whole", "whole-1.0.dist-info", "half"}


def test_torch_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(bootstrap, "PYTHON", Path(sys.executable))
    assert bootstrap.torch_in_venv() == tuple(int(part) for part in torch.__version__.split(".")[:2])
    assert bootstrap.torch_in_venv() >= bootstrap.TORCH_FLOOR


@pytest.mark.parametrize(("one", "other", "code"), [(0, 0, 0), (3, 0, 3), (0, 1, 1), (3, 1, 3)])
def test_two_commands_at_once_end_with_the_first_failure(one: int, other: int, code: int) -> None:
    commands = [
        [sys.executable, "-c", f"print('{said}'); exit({end})"] for said, end in (("first", one), ("last", other))
    ]
    program = f"import bootstrap; bootstrap.both(*{commands!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=SCRIPT.parent)
    assert (done.returncode, done.stdout.split()) == (code, ["first", "last"]), done.stderr
