"""PSNR-Y and SSIM-Y as torchmetrics, for validation loops on one or many processes.

Apart from `metrics` because importing torchmetrics takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from benchmark.means import PSNR_CAP
from benchmark.metrics.fidelity import convention_named, psnr_y, ssim_y


class _ImageMean(Metric):
    """The mean over images (not over batches) of a value per image."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self, convention: str = "esdnet", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention = convention_named(convention)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def _measure(self, restored: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, restored: Tensor, target: Tensor) -> None:
        """Add a batch: two (N, 3, H, W) in [0, 1]; the restored one may overshoot."""
        # a NaN stays NaN under the cap: it is not perfection, and shows in the mean
        values = self._measure(restored.detach(), target.detach()).clamp(max=PSNR_CAP)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean; NaN without any."""
        return self.total / self.count


class PSNRY(_ImageMean):
    """Mean `psnr_y` over images, in dB, each at most `means.PSNR_CAP`.

    The sums are float64 whatever the precision of the network.
    """

    def _measure(self, restored: Tensor, target: Tensor) -> Tensor:
        return psnr_y(restored, target, self.convention)


class SSIMY(_ImageMean):
    """Mean `ssim_y` over images."""

    def _measure(self, restored: Tensor, target: Tensor) -> Tensor:
        return ssim_y(restored, target, self.convention)
