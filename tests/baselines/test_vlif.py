"""VLIFNet: parity with its authors' code, sizes, and the arithmetic of its parts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from baselines.vlif import VLIF, FrequencyMix, pixels_to_time, time_to_channels
from esdnet import SequenceNeuron

SMALL: dict[str, Any] = {
    "dim": 8,
    "encoder_blocks": [1, 1, 1],
    "bottleneck_blocks": 1,
    "decoder_blocks": [1, 1],
    "time_steps": 2,
}


@pytest.mark.parametrize("name", ["vlif", "vlif-small"])
def test_parity_with_the_authors_code(shared: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location("parity", shared / "parity" / "parity.py")
    assert spec is not None and spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    assert parity.check(name)


def test_parameters_are_the_authors() -> None:
    assert sum(p.numel() for p in VLIF().parameters()) == 14_023_911


def test_pixels_become_steps_row_by_row() -> None:
    frames = torch.arange(2 * 16.0).reshape(2, 1, 1, 4, 4)
    steps = pixels_to_time(frames)
    assert steps.shape == (8, 1, 1, 2, 2)
    assert [steps[t, 0, 0, 0, 0].item() for t in range(8)] == [0, 1, 4, 5, 16, 17, 20, 21]


def test_steps_back_to_channels_is_a_pixel_unshuffle() -> None:
    frames = torch.randn(3, 2, 5, 6, 8)
    expected = F.pixel_unshuffle(frames.flatten(0, 1), 2).unflatten(0, (3, 2))
    assert torch.equal(time_to_channels(pixels_to_time(frames)), expected)


def test_mixture_of_frequencies() -> None:
    mix, x, h = FrequencyMix(), torch.randn(2, 3), torch.randn(2, 3)
    with torch.no_grad():
        mix.high.fill_(2.0)
        mix.low.fill_(3.0)
    torch.testing.assert_close(mix(x, h), 2 * h + 3 * (x - h) + x * h)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_any_number_of_steps_and_odd_sizes(steps: int) -> None:
    network = VLIF(**{**SMALL, "time_steps": steps}).eval()
    rainy = torch.rand(1, 3, 17, 22)
    with torch.no_grad():
        restored = network(rainy)
        assert restored.shape == rainy.shape
        assert torch.equal(network(rainy), restored)


def test_refinement_adds_four_blocks_at_level_1() -> None:
    network = VLIF(**SMALL, refinement=True)
    added = network.state_dict().keys() - VLIF(**SMALL).state_dict().keys()
    assert {key.split(".")[2] for key in added} == {"0", "1", "2", "3"}
    assert all(key.startswith("decoder1.refinement.") for key in added)
    assert network(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


AWAKE: dict[str, Any] = {**SMALL, "norm": "bn", "threshold": 0.02, "decoder_units": 1}


def test_gradients_reach_every_parameter_and_the_state_round_trips() -> None:
    network, other = VLIF(**AWAKE), VLIF(**AWAKE)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # one hidden unit behind a ReLU may be off for every image
    assert [n for n in missing if not n.endswith(("squeeze.weight", "expand.weight"))] == []
    other.load_state_dict(network.state_dict(), strict=True)
    rainy = torch.rand(1, 3, 16, 16)
    assert torch.equal(network.eval()(rainy), other.eval()(rainy))


def test_every_neuron_fires_at_first_with_the_options_for_short_trainings() -> None:
    network, rates = VLIF(**AWAKE), {}
    for name, module in network.named_modules():
        if isinstance(module, SequenceNeuron):
            module.register_forward_hook(
                lambda _, __, out, name=name: rates.update({name: out.count_nonzero() / out.numel()})
            )
    network(torch.rand(2, 3, 32, 32))
    assert all(rate > 0.02 for rate in rates.values()), rates
    assert len(rates) == sum(isinstance(m, SequenceNeuron) for m in network.modules())


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="decoder_blocks"):
        VLIF(decoder_blocks=[1, 1, 1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_that_no_neuron_can_have_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"threshold must be above 0 and finite, not {threshold}"):
        VLIF(**SMALL, threshold=threshold)
