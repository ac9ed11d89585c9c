"""`--private`: names planted in every place are searched in every byte that a command leaves and prints."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tacit
from tacit import cli
from tacit.core import secret
from tacit.core.errors import RunFailed, UserError, clear_ends
from tacit.core.files import sha256
from tacit.core.wording import LEFT_OUT, Ours, discreet, private_form
from tacit.evaluation import Predictions, Seal, sealing
from tacit.evaluation import seal as make_seal
from tacit.evaluation.targets import make_target
from tacit.experiment.log import Log

PLANTED = re.compile(rb"zebra\w*", re.IGNORECASE)
N = 120
KEPT = "config.yaml"  # holds paths and names of columns, and is said to
Call = Callable[..., tuple[int, str]]


def planted(data: bytes) -> set[str]:
    return {found.decode() for found in PLANTED.findall(data)}


def left_in(folder: Path) -> dict[str, set[str]]:
    """The planted names in the bytes of every file, unpacked where they are packed, and in the files' names."""
    found: dict[str, set[str]] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                data += b"".join(map(archive.read, archive.namelist()))
        if path.suffix == ".parquet":
            data += str(pq.read_table(path).to_pydict()).encode()
        if names := planted(data.replace(b"\0", b"") + data + path.name.encode()):
            found[path.relative_to(folder).as_posix()] = names
    return found


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """A command as a person gives it; its exit code and all that it printed."""

    def called(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out + shown.err

    return called


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def images(root: Path) -> list[str]:
    """Images and labels whose every name is planted, and the words that name them to a command."""
    folder = root / "zebraFOLDER"
    folder.mkdir()
    chance = np.random.default_rng(0)
    lines = ["file,zebraLABEL,zebraGROUP,zebraPART,split,one"]
    for i in range(N):
        pixels = chance.integers(0, 90, (8, 8)) + 90 * (i % 2) * (np.arange(8) > 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"zebraFILE{i}.png")
        split = "zebraSPLIT" if i % 2 else "train"
        lines.append(f"zebraFILE{i}.png,zebraCLASS{i % 2},zebraPATIENT{i // 4},zebraSITE{i % 3},{split},zebraONE")
    (folder / "zebraFILEbad.png").write_bytes(b"\x89PNG and no more")
    labels = root / "zebraLABELS.csv"
    labels.write_text("\n".join([*lines, "zebraFILEgone.png,zebraCLASS0,zebraPATIENT1,zebraSITE1,train,zebraONE"]))
    return [str(folder), "--labels", str(labels), "--label-column", "zebraLABEL", "--private"]


WAYS = ["--group-column", "zebraGROUP", "--worst-group", "zebraPART"]


@pytest.fixture(scope="module")
def made(root: Path, images: list[str]) -> Path:
    from tacit.evaluation import splits
    from tacit.evaluation.probes import finetune

    out = root / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train_on_labels", partial(finetune.train_on_labels, steps=2))
        patch.setattr(splits, "MANY_DRAWS", 2)
        patch.setattr(splits, "FEW_DRAWS", 2)
        budget = ["--budget", "1steps", "--tasks", "rotation", "--label-budgets", "5 per class", "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", *images, *WAYS, *budget, "--out", str(out)])
        assert ended.value.code == 0
    return out


# ---------------------------------------------------------------- what a run leaves


def test_a_run_leaves_no_name(made: Path) -> None:
    found = left_in(made)
    assert found.pop(KEPT) >= {"zebraFOLDER", "zebraLABELS", "zebraGROUP"}
    assert found == {}
    assert "1 of the files cannot be read" in (made / "log.txt").read_text()
    assert "chosen inside the training labels: rotation" in (made / "log.txt").read_text()


def test_commands_print_no_name(made: Path, images: list[str], root: Path, call: Call) -> None:
    folder = images[0]
    for words in (
        ["inspect", *images, *WAYS, "--budget", "1steps", "--tasks", "rotation"],
        ["predict", made, folder],
        ["next-labels", made, folder, "--n", "2", "--method", "typiclust"],
    ):
        code, shown = call(*words)
        assert planted(shown.encode()) == set(), shown
        assert code in (0, 2), shown
        assert len(shown) > 50
    assert "--private" in call("inspect", *images, "--group-column", "zebraNONE")[1]


