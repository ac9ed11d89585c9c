"""The modality of volumes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.encoder import OwnEncoder
from tacit.core.errors import UserError
from tacit.core.spec import Spec
from tacit.data.split import Split
from tacit.evaluation import Arm
from tacit.modalities.base import Modality
from tacit.modalities.graph import GraphIO
from tacit.modalities.recipe import Recipe
from tacit.modalities.volume import export, recipes
from tacit.modalities.volume.baselines import Intensities, Voxels
from tacit.modalities.volume.encoder import MapEncoder
from tacit.modalities.volume.spec import VolumeSpec
from tacit.modalities.volume.store import VolumeStore
from tacit.modalities.volume.views import VolumeViews
from tacit.training.batches import Batches
from tacit.training.optim import Optim

if TYPE_CHECKING:
    from tacit.modalities.hf_folder import Public


class Volumes(Modality[VolumeSpec, VolumeStore]):
    name = "volume"
    nouns = "volumes"
    spec = VolumeSpec
    default_tasks = "simclr,position,masked"
    kin = True

    ingredients = recipes.VolumeIngredients

    def default_encoder(self, spec: VolumeSpec, tasks: Collection[str]) -> str:
        return recipes.default_encoder(spec, tasks)

    def views(self, spec: VolumeSpec) -> VolumeViews:
        return recipes.compared_views(spec)

    def scratch_views(self, spec: VolumeSpec) -> VolumeViews:
        return recipes.compared_views(spec)

    def measured(self, task: str, encoder: Any) -> dict[str, Any]:
        return recipes.measured(task, encoder)

    def optim(self, encoder: Any) -> Optim:
        return recipes.default_optim(encoder)

    def batch_size(self, encoder: Any, tasks: Collection[str], accelerated: bool) -> int:
        return 64 if accelerated else 16

    def batches(self, store: VolumeStore, rows: NDArray[np.int64], recipe: Recipe, seed: int) -> Batches:
        return Batches(store.batch, rows, batch_size=recipe.batch_size, seed=seed)

    def baselines(self, store: VolumeStore, split: Split, seed: int) -> list[Arm]:
        voxels = Voxels.fit(store.batch, split.pretrain, store.spec, seed=seed)
        return [
            Arm(
                "intensities",
                "baseline",
                encoders=(Intensities(),),
                encoder="histogram and moments of intensities",
                own=True,
            ),
            Arm("voxels", "baseline", encoders=(voxels,), encoder="voxels and their principal components", own=True),
        ]

    def compatible(self, spec: VolumeSpec, other: VolumeSpec) -> bool:
        same = (spec.shape, spec.axis, spec.range) == (other.shape, other.axis, other.range)
        return same and np.allclose(spec.spacing, other.spacing)

    def options_of(self, spec: VolumeSpec) -> dict[str, Any]:
        return {"volume_spec": spec}

    def fixed(self, spec: VolumeSpec) -> dict[str, Any]:
        return {"volume_size": None, "volume_spacing": None, "volume_turns": spec.turns}

    def bf16_pays(self, encoder: Any) -> bool:
        return isinstance(encoder, MapEncoder)

    def open_public(self, public: Public, spec: Spec | None) -> tuple[OwnEncoder, tuple[str, ...]]:
        raise UserError(
            f"{public.name} reads volumes, of which only folders that Tacit has written are opened; judge it as a "
            "function of your own: package.module:function"
        )

    def graph(self, encoder: Any) -> GraphIO:
        return export.Volumes(encoder)

    def deep(self, store: VolumeStore) -> bool:
        return True

    def describe(self, store: VolumeStore) -> str:
        return f"{len(store):,} volumes of {store.spec.short} voxels, {store.nbytes / 2**20:,.1f} MiB decoded"

    def about(self, store: VolumeStore) -> list[str]:
        spec = store.spec
        mm = " x ".join(f"{of:.3g}" for of in spec.spacing)
        ends = "its own range" if spec.range is None else f"{spec.range.low:,.6g} to {spec.range.high:,.6g}"
        return [
            f"shape: {spec.short} voxels of {mm} mm; decoded cache {store.nbytes / 2**20:,.1f} MiB",
            f"voxel values of each volume from {ends} to [0, 1]: mean {spec.mean:.3f}, deviation {spec.std:.3f}",
        ]

    def facts(self, store: VolumeStore) -> dict[str, Any]:
        spec = store.spec
        return {"voxels": spec.short, "spacing_mm": [round(of, 3) for of in spec.spacing]}

    def pictures(self, store: VolumeStore, rows: NDArray[np.int64]) -> Sequence[Any]:
        return [pictured(volume) for volume in store.volumes(rows)]

    def shown(self, store: VolumeStore, preview: Tensor) -> Sequence[Any]:
        return [pictured(volume[0]) for volume in preview.float().cpu().numpy()]


def pictured(volume: NDArray[Any]) -> NDArray[Any]:
    """The middle slice of [D H W], as [1 H W]."""
    return np.asarray(volume[len(volume) // 2][None])


MODALITY = Volumes()
