"""ESDNet-S: what it computes with real values, and the price of its spikes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmark import measure_cost
from benchmark.spec import resolve
from benchmark.training.module import Restoration
from esdnet.blocks import SpikeUp
from esdnet.network import ESDNet, ESDNetS

SMALL: dict[str, Any] = {
    "dim": 4,
    "encoder_blocks": [1, 1, 1],
    "bottleneck_blocks": 0,
    "decoder_blocks": [1, 1],
    "time_steps": 2,
}


def make(seed: int = 0, **options: Any) -> ESDNetS:
    torch.manual_seed(seed)
    network = ESDNetS(**{**SMALL, **options})
    for module in network.modules():  # so that neurons of every layer fire
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias, 0.0, 0.2)
    return network


@pytest.fixture(scope="module")
def rainy() -> torch.Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_only_the_first_and_the_last_convolution_see_real_values(rainy: torch.Tensor) -> None:
    measured = measure_cost(make().eval(), images=rainy)
    assert {row.name: row.macs for row in measured.rows if row.macs} == {
        "embedding": 27 * 4 * 32 * 32,  # once, not at every step
        "output": 27 * 4 * 32 * 32,
    }
    driven = [row for row in measured.rows if row.accumulates]
    assert len(driven) == 2 * 5 + 4 and {row.input for row in driven} == {"binary"}
    assert all(row.rate for row in driven), "a layer that nothing reaches tells nothing"


def test_the_price_is_the_measured_share_of_synaptic_operations(rainy: torch.Tensor) -> None:
    network = make(rate_weight=0.25).eval()
    restored, price = network.restored_at_a_price(rainy)
    assert torch.equal(restored, network(rainy))
    assert float(price.detach()) == pytest.approx(0.25 * measure_cost(network, images=rainy).rate, rel=1e-6)
    assert not any(unit._forward_hooks for unit in network.modules()), "nobody looks on afterwards"


def test_a_training_pays_for_spikes(rainy: torch.Tensor) -> None:
    network = make(rate_weight=0.5)
    recipe = resolve(["model=esdnet-s", "recipe=study"]).recipe
    module = Restoration(network, recipe, 10, 10, {})
    module.log = lambda *told, **more: None  # type: ignore[method-assign]
    module._trainer = type("T", (), {"optimizers": [torch.optim.Adam(network.parameters())]})()  # type: ignore[assignment]
    batch = {"rainy": rainy, "target": rainy * 0.5}
    paid = module.training_step(batch, 0)
    _, price = network.restored_at_a_price(rainy)
    network.rate_weight = 0.0
    free = module.training_step(batch, 0)
    assert float(paid.detach() - free.detach()) == pytest.approx(float(price.detach()), rel=1e-4)
    paid.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_it_is_a_block_of_esdnet_with_as_few_parameters_as_the_paper_prints() -> None:
    same = ESDNet(**{**SMALL, "dim": 15}, block="sdb")
    assert same.state_dict().keys() == ESDNetS(**{**SMALL, "dim": 15}).state_dict().keys()
    assert sum(p.numel() for p in same.parameters()) == 163_233


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"attention": True}, "neither attention"),
        ({"shortcut": True}, "neither attention"),
        ({"rate_weight": -0.1}, "rate_weight"),
    ],
)
def test_what_it_cannot_have_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ESDNet(**SMALL, block="sdb", **options)


def test_up_is_the_convolution_of_spikes_put_apart() -> None:
    network = make()
    unit = network.up1
    assert isinstance(unit, SpikeUp)
    spikes = (torch.rand(1, 1, 8, 5, 5) > 0.7).float()
    apart = torch.zeros(1, 8, 10, 10)
    apart[..., ::2, ::2] = spikes[0]
    weight = unit.conv.weight.flip(2, 3).transpose(0, 1)
    expected = torch.nn.functional.conv2d(torch.nn.functional.pad(apart, (2, 1, 2, 1)), weight)
    torch.testing.assert_close(unit.conv(spikes[0]), expected)
