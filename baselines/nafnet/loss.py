"""The loss that NAFNet is trained with (`recipe.loss=nafnet`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def nafnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Minus the PSNR in dB of each restored image, mean over the images (NAFNet, as released)."""
    errors = F.mse_loss(outputs[-1], target, reduction="none").flatten(1).mean(dim=1)
    return 10 * torch.log10(errors + 1e-8).mean()
