"""The command line as a person meets it: help, errors in one line, exit codes."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tacit
import tacit.experiment.settings as concerns
from tacit import cli, flags
from tacit.commands import COMMANDS
from tacit.commands.command import command
from tacit.core.errors import UserError
from tacit.core.options import keywords
from tacit.dataset import open_dataset
from tacit.modalities import MODALITIES, DataOptions
from tests.processes import run_anew

SOURCE = Path(tacit.__file__).parent


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


def test_a_command_outlives_closed_streams_and_a_deleted_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for closed in ("stdout", "stderr"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sys.{closed}", None)
            assert call("--version") == 0
            getattr(sys, closed).close()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert call("tasks") == 2
    assert "the current folder has been deleted; change to another" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--help") == 0
    shown = capsys.readouterr().out
    assert "usage: tacit" in shown
    assert "Args:" not in shown
    description = flags.describe(name).doc
    assert " ".join(shown.split()).count(" ".join(description.split("\n\n")[0].split())) == 1
    if name in {"run", "pretrain", "evaluate", "embed", "inspect"}:
        assert "--label-column" in shown
        assert "--image-size" in shown


def test_tasks_lists_all_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("simclr", "rotation", "masked", "arXiv:2002.05709"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu", "digits"], "did you mean 'run'?"),
        (["run", "digits", "--budgte", "5s"], "did you mean 'budget'?"),
        (["run", "digits", "--label-colum", "x"], "did you mean 'label-column'?"),
        (["run", "digits", "--budget", "soon"], "write e.g. 90s"),
        (["run", "digits", "--tasks", "simcrl"], "did you mean 'simclr'?"),
        (["run", "digits", "--tasks", "simclr,simclr"], "named twice"),
        (["run", "digits", "--encoder", "resnet81"], "did you mean 'resnet18'?"),
        (["run", "no/such/folder"], "no/such/folder"),
        (["run"], "data"),
        (["run", "digits", "--seed", "seven"], "seed"),
        (["evaluate", "no/such/encoder", "digits"], "no encoder at"),
        (["evaluate", "no_such_module:encode", "digits"], "there is no module 'no_such_module'"),
        (["evaluate", "runs/mine"], "tacit evaluate runs/mine DATA"),
        (["evaluate", "runs/mine", "digits", "more"], "unknown setting more"),
        (["run", "digits", "--batch-size", "1.5"], "--batch-size 1.5: give a whole number or auto"),
        (["run", "digits", "--volume-spacing", "nan"], "--volume-spacing nan: give a number"),
        (["evaluate", "no/such/encoder", "digits", "--seal", "no/such/run"], "no seal at"),
        (["compare", "only/one"], "two run folders or more"),
        (["compare", "no/such/run", "nor/this"], "no report in"),
        (["predict", "no/such/run", "digits"], "holds no run of Tacit"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert said.startswith("tacit: error: ")
    assert message in said


def test_settings_come_from_yaml_and_unknown_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("budget: 5s\nlabel_column: finding\nignore_label: [unknown]\n")
    assert call("run", "digits", "--config", str(file), "--seed", "3", "--private", "--print_config") == 0
    shown = capsys.readouterr().out
    for line in ("budget: 5s", "label_column: finding", "- unknown", "seed: 3", "private: true"):
        assert line in shown
    file.write_text("budgte: 5s\n")
    assert call("run", "digits", "--config", str(file)) == 2
    assert "did you mean 'budget'" in capsys.readouterr().err


def test_lists_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "digits", "--against", "hf:a", "--against", "hf:b", "--print_config") == 0
    shown = capsys.readouterr().out
    assert "- hf:a" in shown
    assert "- hf:b" in shown
    assert call("run", "digits", "--labels", "few.csv", "--labels=more.csv", "--print_config") == 0
    assert "labels:\n- few.csv\n- more.csv\n" in capsys.readouterr().out
    assert call("run", "digits", "--labels", "few.csv", "--print_config") == 0
    assert "labels: few.csv\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["run", "evaluate", "embed"])
def test_help_on_a_command_loads_no_torch(name: str) -> None:
    script = f"import sys, tacit.cli\ntry: tacit.cli.main([{name!r}, '--help'])\nexcept SystemExit: pass\n"
    script += "assert not {'torch', 'sklearn', 'transformers', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_a_positional_with_a_default_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "--help") == 0
    shown = capsys.readouterr().out
    assert "encoder [data]" in shown
    assert "none for a file of embeddings" in " ".join(shown.split())


def test_flags_stand_in_groups_and_switches_take_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--help") == 0
    shown = capsys.readouterr().out
    titles = [title for title in concerns.GROUPS if title != concerns.OWN]
    places = [shown.index(f"\n{title}:\n") for title in (flags.FIRST, *titles)]
    assert places == sorted(places)
    assert places[0] < shown.index("--labels") < shown.index("--budget") < places[1]
    assert places[3] < shown.index("--image-size") < places[4]
    assert "{true,false}" not in shown


def test_flags_of_reading_are_those_of_open_dataset() -> None:
    known = inspect.signature(open_dataset).parameters
    left_out = {"data", "as_before", "progress"}  # which are no flags
    assert {f.name: f.default for f in fields(concerns.Reading)} == {
        name: of.default for name, of in known.items() if name not in left_out
    }


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_and_signature_agree(name: str) -> None:
    """Help is read from the file of a command; Python sees what was loaded."""
    module, _, function = COMMANDS[name].partition(":")
    found = getattr(import_module(module), function)
    described = flags.describe(name)
    parameters = [p for p in inspect.signature(found).parameters.values() if p.kind is not p.VAR_KEYWORD]
    defaults = {flag.name: flag.default for flag in described.flags}
    python_only = {name for name, of in keywords(DataOptions).items() if not of.flag}
    for parameter in (of for of in parameters if of.name not in python_only):
        if parameter.kind is not parameter.VAR_POSITIONAL:
            assert defaults[parameter.name] == (... if parameter.default is parameter.empty else parameter.default)
    assert all(flag.help for flag in described.flags)
    assert function not in tacit.__all__ or getattr(tacit, function) is found


def test_a_word_in_place_of_a_list_is_one_and_not_its_letters() -> None:
    def body(data: Any, settings: concerns.RunSettings) -> concerns.RunSettings:
        """Return what was asked.

        Args:
            data: Any.
        """
        return settings

    asked: Any = command(concerns.RunSettings)(body)
    assert asked("digits", label_budgets="15").label_budgets == ["15"]


def test_a_module_of_the_name_of_a_command_hides_no_function() -> None:
    import_module("tacit.commands.run")
    assert callable(tacit.run)
    assert callable(tacit.inspect)
    with pytest.raises(UserError, match="run takes no budgte; did you mean 'budget'"):
        tacit.run("digits", budgte="5s")  # type: ignore[call-arg]


def test_a_flag_of_a_modality_is_one_field_of_its_options(tmp_path: Path) -> None:
    """It is in help, in files of settings, in Python and in the run folder, and no other file has heard of it."""
    shutil.copytree(SOURCE, tmp_path / "tacit")
    options = tmp_path / "tacit" / "modalities" / "audio" / "options.py"
    text = options.read_text()
    text = text.replace(
        "        rate: samples", "        gain: decibels that sounds are raised by\n        rate: samples"
    )
    options.write_text(text.replace("    rate: int", "    gain: float = 0.0\n    rate: int"))
    (tmp_path / "settings.yaml").write_text("gain: 3\n")
    program = """
