"""Make tests/old: data, and run folders of commit 8eabb5c on them with what it said of them.

git worktree add OLD 8eabb5c && PYTHONPATH=OLD/src python tests/old/make.py CACHE
"""

import io
import os
import shutil
import signal
import sys
import wave
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

import tacit

HERE = Path(__file__).resolve().parent
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SASREC = {"hidden_size": 16, "n_layer": 1, "n_head": 2}
CONVNET = {"width": 8}
AUDIO = {"width": 8, "dim": 16}
RUNS = {
    "image": ("rotation", "convnet", {"label_column": "label", "primary_budget": 5, "label_budgets": ["5 per class"]}),
    "text": ("masked", "bert_nano", {}),
    "audio": ("simclr", "audio_convnet", {"rate": 4000}),
    "events": ("next", "sasrec_nano", {"length": 8}),
}


JUDGED = ("image", "events")  # the others stop after two steps


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sound(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as of:
        of.setnchannels(1)
        of.setsampwidth(2)
        of.setframerate(4000)
        of.writeframes((samples * 32000).astype("<i2").tobytes())
    return file.getvalue()


def write_data():
    rng = np.random.default_rng(0)
    labels = ["ab"[i % 2] for i in range(80)]
    images = rng.integers(0, 40, (80, 8, 8), dtype=np.uint8)
    for i, image in enumerate(images):
        image[(slice(4), slice(None)) if i % 2 else (slice(None), slice(4))] += 150
    cells = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]
    pq.write_table(pa.table({"image": cells, "label": labels}), "image.parquet")
    times = np.arange(320) / 4000
    sounds = [
        0.4 * np.sin(2 * np.pi * (440 + 300 * (i % 2)) * times) + 0.05 * rng.standard_normal(320) for i in range(80)
    ]
    cells = [{"bytes": sound(of), "path": f"{i}.wav"} for i, of in enumerate(sounds)]
    pq.write_table(pa.table({"audio": cells, "label": labels}), "audio.parquet")
    words = {"a": ["red", "apple", "pear", "plum", "cherry"], "b": ["blue", "car", "train", "bus", "bike"]}
    lines = [f"{' '.join(rng.choice(words[label], 6))},{label}" for label in labels]
    Path("text.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    rows = [(f"u{u}", f"i{u % 2 * 10 + int(rng.integers(0, 8))}", s) for u in range(60) for s in range(8)]
    pq.write_table(
        pa.table(dict(zip(("user", "item", "time"), zip(*rows, strict=True), strict=True))), "events.parquet"
    )


def stopped_at(step, command):
    """Run a command that gets a signal at this step, and leaves a checkpoint of it."""
    seen = []

    def stop(*_):
        seen.append(0)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGTERM)

    hook = register_optimizer_step_post_hook(stop)
    try:
        command()
    except BaseException as error:
        print("stopped:", repr(error))
    hook.remove()


def main():
    from tacit.encoders import bert, sasrec  # where they were
    from tacit.encoders.audio_convnet import AudioConvNet
    from tacit.encoders.convnet import ConvNet

    os.chdir(HERE)
    torch.set_num_threads(1)
    write_data()
    bert.LAYOUTS["nano"] = BERT
    sasrec.LAYOUTS["nano"] = SASREC
    ConvNet.__init__.__kwdefaults__.update(CONVNET)
    AudioConvNet.__init__.__kwdefaults__.update(AUDIO)
    os.environ["TACIT_CACHE"] = cache = sys.argv[1]
    for name, (task, encoder, more) in RUNS.items():
        data = next(HERE.glob(f"{name}.*")).name
        shutil.rmtree(name, ignore_errors=True)
        settings = {"encoder": encoder, "budget": "4steps", "batch_size": 16, "device": "cpu", **more}
        if name in JUDGED:
            tacit.run(data, tasks=task, out=name, **settings)
            finished = name
        else:
            stopped_at(2, partial(tacit.pretrain, data, task=task, out=name, **settings))
            finished = f"{cache}/finished-{name}"
            shutil.copytree(name, finished, dirs_exist_ok=True)
            tacit.pretrain(data, task=task, out=finished, resume=True, **settings)
        tacit.embed(finished, data, out=f"{name}/said.parquet", device="cpu", overwrite=True)
        for page in Path(name).rglob("*.html"):
            page.unlink()
    tacit.predict("image", "image.parquet", out="image/predicted.csv", device="cpu", overwrite=True)


if __name__ == "__main__":
    main()
