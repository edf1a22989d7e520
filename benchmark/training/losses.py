"""Training losses: `loss(outputs, rainy, target) -> scalar`.

`outputs` is a list whose last entry is the restored image (N, 3, H, W); `rainy` and `target` have its shape, in
[0, 1]. The losses here look at the restored image alone; those of single networks are beside these, in `loss.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import catalog
from benchmark.errors import UserError, fault_in_words, unknown
from benchmark.training.distances import charbonnier, ssim

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]


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
}


OWN = "own"


def on_all_outputs(name: str) -> bool:
    """Whether a loss is on all that a network's `training_outputs` returns, not on the restored image alone."""
    return name == OWN or name in catalog.losses()


def get_loss(name: str, network: nn.Module | None = None) -> Loss:
    """The loss of that name: one of `LOSSES`, that of the network so called, or `own`, the one that `network` declares.

    Raises:
        UserError: there is none; the nearest name is given. Or the network's own cannot be had.
    """
    if name in LOSSES:
        return LOSSES[name]
    if name == OWN:
        of = getattr(network, "catalogued_as", None)
        if of is None or not catalog.network(of).loss:
            raise UserError("recipe.loss=own: this network declares no loss of its own")
    elif name in catalog.losses():
        of = name
    else:
        raise unknown("recipe.loss", name, [*LOSSES, *catalog.losses(), OWN])
    entry = catalog.network(of)
    try:
        return entry.load_loss()
    except Exception as error:
        told = fault_in_words(error, entry.package())
        raise UserError(f"model '{entry.name}': its loss {entry.loss} cannot be had: {told}") from error
