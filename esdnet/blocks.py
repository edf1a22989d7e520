"""The parts of ESDNet and of the two networks built on its skeleton.

Frames are (T, N, C, H, W), time first. Convolutions and norms see T·N images: a batch norm's statistics are
over time and batch together.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esdnet import attention, kernels, native, winograd
from esdnet.neurons import LeakySequence
from esdnet.sizes import crop_to, pad_to_multiple


def over_time(layer: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """A layer for images (N, C, H, W), applied to every frame of (T, N, C, H, W)."""
    return layer(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


def concatenated(first: Tensor, second: Tensor) -> Tensor:
    """Frames side by side along the channels, image by image: that keeps their order of memory."""
    return torch.cat([first.flatten(0, 1), second.flatten(0, 1)], dim=1).unflatten(0, first.shape[:2])


class ThresholdNorm(nn.BatchNorm2d):
    """Threshold-dependent batch norm, tdBN (eq. 3; Zheng et al., AAAI 2021).

    The paper scales the normalised input by α·V_th and then learns an affine map of it. As in the released
    code the factor is the initial value of the affine weight, which is the same function of one parameter
    less.

    Args:
        channels: C.
        threshold: V_th of the neurons that follow.
        alpha: 1/√2 where two branches are added, as they are in a residual block.
    """

    def __init__(self, channels: int, threshold: float, alpha: float = 1 / math.sqrt(2)) -> None:
        self.initial_weight = alpha * threshold
        super().__init__(channels)

    def reset_parameters(self) -> None:
        """Initial values: weight α·V_th, bias 0, statistics of a standard normal."""
        super().reset_parameters()
        nn.init.constant_(self.weight, self.initial_weight)


@dataclass(frozen=True)
class Parts:
    """What a network's blocks are made of.

    Attributes:
        activation: makes the non-linearity: a spiking neuron, or ReLU in the network without spikes.
        norm: makes the norm of so many channels; its second argument scales the initial weight (see
            `ThresholdNorm`).
    """

    activation: Callable[[], nn.Module]
    norm: Callable[[int, float], nn.Module]


def spikes_kept_as_bytes(spikes: Tensor, weight: Tensor) -> contextlib.AbstractContextManager[object]:
    """A convolution inside of `spikes` (0 and 1) by `weight` keeps them for backward in a byte each, on a GPU.

    There memory is scarce and the conversion cheap; a CPU's convolutions take them as they are.
    """
    if not (spikes.is_cuda and torch.is_grad_enabled() and spikes.shape != weight.shape):
        return contextlib.nullcontext()
    return _as_bytes(spikes.shape)


def _as_bytes(shape: torch.Size) -> contextlib.AbstractContextManager[object]:
    """Every tensor of that shape saved for backward inside is one of zeros and ones: autocast may have copied it."""

    def pack(saved: Tensor) -> Tensor | tuple[Tensor, torch.dtype]:
        return (saved.bool(), saved.dtype) if saved.shape == shape else saved

    def unpack(packed: Tensor | tuple[Tensor, torch.dtype]) -> Tensor:
        return packed if isinstance(packed, Tensor) else packed[0].to(packed[1])

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _is_affine(norm: nn.Module) -> bool:
    """Whether a norm is now a fixed map, a·x + b a channel: a batch norm at test time."""
    return isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.track_running_stats and norm.affine


class ConvNorm(nn.Module):
    """Convolution without bias and norm, frame by frame. The kernel is odd, the padding keeps the size."""

    def __init__(
        self,
        parts: Parts,
        channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = parts.norm(out_channels, gain)

    def _conv_norm(self, frames: Tensor, onto: Tensor | None = None, binary: bool = False) -> Tensor:
        images = frames.flatten(0, 1)
        if not winograd.usable(self.conv, images):
            with spikes_kept_as_bytes(images, self.conv.weight) if binary else contextlib.nullcontext():
                made = self.conv(images)
            made = self.norm(made)
        elif torch.is_grad_enabled() or not _is_affine(self.norm):
            made = self.norm(winograd.convolved(self.conv, images))
        elif native.hooked(self.conv) or native.hooked(self.norm):
            made = winograd.normed(self.conv, self.norm, images)
        else:
            base = None if onto is None else onto.flatten(0, 1)
            fixed = winograd.fixed_map(self.norm)
            made = winograd.convolve_and_scale(images, self.conv.weight, *fixed, base)
            onto = None
        made = made.unflatten(0, frames.shape[:2])
        return made if onto is None else onto + made

    def forward(self, frames: Tensor, onto: Tensor | None = None) -> Tensor:
        """(T, N, channels, H, W) to (T, N, out_channels, H / stride, W / stride), added to `onto`.

        `onto` is the caller's no more: without autograd it may become the result.
        """
        return self._conv_norm(frames, onto)


class SpikeConv(ConvNorm):
    """Spike convolution unit, SCU: neuron, convolution, norm. The convolution sees spikes alone.

    With `upscale` the frames are first enlarged that many times, bilinearly, before the neuron (the
    released code's order), so that the convolution's input is binary here too.
    """

    def __init__(
        self,
        parts: Parts,
        channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        gain: float = 1.0,
        upscale: int = 1,
    ) -> None:
        super().__init__(parts, channels, out_channels, kernel, stride, gain)
        self.activation = parts.activation()
        self.upscale = upscale

    def forward(self, frames: Tensor, onto: Tensor | None = None) -> Tensor:
        """(T, N, channels, H, W) to (T, N, out_channels, H · upscale / stride, W · upscale / stride).

        `onto` is as for `ConvNorm`.
        """
        if self.upscale > 1:
            frames = over_time(
                lambda images: F.interpolate(images, scale_factor=self.upscale, mode="bilinear"), frames
            )
        binary = isinstance(self.activation, LeakySequence)
        return self._conv_norm(self.activation(frames), onto, binary)

    @property
    def reach(self) -> float:
        """Accumulates that a spike triggers, away from the border."""
        weight = self.conv.weight
        return weight.numel() / (self.conv.in_channels * math.prod(self.conv.stride))


class SpikeUp(ConvNorm):
    """Twice the size by a transposed convolution of spikes: neuron, 4×4 convolution of stride 2, norm.

    The neuron fires before the frames are enlarged, so that there are a quarter as many as in a `SpikeConv` that
    enlarges first, and no interpolation of real values.
    """

    def __init__(self, parts: Parts, channels: int, out_channels: int) -> None:
        super().__init__(parts, channels, out_channels)
        self.conv: Any = nn.ConvTranspose2d(channels, out_channels, 4, 2, 1, bias=False)
        self.activation = parts.activation()

    def forward(self, frames: Tensor, onto: Tensor | None = None) -> Tensor:
        """(T, N, channels, H, W) to (T, N, out_channels, 2·H, 2·W); `onto` is as for `ConvNorm`."""
        made = over_time(lambda images: self.norm(self.conv(images)), self.activation(frames))
        return made if onto is None else onto + made

    @property
    def reach(self) -> float:
        """Accumulates that a spike triggers, away from the border."""
        return self.conv.weight.numel() / self.conv.in_channels


class ConvSpike(ConvNorm):
    """Convolution, norm, activation: the order of ordinary residual networks and of SEW-ResNet."""

    def __init__(self, parts: Parts, channels: int, out_channels: int) -> None:
        super().__init__(parts, channels, out_channels)
        self.activation = parts.activation()

    def forward(self, frames: Tensor, onto: Tensor | None = None) -> Tensor:
        """(T, N, channels, H, W) to (T, N, out_channels, H, W); `onto`, as for `ConvNorm`, before the activation."""
        return self.activation(self._conv_norm(frames, onto))


class PoolGate(nn.Module):
    """σ(MLP(means) + MLP(maxima)): a weight in (0, 1) for each of K time steps or channels.

    The MLP is linear (K to max(1, K / reduction)), ReLU, linear, without bias, written as 1×1×1
    convolutions so that the authors' weights have the right shape. They are computed as products of matrices, since
    torch takes 0.2 ms to begin a convolution of a single voxel.
    """

    def __init__(self, size: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, size // reduction)
        self.squeeze = nn.Conv3d(size, hidden, 1, bias=False)
        self.expand = nn.Conv3d(hidden, size, 1, bias=False)

    def forward(self, means: Tensor, maxima: Tensor) -> Tensor:
        """(N, K) and (N, K) to (N, K)."""
        pooled = torch.cat([means, maxima])
        from_means, from_maxima = _of_voxels(self.expand, _of_voxels(self.squeeze, pooled).relu()).chunk(2)
        return (from_means + from_maxima).sigmoid()


def _of_voxels(conv: nn.Conv3d, voxels: Tensor) -> Tensor:
    """A 1×1×1 convolution of single voxels, (N, K) to (N, out)."""
    if native.is_portable() or not native.hooked(conv):
        return F.linear(voxels, conv.weight.flatten(1))
    with native.Instead(
        (F.conv3d, conv, lambda voxels, weight, *others: attention.conv_of_voxels(voxels, weight))
    ):
        return conv(voxels[:, :, None, None, None]).flatten(1)


class MixedAttention(nn.Module):
    """Mixed attention unit, MAU (the paper's supplement): temporal, channel, spatial attention in sequence.

        x ─┬───────────── × ─┬──────────── × ─┬───────────────── × ─ ReLU ─
           └─ mean, max      └─ mean, max     └─ mean, max
              over C, H, W      over T, H, W     over T, C
              MLP, σ            MLP, σ           conv 3×3, σ

    The first two pools come from one reading of x: their weights are positive and constant over H and W, so
    that the mean and the maximum of the weighted frames are the weighted means and maxima.

    Args:
        channels, time_steps: C and T.
        kinds: which of the three there are.
        temporal_reduction: hidden units of the temporal MLP are max(1, T / this).
        channel_reduction: likewise for channels.
    """

    KINDS = ("temporal", "channel", "spatial")

    def __init__(
        self,
        channels: int,
        time_steps: int,
        kinds: Collection[str] = KINDS,
        temporal_reduction: int = 4,
        channel_reduction: int = 16,
    ) -> None:
        super().__init__()
        self.temporal = PoolGate(time_steps, temporal_reduction) if "temporal" in kinds else None
        self.channel = PoolGate(channels, channel_reduction) if "channel" in kinds else None
        self.spatial = nn.Conv2d(2, 1, 3, padding=1, bias=False) if "spatial" in kinds else None

    def _weigh(self, means: Tensor, maxima: Tensor) -> Tensor:
        """A weight for each step and channel from the pools over H and W: (T, N, C), or (T, N, 1)."""
        weights = torch.ones_like(means[:, :, :1])
        if self.temporal is not None:
            weights = self.temporal(means.mean(2).T, maxima.amax(2).T).T.unsqueeze(2)
        if self.channel is not None:
            weights = weights * self.channel((means * weights).mean(0), (maxima * weights).amax(0))
        return weights

    def forward(self, frames: Tensor, onto: Tensor | None = None) -> Tensor:
        """(T, N, C, H, W) to the same shape, not negative; added to `onto`."""
        if self.channel is not None and self.spatial is not None and attention.usable(frames):
            spatial = self.spatial
            return attention.attend(frames, onto, self._weigh, lambda maps: spatial(maps).sigmoid())
        if self.temporal is not None or self.channel is not None:
            weights = self._weigh(frames.mean((3, 4)), frames.amax((3, 4)))
            frames = frames * weights[..., None, None]
        if self.spatial is not None:
            maps = torch.stack([frames.mean((0, 2)), frames.amax((0, 2))], dim=1)
            frames = frames * self.spatial(maps).sigmoid()
        return frames.relu() if onto is None else frames.relu() + onto


class SpikingResidualBlock(nn.Module):
    """Spiking residual block, SRB (eq. 1), and with less in it MS-ResNet's.

        x ─┬─ SCU ── SCU ──── + ─ MAU ─ + ─
           ├─ conv 3×3, tdBN ─┘         │
           └────────────────────────────┘

    The shortcut convolution sees the real-valued x, not spikes (in the released code too), which makes it
    the costly part. Without attention and shortcut this is the block of MS-ResNet (membrane shortcut). The
    norm of the second unit starts at 0.2·α·V_th, as in the released code.
    """

    def __init__(
        self, parts: Parts, channels: int, attention: MixedAttention | None = None, shortcut: bool = True
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            SpikeConv(parts, channels, channels), SpikeConv(parts, channels, channels, gain=0.2)
        )
        self.shortcut = ConvNorm(parts, channels, channels) if shortcut else None
        self.attention = attention

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape."""
        branch = self.residual(frames)
        if self.shortcut is not None:
            branch = self.shortcut(frames, branch)
        return branch + frames if self.attention is None else self.attention(branch, frames)


class PostActivationBlock(nn.Module):
    """x + (convolution, norm, activation) twice: the block of ANN-ResNet (ReLU) and SEW-ResNet (spikes)."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvSpike(parts, channels, channels), ConvSpike(parts, channels, channels)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(T, N, C, H, W) to the same shape."""
        return frames + self.residual(frames)


def channel_gate(channels: int, reduction: int) -> nn.Sequential:
    """σ(MLP(mean over H, W)): (N, C, H, W) to one weight a channel, (N, C, 1, 1)."""
    hidden = max(1, channels // reduction)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.Sigmoid(),
    )


class FeatureRefinement(nn.Module):
    """Feature refinement block, FRB (eq. 4): (1 − F)·F̂ + F·Y.

        Y ─┬─ mean over H, W ─ 1×1 (÷8) ─ ReLU ─ 1×1 ─ σ ───────────── F̂ (one value a channel)
           └─ 3×3 ─ 3×3 (÷8) ─ ReLU ─ 3×3 ─ σ ──────────────────────── F

    It works on images of real values, the mean of the frames over time.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = channel_gate(channels, reduction)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        first: Any = self.spatial[0]
        if native.hooked(self.spatial):
            gate = winograd.convolved(first, features, self.spatial)
        else:
            gate = self.spatial[1:](winograd.convolved(first, features))
        return (1 - gate) * self.channel(features) + gate * features


class EncoderDecoder(nn.Module):
    """The skeleton that ESDNet, SpikeRain and VLIF share.

        rainy ─┬─ embedding ─ ×T ─ encoder1 ─┬─────────────────────── join1 ─ decoder1 ─ merge ─ output ─ + ─
               │                           down1                      up1                                 │
               │                             └─ encoder2 ─┬─ join2 ─ decoder2                             │
               │                                        down2  up2                                        │
               │                                          └─ encoder3 ─ bottleneck                        │
               └──────────────────────────────────────────────────────────────────────────────────────────┘

    A join takes the concatenation of what comes up from `up2` or `up1` with what the encoder of its level
    gave; without `join1` the concatenation itself goes on. With `adding` what comes up is added to it (a shortcut from
    membrane to membrane) and there are no joins. Level 1 has the image's size and `dim` channels;
    each level below half of the size and twice the channels. The embedding sees the same image at every step,
    so it is computed once; `executed_once` says so to whoever counts operations by the authors' definition, which
    has it at every step. The first
    name of a module's path is its place above (see `level_of`).

    Args:
        dim: channels of level 1.
        time_steps: T.
        parts: what the units between the stages are made of.
        encoders: stages of levels 1, 2, 3, each from (T, N, C, H, W) to the same shape.
        bottleneck: a stage of level 3.
        decoders: stages of levels 2 and 1. That of level 1 has 2·dim channels, unless `join1` or `adding`.
        join1: whether a unit brings the concatenation at level 1 to `dim` channels, as at level 2.
        start_as_identity: the output convolution starts at zero, hence the network as the identity. The authors'
            start at random; a short training has no time to unlearn the noise that this adds.
        adding: see above; what goes up does so by `SpikeUp`.
    """

    size_multiple = 4
    """What height and width are padded to, by reflection; the output is cropped back."""

    def __init__(
        self,
        dim: int,
        time_steps: int,
        parts: Parts,
        encoders: tuple[nn.Module, nn.Module, nn.Module],
        bottleneck: nn.Module,
        decoders: tuple[nn.Module, nn.Module],
        join1: bool = False,
        start_as_identity: bool = False,
        adding: bool = False,
    ) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.executed_once = {} if adding else {"embedding": time_steps}
        self.embedding = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        self.encoder1, self.encoder2, self.encoder3 = encoders
        self.down1 = SpikeConv(parts, dim, 2 * dim, stride=2)
        self.down2 = SpikeConv(parts, 2 * dim, 4 * dim, stride=2)
        self.bottleneck = bottleneck
        self.adding = adding
        self.up2: ConvNorm
        self.up1: ConvNorm
        if adding:
            self.up2, self.up1 = SpikeUp(parts, 4 * dim, 2 * dim), SpikeUp(parts, 2 * dim, dim)
        else:
            self.up2 = SpikeConv(parts, 4 * dim, 2 * dim, upscale=2)
            self.join2 = SpikeConv(parts, 4 * dim, 2 * dim, kernel=1)
            self.up1 = SpikeConv(parts, 2 * dim, dim, upscale=2)
            self.join1 = SpikeConv(parts, 2 * dim, dim, kernel=1) if join1 else nn.Identity()
        self.decoder2, self.decoder1 = decoders
        self.output = nn.Conv2d(dim if join1 or adding else 2 * dim, 3, 3, padding=1)
        if start_as_identity:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def merge(self, frames: Tensor) -> Tensor:
        """The decoder's frames (T, N, C, H, W) as one image (N, C, H, W): their mean over time."""
        return kernels.mean_over_time(frames)

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore images (N, 3, H, W) in [0, 1], H and W of at least 16; the answer is not clamped."""
        image = pad_to_multiple(rainy, self.size_multiple).contiguous(memory_format=winograd.layout(rainy))
        embedded = self.embedding(image)
        level1 = self.encoder1(embedded.expand(self.time_steps, *embedded.shape))
        level2 = self.encoder2(self.down1(level1))
        level3 = self.bottleneck(self.encoder3(self.down2(level2)))
        if self.adding:
            level2 = self.decoder2(self.up2(level3, level2))
            level1 = self.decoder1(self.up1(level2, level1))
        else:
            level2 = self.decoder2(self.join2(concatenated(self.up2(level3), level2)))
            level1 = self.decoder1(self.join1(concatenated(self.up1(level2), level1)))
        restored = self.output(self.merge(level1)) + image
        return crop_to(restored, *rainy.shape[-2:])


def level_of(name: str) -> str:
    """Which place of `EncoderDecoder` a module belongs to, from its name in `named_modules`.

    >>> level_of("encoder2.3.residual.0.activation")
    'encoder2'
    """
    return name.partition(".")[0]
