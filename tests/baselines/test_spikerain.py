"""SpikeRain: parity with its authors' code, sizes, and the arithmetic of its parts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.spikerain import DenseSpikingBlock, SpikeRain
from esdnet import LeakySequence
from esdnet.blocks import Parts
from esdnet.network import norm_maker

SMALL: dict[str, Any] = {
    "dim": 8,
    "encoder_blocks": [1, 1, 1],
    "bottleneck_blocks": 1,
    "decoder_blocks": [1, 1],
    "time_steps": 2,
    "growth": 4,
}


@pytest.mark.parametrize("name", ["spikerain", "spikerain-small"])
def test_parity_with_the_authors_code(shared: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location("parity", shared / "parity" / "parity.py")
    assert spec is not None and spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    assert parity.check(name)


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 4.434392),
        (
            {
                "dim": 32,
                "encoder_blocks": (2, 2, 4),
                "bottleneck_blocks": 1,
                "decoder_blocks": (1, 1),
            },
            1.590,
        ),
        (
            {
                "dim": 64,
                "encoder_blocks": (6, 6, 8),
                "bottleneck_blocks": 4,
                "decoder_blocks": (4, 4),
            },
            8.049,
        ),
    ],
)
def test_parameters_of_the_published_sizes(options: dict[str, Any], millions: float) -> None:
    assert sum(p.numel() for p in SpikeRain(**options).parameters()) / 1e6 == pytest.approx(
        millions, abs=6e-4
    )


def test_spikes_made_once_are_the_spikes_of_the_concatenation() -> None:
    block = DenseSpikingBlock(Parts(LeakySequence, norm_maker("bn", 0.15)), 6, growth=4).eval()
    frames, neuron = torch.randn(3, 2, 6, 8, 8), LeakySequence()
    features = frames
    for layer in block.layers:
        features = torch.cat([features, layer(neuron(features))], dim=2)
    fused = block.fuse(neuron(features).flatten(0, 1)).unflatten(0, (3, 2))
    torch.testing.assert_close(block(frames), block.attention(fused) + frames)


def test_the_steps_are_weighted_alike_at_first() -> None:
    network = SpikeRain(**{**SMALL, "time_steps": 3})
    frames = torch.randn(3, 1, 16, 4, 4)
    torch.testing.assert_close(network.merge(frames), network.refinement(frames.mean(0)))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_any_number_of_steps_and_odd_sizes(steps: int) -> None:
    network = SpikeRain(**{**SMALL, "time_steps": steps}).eval()
    rainy = torch.rand(1, 3, 17, 22)
    with torch.no_grad():
        restored = network(rainy)
        assert restored.shape == rainy.shape
        assert torch.equal(network(rainy), restored)


def test_gradients_reach_every_parameter_and_the_state_round_trips() -> None:
    network, other = SpikeRain(**SMALL), SpikeRain(**SMALL)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # one hidden unit behind a ReLU may be off for every image
    assert [n for n in missing if ".squeeze." not in n and ".expand.weight" not in n] == []
    other.load_state_dict(network.state_dict(), strict=True)
    rainy = torch.rand(1, 3, 16, 16)
    assert torch.equal(network.eval()(rainy), other.eval()(rainy))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="encoder_blocks"):
        SpikeRain(encoder_blocks=[1, 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 2.0}, "beta must be at least 0 and at most 1, not 2.0"),
        ({"beta": float("nan")}, "beta must be at least 0 and at most 1, not nan"),
        ({"alpha": 0.0}, "alpha must be above 0 and finite, not 0.0"),
        ({"threshold": -1.0}, "threshold must be above 0 and finite, not -1.0"),
        ({"threshold": float("inf")}, "threshold must be above 0 and finite, not inf"),
    ],
)
def test_what_no_neuron_can_have_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpikeRain(**SMALL, **options)
