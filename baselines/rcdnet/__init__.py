"""RCDNet: proximal gradient steps on a convolutional dictionary of rain, unrolled into a network.

Wang, Xie, Zhao and Meng, "A Model-Driven Deep Neural Network for Single Image Rain Removal", CVPR 2020.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# the released code divides every rain kernel and every step size by ten, wherever it uses them
_SPEED = 0.1


def rain_kernels(count: int, size: int = 9) -> Tensor:
    """Streaks to start the rain dictionary from: (3, count, size, size), non-negative, alike in the three colours.

    The authors start from a file of kernels (init_kernel.mat): upright streaks, a third of them one pixel wide and
    short, the others three or five wide, their sums from 0.14 to 1. These are drawn anew to be like them: a flat
    middle with a Gaussian fall, sums spread over that range with the same mean.
    """
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    down, right = torch.meshgrid(axis.abs(), axis.abs(), indexing="ij")
    streaks = []
    for n in range(count):
        share = n * 0.618 % 1
        thin = 8 * n < 3 * count
        flat, across, along = (0, 0.25, 0.45 + 0.5 * share) if thin else (1 + n % 2, 0.5, 0.6 + 3 * share)
        squares = ((right - flat).clamp(min=0) / across) ** 2 + ((down - flat).clamp(min=0) / along) ** 2
        streak = torch.exp(-0.5 * squares)
        streaks.append(streak / streak.sum() * (0.14 + 0.86 * share**1.75))
    return torch.stack(streaks).repeat(3, 1, 1, 1)


def _leaning_kernels(count: int, size: int = 9) -> Tensor:
    """Streaks for short trainings: as `rain_kernels`, leaning from 45° left to 45° right, each sum 1.

    As they sum to 1, rain maps and rain layer have intensities of the same size.
    """
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    streaks = []
    for n in range(count):
        lean = math.radians(-45 + 90 * (n + 0.5) / count)
        length, width = size * (0.15, 0.25, 0.4)[n % 3], size * 0.08
        along = down * math.cos(lean) + right * math.sin(lean)
        across = right * math.cos(lean) - down * math.sin(lean)
        streak = torch.exp(-0.5 * ((along / length) ** 2 + (across / width) ** 2))
        streaks.append(streak / streak.sum())
    return torch.stack(streaks).repeat(3, 1, 1, 1)


class ResidualBlock(nn.Sequential):
    """3×3 convolution, norm, ReLU, 3×3 convolution, norm; a shortcut and ReLU around them."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, non-negative."""
        return F.relu(features + super().forward(features))


class BackgroundProximal(nn.Module):
    """The proximal operator of the background's prior, learned: residual blocks ("B-net")."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))

    def forward(self, image_and_dual: Tensor) -> Tensor:
        """(N, 3 + duals, H, W) to the same shape, non-negative."""
        return self.blocks(image_and_dual)


class RainProximal(nn.Module):
    """The proximal operator of the rain maps' prior, learned: residual blocks, then a threshold ("M-net")."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.threshold = nn.Parameter(torch.full((1, channels, 1, 1), 0.5))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, maps, H, W) to the same shape, non-negative and sparse."""
        return F.relu(self.blocks(maps) - self.threshold)


