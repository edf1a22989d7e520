"""ELFormer: rain is removed at half resolution, and what was removed guides the recovery at full resolution.

Jiang, Wang, Chen, Wang, Cui and Lin, "Magic ELF: Image Deraining Meets Association Learning and Transformer",
ACM Multimedia 2022. This is the network that the authors released (`ALformer`), which is the one that the
ESDNet paper compares with; the paper's own main model is a little wider (1.53 M parameters).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._layers import (
    ATTENTION_BLOCK_KEYS,
    TRANSFORMER_KEYS,
    ChannelAttention,
    ChannelAttentionBlock,
    ChannelNorm,
    Fusion,
    GatedFeedForward,
    Resample,
    SeparableAttentionBlock,
    SeparableConv,
    TransformerBlock,
    attend_channels,
    conv1x1,
    conv3x3,
    resize,
)


def _former(channels: int, heads: int, expansion: float) -> TransformerBlock:
    return TransformerBlock(channels, heads, expansion, nn.PReLU())


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)


class CrossAttention(nn.Module):
    """Attention among channels: the rain asks, the image answers; depthwise 3×3 convolutions come first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1, 1, 1))
        self.query = _depthwise(channels)
        self.key = _depthwise(channels)
        self.value = _depthwise(channels)
        self.project = conv1x1(channels, channels)

    def forward(self, rain: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Three (N, C, H, W), normalised, to one."""
        mixed = attend_channels(self.query(rain), self.key(keys), self.value(values), self.temperature)
        return self.project(mixed)


class CrossTransformerBlock(nn.Module):
    """A transformer block whose queries are the rain, and whose keys, values and shortcut are the image.

    The released code names the norms the other way about: its `norm_key` is on what becomes the query.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        self.query_norm = ChannelNorm(channels)
        self.key_norm = ChannelNorm(channels)
        self.value_norm = ChannelNorm(channels)
        self.attention = CrossAttention(channels)
        self.feed_norm = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, int(channels * expansion), nn.PReLU())

    def forward(self, rain: Tensor, image: Tensor) -> Tensor:
        """Two (N, C, H, W) to one."""
        attended = self.attention(self.query_norm(rain), self.key_norm(image), self.value_norm(image))
        features = image + attended
        return features + self.feed(self.feed_norm(features))


class Association(nn.Module):
    """Finds in the rainy image the background that the rain had hidden (multi-input attention module).

    rainy ─► conv, stride 2 ─► keys, values ─┐
    rain  ─► conv ───────────► queries ──────┴─► cross-attention block ─┐
    background ─► conv ─────────────────────────────────────────────────┴─► fusion
    """

    def __init__(self, channels: int, reduction: int, expansion: float) -> None:
        super().__init__()
        self.rainy = conv3x3(3, channels, stride=2)
        self.rain = conv3x3(3, channels)
        self.background = conv3x3(3, channels)
        self.former = CrossTransformerBlock(channels, expansion)
        self.fuse = Fusion(channels, reduction)

    def forward(self, rainy: Tensor, rain: Tensor, background: Tensor) -> Tensor:
        """(N, 3, H, W) and twice (N, 3, H/2, W/2) to (N, C, H/2, W/2)."""
        texture = self.former(self.rain(rain), self.rainy(rainy))
        return self.fuse(self.background(background), texture)


class Gather(nn.Module):
    """Four feature maps to one: the last two are mixed, the result with the second, that with the first."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.mix1 = SeparableConv(2 * channels, channels)
        self.mix2 = SeparableConv(2 * channels, channels)
        self.mix3 = SeparableConv(2 * channels, channels)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
        """Four (N, C, H, W) to one."""
        mixed = self.mix1(torch.cat((third, fourth), dim=1))
        mixed = self.mix2(torch.cat((second, mixed), dim=1))
        mixed = self.mix3(torch.cat((first, mixed), dim=1))
        return mixed + self.attention(mixed)


class EncoderLevel(nn.Module):
    """A separable attention block, fused with its input."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.block = SeparableAttentionBlock(channels, reduction)
        self.fuse = Fusion(channels, reduction)

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return self.fuse(features, self.block(features, slope))


