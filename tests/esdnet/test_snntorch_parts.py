"""The neuron as users of snnTorch know one: its surrogates, its utilities; and eq. 2 as it is printed."""

from __future__ import annotations

import pytest
import snntorch
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn

from benchmark import create_model
from esdnet import ESDNet, LeakySequence, surrogate_step


def stepped(neuron: snntorch.Leaky, current: Tensor) -> tuple[Tensor, Tensor]:
    membrane, spikes, membranes = torch.zeros_like(current[0]), [], []
    for now in current:
        spike, membrane = neuron(now, membrane)
        spikes.append(spike)
        membranes.append(membrane)
    return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
@pytest.mark.parametrize(
    "make", [surrogate.atan, surrogate.sigmoid, surrogate.triangular, surrogate.fast_sigmoid]
)
def test_any_surrogate_of_snntorch_can_be_given(make, reset: str) -> None:
    """Spikes, membranes and gradients are snnTorch's own, whose reset is detached."""
    given, ours = (torch.randn(5, 2, 3, 4, 4).requires_grad_() for _ in range(2))
    ours.data.copy_(given.data)
    theirs = snntorch.Leaky(0.6, 0.3, spike_grad=make(), reset_mechanism=reset)
    expected, expected_membranes = stepped(theirs, given)
    neuron = LeakySequence(0.6, 0.3, reset, spike_grad=make(), output=True, detach_reset=True)
    spikes, membranes = neuron(ours)
    assert torch.equal(spikes, expected) and 0 < spikes.mean() < 1
    assert torch.allclose(membranes, expected_membranes, atol=1e-6)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (spikes * weight).sum().backward()
    assert torch.allclose(ours.grad, given.grad, atol=1e-5, equal_nan=True)  # its sigmoid overflows
    assert given.grad.nan_to_num().abs().sum() > 0


def test_our_own_surrogate_given_so_fires_as_the_compiled_neuron() -> None:
    current = torch.randn(4, 2, 3, 8, 8)
    slow = LeakySequence(spike_grad=surrogate_step("sigmoid", 4.0))
    a, b = current.clone().requires_grad_(), current.clone().requires_grad_()
    one, other = slow(a), LeakySequence()(b)
    assert torch.equal(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_hidden_state_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="keeps no membrane between two"):
        LeakySequence(init_hidden=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reset_delay": False}, "reset_delay: a reset comes a step after its spike"),
        ({"inhibition": True}, "inhibition: each neuron fires for itself"),
        ({"graded_spikes_factor": 2.0}, "spikes are 0 and 1"),
        ({"spike_grad": "atan"}, "surrogate.atan"),
    ],
)
def test_what_the_neuron_has_not_is_refused_where_it_is_made(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LeakySequence(**options)
    LeakySequence(reset_delay=True, inhibition=False)  # as snnTorch has them by itself
    with pytest.raises(TypeError, match="no option 'thresold'"):
        LeakySequence(thresold=1.0)


def test_snntorchs_utilities_take_it_and_its_networks() -> None:
    network = nn.Sequential(LeakySequence(), snntorch.Leaky(0.5, init_hidden=True))
    current = torch.randn(3, 2, 4)
    before = network[0](current)
    network[1](current[0])
    assert network[1].mem.abs().sum() > 0
    utils.reset(network)
    assert network[1].mem.abs().sum() == 0
    assert torch.equal(network[0](current), before)
    utils.reset(ESDNet(dim=4, encoder_blocks=(1, 1, 1), bottleneck_blocks=0, decoder_blocks=(1, 1)))


@pytest.mark.parametrize("rest", [0.0, -0.2, 0.05])
@pytest.mark.parametrize("tau", [2.0, 1.6, 4.0])
def test_equation_2_as_printed(tau: float, rest: float) -> None:
    current, threshold = torch.randn(6, 2, 3, 5, 5, dtype=torch.float64), 0.15
    potential = torch.full_like(current[0], rest)
    spikes, membranes = [], []
    for now in current:
        charged = potential + (now - (potential - rest)) / tau
        fired = (charged >= threshold).double()
        potential = (1 - fired) * charged + fired * rest
        spikes.append(fired)
        membranes.append(charged)
    neuron = LeakySequence(1 - 1 / tau, threshold, decay_input=True, v_reset=rest).double()
    found = neuron(current)
    assert torch.equal(found, torch.stack(spikes)) and 0 < found.mean() < 1
    assert torch.allclose(neuron.membrane(current), torch.stack(membranes), atol=1e-6)  # β is float32
    assert not torch.equal(found, LeakySequence(1 - 1 / tau, threshold).double()(current))


def test_networks_take_these_options() -> None:
    small = {
        "dim": 4,
        "encoder_blocks": [1, 1, 1],
        "bottleneck_blocks": 0,
        "decoder_blocks": [1, 1],
        "time_steps": 2,
    }
    rainy = torch.rand(1, 3, 16, 16)
    for name, options in (
        ("esdnet", {"decay_input": True, "v_reset": -0.1}),
        ("spikerain", {"threshold": 0.3, "surrogate": "atan", "alpha": 2.0, "beta": 0.25}),
    ):
        torch.manual_seed(0)
        plain = create_model(name, **small).eval()
        torch.manual_seed(0)
        changed = create_model(name, **small, **options).eval()
        assert plain.state_dict().keys() == changed.state_dict().keys()
        with torch.no_grad():
            assert not torch.equal(plain(rainy), changed(rainy))
        neuron = next(m for m in changed.modules() if isinstance(m, LeakySequence))
        assert all(
            torch.as_tensor(getattr(neuron, k)).item() == pytest.approx(v)
            if not isinstance(v, str)
            else getattr(neuron, k) == v
            for k, v in options.items()
        )
