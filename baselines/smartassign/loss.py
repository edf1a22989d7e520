"""The loss that SmartAssign is trained with (`recipe.loss=smartassign`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def smartassign(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """L1 of the restored image + 0.1 contrast of what the two tasks' shares take away (our rebuilding).

    The rain taken away is drawn to the true rain, and away from what the desnowing share takes away: with
    the cosine similarity c of two layers, log(1 + exp((|c(rain, snow)| - c(rain, true rain)) / 0.5)), mean
    over the images. The form and both numbers are ours: the paper's contrast term could not be obtained.
    """
    without_snow, restored = outputs
    rain, snow, truth = ((rainy - image).flatten(1) for image in (restored, without_snow, target))
    near = F.cosine_similarity(rain, truth, dim=1)
    far = F.cosine_similarity(rain, snow, dim=1).abs()
    return F.l1_loss(restored, target) + 0.1 * F.softplus((far - near) / 0.5).mean()