class DecoderLevel(nn.Module):
    """What comes from below and the three encoder levels, gathered; then a channel attention block, fused."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.gather = Gather(channels, reduction)
        self.block = ChannelAttentionBlock(channels, reduction)
        self.fuse = Fusion(channels, reduction)

    def forward(self, below: Tensor, same: Tensor, near: Tensor, far: Tensor, slope: Tensor) -> Tensor:
        """Four (N, C, H, W) to one."""
        features = self.gather(below, same, near, far)
        return self.fuse(features, self.block(features, slope))


class Encoder(nn.Module):
    """Three levels, each at half the size of the one before; the first halves its input too."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.level1, self.level2, self.level3 = (EncoderLevel(channels, reduction) for _ in range(3))
        self.down1, self.down2, self.down3 = (Resample(channels, channels, 0.5) for _ in range(3))

    def forward(self, features: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) to the features at H/2, H/4 and H/8."""
        high = self.level1(self.down1(features), slope)
        middle = self.level2(self.down2(high), slope)
        return high, middle, self.level3(self.down3(middle), slope)


class Decoder(nn.Module):
    """Back up; every level sees all three of the encoder's, brought to its size.

    The lowest level has nothing below it and takes the encoder's lowest twice, as released.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.level1, self.level2, self.level3 = (DecoderLevel(channels, reduction) for _ in range(3))
        self.up1, self.up2, self.up3 = (Resample(channels, channels, 2) for _ in range(3))
        self.level3_to_2 = Resample(channels, channels, 2)
        self.level3_to_1 = Resample(channels, channels, 4)
        self.level2_to_1 = Resample(channels, channels, 2)
        self.level1_to_3 = Resample(channels, channels, 0.25)
        self.level2_to_3 = Resample(channels, channels, 0.5)
        self.level1_to_2 = Resample(channels, channels, 0.5)

    def forward(self, encoded: tuple[Tensor, Tensor, Tensor], slope: Tensor) -> Tensor:
        """The encoder's three feature maps (H/2, H/4, H/8) to (N, C, H, W)."""
        high, middle, low = encoded
        features = self.level3(low, low, self.level2_to_3(middle), self.level1_to_3(high), slope)
        features = self.level2(
            self.up3(features), middle, self.level1_to_2(high), self.level3_to_2(low), slope
        )
        features = self.level1(
            self.up2(features), high, self.level2_to_1(middle), self.level3_to_1(low), slope
        )
        return self.up1(features)


class TwoPaths(nn.Module):
    """The same features through transformer blocks at full size and through the U-net, then fused."""

    def __init__(self, channels: int, blocks: int, heads: int, reduction: int, expansion: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_former(channels, heads, expansion) for _ in range(blocks)))
        self.conv = conv3x3(channels, channels)
        self.encoder = Encoder(channels, reduction)
        self.decoder = Decoder(channels, reduction)
        self.fuse = Fusion(channels, reduction)

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; H and W multiples of 8."""
        same = features + self.conv(self.blocks(features))
        return self.fuse(same, self.decoder(self.encoder(features, slope), slope))


class ShallowFeatures(nn.Module):
    """A 3×3 convolution and a channel attention block."""

    def __init__(self, inputs: int, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, channels)
        self.block = ChannelAttentionBlock(channels, reduction)

    def forward(self, image: Tensor, slope: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, C, H, W)."""
        return self.block(self.conv(image), slope)


