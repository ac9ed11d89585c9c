"""Damage to whatever Tacit has written, and what every command makes of it: see `benchmarks/fuzz.py`."""

from __future__ import annotations

import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tacit
from tacit.core.errors import RunFailed, UserError
from tests import made
from tests.made import Made

SECONDS = 60  # that a command may take

# ---------------------------------------------------------------- damage

GARBAGE = (b"null", b"[]", b"{}", b'""', b"5", b"[" * 2_000, b'{"a": NaN}', b"\xff\xfe\x00", b"a: &a [*a]\n", b"- x\n")


def flip(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def cut(file: Path, chance: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])


def empty(file: Path, chance: random.Random) -> None:
    file.write_bytes(b"")


def replace(file: Path, chance: random.Random) -> None:
    file.write_bytes(chance.choice(GARBAGE))


def delete(file: Path, chance: random.Random) -> None:
    file.unlink()


def swap(file: Path, chance: random.Random) -> None:
    """With another file of the same folder, or of the one above."""
    others = [path for place in (file.parent, file.parent.parent) for path in sorted(place.iterdir())]
    others = [path for path in others if path.is_file() and path != file and path.name not in (".lock", "thesis.txt")]
    if others:
        other = chance.choice(others)
        mine, theirs = file.read_bytes(), other.read_bytes()
        file.write_bytes(theirs)
        other.write_bytes(mine)


def as_folder(file: Path, chance: random.Random) -> None:
    """A folder of a person's in the place of the file."""
    file.unlink()
    file.mkdir()
    (file / "precious.txt").write_text("precious")


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    damage.__name__: damage for damage in (flip, cut, empty, replace, delete, swap, as_folder)
}

# ---------------------------------------------------------------- commands


def _predict(it: Made) -> Any:
    return tacit.predict(str(it.run), str(it.data), labels=str(it.labels)).to_pydict()


def _vectors(path: Path) -> Any:
    table = pq.read_table(path)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist()).tobytes()


def _embed(it: Made) -> Any:
    out = it.root / "new.parquet"
    out.unlink(missing_ok=True)
    made.embed(it, out)
    return _vectors(out)


def _embed_export(it: Made) -> Any:
    out = it.root / "new.parquet"
    out.unlink(missing_ok=True)
    made.embed(it, out, it.export)
    return _vectors(out)


def _weights(folder: Path) -> Any:
    state = tacit.load_encoder(str(folder)).state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items()}


def _resume(it: Made) -> Any:
    made.pretrain(it, resume=True)
    return _weights(it.run)


def _again(it: Made) -> Any:
    made.pretrain(it)
    return "another run was begun"  # which must be refused


def _overwrite(it: Made) -> Any:
    made.pretrain(it, overwrite=True)
    return _weights(it.run)


def _export(it: Made) -> Any:
    made.export(it, it.root / "other")
    return _weights(it.root / "other")


def _export_again(it: Made) -> Any:
    made.export(it, it.export)
    return _weights(it.export)


def _load(it: Made) -> Any:
    return _weights(it.export)


def _compare(it: Made) -> Any:
    return str(tacit.compare(str(it.judged), str(it.judged_too)))


def _judge_again(it: Made) -> Any:
    return str(made.judge(it.vectors, out=str(it.judged), overwrite=True).verdict)


def _judge_sealed(it: Made) -> Any:
    return str(made.judge(it.vectors, seal=str(it.judged)).verdict)


def _open(it: Made) -> Any:
    opened = tacit.open_dataset(str(it.data), **made.asked(it))
    rows = np.arange(len(opened))
    return opened.batch(rows)["image"].numpy().tobytes(), opened.label.tobytes()


def _embed_on(it: Made) -> Any:
    try:
        made.embed(it, it.embedded)
    except UserError as error:
        if "holds all embeddings already" not in str(error):
            raise
    return sorted(path.name for path in it.embedded.glob("part-*"))


