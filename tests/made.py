"""What Tacit leaves behind, made small and once: data, a run, an export, judged folders, embeddings, a cache.

And what one may ask of a folder: what is in it, to the last bit and permission.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tacit
from tacit.evaluation import Report, splits
from tacit.evaluation.results import ArmRecord, Verdict
from tests.tiny import digit_labels, digits

STEPS = 3
TASK = "simclr"


class Made(NamedTuple):
    """Where all of it lies."""

    root: Path
    data: Path  # 60 digits of two classes as files
    labels: Path
    cache: Path
    run: Path
    export: Path
    judged: Path  # a folder of `tacit evaluate FILE --out`
    judged_too: Path  # another, on the same examples
    embedded: Path  # a folder of embeddings in parts
    vectors: Path  # a file of embeddings with labels


def make(root: Path) -> Made:
    """All of it below `root`."""
    from PIL import Image

    target = digit_labels()
    rows = np.flatnonzero(target < 2)[:60]
    data, cache = root / "data", root / "cache"
    data.mkdir(parents=True)
    for row in rows.tolist():
        Image.fromarray(digits()[row, 0].numpy()).save(data / f"scan{row:04d}.png")
    names = [f"scan{row:04d}.png" for row in rows.tolist()]
    labels = root / "labels.csv"
    known = zip(names[:50], rows[:50], strict=True)  # 10 are left to be labelled
    labels.write_text("file,label\n" + "".join(f"{n},digit-{target[r]}\n" for n, r in known), encoding="utf-8")
    made = Made(
        *(root, data, labels, cache, root / "run", root / "export", root / "judged", root / "judged-too"),
        *(root / "embedded", root / "vectors.npz"),
    )
    with quiet():
        pretrain(made)
        write_report(made.run)
        export(made, made.export)
        for name, columns in (("vectors", slice(0, 64)), ("halves", slice(0, 32))):
            values = digits()[rows][:, 0].flatten(1)[:, columns].float().numpy()
            np.savez(root / f"{name}.npz", embedding=values, id=np.array(names), label=target[rows].astype(str))
        for name, out in (("vectors", made.judged), ("halves", made.judged_too)):
            judge(root / f"{name}.npz", out=str(out))
        embed(made, made.embedded)
    return made


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def asked(made: Made, **more: Any) -> dict[str, Any]:
    return {"labels": str(made.labels), "cache": str(made.cache), "max_bad": 0.5, **more}


def pretrain(made: Made, **settings: Any) -> Any:
    """The run, or what else is asked of its folder."""
    told = {"task": TASK, "budget": f"{STEPS}steps", "batch_size": 16, "out": str(made.run), "device": "cpu"}
    return tacit.pretrain(str(made.data), **told, **asked(made), **settings)


def change_settings(run: Path, before: str, after: str) -> None:
    """Change a run's settings by hand, as their last line says how."""
    file = run / "config.yaml"
    text = unsealed(file)
    assert before in text
    file.write_text(text.replace(before, after))


def unsealed(config: Path) -> str:
    """Settings without the lines about their SHA-256, as one who changes them leaves them."""
    return "".join(line for line in config.read_text().splitlines(keepends=True) if "SHA-256" not in line)


def judge(vectors: Path, **settings: Any) -> Report:
    """With few draws of the labels: what is done with a verdict is tested, not the verdict."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "MANY_DRAWS", 3)
        patch.setattr(splits, "FEW_DRAWS", 3)
        return tacit.evaluate(str(vectors), label_budgets=["5 per class"], primary_budget=5, **settings)


def export(made: Made, out: Path, **settings: Any) -> int:
    return tacit.export(str(made.run), to="safetensors", out=str(out), **settings)


def embed(made: Made, out: Path, encoder: Path | None = None, **settings: Any) -> int:
    cached = {"cache": str(made.cache), "device": "cpu"}
    return tacit.embed(str(encoder or made.run), str(made.data), out=str(out), **cached, **settings)


def write_report(run: Path) -> None:
    """As if the run had been judged."""
    text = "nothing was judged here"
    verdict = Verdict("none", "checkpoint", "linear", TASK, None, "", None, None, None, False, text)
    arm = ArmRecord(TASK, "pretrained", TASK, "convnet", STEPS, 1.0, 1.0)
    Report(verdict, (), (), (arm,), data={"selected_arm": TASK}).save(run)


# ---------------------------------------------------------------- what is in a folder


class Entry(NamedTuple):
    """All that a person can see of one name."""

    mode: int
    changed: int  # ns
    content: str  # a hash, or where a link leads


def snapshot(root: Path, *, folders: bool = True) -> dict[str, Entry]:
    """Everything below `root`, and `root` itself; without `folders` the files and links alone."""
    found = {}
    for place, names, files in os.walk(root):
        links = [name for name in names if (Path(place) / name).is_symlink()]
        for path in [Path(place)] * folders + [Path(place, name) for name in (*files, *links)]:
            found[path.relative_to(root).as_posix()] = entry(path)
    return found


def entry(path: Path) -> Entry:
    status = path.lstat()
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return Entry(status.st_mode, status.st_mtime_ns, content)


def plant(root: Path) -> dict[Path, Entry]:
    """A file and a folder of a person's in every folder below `root`; what they are, to be compared later."""
    planted = {}
    for place in [root, *(path for path in sorted(root.rglob("*")) if path.is_dir() and not path.is_symlink())]:
        (place / "thesis.txt").write_text("precious")
        (place / "thesis").mkdir()
        (place / "thesis" / "only copy.csv").write_text("a,b\n")
        for path in (place / "thesis.txt", place / "thesis" / "only copy.csv"):
            path.chmod(0o640)
            planted[path] = entry(path)
    return planted


def lost(planted: dict[Path, Entry]) -> list[Path]:
    """What of it is gone or another."""
    return [path for path, before in planted.items() if not os.path.lexists(path) or entry(path) != before]


def copied(made: Made, root: Path) -> Made:
    """Another copy of all of it, to be damaged; the data stay where they are."""
    import shutil

    shutil.copytree(made.root, root, symlinks=True)
    moved = {name: root / value.relative_to(made.root) for name, value in made._asdict().items()}
    return replace_kept(made, Made(**moved))


def replace_kept(made: Made, moved: Made) -> Made:
    return moved._replace(data=made.data, labels=made.labels)
