"""Layers that several of the published networks have in common, in one place.

MPRNet introduced the channel attention block; ELFormer and HPCNet took it over and mix it with Restormer's
transformer blocks. Where their code has a module object in many places (one PReLU, hence one learned scalar),
the network here owns the scalar and hands it to the blocks as `slope`, so that a state_dict holds it once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# what the Restormer-derived code bases call the parts of a transformer block, and what they are called here
TRANSFORMER_KEYS: tuple[tuple[str, str], ...] = (
    (r"norm1\.body\.", "attention_norm."),
    (r"norm2\.body\.", "feed_norm."),
    (r"attn\.qkv_dwconv\.", "attention.local."),
    (r"attn\.qkv\.", "attention.embed."),
    (r"attn\.project_out\.", "attention.project."),
    (r"attn\.temperature", "attention.temperature"),
    (r"ffn\.project_in\.", "feed.embed."),
    (r"ffn\.dwconv\.", "feed.local."),
    (r"ffn\.project_out\.", "feed.project."),
)

# the same for the blocks with channel attention
ATTENTION_BLOCK_KEYS: tuple[tuple[str, str], ...] = (
    (r"conv_du\.0\.", "squeeze."),
    (r"conv_du\.2\.", "excite."),
    (r"depth_conv\.", "depthwise."),
    (r"point_conv\.", "pointwise."),
    (r"\.CA\.", ".attention."),
    (r"\.CA_fea\.", ".attention."),
    (r"\.DSC\.", ".mix."),
)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution without bias that keeps the size (or divides it by the stride)."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1×1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)


def resize(features: Tensor, factor: float) -> Tensor:
    """Bilinear re-sampling of (N, C, H, W) by `factor`: corners not aligned, no antialiasing."""
    return F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)


class Resample(nn.Module):
    """Bilinear re-sampling by `factor`, then a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.project = conv1x1(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H·factor, W·factor)."""
        return self.project(resize(features, self.factor))


class ChannelAttention(nn.Module):
    """Each channel times a weight in (0, 1) that two 1×1 convolutions derive from the channels' means."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = conv1x1(channels, channels // reduction)
        self.excite = conv1x1(channels // reduction, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        means = features.mean(dim=(-2, -1), keepdim=True)
        return features * torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


class SeparableConv(nn.Module):
    """A 3×3 convolution of each channel alone, then a 1×1 convolution across them; both with bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return self.pointwise(self.depthwise(features))


class ChannelAttentionBlock(nn.Module):
    """Convolution, PReLU, convolution, channel attention, plus the input: MPRNet's CAB."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; `slope` (1,) is the PReLU's."""
        branch = self.second(F.prelu(self.first(features), slope))
        return features + self.attention(branch)


class Fusion(nn.Module):
    """What a separable convolution and channel attention make of two feature maps, plus the first of them."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.mix = SeparableConv(2 * channels, channels)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, kept: Tensor, other: Tensor) -> Tensor:
        """Two (N, C, H, W) to one; `kept` passes unchanged through the shortcut."""
        return kept + self.attention(self.mix(torch.cat((kept, other), dim=1)))


class SeparableAttentionBlock(nn.Module):
    """A channel attention block of separable convolutions whose shortcut is a `Fusion` with the input."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.first = SeparableConv(channels, channels)
        self.second = SeparableConv(channels, channels)
        self.attention = ChannelAttention(channels, reduction)
        self.fuse = Fusion(channels, reduction)

    def forward(self, features: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; `slope` (1,) is the PReLU's."""
        branch = self.second(F.prelu(self.first(features), slope))
        return self.fuse(self.attention(branch), features)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with weight and bias (epsilon 1e-5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        last = features.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias).permute(0, 3, 1, 2)


def attend_channels(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Attention among channels: each becomes a mixture of those of its head that look like it over the image.

    The cost grows with the number of pixels, not with its square.

    Args:
        query, key, value: (N, C, H, W).
        temperature: (heads, 1, 1), the factor on the cosine similarities; heads divides C.

    Returns:
        (N, C, H, W).
    """
    heads = temperature.shape[0]
    query, key, mixed = (t.unflatten(1, (heads, -1)).flatten(3) for t in (query, key, value))
    similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
    mixed = torch.softmax(similarity * temperature, dim=-1) @ mixed
    return mixed.reshape(value.shape)


class TransposedAttention(nn.Module):
    """Restormer's attention among channels; queries, keys, values by 1×1 and depthwise 3×3 convolution."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.embed = conv1x1(channels, 3 * channels)
        self.local = nn.Conv2d(
            3 * channels, 3 * channels, kernel_size=3, padding=1, groups=3 * channels, bias=False
        )
        self.project = conv1x1(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        query, key, value = self.local(self.embed(features)).chunk(3, dim=1)
        return self.project(attend_channels(query, key, value, self.temperature))


class GatedFeedForward(nn.Module):
    """Restormer's feed-forward: one half of the widened features, through the activation, gates the other.

    Args:
        channels: of input and output.
        hidden: width of each half.
        activation: on the gating half; GELU in Restormer, a PReLU with a slope of its own in ELFormer.
    """

    def __init__(self, channels: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.embed = conv1x1(channels, 2 * hidden)
        self.local = nn.Conv2d(
            2 * hidden, 2 * hidden, kernel_size=3, padding=1, groups=2 * hidden, bias=False
        )
        self.activation = activation
        self.project = conv1x1(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate, value = self.local(self.embed(features)).chunk(2, dim=1)
        return self.project(self.activation(gate) * value)


class TransformerBlock(nn.Module):
    """Restormer's block: attention among channels, then the gated feed-forward, each with norm and shortcut.

    Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022, figure
    2.

    Args:
        channels: width; divisible by `heads`.
        heads: of the attention.
        expansion: the feed-forward's hidden width is channels · expansion, rounded down.
        activation: in the feed-forward.
    """

    def __init__(self, channels: int, heads: int, expansion: float, activation: nn.Module) -> None:
        super().__init__()
        self.attention_norm = ChannelNorm(channels)
        self.attention = TransposedAttention(channels, heads)
        self.feed_norm = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, int(channels * expansion), activation)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features = features + self.attention(self.attention_norm(features))
        return features + self.feed(self.feed_norm(features))
