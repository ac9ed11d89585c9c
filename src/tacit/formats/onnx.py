"""ONNX: one graph for any program with an ONNX runtime, and its output on the CPU.

It takes `image` float32 [B C H W] in [0, 1], any B, and normalises it itself, or `input_ids` and `attention_mask` int64
[B N], or `audio` float32 [B S] in [-1, 1] and `length` int64 [B], of which it makes log-mel frames itself, any B and N
or S up to a window; it gives `pooled` [B D] and `tokens` [B N D]. `onnx.json` beside it says so, for programs. With a
head the graph is another, see `tacit.formats.head`.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UserError
from tacit.core.files import sha256
from tacit.formats import handover
from tacit.formats.base import Format
from tacit.formats.head import as_function, embedding_of, linked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tacit.core.encoder import OwnEncoder
    from tacit.formats.base import Copy, Inputs
    from tacit.formats.head import Head
    from tacit.modalities.graph import Words

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FILE, SIDECAR = "encoder.onnx", "onnx.json"
OUTPUTS = ("pooled", "tokens")


class Onnx(Format):
    """The encoder as a graph, or the encoder with its head."""

    def check(self, encoder: OwnEncoder) -> None:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise UserError(f"export to ONNX needs {', '.join(missing)}; install with: pip install 'tacit-learn[onnx]'")
        if not getattr(encoder, "traceable", True):
            raise UserError(f"{encoder.name} has no graph, since {encoder.untraceable}; use --to hf")

    def write(self, encoder: OwnEncoder, folder: Path) -> None:
        kind = handover(encoder)
        write_graph(_module(encoder), kind.example(), folder / FILE, OUTPUTS, kind.axes)
        (folder / SIDECAR).write_text(json.dumps({**kind.sidecar(), "sha256": sha256(folder / FILE)}, indent=2))

    def copy(self, encoder: OwnEncoder, folder: Path) -> Copy:
        return open_graph(folder / FILE, OUTPUTS)

    def write_head(self, encoder: OwnEncoder, head: Head, folder: Path, description: Mapping[str, object]) -> str:
        import onnx

        kind, file = handover(encoder), folder / FILE
        inputs = kind.taken(kind.example(), head.deep)
        write_graph(_module(encoder, head), inputs, file, ("embedding", head.output), kind.axes)
        model = onnx.load(file)
        onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in description.items()})
        onnx.save(model, file)
        return FILE

    def usage(self, head: Head, words: Words) -> str:
        names = 'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])'
        return f"""import json, onnxruntime, tacit

{words.feed}
session = onnxruntime.InferenceSession("{FILE}")
embedding, {head.output} = session.run(["embedding", "{head.output}"], inputs)
{names if head.classes else ""}""".rstrip()

    def does(self, words: Words) -> str:
        return f"`{FILE}` {words.does}"

    def headed(self, encoder: OwnEncoder, head: Head, folder: Path) -> tuple[Copy, Copy]:
        kind = handover(encoder)
        original, copy = as_function(encoder, head), open_graph(folder / FILE, ("embedding", head.output))
        return (lambda inputs: original(kind.taken(inputs, head.deep))), (
            lambda inputs: copy(kind.taken(inputs, head.deep))
        )


def _module(encoder: OwnEncoder, head: Head | None = None) -> nn.Module:
    """Inputs to pooled features and tokens, or to embedding and answer, by copies of the weights on the CPU."""
    import torch

    kind = handover(encoder)

    class Says(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = deepcopy(encoder).cpu()
            if head is not None:
                self.head = torch.nn.Linear(*head.W.shape)
                self.head.weight.data = torch.from_numpy(head.W.T.copy()).float()
                self.head.bias.data = torch.from_numpy(head.b).float()

        def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
            if head is None:
                features = kind.features(self.encoder, inputs)
                return features.pooled, features.tokens
            features = kind.features(self.encoder, inputs, range(encoder.n_depths))
            embedding = embedding_of(features, head.depth)
            return embedding, linked(self.head(embedding), head)

    return Says()


# ---------------------------------------------------------------- graphs of any module


def write_graph(
    module: nn.Module, inputs: Inputs, file: Path, outputs: Sequence[str], axes: Mapping[str, Mapping[int, str]]
) -> None:
    """Write `module`, from inputs such as these to `outputs`, with the weights in the file.

    `axes` says which axes of which input may have any length, and what that is called.
    """
    import torch

    names = {name for of in axes.values() for name in of.values()}
    lengths = {name: torch.export.Dim(name) for name in names}
    with _quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            kwargs={"inputs": dict(inputs)},
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={"inputs": {name: {at: lengths[of] for at, of in axes[name].items()} for name in inputs}},
            verbose=False,
        )
        assert program is not None
        _keep_names_apart(program.model.graph, outputs)
        program.save(file, external_data=False)


def _keep_names_apart(graph: Any, outputs: Sequence[str]) -> None:
    """Rename inner values, which are named after operations such as `embedding`, where an output has that name."""
    for node in graph:
        for value in node.outputs:
            if value.name in outputs and not value.is_graph_output():
                value.name = f"{value.name}_inside"


def open_graph(file: Path, outputs: Sequence[str]) -> Copy:
    """The graph as a function of its inputs to these two outputs."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def answer(inputs: Inputs) -> tuple[Tensor, Tensor]:
        one, other = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(one), torch.from_numpy(other)

    return answer


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's warnings about torchvision and its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
