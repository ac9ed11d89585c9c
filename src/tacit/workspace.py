"""The run folder: one run's own, locked while in use, with what it was asked and where it ran."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tacit.errors import RunFailed, UserError
from tacit.files import check_place, is_disk_full, write_whole
from tacit.leading import leader
from tacit.plain_yaml import read_plain_yaml
from tacit.secret import FILE_NAME as SECRET
from tacit.secret import SIGNATURE, is_signed, sign

if TYPE_CHECKING:
    from filelock import FileLock

CONFIG, _LOCK, _ENVIRONMENT, LOG = "config.yaml", ".lock", "environment.json", "log.txt"
BEGUN_ON = "begun_on.npz"  # see `tacit.resuming`
OUTSIDE = {"data", "test", "labels", "cache", "item_table", "catalogue", "tokenizer", "init", "against", "seal"}
# all there is before anything has been found out
_AT_FIRST = {CONFIG, f".{CONFIG}{SIGNATURE}", _LOCK, _ENVIRONMENT, LOG}
_AT_FIRST |= {"seal.json", SECRET, "plan.json", BEGUN_ON}  # and before anything has been trained
# What may differ when a run is continued: how it is shown and where and by whom it is computed, not what is.
_FREE = {"resume", "overwrite", "out", "offline", "cache", "profile", "shard", "timeout"}
_FREE |= {"accumulate", "gradient_checkpointing", "compile", "skip_bad_steps"}
# Of judging, which nothing that was trained depends on: where they differ, what was trained is judged anew.
JUDGING = ("against", "metric", "primary_budget", "label_budgets", "train_every_budget", "margin")


class Workspace(AbstractContextManager["Workspace"]):
    """`with Workspace(out, config, resume=..., overwrite=...) as space:` holds the folder's lock.

    Of several processes the leader holds it and writes for all.

    UserError where another run holds it, where it holds a run and neither `resume` nor `overwrite` was given, or where
    the configuration to resume differs in more than judging, naming the setting. Where the block ends in a UserError
    before it has written anything but its log, the folder holds no run; where a run was to be continued, its
    configuration is again what it was.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = out
        self.config = {key: _plain(value) for key, value in config.items()}
        self.resume = resume
        self.overwrite = overwrite
        self.judged_anew: list[str] = []  # settings of judging that differ from those of the run that is continued
        self._lock: FileLock | None = None
        self._before: str | None = None  # the configuration of a run that is continued
        self._signed = False  # by this person

    def __enter__(self) -> Workspace:
        from tacit import ranks  # and with it torch, which those who only ask for `report_folder` do without

        ranks.from_leader(self._take)
        return self

    def _take(self) -> None:
        import filelock

        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path} is a file; name a folder")
        check_place(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if os.name == "posix":
            self.path.chmod(0o700)
        self._lock = filelock.FileLock(self.path / _LOCK, blocking=False)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise UserError(f"{self.path} is in use by another run; wait for it or choose another --out") from None
        try:
            self._claim()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        if isinstance(error, UserError) and {path.name for path in self.path.iterdir()} <= _AT_FIRST:
            self._clear()  # a mistake in what was asked is no run, and the folder is free for the next try
        elif isinstance(error, UserError) and self._before is not None:
            write_whole(self.path / CONFIG, self._before)
            if self._signed:
                sign(self.path / CONFIG)
        self._lock.release()

    def _claim(self) -> None:
        import yaml

        file = self.path / CONFIG
        self._before = file.read_text(encoding="utf-8") if file.exists() else None
        before = settings_of(self.path) if self._before is not None else None
        self._signed = before is not None and before.trusted
        if before is not None and self.overwrite:
            self._clear()
            self._before = None
        elif before is not None:
            differing = sorted(
                key for key in (before.keys() | self.config.keys()) - _FREE if before.get(key) != self.config.get(key)
            )
            self.judged_anew = [key for key in differing if key in JUDGING]
            if trained := [key for key in differing if key not in JUDGING]:
                key = trained[0]
                raise UserError(
                    f"{self.path} holds a run with {key} {before.get(key)!r}, not {self.config.get(key)!r}; "
                    "choose another --out, or replace it with --overwrite"
                )
            if not self.resume:
                what = ", which judges it anew," if self.judged_anew else ""
                raise UserError(
                    f"{self.path} already holds this run; continue it with --resume{what} or replace it with "
                    "--overwrite"
                )
        elif any(path.name != _LOCK for path in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no run of Tacit; choose another --out")
        file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        sign(file)
        self.write_json(_ENVIRONMENT, environment())

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def write_json(self, name: str, value: Any) -> None:
        """Write whole or not at all. RunFailed on a full disk."""
        if not leader():
            return
        try:
            write_whole(self.path / name, json.dumps(value, indent=1))
        except OSError as error:
            if is_disk_full(error):
                raise RunFailed(
                    f"the disk is full at {self.path}; free some space and continue with --resume"
                ) from error
            raise

    def read_json(self, name: str) -> Any:
        """What was written under this name, or None."""
        file = self.path / name
        return json.loads(file.read_text()) if file.exists() else None


def report_folder(out: str | None, *, overwrite: bool) -> Path | None:
    """The folder for a report, made when it is written. UserError where it holds one that is not to be replaced."""
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; name a folder")
    check_place(folder)
    if (folder / "report.json").exists() and not overwrite:
        raise UserError(f"{folder} already holds a report; replace it with --overwrite or choose another --out")
    return folder


def is_run(folder: Path) -> bool:
    """Whether a run has written here."""
    return (folder / CONFIG).exists()


class RunSettings(dict[str, Any]):
    """What a run was asked; `trusted` where the person wrote it on this machine, or says that it is to be trusted."""

    trusted: bool = False


def settings_of(run: Path, *, trust: bool = False) -> RunSettings:
    """What a run was asked. UserError where the folder holds none, or no settings."""
    file = run / CONFIG
    try:
        asked = RunSettings(read_plain_yaml(file))
    except FileNotFoundError:
        raise UserError(f"{run} holds no run of Tacit (no {CONFIG}); name the folder that `tacit run` wrote") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); restore it from a copy, or start the run again") from None
    asked.trusted = trust or is_signed(file)
    return asked


def leads_out(name: str, value: Any) -> bool:
    """Whether a setting of a run names something outside of its folder: a path, an URL, a name on a hub."""
    built_in = (name, value) == ("data", "digits") and not Path("digits").exists()
    return name in OUTSIDE and not built_in and not (name == "labels" and value in ("folders", ["folders"]))


def was_private(run: Path) -> bool:
    """Whether a run in this folder was asked to be private; False where there is none, or none that can be read."""
    try:
        return bool(settings_of(run).get("private"))
    except (UserError, OSError):
        return False


def environment() -> dict[str, Any]:
    """Versions, machine and date of a run, without anything personal."""
    import datetime

    packages = ("tacit", "torch", "transformers", "lightning-fabric", "numpy", "scikit-learn", "pillow", "pyarrow")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


def processor() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """A setting as YAML can hold it; objects given from Python are named by their type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
