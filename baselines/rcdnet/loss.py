"""The loss that RCDNet is trained with (`recipe.loss=rcdnet`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def rcdnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Squared errors of the last rain layer and the restored image, + 0.1 those of all before (RCDNet).

    A rain layer's error is that of rainy - rain layer. The weights and the intensities, 0 to 255, are the
    released training script's; the paper weighs the last stage likewise.

    Args:
        outputs: background 0, a pair (rainy - rain layer, background) a stage, the restored image.
        rainy: not used.
        target: the clean image.
    """
    weights = [0.1] * len(outputs)
    weights[-3] = weights[-1] = 1.0
    errors = (w * F.mse_loss(o, target) for w, o in zip(weights, outputs, strict=True))
    return 255.0**2 * sum(errors, start=rainy.new_zeros(()))
