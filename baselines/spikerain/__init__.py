"""SpikeRain, a spiking deraining network of dense blocks (WACV 2026), on ESDNet's skeleton and neurons."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from esdnet.blocks import ConvNorm, EncoderDecoder, Parts, channel_gate, over_time
from esdnet.network import SKELETON_KEYS, check_neuron, check_sizes, norm_maker, stage
from esdnet.neurons import LeakySequence


class MultiDimensionalGate(nn.Module):
    """MDSA: three gates in sequence, each a weight in (0, 1).

    One weight an image from its mean over T, C, H, W; one a channel from the mean over T, H, W through an
    MLP (÷16); one a pixel and step from a 3×3 convolution of the mean over channels. The first two means
    come from one reading of the frames. Linear maps are written as 3-D convolutions so that the authors'
    weights have the right shape.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.image = nn.Conv3d(1, 1, 1)
        self.squeeze = nn.Conv3d(channels, hidden, 1)
        self.expand = nn.Conv3d(hidden, channels, 1)
        self.spatial = nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape."""
        means = frames.mean((0, 3, 4))[:, :, None, None, None]  # (N, C, 1, 1, 1)
        weights = self.image(means.mean(1, keepdim=True)).sigmoid()
        weights = weights * self.expand(self.squeeze(means * weights).relu()).sigmoid()
        frames = frames * weights.squeeze(-1)
        maps = frames.mean(2).transpose(0, 1).unsqueeze(1)  # (N, 1, T, H, W)
        return frames * self.spatial(maps).sigmoid().squeeze(1).transpose(0, 1).unsqueeze(2)


class DenseSpikingBlock(nn.Module):
    """DSRB: four spike convolution units, each of which sees the block's input and what those before it gave.

        x ─┬─ neuron ─┬─ conv, norm = f₀ ─ neuron ─┬─ conv, norm = f₁ ─ … ─ neuron ─┬─ 1×1 ─ MDSA ─ + ─
           │          └───────────────────────────(cat)──────────── … ────────────(cat)             │
           └────────────────────────────────────────────────────────────────────────────────────────┘

    A neuron acts element by element, so the spikes of each feature map are made once and serve every later
    unit; the authors' code makes them anew from each concatenation.
    """

    def __init__(self, parts: Parts, channels: int, growth: int = 24, layers: int = 4) -> None:
        super().__init__()
        self.activations = nn.ModuleList(parts.activation() for _ in range(layers + 1))
        self.layers = nn.ModuleList(ConvNorm(parts, channels + i * growth, growth) for i in range(layers))
        self.fuse = nn.Conv2d(channels + layers * growth, channels, 1, bias=False)
        self.attention = MultiDimensionalGate(channels)

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape."""
        first, *others = self.activations
        spikes = first(frames)
        for layer, activation in zip(self.layers, others, strict=True):
            spikes = torch.cat([spikes, activation(layer(spikes))], dim=2)
        return self.attention(over_time(self.fuse, spikes)) + frames


