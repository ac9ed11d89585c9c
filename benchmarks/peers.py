"""The libraries that Tacit is measured against, each in an environment of its own under benchmarks/.peers."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

import bootstrap

FOLDER = Path(__file__).resolve().parent / ".peers"

# What lightly and the log-mel loader run is Tacit's own encoder, so that the model is the same; its needs are here too.
PINS: dict[str, tuple[str, ...]] = {
    "lightly": ("lightly==1.6.0", "torchvision==0.28.0", "transformers==5.23.0", "psutil==7.2.2"),
    "kornia": ("kornia==0.9.0",),
    "librosa": (
        *("librosa==0.11.0", "soundfile==0.14.0", "soxr==1.1.0", "transformers==5.23.0", "pyarrow==26.0.1"),
        *("lightning-fabric==2.6.6", "psutil==7.2.2", "pillow==13.0.0"),
    ),
    "trainer": ("transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0"),
    # RecBole 1.2.1 asks numpy for names that its second version no longer has.
    "recbole": ("recbole==1.2.1", "numpy==1.26.4", "pandas==2.2.3", "scipy==1.14.1", "scikit-learn==1.5.2"),
}


class NotInstalled(Exception):
    """Why there is no environment for a peer, in one line."""


def python_of(peer: str) -> Path:
    """The interpreter that has this peer; installs it the first time, and anew where its pins have changed."""
    venv = FOLDER / peer
    python, stamp, wanted = venv / bootstrap.INSIDE, venv / "tacit.stamp", _fingerprint(peer)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Installing {', '.join(PINS[peer])} into {venv} (once; some minutes)", flush=True)
    bootstrap.make_venv(venv)
    stamp.unlink(missing_ok=True)
    pip = [*bootstrap.find_pip(venv), "install", "--quiet", "--no-compile"]
    # torch first, then beside all else: what comes with a peer shall not replace this machine's build of it
    for packages in (_torch(), [*PINS[peer], _torch()[0]]):
        done = subprocess.run([*pip, *packages], capture_output=True, text=True)
        if done.returncode:
            raise NotInstalled((done.stderr.strip().splitlines() or ["pip failed without a word"])[-1])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def version_of(peer: str) -> str:
    """As the table pins it."""
    return PINS[peer][0].partition("==")[2]


def _torch() -> list[str]:
    return shlex.split(os.environ.get("TACIT_TORCH", bootstrap.TORCH))


def _fingerprint(peer: str) -> str:
    return hashlib.sha256(" ".join([*PINS[peer], *_torch()]).encode()).hexdigest()
