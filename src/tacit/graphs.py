"""ONNX graphs: written from a module, and run as ONNX Runtime computes them on the CPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    Copy = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> two outputs

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_graph(module: nn.Module, images: Tensor, file: Path, outputs: Sequence[str]) -> None:
    """Write `module`, from images such as these [B C H W], any B, to `outputs`, with the weights in the file."""
    import torch

    with _quiet_exporter():
        torch.onnx.export(
            module.eval(),
            (images,),
            file,
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            verbose=False,
        )


def open_graph(file: Path, outputs: Sequence[str]) -> Copy:
    """The graph as a function of images to these two outputs."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        one, other = session.run(list(outputs), {"image": images.numpy()})
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
