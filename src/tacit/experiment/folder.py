"""The run folder: locked while in use, with the run's settings and environment."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tacit.core import folders
from tacit.core.errors import DISTRIBUTION, RunFailed, UserError, is_disk_full
from tacit.core.files import check_place, write_whole
from tacit.core.leading import is_leader
from tacit.core.plain_yaml import plain_yaml
from tacit.core.records import read_record, reading, text_of, write_record
from tacit.core.secret import FILE_NAME as SECRET
from tacit.core.secret import SIGNATURE, is_signed, sign
from tacit.encoders import folder as saved
from tacit.modalities import built_in, those

if TYPE_CHECKING:
    from filelock import FileLock

CONFIG, _LOCK, _ENVIRONMENT, LOG = "config.yaml", ".lock", "environment.json", "log.txt"
BEGUN_ON = "begun_on.npz"  # see `tacit.experiment.resuming`
_SIGNATURE = f".{CONFIG}{SIGNATURE}"
OUTSIDE = {"data", "test", "labels", "cache", *those("paths"), "init", "against", "seal"}
_AT_FIRST = {CONFIG, _SIGNATURE, _LOCK, _ENVIRONMENT, LOG, folders.MARKER}  # before there are any results
_AT_FIRST |= {"seal.json", SECRET, "plan.json", BEGUN_ON}  # and before anything has been trained
_RUN = "run"  # the mark of a run folder
REPORTED = ("report.json", "report.html", "seal.json", "predictions.npz", SECRET)
# All files that a run writes into its folder, beside its encoders, which list their files themselves. Any other file
# belongs to the user, and stays.
WRITTEN = (
    *(CONFIG, _SIGNATURE, _ENVIRONMENT, LOG, "plan.json", "metrics.jsonl", BEGUN_ON, *REPORTED),
    "tensorboard/events.out.tfevents.*",
    *(f"checkpoints/*/step-*/{name}" for name in ("manifest.json", "state.json", "state.safetensors")),
    "checkpoints/*/step-*/state-*.safetensors",
)
_HERE = {name for name in WRITTEN if "/" not in name}
_ENCODERS = ("encoder", "encoders/*")
_ASIDE = ".replaced"  # where --overwrite keeps the old run until the new one has begun
# Settings that may differ when a run is resumed: output and device, not what is computed.
_FREE = {"resume", "overwrite", "out", "offline", "cache", "profile", "shard", "timeout"}
_FREE |= {"accumulate", "gradient_checkpointing", "compile", "skip_bad_steps"}
# Settings of evaluation, on which no training depends: where they differ, the encoders are evaluated again.
JUDGING = ("against", "metric", "primary_budget", "label_budgets", "train_every_budget", "margin")
_SETTINGS = "# The settings of a run, with their SHA-256 in the last line.\n"
_DIGEST = "# SHA-256 of the lines above;"


class Workspace(AbstractContextManager["Workspace"]):
    """`with Workspace(out, config, resume=..., overwrite=...) as space:` holds the folder's lock.

    With several processes the leader holds it and writes for all.

    UserError where another run holds it, where it holds a run and neither `resume` nor `overwrite` was given, or where
    the configuration to resume differs in more than judging, naming the setting. Where the block ends in a UserError
    before it has written anything but its log, the folder holds no run; where a run was to be continued, its
    configuration is again what it was. A run that is overwritten is whole again where the block ends in any error
    before `begin`.
    """

    def __init__(
        self,
        out: Path,
        config: Mapping[str, Any],
        usual: Mapping[str, Any] | None = None,
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = out
        self.config = {key: _plain(value) for key, value in config.items()}
        self.usual = {key: _plain(value) for key, value in (usual or {}).items()}  # of settings that were not stored
        self.resume = resume
        self.overwrite = overwrite
        self.judged_anew: list[str] = []  # settings of evaluation that differ from those of the resumed run
        self._lock: FileLock | None = None
        self._before: str | None = None  # the configuration of a resumed run
        self._signed = False  # by this user
        self._made = False  # whether the folder is new

    def __enter__(self) -> Workspace:
        from tacit.core import ranks  # imports torch, which `report_folder` does not need

        ranks.from_leader(self._take)
        return self

    def _take(self) -> None:
        import filelock

        try:
            self._check()  # before anything is touched
            check_place(self.path)
            self._made = not self.path.exists()
            if self._made:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.mkdir(mode=0o700)
            self._lock = filelock.FileLock(self.path / _LOCK, blocking=False)
            self._lock.acquire()
            self._put_back()  # what a killed run had set aside
        except filelock.Timeout:
            raise UserError(f"{self.path} is in use by another run; wait for it or choose another --out") from None
        except OSError as error:
            self._leave()
            if is_disk_full(error):
                raise RunFailed(f"the disk is full at {self.path}; free some space or choose another --out") from error
            raise UserError(f"--out {self.path} cannot be written: {error.strerror or error}; choose another") from None
        try:
            self._claim(self._check())
        except BaseException:
            self._put_back()
            self._lock.release()
            self._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        if error is None:
            self.begin()
        restored = error is not None and self._put_back()
        if not restored and isinstance(error, UserError) and {path.name for path in self.path.iterdir()} <= _AT_FIRST:
            self._clear()  # after invalid settings there is no run, and the folder is free for the next try
            for name in (folders.MARKER, _LOCK):
                (self.path / name).unlink(missing_ok=True)
        elif isinstance(error, UserError) and self._before is not None:
            write_whole(self.path / CONFIG, self._before)
            (self.path / _SIGNATURE).unlink(missing_ok=True)
            if self._signed:
                sign(self.path / CONFIG)
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        """Remove the folder if it was made in vain."""
        if self._made and self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {_LOCK}:
            with suppress(OSError):
                (self.path / _LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    def _check(self) -> RunSettings | None:
        """The settings of the run to resume; None for a new run. UserError where neither is allowed."""
        if self.path.is_symlink() and not self.path.exists():
            raise UserError(f"--out {self.path} is a link that leads nowhere; choose another --out")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path} is a file; name a folder")
        if not self.path.exists():
            return None
        if all(self._is_nothing(path) for path in self.path.iterdir()):
            return None
        if not is_own(self.path):
            raise UserError(f"{self.path} is not empty and holds no run of Tacit; choose another --out")
        if self.overwrite:
            return None
        before = settings_of(self.path / _ASIDE if self._has_set_aside() else self.path)
        differing = sorted(
            key
            for key in (before.keys() | self.config.keys()) - _FREE
            if before.get(key, self.usual.get(key)) != self.config.get(key)
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
                f"{self.path} already holds this run; continue it with --resume{what} or replace it with --overwrite"
            )
        return before

    def _is_nothing(self, path: Path) -> bool:
        """Whether a run that has not begun may have left this file."""
        if path.name == folders.MARKER:
            return folders.marked(self.path) == _RUN
        if folders.is_beginning(path.name, (folders.MARKER, CONFIG)):  # of one that was killed
            return path.is_file() and not path.is_symlink()
        return path.name == _LOCK and not path.is_symlink() and path.is_file() and not path.stat().st_size

    def _claim(self, before: RunSettings | None) -> None:
        if (self.path / LOG).is_symlink():
            raise UserError(f"{self.path / LOG} is a link; remove it, for it is written to")
        if before is None:
            self._set_aside()
        else:
            self._before, self._signed = text_of(self.path / CONFIG), before.trusted
        for file in (self.path / name for name in _HERE):
            if os.path.lexists(file) and not file.is_file():  # a pipe would block, a device never end
                raise UserError(f"{file} is no plain file; move it away, or choose another --out")
        self._remove_litter()
        if folders.marked(self.path) != _RUN:
            with self._room():
                folders.mark(self.path, _RUN)
        shown = {"resume", "overwrite"}
        if before is None or any(before.get(key) != self.config.get(key) for key in self.config.keys() - shown):
            with self._room():
                _write_config(self.path / CONFIG, self.config)
        sign(self.path / CONFIG)
        self.write_json(_ENVIRONMENT, environment())

    def begin(self) -> None:
        """Mark the folder as this run's; the run that it overwrites is gone from here on."""
        if self._lock is not None and self._has_set_aside():
            self._clear(set(WRITTEN) - _HERE)  # first: a run killed here must not go on from the other's checkpoints
            self._forget()

    def _set_aside(self) -> None:
        """Move the run that is to be overwritten aside, so that invalid settings do not destroy it."""
        if not is_own(self.path):
            return
        if not (self.path / CONFIG).is_file():  # nothing that could be put back
            return self._clear()
        there = [name for name in _HERE if (self.path / name).is_file() or (self.path / name).is_symlink()]
        (self.path / _ASIDE).mkdir(mode=0o700)
        for name in sorted(there, key=lambda name: name != CONFIG):  # by which it is known
            (self.path / name).rename(self.path / _ASIDE / name)

    def _put_back(self) -> bool:
        """Undo `_set_aside`; whether there was anything to undo."""
        aside = self.path / _ASIDE
        if not self._has_set_aside():
            self._forget()
            return False
        if (self.path / CONFIG).exists():  # of the new run
            folders.remove(self.path, _HERE)
        for name in sorted((path.name for path in aside.iterdir()), key=lambda name: name == CONFIG):
            (aside / name).rename(self.path / name)
        aside.rmdir()
        return True

    def _has_set_aside(self) -> bool:
        return not (self.path / _ASIDE).is_symlink() and os.path.lexists(self.path / _ASIDE / CONFIG)

    def _forget(self) -> None:
        """Delete the run that was set aside."""
        aside = self.path / _ASIDE
        if not aside.is_symlink() and aside.is_dir():
            for name in _HERE & {path.name for path in aside.iterdir()}:  # a link leads elsewhere from here
                (aside / name).unlink()
            with suppress(OSError):  # not empty
                aside.rmdir()

    def _clear(self, written: Collection[str] = WRITTEN) -> None:
        """Delete the files of the run, and no others."""
        if not is_own(self.path):
            return
        for pattern in _ENCODERS:
            for folder in self.path.glob(pattern):
                saved.remove(folder)
        folders.remove(self.path, written)

    def _remove_litter(self) -> None:
        """Delete the unfinished files of a killed run; the lock ensures that no other process writes them."""
        folders.remove_litter(self.path, [*_HERE, "encoder", folders.MARKER])
        folders.remove_litter(self.path / "encoders", ["*"])
        for tasks in self.path.glob("checkpoints/*"):
            folders.remove_litter(tasks, ["step-*"])

    def write_json(self, name: str, value: Any) -> None:
        """Write whole or not at all. RunFailed on a full disk."""
        if not is_leader():
            return
        with self._room():
            write_record(self.path / name, value, strict=False)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """RunFailed where the disk is full."""
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise RunFailed(
                    f"the disk is full at {self.path}; free some space and continue with --resume"
                ) from error
            raise

    def read_json(self, name: str) -> Any:
        """Read the JSON of this name, or None. UserError where it is damaged."""
        file = self.path / name
        if not file.exists():
            return None
        with reading(file, "restore it from a copy, or start again with --overwrite"):
            return read_record(file)


