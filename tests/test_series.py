"""Time series: how they are read, what encoders make of them, a whole run, and what leaves it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tacit
from tacit.core.errors import UserError
from tacit.encoders import build_encoder, load_encoder, save_encoder
from tacit.experiment.reading import as_trained
from tacit.formats import handover
from tacit.modalities import architectures
from tacit.modalities.series.baselines import Kernels, PlainValues, Statistics
from tests.tiny import SERIES_SPEC, TinyBatches, tiny_series_encoder, waves

NAMES = sorted(name for name, of in architectures().items() if of.modality == "series")
SMALL = ["series_convnet", "series_causal", "patchtst_nano"]


def lists(n: int = 24, length: int = 40, channels: int = 1) -> dict[str, Any]:
    """Rising and falling series in noise, with labels."""
    chance = np.random.default_rng(0)
    rise = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * np.linspace(-1, 1, length)
    columns = {f"c{number}": [*(rise + 0.3 * chance.normal(size=rise.shape))] for number in range(channels)}
    return {**columns, "label": ["up" if row % 2 else "down" for row in range(n)]}


def table(path: Path, values: dict[str, Any]) -> str:
    pq.write_table(
        pa.table({k: [list(of) for of in v] if k not in ("label", "split") else v for k, v in values.items()}), path
    )
    return str(path)


# ---------------------------------------------------------------- reading


def test_a_table_with_one_column_of_lists_is_taken_for_series(tmp_path: Path, cached) -> None:
    values = lists()
    dataset = cached(
        table(tmp_path / "t.parquet", {"series": values["c0"], "label": values["label"]}), label_column="label"
    )
    assert dataset.kind == "series"
    assert dataset.classes == ("down", "up")
    np.testing.assert_allclose(dataset.cache.series(np.array([3]))[0][:, 0], np.float32(values["c0"][3]))
    assert dataset.reading == {"series_column": ["series"]}


@pytest.mark.parametrize("other", ["text", "image", "embedding"])
def test_what_may_be_of_another_modality_is_not(tmp_path: Path, cached, other: str) -> None:
    """A list of numbers beside texts or bytes is no series unless it is asked for, and neither is an embedding."""
    values: dict[str, Any] = {"series": [[0.5] * 9] * 4} if other != "embedding" else {}
    values[other] = {"text": ["some words"] * 4, "image": [b"1"] * 4, "embedding": [[0.5] * 9] * 4}[other]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(values), path)
    with contextlib.suppress(UserError):
        assert cached(str(path)).kind != "series"
    assert cached(str(path), series_column="embedding" if other == "embedding" else "series").kind == "series"


def test_several_columns_are_channels_and_gaps_are_filled(tmp_path: Path, cached) -> None:
    values = lists(channels=3)
    values["c1"][2][5:7] = np.nan
    dataset = cached(table(tmp_path / "t.parquet", values), series_column=["c0", "c1", "c2"])
    [series] = dataset.cache.series(np.array([2]))
    assert series.shape == (40, 3)
    a, b = values["c1"][2][4], values["c1"][2][7]
    np.testing.assert_allclose(series[4:8, 1], np.linspace(a, b, 4), rtol=1e-5)
    assert any("1 series have gaps" in line for line in dataset.notes.remarks)


def test_a_long_table_may_have_irregular_times(tmp_path: Path, cached) -> None:
    rows = ["id,time,value,label"]
    for name in range(12):
        moments = [0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 7.0, 8.0, 9.0, 10.0] if name else [*map(float, range(11))]
        rows += [f"s{name},{t},{2 * t + name},{name % 2}" for t in reversed(moments)]
    (tmp_path / "long.csv").write_text("\n".join(rows))
    dataset = cached(str(tmp_path / "long.csv"), label_column="label")
    assert dataset.kind == "series"
    assert dataset.ids.to_pylist()[:2] == ["s0", "s1"]
    assert dataset.classes == ("0", "1")
    for row in range(12):
        [series] = dataset.cache.series(np.array([row]))
        np.testing.assert_allclose(series[:, 0], 2 * np.arange(11) + row, rtol=1e-5)


def test_a_folder_of_csv_files_is_read_where_it_is_asked_for(tmp_path: Path, cached) -> None:
    for row, values in enumerate(lists(12, channels=2)["c0"]):
        folder = tmp_path / "data" / ("up" if row % 2 else "down")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.csv").write_text("time,x,y\n" + "".join(f"{t},{v},{-v}\n" for t, v in enumerate(values)))
    dataset = cached(str(tmp_path / "data"), kind="series", labels="folders")
    assert (dataset.spec.channels, dataset.classes, len(dataset)) == (2, ("down", "up"), 12)
    with pytest.raises(UserError):
        cached(str(tmp_path / "data"))


def test_arrays_are_series(tmp_path: Path, cached) -> None:
    x = np.random.default_rng(0).normal(size=(12, 30))
    np.savez(tmp_path / "x.npz", series=x, y=np.arange(12) % 2)
    dataset = cached(str(tmp_path / "x.npz"))
    assert (dataset.kind, dataset.classes) == ("series", ("0", "1"))
    ragged = [row[: 10 + n] for n, row in enumerate(x)]
    assert cached(ragged, kind="series").cache.lengths.tolist() == [*range(10, 22)]
    with pytest.raises(UserError):
        cached(x)
    assert cached(np.stack([x, x], 1), kind="series").spec.channels == 2


def csv_files(folder: Path, *texts: str) -> str:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text(text)
    return str(folder)


def test_channels_of_files_go_by_their_names(tmp_path: Path, cached) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20)).round(3)
    texts = [",b,a\n", ",a,b\n", ",a,b,c\n"]
    for number, (one, other) in enumerate(zip(x, y, strict=True)):
        texts[0] += f"{number},{other},{one}\n"
        texts[1] += f"{number},{one},{other}\n"
        texts[2] += f"{number},{one},{other},0\n"
    dataset = cached(csv_files(tmp_path / "two", *texts), kind="series", max_bad=0.5)
    assert (dataset.spec.names, len(dataset)) == (("b", "a"), 2)  # pandas' index is no channel
    for series in dataset.cache.series(np.array([0, 1])):
        np.testing.assert_allclose(series, np.float32(np.stack([y, x], 1)))
    named = cached(csv_files(tmp_path / "named", *texts), series_column=["a"])
    assert [of.tolist() for of in named.cache.series(np.arange(3))] == [np.float32(x)[:, None].tolist()] * 3


@pytest.mark.parametrize(("first", "steps"), [("0.5,NA", 20), ("0,1", 20), ("0,1,2", 19), ("x,y", 19), ("0.5,1,", 20)])
def test_a_first_line_of_numbers_is_one_of_them(tmp_path: Path, cached, first: str, steps: int) -> None:
    """But counted columns are names, as pandas writes them."""
    text = "\n".join([first, *[",".join(["7"] * (first.count(",") + 1))] * 19])
    dataset = cached(csv_files(tmp_path / "files", text, text), kind="series")
    assert dataset.cache.lengths.tolist() == [steps, steps]


def test_times_of_files_put_them_in_order_and_at_the_steps_of_the_first(tmp_path: Path, cached) -> None:
    texts = ["time,x\n" + "".join(f"{t},{t * t}\n" for t in times) for times in (range(20), range(38, -1, -2))]
    dataset = cached(csv_files(tmp_path / "files", *texts), kind="series")
    assert dataset.spec.step == 1
    slow = np.interp(np.arange(39), np.arange(0, 39, 2), np.arange(0, 39, 2) ** 2)
    for series, right in zip(dataset.cache.series(np.array([0, 1])), (np.arange(20) ** 2, slow), strict=True):
        np.testing.assert_allclose(series[:, 0], right, rtol=1e-6)


def test_later_data_are_read_at_the_steps_of_training(tmp_path: Path, cached) -> None:
    def long(name: str, step: int) -> str:
        rows = [f"s{of},{t},{t + of}" for of in range(3) for t in range(0, 60, step)]
        (tmp_path / name).write_text("\n".join(["id,time,value", *rows, "s0,0,2"]))
        return str(tmp_path / name)

    dataset = cached(long("train.csv", 2))
    encoder = build_encoder("series_convnet", dataset.spec)
    later = cached(long("later.csv", 6), **as_trained(encoder, {}))
    assert (later.cache.lengths[0], later.spec.step) == (28, 2)
    filled = np.interp(np.arange(0, 55, 2), np.arange(0, 55, 6), [1, *range(6, 55, 6)])  # 0 and 2 at once are 1
    np.testing.assert_allclose(later.cache.series(np.array([0]))[0][:, 0], filled, rtol=1e-6)
    told = " ".join(later.notes.remarks)
    assert "1 series were measured at other times than every 2" in told
    assert "1 values have the time of another" in told
    with pytest.raises(UserError, match="--series-step"):
        cached(long("train.csv", 2), test=long("later.csv", 6))


@pytest.mark.parametrize("form", ["arrays", "lists"])
def test_the_axis_that_is_alike_counts_channels(tmp_path: Path, cached, form: str) -> None:
    """Also of a series with as many steps as channels, or fewer."""
    series = [np.random.default_rng(n).normal(size=(steps, 12)) for n, steps in enumerate((10, 30, 12, 40))]
    data: Any = series if form == "arrays" else pa.table({"series": [of.tolist() for of in series]})
    dataset = cached(data, kind="series")
    for found, right in zip(dataset.cache.series(np.arange(4)), series, strict=True):
        np.testing.assert_allclose(found, np.float32(right))


def test_numbers_are_read_for_what_they_are(tmp_path: Path, cached) -> None:
    values = np.random.default_rng(0).normal(size=(4, 20))
    masked = cached(np.ma.masked_greater(values, 1.0), kind="series")
    assert masked.cache.series(np.arange(4))[0].max() <= 1
    assert cached(torch.tensor(values).bfloat16(), kind="series").kind == "series"
    large = cached(pa.table({"series": [[2**60 + 1000 * k for k in range(20)]] * 2}))
    assert "2 series vary by so little beside their size" in " ".join(large.notes.remarks)
    with pytest.raises(UserError):
        cached(pa.table({"series": [[[[1.0, 2.0]] * 9] * 2] * 4}), kind="series")


def test_a_label_that_varies_within_a_series_is_refused(tmp_path: Path, cached) -> None:
    rows = [f"s{of},{t},{t},{t % 2}" for of in range(3) for t in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["id,time,value,label", *rows]))
    with pytest.raises(UserError, match="varies within a series"):
        cached(str(tmp_path / "t.csv"), label_column="label")


def test_what_is_no_series_is_left_out_and_said(tmp_path: Path, cached) -> None:
    series = [*lists()["c0"], [1.0] * 3, [np.nan] * 20, [2.0] * 30]
    dataset = cached(table(tmp_path / "t.parquet", {"series": series}), max_bad=0.5)
    assert len(dataset) == 25
    assert dataset.notes.skipped.count == 2
    batch = {**dataset.batch(np.array([24])), "key": torch.tensor([7])}
    encoder = build_encoder("series_convnet", dataset.spec).eval()
    assert torch.isfinite(encoder(batch).pooled).all()  # of a constant series too


# ---------------------------------------------------------------- encoders


@pytest.mark.parametrize("name", SMALL)
def test_padding_and_neighbours_change_nothing(name: str) -> None:
    encoder = tiny_series_encoder(name).eval()
    values, length = waves()
    with torch.no_grad():
        together = encoder({"series": values[:17], "length": length[:17]})
        for row in (0, 5, 16):
            alone = encoder({"series": values[row : row + 1, : length[row]], "length": length[row : row + 1]})
            torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-4, atol=1e-5)
            n = encoder.tokens_of(int(length[row]))
            torch.testing.assert_close(alone.tokens[0, :n], together.tokens[row, :n], rtol=1e-4, atol=1e-5)


def test_a_causal_encoder_does_not_look_ahead() -> None:
    encoder = tiny_series_encoder("series_causal").eval()
    series = waves()[0][:1, :48].clone()
    other = series.clone()
    other[:, 24:] += 5
    with torch.no_grad():
        first, second = (encoder({"series": of, "length": torch.tensor([48])}).tokens for of in (series, other))
    at = 24 // encoder.stride
    assert torch.equal(first[:, :at], second[:, :at])
    assert not torch.allclose(first[:, at:], second[:, at:])


@pytest.mark.parametrize("name", SMALL)
def test_an_encoder_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    encoder = tiny_series_encoder(name).eval()
    save_encoder(encoder, tmp_path / "encoder")
    again, batch = load_encoder(tmp_path / "encoder"), TinyBatches("series:simclr", 16).batch(0)
    with torch.no_grad():
        torch.testing.assert_close(again(batch).pooled, encoder(batch).pooled)
    assert again.spec == SERIES_SPEC


def test_others_open_patchtst_without_tacit(tmp_path: Path) -> None:
    from transformers import AutoModel

    encoder = tiny_series_encoder("patchtst_nano").eval()
    save_encoder(encoder, tmp_path / "encoder")
    model = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    values, length = waves()
    length = length[:16].clamp(max=48)
    batch = {"series": values[:16, :48], "length": length}
    with torch.no_grad():
        pooled, _ = handover(encoder).read(model, batch)
        torch.testing.assert_close(pooled, encoder(batch).pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", ["series_convnet", "patchtst_nano"])
def test_graphs_say_the_same(name: str, tmp_path: Path) -> None:
    save_encoder(tiny_series_encoder(name).eval(), tmp_path / "encoder")
    tacit.export(str(tmp_path / "encoder"), to="onnx", out=str(tmp_path / "onnx"))  # compares the two, or raises
    assert json.loads((tmp_path / "onnx" / "onnx.json").read_text())["input"]["series"]["shape"] == [
        "batch",
        "steps",
        2,
    ]


def test_long_series_are_embedded_in_windows() -> None:
    encoder = tiny_series_encoder().eval()
    series = torch.randn(1, 96, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = encoder({"series": series, "length": torch.tensor([96])}).pooled
        parts = [encoder({"series": of, "length": torch.tensor([48])}).pooled for of in series.split(48, 1)]
    torch.testing.assert_close(whole, sum(parts) / 2, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- baselines


def test_baselines_know_a_series_by_itself() -> None:
    """Whatever stands beside it."""
    values, length = waves()
    batch = {"series": values[:32], "length": length[:32]}
    one = {"series": values[5:6, : length[5]], "length": length[5:6]}
    for of in (PlainValues(SERIES_SPEC), Statistics(SERIES_SPEC)):
        found = of(batch).pooled
        assert found.shape == (32, of.dim)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(of(one).pooled[0], found[5], rtol=1e-3, atol=1e-4)
    kernels = Kernels(SERIES_SPEC, lambda rows: {name: of[rows] for name, of in batch.items()}, np.arange(32), seed=0)
    features = kernels(batch)
    assert 0 <= features.min() <= features.max() <= 1
    assert features.std(0).max() > 0.05


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(brief: None, few_fits: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, str]:
    root = tmp_path_factory.mktemp("series")
    values = {**lists(80), "split": ["test" if row % 4 > 1 else "train" for row in range(80)]}
    data = table(root / "t.parquet", {"series": values["c0"], "label": values["label"], "split": values["split"]})
    report = tacit.run(
        data,
        label_column="label",
        split_column="split",
        tasks="simclr,masked",
        budget="6steps",
        label_budgets=["5 per class"],
        out=str(root / "run"),
        cache=str(root / "cache"),
        device="cpu",
    )
    return report, root, data


@pytest.mark.slow
def test_a_run_judges_against_what_counts(run) -> None:
    report, root, _ = run
    names = {arm.name for arm in report.arms}
    assert {"simclr", "masked", "values", "statistics", "kernels", "nearest", "random-init", "scratch"} <= names
    page = (root / "run" / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert json.loads((root / "run" / "report.json").read_text())["data"]["kind"] == "series"


@pytest.mark.slow
def test_predictions_and_embeddings_of_a_run(run, tmp_path: Path) -> None:
    _, root, data = run
    tacit.embed(str(root / "run"), data, out=str(tmp_path / "e.parquet"), cache=str(root / "cache"), device="cpu")
    found = pq.read_table(tmp_path / "e.parquet")
    assert found.num_rows == 80
    encoder, dataset = load_encoder(root / "run"), tacit.open_dataset(data, cache=str(root / "cache"))
    with torch.no_grad():
        given = encoder.prepare([*dataset.cache.series(np.arange(3))])
        torch.testing.assert_close(
            encoder(given).pooled, torch.tensor(found["embedding"][:3].to_pylist()), rtol=1e-4, atol=1e-5
        )
