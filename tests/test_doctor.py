from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tacit.commands.doctor import (
    TorchBuild,
    check_disk,
    check_packages,
    check_self_test,
    check_threads,
    check_torch,
    check_torchvision,
    diagnose,
    graphics_cards,
    run_doctor,
)

CPU = TorchBuild("2.13.0+cpu", None, reaches_gpu=False, threads=2)
CUDA = TorchBuild("2.13.0+cu130", "CUDA 13.0", reaches_gpu=True, threads=2)


def test_this_machine_is_judged_and_the_exit_code_follows(capsys: pytest.CaptureFixture[str]) -> None:
    checks = list(diagnose(lambda: "trained"))
    assert {check.name for check in checks} >= {
        "packages",
        "accelerator",
        "memory",
        "cache",
        "torchvision",
        "self-test",
    }
    assert all(check.fix for check in checks if check.state != "ok"), "a finding without its remedy"

    code = run_doctor(lambda: "trained")

    lines = capsys.readouterr().out.splitlines()
    assert code == int(any(check.state == "broken" for check in checks))
    assert [line for line in lines if "self-test" in line and "trained" in line]
    assert all("\x1b" not in line for line in lines), "colours where no terminal is"


def test_a_failing_self_test_is_broken_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise RuntimeError("no such kernel")

    check = check_self_test(fails)
    assert (check.state, check.found) == ("broken", "RuntimeError: no such kernel")
    assert run_doctor(fails) == 1
    assert "no such kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("torch", "cards", "state", "says"),
    [
        (CPU, [], "ok", "CPU build"),
        (CUDA, ["NVIDIA H100"], "ok", "CUDA 13.0"),
        (CPU, ["NVIDIA H100"], "slow", "cannot use it"),
        (replace(CUDA, reaches_gpu=False), ["NVIDIA H100"], "slow", "cannot reach it"),
        (CPU, ["Apple M3"], "slow", "cannot use Metal"),
        (replace(CPU, reaches_gpu=True), ["Apple M3"], "ok", "Apple M3"),
    ],
)
def test_a_gpu_meets_a_build_of_torch(torch: TorchBuild, cards: list[str], state: str, says: str) -> None:
    check = check_torch(torch, cards)
    assert check.state == state
    assert says in check.found
    assert bool(check.fix) == (state != "ok")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="the stand-in for nvidia-smi is a shell script")
def test_cards_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA L4 (UUID: GPU-2)'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert graphics_cards() == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]


def test_more_threads_than_cores_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_threads(8, 2).state == "slow"
    assert check_threads(2, 2).state == "ok"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "unset" in check_threads(1, 2).fix


def test_a_torchvision_that_raises_is_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    check = check_torchvision()
    assert check.state == "broken"
    assert "torchvision::nms" in check.found
    assert "pip uninstall torchvision" in check.fix

    (package / "__init__.py").write_text("")
    assert check_torchvision().state == "ok"


def test_packages_that_are_missing_or_too_old_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "wanting-1.0.dist-info"
    info.mkdir()
    needs = ["pytest>=9999", "numpy>=1", "surely-not-there>=2", "absent>=1; extra == 'more'"]
    lines = ["Metadata-Version: 2.1", "Name: wanting", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))

    check = check_packages("wanting")
    assert check.state == "broken"
    assert "surely-not-there missing (needs >=2)" in check.found
    assert "(needs >=9999)" in check.found
    assert "numpy" not in check.found
    assert "absent" not in check.found
    assert check.fix == 'pip install "pytest>=9999" "surely-not-there>=2"'


def test_a_folder_to_come_is_judged_by_the_disk_it_will_be_on(tmp_path: Path) -> None:
    check = check_disk("cache", tmp_path / "not" / "yet")
    assert check.state in {"ok", "slow"}
    assert str(tmp_path) in check.found


def test_doctor_answers_even_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')\n")
    code = "import sys; from tacit.commands.doctor import run_doctor; sys.exit(run_doctor())"
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "libcudart" in done.stdout
