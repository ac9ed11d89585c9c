"""Masked-token training of the same BERT beside Hugging Face's Trainer with its masking collator: speed and loss.

    python benchmarks/masked_tokens.py DATA [--peer PYTHON] [--steps 60] [--rounds 3] [--vocabulary 30522]

DATA is a table of texts (a Parquet file with a text column). Both train 4 layers of 256 from new weights on rows of 128
tokens, batch 32, 15 % of the tokens hidden (80/10/10), AdamW at the same rate and schedule, dropout .1, in turn, in a
process of their own each. PYTHON is an interpreter with transformers, datasets and accelerate, which Trainer needs. The
documents are tokenised beforehand by the same tokenizer for both; Trainer's are concatenated and cut, as run_mlm.py
does.

One JSON line: tokens per second of both (the first fifth of the steps left out), their ratio round by round, and the
mean loss over the last fifth of the steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LENGTH, BATCH, RATIO, RATE, DROPOUT = 128, 32, 0.15, 1e-3, 0.1
SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
BETAS, DECAY, CLIP, WARMUP = (0.9, 0.98), 0.01, 1.0, 0.1


def told(steps: int, stamps: list[float], losses: list[float]) -> None:
    """Print tokens per second and the last losses, as both sides do."""
    first = max(1, steps // 5)
    seconds = stamps[-1] - stamps[first - 1]
    last = losses[-max(1, steps // 5) :]
    print(json.dumps({"speed": (steps - first) * BATCH * LENGTH / seconds, "loss": statistics.mean(last)}))


def ours(data: Path, folder: Path, steps: int, seed: int, threads: int) -> None:
    import numpy as np
    import torch

    from tacit.data import open_dataset
    from tacit.data.corpus import Corpus
    from tacit.data.order import Batches, Span
    from tacit.data.packing import Packed
    from tacit.encoders import build_encoder
    from tacit.engine import make_fabric
    from tacit.masks import Hiding
    from tacit.modalities.text import Corruption, TextViews, TokenMask, own_tokens
    from tacit.optim import Optim
    from tacit.spec import TextSpec
    from tacit.tasks.masked import Masked
    from tacit.train import pretrain

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    dataset = open_dataset(str(data), kind="text", tokenizer=str(folder), length=LENGTH, cache=str(folder / "cache"))
    spec = dataset.spec
    assert isinstance(dataset.cache, Corpus)
    assert isinstance(spec, TextSpec)
    encoder = build_encoder("bert_tiny", spec, dropout=DROPOUT)
    encoder.train_head()
    task = Masked(
        encoder,
        TextViews(spec, LENGTH),
        TokenMask(spec, Hiding(RATIO, unit="token")),
        own_tokens,
        width=spec.vocabulary,
        corrupt=Corruption(spec, random=0.1, kept=0.1),
        decoder=encoder.logits,
    )
    packed = Packed(dataset.cache, np.arange(len(dataset)), LENGTH)
    source = Batches(packed.batch, Span(len(packed)), batch_size=BATCH, seed=seed)
    optim = Optim("adamw", lr=RATE * 256 / BATCH, weight_decay=DECAY, warmup=WARMUP, betas=BETAS, clip=CLIP)
    stamps: list[float] = []
    losses: list[float] = []

    def watch(row: Any, total: int) -> None:
        stamps.append(time.perf_counter())
        losses.append(float(row["loss"]))

    fabric = make_fabric(device="cpu")
    pretrain(task, source, steps=steps, optim=optim, fabric=fabric, seed=seed, rows=steps, watch=watch)
    told(steps, stamps, losses)


def theirs(data: Path, folder: Path, steps: int, seed: int, threads: int) -> None:
    import logging

    import torch
    from datasets import load_from_disk
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = load_from_disk(str(folder / "rows"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        **SHAPE,
    )
    stamps: list[float] = []
    losses: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=round(WARMUP * steps),
        weight_decay=DECAY,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=CLIP,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=seed,
        disable_tqdm=True,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATIO)
    Trainer(BertForMaskedLM(config), arguments, collator, rows, callbacks=[Watch()]).train()
    told(steps, stamps, losses)


def prepare(data: Path, folder: Path, vocabulary: int) -> None:
    """The tokenizer and Trainer's rows, made once for both."""
    import pyarrow.parquet as pq
    from datasets import Dataset
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from tacit.data.vocabulary import train_tokenizer

    texts = pq.read_table(data, columns=["text"])["text"].to_pylist()
    tokenizer: Tokenizer = train_tokenizer(texts, algorithm="wordpiece", size=vocabulary, lowercase=True)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
    fast.save_pretrained(folder)
    stream = [number for text in tokenizer.encode_batch(texts) for number in text.ids]
    cut = [stream[at : at + LENGTH] for at in range(0, len(stream) - LENGTH, LENGTH)]
    special = [[int(number < len(names)) for number in row] for row in cut]
    Dataset.from_dict({"input_ids": cut, "special_tokens_mask": special}).save_to_disk(str(folder / "rows"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=30522)
    parser.add_argument("--side", choices=["ours", "theirs"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.side:
        side = ours if asked.side == "ours" else theirs
        return side(asked.data, asked.folder, asked.steps, asked.seed, asked.threads)
    from record import record

    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(asked.data, folder, asked.vocabulary)
        common = ["--folder", name, "--steps", str(asked.steps), "--threads", str(asked.threads)]
        mine = [sys.executable, __file__, str(asked.data), "--side", "ours"]
        subprocess.run([*mine, *common, "--steps", "2"], check=True, stdout=subprocess.DEVNULL)  # tokenise once
        for seed in range(asked.rounds):
            for side, python in (("theirs", asked.peer), ("ours", sys.executable)):
                command = [python, __file__, str(asked.data), "--side", side, "--seed", str(seed), *common]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                found[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
    speeds = {side: [round(run["speed"]) for run in runs] for side, runs in found.items()}
    losses = {side: [round(run["loss"], 4) for run in runs] for side, runs in found.items()}
    ratios = [mine / other for mine, other in zip(speeds["ours"], speeds["theirs"], strict=True)]
    record(
        f"masked-tokens/bert-4x256/vocabulary-{asked.vocabulary}",
        tokens_per_second=statistics.median(speeds["ours"]),
        trainer_tokens_per_second=statistics.median(speeds["theirs"]),
        ratio=round(statistics.median(ratios), 2),
        ratios=[round(ratio, 2) for ratio in ratios],
        losses=losses["ours"],
        trainer_losses=losses["theirs"],
        steps=asked.steps,
        batch=BATCH,
        length=LENGTH,
        threads=asked.threads,
    )


if __name__ == "__main__":
    main()
