"""Nothing of a person's is touched, and whatever is damaged or refused ends in a line or in the right answer."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import tacit
from tacit import cli
from tacit.core import folders
from tacit.core.errors import RunFailed, UserError, clear_ends, in_a_line, writing_to
from tacit.core.files import check_target, whole_file
from tacit.core.folders import whole_folder
from tacit.core.records import read_record, reading, write_record
from tacit.data import cache
from tacit.evaluation import Predictions, Report, Seal
from tacit.experiment.folder import WRITTEN, Workspace, default_folder, is_own, mark_report, report_folder, settings_of
from tacit.report import write as publish
from tacit.training import checkpoint
from tacit.training.loop import read_history
from tests import fuzzing, made
from tests.made import Made

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are otherwise there")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made.make(tmp_path_factory.mktemp("made") / "all")


@pytest.fixture
def it(once: Made) -> Iterator[Made]:
    with fuzzing.fresh(once) as copy:
        yield copy


@pytest.fixture(scope="module")
def right(once: Made) -> fuzzing.Right:
    return fuzzing.Right(once)


def ends(command: Callable[[], Any]) -> str:
    """What a person is told, or nothing where the command has done its work."""
    said = ""
    try:
        with made.quiet():
            command()
    except (UserError, RunFailed) as error:
        said = str(error)
    assert "\n" not in said
    return said


# ---------------------------------------------------------------- folders of a person's


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


FOREIGN: dict[str, dict[str, str]] = {
    "papers": {"thesis_dot_tex": "x", "figures__1_dot_csv": "a,b\n"},
    "a config": {"config_dot_yaml": "a: 1\n", "data__all_dot_csv": "x"},
    "a config of like words": {"config_dot_yaml": "data: x\nbudget: 5\nseed: 0\n", "environment_dot_json": "{}"},
    "an environment": {"config_dot_yaml": "a: 1\n", "environment_dot_json": '{"packages": {"torch": "2"}}'},
    "an encoder of others": {"encoder_dot_json": '{"format": "other"}', "config_dot_json": "{}", "serve_dot_py": "x"},
    "a report of others": {"report_dot_json": '{"mine": 1}', "report_dot_html": "x", "log_dot_txt": "x"},
    "a seal alone": {"seal_dot_json": "{}", "predictions_dot_npz": "x"},
    "parts of others": {"parts_dot_json": "{}", "part-00000-of-00001_dot_parquet": "x"},
    "a cache of others": {
        **{"texts__novel_dot_txt": "x", "sounds__only copy_dot_wav": "x", "decoded__a__b_dot_bin": "x"},
        **{"listings__a_dot_json": "x", "listings__b_dot_lock": "held dear", "histories__ours_dot_md": "x"},
        f"decoded__{'a' * 32}__novel_dot_txt": "x",
        f"texts__{'b' * 32}_dot_txt": "x",
    },
    "a lock": {"_dot_lock": "held dear"},
    "a mark": {"_dot_tacit": "my own file"},
    "a mark as a folder": {"_dot_tacit__x": "mine"},
    "checkpoints of others": {"checkpoints__simclr__best_dot_txt": "x", "encoder__weights_dot_txt": "x"},
}


def commands_on(it: Made, out: Path) -> dict[str, Callable[[], Any]]:
    """Every command that can be pointed at a folder."""

    def report(*, overwrite: bool) -> None:  # as `tacit evaluate` does once it has judged
        assert report_folder(str(out), overwrite=overwrite) == out
        judged = Report.load(it.judged)
        mark_report(out)
        replace(judged, predictions=Predictions.load(it.judged)).keep(out, Seal.load(it.judged))
        publish(judged.to_json(), None, out)

    return {
        "pretrain": lambda: made.pretrain(it._replace(run=out)),
        "pretrain --overwrite": lambda: made.pretrain(it._replace(run=out), overwrite=True),
        "pretrain --resume": lambda: made.pretrain(it._replace(run=out), resume=True),
        "run --overwrite": lambda: tacit.run(str(it.data), budget="1steps", out=str(out), overwrite=True),
        "evaluate": lambda: report(overwrite=False),
        "evaluate --overwrite": lambda: report(overwrite=True),
        "export": lambda: made.export(it, out),
        "embed": lambda: made.embed(it, out),
        "embed --overwrite": lambda: made.embed(it, out, overwrite=True),
        "predict --overwrite": lambda: tacit.predict(str(it.run), str(it.data), out=str(out), overwrite=True),
        "clean": lambda: tacit.clean(cache=str(out)),
        "open": lambda: tacit.open_dataset(str(it.data), cache=str(out)),
    }


ADD = {"clean", "open", "evaluate", "evaluate --overwrite"}  # which may work beside what is there


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_a_persons_is_left_as_it_is(once: Made, tmp_path: Path, name: str) -> None:
    out = tmp_path / "theirs"
    write(out, **FOREIGN[name])
    out.chmod(0o755)
    for command, call in commands_on(once, out).items():
        before, files = made.snapshot(out), made.snapshot(out, folders=False)
        said = ends(call)
        if command in ADD:
            kept = made.snapshot(out, folders=False)
            assert {path: kept.get(path) for path in files} == files, command
            assert stat.S_IMODE(out.stat().st_mode) == 0o755, command
            for path in sorted(out.rglob("*"), reverse=True):  # what has come, for the next one
                if path.relative_to(out).as_posix() not in before:
                    path.rmdir() if path.is_dir() else path.unlink()
        else:
            assert said, command
            assert made.snapshot(out) == before, command


def test_what_lies_in_tacits_own_folders_stays(it: Made, capsys: pytest.CaptureFixture[str]) -> None:
    planted = {path: entry for name in fuzzing.COMMANDS for path, entry in made.plant(getattr(it, name)).items()}
    made.pretrain(it, overwrite=True)
    made.pretrain(it, resume=True)
    made.export(it, it.export)
    made.embed(it, it.embedded, overwrite=True)
    assert tacit.clean(cache=str(it.cache)) == 0
    assert not made.lost(planted)
    own = [path for path in it.cache.rglob("*") if path.is_file() and path not in planted]
    assert not own
    for name in ("run", "export"):  # and are whole beside it
        assert tacit.load_encoder(str(getattr(it, name)))


def test_every_file_of_a_run_is_known(it: Made) -> None:
    """What `--overwrite` does not know it would leave behind, and `--resume` take for its own."""
    assert folders.own_files(it.run / "encoder", ()) == {"encoder.json", "encoder.safetensors"}
    folders.remove(it.run, WRITTEN)
    folders.remove_own(it.run / "encoder", ())
    assert sorted(path.name for path in it.run.iterdir()) == [".lock", ".tacit"]


def test_folders_of_an_older_tacit_are_known_by_what_they_hold(it: Made) -> None:
    for path in it.root.rglob(".tacit"):
        path.unlink()
    for path in (it.run / "environment.json", it.export / "encoder.json", it.judged / "report.json"):
        content = json.loads(path.read_text())
        del content["sha256"]
        path.write_text(json.dumps(content))
    config = it.run / "config.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if not line.startswith("#")))
    planted = {path: entry for name in ("run", "export") for path, entry in made.plant(getattr(it, name)).items()}
    (it.run / "encoder" / "README.md").write_text("a person's own")
    assert is_own(it.run)
    assert ends(lambda: made.pretrain(it, resume=True)) == ""
    assert ends(lambda: made.pretrain(it, overwrite=True)) == ""
    assert ends(lambda: made.export(it, it.export)) == ""
    assert not made.lost(planted)
    assert (it.run / "encoder" / "README.md").read_text() == "a person's own"
    assert folders.marked(it.run) == "run"
    assert "already holds a report" in ends(lambda: made.judge(it.vectors, out=str(it.judged)))
    assert ends(lambda: made.judge(it.vectors, out=str(it.judged), overwrite=True)) == ""


def write_other(folder: Path) -> None:
    with folders.whole_folder(folder, last="encoder.json", what="encoder") as partial:
        (partial / "config.json").write_text("{}")


def test_a_file_in_the_way_of_an_export_is_told(it: Made) -> None:
    (it.export / "config.json").write_text("a person's own")
    before = made.snapshot(it.export, folders=False)
    encoder = tacit.load_encoder(str(it.export))
    with pytest.raises(UserError, match=r"config\.json was not written by Tacit and is in the way"):
        write_other(it.export)
    assert made.snapshot(it.export, folders=False) == before
    assert encoder.dim


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mark_leads_nowhere_outside(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "mine.txt").write_text("x")
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / ".tacit").write_text(
        json.dumps({"tacit": "encoder", "files": ["../mine.txt", str(tmp_path / "mine.txt")]})
    )
    assert folders.listed(folder) == frozenset()
    folders.remove_own(folder, ())
    assert (tmp_path / "mine.txt").exists()


# ---------------------------------------------------------------- names and links


@posix
def test_a_link_is_followed_and_stays(it: Made, tmp_path: Path) -> None:
    for name, call in (
        ("run", lambda to: made.pretrain(it._replace(run=to), overwrite=True)),
        ("export", lambda to: made.export(it, to)),
        ("embedded", lambda to: made.embed(it, to, overwrite=True)),
    ):
        link = tmp_path / name
        link.symlink_to(getattr(it, name))
        call(link)
        assert link.is_symlink(), name
        assert any(getattr(it, name).iterdir()), name
    link = tmp_path / "nowhere"
    link.symlink_to(tmp_path / "absent")
    for command, call in commands_on(it, link).items():
        if command not in ("clean", "open"):
            assert ends(call), command
            assert link.is_symlink(), command
            assert not (tmp_path / "absent").exists(), command


@posix
def test_files_that_are_named_to_be_written(it: Made, tmp_path: Path) -> None:
    def predict(out: Path, **settings: Any) -> str:
        told = {"labels": str(it.labels), "out": str(out), **settings}
        return ends(lambda: tacit.predict(str(it.run), str(it.data), **told))

    out = tmp_path / "predicted.csv"
    assert predict(out) == ""
    assert "exists; replace it with --overwrite" in predict(out)
    out.chmod(0o600)
    link, hard = tmp_path / "link.csv", tmp_path / "hard.csv"
    link.symlink_to(out)
    assert predict(link, overwrite=True) == ""
    assert link.is_symlink()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    os.link(out, hard)
    before = hard.read_bytes()
    assert predict(out, overwrite=True) == ""
    assert hard.read_bytes() == before
    out.chmod(0o400)
    assert "is read-only" in predict(out, overwrite=True)
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in predict(tmp_path / "folder.csv", overwrite=True)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "was not written by tacit predict" in predict(tmp_path / "pipe.csv", overwrite=True)
    for name, content in (
        ("thesis.csv", b"id,class\na,b\n"),
        ("thesis.parquet", b"PAR1"),
        ("labels.csv", b"file,label\n"),
    ):
        (tmp_path / name).write_bytes(content)
        assert "was not written by tacit predict" in predict(tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() == content
    assert predict(tmp_path / "p.parquet") == predict(tmp_path / "p.parquet", overwrite=True) == ""
    pq.write_table(pa.table({"id": ["a"], "embedding": [[1.0]]}), tmp_path / "mine.parquet")
    embed = lambda name: ends(lambda: made.embed(it, tmp_path / name, overwrite=True))  # noqa: E731
    assert "was not written by tacit embed" in embed("mine.parquet")
    assert embed("e.parquet") == embed("e.parquet") == ""
    (tmp_path / "thesis").write_text("precious")
    assert "is a file; name a folder" in embed("thesis")
    assert (tmp_path / "thesis").read_text() == "precious"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        *(("..", "here"), (".", "inner"), ("./", "inner"), ("/", "data"), ("a.b", "a.b"), ("x.csv", "x.csv")),
        *(("scans/few.csv", "few"), ("hf:org/name", "name"), ("digits", "digits"), ("~", Path.home().name or "data")),
        *(("https://host/a/t.csv?x=/..", None), ("../..", None), ("...", None), ("a\nb", "a_b"), ("", "inner")),
    ],
)
def test_a_run_without_a_name_stays_below_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, name: str | None
) -> None:
    inner = tmp_path / "here" / "inner"
    for folder in ("a.b", "x.csv"):
        (inner / folder).mkdir(parents=True)
    monkeypatch.chdir(inner)
    found = default_folder(data)
    assert found.parent == Path("runs")
    assert found.resolve().parent == inner / "runs"
    if name is not None and data != "~":
        assert found.name == name


@posix
def test_only_a_new_folder_gets_its_mode(tmp_path: Path) -> None:
    for name in ("empty", "new"):
        if name == "empty":
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(0o775)
        with Workspace(tmp_path / name, {"data": "x"}):
            pass
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o775
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    with pytest.raises(UserError, match="no such task"), Workspace(tmp_path / "mistaken", {"data": "x"}):
        raise UserError("no such task")
    assert not (tmp_path / "mistaken").exists()


# ---------------------------------------------------------------- whole or not at all


def test_what_a_killed_run_has_left_is_swept(it: Made) -> None:
    tasks = it.run / "checkpoints" / made.TASK
    litter = [
        tasks / ".step-00000002.123.partial" / "state.safetensors",
        it.run / ".encoder.123.partial" / "x",
        it.run / ".report.json.123.partial",
        it.run / "encoders" / ".simclr.9.old" / "x",
    ]
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    theirs = it.run / ".thesis.123.partial"
    theirs.write_text("precious")
    (it.run / "encoder").rename(it.run / ".encoder.7.old")  # killed between two steps of an older Tacit
    made.pretrain(it, resume=True)
    assert [path for path in litter if path.exists() and "encoders" not in path.parts] == []
    assert theirs.read_text() == "precious"
    assert tacit.load_encoder(str(it.run))


def full_disk(path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_configuration_is_whole_and_resuming_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"data": "x", "seed": 0}
    with Workspace(tmp_path / "run", asked):
        pass
    file = tmp_path / "run" / "config.yaml"
    before = made.entry(file)
    with Workspace(tmp_path / "run", {**asked, "resume": True}, resume=True):
        pass
    assert made.entry(file) == before
    with monkeypatch.context() as patch:
        patch.setattr("tacit.core.files.flush", full_disk)
        with (
            pytest.raises(RunFailed, match="disk is full"),
            Workspace(tmp_path / "run", {**asked, "seed": 1}, overwrite=True),
        ):
            pass
    with Workspace(tmp_path / "run", asked, resume=True):  # the old run, not half of a new one
        pass
    assert made.entry(file) == before
    for content in (b"", file.read_bytes()[:12], b"data: 'x", b"- 1", b"data: {}", b"\xff"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"config\.yaml"), Workspace(tmp_path / "run", asked, resume=True):
            pass
    with Workspace(tmp_path / "run", asked, overwrite=True):
        pass
    assert yaml.safe_load(file.read_text()) == asked
    file.write_text(file.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(UserError, match="not as it was written"):
        settings_of(tmp_path / "run")
    text = file.read_text()
    file.write_text(text[text.index("\n") + 1 : text.rindex("#")])  # as its last line says
    assert settings_of(tmp_path / "run")["seed"] == 1


@pytest.mark.parametrize("name", ["/dev/zero", "../../secret", "state-1.safetensors", "", "state.json/../x", 5, None])
def test_a_manifest_names_plain_files_alone(tmp_path: Path, name: Any) -> None:
    import torch

    for step in (1, 2):
        checkpoint.save(tmp_path / "c", step, {"w": torch.zeros(2)}, {})
    manifest = tmp_path / "c" / "step-00000002" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, str(name) if name is not None else "x": "0" * 64}))
    with fuzzing.limit(10):
        found = checkpoint.load(tmp_path / "c")
    assert found is not None
    assert (found.step, len(found.damaged)) == (1, 1)


@posix
def test_pipes_devices_and_links_in_a_checkpoint_are_no_files(tmp_path: Path) -> None:
    import torch

    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path / "c", step, {"w": torch.zeros(2)}, {}, keep=4)
    for step, name in ((2, "state.safetensors"), (3, "manifest.json")):
        (tmp_path / "c" / f"step-{step:08d}" / name).unlink()
        os.mkfifo(tmp_path / "c" / f"step-{step:08d}" / name)
    file = tmp_path / "c" / "step-00000004" / "state.json"
    file.unlink()
    file.symlink_to("/dev/zero")
    with fuzzing.limit(10):
        found = checkpoint.load(tmp_path / "c")
    assert found is not None
    assert (found.step, len(found.damaged)) == (1, 3)


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "plan.json", "secret.key", "config.yaml", "seal.json"])
def test_pipes_and_devices_in_a_run_do_not_block(it: Made, name: str) -> None:
    for overwrite in (False, True):
        (it.run / name).unlink(missing_ok=True)
        os.mkfifo(it.run / name)
        with fuzzing.limit(10), pytest.raises(UserError, match=name.replace(".", r"\.")):
            made.pretrain(it, resume=not overwrite, overwrite=overwrite)
    assert stat.S_ISFIFO((it.run / name).lstat().st_mode)


def test_a_pipe_as_data_is_refused(tmp_path: Path) -> None:
    for name in ("t.csv", "t.npz", "t.txt", "t.tar"):
        os.mkfifo(tmp_path / name)
        with fuzzing.limit(10), pytest.raises(UserError, match="is a pipe, a socket or a device"):
            tacit.open_dataset(str(tmp_path / name))


def test_settings_that_were_cut_short_are_no_settings(it: Made) -> None:
    file = it.run / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    for kept in range(len(lines)):
        file.write_text("".join(lines[:kept]))
        with pytest.raises(UserError, match=r"config\.yaml"):
            settings_of(it.run)
    file.write_text("".join(lines[1:-1]))
    assert settings_of(it.run)["data"]
    older = "data: digits\nseed: 0\n"
    last = (
        f"# SHA-256 of the lines above; delete this line where you change them: {sha256(older.encode()).hexdigest()}\n"
    )
    file.write_text(older + last)
    assert settings_of(it.run)["seed"] == 0
    file.write_text(older.replace("0", "1") + last)
    with pytest.raises(UserError, match="not as it was written"):
        settings_of(it.run)


# ---------------------------------------------------------------- records


def test_a_record_tells_of_every_flipped_bit(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_record(file, {"a": [1, 2.5, None], "ä": {"b": "x"}})
    data = file.read_bytes()
    for place in range(len(data) - 1):
        for bit in range(0, 8, 3):
            file.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            try:
                with reading(file, "restore it"):
                    found = read_record(file)
            except UserError:
                continue
            assert {name: found[name] for name in ("a", "ä")} == {"a": [1, 2.5, None], "ä": {"b": "x"}}


@pytest.mark.parametrize("garbage", [*fuzzing.GARBAGE, b"", b"\x80", b'{"version": 1, "seed": "x"}'], ids=range(13))
def test_garbage_in_any_small_file_is_told_by_its_name(tmp_path: Path, garbage: bytes) -> None:
    for name, load in (("seal.json", Seal.load), ("report.json", Report.load), ("predictions.npz", Predictions.load)):
        (tmp_path / name).write_bytes(garbage)
        with pytest.raises(UserError, match=name):
            load(tmp_path)
    (tmp_path / "encoder.json").write_bytes(garbage)
    with pytest.raises(UserError, match=r"encoder\.json is damaged"):
        tacit.load_encoder(str(tmp_path))
    (tmp_path / "config.yaml").write_bytes(garbage)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        settings_of(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(garbage + b'\n{"task": "a", "step": 1, "loss": 1.0, "seconds": 0.1}\n5\n')
    assert [row["step"] for row in read_history(tmp_path / "metrics.jsonl")] == [1]


# ---------------------------------------------------------------- what the system refuses


@pytest.mark.parametrize(
    ("number", "match", "kind"),
    [
        (errno.EACCES, "a.txt: Permission denied; give yourself access", UserError),
        (errno.EROFS, "Read-only file system; give yourself access", UserError),
        (errno.ENOSPC, "the disk is full at a.txt", RunFailed),
        (errno.EDQUOT, "the disk is full at a.txt", RunFailed),
        (errno.EMFILE, "ulimit", UserError),
        (errno.ENAMETOOLONG, "choose a shorter name", UserError),
        (errno.EIO, "the disk does not answer", UserError),
        (errno.ECONNREFUSED, "Connection refused", UserError),
        (errno.ENOENT, "a.txt: No such file", UserError),
    ],
)
def test_what_the_system_refuses_is_a_line(number: int, match: str, kind: type[Exception]) -> None:
    @clear_ends
    def command() -> None:
        raise OSError(number, os.strerror(number), "a.txt")

    with pytest.raises(kind, match=match):
        command()
    assert isinstance(in_a_line(MemoryError()), RunFailed)


@posix
def test_what_libraries_in_rust_wrap_is_a_line_too(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    for place, match in ((tmp_path / "none" / "w", "No such file"), (tmp_path, "directory")):
        with pytest.raises(UserError, match=match):
            clear_ends(lambda place=place: save_file({"w": torch.zeros(1)}, place))()


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may do everything")
def test_without_permissions(it: Made, tmp_path: Path) -> None:
    it.root.chmod(0o500)
    try:
        for command, call in commands_on(it, it.root / "new").items():
            assert command == "clean" or ends(call), command
    finally:
        it.root.chmod(0o700)


def test_a_folder_that_cannot_be_made_or_locked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), Workspace(tmp_path / "file" / "run", {}):
        pass
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="--cache or TACIT_CACHE"):
        tacit.open_dataset("digits")
    monkeypatch.delenv("TACIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory")))
    if sys.platform == "linux":
        with pytest.raises(UserError, match="no home folder is known"):
            cache.default_root()
    (tmp_path / "shared").mkdir(mode=0o777)
    with monkeypatch.context() as patch:  # as for one who does not own it
        patch.setattr(Path, "chmod", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
        with Workspace(tmp_path / "shared", {"data": "x"}):
            pass


@posix
@pytest.mark.parametrize(
    "text", ["[Errno 27] no", "I/O error: File too large (os error 27)", "[errno 27] File too large"]
)
def test_writing_names_the_file_that_is_too_large(text: str, tmp_path: Path) -> None:
    """Also where a library in Rust or C++ has wrapped the system's error."""
    error = OSError(27, "File too large") if text.startswith("[Errno") else RuntimeError(text)
    for place in (whole_file, partial(whole_folder, last="x"), writing_to):
        with pytest.raises(OSError, match="large") as caught, place(tmp_path / "large"):
            raise error
        told = str(in_a_line(caught.value))
        assert str(tmp_path / "large") in told
        assert "ulimit -f" in told
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be_written_ends_in_a_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no such device")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tacit", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (
        1,
        "tacit: error: the disk is full; free some space and try again, a run with --resume\n",
    )


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("before")
    with pytest.raises(RunFailed, match="the disk is full"), whole_file(file):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    old = tmp_path / ".a.csv.999999.partial"
    old.write_text("x")
    os.utime(old, (0, 0))
    with whole_file(file) as partial:
        partial.write_text("after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert file.read_text() == "after"
    with pytest.raises(UserError, match="was not written by us"):
        check_target(file, overwrite=True, is_own=lambda path: False, by="us")


# ---------------------------------------------------------------- damage of every kind


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="nothing rings")
@pytest.mark.parametrize(
    ("among", "trials"), [("run", 10), ("export", 6), ("judged", 4), ("embedded", 4), ("cache", 3)]
)
def test_damaged_folders_end_in_a_line_or_in_the_right_answer(
    once: Made, right: fuzzing.Right, among: str, trials: int
) -> None:
    """A few of what `benchmarks/fuzz.py` tries by the hundred."""
    quick = (trial for trial in fuzzing.trials(once, 7, (among,)) if trial[-1] not in fuzzing.SLOW)
    for number, (name, file, kind, command) in enumerate(islice(quick, trials)):
        outcome = fuzzing.trial(once, name, file, kind, command, right.to(name, command), number)
        assert outcome.came in ("right", "told"), outcome


def test_the_command_line_says_the_same(it: Made, capsys: pytest.CaptureFixture[str]) -> None:
    (it.run / "config.yaml").write_bytes(b"\xff")
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(it.run), str(it.data)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        f"tacit: error: {it.run / 'config.yaml'} is damaged (it is no text in UTF-8)"
    )
