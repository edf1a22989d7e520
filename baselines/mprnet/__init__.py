"""MPRNet: three stages, on quarters, halves and the whole of the image, each passing on what it has learnt.

Zamir, Arora, Khan, Hayat, Khan, Yang and Shao, "Multi-Stage Progressive Image Restoration", CVPR 2021.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines._layers import ATTENTION_BLOCK_KEYS, ChannelAttentionBlock, Resample, conv1x1, conv3x3


def _stack_halves(image: Tensor, dim: int) -> Tensor:
    """The two halves along a side, one after the other in the batch."""
    return torch.cat(image.chunk(2, dim), dim=0)


def _join_halves(image: Tensor, dim: int) -> Tensor:
    """Undo `_stack_halves`."""
    return torch.cat(image.chunk(2, dim=0), dim=dim)


class Blocks(nn.ModuleList):
    """Channel attention blocks, one after the other, with the same PReLU slope."""

    def __init__(self, count: int, channels: int, reduction: int) -> None:
        super().__init__(ChannelAttentionBlock(channels, reduction) for _ in range(count))

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        for block in self:
            features = block(features, slope)
        return features


class ShallowFeatures(nn.Module):
    """The first look at an image: a 3×3 convolution and a channel attention block."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv = conv3x3(3, channels)
        self.block = ChannelAttentionBlock(channels, reduction)

    def forward(self, image: Tensor, slope: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W)."""
        return self.block(self.conv(image), slope)


class Encoder(nn.Module):
    """Channel attention blocks at each of three scales, wider by `growth` at each (section 3.1).

    With `fused`, the encoder takes in what the stage before had at the same scales, through 1×1 convolutions
    (cross-stage feature fusion, section 3.3, figure 3b).
    """

    def __init__(self, channels: int, growth: int, blocks: int, reduction: int, fused: bool) -> None:
        super().__init__()
        widths = [channels + level * growth for level in range(3)]
        self.level1, self.level2, self.level3 = (Blocks(blocks, width, reduction) for width in widths)
        self.down1 = Resample(widths[0], widths[1], 0.5)
        self.down2 = Resample(widths[1], widths[2], 0.5)
        self.from_encoder = nn.ModuleList(conv1x1(w, w) for w in widths) if fused else None
        self.from_decoder = nn.ModuleList(conv1x1(w, w) for w in widths) if fused else None

    def forward(
        self, features: Tensor, slope: Tensor, before: tuple[list[Tensor], list[Tensor]] | None = None
    ) -> list[Tensor]:
        """(N, C, H, W) to the features at H, H/2, H/4; `before`: the last stage's, encoder and decoder."""
        scales = []
        for level, blocks in enumerate((self.level1, self.level2, self.level3)):
            features = blocks(features, slope)
            if before is not None and self.from_encoder is not None and self.from_decoder is not None:
                features = features + self.from_encoder[level](before[0][level])
                features = features + self.from_decoder[level](before[1][level])
            scales.append(features)
            if level < 2:
                features = (self.down1, self.down2)[level](features)
        return scales


class Decoder(nn.Module):
    """Back up the three scales; each skip passes through a channel attention block (section 3.1)."""

    def __init__(self, channels: int, growth: int, blocks: int, reduction: int) -> None:
        super().__init__()
        widths = [channels + level * growth for level in range(3)]
        self.level1, self.level2, self.level3 = (Blocks(blocks, width, reduction) for width in widths)
        self.skip1 = ChannelAttentionBlock(widths[0], reduction)
        self.skip2 = ChannelAttentionBlock(widths[1], reduction)
        self.up1 = Resample(widths[1], widths[0], 2)
        self.up2 = Resample(widths[2], widths[1], 2)

    def forward(self, scales: list[Tensor], slope: Tensor) -> list[Tensor]:
        """The encoder's features to the decoder's, at H, H/2 and H/4."""
        low = self.level3(scales[2], slope)
        middle = self.level2(self.up2(low) + self.skip2(scales[1], slope), slope)
        high = self.level1(self.up1(middle) + self.skip1(scales[0], slope), slope)
        return [high, middle, low]


