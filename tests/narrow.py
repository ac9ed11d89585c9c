"""The smallest models are narrower in tests, wherever they are built: what they do is tested, not how well."""

from __future__ import annotations

from typing import Any

import pytest

from tacit.modalities.audio import transformer
from tacit.modalities.audio.convnet import AudioConvNet
from tacit.modalities.events import bert4rec, sasrec
from tacit.modalities.image import resnet, vit
from tacit.modalities.image.convnet import ConvNet
from tacit.modalities.series import convnet as series_convnet
from tacit.modalities.series import patchtst
from tacit.modalities.series.convnet import SeriesConvNet
from tacit.modalities.text import bert
from tacit.modalities.volume import vit as volume_vit
from tacit.modalities.volume.convnet import SliceNet, VolumeNet

WIDTH, HEADS = 32, 2
LAYOUTS: list[Any] = [transformer.LAYOUTS, patchtst.LAYOUTS, bert.LAYOUTS, bert4rec.LAYOUTS, sasrec.LAYOUTS]
BLOCKS = ("num_hidden_layers", "n_layer")  # as libraries call their number
USUAL: list[tuple[Any, str, Any]] = []  # what was changed: where, its name, and as people have it


def change(of: Any, name: str, value: Any) -> None:
    USUAL.append((of, name, of[name]))
    of[name] = value


def with_usual_sizes(patch: pytest.MonkeyPatch) -> None:
    """As people have them."""
    for of, name, value in USUAL:
        patch.setitem(of, name, value)


def make_shallow(patch: pytest.MonkeyPatch) -> None:
    """One block in place of several."""
    for layouts in LAYOUTS:
        nano = layouts["nano"]
        one = {name: 1 for name in BLOCKS if name in nano} if isinstance(nano, dict) else {}
        patch.setitem(layouts, "nano", nano | one if one else nano._replace(blocks=1))
    patch.setitem(vit.LAYOUTS, "vit_tiny", vit.LAYOUTS["vit_tiny"] | {"num_hidden_layers": 1})
    patch.setattr(series_convnet, "BLOCKS", 2)  # the second with a dilation
    patch.setitem(resnet.LAYOUTS, "resnet18", resnet.LAYOUTS["resnet18"] | {"depths": [1] * 4})


for layouts in LAYOUTS:
    nano = layouts["nano"]
    if isinstance(nano, tuple):
        change(layouts, "nano", nano._replace(dim=WIDTH, blocks=2, heads=HEADS))
    else:
        told = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": 2 * WIDTH, "n_head": HEADS}
        change(layouts, "nano", {**nano, **{name: told[name] for name in told if name in nano}})

narrow = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 96, "num_hidden_layers": 4}
change(vit.LAYOUTS, "vit_tiny", narrow)
change(volume_vit.LAYOUTS, "volume_vit_tiny", narrow)
for name, layout in [*resnet.LAYOUTS.items()]:
    change(resnet.LAYOUTS, name, {**layout, "hidden_sizes": [16, 32, 32, 64]})
for convnet in (ConvNet, SliceNet, VolumeNet):
    change(convnet.__init__.__kwdefaults__, "width", WIDTH)
for convnet in (AudioConvNet, SeriesConvNet):
    change(convnet.__init__.__kwdefaults__, "width", WIDTH // 2)
    change(convnet.__init__.__kwdefaults__, "dim", 2 * WIDTH)
