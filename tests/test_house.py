"""The rules of the house that no tool checks: who may import whom, what is public, what is never done."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tacit

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tacit"
LONGEST = 600  # lines

# A module imports from its own row and the rows above it, never from below.
ROWS = [
    {"types", "keys", "errors", "leading", "spec", "catalogue", "files", "folders", "records", "archives", "pixels"}
    | {"sounds", "histories", "naming", "stages", "dist", "ranks", "budget", "tokens", "secret", "offline", "wording"}
    | {"plain_yaml", "framing"},
    {"nn", "masks", "melspec", "encoders"},
    {"modalities", "task", "tasks"},
    {"data", "train", "state", "sharding", "checkpoint", "optim", "engine", "progress", "workspace"}
    | {"profiling", "spikes", "stepping", "fitting", "blockwise"},
    {
        "recipes",
        "choices",
        "kinds",
        "language",
        "frames",
        "split",
        "study",
        "starting",
        "leaks",
        "judging",
        "picturing",
        "pacing",
        "pipeline",
        "evaluating",
        "inspection",
        "embedding",
        "parts",
        "embedded",
        "graphs",
        "classifier",
        "exporting",
        "callables",
        "heads",
        "predicting",
        "recommending",
        "rejudging",
        "resuming",
        "reading",
        "labelling",
        "comparing",
    },
    {"commands", "cli", "checkup", "__main__", "__init__"},
]
# Beside the rows: the judge, who knows no task, and the report, who knows only the judge's findings. From the row of
# the recipes on, everything may ask them.
BESIDE = {"evaluation": ROWS[0], "report": ROWS[0] | {"evaluation"}}
ASKS_THE_JUDGE = 4

# Within what the rows allow: a modality knows no task, a task no modality, the loop neither of them by name.
STRANGERS = {
    "modalities": {"task", "tasks"},
    "task": {"tasks", "modalities", "encoders"},
    "tasks": {"modalities", "encoders"},
    "train": {"tasks", "modalities", "encoders", "data"},
    "stepping": {"tasks", "modalities", "encoders", "data"},
}

PUBLIC = {
    *("run", "inspect", "pretrain", "evaluate", "compare", "predict", "next_labels", "embed", "export", "fill_mask"),
    *("recommend", "doctor", "clean"),
    *("load_encoder", "open_dataset", "wrap", "Report", "Task", "Encoder", "Batch", "Features", "Output"),
    *("UserError", "RunFailed", "Interrupted"),
}

FILES = sorted(SOURCE.rglob("*.py"))
by_file = pytest.mark.parametrize("file", FILES, ids=[file.relative_to(SOURCE).as_posix() for file in FILES])


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def part(file: Path) -> str:
    """The file's module or folder right under tacit."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Dotted names of everything a file imports anywhere in it, names in packages counted as modules."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write imports out from tacit"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def siblings(file: Path) -> set[str]:
    """The parts of tacit that a file imports, its own left out."""
    inside = {name.split(".")[1] for name in imports(file) if name.startswith("tacit.")}
    return inside - {part(file)}


@by_file
def test_imports_go_only_one_way(file: Path) -> None:
    own, imported = part(file), siblings(file)
    if own in BESIDE:
        allowed = BESIDE[own]
    else:
        rows = [number for number, row in enumerate(ROWS) if own in row]
        assert rows, f"{own} is new: give it a row in {Path(__file__).name}"
        allowed = set().union(*ROWS[: rows[0] + 1]) - STRANGERS.get(own, set())
        if rows[0] >= ASKS_THE_JUDGE:
            allowed |= BESIDE.keys()
    assert imported <= allowed, f"{own} must not import {sorted(imported - allowed)}"


@by_file
def test_files_can_be_read_in_one_go(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines: take it apart along its concepts"


@by_file
def test_libraries_that_break_elsewhere_are_never_imported(file: Path) -> None:
    """Beside a CPU build of torch, torchvision raises on import and torchaudio does not exist."""
    assert not {name.split(".")[0] for name in imports(file)} & {"torchvision", "torchaudio", "timm"}


@by_file
def test_nothing_from_data_is_ever_executed(file: Path) -> None:
    """No pickle in or out, no code from a string, no code from a model hub."""
    roots = {name.split(".")[0] for name in imports(file)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code"}:
            assert isinstance(node.value, ast.Constant), f"{file}:{node.value.lineno}"
            assert node.value.value is False, f"{file}:{node.value.lineno}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "torch.load", "torch.save"}, f"{file}:{node.lineno}"


def test_public_names_are_these() -> None:
    assert set(tacit.__all__) == PUBLIC
    assert all(getattr(tacit, name) is not None for name in PUBLIC)


@pytest.mark.parametrize("arguments", [None, ["--help"], ["tasks"]])
def test_light_commands_import_nothing_heavy(arguments: list[str] | None) -> None:
    """They shall answer in half a second; torch alone takes three."""
    call = "import tacit" if arguments is None else f"from tacit.cli import main; main({arguments!r})"
    told = "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))"
    program = f"import atexit, json, sys; {told}; {call}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "tacit" in loaded
    assert not loaded & {
        "torch",
        "transformers",
        "sklearn",
        "scipy",
        "pyarrow",
        "lightning_fabric",
        "onnx",
        "PIL",
        "rich",
    }


# ---------------------------------------------------------------- the lock


@cache
def project() -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


@cache
def locked() -> dict[str, list[str]]:
    """Name to the versions that the lock holds of it, one per Python or platform where they differ."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock_text(), flags=re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


@cache
def lock_text() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_lock_is_hashed_and_names_no_address() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", lock_text(), flags=re.MULTILINE)[1:]
    assert len(entries) > 50
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock_text())


def test_torch_and_its_compiled_parts_stay_outside_the_lock() -> None:
    assert not [name for name in locked() if name.startswith(("torch", "triton", "nvidia", "cuda"))]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """`make lock` after a change of the dependencies."""
    runtime, extras = project()["dependencies"], project()["optional-dependencies"]
    assert isinstance(runtime, list)
    assert isinstance(extras, dict)
    for requirement in map(Requirement, [*runtime, *extras["onnx"], *extras["active"], *extras["dev"]]):
        name = canonicalize_name(requirement.name)
        if name in {"torch", "tacit"}:
            continue
        assert name in locked(), f"{name} is not locked"
        assert all(requirement.specifier.contains(version) for version in locked()[name]), requirement


def test_the_installed_torch_needs_nothing_else_from_outside_the_lock() -> None:
    """Whatever pure Python torch imports is locked too, so that its install brings in nothing unhashed."""
    needs = map(Requirement, metadata.requires("torch") or [])
    names = {
        canonicalize_name(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
    }
    compiled = {name for name in names if name.startswith(("nvidia", "cuda", "triton"))}
    assert names - compiled <= set(locked())
