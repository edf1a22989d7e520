"""EfficientDeRain: a U-Net predicts a small filter for every pixel and colour, applied at four dilations.

Guo, Sun, Juefei-Xu, Ma, Xie, Feng, Liu and Zhao, "EfficientDeRain: Learning Pixel-wise Dilation Filtering for
High-Efficiency Single-Image Deraining", AAAI 2021.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DILATIONS = (1, 2, 3, 4)


def filter_pixels(image: Tensor, filters: Tensor, dilation: int) -> Tensor:
    """Filter every pixel of every colour with a filter of its own: pixel-wise dilation filtering.

    Args:
        image: (N, 3, H, W), taken as zero outside.
        filters: (N, 3, K², H, W), the K×K weights row by row.
        dilation: pixels between neighbouring weights.
    """
    n, colours, taps, height, width = filters.shape
    size = round(taps**0.5)
    patches = F.unfold(image, size, dilation=dilation, padding=size // 2 * dilation)
    return (filters * patches.view(n, colours, taps, height, width)).sum(dim=2)


class ConvBlock(nn.Sequential):
    """Three 3×3 convolutions, each followed by ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
        )


def _up(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear")


class EfficientDeRain(nn.Module):
    """Kernel prediction network with pixel-wise dilation filtering; one set of filters serves all dilations.

        rainy ─┬─ encoder 1 ─↓─ encoder 2 ─↓─ encoder 3 ─↓─ encoder 4 ─↓─ encoder 5
               │                    │             │             │             ↑
               │  ↑─ decoder 3 ─── [,] ─↑─ ───── [,] ─↑─ ───── [,] ───────────┘
               │  └ 1×1 ─► filters (3·K² channels)   decoder 2     decoder 1
               │             │
               └─► filtering at dilations 1, 2, 3, 4 ─► [ , , , ] ─► 3×3 ─► restored

    ↓ is 2×2 average pooling, ↑ bilinear ×2. Height and width must be multiples of 16. The paper's figures
    come of 5×5 filters, the default here; the authors' own training and released weights have 3×3
    (`kernel_size=3`). Where the released network takes the image twice, as input and as what is filtered,
    this one takes it once.

    All weights are drawn from Xavier's normal distribution with gain 0.02, as the released code does, so that a
    fresh network returns next to nothing.

    Args:
        kernel_size: K, the side of the filters, odd.
        width: channels of the first encoder; the others have 2, 4, 8 and 8 times as many.
        start_as_identity: for short trainings: a fresh network nearly passes the image on, by He's initialisation
            for the U-Net, filters whose centre weights start from a bias of 1, and a last convolution that
            averages the four dilations.

    Raises:
        ValueError: an even kernel_size.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        *((rf"^conv{n + 1}\.conv1\.", f"encoders.{n}.") for n in range(5)),
        *((rf"^conv{n + 6}\.conv1\.", f"decoders.{n}.") for n in range(3)),
        (r"^outc\.", "filters."),
        (r"^conv_final\.", "fuse."),
    )

    def __init__(self, kernel_size: int = 5, width: int = 64, start_as_identity: bool = False) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"EfficientDeRain: kernel_size must be odd, not {kernel_size}")
        taps = kernel_size**2
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoders = nn.ModuleList(ConvBlock(i, o) for i, o in zip([3, *widths], widths, strict=False))
        outputs = [8 * width, 4 * width, 3 * taps]
        self.decoders = nn.ModuleList(
            ConvBlock(below + skip, o)
            for below, skip, o in zip([widths[4], *outputs], widths[3:0:-1], outputs, strict=False)
        )
        self.filters = nn.Conv2d(3 * taps, 3 * taps, 1)
        self.fuse = nn.Conv2d(3 * len(_DILATIONS), 3, 3, padding=1)
        if start_as_identity:
            self._start_as_identity()
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain=0.02)

    def _start_as_identity(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))
        centre = torch.zeros(3, self.filters.out_channels // 3)
        centre[:, centre.shape[1] // 2] = 1
        self.filters.bias = nn.Parameter(centre.flatten())
        with torch.no_grad():
            self.filters.weight.mul_(0.05)
            self.fuse.weight.mul_(0.1)
            for colour in range(3):
                self.fuse.weight[colour, colour::3, 1, 1] += 1 / len(_DILATIONS)

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        skips = [self.encoders[0](rainy)]
        for encoder in self.encoders[1:]:
            skips.append(encoder(F.avg_pool2d(skips[-1], 2)))
        features = skips.pop()
        for decoder in self.decoders:
            features = decoder(torch.cat((skips.pop(), _up(features)), dim=1))
        filters = self.filters(_up(features)).unflatten(1, (3, -1))
        return self.fuse(torch.cat([filter_pixels(rainy, filters, d) for d in _DILATIONS], dim=1))