def report_folder(out: str | None, *, overwrite: bool) -> Path | None:
    """Check the folder for a report, which is made when the report is written.

    UserError where it holds a report that must not be replaced, or another file of that name.
    """
    if out is None:
        return None
    folder = Path(out)
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"--out {folder} is a link that leads nowhere; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; name a folder")
    check_place(folder)
    there = [name for name in REPORTED if os.path.lexists(folder / name)]
    own = REPORTED if is_own(folder) or _is_report(folder) else folders.listed(folder)
    foreign = [name for name in there if name not in own]
    if foreign:
        raise UserError(f"{folder / foreign[0]} is not of a report by Tacit; choose another --out")
    if "report.json" in there and not overwrite:
        raise UserError(f"{folder} already holds a report; replace it with --overwrite or choose another --out")
    return folder


def mark_report(folder: Path) -> None:
    """Make the folder of a report if needed, and mark the files to be written as Tacit's own."""
    folder.mkdir(parents=True, exist_ok=True)
    if folders.marked(folder) is None:
        folders.mark(folder, "report", REPORTED)


def _is_report(folder: Path) -> bool:
    """Whether an older Tacit has written a report here, judging by its content."""
    if folders.marked(folder) is not None:
        return False
    try:
        content = read_record(folder / "report.json")
        return content["schema"] == 1 and "verdict" in content and "arms" in content
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def is_run(folder: Path) -> bool:
    """Whether the folder holds a readable run."""
    return (folder / CONFIG).exists()