def test_guesses_name_nobody(made: Path) -> None:
    """As shared/deanon would: every name that was sealed is among these guesses."""
    sealed = Seal.load(made)
    said = json.loads((made / "seal.json").read_text())
    guesses = {sealing.group_digest(n) for n in range(10)} | set(sealed.items) | set(sealed.items.values())
    assert len(sealed.items) > 10
    assert not guesses & {*said["items"], *said["items"].values()}
    told = (made / "seal.json").read_text()
    assert not [digest for digest in guesses if digest in told]
    with np.load(made / "predictions.npz") as arrays:
        names = {str(n) for key in arrays.files if arrays[key].dtype.kind == "U" for n in np.ravel(arrays[key])}
    digests = {sealing.short_digest(f"zebraCLASS{i}") for i in range(2)}
    assert set(Predictions.load(made).name.tolist()) == digests
    assert not [name for name in names if any(digest in name for digest in guesses | digests)]
    files = {sha256(path)[:16] for path in (made.parent / "zebraFOLDER").iterdir()}
    assert not files & names


def test_without_its_secret_a_folder_tells_nothing(made: Path, tmp_path: Path) -> None:
    for name in ("seal.json", "predictions.npz"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    with pytest.raises(UserError, match=r"hidden by a secret, and secret\.key is not beside it"):
        Seal.load(tmp_path)
    with pytest.raises(UserError, match=r"hidden by a secret, and secret\.key is not beside it"):
        Predictions.load(tmp_path)
    secret.secret_of(tmp_path)  # another one
    with pytest.raises(UserError, match="is not the secret that hid this seal"):
        Seal.load(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        Predictions.load(tmp_path)
    assert (made / secret.FILE_NAME).stat().st_mode & 0o077 == 0


def test_what_to_hand_on_is_said(made: Path, images: list[str], call: Call, root: Path) -> None:
    code, shown = call("pretrain", *images, "--budget", "1steps", "--device", "cpu", "--out", root / "again")
    assert code == 0
    assert "to keep: config.yaml" in shown
    assert "secret.key" in shown
    assert left_in(root / "again").keys() == {KEPT}


# ---------------------------------------------------------------- other kinds of data


def test_events_leave_ids_in_the_catalogue_alone_and_export_leaves_them_out(root: Path, call: Call) -> None:
    events = {
        "user": [f"zebraUSER{i % 30}" for i in range(300)],
        "item": [f"zebraITEM{i * 7 % 20}" for i in range(300)],
    }
    pq.write_table(pa.table({**events, "timestamp": list(range(300))}), root / "zebraEVENTS.parquet")
    out = root / "items"
    words = [
        "pretrain",
        root / "zebraEVENTS.parquet",
        "--task",
        "next",
        "--budget",
        "1steps",
        "--private",
        "--out",
        out,
    ]
    code, shown = call(*words)
    assert (code, planted(shown.encode())) == (0, set())
    assert "items.parquet holds the ids of all 20 items" in shown
    assert left_in(out).keys() == {KEPT, "encoder/items.parquet"}
    code, shown = call("export", out, "--to", "safetensors", "--out", root / "nameless", "--without-ids")
    assert code == 0
    assert left_in(root / "nameless") == {}
    assert tacit.load_encoder(root / "nameless").recommend([1, 2], 3).items


def test_texts_leave_words_in_the_tokenizer_alone(root: Path, call: Call) -> None:
    texts = [f"zebraWORD{i % 3} came to zebraPATIENT{i % 9} at {i} o clock" for i in range(60)]
    pq.write_table(pa.table({"text": texts, "id": [f"zebraID{i}" for i in range(60)]}), root / "zebraTEXTS.parquet")
    words = ["pretrain", root / "zebraTEXTS.parquet", "--text-column", "text", "--vocabulary", "300", "--private"]
    code, shown = call(*words, "--budget", "1steps", "--out", root / "texts")
    assert (code, planted(shown.encode())) == (0, set())
    assert re.search(r"tokenizer\.json holds \d+ words", shown)
    assert left_in(root / "texts").keys() <= {KEPT, "encoder/tokenizer.json"}


def test_embeddings_leave_no_name(root: Path, call: Call) -> None:
    chance = np.random.default_rng(0)
    label = np.arange(N) % 2
    ids = [f"zebraID{i}" for i in range(N)]
    first = {"embedding": list(chance.normal(size=(N, 4)) + label[:, None]), "label": [f"zebraCLASS{c}" for c in label]}
    first |= {"id": ids, "group": [f"zebraPATIENT{i // 2}" for i in range(N)]}
    pq.write_table(pa.table(first), root / "zebraONE.parquet")
    pq.write_table(pa.table({"embedding": list(chance.normal(size=(N, 3))), "id": ids}), root / "zebraTWO.parquet")
    words = ["evaluate", root / "zebraONE.parquet", "--against", root / "zebraTWO.parquet", "--private"]
    for out in ("judged", "again"):
        code, shown = call(*words, "--label-budgets", "5 per class", "--out", root / out)
        assert (code, planted(shown.encode())) == (0, set())
        assert "embeddings 2" in shown
    assert left_in(root / "judged") == {}
    code, shown = call("compare", root / "judged", root / "again", "--private")  # each hides by a secret of its own
    assert code == 0
    assert "run 1 (embeddings 1)" in shown


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-bad", "0"], "examples cannot be read, more than --max-bad"),
        (["--group-column", "one"], "all labelled examples belong to one group"),
        (["--split-column", "split"], "the split column holds ***; it may hold train"),
        (["--holdout", "zebraPART=zebraELSE"], "no example has it"),
        (["--group-column", "zebraNONE"], "has no column"),
        (["--target", "regression"], "is no finite number; correct it"),
        (["--time-column", "zebraGROUP"], LEFT_OUT),
        (["--seal", "zebraSEAL"], "no seal at"),
        (["--init", "zebraINIT"], "there is no encoder at"),
        (["--tokenizer", "zebraTOKENS"], "leave it out"),
        (["--seed", "zebraSEED"], "--seed was given a value that it does not take"),
        (["--zebra-setting", "1"], "unknown setting"),
        (["--encoder", "zebraNET"], "no encoder named"),
        (["--config", "zebraCONFIG.yaml"], "--config was given"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, list) else "",
)
def test_errors_name_nothing(images: list[str], words: list[str], said: str, tmp_path: Path, call: Call) -> None:
    code, shown = call("pretrain", *images, *words, "--budget", "1steps", "--out", tmp_path / "run")
    assert code == 2, shown
    assert said in shown
    assert planted(shown.encode()) <= ({"zebra"} if words[0] == "--zebra-setting" else set())
    assert not (tmp_path / "run").exists() or left_in(tmp_path / "run") == {}


def test_errors_of_others_name_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise KeyError("zebraKEY")

    monkeypatch.setattr("tacit.experiment.output.open_split", fails)
    with pytest.raises(RunFailed, match=r"^KeyError at .*test_private\.py:\d+; --private leaves out") as caught:
        tacit.pretrain("digits", private=True, out=str(tmp_path / "run"))
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError):
        tacit.pretrain("digits", out=str(tmp_path / "other"))


