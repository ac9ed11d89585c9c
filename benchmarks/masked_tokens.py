"""Masked-token training of the same BERT beside Hugging Face's Trainer with its masking collator: tokens a second.

Both train 4 layers of 256 from new weights on rows of 128 tokens, batch 32, 15 % of the tokens hidden (80/10/10), AdamW
at the same rate and schedule, dropout .1. The texts are tokenised beforehand by the same tokenizer for both; Trainer's
are concatenated and cut, as run_mlm.py does. The first fifth of the steps is left out of the speed; `loss` is the mean
over the last fifth.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sides import Asked, Said, take_side

STEPS, VOCABULARY = 10, 30_522
LENGTH, BATCH, RATIO, RATE, DROPOUT = 128, 32, 0.15, 1e-3, 0.1
SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
BETAS, DECAY, CLIP, WARMUP = (0.9, 0.98), 0.01, 1.0, 0.1


@dataclass
class Watch:
    """When each step ended, by the clock and in processor seconds, and its loss."""

    stamps: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self) -> None:
        self.stamps.append((time.perf_counter(), time.process_time()))

    def said(self) -> Said:
        first = max(1, STEPS // 5)
        tokens = (STEPS - first) * BATCH * LENGTH
        clock, processor = (self.stamps[-1][i] - self.stamps[first - 1][i] for i in (0, 1))
        loss = statistics.mean(self.losses[-first:])
        return {"BERT 4 x 256": {"rate": tokens / clock, "per_processor_second": tokens / processor, "loss": loss}}


def ours(asked: Asked) -> Said:
    import numpy as np
    import torch

    from tacit.core.masks import MaskSchedule
    from tacit.dataset import open_dataset
    from tacit.encoders import build_encoder
    from tacit.modalities.text.packing import Packed
    from tacit.modalities.text.spec import TextSpec
    from tacit.modalities.text.store import Corpus
    from tacit.modalities.text.views import TextViews, TokenMask
    from tacit.modalities.tokens import Corruption, own_tokens
    from tacit.tasks.ingredients import Target
    from tacit.tasks.masked import Masked
    from tacit.training.batches import Batches, Span
    from tacit.training.engine import make_fabric
    from tacit.training.loop import pretrain
    from tacit.training.optim import Optim

    folder = asked.folder
    if not (folder / "rows").exists():
        prepare(asked.data, folder)
    torch.manual_seed(asked.round)
    texts, cache = str(asked.data), str(folder / "cache")
    dataset = open_dataset(texts, kind="text", tokenizer=str(folder), length=LENGTH, cache=cache)
    spec = dataset.spec
    assert isinstance(dataset.cache, Corpus)
    assert isinstance(spec, TextSpec)
    encoder = build_encoder("bert_tiny", spec, dropout=DROPOUT)
    encoder.train_head()
    task = Masked(
        encoder,
        TextViews(spec, LENGTH),
        TokenMask(spec, MaskSchedule(RATIO, unit="token")),
        Target(own_tokens, spec.vocabulary, decoder=encoder.logits),
        corrupt=Corruption(spec, random=0.1, kept=0.1),
    )
    packed = Packed(dataset.cache, np.arange(len(dataset)), LENGTH)
    source = Batches(packed.batch, Span(len(packed)), batch_size=BATCH, seed=asked.round)
    optim = Optim("adamw", lr=RATE * 256 / BATCH, weight_decay=DECAY, warmup=WARMUP, betas=BETAS, clip=CLIP)
    watch = Watch()

    def stepped(row: Any, total: int) -> None:
        watch.step()
        watch.losses.append(float(row["loss"]))

    fabric = make_fabric(device="cpu")
    pretrain(task, source, steps=STEPS, optim=optim, fabric=fabric, seed=asked.round, rows=STEPS, watch=stepped)
    return watch.said()


def trainer(asked: Asked) -> Said:
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
    torch.manual_seed(asked.round)
    folder, watch = asked.folder, Watch()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = load_from_disk(str(folder / "rows"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
        **SHAPE,
    )

    class Watching(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.step()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                watch.losses.append(float(logs["loss"]))

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=round(WARMUP * STEPS),
        weight_decay=DECAY,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=CLIP,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=asked.round,
        disable_tqdm=True,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATIO)
    Trainer(BertForMaskedLM(config), arguments, collator, rows, callbacks=[Watching()]).train()
    return watch.said()


def prepare(data: Path, folder: Path) -> None:
    """The tokenizer and Trainer's rows, made once for both."""
    import pyarrow.parquet as pq
    from datasets import Dataset
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from tacit.modalities.text.vocabulary import train_tokenizer

    texts = pq.read_table(data, columns=["text"])["text"].to_pylist()
    tokenizer: Tokenizer = train_tokenizer(texts, algorithm="wordpiece", size=VOCABULARY, lowercase=True)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
    fast.save_pretrained(folder)
    stream = [number for text in tokenizer.encode_batch(texts) for number in text.ids]
    cut = [stream[at : at + LENGTH] for at in range(0, len(stream) - LENGTH, LENGTH)]
    special = [[int(number < len(names)) for number in row] for row in cut]
    Dataset.from_dict({"input_ids": cut, "special_tokens_mask": special}).save_to_disk(str(folder / "rows"))


if __name__ == "__main__":
    take_side({"tacit": ours, "trainer": trainer})