def _embed_anew(it: Made) -> Any:
    made.embed(it, it.embedded, overwrite=True)
    return [_vectors(path) for path in sorted(it.embedded.glob("part-*"))]


def _next_labels(it: Made) -> Any:
    return tacit.next_labels(str(it.run), str(it.data), n=3, cache=str(it.cache)).to_pydict()


def _clean(it: Made) -> Any:
    tacit.clean(cache=str(it.cache))
    return _open(it)


# By the folder that is damaged, what is asked then.
COMMANDS: dict[str, tuple[Callable[[Made], Any], ...]] = {
    "run": (_predict, _embed, _resume, _again, _overwrite, _export, _next_labels),
    "export": (_load, _embed_export, _export_again),
    "judged": (_compare, _judge_again, _judge_sealed),
    "cache": (_open, _embed, _predict, _clean),
    "embedded": (_embed_on, _embed_anew),
}
REFUSED = (_again,)
SLOW = (_judge_again, _judge_sealed)


class Outcome(NamedTuple):
    kind: str
    file: str
    command: str
    came: str  # told, right, wrong, traceback, hang or foreign
    said: str = ""


class TooLong(BaseException):
    """A command has not ended in time."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Right(dict[str, Any]):
    """What every command answers where nothing is damaged, asked of a copy when it is first wanted."""

    def __init__(self, it: Made) -> None:
        self.it = it

    def to(self, name: str, command: Callable[[Made], Any]) -> Any:
        if command in REFUSED:
            return None
        key = f"{name}{command.__name__}"
        if key not in self:
            with fresh(self.it) as copy, made.quiet():
                self[key] = plain(command(copy))
        return self[key]


def plain(value: Any) -> Any:
    return value.to_pydict() if isinstance(value, pa.Table) else value


@contextmanager
def fresh(it: Made) -> Iterator[Made]:
    root = it.root.with_name("copy")
    shutil.rmtree(root, ignore_errors=True)
    try:
        yield made.copied(it, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def trial(it: Made, name: str, file: str, kind: str, command: Callable[[Made], Any], right: Any, seed: int) -> Outcome:
    """Damage one file of one folder, ask one command, and say what came of it."""
    chance = random.Random(seed)
    with fresh(it) as copy:
        folder = getattr(copy, name)
        planted = made.plant(folder)
        DAMAGES[kind](folder / file, chance)
        damaged = (folder / file / "precious.txt") if kind == "as_folder" else None
        planted |= {} if damaged is None else {damaged: made.entry(damaged)}
        named = f"{name}/{file}"
        try:
            with limit(SECONDS), made.quiet():
                answer = plain(command(copy))
            wrong = command in REFUSED or answer != right
            came, said = ("wrong", str(answer)[:200]) if wrong else ("right", "")
        except (UserError, RunFailed) as error:
            came, said = "told", str(error)
            if "\n" in said:
                came = "traceback"
        except TooLong:
            came, said = "hang", ""
        except BaseException:
            came, said = "traceback", traceback.format_exc()
        if gone := made.lost(planted):
            came, said = "foreign", ", ".join(map(str, gone))
        return Outcome(kind, named, command.__name__, came, said)


def files_of(it: Made, name: str) -> list[str]:
    """The files of a folder that can be damaged."""
    folder = getattr(it, name)
    found = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [file for file in found if not file.endswith(".lock")]


def trials(it: Made, seed: int, among: tuple[str, ...] = tuple(COMMANDS)) -> Iterator[tuple[Any, ...]]:
    """Every kind of damage to every file, before every command, in an order by chance."""
    every = [
        (name, file, kind, command)
        for name in among
        for file in files_of(it, name)
        for kind in DAMAGES
        for command in COMMANDS[name]
        if (getattr(it, name) / file).stat().st_size
    ]
    random.Random(seed).shuffle(every)
    yield from every