import inspect, os, sys
import tacit
from tacit import cli, flags

def call(*words):
    try:
        cli.main(words)
    except SystemExit as ended:
        assert not ended.code, words

assert os.getcwd() in tacit.__file__
call("run", "--help")
call("predict", "--help")
call("run", "digits", "--config", "settings.yaml", "--print_config")
call("run", "digits", "--gain", "4", "--print_config")
for command in (tacit.run, tacit.embed, tacit.predict, tacit.evaluate, tacit.next_labels, tacit.open_dataset):
    assert inspect.signature(command).parameters["gain"].default == 0.0
from tacit.experiment.folder import settings_of
from tacit.experiment.output import workspace
from tacit.experiment.settings import RunSettings
with workspace("digits", RunSettings(out="run", gain=5.0)):
    assert settings_of(__import__("pathlib").Path("run"))["gain"] == 5.0
"""
    done = run_anew(program, folder=tmp_path, package=tmp_path)
    assert done.code == 0, done.out
    told = " ".join(done.out.split())
    assert told.count("decibels that sounds are raised by") == 2
    assert "gain: 3.0" in told
    assert "gain: 4.0" in told


def test_type_checkers_read_the_whole_table_of_modalities() -> None:
    text = (SOURCE / "modalities" / "__init__.py").read_text()
    assert all(f"from {folder}.options import" in text for folder in MODALITIES.values())
