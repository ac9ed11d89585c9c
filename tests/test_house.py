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
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tacit
from tacit.data.options import LabelOptions, Reading
from tacit.modalities import MODALITIES, options_of

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tacit"
LONGEST = 600  # lines

# A file imports from its own part and from these, never from any other. `modality` is a folder under modalities/ that
# the table lists, which imports nothing of another one; `table` is modalities/__init__.py, `shared` all else there.
BELOW = {
    "core": set(),
    "tasks": {"core"},
    "evaluation": {"core"},
    "training": {"core", "tasks"},
    "report": {"core", "evaluation"},
    "data": {"core", "evaluation"},
}
BELOW["shared"] = BELOW.keys() | set()
BELOW["modality"] = {*BELOW["shared"], "shared"}
BELOW["table"] = {*BELOW["shared"], "shared"}
BELOW["pair"] = {*BELOW["modality"], "table"}  # made of any two others, by the table
BELOW["dataset"] = {*BELOW["table"], "table"}
BELOW["encoders"] = {*BELOW["dataset"], "dataset"}
BELOW["formats"] = {*BELOW["encoders"], "encoders"}
BELOW["experiment"] = {*BELOW["formats"], "formats"}
BELOW["commands"] = {*BELOW["experiment"], "experiment"}
for top in ("flags", "cli", "__main__", "__init__"):
    BELOW[top] = {*BELOW["commands"], "commands", "flags", "cli"}
# Commands that belong to one modality name it.
OF_A_MODALITY = {
    "commands/recommend.py": {"events"},
    "commands/fill_mask.py": {"text"},
    "commands/embed.py": {"events", "text"},  # --of-items, --words
}

PUBLIC = {
    *("run", "inspect", "pretrain", "evaluate", "compare", "predict", "next_labels", "embed", "export", "fill_mask"),
    *("recommend", "search", "doctor", "clean"),
    *("load_encoder", "open_dataset", "wrap", "Report", "Task", "Encoder", "Batch", "Features", "Output"),
    *("UserError", "RunFailed", "Interrupted"),
}

FILES = sorted(SOURCE.rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def part(name: str) -> str:
    """The part of the house that a dotted module belongs to."""
    inside = name.split(".")[1:] or ["__init__"]
    if inside[0] != "modalities":
        return inside[0]
    if len(inside) == 1:
        return "table"
    return inside[1] if f"tacit.modalities.{inside[1]}" in MODALITIES.values() else "shared"


def module(file: Path) -> str:
    inside = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("tacit", *inside)).removesuffix(".__init__")


MODULES = {module(file) for file in FILES}


@cache
def nodes(file: Path) -> list[ast.AST]:
    return [*ast.walk(tree(file))]


@cache
def imports(file: Path, *, run: bool = False) -> set[str]:
    """Dotted names of everything a file imports anywhere in it, names in packages counted as modules.

    With `run`, without what type checkers alone import.
    """
    found = set()
    typing = [node for node in nodes(file) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    aside = {id(inner) for node in typing for inner in ast.walk(node)} if run else set()
    for node in nodes(file):
        if id(node) in aside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write imports out from tacit"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(file: Path, *, run: bool = False) -> set[str]:
    """The modules of tacit that a file imports."""
    ours = {name for name in imports(file, run=run) if name.split(".")[0] == "tacit"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours} - {module(file)}


def test_arrows_never_turn_back() -> None:
    turned = []
    for file in FILES:
        own = part(module(file))
        below = BELOW.get(own, BELOW["modality"])
        belongs = OF_A_MODALITY.get(file.relative_to(SOURCE).as_posix(), set())
        for name in sorted(imported_modules(file)):
            if own == "table" and name.endswith(".options"):  # the settings of each modality that it lists
                continue
            if part(name) not in {own, *belongs, *below}:
                turned.append(f"{file.relative_to(SOURCE)} imports {name}")
    assert not turned, "\n".join(turned)


def test_no_circle_of_imports() -> None:
    """Not even one that is hidden inside functions."""
    edges = {module(file): imported_modules(file, run=True) & MODULES for file in FILES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_files_can_be_read_in_one_go() -> None:
    """Cohesion decides where a file ends; far beyond this no file is one thing."""
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: n for file, n in lines.items() if n > LONGEST} == {}


def test_libraries_that_break_elsewhere_are_never_imported() -> None:
    """Beside a CPU build of torch, torchvision raises on import and torchaudio does not exist."""
    for file in FILES:
        assert not {name.split(".")[0] for name in imports(file)} & {"torchvision", "torchaudio", "timm"}, file


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(SOURCE).as_posix() for file in FILES])
def test_nothing_from_data_is_ever_executed(file: Path) -> None:
    """No pickle in or out, no code from a string, no code from a model hub."""
    roots = {name.split(".")[0] for name in imports(file)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in nodes(file):
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code"}:
            assert isinstance(node.value, ast.Constant), f"{file}:{node.value.lineno}"
            assert node.value.value is False, f"{file}:{node.value.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            last = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            called = ast.unparse(node.func) if last in {"eval", "exec", "compile", "load", "save"} else ""
            assert called not in {"eval", "exec", "compile", "torch.load", "torch.save"}, f"{file}:{node.lineno}"


def test_public_names_are_these() -> None:
    assert set(tacit.__all__) == PUBLIC
    assert all(getattr(tacit, name) is not None for name in PUBLIC)


@pytest.mark.parametrize("arguments", [None, ["--help"]])
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
    tested = [extras[name] for name in ("onnx", "active", "medical", "dev")]
    for requirement in map(Requirement, [*runtime, *chain(*tested)]):
        name = canonicalize_name(requirement.name)
        if name in {"torch", "tacit-learn"}:
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


def test_settings_of_a_modality_stand_in_its_folder() -> None:
    """A file outside of it that told of one would have to change with it."""
    own = {name for of in options_of().values() for name in of.names() if "_" in name}  # others mean other things too
    own -= {*Reading.names(), *LabelOptions.names(), "relative_to"}
    told = []
    for file in FILES:
        if part(module(file)) in BELOW and file.relative_to(SOURCE).as_posix() not in OF_A_MODALITY:
            said = {node.value for node in nodes(file) if isinstance(node, ast.Constant)}
            said |= {node.attr for node in nodes(file) if isinstance(node, ast.Attribute)}
            told += [f"{file.relative_to(SOURCE)}: {name}" for name in sorted(own) if name in said]
    assert not told, "\n".join(told)
