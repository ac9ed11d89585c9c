"""Real data judged through the command line, at 1 to 100 % of the labels.

    python benchmarks/judged.py CASE DATA [--budget 5m] [--keep FOLDER] [-- FURTHER SETTINGS OF tacit run]

DATA is a folder with train.parquet and test.parquet, which stays the test set.

    pneumonia    pneumoniamnist28: chest X-rays of children, two classes, pretrained within the budget
    signs        sign_digits: ten hand signs, grouped by person, pretrained within the budget
    vit          pneumoniamnist28 by an encoder that is not ours: a ViT that transformers built from a config and saved
    trec         trec6: questions of six kinds as embeddings in Parquet files that no label made: TF-IDF of words
                 and of characters, each by its principal components, and a BERT built from a config
    imdb         film reviews of two classes as raw text, pretrained on those with and without labels (unsup.parquet)
    questions    trec6 as raw text, pretrained on its own questions and on lm_text beside DATA

One JSON line per verdict that the command gave, and one with every arm's figures, in percent with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from record import record

WIDTH = 256  # of the embeddings


def images(data: Path, out: Path, budget: str, *options: str) -> None:
    tacit("run", data / "train.parquet", "--test", data / "test.parquet", "--budget", budget, "--out", out, *options)


def pneumonia(data: Path, out: Path, budget: str) -> None:
    images(data, out, budget, "--label-column", "label_name")


def signs(data: Path, out: Path, budget: str) -> None:
    images(data, out, budget, "--label-column", "label", "--group-column", "person")


def vit(data: Path, out: Path, budget: str) -> None:
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    shape = {"image_size": 28, "patch_size": 7, "num_channels": 1}
    config = ViTConfig(hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384, **shape)
    ViTModel(config, add_pooling_layer=False).save_pretrained(out.parent / "vit")
    source = [data / "train.parquet", "--test", data / "test.parquet", "--label-column", "label_name"]
    tacit("evaluate", f"hf:{out.parent / 'vit'}", *source, "--out", out)


def trec(data: Path, out: Path, budget: str) -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = [pq.read_table(data / f"{name}.parquet") for name in ("train", "test")]
    table = pa.concat_tables(parts)
    text = table["text"].to_pylist()
    split = np.repeat(["train", "test"], [len(part) for part in parts])
    # The ten questions that are in both parts are copies: they stay with the test.
    seen = np.isin(pc.utf8_lower(parts[0]["text"]).to_numpy(), pc.utf8_lower(parts[1]["text"]).to_numpy())
    kept = np.concatenate([~seen, np.ones(len(parts[1]), bool)])
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    characters = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=3)
    made: dict[str, NDArray[np.float32]] = {"bert": untrained_bert(text)}
    for name, vectorizer in (("words", words), ("characters", characters)):
        weights = vectorizer.fit_transform(text)  # no label is looked at
        made[name] = TruncatedSVD(WIDTH, random_state=0).fit_transform(weights).astype(np.float32)
    for name, embedding in made.items():
        columns = {"id": np.arange(len(text)).astype(str), "label": table["label_name"].to_numpy(), "split": split}
        rows = pa.table(
            {**columns, "embedding": pa.FixedSizeListArray.from_arrays(embedding.ravel(), embedding.shape[1])}
        )
        pq.write_table(rows.filter(pa.array(kept)), out.parent / f"{name}.parquet")
    files = {name: out.parent / f"{name}.parquet" for name in made}
    against = ["--against", files["characters"], "--against", files["bert"]]
    tacit("evaluate", files["words"], *against, "--out", out)


def untrained_bert(text: list[str]) -> NDArray[np.float32]:
    """Mean over the characters of the last states of a BERT with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=256, hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    found = []
    for start in range(0, len(text), 64):
        coded = [torch.tensor(list(line.encode()[:128])) for line in text[start : start + 64]]
        ids = torch.nn.utils.rnn.pad_sequence(coded, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(line)) for line in coded], batch_first=True)
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found.append(((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy())
    return np.concatenate(found)


def imdb(data: Path, out: Path, budget: str) -> None:
    parts = [pq.read_table(data / f"{name}.parquet").select(["id", "text"]) for name in ("train", "unsup")]
    labels = pq.read_table(data / "train.parquet", columns=["label"])["label"].cast(pa.string()).combine_chunks()
    texts(parts, labels, data / "test.parquet", out, budget)


def questions(data: Path, out: Path, budget: str) -> None:
    train, test = (pq.read_table(data / f"{name}.parquet") for name in ("train", "test"))
    lines = [line for line in (data.parent / "lm_text" / "tinyshakespeare.txt").read_text().split("\n\n") if line]
    brown = pq.read_table(data.parent / "lm_text" / "brown.parquet")["text"].to_pylist()
    lines += [line for text in brown for line in text.splitlines() if line.strip()]
    named = [pa.table({"id": [f"question {n}" for n in range(len(train))], "text": train["text"]})]
    named.append(pa.table({"id": [f"line {n}" for n in range(len(lines))], "text": lines}))
    held = out.parent / "test.parquet"
    pq.write_table(pa.table({"text": test["text"], "label": test["label_name"].cast(pa.string())}), held)
    texts(named, train["label_name"].cast(pa.string()).combine_chunks(), held, out, budget)


def texts(parts: list[pa.Table], labels: pa.Array, test: Path, out: Path, budget: str) -> None:
    """A run on all texts as one table, of which the first part has labels."""
    table = pa.concat_tables(parts)
    column = pa.concat_arrays([labels, pa.nulls(len(table) - len(labels), pa.string())])
    pq.write_table(table.append_column("label", column), out.parent / "texts.parquet")
    told = ["--label-column", "label", "--text-column", "text", "--budget", budget, "--out", out, *FURTHER]
    tacit("run", out.parent / "texts.parquet", "--test", test, *told)


CASES = {
    "pneumonia": pneumonia,
    "signs": signs,
    "vit": vit,
    "trec": trec,
    "imdb": imdb,
    "questions": questions,
}
FURTHER: list[str] = []  # settings of tacit run


def tacit(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "tacit", *map(str, words)], check=True)


def tell(case: str, out: Path, seconds: float) -> None:
    report = json.loads((out / "report.json").read_text())
    metric, verdict = report["data"]["primary_metric"], report["verdict"]
    record(
        f"judged/{case}", seconds=round(seconds), verdict=verdict["text"], saved=report["labels_saved"].get("text", "")
    )
    figures: dict[str, dict[str, list[float]]] = {}
    for r in report["results"]:
        if r["metric"] == metric and r["protocol"] != "knn":
            name = f"{r['arm']}, fine-tuned" if r["protocol"] == "finetune" else r["arm"]
            figures.setdefault(name, {})[r["budget"]] = [round(100 * r[key], 1) for key in ("mean", "low", "high")]
    record(f"judged/{case}/figures", metric=metric, figures=figures)
    outcomes: dict[str, Any] = {
        f"{v['budget']}, {v['protocol']}": v["outcome"] for v in report["verdicts"] if v["arm"] == verdict["arm"]
    }
    record(f"judged/{case}/outcomes", arm=verdict["arm"], outcomes=outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--keep", type=Path, help="keep the run here")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:at])
    FURTHER[:] = words[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        out = given.keep or Path(folder, "run")
        began = time.perf_counter()
        CASES[given.case](given.data, out, given.budget)
        tell(given.case, out, time.perf_counter() - began)


if __name__ == "__main__":
    main()
