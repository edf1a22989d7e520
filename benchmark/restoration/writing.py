"""Restored pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.metrics.fidelity import to_8_bit


def write_restored(path: Path, image: Tensor, metadata: Any = None, truncated: bool = False) -> None:
    """Write a restored picture (3, H, W) as 8-bit PNG: clamped, × 255, rounded, which is what is measured.

    Args:
        path: of the file.
        image: the picture.
        metadata: to write with it.
        truncated: cut off what is behind the point instead of rounding, as some authors' scripts do.
    """
    from benchmark.data.images import write_image

    levels = image.double().clamp(0, 1).mul(255).floor() if truncated else to_8_bit(image)
    pixels = levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu()
    write_image(path, np.asarray(pixels), metadata)
