"""Training losses: `loss(outputs, rainy, target) -> scalar`.

`outputs` is a list whose last entry is the restored image (N, 3, H, W); `rainy` and `target` have its shape, in
[0, 1]. The losses here look at the restored image alone; those of single networks are in `authors.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import unknown
from benchmark.training.authors import AUTHORS_LOSSES, Loss

_C1, _C2 = 0.01**2, 0.03**2


@lru_cache(maxsize=16)
def _gaussian(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) - size // 2
    g = torch.exp(-(x**2) / (2 * sigma**2))
    return (g / g.sum()).to(device, dtype)


def ssim(a: Tensor, b: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of two batches, for training.

    Wang et al. 2004 with the 11×11 Gaussian window of σ 1.5, zero padding and range 1, on each colour channel: what
    the deraining codes call pytorch_ssim. (As a measure of quality use `benchmark.ssim_y`, which takes valid windows.)

    Args:
        a: (N, C, H, W) in [0, 1].
        b: the same shape.

    Returns:
        A scalar, at most 1.
    """
    channels = a.shape[1]
    g = _gaussian(size, sigma, a.device, a.dtype)
    stacked = torch.cat((a, b, a * a + b * b, a * b), dim=1)
    groups = 4 * channels
    # the window is separable: two passes of 11 instead of one of 121
    rows = F.conv2d(
        stacked, g.view(1, 1, size, 1).expand(groups, 1, size, 1), padding=(size // 2, 0), groups=groups
    )
    blurred = F.conv2d(
        rows, g.view(1, 1, 1, size).expand(groups, 1, 1, size), padding=(0, size // 2), groups=groups
    )
    mean_a, mean_b, squares, product = blurred.split(channels, dim=1)
    means, means_squared = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    luminance_and_contrast = (2 * means + _C1) * (2 * (product - means) + _C2)
    return (luminance_and_contrast / ((means_squared + _C1) * (squares - means_squared + _C2))).mean()


def charbonnier(a: Tensor, b: Tensor, eps: float = 1e-3) -> Tensor:
    """mean √((a − b)² + ε²), the smooth L1 of Charbonnier et al. 1994."""
    return torch.sqrt((a - b) ** 2 + eps**2).mean()


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
