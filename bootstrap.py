"""Installs Tacit into .venv from the hashed lock, then runs one job there: the engine of `make`.

    python3 bootstrap.py quickstart | test | check | install | lock | clean

Plain standard library, so that it runs on a fresh machine and where make is absent. `make NAME` calls it.

Everything but torch comes from requirements.lock with its hash checked. torch itself is the build that pip finds for
this machine (CPU or CUDA); a torch >= 2.11 already in .venv is left alone, and TACIT_TORCH chooses another build:

    TACIT_TORCH="torch==2.13.0 --index-url ADDRESS" make quickstart
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  an old Python should meet this line first
    sys.exit(
        f"Tacit needs Python 3.11 or newer, this is {sys.version.split()[0]}: "
        "try `make quickstart PYTHON=python3.12`, or python3.12 bootstrap.py quickstart"
    )

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
INSIDE = "Scripts/python.exe" if os.name == "nt" else "bin/python"
PYTHON = VENV / INSIDE
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "tacit.stamp"

TORCH = "torch==2.13.0"
TORCH_FLOOR = (2, 11)
QUICKSTART = ["run", "digits", "--budget", "150s", "--primary-budget", "2", "--out", "runs/quickstart", "--overwrite"]

TYPES = [str(PYTHON), "-m", "mypy"]

# Imported once after installing: that proves the install, and compiles the part of it that runs use.
HEAVY = "torch, transformers.models.vit.modeling_vit, lightning_fabric, scipy.stats, sklearn.linear_model"

# What the lock holds beyond pyproject.toml: pip and the build tools of the editable install, and what torch itself
# imports, so that installing torch afterwards brings in nothing unhashed but its own compiled parts.
BEYOND = "pip hatchling editables filelock fsspec jinja2 networkx setuptools>=77.0.3 sympy typing-extensions"


def main() -> None:
    jobs = {"quickstart": quickstart, "test": test, "check": check, "install": install, "lock": lock, "clean": clean}
    job = jobs.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if job is None:
        sys.exit(f"usage: python3 bootstrap.py {' | '.join(jobs)}")
    os.chdir(ROOT)
    # Packages elsewhere must not count as installed here; and what is imported shall be compiled once, not every time.
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(name, None)
    os.environ.update(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    job()


# ---------------------------------------------------------------- jobs


def quickstart() -> None:
    """Compare, choose and prove on scikit-learn's digits; writes runs/quickstart."""
    install()
    become([str(PYTHON), "-m", "tacit", *QUICKSTART])


def test() -> None:
    """Lint, types, every test; types are checked beside the tests, whose output comes first."""
    install()
    lint()
    # One file stays in one process, so that what its tests share is built once; the order is that of tests/conftest.py.
    many = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    both([str(PYTHON), "-m", "pytest", *many, *sys.argv[2:]], TYPES)


def check() -> None:
    """Lint, types, the quick tests."""
    install()
    lint()
    both([str(PYTHON), "-m", "pytest", "-m", "not slow", "-q", *sys.argv[2:]], TYPES)