def is_own(folder: Path) -> bool:
    """Whether a run has written here: by its mark or, for an older Tacit, by two of its files."""
    if folders.marked(folder) == _RUN:
        return True
    if not (folder / CONFIG).is_file():
        return False
    try:
        packages = read_record(folder / _ENVIRONMENT)["packages"]
        return isinstance(packages, dict) and {"tacit", "torch"} <= packages.keys()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


class RunSettings(dict[str, Any]):
    """The settings of a run; `trusted` where the user wrote them on this machine, or passed --trust."""

    trusted: bool = False


def settings_of(run: Path, *, trust: bool = False) -> RunSettings:
    """Read the settings of a run. UserError where the folder holds none, or they are damaged."""
    file = run / CONFIG
    if not file.exists():
        raise UserError(f"{run} holds no run of Tacit (no {CONFIG}); name the folder that `tacit run` wrote")
    with reading(file, "restore it from a copy, or start the run again with --overwrite"):
        text, _, last = text_of(file).partition(_DIGEST)
        digest = last.rpartition(": ")[2].strip()
        if text.startswith(_SETTINGS) and not digest:
            raise ValueError("its last line, the SHA-256, is gone; where you changed it, delete the first line too")
        if digest and digest != hashlib.sha256(text.encode()).hexdigest():  # an older Tacit wrote none
            raise ValueError("it is not as it was written, by the SHA-256 in its last line")
        settings = plain_yaml(text)
        if (
            not isinstance(settings, dict)
            or not all(isinstance(key, str) for key in settings)
            or "data" not in settings
        ):
            raise ValueError("it holds no settings of a run")
        for key, value in settings.items():
            values = value if isinstance(value, list) else [value]
            if not all(one is None or isinstance(one, bool | int | float | str) for one in values):
                raise ValueError(f"{key} is {value!r:.40}")
        if not isinstance(settings.get("seed", 0), int):
            raise ValueError(f"seed is {settings['seed']!r:.40}")
    found = RunSettings(settings)
    found.trusted = trust or is_signed(file)
    return found


