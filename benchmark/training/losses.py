"""Training losses: `loss(outputs, rainy, target) -> scalar`.

`outputs` is a list whose last entry is the restored image (N, 3, H, W); `rainy` and `target` have its shape, in
[0, 1]. The losses here look at the restored image alone; those of single networks are in `authors.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import unknown
from benchmark.training.authors import AUTHORS_LOSSES, Loss
from benchmark.training.distances import charbonnier, ssim


def _on_the_restored(distance: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    def loss(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
        return distance(outputs[-1], target)

    return loss


LOSSES: dict[str, Loss] = {
    "ssim": _on_the_restored(lambda a, b: 1 - ssim(a, b)),  # section 4.1 of the ESDNet paper
    "l1": _on_the_restored(F.l1_loss),
    "mse": _on_the_restored(F.mse_loss),
    "charbonnier": _on_the_restored(charbonnier),
    "l1+ssim": _on_the_restored(lambda a, b: F.l1_loss(a, b) + 0.2 * (1 - ssim(a, b))),
    **AUTHORS_LOSSES,
}


def get_loss(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    try:
        return LOSSES[name]
    except KeyError:
        raise unknown("recipe.loss", name, LOSSES) from None