def lint() -> None:
    run([PYTHON, "-m", "ruff", "check", "--quiet", "."])
    run([PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."])


def lock() -> None:
    """Resolve requirements.lock anew for every platform and Python >= 3.11; keeps pins that still fit.

    `python3 bootstrap.py lock --upgrade` takes the newest of everything.
    """
    uv = shutil.which("uv", path=os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", "")]))
    if uv is None:
        sys.exit("make lock needs uv: .venv/bin/python -m pip install uv")
    with tempfile.TemporaryDirectory() as folder:
        beyond, without = Path(folder, "beyond.in"), Path(folder, "without.in")
        beyond.write_text("\n".join(BEYOND.split()), encoding="utf-8")
        without.write_text('torch ; python_version < "0"', encoding="utf-8")  # torch on no Python at all
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--fork-strategy", "fewest", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-annotate", "--custom-compile-command", "make lock", "--override", str(without)]
        command += ["--extra", "dev", "pyproject.toml", str(beyond), "--output-file", LOCK.name]
        run([*command, *sys.argv[2:]])


def clean() -> None:
    """Remove .venv and the tools' caches; runs/ stays."""
    for name in (".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "build", "dist"):
        shutil.rmtree(ROOT / name, ignore_errors=True)


# ---------------------------------------------------------------- installing


def install() -> None:
    """Make .venv hold what this checkout asks for; returns at once when it already does."""
    wanted = fingerprint()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    make_venv()
    STAMP.unlink(missing_ok=True)
    mend()
    pip_install = [*find_pip(), "install", "--no-compile"]
    say(f"Installing the locked packages into {VENV} (once; a minute or two)")
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", LOCK.name]
    run([*pip_install, "-qq", *locked], "installing stopped, see above; the same command picks it up again")
    if torch_in_venv() < TORCH_FLOOR:
        torch = shlex.split(os.environ.get("TACIT_TORCH", TORCH))
        say(f"Installing {torch[0]}")
        run([*pip_install, *torch], "installing torch stopped, see above; TACIT_TORCH chooses another build")
    tacit = ["--no-deps", "--no-build-isolation", "--editable", "."]
    run([*pip_install, "-qq", *tacit], "installing Tacit itself stopped, see above")
    run([PYTHON, "-W", "ignore", "-c", f"import {HEAVY}"], "the installed packages cannot be imported, see above")
    STAMP.write_text(wanted, encoding="utf-8")


def fingerprint() -> str:
    """What an install depends on: the lock, the project file, this script, and where the checkout lies."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_venv(venv: Path = VENV) -> None:
    """Create an environment without pip, which needs no python3-venv package; one that works is kept."""
    python = venv / INSIDE
    if python.exists() and succeeds([python, "-c", "import sys; assert sys.version_info >= (3, 11)"]):
        return
    run([own_python(), "-m", "venv", "--clear", "--without-pip", venv], f"cannot create {venv}, see above")


def mend() -> None:
    """Forget packages that an interrupted pip left half installed, so that it installs them again.

    pip writes INSTALLER after a package's files: without it the package is not whole. While it replaces a package, the
    old one lies beside it as ~ackage.
    """
    for site in [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]:
        halves = [info for info in site.glob("*.dist-info") if not (info / "INSTALLER").exists()]
        for path in [*site.glob("~*"), *halves]:
            shutil.rmtree(path, ignore_errors=True)


def find_pip(venv: Path = VENV) -> list[str]:
    """A pip that can install there from outside (22.3 knows --python), else the one that Python brings."""
    inside = str(venv / INSIDE)
    for python in dict.fromkeys([own_python(), sys.executable, inside]):
        pip = [python, "-m", "pip", "--python", inside]
        if succeeds([*pip, "--version"]):
            return pip
    if succeeds([inside, "-m", "ensurepip"]):
        return [inside, "-m", "pip"]
    sys.exit("pip 22.3 or newer is missing: sudo apt install python3-pip (or your system's package of it), then again")


def own_python() -> str:
    """The interpreter that is no virtual environment's, should this script have been started inside one."""
    return str(getattr(sys, "_base_executable", sys.executable))


def torch_in_venv() -> tuple[int, ...]:
    """Major and minor version, (0,) without torch; read from its metadata, as importing it takes seconds."""
    code = "from importlib.metadata import version; print(*version('torch').split('.')[:2])"
    answer = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    return tuple(int(part) for part in answer.stdout.split()) or (0,)


# ---------------------------------------------------------------- running


def say(line: str) -> None:
    print(line, flush=True)


def succeeds(command: Sequence[str | Path]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def run(command: Sequence[str | Path], failure: str = "") -> None:
    """Run to the end; a failing command ends this one with the same code."""
    code = subprocess.run(command).returncode
    if code != 0:
        if failure:
            print(failure, file=sys.stderr)
        sys.exit(code)


def both(command: list[str], beside: list[str]) -> None:
    """Run two commands at once, and end with the first exit code that is not 0; what `beside` says comes at the end.

    Ctrl-C reaches both from the terminal, SIGTERM from here; this process outlives them.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        children = [subprocess.Popen(command), subprocess.Popen(beside, stdout=said, stderr=subprocess.STDOUT)]

        def end(*_: object) -> None:
            for child in children:
                child.terminate()

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, end)
        codes = [child.wait() for child in children]
        said.seek(0)
        say(said.read().rstrip())
    code = next((code for code in codes if code), 0)
    sys.exit(code if code >= 0 else 128 - code)


def become(command: list[str]) -> None:
    """Hand the process over, so that Ctrl-C, SIGTERM and the exit code are the command's own."""
    if os.name == "posix":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a console sends Ctrl-C to the child as well
    sys.exit(child.wait())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
