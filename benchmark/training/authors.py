"""The losses that networks were published with, where they are more than a distance to the target.

Each is `loss(outputs, rainy, target) -> scalar`: `outputs` is what the network's `training_outputs` returns (the last
is the restored image), `rainy` and `target` are (N, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]

AUTHORS_LOSSES: dict[str, Loss] = {}


def authors_loss(name: str) -> Callable[[Loss], Loss]:
    """Register a published loss under the name that recipes use."""

    def register(function: Loss) -> Loss:
        if name in AUTHORS_LOSSES:
            raise ValueError(f"two losses are named {name!r}")
        AUTHORS_LOSSES[name] = function
        return function

    return register


@authors_loss("rescan")
def rescan(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over the stages of the mean squared error of the rain map (RESCAN, section 3.4).

    A stage's output is rainy - rain map, so its error is that of the map.
    """
    return sum((F.mse_loss(o, target) for o in outputs), start=rainy.new_zeros(()))
