"""An encoder with its head, for use elsewhere: from an image, a text or a recording to what `tacit predict` says of it.

    embedding = a representation of the encoder, chosen by the run's evaluation
    probabilities = softmax(embedding W + b)    of classes
    probabilities = sigmoid(embedding W + b)    of labels, of which an example can have several
    prediction    = embedding W + b             of a number

As ONNX it is one graph, `image` integers [B C S S], or `input_ids` and `attention_mask` int64 [B N], or `audio` float32
[B S] and `length` int64 [B] -> `embedding` [B D] and `probabilities` [B K] or `prediction` [B], with the classes in its
metadata. Else `head.safetensors` holds W [D K] and b [K] in float64 and `head.json` the rest. What no file can do, such
as resizing, `README.md` lists for the caller, with the lines to paste.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.files import sha256
from tacit.evaluation.features import candidates
from tacit.evaluation.selection import FINAL
from tacit.formats.handover import handover
from tacit.formats.onnx import write_graph
from tacit.modalities.graph import Words

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.core.encoder import OwnEncoder
    from tacit.core.types import Features
    from tacit.formats.onnx import Copy, Inputs

ONNX_FILE = "encoder.onnx"
WEIGHTS, DESCRIPTION, README = "head.safetensors", "head.json", "README.md"
# From the head's outputs [B K] to its answer, as torch is told.
ENDS = {"softmax": ".softmax(1)", "sigmoid": ".sigmoid()", "identity": "[:, 0]"}


class Head(NamedTuple):
    """What a run says of a representation: link(x W + b)."""

    W: NDArray[np.float64]  # [D K]
    b: NDArray[np.float64]  # [K]
    link: Literal["softmax", "sigmoid", "identity"]
    target: str
    classes: tuple[str, ...]  # names of the classes, or of the labels of which an example can have several
    depth: str  # the representation that it reads, by the name that `extract` gives it
    deep: bool  # whether the run's pixels have 16 bits
    labels: int  # that it learned from

    @property
    def output(self) -> str:
        """What it gives: a number of each image, or a probability of each class or label."""
        return "prediction" if self.link == "identity" else "probabilities"


def write(encoder: OwnEncoder, head: Head, to: str, folder: Path) -> None:
    """Write the head beside an encoder that is there already, or both as one graph, and README.md."""
    said = {
        "target": head.target,
        "classes": head.classes,
        "output": head.output,
        "link": head.link,
        "representation": head.depth,
        "labels": head.labels,
        "caller": handover(encoder).left_to_do(head.deep),
    }
    if to == "onnx":
        _write_onnx(encoder, head, folder / ONNX_FILE, said)
        weights = ONNX_FILE
    else:
        from safetensors.numpy import save_file

        save_file({"W": head.W, "b": head.b}, folder / WEIGHTS)
        weights = WEIGHTS
    described = {**said, "weights": {weights: sha256(folder / weights)}}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2))
    (folder / README).write_text(_readme(encoder, head, to), encoding="utf-8")


def outputs(head: Head) -> tuple[str, str]:
    """The names of what the graph gives."""
    return "embedding", head.output


def as_function(encoder: OwnEncoder, head: Head) -> Copy:
    """Integer images to embedding and the head's answer, the head in float64."""
    import torch

    W, b = torch.from_numpy(head.W), torch.from_numpy(head.b)

    kind = handover(encoder)

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        embedding = _embedding(kind.features(encoder, inputs, range(encoder.n_depths)), head.depth).cpu()
        return embedding, _linked(embedding.double() @ W + b, head)

    return answer


def as_taken(inputs: Inputs, head: Head) -> Inputs:
    """The inputs of an encoder's graph as those of a head's: images not as floats, but as pixels of the run's depth."""
    import torch

    if "image" not in inputs:
        return inputs
    white, dtype = (65535, torch.uint16) if head.deep else (255, torch.uint8)
    return {"image": (inputs["image"] * white).round().to(dtype)}


def _embedding(features: Features, depth: str) -> Tensor:
    return candidates(features)[depth]


def _linked(outputs: Tensor, head: Head) -> Tensor:
    if head.link == "identity":
        return outputs[:, 0]
    return outputs.softmax(1) if head.link == "softmax" else outputs.sigmoid()


def _write_onnx(encoder: OwnEncoder, head: Head, file: Path, said: dict[str, object]) -> None:
    import onnx
    import torch

    kind = handover(encoder)

    class Answers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = deepcopy(encoder).cpu()
            self.head = torch.nn.Linear(*head.W.shape)
            self.head.weight.data = torch.from_numpy(head.W.T.copy()).float()
            self.head.bias.data = torch.from_numpy(head.b).float()

        def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
            embedding = _embedding(kind.features(self.encoder, inputs, range(encoder.n_depths)), head.depth)
            return embedding, _linked(self.head(embedding), head)

    write_graph(kind.graph(Answers()), as_taken(kind.example(), head), file, outputs(head), kind.axes)
    model = onnx.load(file)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in said.items()})
    onnx.save(model, file)


def _readme(encoder: OwnEncoder, head: Head, to: str) -> str:
    kind = handover(encoder)
    words = kind.words
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(kind.left_to_do(head.deep), 1))
    usage, graph = _usage_of_graph(head, words), f"`{ONNX_FILE}` {words.does}"
    if to != "onnx":
        usage, graph = _usage(head, words), f"the encoder {words.does}"
    return f"""# {encoder.name} with its head

{_meaning(head, words)}

The head is a linear probe of {head.labels:,} labels on the representation `{head.depth}`. The verdict of the run's
report precedes it: this head also learned from the sealed test labels, and how good it is itself was not measured.

What is left to do to {_a(words.one)} first ({graph}):

{steps}

`tacit.load_encoder(FOLDER).prepare({words.prepared}. In this folder:

```python
{usage}
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
        "identity": "The prediction is a number, in the unit of the labels that it was learned from.",
    }[head.link]


def _usage_of_graph(head: Head, words: Words) -> str:
    names = 'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])'
    return f"""import json, onnxruntime, tacit

{words.feed}
session = onnxruntime.InferenceSession("{ONNX_FILE}")
embedding, {head.output} = session.run(["embedding", "{head.output}"], inputs)
{names if head.classes else ""}""".rstrip()


def _usage(head: Head, words: Words) -> str:
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
