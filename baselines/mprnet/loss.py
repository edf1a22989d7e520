"""The loss that MPRNet is trained with (`recipe.loss=mprnet`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from benchmark.training.distances import charbonnier, edge


def mprnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over the three stages of Charbonnier + 0.05 edge (MPRNet, equation 1)."""
    stages = (charbonnier(o, target) + 0.05 * edge(o, target) for o in outputs)
    return sum(stages, start=rainy.new_zeros(()))
