"""The loss that RESCAN is trained with (`recipe.loss=rescan`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def rescan(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over the stages of the mean squared error of the rain map (RESCAN).

    A stage's output is rainy - rain map, so its error is that of the map.
    """
    return sum((F.mse_loss(o, target) for o in outputs), start=rainy.new_zeros(()))