# ---------------------------------------------------------------- our words


def refused(name: str, count: int, rows: list[str], *, more: bool = False) -> UserError:
    hint = f"; of {len(rows)}" if more else ""
    shown = ", ".join(rows)
    return UserError(f"{name}: {count:,} of {len(rows)} rows ({shown}) are {'odd' if more else 'bad'}{hint}; look")


@pytest.mark.parametrize("name", ["zebra", "7", "", "a: 3 of 4 rows (", "; look", "\n", "x" * 100_000, "***", "{name}"])
def test_our_words_and_counts_are_kept_and_nothing_else(name: str) -> None:
    for more in (False, True):
        said = private_form(refused(name, 1234, [name, "zebraROW"], more=more))
        assert "zebra" not in said
        assert said.startswith(LEFT_OUT)
        assert "look" in said
        assert len(said) < 200
    plain = private_form(refused("zebra", 1234, ["zebra"], more=True))
    assert (
        plain
        == f"{LEFT_OUT}: 1,234 of 1 rows ({LEFT_OUT}) are odd; of 1; look ({LEFT_OUT} is left out under --private)"
    )


@pytest.mark.parametrize("text", ["zebra", "zebra is bad is bad"])
def test_what_our_sources_do_not_say_is_left_out_whole(text: str) -> None:
    assert "zebra" not in private_form(UserError(text))
    assert "zebra" not in private_form(UserError(text + " is bad"))
    assert private_form(UserError(text + " is bad")).startswith(f"{LEFT_OUT} is bad")
    assert "zebra" not in private_form(UserError("%s is bad" % text))  # noqa: UP031
    assert private_form(UserError(Ours("simclr is bad"))) == "simclr is bad"
    assert "zebra" not in private_form(RunFailed())


