"""ONNX graphs: written from a module, and run as ONNX Runtime computes them on the CPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    Inputs = Mapping[str, Tensor]
    Copy = Callable[[Inputs], tuple[Tensor, Tensor]]  # to two outputs

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


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
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={name: {at: lengths[of] for at, of in axes[name].items()} for name in inputs},
            verbose=False,
        )
        assert program is not None
        _keep_names_apart(program.model.graph, outputs)
        program.save(file, external_data=False)


def _keep_names_apart(graph: Any, outputs: Sequence[str]) -> None:
    """What goes on inside is named after operations, `embedding` among them, and no output may be called the same."""
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
    """Without the exporter's remarks on torchvision and its own deprecated calls, which help nobody here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
