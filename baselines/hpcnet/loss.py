"""The loss that HPCNet is trained with (`recipe.loss=hpcnet`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from benchmark.training.distances import charbonnier, edge, ssim


def hpcnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """0.3 Charbonnier + 0.2 edge - 0.15 SSIM of the restored image, and of the rainy one put together anew.

    Of the latter, only Charbonnier and SSIM count, and a fifth as much. The weights are the released
    script's.
    """
    again, restored = outputs
    distance = charbonnier(restored, target) + 0.2 * charbonnier(again, rainy)
    likeness = ssim(restored, target) + 0.2 * ssim(again, rainy)
    return 0.3 * distance + 0.2 * edge(restored, target) - 0.15 * likeness
