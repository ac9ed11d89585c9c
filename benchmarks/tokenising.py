"""What turning text into numbers costs: one JSON line per case.

    python benchmarks/tokenising.py --data train.parquet [--words 3000000] [--gigabytes 2]

`tokenising`: words per second of processor time, all threads counted, of `open_corpus` with a tokenizer (reading,
tokenising, hashing and writing), beside `tokenizers` alone on the same texts in batches of a thousand; the two take
turns, and the medians are told. `tokenising memory`: the peak of a process that opens a made corpus of so many
gigabytes in JSON lines, the training of its tokenizer included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from record import record

MEMORY = """
import json, sys, time
from pathlib import Path
from tacit.modalities.text.tokenise import open_corpus
from tacit.data.store import Keeping
from tacit.dataset import open_source
import re

def peak():  # of this process alone: getrusage would count what its parent once had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3

before, start = peak(), time.perf_counter()
settings = dict(tokenizer="bpe", vocabulary=None, length=None, lowercase=True)
kept = open_corpus(open_source(sys.argv[1]), Keeping(Path(sys.argv[2]), 0.0), **settings)
said = {"documents": len(kept.cache), "tokens": len(kept.cache.tokens.values), "imports_mb": round(before)}
print(json.dumps({**said, "peak_mb": round(peak()), "seconds": round(time.perf_counter() - start)}))
"""


def speed(parquet: Path, most: int, turns: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    from tacit.data.store import Keeping
    from tacit.dataset import Settings, open_source
    from tacit.modalities.text.tokenise import open_corpus

    texts, words = [], 0
    for text in pq.read_table(parquet, columns=["text"])["text"].to_pylist():
        texts.append(text)
        words += len(text.split())
        if words >= most:
            break

    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"text": texts}), Path(folder) / "part.parquet")
        settings = {"vocabulary": None, "length": None, "lowercase": True}
        source = open_source(Path(folder) / "part.parquet")
        for algorithm in ("bpe", "wordpiece", "unigram"):
            part = texts[:2000]
            small = open_source(part, Settings.of(kind="text"))
            kept = open_corpus(small, Keeping(Path(folder) / "first", 0.0), tokenizer=algorithm, **settings)
            taken = str(kept.cache.folder)
            tokenizer = Tokenizer.from_file(f"{taken}/tokenizer.json")

            def alone(tokenizer: Tokenizer = tokenizer) -> None:
                for start in range(0, len(texts), 1000):
                    tokenizer.encode_batch(texts[start : start + 1000], add_special_tokens=False)

            def ours(turn: int, taken: str = taken) -> None:
                open_corpus(
                    source, Keeping(Path(folder) / str(turn) / Path(taken).name, 0.0), tokenizer=taken, **settings
                )

            own, other = [], []
            for turn in range(turns):
                other.append(processor_seconds(alone))
                own.append(processor_seconds(lambda turn=turn: ours(turn)))
            mine, theirs = statistics.median(own), statistics.median(other)
            record(
                "tokenising",
                data=parquet.parent.name,
                tokenizer=algorithm,
                words=words,
                words_per_second_per_core=round(words / mine),
                tokenizers_alone=round(words / theirs),
                slower_percent=round(100 * (mine / theirs - 1), 1),
            )


def processor_seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def memory(gigabytes: float) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    known = ["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(50_000)]
    often = rng.zipf(1.3, 2_000_000).clip(1, len(known)) - 1
    with tempfile.TemporaryDirectory() as folder:
        path, size = Path(folder) / "made.jsonl", 0
        with path.open("w") as file:
            while size < gigabytes * 1e9:
                start = int(rng.integers(0, len(often) - 4000))
                text = " ".join(known[i] for i in often[start : start + int(rng.integers(20, 4000))])
                size += file.write(json.dumps({"id": size, "text": text}) + "\n")
        words = [sys.executable, "-c", MEMORY, str(path), f"{folder}/cache"]
        said = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ.copy())
        record("tokenising memory", gigabytes=gigabytes, **json.loads(said.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--words", type=int, default=3_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=0.0)
    args = parser.parse_args()
    if args.data:
        speed(args.data, args.words, args.turns)
    if args.gigabytes:
        memory(args.gigabytes)


if __name__ == "__main__":
    main()