class SupervisedAttention(nn.Module):
    """Makes a stage's image and lets that image choose which features go on (section 3.2, figure 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = conv1x1(channels, channels)
        self.image = conv1x1(channels, 3)
        self.mask = conv1x1(3, channels)

    def forward(self, features: Tensor, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) and the rainy image to the features that go on and the stage's estimate, unclamped."""
        estimate = self.image(features) + rainy
        passed = self.features(features) * torch.sigmoid(self.mask(estimate))
        return passed + features, estimate


class Route(nn.Module):
    """Brings stage 2's features of one scale to full resolution and to the width of stage 3."""

    def __init__(self, channels: int, growth: int, level: int, outputs: int) -> None:
        super().__init__()
        widths = [channels + step * growth for step in range(level, -1, -1)]
        self.ups = nn.Sequential(*(Resample(widths[i], widths[i + 1], 2) for i in range(level)))
        self.project = conv1x1(channels, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C + level·growth, H/2^level, W/2^level) to (N, outputs, H, W)."""
        return self.project(self.ups(features))


class OriginalResolutionBlock(nn.Module):
    """Channel attention blocks, a 3×3 convolution, and the input added (section 3.1)."""

    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = Blocks(blocks, channels, reduction)
        self.conv = conv3x3(channels, channels)

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return features + self.conv(self.blocks(features, slope))


class MPRNet(nn.Module):
    """Multi-stage progressive restoration (figure 2).

        four quarters ─► shallow 1 ─► encoder 1 ─► (pairs joined) decoder 1 ─► attention 1 ─► stage 1
                                        │ features           │ features           │ features
        two halves ────► shallow 2 ─► merge 1 ◄──────────────┼────────────────────┘
                                        ▼                    ▼
                                      encoder 2 ─► (halves joined) decoder 2 ─► attention 2 ─► stage 2
                                        │ features           │ features           │ features
        whole image ───► shallow 3 ─► merge 2 ◄──────────────┼────────────────────┘
                                        ▼                    ▼
                                      3 × [original-resolution block, + routes] ─► tail ─► + rainy ─► stage 3

    Every stage predicts a residual to the rainy image. One learned PReLU slope serves all channel attention
    blocks (55 places at the defaults; under 55 keys in the released checkpoints, once here). Patches of a
    stage are independent until they are joined, so they go through together as a batch, which computes the
    same.

    Height and width must be multiples of 8: a quarter of the image is halved twice.

    Args:
        channels: width at full resolution (40 for deraining).
        growth: further channels at each lower scale of stages 1 and 2.
        stage3_growth: further channels of stage 3.
        level_blocks: channel attention blocks at each scale of stages 1 and 2.
        blocks: channel attention blocks in each of stage 3's three blocks.
        reduction: of the channel attention.
        start_as_identity: make the initial weights of the last convolution a hundredth of torch's
            default, so that training starts from the rainy image; short trainings need it. The released code does
            not.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^.*\.body\.1\.weight$", "slope"),
        (r"^shallow_feat(\d)\.0\.", r"shallow\1.conv."),
        (r"^shallow_feat(\d)\.1\.", r"shallow\1.block."),
        (r"^stage(\d)_encoder\.", r"encoder\1."),
        (r"^stage(\d)_decoder\.", r"decoder\1."),
        (r"(en|de)coder_level(\d)\.", r"level\2."),
        (r"skip_attn(\d)\.", r"skip\1."),
        (r"down12\.down\.1\.", "down1.project."),
        (r"down23\.down\.1\.", "down2.project."),
        (r"up21\.up\.1\.", "up1.project."),
        (r"up32\.up\.1\.", "up2.project."),
        *((rf"csff_enc{n + 1}\.", f"from_encoder.{n}.") for n in range(3)),
        *((rf"csff_dec{n + 1}\.", f"from_decoder.{n}.") for n in range(3)),
        (r"^stage3_orsnet\.orb(\d)\.body\.8\.", r"stage3_block\1.conv."),
        (r"^stage3_orsnet\.orb(\d)\.body\.", r"stage3_block\1.blocks."),
        *((rf"^stage3_orsnet\.conv_enc{n + 1}\.", f"encoder_routes.{n}.project.") for n in range(3)),
        *((rf"^stage3_orsnet\.conv_dec{n + 1}\.", f"decoder_routes.{n}.project.") for n in range(3)),
        (r"^stage3_orsnet\.up_enc1\.up\.1\.", "encoder_routes.1.ups.0.project."),
        (r"^stage3_orsnet\.up_dec1\.up\.1\.", "decoder_routes.1.ups.0.project."),
        (r"^stage3_orsnet\.up_enc2\.(\d)\.up\.1\.", r"encoder_routes.2.ups.\1.project."),
        (r"^stage3_orsnet\.up_dec2\.(\d)\.up\.1\.", r"decoder_routes.2.ups.\1.project."),
        (r"^sam12\.", "attention1."),
        (r"^sam23\.", "attention2."),
        (r"^(attention\d)\.conv1\.", r"\1.features."),
        (r"^(attention\d)\.conv2\.", r"\1.image."),
        (r"^(attention\d)\.conv3\.", r"\1.mask."),
        (r"^concat12\.", "merge1."),
        (r"^concat23\.", "merge2."),
        *ATTENTION_BLOCK_KEYS,
        (r"\.body\.0\.weight$", ".first.weight"),
        (r"\.body\.2\.weight$", ".second.weight"),
    )

    def __init__(
        self,
        channels: int = 40,
        growth: int = 20,
        stage3_growth: int = 16,
        level_blocks: int = 2,
        blocks: int = 8,
        reduction: int = 4,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        wide = channels + stage3_growth
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.shallow1 = ShallowFeatures(channels, reduction)
        self.shallow2 = ShallowFeatures(channels, reduction)
        self.shallow3 = ShallowFeatures(channels, reduction)
        self.encoder1 = Encoder(channels, growth, level_blocks, reduction, fused=False)
        self.decoder1 = Decoder(channels, growth, level_blocks, reduction)
        self.attention1 = SupervisedAttention(channels)
        self.merge1 = conv3x3(2 * channels, channels)
        self.encoder2 = Encoder(channels, growth, level_blocks, reduction, fused=True)
        self.decoder2 = Decoder(channels, growth, level_blocks, reduction)
        self.attention2 = SupervisedAttention(channels)
        self.merge2 = conv3x3(2 * channels, wide)
        self.stage3_block1 = OriginalResolutionBlock(wide, blocks, reduction)
        self.stage3_block2 = OriginalResolutionBlock(wide, blocks, reduction)
        self.stage3_block3 = OriginalResolutionBlock(wide, blocks, reduction)
        self.encoder_routes = nn.ModuleList(Route(channels, growth, level, wide) for level in range(3))
        self.decoder_routes = nn.ModuleList(Route(channels, growth, level, wide) for level in range(3))
        self.tail = conv3x3(wide, 3)
        if start_as_identity:
            self.tail.weight.data.mul_(0.01)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The estimates of stages 1, 2 and 3, all supervised (equation 1); the last is the restored image."""
        halves = _stack_halves(rainy, dim=-2)
        quarters = _stack_halves(halves, dim=-1)

        encoded = self.encoder1(self.shallow1(quarters, self.slope), self.slope)
        encoded = [_join_halves(scale, dim=-1) for scale in encoded]
        decoded = self.decoder1(encoded, self.slope)
        passed, first = self.attention1(decoded[0], halves)

        merged = self.merge1(torch.cat((self.shallow2(halves, self.slope), passed), dim=1))
        encoded = self.encoder2(merged, self.slope, (encoded, decoded))
        encoded = [_join_halves(scale, dim=-2) for scale in encoded]
        decoded = self.decoder2(encoded, self.slope)
        passed, second = self.attention2(decoded[0], rainy)

        features = self.merge2(torch.cat((self.shallow3(rainy, self.slope), passed), dim=1))
        for level, block in enumerate((self.stage3_block1, self.stage3_block2, self.stage3_block3)):
            features = block(features, self.slope)
            features = features + self.encoder_routes[level](encoded[level])
            features = features + self.decoder_routes[level](decoded[level])
        return [_join_halves(first, dim=-2), second, rainy + self.tail(features)]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1], H and W multiples of 8; unclamped."""
        return self.training_outputs(rainy)[-1]
