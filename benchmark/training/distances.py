"""Distances between images that training losses are made of."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BINOMIAL = (0.05, 0.25, 0.4, 0.25, 0.05)
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
    stacked = torch.cat((a, b, a * a + b * b, 2 * a * b), dim=1)
    groups = 4 * channels
    # the window is separable: two passes of 11 instead of one of 121
    rows = F.conv2d(
        stacked, g.view(1, 1, size, 1).expand(groups, 1, size, 1), padding=(size // 2, 0), groups=groups
    )
    blurred = F.conv2d(
        rows, g.view(1, 1, 1, size).expand(groups, 1, 1, size), padding=(0, size // 2), groups=groups
    )
    mean_a, mean_b, squares, products = blurred.split(channels, dim=1)
    means, energy = 2 * mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    luminance_and_contrast = (means + _C1) * (products - means + _C2)
    return (luminance_and_contrast / ((energy + _C1) * (squares - energy + _C2))).mean()


def charbonnier(a: Tensor, b: Tensor, eps: float = 1e-3) -> Tensor:
    """mean √((a − b)² + ε²), the smooth L1 of Charbonnier et al. 1994."""
    return torch.sqrt((a - b) ** 2 + eps**2).mean()


def laplacian(image: Tensor) -> Tensor:
    """One level of a Laplacian pyramid: the image less its blurred, halved, enlarged and blurred again copy.

    The blur is Burt and Adelson's 5×5 kernel with repeated borders; halving takes every second pixel,
    enlarging puts zeros between them and multiplies by 4.

    Args:
        image: (N, C, H, W).

    Returns:
        The same shape.
    """
    channels = image.shape[1]
    row = image.new_tensor(_BINOMIAL)
    kernel = (row[:, None] * row).expand(channels, 1, 5, 5)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)

    blurred = blur(image)
    sparse = torch.zeros_like(blurred)
    sparse[..., ::2, ::2] = 4 * blurred[..., ::2, ::2]
    return image - blur(sparse)


def edge(a: Tensor, b: Tensor) -> Tensor:
    """Charbonnier distance of two images' Laplacians (MPRNet, equation 3; epsilon 1e-3)."""
    return charbonnier(laplacian(a), laplacian(b))
