"""The loss that ELFormer is trained with (`recipe.loss=elformer`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from benchmark.training.distances import charbonnier, edge, ssim


def elformer(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """0.3 Charbonnier + 0.2 edge of the restored image, 0.8 as much of the half-size one; - 0.15 SSIM.

    The weights are the released training script's. The target of the half-size output is halved bilinearly.
    """
    half, restored = outputs
    half_target = F.interpolate(target, size=half.shape[-2:], mode="bilinear", align_corners=False)
    distance = charbonnier(restored, target) + 0.8 * charbonnier(half, half_target)
    edges = edge(restored, target) + 0.8 * edge(half, half_target)
    return 0.3 * distance + 0.2 * edges - 0.15 * ssim(restored, target)