class RainNet(nn.Module):
    """Estimates the rain of the halved image, seeing beside it the four quarters of the whole one."""

    def __init__(self, channels: int, blocks: int, heads: int, reduction: int, expansion: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.shallow_half = ShallowFeatures(3, channels, reduction)
        self.shallow_quarters = ShallowFeatures(12, channels, reduction)
        self.former = _former(channels, 1, expansion)
        self.merge = conv3x3(2 * channels, channels)
        self.paths = TwoPaths(channels, blocks, heads, reduction, expansion)
        self.tail = conv3x3(channels, 3)

    def forward(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the rain and the restored image, both (N, 3, H/2, W/2)."""
        half = resize(rainy, 0.5)
        quarters = torch.cat([q for rows in rainy.chunk(2, dim=-2) for q in rows.chunk(2, dim=-1)], dim=1)
        detail = self.former(self.shallow_quarters(quarters, self.slope))
        features = self.merge(torch.cat((self.shallow_half(half, self.slope), detail), dim=1))
        rain = self.tail(self.paths(features, self.slope))
        return rain, half - rain


class RecoveryNet(nn.Module):
    """From the rainy image, its rain and its background at half size, the rain at full size."""

    def __init__(self, channels: int, blocks: int, heads: int, reduction: int, expansion: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.associate = Association(channels, reduction, expansion)
        self.former = _former(channels, 1, expansion)
        self.paths = TwoPaths(channels, blocks, heads, reduction, expansion)
        self.deepen = conv3x3(channels, 2 * channels)
        self.tail = conv3x3(channels // 2, 3)

    def forward(self, rainy: Tensor, rain: Tensor, background: Tensor) -> Tensor:
        """(N, 3, H, W) and twice (N, 3, H/2, W/2) to (N, 3, H, W)."""
        features = self.former(self.associate(rainy, rain, background))
        deep = self.deepen(self.paths(features, self.slope))
        # as released: channel 4c + 2a + b goes to row 2h + b, column 2w + a; pixel_shuffle swaps a and b
        deep = deep.unflatten(1, (-1, 2, 2)).transpose(2, 3).flatten(1, 3)
        return self.tail(F.pixel_shuffle(deep, 2)) + resize(rain, 2)


class ELFormer(nn.Module):
    """Association of rain removal and background recovery (figure 2).

        rainy ─┬─► half size ──┬─► RainNet ─► rain ─┬─► - ─► half-size estimate
               ├─► 4 quarters ─┘                    │             │
               │                                    ▼             ▼
               ├──────────────► RecoveryNet (association, then the same two paths) ─► rain at full size
               └────────────────────────────────────────────────────────────────────► - ─► restored

    Each sub-network shares one learned PReLU slope among its channel attention blocks; every feed-forward has
    its own. Height and width must be multiples of 16: the quarters are half size and are halved three times.

    Args:
        channels: width everywhere; divisible by `heads` and by 4.
        blocks: transformer blocks of the path that keeps the resolution.
        heads: of those blocks; the others have one.
        reduction: of the channel attention.
        expansion: of the feed-forwards.
        start_as_identity: make the initial weights of the two last convolutions a hundredth of torch's
            default, so that training starts from the rainy image; short trainings need it. The released code does
            not.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^(dsnet|ssnet)\..*\.body\.1\.weight$", r"\1.slope"),
        (r"shallow_feat1\.0\.", "shallow_half.conv."),
        (r"shallow_feat1\.1\.", "shallow_half.block."),
        (r"shallow_feat2\.0\.", "shallow_quarters.conv."),
        (r"shallow_feat2\.1\.", "shallow_quarters.block."),
        (r"\.fuse_conv\.", ".merge."),
        (r"\.former\.0\.", ".former."),
        (r"\.orsnet\.orb\.modules_body\.", ".paths.blocks."),
        (r"\.orsnet\.orb\.conv\.", ".paths.conv."),
        (r"\.(ds|ss)nnet_(en|de)coder\.", r".paths.\2coder."),
        (r"\.S2FB_fuse\.", ".paths.fuse."),
        (r"\.(en|de)coder_level(\d)\.", r".level\2."),
        (r"\.CAB1\.", ".block."),
        (r"\.S2FB0\.DSC(\d)\.", r".gather.mix\1."),
        (r"\.S2FB0\.", ".gather."),
        (r"\.S2FB2\.", ".fuse."),
        (r"\.down_stage(\d)\.down\.1\.", r".down\1.project."),
        (r"\.up_stage(\d)\.up\.1\.", r".up\1.project."),
        (r"\.(?:down|up)_(\d)(\d)\.(?:down|up)\.1\.", r".level\1_to_\2.project."),
        (r"\.stem\.conv_stem0\.", ".associate.rainy."),
        (r"\.stem\.conv_stem2\.", ".associate.rain."),
        (r"\.stem\.conv_stem3\.", ".associate.background."),
        (r"\.stem\.S2FB\.", ".associate.fuse."),
        (r"\.stem\.former\.norm_key\.body\.", ".associate.former.query_norm."),
        (r"\.stem\.former\.norm_query\.body\.", ".associate.former.key_norm."),
        (r"\.stem\.former\.norm_value\.body\.", ".associate.former.value_norm."),
        (r"\.stem\.former\.attn\.q\.", ".associate.former.attention.query."),
        (r"\.stem\.former\.attn\.k\.", ".associate.former.attention.key."),
        (r"\.stem\.former\.attn\.v\.", ".associate.former.attention.value."),
        (r"\.stem\.former\.", ".associate.former."),
        (r"\.deep_conv\.", ".deepen."),
        *ATTENTION_BLOCK_KEYS,
        *TRANSFORMER_KEYS,
        (r"ffn\.act1\.", "feed.activation."),
        (r"\.body\.0\.", ".first."),
        (r"\.body\.2\.", ".second."),
        (r"^dsnet\.", "remove."),
        (r"^ssnet\.", "recover."),
    )

    def __init__(
        self,
        channels: int = 48,
        blocks: int = 5,
        heads: int = 2,
        reduction: int = 4,
        expansion: float = 2.66,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        self.remove = RainNet(channels, blocks, heads, reduction, expansion)
        self.recover = RecoveryNet(channels, blocks, heads, reduction, expansion)
        if start_as_identity:
            self.remove.tail.weight.data.mul_(0.01)
            self.recover.tail.weight.data.mul_(0.01)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The half-size estimate (N, 3, H/2, W/2) and the restored image; both are supervised."""
        rain, background = self.remove(rainy)
        return [background, rainy - self.recover(rainy, rain, background)]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1], H and W multiples of 16; unclamped."""
        return self.training_outputs(rainy)[-1]
