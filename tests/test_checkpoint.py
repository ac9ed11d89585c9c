"""Checkpoints are whole or absent, and damage is named."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from tacit.core.errors import RunFailed, UserError
from tacit.training import checkpoint


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(folder, step, {"w": torch.full((3,), float(step))}, {"note": "x"})


def test_what_is_saved_is_loaded_and_old_ones_go(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 10)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert (found.step, found.state["note"], found.damaged) == (10, "x", ())
    assert torch.equal(found.tensors["w"], torch.full((3,), 10.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path, 1, 2)
    file = tmp_path / "step-00000002" / name
    data = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(found.damaged) == 1
    assert "step-00000002" in found.damaged[0]


def test_only_damaged_ones_left_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "step-00000001" / "state.safetensors").unlink()
    with pytest.raises(UserError, match=r"no whole checkpoint is left.*state\.safetensors is missing"):
        checkpoint.load(tmp_path)


def rewritten(folder: Path, version: int) -> None:
    """The checkpoint of step 1 as another version writes it; the first knew no pieces."""
    write(folder, 1)
    folder /= "step-00000001"
    state = json.loads((folder / "state.json").read_text()) | {"version": version}
    if version == 1:
        del state["pieces"]
    (folder / "state.json").write_text(json.dumps(state))
    manifest = {name: checkpoint.sha256(folder / name) for name in ("state.safetensors", "state.json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    rewritten(tmp_path, checkpoint.VERSION + 1)
    with pytest.raises(UserError, match="newer Tacit"):
        checkpoint.load(tmp_path)


def test_the_first_format_is_read(tmp_path: Path) -> None:
    rewritten(tmp_path, 1)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert torch.equal(found.tensors["w"], torch.ones(3))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="pickle"):
        checkpoint.load(tmp_path)


def test_a_full_disk_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(RunFailed, match="disk is full"):
            write(tmp_path, 2)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
