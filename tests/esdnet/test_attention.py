"""Mixed attention in few passes against the same in torch's operations."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from esdnet import ESDNet, attention
from esdnet.blocks import MixedAttention


def channels_last(frames: Tensor) -> Tensor:
    images = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return images.unflatten(0, frames.shape[:2])


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if not attention.usable(channels_last(torch.ones(1, 1, 16, 2, 2))):
        pytest.skip("no C compiler")


@pytest.mark.parametrize("kinds", [MixedAttention.KINDS, ("channel", "spatial")])
@pytest.mark.parametrize("shape", [(4, 2, 48, 9, 7), (1, 1, 16, 2, 1), (3, 2, 96, 40, 5)])
@pytest.mark.parametrize("values", ["any", "with equals"])
def test_it_is_the_same_function_with_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], kinds: tuple[str, ...], values: str
) -> None:
    unit = MixedAttention(shape[2], shape[0], kinds)
    frames, base, gradient = (channels_last(torch.randn(shape)) for _ in range(3))
    if values == "with equals":
        frames = frames.mul_(2).round_().relu_()
    assert attention.usable(frames)
    results = []
    for usable in (attention.usable, lambda frames: False):
        monkeypatch.setattr(attention, "usable", usable)
        asked = [frames.clone().requires_grad_(), base.clone().requires_grad_(), *unit.parameters()]
        made = unit(asked[0], asked[1])
        results.append([made, *torch.autograd.grad(made, asked, gradient, retain_graph=True)])
        again = torch.autograd.grad(made, asked, gradient)
        assert all(torch.equal(a, b) for a, b in zip(again, results[-1][1:], strict=True))
        with torch.no_grad():
            torch.testing.assert_close(unit(frames) + base, made)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_threads_make_no_difference_beyond_rounding() -> None:
    unit, frames = MixedAttention(48, 4), channels_last(torch.randn(4, 1, 48, 41, 37))
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = frames.clone().requires_grad_()
            made = unit(leaf)
            results.append([made, torch.autograd.grad(made.sum(), leaf)[0]])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_other_frames_are_left_to_torch() -> None:
    frames = torch.randn(4, 2, 48, 6, 6)
    assert not attention.usable(frames)
    assert not attention.usable(channels_last(frames).double())
    assert not attention.usable(channels_last(frames[:, :, :10]))
    assert attention.usable(channels_last(frames))


def test_training_keeps_nothing() -> None:
    network = ESDNet(
        dim=16, encoder_blocks=(1, 0, 0), bottleneck_blocks=0, decoder_blocks=(0, 1), time_steps=2
    )
    rainy = torch.rand(1, 3, 16, 16)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    network(rainy).sum().backward()
    before = tensors()
    for _ in range(20):
        network(rainy).sum().backward()
    assert tensors() <= before


@pytest.mark.parametrize("cut", ["channel", "spatial"])
def test_a_gate_without_gradients_takes_none_from_the_frames(
    monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    unit, gradient = MixedAttention(48, 4), channels_last(torch.randn(4, 2, 48, 9, 7))
    frames = channels_last(torch.randn(4, 2, 48, 9, 7))
    unit.get_submodule(cut).register_forward_hook(lambda module, args, output: output.detach())
    if cut == "channel":
        unit.temporal = None
    results = []
    for usable in (attention.usable, lambda frames: False):
        monkeypatch.setattr(attention, "usable", usable)
        leaf = frames.clone().requires_grad_()
        results.append(torch.autograd.grad(unit(leaf), leaf, gradient)[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, frames = MixedAttention(48, 4), channels_last(torch.randn(4, 2, 48, 9, 7))
    seen: list[Tensor] = []
    unit.get_submodule("channel").register_forward_hook(lambda module, args, output: seen.append(output))
    results = []
    for usable in (attention.usable, lambda frames: False):
        monkeypatch.setattr(attention, "usable", usable)
        leaf = frames.clone().requires_grad_()
        seen.clear()
        unit(leaf)
        results.append(torch.autograd.grad(seen[0].square().sum(), leaf)[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-7)