def test_an_error_is_told_once(tmp_path: Path) -> None:
    def fail() -> None:
        raise refused("zebra", 2, ["zebra"])

    with pytest.raises(UserError) as caught, discreet(), discreet():
        fail()
    assert str(caught.value).startswith(f"{LEFT_OUT}: 2 of 1 rows")
    with pytest.raises(UserError, match="zebra"), discreet(False):
        fail()


@pytest.mark.parametrize("name", ["zebra"])
def test_a_private_log_shows_the_words_of_the_call(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Log(tmp_path / "log.txt", private=True) as log:
        log(f"{len(name)} labels of {name}")
        log(name)
        log(Ours("simclr goes on"))
    told = f"5 labels of {LEFT_OUT}\n{LEFT_OUT}\nsimclr goes on\n"
    assert (tmp_path / "log.txt").read_text() == told == capsys.readouterr().err


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("text", ["", "a", "zebra 7", "ü" * 70, "0" * 32, "\0", "x" * 1000])
def test_hidden_texts_come_back(text: str, tmp_path: Path) -> None:
    one, other = secret.secret_of(tmp_path), secret.secret_of(tmp_path, name="other")
    hidden = one.hide(text)
    assert hidden == one.hide(text) != other.hide(text)
    assert one.show(hidden) == text
    assert secret.secret_of(tmp_path) == one
    assert len(text) < 4 or text.encode().hex() not in hidden
    assert "key" not in repr(one)
    for wrong in (other.hide(text), ("0" if hidden[0] != "0" else "1") + hidden[1:], hidden + "00"):
        with pytest.raises(ValueError, match=r".") as caught:
            one.show(wrong)
        assert "zebra" not in str(caught.value)


def test_seals_of_before_are_read(tmp_path: Path) -> None:
    content = np.frombuffer(b"".join(i.to_bytes(16, "big") for i in range(120)), "V16")
    kept = make_seal(np.arange(120) % 2, None, content, seed=0)
    before = {"version": 1, "seed": 0, "source": kept.source, "items": dict(kept.items), "reads": 3}
    (tmp_path / "seal.json").write_text(json.dumps(before))
    assert Seal.load(tmp_path).items == kept.items
    assert sealing.count_read(tmp_path).reads == 4
    assert Seal.load(tmp_path).items == kept.items
    said = json.loads((tmp_path / "seal.json").read_text())
    assert said["version"] == 2
    assert not set(said["items"]) & set(kept.items)


def test_private_is_heard_however_it_is_said(tmp_path: Path, call: Call) -> None:
    (tmp_path / "c.yaml").write_text("private: true\nseeds: zebra\n")
    for words in (["--private=true", "--seeds", "zebra"], ["--config", tmp_path / "c.yaml"]):
        code, shown = call("run", "digits", *words)
        assert (code, planted(shown.encode())) == (2, set()), shown
    assert "zebra" in call("run", "digits", "--private=false", "--seeds", "zebra")[1]


def test_numbers_of_labels_are_not_told() -> None:
    known = SimpleNamespace(label=np.zeros(3, int), classes=(), truth=np.array([1.0, 2.0, 77777.0]))
    for target in ("regression", "similarity"):
        assert "77,777" in make_target(target).describe(known)
        assert "77" not in make_target(target).describe(known, private=True)


def test_what_the_system_says_is_told_without_the_name(tmp_path: Path, call: Call) -> None:
    (tmp_path / "zebra").write_text("")
    with pytest.raises(UserError, match=r"^\*\*\*: Not a directory; a file and a folder .* --private\)$"), discreet():
        clear_ends(lambda: (tmp_path / "zebra" / "x").read_text())()
