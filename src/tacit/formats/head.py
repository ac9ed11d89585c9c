"""An encoder with its head, for use elsewhere: from an image, a text or a recording to the output of `tacit predict`.

    embedding = a representation of the encoder, chosen by the run's evaluation
    probabilities = softmax(embedding W + b)    of classes
    probabilities = sigmoid(embedding W + b)    of labels, of which an example can have several
    prediction    = embedding W + b             of a number, or of the place among ordered classes

As ONNX it is one graph, `image` integers [B C S S], or `input_ids` and `attention_mask` int64 [B N], or `audio` float32
[B S] and `length` int64 [B] -> `embedding` [B D] and `probabilities` [B K] or `prediction` [B], with the classes in its
metadata. Else `head.safetensors` holds W [D K] and b [K] in float64 and `head.json` the rest. What no file can do, such
as resizing, `README.md` lists for the caller, with the lines to paste.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.files import sha256
from tacit.evaluation.features import candidates
from tacit.evaluation.selection import FINAL
from tacit.formats import handover
from tacit.modalities.graph import Words

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder
    from tacit.core.types import Features
    from tacit.formats.base import Copy, Format, Inputs

WEIGHTS, DESCRIPTION, README = "head.safetensors", "head.json", "README.md"
# From the head's outputs [B K] to its answer, as torch code.
ENDS = {"softmax": ".softmax(1)", "sigmoid": ".sigmoid()", "identity": "[:, 0]"}


class Head(NamedTuple):
    """The head of a run on a representation: link(x W + b)."""

    W: NDArray[np.float64]  # [D K]
    b: NDArray[np.float64]  # [K]
    link: Literal["softmax", "sigmoid", "identity"]
    target: str
    classes: tuple[str, ...]  # names of the classes, or of the labels of which an example can have several
    depth: str  # the representation that it reads, by its name in `extract`
    deep: bool  # whether the run's pixels have 16 bits
    labels: int  # training labels

    @property
    def output(self) -> str:
        """The name of its output: a number per example, or a probability per class or label."""
        return "prediction" if self.link == "identity" else "probabilities"


def write(encoder: OwnEncoder, head: Head, to: Format, folder: Path) -> None:
    """Write the head beside an existing encoder, or both as one graph, and README.md."""
    description = {
        "target": head.target,
        "classes": head.classes,
        "output": head.output,
        "link": head.link,
        "representation": head.depth,
        "labels": head.labels,
        "caller": handover(encoder).left_to_do(head.deep),
    }
    weights = to.write_head(encoder, head, folder, description)
    described = {**description, "weights": {weights: sha256(folder / weights)}}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2))
    (folder / README).write_text(_readme(encoder, head, to), encoding="utf-8")


def write_weights(head: Head, folder: Path) -> str:
    """Write W and b in float64; returns the file's name."""
    from safetensors.numpy import save_file

    save_file({"W": head.W, "b": head.b}, folder / WEIGHTS)
    return WEIGHTS


def as_function(encoder: OwnEncoder, head: Head) -> Copy:
    """Integer images to embedding and the head's answer, the head in float64."""
    import torch

    W, b = torch.from_numpy(head.W), torch.from_numpy(head.b)

    kind = handover(encoder)

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        embedding = embedding_of(kind.features(encoder, inputs, range(encoder.n_depths)), head.depth).cpu()
        return embedding, linked(embedding.double() @ W + b, head)

    return answer


def embedding_of(features: Features, depth: str) -> Tensor:
    """The representation that a head reads."""
    return candidates(features)[depth]


def linked(outputs: Tensor, head: Head) -> Tensor:
    """The answer of a head by its outputs [B K]."""
    if head.link == "identity":
        return outputs[:, 0]
    return outputs.softmax(1) if head.link == "softmax" else outputs.sigmoid()


def _readme(encoder: OwnEncoder, head: Head, to: Format) -> str:
    kind = handover(encoder)
    words = kind.words
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(kind.left_to_do(head.deep), 1))
    return f"""# {encoder.name} with its head

{_meaning(head, words)}

The head is a linear probe of {head.labels:,} labels on the representation `{head.depth}`. The verdict of the run's
report precedes it: this head also learned from the sealed test labels, and how good it is itself was not measured.

What is left to do to {_a(words.one)} first ({to.does(words)}):

{steps}

`tacit.load_encoder(FOLDER).prepare({words.prepared}. In this folder:

```python
{to.usage(head, words)}
```
"""


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _meaning(head: Head, words: Words) -> str:
    names = ", ".join(head.classes)
    return {
        "softmax": f"Classes, in the order of the probabilities: {names}.",
        "sigmoid": f"Labels, in the order of the probabilities, one for each: {names}. "
        f"{_a(words.one).capitalize()} can have several, or\nnone: `tacit predict` names those above one half.",
        "identity": _rank(head.classes)
        if head.classes
        else "The prediction is a number, in the unit of the labels that it was learned from.",
    }[head.link]


def _rank(classes: Sequence[str]) -> str:
    places = ", ".join(f"{place} is {name}" for place, name in enumerate(classes))
    return f"The prediction is a place among ordered classes: {places}.\n`tacit predict` names the class nearest to it."


def usage(head: Head, words: Words) -> str:
    """Three lines from examples to the answer, at this depth."""
    more, features, embedding = "", f"encoder(encoder.prepare({words.given}))", "features.pooled"
    if head.depth != FINAL:
        more = "\nfrom tacit.evaluation.features import candidates"
        features = f"candidates({features[:-1]}, depths=range(encoder.n_depths)))"
        embedding = f'features["{head.depth}"]'
    return f"""import tacit, torch
from safetensors.torch import load_file{more}

encoder, head = tacit.load_encoder("."), load_file("{WEIGHTS}")
features = {features}
{head.output} = ({embedding}.double() @ head["W"] + head["b"]){ENDS[head.link]}"""