class RCDNet(nn.Module):
    """Rain convolutional dictionary network: rain = kernels * maps, solved for maps and background in turn.

        stage s:   rain gradient = (kernels * maps - (rainy - background)) * kernelsᵀ
                   maps          = RainProximal(maps - step · rain gradient)
                   rain          = kernels * maps
                   background    = BackgroundProximal(background - step · (background - (rainy - rain)))

        rainy ─► background 0, dual ─► stage 1 ─► stage 2 ─► … ─► stage S ─► BackgroundProximal ─► restored

    Each stage has proximal networks and step sizes of its own; the kernels are one set from the rain of stage
    1 on. Stage 1 has no maps to start from: they come from the thresholded difference of the rainy image and
    background 0, by kernels of their own. Beside the image a BackgroundProximal carries a dual of `duals`
    channels, at first the image's 3×3 means. The restored image is not below 0 (it leaves a ReLU). Any size.

    The released network has parameters that nothing uses; its files hold them and its parameter count
    includes them. They are here too, with `requires_grad` off where the whole parameter is idle: `idle_step`
    and `idle_rain`. And `kernels` has one set per iteration, of which only the second is used.

    Args:
        stages: S, the initial one included.
        maps: rain maps, the paper's N.
        duals: channels that accompany the image.
        blocks: residual blocks in each proximal network, the paper's T.
        kernel_size: side of the rain kernels, odd.
        intensity: the network works on [0, intensity]. Its starting steps, thresholds and norms mean 255: the
            norms add about 1 to the image. A small variant that trains for minutes wants less.
        leaning_kernels: for short trainings: the dictionary starts from streaks that lean to both sides,
            each of sum 1.

    Raises:
        ValueError: stages below 3, or an even kernel_size.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^eta1$", "idle_step"),
        (r"^eta2$", "first_background_step"),
        (r"^eta11$", "rain_steps"),
        (r"^eta12$", "background_steps"),
        (r"^tau$", "first_threshold"),
        (r"^weight0$", "first_kernels"),
        (r"^conv$", "kernels"),
        (r"^w_z_f$", "dual_filter"),
        (r"^xnet\.", "background_start."),
        (r"^fxnet\.", "background_finish."),
        (r"^mnet\.", "idle_rain."),
        (r"^x_stage\.", "background_stages."),
        (r"^m_stage\.", "rain_stages."),
        (r"\.tau$", ".threshold"),
        *((rf"\.res[mx]{n + 1}\.", f".blocks.{n}.") for n in range(4)),
    )

    def __init__(
        self,
        stages: int = 17,
        maps: int = 32,
        duals: int = 32,
        blocks: int = 4,
        kernel_size: int = 9,
        intensity: float = 255.0,
        leaning_kernels: bool = False,
    ) -> None:
        super().__init__()
        if stages < 3:
            raise ValueError(f"RCDNet: stages must be at least 3, not {stages}")
        if kernel_size % 2 == 0:
            raise ValueError(f"RCDNet: kernel_size must be odd, not {kernel_size}")
        self.intensity = intensity
        kernels = (_leaning_kernels if leaning_kernels else rain_kernels)(maps, kernel_size)
        self.first_kernels = nn.Parameter(kernels)
        # repeat, not expand: a parameter whose entries share memory cannot be loaded or updated in place
        self.kernels = nn.Parameter(kernels.repeat(stages - 1, 1, 1, 1, 1))
        self.dual_filter = nn.Parameter(torch.full((duals, 3, 3, 3), 1 / 9))

        self.first_threshold = nn.Parameter(torch.ones(1))
        self.first_background_step = nn.Parameter(torch.full((1,), 5.0))
        self.rain_steps = nn.Parameter(torch.ones(stages - 1, 1))
        self.background_steps = nn.Parameter(torch.full((stages - 1, 1), 5.0))

        self.background_start = BackgroundProximal(3 + duals, blocks)
        self.background_stages = nn.ModuleList(BackgroundProximal(3 + duals, blocks) for _ in range(stages))
        self.background_finish = BackgroundProximal(3 + duals, blocks)
        self.rain_stages = nn.ModuleList(RainProximal(maps, blocks) for _ in range(stages))

        self.idle_step = nn.Parameter(torch.ones(1), requires_grad=False)
        self.idle_rain = RainProximal(maps, blocks).requires_grad_(False)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """2S + 2 estimates of the clean image in [0, 1], in the order in which they arise.

        Background 0; for each stage s from 1 to S the pair (rainy - rain s, background s); the restored
        image.
        """
        rainy = rainy * self.intensity
        kernels = self.kernels[1] * _SPEED
        padding = kernels.shape[-1] // 2

        dual = F.conv2d(rainy, self.dual_filter, padding=1)
        background, dual = self._split(self.background_start(torch.cat((rainy, dual), dim=1)))
        outputs = [background]

        # stage 1 starts from the maps that its thresholded streaks suggest, all others from the stage before
        derained = rainy
        streaks = F.relu(rainy - background - self.first_threshold)
        maps = F.conv_transpose2d(streaks, self.first_kernels * _SPEED, padding=padding)
        steps = torch.cat((self.first_background_step[None], self.background_steps)) * _SPEED
        for s, step in enumerate(steps):
            if s > 0:
                surplus = background - derained
                gradient = F.conv_transpose2d(surplus, kernels, padding=padding)
                maps = maps - self.rain_steps[s - 1] * _SPEED * gradient
            maps = self.rain_stages[s](maps)
            derained = rainy - F.conv2d(maps, kernels, padding=padding)
            descended = background - step * (background - derained)
            joined = self.background_stages[s](torch.cat((descended, dual), dim=1))
            background, dual = self._split(joined)
            outputs += [derained, background]

        restored, _ = self._split(self.background_finish(joined))
        return [o / self.intensity for o in (*outputs, restored)]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; not clamped from above."""
        return self.training_outputs(rainy)[-1]

    @staticmethod
    def _split(joined: Tensor) -> tuple[Tensor, Tensor]:
        return joined[:, :3], joined[:, 3:]