def leads_out(name: str, value: Any) -> bool:
    """Whether a setting of a run names something outside its folder: a path, a URL, a name on a hub."""
    ours = name == "data" and value in built_in() and not Path(value).exists()
    return name in OUTSIDE and not ours and not (name == "labels" and value in ("folders", ["folders"]))


def was_private(run: Path) -> bool:
    """Whether the run in this folder was private; False where there is no readable run."""
    try:
        return bool(settings_of(run).get("private"))
    except (UserError, OSError):
        return False


def _write_config(file: Path, config: Mapping[str, Any]) -> None:
    import yaml

    text = _SETTINGS + yaml.safe_dump(dict(config), sort_keys=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_whole(file, f"{text}{_DIGEST} delete this line and the first where you change them: {digest}\n")


def default_folder(data: Any) -> Path:
    """The default folder of a run: runs/ and the name of the data, in safe characters."""
    name = type(data).__name__.lower()
    if isinstance(data, str | Path):
        path = Path(data)
        whole = path.name in {"", ".."} or os.path.isdir(data)  # a folder's name may contain dots
        name = path.expanduser().resolve().name if whole else path.stem
    return Path("runs") / (re.sub(r"[^\w.+@=, -]+", "_", name).strip("._ ")[:100] or "data")


def version_of(distribution: str) -> str:
    """The version of an installed distribution, or `absent`."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def environment() -> dict[str, Any]:
    """Versions, machine and date of a run, without anything personal."""
    import datetime

    packages = ("torch", "transformers", "lightning-fabric", "numpy", "scikit-learn", "pillow", "pyarrow")
    versions = {"tacit": version_of(DISTRIBUTION), **{name: version_of(name) for name in packages}}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


def processor() -> str:
    """The name of the processor, from the system."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """A setting as a YAML value; objects from Python are named by their type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