class AdaptiveRefinement(nn.Module):
    """ARFE: g·c + (1 − g)·s + x; c and s are the input weighted by channel and by pixel, g is a gate.

    x ─┬─ mean over H, W ─ 1×1 (÷8) ─ ReLU ─ 1×1 ─ σ ─ ·x = c ─┬─ 1×1 of [x, c, s] ─ σ = g
       └─ 1×1 (÷8) ─ ReLU ─ 5×5 to one map ─ σ ─────── ·x = s ─┘
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = channel_gate(channels, reduction)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 1, 5, padding=2), nn.Sigmoid()
        )
        self.gate = nn.Sequential(nn.Conv2d(3 * channels, channels, 1), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        by_channel, by_pixel = self.channel(features) * features, self.spatial(features) * features
        gate = self.gate(torch.cat([features, by_channel, by_pixel], dim=1))
        return gate * by_channel + (1 - gate) * by_pixel + features


class SpikeRain(EncoderDecoder):
    """SpikeRain: rainy image (N, 3, H, W) in [0, 1] in, restored image out.

    ESDNet's encoder-decoder (drawn at `EncoderDecoder`) with dense blocks, plain batch norm, a learned
    weighting of the time steps in place of their mean, and another refinement. The defaults are size M
    (4,434,392 parameters); size S is dim 32, encoder [2, 2, 4], bottleneck 1, decoder [1, 1] (1.590 M) and
    L dim 64, [6, 6, 8], 4, [4, 4] (8.049 M).

    Args:
        dim, encoder_blocks, bottleneck_blocks, decoder_blocks, time_steps: as for ESDNet.
        growth: channels that each unit of a dense block adds.
        layers: units of a dense block.
        norm: "bn", or "tdbn". The authors' class has the name of the second and is the first.
        beta, threshold, surrogate, alpha: the neurons', see `LeakySequence`.
        start_as_identity: see `EncoderDecoder`.

    Raises:
        ValueError: sizes that the skeleton or numbers that a neuron cannot have, or another norm.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        *SKELETON_KEYS,
        (r"\.layers\.(\d)\.1\.", r".layers.\1.conv."),
        (r"\.layers\.(\d)\.2\.bn\.", r".layers.\1.norm."),
        (r"\.lff\.1\.", ".fuse."),
        (r"\.attn\.temporal_fc\.1\.", ".attention.image."),
        (r"\.attn\.channel_fc\.1\.", ".attention.squeeze."),
        (r"\.attn\.channel_fc\.3\.", ".attention.expand."),
        (r"\.attn\.spatial_conv\.0\.", ".attention.spatial."),
        (r"^downsample_(\d)_to_\d\.maxpool_conv\.1\.", r"down\1.conv."),
        (r"^downsample_(\d)_to_\d\.maxpool_conv\.2\.bn\.", r"down\1.norm."),
        (r"^upsample_\d_to_(\d)\.up\.1\.", r"up\1.conv."),
        (r"^upsample_\d_to_(\d)\.up\.2\.bn\.", r"up\1.norm."),
        (r"^reduce_channels_2\.1\.", "join2.conv."),
        (r"^reduce_channels_2\.2\.bn\.", "join2.norm."),
        (r"^temporal_fusion\.weights$", "step_weights"),
        (r"^refinement\.ca\.", "refinement.channel."),
        (r"^refinement\.sa\.", "refinement.spatial."),
        (r"^output_conv\.", "output."),
    )

    def __init__(
        self,
        dim: int = 48,
        encoder_blocks: Sequence[int] = (4, 4, 8),
        bottleneck_blocks: int = 2,
        decoder_blocks: Sequence[int] = (2, 2),
        time_steps: int = 4,
        growth: int = 24,
        layers: int = 4,
        norm: str = "bn",
        beta: float = 0.5,
        threshold: float = 0.15,
        surrogate: str = "sigmoid",
        alpha: float = 4.0,
        start_as_identity: bool = False,
    ) -> None:
        check_sizes(dim, encoder_blocks, bottleneck_blocks, decoder_blocks, time_steps)
        check_neuron(threshold, beta, alpha)
        neuron = functools.partial(
            LeakySequence, beta=beta, threshold=threshold, surrogate=surrogate, alpha=alpha
        )
        parts = Parts(activation=neuron, norm=norm_maker(norm, threshold))

        def make_stage(channels: int, count: int) -> nn.Sequential:
            return stage(lambda width: DenseSpikingBlock(parts, width, growth, layers), channels, count)

        first, second, third = encoder_blocks
        super().__init__(
            dim,
            time_steps,
            parts,
            encoders=(make_stage(dim, first), make_stage(2 * dim, second), make_stage(4 * dim, third)),
            bottleneck=make_stage(4 * dim, bottleneck_blocks),
            decoders=(make_stage(2 * dim, decoder_blocks[0]), make_stage(2 * dim, decoder_blocks[1])),
            start_as_identity=start_as_identity,
        )
        self.step_weights = nn.Parameter(torch.full((time_steps,), 1 / time_steps))
        self.refinement = AdaptiveRefinement(2 * dim)

    def merge(self, frames: Tensor) -> Tensor:
        """Mean over time with learned (softmax) weights, refined."""
        weights = self.step_weights.softmax(0).view(-1, 1, 1, 1, 1)
        return self.refinement((frames * weights).sum(0))
