"""The run folder belongs to one run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tacit.core import folders
from tacit.core.errors import UserError
from tacit.experiment.folder import Workspace

CONFIG = {"data": "scans", "seed": 0, "resume": False, "array": [1, 2]}


def test_it_says_what_was_asked_and_where_it_ran(tmp_path: Path) -> None:
    with Workspace(tmp_path / "run", CONFIG) as space:
        space.write_json("plan.json", {"simclr": 5})
        assert space.read_json("plan.json") == {"simclr": 5}
        assert space.read_json("absent.json") is None
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == CONFIG
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["packages"]["torch"]
    if os.name == "posix":
        assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        Workspace(tmp_path / "run", CONFIG),
        pytest.raises(UserError, match="in use by another run"),
        Workspace(tmp_path / "run", CONFIG, resume=True),
    ):
        pass


def test_a_finished_run_is_neither_lost_nor_mixed_up(tmp_path: Path) -> None:
    with Workspace(tmp_path, CONFIG):
        pass
    with pytest.raises(UserError, match="--resume"), Workspace(tmp_path, CONFIG):
        pass
    with pytest.raises(UserError, match="seed 0, not 1"), Workspace(tmp_path, {**CONFIG, "seed": 1}, resume=True):
        pass
    with Workspace(tmp_path, {**CONFIG, "resume": True}, resume=True):
        pass


def test_a_mistake_in_what_was_asked_takes_no_folder(tmp_path: Path) -> None:
    def mistaken(*before: str, **settings: bool) -> None:
        with Workspace(tmp_path, CONFIG, **settings):
            for name in before:
                (tmp_path / name).write_text("x")
            raise UserError("no such encoder")

    for before in (["plan.json"], ["plan.json", "metrics.jsonl"]):  # a step is a beginning, a plan is none
        with pytest.raises(UserError, match="no such encoder"):
            mistaken(*before)
    with pytest.raises(UserError, match="no such encoder"):
        mistaken(resume=True)
    with pytest.raises(UserError, match="--resume"), Workspace(tmp_path, CONFIG):
        pass


def test_overwrite_starts_again(tmp_path: Path) -> None:
    with Workspace(tmp_path, CONFIG) as space:
        space.write_json("plan.json", 1)
        (tmp_path / "checkpoints").mkdir()
    with Workspace(tmp_path, {**CONFIG, "seed": 1}, overwrite=True) as space:
        assert space.read_json("plan.json") is None
        space.begin()
        assert not (tmp_path / "checkpoints").exists()


def contents(folder: Path) -> dict[str, bytes]:
    left_out = {".lock", "environment.json"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in left_out]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("end", [UserError("--against: no such model"), RuntimeError("bug"), KeyboardInterrupt(), None])
def test_what_is_overwritten_stays_until_the_new_run_has_begun(tmp_path: Path, end: BaseException | None) -> None:
    with Workspace(tmp_path, CONFIG) as space:
        for name in ("report.json", "report.html", "log.txt", "seal.json", "checkpoints/task/step-1/state.json"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
    before = contents(tmp_path)
    space = Workspace(tmp_path, {**CONFIG, "seed": 1}, overwrite=True).__enter__()
    (tmp_path / "log.txt").write_text("new")
    assert not (tmp_path / "seal.json").exists()  # whose test set is not that of the new run
    if end is None:  # killed: the next run there puts it back
        assert space._lock is not None
        space._lock.release()
        with pytest.raises(UserError, match="continue it with --resume"):
            Workspace(tmp_path, CONFIG).__enter__()
        with Workspace(tmp_path, CONFIG, resume=True):
            pass
    else:
        space.__exit__(type(end), end, None)
    assert contents(tmp_path) == before
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").symlink_to("report.json")
    with Workspace(tmp_path, CONFIG, overwrite=True) as space:
        space.begin()
        assert not (tmp_path / ".replaced").exists()
        assert {*contents(tmp_path)} == {".tacit", "config.yaml", ".config.yaml.signature"} & {*before, ".tacit"}


@pytest.mark.parametrize("files", [["..tacit.7.partial"], [".lock"], [".tacit", ".config.yaml.7.partial"]])
def test_a_run_that_was_killed_before_it_began_is_in_nobodys_way(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "run").mkdir()
    for name in files:
        (tmp_path / "run" / name).write_text("")
    if ".tacit" in files:
        (tmp_path / "run" / ".tacit").unlink()
        folders.mark(tmp_path / "run", "run")
    with Workspace(tmp_path / "run", CONFIG, resume=True):
        pass
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for settings in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="holds no run of Tacit"), Workspace(tmp_path, CONFIG, **settings):
            pass
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"), Workspace(tmp_path / "run", CONFIG):
        pass


def test_a_setting_that_an_older_run_did_not_keep_had_its_usual_value(tmp_path: Path) -> None:
    with Workspace(tmp_path / "run", {"data": "digits", "seed": 1}) as space:
        space.write_json("plan.json", {})
    now = {"data": "digits", "seed": 1, "lowercase": False, "ignore_label": ()}
    usual = {"lowercase": False, "ignore_label": ()}
    with Workspace(tmp_path / "run", now, usual, resume=True):
        pass
    with pytest.raises(UserError, match="with lowercase False, not True"):
        Workspace(tmp_path / "run", {**now, "lowercase": True}, usual, resume=True).__enter__()
