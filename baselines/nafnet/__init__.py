"""NAFNet: a U-Net of residual blocks without activation functions; products of halves take their place.

Chen, Chu, Zhang and Sun, "Simple Baselines for Image Restoration", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel of (N, C, H, W); biased variance, eps 1e-6 in the root."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Features of mean `bias` and deviation `weight` at each pixel."""
        last = features.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


def simple_gate(features: Tensor) -> Tensor:
    """The product of the two halves of the channels: (N, 2C, H, W) to (N, C, H, W) (equation 4)."""
    first, second = features.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """A spatial and a channel part, each normalised, gated and added with a learned weight per channel.

        x ─┬─ norm ─ 1×1 to 2C ─ depthwise 3×3 ─ gate ─ · channel attention ─ 1×1 ─ · spatial_weight ─ + ─► y
           └───────────────────────────────────────────────────────────────────────────────────────────┘
        y ─┬─ norm ─ 1×1 to 2C ─ gate ─ 1×1 ─ · channel_weight ─ + ─►
           └───────────────────────────────────────────────────┘

    The weights of both parts start at 0, so that a fresh block is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_norm = ChannelNorm(channels)
        self.spatial_in = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.spatial_out = nn.Conv2d(channels, channels, 1)
        self.spatial_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.channel_norm = ChannelNorm(channels)
        self.channel_in = nn.Conv2d(channels, 2 * channels, 1)
        self.channel_out = nn.Conv2d(channels, channels, 1)
        self.channel_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        branch = simple_gate(self.depthwise(self.spatial_in(self.spatial_norm(features))))
        branch = branch * self.attention(branch.mean(dim=(2, 3), keepdim=True))
        features = features + self.spatial_out(branch) * self.spatial_weight
        branch = self.channel_out(simple_gate(self.channel_in(self.channel_norm(features))))
        return features + branch * self.channel_weight


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


class NAFNet(nn.Module):
    """Nonlinear-activation-free network, here with the blocks of the authors' denoising setting for SIDD.

        rainy ─ 3×3 ─ encoder 1 ────────────── + ─ decoder 1 ─ 3×3 ─ + ─► restored
                         ↓ 2×2, stride 2       ↑ 1×1, pixel shuffle  └ rainy
                      encoder 2 ────────────── + ─ decoder 2
                         ↓          …          ↑
                         └────── middle ───────┘

    The width doubles at each level down. Takes any size: the image is padded with zeros on the right and
    below to a multiple of 2 to the number of levels, as published, and the restored one is cropped. (The
    authors' other setting for GoPro, blocks 1, 1, 1, 28, has fewer parameters than the table that this
    suite reproduces prints.)

    Args:
        width: channels at full resolution.
        encoder_blocks: blocks of each encoder level, full resolution first.
        middle_blocks: blocks at the lowest resolution.
        decoder_blocks: blocks of each decoder level, lowest resolution first.

    Raises:
        ValueError: encoder and decoder have different numbers of levels.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^intro\.", "embed."),
        (r"^ending\.", "restore."),
        (r"^middle_blks\.", "middle."),
        (r"^(ups\.\d+)\.0\.", r"\1."),
        (r"\.norm1\.", ".spatial_norm."),
        (r"\.conv1\.", ".spatial_in."),
        (r"\.conv2\.", ".depthwise."),
        (r"\.sca\.1\.", ".attention."),
        (r"\.conv3\.", ".spatial_out."),
        (r"\.beta$", ".spatial_weight"),
        (r"\.norm2\.", ".channel_norm."),
        (r"\.conv4\.", ".channel_in."),
        (r"\.conv5\.", ".channel_out."),
        (r"\.gamma$", ".channel_weight"),
    )

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: Sequence[int] = (2, 2, 4, 8),
        middle_blocks: int = 12,
        decoder_blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        levels = len(encoder_blocks)
        if len(decoder_blocks) != levels:
            raise ValueError(
                f"NAFNet: encoder_blocks has {levels} levels and decoder_blocks {len(decoder_blocks)}; "
                "they must have the same number"
            )
        self.multiple = 2**levels
        widths = [width * 2**level for level in range(levels + 1)]
        self.embed = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(widths, encoder_blocks, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths[:-1])
        self.middle = _blocks(widths[-1], middle_blocks)
        upwards = widths[::-1]
        self.ups = nn.ModuleList(nn.Conv2d(c, 2 * c, 1, bias=False) for c in upwards[:-1])
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(upwards[1:], decoder_blocks, strict=True))
        self.restore = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        height, width = rainy.shape[-2:]
        padded = F.pad(rainy, (0, -width % self.multiple, 0, -height % self.multiple))
        # channels last: norms and 1×1 convolutions of a CPU then go through memory in order, twice as fast
        by_pixel = torch.channels_last if padded.device.type == "cpu" else torch.contiguous_format
        features = self.embed(padded.contiguous(memory_format=by_pixel))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            features = decoder(F.pixel_shuffle(up(features), 2) + skip)
        return (self.restore(features) + padded)[..., :height, :width]
