"""The loss that SFNet is trained with (`recipe.loss=sfnet`, or `own`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sfnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over 1/4, 1/2 and full size of L1 + 0.1 L1 of the Fourier transforms (SFNet, section 3.5).

    The transform is not normalised and its real and imaginary parts are compared apart, as released. The
    target is made smaller bilinearly without antialiasing.
    """
    total = rainy.new_zeros(())
    for output in outputs:
        scaled = target
        if output.shape != target.shape:
            scaled = F.interpolate(target, size=output.shape[-2:], mode="bilinear", align_corners=False)
        # there is no Fourier transform in half precision
        difference = torch.view_as_real(
            torch.fft.fft2((output - scaled).to(torch.promote_types(output.dtype, torch.float32)))
        )
        total = total + F.l1_loss(output, scaled) + 0.1 * difference.abs().mean()
    return total
