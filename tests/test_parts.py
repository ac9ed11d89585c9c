"""Embeddings in parts: what several processes write is what one writes, and what is there is not written again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tacit
from tacit.core.errors import UserError
from tacit.core.parts import LEAST, MOST, parts_of
from tacit.encoders import save_encoder
from tests.processes import two_ranks
from tests.test_ranks import as_command
from tests.tiny import digits, tiny_encoder


@pytest.mark.parametrize("rows", [1, LEAST, LEAST + 1, 100_000, 10_000_000])
def test_parts_hold_every_row_once(rows: int) -> None:
    parts = parts_of(Path("out"), rows)
    assert [start for _, start, _ in parts] == [0, *(stop for _, _, stop in parts[:-1])]
    assert parts[-1][2] == rows
    assert max(stop - start for _, start, stop in parts) <= MOST
    assert [path for path, _, _ in parts] == sorted(path for path, _, _ in parts)


@pytest.mark.slow
def test_two_processes_write_parts_and_one_goes_on(tmp_path: Path) -> None:
    encoder, out = tmp_path / "encoder", tmp_path / "parts"
    save_encoder(tiny_encoder(), encoder)
    words = ("embed", str(encoder), "digits", f"--out={out}", "--device=cpu")
    assert two_ranks(as_command, str(tmp_path), *words) == [0, 0]
    assert f"1,797 embeddings of 32 numbers: {out}" in (tmp_path / "stdout-0").read_text()
    tacit.embed(str(encoder), "digits", out=str(tmp_path / "one.parquet"), device="cpu")
    one = pq.read_table(tmp_path / "one.parquet")
    first, second = sorted(out.glob("*.parquet"))
    assert pa.concat_tables([pq.read_table(first), pq.read_table(second)]).equals(one)
    with pytest.raises(UserError, match="holds all embeddings already"):
        tacit.embed(str(encoder), "digits", out=str(out), device="cpu")
    before = first.stat().st_mtime_ns
    second.unlink()
    tacit.embed(str(encoder), "digits", out=str(out), device="cpu")
    assert first.stat().st_mtime_ns == before
    assert pa.concat_tables([pq.read_table(first), pq.read_table(second)]).equals(one)
    save_encoder(tiny_encoder(seed=1), tmp_path / "other")
    with pytest.raises(UserError, match="begun with another encoder"):
        tacit.embed(str(tmp_path / "other"), "digits", out=str(out), device="cpu")
    tacit.embed(str(tmp_path / "other"), "digits", out=str(out), device="cpu", overwrite=True)
    assert first.stat().st_mtime_ns != before


@pytest.mark.slow
def test_ray_embeds_the_same(tmp_path: Path) -> None:
    """Where Ray is installed, which takes more than all else together: pip install "tacit-learn[ray]"."""
    pytest.importorskip("ray")
    folder = tmp_path / "images"
    folder.mkdir()
    for row in range(6):
        Image.fromarray(digits()[row, 0].numpy()).save(folder / f"{row}.png")
    save_encoder(tiny_encoder(), tmp_path / "encoder")
    tacit.embed(str(tmp_path / "encoder"), str(folder), out=str(tmp_path / "one.parquet"), device="cpu")
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"path": sorted(map(str, folder.glob("*.png")))}), tmp_path / "in" / "0.parquet")
    words = [str(tmp_path / name) for name in ("encoder", "in", "out")]
    example = Path(__file__).parent.parent / "examples" / "ray_embed.py"
    done = subprocess.run([sys.executable, example, *words, "--column=path"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = pa.concat_tables(map(pq.read_table, (tmp_path / "out").glob("*.parquet"))).sort_by("path")
    one = np.stack(pq.read_table(tmp_path / "one.parquet")["embedding"].to_numpy())
    np.testing.assert_allclose(np.stack(found["embedding"].to_numpy()), one, atol=1e-5)
