"""VLIFNet: visual leaky integrate-and-fire neurons for deraining (Chen et al., AAAI 2026, arXiv 2512.02258).

On ESDNet's skeleton and neurons.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esdnet.blocks import ConvNorm, EncoderDecoder, MixedAttention, Parts, PoolGate, SpikeConv, over_time
from esdnet.network import ATTENTION_KEYS, SKELETON_KEYS, check_neuron, check_sizes, norm_maker, stage
from esdnet.neurons import IntegerSequence, LeakySequence


def pixels_to_time(frames: Tensor) -> Tensor:
    """(T, N, C, H, W) to (4T, N, C, H/2, W/2): the pixels of each 2×2 square in turn, by rows."""
    T, N, C, H, W = frames.shape
    squares = frames.reshape(T, N, C, H // 2, 2, W // 2, 2)
    return squares.permute(0, 4, 6, 1, 2, 3, 5).reshape(4 * T, N, C, H // 2, W // 2)


def time_to_channels(frames: Tensor) -> Tensor:
    """(4T, N, C, H, W) to (T, N, 4C, H, W), the four of a channel side by side, as in pixel-unshuffle."""
    return frames.unflatten(0, (-1, 4)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


def enlarge(frames: Tensor) -> Tensor:
    """Twice the height and width, bilinearly."""
    return over_time(lambda images: F.interpolate(images, scale_factor=2, mode="bilinear"), frames)


class VisualLIF(nn.Module):
    """VLIF: a neuron that integrates over a neighbourhood of pixels as it does over time.

    (T, N, C, H, W) ─ pixels to time ─ NI-LIF over 4T steps ─ time to channels ─ bilinear ×2 ─ 1×1 (4C to C)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neuron = IntegerSequence()
        self.adjust = nn.Conv2d(4 * channels, channels, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape, H and W even; real values."""
        spikes = time_to_channels(self.neuron(pixels_to_time(frames)))
        return over_time(self.adjust, enlarge(spikes))


class FrequencyMix(nn.Module):
    """a·h + b·(x − h) + x·h: high frequencies h (what a neuron makes of x) and the rest, weights learned."""

    def __init__(self) -> None:
        super().__init__()
        self.high = nn.Parameter(torch.ones(1))
        self.low = nn.Parameter(torch.ones(1))

    def forward(self, frames: Tensor, high: Tensor) -> Tensor:
        """Two of (T, N, C, H, W) to one."""
        return self.high * high + self.low * (frames - high) + frames * high


class VisualResidualBlock(nn.Module):
    """Residual block of VLIFNet.

        x ─┬─ LIF ─ mix with x ─ conv, tdBN = u ─ VLIF ─ mix with u ─ conv, tdBN ─ + ─ MAU ─ + ─
           ├─ conv, tdBN ──────────────────────────────────────────────────────────┘         │
           └─────────────────────────────────────────────────────────────────────────────────┘

    Its convolutions see real values: the mixtures are not spikes.
    """

    def __init__(self, parts: Parts, channels: int, time_steps: int) -> None:
        super().__init__()
        self.activation = parts.activation()
        self.mix1 = FrequencyMix()
        self.first = ConvNorm(parts, channels, channels)
        self.visual = VisualLIF(channels)
        self.mix2 = FrequencyMix()
        self.second = ConvNorm(parts, channels, channels, gain=0.2)
        self.shortcut = ConvNorm(parts, channels, channels)
        self.attention = MixedAttention(channels, time_steps)

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape."""
        middle = self.first(self.mix1(frames, self.activation(frames)))
        branch = self.second(self.mix2(middle, self.visual(middle)))
        return self.attention(branch + self.shortcut(frames)) + frames


class SpatialUNet(nn.Module):
    """The stage of level 1: a residual block and a small U around spikes of half the size.

    x ─ block ─┬─ pixels to time ─ NI-LIF ─ time gate ─ 4 steps to 1 ─ ReLU ─ (SCU, MAU) ×2 ─ ×2 ─ + ─ MAU
               └────────────────────────────────────────────────────────────────────────────────┘
    """

    def __init__(self, parts: Parts, channels: int, time_steps: int) -> None:
        super().__init__()
        self.block = VisualResidualBlock(parts, channels, time_steps)
        self.neuron = IntegerSequence()
        self.time_gate = PoolGate(4 * time_steps, 4)
        self.compress = nn.Conv3d(channels, channels, (4, 1, 1), stride=(4, 1, 1), bias=False)
        self.unit1 = SpikeConv(parts, channels, channels)
        self.attention1 = MixedAttention(channels, time_steps)
        self.unit2 = SpikeConv(parts, channels, channels)
        self.attention2 = MixedAttention(channels, time_steps)
        self.attention = MixedAttention(channels, time_steps)

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape, H and W even."""
        outer = self.block(frames)
        inner = self.neuron(pixels_to_time(outer))
        weights = self.time_gate(inner.mean((2, 3, 4)).T, inner.amax((2, 3, 4)).T).T
        inner = inner * weights[:, :, None, None, None]
        inner = self.compress(inner.permute(1, 2, 0, 3, 4)).relu().permute(2, 0, 1, 3, 4)
        inner = self.attention1(self.unit1(inner))
        inner = self.attention2(self.unit2(inner))
        return self.attention(enlarge(inner) + outer)


class VLIF(EncoderDecoder):
    """VLIFNet: rainy image (N, 3, H, W) in [0, 1] in, restored image out.

    ESDNet's encoder-decoder (drawn at `EncoderDecoder`), without its refinement and with the concatenation
    at level 1 brought back to `dim` channels. 14,023,911 parameters.

    Args:
        dim, bottleneck_blocks, time_steps: as for ESDNet.
        encoder_blocks, decoder_blocks: likewise, but what they say of level 1 is not used, here or by the
            authors: that level is one `SpatialUNet` in the encoder and two in the decoder.
        refinement: four more residual blocks at level 1, as the authors' weights for Rain200L have.
        threshold: of the LIF neurons.
        norm: "tdbn" or "bn".
        decoder_units: `SpatialUNet`s of the decoder's level 1.
        start_as_identity: see `EncoderDecoder`.

    The last four are the authors' by default. A short training wants others: each `SpatialUNet` ends in an
    attention whose three gates start at a half, so what leaves it is about an eighth of what came in. At
    first hardly a neuron behind it reaches 0.15, nor, behind a tdBN that starts at 0.11, the half at which
    NI-LIF rounds up.

    Raises:
        ValueError: sizes that the skeleton or a threshold that a neuron cannot have, or another norm.
    """

    size_multiple = 8
    """Two strided convolutions, and squares of pixels at a quarter of the size."""

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^decoder_level1\.", "decoder1.units.0."),
        (r"^additional_sunet_level1\.", "decoder1.units.1."),
        (r"^refinement_blocks\.", "decoder1.refinement."),
        *SKELETON_KEYS,
        *ATTENTION_KEYS,
        (r"\.initial_residual\.", ".block."),
        (r"\.(high|low)_freq_scale_(\d)$", r".mix\2.\1"),
        (r"\.conv1\.", ".first.conv."),
        (r"\.bn1\.", ".first.norm."),
        (r"\.lif_2\.channel_adjust\.", ".visual.adjust."),
        (r"\.conv2\.", ".second.conv."),
        (r"\.bn2\.", ".second.norm."),
        (r"\.shortcut\.0\.", ".shortcut.conv."),
        (r"\.shortcut\.1\.", ".shortcut.norm."),
        (r"\.time_attention\.sharedMLP\.0\.", ".time_gate.squeeze."),
        (r"\.time_attention\.sharedMLP\.2\.", ".time_gate.expand."),
        (r"\.temporal_compress\.0\.", ".compress."),
        (r"\.conv_(\d)\.", r".unit\1.conv."),
        (r"\.bn_(\d)\.", r".unit\1.norm."),
        (r"\.attn_(\d)\.", r".attention\1."),
        (r"\.final_attn\.", ".attention."),
        (r"^down(\d)_\d\.conv\.", r"down\1.conv."),
        (r"^down(\d)_\d\.bn\.", r"down\1.norm."),
        (r"^up\d_(\d)\.conv\.", r"up\1.conv."),
        (r"^up\d_(\d)\.bn\.", r"up\1.norm."),
        (r"^reduce_conv_level(\d)\.", r"join\1.conv."),
        (r"^reduce_bn_level(\d)\.", r"join\1.norm."),
        (r"^output\.0\.", "output."),
    )

    def __init__(
        self,
        dim: int = 48,
        encoder_blocks: Sequence[int] = (4, 4, 8),
        bottleneck_blocks: int = 2,
        decoder_blocks: Sequence[int] = (2, 2),
        time_steps: int = 4,
        refinement: bool = False,
        threshold: float = 0.15,
        norm: str = "tdbn",
        decoder_units: int = 2,
        start_as_identity: bool = False,
    ) -> None:
        check_sizes(dim, encoder_blocks, bottleneck_blocks, decoder_blocks, time_steps)
        check_neuron(threshold)
        parts = Parts(functools.partial(LeakySequence, threshold=threshold), norm_maker(norm, threshold))

        def make_block(channels: int) -> nn.Module:
            return VisualResidualBlock(parts, channels, time_steps)

        def make_unit(channels: int) -> nn.Module:
            return SpatialUNet(parts, channels, time_steps)

        decoder1 = nn.Sequential(OrderedDict(units=stage(make_unit, dim, decoder_units)))
        if refinement:
            decoder1.add_module("refinement", stage(make_block, dim, 4))
        super().__init__(
            dim,
            time_steps,
            parts,
            encoders=(
                make_unit(dim),
                stage(make_block, 2 * dim, encoder_blocks[1]),
                stage(make_block, 4 * dim, encoder_blocks[2]),
            ),
            bottleneck=stage(make_block, 4 * dim, bottleneck_blocks),
            decoders=(stage(make_block, 2 * dim, decoder_blocks[0]), decoder1),
            join1=True,
            start_as_identity=start_as_identity,
        )
