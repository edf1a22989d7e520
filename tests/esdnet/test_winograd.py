"""Convolutions with fewer multiplications: torch's within rounding, and torch's wherever they cannot serve."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from esdnet import ESDNet, LeakySequence, native, winograd
from esdnet.blocks import ConvNorm, Parts, SpikeConv, SpikingResidualBlock, ThresholdNorm

PARTS = Parts(LeakySequence, lambda channels, gain: ThresholdNorm(channels, gain * 0.15))


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if not winograd.fits(nn.Conv2d(48, 48, 3, padding=1, bias=False)):
        pytest.skip("no C compiler")


@pytest.mark.parametrize(
    ("N", "C", "K", "H", "W"),
    [(1, 48, 48, 16, 16), (2, 32, 48, 9, 7), (3, 96, 32, 1, 5), (1, 64, 80, 20, 3), (5, 48, 192, 12, 13)],
)
def test_it_is_the_convolution_with_its_gradients(N: int, C: int, K: int, H: int, W: int) -> None:
    images = torch.randn(N, C, H, W).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = (torch.randn(K, C, 3, 3) / (9 * C) ** 0.5).requires_grad_()
    made = winograd.convolve(images, weight)
    there, weights = images.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    expected = F.conv2d(there, weights, padding=1)
    gradient = torch.randn_like(expected)
    ours = [made, *torch.autograd.grad(made, [images, weight], gradient.float())]
    theirs = [expected, *torch.autograd.grad(expected, [there, weights], gradient)]
    for got, exact in zip(ours, theirs, strict=True):
        assert got.shape == exact.shape
        assert (got - exact).abs().max() < 5e-6 * exact.abs().max()


def test_it_is_as_exact_as_torchs() -> None:
    conv = nn.Conv2d(48, 48, 3, padding=1, bias=False)
    spikes = (torch.rand(2, 48, 40, 40) > 0.8).float()
    exact = F.conv2d(spikes.double(), conv.weight.double(), padding=1)
    ours = (winograd.convolve(spikes, conv.weight) - exact).std()
    assert ours < 2 * (conv(spikes) - exact).std()


def test_any_order_of_memory() -> None:
    weight = torch.randn(32, 48, 3, 3)
    images = torch.randn(2, 48, 8, 10)
    expected = winograd.convolve(images.contiguous(memory_format=torch.channels_last), weight)
    assert expected.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(winograd.convolve(images, weight), expected)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(winograd.convolve(turned, weight.clone(memory_format=torch.channels_last)), expected)


def test_scaled_shifted_and_added() -> None:
    images, weight = torch.randn(2, 48, 8, 9), torch.randn(32, 48, 3, 3)
    scale, shift, base = torch.randn(32), torch.randn(32), torch.randn(2, 32, 8, 9)
    made = winograd.convolve_and_scale(images, weight, scale, shift, base.clone())
    expected = winograd.convolve(images, weight) * scale[:, None, None] + shift[:, None, None] + base
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_as_torch_computes_it(bias: bool) -> None:
    layer, images = nn.Conv2d(48, 64, 3, padding=1, bias=bias), torch.randn(2, 48, 12, 10)
    expected = layer(images)
    weights = list(layer.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), weights)
    made = winograd.convolved(layer, images)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    for got, due in zip(torch.autograd.grad(made.square().sum(), weights), wanted, strict=True):
        torch.testing.assert_close(got, due, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(winograd.convolved(layer, images), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(winograd.convolved(layer.double(), images.double()), layer(images.double()))


def test_neither_threads_nor_the_batch_change_a_bit() -> None:
    images, weight = torch.randn(3, 48, 40, 40), torch.randn(48, 48, 3, 3)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(winograd.convolve(images, weight))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results)
    assert torch.equal(winograd.convolve(images[1:2], weight), results[0][1:2])


def test_where_it_serves() -> None:
    images = torch.randn(1, 48, 8, 8)
    assert winograd.usable(nn.Conv2d(48, 48, 3, padding=1, bias=False), images)
    for other in (
        nn.Conv2d(48, 48, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(48, 48, 3, padding=1, dilation=2, bias=False),
        nn.Conv2d(48, 48, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(48, 48, 1, bias=False),
        nn.Conv2d(48, 50, 3, padding=1, bias=False),
        nn.Conv2d(48, 16, 3, padding=1, bias=False),
        nn.Conv2d(48, 48, 3, padding=1, bias=False, padding_mode="reflect"),
    ):
        assert not winograd.usable(other, images)
    conv = nn.Conv2d(48, 48, 3, padding=1, bias=False)
    assert not winograd.usable(conv, images.double())
    assert not winograd.usable(conv, images.bfloat16())
    assert not winograd.usable(conv, images.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.usable(conv, images)


def test_who_counts_operations_counts_the_convolution() -> None:
    unit, frames = ConvNorm(PARTS, 48, 32).eval(), torch.randn(2, 1, 48, 8, 8)
    once = 2 * 2 * 48 * 32 * 9 * 64
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            unit(frames)
            unit(frames, torch.zeros(2, 1, 32, 8, 8))
        assert counter.get_total_flops() == 2 * once
        unit(frames.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 5 * once


@pytest.mark.parametrize("training", [True, False])
def test_units_compute_what_they_do_without_it(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    for unit in (SpikeConv(PARTS, 48, 32), ConvNorm(PARTS, 48, 32)):
        unit.train(training)
        nn.init.normal_(unit.norm.bias)
        frames = torch.randn(2, 2, 48, 8, 9)
        results = []
        for library in (native.compiled, lambda *a: None):
            with monkeypatch.context() as patch:
                patch.setattr(native, "compiled", library)
                leaf = frames.clone().requires_grad_()
                made = unit(leaf)
                results.append([made, *torch.autograd.grad(made.square().sum(), [leaf, *unit.parameters()])])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_norm_is_folded_anew_at_every_call() -> None:
    block = SpikingResidualBlock(PARTS, 32).eval()
    frames = torch.randn(2, 1, 32, 8, 8)

    def folded_and_not() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            folded = block(frames)
        return folded, block(frames).detach()

    seen = []
    for _ in range(3):
        folded, plain = folded_and_not()
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
        seen.append(folded)
        with torch.no_grad():
            block.shortcut.norm.running_mean += 1  # type: ignore[union-attr, operator]
            block.residual[1].norm.weight *= 2
            block.residual[1].conv.weight += 0.01
    assert not torch.allclose(seen[0], seen[1]) and not torch.allclose(seen[1], seen[2])
    assert torch.equal(folded_and_not()[0], folded_and_not()[0])


def test_the_network_without_autograd_is_the_network() -> None:
    network = ESDNet(dim=32, encoder_blocks=(1, 1, 1), bottleneck_blocks=0, decoder_blocks=(1, 1)).eval()
    rainy = torch.rand(1, 3, 17, 22)
    before = network.state_dict()
    with torch.no_grad():
        folded = network(rainy)
    torch.testing.assert_close(folded, network(rainy), rtol=1e-4, atol=1e-4)
    assert network.state_dict().keys() == before.keys()
