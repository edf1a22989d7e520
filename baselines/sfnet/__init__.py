"""SFNet: residual blocks that split their features into frequencies and weigh the parts anew.

Cui, Tao, Bing, Ren, Gao, Cao, Huang and Knoll, "Selective Frequency Network for Image Restoration", ICLR
2023.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


class FrequencySelection(nn.Module):
    """Weighs the low and the high part of the features, a softmax over both parts' channels (section 3.3).

    The softmax runs over all 2C weights at once, not over the pair of each channel, as released: the weights
    are around 1 / 2C, so that the whole branch is small.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 32)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1)
        self.excite_high = nn.Conv2d(hidden, channels, kernel_size=1)
        self.excite_low = nn.Conv2d(hidden, channels, kernel_size=1)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Two (N, C, H, W) to one."""
        means = self.squeeze((low + high).mean(dim=(-2, -1), keepdim=True))
        logits = torch.cat((self.excite_high(means), self.excite_low(means)), dim=1)
        high_weight, low_weight = torch.softmax(logits, dim=1).chunk(2, dim=1)
        return self.project(high * high_weight + low * low_weight)


class DynamicFilter(nn.Module):
    """A low-pass filter made for each image, and the rest of the image as the high-pass part (section 3.2).

    The filters (one for each group of channels, softmax over the kernel's places, so that they sum to 1) come
    from the channels' means. In training the batch's statistics normalise them: a batch of one image is too
    small.

    `idle_low` and `idle_high` are kept because the released network has them: no output depends on them,
    and they get no gradient.
    """

    def __init__(self, channels: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.groups = groups
        self.idle_low = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.idle_high = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.filters = nn.Conv2d(channels, groups * kernel**2, kernel_size=1, bias=False)
        nn.init.kaiming_normal_(self.filters.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(groups * kernel**2)
        self.select = FrequencySelection(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; H and W above kernel // 2."""
        height, width = features.shape[-2:]
        logits = self.norm(self.filters(features.mean(dim=(-2, -1), keepdim=True)))
        weights = torch.softmax(logits.flatten(1).unflatten(1, (self.groups, self.kernel**2)), dim=-1)
        reach = self.kernel // 2
        grouped = F.pad(features, (reach,) * 4, mode="reflect").unflatten(1, (self.groups, -1))
        # place by place: im2col would need kernel² times the memory
        low = torch.zeros_like(features).unflatten(1, (self.groups, -1))
        for place, weight in enumerate(weights.unbind(dim=-1)):
            row, column = divmod(place, self.kernel)
            shifted = grouped[..., row : row + height, column : column + width]
            low = low + shifted * weight[:, :, None, None, None]
        low = low.flatten(1, 2)
        return self.select(low, features - low)


class GlobalModulation(nn.Module):
    """Scales the mean of each channel, and what differs from it, by learned weights (section 3.4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.zeros(channels))
        self.high = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; at the initial weights only the mean is taken away."""
        mean = features.mean(dim=(-2, -1), keepdim=True)
        return mean * self.low[:, None, None] + (features - mean) * (1 + self.high[:, None, None])


class QuadrantModulation(nn.Module):
    """The same for each quadrant of the image, with weights for each channel and quadrant (section 3.4).

    The initial weights are zero, and so is its output then, as released.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.zeros(4 * channels))
        self.high = nn.Parameter(torch.zeros(4 * channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W), H and W even, to the same shape."""
        quadrants = features.unflatten(-1, (2, -1)).unflatten(-3, (2, -1))  # (N, C, 2, H/2, 2, W/2)
        mean = quadrants.mean(dim=(-3, -1), keepdim=True)
        low, high = (w.view(1, -1, 2, 1, 2, 1) for w in (self.low, self.high))
        return ((quadrants - mean) * high + mean * low).reshape(features.shape)


class ResidualBlock(nn.Module):
    """Convolution, GELU, modulation of both halves of the channels, convolution, plus the input (figure 2).

        x ─► conv, GELU ─┬─► [3×3 filter] ─► global modulation ───┬─► conv ─► + x
                         └─► [5×5 filter] ─► quadrant modulation ─┘

    With `filtered`, each half is first split into frequencies by a dynamic filter.
    """

    def __init__(self, channels: int, filtered: bool, filter_groups: int) -> None:
        super().__init__()
        half = channels // 2
        self.first = _conv(channels, channels, 3)
        self.filter3 = DynamicFilter(half, 3, filter_groups) if filtered else nn.Identity()
        self.filter5 = DynamicFilter(half, 5, filter_groups) if filtered else nn.Identity()
        self.globally = GlobalModulation(half)
        self.locally = QuadrantModulation(half)
        self.second = _conv(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W), H and W even, to the same shape."""
        some, others = F.gelu(self.first(features)).chunk(2, dim=1)
        some, others = self.globally(self.filter3(some)), self.locally(self.filter5(others))
        return features + self.second(torch.cat((some, others), dim=1))


class ImageEmbedding(nn.Module):
    """Features of a shrunk rainy image: four convolutions and instance normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, half = channels // 4, channels // 2
        self.convs = nn.ModuleList(
            (_conv(3, quarter, 3), _conv(quarter, half, 1), _conv(half, half, 3), _conv(half, channels, 1))
        )
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W); H·W above 1."""
        for conv in self.convs[:-1]:
            image = F.gelu(conv(image))
        return self.norm(self.convs[-1](image))


class SFNet(nn.Module):
    """Selective frequency network: a U-net of three scales, fed and supervised at each (figure 2).

        rainy ───► head ─► blocks ───────────────────────────► [ , ] 1×1 ─► blocks ─► tail ─► + ─► restored
                             ▼ stride 2                           ▲ ×2
        1/2 ─► embedding ─► [ , ] ─► blocks ──► [ , ] 1×1 ─► blocks ─► conv ─► + ─► output at 1/2
                                       ▼ stride 2  ▲ ×2
        1/4 ─► embedding ───────────► [ , ] ─► blocks ─► blocks ─► conv ─► + ─► output at 1/4

    At each scale the rainy image, shrunk by taking every second pixel, is added to the output. Only the last
    block of each group has dynamic filters. Height and width must be multiples of 8; a training batch needs
    two images or more (batch normalisation of the filters).

    Args:
        channels: width at full size; twice and four times that below. A multiple of 2 · filter_groups.
        blocks: residual blocks in each of the six groups.
        filter_groups: groups of channels that share a dynamic filter (8 in the paper).

    Raises:
        ValueError: channels do not divide into the groups.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"\.main\.0\.(weight|bias)$", r".\1"),
        (r"^feat_extract\.0\.", "head."),
        (r"^feat_extract\.1\.", "down_half."),
        (r"^feat_extract\.2\.", "down_quarter."),
        (r"^feat_extract\.3\.", "up_half."),
        (r"^feat_extract\.4\.", "up_full."),
        (r"^feat_extract\.5\.", "tail."),
        (r"^Encoder\.0\.layers\.", "encode_full."),
        (r"^Encoder\.1\.layers\.", "encode_half."),
        (r"^Encoder\.2\.layers\.", "encode_quarter."),
        (r"^Decoder\.0\.layers\.", "decode_quarter."),
        (r"^Decoder\.1\.layers\.", "decode_half."),
        (r"^Decoder\.2\.layers\.", "decode_full."),
        (r"^Convs\.0\.", "skip_half."),
        (r"^Convs\.1\.", "skip_full."),
        (r"^ConvsOut\.0\.", "output_quarter."),
        (r"^ConvsOut\.1\.", "output_half."),
        (r"^FAM1\.merge\.", "merge_quarter."),
        (r"^FAM2\.merge\.", "merge_half."),
        (r"^SCM1\.", "embed_quarter."),
        (r"^SCM2\.", "embed_half."),
        (r"^(embed_\w+)\.main\.4\.", r"\1.norm."),
        (r"^(embed_\w+)\.main\.", r"\1.convs."),
        (r"\.conv1\.", ".first."),
        (r"\.conv2\.", ".second."),
        (r"\.dyna\.", ".filter3."),
        (r"\.dyna_2\.", ".filter5."),
        (r"\.lamb_l$", ".idle_low"),
        (r"\.lamb_h$", ".idle_high"),
        (r"\.conv\.", ".filters."),
        (r"\.bn\.", ".norm."),
        (r"\.modulate\.fc\.", ".select.squeeze."),
        (r"\.modulate\.fcs\.0\.", ".select.excite_high."),
        (r"\.modulate\.fcs\.1\.", ".select.excite_low."),
        (r"\.modulate\.out\.", ".select.project."),
        (r"\.global_ap\.fscale_d$", ".globally.low"),
        (r"\.global_ap\.fscale_h$", ".globally.high"),
        (r"\.localap\.l$", ".locally.low"),
        (r"\.localap\.h$", ".locally.high"),
    )

    def __init__(self, channels: int = 32, blocks: int = 16, filter_groups: int = 8) -> None:
        super().__init__()
        if channels % (2 * filter_groups):
            raise ValueError(
                f"SFNet: channels must be a multiple of 2·filter_groups = {2 * filter_groups}, not {channels}"
            )

        def group(width: int) -> nn.Sequential:
            return nn.Sequential(
                *(ResidualBlock(width, place == blocks - 1, filter_groups) for place in range(blocks))
            )

        full, half, quarter = channels, 2 * channels, 4 * channels
        self.head = _conv(3, full, 3)
        self.encode_full, self.encode_half, self.encode_quarter = group(full), group(half), group(quarter)
        self.decode_quarter, self.decode_half, self.decode_full = group(quarter), group(half), group(full)
        self.down_half = _conv(full, half, 3, stride=2)
        self.down_quarter = _conv(half, quarter, 3, stride=2)
        self.embed_half = ImageEmbedding(half)
        self.embed_quarter = ImageEmbedding(quarter)
        self.merge_half = _conv(2 * half, half, 3)
        self.merge_quarter = _conv(2 * quarter, quarter, 3)
        self.up_half = _up(quarter, half)
        self.up_full = _up(half, full)
        self.skip_half = _conv(2 * half, half, 1)
        self.skip_full = _conv(2 * full, full, 1)
        self.output_quarter = _conv(quarter, 3, 3)
        self.output_half = _conv(half, 3, 3)
        self.tail = _conv(full, 3, 3)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The estimates at 1/4 and 1/2 of the size, and the restored image; all supervised (section 3.5)."""
        rainy_half, rainy_quarter = rainy[..., ::2, ::2], rainy[..., ::4, ::4]

        full = self.encode_full(F.gelu(self.head(rainy)))
        half = torch.cat((F.gelu(self.down_half(full)), self.embed_half(rainy_half)), dim=1)
        half = self.encode_half(self.merge_half(half))
        quarter = torch.cat((F.gelu(self.down_quarter(half)), self.embed_quarter(rainy_quarter)), dim=1)
        quarter = self.encode_quarter(self.merge_quarter(quarter))

        quarter = self.decode_quarter(quarter)
        half = torch.cat((F.gelu(self.up_half(quarter)), half), dim=1)
        half = self.decode_half(F.gelu(self.skip_half(half)))
        full = torch.cat((F.gelu(self.up_full(half)), full), dim=1)
        full = self.decode_full(F.gelu(self.skip_full(full)))
        return [
            rainy_quarter + self.output_quarter(quarter),
            rainy_half + self.output_half(half),
            rainy + self.tail(full),
        ]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1], H and W multiples of 8; unclamped."""
        return self.training_outputs(rainy)[-1]
