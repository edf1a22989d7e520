"""The parts of ESDNet."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from esdnet import LeakySequence, blocks
from esdnet.blocks import (
    ConvNorm,
    FeatureRefinement,
    MixedAttention,
    Parts,
    PostActivationBlock,
    SpikeConv,
    SpikingResidualBlock,
    ThresholdNorm,
    level_of,
)

PARTS = Parts(LeakySequence, lambda channels, gain: ThresholdNorm(channels, gain * 0.15))


def test_threshold_norm_starts_at_alpha_times_the_threshold() -> None:
    norm = ThresholdNorm(3, 0.15)
    assert torch.allclose(norm.weight, torch.full((3,), 0.15 / math.sqrt(2)))
    images = torch.randn(40, 3, 8, 8) * 3 + 2
    assert norm(images).std().item() == pytest.approx(0.15 / math.sqrt(2), rel=1e-2)


def test_norm_statistics_are_over_time_and_batch_together() -> None:
    unit = ConvNorm(PARTS, 2, 3).train()
    frames = torch.randn(4, 5, 2, 8, 8)
    per_channel = unit(frames).transpose(0, 2).flatten(1)
    assert torch.allclose(per_channel.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(per_channel.std(1), torch.full((3,), 0.15 / math.sqrt(2)), rtol=1e-2)


@pytest.mark.parametrize(("stride", "upscale", "size"), [(1, 1, 8), (2, 1, 4), (1, 2, 16)])
def test_spike_convolution_sees_spikes_alone(stride: int, upscale: int, size: int) -> None:
    unit = SpikeConv(PARTS, 2, 3, stride=stride, upscale=upscale)
    seen = []
    unit.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert unit(torch.randn(4, 1, 2, 8, 8)).shape == (4, 1, 3, size, size)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}


def test_spikes_kept_as_bytes_give_the_same_gradients() -> None:
    conv = torch.nn.Conv2d(3, 5, 3, bias=False)
    spikes = (torch.rand(2, 3, 8, 8) > 0.7).float().requires_grad_()
    expected = torch.autograd.grad(conv(spikes).square().sum(), [spikes, conv.weight])
    with blocks._as_bytes(spikes.shape):
        made = conv(spikes)
    saved = made.grad_fn._saved_input  # type: ignore[union-attr]
    assert torch.equal(saved, spikes) and saved.data_ptr() != spikes.data_ptr()
    for got, same in zip(
        torch.autograd.grad(made.square().sum(), [spikes, conv.weight]), expected, strict=True
    ):
        assert torch.equal(got, same)


def naive_attention(unit: MixedAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, one attention after the other, on (T, N, C, H, W)."""

    def gate(mlp: nn.Module, pooled: torch.Tensor) -> torch.Tensor:
        return mlp.expand(mlp.squeeze(pooled[..., None, None, None]).relu()).flatten(1)

    x = x.transpose(0, 1)
    for mlp, axis in ((unit.temporal, 1), (unit.channel, 2)):
        others = [d for d in (1, 2, 3, 4) if d != axis]
        weights = (gate(mlp, x.mean(others)) + gate(mlp, x.amax(others))).sigmoid()
        x = x * weights.view([-1, *(x.shape[axis] if d == axis else 1 for d in (1, 2, 3, 4))])
    maps = torch.stack([x.flatten(1, 2).mean(1), x.flatten(1, 2).amax(1)], 1)
    return (x * unit.spatial(maps).sigmoid().unsqueeze(1)).relu().transpose(0, 1)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_mixed_attention_is_the_three_attentions_in_sequence(steps: int) -> None:
    unit = MixedAttention(8, steps, channel_reduction=4)
    frames = torch.randn(steps, 2, 8, 6, 7)
    torch.testing.assert_close(unit(frames), naive_attention(unit, frames))


def test_mixed_attention_hidden_units() -> None:
    hidden = {steps: MixedAttention(48, steps).temporal.squeeze.out_channels for steps in (1, 2, 4, 6, 8)}
    assert hidden == {1: 1, 2: 1, 4: 1, 6: 1, 8: 2}
    assert MixedAttention(48, 4).channel.squeeze.out_channels == 3
    assert MixedAttention(48, 2, temporal_reduction=1).temporal.squeeze.out_channels == 2


def test_mixed_attention_without_a_part() -> None:
    unit = MixedAttention(8, 4, kinds=("channel", "spatial"))
    assert unit.temporal is None
    assert unit(torch.randn(4, 2, 8, 6, 6)).min() == 0


def test_residual_block_is_equation_1() -> None:
    block = SpikingResidualBlock(PARTS, 4, MixedAttention(4, 3)).eval()
    frames = torch.randn(3, 2, 4, 8, 8)
    expected = block.attention(block.residual(frames) + block.shortcut(frames)) + frames
    assert torch.equal(block(frames), expected)
    gains = [unit.norm.weight[0].item() for unit in (*block.residual, block.shortcut)]
    assert gains == pytest.approx([0.15 / math.sqrt(2), 0.03 / math.sqrt(2), 0.15 / math.sqrt(2)])


def test_sew_block_adds_spikes_to_spikes() -> None:
    block = PostActivationBlock(PARTS, 4)
    spikes = (torch.rand(3, 2, 4, 8, 8) > 0.5).float()
    assert set(block(spikes).unique().tolist()) == {0.0, 1.0, 2.0}
    assert set((block(spikes) - spikes).unique().tolist()) == {0.0, 1.0}


def test_refinement_is_equation_4() -> None:
    block = FeatureRefinement(16)
    y = torch.randn(2, 16, 6, 6)
    f, pooled = block.spatial(y), block.channel(y)
    assert pooled.shape == (2, 16, 1, 1)
    assert torch.equal(block(y), (1 - f) * pooled + f * y)


def test_level_of() -> None:
    assert level_of("encoder2.3.residual.0.activation") == "encoder2"
    assert level_of("down1.activation") == "down1"
