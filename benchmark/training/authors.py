"""The losses that networks were published with, where they are more than a distance to the target.

Each is `loss(outputs, rainy, target) -> scalar`: `outputs` is what the network's `training_outputs` returns (the last
is the restored image), `rainy` and `target` are (N, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.training.distances import charbonnier, edge, ssim

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]

AUTHORS_LOSSES: dict[str, Loss] = {}


def authors_loss(name: str) -> Callable[[Loss], Loss]:
    """Register a published loss under the name that recipes use."""

    def register(function: Loss) -> Loss:
        if name in AUTHORS_LOSSES:
            raise ValueError(f"two losses are named {name!r}")
        AUTHORS_LOSSES[name] = function
        return function

    return register


@authors_loss("rescan")
def rescan(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over the stages of the mean squared error of the rain map (RESCAN).

    A stage's output is rainy - rain map, so its error is that of the map.
    """
    return sum((F.mse_loss(o, target) for o in outputs), start=rainy.new_zeros(()))


@authors_loss("rcdnet")
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


@authors_loss("nafnet")
def nafnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Minus the PSNR in dB of each restored image, mean over the images (NAFNet, as released)."""
    errors = F.mse_loss(outputs[-1], target, reduction="none").flatten(1).mean(dim=1)
    return 10 * torch.log10(errors + 1e-8).mean()


@authors_loss("mprnet")
def mprnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """Sum over the three stages of Charbonnier + 0.05 edge (MPRNet, equation 1)."""
    stages = (charbonnier(o, target) + 0.05 * edge(o, target) for o in outputs)
    return sum(stages, start=rainy.new_zeros(()))


@authors_loss("sfnet")
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


@authors_loss("elformer")
def elformer(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """0.3 Charbonnier + 0.2 edge of the restored image, 0.8 as much of the half-size one; - 0.15 SSIM.

    The weights are the released training script's. The target of the half-size output is halved bilinearly.
    """
    half, restored = outputs
    half_target = F.interpolate(target, size=half.shape[-2:], mode="bilinear", align_corners=False)
    distance = charbonnier(restored, target) + 0.8 * charbonnier(half, half_target)
    edges = edge(restored, target) + 0.8 * edge(half, half_target)
    return 0.3 * distance + 0.2 * edges - 0.15 * ssim(restored, target)


@authors_loss("hpcnet")
def hpcnet(outputs: Sequence[Tensor], rainy: Tensor, target: Tensor) -> Tensor:
    """0.3 Charbonnier + 0.2 edge - 0.15 SSIM of the restored image, and of the rainy one put together anew.

    Of the latter, only Charbonnier and SSIM count, and a fifth as much. The weights are the released
    script's.
    """
    again, restored = outputs
    distance = charbonnier(restored, target) + 0.2 * charbonnier(again, rainy)
    likeness = ssim(restored, target) + 0.2 * ssim(again, rainy)
    return 0.3 * distance + 0.2 * edge(restored, target) - 0.15 * likeness


@authors_loss("smartassign")
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
