"""Padding to the sizes that a network with strided convolutions can take, and cropping back."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Reflect an image to the right and below until height and width are multiples of `multiple`.

    The picture keeps its place (the upper left corner), so `crop_to` with the old size undoes it. An image
    that fits is returned as it is. Where less than the margin is there to reflect (a side shorter than half
    the multiple), the reflection is repeated.

    Args:
        image: (..., C, H, W).
        multiple: of both sides, in pixels.

    Returns:
        (..., C, H', W') with H' and W' the next multiples.
    """
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return image
    leading = image.shape[:-3]
    padded = image.reshape(math.prod(leading), *image.shape[-3:])
    while below or right:
        rows, columns = min(below, padded.shape[-2] - 1), min(right, padded.shape[-1] - 1)
        if (below and not rows) or (right and not columns):  # one pixel has no reflection: repeat it
            padded = F.pad(padded, (0, right, 0, below), mode="replicate")
            break
        padded = F.pad(padded, (0, columns, 0, rows), mode="reflect")
        below, right = below - rows, right - columns
    return padded.reshape(*leading, *padded.shape[-3:])


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """The upper left `height` × `width` pixels of (..., C, H, W), a view; undoes `pad_to_multiple`."""
    return image[..., :height, :width]
